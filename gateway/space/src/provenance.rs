//! Where data came from and what proves it (溯源): from a stored batch to the entries of both logs that speak
//! of it, each with its proof, and the times between which the witness saw them.
//!
//! Works beside the running daemon. What a log says is believed only with a proof to a head that is signed
//! with the log's key; a copy of a box's log needs the lines of witness and mirror too.

mod absent;
mod account;
mod boxes;
mod find;

pub use absent::{ABSENT_MAX, Absent, absent};
pub use account::{BothEnds, BoxAccount, COPY_LAG_MAX, Unlogged, accounts};
pub use boxes::{BoxLog, box_logs, trust};
pub use find::{Found, Question, Reading, find};

use crate::logs::folders::OsFolders;
use crate::logs::keys::{LogKeys, LogKeysFault};
use crate::logs::mirror::MirrorFault;
use crate::registry::RegistryError;
use crate::retention::RetentionFault;
use crate::run::{LOG_DIR, STORE_DIR};
use crate::store::{StoreError, read_leaves};
use guan_evidence::view::entry;
use guan_evidence::{
    Checkpoint, CosignatureKey, Leaf, LeafBody, Lineage, Note, TlogProof, VerifierKey, leaf_hash,
    trace_id, verify_inclusion,
};
use guan_log::{LogFileFault, LogReader};
use guan_model::{BatchSeq, BoxId, ContractId, DatasetId, Digest, SpoolId, StreamId, WallTime};
use guan_spool::OsDisk;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Why nothing can be told.
#[derive(Debug, thiserror::Error)]
pub enum ProvenanceFault {
    #[error("{path} cannot be read; start `guan-space run` first")]
    Open { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Retention(#[from] RetentionFault),
    #[error(transparent)]
    Keys(#[from] LogKeysFault),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    File(#[from] LogFileFault),
    #[error(transparent)]
    Mirror(#[from] MirrorFault),
    #[error(
        "batch {batch} in the store cannot be decoded: the disk or another program changed it; \
         check the disk"
    )]
    Decode { batch: Digest, source: guan_codec::DecodeFault },
}

/// A batch, by what both logs know of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BatchKey {
    pub box_id: BoxId,
    pub spool: SpoolId,
    pub stream: StreamId,
    pub seq: BatchSeq,
    pub digest: Digest,
}

impl BatchKey {
    pub fn trace_id(&self) -> String {
        hex::encode(trace_id(self.spool, self.stream, self.seq, &self.digest))
    }
}

/// An entry of a log, and what proves it.
#[derive(Debug, Clone, Serialize)]
pub struct Proven {
    pub log: String,
    pub index: u64,
    pub kind: &'static str,
    pub wall_ms: i64,
    pub entry: Value,
    pub leaf_hash: String,
    /// Size of the head under which it is proven; `None`: no signed head covers it yet.
    pub head_size: Option<u64>,
    /// C2SP tlog-proof, which programs of others check.
    pub proof: Option<String>,
    /// When the space's witness and mirror signed that head, in seconds since 1970.
    pub witnessed_s: Option<u64>,
    pub mirrored_s: Option<u64>,
}

impl Proven {
    pub fn is_proven(&self) -> bool {
        self.proof.is_some()
    }
}

/// The times between which an entry of a box's log came to be, by the clock of the space.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Bracket {
    /// The last head that the witness saw before it.
    pub not_before_ms: Option<i64>,
    /// The first head that it saw with it.
    pub not_after_ms: Option<i64>,
}

/// One batch and its way.
#[derive(Debug, Clone, Serialize)]
pub struct Trace {
    #[serde(rename = "box")]
    pub box_id: String,
    pub spool: String,
    pub stream: u16,
    pub batch_seq: u64,
    pub batch: String,
    pub trace_id: String,
    pub dataset: String,
    pub contract: String,
    /// As the box's log names them: the version in force, its file, and the plan that decided.
    pub contract_version: Option<u64>,
    pub contract_digest: Option<String>,
    pub plan: Option<String>,
    pub rows: u64,
    pub received_ms: i64,
    /// The contract wanted it deleted, and it is.
    pub is_deleted: bool,
    pub reading: Option<Reading>,
    /// The box's log: how the contract came in force, what was decided, the batch.
    pub box_log: Vec<Proven>,
    pub space_log: Option<Proven>,
    pub witnessed: Bracket,
    /// What is missing for a whole proof.
    pub missing: Vec<String>,
}

