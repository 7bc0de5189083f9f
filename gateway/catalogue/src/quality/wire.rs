//! A day as bytes, to be kept on disk.

use super::delay::Delays;
use super::ledger::{Day, DayTally};
use super::tally::{Edge, Tally};
use guan_model::bytes_io::{ReadFault, Reader, Writer};
use guan_model::{DatasetId, PointId, WallTime};
use std::collections::BTreeMap;

/// Largest day: 65,536 points with their edges.
pub const DAY_BYTES_MAX: usize = 8 << 20;
const MAGIC: &[u8] = b"guan quality day 1";

/// Why bytes are no day; the disk, or another program, is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DayFault {
    #[error("the day has {length} bytes, the limit is {DAY_BYTES_MAX}; remove the file")]
    TooLarge { length: usize },
    #[error("the day is cut short or malformed; remove the file, its figures are lost")]
    Read(#[from] ReadFault),
    #[error("the day has an invalid {what}; remove the file, its figures are lost")]
    Value { what: &'static str },
}

impl DayTally {
    pub fn encode(&self, day: Day) -> Vec<u8> {
        let mut out = Writer::new();
        out.bytes(MAGIC);
        out.signed(day.number());
        out.signed(self.from.0);
        out.signed(self.until.0);
        out.varint(self.tallies.len() as u64);
        for (dataset, tally) in &self.tallies {
            out.text(dataset.as_str());
            encode(tally, &mut out);
        }
        out.finish()
    }

    pub fn decode(bytes: &[u8]) -> Result<(Day, Self), DayFault> {
        if bytes.len() > DAY_BYTES_MAX {
            return Err(DayFault::TooLarge { length: bytes.len() });
        }
        let value = |what| DayFault::Value { what };
        let mut reader = Reader::new(bytes);
        if reader.bytes()? != MAGIC {
            return Err(value("magic"));
        }
        let day = Day::from_number(reader.signed()?).ok_or(value("day"))?;
        let (from, until) = (WallTime(reader.signed()?), WallTime(reader.signed()?));
        if until < from {
            return Err(value("span"));
        }
        let mut tallies = BTreeMap::new();
        for _ in 0..reader.varint()? {
            let dataset = DatasetId::parse(reader.text()?).map_err(|_| value("dataset"))?;
            if tallies.insert(dataset, decode(&mut reader)?).is_some() {
                return Err(value("order"));
            }
        }
        reader.end()?;
        Ok((day, Self { from, until, tallies }))
    }
}

fn encode(tally: &Tally, out: &mut Writer) {
    let counts = [
        tally.readings,
        tally.refused,
        tally.present,
        tally.filled,
        tally.accurate,
        tally.timed,
        tally.timely,
        tally.inconsistent,
    ];
    counts.iter().chain(&tally.delays.0).for_each(|count| out.varint(*count));
    out.varint(tally.edges.len() as u64);
    for (point, edge) in &tally.edges {
        out.u32(point.0);
        out.signed(edge.first.0);
        out.signed(edge.last.0);
        out.u8(u8::from(edge.first_conforms) | u8::from(edge.slots.is_some()) << 1);
        if let Some((first, last)) = edge.slots {
            out.signed(first);
            out.signed(last);
        }
    }
}

fn decode(reader: &mut Reader<'_>) -> Result<Tally, DayFault> {
    let mut tally = Tally {
        readings: reader.varint()?,
        refused: reader.varint()?,
        present: reader.varint()?,
        filled: reader.varint()?,
        accurate: reader.varint()?,
        timed: reader.varint()?,
        timely: reader.varint()?,
        inconsistent: reader.varint()?,
        delays: Delays::default(),
        edges: BTreeMap::new(),
    };
    for bucket in &mut tally.delays.0 {
        *bucket = reader.varint()?;
    }
    for _ in 0..reader.varint()? {
        let point = PointId(reader.u32()?);
        let (first, last) = (WallTime(reader.signed()?), WallTime(reader.signed()?));
        let flags = reader.u8()?;
        let slots = match flags & 2 {
            0 => None,
            _ => Some((reader.signed()?, reader.signed()?)),
        };
        let edge = Edge { first, last, first_conforms: flags & 1 == 1, slots };
        if flags > 3 || tally.edges.insert(point, edge).is_some() {
            return Err(DayFault::Value { what: "edge" });
        }
    }
    // Each interval that a later tally shares with this one is taken off once; each point has one to give.
    let filled_points = tally.edges.values().filter(|edge| edge.slots.is_some()).count();
    match tally.filled >= filled_points as u64 {
        true => Ok(tally),
        false => Err(DayFault::Value { what: "count of intervals" }),
    }
}
