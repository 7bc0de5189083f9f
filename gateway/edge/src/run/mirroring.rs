//! Sends leaves to the space's mirror, in order, as far as the witness has cosigned them.

use bytes::Bytes;
use guan_evidence::LEAF_BYTES_MAX;
use guan_evidence::bundle::{self, BUNDLE_LEAVES_MAX};
use guan_link::{LETTER_BYTES_MAX, Letter, Topic};
use guan_log::{Bundles, Epoch, JournalPlace, LogFileFault};
use guan_spool::{OsDisk, SpoolError, SpoolReader};
use std::time::{Duration, Instant};

/// An answer that has not come by then is asked for again.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
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

/// What the mirror has, as far as is known.
pub(super) struct Mirroring {
    disk: OsDisk,
    journal: SpoolReader<OsDisk>,
    epoch: Epoch,
    origin: String,
    /// `None`: the mirror has not said yet.
    next: Option<u64>,
    told: u64,
    asked: Option<(u32, Instant)>,
}

impl Mirroring {
    pub(super) fn new(
        disk: OsDisk,
        journal: SpoolReader<OsDisk>,
        epoch: Epoch,
        origin: String,
    ) -> Self {
        Self { disk, journal, epoch, origin, next: None, told: 0, asked: None }
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
        if self.asked.is_some_and(|(_, at)| at.elapsed() < ANSWER_WAIT) {
            return Ok(None);
        }
        let (first, leaves) = match self.next {
            Some(next) if next >= size => return Ok(None),
            Some(next) => (next, self.leaves(next, size)?),
            None => (0, Vec::new()),
        };
        let leaves = bundle::encode(&leaves).expect("a bundle's leaves at the most");
        let head = format!("{}\n", self.origin);
        let body = [head.as_bytes(), &first.to_be_bytes(), &leaves].concat();
        self.asked = Some((ticket, Instant::now()));
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

    /// What the mirror wants next; the number of leaves that it has, when that is news.
    pub(super) fn handle_answer(&mut self, letter: &Letter) -> Result<Option<u64>, String> {
        if self.asked.is_none_or(|(ticket, _)| ticket != letter.ticket) {
            return Ok(None);
        }
        self.asked = None;
        let (next, _) = letter.body.split_first_chunk::<8>().ok_or("its answer has no size")?;
        let next = u64::from_be_bytes(*next);
        self.next = Some(next);
        if next <= self.told {
            return Ok(None);
        }
        self.told = next;
        Ok(Some(next))
    }
}
