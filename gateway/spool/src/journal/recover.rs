//! Opening a folder of segments after any end: orderly, kill -9, power cut, bit rot.

use super::frame::{
    FOOTER_MAGIC, FRAME_BYTES_MAX, FRAME_OVERHEAD, HEADER_BYTES_MAX, HEADER_FIXED_BYTES, Header,
    KIND_FOOTER, MAGIC, TRAILER_BYTES, is_intact, parse_head,
};
use super::scan::{Scan, scan};
use super::window::{WINDOW_BYTES, Window};
use super::{JournalError, failed, segment_name, segment_number};
use crate::disk::{Disk, DiskFile};
use std::collections::BTreeMap;
use std::io;

/// Most copies of damaged segments that are kept for examination.
const DAMAGED_FILES_MAX: usize = 8;

/// What the owner is shown when a journal is opened.
#[derive(Debug)]
pub enum Visit<'a> {
    /// A sealed segment, by the summary that its owner wrote.
    Sealed {
        number: u64,
        summary: &'a [u8],
    },
    /// A segment that follows frame by frame; its snapshot if the header is whole.
    Segment {
        number: u64,
        snapshot: Option<&'a [u8]>,
    },
    Frame {
        number: u64,
        kind: u8,
        payload: &'a [u8],
    },
}

/// What recovery had to repair.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Salvage {
    /// Copies of damaged segments that were set aside.
    pub files_set_aside: u64,
    /// Places in committed data where at least one frame was lost.
    pub damaged_places: u64,
    pub damaged_bytes: u64,
    /// Bytes at the end that were never acknowledged.
    pub torn_bytes: u64,
}

pub(super) struct Recovered<D: Disk> {
    pub id: Option<[u8; 16]>,
    pub segments: BTreeMap<u64, (u64, u64)>,
    pub tail: Option<(u64, D::File, u64)>,
    pub next_number: u64,
    pub salvage: Salvage,
}

