//! The descriptor tables that batches in the spool refer to, one file each, packed as they are announced.
//!
//! A configuration may change while batches under the old one still wait for the link, so tables are kept
//! until the spool is empty. Never here: what a point means.

use bytes::Bytes;
use guan_codec::pack_table;
use guan_link::frame::DESCRIPTORS_PER_SESSION_MAX;
use guan_model::DescriptorTable;
use guan_spool::{Disk, read_file, replace_file};
use std::io;

const SUFFIX: &str = ".table";
/// Largest packed table.
const FILE_BYTES_MAX: usize = guan_link::frame::DESCRIPTORS_BYTES_MAX;

/// Why the tables cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum TablesError {
    #[error("the descriptor table {name} cannot be read or written: check the disk")]
    File { name: String, source: io::Error },
    #[error(
        "batches of {count} configurations wait for the link; the limit is {limit}: \
         let the link deliver them before the points change again"
    )]
    TooMany { count: usize, limit: usize },
}

/// Makes the current table durable and returns all tables that may be referred to, the current one last.
pub fn keep(
    disk: &impl Disk,
    current: &DescriptorTable,
    spool_is_empty: bool,
) -> Result<Vec<Bytes>, TablesError> {
    let own = format!("{}{SUFFIX}", current.digest());
    let failed = |name: &str, source| TablesError::File { name: name.to_owned(), source };
    let mut names = disk.list().map_err(|source| failed("folder", source))?;
    names.retain(|name| name.ends_with(SUFFIX) && *name != own);
    if spool_is_empty {
        for name in names.drain(..) {
            disk.remove(&name).map_err(|source| failed(&name, source))?;
        }
    }
    let (count, limit) = (names.len() + 1, DESCRIPTORS_PER_SESSION_MAX);
    if count > limit {
        return Err(TablesError::TooMany { count, limit });
    }
    let packed = pack_table(current);
    replace_file(disk, &own, &packed).map_err(|source| failed(&own, source))?;
    let mut tables = Vec::with_capacity(count);
    for name in names {
        let bytes = read_file(disk, &name, FILE_BYTES_MAX);
        tables.push(bytes.map_err(|source| failed(&name, source))?.into());
    }
    tables.push(packed.into());
    Ok(tables)
}

#[cfg(test)]
mod tests {
    use super::*;
    use guan_model::{Class, DatasetId, PointDescriptor, PointId, PointName, Unit, ValueType};
    use guan_spool::disk::SimDisk;
    use std::collections::BTreeSet;

    fn table(id: usize) -> DescriptorTable {
        let point = PointDescriptor {
            id: PointId(u32::try_from(id).unwrap()),
            name: PointName::parse("p").unwrap(),
            value_type: ValueType::Bool,
            unit: Unit::one(),
            dataset: DatasetId::parse("d").unwrap(),
            class: Class::General,
            tags: BTreeSet::new(),
        };
        DescriptorTable::new(vec![point]).unwrap()
    }

    #[test]
    fn tables_stay_while_batches_wait_up_to_the_limit() {
        let disk = SimDisk::new();
        for id in 1..=DESCRIPTORS_PER_SESSION_MAX {
            let tables = keep(&disk, &table(id), false).unwrap();
            assert_eq!(tables.len(), id);
            let last = guan_codec::unpack_table(tables.last().unwrap()).unwrap();
            assert_eq!(last.digest(), table(id).digest());
            assert_eq!(keep(&disk, &table(id), false).unwrap().len(), id, "the same again");
        }
        let fault = keep(&disk, &table(99), false).unwrap_err();
        assert!(matches!(fault, TablesError::TooMany { .. }));
        assert_eq!(keep(&disk, &table(99), true).unwrap().len(), 1);
    }
}