/// A log and what signs it.
struct Source {
    reader: LogReader<OsDisk>,
    witness: Option<CosignatureKey>,
    mirror: Option<CosignatureKey>,
    head: Option<(Checkpoint, String)>,
}

/// Who signs the heads of a log.
enum Keys {
    None,
    One(VerifierKey),
    Lineage(Lineage),
}

impl Keys {
    fn at(&self, origin: &str, size: u64) -> Option<&VerifierKey> {
        match self {
            Self::None => None,
            Self::One(key) => Some(key),
            Self::Lineage(lineage) => Some(lineage.at(origin, size)),
        }
    }
}

impl Source {
    fn open(
        reader: LogReader<OsDisk>,
        keys: &Keys,
        cosigners: Option<(CosignatureKey, CosignatureKey)>,
    ) -> Result<Self, ProvenanceFault> {
        let text = reader.checkpoint()?;
        let signed = |text: &String| -> Option<Checkpoint> {
            let claimed = Checkpoint::parse_unverified(text).ok()?;
            Checkpoint::parse_and_verify(text, keys.at(&claimed.origin, claimed.size)?).ok()
        };
        let head = text.and_then(|text| Some((signed(&text)?, text)));
        let (witness, mirror) = cosigners.unzip();
        Ok(Self { reader, witness, mirror, head })
    }

    fn prove(&self, index: u64, bytes: &[u8], leaf: &Leaf) -> Proven {
        let mut proven = Proven {
            log: self.head.as_ref().map_or_else(String::new, |(head, _)| head.origin.clone()),
            index,
            kind: leaf.body.kind_name(),
            wall_ms: leaf.wall.millis(),
            entry: entry(&leaf.body),
            leaf_hash: leaf_hash(bytes).to_string(),
            head_size: None,
            proof: None,
            witnessed_s: None,
            mirrored_s: None,
        };
        let Some((head, text)) = &self.head else { return proven };
        (proven.witnessed_s, proven.mirrored_s) =
            (said(text, self.witness.as_ref()), said(text, self.mirror.as_ref()));
        if index >= head.size || self.vouched().is_none() {
            return proven;
        }
        let made = self.reader.with_nodes(|nodes| TlogProof::make(index, text, nodes)).ok();
        let holds = |proof: &TlogProof| {
            let (hash, path) = (leaf_hash(bytes), &proof.path);
            verify_inclusion(&hash, index, head.size, path, &head.root).is_ok()
        };
        if let Some(proof) = made.filter(holds) {
            proven.head_size = Some(head.size);
            proven.proof = Some(proof.to_string());
        }
        proven
    }

    /// The head, if the witness signed it too; the space's own log has none.
    fn vouched(&self) -> Option<&Checkpoint> {
        let (head, text) = self.head.as_ref()?;
        let is_vouched = self.witness.is_none() || said(text, self.witness.as_ref()).is_some();
        is_vouched.then_some(head)
    }
}

/// When a cosigner signed a head.
fn said(note: &str, key: Option<&CosignatureKey>) -> Option<u64> {
    Note::parse(note).ok()?.verify(key?).ok().map(|said| said.seconds)
}

/// What both logs are asked about.
pub struct Tracer {
    own: Source,
    /// Name of a copied log, by its folder's box.
    copies: BTreeMap<BoxId, Vec<(String, Source)>>,
    /// Heads that the space's log says it cosigned: size and time, in order.
    heads: BTreeMap<String, Vec<(u64, i64)>>,
    received: BTreeMap<BatchKey, (u64, Vec<u8>)>,
}

/// The leaves of a box's log that speak of a batch.
#[derive(Debug, Clone, Default)]
struct Mentions {
    change: Option<(u64, Vec<u8>)>,
    decision: Option<(u64, Vec<u8>)>,
    batch: Option<(u64, Vec<u8>)>,
}

