//! Which lane of the spool holds what: one for each contract version and each set of conditions on which
//! its batches leave, so that what waits for one condition delays nothing else; a second one of the same while one
//! of them is a backlog ([`crate::sides`]).
//!
//! What a lane needs to be judged (term, lease, fate) stands here and not in the contract's file: the file
//! may be gone while batches still wait. Changes belong to a commit, as those of sessions do.

use guan_model::bytes_io::{ReadFault, Reader, Writer};
use guan_model::{ContractId, Digest, StreamId, WallTime};
use guan_policy::contract::{Fate, Lease};
use std::collections::BTreeMap;
use std::time::Duration;

/// Most lanes that are open at a time, over all classes together.
pub const LANES_MAX: usize = 1000;

/// With so many open lanes none gets a second side: that room is for contracts.
pub const SECONDS_BELOW: usize = LANES_MAX / 2;

/// Why no lane can be opened, or what a record says wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaneFault {
    #[error(
        "{LANES_MAX} lanes wait to be sent, one for each contract and condition; restore the link, \
         or end contracts that are no longer needed"
    )]
    Full,
    #[error("the record of lanes in the spool cannot be read")]
    Read(#[from] ReadFault),
    #[error("the record of lanes in the spool has a {what} that no program writes")]
    Value { what: &'static str },
}

/// What one lane holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    pub contract: ContractId,
    pub version: u64,
    pub digest: Digest,
    /// Of the terms on which its batches leave.
    pub conditions: Digest,
    pub not_before: WallTime,
    pub not_after: WallTime,
    pub lease: Lease,
}

impl Lane {
    /// Whether the same batches may lie in both.
    pub fn is_like(&self, other: &Self) -> bool {
        self.digest == other.digest && self.conditions == other.conditions
    }

    /// From when on nothing of it may leave any more.
    pub fn ends(&self) -> WallTime {
        self.not_after.saturating_add(self.lease.grace_delivery)
    }
}

/// All lanes by number; 0 is the lane of no contract.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lanes {
    open: BTreeMap<u16, Lane>,
    /// As of the last commit, if something changed since.
    before: Option<BTreeMap<u16, Lane>>,
}

impl Lanes {
    pub fn iter(&self) -> impl Iterator<Item = (u16, &Lane)> {
        self.open.iter().map(|(number, lane)| (*number, lane))
    }

    pub fn get(&self, number: u16) -> Option<&Lane> {
        self.open.get(&number)
    }

    /// The numbers of the lanes for such batches, one or two; opens one if there is none.
    pub fn numbers_of(&mut self, lane: &Lane) -> Result<(u16, Option<u16>), LaneFault> {
        let mut same = self.open.iter().filter(|(_, known)| known.is_like(lane));
        if let Some((number, _)) = same.next() {
            return Ok((*number, same.next().map(|(number, _)| *number)));
        }
        if self.open.len() >= LANES_MAX {
            return Err(LaneFault::Full);
        }
        let number = self.free_number();
        self.change().insert(number, lane.clone());
        Ok((number, None))
    }

    /// Opens a second lane beside the one that there is, if the lanes and `may_take` leave room for it.
    pub fn open_second(&mut self, lane: &Lane, may_take: impl Fn(u16) -> bool) -> Option<u16> {
        let number = self.free_number();
        if self.open.len() >= SECONDS_BELOW || !may_take(number) {
            return None;
        }
        self.change().insert(number, lane.clone());
        Some(number)
    }

    /// The other lane of the same terms.
    pub fn partner(&self, number: u16) -> Option<u16> {
        let lane = self.open.get(&number)?;
        let mut others = self.open.iter().filter(|(other, _)| **other != number);
        others.find(|(_, known)| known.is_like(lane)).map(|(other, _)| *other)
    }

    /// All pairs of lanes of the same terms.
    pub fn pairs(&self) -> Vec<(u16, u16)> {
        let mut seen = BTreeMap::new();
        let same = self.open.iter().filter_map(|(number, lane)| {
            let first = seen.insert((lane.digest, lane.conditions), *number);
            first.map(|first| (first, *number))
        });
        same.collect()
    }

    fn free_number(&self) -> u16 {
        let number = (1..StreamId::LANES).find(|number| !self.open.contains_key(number));
        number.expect("there are more numbers than LANES_MAX")
    }

    /// The lane is empty and its number is free for another.
    pub fn close(&mut self, number: u16) {
        if self.open.contains_key(&number) {
            self.change().remove(&number);
        }
    }

    fn change(&mut self) -> &mut BTreeMap<u16, Lane> {
        if self.before.is_none() {
            self.before = Some(self.open.clone());
        }
        &mut self.open
    }

    pub fn rollback(&mut self) {
        if let Some(before) = self.before.take() {
            self.open = before;
        }
    }

    pub fn handle_committed(&mut self) {
        self.before = None;
    }

    /// Whether the commit underway has changed anything.
    pub fn is_dirty(&self) -> bool {
        self.before.as_ref().is_some_and(|before| *before != self.open)
    }

    /// The lanes that were opened or closed since the last commit.
    pub fn delta(&self) -> Vec<u8> {
        let mut out = Writer::new();
        let nothing = BTreeMap::new();
        let before = self.before.as_ref().unwrap_or(&nothing);
        if self.before.is_some() {
            for number in before.keys().filter(|number| !self.open.contains_key(number)) {
                write(*number, None, &mut out);
            }
            let is_new = |(number, lane): &(&u16, &Lane)| before.get(number) != Some(lane);
            for (number, lane) in self.open.iter().filter(is_new) {
                write(*number, Some(lane), &mut out);
            }
        }
        out.finish()
    }

