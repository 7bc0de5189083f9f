//! `guan log timestamp`: a request for a time stamp over the log's head, and the authority's answer kept.
//!
//! Files in and out, as a box may never see an authority: whoever can carries them. Nothing waits for a time stamp.
//! `timestamps/S.head` in `box.state_dir` is a head that was asked about, `S.tsr` the answer.

use super::log::reader;
use super::log_export::head;
use super::{Common, load, print_json};
use anyhow::{Context, bail};
use clap::Subcommand;
use guan_configs::EdgeConfig;
use guan_evidence::dossier::Stamp;
use guan_evidence::timestamp::{Authority, TOKEN_BYTES_MAX, Token, request};
use guan_evidence::{CHECKPOINT_BYTES_MAX, Checkpoint, Note};
use guan_model::Digest;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::json;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const FOLDER: &str = "timestamps";
/// Most heads that are kept: one a day for ten years.
const STAMPS_KEPT_MAX: usize = 4096;

#[derive(Subcommand)]
pub(super) enum TimestampCommand {
    /// Write a request over the newest head, the cosigned one if there is one.
    Request {
        #[command(flatten)]
        common: Common,
        /// New file for the request (application/timestamp-query).
        #[arg(long)]
        out: PathBuf,
    },
    /// Keep an authority's answer; it goes into bundles from then on.
    Attach {
        #[command(flatten)]
        common: Common,
        /// The answer (application/timestamp-reply).
        file: PathBuf,
        /// The authority's certificate in PEM: the answer is kept only if it holds by that.
        #[arg(long)]
        tsa: Option<PathBuf>,
    },
}

pub(super) fn execute(command: &TimestampCommand) -> anyhow::Result<ExitCode> {
    match command {
        TimestampCommand::Request { common, out } => ask(common, out),
        TimestampCommand::Attach { common, file, tsa } => attach(common, file, tsa.as_deref()),
    }
}

fn folder(config: &EdgeConfig) -> PathBuf {
    config.state_dir.join(FOLDER)
}

/// Sizes of the heads of which there is such a file.
fn sizes(config: &EdgeConfig, ending: &str) -> Vec<u64> {
    let files = fs::read_dir(folder(config)).into_iter().flatten().flatten();
    let size = |file: fs::DirEntry| {
        file.file_name().to_str()?.strip_suffix(ending)?.strip_suffix('.')?.parse().ok()
    };
    let mut sizes: Vec<u64> = files.filter_map(size).collect();
    sizes.sort_unstable();
    sizes
}

fn read(path: &Path, bytes_max: usize) -> anyhow::Result<Vec<u8>> {
    let context = || format!("{} cannot be read", path.display());
    let mut bytes = Vec::new();
    let file = fs::File::open(path).with_context(context)?;
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes).with_context(context)?;
    Ok(bytes)
}

/// The answers that are kept, whatever they are worth: making a bundle takes those about its log.
pub(super) fn kept(config: &EdgeConfig) -> anyhow::Result<Vec<Stamp>> {
    let read = |size: u64| {
        let answer = read(&folder(config).join(format!("{size}.tsr")), TOKEN_BYTES_MAX)?;
        Ok(Stamp { size, answer })
    };
    sizes(config, "tsr").into_iter().take(STAMPS_KEPT_MAX).map(read).collect()
}

fn ask(common: &Common, out: &Path) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let (note, signed) = head(&config, &reader(&config)?, 1)?;
    if sizes(&config, "head").len() >= STAMPS_KEPT_MAX {
        bail!(
            "{} holds {STAMPS_KEPT_MAX} heads; move those that nobody needs away",
            folder(&config).display()
        );
    }
    let text = Note::parse(&note)?.text().to_owned();
    let mut nonce = [0; 8];
    SystemRandom::new().fill(&mut nonce).ok().context("the system gives no random numbers")?;
    let query = request(&Digest::of(text.as_bytes()), nonce);
    // The head first: an answer about one that is not here could not be kept.
    fs::create_dir_all(folder(&config))?;
    let kept = folder(&config).join(format!("{}.head", signed.size));
    guan_edge::upkeep::replace(&kept, &text)
        .with_context(|| format!("{} cannot be written", kept.display()))?;
    if out.exists() {
        bail!("{} is there already; name a new file with --out", out.display());
    }
    fs::write(out, query).with_context(|| format!("{} cannot be written", out.display()))?;
    match common.json {
        true => print_json(&json!({"out": out.display().to_string(), "size": signed.size}))?,
        false => println!(
            "{}: a request over {} entries of {}; send it as application/timestamp-query, and give the answer \
             to `guan log timestamp attach`",
            out.display(),
            signed.size,
            signed.origin
        ),
    }
    Ok(ExitCode::SUCCESS)
}

fn attach(common: &Common, file: &Path, tsa: Option<&Path>) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let answer = read(file, TOKEN_BYTES_MAX)?;
    let token = Token::parse(&answer)
        .with_context(|| format!("{} is not the answer of an authority", file.display()))?;
    let is_about = |size: &u64| {
        let text = read(&folder(&config).join(format!("{size}.head")), CHECKPOINT_BYTES_MAX);
        text.is_ok_and(|text| Digest::of(&text) == token.digest)
    };
    let size = sizes(&config, "head").into_iter().rev().find(is_about).with_context(|| {
        format!("{} is about no head that `guan log timestamp request` asked about", file.display())
    })?;
    if let Some(path) = tsa {
        let text = read(path, CHECKPOINT_BYTES_MAX)?;
        let authority = Authority::from_pem(&String::from_utf8_lossy(&text))
            .with_context(|| format!("{} is not the authority's", path.display()))?;
        token.verify(&token.digest, &authority).with_context(|| {
            format!("{} does not hold by the certificate in {}", file.display(), path.display())
        })?;
    }
    let kept = folder(&config).join(format!("{size}.tsr"));
    guan_edge::upkeep::replace(&kept, &answer)
        .with_context(|| format!("{} cannot be written", kept.display()))?;
    let head = read(&kept.with_extension("head"), CHECKPOINT_BYTES_MAX)?;
    let head = Checkpoint::parse_unverified(&(String::from_utf8_lossy(&head).into_owned() + "\n"))?;
    let at = time::OffsetDateTime::from_unix_timestamp(token.seconds)?;
    let at = at.format(&time::format_description::well_known::Rfc3339)?;
    match common.json {
        true => print_json(&json!({
            "size": size, "origin": head.origin, "at_s": token.seconds, "checked": tsa.is_some(),
        }))?,
        false => println!("{size} entries of {} were there by {at}", head.origin),
    }
    Ok(ExitCode::SUCCESS)
}
