//! Append-only segment files with group commit.
//!
//! The journal knows frames, commits and segments, not what they mean. Invariants:
//! - `commit` returns only after the bytes, and the name of the segment, are durable.
//! - A commit is in the journal whole or not at all, whatever a power cut leaves.
//! - Opening reads headers and footers of sealed segments and scans the last one only.
//! - A failed flush poisons the journal: what the cache holds can no longer be trusted.
//!
//! Never here: streams, quotas, cursors.

mod frame;
mod reader;
mod recover;
mod scan;
mod window;

pub use frame::{FRAME_BYTES_MAX, OWNER_KIND_MAX, SNAPSHOT_BYTES_MAX};
pub use reader::{FrameRead, JournalReader};
pub use recover::{Salvage, Visit, overlook, survey};

use crate::disk::{Disk, DiskFile};
use frame::{FOOTER_MAGIC, FRAME_OVERHEAD, Header, KIND_COMMIT, KIND_FOOTER, write_frame};
use reader::Shared;
use std::io;
use std::sync::{Arc, Mutex};

/// Most bytes of one commit; its frames stand in one segment.
pub const COMMIT_BYTES_MAX: usize = 64 << 20;

/// How large segments and the whole journal may become.
#[derive(Debug, Clone, Copy)]
pub struct JournalConfig {
    /// A segment that has reached this size is sealed before the next commit.
    pub segment_bytes_max: u64,
}

/// Why the journal cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("{name} cannot be {what}: check the disk")]
    Io { what: &'static str, name: String, source: io::Error },
    #[error("the folder is in use by another process; stop it first")]
    Locked,
    #[error("there is no space left on the disk: free some, or lower the quotas")]
    NoSpace,
    #[error("the disk failed a flush earlier; check the disk, then restart")]
    Poisoned,
    #[error("{name} was written by another version of this program; use that version to drain it")]
    Version { name: String },
    #[error("a frame of {length} bytes is above the limit of {limit}")]
    TooLarge { length: usize, limit: usize },
}

/// Segment file of a number.
pub fn segment_name(number: u64) -> String {
    format!("seg-{number:016x}.gks")
}

/// Number of a segment file.
pub fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("seg-")?.strip_suffix(".gks")?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    (segment_name(number) == name).then_some(number)
}

struct Open<D: Disk> {
    number: u64,
    file: D::File,
    committed: u64,
}

/// The one writer of a folder of segments.
pub struct Journal<D: Disk> {
    disk: D,
    config: JournalConfig,
    id: [u8; 16],
    current: Option<Open<D>>,
    next_number: u64,
    staged: Vec<u8>,
    poisoned: bool,
    shared: Arc<Mutex<Shared>>,
}

