//! The second decision: may this batch leave now? Asked by the link's reader for every batch, each time.
//!
//! Invariants: nothing leaves in a session before the space has confirmed which contracts stand; nothing
//! leaves under a contract that is suspended, over, not yet begun, or not confirmed for longer than its
//! lease; with a clock that is not set only what the space's set names leaves, since every contract has a
//! term and only the space then knows the time.
//!
//! Never here: what becomes of lanes that end; the writer shreds them. A medium has a rule of its own ([`medium`]).

mod medium;

use crate::lanes::Lane;
use guan_model::bytes_io::{ReadFault, Reader, Writer};
use guan_model::{BootNumber, ClockQuality, ContractId, Digest, Now, StreamId, WallTime};
use guan_policy::contract::Fate;
use guan_policy::{Leave, Situation, Terms, TermsFault};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

/// What stands before a batch in the spool: whose key opens it, on which terms it leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    pub contract: Digest,
    /// As [`Terms::encode`] gives them.
    pub terms: Vec<u8>,
}

const VERSION: u8 = 1;

/// Why a batch cannot be asked about; it stays where it is.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeFault {
    #[error("the terms of a batch in the spool have version {0}, which a later program wrote")]
    Version(u8),
    #[error("the terms of a batch in the spool end too early")]
    Read(#[from] ReadFault),
    #[error(transparent)]
    Terms(#[from] TermsFault),
}

impl Envelope {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u8(VERSION);
        out.raw(&self.contract.0);
        out.raw(&self.terms);
        out.finish()
    }

    /// `None` for a batch of an earlier release: not enciphered, on no terms.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, EnvelopeFault> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            VERSION => {}
            version => return Err(EnvelopeFault::Version(version)),
        }
        Ok(Some(Self { contract: reader.digest()?, terms: reader.rest().to_vec() }))
    }
}

/// Why something waits, for status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// The space has not confirmed the contracts in this session yet.
    Unconfirmed,
    ClockNotSet,
    Suspended,
    NotYetValid,
    /// The space has not confirmed the contract for longer than its lease allows.
    LeaseOver,
    /// Over; the writer is about to shred it.
    Ended,
    /// Kept by a release that asked for no contract.
    NoContract,
    /// A rule of the contract.
    Rule(Arc<str>),
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unconfirmed => f.write_str("the space has not confirmed the contracts yet"),
            Self::ClockNotSet => f.write_str("the clock is not set"),
            Self::Suspended => f.write_str("the contract is suspended"),
            Self::NotYetValid => f.write_str("the contract is not valid yet"),
            Self::LeaseOver => f.write_str("the space has not confirmed the contract in its lease"),
            Self::Ended => f.write_str("the contract is over"),
            Self::NoContract => f.write_str("no contract covers it"),
            Self::Rule(rule) => write!(f, "rule {rule}"),
        }
    }
}

/// What the space last said about the contracts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whose set it is.
    pub space: Option<String>,
    /// In the space's set and not over, by the space's clock.
    pub listed: BTreeSet<ContractId>,
    pub suspended: BTreeSet<ContractId>,
    pub revoked: BTreeSet<ContractId>,
    /// Over in any other way, as the set says.
    pub ended: BTreeSet<ContractId>,
    /// When the set was signed, by the space's clock: it is later than that now, whatever this box's clock says.
    pub issued: Option<WallTime>,
    /// Some contracts could not be read: what is not there has not ended for that.
    pub is_uncertain: bool,
}

impl Standing {
    /// Whether a contract that no plan has may be taken for ended.
    pub fn has_ended(&self, contract: &ContractId) -> bool {
        let stands = self.listed.contains(contract) || self.suspended.contains(contract);
        self.is_final(contract) || !(stands || self.is_uncertain)
    }

    /// Whether the space itself says that it is over.
    pub fn is_final(&self, contract: &ContractId) -> bool {
        self.revoked.contains(contract) || self.ended.contains(contract)
    }
}

/// What the space said last is in doubt, until a session confirms what stands, or a set comes that was signed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doubt {
    /// When the set was signed that nobody can rely on now; `None`: there was none.
    pub after: Option<WallTime>,
}

