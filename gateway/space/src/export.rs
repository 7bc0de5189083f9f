//! Readings out of the store: one Parquet file for each dataset, or for each contract and dataset, so that
//! each recipient gets what is his.
//!
//! Works beside the running daemon: it reads what is committed at the moment, each batch once, in the
//! order in which it was stored. The box committed them in the order of `boot`, `since_boot_ns`, `batch_seq`: what
//! came after an outage may be stored before what came during it.

use crate::parquet_file::{ExportError, Origin, ParquetFile};
use crate::retention::{Retention, RetentionFault};
use crate::store::{Delivery, StoreError, StoredRecord, read_all};
use guan_evidence::trace_id;
use guan_model::{ContractId, DatasetId, DescriptorTable, Digest};
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
    Retention(#[from] RetentionFault),
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
    /// Only when files are kept apart by contract.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contract: Option<String>,
    pub path: PathBuf,
    pub rows: u64,
}

/// What was written, and what the boxes themselves gave up.
#[derive(Debug, Clone, Serialize)]
pub struct ExportReport {
    pub files: Vec<Exported>,
    /// Readings that boxes dropped under their quotas, or lost, and said so.
    pub rows_in_gaps: u64,
    /// Readings that were deleted here, as their contracts demand.
    pub rows_deleted: u64,
}

/// Whether the data of all contracts goes into one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `<dir>/<dataset>.parquet`.
    Together,
    /// `<dir>/<contract>/<dataset>.parquet`.
    ByContract,
}

struct Exporter<'r> {
    layout: Layout,
    retention: &'r Retention,
    rows_deleted: u64,
    tables: BTreeMap<Digest, DescriptorTable>,
    files: BTreeMap<(Option<ContractId>, DatasetId), ParquetFile>,
    rows_in_gaps: u64,
}

/// Writes everything in the store; existing files are replaced.
pub fn export(
    disk: &impl Disk,
    dir: &Path,
    layout: Layout,
    retention: &Retention,
) -> Result<ExportReport, ExportFault> {
    let folder = |source| ExportFault::Folder { path: dir.to_path_buf(), source };
    std::fs::create_dir_all(dir).map_err(folder)?;
    let mut exporter = Exporter {
        layout,
        retention,
        rows_deleted: 0,
        tables: BTreeMap::new(),
        files: BTreeMap::new(),
        rows_in_gaps: 0,
    };
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
    let (rows_in_gaps, rows_deleted) = (exporter.rows_in_gaps, exporter.rows_deleted);
    let mut files = Vec::new();
    for ((contract, dataset), file) in exporter.files {
        let (path, rows) = file.finish()?;
        let contract = contract.map(|contract| contract.to_string());
        files.push(Exported { dataset: dataset.to_string(), contract, path, rows });
    }
    Ok(ExportReport { files, rows_in_gaps, rows_deleted })
}

impl Exporter<'_> {
    fn handle(&mut self, record: StoredRecord, dir: &Path) -> Result<(), ExportFault> {
        match record {
            StoredRecord::Descriptors(announcement) => {
                self.tables.insert(announcement.digest(), announcement.table);
            }
            StoredRecord::Gap(gap) => self.rows_in_gaps += gap.rows,
            StoredRecord::Batch(delivery) => self.write(&delivery, dir)?,
            StoredRecord::Checkpoint { .. } | StoredRecord::Leaf { .. } | StoredRecord::Unknown => {
            }
        }
        Ok(())
    }

    fn write(&mut self, delivery: &Delivery, dir: &Path) -> Result<(), ExportFault> {
        let Some(bytes) = self.retention.open_batch(delivery)? else {
            self.rows_deleted += u64::from(delivery.rows);
            return Ok(());
        };
        let decoded = guan_codec::decode(&bytes)
            .map_err(|source| ExportFault::Decode { batch: delivery.digest, source })?;
        let digest = decoded.batch.header.descriptors;
        let table = self.tables.get(&digest).ok_or(ExportFault::Table { digest })?;
        let (contract, folder) = match self.layout {
            Layout::Together => (None, dir.to_path_buf()),
            Layout::ByContract => {
                (Some(delivery.contract.clone()), dir.join(delivery.contract.as_str()))
            }
        };
        let key = (contract, delivery.dataset.clone());
        if !self.files.contains_key(&key) {
            let failed = |source| ExportFault::Folder { path: folder.clone(), source };
            std::fs::create_dir_all(&folder).map_err(failed)?;
            let path = folder.join(format!("{}.parquet", delivery.dataset));
            self.files.insert(key.clone(), ParquetFile::create(&path)?);
        }
        let file = self.files.get_mut(&key).expect("it was put there above");
        let (spool, stream) = (delivery.spool, delivery.stream);
        let trace = trace_id(spool, stream, delivery.seq, &delivery.digest);
        let origin = Origin {
            box_id: delivery.box_id.clone(),
            contract: delivery.contract.clone(),
            stream: delivery.stream,
            seq: delivery.seq,
            batch: delivery.digest.to_string().into_bytes().into(),
            trace_id: hex::encode(trace).into_bytes().into(),
            boot: decoded.batch.header.boot,
            since_boot: decoded.batch.header.monotonic,
        };
        for row in decoded.batch.iter_rows() {
            let point = table.point(row.point).ok_or(ExportFault::Table { digest })?;
            file.push(&origin, point.name.as_str(), &point.unit, row)?;
        }
        Ok(())
    }
}
