//! The mirror of all boxes' logs: `mirror/<box>/<log>`. It takes leaves only under heads that the space's
//! witness cosigned, and says by its own cosignature which head it has whole.

use super::folders::{Folders, MIRROR_DIR, folder_of};
use super::mirror::{Mirror, MirrorFault, Taken, Target};
use super::rate::Rate;
use bytes::Bytes;
use guan_evidence::{CosignatureKey, LEAF_BYTES_MAX, Note, NoteKey, bundle};
use guan_link::LETTER_BYTES_MAX;
use guan_model::{BoxId, Now, Signer};
use guan_spool::Disk;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most letters of one box in a minute: 46 MB of leaves.
pub const MIRROR_PER_MINUTE_MAX: u32 = 120;
/// Most letters in which one box asks for its leaves back in a minute: 11 MB of them.
pub const MIRROR_ASKS_PER_MINUTE_MAX: u32 = 30;
/// Bytes of leaves in an answer; the index of the first has its place beside them.
const ANSWER_BYTES_MAX: usize = LETTER_BYTES_MAX - 8;
/// Most copies that are open at a time; the one that was used longest ago is closed.
pub const OPEN_MAX: usize = 64;
/// Space that is left on the disk for the store.
pub const FREE_BYTES_MIN: u64 = 256 << 20;
/// Longest name of a log in a letter.
const ORIGIN_BYTES_MAX: usize = guan_evidence::checkpoint::ORIGIN_BYTES_MAX;

/// Leaves of a log, as a letter brings them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorLetter {
    pub origin: String,
    pub first: u64,
    pub leaves: Vec<Bytes>,
}

/// Why a letter cannot be read; the box is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MirrorLetterFault {
    #[error("a letter of leaves has no name of a log of at most {ORIGIN_BYTES_MAX} bytes")]
    Origin,
    #[error("a letter of leaves ends before the index of the first")]
    First,
    #[error("a letter of leaves is no bundle")]
    Bundle(#[from] bundle::BundleFault),
    #[error("leaf {index} has {length} bytes; the limit is {LEAF_BYTES_MAX}")]
    Leaf { index: u64, length: usize },
    #[error("leaf {first} is beyond any log")]
    Beyond { first: u64 },
    #[error("a letter that asks for leaves does not end with how many")]
    Count,
}

impl MirrorLetter {
    pub fn parse(body: &[u8]) -> Result<Self, MirrorLetterFault> {
        let (origin, rest) = split_origin(body)?;
        let first = rest.split_first_chunk::<8>().ok_or(MirrorLetterFault::First)?;
        let (first, leaves) = (u64::from_be_bytes(*first.0), bundle::decode(first.1)?);
        if first > u64::from(u32::MAX) {
            return Err(MirrorLetterFault::Beyond { first });
        }
        let too_long = (first..).zip(&leaves).find(|(_, leaf)| leaf.len() > LEAF_BYTES_MAX);
        if let Some((index, leaf)) = too_long {
            return Err(MirrorLetterFault::Leaf { index, length: leaf.len() });
        }
        let leaves = leaves.into_iter().map(Bytes::copy_from_slice).collect();
        Ok(Self { origin: origin.to_owned(), first, leaves })
    }
}

/// Leaves that a box has lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskLetter {
    pub origin: String,
    pub first: u64,
    pub count: u32,
}

impl AskLetter {
    pub fn parse(body: &[u8]) -> Result<Self, MirrorLetterFault> {
        let (origin, rest) = split_origin(body)?;
        let (first, count) = rest.split_first_chunk::<8>().ok_or(MirrorLetterFault::First)?;
        let first = u64::from_be_bytes(*first);
        if first > u64::from(u32::MAX) {
            return Err(MirrorLetterFault::Beyond { first });
        }
        let count: [u8; 4] = count.try_into().map_err(|_| MirrorLetterFault::Count)?;
        let count = u32::from_be_bytes(count);
        Ok(Self { origin: origin.to_owned(), first, count })
    }
}

/// The name of a log on the first line, and what follows it.
fn split_origin(body: &[u8]) -> Result<(&str, &[u8]), MirrorLetterFault> {
    let end = body.iter().take(ORIGIN_BYTES_MAX + 1).position(|byte| *byte == b'\n');
    let (origin, rest) = body.split_at(end.ok_or(MirrorLetterFault::Origin)?);
    let origin = std::str::from_utf8(origin).map_err(|_| MirrorLetterFault::Origin)?;
    Ok((origin, &rest[1..]))
}

/// What to answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Mirrored {
    pub next: u64,
    /// The mirror's line over the last head that is whole, or nothing.
    pub line: String,
    pub alarm: Option<String>,
}

impl Mirrored {
    pub fn encode(&self) -> Vec<u8> {
        [&self.next.to_be_bytes()[..], self.line.as_bytes()].concat()
    }
}

struct Open<D: Disk> {
    mirror: Mirror<D>,
    /// The head under which leaves are taken now. It stays until it is whole, however many follow.
    target: Option<Target>,
    used: u64,
}

/// All copies.
pub struct Mirrors<F: Folders> {
    folders: F,
    signer: Arc<dyn Signer>,
    open: BTreeMap<(BoxId, String), Open<F::Disk>>,
    rate: Rate,
    asks: Rate,
    uses: u64,
}

impl<F: Folders> Mirrors<F> {
    pub fn new(folders: F, signer: Arc<dyn Signer>) -> Self {
        let rate = Rate::new(MIRROR_PER_MINUTE_MAX);
        let asks = Rate::new(MIRROR_ASKS_PER_MINUTE_MAX);
        Self { folders, signer, open: BTreeMap::new(), rate, asks, uses: 0 }
    }

