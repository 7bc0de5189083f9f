//! Readings out of the store: one Parquet file for each dataset.
//!
//! Works beside the running daemon: it reads what is committed at the moment, each batch once, in the
//! order in which it was stored.

use crate::parquet_file::{ExportError, Origin, ParquetFile};
use crate::store::{Delivery, StoreError, StoredRecord, read_all};
use guan_model::{DatasetId, DescriptorTable, Digest};
use guan_spool::Disk;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Why nothing, or not everything, was exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportFault {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    File(#[from] ExportError),
    #[error("the folder {path} cannot be made: check its rights and free space")]
    Folder { path: PathBuf, source: std::io::Error },
    #[error(
        "batch {batch} in the store cannot be decoded: the disk or another program changed it; \
         check the disk"
    )]
    Decode { batch: Digest, source: guan_codec::DecodeFault },
    #[error("the descriptor table {digest} is missing in the store; check the disk")]
    Table { digest: Digest },
}

/// One file.
#[derive(Debug, Clone, Serialize)]
pub struct Exported {
    pub dataset: String,
    pub path: PathBuf,
    pub rows: u64,
}

/// What was written, and what the boxes themselves gave up.
#[derive(Debug, Clone, Serialize)]
pub struct ExportReport {
    pub files: Vec<Exported>,
    /// Readings that boxes dropped under their quotas, or lost, and said so.
    pub rows_in_gaps: u64,
}

#[derive(Default)]
struct Exporter {
    tables: BTreeMap<Digest, DescriptorTable>,
    files: BTreeMap<DatasetId, ParquetFile>,
    rows_in_gaps: u64,
}

/// Writes `<dir>/<dataset>.parquet` for every dataset in the store; existing files are replaced.
pub fn export(disk: &impl Disk, dir: &Path) -> Result<ExportReport, ExportFault> {
    let folder = |source| ExportFault::Folder { path: dir.to_path_buf(), source };
    std::fs::create_dir_all(dir).map_err(folder)?;
    let mut exporter = Exporter::default();
    let mut fault = None;
    read_all(disk, &mut |record| {
        if fault.is_none() {
            fault = exporter.handle(record, dir).err();
        }
        Ok(())
    })?;
    if let Some(fault) = fault {
        return Err(fault);
    }
    let rows_in_gaps = exporter.rows_in_gaps;
    let mut files = Vec::new();
    for (dataset, file) in exporter.files {
        let (path, rows) = file.finish()?;
        files.push(Exported { dataset: dataset.to_string(), path, rows });
    }
    Ok(ExportReport { files, rows_in_gaps })
}

impl Exporter {
    fn handle(&mut self, record: StoredRecord, dir: &Path) -> Result<(), ExportFault> {
        match record {
            StoredRecord::Descriptors(announcement) => {
                self.tables.insert(announcement.digest(), announcement.table);
            }
            StoredRecord::Gap(gap) => self.rows_in_gaps += gap.rows,
            StoredRecord::Batch(delivery) => self.write(&delivery, dir)?,
            StoredRecord::Checkpoint { .. } | StoredRecord::Unknown => {}
        }
        Ok(())
    }

    fn write(&mut self, delivery: &Delivery, dir: &Path) -> Result<(), ExportFault> {
        let decoded = guan_codec::decode(&delivery.bytes)
            .map_err(|source| ExportFault::Decode { batch: delivery.digest, source })?;
        let digest = decoded.batch.header.descriptors;
        let table = self.tables.get(&digest).ok_or(ExportFault::Table { digest })?;
        if !self.files.contains_key(&delivery.dataset) {
            let path = dir.join(format!("{}.parquet", delivery.dataset));
            self.files.insert(delivery.dataset.clone(), ParquetFile::create(&path)?);
        }
        let file = self.files.get_mut(&delivery.dataset).expect("it was put there above");
        let origin = Origin {
            box_id: delivery.box_id.clone(),
            contract: delivery.contract.clone(),
            stream: delivery.stream,
            seq: delivery.seq,
        };
        for row in decoded.batch.iter_rows() {
            let point = table.point(row.point).ok_or(ExportFault::Table { digest })?;
            file.push(&origin, point.name.as_str(), &point.unit, row)?;
        }
        Ok(())
    }
}
