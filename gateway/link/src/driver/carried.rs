//! A session of the space without a connection: what it would hear stands in a file.
//!
//! The rules are those of every session ([`Receiver`]): cursors decide what is new, places are taken once and in
//! order. Whoever reads the file has checked it to its end before; the credit is kept by waiting for the store.

use super::inbox::{Inbox, InboxFault, Receipt, Settled};
use crate::VERSIONS;
use crate::fault::{PeerFault, PeerMisbehaved};
use crate::frame::{BoxFrame, Cursor, Item, Offer, Pipe, SpaceFrame};
use crate::receiver::{Receiver, ReceiverEvent};
use guan_model::{BatchSeq, BoxId, SpoolId, StreamId};
use std::time::Duration;
use tokio::sync::mpsc;

/// The store may be so far behind before the next frame is read.
const UNSTORED_BYTES_MAX: u64 = crate::RECEIVE_WINDOW_BYTES / 4;

/// Why the rest of a file is not taken; what was stored before stays.
#[derive(Debug, thiserror::Error)]
pub enum CarriedFault {
    #[error(
        "stream {stream}: the file goes on with batch {seq}, and the space has what comes before {expected} only: \
         bring the earlier file first, or let the box export once more"
    )]
    Hole { stream: StreamId, seq: BatchSeq, expected: BatchSeq },
    #[error("the file breaks a rule of the session")]
    Peer(#[source] PeerFault),
    #[error(transparent)]
    Store(#[from] InboxFault),
}

impl From<PeerFault> for CarriedFault {
    fn from(fault: PeerFault) -> Self {
        match fault {
            PeerFault::Misbehaved(PeerMisbehaved::Hole { stream, seq, expected }) => {
                Self::Hole { stream, seq, expected }
            }
            other => Self::Peer(other),
        }
    }
}

/// A batch that the store did not take; nothing after it in its stream was taken either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CarriedRefusal {
    pub stream: StreamId,
    pub seq: BatchSeq,
    pub text: String,
}

/// What became of a file.
#[derive(Debug, Clone, Default)]
pub struct CarriedOutcome {
    /// What the space has of the offered streams, durably.
    pub cursors: Vec<Cursor>,
    pub items_stored: u64,
    /// Items that it had before.
    pub duplicates: u64,
    pub refused: Vec<CarriedRefusal>,
}

/// Takes the frames of one file.
pub struct CarriedSession<I> {
    inbox: I,
    box_id: BoxId,
    receiver: Receiver,
    offer: Option<Offer>,
    settled_out: mpsc::UnboundedSender<Settled>,
    settled_in: mpsc::UnboundedReceiver<Settled>,
    outstanding: u64,
    /// Moves on with each look, so that no ack is held back: acks renew the credit.
    now: Duration,
    outcome: CarriedOutcome,
}

impl<I: Inbox> CarriedSession<I> {
    pub fn new(inbox: I, box_id: BoxId) -> Self {
        let (settled_out, settled_in) = mpsc::unbounded_channel();
        Self {
            inbox,
            box_id,
            receiver: Receiver::new(Duration::ZERO, VERSIONS),
            offer: None,
            settled_out,
            settled_in,
            outstanding: 0,
            now: Duration::ZERO,
            outcome: CarriedOutcome::default(),
        }
    }

    /// The next frame of the file.
    pub async fn handle_frame(&mut self, frame: BoxFrame) -> Result<(), CarriedFault> {
        self.receiver.handle_piped(Pipe::Data, frame)?;
        while let Some(event) = self.receiver.poll_event() {
            self.handle_event(event).await?;
        }
        while self.receiver.unstored_bytes() > UNSTORED_BYTES_MAX && self.outstanding > 0 {
            self.settle().await?;
        }
        self.listen();
        Ok(())
    }

    /// After the last frame: waits for the disk.
    pub async fn finish(mut self) -> Result<CarriedOutcome, CarriedFault> {
        while self.outstanding > 0 {
            self.settle().await?;
        }
        self.listen();
        if let Some(offer) = &self.offer {
            let known = self.inbox.cursors(&self.box_id, offer).await?;
            let is_offered =
                |cursor: &Cursor| offer.streams().iter().any(|stream| stream.id == cursor.stream);
            self.outcome.cursors = known.into_iter().filter(is_offered).collect();
        }
        self.outcome.duplicates = self.receiver.duplicates();
        Ok(self.outcome)
    }

    async fn handle_event(&mut self, event: ReceiverEvent) -> Result<(), CarriedFault> {
        match event {
            ReceiverEvent::Hello(offer) => {
                // A box is told before it sends; with that the inbox learns what its contracts ask of the store.
                drop(self.inbox.roster(&self.box_id));
                let cursors = self.inbox.cursors(&self.box_id, &offer).await?;
                self.receiver.handle_cursors(&cursors);
                self.offer = Some(offer);
                Ok(())
            }
            ReceiverEvent::Describe(table) => {
                let verdict = self.inbox.describe(&self.box_id, table).await?;
                let refused = |detail| PeerMisbehaved::DescriptorTable { detail };
                Ok(verdict.map_err(refused).map_err(PeerFault::from)?)
            }
            ReceiverEvent::Store(stream, item) => self.store(stream, item).await,
        }
    }

    async fn store(&mut self, stream: StreamId, item: Item) -> Result<(), CarriedFault> {
        let spool: SpoolId = self.offer.as_ref().expect("items come after the hello").spool();
        let (from, through) = (item.from(), item.through());
        let receipt = Receipt::new(stream, through, self.settled_out.clone());
        match self.inbox.store(&self.box_id, spool, stream, item, receipt).await? {
            Ok(()) => self.outstanding += 1,
            Err(refusal) => {
                self.receiver.handle_refused(stream, from, refusal.reason, &refusal.text);
            }
        }
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), CarriedFault> {
        let settled = self.settled_in.recv().await.expect("this session holds a sender");
        self.outstanding -= 1;
        match settled {
            Settled::Durable(cursor) => {
                self.outcome.items_stored += 1;
                self.receiver.handle_durable(cursor.stream, cursor.through);
                Ok(())
            }
            Settled::Failed(fault) => Err(fault.into()),
        }
    }

    /// What the space would say: acks renew the credit, and refusals are kept for people.
    fn listen(&mut self) {
        self.now += Duration::from_secs(1);
        while let Some(frame) = self.receiver.poll_frame(self.now) {
            self.now += Duration::from_secs(1);
            if let SpaceFrame::Refuse(refuse) = frame {
                let (stream, seq, text) = (refuse.stream, refuse.seq, refuse.text.to_string());
                self.outcome.refused.push(CarriedRefusal { stream, seq, text });
            }
        }
    }
}