impl<D: Disk> Journal<D> {
    /// Opens or begins a journal. `visit` is shown every segment, oldest first: a sealed one by its
    /// summary, others frame by frame. `id` is used only when there is no journal yet.
    pub fn open(
        disk: D,
        config: JournalConfig,
        id: [u8; 16],
        visit: &mut dyn FnMut(Visit<'_>),
    ) -> Result<(Self, Salvage), JournalError> {
        let recovered = recover::recover(&disk, visit)?;
        let shared = Shared { segments: recovered.segments, committed_bytes: 0 };
        let journal = Self {
            disk,
            config,
            id: recovered.id.unwrap_or(id),
            current: recovered.tail.map(|(number, file, committed)| Open {
                number,
                file,
                committed,
            }),
            next_number: recovered.next_number,
            staged: Vec::new(),
            poisoned: false,
            shared: Arc::new(Mutex::new(shared)),
        };
        Ok((journal, recovered.salvage))
    }

    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// Whether the next commit begins a new segment, so that `begin` must be called before frames.
    pub fn needs_segment(&self) -> bool {
        match &self.current {
            None => true,
            Some(open) => open.committed >= self.config.segment_bytes_max && self.staged.is_empty(),
        }
    }

    /// Number of the segment that takes the next frame.
    pub fn segment(&self) -> Option<u64> {
        self.current.as_ref().map(|open| open.number)
    }

    /// Seals the current segment with `summary` and begins the next with `snapshot`.
    pub fn begin(&mut self, summary: &[u8], snapshot: Vec<u8>) -> Result<u64, JournalError> {
        assert!(self.staged.is_empty(), "segments change between commits only");
        self.check_poison()?;
        check_size(snapshot.len(), SNAPSHOT_BYTES_MAX)?;
        check_size(summary.len(), FRAME_BYTES_MAX)?;
        let number = self.next_number;
        let name = segment_name(number);
        let header = Header { number, id: self.id, snapshot }.encode();
        let mut file =
            self.disk.create_new(&name).map_err(|fault| failed("created", &name, fault))?;
        let written = file.append(&header).and_then(|()| file.sync_data());
        if let Err(fault) = written {
            // Nobody has been promised anything of this segment.
            let _ = self.disk.remove(&name);
            return Err(failed("begun", &name, fault));
        }
        self.seal(summary)?;
        if let Err(fault) = self.disk.sync_directory() {
            self.poisoned = true;
            return Err(failed("made durable", &name, fault));
        }
        let committed = header.len() as u64;
        self.next_number = number + 1;
        self.current = Some(Open { number, file, committed });
        self.shared().segments.insert(number, (committed, committed));
        Ok(number)
    }

    /// The footer is a shortcut for opening: without it the segment is scanned. So a full disk is no
    /// reason to fail here.
    fn seal(&mut self, summary: &[u8]) -> Result<(), JournalError> {
        let Some(mut open) = self.current.take() else { return Ok(()) };
        let mut footer = Vec::new();
        write_frame(&mut footer, open.number, open.committed, KIND_FOOTER, summary);
        footer.extend_from_slice(&open.committed.to_le_bytes());
        footer.extend_from_slice(FOOTER_MAGIC);
        let name = segment_name(open.number);
        match open.file.append(&footer).and_then(|()| open.file.sync_data()) {
            Ok(()) => Ok(()),
            Err(fault) if is_full(&fault) => {
                let cut = open.file.truncate(open.committed);
                cut.map_err(|fault| failed("truncated", &name, fault))
            }
            Err(fault) => {
                self.poisoned = true;
                Err(failed("sealed", &name, fault))
            }
        }
    }

    /// Stages a frame for the next commit. Returns its segment and offset.
    pub fn append(&mut self, kind: u8, payload: &[&[u8]]) -> Result<(u64, u64), JournalError> {
        assert!((1..=OWNER_KIND_MAX).contains(&kind), "kind {kind} is the journal's");
        self.check_poison()?;
        let length = payload.iter().map(|part| part.len()).sum();
        check_size(length, FRAME_BYTES_MAX)?;
        check_size(self.staged.len() + FRAME_OVERHEAD + length, COMMIT_BYTES_MAX)?;
        let open = self.current.as_ref().expect("begin was called");
        let offset = open.committed + self.staged.len() as u64;
        let payload = payload.concat();
        write_frame(&mut self.staged, open.number, offset, kind, &payload);
        Ok((open.number, offset))
    }

    pub fn has_staged(&self) -> bool {
        !self.staged.is_empty()
    }

    /// Forgets what was staged since the last commit.
    pub fn rollback(&mut self) {
        self.staged.clear();
    }

    /// Makes everything staged durable. After `NoSpace` it is as if nothing had been staged.
    pub fn commit(&mut self) -> Result<(), JournalError> {
        self.check_poison()?;
        if self.staged.is_empty() {
            return Ok(());
        }
        let open = self.current.as_mut().expect("frames were staged for it");
        let offset = open.committed + self.staged.len() as u64;
        let began = open.committed.to_le_bytes();
        write_frame(&mut self.staged, open.number, offset, KIND_COMMIT, &began);
        let name = segment_name(open.number);
        if let Err(fault) = open.file.append(&self.staged) {
            self.staged.clear();
            if let Err(fault) = open.file.truncate(open.committed) {
                self.poisoned = true;
                return Err(failed("truncated", &name, fault));
            }
            return Err(failed("written", &name, fault));
        }
        if let Err(fault) = open.file.sync_data() {
            self.poisoned = true;
            return Err(failed("flushed", &name, fault));
        }
        open.committed += self.staged.len() as u64;
        let (number, committed) = (open.number, open.committed);
        let bytes = self.staged.len() as u64;
        self.staged.clear();
        let mut shared = self.shared();
        shared.segments.get_mut(&number).expect("begin put it there").1 = committed;
        shared.committed_bytes += bytes;
        Ok(())
    }

    /// Removes the oldest segments up to and including `through`, never the current one.
    pub fn remove_through(&mut self, through: u64) -> Result<(), JournalError> {
        let numbers: Vec<u64> = {
            let shared = self.shared();
            shared.segments.range(..=through).map(|(number, _)| *number).collect()
        };
        self.remove(&numbers)
    }

    /// Removes these segments, wherever they stand, never the current one.
    pub fn remove(&mut self, numbers: &[u64]) -> Result<(), JournalError> {
        let current = self.segment();
        for number in numbers.iter().filter(|number| Some(**number) != current) {
            let name = segment_name(*number);
            match self.disk.remove(&name) {
                Err(fault) if fault.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("removed", &name, fault));
                }
                _ => {}
            }
            self.shared().segments.remove(number);
        }
        Ok(())
    }

    /// Bytes of all segments on the disk, footers apart.
    pub fn bytes(&self) -> u64 {
        self.shared().segments.values().map(|(_, end)| end).sum()
    }

    /// The same of some of them.
    pub fn bytes_where(&self, is_counted: impl Fn(u64) -> bool) -> u64 {
        let shared = self.shared();
        let counted = shared.segments.iter().filter(|(number, _)| is_counted(**number));
        counted.map(|(_, (_, end))| end).sum()
    }

    pub fn segments(&self) -> usize {
        self.shared().segments.len()
    }

    pub fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }

    /// A reader for another thread; it sees committed frames only.
    pub fn reader(&self) -> JournalReader<D> {
        JournalReader::new(self.disk.clone(), self.shared.clone())
    }

    fn shared(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().expect("nobody panics while holding it")
    }

    fn check_poison(&self) -> Result<(), JournalError> {
        if self.poisoned { Err(JournalError::Poisoned) } else { Ok(()) }
    }
}

fn check_size(length: usize, limit: usize) -> Result<(), JournalError> {
    if length > limit { Err(JournalError::TooLarge { length, limit }) } else { Ok(()) }
}

fn is_full(fault: &io::Error) -> bool {
    matches!(fault.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn failed(what: &'static str, name: &str, source: io::Error) -> JournalError {
    match is_full(&source) {
        true => JournalError::NoSpace,
        false if source.kind() == io::ErrorKind::WouldBlock => JournalError::Locked,
        false => JournalError::Io { what, name: name.to_owned(), source },
    }
}

#[cfg(test)]
mod tests;
