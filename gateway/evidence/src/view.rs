//! Leaves for people and for other tools, as JSON. Never hashed: the leaf's bytes are what counts.
//!
//! Names beside our own: `class_uid` of OCSF 1.3 where one fits, `trace_id` as OpenTelemetry writes it.

use crate::account::Line;
use crate::leaf::{Anchor, Leaf, LeafBody, Statement, TpmStart};
use crate::trace::trace_id;
use crate::verify::{Report, Vouched};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use guan_model::{Digest, RuleId, SpoolId};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};

/// OCSF classes (<https://schema.ocsf.io>): application lifecycle, datastore activity, device config
/// state change, entity management.
const LIFECYCLE: u32 = 6002;
const DATASTORE: u32 = 6005;
const CONFIGURATION: u32 = 5019;
const ENTITY: u32 = 3004;
/// API activity: what somebody asked for.
const ACTIVITY: u32 = 6003;

/// Turns the leaves of one log into JSON, in their order.
///
/// Evidence bundles hold this text, and their check rebuilds it and compares: what a kind of leaf looks like
/// here stays for ever. What a later release has to add goes into a new kind, or shows only for leaves that no
/// earlier release could write. `tests/golden/views-v1.jsonl` holds it.
#[derive(Debug, Clone, Default)]
pub struct LeafView {
    /// Of the last start: batches are counted within it.
    spool: Option<SpoolId>,
}

impl LeafView {
    pub fn new() -> Self {
        Self::default()
    }

    /// The whole leaf.
    pub fn leaf(&mut self, leaf: &Leaf) -> Value {
        if let LeafBody::Start { spool, .. } = &leaf.body {
            self.spool = Some(*spool);
        }
        let mut view = json!({
            "seq": leaf.seq, "wall_ms": leaf.wall.millis(), "boot": leaf.boot.0,
            "monotonic_ms": u64::try_from(leaf.monotonic.as_millis()).unwrap_or(u64::MAX),
            "clock_quality": leaf.clock_quality as u8, "kind": leaf.body.kind_name(),
            "entry": entry(&leaf.body),
        });
        if let Some(actor) = leaf.actor {
            view["actor"] = json!(actor.to_string());
        }
        if let Some(class) = class_uid(&leaf.body) {
            view["class_uid"] = json!(class);
        }
        if let Some(trace) = self.trace(&leaf.body) {
            view["trace_id"] = json!(hex(&trace));
        }
        view
    }

    fn trace(&self, body: &LeafBody) -> Option<[u8; crate::trace::TRACE_BYTES]> {
        match body {
            LeafBody::Batch(one) => Some(trace_id(self.spool?, one.stream, one.seq, &one.batch)),
            LeafBody::Received(one) => Some(trace_id(one.spool, one.stream, one.seq, &one.batch)),
            _ => None,
        }
    }
}

/// Most entries that [`Newest`] keeps.
pub const NEWEST_MAX: usize = 10_000;

/// The last entries of a log, of one kind or of all, while its leaves are read in their order.
#[derive(Debug)]
pub struct Newest {
    view: LeafView,
    last: usize,
    kind: Option<String>,
    entries: VecDeque<(Leaf, Value)>,
}

impl Newest {
    /// At most `last` entries and [`NEWEST_MAX`].
    pub fn new(last: usize, kind: Option<&str>) -> Self {
        let (last, kind) = (last.min(NEWEST_MAX), kind.map(str::to_owned));
        Self { view: LeafView::new(), last, kind, entries: VecDeque::new() }
    }

    /// Passes over what cannot be read: a verifier tells of it.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        let Ok(leaf) = Leaf::decode(bytes) else { return };
        let json = self.view.leaf(&leaf);
        if self.kind.as_ref().is_none_or(|kind| leaf.body.kind_name() == kind) {
            self.entries.push_back((leaf, json));
        }
        if self.entries.len() > self.last {
            self.entries.pop_front();
        }
    }

    /// Each leaf, and the same as JSON.
    pub fn entries(&self) -> impl Iterator<Item = &(Leaf, Value)> {
        self.entries.iter()
    }

    pub fn json(&self) -> Value {
        json!({"entries": self.entries.iter().map(|(_, json)| json).collect::<Vec<_>>()})
    }
}

