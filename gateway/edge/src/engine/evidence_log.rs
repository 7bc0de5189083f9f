//! The evidence log on disk: leaves wait in the spool's journal, full bundles and the signed head lie in
//! a folder of their own.
//!
//! Order that prevents self-made forks: entries durable, then sign, then checkpoint durable, then show
//! it to anyone. Files: `entries-<n>` holds leaves 256 n to 256 n + 255 in the C2SP bundle encoding,
//! `frontier` the tree's right edge at the sealed size (derived, rebuilt when it does not fit),
//! `checkpoint` the newest signed head.
//!
//! Never here: what is worth a leaf.

use bytes::Bytes;
use guan_evidence::bundle::{self, BUNDLE_LEAVES_MAX};
use guan_evidence::{Checkpoint, CheckpointError, Leaf, LeafBody, Tree, VerifierKey, leaf_hash};
use guan_model::bytes_io::{Reader, Writer};
use guan_model::{BootNumber, Digest, Now, Signer};
use guan_spool::{Disk, read_file, replace_file};
use std::io;
use std::sync::Arc;
use std::time::Duration;

const CHECKPOINT_FILE: &str = "checkpoint";
const FRONTIER_FILE: &str = "frontier";
const BUNDLE_PREFIX: &str = "entries-";
/// Largest file that is read whole here: a full bundle of the longest leaves, with room.
const FILE_BYTES_MAX: usize = 1 << 20;

/// Why the log cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceLogError {
    #[error("the log's file {name} cannot be read or written: check the disk")]
    File { name: String, source: io::Error },
    #[error("the log's bundle {name} is damaged: restore it from a copy, or start a new state_dir")]
    Bundle { name: String },
    #[error("the log's head cannot be signed")]
    Sign(#[source] CheckpointError),
    #[error("the log's checkpoint does not verify with the key of this box")]
    Checkpoint(#[source] CheckpointError),
}

/// Size and root of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogHead {
    pub size: u64,
    pub root: Digest,
}

/// Leaves that a signed head promises and that the disk no longer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeavesLost {
    pub have: u64,
    pub promised: u64,
}

/// The log of one box.
pub struct EvidenceLog<D: Disk> {
    disk: D,
    origin: String,
    signer: Arc<dyn Signer>,
    tree: Tree,
    committed: Tree,
    sealed: Tree,
    /// Leaves from the sealed size on.
    unsealed: Vec<Bytes>,
    checkpoint_size: u64,
    checkpoint_at: Option<Duration>,
    lost: Option<LeavesLost>,
    last_boot: Option<BootNumber>,
}

fn bundle_name(number: u64) -> String {
    format!("{BUNDLE_PREFIX}{number:016}")
}

impl<D: Disk> EvidenceLog<D> {
    /// `tail` are the leaves that the journal holds from [`sealed_size`] on, in order, with their
    /// indices.
    pub fn open(
        disk: D,
        origin: String,
        signer: Arc<dyn Signer>,
        tail: Vec<(u64, Bytes)>,
    ) -> Result<Self, EvidenceLogError> {
        let bundles = bundle_count(&disk)?;
        let tree = match read_frontier(&disk, bundles * BUNDLE_LEAVES_MAX as u64)? {
            Some(tree) => tree,
            None => rebuild(&disk, bundles)?,
        };
        let verifier = VerifierKey::of(signer.as_ref())
            .map_err(|fault| EvidenceLogError::Checkpoint(fault.into()))?;
        let checkpoint_size = match read_checkpoint(&disk)? {
            Some(text) => {
                Checkpoint::parse_and_verify(&text, &verifier)
                    .map_err(EvidenceLogError::Checkpoint)?
                    .size
            }
            None => 0,
        };
        let mut log = Self {
            disk,
            origin,
            signer,
            committed: tree.clone(),
            sealed: tree.clone(),
            tree,
            unsealed: Vec::new(),
            checkpoint_size,
            checkpoint_at: None,
            lost: None,
            last_boot: None,
        };
        for (index, bytes) in tail {
            log.last_boot = Leaf::decode(&bytes).ok().map(|leaf| leaf.boot).or(log.last_boot);
            if index == log.tree.size() {
                log.tree.append(leaf_hash(&bytes));
                log.unsealed.push(bytes);
            }
        }
        log.committed = log.tree.clone();
        let have = log.tree.size();
        log.lost =
            (have < checkpoint_size).then_some(LeavesLost { have, promised: checkpoint_size });
        Ok(log)
    }

