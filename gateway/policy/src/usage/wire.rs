//! Cells as bytes. One record is a list of cells, each whole or gone; replaying records in order gives
//! the state after the last.

use super::{Cell, CellKey, GroupWindows, Usage, Window};
use crate::constraint::{Period, QuotaKey, QuotaKind, Rate};
use guan_model::bytes_io::{ReadFault, Reader, Writer};
use guan_model::{ContractId, Digest, PointId, WallTime};
use std::sync::Arc;

/// Why a record cannot be read: the disk, or another program, is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageFault {
    #[error("the record of used quotas ends too early")]
    Read(#[from] ReadFault),
    #[error("the record of used quotas has an unknown {what}, number {code}")]
    Unknown { what: &'static str, code: u8 },
    #[error("the record of used quotas has a {what} that no program writes")]
    Value { what: &'static str },
}

impl Usage {
    /// What the commit underway has changed.
    pub fn delta(&self) -> Vec<u8> {
        let mut out = Writer::new();
        for key in self.undo.keys() {
            write_cell(key, self.cells.get(key), &mut out);
        }
        out.finish()
    }

    /// Everything, as a delta against nothing.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut out = Writer::new();
        for (key, cell) in &self.cells {
            write_cell(key, Some(cell), &mut out);
        }
        out.finish()
    }

    /// Takes a record of an earlier life in.
    pub fn replay(&mut self, record: &[u8]) -> Result<(), UsageFault> {
        let mut reader = Reader::new(record);
        while reader.left() > 0 {
            let key = read_key(&mut reader)?;
            match read_cell(&mut reader)? {
                Some(cell) => self.put(key, cell),
                None => drop(self.take(&key)),
            }
        }
        Ok(())
    }
}

fn write_cell(key: &CellKey, cell: Option<&Cell>, out: &mut Writer) {
    write_key(key, out);
    match cell {
        None => out.u8(0),
        Some(Cell::Counter { period, used }) => {
            out.u8(1);
            out.signed(*period);
            out.varint(*used);
        }
        Some(Cell::Bucket { left_nanos, at }) => {
            out.u8(2);
            out.varint(*left_nanos);
            out.u64(at.0.cast_unsigned());
        }
        Some(Cell::Window(window)) => {
            out.u8(3);
            window.write(out);
        }
        Some(Cell::Group(group)) => {
            out.u8(4);
            group.write(out);
        }
    }
}

fn read_cell(reader: &mut Reader<'_>) -> Result<Option<Cell>, UsageFault> {
    Ok(Some(match reader.u8()? {
        0 => return Ok(None),
        1 => Cell::Counter { period: reader.signed()?, used: reader.varint()? },
        2 => {
            Cell::Bucket { left_nanos: reader.varint()?, at: WallTime(reader.u64()?.cast_signed()) }
        }
        3 => {
            let window = Window::read(reader)?;
            Cell::Window(Box::new(window.ok_or(UsageFault::Value { what: "window" })?))
        }
        4 => {
            let group = GroupWindows::read(reader)?;
            Cell::Group(Box::new(group.ok_or(UsageFault::Value { what: "group of windows" })?))
        }
        code => return Err(UsageFault::Unknown { what: "cell", code }),
    }))
}

fn write_key(key: &CellKey, out: &mut Writer) {
    let contract = key.contract().as_str();
    match key {
        CellKey::Quota { key, .. } => {
            out.u8(1);
            out.text(contract);
            out.raw(&[key.kind as u8, key.period as u8]);
        }
        CellKey::Rate { rule, rate, .. } => {
            out.u8(2);
            out.text(contract);
            match rate {
                // An earlier program takes it for a rule that it does not know, and asks it no more.
                Some(rate) => out.text(&format!("{rule}{}", suffix(*rate))),
                None => out.text(rule),
            }
        }
        CellKey::Sample { rule, point, .. } => {
            out.u8(3);
            out.text(contract);
            out.text(rule);
            out.u32(point.0);
        }
        CellKey::Budget { point, period, .. } => {
            out.u8(4);
            out.text(contract);
            out.u32(point.0);
            out.u8(*period as u8);
        }
        CellKey::Window { rules, rule, forbids, point, .. } => {
            out.u8(5);
            out.text(contract);
            match *rules == UNBOUND {
                // An earlier program takes it for a rule that it does not know, and ends it.
                false => out.text(&format!("{rule}{SEPARATOR}{rules}")),
                true => out.text(rule),
            }
            out.u32(point.0);
            out.varint(forbids.len() as u64);
            forbids.iter().for_each(|number| out.u16(*number));
        }
    }
}

fn read_key(reader: &mut Reader<'_>) -> Result<CellKey, UsageFault> {
    let kind = reader.u8()?;
    let contract = ContractId::parse(reader.text()?);
    let contract = contract.map_err(|_| UsageFault::Value { what: "contract" })?;
    Ok(match kind {
        1 => {
            let code = reader.u8()?;
            let kind = [QuotaKind::Count, QuotaKind::Size];
            let kind = kind.into_iter().find(|kind| *kind as u8 == code);
            let kind = kind.ok_or(UsageFault::Unknown { what: "quota", code })?;
            CellKey::Quota { contract, key: QuotaKey { kind, period: read_period(reader)? } }
        }
        2 => {
            let (rule, rate) = split_rate(reader.text()?);
            CellKey::Rate { contract, rule: rule.into(), rate }
        }
        3 => {
            let (rule, point) = (read_rule(reader)?, PointId(reader.u32()?));
            CellKey::Sample { contract, rule, point }
        }
        4 => {
            let point = PointId(reader.u32()?);
            CellKey::Budget { contract, point, period: read_period(reader)? }
        }
        5 => {
            let (rule, rules) = split_rules(reader.text()?);
            let (rule, point) = (rule.into(), PointId(reader.u32()?));
            let mut forbids = Vec::new();
            for _ in 0..reader.varint()? {
                forbids.push(reader.u16()?);
            }
            CellKey::Window { contract, rules, rule, forbids, point }
        }
        code => return Err(UsageFault::Unknown { what: "key", code }),
    })
}

/// The rules of a window of an earlier program.
const UNBOUND: Digest = Digest([0; 32]);

/// Between the name of a rule and its rate, or the rules that it stood among.
const SEPARATOR: char = '\u{1f}';

fn suffix(rate: Rate) -> String {
    format!("{SEPARATOR}{}/{}", rate.readings, rate.per_s)
}

/// What is not written just so is all name.
fn split_rate(text: &str) -> (&str, Option<Rate>) {
    let split = || {
        let (rule, rate) = text.rsplit_once(SEPARATOR)?;
        let (readings, per_s) = rate.split_once('/')?;
        let rate = Rate { readings: readings.parse().ok()?, per_s: per_s.parse().ok()? };
        text.ends_with(&suffix(rate)).then_some((rule, Some(rate)))
    };
    split().unwrap_or((text, None))
}

fn split_rules(text: &str) -> (&str, Digest) {
    let split = || {
        let (rule, rules) = text.rsplit_once(SEPARATOR)?;
        let digest = Digest::from_hex(rules).filter(|digest| *digest != UNBOUND)?;
        (digest.to_string() == rules).then_some((rule, digest))
    };
    split().unwrap_or((text, UNBOUND))
}

fn read_rule(reader: &mut Reader<'_>) -> Result<Arc<str>, UsageFault> {
    Ok(reader.text()?.into())
}

fn read_period(reader: &mut Reader<'_>) -> Result<Period, UsageFault> {
    let code = reader.u8()?;
    Period::from_code(code).ok_or(UsageFault::Unknown { what: "period", code })
}
