//! One MQTT client for each dataset: rumqttc, QoS 2, a session that outlives the connection.

use crate::data::Message;
use anyhow::{Result, bail};
use rumqttc::{AsyncClient, Event, EventLoop, Incoming, MqttOptions, QoS};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::timeout;

/// Messages of one client that may wait for their acknowledgement.
const INFLIGHT: u16 = 4000;
const REQUESTS: usize = 100;
/// A client that hears nothing for so long has failed, killed gateway or not.
const SILENCE_MAX: Duration = Duration::from_secs(30);
const RECONNECT_WAIT: Duration = Duration::from_millis(100);

/// Publishes everything and returns when all of it is acknowledged (PUBCOMP).
pub async fn publish(
    client_id: &str,
    port: u16,
    messages: &[Message],
    acknowledged: Arc<AtomicU64>,
) -> Result<u64> {
    let mut options = MqttOptions::new(client_id, "127.0.0.1", port);
    options.set_clean_session(false);
    options.set_keep_alive(Duration::from_secs(10));
    options.set_inflight(INFLIGHT);
    let (client, events) = AsyncClient::new(options, REQUESTS);
    let wanted = messages.len() as u64;
    let feed = async {
        for message in messages {
            let (topic, payload) = (message.topic.as_str(), message.payload.as_slice());
            client.publish(topic, QoS::ExactlyOnce, false, payload).await?;
        }
        // Keeps the client alive: without it the loop would end before the last answers.
        std::future::pending::<Result<u64>>().await
    };
    tokio::select! {
        fed = feed => fed,
        done = pump(events, wanted, &acknowledged) => done,
    }
}

async fn pump(mut events: EventLoop, wanted: u64, acknowledged: &AtomicU64) -> Result<u64> {
    let mut done = 0;
    while done < wanted {
        match timeout(SILENCE_MAX, events.poll()).await {
            Ok(Ok(Event::Incoming(Incoming::PubComp(_)))) => {
                done += 1;
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Ok(Ok(_)) => {}
            // The gateway was killed: rumqttc connects again at the next poll.
            Ok(Err(_)) => tokio::time::sleep(RECONNECT_WAIT).await,
            Err(_) => {
                bail!("no answer for {} s; {done} of {wanted} acknowledged", SILENCE_MAX.as_secs())
            }
        }
    }
    Ok(done)
}