    pub fn head(&self) -> LogHead {
        LogHead { size: self.committed.size(), root: self.committed.root() }
    }

    /// Size of the newest signed head.
    pub fn checkpoint_size(&self) -> u64 {
        self.checkpoint_size
    }

    /// What the last signed head promised and the disk lost.
    pub fn lost(&self) -> Option<LeavesLost> {
        self.lost
    }

    /// The newest boot number that the log's tail names.
    pub fn last_boot(&self) -> Option<BootNumber> {
        self.last_boot
    }

    /// Adds a leaf; it counts once the caller's commit is through.
    pub fn append(&mut self, now: &Now, boot: BootNumber, body: LeafBody) -> (u64, Bytes) {
        let leaf = Leaf::new(now, self.tree.size(), boot, body);
        let bytes = Bytes::from(leaf.encode());
        let index = self.tree.append(leaf_hash(&bytes));
        assert_eq!(index, leaf.seq, "a leaf knows its index");
        self.unsealed.push(bytes.clone());
        (index, bytes)
    }

    pub fn handle_committed(&mut self) {
        self.committed = self.tree.clone();
    }

    /// The commit failed: its leaves never were.
    pub fn rollback(&mut self) {
        self.tree = self.committed.clone();
        let kept = usize::try_from(self.committed.size() - self.sealed.size());
        self.unsealed.truncate(kept.expect("unsealed leaves fit the memory"));
    }

    /// Writes full bundles. Returns the index of the first leaf that still needs the journal.
    pub fn seal(&mut self) -> Result<Option<u64>, EvidenceLogError> {
        assert_eq!(self.tree.size(), self.committed.size(), "only durable leaves are sealed");
        let before = self.sealed.size();
        while self.unsealed.len() >= BUNDLE_LEAVES_MAX {
            let rest = self.unsealed.split_off(BUNDLE_LEAVES_MAX);
            let full = std::mem::replace(&mut self.unsealed, rest);
            let name = bundle_name(self.sealed.size() / BUNDLE_LEAVES_MAX as u64);
            let bytes = bundle::encode(&full).expect("leaves and their number keep the limits");
            replace_file(&self.disk, &name, &bytes).map_err(|source| file_error(&name, source))?;
            for leaf in &full {
                self.sealed.append(leaf_hash(leaf));
            }
        }
        if self.sealed.size() == before {
            return Ok(None);
        }
        self.write_frontier()?;
        Ok(Some(self.sealed.size()))
    }

    /// Whether the head has moved enough, or long enough ago, to be signed.
    pub fn is_checkpoint_due(&self, now: &Now, interval: Duration, leaves_max: u64) -> bool {
        let new = self.committed.size().saturating_sub(self.checkpoint_size);
        let waited = self.checkpoint_at.is_none_or(|at| now.monotonic >= at + interval);
        new > 0 && (new >= leaves_max || waited)
    }

    /// Signs the durable head and makes the signature durable.
    pub fn sign_checkpoint(&mut self, now: &Now) -> Result<String, EvidenceLogError> {
        let head = self.head();
        let checkpoint =
            Checkpoint::sign(&self.origin, head.size, &head.root, self.signer.as_ref());
        let text = checkpoint.map_err(EvidenceLogError::Sign)?;
        replace_file(&self.disk, CHECKPOINT_FILE, text.as_bytes())
            .map_err(|source| file_error(CHECKPOINT_FILE, source))?;
        self.checkpoint_size = head.size;
        self.checkpoint_at = Some(now.monotonic);
        Ok(text)
    }

