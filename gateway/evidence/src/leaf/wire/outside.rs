//! Bytes of the leaves in [`super::super::outside`]: all their fields are details, numbered from 1 on.

use super::{COUNT, Fields, LeafWriter, OUTCOME, coded};
use crate::leaf::outside::check_name;
use crate::leaf::{
    ANCHOR_PCRS_MAX, Acted, Anchor, Carried, Chain, Cosigned, Deed, Deleted, EpochStart, Erased,
    ErasureGround, Exported, Fork, Forwarded, GapReason, Head, KeyRollover, LeafBody, LeafError,
    Prune, Received, STATEMENT_BYTES_MAX, STATEMENT_SIGNATURE_BYTES_MAX, Statement, TRAIL_MAX,
    TpmStart, VerdictOutcome,
};
use guan_model::cbor::{CborFault, CborWriter};
use guan_model::{BatchSeq, BoxId, ContractId, DatasetId, Digest, SpoolId};
use std::collections::BTreeMap;

type Outcome = Result<LeafBody, LeafError>;

/// Number of keys beside those that every leaf has; `None`: the kind is not one of these.
pub(super) fn body_keys(body: &LeafBody) -> Option<u64> {
    Some(match body {
        LeafBody::TpmStart(_)
        | LeafBody::Anchor(_)
        | LeafBody::Chain(_)
        | LeafBody::Cosigned(_)
        | LeafBody::KeyRollover(_)
        | LeafBody::Prune(_)
        | LeafBody::Forwarded(_)
        | LeafBody::Head(_)
        | LeafBody::Fork(_) => 1,
        LeafBody::EpochStart(_)
        | LeafBody::Verdict { .. }
        | LeafBody::Deleted(_)
        | LeafBody::Acted(_) => 2,
        LeafBody::Received(_)
        | LeafBody::Erased(_)
        | LeafBody::Exported(_)
        | LeafBody::Carried(_) => 3,
        _ => return None,
    })
}

/// Entries with fields that may be empty.
trait DetailEntries {
    fn digest(&mut self, key: u64, digest: &Digest);
    fn maybe(&mut self, key: u64, digest: Option<&Digest>);
    fn statement(&mut self, key: u64, statement: Option<&Statement>);
}

impl DetailEntries for CborWriter {
    fn digest(&mut self, key: u64, digest: &Digest) {
        self.entry_bytes(key, &digest.0);
    }

    fn maybe(&mut self, key: u64, digest: Option<&Digest>) {
        self.entry_bytes(key, digest.map_or(&[], |digest| &digest.0));
    }

    fn statement(&mut self, key: u64, statement: Option<&Statement>) {
        self.unsigned(key);
        self.array(2);
        self.bytes(statement.map_or(&[], Statement::attested));
        self.bytes(statement.map_or(&[], Statement::signature));
    }
}

pub(super) fn encode_body(out: &mut LeafWriter, body: &LeafBody) {
    match body {
        LeafBody::TpmStart(start) => encode_tpm_start(out, start),
        LeafBody::Anchor(anchor) => encode_anchor(out, anchor),
        LeafBody::Chain(chain) => {
            out.detail(3);
            out.entry(1, chain.size);
            out.maybe(2, chain.before.as_ref());
            out.statement(3, Some(&chain.certified));
        }
        LeafBody::Cosigned(cosigned) => {
            out.detail(5);
            out.entry_text(1, &cosigned.witness);
            out.entry_bytes(2, &cosigned.key_id);
            out.entry(3, cosigned.size);
            out.entry(4, cosigned.timestamp_s);
            out.entry_bytes(5, &cosigned.signature);
        }
        LeafBody::KeyRollover(rollover) => {
            out.detail(3);
            out.entry_bytes(1, &rollover.key);
            out.entry_bytes(2, &rollover.by_old);
            out.statement(3, rollover.quote.as_ref());
        }
        LeafBody::EpochStart(epoch) => {
            out.entry(OUTCOME, u64::from(epoch.reason.code()));
            out.detail(5);
            out.entry_text(1, &epoch.previous);
            out.entry(2, epoch.size);
            out.digest(3, &epoch.root);
            out.entry(4, epoch.signed);
            out.entry(5, epoch.cosigned);
        }
        LeafBody::Prune(prune) => {
            out.detail(3);
            out.entry(1, prune.before);
            out.entry(2, prune.first);
            out.digest(3, &prune.root);
        }
        LeafBody::Forwarded(forwarded) => encode_forwarded(out, forwarded),
        LeafBody::Verdict { outcome, document } => {
            out.object(document);
            out.entry(OUTCOME, u64::from(outcome.code()));
        }
        LeafBody::Received(received) => encode_received(out, received),
        LeafBody::Deleted(deleted) => {
            out.object(&deleted.line);
            out.detail(1);
            out.entry_text(1, deleted.contract.as_str());
        }
        LeafBody::Head(head) => {
            out.detail(4);
            out.entry_text(1, head.box_id.as_str());
            out.entry_text(2, &head.log);
            out.entry(3, head.size);
            out.digest(4, &head.root);
        }
        LeafBody::Fork(fork) => {
            out.detail(5);
            out.entry_text(1, fork.box_id.as_str());
            out.entry_text(2, &fork.log);
            out.entry(3, fork.known);
            out.entry(4, fork.offered);
            out.digest(5, &fork.evidence);
        }
        LeafBody::Erased(erased) => encode_erased(out, erased),
        LeafBody::Exported(exported) => encode_exported(out, exported),
        LeafBody::Carried(carried) => encode_carried(out, carried),
        LeafBody::Acted(acted) => encode_acted(out, acted),
        _ => unreachable!("`body_keys` knows the kinds of this file"),
    }
}