    /// Takes a letter; `head` is the last head of this log that was cosigned. No answer, if the box
    /// writes too often or the disk fails: it comes again.
    pub fn handle(
        &mut self,
        now: &Now,
        box_id: &BoxId,
        letter: &MirrorLetter,
        head: Option<&str>,
    ) -> Result<Option<Mirrored>, MirrorFault> {
        if !self.rate.take(box_id, now.monotonic) {
            return Ok(None);
        }
        // Nothing of a log is kept before its first head was cosigned.
        let Some(head) = head else {
            let nothing = Mirrored { next: 0, line: String::new(), alarm: None };
            return Ok(Some(nothing));
        };
        let key = (box_id.clone(), letter.origin.clone());
        let taken = self.take(now, &key, letter, head);
        if taken.is_err() {
            // What is in memory may be ahead of the disk.
            self.open.remove(&key);
        }
        taken.map(Some)
    }

    /// What the mirror has of leaves that a box has lost, from the first on; `head` as for [`handle`](Self::handle).
    /// `None`: it asks too often.
    pub fn give(
        &mut self,
        now: &Now,
        box_id: &BoxId,
        ask: &AskLetter,
        head: Option<&str>,
    ) -> Result<Option<Vec<u8>>, MirrorFault> {
        if !self.asks.take(box_id, now.monotonic) {
            return Ok(None);
        }
        let mut answer = ask.first.to_be_bytes().to_vec();
        if head.is_some() {
            let key = (box_id.clone(), ask.origin.clone());
            let folders = self.folders.clone();
            let disk = || folders.open(&[MIRROR_DIR, key.0.as_str(), &folder_of(&key.1)]);
            let leaves = self.opened(&key, disk)?.mirror.leaves(ask.first)?;
            let mut room = ANSWER_BYTES_MAX;
            let fits = |leaf: &&Bytes| {
                let needed = leaf.len() + 2;
                let fits = needed <= room;
                room = room.saturating_sub(needed);
                fits
            };
            let count = usize::try_from(ask.count).unwrap_or(usize::MAX);
            let fitting: Vec<&Bytes> = leaves.iter().take(count).take_while(fits).collect();
            answer.extend(bundle::encode(&fitting).expect("they were in a bundle"));
        }
        Ok(Some(answer))
    }

    fn take(
        &mut self,
        now: &Now,
        key: &(BoxId, String),
        letter: &MirrorLetter,
        head: &str,
    ) -> Result<Mirrored, MirrorFault> {
        let (folders, signer) = (self.folders.clone(), self.signer.clone());
        let disk = || folders.open(&[MIRROR_DIR, key.0.as_str(), &folder_of(&key.1)]);
        let has_room = |free: u64| free >= FREE_BYTES_MIN;
        let open = self.opened(key, disk)?;
        let mut alarm = None;
        let mut leaves = &letter.leaves[..];
        let is_next = letter.first == open.mirror.next();
        if is_next && !has_room(open.mirror.free_bytes()?) {
            tracing::warn!(box_id = %key.0, "the disk has no room for copies of logs");
            leaves = &[];
        }
        while is_next && !leaves.is_empty() {
            let next = open.mirror.next();
            if open.target.as_ref().is_none_or(|target| target.size <= next) {
                open.target = Some(Target::of(head)?);
            }
            let target = open.target.clone().expect("it was set above");
            let room = usize::try_from(target.size.saturating_sub(next)).unwrap_or(usize::MAX);
            let (fit, rest) = leaves.split_at(room.min(leaves.len()));
            if fit.is_empty() {
                break;
            }
            match open.mirror.take(fit, &target, now.wall, signer.as_ref())? {
                Taken::Kept | Taken::Whole => leaves = rest,
                Taken::Unfit { expected, found } => {
                    alarm = Some(format!(
                        "the entries of log {} do not fit its cosigned head of {} entries: root \
                         {found} instead of {expected}; they are dropped",
                        key.1, target.size
                    ));
                    break;
                }
            }
        }
        let line = match open.mirror.whole() {
            Some(whole) => line_of(&whole.note, signer.as_ref())?,
            None => String::new(),
        };
        Ok(Mirrored { next: open.mirror.next(), line, alarm })
    }

    fn opened(
        &mut self,
        key: &(BoxId, String),
        disk: impl FnOnce() -> std::io::Result<F::Disk>,
    ) -> Result<&mut Open<F::Disk>, MirrorFault> {
        self.uses += 1;
        if !self.open.contains_key(key) {
            if self.open.len() >= OPEN_MAX {
                let oldest = self.open.iter().min_by_key(|(_, open)| open.used);
                let oldest = oldest.map(|(key, _)| key.clone()).expect("there are some");
                self.open.remove(&oldest);
            }
            let mirror = Mirror::open(disk()?)?;
            self.open.insert(key.clone(), Open { mirror, target: None, used: 0 });
        }
        let open = self.open.get_mut(key).expect("it was put there above");
        open.used = self.uses;
        Ok(open)
    }
}

/// The line of this signer in a note.
fn line_of(note: &str, signer: &dyn Signer) -> Result<String, MirrorFault> {
    let key = CosignatureKey::of(signer).map_err(guan_evidence::CosignFault::from)?;
    let parsed = Note::parse(note)?;
    parsed.verify(&key)?;
    let begins = format!("\u{2014} {} ", key.name());
    let lines = note.lines().rev();
    let line = lines.into_iter().find(|line| line.starts_with(&begins));
    Ok(line.map_or_else(String::new, |line| format!("{line}\n")))
}