/// Reads a journal without changing it, while its owner may be running: every frame of every segment.
/// Returns what `recover` would find damaged.
pub fn survey(disk: &impl Disk, visit: &mut dyn FnMut(Visit<'_>)) -> Result<Salvage, JournalError> {
    let mut salvage = Salvage::default();
    for number in numbers(disk)? {
        let Some(found) = scan_and_show(disk, number, visit)? else { continue };
        salvage.damaged_places += found.damaged_places;
        salvage.damaged_bytes += found.damaged_bytes;
        salvage.torn_bytes += found.torn_bytes;
    }
    Ok(salvage)
}

/// Reads as little as opening would, and changes nothing: sealed segments by their footers, others frame by
/// frame. Their owner may be running.
pub fn overlook(disk: &impl Disk, visit: &mut dyn FnMut(Visit<'_>)) -> Result<(), JournalError> {
    let numbers = numbers(disk)?;
    let scanned_from = scanned_from(disk, &numbers)?;
    for number in &numbers {
        if *number < scanned_from
            && let Some((_, _, summary)) = read_footer(disk, *number)?
        {
            visit(Visit::Sealed { number: *number, summary: &summary });
        } else {
            scan_and_show(disk, *number, visit)?;
        }
    }
    Ok(())
}

/// The newest segment whose header is whole: its snapshot has everything from before. Only frames tell what came
/// after it, so it and those that follow are scanned, whatever their footers say.
fn scanned_from(disk: &impl Disk, numbers: &[u64]) -> Result<u64, JournalError> {
    for number in numbers.iter().rev() {
        let name = segment_name(*number);
        let read = || -> io::Result<bool> {
            let file = disk.open(&name)?;
            let mut bytes = vec![0; header_length(&file).unwrap_or(0).min(HEADER_BYTES_MAX)];
            file.read_at(0, &mut bytes)?;
            Ok(Header::decode(&bytes).is_some_and(|(header, _)| header.number == *number))
        };
        match read() {
            Ok(true) => return Ok(*number),
            Ok(false) => {}
            // Trimmed by its owner since it was listed.
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => {}
            Err(fault) => return Err(failed("read", &name, fault)),
        }
    }
    Ok(0)
}

pub(super) fn recover<D: Disk>(
    disk: &D,
    visit: &mut dyn FnMut(Visit<'_>),
) -> Result<Recovered<D>, JournalError> {
    let numbers = numbers(disk)?;
    let mut recovered = Recovered {
        id: None,
        segments: BTreeMap::new(),
        tail: None,
        next_number: numbers.last().map_or(1, |number| number + 1),
        salvage: Salvage::default(),
    };
    let scanned_from = scanned_from(disk, &numbers)?;
    for number in &numbers {
        let is_last = Some(number) == numbers.last();
        if *number < scanned_from
            && let Some((header_end, end, summary)) = read_footer(disk, *number)?
        {
            visit(Visit::Sealed { number: *number, summary: &summary });
            recovered.segments.insert(*number, (header_end, end));
            continue;
        }
        recover_segment(disk, *number, is_last, &mut recovered, visit)?;
    }
    Ok(recovered)
}

fn recover_segment<D: Disk>(
    disk: &D,
    number: u64,
    is_last: bool,
    recovered: &mut Recovered<D>,
    visit: &mut dyn FnMut(Visit<'_>),
) -> Result<(), JournalError> {
    let name = segment_name(number);
    let read = |fault| failed("read", &name, fault);
    let Some(mut window) = open_segment(disk, number)? else { return Ok(()) };
    if Header::is_of_other_version(window.beginning(MAGIC.len()).map_err(read)?) {
        return Err(JournalError::Version { name });
    }
    let found = scan(number, &mut window).map_err(read)?;
    if found.header.is_none() && found.frames.is_empty() {
        // Created, but a power cut came before its first commit: nobody was promised anything.
        recovered.salvage.torn_bytes += window.length() as u64;
        return disk.remove(&name).map_err(|fault| failed("removed", &name, fault));
    }
    let is_damaged = found.damaged_places > 0 || found.header.is_none();
    if is_damaged {
        recovered.salvage.damaged_places += found.damaged_places.max(1);
        recovered.salvage.damaged_bytes += found.damaged_bytes;
        recovered.salvage.files_set_aside += u64::from(set_aside(disk, number, &mut window)?);
    }
    show(number, &mut window, &found, visit).map_err(read)?;
    let first = found.frames.first().map_or(found.committed, |place| place.offset);
    let header_end = found.header.as_ref().map_or(first, |header| header.encode().len());
    recovered.id = found.header.as_ref().map(|header| header.id).or(recovered.id);
    recovered.segments.insert(number, (header_end as u64, found.committed as u64));
    // Writing goes on in a whole last segment only; after a damaged one a new one is begun.
    if is_last && !is_damaged {
        let mut file = disk.open(&name).map_err(|fault| failed("opened", &name, fault))?;
        if window.length() > found.committed {
            recovered.salvage.torn_bytes += found.torn_bytes;
            let cut = file.truncate(found.committed as u64).and_then(|()| file.sync_data());
            cut.map_err(|fault| failed("truncated", &name, fault))?;
        }
        recovered.tail = Some((number, file, found.committed as u64));
    }
    Ok(())
}

/// `None`: it is not there any more.
fn scan_and_show(
    disk: &impl Disk,
    number: u64,
    visit: &mut dyn FnMut(Visit<'_>),
) -> Result<Option<Scan>, JournalError> {
    let Some(mut window) = open_segment(disk, number)? else { return Ok(None) };
    let mut read = || -> io::Result<Scan> {
        let found = scan(number, &mut window)?;
        show(number, &mut window, &found, visit)?;
        Ok(found)
    };
    read().map(Some).map_err(|fault| failed("read", &segment_name(number), fault))
}

fn show<F: DiskFile>(
    number: u64,
    window: &mut Window<F>,
    found: &Scan,
    visit: &mut dyn FnMut(Visit<'_>),
) -> io::Result<()> {
    let snapshot = found.header.as_ref().map(|header| header.snapshot.as_slice());
    visit(Visit::Segment { number, snapshot });
    for place in &found.frames {
        // Its owner may have blanked it since it was scanned.
        let frame = window.frame_at(number, place.offset)?;
        let (kind, payload) = frame.ok_or(io::ErrorKind::UnexpectedEof)?;
        visit(Visit::Frame { number, kind, payload });
    }
    Ok(())
}

fn numbers(disk: &impl Disk) -> Result<Vec<u64>, JournalError> {
    let names = disk.list().map_err(|fault| failed("listed", "the folder", fault))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn open_segment<D: Disk>(disk: &D, number: u64) -> Result<Option<Window<D::File>>, JournalError> {
    let name = segment_name(number);
    match disk.open(&name).and_then(Window::new) {
        Ok(window) => Ok(Some(window)),
        // A trimmed segment may vanish between the listing and the reading.
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(fault) => Err(failed("read", &name, fault)),
    }
}

/// First offset, end of the last commit and summary of a sealed segment.
fn read_footer(disk: &impl Disk, number: u64) -> Result<Option<(u64, u64, Vec<u8>)>, JournalError> {
    let name = segment_name(number);
    let read = || -> io::Result<Option<(u64, u64, Vec<u8>)>> {
        let file = disk.open(&name)?;
        let length = file.len()?;
        let Some(trailer_at) = length.checked_sub(TRAILER_BYTES as u64) else { return Ok(None) };
        let mut trailer = [0; TRAILER_BYTES];
        file.read_at(trailer_at, &mut trailer)?;
        let Some((offset, magic)) = trailer.split_first_chunk::<8>() else { return Ok(None) };
        let offset = u64::from_le_bytes(*offset);
        let payload_at = offset.checked_add(FRAME_OVERHEAD as u64);
        let fits = payload_at.is_some_and(|at| at <= trailer_at)
            && trailer_at - offset <= (FRAME_OVERHEAD + FRAME_BYTES_MAX) as u64;
        if magic != FOOTER_MAGIC || !fits {
            return Ok(None);
        }
        let mut frame = vec![0; usize::try_from(trailer_at - offset).unwrap_or(usize::MAX)];
        file.read_at(offset, &mut frame)?;
        let Some((head, summary)) = frame.split_first_chunk::<FRAME_OVERHEAD>() else {
            return Ok(None);
        };
        let Some((kind, length, crc)) = parse_head(head) else { return Ok(None) };
        let whole = kind == KIND_FOOTER
            && length == summary.len()
            && is_intact(number, offset, kind, crc, summary);
        // The reader steps over the header byte by byte if it has to, so its length need not be read.
        Ok(whole.then(|| (header_length(&file).unwrap_or(0) as u64, offset, summary.to_vec())))
    };
    match read() {
        Ok(footer) => Ok(footer),
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(fault) => Err(failed("read", &name, fault)),
    }
}

/// Length of a header by its own count, unchecked: a hint where frames begin.
fn header_length(file: &impl DiskFile) -> Option<usize> {
    let mut fixed = [0; HEADER_FIXED_BYTES];
    let count = file.read_at(0, &mut fixed).ok()?;
    Header::length_of(&fixed[..count])
}

/// Keeps a copy of a damaged segment, for examination; the good frames are used from the original.
fn set_aside<D: Disk>(
    disk: &D,
    number: u64,
    window: &mut Window<D::File>,
) -> Result<bool, JournalError> {
    let name = format!("{}.damaged", segment_name(number));
    let names = disk.list().map_err(|fault| failed("listed", "the folder", fault))?;
    let kept = names.iter().filter(|name| name.ends_with(".damaged")).count();
    if kept >= DAMAGED_FILES_MAX || names.contains(&name) {
        return Ok(false);
    }
    let mut copy = || -> io::Result<()> {
        let mut file = disk.create_new(&name)?;
        for at in (0..window.length()).step_by(WINDOW_BYTES) {
            let length = WINDOW_BYTES.min(window.length() - at);
            file.append(window.get(at, length)?.ok_or(io::ErrorKind::UnexpectedEof)?)?;
        }
        file.sync_data()?;
        disk.sync_directory()
    };
    // A disk without room for the copy must not keep the box from starting.
    Ok(copy().is_ok())
}
