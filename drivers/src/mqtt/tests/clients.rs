//! A client that others wrote, in both versions.

use super::*;
use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, QoS};
use std::time::Duration;

const MESSAGES: usize = 50;

#[tokio::test]
async fn rumqttc_speaks_3_1_1_with_the_listener() {
    let served = bench(ListenerLimits::default()).await.take_all();
    let mut options = MqttOptions::new("rumqttc-4", "127.0.0.1", served.address.port());
    options.set_keep_alive(Duration::from_secs(5));
    let (client, mut events) = AsyncClient::new(options, 256);
    client.subscribe("a/+", QoS::AtMostOnce).await.unwrap();
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        for number in 0..MESSAGES {
            client.publish("a/b", qos, false, vec![u8::try_from(number).unwrap()]).await.unwrap();
        }
    }
    let (mut pubacks, mut pubcomps, mut copies) = (0, 0, 0);
    while (pubacks, pubcomps, copies) != (MESSAGES, MESSAGES, 3 * MESSAGES) {
        match events.poll().await.unwrap() {
            Event::Incoming(Incoming::PubAck(_)) => pubacks += 1,
            Event::Incoming(Incoming::PubComp(_)) => pubcomps += 1,
            Event::Incoming(Incoming::Publish(publish)) => {
                assert_eq!(usize::from(publish.payload[0]), copies % MESSAGES, "in order");
                copies += 1;
            }
            _ => {}
        }
    }
    assert_eq!(value(&served.stats.messages), 3 * u64::try_from(MESSAGES).unwrap());
    assert_eq!(value(&served.stats.payload_bytes), 3 * u64::try_from(MESSAGES).unwrap());
}

#[tokio::test]
async fn rumqttc_speaks_5_with_the_listener() {
    use rumqttc::v5::mqttbytes::QoS;
    use rumqttc::v5::mqttbytes::v5::{Packet, PubAckReason};
    use rumqttc::v5::{AsyncClient, Event, MqttOptions};
    let served = bench(ListenerLimits::default()).await.take_all();
    let mut options = MqttOptions::new("rumqttc-5", "127.0.0.1", served.address.port());
    options.set_keep_alive(Duration::from_secs(5));
    let (client, mut events) = AsyncClient::new(options, 256);
    client.subscribe("a/+", QoS::AtMostOnce).await.unwrap();
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        for number in 0..MESSAGES {
            client.publish("a/b", qos, false, vec![u8::try_from(number).unwrap()]).await.unwrap();
        }
    }
    client.publish("forbidden", QoS::AtLeastOnce, false, "x").await.unwrap();
    let (mut pubacks, mut pubcomps, mut copies, mut denied) = (0, 0, 0, 0);
    while (pubacks, pubcomps, copies, denied) != (MESSAGES, MESSAGES, 3 * MESSAGES, 1) {
        match events.poll().await.unwrap() {
            Event::Incoming(Packet::ConnAck(ack)) => {
                let properties = ack.properties.unwrap();
                assert_eq!(properties.receive_max, Some(1024));
                assert_eq!(properties.max_packet_size, Some(256 << 10));
                assert_eq!(properties.topic_alias_max, Some(16));
                let rest = [
                    properties.retain_available,
                    properties.shared_subscription_available,
                    properties.subscription_identifiers_available,
                ];
                assert!(rest.iter().all(|available| available.is_none_or(|one| one == 1)));
            }
            Event::Incoming(Packet::PubAck(ack)) if ack.reason == PubAckReason::NotAuthorized => {
                denied += 1;
            }
            Event::Incoming(Packet::PubAck(_)) => pubacks += 1,
            Event::Incoming(Packet::PubComp(_)) => pubcomps += 1,
            Event::Incoming(Packet::Publish(_)) => copies += 1,
            _ => {}
        }
    }
    assert_eq!(value(&served.stats.messages_denied), 1);
}
