//! `guan-verify BUNDLE`: the verdict on an evidence bundle, for an auditor or a court's expert.
//!
//! Reads a folder or a tar file and decides nothing itself: `guan_evidence::dossier` does. Exit status 0: it
//! holds; 1: it does not; 2: it cannot be judged.

#![forbid(unsafe_code)]

mod bundle;
mod outcome;
mod terminal;
mod verdict;

use anyhow::Context;
use clap::Parser;
use guan_evidence::dossier::{Believed, Dossier, attestation_key};
use guan_evidence::timestamp::Authority;
use guan_evidence::{POLICY_BYTES_MAX, Policy};
use serde_json::json;
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
    /// The certificate of a time stamp authority in PEM, for `stamps/` in the bundle.
    #[arg(long)]
    tsa: Option<PathBuf>,
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
                true => {
                    let fault = json!({"holds": null, "fault": format!("{fault:#}")});
                    println!("{}", terminal::ascii(&fault));
                }
                false => eprintln!("guan-verify: {}", terminal::shown(&format!("{fault:#}"))),
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
    let authority = arguments.tsa.as_ref().map(|path| authority(path)).transpose()?;
    let believed = Believed {
        policy: policy.as_ref(),
        attestation_key: key.as_ref(),
        authority: authority.as_ref(),
    };
    let dossier = Dossier::check(&files, believed)
        .with_context(|| format!("{} is no evidence bundle", arguments.bundle.display()))?;
    let findings: Vec<String> = dossier.findings.iter().map(|one| described(one)).collect();
    match arguments.json {
        true => {
            println!("{}", terminal::ascii(&verdict::as_json(&dossier, &findings, believed)));
        }
        false => verdict::print(&dossier, &findings, believed),
    }
    Ok(dossier.holds())
}

fn authority(path: &Path) -> anyhow::Result<Authority> {
    let context =
        || format!("{} is no certificate of a time stamp authority in PEM", path.display());
    let text = read_text(path)?;
    Authority::from_pem(&text).with_context(context)
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
