//! Keeps the log's sealed bundles as they were sealed: scrubs them at times, and has those that are damaged refilled
//! from the space's mirror. Runs beside the writer, which alone says what is damaged and puts leaves back.
//!
//! Where a start finds fewer leaves than were signed, the next epoch begins at once and this task gets the lost ones
//! back into the folder of the epoch that lost them (`guan_log::Ended` says why): a start never waits for a link.

use super::Board;
use super::refilling::{Answered, Range, Refilling};
use super::scribe::Scribe;
use super::scrubbing::{self, Looked};
use super::witnessing::{SPACE_KEYS_FILE, SpaceKeys};
use crate::engine::Suspect;
use crate::log_care::{EndedLoss, LogCare};
use bytes::Bytes;
use guan_configs::EdgeConfig;
use guan_evidence::bundle::BUNDLE_LEAVES_MAX;
use guan_evidence::{GapReason, LeafBody, Note, Refill};
use guan_link::Letter;
use guan_link::driver::{LinkState, describe};
use guan_log::{
    Bundles, DAMAGED_KEPT_MAX, ENDED_EPOCHS_MAX, ENDED_LEAVES_MAX, Ended, Epoch, EvidenceLog,
};
use guan_model::Digest;
use guan_spool::OsDisk;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;

/// In `box.state_dir`: made by `guan log scrub`, removed when the scrub has begun.
pub const SCRUB_REQUEST_FILE: &str = "log-scrub.request";
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// From a look that could not be had to the next one.
const AGAIN: Duration = Duration::from_secs(60);
const UNLISTED: &str =
    "the log's folder cannot be listed, so its bundles are looked at later: check the disk";
/// Most bundles that the writer looks at in one go.
const INSPECTED_MAX: usize = 64;

/// The log's files, as a start found them.
pub(super) struct LogFiles {
    pub(super) disk: OsDisk,
    pub(super) epoch: Epoch,
    /// Name of the log of the first epoch.
    pub(super) base: String,
    /// Bundles that this start found damaged; the log says so.
    pub(super) damaged: Vec<u64>,
}

pub(super) struct Mending {
    board: Board,
    scribe: Scribe,
    out: mpsc::Sender<Letter>,
    letters: mpsc::Receiver<Letter>,
    files: LogFiles,
    bundles: Bundles<OsDisk>,
    origin: String,
    state_dir: PathBuf,
    /// `None`: only when somebody asks.
    scrub_interval: Option<Duration>,
    care: LogCare,
    refilling: Refilling,
    /// Damaged bundles that earlier runs knew, and that are still to be looked at.
    earlier: Vec<u64>,
    ended: Vec<Ended<OsDisk>>,
    search: Search,
    /// Nothing is looked at before.
    again: Duration,
    ticket: u32,
    session: u64,
    is_unsaved: bool,
}

impl Mending {
    pub(super) fn new(
        config: &EdgeConfig,
        board: &Board,
        scribe: Scribe,
        (out, letters): (mpsc::Sender<Letter>, mpsc::Receiver<Letter>),
        files: LogFiles,
    ) -> Self {
        let origin = files.epoch.origin(&files.base);
        let care = LogCare::load(&config.state_dir, &origin);
        Self {
            board: board.clone(),
            scribe,
            out,
            letters,
            bundles: Bundles::of(files.disk.clone(), files.epoch),
            files,
            origin,
            state_dir: config.state_dir.clone(),
            scrub_interval: config.evidence.scrub_interval,
            care,
            refilling: Refilling::default(),
            earlier: Vec::new(),
            ended: Vec::new(),
            search: Search::Due(Duration::ZERO),
            again: Duration::ZERO,
            ticket: 0,
            session: 0,
            is_unsaved: true,
        }
    }

    pub(super) async fn run(mut self) {
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for number in std::mem::take(&mut self.files.damaged) {
            self.remember(number);
        }
        self.earlier = self.care.damaged();
        let mut is_linked = true;
        loop {
            tokio::select! {
                letter = self.letters.recv(), if is_linked => match letter {
                    Some(letter) => {
                        if !self.take(&letter).await {
                            return;
                        }
                    }
                    // The link is off; the scrub goes on.
                    None => is_linked = false,
                },
                _ = look.tick() => {
                    if !self.look().await {
                        return;
                    }
                }
            }
            self.ask();
            if self.is_unsaved {
                self.save();
            }
        }
    }

