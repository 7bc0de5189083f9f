//! The verdicts of all contracts on all rows of a batch, without building what leaves.
//!
//! Rows with the same verdict are one group, a bit for each row. Rules that ask no counter are answered
//! for 64 rows at once; the others row by row, because what one row uses up is gone for the next. Once
//! the buffers have grown, nothing is allocated as long as no counter is asked.

use super::columns::{BLOCK_ROWS, Block, reading};
use super::program::Asks;
use super::{Grant, Permit, Plan, PointRules, Reading, RuleSet, Verdict};
use crate::situation::Situation;
use crate::usage::{CellKey, Usage};
use guan_model::{Batch, ContractId, Series};

/// Rows of one series about which one contract says the same.
#[derive(Debug, Clone, Copy)]
struct Group {
    contract: u32,
    series: u32,
    verdict: Verdict,
    /// Where its bits begin.
    words_at: usize,
}

/// What [`Plan::judge`] found; the buffers are used again.
#[derive(Debug, Clone, Default)]
pub struct Verdicts {
    groups: Vec<Group>,
    words: Vec<u64>,
    /// Words of each group of the series at hand.
    width: usize,
    widths: Vec<usize>,
    /// First group of the contract and series at hand.
    from: usize,
    /// Prohibitions that fire for the block at hand if they do so when its rows leave, too.
    later: Vec<(usize, u64)>,
}

/// Rows of one series about which one contract says the same.
#[derive(Debug, Clone, Copy)]
pub struct Judged<'v> {
    /// Place of the contract, by id, among those that speak of the dataset.
    pub contract: usize,
    /// Place of the series in the batch.
    pub series: usize,
    pub(crate) verdict: Verdict,
    words: &'v [u64],
}

impl Judged<'_> {
    /// Whether the rows may be kept; what asks for the moment of leaving is still open.
    pub fn is_permitted(&self) -> bool {
        matches!(self.verdict, Verdict::Permit(..))
    }

    /// Whether a prohibition fired.
    pub fn is_forbidden(&self) -> bool {
        matches!(self.verdict, Verdict::Forbid(_))
    }

    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// The rows, in order.
    pub fn rows(&self) -> impl Iterator<Item = usize> {
        self.words.iter().enumerate().flat_map(|(place, word)| {
            let rest = |word: &u64| Some(word & (word - 1)).filter(|word| *word != 0);
            let words = std::iter::successors(Some(*word).filter(|word| *word != 0), rest);
            words.map(move |word| place * BLOCK_ROWS + word.trailing_zeros() as usize)
        })
    }
}

impl Plan {
    /// What each contract says of each row, as `decide` finds it; counts what permitted rows use up. A
    /// batch of another descriptor table, or of a dataset of which no contract speaks, has no verdicts.
    pub fn judge(
        &self,
        situation: &Situation,
        usage: &mut Usage,
        batch: &Batch,
        verdicts: &mut Verdicts,
    ) {
        verdicts.clear();
        if batch.header.descriptors != self.descriptors() {
            return;
        }
        let Some(dataset) = self.dataset(&batch.header.dataset) else { return };
        for series in &batch.series {
            let ordinal = dataset.ordinal(series.point);
            verdicts.begin(series);
            for (place, grant) in dataset.grants().iter().enumerate() {
                verdicts.judge(place, grant, ordinal, (situation, series), usage);
            }
        }
    }
}

