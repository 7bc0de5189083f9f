//! Terms as bytes, version 1. Kept in the spool with each batch, so old versions stay readable.

use super::{Delay, Terms};
use crate::constraint::{ReleaseVersion, Test, TimeWindow};
use crate::interval::{Comparison, IntervalSet};
use crate::plan::Program;
use crate::situation::LinkClass;
use crate::truth::Truth;
use guan_model::bytes_io::{ReadFault, Reader, Writer};
use guan_model::{BootNumber, ClockQuality, Now, WallTime};
use std::sync::Arc;
use std::time::Duration;

/// Longest terms: a contract is not longer.
pub const TERMS_BYTES_MAX: usize = crate::CONTRACT_BYTES_MAX;
/// Deepest nesting that is read.
const DEPTH_MAX: usize = 20;
const VERSION: u8 = 1;

/// Why bytes are no terms: the disk, or another program, is to blame. Nothing leaves on them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TermsFault {
    #[error("terms of {length} bytes; the limit is {TERMS_BYTES_MAX}")]
    Length { length: usize },
    #[error("terms of version {version}; this program knows {VERSION}")]
    Version { version: u8 },
    #[error("terms ask something unknown, number {code}; a later program wrote them")]
    Unknown { code: u8 },
    #[error("terms are nested deeper than {DEPTH_MAX}")]
    Depth,
    #[error("terms have a value that means nothing: {what}")]
    Value { what: &'static str },
    #[error("terms end too early or too late")]
    Bytes(#[from] ReadFault),
}

mod code {
    pub(super) const KNOWN: u8 = 1;
    pub(super) const DATE_TIME: u8 = 2;
    pub(super) const AND: u8 = 3;
    pub(super) const OR: u8 = 4;
    pub(super) const XONE: u8 = 5;
    pub(super) const WINDOW: u8 = 6;
    pub(super) const LINK: u8 = 7;
    pub(super) const ATTESTED: u8 = 8;
    pub(super) const SECURE_BOOT: u8 = 9;
    pub(super) const RELEASE: u8 = 10;
    pub(super) const CLOCK: u8 = 11;
}

impl Terms {
    /// Empty when nothing is asked.
    pub fn encode(&self) -> Vec<u8> {
        if self.is_free() {
            return Vec::new();
        }
        let mut out = Writer::new();
        out.u8(VERSION);
        out.text(&self.permission);
        write_program(&self.require, &mut out);
        out.varint(self.forbid.len() as u64);
        for (rule, program) in &self.forbid {
            out.text(rule);
            write_program(program, &mut out);
        }
        out.u8(u8::from(self.delay.is_some()));
        if let Some(delay) = &self.delay {
            out.u64(nanos(delay.span));
            out.u32(delay.boot.0);
            out.u64(delay.kept_at.wall.0.cast_unsigned());
            out.u64(nanos(delay.kept_at.monotonic));
            out.u8(delay.kept_at.quality as u8);
        }
        out.finish()
    }

    /// `None` for no bytes: nothing is asked.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, TermsFault> {
        if bytes.is_empty() {
            return Ok(None);
        }
        if bytes.len() > TERMS_BYTES_MAX {
            return Err(TermsFault::Length { length: bytes.len() });
        }
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            VERSION => {}
            version => return Err(TermsFault::Version { version }),
        }
        let permission: Arc<str> = reader.text()?.into();
        let require = read_program(&mut reader, 0)?;
        let mut forbid = Vec::new();
        for _ in 0..reader.varint()? {
            forbid.push((reader.text()?.into(), read_program(&mut reader, 0)?));
        }
        let delay = match reader.u8()? {
            0 => None,
            _ => Some(read_delay(&mut reader)?),
        };
        reader.end()?;
        Ok(Some(Self { permission, require, forbid, delay }))
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

fn read_delay(reader: &mut Reader<'_>) -> Result<Delay, TermsFault> {
    let span = Duration::from_nanos(reader.u64()?);
    let boot = BootNumber(reader.u32()?);
    let wall = WallTime(reader.u64()?.cast_signed());
    let monotonic = Duration::from_nanos(reader.u64()?);
    let quality = ClockQuality::from_code(reader.u8()?);
    let quality = quality.ok_or(TermsFault::Value { what: "the quality of a clock" })?;
    Ok(Delay { span, boot, kept_at: Now { wall, monotonic, quality } })
}

fn write_program(program: &Program, out: &mut Writer) {
    let list = |out: &mut Writer, kind: u8, parts: &[Program]| {
        out.u8(kind);
        out.varint(parts.len() as u64);
        parts.iter().for_each(|part| write_program(part, out));
    };
    match program {
        Program::Known(truth) => {
            out.u8(code::KNOWN);
            out.u8(match truth {
                Truth::False => 0,
                Truth::True => 1,
                Truth::Unknown => 2,
            });
        }
        Program::DateTime(set) => {
            out.u8(code::DATE_TIME);
            out.varint(set.len() as u64);
            for (from, until) in set.iter() {
                out.u64(from.cast_unsigned());
                out.u64(until.cast_unsigned());
            }
        }
        Program::And(parts) => list(out, code::AND, parts),
        Program::Or(parts) => list(out, code::OR, parts),
        Program::Xone(parts) => list(out, code::XONE, parts),
        Program::Test(test) => write_test(test, out),
        Program::EventTime(_) => unreachable!("only what is asked at leaving is carried"),
    }
}

fn write_test(test: &Test, out: &mut Writer) {
    match test {
        Test::Window { window, inside } => {
            out.u8(code::WINDOW);
            window.write(out);
            out.u8(u8::from(*inside));
        }
        Test::Link(class, is) => {
            out.raw(&[code::LINK, u8::from(*class == LinkClass::Metered), u8::from(*is)]);
        }
        Test::Attested(comparison, tier) => {
            out.raw(&[code::ATTESTED, comparison.code(), *tier]);
        }
        Test::SecureBoot(on) => out.raw(&[code::SECURE_BOOT, u8::from(*on)]),
        Test::Release(comparison, version) => {
            out.raw(&[code::RELEASE, comparison.code()]);
            version.0.iter().for_each(|number| out.u32(*number));
        }
        Test::Clock(comparison, quality) => {
            out.raw(&[code::CLOCK, comparison.code(), *quality as u8]);
        }
        other => unreachable!("{other:?} is answered before a batch is kept"),
    }
}

fn read_program(reader: &mut Reader<'_>, depth: usize) -> Result<Program, TermsFault> {
    if depth > DEPTH_MAX {
        return Err(TermsFault::Depth);
    }
    let list = |reader: &mut Reader<'_>| -> Result<Vec<Program>, TermsFault> {
        // Grows with the bytes that are there, not with the number that they announce.
        let mut parts = Vec::new();
        for _ in 0..reader.varint()? {
            parts.push(read_program(reader, depth + 1)?);
        }
        Ok(parts)
    };
    Ok(match reader.u8()? {
        code::KNOWN => Program::Known(match reader.u8()? {
            0 => Truth::False,
            1 => Truth::True,
            _ => Truth::Unknown,
        }),
        code::DATE_TIME => {
            let mut intervals = Vec::new();
            for _ in 0..reader.varint()? {
                intervals.push((reader.u64()?.cast_signed(), reader.u64()?.cast_signed()));
            }
            let set = IntervalSet::from_sorted(intervals);
            Program::DateTime(set.ok_or(TermsFault::Value { what: "intervals out of order" })?)
        }
        code::AND => Program::And(list(reader)?),
        code::OR => Program::Or(list(reader)?),
        code::XONE => Program::Xone(list(reader)?),
        other => Program::Test(read_test(other, reader)?),
    })
}

