//! Leaves about what is outside the log, written through the engine; whoever writes waits until it is durable.

use super::Board;
use crate::engine::{Event, Inspected, RefillOutcome, Suspect};
use crate::ingest::Token;
use bytes::Bytes;
use guan_evidence::LeafBody;
use guan_model::Digest;
use std::sync::Arc;
use tokio::sync::{Mutex, mpsc, watch};

/// Clones share the numbers.
#[derive(Clone)]
pub(super) struct Scribe {
    events: mpsc::Sender<Event<Token>>,
    /// The last ticket whose leaf is durable.
    noted: watch::Receiver<u64>,
    last: Arc<Mutex<u64>>,
}

impl Scribe {
    pub(super) fn new(events: mpsc::Sender<Event<Token>>, noted: watch::Receiver<u64>) -> Self {
        Self { events, noted, last: Arc::default() }
    }

    /// `false`: the writer is gone, and whether the leaf was written the next start will see.
    pub(super) async fn note(&self, body: LeafBody) -> bool {
        self.note_of(None, vec![body]).await
    }

    /// All in one commit.
    pub(super) async fn note_all(&self, bodies: Vec<LeafBody>) -> bool {
        self.note_of(None, bodies).await
    }

    /// What somebody did; `actor` is the commitment to who.
    pub(super) async fn note_of(&self, actor: Option<Digest>, bodies: Vec<LeafBody>) -> bool {
        self.ask(|ticket| Event::Notes { actor, bodies, ticket }).await
    }

    /// Sends an event, and waits until what it says is durable.
    async fn ask(&self, event: impl FnOnce(u64) -> Event<Token>) -> bool {
        let ticket = {
            // Held while sending, so that tickets stand in the queue in their order.
            let mut last = self.last.lock().await;
            *last += 1;
            if self.events.send(event(*last)).await.is_err() {
                return false;
            }
            *last
        };
        self.noted.clone().wait_for(|noted| *noted >= ticket).await.is_ok()
    }

    /// What the writer sees when it looks at bundles, for the one who asks; `None`: it is gone.
    pub(super) async fn inspect(
        &self,
        board: &Board,
        bundles: Vec<Suspect>,
        roots_from: Option<u64>,
    ) -> Option<Inspected> {
        let asked = self.ask(|ticket| Event::Inspect { bundles, roots_from, ticket }).await;
        asked.then(|| board.inspected.borrow().clone())
    }

    /// What became of leaves that came from the mirror.
    pub(super) async fn refill(
        &self,
        board: &Board,
        number: u64,
        leaves: Vec<Bytes>,
    ) -> Option<RefillOutcome> {
        let asked = self.ask(|ticket| Event::Refill { number, leaves, ticket }).await;
        asked.then(|| board.refilled.borrow().clone()).flatten()
    }

    /// The witness is somewhere else than was thought.
    pub(super) async fn witness_at(&self, size: u64) {
        let _ = self.events.send(Event::WitnessAt { size }).await;
    }

    /// The mirror has so many leaves.
    pub(super) async fn mirrored(&self, size: u64) {
        let _ = self.events.send(Event::Mirrored { size }).await;
    }
}
