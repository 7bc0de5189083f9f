//! What is known of the log's damage, over restarts: bundles that are to come back, how far the scrub is.
//!
//! A file beside the log, replaced whole. One that cannot be read is begun anew: the next scrub finds the same again.

use guan_model::{Digest, WallTime};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::Duration;

/// In `box.state_dir`.
pub const CARE_FILE: &str = "log-care.json";
/// Most bundles that are remembered; more are found by the scrub after they are back.
pub const DAMAGED_MAX: usize = 1024;
/// Most ended epochs that are remembered.
pub const ENDED_MAX: usize = guan_log::ENDED_EPOCHS_MAX;
const FILE_BYTES_MAX: u64 = 64 << 10;
const SCHEMA: u32 = 1;

/// Version 1 of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogCare {
    schema: u32,
    /// Name of the log that it is about.
    log: String,
    /// Bundles that the log says are damaged, and not yet that they are back.
    damaged: BTreeSet<u64>,
    /// Ended epochs whose lost leaves are to come back.
    ended: Vec<EndedLoss>,
    /// The first bundle that the scrub underway has not looked at; `None`: none is underway.
    next: Option<u64>,
    began_ms: Option<i64>,
    ended_ms: Option<i64>,
    /// Damaged bundles that the newest scrub found.
    found: u64,
}

/// Leaves that an epoch lost with its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedLoss {
    pub epoch: u16,
    pub from: u64,
    pub end: u64,
    /// Of the cosigned head, in hex.
    pub root: String,
}

impl EndedLoss {
    pub fn root(&self) -> Option<Digest> {
        Digest::from_hex(&self.root)
    }
}

impl LogCare {
    pub fn new(log: &str) -> Self {
        Self {
            schema: SCHEMA,
            log: log.to_owned(),
            damaged: BTreeSet::new(),
            ended: Vec::new(),
            next: None,
            began_ms: None,
            ended_ms: None,
            found: 0,
        }
    }

    /// What is kept of this log. Of another epoch only what it lost is of use.
    pub fn load(state_dir: &Path, log: &str) -> Self {
        let path = state_dir.join(CARE_FILE);
        let is_short = std::fs::metadata(&path).is_ok_and(|file| file.len() <= FILE_BYTES_MAX);
        let bytes = is_short.then(|| std::fs::read(&path).ok()).flatten();
        bytes.and_then(|bytes| Self::parse(&bytes, log)).unwrap_or_else(|| Self::new(log))
    }

    fn parse(bytes: &[u8], log: &str) -> Option<Self> {
        let kept: Self = serde_json::from_slice(bytes).ok()?;
        let fits = kept.schema == SCHEMA
            && kept.damaged.len() <= DAMAGED_MAX
            && kept.ended.len() <= ENDED_MAX
            && kept.ended.iter().all(|one| one.root().is_some() && one.from < one.end);
        fits.then(|| match kept.log == log {
            true => kept,
            false => Self { ended: kept.ended, ..Self::new(log) },
        })
    }

    pub fn save(&self, state_dir: &Path) -> io::Result<()> {
        let bytes = serde_json::to_vec(self).expect("numbers and texts are always written");
        crate::upkeep::replace(&state_dir.join(CARE_FILE), bytes)
    }

    pub fn damaged(&self) -> Vec<u64> {
        self.damaged.iter().copied().collect()
    }

    /// `false`: so many are known already.
    pub fn add_damaged(&mut self, number: u64) -> bool {
        let has_room = self.damaged.len() < DAMAGED_MAX || self.damaged.contains(&number);
        if has_room {
            self.damaged.insert(number);
        }
        has_room
    }

    pub fn remove_damaged(&mut self, number: u64) {
        self.damaged.remove(&number);
    }

    pub fn ended(&self) -> &[EndedLoss] {
        &self.ended
    }

    /// Those that lack leaves now, and earlier ones that did; the newest are kept.
    pub fn add_ended(&mut self, loss: EndedLoss) {
        self.ended.retain(|one| one.epoch != loss.epoch);
        self.ended.push(loss);
        self.ended.sort_by_key(|one| one.epoch);
        let over = self.ended.len().saturating_sub(ENDED_MAX);
        self.ended.drain(..over);
    }

