//! Reading a segment that may be torn or damaged.
//!
//! A commit counts when its marker and everything from its beginning to the marker is whole. What stands
//! before the last whole commit was durable once, so a bad place there is damage: the good frames
//! around it are kept and the loss is counted. What stands after it was never acknowledged: a torn tail.

use super::frame::{FRAME_OVERHEAD, Header, KIND_COMMIT, KIND_FOOTER, TRAILER_BYTES};
use super::frame::{HEADER_BYTES_MAX, HEADER_FIXED_BYTES};
use super::window::Window;
use crate::disk::DiskFile;
use std::io;

/// Place of a frame within its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub offset: usize,
    pub length: usize,
}

impl Place {
    fn end(self) -> usize {
        self.offset + FRAME_OVERHEAD + self.length
    }
}

/// What a segment holds.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub header: Option<Header>,
    /// The owner's frames of all commits, in order.
    pub frames: Vec<Place>,
    /// End of the last whole commit; 0 when not even the header is whole.
    pub committed: usize,
    /// Places before `committed` where bytes could not be read, and how many.
    pub damaged_places: u64,
    pub damaged_bytes: u64,
    /// Bytes after `committed` that belong to no footer.
    pub torn_bytes: u64,
}

/// Reads a whole segment.
pub(super) fn scan<F: DiskFile>(number: u64, window: &mut Window<F>) -> io::Result<Scan> {
    let mut result = Scan::default();
    let mut at = 0;
    if let Some((header, length)) = read_header(window)?
        && header.number == number
    {
        result.header = Some(header);
        result.committed = length;
        at = length;
    }
    let mut waiting: Vec<Place> = Vec::new();
    // Beginning of the run of good frames that `at` stands in.
    let mut run = at;
    let (mut places, mut skipped, mut in_damage) = (0_u64, 0_u64, false);
    let mut footer_end = None;
    while at < window.length() {
        let Some((kind, payload)) = window.frame_at(number, at)? else {
            // One step at a time: any byte may begin the next good frame.
            places += u64::from(!in_damage);
            in_damage = true;
            skipped += 1;
            at += 1;
            run = at;
            continue;
        };
        in_damage = false;
        let place = Place { offset: at, length: payload.len() };
        at = place.end();
        match kind {
            KIND_FOOTER => {
                at = (at + TRAILER_BYTES).min(window.length());
                footer_end = Some(at);
            }
            KIND_COMMIT => {
                let began = payload.try_into().map(u64::from_le_bytes).ok();
                if began.is_some_and(|began| began >= run as u64) {
                    result.frames.append(&mut waiting);
                    result.committed = at;
                    result.damaged_places += std::mem::take(&mut places);
                    result.damaged_bytes += std::mem::take(&mut skipped);
                }
            }
            _ => waiting.push(place),
        }
    }
    let end = footer_end.unwrap_or(result.committed).max(result.committed);
    result.torn_bytes = (window.length() - end.min(window.length())) as u64;
    Ok(result)
}

/// And its length; `None`: it is not whole.
fn read_header<F: DiskFile>(window: &mut Window<F>) -> io::Result<Option<(Header, usize)>> {
    let length = Header::length_of(window.beginning(HEADER_FIXED_BYTES)?);
    let length = length.unwrap_or(0).min(HEADER_BYTES_MAX);
    Ok(Header::decode(window.beginning(length)?))
}
