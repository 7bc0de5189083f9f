//! What one contract says about the points of one dataset.

use super::PlanWarning;
use super::group::{Groups, Member, SharedWindows};
use super::program::{Asks, Collections, Counted, Fixed, Live, Program, Reading};
use crate::constraint::{QuotaKey, Rate, Test};
use crate::contract::check::binds_the_box;
use crate::contract::{Contract, Rule, RuleKind, Validity, validity};
use crate::decision::DenyReason;
use crate::duty::{NotifyOn, Transform};
use crate::situation::Situation;
use crate::terms::{Delay, Terms};
use crate::truth::Truth;
use crate::usage::Usage;
use guan_model::bytes_io::Writer;
use guan_model::descriptor::PointDescriptor;
use guan_model::{BootNumber, ClockQuality, ContractId, Digest, Now, PointId, WallTime};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Most different sets of rules that one contract has for the points of a dataset.
const RULE_SETS_MAX: usize = 4096;
/// Most prohibitions about one point, over all contracts of a consumer.
pub(crate) const FORBIDS_MAX: usize = 256;

/// Places of prohibitions in [`PointRules`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RuleSet([u64; FORBIDS_MAX / 64]);

impl RuleSet {
    pub(super) fn insert(&mut self, place: usize) {
        self.0[place / 64] |= 1 << (place % 64);
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = usize> {
        (0..FORBIDS_MAX).filter(move |place| self.0[place / 64] >> (place % 64) & 1 == 1)
    }

    pub(crate) fn places(self) -> Vec<u16> {
        self.iter().map(|place| u16::try_from(place).expect("below FORBIDS_MAX")).collect()
    }

    /// Places beyond the limit are another program's; they are left out.
    pub(crate) fn of(places: &[u16]) -> Self {
        let mut set = Self::default();
        let places = places.iter().map(|place| usize::from(*place));
        places.filter(|place| *place < FORBIDS_MAX).for_each(|place| set.insert(place));
        set
    }
}

/// A permission for some points: when it holds, and the form in which rows then leave.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Permit {
    contract: ContractId,
    pub(crate) rule: Arc<str>,
    pub(super) program: Program,
    /// Asked again when the rows leave.
    later: Program,
    /// In the order of their steps.
    pub(crate) form: Vec<Transform>,
    pub(crate) rates: Vec<Rate>,
    /// Of a form whose windows several points share.
    pub(crate) member: Option<Member>,
}

/// A prohibition for some points.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Forbid {
    contract: ContractId,
    pub(super) contract_digest: Digest,
    pub(super) rule: Arc<str>,
    /// Its contract's term; `None` for the grant's own contract, whose term is asked anyway.
    term: Option<(WallTime, WallTime)>,
    pub(super) program: Program,
    pub(super) later: Program,
}

/// The rules that are left for points about which a contract says the same.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct PointRules {
    pub(super) permits: Vec<Permit>,
    pub(super) forbids: Vec<Forbid>,
    asks: Asks,
}

/// What a contract says of one reading, by their places. The four verdicts of TC609-6-2025-15: allowed
/// (a permit with an empty form), allowed on conditions (with a form), refused (forbid), refused by
/// default (none).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// With the prohibitions that must be asked again when the reading leaves.
    Permit(usize, RuleSet),
    Forbid(usize),
    None,
    /// The contract's term does not let anything be kept.
    OutOfTerm,
    /// No permission is about the point.
    NotCovered,
}

impl PointRules {
    /// `others`: contracts of the same consumer, whose prohibitions bind it here, too.
    pub(super) fn of(fixed: &Fixed<'_>, others: &[&Contract]) -> Option<Self> {
        let mut rules = Self::default();
        let own = fixed.contract;
        for rule in own.rules().iter().filter(|rule| binds_the_box(rule)) {
            match rule.kind {
                RuleKind::Prohibition => rules.forbids.extend(Forbid::of(fixed, rule, None)),
                RuleKind::Permission => rules.permits.extend(Permit::of(fixed, rule)),
            }
        }
        if rules.permits.is_empty() {
            return Some(Self::default());
        }
        for other in others.iter().filter(|other| other.id() != own.id()) {
            let fixed = Fixed { contract: other, ..*fixed };
            let term = Some((other.not_before(), other.not_after()));
            let binding = other.rules().iter().filter(|rule| binds_the_box(rule));
            let forbids = binding.filter(|rule| rule.kind == RuleKind::Prohibition);
            rules.forbids.extend(forbids.filter_map(|rule| Forbid::of(&fixed, rule, term)));
        }
        rules.asks = rules.most_asked();
        (rules.forbids.len() <= FORBIDS_MAX).then_some(rules)
    }

