//! Batches of a contract of which only a box's log speaks, and what it says became of them.

use super::boxes;
use super::{BatchKey, Found, ProvenanceFault};
use crate::logs::folders::{self, OsFolders, WITNESS_DIR};
use crate::logs::keys::LogKeys;
use guan_evidence::account::Fate;
use guan_evidence::{Leaf, LeafBody};
use guan_model::{BoxId, ContractId};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;

/// Most batches that are named as not here.
pub const ABSENT_MAX: usize = 1000;

/// A batch of which a box's log speaks and that is not here: on its way, given up, or withheld.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Absent {
    #[serde(rename = "box")]
    pub box_id: String,
    pub log: String,
    pub index: u64,
    pub stream: u16,
    pub batch_seq: u64,
    pub batch: String,
    pub rows: u64,
    /// Why it will never arrive, as the box's log says: `shredded` where its contract ended. `None`: it may
    /// be on its way.
    pub given_up: Option<&'static str>,
}

/// How many there are, and the first [`ABSENT_MAX`] of them.
pub fn absent(
    state_dir: &Path,
    space: &str,
    contract: &ContractId,
    found: &[Found],
) -> Result<(u64, Vec<Absent>), ProvenanceFault> {
    let keys = LogKeys::open(state_dir, space)?;
    let here: BTreeSet<&BatchKey> = found.iter().map(|one| &one.key).collect();
    let folders = OsFolders::new(state_dir);
    let watched = folders::boxes(&folders, WITNESS_DIR);
    let path = folders.path(&[WITNESS_DIR]);
    let watched = watched.map_err(|source| ProvenanceFault::Open { path, source })?;
    let mut search = Search { contract, here, count: 0, all: Vec::new() };
    for box_id in watched {
        search.look_at(&box_id, &boxes::copies(&folders, &box_id, &keys)?)?;
    }
    Ok((search.count, search.all))
}

struct Search<'a> {
    contract: &'a ContractId,
    here: BTreeSet<&'a BatchKey>,
    count: u64,
    all: Vec<Absent>,
}

impl Search<'_> {
    fn look_at(&mut self, box_id: &BoxId, copies: &[boxes::Copy]) -> Result<(), ProvenanceFault> {
        let fates = boxes::fates(copies)?;
        let mut spool = None;
        for (log, source) in copies {
            source.reader.for_each(&mut |index, bytes| {
                let body = Leaf::decode(bytes).map(|leaf| leaf.body);
                if let Ok(LeafBody::Start { spool: of_start, .. }) = &body {
                    spool = Some(*of_start);
                }
                let Ok(LeafBody::Batch(batch)) = body else { return };
                if batch.contract != *self.contract {
                    return;
                }
                let Some(of_start) = spool else { return };
                let key = BatchKey {
                    box_id: box_id.clone(),
                    spool: of_start,
                    stream: batch.stream,
                    seq: batch.seq,
                    digest: batch.batch,
                };
                if self.here.contains(&key) {
                    return;
                }
                self.count += 1;
                if self.all.len() < ABSENT_MAX {
                    let fate = fates.of(spool, &batch);
                    self.all.push(describe(&key, (log, index), batch.rows, fate));
                }
            })?;
        }
        Ok(())
    }
}

fn describe(key: &BatchKey, (log, index): (&str, u64), rows: u64, fate: Option<Fate>) -> Absent {
    let given_up = match fate {
        Some(Fate::GivenUp(reason)) => Some(reason.name()),
        Some(Fate::Sent) | None => None,
    };
    Absent {
        box_id: key.box_id.to_string(),
        log: log.to_owned(),
        index,
        stream: key.stream.0,
        batch_seq: key.seq.0,
        batch: key.digest.to_string(),
        rows,
        given_up,
    }
}
