//! Reading committed frames while the writer goes on.

use super::frame::{FRAME_OVERHEAD, OWNER_KIND_MAX, is_intact, parse_head};
use super::{JournalError, failed, segment_name};
use crate::disk::{Disk, DiskFile};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

/// What writer and readers share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Segment number to the offset of its first frame and the end of its last commit.
    pub segments: BTreeMap<u64, (u64, u64)>,
    pub committed_bytes: u64,
}

/// A frame as a reader meets it.
#[derive(Debug, Clone)]
pub struct FrameRead {
    pub segment: u64,
    pub kind: u8,
    pub payload: Bytes,
    /// Where to go on.
    pub next: u64,
}

/// Reads frames one after the other. Segments may vanish under it: it goes on with the next.
pub struct JournalReader<D: Disk> {
    disk: D,
    shared: Arc<Mutex<Shared>>,
    open: Option<(u64, D::File)>,
}

impl<D: Disk> JournalReader<D> {
    pub(super) fn new(disk: D, shared: Arc<Mutex<Shared>>) -> Self {
        Self { disk, shared, open: None }
    }

    fn bounds(&self, segment: u64) -> Option<(u64, u64)> {
        let shared = self.shared.lock().expect("nobody panics while holding it");
        shared.segments.get(&segment).copied()
    }

    /// The first segment at or after a number.
    pub fn segment_from(&self, number: u64) -> Option<u64> {
        let shared = self.shared.lock().expect("nobody panics while holding it");
        shared.segments.range(number..).next().map(|(number, _)| *number)
    }

    /// Offset of the first frame of a segment.
    pub fn first_offset(&self, segment: u64) -> Option<u64> {
        self.bounds(segment).map(|(first, _)| first)
    }

    /// The next whole frame of the owner at or after `offset` of `segment`; `None` at the end of what is
    /// committed in it, or when the segment is gone.
    pub fn next(&mut self, segment: u64, offset: u64) -> Result<Option<FrameRead>, JournalError> {
        let Some((_, end)) = self.bounds(segment) else { return Ok(None) };
        let name = segment_name(segment);
        let Some(file) = self.file(segment)? else { return Ok(None) };
        let mut at = offset;
        while at + FRAME_OVERHEAD as u64 <= end {
            match read_frame(file, segment, at, end) {
                Ok(Some((kind, payload))) => {
                    let next = at + (FRAME_OVERHEAD + payload.len()) as u64;
                    if (1..=OWNER_KIND_MAX).contains(&kind) {
                        return Ok(Some(FrameRead { segment, kind, payload, next }));
                    }
                    at = next;
                }
                // Damage: look for the next good frame, as recovery does.
                Ok(None) => at += 1,
                Err(fault) => return Err(failed("read", &name, fault)),
            }
        }
        Ok(None)
    }

    fn file(&mut self, segment: u64) -> Result<Option<&D::File>, JournalError> {
        if self.open.as_ref().is_none_or(|(number, _)| *number != segment) {
            let name = segment_name(segment);
            match self.disk.open(&name) {
                Ok(file) => self.open = Some((segment, file)),
                Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(fault) => return Err(failed("opened", &name, fault)),
            }
        }
        Ok(self.open.as_ref().map(|(_, file)| file))
    }
}

fn read_frame(
    file: &impl DiskFile,
    segment: u64,
    at: u64,
    end: u64,
) -> io::Result<Option<(u8, Bytes)>> {
    let mut head = [0; FRAME_OVERHEAD];
    if file.read_at(at, &mut head)? < head.len() {
        return Ok(None);
    }
    let Some((kind, length, crc)) = parse_head(&head) else { return Ok(None) };
    let start = at + FRAME_OVERHEAD as u64;
    if start + length as u64 > end {
        return Ok(None);
    }
    let mut payload = vec![0; length];
    if file.read_at(start, &mut payload)? < length {
        return Ok(None);
    }
    let intact = is_intact(segment, at, kind, crc, &payload);
    Ok(intact.then(|| (kind, Bytes::from(payload))))
}
