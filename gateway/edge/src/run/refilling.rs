//! Asks the space's mirror for leaves that this disk has lost. Protocol only: moments are handed in, nothing is read
//! or written.
//!
//! Whatever comes is a claim: this sees to its place, number and length, and whoever writes it compares its root with
//! what is known here. A bad answer, or none, costs an attempt; a range has [`ATTEMPTS_MAX`] of them until the next
//! start or the next scrub that finds it.

use bytes::Bytes;
use guan_evidence::LEAF_BYTES_MAX;
use guan_evidence::bundle::{self, BundleFault};
use guan_link::{Letter, Topic};
use guan_log::ENDED_LEAVES_MAX;
use std::collections::BTreeMap;
use std::time::Duration;

/// An answer that has not come by then will not come.
pub(super) const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// Between two letters: the space answers so many a minute.
pub(super) const ASK_PAUSE: Duration = Duration::from_secs(2);
/// After the first attempt that came to nothing; doubled after each further one.
const RETRY_FIRST: Duration = Duration::from_secs(60);
pub(super) const ATTEMPTS_MAX: u32 = 8;
/// Most ranges that are wanted at a time.
pub(super) const RANGES_MAX: usize = 1024;

/// Leaves of one log from an index on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Range {
    pub(super) origin: String,
    pub(super) from: u64,
    /// One past the last.
    pub(super) end: u64,
}

/// Why an answer does not count. The space is to blame.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AnswerFault {
    #[error("the mirror has not answered within {} s", ANSWER_WAIT.as_secs())]
    Silent,
    #[error("the mirror does not have entry {first}")]
    Nothing { first: u64 },
    #[error("the mirror's answer has no index")]
    Short,
    #[error("the mirror answers from entry {found} on, and {wanted} was asked for")]
    Place { found: u64, wanted: u64 },
    #[error("the mirror's answer is no bundle of entries")]
    Bundle(#[from] BundleFault),
    #[error("the mirror sends {found} entries, and {wanted} were asked for")]
    TooMany { found: u64, wanted: u64 },
    #[error(
        "entry {index} has {length} bytes in the mirror's answer; the limit is {LEAF_BYTES_MAX}"
    )]
    Leaf { index: u64, length: usize },
}

/// What an answer brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// It answers nothing that is asked now.
    Stray,
    /// There is more to ask for.
    Part,
    /// All leaves of the range; whoever takes them says what became of them.
    Whole(Range, Vec<Bytes>),
    Bad(Range, AnswerFault),
}

#[derive(Debug, Default)]
struct Want {
    failures: u32,
    due: Duration,
}

struct Asked {
    range: Range,
    /// Of the letter that is on its way, and until when it is waited for.
    letter: Option<(u32, Duration)>,
    leaves: Vec<Bytes>,
}

impl Asked {
    fn next(&self) -> u64 {
        self.range.from + self.leaves.len() as u64
    }
}

/// Times are those since boot.
#[derive(Default)]
pub(super) struct Refilling {
    wants: BTreeMap<Range, Want>,
    asked: Option<Asked>,
    next_letter: Duration,
}

impl Refilling {
    /// `false`: as many are wanted already, or it is more than comes back this way.
    pub(super) fn want(&mut self, range: Range) -> bool {
        let is_known = self.wants.contains_key(&range);
        let length = range.end.saturating_sub(range.from);
        if !(1..=ENDED_LEAVES_MAX).contains(&length) {
            return false;
        }
        if !is_known && self.wants.len() >= RANGES_MAX {
            return false;
        }
        // Found once more: it has all its attempts again.
        self.wants.insert(range, Want::default());
        true
    }

    pub(super) fn forget(&mut self, range: &Range) {
        self.wants.remove(range);
        self.asked.take_if(|asked| asked.range == *range);
    }

    /// What was on its way in an earlier session is lost, and no attempt.
    pub(super) fn handle_session(&mut self) {
        self.asked = None;
    }

    pub(super) fn handle_unsent(&mut self) {
        self.asked.iter_mut().for_each(|asked| asked.letter = None);
    }

