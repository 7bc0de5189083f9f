//! A segment of any size, read a piece at a time, so that a start takes little memory however full the last one is.
//!
//! Invariants: it holds a window and, while that is looked at, one longer frame; a file that grows or shrinks meanwhile is
//! read to the length that it had, or to its end. Never here: what the bytes mean, and that they stay the same.

use super::frame::{FRAME_OVERHEAD, is_intact, parse_head};
use crate::disk::DiskFile;
use std::io;

/// What is held of a segment; a longer frame is held for itself while it is looked at.
pub(super) const WINDOW_BYTES: usize = 1 << 20;
/// Largest segment that is scanned; a commit may stretch one beyond its configured size.
const SEGMENT_SCAN_MAX: u64 = 1 << 30;

pub(super) struct Window<F> {
    file: F,
    length: usize,
    /// Where `bytes` begin.
    at: usize,
    bytes: Vec<u8>,
    long: Vec<u8>,
}

impl<F: DiskFile> Window<F> {
    pub(super) fn new(file: F) -> io::Result<Self> {
        let length = file.len()?.min(SEGMENT_SCAN_MAX);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        Ok(Self { file, length, at: 0, bytes: Vec::new(), long: Vec::new() })
    }

    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// `None`: they are not all there.
    pub(super) fn get(&mut self, at: usize, length: usize) -> io::Result<Option<&[u8]>> {
        let end = at.checked_add(length).filter(|end| *end <= self.length);
        let Some(end) = end else { return Ok(None) };
        if length > WINDOW_BYTES {
            read(&self.file, at, length, &mut self.long)?;
            return Ok(self.long.get(..length));
        }
        if at < self.at || end > self.at + self.bytes.len() {
            read(&self.file, at, WINDOW_BYTES.min(self.length - at), &mut self.bytes)?;
            self.at = at;
        }
        let start = at - self.at;
        Ok(self.bytes.get(start..start + length))
    }

    /// As many of the first bytes as there are.
    pub(super) fn beginning(&mut self, length_max: usize) -> io::Result<&[u8]> {
        let length = length_max.min(self.length);
        Ok(self.get(0, length)?.unwrap_or_default())
    }

    /// Kind and payload of the whole frame at `offset`.
    pub(super) fn frame_at(
        &mut self,
        segment: u64,
        offset: usize,
    ) -> io::Result<Option<(u8, &[u8])>> {
        let head = self.get(offset, FRAME_OVERHEAD)?.and_then(|head| head.first_chunk());
        let Some((kind, length, crc)) = head.and_then(parse_head) else { return Ok(None) };
        let Some(payload) = self.get(offset + FRAME_OVERHEAD, length)? else { return Ok(None) };
        let is_whole = is_intact(segment, offset as u64, kind, crc, payload);
        Ok(is_whole.then_some((kind, payload)))
    }
}

fn read(file: &impl DiskFile, at: usize, length: usize, into: &mut Vec<u8>) -> io::Result<()> {
    into.resize(length, 0);
    let count = file.read_at(at as u64, into)?;
    into.truncate(count);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::frame::write_frame;
    use super::*;
    use crate::disk::{Disk as _, SimDisk};

    /// Frames that end at, before and beyond the window's end, and one longer than it.
    #[test]
    fn frames_are_found_wherever_the_window_ends() {
        let disk = SimDisk::new();
        let (mut bytes, mut places) = (Vec::new(), Vec::new());
        for length in
            [WINDOW_BYTES - FRAME_OVERHEAD, 5, WINDOW_BYTES - 40, 100, WINDOW_BYTES + 1, 0]
        {
            let payload: Vec<u8> = (0..251).cycle().take(length).collect();
            places.push((bytes.len(), payload.clone()));
            let offset = bytes.len() as u64;
            write_frame(&mut bytes, 7, offset, 1, &payload);
        }
        disk.create_new("a").unwrap().append(&bytes).unwrap();
        let mut window = Window::new(disk.open("a").unwrap()).unwrap();
        for (offset, payload) in places.iter().chain(places.iter().rev()) {
            let found = window.frame_at(7, *offset).unwrap();
            assert!(found == Some((1, &payload[..])), "{offset}");
        }
        assert_eq!(window.frame_at(7, bytes.len()).unwrap(), None);
        assert_eq!(window.get(bytes.len() - 3, 4).unwrap(), None);
        assert_eq!(window.get(bytes.len() - 3, 3).unwrap(), Some(&bytes[bytes.len() - 3..]));
        assert!(window.bytes.capacity() <= WINDOW_BYTES, "{}", window.bytes.capacity());
    }
}