fn read_test(kind: u8, reader: &mut Reader<'_>) -> Result<Test, TermsFault> {
    let comparison = |reader: &mut Reader<'_>| -> Result<Comparison, TermsFault> {
        let code = reader.u8()?;
        Comparison::from_code(code).ok_or(TermsFault::Value { what: "a comparison" })
    };
    Ok(match kind {
        code::WINDOW => {
            let window = TimeWindow::read(reader)?;
            let window = window.ok_or(TermsFault::Value { what: "hours of the week" })?;
            Test::Window { window, inside: reader.u8()? == 1 }
        }
        code::LINK => {
            let is_metered = reader.u8()? == 1;
            let class = if is_metered { LinkClass::Metered } else { LinkClass::Unmetered };
            Test::Link(class, reader.u8()? == 1)
        }
        code::ATTESTED => Test::Attested(comparison(reader)?, reader.u8()?),
        code::SECURE_BOOT => Test::SecureBoot(reader.u8()? == 1),
        code::RELEASE => {
            let comparison = comparison(reader)?;
            let mut numbers = [0; 4];
            for number in &mut numbers {
                *number = reader.u32()?;
            }
            Test::Release(comparison, ReleaseVersion(numbers))
        }
        code::CLOCK => {
            let comparison = comparison(reader)?;
            let quality = ClockQuality::from_code(reader.u8()?);
            let quality = quality.ok_or(TermsFault::Value { what: "the quality of a clock" })?;
            Test::Clock(comparison, quality)
        }
        code => return Err(TermsFault::Unknown { code }),
    })
}