fn encode_erased(out: &mut LeafWriter, erased: &Erased) {
    out.entry(COUNT, erased.commitments);
    out.entry(OUTCOME, u64::from(erased.ground.code()));
    out.detail(1);
    out.digest(1, &erased.root);
}

fn encode_exported(out: &mut LeafWriter, exported: &Exported) {
    out.object(&exported.manifest);
    out.entry(COUNT, exported.entries);
    out.detail(2);
    out.entry(1, exported.from);
    out.entry(2, exported.through);
}

fn encode_carried(out: &mut LeafWriter, carried: &Carried) {
    out.object(&carried.file);
    out.entry(COUNT, carried.rows);
    out.detail(5);
    out.entry(1, u64::from(carried.stream.0));
    out.entry(2, carried.from.0);
    out.entry(3, carried.through.0);
    out.entry(4, carried.batches);
    out.digest(5, &carried.key);
}

fn encode_acted(out: &mut LeafWriter, acted: &Acted) {
    out.entry(OUTCOME, u64::from(acted.deed.code()));
    out.detail(1);
    out.maybe(1, acted.about.as_ref());
}

fn encode_tpm_start(out: &mut LeafWriter, start: &TpmStart) {
    out.detail(8);
    out.digest(1, &start.attestation_key);
    out.entry(2, start.resets.into());
    out.entry(3, start.restarts.into());
    out.entry(4, start.clock_ms);
    out.entry(5, start.is_safe.into());
    out.entry(6, start.lockouts.into());
    out.digest(7, &start.trail);
    out.maybe(8, start.chain.as_ref());
}

fn encode_anchor(out: &mut LeafWriter, anchor: &Anchor) {
    out.detail(4);
    out.entry(1, anchor.size);
    out.unsigned(2);
    out.array(anchor.trail.len() as u64);
    // Differences: most heads are a few leaves after the one before.
    let mut last = 0;
    for size in &anchor.trail {
        out.unsigned(size.saturating_sub(last));
        last = *size;
    }
    out.unsigned(3);
    out.map(anchor.pcrs.len() as u64);
    for (pcr, value) in &anchor.pcrs {
        out.digest(u64::from(*pcr), value);
    }
    out.statement(4, Some(&anchor.quote));
}

fn encode_forwarded(out: &mut LeafWriter, forwarded: &Forwarded) {
    out.detail(7);
    out.entry(1, u64::from(forwarded.stream.0));
    out.entry(2, forwarded.from.0);
    out.entry(3, forwarded.through.0);
    out.entry_text(4, &forwarded.log);
    out.entry(5, forwarded.first);
    out.entry(6, forwarded.last);
    out.digest(7, &forwarded.root);
}

fn encode_received(out: &mut LeafWriter, received: &Received) {
    out.object(&received.batch);
    out.entry(COUNT, received.rows);
    out.detail(6);
    out.entry_text(1, received.box_id.as_str());
    out.entry_bytes(2, &received.spool.0);
    out.entry(3, u64::from(received.stream.0));
    out.entry(4, received.seq.0);
    out.entry_text(5, received.dataset.as_str());
    out.entry_text(6, received.contract.as_str());
}

