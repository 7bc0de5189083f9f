//! A copy of one log: full bundles as the log itself has them, and the leaves after them in a file of
//! their own, framed so that a torn end is seen.
//!
//! Leaves are taken under a head that was cosigned, and held back until all of that head's are here; then
//! its root decides. If it differs, everything since the last such head is dropped. Invariants:
//! - What the mirror's cosignature covers is on the disk, and its root was compared.
//! - `next` never counts a leaf that a power cut can take.
//!
//! | file | holds |
//! |---|---|
//! | `entries-<n>`, `subtrees` | full bundles and their hashes (guan-log) |
//! | `tail-<n>` | the leaves after `n` bundles: length (2 bytes, big endian), 8 bytes of the leaf's hash, leaf |
//! | `checkpoint` | the last head that is here whole, with the lines of log, witness and mirror |

use bytes::Bytes;
use guan_evidence::bundle::BUNDLE_LEAVES_MAX;
use guan_evidence::{
    Checkpoint, CheckpointError, CosignFault, LEAF_BYTES_MAX, LogNodes, Note, NoteFault, Subtrees,
    Tree, append_lines, cosign, leaf_hash,
};
use guan_log::{Bundles, Epoch, JournalPlace, LogFileFault, LogReader, sealed_tree};
use guan_model::{Digest, Signer, WallTime};
use guan_spool::{Disk, DiskFile, read_file, replace_file};
use std::cmp::Ordering;
use std::io;

const TAIL_PREFIX: &str = "tail-";
/// Bytes of a leaf's hash in its frame.
const HASH_BYTES: usize = 8;
const FRAME_BYTES_MAX: usize = 2 + HASH_BYTES + LEAF_BYTES_MAX;
const TAIL_BYTES_MAX: usize = FRAME_BYTES_MAX * BUNDLE_LEAVES_MAX;

/// Why a copy cannot go on; the disk is to blame.
#[derive(Debug, thiserror::Error)]
pub enum MirrorFault {
    #[error("the copy of a log cannot be read or written: check the disk")]
    Io(#[from] io::Error),
    #[error(transparent)]
    File(#[from] LogFileFault),
    #[error(
        "the copy of a log does not have what the mirror signed ({size} entries): keep the disk for \
         examination, and remove the copy to have it sent again"
    )]
    Damaged { size: u64 },
    #[error("a head of the copy cannot be read")]
    Head(#[from] CheckpointError),
    #[error("the mirror's line does not fit the head")]
    Line(#[from] NoteFault),
    #[error(transparent)]
    Cosign(#[from] CosignFault),
}

/// A cosigned head whose leaves are to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub size: u64,
    pub root: Digest,
    /// With the lines of log and witness.
    pub note: String,
}

impl Target {
    pub fn of(note: &str) -> Result<Self, CheckpointError> {
        let head = Checkpoint::parse_unverified(note)?;
        Ok(Self { size: head.size, root: head.root, note: note.to_owned() })
    }
}

/// What became of leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// They are here; the head is not whole yet.
    Kept,
    /// With them the head is whole.
    Whole,
    /// The head has another root: they, and what came before them since the last head, are dropped.
    Unfit { expected: Digest, found: Digest },
}

/// The copy, open for writing.
pub struct Mirror<D: Disk> {
    disk: D,
    bundles: Bundles<D>,
    subtrees: Subtrees,
    tree: Tree,
    tail: Vec<Bytes>,
    file: Option<D::File>,
    /// The head that is here whole.
    whole: Option<Target>,
}

impl<D: Disk> Mirror<D> {
    /// Opens or begins a copy.
    pub fn open(disk: D) -> Result<Self, MirrorFault> {
        let bundles = Bundles::of(disk.clone(), Epoch::FIRST);
        let subtrees = bundles.recover_subtrees()?;
        let mut tree = sealed_tree(&subtrees);
        let name = tail_name(subtrees.bundles());
        let (tail, whole_bytes) = read_tail(&disk, &name)?;
        let mut file = open_file(&disk, &name)?;
        if let Some(file) = &mut file
            && file.len()? > whole_bytes
        {
            // What a power cut tore off was never promised, and nothing may follow it.
            file.truncate(whole_bytes)?;
            file.sync_data()?;
        }
        tail.iter().for_each(|leaf| {
            tree.append(leaf_hash(leaf));
        });
        let whole = bundles.checkpoint()?.map(|note| Target::of(&note)).transpose()?;
        let mirror = Self { disk, bundles, subtrees, tree, tail, file, whole };
        if let Some(whole) = &mirror.whole {
            let has_it = mirror.root_at(whole.size) == Some(whole.root);
            if !has_it {
                return Err(MirrorFault::Damaged { size: whole.size });
            }
        }
        Ok(mirror)
    }

    /// Index of the leaf that it wants next.
    pub fn next(&self) -> u64 {
        self.tree.size()
    }

    pub fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }

    /// The last head that is here whole, with the mirror's line.
    pub fn whole(&self) -> Option<&Target> {
        self.whole.as_ref()
    }

    fn root_at(&self, size: u64) -> Option<Digest> {
        let read = |number: u64| -> Option<Vec<Digest>> {
            let leaves = match number == self.subtrees.bundles() {
                true => self.tail.clone(),
                false => self.bundles.bundle(number).ok()?,
            };
            Some(leaves.iter().map(|leaf| leaf_hash(leaf)).collect())
        };
        guan_evidence::root_at(size, &LogNodes::new(&self.subtrees, &read)).ok()
    }

