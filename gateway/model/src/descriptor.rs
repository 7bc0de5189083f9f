//! What is known about each point, and the table of all points of a box.

use crate::bytes_io::Writer;
use crate::{DatasetId, Digest, PointId, PointName, Unit, ValueType};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Most points that one box may describe.
pub const POINTS_MAX: usize = 65_536;

/// Data class after GB/T 43697-2024: 一般, 重要, 核心.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    General = 1,
    Important = 2,
    Core = 3,
}

impl Class {
    pub const ALL: [Self; 3] = [Self::General, Self::Important, Self::Core];

    pub fn name(self) -> &'static str {
        match self {
            Self::General => "general",
            Self::Important => "important",
            Self::Core => "core",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }
}

/// What kind of content a point carries, for policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Tag {
    Personal = 1,
    SensitivePersonal = 2,
    PreciseLocation = 3,
    VehicleExterior = 4,
    TradeSecret = 5,
}

impl Tag {
    pub const ALL: [Self; 5] = [
        Self::Personal,
        Self::SensitivePersonal,
        Self::PreciseLocation,
        Self::VehicleExterior,
        Self::TradeSecret,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Personal => "personal",
            Self::SensitivePersonal => "sensitive-personal",
            Self::PreciseLocation => "precise-location",
            Self::VehicleExterior => "vehicle-exterior",
            Self::TradeSecret => "trade-secret",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tag| tag.name() == name)
    }
}

/// One point: a place where values come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointDescriptor {
    pub id: PointId,
    pub name: PointName,
    pub value_type: ValueType,
    pub unit: Unit,
    pub dataset: DatasetId,
    pub class: Class,
    pub tags: BTreeSet<Tag>,
}

/// Why a set of descriptors is no table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableFault {
    #[error("point id {id} is used by {first} and {second}; give each point its own id")]
    DuplicateId { id: PointId, first: PointName, second: PointName },
    #[error("point name {name} is used twice; give each point its own name")]
    DuplicateName { name: PointName },
    #[error("{count} points are described; the limit is {POINTS_MAX}")]
    TooMany { count: usize },
}

/// All points of a box. Immutable; a change makes a new table with a new digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescriptorTable {
    by_id: BTreeMap<PointId, Arc<PointDescriptor>>,
    by_name: BTreeMap<PointName, PointId>,
    digest: Digest,
}

impl DescriptorTable {
    /// All faults are reported at once.
    pub fn new(points: Vec<PointDescriptor>) -> Result<Self, Vec<TableFault>> {
        let mut faults = Vec::new();
        if points.len() > POINTS_MAX {
            faults.push(TableFault::TooMany { count: points.len() });
        }
        let mut by_id: BTreeMap<PointId, Arc<PointDescriptor>> = BTreeMap::new();
        let mut by_name = BTreeMap::new();
        for point in points {
            if by_name.insert(point.name.clone(), point.id).is_some() {
                faults.push(TableFault::DuplicateName { name: point.name.clone() });
            }
            let name = point.name.clone();
            if let Some(first) = by_id.insert(point.id, Arc::new(point)) {
                faults.push(TableFault::DuplicateId {
                    id: first.id,
                    first: first.name.clone(),
                    second: name,
                });
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let digest = Digest::of(&Self::canonical_bytes(by_id.values()));
        Ok(Self { by_id, by_name, digest })
    }

    pub fn point(&self, id: PointId) -> Option<&Arc<PointDescriptor>> {
        self.by_id.get(&id)
    }

    pub fn by_name(&self, name: &str) -> Option<&Arc<PointDescriptor>> {
        let name = PointName::parse(name).ok()?;
        self.by_id.get(self.by_name.get(&name)?)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<PointDescriptor>> {
        self.by_id.values()
    }

    pub fn datasets(&self) -> BTreeSet<DatasetId> {
        self.iter().map(|point| point.dataset.clone()).collect()
    }

    /// Version of the table: SHA-256 of its canonical bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    fn canonical_bytes<'a>(points: impl Iterator<Item = &'a Arc<PointDescriptor>>) -> Vec<u8> {
        let mut out = Writer::new();
        out.bytes(b"guan descriptor table 1");
        for point in points {
            out.u32(point.id.0);
            out.text(point.name.as_str());
            out.u8(point.value_type as u8);
            out.text(point.unit.as_str());
            out.text(point.dataset.as_str());
            out.u8(point.class as u8);
            out.varint(point.tags.len() as u64);
            for tag in &point.tags {
                out.u8(*tag as u8);
            }
        }
        out.finish()
    }
}