    /// With other permissions; without any, nothing is left.
    pub(super) fn set_permits(&mut self, permits: Vec<Permit>) {
        self.permits = permits;
        match self.permits.is_empty() {
            true => *self = Self::default(),
            false => self.asks = self.most_asked(),
        }
    }

    fn most_asked(&self) -> Asks {
        let programs = self.permits.iter().map(|one| &one.program);
        let programs = programs.chain(self.forbids.iter().map(|one| &one.program));
        let asks = programs.map(Program::asks).max().unwrap_or_default();
        match self.permits.iter().any(|one| !one.rates.is_empty()) {
            // A rate is used up by every reading that the permission lets in, even where contract and
            // descriptor have answered the rule without it.
            true => Asks::Counters,
            false => asks,
        }
    }

    /// Whether no permission is about the point.
    pub(crate) fn is_empty(&self) -> bool {
        self.permits.is_empty()
    }

    pub(crate) fn permit(&self, place: usize) -> &Permit {
        &self.permits[place]
    }

    pub(crate) fn permit_by_rule(&self, rule: &str) -> Option<&Permit> {
        self.permits.iter().find(|permit| &*permit.rule == rule)
    }

    pub(crate) fn forbid_reason(&self, place: usize) -> DenyReason {
        let Forbid { contract, rule, .. } = &self.forbids[place];
        DenyReason::Prohibited { contract: contract.clone(), rule: rule.clone() }
    }

    /// The first permission, for saying what came closest.
    pub(crate) fn nearest(&self) -> Option<&Arc<str>> {
        self.permits.first().map(|permit| &permit.rule)
    }

    pub(crate) fn asks(&self) -> Asks {
        self.asks
    }

    /// Prohibitions that may bind, with their places.
    pub(super) fn forbids_at(
        &self,
        situation: &Situation,
    ) -> impl Iterator<Item = (usize, &Forbid)> {
        let forbids = self.forbids.iter().enumerate();
        forbids.filter(|(_, forbid)| forbid.may_bind(&situation.now))
    }

    /// Permissions that have not lapsed, with their places.
    pub(super) fn permits_at(
        &self,
        situation: &Situation,
    ) -> impl Iterator<Item = (usize, &Permit)> {
        let permits = self.permits.iter().enumerate();
        permits.filter(|(_, permit)| !situation.is_violated(&permit.contract, &permit.rule))
    }

    /// The programs of all permissions, and what they ask.
    pub(crate) fn permit_programs<'l>(
        &'l self,
        about: (&'l Situation, &'l Reading, &'l Usage),
    ) -> impl Iterator<Item = (&'l Program, Live<'l>)> {
        let programs = self.permits.iter();
        programs.map(move |one| (&one.program, live(&one.contract, &one.rule, about)))
    }

    /// The program of a prohibition, and what it asks.
    pub(crate) fn forbid_program<'l>(
        &'l self,
        place: usize,
        about: (&'l Situation, &'l Reading, &'l Usage),
    ) -> (&'l Program, Live<'l>) {
        let Forbid { contract, rule, program, .. } = &self.forbids[place];
        (program, live(contract, rule, about))
    }

    /// Prohibition wins, on true and on unknown; a permission needs true; else no.
    pub(crate) fn verdict(
        &self,
        situation: &Situation,
        reading: &Reading,
        usage: &Usage,
    ) -> Verdict {
        let mut later = RuleSet::default();
        for (place, forbid) in self.forbids.iter().enumerate() {
            if !forbid.may_bind(&situation.now)
                || forbid.program.truth(live(
                    &forbid.contract,
                    &forbid.rule,
                    (situation, reading, usage),
                )) == Truth::False
            {
                continue;
            }
            if forbid.is_final() {
                return Verdict::Forbid(place);
            }
            later.insert(place);
        }
        let holds = |permit: &Permit| {
            permit.program.truth(live(&permit.contract, &permit.rule, (situation, reading, usage)))
                == Truth::True
                && !situation.is_violated(&permit.contract, &permit.rule)
        };
        let permit = self.permits.iter().position(holds);
        permit.map_or(Verdict::None, |place| Verdict::Permit(place, later))
    }

    /// The version of the contract and the prohibitions, in their places: windows that were begun under others
    /// do not go on.
    fn identity(&self, contract: &Contract, descriptors: &Digest) -> Digest {
        let mut out = Writer::new();
        out.bytes(b"guan window rules 1");
        // Ids of points mean something in their table only.
        [descriptors, &contract.digest()].iter().for_each(|digest| out.raw(&digest.0));
        for forbid in &self.forbids {
            out.raw(&forbid.contract_digest.0);
            out.text(&forbid.rule);
        }
        Digest::of(&out.finish())
    }

