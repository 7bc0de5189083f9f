//! Finding datasets in many catalogues: ranked, and the same for everybody who asks the same.
//!
//! Every word must occur somewhere (in the dataset's name, its points, units, tags, offers, provider or box);
//! where it occurs decides the rank. Then the more complete dataset goes first, then the identifier decides.

use crate::catalogue::{Catalogue, Dataset};
use crate::quality::Share;
use guan_model::{Class, Unit};

/// Most words of one question.
pub const WORDS_MAX: usize = 16;
/// Longest word, in bytes.
pub const WORD_BYTES_MAX: usize = 128;

/// Why a question cannot be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryFault {
    #[error("{count} words, the limit is {WORDS_MAX}; leave some out")]
    TooMany { count: usize },
    #[error("a word of {length} bytes, the limit is {WORD_BYTES_MAX}; shorten it")]
    TooLong { length: usize },
    #[error("unit {found:?} is no UCUM code; one is, for instance, Cel or km/h")]
    Unit { found: String },
    #[error("class {found:?} is not general, important or core")]
    Class { found: String },
    #[error("completeness {found:?} is no share from 0 to 1, such as 0.95")]
    Completeness { found: String },
}

/// What narrows a question, as people write it.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// UCUM.
    pub unit: Option<String>,
    /// The highest: general, important or core.
    pub class: Option<String>,
    pub provider: Option<String>,
    /// The least, such as 0.95.
    pub completeness: Option<String>,
}

/// What is looked for.
#[derive(Debug, Clone, Default)]
pub struct Query {
    words: Vec<String>,
    /// A point has this unit.
    pub unit: Option<Unit>,
    /// No class above this.
    pub class_max: Option<Class>,
    pub provider: Option<String>,
    /// Of the latest day; a dataset without a figure does not reach any.
    pub completeness_min: Option<Share>,
}

impl Query {
    /// Words are separated by blanks; upper and lower case are the same.
    pub fn new(text: &str) -> Result<Self, QueryFault> {
        let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
        if words.len() > WORDS_MAX {
            return Err(QueryFault::TooMany { count: words.len() });
        }
        if let Some(long) = words.iter().find(|word| word.len() > WORD_BYTES_MAX) {
            return Err(QueryFault::TooLong { length: long.len() });
        }
        Ok(Self { words, ..Self::default() })
    }

    /// The same question about less.
    pub fn within(mut self, limits: &Limits) -> Result<Self, QueryFault> {
        if let Some(unit) = &limits.unit {
            let parsed = Unit::parse(unit);
            self.unit = Some(parsed.ok_or_else(|| QueryFault::Unit { found: clipped(unit) })?);
        }
        if let Some(class) = &limits.class {
            let known = Class::from_name(class);
            self.class_max =
                Some(known.ok_or_else(|| QueryFault::Class { found: clipped(class) })?);
        }
        if let Some(share) = &limits.completeness {
            let parsed = Share::parse(share);
            self.completeness_min =
                Some(parsed.map_err(|_| QueryFault::Completeness { found: clipped(share) })?);
        }
        self.provider.clone_from(&limits.provider);
        Ok(self)
    }
}

/// What somebody wrote, as far as an answer repeats it.
fn clipped(text: &str) -> String {
    text.chars().take(WORD_BYTES_MAX).collect()
}

/// A dataset that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit<'c> {
    pub catalogue: &'c Catalogue,
    pub dataset: &'c Dataset,
    /// Only to be compared with others of the same question.
    pub score: u32,
}

/// All datasets that fit, best first.
pub fn search<'c>(
    catalogues: impl IntoIterator<Item = &'c Catalogue>,
    query: &Query,
) -> Vec<Hit<'c>> {
    let mut hits: Vec<Hit<'c>> = Vec::new();
    for catalogue in catalogues {
        for dataset in catalogue.datasets.iter().filter(|one| fits(catalogue, one, query)) {
            let scores = query.words.iter().map(|word| score(catalogue, dataset, word));
            if let Some(score) = scores.sum::<Option<u32>>() {
                hits.push(Hit { catalogue, dataset, score });
            }
        }
    }
    hits.sort_by(|a, b| {
        let by_score = b.score.cmp(&a.score);
        let by_quality = completeness(b.dataset).cmp(&completeness(a.dataset));
        let by_name = a.dataset.id.cmp(&b.dataset.id);
        by_score.then(by_quality).then(by_name).then(a.catalogue.box_id.cmp(&b.catalogue.box_id))
    });
    hits
}

fn completeness(dataset: &Dataset) -> Option<Share> {
    dataset.latest()?.1.completeness
}

fn fits(catalogue: &Catalogue, dataset: &Dataset, query: &Query) -> bool {
    let has_unit = |unit: &Unit| dataset.points.iter().any(|point| point.unit == *unit);
    query.unit.as_ref().is_none_or(has_unit)
        && query.class_max.is_none_or(|max| dataset.class <= max)
        && query.provider.as_ref().is_none_or(|one| catalogue.provider.as_str() == one)
        && query.completeness_min.is_none_or(|min| completeness(dataset) >= Some(min))
}

/// What a word is worth; `None` when it does not occur.
fn score(catalogue: &Catalogue, dataset: &Dataset, word: &str) -> Option<u32> {
    let has = |text: &str| text.to_lowercase().contains(word);
    let name = dataset.name.as_str().to_lowercase();
    let mut titles = catalogue.offers_of(&dataset.name).filter_map(|one| one.contract.title());
    let places = [
        (32, name == word),
        (16, name.split(['-', '.', '_']).any(|part| part == word)),
        (8, name.contains(word)),
        (4, dataset.points.iter().any(|point| has(point.name.as_str()))),
        (4, titles.any(has)),
        (2, dataset.points.iter().any(|point| point.unit.as_str().to_lowercase() == word)),
        (2, dataset.tags.iter().any(|tag| tag.name() == word) || dataset.class.name() == word),
        (1, has(catalogue.provider.as_str()) || has(catalogue.box_id.as_str())),
    ];
    places.iter().find(|(_, occurs)| *occurs).map(|(worth, _)| *worth)
}

#[cfg(test)]
mod tests;
