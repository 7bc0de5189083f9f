//! What the box knows about itself and its surroundings when a decision is due.

use crate::constraint::{Position, ReleaseVersion};
use guan_model::{ContractId, Now, WallTime};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Whether a byte over the uplink costs money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LinkClass {
    Metered,
    Unmetered,
}

impl LinkClass {
    pub const WORDS: [(&'static str, Self); 2] =
        [("metered", Self::Metered), ("unmetered", Self::Unmetered)];
}

/// What the vehicle that carries the box is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VehicleState {
    Parked,
    Driving,
    Charging,
    Service,
}

impl VehicleState {
    pub const WORDS: [(&'static str, Self); 4] = [
        ("parked", Self::Parked),
        ("driving", Self::Driving),
        ("charging", Self::Charging),
        ("service", Self::Service),
    ];
}

/// How well the box is attested, lowest first: the tiers that the space grants.
pub const TIERS: [(&str, u8); 3] = [("unattested", 0), ("emulated", 1), ("hardware", 2)];

/// Oldest fix that still says where a reading was taken.
pub const FIX_AGE_MAX: Duration = Duration::from_secs(60);
/// Most fixes that are remembered.
pub const FIXES_MAX: usize = 1024;

/// Where the box was, newest last.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Track(Vec<(WallTime, Position)>);

impl Track {
    /// Notes a fix; one that is not newer than the last is ignored.
    pub fn note(&mut self, at: WallTime, position: Position) {
        if self.0.last().is_some_and(|(last, _)| *last >= at) {
            return;
        }
        if self.0.len() == FIXES_MAX {
            self.0.drain(..FIXES_MAX / 2);
        }
        self.0.push((at, position));
    }

    /// The last fix at or before a moment, if it is fresh enough.
    pub fn at(&self, moment: WallTime) -> Option<Position> {
        let after = self.0.partition_point(|(at, _)| *at <= moment);
        let (at, position) = *self.0.get(after.checked_sub(1)?)?;
        (moment.since(at) <= FIX_AGE_MAX).then_some(position)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Everything that tests ask beside the reading. `None` is unknown, and never grants anything.
#[derive(Debug, Clone, PartialEq)]
pub struct Situation {
    pub now: Now,
    pub track: Track,
    pub link: Option<LinkClass>,
    /// Place in [`TIERS`] that the space has granted in this session.
    pub attested: Option<u8>,
    pub secure_boot: Option<bool>,
    pub release: Option<ReleaseVersion>,
    pub consent: Option<bool>,
    pub vehicle: Option<VehicleState>,
    /// Permissions, by contract and rule, whose duties were not done.
    pub violated: BTreeSet<(ContractId, Arc<str>)>,
}

impl Situation {
    /// Whether a permission lapsed because of a duty.
    pub fn is_violated(&self, contract: &ContractId, rule: &Arc<str>) -> bool {
        !self.violated.is_empty() && self.violated.contains(&(contract.clone(), rule.clone()))
    }

    /// Nothing is known but the time.
    pub fn at(now: Now) -> Self {
        Self {
            now,
            track: Track::default(),
            link: None,
            attested: None,
            secure_boot: None,
            release: None,
            consent: None,
            vehicle: None,
            violated: BTreeSet::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fix_serves_for_a_minute() {
        let mut track = Track::default();
        let seconds = WallTime::from_seconds;
        let place = |latitude| Position::new(latitude, 0.0).unwrap();
        track.note(seconds(100), place(1.0));
        track.note(seconds(200), place(2.0));
        track.note(seconds(150), place(9.0));
        assert_eq!(track.at(seconds(99)), None);
        assert_eq!(track.at(seconds(100)), Some(place(1.0)));
        assert_eq!(track.at(seconds(160)), Some(place(1.0)));
        assert_eq!(track.at(seconds(161)), None);
        assert_eq!(track.at(seconds(260)), Some(place(2.0)));
    }

    #[test]
    fn memory_of_places_is_limited() {
        let mut track = Track::default();
        for second in 0..3000 {
            track.note(WallTime::from_seconds(second), Position::new(0.0, 0.0).unwrap());
        }
        assert!(track.len() <= FIXES_MAX);
        assert!(track.at(WallTime::from_seconds(2999)).is_some());
    }
}
