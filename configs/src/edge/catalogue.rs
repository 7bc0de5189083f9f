//! What the box publishes about its data, and what is expected of it.

use crate::schema::{Kind, Node};
use guan_model::{BoxId, DatasetId};
use std::path::PathBuf;
use std::time::Duration;

const DAY_MS: u64 = 86_400_000;

/// The catalogue of the box.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CatalogueConfig {
    /// The party whose data it is, as contracts name it.
    pub provider: DatasetId,
    /// Its 统一社会信用代码, and its area or trade; both or none. Checked where identifiers are made.
    pub subject: Option<(String, String)>,
    /// Folder of offers, `*.json`.
    pub offers_dir: Option<PathBuf>,
    /// When a reading is in time, unless its dataset says else.
    pub timely_within: Duration,
}

/// What is expected of the values of a point.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct ExpectationConfig {
    pub interval: Option<Duration>,
    pub low: Option<f64>,
    pub high: Option<f64>,
}

pub(super) fn read_catalogue(root: &Node<'_>, box_id: Option<&BoxId>) -> Option<CatalogueConfig> {
    let node = root.table("catalogue");
    let kind = Kind { name: "name", accepted: "1 to 64 of letters, digits, '.', '-' and '_'" };
    let about = "Party whose data it is, as contracts name it; stands in all identifiers. By default the id of \
                 the box.";
    let provider = node.optional_text("provider", about, &kind, |text| {
        DatasetId::parse(text).map_err(|_| format!("must be {}", kind.accepted))
    });
    let own = box_id.map(|id| DatasetId::parse(id.as_str()).expect("ids have one rule"));
    let kind = Kind { name: "string", accepted: "18 capital letters and digits" };
    let about = "Its 统一社会信用代码, for national identifiers; goes with `area`.";
    let plain = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
    };
    let subject = node.optional_text("subject", about, &kind, |text| match plain(text, 18) {
        true => Ok(text.to_owned()),
        false => Err(format!("must be {}", kind.accepted)),
    });
    let kind = Kind { name: "string", accepted: "4 capital letters and digits" };
    let about = "Code of its area or trade; goes with `subject`.";
    let area = node.optional_text("area", about, &kind, |text| match plain(text, 4) {
        true => Ok(text.to_owned()),
        false => Err(format!("must be {}", kind.accepted)),
    });
    if node.has("subject") != node.has("area") {
        node.fault("area", "and subject belong together: give both or none");
    }
    let about = "Folder of offers (ODRL drafts, *.json) that the catalogue publishes.";
    let offers_dir = node.optional_path("offers_dir", about);
    let about = "A reading that comes later than this after its event is not in time.";
    let timely = node.integer("timely_within_ms", about, 1..=DAY_MS, Some(60_000));
    node.finish();
    let timely_within = Duration::from_millis(timely);
    Some(CatalogueConfig {
        provider: provider.or(own)?,
        subject: subject.zip(area),
        offers_dir,
        timely_within,
    })
}

/// Of a dataset.
pub(super) fn read_timely(node: &Node<'_>) -> Option<Duration> {
    let about = "As catalogue.timely_within_ms, for this dataset.";
    node.optional_integer("timely_within_ms", about, 1..=DAY_MS).map(Duration::from_millis)
}

/// Of a point.
pub(super) fn read_expectation(node: &Node<'_>) -> ExpectationConfig {
    let about = "How often a value is due; completeness is counted by it.";
    let interval = node.optional_integer("interval_ms", about, 1..=DAY_MS);
    let kind = Kind { name: "number", accepted: "a number as a text, such as \"-40.5\"" };
    let bound = |key, about: &str| {
        node.optional_text(key, about, &kind, |text| {
            let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
            number.ok_or_else(|| format!("must be {}", kind.accepted))
        })
    };
    let low = bound("low", "Lowest value that can be right; accuracy is counted by it.");
    let high = bound("high", "Highest value that can be right.");
    if low.zip(high).is_some_and(|(low, high)| low > high) {
        node.fault("high", "is below low; exchange them");
    }
    ExpectationConfig { interval: interval.map(Duration::from_millis), low, high }
}
