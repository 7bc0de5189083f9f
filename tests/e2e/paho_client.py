"""Publishes numbered readings with Eclipse's client and waits for every acknowledgement.

usage: paho_client.py PORT TOPIC COUNT QOS PROTOCOL(3|5)
Prints one JSON object: how many were acknowledged.
"""

import json
import sys

import paho.mqtt.client as mqtt

port, topic, count, qos, protocol = sys.argv[1:]
version = {"3": mqtt.MQTTv311, "5": mqtt.MQTTv5}[protocol]
client = mqtt.Client(
    mqtt.CallbackAPIVersion.VERSION2, client_id=f"paho-{protocol}-{qos}", protocol=version
)
client.max_inflight_messages_set(100)
client.connect("127.0.0.1", int(port), keepalive=30)
client.loop_start()
pending = [
    client.publish(topic, json.dumps({"value": float(number)}), qos=int(qos))
    for number in range(int(count))
]
acknowledged = 0
for message in pending:
    message.wait_for_publish(timeout=30)
    acknowledged += message.is_published()
client.disconnect()
client.loop_stop()
print(json.dumps({"acknowledged": acknowledged}))