    /// The next letter; call it while there is a session.
    pub(super) fn poll_letter(&mut self, now: Duration, ticket: u32) -> Option<Letter> {
        if now < self.next_letter {
            return None;
        }
        if self.asked.is_none() {
            let due =
                self.wants.iter().find(|(_, want)| want.failures < ATTEMPTS_MAX && want.due <= now);
            let range = due?.0.clone();
            self.asked = Some(Asked { range, letter: None, leaves: Vec::new() });
        }
        let asked = self.asked.as_mut().filter(|asked| asked.letter.is_none())?;
        asked.letter = Some((ticket, now + ANSWER_WAIT));
        self.next_letter = now + ASK_PAUSE;
        let first = asked.next();
        let count = u32::try_from(asked.range.end - first).unwrap_or(u32::MAX);
        let head = format!("{}\n", asked.range.origin);
        let body = [head.as_bytes(), &first.to_be_bytes(), &count.to_be_bytes()].concat();
        Some(Letter { topic: Topic::MirrorAsk, ticket, body: Bytes::from(body) })
    }

    /// A range whose answer has not come in time.
    pub(super) fn poll_silent(&mut self, now: Duration) -> Option<(Range, AnswerFault)> {
        let is_over = |asked: &mut Asked| asked.letter.is_some_and(|(_, until)| now >= until);
        let asked = self.asked.take_if(is_over)?;
        Some((asked.range, AnswerFault::Silent))
    }

    pub(super) fn handle_answer(&mut self, letter: &Letter) -> Answered {
        let is_it =
            |asked: &mut Asked| asked.letter.is_some_and(|(ticket, _)| ticket == letter.ticket);
        let Some(mut asked) = self.asked.take_if(is_it) else { return Answered::Stray };
        match read(&asked, &letter.body) {
            Err(fault) => Answered::Bad(asked.range, fault),
            Ok(leaves) => {
                asked.leaves.extend(leaves);
                asked.letter = None;
                if asked.next() == asked.range.end {
                    return Answered::Whole(asked.range, asked.leaves);
                }
                self.asked = Some(asked);
                Answered::Part
            }
        }
    }

    /// An attempt came to nothing; whether there will be another one.
    pub(super) fn handle_failure(&mut self, now: Duration, range: &Range) -> bool {
        let Some(want) = self.wants.get_mut(range) else { return false };
        want.due = now + RETRY_FIRST * 2_u32.saturating_pow(want.failures);
        want.failures += 1;
        want.failures < ATTEMPTS_MAX
    }
}