    pub fn remove_ended(&mut self, epoch: u16) {
        self.ended.retain(|one| one.epoch != epoch);
    }
}

/// The scrub.
impl LogCare {
    /// Whether one is underway or due. A clock that went back by more than the interval makes one due as well.
    pub fn is_scrub_due(&self, now: WallTime, interval: Duration) -> bool {
        let Some(ended) = self.ended_ms.map(WallTime::from_millis) else { return true };
        self.next.is_some() || now.since(ended).max(ended.since(now)) >= interval
    }

    pub fn next(&self) -> Option<u64> {
        self.next
    }

    pub fn begin_scrub(&mut self, now: WallTime) {
        (self.next, self.began_ms, self.found) = (Some(0), Some(now.millis()), 0);
    }

    /// All below `next` were looked at.
    pub fn advance(&mut self, next: u64, found: u64) {
        self.next = Some(next);
        self.found += found;
    }

    pub fn end_scrub(&mut self, now: WallTime) {
        (self.next, self.ended_ms) = (None, Some(now.millis()));
    }

    /// When the newest began and the last one ended, and what the newest found.
    pub fn scrubbed(&self) -> (Option<i64>, Option<i64>, u64) {
        (self.began_ms, self.ended_ms, self.found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn at(days: i64) -> WallTime {
        WallTime::from_seconds(1_800_000_000 + days * 86_400)
    }

    #[test]
    fn a_scrub_is_due_each_week_and_goes_on_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let mut care = LogCare::load(folder.path(), "guan/box-1");
        let week = DAY * 7;
        assert!(care.is_scrub_due(at(0), week), "the first one");
        care.begin_scrub(at(0));
        care.advance(40, 1);
        care.save(folder.path()).unwrap();
        let mut care = LogCare::load(folder.path(), "guan/box-1");
        assert_eq!((care.next(), care.is_scrub_due(at(0), week)), (Some(40), true));
        care.end_scrub(at(1));
        care.save(folder.path()).unwrap();
        let care = LogCare::load(folder.path(), "guan/box-1");
        assert_eq!(care.scrubbed(), (Some(at(0).millis()), Some(at(1).millis()), 1));
        let due = [(1, false), (7, false), (8, true), (-5, false), (-6, true)];
        due.iter().for_each(|(day, is_due)| {
            assert_eq!(care.is_scrub_due(at(*day), week), *is_due, "day {day}");
        });
    }

    #[test]
    fn what_is_kept_is_bounded_and_of_this_log() {
        let folder = tempfile::tempdir().unwrap();
        let mut care = LogCare::new("guan/box-1");
        let limit = DAMAGED_MAX as u64;
        (0..limit).for_each(|number| assert!(care.add_damaged(number)));
        assert!(!care.add_damaged(limit) && care.add_damaged(3));
        let loss = |epoch| EndedLoss { epoch, from: 0, end: 5, root: Digest([7; 32]).to_string() };
        (1..=u16::try_from(ENDED_MAX).unwrap() + 1).for_each(|epoch| care.add_ended(loss(epoch)));
        assert_eq!((care.ended().len(), care.ended()[0].epoch), (ENDED_MAX, 2));
        care.save(folder.path()).unwrap();
        assert!(std::fs::metadata(folder.path().join(CARE_FILE)).unwrap().len() < FILE_BYTES_MAX);
        assert_eq!(LogCare::load(folder.path(), "guan/box-1"), care);
        let next = LogCare::load(folder.path(), "guan/box-1/e2");
        assert_eq!((next.damaged().len(), next.ended()), (0, care.ended()));
        for text in ["", "{}", r#"{"schema":2}"#] {
            std::fs::write(folder.path().join(CARE_FILE), text).unwrap();
            assert_eq!(LogCare::load(folder.path(), "x"), LogCare::new("x"));
        }
    }
}