    /// Everything, as a delta against nothing.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut out = Writer::new();
        self.open.iter().for_each(|(number, lane)| write(*number, Some(lane), &mut out));
        out.finish()
    }

    pub fn replay(&mut self, record: &[u8]) -> Result<(), LaneFault> {
        let mut reader = Reader::new(record);
        while reader.left() > 0 {
            let number = reader.u16()?;
            match reader.u8()? {
                0 => self.open.remove(&number),
                _ => self.open.insert(number, read(&mut reader)?),
            };
        }
        Ok(())
    }
}

fn write(number: u16, lane: Option<&Lane>, out: &mut Writer) {
    out.u16(number);
    out.u8(u8::from(lane.is_some()));
    let Some(lane) = lane else { return };
    out.text(lane.contract.as_str());
    out.varint(lane.version);
    out.raw(&lane.digest.0);
    out.raw(&lane.conditions.0);
    out.u64(lane.not_before.0.cast_unsigned());
    out.u64(lane.not_after.0.cast_unsigned());
    out.varint(lane.lease.max_offline.as_secs());
    out.varint(lane.lease.grace_delivery.as_secs());
    out.u8(u8::from(lane.lease.on_early_end == Fate::Send));
}

fn read(reader: &mut Reader<'_>) -> Result<Lane, LaneFault> {
    let contract = ContractId::parse(reader.text()?);
    Ok(Lane {
        contract: contract.map_err(|_| LaneFault::Value { what: "contract" })?,
        version: reader.varint()?,
        digest: reader.digest()?,
        conditions: reader.digest()?,
        not_before: WallTime(reader.u64()?.cast_signed()),
        not_after: WallTime(reader.u64()?.cast_signed()),
        lease: Lease {
            max_offline: Duration::from_secs(reader.varint()?),
            grace_delivery: Duration::from_secs(reader.varint()?),
            on_early_end: if reader.u8()? == 1 { Fate::Send } else { Fate::Shred },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(digest: u8, conditions: u8) -> Lane {
        Lane {
            contract: ContractId::parse("C").unwrap(),
            version: 1,
            digest: Digest([digest; 32]),
            conditions: Digest([conditions; 32]),
            not_before: WallTime(1),
            not_after: WallTime(2),
            lease: Lease::default(),
        }
    }

    #[test]
    fn lanes_survive_commits_and_are_undone_with_them() {
        let mut lanes = Lanes::default();
        let mut again = Lanes::default();
        assert_eq!(lanes.numbers_of(&lane(1, 1)), Ok((1, None)));
        assert_eq!(lanes.numbers_of(&lane(1, 2)), Ok((2, None)));
        assert_eq!(lanes.numbers_of(&lane(1, 1)), Ok((1, None)));
        again.replay(&lanes.delta()).unwrap();
        lanes.handle_committed();
        assert_eq!(again, lanes);
        lanes.close(1);
        assert_eq!(lanes.numbers_of(&lane(3, 1)), Ok((1, None)));
        again.replay(&lanes.delta()).unwrap();
        lanes.handle_committed();
        lanes.close(2);
        lanes.rollback();
        assert!(!lanes.is_dirty() && lanes.delta().is_empty());
        assert_eq!(again, lanes);
        let mut third = Lanes::default();
        third.replay(&lanes.snapshot()).unwrap();
        assert_eq!(third, lanes);
    }

    #[test]
    fn lanes_are_limited() {
        let mut lanes = Lanes::default();
        for number in 0..LANES_MAX {
            let mut one = lane(1, 1);
            one.digest.0[..8].copy_from_slice(&(number as u64).to_le_bytes());
            lanes.numbers_of(&one).unwrap();
        }
        assert_eq!(lanes.numbers_of(&lane(255, 1)), Err(LaneFault::Full));
        lanes.close(500);
        assert_eq!(lanes.numbers_of(&lane(255, 1)), Ok((500, None)));
    }

    #[test]
    fn a_lane_has_a_second_side_while_half_of_the_numbers_are_free() {
        let mut lanes = Lanes::default();
        let one = lane(1, 1);
        lanes.numbers_of(&one).unwrap();
        lanes.numbers_of(&lane(2, 1)).unwrap();
        assert_eq!((lanes.partner(1), lanes.open_second(&one, |_| false)), (None, None));
        assert_eq!(lanes.open_second(&one, |_| true), Some(3));
        assert_eq!(
            (lanes.partner(1), lanes.partner(3), lanes.partner(2)),
            (Some(3), Some(1), None)
        );
        assert_eq!(lanes.pairs(), [(1, 3)]);
        let mut again = Lanes::default();
        again.replay(&lanes.delta()).unwrap();
        assert_eq!(again.numbers_of(&one), Ok((1, Some(3))));
        lanes.close(1);
        assert_eq!(lanes.numbers_of(&one), Ok((3, None)));
        while lanes.open.len() < SECONDS_BELOW {
            let mut other = lane(9, 1);
            other.digest.0[..8].copy_from_slice(&(lanes.open.len() as u64).to_le_bytes());
            lanes.numbers_of(&other).unwrap();
        }
        assert_eq!(lanes.open_second(&one, |_| true), None);
        lanes.close(3);
        assert!(lanes.numbers_of(&one).is_ok());
    }
}
