//! `guan-verify BUNDLE`: the verdict on an evidence bundle, for an auditor or a court's expert.
//!
//! Reads a folder or a tar file and decides nothing itself: `guan_evidence::dossier` does. Exit status 0: it
//! holds; 1: it does not; 2: it cannot be judged.

#![forbid(unsafe_code)]

mod bundle;
mod outcome;

use anyhow::Context;
use clap::Parser;
use guan_evidence::dossier::{Believed, Dossier, Files, Witnessed, attestation_key};
use guan_evidence::view::LeafView;
use guan_evidence::{POLICY_BYTES_MAX, Policy};
use serde_json::{Value, json};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const CANNOT_BE_JUDGED: u8 = 2;

/// Checks an evidence bundle: that its entries are in the log, that the log's head is signed and
/// cosigned, that the box's TPM vouched for it, and that nothing was changed on the way.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    /// A bundle that `guan log export` wrote: a tar file, or the folder that it was unpacked into.
    bundle: PathBuf,
    /// Whom to believe (C2SP tlog-policy), instead of the keys that the bundle itself names.
    #[arg(long)]
    policy: Option<PathBuf>,
    /// The public key of the box's TPM in PEM, instead of `ak.pem` in the bundle.
    #[arg(long)]
    ak: Option<PathBuf>,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fault) => {
            match arguments.json {
                true => println!("{}", json!({"holds": null, "fault": format!("{fault:#}")})),
                false => eprintln!("guan-verify: {fault:#}"),
            }
            ExitCode::from(CANNOT_BE_JUDGED)
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let files = bundle::read(&arguments.bundle)?;
    let policy = arguments.policy.as_ref().map(|path| {
        Policy::parse(&read_text(path)?).with_context(|| format!("{} is no policy", path.display()))
    });
    let policy = policy.transpose()?;
    let key = arguments.ak.as_ref().map(|path| {
        attestation_key(read_text(path)?.as_bytes())
            .with_context(|| format!("{} holds no public key of P-256 in PEM", path.display()))
    });
    let key = key.transpose()?;
    let believed = Believed { policy: policy.as_ref(), attestation_key: key.as_ref() };
    let dossier = Dossier::check(&files, believed)
        .with_context(|| format!("{} is no evidence bundle", arguments.bundle.display()))?;
    let findings: Vec<String> = dossier.findings.iter().map(|one| described(one)).collect();
    match arguments.json {
        true => println!("{}", as_json(&files, &dossier, &findings, believed)),
        false => print(&files, &dossier, &findings, believed),
    }
    Ok(dossier.holds())
}

fn described(fault: &dyn std::error::Error) -> String {
    match fault.source() {
        Some(source) => format!("{fault}: {}", described(source)),
        None => fault.to_string(),
    }
}

/// A file that the auditor names; it is small, or it is the wrong one.
fn read_text(path: &Path) -> anyhow::Result<String> {
    let context = || format!("{} cannot be read", path.display());
    let mut text = String::new();
    let file = std::fs::File::open(path).with_context(context)?;
    file.take(POLICY_BYTES_MAX as u64 + 1).read_to_string(&mut text).with_context(context)?;
    Ok(text)
}

/// Keys that the bundle itself names, which somebody has to compare.
fn own_keys(files: &Files) -> Vec<String> {
    let text = files.get("policy").map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let lines = text.as_deref().unwrap_or_default().lines();
    let keys = lines.filter(|line| line.starts_with("log ") || line.starts_with("witness "));
    keys.map(str::to_owned).collect()
}

fn moment(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).ok();
    let at = seconds.and_then(|seconds| time::OffsetDateTime::from_unix_timestamp(seconds).ok());
    let text = at.and_then(|at| at.format(&time::format_description::well_known::Rfc3339).ok());
    text.unwrap_or_else(|| "an impossible time".to_owned())
}

