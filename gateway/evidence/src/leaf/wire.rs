//! Bytes of a leaf: a CBOR map with the integer keys of research/log.md, section 3.1.
//!
//! | key | field |
//! |---|---|
//! | 1 | schema version |
//! | 2 | seq |
//! | 3 | wall time, ms |
//! | 4 | [boot, monotonic ms, clock quality] |
//! | 5 | kind |
//! | 8 | [contract id, plan digest]; the id is empty where a leaf speaks of all contracts |
//! | 9 | [1, SHA-256 of the object] |
//! | 10 | rows, or the version of a contract |
//! | 11 | outcome or reason |
//! | 12 | commitment to who acted: in all leaves of schema 2, and in none of schema 1 |
//! | 14 | map of details, its keys are the kind's own |
//!
//! Keys 6, 7 and 13 (trace, links) are reserved: a trace is derived from the batch
//! ([`crate::trace_id`]). A kind has exactly its keys, but for the permission of a batch (detail 5), which leaves
//! of the first release lack, and the root and epoch of a gap (3 and 4), which only one that was refilled has.

mod outside;

use super::{
    BatchAccepted, ConfigOutcome, ContractOutcome, DataGap, DecisionSummary, Denial, GapReason,
    LEAF_BYTES_MAX, LEAF_SCHEMA, LEAF_SCHEMA_PLAIN, Leaf, LeafBody, LeafError, Program, Refill,
    Salvage,
};
use crate::epoch::EPOCHS_MAX;
use guan_model::cbor::{CborFault, CborReader, CborWriter, MapKeys};
use guan_model::{
    BatchSeq, BootNumber, ClockQuality, ContractId, DatasetId, Digest, RuleId, SpoolId, StreamId,
    WallTime,
};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

const SCHEMA: u64 = 1;
const SEQ: u64 = 2;
const WALL: u64 = 3;
const MOMENT: u64 = 4;
const KIND: u64 = 5;
const CONTRACT: u64 = 8;
const OBJECT: u64 = 9;
const COUNT: u64 = 10;
const OUTCOME: u64 = 11;
const ACTOR: u64 = 12;
const DETAIL: u64 = 14;
/// Every leaf has the keys up to `KIND`.
const COMMON_KEYS: u64 = 5;
/// Number of SHA-256 in `OBJECT`.
const SHA_256: u64 = 1;

/// Milliseconds that fit the nanoseconds of `WallTime`.
const WALL_MILLIS: std::ops::RangeInclusive<i64> =
    i64::MIN.div_euclid(1_000_000)..=i64::MAX.div_euclid(1_000_000);

fn body_keys(body: &LeafBody) -> u64 {
    match body {
        LeafBody::Stop => 0,
        LeafBody::Start { .. } | LeafBody::ClockStep { .. } | LeafBody::Salvage(_) => 1,
        LeafBody::ConfigChange { .. } | LeafBody::LogGap { .. } => 2,
        LeafBody::Decision(_) | LeafBody::DataGap(_) => 3,
        LeafBody::Batch(_) | LeafBody::ContractChange { .. } => 4,
        other => outside::body_keys(other).expect("every kind is in one of both files"),
    }
}

pub(super) fn encode(leaf: &Leaf) -> Vec<u8> {
    let mut out = LeafWriter { out: CborWriter::default(), actor: leaf.actor };
    let (schema, more) = match leaf.actor {
        Some(_) => (LEAF_SCHEMA, 1),
        None => (LEAF_SCHEMA_PLAIN, 0),
    };
    out.map(COMMON_KEYS + more + body_keys(&leaf.body));
    out.unsigned(SCHEMA);
    out.unsigned(schema);
    out.unsigned(SEQ);
    out.unsigned(leaf.seq);
    out.unsigned(WALL);
    out.signed(leaf.wall.millis());
    out.unsigned(MOMENT);
    out.array(3);
    out.unsigned(u64::from(leaf.boot.0));
    out.unsigned(u64::try_from(leaf.monotonic.as_millis()).unwrap_or(u64::MAX));
    out.unsigned(u64::from(leaf.clock_quality as u8));
    out.unsigned(KIND);
    out.unsigned(u64::from(leaf.body.kind()));
    encode_body(&mut out, &leaf.body);
    out.actor();
    out.out.finish()
}