/// Reads the body of a kind of this file; `None`: the kind is not one of these.
pub(super) fn body(fields: &mut Fields<'_>, kind: u64) -> Option<Outcome> {
    Some(match kind {
        11 => fields.detail(tpm_start),
        12 => fields.detail(anchor),
        13 => fields.detail(|detail| {
            Ok(LeafBody::Chain(Chain {
                size: detail.number(1)?,
                before: detail.maybe(2)?,
                certified: detail.statement(3)?.ok_or(LeafError::Statement)?,
            }))
        }),
        14 => fields.detail(cosigned),
        15 => fields.detail(|detail| {
            Ok(LeafBody::KeyRollover(KeyRollover {
                key: detail.fixed(1)?,
                by_old: detail.fixed(2)?,
                quote: detail.statement(3)?,
            }))
        }),
        16 => epoch(fields),
        17 => fields.detail(|detail| {
            Ok(LeafBody::Prune(Prune {
                before: detail.number(1)?,
                first: detail.number(2)?,
                root: detail.digest(3)?,
            }))
        }),
        18 => fields.detail(forwarded),
        19 => verdict(fields),
        20 => received(fields),
        21 => deleted(fields),
        22 => fields.detail(|detail| {
            Ok(LeafBody::Head(Head {
                box_id: BoxId::parse(detail.text(1)?)?,
                log: detail.name(2)?,
                size: detail.number(3)?,
                root: detail.digest(4)?,
            }))
        }),
        23 => fields.detail(|detail| {
            Ok(LeafBody::Fork(Fork {
                box_id: BoxId::parse(detail.text(1)?)?,
                log: detail.name(2)?,
                known: detail.number(3)?,
                offered: detail.number(4)?,
                evidence: detail.digest(5)?,
            }))
        }),
        24 => erased(fields),
        25 => exported(fields),
        26 => carried(fields),
        27 => acted(fields),
        _ => return None,
    })
}

impl Fields<'_> {
    fn fixed<const N: usize>(&mut self, key: u64) -> Result<[u8; N], LeafError> {
        self.require(key)?;
        Ok(self.reader.fixed_bytes()?)
    }

    fn narrow<N: TryFrom<u64>>(&mut self, key: u64) -> Result<N, LeafError> {
        self.require(key)?;
        Ok(self.reader.narrow()?)
    }

    fn name(&mut self, key: u64) -> Result<String, LeafError> {
        let name = self.text(key)?;
        check_name(name)?;
        Ok(name.to_owned())
    }

    fn maybe(&mut self, key: u64) -> Result<Option<Digest>, LeafError> {
        self.require(key)?;
        let at = self.reader.at();
        match self.reader.bytes(32)? {
            [] => Ok(None),
            bytes => {
                let length = bytes.len() as u64;
                let short = CborFault::Length { at, length, expected: 32 };
                Ok(Some(Digest(bytes.try_into().map_err(|_| short)?)))
            }
        }
    }

    fn statement(&mut self, key: u64) -> Result<Option<Statement>, LeafError> {
        self.require(key)?;
        self.reader.array(2)?;
        let attested = self.reader.bytes(STATEMENT_BYTES_MAX as u64)?;
        let signature = self.reader.bytes(STATEMENT_SIGNATURE_BYTES_MAX as u64)?;
        match (attested.is_empty(), signature.is_empty()) {
            (true, true) => Ok(None),
            (false, false) => Ok(Statement::new(attested.to_vec(), signature.to_vec())),
            _ => Err(LeafError::Statement),
        }
    }
}

fn tpm_start(detail: &mut Fields<'_>) -> Outcome {
    Ok(LeafBody::TpmStart(TpmStart {
        attestation_key: detail.digest(1)?,
        resets: detail.narrow(2)?,
        restarts: detail.narrow(3)?,
        clock_ms: detail.number(4)?,
        is_safe: match detail.number(5)? {
            0 => false,
            1 => true,
            found => return Err(LeafError::Code { what: "clock's safety", found }),
        },
        lockouts: detail.narrow(6)?,
        trail: detail.digest(7)?,
        chain: detail.maybe(8)?,
    }))
}

fn anchor(detail: &mut Fields<'_>) -> Outcome {
    let size = detail.number(1)?;
    detail.require(2)?;
    let count = detail.reader.array_up_to(TRAIL_MAX as u64)?;
    let mut trail = Vec::new();
    let mut last: u64 = 0;
    for _ in 0..count {
        let step = detail.reader.unsigned()?;
        last = last.checked_add(step).ok_or(LeafError::Anchor)?;
        trail.push(last);
    }
    detail.require(3)?;
    let pcrs = detail.inner(pcrs)?;
    let quote = detail.statement(4)?.ok_or(LeafError::Statement)?;
    let anchor = Anchor { size, trail, pcrs, quote };
    anchor.is_sound().then_some(LeafBody::Anchor(anchor)).ok_or(LeafError::Anchor)
}

