//! A simulated folder that keeps what is cached apart from what is durable, for crash tests.
//!
//! `crash(seed)` is a power cut: of each file any set of unsynced blocks may have reached the disk, the
//! length too; names that were created, renamed or removed since the last `sync_directory` may be in
//! either state. Deterministic for a seed.

use super::{Disk, DiskFile};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

const BLOCK: usize = 512;

/// What the simulated disk was asked to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SimStats {
    pub syncs: u64,
    pub directory_syncs: u64,
    pub bytes_written: u64,
}

#[derive(Debug, Default, Clone)]
struct Inode {
    cached: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    cached_names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    capacity: Option<u64>,
    fail_next_sync: bool,
    ignore_directory_sync: bool,
    read_only: bool,
    hide_names: bool,
    stats: SimStats,
}

/// A folder in memory; clones share it.
#[derive(Debug, Clone, Default)]
pub struct SimDisk(Arc<Mutex<State>>);

/// SplitMix64: enough randomness for choosing which blocks survive.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn coin(&mut self) -> bool {
        self.roll() & 1 == 1
    }
}

impl SimDisk {
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while the disk was held")
    }

    /// A power cut. Open files of before it keep working on the new state, but nobody should.
    pub fn crash(&self, seed: u64) {
        let mut dice = Dice(seed);
        let mut state = self.state();
        let state = &mut *state;
        for inode in &mut state.inodes {
            inode.durable = survivors(inode, &mut dice);
            inode.cached = inode.durable.clone();
        }
        let mut names = state.durable_names.clone();
        for (name, inode) in &state.cached_names {
            if state.durable_names.get(name) != Some(inode) && dice.coin() {
                names.insert(name.clone(), *inode);
            }
        }
        for name in state.durable_names.keys() {
            if !state.cached_names.contains_key(name) && dice.coin() {
                names.remove(name);
            }
        }
        state.durable_names = names.clone();
        state.cached_names = names;
    }

    /// Bytes that fit; `None` for no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// The next `sync_data` fails with an I/O error.
    pub fn fail_next_sync(&self) {
        self.state().fail_next_sync = true;
    }

    /// Makes `sync_directory` do nothing while it says that it did: a bug that a test must see.
    pub fn ignore_directory_sync(&self, ignore: bool) {
        self.state().ignore_directory_sync = ignore;
    }

    pub fn set_read_only(&self, read_only: bool) {
        self.state().read_only = read_only;
    }

    /// `list` fails with an I/O error; files are there.
    pub fn hide_names(&self, hide: bool) {
        self.state().hide_names = hide;
    }

    /// Flips one bit of a file, on the disk as well as in the cache.
    pub fn flip_bit(&self, name: &str, bit: usize) {
        let mut state = self.state();
        let inode = *state.cached_names.get(name).expect("the test names a file that is there");
        let inode = &mut state.inodes[inode];
        for bytes in [&mut inode.cached, &mut inode.durable] {
            if let Some(byte) = bytes.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    /// Contents of a file as a reader sees them.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        state.cached_names.get(name).map(|inode| state.inodes[*inode].cached.clone())
    }

    /// Puts a file there, durable.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let mut state = self.state();
        let inode = state.inodes.len();
        state.inodes.push(Inode { cached: bytes.to_vec(), durable: bytes.to_vec() });
        state.cached_names.insert(name.to_owned(), inode);
        state.durable_names.insert(name.to_owned(), inode);
    }

    pub fn stats(&self) -> SimStats {
        self.state().stats
    }
}

fn survivors(inode: &Inode, dice: &mut Dice) -> Vec<u8> {
    if inode.cached == inode.durable {
        return inode.durable.clone();
    }
    // The length reaches the disk on its own: it may be the old one, the new one, or one between.
    let (old, new) = (inode.durable.len(), inode.cached.len());
    let span = new.abs_diff(old) as u64 + 1;
    let step = usize::try_from(dice.roll() % span).expect("a file in memory fits usize");
    let length = if new >= old { old + step } else { old - step };
    let mut bytes = vec![0; length];
    for start in (0..length).step_by(BLOCK) {
        let end = (start + BLOCK).min(length);
        let from = if dice.coin() { &inode.cached } else { &inode.durable };
        // Beyond its end a shorter state has nothing, and zeros stay.
        let have = from.get(start..from.len().min(end)).unwrap_or_default();
        bytes[start..start + have.len()].copy_from_slice(have);
    }
    bytes
}

fn not_found(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{name} is not there"))
}

impl State {
    fn check_writable(&self) -> io::Result<()> {
        match self.read_only {
            true => Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "read-only disk")),
            false => Ok(()),
        }
    }

    fn used(&self) -> u64 {
        self.cached_names.values().map(|inode| self.inodes[*inode].cached.len() as u64).sum()
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn list(&self) -> io::Result<Vec<String>> {
        let state = self.state();
        match state.hide_names {
            true => Err(io::Error::other("the folder cannot be read")),
            false => Ok(state.cached_names.keys().cloned().collect()),
        }
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        let inode = self.state().cached_names.get(name).copied();
        Ok(SimFile { disk: self.clone(), inode: inode.ok_or_else(|| not_found(name))? })
    }

    fn create_new(&self, name: &str) -> io::Result<SimFile> {
        let mut state = self.state();
        state.check_writable()?;
        if state.cached_names.contains_key(name) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, name.to_owned()));
        }
        let inode = state.inodes.len();
        state.inodes.push(Inode::default());
        state.cached_names.insert(name.to_owned(), inode);
        Ok(SimFile { disk: self.clone(), inode })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.check_writable()?;
        let inode = state.cached_names.remove(from).ok_or_else(|| not_found(from))?;
        state.cached_names.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.check_writable()?;
        state.cached_names.remove(name).map(|_| ()).ok_or_else(|| not_found(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.state();
        state.check_writable()?;
        state.stats.directory_syncs += 1;
        if !state.ignore_directory_sync {
            state.durable_names = state.cached_names.clone();
        }
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.state();
        Ok(state.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used())))
    }
}

/// An open simulated file.
#[derive(Debug)]
pub struct SimFile {
    disk: SimDisk,
    inode: usize,
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().inodes[self.inode].cached.len() as u64)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        state.check_writable()?;
        let room =
            state.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used()));
        let fits = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        state.inodes[self.inode].cached.extend_from_slice(&bytes[..fits]);
        state.stats.bytes_written += fits as u64;
        match fits == bytes.len() {
            true => Ok(()),
            false => Err(io::Error::new(io::ErrorKind::StorageFull, "the simulated disk is full")),
        }
    }

    fn sync_data(&mut self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.check_writable()?;
        state.stats.syncs += 1;
        if std::mem::take(&mut state.fail_next_sync) {
            return Err(io::Error::other("the simulated disk failed a flush"));
        }
        let inode = &mut state.inodes[self.inode];
        inode.durable = inode.cached.clone();
        Ok(())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.disk.state();
        let bytes = &state.inodes[self.inode].cached;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let count = buffer.len().min(bytes.len() - start);
        buffer[..count].copy_from_slice(&bytes[start..start + count]);
        Ok(count)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.check_writable()?;
        let length = usize::try_from(length).expect("a file in memory fits usize");
        state.inodes[self.inode].cached.truncate(length);
        Ok(())
    }

    fn blank(&mut self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.check_writable()?;
        let cached = &mut state.inodes[self.inode].cached;
        cached.fill(0);
        let written = cached.len() as u64;
        state.stats.bytes_written += written;
        Ok(())
    }
}