    /// What must be asked of the result of a window when it leaves, beside its terms: prohibitions that nobody
    /// asked about its readings. `None`: one of them forbids it for good. The readings are gone, so what
    /// asks for them is not known, and a prohibition that is not known forbids.
    pub(crate) fn asks_beyond(
        &self,
        before: &Self,
        situation: &Situation,
    ) -> Option<Vec<(Arc<str>, Program)>> {
        let is_new = |forbid: &&Forbid| !before.forbids.iter().any(|known| known.asks_as(forbid));
        let fires = |forbid: &&Forbid| {
            forbid.may_bind(&situation.now)
                && forbid.program.truth_without_reading(situation) != Truth::False
        };
        let mut asked = Vec::new();
        for forbid in self.forbids.iter().filter(is_new).filter(fires) {
            if forbid.is_final() {
                return None;
            }
            asked.push((forbid.rule.clone(), forbid.later.clone()));
        }
        Some(asked)
    }

    /// What is asked when rows that a permit let in leave.
    pub(crate) fn terms(
        &self,
        permit: &Permit,
        forbids: RuleSet,
        now: Now,
        boot: BootNumber,
    ) -> Terms {
        let forbid = forbids.iter().filter_map(|place| self.forbids.get(place));
        let forbid = forbid.map(|one| (one.rule.clone(), one.later.clone()));
        permit.terms(forbid.collect(), now, boot)
    }
}

fn live<'l>(
    contract: &'l ContractId,
    rule: &'l Arc<str>,
    (situation, reading, usage): (&'l Situation, &'l Reading, &'l Usage),
) -> Live<'l> {
    Live { situation, reading, counted: Some(Counted { contract, rule, usage }) }
}

impl Permit {
    /// `None` for a rule that is never about the point.
    fn of(fixed: &Fixed<'_>, rule: &Rule) -> Option<Self> {
        let (program, later) = fixed.split(&rule.constraint);
        if [&program, &later].contains(&&Program::Known(Truth::False)) {
            return None;
        }
        let name = &fixed.point.name;
        let treats = rule.treatments.iter().filter(|one| one.points.covers(name.as_str()));
        let mut form: Vec<Transform> = treats.map(|one| one.transform.clone()).collect();
        form.sort_by_key(Transform::step);
        let mut groups = rule.treatments.iter().filter_map(|one| one.transform.group());
        if groups.any(|group| group.into == *name) {
            // Only results leave on it.
            form = vec![Transform::Drop];
        }
        let leaves = rule.constraint.leaves().into_iter();
        // A rate that is written twice is one.
        let rates: BTreeSet<Rate> = leaves
            .filter_map(|leaf| match &leaf.test {
                Test::Rate(rate) => Some(*rate),
                _ => None,
            })
            .collect();
        let (contract, rule) = (fixed.contract.id().clone(), rule.id.clone());
        let rates = rates.into_iter().collect();
        Some(Self { contract, rule, program, later, form, rates, member: None })
    }

    /// The point on which results of windows leave that several points share.
    pub(super) fn results_on(&self) -> Option<&str> {
        self.form.iter().find_map(Transform::group).map(|group| group.into.as_str())
    }

    /// Whether it asks the same of the moment of leaving.
    pub(super) fn leaves_as(&self, other: &Self) -> bool {
        self.later == other.later
    }

    /// What it asks of the moment of leaving, beside prohibitions, but for a delay.
    pub(super) fn asked(&self, forbid: Vec<(Arc<str>, Program)>) -> Terms {
        let (permission, require) = (self.rule.clone(), self.later.clone());
        Terms { permission, require, forbid, delay: None }
    }

    pub(super) fn terms(
        &self,
        forbid: Vec<(Arc<str>, Program)>,
        now: Now,
        boot: BootNumber,
    ) -> Terms {
        let delay = self.form.iter().find_map(|transform| match transform {
            Transform::Delay { span } => Some(Delay { span: *span, boot, kept_at: now }),
            _ => None,
        });
        Terms { delay, ..self.asked(forbid) }
    }
}

impl Forbid {
    /// `None` for a rule that is never about the point.
    fn of(fixed: &Fixed<'_>, rule: &Rule, term: Option<(WallTime, WallTime)>) -> Option<Self> {
        let (program, later) = fixed.split(&rule.constraint);
        if [&program, &later].contains(&&Program::Known(Truth::False)) {
            return None;
        }
        let (contract, rule) = (fixed.contract.id().clone(), rule.id.clone());
        let contract_digest = fixed.contract.digest();
        Some(Self { contract, contract_digest, rule, term, program, later })
    }

    /// Whether it asks the same, whoever says it; counters are those of one contract.
    pub(super) fn asks_as(&self, other: &Self) -> bool {
        let is_same_counter = self.program.asks() < Asks::Counters
            || (&self.contract, &self.rule) == (&other.contract, &other.rule);
        is_same_counter
            && (&self.program, &self.later, self.term) == (&other.program, &other.later, other.term)
    }