/// An entry's fields in one line.
pub fn line(entry: &Value) -> String {
    let Some(members) = entry.as_object() else { return String::new() };
    let parts = members.iter().map(|(name, value)| match value {
        Value::String(text) => format!("{name} {text}"),
        other => format!("{name} {other}"),
    });
    parts.collect::<Vec<_>>().join(", ")
}

/// A line of an account: members `kept`, `proven`, `sent` and `given_up`, the last by reason.
pub fn account_line(line: &Line) -> Value {
    let given_up =
        line.given_up.iter().map(|(reason, gone)| (reason.name().to_owned(), json!(gone)));
    let given_up: serde_json::Map<_, _> = given_up.collect();
    json!({
        "kept": line.kept, "proven": line.proven, "sent": line.sent, "given_up": given_up,
    })
}

fn class_uid(body: &LeafBody) -> Option<u32> {
    match body {
        LeafBody::Start { .. } | LeafBody::Stop | LeafBody::TpmStart(_) => Some(LIFECYCLE),
        LeafBody::Batch(_)
        | LeafBody::Decision(_)
        | LeafBody::Forwarded(_)
        | LeafBody::Carried(_)
        | LeafBody::Received(_)
        | LeafBody::Deleted(_)
        | LeafBody::DataGap(_) => Some(DATASTORE),
        LeafBody::ConfigChange { .. } => Some(CONFIGURATION),
        LeafBody::ContractChange { .. } | LeafBody::KeyRollover(_) => Some(ENTITY),
        LeafBody::Acted(_) => Some(ACTIVITY),
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn statement(statement: &Statement) -> Value {
    json!({
        "attested": STANDARD.encode(statement.attested()),
        "signature": STANDARD.encode(statement.signature()),
    })
}

fn text(digest: Option<&Digest>) -> Option<String> {
    digest.map(ToString::to_string)
}

/// The fields of the leaf's kind.
pub fn entry(body: &LeafBody) -> Value {
    match body {
        LeafBody::Start { program, spool } => {
            json!({"program": program.as_str(), "spool": hex(&spool.0)})
        }
        LeafBody::Stop => json!({}),
        LeafBody::Batch(batch) => json!({
            "dataset": batch.dataset.as_str(), "contract": batch.contract.as_str(),
            "rows": batch.rows, "stream": batch.stream.0, "batch": batch.seq.0,
            "digest": batch.batch.to_string(),
            "permission": batch.permission.as_ref().map(RuleId::as_str),
        }),
        LeafBody::Decision(decision) => {
            let denied = decision.denied.iter().map(|(why, rows)| (why.name(), *rows));
            let denied: BTreeMap<&str, u64> = denied.collect();
            json!({
                "dataset": decision.dataset.as_str(), "permitted": decision.permitted,
                "masked": decision.masked, "denied": denied,
            })
        }
        LeafBody::ContractChange { contract, version, digest, outcome, .. } => json!({
            "contract": contract.as_str(), "version": version, "outcome": outcome.name(),
            "digest": digest.to_string(),
        }),
        LeafBody::ConfigChange { digest, outcome } => {
            json!({"digest": digest.to_string(), "outcome": outcome.name()})
        }
        LeafBody::ClockStep { from, to } => {
            json!({"from_ms": from.millis(), "to_ms": to.millis()})
        }
        LeafBody::LogGap { from, through, reason, refill } => {
            let mut gap = json!({"from": from, "through": through, "reason": reason.name()});
            if let Some(refill) = refill {
                gap["refilled_root"] = json!(refill.root.to_string());
                gap["refilled_epoch"] = json!(refill.epoch);
            }
            gap
        }
        LeafBody::DataGap(gap) => json!({
            "stream": gap.stream.0, "from": gap.from.0, "through": gap.through.0,
            "rows": gap.rows, "reason": gap.reason.name(),
        }),
        LeafBody::Salvage(salvage) => json!({
            "files_set_aside": salvage.files_set_aside, "frames_lost": salvage.frames_lost,
            "bytes_lost": salvage.bytes_lost, "torn_tail_bytes": salvage.torn_tail_bytes,
        }),
        other => outside(other),
    }
}

/// Those that tie the log to what is outside it.
fn outside(body: &LeafBody) -> Value {
    match body {
        LeafBody::TpmStart(start) => tpm_start(start),
        LeafBody::Anchor(one) => anchor(one),
        LeafBody::Chain(chain) => json!({
            "size": chain.size, "before": text(chain.before.as_ref()),
            "certified": statement(&chain.certified),
        }),
        LeafBody::Cosigned(cosigned) => json!({
            "witness": cosigned.witness, "key_id": hex(&cosigned.key_id), "size": cosigned.size,
            "timestamp_s": cosigned.timestamp_s, "signature": STANDARD.encode(cosigned.signature),
        }),
        LeafBody::KeyRollover(rollover) => json!({
            "key": STANDARD.encode(rollover.key), "by_old": STANDARD.encode(rollover.by_old),
            "quote": rollover.quote.as_ref().map(statement),
        }),
        LeafBody::EpochStart(epoch) => json!({
            "previous": epoch.previous, "size": epoch.size, "root": epoch.root.to_string(),
            "signed": epoch.signed, "cosigned": epoch.cosigned, "reason": epoch.reason.name(),
        }),
        LeafBody::Prune(prune) => json!({
            "before": prune.before, "first": prune.first, "root": prune.root.to_string(),
        }),
        LeafBody::Forwarded(forwarded) => json!({
            "stream": forwarded.stream.0, "from": forwarded.from.0,
            "through": forwarded.through.0, "log": forwarded.log, "first": forwarded.first,
            "last": forwarded.last, "root": forwarded.root.to_string(),
        }),
        LeafBody::Verdict { outcome, document } => {
            json!({"outcome": outcome.name(), "document": document.to_string()})
        }
        LeafBody::Received(received) => json!({
            "box": received.box_id.as_str(), "spool": hex(&received.spool.0),
            "stream": received.stream.0, "batch": received.seq.0,
            "dataset": received.dataset.as_str(), "contract": received.contract.as_str(),
            "rows": received.rows, "digest": received.batch.to_string(),
        }),
        LeafBody::Deleted(deleted) => {
            json!({"contract": deleted.contract.as_str(), "line": deleted.line.to_string()})
        }
        LeafBody::Head(head) => json!({
            "box": head.box_id.as_str(), "log": head.log, "size": head.size,
            "root": head.root.to_string(),
        }),
        LeafBody::Fork(fork) => json!({
            "box": fork.box_id.as_str(), "log": fork.log, "known": fork.known,
            "offered": fork.offered, "evidence": fork.evidence.to_string(),
        }),
        LeafBody::Erased(erased) => json!({
            "commitments": erased.commitments, "root": erased.root.to_string(),
            "ground": erased.ground.name(),
        }),
        LeafBody::Exported(exported) => json!({
            "from": exported.from, "through": exported.through, "entries": exported.entries,
            "manifest": exported.manifest.to_string(),
        }),
        LeafBody::Carried(carried) => json!({
            "stream": carried.stream.0, "from": carried.from.0, "through": carried.through.0,
            "batches": carried.batches, "rows": carried.rows, "file": carried.file.to_string(),
            "key": carried.key.to_string(),
        }),
        LeafBody::Acted(acted) => {
            json!({"act": acted.deed.name(), "about": text(acted.about.as_ref())})
        }
        _ => unreachable!("`entry` shows the other kinds"),
    }
}

/// What others vouch for in a log, and between which moments each boot was written.
pub fn vouched(report: &Report) -> Value {
    let others = report.vouched;
    let boots = report.brackets.iter().map(|one| {
        json!({
            "boot": one.boot.0, "not_before_s": one.not_before_s, "not_after_s": one.not_after_s,
        })
    });
    json!({
        "anchors": others.anchors, "anchored_size": others.anchored_size,
        "chained": others.chained, "cosigned": others.cosigned,
        "cosigned_size": others.cosigned_size, "boots": boots.collect::<Vec<_>>(),
    })
}

/// The same in one line for people.
pub fn vouched_line(report: &Report) -> String {
    let Vouched { anchors, chained, cosigned, .. } = report.vouched;
    format!("{anchors} quotes and {chained} chained heads of the TPM, {cosigned} cosignatures hold")
}

fn tpm_start(start: &TpmStart) -> Value {
    json!({
        "attestation_key": start.attestation_key.to_string(), "resets": start.resets,
        "restarts": start.restarts, "clock_ms": start.clock_ms, "safe": start.is_safe,
        "lockouts": start.lockouts, "trail": start.trail.to_string(),
        "chain": text(start.chain.as_ref()),
    })
}

fn anchor(anchor: &Anchor) -> Value {
    let pcrs = anchor.pcrs.iter().map(|(pcr, value)| (pcr.to_string(), value.to_string()));
    let pcrs: BTreeMap<String, String> = pcrs.collect();
    json!({
        "size": anchor.size, "trail": anchor.trail, "pcrs": pcrs,
        "quote": statement(&anchor.quote),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaf::tests::{
        acted_samples, actor_samples, carried_samples, outside_samples, samples,
    };

    #[test]
    fn every_kind_is_shown() {
        let mut view = LeafView::new();
        for leaf in samples().into_iter().chain(outside_samples()).chain(acted_samples()) {
            let shown = view.leaf(&leaf);
            assert_eq!(shown["kind"], leaf.body.kind_name());
            let is_empty = shown["entry"].as_object().is_none_or(serde_json::Map::is_empty);
            assert_eq!(is_empty, leaf.body == LeafBody::Stop, "{shown}");
            let has_trace = matches!(leaf.body, LeafBody::Batch(_) | LeafBody::Received(_));
            assert_eq!(shown.get("trace_id").is_some(), has_trace, "{shown}");
        }
    }

    /// The golden file is never written again: bundles with these lines exist.
    #[test]
    fn golden_views() {
        let mut view = LeafView::new();
        let leaves = samples().into_iter().chain(outside_samples());
        let lines: Vec<String> = leaves.map(|leaf| view.leaf(&leaf).to_string()).collect();
        let golden: Vec<&str> = include_str!("../tests/golden/views-v1.jsonl").lines().collect();
        assert_eq!(lines, golden);
        let mut view = LeafView::new();
        let lines: Vec<String> =
            actor_samples().iter().map(|leaf| view.leaf(leaf).to_string()).collect();
        let golden: Vec<&str> = include_str!("../tests/golden/views-v2.jsonl").lines().collect();
        assert_eq!(lines, golden);
        let mut view = LeafView::new();
        let lines: Vec<String> =
            carried_samples().iter().map(|leaf| view.leaf(leaf).to_string()).collect();
        let golden: Vec<&str> = include_str!("../tests/golden/views-v3.jsonl").lines().collect();
        assert_eq!(lines, golden);
        let mut view = LeafView::new();
        let lines: Vec<String> =
            acted_samples().iter().map(|leaf| view.leaf(leaf).to_string()).collect();
        let golden: Vec<&str> = include_str!("../tests/golden/views-v4.jsonl").lines().collect();
        assert_eq!(lines, golden);
    }

    #[test]
    fn the_newest_entries_are_kept() {
        let leaves = samples();
        let seqs = |last, kind: Option<&str>| {
            let mut newest = Newest::new(last, kind);
            newest.handle_bytes(b"no leaf");
            leaves.iter().for_each(|leaf| newest.handle_bytes(&leaf.encode()));
            newest.entries().map(|(leaf, _)| leaf.seq).collect::<Vec<_>>()
        };
        let all: Vec<u64> = leaves.iter().map(|leaf| leaf.seq).collect();
        assert_eq!(seqs(usize::MAX, None), all);
        assert_eq!(seqs(2, None), all[all.len() - 2..]);
        assert_eq!(seqs(0, None), Vec::<u64>::new());
        assert_eq!(seqs(5, Some("batch")).len(), 1);
        let mut newest = Newest::new(usize::MAX, Some("batch"));
        let batch = leaves.iter().find(|leaf| leaf.body.kind_name() == "batch").unwrap().encode();
        (0..=NEWEST_MAX).for_each(|_| newest.handle_bytes(&batch));
        assert_eq!(newest.entries().count(), NEWEST_MAX);
    }
}
