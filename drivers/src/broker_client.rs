//! rumqttc as a client of a broker that the site already has.
//!
//! Each message is acknowledged to the broker only when the engine has settled it, so a crash loses nothing:
//! the broker sends again. Rules that rumqttc's manual acknowledgements need (research/datapath.md, 5): the
//! event loop has a task of its own, which waits for the engine only as back-pressure; acknowledgements that
//! belong to an earlier connection are dropped, as their packet ids mean nothing to the new one. Subscribes at
//! QoS 1: with manual acknowledgement rumqttc answers a QoS 2 release before we could make it durable.

use crate::submission::{Outcome, Publication, QoS, ReplyHandle, Submission};
use guan_model::WallTime;
use rumqttc::{
    AsyncClient, Event, EventLoop, MqttOptions, Packet, Publish, TlsConfiguration, Transport,
};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};
use zeroize::Zeroizing;

/// Messages of one broker that wait for the engine.
pub const INFLIGHT_MAX: u16 = 1024;
/// Bytes of one broker's messages that wait for the engine.
pub const QUEUED_BYTES_MAX: usize = 8 << 20;
const REQUESTS_MAX: usize = INFLIGHT_MAX as usize * 2;
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// A broker and what is wanted of it.
pub struct BrokerConfig {
    /// For logs.
    pub name: String,
    pub host: String,
    pub port: u16,
    pub client_id: String,
    pub topics: Vec<String>,
    pub credentials: Option<(String, Zeroizing<String>)>,
    /// PEM of the authority of the broker's certificate; TLS when set.
    pub authority: Option<Vec<u8>>,
    pub packet_bytes_max: usize,
    pub submissions: mpsc::Sender<Submission>,
    pub clock: Arc<dyn Fn() -> WallTime + Send + Sync>,
}

/// Counts since the start.
#[derive(Debug, Default)]
pub struct BrokerStats {
    pub connections: AtomicU64,
    pub failures: AtomicU64,
    pub messages: AtomicU64,
}

/// A client of one broker.
pub struct BrokerClient {
    config: BrokerConfig,
    stats: Arc<BrokerStats>,
}

/// A message that waits for its outcome; only those of the present connection are acknowledged.
struct Waiting {
    ticket: u64,
    connection: u64,
    publish: Publish,
    outcome: Option<Outcome>,
}

impl BrokerClient {
    pub fn new(config: BrokerConfig) -> Self {
        Self { config, stats: Arc::default() }
    }

    pub fn stats(&self) -> Arc<BrokerStats> {
        self.stats.clone()
    }

    /// Runs until it is stopped, or the engine is gone.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let (client, events) = AsyncClient::new(self.options(), REQUESTS_MAX);
        let (outcomes_out, outcomes) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(QUEUED_BYTES_MAX));
        let pump = Pump {
            config: &self.config,
            stats: &self.stats,
            client,
            outcomes_out,
            outcomes,
            room,
            waiting: VecDeque::new(),
            next_ticket: 0,
            connection: 0,
            backoff: BACKOFF_MIN,
        };
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => {}
            () = pump.run(events) => {}
        }
    }

    fn options(&self) -> MqttOptions {
        let config = &self.config;
        let mut options = MqttOptions::new(&config.client_id, &config.host, config.port);
        options.set_keep_alive(Duration::from_secs(30));
        options.set_clean_session(false);
        options.set_manual_acks(true);
        options.set_inflight(INFLIGHT_MAX);
        options.set_max_packet_size(config.packet_bytes_max, config.packet_bytes_max);
        if let Some((name, password)) = &config.credentials {
            options.set_credentials(name, password.as_str());
        }
        if let Some(ca) = &config.authority {
            let tls = TlsConfiguration::Simple { ca: ca.clone(), alpn: None, client_auth: None };
            options.set_transport(Transport::Tls(tls));
        }
        options
    }
}

