//! Drives the anchors while the box runs: after each signed head, and at the end.

use super::Board;
use super::scribe::Scribe;
use crate::anchoring::ledger::{Cadence, Suspicion, TrailHead};
use crate::anchoring::{AnchorFault, Anchors, trail_head};
use guan_evidence::LeafBody;
use guan_link::driver::describe;
use std::time::Duration;
use tokio::sync::watch;

/// How long after a failure the TPM is asked again.
const RETRY: Duration = Duration::from_secs(60);

pub(super) struct Anchoring {
    anchors: Anchors,
    cadence: Cadence,
    scribe: Scribe,
    board: Board,
    stop: watch::Receiver<bool>,
    newest: Option<TrailHead>,
}

/// What one turn found out.
enum Turn {
    Done,
    Suspect(Suspicion),
}

impl Anchoring {
    pub(super) fn new(
        anchors: Anchors,
        cadence: Cadence,
        scribe: Scribe,
        board: &Board,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self { anchors, cadence, scribe, board: board.clone(), stop, newest: None }
    }

    /// Ends with the program: one more anchor and chain, so that a box at rest has no open end.
    pub(super) async fn run(mut self) {
        let mut heads = self.board.head.subscribe();
        loop {
            let stopping = *self.stop.borrow();
            let head = heads.borrow_and_update().as_ref().map(|head| head.text.clone());
            let wait = match self.turn(head, stopping).await {
                Ok(Turn::Done) => self.cadence.anchor,
                Ok(Turn::Suspect(suspicion)) => {
                    self.suspect(&suspicion).await;
                    Duration::ZERO
                }
                Err(fault) => {
                    self.board.alarm(format!("the log is not anchored: {}", describe(&fault)));
                    RETRY
                }
            };
            if stopping {
                return;
            }
            tokio::select! {
                _ = self.stop.wait_for(|stop| *stop) => {}
                changed = heads.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn turn(&mut self, head: Option<String>, is_last: bool) -> Result<Turn, AnchorFault> {
        if let Some(head) = head {
            let head = trail_head(&head)?;
            self.newest = Some(head);
            if self.anchors.ledger.handle_head(head) {
                self.anchors.keep()?;
            }
        }
        if let Some(suspicion) = tokio::task::block_in_place(|| self.anchors.extend())? {
            return Ok(Turn::Suspect(suspicion));
        }
        let now = self.board.clock.read().monotonic;
        if is_last || self.anchors.ledger.is_anchor_due(now, self.cadence) {
            self.anchor(now).await?;
        }
        let Some(newest) = self.newest else { return Ok(Turn::Done) };
        let is_half_done = self.anchors.ledger.intent().is_some();
        let is_due = self.anchors.ledger.is_chain_due(now, self.cadence, &newest);
        if is_half_done || is_due || is_last {
            return self.chain(now, newest).await;
        }
        Ok(Turn::Done)
    }

    async fn anchor(&mut self, now: Duration) -> Result<(), AnchorFault> {
        let Some(anchor) = tokio::task::block_in_place(|| self.anchors.quote())? else {
            return Ok(());
        };
        let size = anchor.size;
        if self.scribe.note(LeafBody::Anchor(anchor)).await {
            self.anchors.handle_anchored(now, size)?;
            self.board.evidence.send_modify(|status| status.anchored = Some(size));
        }
        Ok(())
    }

    async fn chain(&mut self, now: Duration, newest: TrailHead) -> Result<Turn, AnchorFault> {
        if self.anchors.ledger.is_chained(newest.size) {
            return Ok(Turn::Done);
        }
        match tokio::task::block_in_place(|| self.anchors.chain(newest))? {
            Ok(chain) => {
                let size = chain.size;
                if self.scribe.note(LeafBody::Chain(chain)).await {
                    self.anchors.handle_chained(now)?;
                    self.board.evidence.send_modify(|status| status.chained = Some(size));
                }
                Ok(Turn::Done)
            }
            Err(suspicion) => Ok(Turn::Suspect(suspicion)),
        }
    }

    async fn suspect(&self, suspicion: &Suspicion) {
        let size = self.newest.map_or(0, |head| head.size);
        self.board.suspect(suspicion.to_string());
        let reason = guan_evidence::GapReason::RolledBack;
        self.scribe
            .note(LeafBody::LogGap { from: size, through: size, reason, refill: None })
            .await;
    }
}