fn read(asked: &Asked, body: &[u8]) -> Result<Vec<Bytes>, AnswerFault> {
    let (found, leaves) = body.split_first_chunk::<8>().ok_or(AnswerFault::Short)?;
    let (found, first) = (u64::from_be_bytes(*found), asked.next());
    if found != first {
        return Err(AnswerFault::Place { found, wanted: first });
    }
    let leaves = bundle::decode(leaves)?;
    let (found, wanted) = (leaves.len() as u64, asked.range.end - first);
    if found > wanted {
        return Err(AnswerFault::TooMany { found, wanted });
    }
    let too_long = (first..).zip(&leaves).find(|(_, leaf)| leaf.len() > LEAF_BYTES_MAX);
    if let Some((index, leaf)) = too_long {
        return Err(AnswerFault::Leaf { index, length: leaf.len() });
    }
    match leaves.is_empty() {
        true => Err(AnswerFault::Nothing { first }),
        false => Ok(leaves.into_iter().map(Bytes::copy_from_slice).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: u64, end: u64) -> Range {
        Range { origin: "guan/box-1".to_owned(), from, end }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn answer(ask: &Letter, first: u64, leaves: &[Vec<u8>]) -> Letter {
        let body = [&first.to_be_bytes()[..], &bundle::encode(leaves).unwrap()].concat();
        Letter { topic: Topic::MirrorLeaves, ticket: ask.ticket, body: body.into() }
    }

    #[test]
    fn a_range_comes_in_parts() {
        let mut refilling = Refilling::default();
        assert!(refilling.want(range(256, 512)));
        let first = refilling.poll_letter(seconds(5), 1).unwrap();
        assert_eq!(
            first.body,
            [&b"guan/box-1\n"[..], &256_u64.to_be_bytes(), &256_u32.to_be_bytes()].concat()
        );
        assert_eq!(refilling.poll_letter(seconds(20), 2), None, "one at a time");
        let leaves: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte; 3]).collect();
        let part = answer(&first, 256, &leaves[..200]);
        assert_eq!(refilling.handle_answer(&Letter { ticket: 9, ..part.clone() }), Answered::Stray);
        assert_eq!(refilling.handle_answer(&part), Answered::Part);
        assert_eq!(refilling.handle_answer(&part), Answered::Stray, "once");
        assert_eq!(refilling.poll_letter(seconds(6), 3), None, "not so soon");
        let second = refilling.poll_letter(seconds(7), 3).unwrap();
        assert!(
            second.body.ends_with(&[&456_u64.to_be_bytes()[..], &56_u32.to_be_bytes()].concat())
        );
        let whole = refilling.handle_answer(&answer(&second, 456, &leaves[200..]));
        let expect = leaves.into_iter().map(Bytes::from).collect();
        assert_eq!(whole, Answered::Whole(range(256, 512), expect));
        refilling.forget(&range(256, 512));
        assert_eq!(refilling.poll_letter(seconds(100), 4), None);
    }

    #[test]
    fn bad_answers_are_told_and_cost_an_attempt() {
        let leaf = |length: usize| vec![0; length];
        let cases: [(u64, Vec<Vec<u8>>, AnswerFault); 4] = [
            (0, vec![], AnswerFault::Nothing { first: 0 }),
            (1, vec![leaf(1)], AnswerFault::Place { found: 1, wanted: 0 }),
            (0, vec![leaf(1); 4], AnswerFault::TooMany { found: 4, wanted: 3 }),
            (
                0,
                vec![leaf(LEAF_BYTES_MAX), leaf(LEAF_BYTES_MAX + 1)],
                AnswerFault::Leaf { index: 1, length: LEAF_BYTES_MAX + 1 },
            ),
        ];
        for (first, leaves, expect) in cases {
            let mut refilling = Refilling::default();
            refilling.want(range(0, 3));
            let ask = refilling.poll_letter(seconds(0), 1).unwrap();
            let answered = refilling.handle_answer(&answer(&ask, first, &leaves));
            assert_eq!(answered, Answered::Bad(range(0, 3), expect));
        }
        let mut refilling = Refilling::default();
        refilling.want(range(0, 3));
        for (body, is_short) in [(&b"short"[..], true), (&[0, 0, 0, 0, 0, 0, 0, 0, 9], false)] {
            let ask = refilling.poll_letter(seconds(0), 1).unwrap();
            let letter = Letter { body: Bytes::copy_from_slice(body), ..ask };
            let Answered::Bad(_, fault) = refilling.handle_answer(&letter) else { panic!() };
            assert_eq!(fault == AnswerFault::Short, is_short, "{fault}");
            refilling.next_letter = Duration::ZERO;
        }
    }

    #[test]
    fn attempts_and_ranges_are_bounded() {
        let mut refilling = Refilling::default();
        refilling.want(range(0, 3));
        let (mut now, mut attempts) = (Duration::ZERO, 0);
        while refilling.poll_letter(now, attempts).is_some() {
            attempts += 1;
            assert_eq!(refilling.poll_silent(now + ANSWER_WAIT - seconds(1)), None);
            let silent = refilling.poll_silent(now + ANSWER_WAIT);
            assert_eq!(silent, Some((range(0, 3), AnswerFault::Silent)));
            let goes_on = refilling.handle_failure(now + ANSWER_WAIT, &range(0, 3));
            assert_eq!(goes_on, attempts < ATTEMPTS_MAX);
            let wait = RETRY_FIRST * 2_u32.pow(attempts - 1);
            assert_eq!(refilling.poll_letter(now + ANSWER_WAIT + wait - seconds(1), 99), None);
            now += ANSWER_WAIT + wait;
        }
        assert_eq!(attempts, ATTEMPTS_MAX);
        // A scrub that finds it again begins anew; a session that ends is no attempt.
        assert!(refilling.want(range(0, 3)));
        assert!(refilling.poll_letter(now, 1).is_some());
        refilling.handle_session();
        assert!(refilling.poll_letter(now + ASK_PAUSE, 2).is_some());
        let limit = RANGES_MAX as u64;
        (1..limit)
            .for_each(|number| assert!(refilling.want(range(number * 256, number * 256 + 256))));
        assert_eq!(refilling.wants.len(), RANGES_MAX);
        assert!(!refilling.want(range(limit * 256, limit * 256 + 256)));
        assert!(refilling.want(range(256, 512)), "one of them");
        refilling.forget(&range(256, 512));
        assert!(refilling.want(range(0, ENDED_LEAVES_MAX)));
        refilling.forget(&range(0, ENDED_LEAVES_MAX));
        assert!(!refilling.want(range(0, ENDED_LEAVES_MAX + 1)) && !refilling.want(range(5, 5)));
    }
}