fn pcrs(fields: &mut Fields<'_>) -> Result<BTreeMap<u8, Digest>, LeafError> {
    let mut pcrs = BTreeMap::new();
    while let Some(found) = fields.map.next(&mut fields.reader)? {
        let pcr = u8::try_from(found).map_err(|_| LeafError::Anchor)?;
        let is_next = pcrs.last_key_value().is_none_or(|(last, _)| *last < pcr);
        if !is_next || pcrs.len() == ANCHOR_PCRS_MAX {
            return Err(LeafError::Anchor);
        }
        pcrs.insert(pcr, Digest(fields.reader.fixed_bytes()?));
    }
    Ok(pcrs)
}

fn cosigned(detail: &mut Fields<'_>) -> Outcome {
    Ok(LeafBody::Cosigned(Cosigned {
        witness: detail.name(1)?,
        key_id: detail.fixed(2)?,
        size: detail.number(3)?,
        timestamp_s: detail.number(4)?,
        signature: detail.fixed(5)?,
    }))
}

fn epoch(fields: &mut Fields<'_>) -> Outcome {
    let reason = fields.outcome("reason", GapReason::from_code)?;
    fields.detail(|detail| {
        Ok(LeafBody::EpochStart(EpochStart {
            previous: detail.name(1)?,
            size: detail.number(2)?,
            root: detail.digest(3)?,
            signed: detail.number(4)?,
            cosigned: detail.number(5)?,
            reason,
        }))
    })
}

fn forwarded(detail: &mut Fields<'_>) -> Outcome {
    Ok(LeafBody::Forwarded(Forwarded {
        stream: detail.stream(1)?,
        from: BatchSeq(detail.number(2)?),
        through: BatchSeq(detail.number(3)?),
        log: detail.name(4)?,
        first: detail.number(5)?,
        last: detail.number(6)?,
        root: detail.digest(7)?,
    }))
}

fn verdict(fields: &mut Fields<'_>) -> Outcome {
    let document = fields.object()?;
    let found = fields.number(OUTCOME)?;
    let outcome = coded("verdict", found, VerdictOutcome::from_code)?;
    Ok(LeafBody::Verdict { outcome, document })
}

fn received(fields: &mut Fields<'_>) -> Outcome {
    let batch = fields.object()?;
    let rows = fields.number(COUNT)?;
    fields.detail(|detail| {
        Ok(LeafBody::Received(Received {
            box_id: BoxId::parse(detail.text(1)?)?,
            spool: SpoolId(detail.fixed(2)?),
            stream: detail.stream(3)?,
            seq: BatchSeq(detail.number(4)?),
            dataset: DatasetId::parse(detail.text(5)?)?,
            contract: ContractId::parse(detail.text(6)?)?,
            rows,
            batch,
        }))
    })
}

fn deleted(fields: &mut Fields<'_>) -> Outcome {
    let line = fields.object()?;
    fields.detail(|detail| {
        Ok(LeafBody::Deleted(Deleted { contract: ContractId::parse(detail.text(1)?)?, line }))
    })
}

fn erased(fields: &mut Fields<'_>) -> Outcome {
    let commitments = fields.number(COUNT)?;
    let ground = fields.outcome("ground", ErasureGround::from_code)?;
    fields.detail(|detail| {
        Ok(LeafBody::Erased(Erased { commitments, root: detail.digest(1)?, ground }))
    })
}

fn acted(fields: &mut Fields<'_>) -> Outcome {
    let deed = fields.outcome("deed", Deed::from_code)?;
    let about = fields.detail(|detail| detail.maybe(1))?;
    Ok(LeafBody::Acted(Acted { deed, about }))
}

fn exported(fields: &mut Fields<'_>) -> Outcome {
    let manifest = fields.object()?;
    let entries = fields.number(COUNT)?;
    fields.detail(|detail| {
        let (from, through) = (detail.number(1)?, detail.number(2)?);
        Ok(LeafBody::Exported(Exported { from, through, entries, manifest }))
    })
}

fn carried(fields: &mut Fields<'_>) -> Outcome {
    let file = fields.object()?;
    let rows = fields.number(COUNT)?;
    fields.detail(|detail| {
        Ok(LeafBody::Carried(Carried {
            stream: detail.stream(1)?,
            from: BatchSeq(detail.number(2)?),
            through: BatchSeq(detail.number(3)?),
            batches: detail.number(4)?,
            key: detail.digest(5)?,
            rows,
            file,
        }))
    })
}
