//! The files of a log's folder: sealed bundles, subtree hashes, the signed head.
//!
//! | file | holds |
//! |---|---|
//! | `entries-<n>` | leaves 256 n to 256 n + 255 in the C2SP bundle encoding, as one zstd frame with its checksum (without, or plain, in older logs) |
//! | `subtrees` | the root of each bundle, 32 bytes; outlives the bundle |
//! | `checkpoint` | the newest signed head |
//! | `checkpoint.damaged` | one that could not be read at a start |
//! | `damaged-<n>` | a bundle before it was refilled ([`crate::refill`]) |
//! | `tail`, `cosigned`, `beyond-<n>`, `beyond-tail` | of an epoch that has ended ([`crate::ended`]) |
//!
//! Files of later epochs have `e0002-` before their name. A bundle is written whole and renamed into
//! place, then its hash is appended; what is torn, missing or wrong there is made again from the bundles
//! (`recovery`).

use crate::place::{EPOCHS_MAX, Epoch};
use bytes::Bytes;
use guan_evidence::bundle::{self, BUNDLE_LEAVES_MAX};
use guan_evidence::{LEAF_BYTES_MAX, Subtrees, Tree, bundle_root, leaf_hash};
use guan_model::Digest;
use guan_spool::{Disk, DiskFile, read_file, replace_file};
use std::io;

const CHECKPOINT_FILE: &str = "checkpoint";
const SUBTREES_FILE: &str = "subtrees";
const BUNDLE_PREFIX: &str = "entries-";
/// A full bundle of the longest leaves, each with its length.
const BUNDLE_BYTES_MAX: usize = BUNDLE_LEAVES_MAX * (LEAF_BYTES_MAX + 2);
/// Largest file that is read whole: any bundle, and the hashes of a million of them.
const FILE_BYTES_MAX: usize = 32 << 20;
/// Bytes of one bundle's root in the file of hashes.
const HASH_BYTES: usize = 32;
const ZSTD_LEVEL: i32 = 3;
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];

/// Why a file of the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogFileFault {
    #[error("the log's file {name} cannot be read or written: check the disk")]
    File { name: String, source: io::Error },
    /// Says nothing about any file in it.
    #[error("the folder of the log cannot be listed: check the disk")]
    List { source: io::Error },
    #[error(
        "the log's bundle {name} is damaged: `guan run` gets it back from the space's mirror, and keeps the damaged \
         one for examination"
    )]
    Bundle { name: String },
    #[error("the log's bundle {name} was pruned; the space's mirror has it")]
    Pruned { name: String },
    #[error(
        "the log's bundle {name} and its hash in {SUBTREES_FILE} do not fit each other: the space's \
         mirror has the bundle as it was, and starting anew finds out about the hash"
    )]
    Unfit { name: String },
    #[error(
        "the hashes of the log's bundles do not fit the bundles; keep the disk for examination"
    )]
    Subtrees,
}

/// The files of one epoch.
#[derive(Debug, Clone)]
pub struct Bundles<D: Disk> {
    disk: D,
    epoch: Epoch,
}

impl<D: Disk> Bundles<D> {
    /// Those of the newest epoch that the folder has.
    pub fn newest(disk: D) -> Result<Self, LogFileFault> {
        let names = disk.list().map_err(|source| LogFileFault::List { source })?;
        let epochs = names.iter().filter_map(|name| epoch_of(name));
        let epoch = epochs.max().unwrap_or(Epoch::FIRST);
        Ok(Self { disk, epoch })
    }

    pub fn of(disk: D, epoch: Epoch) -> Self {
        Self { disk, epoch }
    }

