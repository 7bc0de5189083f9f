//! Where the space's side puts batches, and how the store answers.

use crate::frame::{Cursor, Item, Letter, Offer, RefuseReason};
use crate::text::{CheckpointText, ReportJson};
use bytes::Bytes;
use guan_model::{BatchSeq, BoxId, Digest, SpoolId, StreamId};
use std::future::Future;
use tokio::sync::{mpsc, watch};

/// The store is broken for now; the session ends and the box comes back later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store of the space failed: {detail}")]
pub struct InboxFault {
    pub detail: String,
}

/// The store does not take a batch; the session goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub reason: RefuseReason,
    /// For the operator of the box.
    pub text: String,
}

/// The space's store. A group commit happens behind it: items of many boxes, one flush.
pub trait Inbox: Clone + Send + Sync + 'static {
    /// What is durable of this spool; streams that are not known may be left out. Asked once a session,
    /// after the box's previous session has ended: whatever that session queued must count.
    fn cursors(
        &self,
        peer: &BoxId,
        offer: &Offer,
    ) -> impl Future<Output = Result<Vec<Cursor>, InboxFault>> + Send;

    /// Keeps a descriptor table; returns when batches that use it may be stored. The inner error
    /// blames the box.
    fn describe(
        &self,
        peer: &BoxId,
        table: Bytes,
    ) -> impl Future<Output = Result<Result<(), String>, InboxFault>> + Send;

    /// Keeps a signed head of the box's log and returns its size. The inner error blames the box.
    fn checkpoint(
        &self,
        peer: &BoxId,
        text: CheckpointText,
    ) -> impl Future<Output = Result<Result<u64, String>, InboxFault>> + Send;

    /// Which contracts stand for the box, signed; empty when none are kept for it.
    fn roster(&self, peer: &BoxId) -> Bytes {
        drop(peer.clone());
        Bytes::new()
    }

    /// Changes whenever a roster may have changed.
    fn rosters_changed(&self) -> Option<watch::Receiver<u64>> {
        None
    }

    /// The contract with this digest, if the box has it in its roster.
    fn contract(&self, peer: &BoxId, digest: &Digest) -> Option<Bytes> {
        let _ = (peer, digest);
        None
    }

    /// What the space writes to this box, from the first hello of a session on; asked for once a
    /// session. A space that writes no letters has none.
    fn letters(&self, peer: &BoxId) -> Option<mpsc::Receiver<Letter>> {
        let _ = peer;
        None
    }

    /// A letter of a box that was let in. The session waits, so that whoever reads letters sets the
    /// pace; the inner error is the box's fault.
    fn letter(
        &self,
        peer: &BoxId,
        letter: Letter,
    ) -> impl Future<Output = Result<(), String>> + Send {
        let _ = (peer, letter);
        std::future::ready(Err("nobody reads letters here".to_owned()))
    }

    /// What the box says about itself; kept or not, never waited for.
    fn report(&self, peer: &BoxId, json: ReportJson);

    /// Checks and queues the next item of a stream; waits while the store's queue is full. The receipt
    /// is settled when the item is on disk. The inner error is made with [`Receipt::refuse`]: the store
    /// does not take the batch, and its place stays open.
    fn store(
        &self,
        peer: &BoxId,
        spool: SpoolId,
        stream: StreamId,
        item: Item,
        receipt: Receipt,
    ) -> impl Future<Output = Result<Result<(), Refusal>, InboxFault>> + Send;
}

/// What became of a queued item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    Durable(Cursor),
    Failed(InboxFault),
}

/// Settles one queued item. Items of a stream are settled in order; a dropped receipt is a failure.
#[derive(Debug)]
pub struct Receipt {
    cursor: Cursor,
    /// Unbounded, but holds at most what the credit lets in (`RECEIVE_WINDOW_BYTES`/`ITEM_COST_BYTES`).
    settled: Option<mpsc::UnboundedSender<Settled>>,
}

impl Receipt {
    pub(super) fn new(
        stream: StreamId,
        through: BatchSeq,
        settled: mpsc::UnboundedSender<Settled>,
    ) -> Self {
        Self { cursor: Cursor { stream, through }, settled: Some(settled) }
    }

    /// A receipt for tests of an inbox, with the channel that it reports to.
    pub fn detached(
        stream: StreamId,
        through: BatchSeq,
    ) -> (Self, mpsc::UnboundedReceiver<Settled>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self::new(stream, through, sender), receiver)
    }

    /// The item, and everything before it in its stream, is on disk.
    pub fn durable(mut self) {
        let settled = self.settled.take().expect("a receipt is settled once");
        // A session that is gone needs no answer: the next one asks for the cursors.
        let _ = settled.send(Settled::Durable(self.cursor));
    }

    /// The item is not on disk and will not be.
    pub fn failed(mut self, detail: &str) {
        let settled = self.settled.take().expect("a receipt is settled once");
        let _ = settled.send(Settled::Failed(InboxFault { detail: detail.to_owned() }));
    }
}

impl Receipt {
    /// The store does not take the item: for the answer of `Inbox::store`, before the item is queued.
    pub fn refuse(mut self, reason: RefuseReason, text: String) -> Refusal {
        self.settled = None;
        Refusal { reason, text }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(settled) = self.settled.take() {
            let detail = "it dropped an item without an answer".to_owned();
            let _ = settled.send(Settled::Failed(InboxFault { detail }));
        }
    }
}
