//! Sends leaves to the space's mirror, in order, as far as the witness has cosigned them.
//!
//! Leaves may leave this disk only behind a head that the mirror signed: what it says without is where to go
//! on, and no more.

use bytes::Bytes;
use guan_evidence::bundle::{self, BUNDLE_LEAVES_MAX};
use guan_evidence::{Checkpoint, CosignatureKey, LEAF_BYTES_MAX, Note, append_lines};
use guan_link::{LETTER_BYTES_MAX, Letter, Topic};
use guan_log::{Bundles, Epoch, JournalPlace, LogFileFault};
use guan_spool::{OsDisk, SpoolError, SpoolReader};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// An answer that has not come by then is asked for again.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// Most heads that are remembered: the mirror signs the newest as soon as it has caught up.
const HEADS_MAX: usize = 16;
/// Leaves of a letter end with the bundle that they are of.
const LETTER_ROOM: usize = 1024;
const _: () = assert!(BUNDLE_LEAVES_MAX * (LEAF_BYTES_MAX + 2) > LETTER_BYTES_MAX);

/// Why leaves cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum MirrorFault {
    #[error(transparent)]
    File(#[from] LogFileFault),
    #[error(transparent)]
    Journal(#[from] SpoolError),
}

/// Why an answer of the mirror does not count. The space is to blame.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AnswerFault {
    #[error("its answer has no size")]
    Short,
    #[error("its answer has a line that is no text")]
    Line,
    #[error("it claims {next} entries, and this box has sent {sent}; ask the space's operator")]
    Beyond { next: u64, sent: u64 },
}

/// What the mirror has, as far as is known.
pub(super) struct Mirroring {
    disk: OsDisk,
    journal: SpoolReader<OsDisk>,
    epoch: Epoch,
    origin: String,
    /// `None`: the mirror has not said yet.
    next: Option<u64>,
    told: u64,
    asked: Option<Asked>,
    /// The last heads that the witness cosigned; the mirror signs one of them when it has it whole.
    heads: VecDeque<String>,
}

#[derive(Clone, Copy)]
struct Asked {
    ticket: u32,
    at: Instant,
    /// The mirror has at most so many leaves when it answers.
    end: u64,
}

impl Mirroring {
    pub(super) fn new(
        disk: OsDisk,
        journal: SpoolReader<OsDisk>,
        epoch: Epoch,
        origin: String,
    ) -> Self {
        let (next, told, asked, heads) = (None, 0, None, VecDeque::new());
        Self { disk, journal, epoch, origin, next, told, asked, heads }
    }

    /// The witness has cosigned a head.
    pub(super) fn handle_cosigned(&mut self, note: &str) {
        if self.heads.len() == HEADS_MAX {
            self.heads.pop_front();
        }
        self.heads.push_back(note.to_owned());
    }

    pub(super) fn handle_session(&mut self) {
        (self.next, self.asked) = (None, None);
    }

    pub(super) fn handle_unsent(&mut self) {
        self.asked = None;
    }

    /// The next leaves below `size`; without leaves, the question what the mirror has.
    pub(super) fn next_letter(
        &mut self,
        size: u64,
        ticket: u32,
    ) -> Result<Option<Letter>, MirrorFault> {
        if self.asked.is_some_and(|asked| asked.at.elapsed() < ANSWER_WAIT) {
            return Ok(None);
        }
        let (first, leaves) = match self.next {
            Some(next) if next >= size => return Ok(None),
            Some(next) => (next, self.leaves(next, size)?),
            None => (0, Vec::new()),
        };
        // Without leaves nobody knows yet what it has from earlier.
        let end = if leaves.is_empty() { size } else { first + leaves.len() as u64 };
        let leaves = bundle::encode(&leaves).expect("a bundle's leaves at the most");
        let head = format!("{}\n", self.origin);
        let body = [head.as_bytes(), &first.to_be_bytes(), &leaves].concat();
        self.asked = Some(Asked { ticket, at: Instant::now(), end });
        Ok(Some(Letter { topic: Topic::Mirror, ticket, body: Bytes::from(body) }))
    }

    /// Leaves from `first` to the end of their bundle, below `size`, as many as fit a letter.
    fn leaves(&mut self, first: u64, size: u64) -> Result<Vec<Bytes>, MirrorFault> {
        let width = BUNDLE_LEAVES_MAX as u64;
        let bundles = Bundles::of(self.disk.clone(), self.epoch);
        let number = first / width;
        let from_bundle = match number < bundles.count()? {
            true => bundles.bundle(number)?,
            false => self.tail(number * width)?,
        };
        let skip = usize::try_from(first % width).expect("below 256");
        let take = usize::try_from(size - first).unwrap_or(usize::MAX);
        let mut room = LETTER_BYTES_MAX - LETTER_ROOM;
        let fits = |leaf: &Bytes| {
            let needed = leaf.len() + 2;
            let fits = needed <= room;
            room = room.saturating_sub(needed);
            fits
        };
        Ok(from_bundle.into_iter().skip(skip).take(take).take_while(fits).collect())
    }

