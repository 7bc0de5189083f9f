//! What is known about each point, and the table of all points of a box.

use crate::bytes_io::{ReadFault, Reader, Writer};
use crate::{DatasetId, Digest, PointId, PointName, Unit, ValueType};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Most points that one box may describe.
pub const POINTS_MAX: usize = 65_536;
/// Largest table that is read from a peer.
pub const TABLE_BYTES_MAX: usize = 8 << 20;
const MAGIC: &[u8] = b"guan descriptor table 1";

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

/// Why announced bytes are no table; the peer is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableReadFault {
    #[error("the descriptor table has {length} bytes; the limit is {TABLE_BYTES_MAX}")]
    TooLarge { length: usize },
    #[error("the descriptor table is cut short or malformed")]
    Read(#[from] ReadFault),
    #[error("the descriptor table has an invalid {what}")]
    Value { what: &'static str },
    #[error("the descriptor table contradicts itself: {0:?}")]
    Table(Vec<TableFault>),
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
        let digest = Digest::of(&Self::encode(by_id.values()));
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

    /// The table as bytes; their SHA-256 is its version. Announced to the space before the first batch
    /// that refers to it.
    pub fn canonical_bytes(&self) -> Vec<u8> {
        Self::encode(self.by_id.values())
    }

    /// Reads a table that another party announced.
    pub fn from_canonical_bytes(bytes: &[u8]) -> Result<Self, TableReadFault> {
        if bytes.len() > TABLE_BYTES_MAX {
            return Err(TableReadFault::TooLarge { length: bytes.len() });
        }
        let mut reader = Reader::new(bytes);
        if reader.bytes()? != MAGIC {
            return Err(TableReadFault::Value { what: "magic" });
        }
        let mut points = Vec::new();
        while reader.left() > 0 {
            points.push(Self::decode_point(&mut reader)?);
        }
        let table = Self::new(points).map_err(TableReadFault::Table)?;
        // Two spellings of one table would have two digests for the same points.
        match table.canonical_bytes() == bytes {
            true => Ok(table),
            false => Err(TableReadFault::Value { what: "order" }),
        }
    }

    fn decode_point(reader: &mut Reader<'_>) -> Result<PointDescriptor, TableReadFault> {
        let value = |what| TableReadFault::Value { what };
        let id = PointId(reader.u32()?);
        let name = PointName::parse(reader.text()?).map_err(|_| value("point name"))?;
        let value_type = ValueType::from_code(reader.u8()?).ok_or(value("value type"))?;
        let unit = Unit::parse(reader.text()?).ok_or(value("unit"))?;
        let dataset = DatasetId::parse(reader.text()?).map_err(|_| value("dataset id"))?;
        let class = reader.u8()?;
        let class = Class::ALL.into_iter().find(|known| *known as u8 == class);
        let class = class.ok_or(value("class"))?;
        let mut tags = BTreeSet::new();
        for _ in 0..reader.varint()? {
            let tag = reader.u8()?;
            let tag = Tag::ALL.into_iter().find(|known| *known as u8 == tag);
            tags.insert(tag.ok_or(value("tag"))?);
        }
        Ok(PointDescriptor { id, name, value_type, unit, dataset, class, tags })
    }

    fn encode<'a>(points: impl Iterator<Item = &'a Arc<PointDescriptor>>) -> Vec<u8> {
        let mut out = Writer::new();
        out.bytes(MAGIC);
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn point(id: u32, name: &str) -> PointDescriptor {
        PointDescriptor {
            id: PointId(id),
            name: PointName::parse(name).unwrap(),
            value_type: ValueType::F64,
            unit: Unit::parse("Cel").unwrap(),
            dataset: DatasetId::parse("d").unwrap(),
            class: Class::Important,
            tags: BTreeSet::from([Tag::TradeSecret, Tag::Personal]),
        }
    }

    #[test]
    fn a_table_survives_its_bytes() {
        let table = DescriptorTable::new(vec![point(7, "b"), point(3, "a")]).unwrap();
        let bytes = table.canonical_bytes();
        assert_eq!(DescriptorTable::from_canonical_bytes(&bytes), Ok(table.clone()));
        assert_eq!(Digest::of(&bytes), table.digest());
        for cut in 24..bytes.len() {
            let between_points = (cut - 24).is_multiple_of((bytes.len() - 24) / 2);
            let parsed = DescriptorTable::from_canonical_bytes(&bytes[..cut]);
            assert_eq!(parsed.is_ok(), between_points, "cut at {cut}");
        }
    }

    #[test]
    fn all_faults_are_reported() {
        let points = vec![point(1, "a"), point(1, "b"), point(2, "a")];
        assert_eq!(DescriptorTable::new(points).unwrap_err().len(), 2);
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(tail: Vec<u8>) {
            let mut bytes = DescriptorTable::new(vec![point(1, "a")]).unwrap().canonical_bytes();
            bytes.extend_from_slice(&tail);
            let parsed = DescriptorTable::from_canonical_bytes(&bytes);
            prop_assert_eq!(parsed.is_ok(), tail.is_empty());
        }
    }
}
