//! Has an authority stamp the log's newest head with the time, when the time for that has come (RFC 3161 over HTTP).
//!
//! Nothing waits for it. What fails is told and tried again, ever more seldom, within bytes a day; while the link is
//! closed or asleep nobody is asked, and what is asked counts into the link's bytes.

use super::Board;
use super::witnessing::COSIGNED_FILE;
use crate::authority::{ASK_BYTES_MAX, AskFault, AuthorityClient, Stamped, authority_of};
use crate::ledger::LinkLedger;
use crate::stamps::{Stamps, StampsFault};
use guan_configs::EdgeConfig;
use guan_configs::edge::{AuthorityUrl, TimestampConfig};
use guan_evidence::timestamp::Token;
use guan_evidence::{Checkpoint, Note};
use guan_link::driver::{Permit, describe};
use guan_log::Epoch;
use guan_model::{ClockQuality, Digest, Now, WallTime};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// From a failure to the next try; doubled with each failure after it.
const RETRY: Duration = Duration::from_secs(60);
const RETRY_MAX: Duration = Duration::from_secs(6 * 3600);
/// Bytes of a day, from the start on, within which no more tries begin.
const DAY_BYTES_MAX: u64 = 4 * ASK_BYTES_MAX;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// When the authority is asked. Times are on the monotonic clock.
#[derive(Debug)]
struct Schedule {
    interval: Duration,
    due: Duration,
    failures: u32,
    /// Size of the head that was stamped last.
    stamped: u64,
    /// Of the day that began at `day`.
    spent: u64,
    day: Duration,
}

impl Schedule {
    /// `last`: size of the newest stamped head, and how long ago the last stamp came that holds, if that is known.
    fn new(interval: Duration, now: Duration, last: Option<(u64, Option<Duration>)>) -> Self {
        let (stamped, age) = last.unwrap_or((0, None));
        let wait = age.map_or(Duration::ZERO, |age| interval.saturating_sub(age));
        Self { interval, due: now + wait, failures: 0, stamped, spent: 0, day: now }
    }

    /// Whether a head of this size is to be stamped now.
    fn is_due(&mut self, now: Duration, size: u64) -> bool {
        if now.saturating_sub(self.day) >= DAY {
            (self.day, self.spent) = (now, 0);
        }
        size > self.stamped && now >= self.due && self.spent + ASK_BYTES_MAX <= DAY_BYTES_MAX
    }

    fn handle_stamped(&mut self, now: Duration, size: u64, bytes: u64) {
        self.spent += bytes;
        (self.stamped, self.failures, self.due) = (size, 0, now + self.interval);
    }

    fn handle_failed(&mut self, now: Duration, bytes: u64) {
        self.spent += bytes;
        let wait = RETRY.saturating_mul(2u32.saturating_pow(self.failures));
        self.due = now + wait.min(RETRY_MAX).min(self.interval);
        self.failures = self.failures.saturating_add(1);
    }
}