impl Tracer {
    /// Reads what the space's log says of these batches.
    pub fn open(state_dir: &Path, space: &str, found: &[Found]) -> Result<Self, ProvenanceFault> {
        let keys = LogKeys::open(state_dir, space)?;
        let store = open_disk(&state_dir.join(STORE_DIR))?;
        let log = open_disk(&state_dir.join(LOG_DIR))?;
        let tail = read_leaves(&store, log.clone())?;
        let reader = LogReader::open(log, None, tail)?;
        let own = Source::open(reader, &Keys::One(keys.verifier()?), None)?;
        let wanted: BTreeMap<&BatchKey, ()> = found.iter().map(|one| (&one.key, ())).collect();
        let (mut heads, mut received) = (BTreeMap::<String, Vec<_>>::new(), BTreeMap::new());
        own.reader.for_each(&mut |index, bytes| {
            let Ok(leaf) = Leaf::decode(bytes) else { return };
            match leaf.body {
                LeafBody::Head(head) => {
                    heads.entry(head.log).or_default().push((head.size, leaf.wall.millis()));
                }
                LeafBody::Received(one) => {
                    let key = BatchKey {
                        box_id: one.box_id,
                        spool: one.spool,
                        stream: one.stream,
                        seq: one.seq,
                        digest: one.batch,
                    };
                    if wanted.contains_key(&key) {
                        received.insert(key, (index, bytes.to_vec()));
                    }
                }
                _ => {}
            }
        })?;
        let folders = OsFolders::new(state_dir);
        let mut copies = BTreeMap::new();
        for one in found {
            if !copies.contains_key(&one.key.box_id) {
                let logs = boxes::copies(&folders, &one.key.box_id, &keys)?;
                copies.insert(one.key.box_id.clone(), logs);
            }
        }
        Ok(Self { own, copies, heads, received })
    }

    /// The way of each batch, in the order in which they came.
    pub fn trace(&self, found: Vec<Found>) -> Result<Vec<Trace>, ProvenanceFault> {
        let mut mentions: BTreeMap<BatchKey, (usize, Mentions)> = BTreeMap::new();
        for (box_id, copies) in &self.copies {
            let wanted: Vec<&Found> =
                found.iter().filter(|one| one.key.box_id == *box_id).collect();
            for (number, (_, copy)) in copies.iter().enumerate() {
                for (key, said) in mentions_of(copy, &wanted)? {
                    mentions.insert(key, (number, said));
                }
            }
        }
        Ok(found.into_iter().map(|one| self.trace_one(one, &mentions)).collect())
    }

    fn trace_one(&self, one: Found, mentions: &BTreeMap<BatchKey, (usize, Mentions)>) -> Trace {
        let key = &one.key;
        let said = mentions.get(key);
        let copy = said
            .and_then(|(number, said)| Some((self.copies.get(&key.box_id)?.get(*number)?, said)));
        let mut trace = begin(&one);
        if let Some(((origin, source), said)) = copy {
            for (index, bytes) in [&said.change, &said.decision, &said.batch].into_iter().flatten()
            {
                let Ok(leaf) = Leaf::decode(bytes) else { continue };
                match &leaf.body {
                    LeafBody::ContractChange { version, .. } => {
                        trace.contract_version = Some(*version);
                    }
                    LeafBody::Batch(batch) => {
                        trace.contract_digest = Some(batch.contract_digest.to_string());
                        trace.plan = Some(batch.plan.to_string());
                        trace.witnessed = self.bracket(origin, *index);
                    }
                    _ => {}
                }
                let log = origin.clone();
                trace.box_log.push(Proven { log, ..source.prove(*index, bytes, &leaf) });
            }
        }
        if let Some((index, bytes)) = self.received.get(key)
            && let Ok(leaf) = Leaf::decode(bytes)
        {
            trace.space_log = Some(self.own.prove(*index, bytes, &leaf));
        }
        trace.missing = missing(&trace);
        trace
    }

    fn bracket(&self, origin: &str, index: u64) -> Bracket {
        let heads = self.heads.get(origin).map(Vec::as_slice).unwrap_or_default();
        let before = heads.iter().filter(|(size, _)| *size <= index).map(|(_, at)| *at);
        let after = heads.iter().filter(|(size, _)| *size > index).map(|(_, at)| *at);
        Bracket { not_before_ms: before.max(), not_after_ms: after.min() }
    }
}