fn as_json(files: &Files, dossier: &Dossier, findings: &[String], believed: Believed<'_>) -> Value {
    let head = dossier.checkpoint.as_ref().map(
        |head| json!({"origin": head.origin, "size": head.size, "root": head.root.to_string()}),
    );
    let cosigned = dossier.cosigned.iter().map(|(name, cosigned)| {
        json!({"witness": name, "at_s": cosigned.seconds, "at": moment(cosigned.seconds)})
    });
    let mut view = LeafView::new();
    let entries = dossier.entries.iter().map(|leaf| {
        let mut entry = view.leaf(leaf);
        entry["not_after_s"] = json!(dossier.not_after_s(leaf.seq));
        entry
    });
    let entries: Vec<Value> = entries.collect();
    let witnessed = dossier.witnessed.iter().map(|one| {
        json!({"index": one.index, "witness": one.witness, "size": one.size, "at_s": one.seconds})
    });
    let contracts = outcome::outcomes(&dossier.entries).into_iter();
    let contracts = contracts.map(|(contract, outcome)| (contract, outcome.json()));
    let contracts: serde_json::Map<_, _> = contracts.collect();
    json!({
        "schema": 1, "contracts": contracts, "holds": dossier.holds(), "head": head,
        "cosigned": cosigned.collect::<Vec<_>>(), "entries": entries,
        "receipts": dossier.receipts, "quotes": dossier.quotes, "chained": dossier.chained,
        "findings": findings, "keys": own_keys(files),
        "witnessed": witnessed.collect::<Vec<_>>(),
        "trust": if believed.policy.is_some() { "policy" } else { "bundle" },
        "attestation_key": dossier.attestation_key.map(|key| json!({
            "sha256": key.to_string(),
            "trust": if believed.attestation_key.is_some() { "ak" } else { "bundle" },
        })),
    })
}

fn print(files: &Files, dossier: &Dossier, findings: &[String], believed: Believed<'_>) {
    if let Some(head) = &dossier.checkpoint {
        println!("log         {}, {} entries", head.origin, head.size);
        println!("root        {}", head.root);
    }
    for (name, cosigned) in &dossier.cosigned {
        println!("cosigned    by {name} at {}", moment(cosigned.seconds));
    }
    for Witnessed { index, witness, size, seconds } in &dossier.witnessed {
        println!("cosigned    {size} entries by {witness} at {}, entry {index}", moment(*seconds));
    }
    println!(
        "checked     {} entries with their proofs, {} receipts, {} quotes of the TPM, {} of its digest",
        dossier.entries.len(),
        dossier.receipts,
        dossier.quotes,
        dossier.chained
    );
    for leaf in &dossier.entries {
        let (seq, kind) = (leaf.seq, leaf.body.kind_name());
        match dossier.not_after_s(seq) {
            Some(seconds) => {
                println!("entry       {seq:>8}  {kind:<16} there by {}", moment(seconds))
            }
            None => println!("entry       {seq:>8}  {kind:<16} no witness says when"),
        }
    }
    for (contract, outcome) in outcome::outcomes(&dossier.entries) {
        outcome.print(&contract);
    }
    if believed.policy.is_none() {
        println!(
            "believed    the keys that the bundle itself names. Compare them with those that the"
        );
        println!("            space and the box's operator publish, or give them with --policy:");
        own_keys(files).iter().for_each(|line| println!("            {line}"));
    }
    if let Some(key) = dossier.attestation_key.filter(|_| believed.attestation_key.is_none()) {
        println!(
            "believed    the key of the TPM that the bundle itself holds. Compare it with the one that"
        );
        println!("            the space enrolled, or give that with --ak; SHA-256 of its DER:");
        println!("            {key}");
    }
    findings.iter().for_each(|finding| println!("FINDING     {finding}"));
    match dossier.holds() {
        true => println!("holds: every entry is in the log that these keys signed"),
        false => println!("DOES NOT HOLD: do not rely on any of it"),
    }
}
