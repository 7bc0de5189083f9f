"""What the listener claims for subscribers, with Eclipse's client.

usage: mqtt_claims.py PORT PROTOCOL(3|5) PHASE(owe|collect|live)
  owe      a session that is kept goes away; messages come for it, one is retained
  collect  after a restart: it gets each message once, and a new subscriber the retained one
  live     what two connected clients see of each other
Prints one JSON object. Waits for events, never for a while.
"""

import json
import queue
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

port, protocol, phase = int(sys.argv[1]), sys.argv[2], sys.argv[3]
V5 = protocol == "5"
TOPIC = f"claims/v{protocol}"
WAIT_S = 20


class Client:
    def __init__(self, name, kept=False, will=None):
        version = mqtt.MQTTv5 if V5 else mqtt.MQTTv311
        arguments = {} if V5 else {"clean_session": not kept}
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, f"{name}-{protocol}", protocol=version, **arguments
        )
        self.connected, self.subscribed, self.messages, self.ended = (queue.Queue() for _ in range(4))
        self.client.on_connect = lambda c, u, flags, reason, p: self.connected.put((flags, reason, p))
        self.client.on_subscribe = lambda c, u, m, reasons, p: self.subscribed.put(reasons)
        self.client.on_message = lambda c, u, message: self.messages.put(message)
        self.client.on_disconnect = lambda c, u, flags, reason, p: self.ended.put(reason)
        if will:
            self.client.will_set(*will)
        arguments = {}
        if V5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 3600 if kept else 0
            properties.TopicAliasMaximum = 4
            arguments = {"clean_start": not kept, "properties": properties}
        self.client.connect("127.0.0.1", port, keepalive=60, **arguments)
        self.client.loop_start()
        self.flags, self.reason, self.properties = self.connected.get(timeout=WAIT_S)

    def subscribe(self, topic, qos, identifier=None, **options):
        if V5:
            properties = Properties(PacketTypes.SUBSCRIBE)
            if identifier:
                properties.SubscriptionIdentifier = identifier
            self.client.subscribe(topic, options=SubscribeOptions(qos, **options), properties=properties)
        else:
            self.client.subscribe(topic, qos)
        return self.subscribed.get(timeout=WAIT_S)[0].value

    def publish(self, topic, payload, qos, retain=False, properties=None):
        sent = self.client.publish(topic, payload, qos, retain, properties)
        sent.wait_for_publish(WAIT_S)
        assert sent.is_published(), payload

    def next(self):
        return self.messages.get(timeout=WAIT_S)

    def rest(self, publisher, topic):
        """Everything up to a last word that is sent now."""
        publisher.publish(topic, b"end", 2)
        found = []
        while (message := self.next()).payload != b"end":
            found.append(message)
        return found

    def leave(self):
        self.client.disconnect()
        self.ended.get(timeout=WAIT_S)
        self.client.loop_stop()


def texts(messages):
    return [f"{message.payload.decode()}/{message.qos}{'*' if message.retain else ''}" for message in messages]


def owe():
    keeper = Client("keeper", kept=True)
    said = {"present": keeper.flags.session_present, "granted": keeper.subscribe(TOPIC + "/+", 2)}
    keeper.leave()
    press = Client("press")
    for number, qos in enumerate((0, 1, 2, 1, 2)):
        press.publish(f"{TOPIC}/x", str(number), qos)
    press.publish(f"{TOPIC}/kept/deep", "retained", 1, retain=True)
    press.publish(f"{TOPIC}/gone/deep", "retained", 1, retain=True)
    press.publish(f"{TOPIC}/gone/deep", "", 1, retain=True)
    press.leave()
    return said


def collect():
    press = Client("press")
    keeper = Client("keeper", kept=True)
    said = {"present": keeper.flags.session_present, "owed": sorted(texts(keeper.rest(press, TOPIC + "/x")))}
    keeper.leave()
    fresh = Client("fresh")
    fresh.subscribe(TOPIC + "/+/deep", 1)
    said["retained"] = texts([fresh.next()] + fresh.rest(press, TOPIC + "/x/deep"))
    fresh.leave()
    press.leave()
    return said


def live():
    reader, press = Client("reader"), Client("press")
    said = {"refused": reader.subscribe("elsewhere/#", 1), "malformed": reader.subscribe("$share/x", 1)}
    topic = TOPIC + "/live"
    reader.subscribe(topic, 1, identifier=7)
    reader.subscribe(TOPIC + "/+", 2, identifier=8)
    press.publish(topic, "overlap", 2)
    overlap = reader.next()
    said["overlap"] = texts([overlap])
    dying = Client("dying", will=(topic, "will", 1, False))
    dying.client._sock.close()
    said["will"] = texts([reader.next()])
    second = Client("second")
    for client in (reader, second):
        client.subscribe("$share/group/" + TOPIC + "/work/+", 1)
    for number in range(4):
        press.publish(f"{TOPIC}/work/{number}", str(number), 1)
    mine, theirs = [reader.next(), reader.next()], [second.next(), second.next()]
    said["shared"] = sorted(texts(mine + theirs))
    if V5:
        said["identifiers"] = sorted(overlap.properties.SubscriptionIdentifier)
        properties = Properties(PacketTypes.PUBLISH)
        properties.UserProperty = ("unit", "Cel")
        properties.ContentType, properties.ResponseTopic = "text/plain", "claims/answers"
        properties.CorrelationData, properties.MessageExpiryInterval = b"77", 60
        press.publish(topic, "named", 1, properties=properties)
        given = reader.next().properties
        said["named"] = [given.UserProperty, given.ContentType, given.ResponseTopic, given.CorrelationData.decode()]
        said["lives"] = 0 < given.MessageExpiryInterval <= 60
        own = TOPIC + "/own/deep"
        press.subscribe(own, 1, noLocal=True)
        press.publish(own, "mine", 1)
        said["local"] = texts(press.rest(second, own))
        said["alias_max"] = press.properties.TopicAliasMaximum
    for client in (reader, press, second):
        client.leave()
    return said


print(json.dumps({"owe": owe, "collect": collect, "live": live}[phase]()))