fn begin(one: &Found) -> Trace {
    let key = &one.key;
    Trace {
        box_id: key.box_id.to_string(),
        spool: hex::encode(key.spool.0),
        stream: key.stream.0,
        batch_seq: key.seq.0,
        batch: key.digest.to_string(),
        trace_id: key.trace_id(),
        dataset: one.dataset.to_string(),
        contract: one.contract.to_string(),
        contract_version: None,
        contract_digest: None,
        plan: None,
        rows: one.rows,
        received_ms: one.received.millis(),
        is_deleted: one.is_deleted,
        reading: one.reading.clone(),
        box_log: Vec::new(),
        space_log: None,
        witnessed: Bracket::default(),
        missing: Vec::new(),
    }
}

fn missing(trace: &Trace) -> Vec<String> {
    let mut missing = Vec::new();
    match &trace.space_log {
        None => {
            missing.push("the space's log has no entry: it came before there was one".to_owned())
        }
        Some(entry) if !entry.is_proven() => {
            missing.push("no signed head of the space's log covers it yet".to_owned());
        }
        Some(_) => {}
    }
    match trace.box_log.iter().find(|entry| entry.kind == "batch") {
        None => missing.push("the box's log is not copied so far".to_owned()),
        Some(entry) if !entry.is_proven() => {
            missing.push("no cosigned head of the box's log covers it here yet".to_owned());
        }
        Some(_) => {}
    }
    missing
}

/// What a copy says of these batches: the batch, the decision before it, how its contract came to be.
fn mentions_of(
    copy: &Source,
    wanted: &[&Found],
) -> Result<Vec<(BatchKey, Mentions)>, ProvenanceFault> {
    let places: BTreeMap<(StreamId, BatchSeq, Digest), &BatchKey> = wanted
        .iter()
        .map(|one| ((one.key.stream, one.key.seq, one.key.digest), &one.key))
        .collect();
    let mut spool = None;
    let mut changes: BTreeMap<ContractId, (u64, Vec<u8>)> = BTreeMap::new();
    let mut decisions: BTreeMap<DatasetId, (u64, Vec<u8>)> = BTreeMap::new();
    let mut found = Vec::new();
    copy.reader.for_each(&mut |index, bytes| {
        let Ok(leaf) = Leaf::decode(bytes) else { return };
        let place = || (index, bytes.to_vec());
        match leaf.body {
            LeafBody::Start { spool: of_start, .. } => spool = Some(of_start),
            LeafBody::ContractChange { contract, .. } => {
                changes.insert(contract, place());
            }
            LeafBody::Decision(decision) => {
                decisions.insert(decision.dataset, place());
            }
            LeafBody::Batch(batch) => {
                let key = places.get(&(batch.stream, batch.seq, batch.batch));
                if let Some(key) = key.filter(|key| Some(key.spool) == spool) {
                    let mentions = Mentions {
                        change: changes.get(&batch.contract).cloned(),
                        decision: decisions.get(&batch.dataset).cloned(),
                        batch: Some(place()),
                    };
                    found.push(((*key).clone(), mentions));
                }
            }
            _ => {}
        }
    })?;
    Ok(found)
}

/// What left under a contract, in sum.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Sum {
    pub batches: u64,
    pub rows: u64,
    /// Of them, under heads that are signed: in the box's log and in the space's.
    pub proven_by_box: u64,
    pub proven_by_space: u64,
    pub deleted: u64,
}

pub fn sum(traces: &[Trace]) -> Sum {
    let mut sum = Sum::default();
    for trace in traces {
        sum.batches += 1;
        sum.rows += trace.rows;
        let by_box = trace.box_log.iter().any(|one| one.kind == "batch" && one.is_proven());
        sum.proven_by_box += u64::from(by_box);
        sum.proven_by_space += u64::from(trace.space_log.as_ref().is_some_and(Proven::is_proven));
        sum.deleted += u64::from(trace.is_deleted);
    }
    sum
}

fn open_disk(path: &Path) -> Result<OsDisk, ProvenanceFault> {
    OsDisk::open_read_only(path)
        .map_err(|source| ProvenanceFault::Open { path: path.to_path_buf(), source })
}

/// Where a time lies from another one.
fn distance(one: WallTime, other: WallTime) -> u64 {
    one.0.abs_diff(other.0)
}

#[cfg(test)]
mod tests;
