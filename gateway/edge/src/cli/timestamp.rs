//! `guan log timestamp`: time stamps over the log's head, by hand.
//!
//! As files, for a box that never sees an authority: whoever can carries them. Or asked for over HTTP now, as the
//! running gateway does by itself. Nothing waits for a time stamp.

use super::acting::{Undone, acting, can_record, not_begun, unsure};
use super::acts::By;
use super::log::reader;
use super::log_export::head;
use super::{Common, load, print_json};
use anyhow::{Context, bail};
use clap::Subcommand;
use guan_configs::EdgeConfig;
use guan_edge::authority::AuthorityClient;
use guan_edge::stamps::{Place, Stamps, StampsFault};
use guan_edge::system_clock::wall_time;
use guan_evidence::dossier::Stamp;
use guan_evidence::timestamp::{Authority, TOKEN_BYTES_MAX, Token, request};
use guan_evidence::{CHECKPOINT_BYTES_MAX, Checkpoint, Deed, Note};
use guan_log::Epoch;
use guan_model::Digest;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::json;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

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
        /// The authority's certificate in PEM: the answer is kept only if it holds by that. By default
        /// evidence.timestamp_authority_file, if that is set.
        #[arg(long)]
        tsa: Option<PathBuf>,
        #[command(flatten)]
        by: By,
    },
    /// Ask evidence.timestamp_url now and keep its answer, whether or not the time for it has come.
    Send {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        by: By,
    },
}

pub(super) fn execute(command: &TimestampCommand) -> anyhow::Result<ExitCode> {
    match command {
        TimestampCommand::Request { common, out } => ask(common, out),
        TimestampCommand::Attach { common, file, tsa, by } => {
            attach(common, file, tsa.as_deref(), by)
        }
        TimestampCommand::Send { common, by } => send(common, by),
    }
}

fn read(path: &Path, bytes_max: usize) -> anyhow::Result<Vec<u8>> {
    let context = || format!("{} cannot be read", path.display());
    let mut bytes = Vec::new();
    let file = fs::File::open(path).with_context(context)?;
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes).with_context(context)?;
    Ok(bytes)
}

/// The answers about heads of this epoch, for a bundle.
pub(super) fn kept(config: &EdgeConfig, epoch: Epoch) -> anyhow::Result<Vec<Stamp>> {
    let stamps = Stamps::reader(&config.state_dir, &config.evidence.origin)?;
    Ok(stamps.map_or(Ok(Vec::new()), |stamps| stamps.answers(epoch))?)
}

fn writer(config: &EdgeConfig) -> anyhow::Result<Stamps<guan_spool::OsDisk>> {
    Ok(Stamps::writer(&config.state_dir, &config.evidence.origin)?)
}

fn ask(common: &Common, out: &Path) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let (note, signed) = head(&config, &reader(&config)?, 1)?;
    if out.exists() {
        bail!("{} is there already; name a new file with --out", out.display());
    }
    let text = Note::parse(&note)?.text().to_owned();
    let mut nonce = [0; 8];
    SystemRandom::new().fill(&mut nonce).ok().context("the system gives no random numbers")?;
    let query = request(&Digest::of(text.as_bytes()), nonce);
    // The head first: an answer about one that is not here could not be kept.
    writer(&config)?.put_head(&text)?;
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

fn kept_by(answer: &[u8]) -> (Deed, Option<Digest>) {
    (Deed::TimestampKept, Some(Digest::of(answer)))
}

fn put_answer(
    stamps: &Stamps<guan_spool::OsDisk>,
    place: &Place,
    answer: &[u8],
) -> Result<(), Undone> {
    stamps.put_answer(place, answer).map_err(|fault| match fault {
        StampsFault::File { .. } => unsure(fault),
        fault => not_begun(fault),
    })
}

fn attach(common: &Common, file: &Path, tsa: Option<&Path>, by: &By) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let configured =
        config.evidence.timestamps.as_ref().and_then(|one| one.authority_file.as_deref());
    let tsa = tsa.or(configured);
    let answer = read(file, TOKEN_BYTES_MAX)?;
    let token = Token::parse(&answer)
        .with_context(|| format!("{} is not the answer of an authority", file.display()))?;
    let stamps = Stamps::reader(&config.state_dir, &config.evidence.origin)?;
    let found = stamps.as_ref().map(|stamps| stamps.find(&token.digest)).transpose()?.flatten();
    let (Some(stamps), Some(place)) = (stamps, found) else {
        bail!("{} is about no head that `guan log timestamp request` asked about", file.display());
    };
    if let Some(path) = tsa {
        let text = read(path, CHECKPOINT_BYTES_MAX)?;
        let authority = Authority::from_pem(&String::from_utf8_lossy(&text))
            .with_context(|| format!("{} is not the authority's", path.display()))?;
        token.verify(&token.digest, &authority).with_context(|| {
            format!("{} does not hold by the certificate in {}", file.display(), path.display())
        })?;
    }
    acting(&config, by, kept_by(&answer), || {
        let stamps = writer(&config).map_err(not_begun)?;
        put_answer(&stamps, &place, &answer)
    })?;
    let head = Checkpoint::parse_unverified(&(stamps.head(&place)? + "\n"))?;
    print_stamped(common, &head, (token.seconds, tsa.is_some()))
}

fn send(common: &Common, by: &By) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let Some(timestamps) = &config.evidence.timestamps else {
        bail!("nobody is there to ask: set evidence.timestamp_url");
    };
    let (note, signed) = head(&config, &reader(&config)?, 1)?;
    let text = Note::parse(&note)?.text().to_owned();
    writer(&config)?.check_room()?;
    // Nobody is asked for an answer that could not be kept, since the log could not be told of it.
    can_record(&config, by, Deed::TimestampKept)?;
    let client = AuthorityClient::new(timestamps, wall_time())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("the runtime cannot start")?;
    let digest = Digest::of(text.as_bytes());
    let stamped = runtime.block_on(client.ask(&digest, &std::sync::Arc::default()));
    let stamped = stamped.with_context(|| format!("{} gives no time stamp", timestamps.url))?;
    acting(&config, by, kept_by(&stamped.answer), || {
        let stamps = writer(&config).map_err(not_begun)?;
        let place = stamps.put_head(&text).map_err(not_begun)?;
        put_answer(&stamps, &place, &stamped.answer)
    })?;
    print_stamped(common, &signed, (stamped.seconds, stamped.is_checked))
}

fn print_stamped(
    common: &Common,
    head: &Checkpoint,
    (seconds, is_checked): (i64, bool),
) -> anyhow::Result<ExitCode> {
    let at = time::OffsetDateTime::from_unix_timestamp(seconds)?;
    let at = at.format(&time::format_description::well_known::Rfc3339)?;
    match common.json {
        true => print_json(&json!({
            "size": head.size, "origin": head.origin, "at_s": seconds, "checked": is_checked,
        }))?,
        false => println!("{} entries of {} were there by {at}", head.size, head.origin),
    }
    Ok(ExitCode::SUCCESS)
}