fn encode_body(out: &mut LeafWriter, body: &LeafBody) {
    match body {
        LeafBody::Start { program, spool } => {
            out.detail(2);
            out.entry_text(1, program.as_str());
            out.unsigned(2);
            out.bytes(&spool.0);
        }
        LeafBody::Stop => {}
        LeafBody::Batch(batch) => {
            out.under(batch.contract.as_str(), &batch.plan);
            out.object(&batch.batch);
            out.entry(COUNT, batch.rows);
            out.detail(4 + u64::from(batch.permission.is_some()));
            out.entry(1, u64::from(batch.stream.0));
            out.entry(2, batch.seq.0);
            out.entry_text(3, batch.dataset.as_str());
            out.unsigned(4);
            out.bytes(&batch.contract_digest.0);
            if let Some(permission) = &batch.permission {
                out.entry_text(5, permission.as_str());
            }
        }
        LeafBody::Decision(decision) => encode_decision(out, decision),
        LeafBody::ContractChange { contract, version, digest, plan, outcome } => {
            out.under(contract.as_str(), plan);
            out.object(digest);
            out.entry(COUNT, *version);
            out.entry(OUTCOME, u64::from(outcome.code()));
        }
        LeafBody::ConfigChange { digest, outcome } => {
            out.object(digest);
            out.entry(OUTCOME, u64::from(outcome.code()));
        }
        LeafBody::ClockStep { from, to } => {
            out.detail(2);
            out.unsigned(1);
            out.signed(from.millis());
            out.unsigned(2);
            out.signed(to.millis());
        }
        LeafBody::LogGap { from, through, reason, refill } => {
            out.entry(OUTCOME, u64::from(reason.code()));
            let epoch = refill.and_then(|refill| refill.epoch);
            out.detail(2 + u64::from(refill.is_some()) + u64::from(epoch.is_some()));
            out.entry(1, *from);
            out.entry(2, *through);
            if let Some(refill) = refill {
                out.entry_bytes(3, &refill.root.0);
            }
            if let Some(epoch) = epoch {
                out.entry(4, u64::from(epoch));
            }
        }
        LeafBody::DataGap(gap) => {
            out.entry(COUNT, gap.rows);
            out.entry(OUTCOME, u64::from(gap.reason.code()));
            out.detail(3);
            out.entry(1, u64::from(gap.stream.0));
            out.entry(2, gap.from.0);
            out.entry(3, gap.through.0);
        }
        LeafBody::Salvage(salvage) => {
            out.detail(4);
            out.entry(1, salvage.files_set_aside);
            out.entry(2, salvage.frames_lost);
            out.entry(3, salvage.bytes_lost);
            out.entry(4, salvage.torn_tail_bytes);
        }
        other => outside::encode_body(out, other),
    }
}

fn encode_decision(out: &mut LeafWriter, decision: &DecisionSummary) {
    out.under("", &decision.plan);
    out.entry(COUNT, decision.permitted);
    out.detail(3);
    out.entry_text(1, decision.dataset.as_str());
    out.entry(2, decision.masked);
    out.unsigned(3);
    let denied = decision.denied.iter().filter(|(_, rows)| **rows > 0);
    out.map(denied.clone().count() as u64);
    for (reason, rows) in denied {
        out.entry(u64::from(reason.code()), *rows);
    }
}

/// Writes the entries of a leaf, the actor in its place among them.
struct LeafWriter {
    out: CborWriter,
    /// Until it is written.
    actor: Option<Digest>,
}

impl Deref for LeafWriter {
    type Target = CborWriter;

    fn deref(&self) -> &CborWriter {
        &self.out
    }
}

impl DerefMut for LeafWriter {
    fn deref_mut(&mut self) -> &mut CborWriter {
        &mut self.out
    }
}

impl LeafWriter {
    fn under(&mut self, contract: &str, plan: &Digest) {
        self.unsigned(CONTRACT);
        self.array(2);
        self.text(contract);
        self.bytes(&plan.0);
    }

    fn object(&mut self, digest: &Digest) {
        self.unsigned(OBJECT);
        self.array(2);
        self.unsigned(SHA_256);
        self.bytes(&digest.0);
    }

    fn actor(&mut self) {
        if let Some(actor) = self.actor.take() {
            self.entry_bytes(ACTOR, &actor.0);
        }
    }

    fn detail(&mut self, entries: u64) {
        self.actor();
        self.unsigned(DETAIL);
        self.map(entries);
    }
}

pub(super) fn decode(bytes: &[u8]) -> Result<Leaf, LeafError> {
    if bytes.len() > LEAF_BYTES_MAX {
        return Err(LeafError::TooLong { length: bytes.len() });
    }
    let mut reader = CborReader::new(bytes);
    let map = reader.map()?;
    let mut fields = Fields { reader, map, has_actor: false, actor: None };
    fields.has_actor = match fields.number(SCHEMA)? {
        LEAF_SCHEMA_PLAIN => false,
        LEAF_SCHEMA => true,
        found => return Err(LeafError::Schema { found }),
    };
    let seq = fields.number(SEQ)?;
    let wall = fields.wall(WALL)?;
    fields.require(MOMENT)?;
    fields.reader.array(3)?;
    let boot = BootNumber(fields.reader.narrow()?);
    let monotonic = Duration::from_millis(fields.reader.unsigned()?);
    let quality = fields.reader.unsigned()?;
    let clock_quality = coded("clock quality", quality, ClockQuality::from_code)?;
    let kind = fields.number(KIND)?;
    let body = fields.body(kind)?;
    fields.read_actor()?;
    let Fields { reader, map, actor, .. } = fields;
    map.finish(&reader)?;
    reader.end()?;
    Ok(Leaf { seq, wall, boot, monotonic, clock_quality, actor, body })
}

