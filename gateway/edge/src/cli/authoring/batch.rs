//! `guan contract explain --batch`: by which rule of which contract a recorded batch was kept.

use super::in_force;
use crate::cli::log::read_leaves;
use crate::cli::{Common, load, print_json};
use anyhow::{Context, bail};
use guan_configs::EdgeConfig;
use guan_edge::leaving::Envelope;
use guan_evidence::{BatchAccepted, Leaf, LeafBody};
use guan_policy::action::Action;
use guan_policy::constraint::Phase;
use guan_policy::contract::{Rule, RuleKind};
use guan_policy::{Contract, Ruling, Terms};
use guan_spool::{OsDisk, spool};
use serde_json::json;
use std::collections::BTreeMap;
use std::process::ExitCode;

/// What the log says of a batch: under which version of which contract, by which plan and by which rule it
/// was kept.
pub(in crate::cli) fn explain_batch(common: &Common, digest: &str) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let (mut found, mut versions) = (None, BTreeMap::new());
    read_leaves(&config, &mut |bytes| {
        let Ok(leaf) = Leaf::decode(bytes) else { return };
        match &leaf.body {
            LeafBody::Batch(batch) if batch.batch.to_string().starts_with(digest) => {
                found = Some((leaf.seq, batch.clone()));
            }
            LeafBody::ContractChange { version, digest, .. } => {
                versions.insert(*digest, *version);
            }
            _ => {}
        }
    })?;
    let Some((seq, batch)) = found else {
        bail!("no batch of the log has a digest that begins with {digest}; see `guan log show`");
    };
    let contracts = in_force(&config)?;
    let contract = contracts.iter().find(|one| one.digest() == batch.contract_digest);
    // A version that is no longer here stands in the log since it came.
    let version = contract.map(Contract::version);
    let version = version.or_else(|| versions.get(&batch.contract_digest).copied());
    let rules = match &batch.permission {
        Some(permission) => Rules { ids: vec![permission.to_string()] },
        None => rules_of(&config, &batch, contract)?,
    };
    let ruling = rules.ruling(contract, &config, &batch);
    let json = json!({
        "entry": seq, "batch": batch.batch.to_string(), "dataset": batch.dataset.as_str(),
        "rows": batch.rows, "contract": batch.contract.as_str(), "version": version,
        "contract_digest": batch.contract_digest.to_string(), "plan": batch.plan.to_string(),
        "stream": batch.stream.0, "place": batch.seq.0,
        "rules": rules.ids, "rule_is_certain": rules.ids.len() == 1,
        "ruling": ruling.map(|one| json!({"english": one.english(), "chinese": one.chinese()})),
    });
    if common.json {
        print_json(&json)?;
        return Ok(ExitCode::SUCCESS);
    }
    println!("batch     {} ({} readings of {})", batch.batch, batch.rows, batch.dataset);
    println!("entry     {seq} of the log, place {} of stream {}", batch.seq, batch.stream);
    let version = version.map_or_else(
        || "a version that is neither here nor in the log".to_owned(),
        |version| format!("version {version}"),
    );
    println!("contract  {} ({version}, {})", batch.contract, batch.contract_digest);
    match rules.ids.as_slice() {
        [] => println!("rule      not known: the contract is no longer here"),
        [rule] => println!("rule      {rule}"),
        several => {
            println!("rule      one of {}: the spool has sent the batch", several.join(", "))
        }
    }
    match ruling {
        Some(ruling) => println!("verdict   {ruling}"),
        None => println!("verdict   {} or {}", Ruling::Allow, Ruling::Conditional),
    }
    println!("plan      {}", batch.plan);
    Ok(ExitCode::SUCCESS)
}

/// The permissions that may have let a batch go.
struct Rules {
    ids: Vec<String>,
}

impl Rules {
    /// The verdict, if it is the same for all of them and for all points of the dataset.
    fn ruling(
        &self,
        contract: Option<&Contract>,
        config: &EdgeConfig,
        batch: &BatchAccepted,
    ) -> Option<Ruling> {
        let points = || config.descriptors.iter().filter(|point| point.dataset == batch.dataset);
        let contract = contract?;
        let mut rulings = self
            .ids
            .iter()
            .flat_map(|rule| points().map(move |point| contract.ruling(rule, point.name.as_str())));
        let first = rulings.next()?;
        rulings.all(|one| one == first).then_some(first)
    }
}