    /// Leaves from `first` on, to the end of their bundle at the most; none, if the first is not here.
    pub fn leaves(&self, first: u64) -> Result<Vec<Bytes>, MirrorFault> {
        let width = BUNDLE_LEAVES_MAX as u64;
        let (number, skip) = (first / width, usize::try_from(first % width).expect("below 256"));
        let leaves = match number.cmp(&self.subtrees.bundles()) {
            Ordering::Less => self.bundles.bundle(number)?,
            Ordering::Equal => self.tail.clone(),
            Ordering::Greater => Vec::new(),
        };
        Ok(leaves.into_iter().skip(skip).collect())
    }

    /// Takes the next leaves, which do not reach beyond the head. Durable when this returns; after a
    /// fault the copy must be opened again.
    pub fn take(
        &mut self,
        leaves: &[Bytes],
        target: &Target,
        now: WallTime,
        signer: &dyn Signer,
    ) -> Result<Taken, MirrorFault> {
        assert!(self.next() + leaves.len() as u64 <= target.size, "the caller cuts them");
        self.append(leaves)?;
        if self.next() < target.size {
            return Ok(Taken::Kept);
        }
        let found = self.tree.root();
        if found != target.root {
            self.drop_unproven()?;
            return Ok(Taken::Unfit { expected: target.root, found });
        }
        let line = cosign(Note::parse(&target.note)?.text(), now, signer)?;
        let note = append_lines(&target.note, &line)?;
        self.bundles.set_checkpoint(&note)?;
        self.whole = Some(Target { note, ..target.clone() });
        Ok(Taken::Whole)
    }

    fn append(&mut self, leaves: &[Bytes]) -> Result<(), MirrorFault> {
        let mut fresh = self.tail.len();
        for leaf in leaves {
            self.tree.append(leaf_hash(leaf));
            self.tail.push(leaf.clone());
            if self.tail.len() == BUNDLE_LEAVES_MAX {
                let full = std::mem::take(&mut self.tail);
                let name = tail_name(self.subtrees.bundles());
                self.bundles.seal(&mut self.subtrees, &full)?;
                if self.file.take().is_some() {
                    self.disk.remove(&name)?;
                    self.disk.sync_directory()?;
                }
                fresh = 0;
            }
        }
        if fresh == self.tail.len() {
            return Ok(());
        }
        let frames: Vec<u8> = self.tail[fresh..].iter().flat_map(frame).collect();
        let name = tail_name(self.subtrees.bundles());
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                // One of a life before, that ended between two steps.
                remove_if_there(&self.disk, &name)?;
                let file = self.disk.create_new(&name)?;
                self.disk.sync_directory()?;
                none.insert(file)
            }
        };
        file.append(&frames)?;
        Ok(file.sync_data()?)
    }

    /// Goes back to the last head that is here whole.
    fn drop_unproven(&mut self) -> Result<(), MirrorFault> {
        let size = self.whole.as_ref().map_or(0, |whole| whole.size);
        let (bundle, rest) = (size / BUNDLE_LEAVES_MAX as u64, size % BUNDLE_LEAVES_MAX as u64);
        let leaves = match bundle < self.subtrees.bundles() {
            true => self.bundles.bundle(bundle)?,
            false => self.tail.clone(),
        };
        let rest = usize::try_from(rest).expect("fewer than 256");
        let frames: Vec<u8> = leaves[..rest].iter().flat_map(frame).collect();
        // The tail first: until the bundles are gone, nobody reads it.
        self.file = None;
        replace_file(&self.disk, &tail_name(bundle), &frames)?;
        self.bundles.cut(bundle)?;
        *self = Self::open(self.disk.clone())?;
        Ok(())
    }
}

fn tail_name(bundles: u64) -> String {
    format!("{TAIL_PREFIX}{bundles:016}")
}

fn frame(leaf: &Bytes) -> Vec<u8> {
    let length = u16::try_from(leaf.len()).expect("letters bring shorter leaves only");
    let Digest(hash) = leaf_hash(leaf);
    [&length.to_be_bytes()[..], &hash[..HASH_BYTES], leaf].concat()
}

/// The leaves of the longest whole prefix, and its length.
fn read_tail(disk: &impl Disk, name: &str) -> io::Result<(Vec<Bytes>, u64)> {
    let bytes = match read_file(disk, name, TAIL_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(fault) => return Err(fault),
    };
    let (mut leaves, mut rest) = (Vec::new(), &bytes[..]);
    while leaves.len() < BUNDLE_LEAVES_MAX - 1
        && let Some((leaf, after)) = split_frame(rest)
    {
        leaves.push(Bytes::copy_from_slice(leaf));
        rest = after;
    }
    Ok((leaves, (bytes.len() - rest.len()) as u64))
}

fn split_frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let (hash, rest) = rest.split_first_chunk::<HASH_BYTES>()?;
    let (leaf, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    leaf_hash(leaf).0.starts_with(hash).then_some((leaf, rest))
}

fn open_file<D: Disk>(disk: &D, name: &str) -> io::Result<Option<D::File>> {
    match disk.open(name) {
        Ok(file) => Ok(Some(file)),
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(fault) => Err(fault),
    }
}

fn remove_if_there(disk: &impl Disk, name: &str) -> io::Result<()> {
    match disk.remove(name) {
        Err(fault) if fault.kind() != io::ErrorKind::NotFound => Err(fault),
        _ => Ok(()),
    }
}

/// Reads a copy while the daemon may be writing it.
pub fn read<D: Disk>(disk: D) -> Result<LogReader<D>, MirrorFault> {
    let bundles = Bundles::of(disk.clone(), Epoch::FIRST);
    let (tail, _) = read_tail(&disk, &tail_name(bundles.count()?))?;
    let first = bundles.sealed_size()?;
    let places = (first..).map(|index| JournalPlace::new(Epoch::FIRST, index).number());
    Ok(LogReader::open(disk, Some(Epoch::FIRST), places.zip(tail).collect())?)
}
