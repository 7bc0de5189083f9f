//! The rule for a medium: may this batch leave in a file that a person carries?
//!
//! No session tells what stands, so what the space said last must be recent enough: in a session, or in a set that
//! came by whatever way and names the contract, since it was signed. Either must lie within the contract's lease.
//! A revocation that the box has not heard of cannot hold anything back; the lease bounds for how long.
//!
//! Invariants: nothing leaves with a clock that is not set, while what the space said is in doubt, or without a
//! contract; what asks for an attested session or a kind of link is not known here, so it grants nothing and forbids.

use super::{Door, Held, State};
use guan_model::{ClockQuality, ContractId, Now, StreamId};
use guan_policy::contract::Fate;
use guan_policy::{Leave, Situation, Terms, TermsFault};

impl Door {
    /// Why nothing of a stream goes onto a medium; `None`: its batches may be looked at one by one.
    pub fn held_on_medium(&self, stream: StreamId, now: &Now) -> Option<Held> {
        self.state().judge_on_medium(stream, now)
    }

    /// Whether a batch may go onto a medium now.
    pub fn judge_on_medium(&self, terms: &[u8], now: Now) -> Result<Leave, TermsFault> {
        let Some(terms) = Terms::decode(terms)? else { return Ok(Leave::Now) };
        let situation = Situation { attested: None, link: None, ..self.situation(now) };
        Ok(terms.judge(&situation, self.state().boot))
    }

    /// The space whose set counts here; `None`: none has come.
    pub fn space(&self) -> Option<String> {
        self.state().standing.space.clone()
    }

    /// Whether a stream takes nothing new: what waits in it is older than what waits in its other side.
    pub fn is_resting(&self, stream: StreamId) -> bool {
        self.state().resting.contains(&stream)
    }

    /// The contract of a stream that is not closed.
    pub fn contract_of(&self, stream: StreamId) -> Option<ContractId> {
        self.state().lanes.get(&stream.lane()).map(|lane| lane.contract.clone())
    }
}

