//! The task of one broker client: rumqttc's events in, submissions out, acknowledgements back.

use super::count;
use super::{BACKOFF_MAX, BACKOFF_MIN, BrokerConfig, BrokerStats, INFLIGHT_MAX, QUEUED_BYTES_MAX};
use crate::submission::{Outcome, Outcomes, Publication, QoS, ReplyHandle, Settled, Submission};
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, Packet, Publish, SubAck, SubscribeReasonCode,
};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

/// A message that waits for its outcome; only those of the present connection are acknowledged.
pub(super) struct Waiting {
    ticket: u64,
    connection: u64,
    publish: Publish,
    outcome: Option<Outcome>,
}

pub(super) struct Pump<'a> {
    pub(super) config: &'a BrokerConfig,
    pub(super) stats: &'a BrokerStats,
    pub(super) client: AsyncClient,
    pub(super) outcomes_out: Outcomes,
    /// At most one for each message in `waiting`.
    pub(super) outcomes: mpsc::UnboundedReceiver<Settled>,
    pub(super) room: Arc<Semaphore>,
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) next_ticket: u64,
    /// Number of the present connection, or of the next while there is none.
    pub(super) connection: u64,
    pub(super) connected: Option<Instant>,
    /// A message was not taken and must come again.
    pub(super) must_reconnect: bool,
    pub(super) backoff: Duration,
}

impl Pump<'_> {
    /// Runs until the engine is gone.
    pub(super) async fn run(mut self, mut events: EventLoop) {
        let mut is_alive = true;
        while is_alive {
            match self.poll(&mut events).await {
                Some(Ok(event)) => is_alive = self.handle_event(event).await,
                Some(Err(fault)) => self.note_failure(&fault),
                None => {}
            }
            if self.connected.is_none() || self.must_reconnect {
                is_alive &= self.lose_connection(&mut events).await;
                tokio::time::sleep(self.backoff).await;
                self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
            }
        }
    }

    /// The next event; `None` when the connection must end.
    async fn poll(&mut self, events: &mut EventLoop) -> Option<Result<Event, ConnectionError>> {
        let event = events.poll();
        tokio::pin!(event);
        loop {
            tokio::select! {
                biased;
                Some(settled) = self.outcomes.recv() => {
                    self.handle_settled(settled);
                    if self.must_reconnect {
                        return None;
                    }
                }
                event = &mut event => return Some(event),
            }
        }
    }

    /// `false` when the engine is gone.
    async fn handle_event(&mut self, event: Event) -> bool {
        match event {
            Event::Incoming(Packet::ConnAck(ack)) => self.handle_connected(ack.session_present),
            Event::Incoming(Packet::SubAck(ack)) => self.handle_subscribed(&ack),
            Event::Incoming(Packet::Publish(publish)) => return self.submit(publish).await,
            _ => {}
        }
        true
    }

    fn handle_connected(&mut self, session_present: bool) {
        self.connected = Some(Instant::now());
        count(&self.stats.connections);
        tracing::info!(broker = %self.config.name, session_present, "connected to a broker");
        // Subscribing again is harmless, and right when the topics have changed.
        for topic in &self.config.topics {
            if self.client.try_subscribe(topic, rumqttc::QoS::AtLeastOnce).is_err() {
                tracing::warn!(broker = %self.config.name, topic, "this is no topic to subscribe to");
            }
        }
    }

    fn handle_subscribed(&self, ack: &SubAck) {
        if ack.return_codes.contains(&SubscribeReasonCode::Failure) {
            tracing::warn!(
                broker = %self.config.name,
                "the broker refused a subscription; check the rights of this client there"
            );
        }
    }

    fn note_failure(&mut self, fault: &ConnectionError) {
        count(&self.stats.failures);
        let since = self.connected.take();
        if since.is_some_and(|since| since.elapsed() >= BACKOFF_MAX) {
            self.backoff = BACKOFF_MIN;
        }
        let retry_in_s = self.backoff.as_secs();
        tracing::warn!(
            broker = %self.config.name, %fault, retry_in_s,
            "no connection to the broker; check address, credentials and network"
        );
    }

    /// Forgets everything of the connection that rumqttc would carry into the next. `false` when the
    /// engine is gone.
    async fn lose_connection(&mut self, events: &mut EventLoop) -> bool {
        events.clean();
        // First, so that nothing below is acknowledged to the next connection.
        self.connection += 1;
        self.connected = None;
        self.must_reconnect = false;
        for event in std::mem::take(&mut events.state.events) {
            if let Event::Incoming(Packet::Publish(publish)) = event
                && publish.qos == rumqttc::QoS::AtMostOnce
                && !self.submit(publish).await
            {
                return false;
            }
        }
        self.must_reconnect = false;
        true
    }

    /// `false` when the engine is gone. Waits while too much is on its way.
    async fn submit(&mut self, publish: Publish) -> bool {
        count(&self.stats.messages);
        let permit = self.room_for(&publish).await;
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
            is_removal: false,
            held: None,
            received: (self.config.clock)(),
            reply: ReplyHandle::new(ticket, self.outcomes_out.clone()),
            permit: Some(permit),
        };
        let connection = self.connection;
        self.waiting.push_back(Waiting { ticket, connection, publish, outcome: None });
        self.config.submissions.send(Submission::Publish(publication)).await.is_ok()
    }

    async fn room_for(&mut self, publish: &Publish) -> OwnedSemaphorePermit {
        while self.waiting.len() >= usize::from(INFLIGHT_MAX) {
            let settled = self.outcomes.recv().await;
            self.handle_settled(settled.expect("this pump holds a sender"));
        }
        let cost = u32::try_from(publish.payload.len().clamp(256, QUEUED_BYTES_MAX));
        let cost = cost.expect("clamped to a small number");
        let permit = self.room.clone().acquire_many_owned(cost).await;
        permit.expect("the semaphore is never closed")
    }

    fn handle_settled(&mut self, settled: Settled) {
        for ticket in settled.tickets {
            let found = self.waiting.iter_mut().find(|waiting| waiting.ticket == ticket);
            let found = found.expect("each message is settled once");
            found.outcome = Some(settled.outcome.clone());
        }
        while let Some(waiting) = self.waiting.pop_front_if(|first| first.outcome.is_some()) {
            self.finish(&waiting);
        }
    }

    fn finish(&mut self, waiting: &Waiting) {
        let is_done = match &waiting.outcome {
            Some(Outcome::Durable) => {
                self.backoff = BACKOFF_MIN;
                true
            }
            // Sent again for ever if it were not acknowledged.
            Some(Outcome::Refused { reason, text }) => {
                let topic = &waiting.publish.topic;
                tracing::warn!(broker = %self.config.name, topic, text, "a message was refused");
                if reason.is_final() {
                    count(&self.stats.messages_refused);
                }
                reason.is_final()
            }
            Some(Outcome::Lost) | None => false,
        };
        let is_present = waiting.connection == self.connection;
        if !is_present || waiting.publish.qos == rumqttc::QoS::AtMostOnce || self.must_reconnect {
            return;
        }
        // In order: once a message must come again, none after it is acknowledged on this connection.
        self.must_reconnect = !is_done || self.client.try_ack(&waiting.publish).is_err();
    }
}