#[derive(Debug, thiserror::Error)]
enum StampingFault {
    #[error(transparent)]
    Ask(#[from] AskFault),
    #[error(transparent)]
    Keep(#[from] StampsFault),
}

/// Nobody is asked where the configuration names no authority.
pub(super) fn spawn(
    config: &EdgeConfig,
    board: &Board,
    ledger: LinkLedger,
    others: &mut JoinSet<()>,
) {
    if let Some(stamping) = Stamping::new(config, board, ledger) {
        others.spawn(stamping.run());
    }
}

struct Stamping {
    config: TimestampConfig,
    state_dir: PathBuf,
    origin: String,
    board: Board,
    ledger: LinkLedger,
}

/// The newest stamp of earlier runs that holds, as far as that can be seen here.
#[derive(Debug)]
struct Held {
    size: u64,
    /// By the authority's clock.
    seconds: i64,
    /// By ours when it came.
    at: Option<WallTime>,
}

impl Held {
    /// How long ago it came, by whichever clock puts it last. One that was ahead of ours puts it after now, at each
    /// start anew, and says nothing. `None`: nobody knows.
    fn age(&self, now: &Now) -> Option<Duration> {
        let moments = [Some(WallTime::from_seconds(self.seconds)), self.at].into_iter().flatten();
        let newest = moments.filter(|moment| *moment <= now.wall).max()?;
        (now.quality != ClockQuality::Unset).then(|| now.wall.since(newest))
    }
}

/// A head that may be stamped.
struct Candidate {
    epoch: Epoch,
    size: u64,
    text: String,
}

impl Stamping {
    /// `None`: the configuration names no authority.
    fn new(config: &EdgeConfig, board: &Board, ledger: LinkLedger) -> Option<Self> {
        let timestamps = config.evidence.timestamps.clone()?;
        Some(Self {
            config: timestamps,
            state_dir: config.state_dir.clone(),
            origin: config.evidence.origin.clone(),
            board: board.clone(),
            ledger,
        })
    }

    async fn run(self) {
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut schedule: Option<Schedule> = None;
        loop {
            look.tick().await;
            let now = self.board.clock.read();
            let Some(epoch) = self.epoch() else { continue };
            let schedule = schedule.get_or_insert_with(|| self.resume(now, epoch));
            let signed = self.board.evidence.borrow().signed;
            if *self.board.permit.borrow() != Permit::Open
                || !schedule.is_due(now.monotonic, signed)
            {
                continue;
            }
            let Some(head) = self.candidate(schedule.stamped) else { continue };
            let bytes = Arc::new(AtomicU64::new(0));
            let stamped = self.stamp(now.wall, &head, &bytes).await;
            let (now, bytes) = (self.board.clock.read(), bytes.load(Ordering::Relaxed));
            let wall = (now.quality != ClockQuality::Unset).then_some(now.wall);
            self.ledger.handle_link(wall, bytes);
            match stamped {
                Ok(stamped) => {
                    schedule.handle_stamped(now.monotonic, head.size, bytes);
                    self.tell(&head, &stamped);
                }
                Err(fault) => {
                    schedule.handle_failed(now.monotonic, bytes);
                    let fault = describe(&fault);
                    self.board.evidence.send_modify(|one| one.stamp_fault = Some(fault.clone()));
                    self.board.alarm(format!(
                        "{} gives no time stamp over the log, and is asked again: {fault}",
                        self.config.url
                    ));
                }
            }
        }
    }

    fn epoch(&self) -> Option<Epoch> {
        Epoch::of_origin(&self.origin, &self.board.evidence.borrow().log)
    }

    /// From what is kept, so that a box that starts often does not ask often.
    fn resume(&self, now: Now, epoch: Epoch) -> Schedule {
        // What anybody may have made does not stand in for what holds; a certificate that cannot be read is told of when
        // the authority is asked.
        let authority = tokio::task::block_in_place(|| authority_of(&self.config));
        let counts = |token: &Token| match &authority {
            Ok(Some(authority)) => token.verify(&token.digest, authority).is_ok(),
            Ok(None) => true,
            Err(_) => false,
        };
        let newest = || -> Result<Option<(u64, Option<Held>)>, StampsFault> {
            let Some(stamps) = Stamps::reader(&self.state_dir, &self.origin)? else {
                return Ok(None);
            };
            let newest = stamps.newest(epoch, counts)?;
            let held = newest.map(|(place, seconds)| {
                let at = stamps.kept_at(&place);
                Held { size: place.size, seconds, at }
            });
            // No answer takes the place of another, whatever that one is worth.
            let any = stamps.newest(epoch, |_| true)?;
            Ok(any.map(|(place, _)| (place.size, held)))
        };
        let last = match tokio::task::block_in_place(newest) {
            Ok(last) => last,
            Err(fault) => {
                self.board.alarm(format!("time stamps cannot be read: {}", describe(&fault)));
                None
            }
        };
        let held = last.as_ref().and_then(|(_, held)| held.as_ref());
        let stamped = held.map(|held| (held.size, held.seconds));
        self.board.evidence.send_modify(|status| status.stamped = stamped);
        let last = last.map(|(size, held)| (size, held.and_then(|held| held.age(&now))));
        Schedule::new(self.config.interval, now.monotonic, last)
    }

    /// The newest head that the space cosigned, or else the newest one, if it says more than the last stamped one.
    fn candidate(&self, stamped: u64) -> Option<Candidate> {
        let cosigned = std::fs::read_to_string(self.state_dir.join(COSIGNED_FILE)).ok();
        let own = self.board.head.borrow().as_ref().map(|head| head.text.clone());
        let of_log = |note: String| {
            let head = Checkpoint::parse_unverified(&note).ok()?;
            let is_of_log = head.origin == self.board.evidence.borrow().log && head.size > stamped;
            let epoch = Epoch::of_origin(&self.origin, &head.origin)?;
            let text = Note::parse(&note).ok()?.text().to_owned();
            is_of_log.then_some(Candidate { epoch, size: head.size, text })
        };
        [cosigned, own].into_iter().flatten().find_map(of_log)
    }

    async fn stamp(
        &self,
        now: WallTime,
        head: &Candidate,
        bytes: &Arc<AtomicU64>,
    ) -> Result<Stamped, StampingFault> {
        // First of all, so that nobody is asked for what could not be kept.
        tokio::task::block_in_place(|| {
            Stamps::writer(&self.state_dir, &self.origin)?.check_room()
        })?;
        let client = tokio::task::block_in_place(|| AuthorityClient::new(&self.config, now))?;
        let stamped = client.ask(&Digest::of(head.text.as_bytes()), bytes).await?;
        tokio::task::block_in_place(|| {
            let stamps = Stamps::writer(&self.state_dir, &self.origin)?;
            let place = stamps.put_head(&head.text)?;
            stamps.put_answer(&place, &stamped.answer)
        })?;
        Ok(stamped)
    }

    fn tell(&self, head: &Candidate, stamped: &Stamped) {
        let (size, seconds) = (head.size, stamped.seconds);
        tracing::info!(
            size,
            seconds,
            epoch = head.epoch.number(),
            checked = stamped.is_checked,
            "stamped"
        );
        self.board.evidence.send_modify(|status| {
            (status.stamped, status.stamp_fault) = (Some((size, seconds)), None);
        });
        unchecked(&self.config.url, stamped).into_iter().for_each(|text| self.board.alarm(text));
    }
}

/// What an operator should know of a stamp that nobody can vouch for here.
fn unchecked(url: &AuthorityUrl, stamped: &Stamped) -> Option<String> {
    let is_known = stamped.is_checked || url.is_tls;
    (!is_known).then(|| {
        format!(
            "time stamps of {url} are kept unchecked, and whoever is on the way to it may have made them: set \
             evidence.timestamp_authority_file"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const DAILY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn a_stamp_is_due_when_its_time_has_come_and_the_log_has_grown() {
        let mut schedule = Schedule::new(DAILY, HOUR, None);
        assert!(!schedule.is_due(HOUR, 0), "there is nothing to stamp");
        assert!(schedule.is_due(HOUR, 1));
        schedule.handle_stamped(HOUR, 5, 3000);
        assert!(!schedule.is_due(HOUR * 2, 900));
        assert!(!schedule.is_due(HOUR + DAILY, 5), "it has not grown");
        assert!(!schedule.is_due(HOUR + DAILY - Duration::from_nanos(1), 6));
        assert!(schedule.is_due(HOUR + DAILY, 6));
    }

    /// Many starts are no reason for many stamps.
    #[test]
    fn a_start_goes_on_from_what_is_kept() {
        let kept = |age: Option<Duration>| Schedule::new(DAILY, HOUR, Some((7, age)));
        let mut recent = kept(Some(HOUR * 20));
        assert!(!recent.is_due(HOUR * 4, 8) && recent.is_due(HOUR * 5, 8));
        let mut old = kept(Some(HOUR * 30));
        assert!(old.is_due(HOUR, 8) && !old.is_due(HOUR, 7));
        // A clock that is not set knows nothing of ages.
        assert!(kept(None).is_due(HOUR, 8));
    }

    #[test]
    fn stamps_that_anybody_may_have_made_are_told() {
        for (url, is_checked, expect) in [
            ("http://tsa.example.org/", false, true),
            ("http://tsa.example.org/", true, false),
            ("https://tsa.example.org/", false, false),
        ] {
            let stamped = Stamped { answer: Vec::new(), seconds: 0, is_checked };
            let told = unchecked(&AuthorityUrl::parse(url).unwrap(), &stamped);
            assert_eq!(told.is_some(), expect, "{url}, {is_checked}: {told:?}");
        }
    }

    /// A clock that is ahead, ours when the stamp came or the authority's, puts off no stamp for longer than another.
    #[test]
    fn a_stamp_from_the_future_does_not_put_off_the_next() {
        let now =
            |quality| Now { wall: WallTime::from_seconds(1_800_000_000), monotonic: HOUR, quality };
        let check = |by_authority: i64, by_us: Option<i64>, expect: Option<u64>| {
            let at = by_us.map(|hours| WallTime::from_seconds(1_800_000_000 + hours * 3600));
            let kept = Held { size: 7, seconds: 1_800_000_000 + by_authority * 3600, at };
            let age = kept.age(&now(ClockQuality::Ntp));
            assert_eq!(age, expect.map(|hours| HOUR * u32::try_from(hours).unwrap()));
            assert_eq!(kept.age(&now(ClockQuality::Unset)), None);
            let mut schedule = Schedule::new(DAILY, HOUR, Some((7, age)));
            let wait = DAILY.saturating_sub(age.unwrap_or(DAILY));
            assert!(schedule.is_due(HOUR + wait, 8), "{by_authority}, {by_us:?}");
        };
        check(-20, Some(-20), Some(20));
        check(-20, None, Some(20));
        check(0, None, Some(0));
        // An authority that is years ahead, or years behind: ours counts.
        check(90_000, Some(-20), Some(20));
        check(-90_000, Some(-20), Some(20));
        // Ours was ahead: the authority's counts.
        check(-20, Some(90_000), Some(20));
        check(90_000, Some(90_000), None);
        check(1, None, None);
    }

    #[test]
    fn failures_are_followed_by_ever_longer_waits() {
        let mut schedule = Schedule::new(DAILY, Duration::ZERO, None);
        let (mut now, mut waits) = (Duration::ZERO, Vec::new());
        for _ in 0..12 {
            schedule.handle_failed(now, 0);
            waits.push((schedule.due - now).as_secs());
            now = schedule.due;
            assert!(schedule.is_due(now, 1) && !schedule.is_due(now - LOOK_INTERVAL, 1));
        }
        assert_eq!(waits[..5], [60, 120, 240, 480, 960]);
        assert_eq!(waits[9..], [21_600; 3], "six hours are the longest");
        schedule.handle_stamped(now, 1, 0);
        schedule.handle_failed(now, 0);
        assert_eq!(schedule.due, now + RETRY);
        // No longer than from one stamp to the next.
        let mut hourly = Schedule::new(HOUR, Duration::ZERO, None);
        (0..40).for_each(|_| hourly.handle_failed(now, 0));
        assert_eq!(hourly.due, now + HOUR);
    }

    #[test]
    fn tries_end_with_the_bytes_of_the_day() {
        let mut schedule = Schedule::new(HOUR, Duration::ZERO, None);
        let begun = |schedule: &mut Schedule, from: Duration, bytes| {
            let (mut now, mut tries) = (from, 0);
            while now < from + DAY {
                if schedule.is_due(now, 1) {
                    schedule.handle_failed(now, bytes);
                    tries += 1;
                }
                now += RETRY;
            }
            tries
        };
        assert_eq!(begun(&mut schedule, Duration::ZERO, ASK_BYTES_MAX), 4);
        assert_eq!(begun(&mut schedule, DAY, ASK_BYTES_MAX - 1), 4, "the next day has bytes anew");
        assert!(begun(&mut schedule, DAY * 2, 1500) >= 24, "small failures do not use them up");
    }
}