struct Pump<'a> {
    config: &'a BrokerConfig,
    stats: &'a BrokerStats,
    client: AsyncClient,
    outcomes_out: mpsc::UnboundedSender<(u64, Outcome)>,
    /// At most one for each message in `waiting`.
    outcomes: mpsc::UnboundedReceiver<(u64, Outcome)>,
    room: Arc<Semaphore>,
    waiting: VecDeque<Waiting>,
    next_ticket: u64,
    connection: u64,
    backoff: Duration,
}

impl Pump<'_> {
    async fn run(mut self, mut events: EventLoop) {
        loop {
            tokio::select! {
                Some((ticket, outcome)) = self.outcomes.recv() => {
                    self.handle_outcome(ticket, outcome);
                }
                event = events.poll() => match event {
                    Ok(Event::Incoming(Packet::ConnAck(ack))) => {
                        self.handle_connected(ack.session_present);
                    }
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        if !self.submit(publish).await {
                            return;
                        }
                    }
                    Ok(_) => {}
                    Err(fault) => {
                        self.stats.failures.fetch_add(1, Ordering::Relaxed);
                        let retry_in_s = self.backoff.as_secs();
                        tracing::warn!(
                            broker = %self.config.name, %fault, retry_in_s,
                            "the broker cannot be reached; check address, credentials and network"
                        );
                        tokio::time::sleep(self.backoff).await;
                        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
                    }
                },
            }
        }
    }

    fn handle_connected(&mut self, session_present: bool) {
        self.connection += 1;
        self.backoff = BACKOFF_MIN;
        self.stats.connections.fetch_add(1, Ordering::Relaxed);
        tracing::info!(broker = %self.config.name, session_present, "connected to a broker");
        // Subscribing again is harmless, and right when the topics have changed.
        for topic in &self.config.topics {
            if self.client.try_subscribe(topic, rumqttc::QoS::AtLeastOnce).is_err() {
                tracing::warn!(broker = %self.config.name, topic, "a subscription found no room");
            }
        }
    }

    /// `false` when the engine is gone. The broker's own window bounds how often this can wait.
    async fn submit(&mut self, publish: Publish) -> bool {
        self.stats.messages.fetch_add(1, Ordering::Relaxed);
        let cost = u32::try_from(publish.payload.len().clamp(256, QUEUED_BYTES_MAX));
        let cost = cost.expect("clamped to a small number");
        let permit = self.room.clone().acquire_many_owned(cost).await;
        let permit = permit.expect("the semaphore is never closed");
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let qos = match publish.qos {
            rumqttc::QoS::AtMostOnce => QoS::AtMostOnce,
            _ => QoS::AtLeastOnce,
        };
        let publication = Publication {
            client: Arc::from(self.config.name.as_str()),
            topic: Arc::from(publish.topic.as_str()),
            payload: publish.payload.clone(),
            qos,
            held: None,
            received: (self.config.clock)(),
            reply: ReplyHandle::new(ticket, self.outcomes_out.clone()),
            permit: Some(permit),
        };
        let connection = self.connection;
        self.waiting.push_back(Waiting { ticket, connection, publish, outcome: None });
        self.config.submissions.send(Submission::Publish(publication)).await.is_ok()
    }

    fn handle_outcome(&mut self, ticket: u64, outcome: Outcome) {
        let found = self.waiting.iter_mut().find(|waiting| waiting.ticket == ticket);
        found.expect("each message is settled once").outcome = Some(outcome);
        while let Some(waiting) = self.waiting.pop_front_if(|first| first.outcome.is_some()) {
            self.acknowledge(&waiting);
        }
    }

    fn acknowledge(&self, waiting: &Waiting) {
        let is_done = match &waiting.outcome {
            Some(Outcome::Durable) => true,
            // Sent again for ever if it were not acknowledged.
            Some(Outcome::Refused { reason, text }) => {
                let topic = &waiting.publish.topic;
                tracing::warn!(broker = %self.config.name, topic, text, "a message was refused");
                reason.is_final()
            }
            Some(Outcome::Lost) | None => false,
        };
        let is_present = waiting.connection == self.connection;
        if is_done && is_present && self.client.try_ack(&waiting.publish).is_err() {
            // The broker sends it again at the next connection.
            tracing::warn!(broker = %self.config.name, "an acknowledgement found no room");
        }
    }
}
