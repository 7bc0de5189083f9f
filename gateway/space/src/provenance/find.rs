//! Which batches a question is about.

use super::{BatchKey, ProvenanceFault, distance, open_disk};
use crate::retention::Retention;
use crate::run::STORE_DIR;
use crate::store::{Delivery, StoredRecord, read_all};
use guan_model::{
    BoxId, ContractId, DatasetId, DescriptorTable, Digest, PointName, Row, Value, WallTime,
};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// The reading next to a moment.
    Reading {
        box_id: BoxId,
        dataset: DatasetId,
        point: Option<PointName>,
        at: WallTime,
    },
    Batch(Digest),
    Contract(ContractId),
}

/// A reading, by its times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reading {
    pub point: String,
    pub unit: String,
    pub source_time_ns: Option<i64>,
    pub gateway_time_ns: i64,
    /// As text, for people; the Parquet file has it bit for bit.
    pub value: Option<String>,
}

/// A batch in the store.
#[derive(Debug, Clone)]
pub struct Found {
    pub key: BatchKey,
    pub dataset: DatasetId,
    pub contract: ContractId,
    pub rows: u64,
    pub received: WallTime,
    pub is_deleted: bool,
    pub reading: Option<Reading>,
}

/// Looks through the store.
pub fn find(state_dir: &Path, question: &Question) -> Result<Vec<Found>, ProvenanceFault> {
    let disk = open_disk(&state_dir.join(STORE_DIR))?;
    let retention = Retention::open(state_dir)?;
    let mut tables: BTreeMap<Digest, DescriptorTable> = BTreeMap::new();
    let (mut found, mut fault) = (Vec::new(), None);
    let mut nearest: Option<(u64, Found)> = None;
    read_all(&disk, &mut |record| {
        match record {
            StoredRecord::Descriptors(announcement) => {
                tables.insert(announcement.digest(), announcement.table);
            }
            StoredRecord::Batch(delivery) if fault.is_none() => match question {
                Question::Batch(digest) if delivery.digest != *digest => {}
                Question::Contract(contract) if delivery.contract != *contract => {}
                Question::Batch(_) | Question::Contract(_) => {
                    let opened = retention.open_batch(&delivery).map(|bytes| bytes.is_none());
                    match opened {
                        Ok(is_deleted) => found.push(found_of(&delivery, is_deleted, None)),
                        Err(bad) => fault = Some(bad.into()),
                    }
                }
                Question::Reading { box_id, dataset, point, at } => {
                    let is_of = delivery.box_id == *box_id && delivery.dataset == *dataset;
                    if !is_of {
                        return Ok(());
                    }
                    match nearest_in(&delivery, &retention, &tables, point.as_ref(), *at) {
                        Ok(Some((off, reading)))
                            if nearest.as_ref().is_none_or(|(best, _)| off < *best) =>
                        {
                            nearest = Some((off, found_of(&delivery, false, Some(reading))));
                        }
                        Ok(_) => {}
                        Err(bad) => fault = Some(bad),
                    }
                }
            },
            _ => {}
        }
        Ok(())
    })?;
    found.extend(nearest.map(|(_, found)| found));
    fault.map_or(Ok(found), Err)
}

fn found_of(delivery: &Delivery, is_deleted: bool, reading: Option<Reading>) -> Found {
    Found {
        key: BatchKey {
            box_id: delivery.box_id.clone(),
            spool: delivery.spool,
            stream: delivery.stream,
            seq: delivery.seq,
            digest: delivery.digest,
        },
        dataset: delivery.dataset.clone(),
        contract: delivery.contract.clone(),
        rows: u64::from(delivery.rows),
        received: delivery.received,
        is_deleted,
        reading,
    }
}

/// The reading of a batch that is next to a moment, and how far off; `None`: none of the point, or the
/// batch was deleted.
fn nearest_in(
    delivery: &Delivery,
    retention: &Retention,
    tables: &BTreeMap<Digest, DescriptorTable>,
    point: Option<&PointName>,
    at: WallTime,
) -> Result<Option<(u64, Reading)>, ProvenanceFault> {
    let Some(bytes) = retention.open_batch(delivery)? else { return Ok(None) };
    let decoded = guan_codec::decode(&bytes)
        .map_err(|source| ProvenanceFault::Decode { batch: delivery.digest, source })?;
    let Some(table) = tables.get(&decoded.batch.header.descriptors) else { return Ok(None) };
    let is_of = |row: &Row| {
        let known = table.point(row.point);
        point.is_none_or(|name| known.is_some_and(|known| known.name == *name))
    };
    let off = |row: &Row| distance(row.source_time.unwrap_or(row.gateway_time), at);
    let best = decoded.batch.iter_rows().filter(is_of).min_by_key(off);
    Ok(best.map(|row| {
        let known = table.point(row.point);
        let reading = Reading {
            point: known.map_or_else(String::new, |known| known.name.to_string()),
            unit: known.map_or_else(String::new, |known| known.unit.as_str().to_owned()),
            source_time_ns: row.source_time.map(|WallTime(nanos)| nanos),
            gateway_time_ns: row.gateway_time.0,
            value: row.value.as_ref().map(shown),
        };
        (off(&row), reading)
    }))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Bool(value) => value.to_string(),
        Value::I64(value) => value.to_string(),
        Value::U64(value) => value.to_string(),
        Value::F32(value) => value.to_string(),
        Value::F64(value) => value.to_string(),
        Value::Text(value) => value.clone(),
        Value::Bytes(value) => hex::encode(value),
    }
}