    /// What earlier runs left, then the scrub. `false`, here and below: the writer is gone.
    async fn look(&mut self) -> bool {
        let now = self.board.clock.read().monotonic;
        if now < self.again {
            return true;
        }
        while !self.earlier.is_empty() {
            let rest = self.earlier.split_off(self.earlier.len().min(INSPECTED_MAX));
            let told = |number: &u64| Suspect { number: *number, is_told: true };
            match self.inspect(self.earlier.iter().map(told).collect()).await {
                None => return false,
                Some(true) => self.earlier = rest,
                Some(false) => {
                    self.earlier.extend(rest);
                    let known = self.care.damaged();
                    self.earlier.retain(|number| known.contains(number));
                    return true;
                }
            }
        }
        if self.search.is_due(now, || self.space_keys().is_some()) && !self.find_ended(now).await {
            return false;
        }
        self.scrub().await
    }

    fn remember(&mut self, number: u64) {
        self.is_unsaved = true;
        if !self.care.add_damaged(number) {
            self.board.alarm(format!(
                "the log has more than {} damaged bundles; the others are found again when these are back",
                crate::log_care::DAMAGED_MAX
            ));
        }
    }

    fn range_of(&self, number: u64) -> Range {
        let (from, through) = EvidenceLog::<OsDisk>::range_of(number);
        Range { origin: self.origin.clone(), from, end: through + 1 }
    }

    /// `true`: the folder cannot be listed now, and nothing is looked at for a while.
    fn is_put_off(&mut self, is_unlisted: bool) -> bool {
        if is_unlisted {
            self.again = self.board.clock.read().monotonic + AGAIN;
            self.board.alarm(UNLISTED.to_owned());
        }
        is_unlisted
    }

    /// Has the writer look at bundles, and wants those back that are damaged. Whether all were looked at; `None`:
    /// the writer is gone.
    async fn inspect(&mut self, suspects: Vec<Suspect>) -> Option<bool> {
        if suspects.is_empty() {
            return Some(true);
        }
        let seen = self.scribe.inspect(&self.board, suspects, None).await?;
        for number in seen.whole {
            self.settle(number);
        }
        for number in seen.damaged {
            self.remember(number);
            let range = self.range_of(number);
            if !self.refilling.want(range) {
                tracing::warn!(number, "so many bundles are wanted already");
            }
        }
        self.show();
        Some(!self.is_put_off(seen.is_unlisted))
    }

    /// A bundle is as it was.
    fn settle(&mut self, number: u64) {
        self.is_unsaved = true;
        self.care.remove_damaged(number);
        let range = self.range_of(number);
        self.refilling.forget(&range);
    }

    fn show(&self) {
        let (damaged, (began_ms, ended_ms, found)) =
            (self.care.damaged().len() as u64, self.care.scrubbed());
        self.board.evidence.send_modify(|status| {
            status.damaged_bundles = damaged;
            (status.scrub_began_ms, status.scrub_ended_ms) = (began_ms, ended_ms);
            status.scrub_found = found;
        });
    }

    fn save(&mut self) {
        self.is_unsaved = false;
        self.show();
        if let Err(fault) = tokio::task::block_in_place(|| self.care.save(&self.state_dir)) {
            self.board.alarm(format!("{} is not kept: {fault}", crate::log_care::CARE_FILE));
        }
    }

    /// Asks for what is wanted, while there is a session.
    fn ask(&mut self) {
        let (state, sessions) = {
            let link = self.board.link.borrow();
            (link.state, link.sessions)
        };
        if sessions != self.session {
            self.session = sessions;
            self.refilling.handle_session();
        }
        let now = self.board.clock.read().monotonic;
        if let Some((range, fault)) = self.refilling.poll_silent(now) {
            self.fail(&range, &fault.to_string());
        }
        if state != LinkState::Connected {
            return;
        }
        self.ticket = self.ticket.wrapping_add(1);
        if let Some(letter) = self.refilling.poll_letter(now, self.ticket)
            && self.out.try_send(letter).is_err()
        {
            self.refilling.handle_unsent();
        }
    }

    fn fail(&mut self, range: &Range, why: &str) {
        let now = self.board.clock.read().monotonic;
        let then = match self.refilling.handle_failure(now, range) {
            true => "it is asked again",
            false => "it is not asked again before the next start or scrub",
        };
        let Range { origin, from, end } = range;
        self.board.alarm(format!(
            "entries {from} to {} of {origin} do not come back: {why}; {then}",
            end.saturating_sub(1)
        ));
    }

