//! One MQTT client for each dataset: rumqttc, QoS 2, a session that outlives the connection.

use crate::data::Message;
use anyhow::{Context, Result, ensure};
use rumqttc::{AsyncClient, Event, EventLoop, Incoming, MqttOptions, QoS};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

/// Messages of one client that may wait for their acknowledgement.
const UNFINISHED_MAX: usize = 4000;
/// Packet ids before the first is used again. rumqttc 0.25 loses a QoS 2 message whose id is taken when
/// its turn comes, which happens after a resend; so no id is used twice here.
const PACKET_IDS: u16 = 65_000;
const REQUESTS: usize = 100;
/// A client that gets no message acknowledged for so long has failed, killed gateway or not.
const STANDSTILL_MAX: Duration = Duration::from_secs(60);
const RECONNECT_WAIT: Duration = Duration::from_millis(100);

/// Publishes everything and returns when all of it is acknowledged (PUBCOMP).
pub async fn publish(
    client_id: &str,
    port: u16,
    messages: &[Message],
    acknowledged: Arc<AtomicU64>,
) -> Result<u64> {
    ensure!(
        messages.len() < usize::from(PACKET_IDS),
        "{client_id} has {} messages; one client numbers {PACKET_IDS} at most",
        messages.len()
    );
    let mut options = MqttOptions::new(client_id, "127.0.0.1", port);
    options.set_clean_session(false);
    options.set_keep_alive(Duration::from_secs(10));
    options.set_inflight(PACKET_IDS);
    let (client, events) = AsyncClient::new(options, REQUESTS);
    let room = Semaphore::new(UNFINISHED_MAX);
    let feed = async {
        for message in messages {
            room.acquire().await?.forget();
            let (topic, payload) = (message.topic.as_str(), message.payload.as_slice());
            client.publish(topic, QoS::ExactlyOnce, false, payload).await?;
        }
        // Keeps the client alive: without it the loop would end before the last answers.
        std::future::pending::<Result<u64>>().await
    };
    let wanted = messages.len() as u64;
    let completed = || {
        room.add_permits(1);
        acknowledged.fetch_add(1, Ordering::Relaxed);
    };
    tokio::select! {
        fed = feed => fed,
        done = pump(events, wanted, completed) => {
            done.with_context(|| format!("client {client_id}"))
        }
    }
}

async fn pump(mut events: EventLoop, wanted: u64, completed: impl Fn()) -> Result<u64> {
    let mut done = 0;
    let mut moved = Instant::now();
    while done < wanted {
        let seconds = STANDSTILL_MAX.as_secs();
        let is_moving = moved.elapsed() < STANDSTILL_MAX;
        ensure!(is_moving, "no PUBCOMP for {seconds} s; {done} of {wanted} acknowledged");
        match timeout_at(moved + STANDSTILL_MAX, events.poll()).await {
            Ok(Ok(Event::Incoming(Incoming::PubComp(_)))) => {
                done += 1;
                moved = Instant::now();
                completed();
            }
            // The gateway was killed: rumqttc connects again at the next poll.
            Ok(Err(_)) => tokio::time::sleep(RECONNECT_WAIT).await,
            Ok(Ok(_)) | Err(_) => {}
        }
    }
    Ok(done)
}