fn coded<T>(
    what: &'static str,
    found: u64,
    from_code: impl Fn(u8) -> Option<T>,
) -> Result<T, LeafError> {
    let code = u8::try_from(found).ok();
    code.and_then(from_code).ok_or(LeafError::Code { what, found })
}

/// A map that is read key by key, in the order in which it must stand.
struct Fields<'a> {
    reader: CborReader<'a>,
    map: MapKeys,
    /// The leaf has an actor, not read yet.
    has_actor: bool,
    actor: Option<Digest>,
}

impl<'a> Fields<'a> {
    fn require(&mut self, key: u64) -> Result<(), LeafError> {
        Ok(self.map.require(&mut self.reader, key)?)
    }

    fn number(&mut self, key: u64) -> Result<u64, LeafError> {
        self.require(key)?;
        Ok(self.reader.unsigned()?)
    }

    fn text(&mut self, key: u64) -> Result<&'a str, LeafError> {
        self.require(key)?;
        Ok(self.reader.text()?)
    }

    fn wall(&mut self, key: u64) -> Result<WallTime, LeafError> {
        self.require(key)?;
        let millis = self.reader.signed()?;
        match WALL_MILLIS.contains(&millis) {
            true => Ok(WallTime::from_millis(millis)),
            false => Err(LeafError::Wall { millis }),
        }
    }

    fn digest(&mut self, key: u64) -> Result<Digest, LeafError> {
        self.require(key)?;
        Ok(Digest(self.reader.fixed_bytes()?))
    }

    fn under(&mut self) -> Result<(&'a str, Digest), LeafError> {
        self.require(CONTRACT)?;
        self.reader.array(2)?;
        let contract = self.reader.text()?;
        Ok((contract, Digest(self.reader.fixed_bytes()?)))
    }

    fn object(&mut self) -> Result<Digest, LeafError> {
        self.require(OBJECT)?;
        self.reader.array(2)?;
        match self.reader.unsigned()? {
            SHA_256 => Ok(Digest(self.reader.fixed_bytes()?)),
            found => Err(LeafError::Code { what: "digest algorithm", found }),
        }
    }

    fn stream(&mut self, key: u64) -> Result<StreamId, LeafError> {
        self.require(key)?;
        Ok(StreamId(self.reader.narrow()?))
    }

    fn outcome<T>(
        &mut self,
        what: &'static str,
        from_code: impl Fn(u8) -> Option<T>,
    ) -> Result<T, LeafError> {
        let found = self.number(OUTCOME)?;
        coded(what, found, from_code)
    }

    /// Whether the map goes on, with this key: leaves of earlier releases end before it.
    fn goes_on(&mut self, key: u64) -> Result<bool, LeafError> {
        let at = self.reader.at();
        match self.map.next(&mut self.reader)? {
            None => Ok(false),
            Some(found) if found == key => Ok(true),
            Some(found) => Err(CborFault::Key { at, found, expected: key }.into()),
        }
    }

    fn permission(&mut self, key: u64) -> Result<Option<RuleId>, LeafError> {
        if !self.goes_on(key)? {
            return Ok(None);
        }
        RuleId::parse(self.reader.text()?).map(Some).ok_or(LeafError::Permission)
    }

    fn refill(&mut self) -> Result<Option<Refill>, LeafError> {
        if !self.goes_on(3)? {
            return Ok(None);
        }
        let root = Digest(self.reader.fixed_bytes()?);
        let epoch = match self.goes_on(4)? {
            true => {
                let found = self.reader.unsigned()?;
                let number = u16::try_from(found).ok().filter(|one| (1..=EPOCHS_MAX).contains(one));
                Some(number.ok_or(LeafError::Epoch { found })?)
            }
            false => None,
        };
        Ok(Some(Refill { root, epoch }))
    }

    /// Reads the map of details with the same methods.
    fn detail<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, LeafError>,
    ) -> Result<T, LeafError> {
        self.read_actor()?;
        self.require(DETAIL)?;
        self.inner(read)
    }

    /// Stands before the details, or last.
    fn read_actor(&mut self) -> Result<(), LeafError> {
        if std::mem::take(&mut self.has_actor) {
            self.actor = Some(self.digest(ACTOR)?);
        }
        Ok(())
    }

    fn inner<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, LeafError>,
    ) -> Result<T, LeafError> {
        let map = self.reader.map()?;
        let outer = std::mem::replace(&mut self.map, map);
        let value = read(self)?;
        std::mem::replace(&mut self.map, outer).finish(&self.reader)?;
        Ok(value)
    }

    fn body(&mut self, kind: u64) -> Result<LeafBody, LeafError> {
        match kind {
            1 => self.start(),
            2 => Ok(LeafBody::Stop),
            3 => self.batch(),
            4 => self.decision(),
            5 => self.contract_change(),
            6 => Ok(LeafBody::ConfigChange {
                digest: self.object()?,
                outcome: self.outcome("outcome", ConfigOutcome::from_code)?,
            }),
            7 => self.detail(|detail| {
                Ok(LeafBody::ClockStep { from: detail.wall(1)?, to: detail.wall(2)? })
            }),
            8 => {
                let reason = self.outcome("reason", GapReason::from_code)?;
                let gap = self.detail(|d| Ok((d.number(1)?, d.number(2)?, d.refill()?)))?;
                let (from, through, refill) = gap;
                Ok(LeafBody::LogGap { from, through, reason, refill })
            }
            9 => self.data_gap(),
            10 => self.detail(|detail| {
                Ok(LeafBody::Salvage(Salvage {
                    files_set_aside: detail.number(1)?,
                    frames_lost: detail.number(2)?,
                    bytes_lost: detail.number(3)?,
                    torn_tail_bytes: detail.number(4)?,
                }))
            }),
            found => outside::body(self, found).unwrap_or(Err(LeafError::Kind { found })),
        }
    }

    fn start(&mut self) -> Result<LeafBody, LeafError> {
        self.detail(|detail| {
            let program = Program::parse(detail.text(1)?).ok_or(LeafError::Program)?;
            detail.require(2)?;
            Ok(LeafBody::Start { program, spool: SpoolId(detail.reader.fixed_bytes()?) })
        })
    }

    fn batch(&mut self) -> Result<LeafBody, LeafError> {
        let (contract, plan) = self.under()?;
        let contract = ContractId::parse(contract)?;
        let batch = self.object()?;
        let rows = self.number(COUNT)?;
        self.detail(|detail| {
            Ok(LeafBody::Batch(BatchAccepted {
                stream: detail.stream(1)?,
                seq: BatchSeq(detail.number(2)?),
                dataset: DatasetId::parse(detail.text(3)?)?,
                contract_digest: detail.digest(4)?,
                permission: detail.permission(5)?,
                contract,
                plan,
                batch,
                rows,
            }))
        })
    }

    fn decision(&mut self) -> Result<LeafBody, LeafError> {
        let (contract, plan) = self.under()?;
        if !contract.is_empty() {
            return Err(LeafError::SummaryOfOne);
        }
        let permitted = self.number(COUNT)?;
        self.detail(|detail| {
            let dataset = DatasetId::parse(detail.text(1)?)?;
            let masked = detail.number(2)?;
            detail.require(3)?;
            let denied = detail.inner(Self::denied)?;
            Ok(LeafBody::Decision(DecisionSummary { dataset, plan, permitted, masked, denied }))
        })
    }

    fn denied(&mut self) -> Result<BTreeMap<Denial, u64>, LeafError> {
        let mut denied = BTreeMap::new();
        let mut last = None;
        loop {
            let at = self.reader.at();
            let Some(found) = self.map.next(&mut self.reader)? else { return Ok(denied) };
            if let Some(last) = last.filter(|last| *last >= found) {
                return Err(CborFault::Key { at, found, expected: last + 1 }.into());
            }
            last = Some(found);
            let reason = coded("reason", found, Denial::from_code)?;
            match self.reader.unsigned()? {
                0 => return Err(LeafError::ZeroCount),
                rows => denied.insert(reason, rows),
            };
        }
    }

    fn contract_change(&mut self) -> Result<LeafBody, LeafError> {
        let (contract, plan) = self.under()?;
        Ok(LeafBody::ContractChange {
            contract: ContractId::parse(contract)?,
            digest: self.object()?,
            version: self.number(COUNT)?,
            outcome: self.outcome("outcome", ContractOutcome::from_code)?,
            plan,
        })
    }

    fn data_gap(&mut self) -> Result<LeafBody, LeafError> {
        let rows = self.number(COUNT)?;
        let reason = self.outcome("reason", GapReason::from_code)?;
        self.detail(|detail| {
            Ok(LeafBody::DataGap(DataGap {
                stream: detail.stream(1)?,
                from: BatchSeq(detail.number(2)?),
                through: BatchSeq(detail.number(3)?),
                rows,
                reason,
            }))
        })
    }
}