    async fn take(&mut self, letter: &Letter) -> bool {
        match self.refilling.handle_answer(letter) {
            Answered::Stray | Answered::Part => true,
            Answered::Bad(range, fault) => {
                self.fail(&range, &fault.to_string());
                true
            }
            Answered::Whole(range, leaves) if range.origin == self.origin => {
                self.put_back(range, leaves).await
            }
            Answered::Whole(range, leaves) => self.put_back_ended(range, leaves).await,
        }
    }

    async fn put_back(&mut self, range: Range, leaves: Vec<Bytes>) -> bool {
        let number = range.from / BUNDLE_LEAVES_MAX as u64;
        let Some(outcome) = self.scribe.refill(&self.board, number, leaves).await else {
            return false;
        };
        match outcome.fault {
            None => {
                self.settle(number);
                self.board.evidence.send_modify(|status| status.refilled_bundles += 1);
            }
            Some(refusal) if refusal.is_senders => {
                self.fail(&range, &format!("the space's mirror gave others: {}", refusal.text));
            }
            Some(refusal) => self.fail(&range, &refusal.text),
        }
        true
    }
}

/// When ended epochs that lack leaves are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Search {
    Due(Duration),
    /// The witness whose word counts is not known before the first session.
    NeedsKeys,
    /// All that lack leaves are known.
    Done,
}

impl Search {
    fn is_due(self, now: Duration, has_keys: impl FnOnce() -> bool) -> bool {
        match self {
            Self::Due(moment) => now >= moment,
            Self::NeedsKeys => has_keys(),
            Self::Done => false,
        }
    }
}

fn range_of(ended: &Ended<OsDisk>) -> Range {
    let (from, end) = ended.wanted();
    Range { origin: ended.origin().to_owned(), from, end }
}

/// Epochs that have ended.
impl Mending {
    fn space_keys(&self) -> Option<SpaceKeys> {
        let text = std::fs::read_to_string(self.state_dir.join(SPACE_KEYS_FILE)).ok()?;
        SpaceKeys::parse(&text)
    }

    /// What was found before is found anew, with all its attempts.
    async fn find_ended(&mut self, now: Duration) -> bool {
        self.search = Search::Due(now + AGAIN);
        let Some(lineage) = self.board.keys.borrow().as_ref().map(|keys| keys.lineage.clone())
        else {
            return true;
        };
        let (disk, base, epoch) =
            (self.files.disk.clone(), self.files.base.clone(), self.files.epoch);
        let found =
            tokio::task::spawn_blocking(move || Ended::all(&disk, &base, epoch, &lineage)).await;
        let lacking = match found {
            Ok(Ok(lacking)) => lacking,
            Ok(Err(fault)) => {
                self.board.alarm(format!("ended epochs of the log: {}", describe(&fault)));
                return true;
            }
            Err(_) => return true,
        };
        for ended in std::mem::take(&mut self.ended) {
            self.refilling.forget(&range_of(&ended));
        }
        self.is_unsaved = true;
        let epochs: Vec<u16> = lacking.iter().map(|one| one.epoch().number()).collect();
        let keys = self.space_keys();
        self.search = match keys.is_none() && !lacking.is_empty() {
            true => Search::NeedsKeys,
            false => Search::Done,
        };
        lacking.into_iter().for_each(|ended| self.want_ended(now, keys.as_ref(), ended));
        self.tell_of_earlier(&epochs).await
    }

    fn want_ended(&mut self, now: Duration, keys: Option<&SpaceKeys>, ended: Ended<OsDisk>) {
        let range = range_of(&ended);
        let Range { from, end, .. } = range;
        let stays_short = format!("{} stays short", ended.origin());
        let Some(keys) = keys else {
            let text = "until a session has shown the key of the space's witness";
            return self.board.alarm(format!("{stays_short} {text}"));
        };
        let note = Note::parse(ended.note());
        if !note.is_ok_and(|note| note.verify(&keys.witness).is_ok()) {
            let text = "the witness that this box knows has not cosigned the head that was kept";
            self.board.alarm(format!("{stays_short}: {text}"));
        } else if ended.is_too_much() {
            self.board.alarm(format!(
                "{stays_short}: entries {from} to {} are missing, and at most {ENDED_LEAVES_MAX} come back; \
                 `guan-space log export` at the space has them",
                end.saturating_sub(1)
            ));
        } else if !self.refilling.want(range) {
            self.search = Search::Due(now + AGAIN);
            self.board.alarm(format!("{stays_short} until other entries that rotted are back"));
        } else {
            let (epoch, root) = (ended.epoch().number(), ended.root().to_string());
            self.care.add_ended(EndedLoss { epoch, from, end, root });
            self.ended.push(ended);
        }
    }