    /// Written after the bundle: a stale frontier does not fit the number of bundles and is rebuilt.
    fn write_frontier(&self) -> Result<(), EvidenceLogError> {
        let mut out = Writer::new();
        out.u64(self.sealed.size());
        for hash in self.sealed.frontier() {
            out.raw(&hash.0);
        }
        let mut file = out.finish();
        let digest = Digest::of(&file);
        file.extend_from_slice(&digest.0);
        replace_file(&self.disk, FRONTIER_FILE, &file)
            .map_err(|source| file_error(FRONTIER_FILE, source))
    }
}

fn file_error(name: &str, source: io::Error) -> EvidenceLogError {
    EvidenceLogError::File { name: name.to_owned(), source }
}

fn read(disk: &impl Disk, name: &str) -> Result<Option<Vec<u8>>, EvidenceLogError> {
    match read_file(disk, name, FILE_BYTES_MAX) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(file_error(name, source)),
    }
}

/// The tree at the sealed size, if the file is there, whole and of that size.
fn read_frontier(disk: &impl Disk, sealed: u64) -> Result<Option<Tree>, EvidenceLogError> {
    let Some(file) = read(disk, FRONTIER_FILE)? else { return Ok(None) };
    let Some((body, digest)) = file.split_last_chunk::<32>() else { return Ok(None) };
    if Digest::of(body).0 != *digest {
        return Ok(None);
    }
    let mut reader = Reader::new(body);
    let mut parse = || -> Result<(u64, Vec<Digest>), guan_model::bytes_io::ReadFault> {
        let size = reader.u64()?;
        let mut frontier = Vec::new();
        while reader.left() > 0 {
            frontier.push(reader.digest()?);
        }
        Ok((size, frontier))
    };
    let tree = parse().ok().and_then(|(size, frontier)| Tree::from_frontier(size, frontier));
    Ok(tree.filter(|tree| tree.size() == sealed))
}

fn rebuild(disk: &impl Disk, bundles: u64) -> Result<Tree, EvidenceLogError> {
    let mut tree = Tree::new();
    for number in 0..bundles {
        for leaf in read_bundle(disk, number)? {
            tree.append(leaf_hash(&leaf));
        }
    }
    Ok(tree)
}

/// The leaves of one full bundle.
pub fn read_bundle(disk: &impl Disk, number: u64) -> Result<Vec<Bytes>, EvidenceLogError> {
    let name = bundle_name(number);
    let damaged = || EvidenceLogError::Bundle { name: name.clone() };
    let file = read(disk, &name)?.ok_or_else(damaged)?;
    let leaves = bundle::decode(&file).map_err(|_| damaged())?;
    match leaves.len() == BUNDLE_LEAVES_MAX {
        true => Ok(leaves.into_iter().map(Bytes::copy_from_slice).collect()),
        false => Err(damaged()),
    }
}

/// How many full bundles the folder holds.
pub fn bundle_count(disk: &impl Disk) -> Result<u64, EvidenceLogError> {
    let names = disk.list().map_err(|source| file_error("", source))?;
    Ok(names.iter().filter(|name| name.starts_with(BUNDLE_PREFIX)).count() as u64)
}

/// How many leaves lie in full bundles; the journal must still have the others.
pub fn sealed_size(disk: &impl Disk) -> Result<u64, EvidenceLogError> {
    Ok(bundle_count(disk)? * BUNDLE_LEAVES_MAX as u64)
}

/// The text of the newest signed head.
pub fn read_checkpoint(disk: &impl Disk) -> Result<Option<String>, EvidenceLogError> {
    let file = read(disk, CHECKPOINT_FILE)?;
    Ok(file.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}
