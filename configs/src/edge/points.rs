//! Datasets and points.

use super::catalogue::{ExpectationConfig, read_expectation, read_timely};
use super::storage::StreamConfig;
use crate::nearest;
use crate::schema::{Kind, Node, shown};
use guan_model::descriptor::{POINTS_MAX, Tag};
use guan_model::{
    Class, DatasetId, DescriptorTable, PointDescriptor, PointId, PointName, StreamId, Unit,
    ValueType,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Most datasets of a box.
pub const DATASETS_MAX: usize = 256;
const FAMILY_MAX: usize = POINTS_MAX;

/// Readings that are governed together.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DatasetConfig {
    pub id: DatasetId,
    pub class: Class,
    pub tags: BTreeSet<Tag>,
    pub stream: StreamId,
    /// When its readings are in time, if not as all others.
    pub timely_within: Option<Duration>,
}

const NAME: Kind<'_> =
    Kind { name: "name", accepted: "1 to 64 of letters, digits, '.', '-' and '_'" };

fn classes() -> [(&'static str, Class); 3] {
    Class::ALL.map(|class| (class.name(), class))
}

fn read_tags(node: &Node<'_>) -> BTreeSet<Tag> {
    let names: Vec<&str> = Tag::ALL.iter().map(|tag| tag.name()).collect();
    let accepted = names.join(", ");
    let about = "What kind of care the data needs; contracts can refuse by it.";
    let tags = node.texts("tags", about, &accepted, 0..=Tag::ALL.len(), |text| {
        Tag::from_name(text).ok_or_else(|| {
            let hint = nearest::hint(text, names.iter().copied());
            format!("must be one of {accepted}{hint}")
        })
    });
    tags.into_iter().collect()
}

pub(super) fn read_datasets(root: &Node<'_>, streams: &[StreamConfig]) -> Vec<DatasetConfig> {
    let mut datasets: Vec<DatasetConfig> = Vec::new();
    for node in root.tables("dataset", DATASETS_MAX) {
        let about = "Name that points and contracts refer to.";
        let id = node.text("id", about, &NAME, None, |text| {
            DatasetId::parse(text).map_err(|fault| fault.to_string())
        });
        let about = "Class of the data under the Data Security Law.";
        let class = node.choice("class", about, &classes(), Some("general"));
        let tags = read_tags(&node);
        let about = "Stream of the spool that it goes by; by default the first one.";
        let first = streams.first().map_or("data", |stream| stream.name.as_str());
        let stream = node.text("stream", about, &NAME, Some(first), |text| {
            let found = streams.iter().find(|stream| stream.name == text);
            found.map(|stream| stream.id).ok_or_else(|| {
                let known = streams.iter().map(|stream| stream.name.as_str());
                format!("is no [[spool.stream]]{}", nearest::hint(text, known))
            })
        });
        let timely_within = read_timely(&node);
        node.finish();
        let (Some(id), Some(class), Some(stream)) = (id, class, stream) else { continue };
        if datasets.iter().any(|other| other.id == id) {
            node.fault("id", format!("{id} is there twice"));
        }
        datasets.push(DatasetConfig { id, class, tags, stream, timely_within });
    }
    datasets
}

/// What is known of the points so far, to name both sides of a clash.
#[derive(Default)]
struct Points {
    all: Vec<PointDescriptor>,
    by_id: BTreeMap<PointId, PointName>,
    names: BTreeSet<PointName>,
    expectations: BTreeMap<PointId, ExpectationConfig>,
}

pub(super) fn read_points(
    root: &Node<'_>,
    datasets: &[DatasetConfig],
) -> (Option<Arc<DescriptorTable>>, BTreeMap<PointId, ExpectationConfig>) {
    let mut points = Points::default();
    for node in root.tables("point", POINTS_MAX) {
        read_point(&node, datasets, &mut points);
    }
    let table = match DescriptorTable::new(points.all) {
        Ok(table) => Some(Arc::new(table)),
        Err(faults) => {
            // Clashes are reported where they stand; what is left is the number of points.
            if !faults.is_empty() {
                root.fault("point", &faults[0]);
            }
            None
        }
    };
    (table, points.expectations)
}

fn read_point(node: &Node<'_>, datasets: &[DatasetConfig], points: &mut Points) {
    let about = "Number of the point on the wire; with `each`, of its first one. Never reuse it.";
    let id = node.integer("id", about, 0..=u64::from(u32::MAX), None);
    let kind = Kind { name: "name", accepted: "1 to 128 of letters, digits, '.', '-' and '_'" };
    let about =
        "Name that mappings and contracts refer to; with `each`, `{}` stands for the entry.";
    let name = node.text("name", about, &kind, None, |text| Ok(text.to_owned()));
    let types = ValueType::ALL.map(|kind| (kind.name(), kind));
    let value_type = node.choice("type", "Type of its values.", &types, None);
    let kind = Kind { name: "unit", accepted: "a UCUM code, 1 for none" };
    let unit = node.text("unit", "Unit of its values (ucum.org).", &kind, Some("1"), |text| {
        Unit::parse(text).ok_or_else(|| format!("must be {}", kind.accepted))
    });
    let about = "Dataset that it belongs to.";
    let dataset = node.text("dataset", about, &NAME, None, |text| {
        let found = datasets.iter().find(|dataset| dataset.id.as_str() == text);
        found.ok_or_else(|| {
            let known = datasets.iter().map(|dataset| dataset.id.as_str());
            format!("is no [[dataset]]{}", nearest::hint(text, known))
        })
    });
    let inherited = dataset.map_or(Class::General, |dataset| dataset.class);
    let about = "By default that of the dataset.";
    let class = node.choice("class", about, &classes(), Some(inherited.name()));
    let own_tags = node.has("tags").then(|| read_tags(node));
    if !node.has("tags") {
        // Declares the key for the reference.
        read_tags(node);
    }
    let about = "A family: one point for each entry, with ids from `id` on.";
    let each =
        node.texts("each", about, "parts of names", 0..=FAMILY_MAX, |text| Ok(text.to_owned()));
    let expectation = read_expectation(node);
    node.finish();
    let (Some(name), Some(value_type), Some(unit)) = (name, value_type, unit) else { return };
    let (Some(dataset), Some(class)) = (dataset, class) else { return };
    let is_family = !each.is_empty();
    if is_family != (name.matches("{}").count() == 1) || name.matches("{}").count() > 1 {
        let text = match is_family {
            true => "needs `{}` once, for the entries of `each`",
            false => "holds `{}` without `each`",
        };
        return node.fault("name", format!("= {}: {text}", shown(&name)));
    }
    let names = match is_family {
        true => each.iter().map(|part| name.replace("{}", part)).collect(),
        false => vec![name],
    };
    for (index, name) in (0_u64..).zip(names) {
        let found = u32::try_from(id + index).map_err(|_| "the ids run out".to_owned());
        let parsed = PointName::parse(&name).map_err(|fault| fault.to_string());
        let (id, name) = match (found, parsed) {
            (Ok(id), Ok(name)) => (PointId(id), name),
            (Err(fault), _) | (_, Err(fault)) => return node.fault("name", fault),
        };
        if expectation != ExpectationConfig::default() {
            points.expectations.insert(id, expectation);
        }
        let tags = own_tags.clone().unwrap_or_else(|| dataset.tags.clone());
        let (unit, dataset) = (unit.clone(), dataset.id.clone());
        let point = PointDescriptor { id, name, value_type, unit, dataset, class, tags };
        if let Err((key, text)) = points.push(point) {
            return node.fault(key, text);
        }
    }
}

impl Points {
    fn push(&mut self, point: PointDescriptor) -> Result<(), (&'static str, String)> {
        if let Some(other) = self.by_id.get(&point.id) {
            let text = format!("{} is taken by {other}; give each point its own", point.id);
            return Err(("id", text));
        }
        if !self.names.insert(point.name.clone()) {
            return Err(("name", format!("{} is there twice", point.name)));
        }
        self.by_id.insert(point.id, point.name.clone());
        self.all.push(point);
        Ok(())
    }
}