    /// Leaves that are back, and of which an earlier run did not live to say so.
    async fn tell_of_earlier(&mut self, lacking: &[u16]) -> bool {
        let oldest = usize::from(self.files.epoch.number()).saturating_sub(ENDED_EPOCHS_MAX);
        for loss in self.care.ended().to_vec() {
            if lacking.contains(&loss.epoch) {
                continue;
            }
            if usize::from(loss.epoch) >= oldest
                && let Some(root) = loss.root()
                && !self.note_ended(loss.epoch, (loss.from, loss.end), root).await
            {
                return false;
            }
            self.care.remove_ended(loss.epoch);
        }
        true
    }

    async fn note_ended(&self, epoch: u16, (from, end): (u64, u64), root: Digest) -> bool {
        let refill = Some(Refill { root, epoch: Some(epoch) });
        let (through, reason) = (end.saturating_sub(1), GapReason::Damage);
        let body = LeafBody::LogGap { from, through, reason, refill };
        self.board.alarm(format!(
            "entries {from} to {through} of the log's epoch {epoch} are back; `guan log verify --epoch {epoch}` proves \
             them"
        ));
        self.scribe.note(body).await
    }

    async fn put_back_ended(&mut self, range: Range, leaves: Vec<Bytes>) -> bool {
        let Some(place) = self.ended.iter().position(|one| one.origin() == range.origin) else {
            return true;
        };
        let ended = self.ended.remove(place);
        let written = tokio::task::spawn_blocking(move || {
            let outcome = ended.refill(&leaves);
            (ended, outcome)
        });
        let Ok((ended, outcome)) = written.await else {
            self.search = Search::Due(self.board.clock.read().monotonic + AGAIN);
            return true;
        };
        match outcome {
            Ok(returned) => {
                let (epoch, about) = (ended.epoch().number(), (range.from, range.end));
                self.refilling.forget(&range);
                if returned.not_kept > 0 {
                    self.board.alarm(format!(
                        "{} damaged files of {} were not kept: {DAMAGED_KEPT_MAX} are there already; take them from \
                         the folder of the log",
                        returned.not_kept, range.origin
                    ));
                }
                if !self.note_ended(epoch, about, returned.root).await {
                    return false;
                }
                self.care.remove_ended(epoch);
                self.is_unsaved = true;
            }
            Err(fault) => {
                self.ended.push(ended);
                self.fail(&range, &describe(&fault));
            }
        }
        true
    }
}

/// The scrub.
impl Mending {
    /// One step of it, if one is underway or due.
    async fn scrub(&mut self) -> bool {
        let now = self.board.clock.read().wall;
        let is_asked_for = self.care.next().is_none() && self.take_request();
        let is_due = self.scrub_interval.is_some_and(|every| self.care.is_scrub_due(now, every));
        if !is_asked_for && !is_due && self.care.next().is_none() {
            return true;
        }
        let from = match self.care.next() {
            Some(next) => next,
            None => {
                self.care.begin_scrub(now);
                self.search = Search::Due(Duration::ZERO);
                0
            }
        };
        self.is_unsaved = true;
        let Some(seen) = self.scribe.inspect(&self.board, Vec::new(), Some(from)).await else {
            return false;
        };
        if self.is_put_off(seen.is_unlisted) {
            return true;
        }
        let bundles = self.bundles.clone();
        let looked = tokio::task::spawn_blocking(move || scrubbing::look(&bundles, &seen.roots));
        let Ok(Looked { next, suspects }) = looked.await else { return true };
        let known = self.care.damaged();
        let told = |number| Suspect { number, is_told: known.contains(&number) };
        match self.inspect(suspects.iter().copied().map(told).collect()).await {
            None => return false,
            // This step once more.
            Some(false) => return true,
            Some(true) => {}
        }
        match next {
            Some(next) => {
                let damaged = self.care.damaged();
                let found = suspects.iter().filter(|number| damaged.contains(number)).count();
                self.care.advance(next, found as u64);
            }
            None => {
                self.care.end_scrub(now);
                let (_, _, found) = self.care.scrubbed();
                tracing::info!(found, "the log's bundles were scrubbed");
            }
        }
        true
    }

    fn take_request(&self) -> bool {
        std::fs::remove_file(self.state_dir.join(SCRUB_REQUEST_FILE)).is_ok()
    }
}
