//! Everything small that must be durable with the rows that it belongs to: sessions, what contracts have
//! used up, lanes. One record for a commit, one snapshot for a segment.
//!
//! The spool keeps the records and does not look into them.

use crate::lanes::{LaneFault, Lanes};
use crate::sessions::{LedgerFault, SessionLedger};
use guan_model::bytes_io::{ReadFault, Reader, Writer};
use guan_policy::{Usage, UsageFault};

/// Begins a record of all three. Smaller numbers are operations of sessions, which stood alone in the
/// records of earlier releases.
const ALL: u8 = 0x40;

/// Why the records cannot be read: the disk, or another program, is to blame.
#[derive(Debug, thiserror::Error)]
pub enum MemoryFault {
    #[error("a record beside the batches ends too early")]
    Read(#[from] ReadFault),
    #[error(transparent)]
    Sessions(#[from] LedgerFault),
    #[error(transparent)]
    Usage(#[from] UsageFault),
    #[error(transparent)]
    Lanes(#[from] LaneFault),
}

/// The three of them.
#[derive(Debug, Default)]
pub struct Memory {
    pub sessions: SessionLedger,
    pub usage: Usage,
    pub lanes: Lanes,
}

impl Memory {
    /// From the snapshot of the last segment and the records after it.
    pub fn recover(snapshot: &[u8], deltas: &[impl AsRef<[u8]>]) -> Result<Self, MemoryFault> {
        let mut memory = Self::default();
        memory.replay(snapshot)?;
        for delta in deltas {
            memory.replay(delta.as_ref())?;
        }
        memory.handle_committed();
        Ok(memory)
    }

    /// What the commit underway has changed; empty when nothing did.
    pub fn delta(&self) -> Vec<u8> {
        let (usage, lanes) = (self.usage.is_dirty(), self.lanes.is_dirty());
        match usage || lanes {
            true => record(self.sessions.delta(), &self.usage.delta(), &self.lanes.delta()),
            false => self.sessions.delta().to_vec(),
        }
    }

    pub fn snapshot(&self) -> Vec<u8> {
        record(&self.sessions.snapshot(), &self.usage.snapshot(), &self.lanes.snapshot())
    }

    pub fn handle_committed(&mut self) {
        self.sessions.handle_committed();
        self.usage.handle_committed();
        self.lanes.handle_committed();
    }

    /// Undoes what decisions have changed. Sessions stay: their answers are still due.
    pub fn rollback_decisions(&mut self) {
        self.usage.rollback();
        self.lanes.rollback();
    }

    fn replay(&mut self, records: &[u8]) -> Result<(), MemoryFault> {
        let mut reader = Reader::new(records);
        while reader.left() > 0 {
            match reader.u8()? {
                ALL => {
                    let mut sessions = Reader::new(reader.bytes()?);
                    while sessions.left() > 0 {
                        let operation = sessions.u8()?;
                        self.sessions.replay_one(operation, &mut sessions)?;
                    }
                    self.usage.replay(reader.bytes()?)?;
                    self.lanes.replay(reader.bytes()?)?;
                }
                operation => self.sessions.replay_one(operation, &mut reader)?,
            }
        }
        Ok(())
    }
}

fn record(sessions: &[u8], usage: &[u8], lanes: &[u8]) -> Vec<u8> {
    let mut out = Writer::new();
    out.u8(ALL);
    [sessions, usage, lanes].iter().for_each(|part| out.bytes(part));
    out.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::Lane;
    use guan_model::{ContractId, Digest, WallTime};
    use std::num::NonZeroU16;
    use std::sync::Arc;

    /// A spool of an earlier release has records of sessions alone, before those of this one.
    #[test]
    fn old_and_new_records_are_read_in_one() {
        let (client, id) = (Arc::from("c"), NonZeroU16::new(7).unwrap());
        let mut old = SessionLedger::default();
        old.hold(&client, id).unwrap();
        let mut memory = Memory::recover(old.delta(), &[] as &[Vec<u8>]).unwrap();
        let lane = Lane {
            contract: ContractId::parse("C").unwrap(),
            version: 1,
            digest: Digest([1; 32]),
            conditions: Digest([2; 32]),
            not_before: WallTime(0),
            not_after: WallTime(9),
            lease: guan_policy::contract::Lease::default(),
        };
        memory.lanes.numbers_of(&lane).unwrap();
        let mut records = old.delta().to_vec();
        records.extend(memory.delta());
        memory.handle_committed();
        for records in [&records, &memory.snapshot()] {
            let again = Memory::recover(records, &[] as &[Vec<u8>]).unwrap();
            assert!(again.sessions.holds("c", id));
            assert_eq!(again.lanes, memory.lanes);
        }
        memory.handle_committed();
        assert!(memory.delta().is_empty());
        assert!(Memory::recover(&[ALL, 200], &[] as &[Vec<u8>]).is_err());
    }
}
