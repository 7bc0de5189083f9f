//! `guan-verify BUNDLE`: the verdict on an evidence bundle, for an auditor or a court's expert.
//!
//! Reads a folder or a tar file and decides nothing itself: `guan_evidence::dossier` does. Exit status 0: it
//! holds; 1: it does not; 2: it cannot be judged.

#![forbid(unsafe_code)]

mod bundle;

use anyhow::Context;
use clap::Parser;
use guan_evidence::Policy;
use guan_evidence::dossier::{Dossier, Files};
use guan_evidence::view::LeafView;
use serde_json::{Value, json};
use std::path::PathBuf;
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
        let text = std::fs::read_to_string(path);
        let text = text.with_context(|| format!("{} cannot be read", path.display()))?;
        Policy::parse(&text).with_context(|| format!("{} is no policy", path.display()))
    });
    let policy = policy.transpose()?;
    let dossier = Dossier::check(&files, policy.as_ref())
        .with_context(|| format!("{} is no evidence bundle", arguments.bundle.display()))?;
    let findings: Vec<String> = dossier.findings.iter().map(|one| described(one)).collect();
    match arguments.json {
        true => println!("{}", as_json(&files, &dossier, &findings, policy.is_some())),
        false => print(&files, &dossier, &findings, policy.is_some()),
    }
    Ok(dossier.holds())
}

fn described(fault: &dyn std::error::Error) -> String {
    match fault.source() {
        Some(source) => format!("{fault}: {}", described(source)),
        None => fault.to_string(),
    }
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

fn as_json(files: &Files, dossier: &Dossier, findings: &[String], from_outside: bool) -> Value {
    let head = dossier.checkpoint.as_ref().map(
        |head| json!({"origin": head.origin, "size": head.size, "root": head.root.to_string()}),
    );
    let cosigned = dossier.cosigned.iter().map(|(name, cosigned)| {
        json!({"witness": name, "at_s": cosigned.seconds, "at": moment(cosigned.seconds)})
    });
    let mut view = LeafView::new();
    let entries: Vec<Value> = dossier.entries.iter().map(|leaf| view.leaf(leaf)).collect();
    json!({
        "schema": 1, "holds": dossier.holds(), "head": head,
        "cosigned": cosigned.collect::<Vec<_>>(), "entries": entries,
        "receipts": dossier.receipts, "quotes": dossier.quotes, "findings": findings,
        "trust": if from_outside { "policy" } else { "bundle" }, "keys": own_keys(files),
    })
}

fn print(files: &Files, dossier: &Dossier, findings: &[String], from_outside: bool) {
    if let Some(head) = &dossier.checkpoint {
        println!("log         {}, {} entries", head.origin, head.size);
        println!("root        {}", head.root);
    }
    for (name, cosigned) in &dossier.cosigned {
        println!("cosigned    by {name} at {}", moment(cosigned.seconds));
    }
    println!(
        "checked     {} entries with their proofs, {} receipts, {} quotes of the TPM",
        dossier.entries.len(),
        dossier.receipts,
        dossier.quotes
    );
    for leaf in &dossier.entries {
        println!("entry       {:>8}  {}", leaf.seq, leaf.body.kind_name());
    }
    if !from_outside {
        println!(
            "believed    the keys that the bundle itself names. Compare them with those that the"
        );
        println!("            space and the box's operator publish, or give them with --policy:");
        own_keys(files).iter().for_each(|line| println!("            {line}"));
    }
    findings.iter().for_each(|finding| println!("FINDING     {finding}"));
    match dossier.holds() {
        true => println!("holds: every entry is in the log that these keys signed"),
        false => println!("DOES NOT HOLD: do not rely on any of it"),
    }
}
