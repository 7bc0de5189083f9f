//! Changes the log's key: when it is older than it may be, and when somebody asks for it (`guan log rollover`).
//!
//! The TPM is asked before the writer, so that the collection never waits for it. Without its word nothing happens
//! on a box that has a TPM: an auditor would not take the new key.

use super::Board;
use super::request::{Request, RequestFault, commitment};
use crate::engine::{Event, NextKey};
use crate::ingest::Token;
use crate::log_keys::{self, LogKeysFault};
use crate::system_clock::wall_time;
use guan_configs::EdgeConfig;
use guan_evidence::verify::handover_text;
use guan_evidence::{Leaf, Statement, VerifierKey};
use guan_identity::LogKeyFile;
use guan_identity::tpm::{Tpm, TpmFault};
use guan_link::driver::describe;
use guan_model::{ClockQuality, Digest, Now, WallTime};
use serde::{Deserialize, Serialize};
use std::fs;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// In `box.state_dir`: made by `guan log rollover`, removed when it was acted on.
pub const ROLLOVER_REQUEST_FILE: &str = "rollover.request";
const SCHEMA: u32 = 1;
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// After a turn that came to nothing.
const RETRY_WAIT: Duration = Duration::from_secs(300);
const DAY: Duration = Duration::from_secs(86_400);

/// Why the key stays.
#[derive(Debug, thiserror::Error)]
enum RolloverFault {
    #[error(transparent)]
    Keys(#[from] LogKeysFault),
    #[error(transparent)]
    Tpm(#[from] TpmFault),
    #[error("the TPM says more than an entry of the log can hold")]
    Statement,
    #[error("the disk is full: free space in box.state_dir")]
    DiskFull,
    #[error("the writer is gone")]
    Writer,
}

/// What `guan log rollover` leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloverRequest {
    schema: u32,
    /// By the wall clock of the box, milliseconds since 1970.
    asked_ms: i64,
    /// Commitment to who asks, in hex.
    actor: Option<String>,
}

impl RolloverRequest {
    pub fn new(asked: WallTime, actor: Option<Digest>) -> Self {
        let actor = actor.map(|actor| actor.to_string());
        Self { schema: SCHEMA, asked_ms: asked.millis(), actor }
    }
}

impl Request for RolloverRequest {
    const FILE: &'static str = ROLLOVER_REQUEST_FILE;
    const BYTES_MAX: u64 = 4096;
    const SCHEMAS: RangeInclusive<u32> = SCHEMA..=SCHEMA;

    fn schema(&self) -> u32 {
        self.schema
    }

    fn asked_ms(&self) -> i64 {
        self.asked_ms
    }

    fn actor(&self) -> Result<Option<Digest>, RequestFault> {
        commitment(self.actor.as_deref())
    }
}

pub(super) struct Rolling {
    config: EdgeConfig,
    /// `None`: the box has none.
    tpm: Option<Tpm>,
    board: Board,
    events: mpsc::Sender<Event<Token>>,
    not_before: Option<Instant>,
    /// The key that signs already and is not in its place on the disk yet. No other turn begins before it is: the
    /// file in which it waits is the only one.
    unsettled: Option<Arc<LogKeyFile>>,
}

impl Rolling {
    pub(super) fn new(
        config: &EdgeConfig,
        tpm: Option<Tpm>,
        board: &Board,
        events: mpsc::Sender<Event<Token>>,
    ) -> Self {
        Self {
            config: config.clone(),
            tpm,
            board: board.clone(),
            events,
            not_before: None,
            unsettled: None,
        }
    }

    pub(super) async fn run(mut self) {
        RolloverRequest::discard(&self.config.state_dir);
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            let turned = match self.unsettled.is_some() {
                true if self.is_paused() => continue,
                true => self.settle(),
                false => match self.due() {
                    Some(actor) => self.roll(actor).await,
                    None => continue,
                },
            };
            if let Err(fault) = turned {
                self.not_before = Some(Instant::now() + RETRY_WAIT);
                let what = match self.unsettled.is_some() {
                    true => "the log has a new key that is not in its place yet, do not stop guan",
                    false => "the log keeps its key",
                };
                self.board.alarm(format!("{what}: {}", describe(&fault)));
            }
        }
    }

    /// Whether it is time; and the commitment to who asked for it, if somebody did and said so.
    fn due(&self) -> Option<Option<Digest>> {
        // Whoever asks by hand does not wait for the pause after a failure.
        match RolloverRequest::take(&self.config.state_dir, wall_time()) {
            Ok(Some(request)) => return Some(request.actor().ok().flatten()),
            Ok(None) => {}
            Err(fault) => {
                self.board.alarm(format!("{ROLLOVER_REQUEST_FILE} is not acted on: {fault}"));
            }
        }
        (!self.is_paused() && self.is_old()).then_some(None)
    }

