//! `guan log`.

use super::{Common, load, print_json};
use anyhow::{Context, bail};
use bytes::Bytes;
use guan_configs::EdgeConfig;
use guan_evidence::verify::Trust;
use guan_evidence::view::{vouched, vouched_line};
use guan_evidence::{Checkpoint, CosignatureKey, Leaf, LeafBody, Lineage, VerifierKey};
use guan_identity::LogKeyFile;
use guan_link::driver::describe;
use guan_log::{Epoch, LogReader};
use guan_spool::{OsDisk, spool};
use serde_json::json;
use std::collections::BTreeMap;
use std::process::ExitCode;

fn disk(config: &EdgeConfig, folder: &str) -> anyhow::Result<OsDisk> {
    let path = config.state_dir.join(folder);
    OsDisk::open_read_only(&path).with_context(|| {
        format!("there is no {folder} in {}; start `guan run` first", config.state_dir.display())
    })
}

pub(super) fn verifier_key(config: &EdgeConfig) -> anyhow::Result<VerifierKey> {
    let sealed = guan_edge::sealing::public_file(&config.identity.log_key_file);
    if config.identity.seal.is_some() {
        let text = std::fs::read_to_string(&sealed).with_context(|| {
            format!("{} cannot be read; `guan join` makes it", sealed.display())
        })?;
        return Ok(VerifierKey::parse(text.trim())?);
    }
    let key = LogKeyFile::load(&config.identity.log_key_file, &config.evidence.origin)
        .context("the key of the log cannot be used; `guan identity init` makes one")?;
    Ok(VerifierKey::of(&key)?)
}

/// The keys that signed this box's log, the first one first.
pub(super) fn lineage(config: &EdgeConfig) -> anyhow::Result<Lineage> {
    Ok(guan_edge::log_keys::lineage(&config.state_dir, &verifier_key(config)?)?)
}

/// The key that signed a head, under the name that it signs this log with.
pub(super) fn key_of(config: &EdgeConfig, head: &str) -> anyhow::Result<VerifierKey> {
    let head = Checkpoint::parse_unverified(head)?;
    Ok(lineage(config)?.at(&head.origin, head.size).clone())
}

/// The key that signs heads, where it lies in a file.
pub(super) fn log_signer(config: &EdgeConfig) -> anyhow::Result<LogKeyFile> {
    Ok(LogKeyFile::load(&config.identity.log_key_file, &config.evidence.origin)?)
}

/// The space's witness, as it first showed itself to this box.
pub(super) fn witness_keys(config: &EdgeConfig) -> Vec<CosignatureKey> {
    let text = std::fs::read_to_string(config.state_dir.join(guan_edge::run::SPACE_KEYS_FILE));
    let text = text.unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.strip_prefix("witness "));
    lines.filter_map(|key| CosignatureKey::parse(key).ok()).collect()
}

/// Those that this box itself can name. An auditor takes them from elsewhere.
fn trust(config: &EdgeConfig, origin: &str, key: &VerifierKey) -> Trust {
    let keys = guan_edge::prover::known_attestation_keys(&config.state_dir);
    let keys = keys.iter().filter_map(|pem| guan_identity::decode_public_p256(pem));
    Trust {
        attestation_keys: keys.collect(),
        witnesses: witness_keys(config),
        anchor_interval: config.evidence.anchor_interval * 2,
        ..Trust::of_key(origin, key.clone())
    }
}

/// The newest epoch of the log, as it is on the disk now.
pub(super) fn reader(config: &EdgeConfig) -> anyhow::Result<LogReader<OsDisk>> {
    reader_of(config, None)
}

/// One epoch of it.
pub(super) fn reader_of(
    config: &EdgeConfig,
    epoch: Option<u16>,
) -> anyhow::Result<LogReader<OsDisk>> {
    let number = |number| Epoch::new(number).context("the log has no epoch of this number");
    let epoch = epoch.map(number).transpose()?;
    let log = disk(config, guan_edge::run::LOG_DIR)?;
    let mut journal: Vec<(u64, Bytes)> = Vec::new();
    spool::verify(&disk(config, guan_edge::run::SPOOL_DIR)?, &mut |place, leaf| {
        journal.push((place, Bytes::copy_from_slice(leaf)));
    })?;
    let reader = LogReader::open(log, epoch, journal)?;
    if epoch.is_some() && reader.size()? == 0 {
        bail!("{} has no entries here", reader.epoch().origin(&config.evidence.origin));
    }
    Ok(reader)
}