    /// Whether the moment of leaving changes nothing.
    pub(super) fn is_final(&self) -> bool {
        self.later == Program::Known(Truth::True)
    }

    /// Without a clock every prohibition binds.
    fn may_bind(&self, now: &Now) -> bool {
        self.term.is_none_or(|(from, until)| {
            now.quality == ClockQuality::Unset || validity(now, from, until) == Validity::Valid
        })
    }
}

/// What one contract says about one dataset.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Grant {
    contract: ContractId,
    contract_digest: Digest,
    not_before: WallTime,
    not_after: WallTime,
    /// Counters that its rules ask.
    pub(crate) quotas: Vec<QuotaKey>,
    /// Somebody wants to be told of what it refuses.
    pub(crate) tells: bool,
    /// For each point of the dataset, in order, its place in `rules`.
    rules_of: Vec<u16>,
    rules: Vec<PointRules>,
    /// One for each of `rules`.
    identities: Vec<Digest>,
    groups: Vec<SharedWindows>,
}

impl Grant {
    /// `None` when the contract divides the points into more than [`RULE_SETS_MAX`] kinds, or when more
    /// than [`FORBIDS_MAX`] prohibitions are about one point.
    pub(super) fn of(
        contract: &Contract,
        others: &[&Contract],
        points: &[&PointDescriptor],
        (descriptors, collections): (&Digest, &Collections),
        warnings: &mut Vec<PlanWarning>,
    ) -> Option<Self> {
        let mut rules: Vec<PointRules> = Vec::new();
        let mut rules_of = Vec::with_capacity(points.len());
        let mut groups = Groups::new(contract, others, points, collections);
        for (ordinal, point) in points.iter().enumerate() {
            let mut own = PointRules::of(&Fixed { contract, point, collections }, others)?;
            groups.admit(&mut own, ordinal)?;
            let known = rules.iter().position(|known| *known == own);
            let place = known.unwrap_or_else(|| {
                rules.push(own);
                rules.len() - 1
            });
            rules_of.push(u16::try_from(place).ok().filter(|_| place < RULE_SETS_MAX)?);
        }
        let leaves = contract.rules().iter().flat_map(|rule| rule.constraint.leaves());
        let quotas: BTreeSet<QuotaKey> = leaves
            .filter_map(|leaf| match &leaf.test {
                Test::Quota { key, .. } => Some(*key),
                _ => None,
            })
            .collect();
        Some(Self {
            contract: contract.id().clone(),
            contract_digest: contract.digest(),
            not_before: contract.not_before(),
            not_after: contract.not_after(),
            quotas: quotas.into_iter().collect(),
            tells: super::notifications(contract).iter().any(|(on, _)| *on != NotifyOn::Use),
            rules_of,
            identities: rules.iter().map(|one| one.identity(contract, descriptors)).collect(),
            groups: groups.finish(descriptors, warnings),
            rules,
        })
    }

    pub(crate) fn contract(&self) -> &ContractId {
        &self.contract
    }

    pub(crate) fn contract_digest(&self) -> Digest {
        self.contract_digest
    }

    /// Whether its term lets anything be kept. A clock that is only carried on runs late, so with it a
    /// term may have begun: the second decision asks again.
    pub(crate) fn is_in_term(&self, now: &Now) -> bool {
        match validity(now, self.not_before, self.not_after) {
            Validity::NotYet => now.quality == ClockQuality::Unset,
            Validity::Expired => false,
            Validity::Valid => true,
        }
    }

    /// Why a term that lets nothing be kept does not.
    pub(crate) fn out_of_term_reason(&self, now: &Now) -> DenyReason {
        let contract = self.contract.clone();
        match validity(now, self.not_before, self.not_after) {
            Validity::NotYet => DenyReason::NotYetValid { contract },
            _ => DenyReason::Expired { contract },
        }
    }

    /// Which rules `rules` gives: the same as long as nothing about them has changed.
    pub(crate) fn identity(&self, ordinal: usize) -> Digest {
        self.identities[usize::from(self.rules_of[ordinal])]
    }

    pub(crate) fn rules(&self, ordinal: usize) -> &PointRules {
        &self.rules[usize::from(self.rules_of[ordinal])]
    }

    pub(crate) fn group(&self, member: &Member) -> &SharedWindows {
        &self.groups[usize::from(member.group)]
    }

    /// The windows that points share under a rule, if just these rules stand.
    pub(crate) fn group_of(
        &self,
        rule: &str,
        into: PointId,
        identity: Digest,
    ) -> Option<&SharedWindows> {
        let is_it = |one: &&SharedWindows| {
            &*one.rule == rule && one.into == into && one.identity == identity
        };
        self.groups.iter().find(is_it)
    }
}