    fn is_old(&self) -> bool {
        let days_max = self.config.evidence.key_days_max;
        days_max.is_some_and(|days_max| is_older(self.board.clock.read(), self.since(), days_max))
    }

    fn is_paused(&self) -> bool {
        self.not_before.is_some_and(|until| Instant::now() < until)
    }

    /// Since when the key signs: by the entry that named it, or, for the first one, by its file.
    fn since(&self) -> Option<WallTime> {
        let keys = self.board.keys.borrow();
        let last = keys.as_ref()?.lineage.steps().last();
        if let Some(step) = last {
            return Leaf::decode(step.leaf()).ok().map(|leaf| leaf.wall);
        }
        let made =
            fs::metadata(&self.config.identity.log_key_file).and_then(|file| file.modified());
        let made = made.ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(WallTime::from_seconds(i64::try_from(made.as_secs()).ok()?))
    }

    async fn roll(&mut self, actor: Option<Digest>) -> Result<(), RolloverFault> {
        let before = *self.board.rolls.borrow();
        let (next, quote) = tokio::task::block_in_place(|| self.prepare())?;
        let next = Arc::new(next);
        let signer = NextKey(next.clone());
        let sent = self.events.send(Event::RollKey { signer, actor, quote }).await;
        sent.map_err(|_| RolloverFault::Writer)?;
        let mut rolls = self.board.rolls.subscribe();
        let told = rolls.wait_for(|rolls| *rolls > before).await;
        told.map_err(|_| RolloverFault::Writer)?;
        let keys = self.board.keys.borrow().clone().ok_or(RolloverFault::Writer)?;
        if keys.lineage.newest().key_bytes() != public(&next).key_bytes() {
            return Err(RolloverFault::DiskFull);
        }
        self.unsettled = Some(next);
        self.settle()
    }

    /// Puts the key that signs in its place on the disk.
    fn settle(&mut self) -> Result<(), RolloverFault> {
        let Some(next) = self.unsettled.clone() else { return Ok(()) };
        let keys = self.board.keys.borrow().clone().ok_or(RolloverFault::Writer)?;
        tokio::task::block_in_place(|| log_keys::settle(&self.config, &keys.lineage, &next))?;
        self.unsettled = None;
        self.board.keys.send_modify(|keys| {
            if let Some(keys) = keys {
                keys.signer = next;
            }
        });
        tracing::info!("the log has a new key");
        Ok(())
    }

    /// The new key, durable, and the TPM's word that it follows.
    fn prepare(&self) -> Result<(LogKeyFile, Option<Statement>), RolloverFault> {
        let next = log_keys::make_next(&self.config, self.tpm.as_ref())?;
        let Some(tpm) = &self.tpm else { return Ok((next, None)) };
        let (origin, old) = {
            let keys = self.board.keys.borrow();
            let keys = keys.as_ref().ok_or(RolloverFault::Writer)?;
            (self.board.evidence.borrow().log.clone(), keys.lineage.newest().key_bytes())
        };
        let text = handover_text(&origin, &old, &public(&next).key_bytes());
        let about = Digest::of(text.as_bytes());
        let (quote, _) = tpm.call("quote the log's new key", move |chip| chip.anchor(&about))?;
        let statement = Statement::new(quote.statement, quote.signature);
        Ok((next, Some(statement.ok_or(RolloverFault::Statement)?)))
    }
}

/// Whether a key that signs since then is of that age. An unset clock knows nothing of ages.
fn is_older(now: Now, since: Option<WallTime>, days_max: u32) -> bool {
    now.quality != ClockQuality::Unset
        && since.is_some_and(|since| now.wall.since(since) >= DAY * days_max)
}

fn public(key: &LogKeyFile) -> VerifierKey {
    VerifierKey::of(key).expect("the log's key is of Ed25519 and has the log's name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_old_when_its_days_are_over() {
        let made = WallTime::from_seconds(1_800_000_000);
        let now = |after: Duration, quality| Now {
            wall: made.saturating_add(after),
            monotonic: Duration::from_secs(1),
            quality,
        };
        let is_old = |after, quality| is_older(now(after, quality), Some(made), 30);
        let just_before = DAY * 30 - Duration::from_millis(1);
        assert!(!is_old(Duration::ZERO, ClockQuality::Ntp));
        assert!(!is_old(just_before, ClockQuality::Ntp));
        assert!(is_old(DAY * 30, ClockQuality::Ntp));
        assert!(!is_old(DAY * 90, ClockQuality::Unset), "its clock is not set");
        assert!(!is_older(now(DAY * 90, ClockQuality::Ntp), None, 30), "nobody knows since when");
        // Set back before the key was made: it is not old.
        let early =
            Now { wall: WallTime::from_seconds(0), ..now(Duration::ZERO, ClockQuality::Ntp) };
        assert!(!is_older(early, Some(made), 1));
    }
}