    /// What the journal has from a bundle on that is not sealed yet.
    fn tail(&mut self, first: u64) -> Result<Vec<Bytes>, MirrorFault> {
        let place = JournalPlace::new(self.epoch, first);
        let mut leaves = Vec::new();
        for (number, leaf) in self.journal.leaves_from(place.number())? {
            let place = JournalPlace::from_number(number);
            let expected = first + leaves.len() as u64;
            let is_next = place.is_of(self.epoch) && place.index() == expected;
            if is_next && leaves.len() < BUNDLE_LEAVES_MAX {
                leaves.push(leaf);
            }
        }
        Ok(leaves)
    }

    /// What the mirror wants next; the number of leaves that it has signed for, when that is news.
    pub(super) fn handle_answer(
        &mut self,
        letter: &Letter,
        mirror: &CosignatureKey,
    ) -> Result<Option<u64>, AnswerFault> {
        let Some(asked) = self.asked.take_if(|asked| asked.ticket == letter.ticket) else {
            return Ok(None);
        };
        let (next, line) = letter.body.split_first_chunk::<8>().ok_or(AnswerFault::Short)?;
        let next = u64::from_be_bytes(*next);
        if next > asked.end {
            return Err(AnswerFault::Beyond { next, sent: asked.end });
        }
        self.next = Some(next);
        let line = std::str::from_utf8(line).map_err(|_| AnswerFault::Line)?;
        if line.is_empty() {
            return Ok(None);
        }
        let signed = self.heads.iter().rev().find_map(|head| signed_size(head, line, mirror));
        // A line over a head that is forgotten here says nothing; the next head brings another.
        let Some(signed) = signed.filter(|signed| *signed <= next) else { return Ok(None) };
        if signed <= self.told {
            return Ok(None);
        }
        self.told = signed;
        Ok(Some(signed))
    }
}

/// The size of a head, if the mirror signed it with this line.
fn signed_size(head: &str, line: &str, mirror: &CosignatureKey) -> Option<u64> {
    let note = append_lines(head, line).ok()?;
    Note::parse(&note).ok()?.verify(mirror).ok()?;
    Some(Checkpoint::parse_unverified(head).ok()?.size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use guan_evidence::cosign;
    use guan_identity::LogKeyFile;
    use guan_model::{Digest, SpoolId, StreamId, WallTime};
    use guan_spool::{Spool, SpoolConfig, StreamConfig, WhenFull};

    fn mirroring(folder: &std::path::Path) -> Mirroring {
        let disk = |name: &str| OsDisk::open_exclusive(&folder.join(name)).unwrap();
        ["log", "spool"].iter().for_each(|name| std::fs::create_dir(folder.join(name)).unwrap());
        let stream = StreamConfig {
            id: StreamId(1),
            name: "data".to_owned(),
            bytes_max: 1 << 20,
            age_max: None,
            when_full: WhenFull::Refuse,
        };
        let streams = vec![stream];
        let config = SpoolConfig { segment_bytes_max: 4096, total_bytes_max: 1 << 20, streams };
        let (spool, _) = Spool::open(disk("spool"), config, SpoolId([1; 16])).unwrap();
        let epoch = Bundles::newest(disk("log")).unwrap().epoch();
        Mirroring::new(disk("log2"), spool.reader(), epoch, "guan/box-1".to_owned())
    }

    /// Whatever the mirror says, only what it signs may leave this disk.
    #[test]
    fn only_signed_heads_let_leaves_go() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("log2")).unwrap();
        let mut mirroring = mirroring(folder.path());
        let key = |name: &str| LogKeyFile::generate(name).unwrap().0;
        let (log, mirror, other) = (key("guan/box-1"), key("m"), key("m"));
        let public = CosignatureKey::of(&mirror).unwrap();
        let head = |size| Checkpoint::sign("guan/box-1", size, &Digest([7; 32]), &log).unwrap();
        let line = |size, by: &LogKeyFile| {
            let note = head(size);
            let text = Note::parse(&note).unwrap();
            cosign(text.text(), WallTime::from_seconds(1_800_000_000), by).unwrap()
        };
        mirroring.handle_cosigned(&head(10));
        let mut check = |next: u64, line: &str, expect: Result<Option<u64>, AnswerFault>| {
            mirroring.handle_session();
            let sent = mirroring.next_letter(20, 5).unwrap().unwrap();
            let body = [&next.to_be_bytes()[..], line.as_bytes()].concat();
            let letter = Letter { body: body.into(), ..sent };
            assert_eq!(mirroring.handle_answer(&letter, &public), expect);
        };
        check(10, "", Ok(None));
        check(10, &line(10, &other), Ok(None));
        check(10, &line(11, &mirror), Ok(None));
        check(9, &line(10, &mirror), Ok(None));
        check(21, &line(10, &mirror), Err(AnswerFault::Beyond { next: 21, sent: 20 }));
        check(10, &line(10, &mirror), Ok(Some(10)));
        check(10, &line(10, &mirror), Ok(None));
        // The oldest head is forgotten after as many more.
        (0..HEADS_MAX as u64).for_each(|more| mirroring.handle_cosigned(&head(20 + more)));
        assert_eq!(mirroring.heads.len(), HEADS_MAX);
    }
}