struct State {
    situation: Situation,
    boot: BootNumber,
    lanes: BTreeMap<u16, Lane>,
    standing: Standing,
    session: u64,
    /// In this session of the link.
    is_confirmed: bool,
    /// What the space said last could not be kept, or the disk was set back; carried over restarts.
    doubt: Option<Doubt>,
    /// Place in the policy's `TIERS` that this box has when the space hears it.
    tier: u8,
    /// When the space last confirmed the contracts, by wall clock; carried over restarts.
    confirmed_at: Option<WallTime>,
    held: BTreeMap<StreamId, Held>,
    /// Streams that take nothing new: what waits in them is a backlog.
    resting: BTreeSet<StreamId>,
}

/// Shared by the writer, which says what stands, and the reader, which asks.
#[derive(Clone)]
pub struct Door {
    shared: Arc<Mutex<State>>,
}

impl Door {
    pub fn new(now: Now, boot: BootNumber, confirmed_at: Option<WallTime>) -> Self {
        let state = State {
            situation: Situation::at(now),
            boot,
            lanes: BTreeMap::new(),
            standing: Standing::default(),
            session: 0,
            is_confirmed: false,
            doubt: None,
            tier: 0,
            confirmed_at,
            held: BTreeMap::new(),
            resting: BTreeSet::new(),
        };
        Self { shared: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock().expect("nobody panics while holding it")
    }

    /// How well this box is attested in a session, as a place in [`guan_policy::situation::TIERS`].
    pub fn set_tier(&self, tier: u8) {
        self.state().tier = tier;
    }

    /// What is known of box and surroundings, other than the time.
    pub fn set_situation(&self, change: impl FnOnce(&mut Situation)) {
        change(&mut self.state().situation);
    }

    pub fn situation(&self, now: Now) -> Situation {
        Situation { now, ..self.state().situation.clone() }
    }

    /// A session of the link begins: contracts and attestation must be confirmed anew.
    pub fn handle_session(&self) {
        let mut state = self.state();
        state.session += 1;
        state.is_confirmed = false;
        state.situation.attested = None;
    }

    /// The number of the link's session, counted from the start.
    pub fn session(&self) -> u64 {
        self.state().session
    }

    /// The space has said in a session which contracts stand. What was said in an earlier one is old: a
    /// revocation may have come since.
    pub fn handle_confirmed(&self, session: u64, now: WallTime) {
        let mut state = self.state();
        if session != state.session {
            return;
        }
        state.is_confirmed = true;
        state.doubt = None;
        // The space hears no box before its verdict allows it.
        state.situation.attested = Some(state.tier);
        state.confirmed_at = state.confirmed_at.max(Some(now));
    }

    pub fn confirmed_at(&self) -> Option<WallTime> {
        self.state().confirmed_at
    }

    pub fn set_standing(&self, standing: Standing) {
        let mut state = self.state();
        // A newer set than the one in doubt settles it.
        state.doubt = state.doubt.filter(|doubt| standing.issued <= doubt.after);
        state.standing = standing;
    }

    /// Holds back at once what a standing that is about to come into force forbids: until it does, what is
    /// kept and what leaves must be durable in order, which takes its time.
    pub fn restrict(&self, coming: &Standing) {
        let mut state = self.state();
        state.standing.revoked.extend(coming.revoked.iter().cloned());
        state.standing.suspended.extend(coming.suspended.iter().cloned());
        state.standing.ended.extend(coming.ended.iter().cloned());
    }

    /// What the space said in this session could not be kept, so nobody knows what stands.
    pub fn handle_doubt(&self) {
        let mut state = self.state();
        let before = state.doubt.and_then(|doubt| doubt.after);
        let after = state.standing.issued.max(before);
        (state.is_confirmed, state.doubt) = (false, Some(Doubt { after }));
    }

    /// What was in doubt when the program ended.
    pub fn set_doubt(&self, doubt: Option<Doubt>) {
        self.state().doubt = doubt;
    }

    pub fn set_lanes(&self, lanes: impl Iterator<Item = (u16, Lane)>) {
        let mut state = self.state();
        state.lanes = lanes.collect();
        let lanes: BTreeSet<u16> = state.lanes.keys().copied().collect();
        state.held.retain(|stream, _| lanes.contains(&stream.lane()));
    }

    /// How many lanes are open.
    pub fn lanes(&self) -> u16 {
        u16::try_from(self.state().lanes.len()).expect("lanes are numbered so")
    }

    pub fn set_resting(&self, streams: impl Iterator<Item = StreamId>) {
        self.state().resting = streams.collect();
    }

    /// Streams that rest and are not in `known`, which is brought up to date; and the streams of their other sides.
    pub fn news_of_resting(
        &self,
        known: &mut BTreeSet<StreamId>,
    ) -> Vec<(StreamId, Option<StreamId>)> {
        let state = self.state();
        let new: Vec<StreamId> = state.resting.difference(known).copied().collect();
        known.clone_from(&state.resting);
        let partner = |stream: StreamId| {
            let lane = state.lanes.get(&stream.lane())?;
            let mut others = state.lanes.iter().filter(|(number, _)| **number != stream.lane());
            let (number, _) = others.find(|(_, other)| other.is_like(lane))?;
            Some(StreamId::of(stream.class(), *number))
        };
        new.into_iter().map(|stream| (stream, partner(stream))).collect()
    }

    /// Why a stream waits; `None`: its batches may be looked at one by one.
    pub fn held(&self, stream: StreamId, now: &Now) -> Option<Held> {
        let mut state = self.state();
        let held = state.judge(stream, now);
        match &held {
            Some(held) => state.held.insert(stream, held.clone()),
            None => state.held.remove(&stream),
        };
        held
    }

    /// Whether a batch may leave now.
    pub fn judge(&self, stream: StreamId, terms: &[u8], now: Now) -> Result<Leave, TermsFault> {
        let Some(terms) = Terms::decode(terms)? else { return Ok(Leave::Now) };
        let situation = self.situation(now);
        let mut state = self.state();
        let leave = terms.judge(&situation, state.boot);
        if let Leave::Hold(rule) | Leave::Never(rule) = &leave {
            state.held.insert(stream, Held::Rule(rule.clone()));
        }
        Ok(leave)
    }

    /// Whether anything waits.
    pub fn is_waited_at(&self) -> bool {
        !self.state().held.is_empty()
    }

    /// What waits, and why.
    pub fn waiting(&self) -> Vec<(StreamId, Option<ContractId>, Held)> {
        let state = self.state();
        let waiting = state.held.iter().map(|(stream, held)| {
            let contract = state.lanes.get(&stream.lane()).map(|lane| lane.contract.clone());
            (*stream, contract, held.clone())
        });
        waiting.collect()
    }
}

impl State {
    fn judge(&self, stream: StreamId, now: &Now) -> Option<Held> {
        if !self.is_confirmed {
            return Some(Held::Unconfirmed);
        }
        if stream.lane() == 0 {
            return None;
        }
        // A lane that the writer has closed is empty.
        let Some(lane) = self.lanes.get(&stream.lane()) else { return Some(Held::Ended) };
        if self.standing.revoked.contains(&lane.contract) {
            return Some(Held::Ended);
        }
        if self.standing.ended.contains(&lane.contract) && lane.lease.on_early_end == Fate::Shred {
            return Some(Held::Ended);
        }
        if self.standing.suspended.contains(&lane.contract) {
            return Some(Held::Suspended);
        }
        if now.quality == ClockQuality::Unset {
            // The space has just said, by its own clock, that the contract is not over; and that it has
            // begun only if the set was signed after that.
            let is_listed = self.standing.listed.contains(&lane.contract);
            let issued = self.standing.issued;
            let has_begun = issued.is_some_and(|issued| issued >= lane.not_before);
            return (!(is_listed && has_begun)).then_some(Held::ClockNotSet);
        }
        if now.wall >= lane.ends() {
            return Some(Held::Ended);
        }
        if now.wall < lane.not_before {
            return Some(Held::NotYetValid);
        }
        let is_leased =
            self.confirmed_at.is_some_and(|at| now.wall.since(at) <= lane.lease.max_offline);
        (!is_leased).then_some(Held::LeaseOver)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guan_policy::contract::Lease;
    use std::time::Duration;

    const HOUR: u64 = 3600;

    pub(super) fn lane() -> Lane {
        Lane {
            contract: ContractId::parse("C").unwrap(),
            version: 1,
            digest: Digest([1; 32]),
            conditions: Digest([2; 32]),
            not_before: WallTime::from_seconds(1000),
            not_after: WallTime::from_seconds(100_000),
            lease: Lease {
                max_offline: Duration::from_secs(2 * HOUR),
                grace_delivery: Duration::from_secs(HOUR),
                ..Lease::default()
            },
        }
    }

    pub(super) fn now(seconds: i64, quality: ClockQuality) -> Now {
        Now { wall: WallTime::from_seconds(seconds), monotonic: Duration::ZERO, quality }
    }

    #[test]
    fn lanes_wait_for_space_clock_term_and_lease() {
        let door = Door::new(now(0, ClockQuality::Rtc), BootNumber(1), None);
        door.set_lanes([(1, lane())].into_iter());
        let contract = StreamId::of(2, 1);
        let check = |stream, seconds, quality, expect: Option<Held>| {
            assert_eq!(door.held(stream, &now(seconds, quality)), expect, "{stream} {seconds}");
        };
        use ClockQuality::{Rtc, Unset};
        check(contract, 5000, Rtc, Some(Held::Unconfirmed));
        check(StreamId(2), 5000, Rtc, Some(Held::Unconfirmed));
        door.handle_session();
        door.handle_confirmed(0, WallTime::from_seconds(5000));
        check(contract, 5000, Rtc, Some(Held::Unconfirmed));
        door.handle_confirmed(1, WallTime::from_seconds(5000));
        check(contract, 5000, Rtc, None);
        check(StreamId(2), 5000, Unset, None);
        check(contract, 5000, Unset, Some(Held::ClockNotSet));
        check(contract, 999, Rtc, Some(Held::NotYetValid));
        check(contract, 5000 + 7200, Rtc, None);
        check(contract, 5000 + 7201, Rtc, Some(Held::LeaseOver));
        check(StreamId::of(2, 9), 5000, Rtc, Some(Held::Ended));
        door.handle_confirmed(1, WallTime::from_seconds(103_000));
        check(contract, 103_599, Rtc, None);
        check(contract, 103_600, Rtc, Some(Held::Ended));
        let contracts = BTreeSet::from([ContractId::parse("C").unwrap()]);
        door.set_standing(Standing { suspended: contracts.clone(), ..Standing::default() });
        check(contract, 5000, Rtc, Some(Held::Suspended));
        door.set_standing(Standing { revoked: contracts, ..Standing::default() });
        check(contract, 5000, Rtc, Some(Held::Ended));
        let listed = BTreeSet::from([ContractId::parse("C").unwrap()]);
        let issued = |second| Some(WallTime::from_seconds(second));
        let standing = |issued| Standing { listed: listed.clone(), issued, ..Standing::default() };
        door.set_standing(standing(issued(1000)));
        check(contract, 5000, Rtc, None);
        check(contract, 1, Unset, None);
        door.set_standing(standing(issued(999)));
        check(contract, 1, Unset, Some(Held::ClockNotSet));
        door.set_standing(standing(None));
        check(contract, 1, Unset, Some(Held::ClockNotSet));
        // The set says that it is over, though some file here cannot be read.
        let ended = BTreeSet::from([ContractId::parse("C").unwrap()]);
        door.set_standing(Standing { ended, is_uncertain: true, ..Standing::default() });
        check(contract, 5000, Rtc, Some(Held::Ended));
        // What comes holds back before it is in force.
        door.set_standing(Standing::default());
        check(contract, 5000, Rtc, None);
        door.restrict(&Standing { suspended: listed.clone(), ..Standing::default() });
        check(contract, 5000, Rtc, Some(Held::Suspended));
        door.restrict(&Standing { revoked: listed.clone(), ..Standing::default() });
        check(contract, 5000, Rtc, Some(Held::Ended));
        door.set_standing(Standing::default());
        check(contract, 5000, Rtc, None);
        door.handle_doubt();
        check(contract, 5000, Rtc, Some(Held::Unconfirmed));
        door.handle_session();
        check(contract, 5000, Rtc, Some(Held::Unconfirmed));
        assert_eq!(door.waiting().len(), 2);
    }

    #[test]
    fn envelopes_survive_their_bytes() {
        let envelope = Envelope { contract: Digest([3; 32]), terms: vec![1, 2, 3] };
        assert_eq!(Envelope::decode(&envelope.encode()).unwrap(), Some(envelope));
        assert_eq!(Envelope::decode(&[]).unwrap(), None);
        assert!(matches!(Envelope::decode(&[2]), Err(EnvelopeFault::Version(2))));
        assert!(Envelope::decode(&[1, 0]).is_err());
    }
}
