//! What conjunctions of tests say together: whether they can hold, and whether one implies another.
//!
//! Tests of one operand are tried on samples: enough values that every way in which its tests can come
//! out occurs among them. Operands are taken as independent. What is too large, or asks something that
//! has no samples, is undecided: then nothing is claimed, so a sound rule is never called senseless.
//!
//! Never here: what is wrong with a contract; that says `check`.

mod samples;

use crate::constraint::{Constraint, Test};
use crate::contract::Contract;
use samples::{Axis, Sample, axis, count_max, holds, names_in, samples};

/// Most disjuncts of a rule; a rule with more is undecided.
const DISJUNCTS_MAX: usize = 64;
/// Most answers to single tests, counted in names, for one contract: some milliseconds.
const WORK_MAX: usize = 1 << 22;

/// A part of a conjunction: one operand's tests in any tree, or a part that only equals itself.
#[derive(Debug, Clone, Copy)]
struct Literal<'c> {
    constraint: &'c Constraint,
    axis: Option<Axis<'c>>,
}

/// Parts that must all hold.
#[derive(Debug, Clone, Default)]
pub(super) struct Conjunction<'c>(Vec<Literal<'c>>);

/// The conjunctions of which one must hold; `None` if there are more than [`DISJUNCTS_MAX`].
pub(super) fn disjuncts(constraint: &Constraint) -> Option<Vec<Conjunction<'_>>> {
    let leaf = |axis| Some(vec![Conjunction(vec![Literal { constraint, axis }])]);
    if let Some(axis) = common_axis(constraint) {
        return leaf(Some(axis));
    }
    match constraint {
        Constraint::Test(_) | Constraint::Xone(_) => leaf(None),
        Constraint::And(parts) => {
            let mut all = vec![Conjunction::default()];
            for part in parts {
                let part = disjuncts(part)?;
                if all.len() * part.len() > DISJUNCTS_MAX {
                    return None;
                }
                match part.as_slice() {
                    // Thousands of parts without `or` are not copied thousands of times.
                    [one] => all.iter_mut().for_each(|all| all.0.extend(&one.0)),
                    part => {
                        let pairs =
                            all.iter().flat_map(|one| part.iter().map(|other| one.and(other)));
                        all = pairs.collect();
                    }
                }
            }
            Some(all)
        }
        Constraint::Or(parts) => {
            let mut any = Vec::new();
            for part in parts {
                any.extend(disjuncts(part)?);
                if any.len() > DISJUNCTS_MAX {
                    return None;
                }
            }
            Some(any)
        }
    }
}

/// The operand that all tests of a tree ask.
fn common_axis(constraint: &Constraint) -> Option<Axis<'_>> {
    let leaves = constraint.leaves();
    let first = axis(&leaves.first()?.test)?;
    leaves.iter().all(|leaf| axis(&leaf.test) == Some(first)).then_some(first)
}

impl<'c> Conjunction<'c> {
    fn and(&self, other: &Self) -> Self {
        Self(self.0.iter().chain(&other.0).copied().collect())
    }

    /// What it says of each operand.
    fn groups(&self) -> Vec<(Axis<'c>, Vec<&'c Constraint>)> {
        let mut groups: Vec<(Axis<'c>, Vec<&'c Constraint>)> = Vec::new();
        for literal in &self.0 {
            let Some(axis) = literal.axis else { continue };
            match groups.iter_mut().find(|(known, _)| *known == axis) {
                Some((_, group)) => group.push(literal.constraint),
                None => groups.push((axis, vec![literal.constraint])),
            }
        }
        groups
    }

    fn group(&self, axis: Axis<'_>) -> Vec<&'c Constraint> {
        let on = self.0.iter().filter(|literal| literal.axis.is_some_and(|own| own == axis));
        on.map(|literal| literal.constraint).collect()
    }

    fn opaque(&self) -> impl Iterator<Item = &'c Constraint> {
        self.0.iter().filter(|literal| literal.axis.is_none()).map(|literal| literal.constraint)
    }
}

/// Answers for one contract, within a budget.
pub(super) struct Reasoner<'c> {
    contract: &'c Contract,
    work_left: usize,
}

impl<'c> Reasoner<'c> {
    pub(super) fn new(contract: &'c Contract) -> Self {
        Self { contract, work_left: WORK_MAX }
    }

    /// Whether it can hold, as far as can be told. `is_own`: recipient, purpose and the like are those
    /// of the contract.
    pub(super) fn is_possible(&mut self, all: &Conjunction<'c>, is_own: bool) -> bool {
        all.groups().iter().all(|(axis, group)| {
            let samples = self.samples(*axis, &tests_of(group), is_own);
            samples.is_none_or(|samples| samples.iter().any(|one| all_hold(group, one)))
        })
    }

    /// Whether `narrow` holds only where `wide` does, as far as can be told.
    pub(super) fn implies(
        &mut self,
        narrow: &Conjunction<'c>,
        wide: &Conjunction<'c>,
        is_own: bool,
    ) -> bool {
        let is_among = |one| narrow.opaque().any(|other| super::is_same(one, other));
        wide.opaque().all(is_among)
            && wide.groups().iter().all(|(axis, wide)| {
                let narrow = narrow.group(*axis);
                let tests = [tests_of(&narrow), tests_of(wide)].concat();
                let samples = self.samples(*axis, &tests, is_own);
                samples.is_some_and(|samples| {
                    samples.iter().all(|one| !all_hold(&narrow, one) || all_hold(wide, one))
                })
            })
    }

    /// `None` once trying them would cost too much.
    fn samples(&mut self, axis: Axis<'_>, tests: &[&Test], is_own: bool) -> Option<Vec<Sample>> {
        let names: usize = tests.iter().map(|test| names_in(test)).sum();
        let work = (names + 1) * count_max(axis, names);
        self.work_left = self.work_left.checked_sub(work)?;
        Some(samples(axis, tests, (self.contract, is_own)))
    }
}

fn tests_of<'c>(group: &[&'c Constraint]) -> Vec<&'c Test> {
    group.iter().flat_map(|one| one.leaves()).map(|leaf| &leaf.test).collect()
}

fn all_hold(group: &[&Constraint], sample: &Sample) -> bool {
    group.iter().all(|one| tree_holds(one, sample))
}

fn tree_holds(constraint: &Constraint, sample: &Sample) -> bool {
    match constraint {
        Constraint::Test(leaf) => holds(&leaf.test, sample),
        Constraint::And(parts) => parts.iter().all(|part| tree_holds(part, sample)),
        Constraint::Or(parts) => parts.iter().any(|part| tree_holds(part, sample)),
        Constraint::Xone(parts) => {
            parts.iter().filter(|part| tree_holds(part, sample)).count() == 1
        }
    }
}
