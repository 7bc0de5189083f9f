//! A catalogue (目录) as types: everything that one box offers at one moment.

use crate::identifier::{Identifier, Namer};
use crate::quality::{Day, Figures};
use guan_model::descriptor::Tag;
use guan_model::{
    BoxId, Class, ContractId, DatasetId, DescriptorTable, PointName, PublicKey, Unit, ValueType,
    WallTime,
};
use guan_policy::{CONTRACT_BYTES_MAX, Contract, ContractError};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Largest document.
pub const CATALOGUE_BYTES_MAX: usize = 8 << 20;
/// Most datasets of one box.
pub const DATASETS_MAX: usize = 256;
/// Most offers of one box.
pub const OFFERS_MAX: usize = 256;
/// Most days whose figures are published.
pub const DAYS_MAX: usize = crate::quality::DAYS_KEPT;
/// Longest address of a service.
pub const ENDPOINT_BYTES_MAX: usize = 300;

/// Why a document is not accepted: every fault with its place, at most 64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueError(pub ContractError);

impl fmt::Display for CatalogueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the catalogue is refused")?;
        for fault in &self.0.faults {
            write!(f, "\n  {fault}")?;
        }
        if self.0.truncated { f.write_str("\n  and more") } else { Ok(()) }
    }
}

impl std::error::Error for CatalogueError {}

/// Everything that one box offers.
#[derive(Debug, Clone, PartialEq)]
pub struct Catalogue {
    pub id: Identifier,
    pub box_id: BoxId,
    /// The party whose data it is, as contracts name it.
    pub provider: DatasetId,
    /// When it was made, in milliseconds since 1970; a later one replaces an earlier one.
    pub version: u64,
    /// Whoever has the other half signs it.
    pub key: PublicKey,
    pub service: Option<Service>,
    /// Sorted by name, each once.
    pub datasets: Vec<Dataset>,
    /// Sorted by id, each once.
    pub offers: Vec<Offer>,
}

/// Where the data is had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub endpoint: String,
}

/// One dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    pub id: Identifier,
    pub distribution: Identifier,
    pub name: DatasetId,
    /// The highest of its points.
    pub class: Class,
    /// Of all its points.
    pub tags: BTreeSet<Tag>,
    /// Sorted by name, each once.
    pub points: Vec<Point>,
    pub quality: BTreeMap<Day, Figures>,
}

impl Dataset {
    /// The figures of the latest day.
    pub fn latest(&self) -> Option<(Day, &Figures)> {
        self.quality.last_key_value().map(|(day, figures)| (*day, figures))
    }
}

/// One point of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    pub name: PointName,
    pub unit: Unit,
    pub value_type: ValueType,
    pub class: Class,
    pub tags: BTreeSet<Tag>,
}

/// Terms under which datasets may be had.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    pub product: Identifier,
    pub contract: Contract,
    /// The draft as it was written.
    pub json: Value,
}

/// Why an offer cannot stand in a catalogue; its author is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OfferFault {
    #[error("{0}")]
    Draft(ContractError),
    #[error("/: must be the bare ODRL object with @type Offer, not a signed file or another form")]
    Form,
    #[error(
        "/assigner: is {found:?}, and this box publishes for {provider:?}; correct one of them"
    )]
    Provider { found: String, provider: String },
    #[error("/target: {found} is no dataset of this box; correct the name")]
    Target { found: DatasetId },
}

impl Offer {
    /// Reads a draft; everything that is wrong with it is said.
    pub fn draft(
        json: &[u8],
        namer: &Namer,
        datasets: &BTreeSet<DatasetId>,
    ) -> Result<Self, OfferFault> {
        let contract = Contract::draft(json).map_err(OfferFault::Draft)?;
        let value: Value = serde_json::from_slice(json).map_err(|_| OfferFault::Form)?;
        if !is_offer(&value) {
            return Err(OfferFault::Form);
        }
        if contract.provider() != namer.provider() {
            let (found, provider) = (contract.provider().to_owned(), namer.provider().to_owned());
            return Err(OfferFault::Provider { found, provider });
        }
        if let Some(found) = contract.datasets().difference(datasets).next() {
            return Err(OfferFault::Target { found: found.clone() });
        }
        let product = namer.product(contract.id());
        Ok(Self { product, contract, json: value })
    }

    pub fn id(&self) -> &ContractId {
        self.contract.id()
    }
}

pub(crate) fn is_offer(value: &Value) -> bool {
    let kind = value.get("@type").and_then(Value::as_str);
    matches!(kind, Some("Offer" | "odrl:Offer")) && value.to_string().len() <= CONTRACT_BYTES_MAX
}

impl Catalogue {
    /// Everything that a table describes. `figures` has what was measured.
    pub fn of_box(
        now: WallTime,
        namer: &Namer,
        (box_id, provider): (BoxId, DatasetId),
        table: &DescriptorTable,
        key: PublicKey,
        figures: impl Fn(&DatasetId) -> BTreeMap<Day, Figures>,
    ) -> Self {
        let mut datasets: BTreeMap<DatasetId, Dataset> = BTreeMap::new();
        for point in table.iter() {
            let name = &point.dataset;
            let dataset = datasets.entry(name.clone()).or_insert_with(|| Dataset {
                id: namer.dataset(name),
                distribution: namer.distribution(name),
                name: name.clone(),
                class: Class::General,
                tags: BTreeSet::new(),
                points: Vec::new(),
                quality: figures(name),
            });
            dataset.class = dataset.class.max(point.class);
            dataset.tags.extend(&point.tags);
            dataset.points.push(Point {
                name: point.name.clone(),
                unit: point.unit.clone(),
                value_type: point.value_type,
                class: point.class,
                tags: point.tags.clone(),
            });
        }
        let mut datasets: Vec<Dataset> = datasets.into_values().collect();
        for dataset in &mut datasets {
            dataset.points.sort_by(|a, b| a.name.cmp(&b.name));
        }
        Self {
            id: namer.connector(),
            box_id,
            provider,
            version: u64::try_from(now.millis()).unwrap_or(0),
            key,
            service: None,
            datasets,
            offers: Vec::new(),
        }
    }

    /// With offers, sorted; of two with one id the first stays.
    #[must_use]
    pub fn with_offers(mut self, offers: Vec<Offer>) -> Self {
        let mut by_id: BTreeMap<ContractId, Offer> = BTreeMap::new();
        for offer in offers {
            by_id.entry(offer.id().clone()).or_insert(offer);
        }
        self.offers = by_id.into_values().collect();
        self
    }

    pub fn issued(&self) -> WallTime {
        WallTime::from_millis(i64::try_from(self.version).unwrap_or(i64::MAX))
    }

    /// The offers that name a dataset.
    pub fn offers_of(&self, dataset: &DatasetId) -> impl Iterator<Item = &Offer> {
        self.offers.iter().filter(move |offer| offer.contract.datasets().contains(dataset))
    }

    /// What an identifier names here.
    pub fn resolve(&self, identifier: &Identifier) -> Option<Named<'_>> {
        if self.id == *identifier {
            return Some(Named::Box);
        }
        let dataset = self.datasets.iter().find(|one| one.id == *identifier);
        let dataset = dataset.map(Named::Dataset);
        let distribution = self.datasets.iter().find(|one| one.distribution == *identifier);
        let product = self.offers.iter().find(|one| one.product == *identifier);
        dataset.or(distribution.map(Named::Distribution)).or(product.map(Named::Product))
    }
}

/// What an identifier names.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Named<'c> {
    Box,
    Dataset(&'c Dataset),
    Distribution(&'c Dataset),
    Product(&'c Offer),
}