impl Verdicts {
    /// All groups, by series, then by contract, then by their first rows.
    pub fn iter(&self) -> impl Iterator<Item = Judged<'_>> {
        self.groups.iter().map(|group| self.judged(group))
    }

    fn judged(&self, group: &Group) -> Judged<'_> {
        let (contract, series) = (group.contract as usize, group.series as usize);
        let words = &self.words[group.words_at..group.words_at + self.widths[series]];
        Judged { contract, series, verdict: group.verdict, words }
    }

    /// The groups of the contract and series that were judged last.
    pub(crate) fn last(&self) -> impl Iterator<Item = Judged<'_>> {
        self.groups[self.from..].iter().map(|group| self.judged(group))
    }

    pub(crate) fn clear(&mut self) {
        self.groups.clear();
        self.words.clear();
        self.widths.clear();
    }

    /// The series that is judged next.
    pub(crate) fn begin(&mut self, series: &Series) {
        self.width = series.rows().div_ceil(BLOCK_ROWS);
        self.widths.push(self.width);
    }

    /// Adds what one contract says of the series that was begun.
    pub(crate) fn judge(
        &mut self,
        contract: usize,
        grant: &Grant,
        ordinal: Option<usize>,
        (situation, series): (&Situation, &Series),
        usage: &mut Usage,
    ) {
        self.from = self.groups.len();
        let rules = ordinal.map(|ordinal| grant.rules(ordinal));
        let Some(rules) = rules.filter(|rules| !rules.is_empty()) else {
            return self.add_all(contract, Verdict::NotCovered, series);
        };
        if !grant.is_in_term(&situation.now) {
            return self.add_all(contract, Verdict::OutOfTerm, series);
        }
        match rules.asks() {
            Asks::Batch if grant.quotas.is_empty() => {
                let verdict = rules.verdict(situation, &reading(series, 0), usage);
                self.add_all(contract, verdict, series);
            }
            Asks::Rows if grant.quotas.is_empty() => {
                for at in (0..series.rows()).step_by(BLOCK_ROWS) {
                    self.add_block(contract, rules, situation, (series, at));
                }
            }
            _ => self.add_counted(contract, grant, rules, (situation, series), usage),
        }
        // A block begins its groups in the order of verdicts.
        if self.groups.len() > self.from + 1 {
            let (words, width) = (&self.words, self.width);
            let first_row = |group: &Group| {
                let mut words = words[group.words_at..][..width].iter().enumerate();
                let first = words.find(|(_, word)| **word != 0);
                first.map(|(place, word)| place * BLOCK_ROWS + word.trailing_zeros() as usize)
            };
            self.groups[self.from..].sort_unstable_by_key(first_row);
        }
    }

    /// The rows of a block by verdict.
    fn add_block(
        &mut self,
        contract: usize,
        rules: &PointRules,
        situation: &Situation,
        (series, at): (&Series, usize),
    ) {
        let block = Block::at(situation, series, at);
        let word = at / BLOCK_ROWS;
        let mut open = block.rows();
        self.later.clear();
        for (place, forbid) in rules.forbids_at(situation) {
            let fires = open & !forbid.program.answers(&block).is_false;
            if forbid.is_final() {
                self.add(contract, Verdict::Forbid(place), word, fires);
                open &= !fires;
            } else if fires != 0 {
                self.later.push((place, fires));
            }
            if open == 0 {
                return;
            }
        }
        for (place, permit) in rules.permits_at(situation) {
            let holds = open & permit.program.answers(&block).is_true;
            open &= !holds;
            self.add_permitted(contract, place, word, holds);
            if open == 0 {
                return;
            }
        }
        self.add(contract, Verdict::None, word, open);
    }

    /// Rows of a permit, divided by the prohibitions that are asked again when they leave.
    fn add_permitted(&mut self, contract: usize, place: usize, word: usize, holds: u64) {
        let mut rest = holds;
        while rest != 0 {
            let (mut same, mut later) = (rest, RuleSet::default());
            let first = 1 << rest.trailing_zeros();
            for (forbid, fires) in &self.later {
                if fires & first == 0 {
                    same &= !fires;
                } else {
                    same &= fires;
                    later.insert(*forbid);
                }
            }
            self.add(contract, Verdict::Permit(place, later), word, same);
            rest &= !same;
        }
    }

    /// Rows in order, each after what those before it have used up.
    fn add_counted(
        &mut self,
        contract: usize,
        grant: &Grant,
        rules: &PointRules,
        (situation, series): (&Situation, &Series),
        usage: &mut Usage,
    ) {
        for row in 0..series.rows() {
            let reading = reading(series, row);
            let mut verdict = rules.verdict(situation, &reading, usage);
            if let Verdict::Permit(place, _) = verdict
                && !charge(grant, rules.permit(place), (situation, &reading), usage)
            {
                verdict = Verdict::None;
            }
            self.add(contract, verdict, row / BLOCK_ROWS, 1 << (row % BLOCK_ROWS));
        }
    }

    fn add_all(&mut self, contract: usize, verdict: Verdict, series: &Series) {
        let rest = series.rows() % BLOCK_ROWS;
        self.add(contract, verdict, 0, u64::MAX);
        let words_at = self.words.len() - self.width;
        self.words[words_at..].fill(u64::MAX);
        if rest != 0 {
            self.words[words_at + self.width - 1] = (1 << rest) - 1;
        }
    }

    /// Adds rows to the group of their verdict.
    fn add(&mut self, contract: usize, verdict: Verdict, word: usize, rows: u64) {
        if rows == 0 {
            return;
        }
        let known = self.groups[self.from..].iter().find(|group| group.verdict == verdict);
        let words_at = known.map(|group| group.words_at).unwrap_or_else(|| {
            let words_at = self.words.len();
            self.words.resize(words_at + self.width, 0);
            let contract = u32::try_from(contract).expect("below CONTRACTS_MAX");
            let series = u32::try_from(self.widths.len() - 1).expect("below ROWS_PER_BATCH_MAX");
            self.groups.push(Group { contract, series, verdict, words_at });
            words_at
        });
        self.words[words_at + word] |= rows;
    }
}

/// Counts a reading in all counters of the contract; `false`: there is no room to count.
fn charge(
    grant: &Grant,
    permit: &Permit,
    (situation, reading): (&Situation, &Reading),
    usage: &mut Usage,
) -> bool {
    if matches!(permit.form.first(), Some(crate::duty::Transform::Drop)) {
        return true;
    }
    let contract: &ContractId = grant.contract();
    let now = situation.now.wall;
    let quotas = grant.quotas.iter().all(|key| {
        let cell = CellKey::Quota { contract: contract.clone(), key: *key };
        usage.charge(&cell, key.period.number(now), key.cost(reading.bytes)).is_ok()
    });
    quotas
        && permit.rates.iter().all(|rate| {
            let (contract, rule) = (contract.clone(), permit.rule.clone());
            let cell = CellKey::Rate { contract, rule, rate: Some(*rate) };
            usage.take_one(&cell, *rate, reading.gateway_time).is_ok()
        })
}