/// All leaves in order: the full bundles, then what still lies in the spool.
pub(super) fn read_leaves(
    config: &EdgeConfig,
    handle: &mut dyn FnMut(&[u8]),
) -> anyhow::Result<()> {
    Ok(reader(config)?.for_each(&mut |_, leaf| handle(leaf))?)
}

/// Rows that were denied, by dataset and reason: what the log itself says.
fn count_denied(denied: &mut BTreeMap<String, BTreeMap<String, u64>>, leaf: &[u8]) {
    let Ok(Leaf { body: LeafBody::Decision(decision), .. }) = Leaf::decode(leaf) else { return };
    for (reason, rows) in &decision.denied {
        let dataset = denied.entry(decision.dataset.to_string()).or_default();
        *dataset.entry(reason.name().to_owned()).or_insert(0) += rows;
    }
}

pub(super) fn verify(common: &Common, epoch: Option<u16>) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let keys = lineage(&config)?;
    let log = reader_of(&config, epoch)?;
    let first = log.first()?;
    let origin = log.epoch().origin(&config.evidence.origin);
    // Hand-overs among the entries that are here are followed; those before are the lineage's word.
    let key = keys.at(&origin, first).clone();
    let trust = trust(&config, &origin, &key);
    let mut denied = BTreeMap::new();
    let mut contracts: BTreeMap<String, u64> = BTreeMap::new();
    let report = log.judge(trust, &mut |_, leaf| {
        if let Ok(Leaf { body: LeafBody::Batch(batch), .. }) = Leaf::decode(leaf) {
            *contracts.entry(batch.contract.to_string()).or_default() += batch.rows;
        }
        count_denied(&mut denied, leaf);
    })?;
    let faults: Vec<String> = report.faults.iter().map(|one| describe(one)).collect();
    let remarks: Vec<String> = report.remarks.iter().map(ToString::to_string).collect();
    let denied_total: u64 = denied.values().flat_map(BTreeMap::values).sum();
    if common.json {
        print_json(&json!({
            "verified": report.is_valid(), "origin": report.origin, "entries": report.entries,
            "signed_entries": report.signed_entries, "root": report.root.to_string(),
            "batches": report.batches, "rows": report.rows, "denied": denied,
            "denied_rows": denied_total, "contracts": contracts, "faults": faults,
            "faults_left_out": report.faults_left_out, "remarks": remarks,
            "vouched": vouched(&report), "pruned_before": first,
        }))?;
    } else {
        println!(
            "log        {} entries, {} under a signed head",
            report.entries, report.signed_entries
        );
        if first > 0 {
            println!("pruned     before {first}; `guan-space log verify --box` has all of them");
        }
        println!("root       {}", report.root);
        println!("batches    {} with {} readings", report.batches, report.rows);
        for (contract, rows) in &contracts {
            println!("kept       {rows} readings for contract {contract}");
        }
        for (dataset, reasons) in &denied {
            for (reason, rows) in reasons {
                println!("denied     {rows} readings of {dataset}: {reason}");
            }
        }
        println!("vouched    {}", vouched_line(&report));
        for remark in &remarks {
            println!("remark     {remark}");
        }
        for fault in &faults {
            println!("FAULT      {fault}");
        }
        println!(
            "{}",
            match (report.is_valid(), first) {
                (true, 0) => "verified",
                (true, _) => "verified, as far as it is here",
                (false, _) => "NOT verified: keep the disk as it is for examination",
            }
        );
    }
    Ok(if report.is_valid() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn head(common: &Common) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let text = reader(&config)?
        .checkpoint()?
        .context("no head has been signed yet; it follows the first entries")?;
    let key = key_of(&config, &text)?;
    if common.json {
        let (head, key) = guan_evidence::Checkpoint::parse_and_name(&text, &key)?;
        print_json(&json!({
            "origin": head.origin, "size": head.size, "root": head.root.to_string(),
            "key": key.to_string(), "checkpoint": text,
        }))?;
    } else {
        print!("{text}");
    }
    Ok(ExitCode::SUCCESS)
}