/// For a leaf of the first release, which names no rule: that of the terms that the spool keeps with the
/// batch; else all permissions that it could be.
fn rules_of(
    config: &EdgeConfig,
    batch: &BatchAccepted,
    contract: Option<&Contract>,
) -> anyhow::Result<Rules> {
    let path = config.state_dir.join(guan_edge::run::SPOOL_DIR);
    let disk = OsDisk::open_read_only(&path)
        .with_context(|| format!("there is no spool in {}", path.display()))?;
    let mut terms = None;
    spool::batches(&disk, &mut |stream, seq, _, meta| {
        if (stream, seq, meta.digest) == (batch.stream, batch.seq, batch.batch) {
            terms = Some(meta.terms.clone());
        }
    })?;
    let is_there = terms.is_some();
    let envelope = terms.and_then(|terms| Envelope::decode(&terms).ok().flatten());
    let terms = envelope.and_then(|envelope| Terms::decode(&envelope.terms).ok().flatten());
    if let Some(terms) = terms {
        return Ok(Rules { ids: vec![terms.permission().to_string()] });
    }
    // Of terms that ask for nothing the spool keeps nothing.
    let asks_at_leaving = |rule: &Rule| rule.constraint.phases().contains(&Phase::Release);
    let permits = |rule: &&Rule| {
        let delivers = rule.kind == RuleKind::Permission && rule.actions.covers(Action::Deliver);
        delivers && !(is_there && asks_at_leaving(rule))
    };
    let rules = contract.into_iter().flat_map(Contract::rules).filter(permits);
    Ok(Rules { ids: rules.map(|rule| rule.id.to_string()).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::authoring::Asked;
    use guan_model::{BatchSeq, Digest, SpoolId, StreamId, WallTime};
    use guan_policy::Plan;
    use guan_spool::{BatchMeta, Spool, SpoolConfig, StreamConfig, WhenFull};
    use serde_json::Value as Json;
    use std::path::Path;

    const DATA: StreamId = StreamId(1);

    /// Two permissions, of which the first asks something at leaving.
    fn contract() -> Contract {
        let demo = include_str!("../../../../../configs/demo/contracts/regulator.json");
        let mut object: Json = serde_json::from_str(demo).unwrap();
        let test = |left: &str, operator: &str, right: &Json| json!({"leftOperand": left, "operator": operator, "rightOperand": right});
        let hot = test("value", "gt", &json!(97));
        object["permission"] = json!([
            {"uid": "hot", "action": "deliver", "constraint": [
                hot, test("link", "eq", &json!("unmetered"))]},
            {"uid": "all", "action": "deliver"},
        ]);
        Contract::draft(object.to_string().as_bytes()).unwrap()
    }

    fn spool_of(folder: &Path) -> Spool<OsDisk> {
        let disk = OsDisk::open_exclusive(&folder.join(guan_edge::run::SPOOL_DIR)).unwrap();
        let (name, when_full) = ("data".to_owned(), WhenFull::Refuse);
        let data = StreamConfig { id: DATA, name, bytes_max: 1 << 20, age_max: None, when_full };
        let (segment_bytes_max, total_bytes_max) = (1 << 16, 1 << 30);
        let config = SpoolConfig { segment_bytes_max, total_bytes_max, streams: vec![data] };
        Spool::open(disk, config, SpoolId([3; 16])).unwrap().0
    }

    #[test]
    fn the_spool_tells_the_rule() {
        let folder = tempfile::tempdir().unwrap();
        let text = include_str!("../../../../../configs/demo/edge.toml");
        let mut config = EdgeConfig::parse(text, "edge.toml", folder.path()).unwrap();
        config.state_dir = folder.path().to_path_buf();
        let contract = contract();
        let plan = Plan::compile(std::slice::from_ref(&contract), &config.descriptors);
        let mut spool = spool_of(folder.path());
        let mut keep = |value: f64| {
            let at = Some("2026-11-24T08:00:00Z");
            let asked = Asked { point: "machine.temperature", value: Some(value), at };
            let permitted = asked.decide(&plan, &config).unwrap().permitted.remove(0);
            let envelope =
                Envelope { contract: contract.digest(), terms: permitted.terms.encode() };
            let meta = BatchMeta {
                dataset: permitted.batch.header.dataset.clone(),
                contract: contract.id().clone(),
                rows: 1,
                digest: Digest::of(&value.to_be_bytes()),
                terms: envelope.encode(),
            };
            let seq = spool.push_batch(DATA, WallTime(1), &meta, b"rows").unwrap();
            spool.commit().unwrap();
            BatchAccepted {
                dataset: meta.dataset,
                contract: meta.contract,
                contract_digest: contract.digest(),
                plan: plan.digest(),
                batch: meta.digest,
                rows: 1,
                stream: DATA,
                seq,
                permission: None,
            }
        };
        let (hot, warm) = (keep(98.0), keep(96.0));
        let gone = BatchAccepted { seq: BatchSeq(9), ..warm.clone() };
        let check = |batch: &BatchAccepted, expect: &[&str], ruling: Option<Ruling>| {
            let rules = rules_of(&config, batch, Some(&contract)).unwrap();
            assert_eq!(rules.ids, expect, "{batch:?}");
            assert_eq!(rules.ruling(Some(&contract), &config, batch), ruling);
        };
        check(&hot, &["hot"], Some(Ruling::Conditional));
        check(&warm, &["all"], Some(Ruling::Allow));
        check(&gone, &["hot", "all"], None);
        assert!(rules_of(&config, &gone, None).unwrap().ids.is_empty());
    }
}