    /// Another epoch in the same folder.
    pub fn at(&self, epoch: Epoch) -> Self {
        Self { disk: self.disk.clone(), epoch }
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(crate) fn name(&self, what: &str) -> String {
        format!("{}{what}", self.epoch.file_prefix())
    }

    pub(crate) fn bundle_name(&self, number: u64) -> String {
        self.name(&format!("{BUNDLE_PREFIX}{number:016}"))
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, LogFileFault> {
        match read_file(&self.disk, name, FILE_BYTES_MAX) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(file_fault(name, source)),
        }
    }

    pub(crate) fn names(&self) -> Result<Vec<String>, LogFileFault> {
        self.disk.list().map_err(|source| LogFileFault::List { source })
    }

    /// A file of this epoch beside its bundles.
    pub(crate) fn get(&self, what: &str) -> Result<Option<Vec<u8>>, LogFileFault> {
        self.read(&self.name(what))
    }

    pub(crate) fn put(&self, what: &str, bytes: &[u8]) -> Result<(), LogFileFault> {
        let name = self.name(what);
        replace_file(&self.disk, &name, bytes).map_err(|source| file_fault(&name, source))
    }

    pub(crate) fn bundle_file(&self, number: u64) -> Result<Option<Vec<u8>>, LogFileFault> {
        self.read(&self.bundle_name(number))
    }

    /// A file that nothing vouches for stays as it is, under a name that is free. That takes no room.
    pub(crate) fn move_aside(&self, name: &str, aside: &str) -> Result<(), LogFileFault> {
        let moved = self.disk.rename(name, aside).and_then(|()| self.disk.sync_directory());
        moved.map_err(|source| file_fault(name, source))
    }

    /// Numbers of the bundles that are there, ascending.
    pub(crate) fn numbers(&self) -> Result<Vec<u64>, LogFileFault> {
        let names = self.names()?;
        let prefix = self.name(BUNDLE_PREFIX);
        let digits = names.iter().filter_map(|name| name.strip_prefix(&prefix));
        let mut numbers: Vec<u64> = digits.filter_map(|digits| digits.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// How many bundles were sealed, pruned ones included.
    pub fn count(&self) -> Result<u64, LogFileFault> {
        Ok(self.numbers()?.last().map_or(0, |last| last + 1))
    }

    /// How many leaves lie in sealed bundles; the journal must still have the others.
    pub fn sealed_size(&self) -> Result<u64, LogFileFault> {
        Ok(self.count()? * BUNDLE_LEAVES_MAX as u64)
    }

    /// Numbers and bytes of all bundles but the last, which stays.
    pub(crate) fn sizes(&self) -> Result<Vec<(u64, u64)>, LogFileFault> {
        let mut numbers = self.numbers()?;
        numbers.pop();
        let sized = |number| Ok((number, self.bundle_bytes(number)?));
        numbers.into_iter().map(sized).collect()
    }

    /// Bytes of a bundle's file.
    pub fn bundle_bytes(&self, number: u64) -> Result<u64, LogFileFault> {
        let name = self.bundle_name(number);
        let length = self.disk.open(&name).and_then(|file| file.len());
        length.map_err(|source| file_fault(&name, source))
    }

    /// Number of the first bundle that is still there.
    pub fn first(&self) -> Result<u64, LogFileFault> {
        Ok(self.numbers()?.first().copied().unwrap_or(0))
    }

    /// The leaves of one full bundle, whose root is the one that was stored when it was sealed.
    pub fn bundle(&self, number: u64) -> Result<Vec<Bytes>, LogFileFault> {
        let leaves = self.as_stored(number)?;
        match self.hash(number)? {
            Some(known) if known != root_of(&leaves)? => {
                Err(LogFileFault::Unfit { name: self.bundle_name(number) })
            }
            _ => Ok(leaves),
        }
    }

    /// The leaves of one full bundle, whatever its hash.
    pub(crate) fn as_stored(&self, number: u64) -> Result<Vec<Bytes>, LogFileFault> {
        let name = self.bundle_name(number);
        let damaged = || LogFileFault::Bundle { name: name.clone() };
        let Some(file) = self.read(&name)? else {
            return Err(LogFileFault::Pruned { name });
        };
        let leaves = expanded(&file).filter(|leaves| leaves.len() == BUNDLE_LEAVES_MAX);
        leaves.ok_or_else(damaged)
    }

    /// Writes a full bundle; how many bytes it takes.
    pub(crate) fn write_bundle(&self, number: u64, leaves: &[Bytes]) -> Result<u64, LogFileFault> {
        let name = self.bundle_name(number);
        let plain = bundle::encode(leaves).expect("leaves and their number keep the limits");
        let bytes = compressed(&plain).expect("zstd writes into memory");
        replace_file(&self.disk, &name, &bytes).map_err(|source| file_fault(&name, source))?;
        Ok(bytes.len() as u64)
    }

    /// Writes the next full bundle and its hash; how many bytes the bundle takes. Memory changes last: what
    /// finds no room is sealed again, in the same place.
    pub fn seal(&self, subtrees: &mut Subtrees, leaves: &[Bytes]) -> Result<u64, LogFileFault> {
        let root = root_of(leaves)?;
        let bytes = self.write_bundle(subtrees.bundles(), leaves)?;
        self.append_subtree(subtrees, &root)?;
        subtrees.push(root).map_err(|_| LogFileFault::Subtrees)?;
        Ok(bytes)
    }

    fn append_subtree(&self, subtrees: &Subtrees, root: &Digest) -> Result<(), LogFileFault> {
        let name = self.name(SUBTREES_FILE);
        let place = subtrees.bundles() * HASH_BYTES as u64;
        let append = || -> io::Result<bool> {
            let mut file = match self.disk.open(&name) {
                Ok(file) => file,
                Err(fault) if fault.kind() == io::ErrorKind::NotFound => {
                    let file = self.disk.create_new(&name)?;
                    self.disk.sync_directory()?;
                    file
                }
                Err(fault) => return Err(fault),
            };
            let length = file.len()?;
            if length < place {
                return Ok(false);
            }
            // What a crash or a full disk cut short must not shift what comes after it.
            if length > place {
                file.truncate(place)?;
            }
            file.append(&root.0)?;
            file.sync_data()?;
            Ok(true)
        };
        match append().map_err(|source| file_fault(&name, source))? {
            true => Ok(()),
            // The disk was full when they were to be made again.
            false => {
                let known = (0..subtrees.bundles()).filter_map(|number| subtrees.bundle(number));
                self.replace_hashes(&known.chain([*root]).collect::<Vec<_>>())
            }
        }
    }

    /// The hashes that the file has, a torn last one left out.
    pub fn subtrees(&self) -> Result<Subtrees, LogFileFault> {
        let mut subtrees = Subtrees::new();
        let pushed = self.hashes()?.into_iter().try_for_each(|root| subtrees.push(root));
        pushed.map(|()| subtrees).map_err(|_| LogFileFault::Subtrees)
    }

    pub(crate) fn hashes(&self) -> Result<Vec<Digest>, LogFileFault> {
        let file = self.read(&self.name(SUBTREES_FILE))?.unwrap_or_default();
        let (whole, _) = file.as_chunks::<HASH_BYTES>();
        Ok(whole.iter().map(|hash| Digest(*hash)).collect())
    }

    /// The one hash of a bundle, if the file has it.
    pub(crate) fn hash(&self, number: u64) -> Result<Option<Digest>, LogFileFault> {
        let name = self.name(SUBTREES_FILE);
        let mut hash = [0; HASH_BYTES];
        let place = number.saturating_mul(HASH_BYTES as u64);
        match self.disk.open(&name).and_then(|file| file.read_at(place, &mut hash)) {
            Ok(read) => Ok((read == HASH_BYTES).then_some(Digest(hash))),
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(file_fault(&name, source)),
        }
    }

    pub(crate) fn replace_hashes(&self, roots: &[Digest]) -> Result<(), LogFileFault> {
        let name = self.name(SUBTREES_FILE);
        let bytes: Vec<u8> = roots.iter().flat_map(|root| root.0).collect();
        replace_file(&self.disk, &name, &bytes).map_err(|source| file_fault(&name, source))
    }

    /// The text of the newest signed head.
    pub fn checkpoint(&self) -> Result<Option<String>, LogFileFault> {
        let file = self.read(&self.name(CHECKPOINT_FILE))?;
        Ok(file.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// A head that cannot be read stays for whoever examines the disk.
    pub(crate) fn set_head_aside(&self) -> Result<(), LogFileFault> {
        let name = self.name(CHECKPOINT_FILE);
        let aside = self.disk.rename(&name, &format!("{name}.damaged"));
        let aside = aside.and_then(|()| self.disk.sync_directory());
        aside.map_err(|source| file_fault(&name, source))
    }

    pub fn set_checkpoint(&self, text: &str) -> Result<(), LogFileFault> {
        let name = self.name(CHECKPOINT_FILE);
        replace_file(&self.disk, &name, text.as_bytes()).map_err(|source| file_fault(&name, source))
    }

    /// Removes bundles from a number on, the newest first, so that a crash leaves no hole: for mirrors,
    /// whose leaves turned out to be no log's. What the file of hashes has too much is dropped when it is
    /// read for writing again.
    pub fn cut(&self, count: u64) -> Result<(), LogFileFault> {
        let numbers = self.numbers()?;
        for number in numbers.into_iter().rev().filter(|number| *number >= count) {
            let name = self.bundle_name(number);
            let removed = self.disk.remove(&name).and_then(|()| self.disk.sync_directory());
            removed.map_err(|source| file_fault(&name, source))?;
        }
        Ok(())
    }

    /// Removes bundles below a number; never the last one, from which the count is told.
    pub(crate) fn prune(&self, first: u64) -> Result<(), LogFileFault> {
        let numbers = self.numbers()?;
        let Some(last) = numbers.last().copied() else { return Ok(()) };
        for number in numbers.into_iter().filter(|number| *number < first && *number < last) {
            let name = self.bundle_name(number);
            self.disk.remove(&name).map_err(|source| file_fault(&name, source))?;
        }
        self.disk.sync_directory().map_err(|source| file_fault("", source))
    }
}

/// The tree of all sealed leaves.
pub fn sealed_tree(subtrees: &Subtrees) -> Tree {
    // The right edge over bundles is the right edge over their leaves, 256 times as wide.
    let mut above = Tree::new();
    for number in 0..subtrees.bundles() {
        above.append(subtrees.bundle(number).expect("it has as many as it says"));
    }
    let size = subtrees.bundles() * BUNDLE_LEAVES_MAX as u64;
    Tree::from_frontier(size, above.frontier().to_vec()).expect("256 is a power of two")
}

/// With a checksum, so that flipped bits of a bundle can be told from those of its hash.
pub(crate) fn compressed(plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
    compressor.include_checksum(true)?;
    compressor.compress(plain)
}

/// The leaves of a bundle, full or not, plain or compressed; `None`: it is damaged.
pub(crate) fn expanded(file: &[u8]) -> Option<Vec<Bytes>> {
    let plain = match file.starts_with(&ZSTD_MAGIC) {
        true => zstd::bulk::decompress(file, BUNDLE_BYTES_MAX).ok()?,
        false => file.to_vec(),
    };
    let leaves = bundle::decode(&plain).ok()?;
    Some(leaves.into_iter().map(Bytes::copy_from_slice).collect())
}

/// The root of a full bundle.
pub(crate) fn root_of(leaves: &[Bytes]) -> Result<Digest, LogFileFault> {
    let hashes: Vec<Digest> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
    bundle_root(&hashes).map_err(|_| LogFileFault::Subtrees)
}

fn epoch_of(name: &str) -> Option<Epoch> {
    let (digits, _) = name.strip_prefix('e')?.split_once('-')?;
    let number = (digits.len() == 4).then(|| digits.parse().ok()).flatten()?;
    (number <= EPOCHS_MAX).then(|| Epoch::new(number)).flatten()
}

fn file_fault(name: &str, source: io::Error) -> LogFileFault {
    LogFileFault::File { name: name.to_owned(), source }
}