impl State {
    fn judge_on_medium(&self, stream: StreamId, now: &Now) -> Option<Held> {
        if stream.lane() == 0 {
            return Some(Held::NoContract);
        }
        let Some(lane) = self.lanes.get(&stream.lane()) else { return Some(Held::Ended) };
        let (contract, standing) = (&lane.contract, &self.standing);
        let is_ended = standing.ended.contains(contract);
        if standing.revoked.contains(contract)
            || (is_ended && lane.lease.on_early_end == Fate::Shred)
        {
            return Some(Held::Ended);
        }
        if standing.suspended.contains(contract) {
            return Some(Held::Suspended);
        }
        if self.doubt.is_some() {
            return Some(Held::Unconfirmed);
        }
        if now.quality == ClockQuality::Unset {
            return Some(Held::ClockNotSet);
        }
        let is_named = standing.listed.contains(contract) || is_ended;
        let signed = standing.issued.filter(|_| is_named);
        // It is later than that, whatever this box's clock says.
        let at = standing.issued.map_or(now.wall, |issued| issued.max(now.wall));
        if at >= lane.ends() {
            return Some(Held::Ended);
        }
        if at < lane.not_before {
            return Some(Held::NotYetValid);
        }
        let Some(confirmed) = self.confirmed_at.max(signed) else { return Some(Held::Unconfirmed) };
        (at.since(confirmed) > lane.lease.max_offline).then_some(Held::LeaseOver)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{lane, now};
    use super::super::{Door, Doubt, Held, Standing};
    use guan_model::ClockQuality::{Ntp, Rtc, Unset};
    use guan_model::{BootNumber, ContractId, StreamId, WallTime};
    use guan_policy::contract::Fate;
    use std::collections::BTreeSet;

    const LANE: StreamId = StreamId(StreamId::CLASSES + 2);
    const LEASE_S: i64 = 7200;

    fn named() -> BTreeSet<ContractId> {
        BTreeSet::from([ContractId::parse("C").unwrap()])
    }

    fn listed(issued: i64) -> Standing {
        let issued = Some(WallTime::from_seconds(issued));
        Standing { listed: named(), issued, ..Standing::default() }
    }

    fn door(confirmed: Option<i64>, standing: Standing) -> Door {
        let confirmed = confirmed.map(WallTime::from_seconds);
        let door = Door::new(now(0, Rtc), BootNumber(1), confirmed);
        door.set_lanes([(1, lane())].into_iter());
        door.set_standing(standing);
        door
    }

    /// The lane's contract holds from 1,000 to 100,000, with an hour's grace and a lease of two hours.
    #[test]
    fn a_medium_takes_what_was_confirmed_within_the_lease() {
        assert_eq!(LANE, StreamId::of(2, 1));
        let check = |door: &Door, seconds, quality, expect: Option<Held>| {
            assert_eq!(door.held_on_medium(LANE, &now(seconds, quality)), expect, "{seconds}");
        };
        let none = Standing::default;
        // Nobody ever confirmed it.
        check(&door(None, none()), 5000, Ntp, Some(Held::Unconfirmed));
        // The last session, or the set, whichever is later.
        let session = door(Some(5000), none());
        check(&session, 5000 + LEASE_S, Rtc, None);
        check(&session, 5001 + LEASE_S, Rtc, Some(Held::LeaseOver));
        let set = door(None, listed(6000));
        check(&set, 6000 + LEASE_S, Rtc, None);
        check(&set, 6001 + LEASE_S, Rtc, Some(Held::LeaseOver));
        let both = door(Some(5000), listed(6000));
        check(&both, 6000 + LEASE_S, Rtc, None);
        let both = door(Some(7000), listed(6000));
        check(&both, 7000 + LEASE_S, Rtc, None);
        // A set that does not name it confirms nothing.
        let other = Standing { listed: BTreeSet::new(), ..listed(6000) };
        check(&door(None, other), 6000, Rtc, Some(Held::Unconfirmed));
        // A clock that is behind the set is carried on by it.
        check(&set, 900, Rtc, None);
        check(&door(None, listed(103_600)), 5000, Rtc, Some(Held::Ended));
        check(&set, 6000, Unset, Some(Held::ClockNotSet));
        check(&door(Some(900), none()), 999, Rtc, Some(Held::NotYetValid));
        let late = door(Some(103_000), none());
        check(&late, 103_599, Rtc, None);
        check(&late, 103_600, Rtc, Some(Held::Ended));
        let lanes = [StreamId::of(2, 0), StreamId::of(2, 9)];
        let held = lanes.map(|stream| set.held_on_medium(stream, &now(6000, Rtc)));
        assert_eq!(held, [Some(Held::NoContract), Some(Held::Ended)]);
    }

    #[test]
    fn a_medium_takes_nothing_of_what_is_suspended_over_or_in_doubt() {
        let check = |door: &Door, expect: Option<Held>| {
            assert_eq!(door.held_on_medium(LANE, &now(5000, Ntp)), expect);
        };
        let issued = Some(WallTime::from_seconds(5000));
        let standing = |standing: Standing| door(Some(5000), Standing { issued, ..standing });
        let none = Standing::default;
        check(&standing(Standing { suspended: named(), ..none() }), Some(Held::Suspended));
        check(&standing(Standing { revoked: named(), ..none() }), Some(Held::Ended));
        let ended = || Standing { ended: named(), ..none() };
        check(&standing(ended()), Some(Held::Ended));
        let sends = standing(ended());
        let mut lane = lane();
        lane.lease.on_early_end = Fate::Send;
        sends.set_lanes([(1, lane)].into_iter());
        check(&sends, None);
        // What is about to come holds back at once.
        let door = door(Some(5000), listed(5000));
        check(&door, None);
        door.restrict(&Standing { suspended: named(), ..none() });
        check(&door, Some(Held::Suspended));
        door.set_standing(listed(5000));
        door.handle_doubt();
        check(&door, Some(Held::Unconfirmed));
        door.set_standing(listed(5000));
        check(&door, Some(Held::Unconfirmed));
        door.set_standing(listed(5001));
        check(&door, None);
        door.handle_doubt();
        door.handle_confirmed(0, WallTime::from_seconds(5000));
        check(&door, None);
        // The program was started again; what lies on the disk is what was in doubt.
        let started = |standing| {
            let confirmed = Some(WallTime::from_seconds(5000));
            let door = Door::new(now(0, Ntp), BootNumber(2), confirmed);
            door.set_doubt(Some(Doubt { after: Some(WallTime::from_seconds(5000)) }));
            door.set_lanes([(1, super::super::tests::lane())].into_iter());
            door.set_standing(standing);
            door
        };
        check(&started(listed(5000)), Some(Held::Unconfirmed));
        check(&started(none()), Some(Held::Unconfirmed));
        check(&started(listed(5001)), None);
        let door = started(listed(4000));
        door.handle_doubt();
        door.set_standing(listed(4500));
        check(&door, Some(Held::Unconfirmed));
    }
}
