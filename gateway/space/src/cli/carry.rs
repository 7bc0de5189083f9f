//! `guan-space carry`: the key that boxes seal files for, and taking such files.

use super::{Common, load, print_json, wall_time};
use anyhow::{Context, bail};
use clap::Subcommand;
use guan_carry::CarryKey;
use guan_configs::SpaceConfig;
use guan_identity::{LogKeyFile, SealKey};
use guan_space::carrying::{ANSWER_SUFFIX, TakeAnswer, Taken, key_path, leave};
use guan_space::status;
use serde_json::json;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

const LOOK_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Subcommand)]
pub(super) enum CarryCommand {
    /// Make the key that boxes seal files for, once, and print its public half, signed; boxes need that file.
    Key {
        #[command(flatten)]
        common: Common,
        /// Into this file instead of the terminal.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Take a file of `guan spool export`; the running space does it, and signs a receipt for the box.
    Take {
        #[command(flatten)]
        common: Common,
        /// The file.
        file: PathBuf,
        /// Where the receipt goes; by default beside the file, with .receipt.json after its name.
        #[arg(long)]
        receipt_out: Option<PathBuf>,
    },
}

pub(super) fn execute(command: &CarryCommand) -> anyhow::Result<()> {
    match command {
        CarryCommand::Key { common, out } => key(common, out.as_deref()),
        CarryCommand::Take { common, file, receipt_out } => {
            take(common, file, receipt_out.as_deref())
        }
    }
}

fn key(common: &Common, out: Option<&Path>) -> anyhow::Result<()> {
    let config = load(&common.config)?;
    let path = key_path(&config.state_dir);
    if let Some(folder) = path.parent() {
        guan_spool::create_folder(folder)
            .with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    let key = match path.exists() {
        true => SealKey::load(&path),
        false => SealKey::create(&path),
    };
    let key = key.with_context(|| format!("the key {} cannot be used", path.display()))?;
    let signer = LogKeyFile::load(&config.contract_key_file, config.id.as_str())?;
    let document = CarryKey { space: config.id.clone(), public: key.public(), issued: wall_time() };
    let bytes = document.sign(&signer)?;
    match out {
        Some(out) => replace(out, &bytes)?,
        None if !common.json => io::stdout().write_all(&bytes)?,
        None => {}
    }
    if common.json {
        print_json(&json!({
            "space": config.id.as_str(), "key": document.id().to_string(),
            "x25519": hex::encode(document.public), "out": out.map(|out| out.display().to_string()),
        }))?;
    } else if let Some(out) = out {
        println!("{}: key {} of {}", out.display(), document.id(), config.id);
    }
    Ok(())
}

fn take(common: &Common, file: &Path, receipt_out: Option<&Path>) -> anyhow::Result<()> {
    let config = load(&common.config)?;
    check_runs(&config)?;
    let waiting = leave(&config.state_dir, &config.id, file)?;
    let answer = wait(&config, &waiting)?;
    let Some(taken) = answer.taken else {
        bail!("{}", answer.fault.unwrap_or_else(|| "the space gave no reason".to_owned()));
    };
    let beside = PathBuf::from(format!("{}.receipt.json", file.display()));
    let out = receipt_out.unwrap_or(&beside);
    replace(out, taken.receipt.as_bytes())?;
    match common.json {
        true => {
            let mut said = serde_json::to_value(&taken)?;
            said["receipt_out"] = out.display().to_string().into();
            print_json(&said)?;
        }
        false => print(&taken, out),
    }
    if taken.refused.is_empty() {
        return Ok(());
    }
    bail!("not all of it was taken: {}", taken.refused.join("; "));
}

fn print(taken: &Taken, receipt: &Path) {
    println!(
        "box {}, file {}: {} batches with {} readings and {} gaps; {} items are new, {} the space had already",
        taken.box_id,
        taken.file,
        taken.batches,
        taken.rows,
        taken.gaps,
        taken.items_stored,
        taken.duplicates
    );
    println!("bring {} to the box: guan spool acknowledge", receipt.display());
}

fn check_runs(config: &SpaceConfig) -> anyhow::Result<()> {
    if status::read(&config.state_dir)?.is_stale(wall_time()) {
        bail!("guan-space does not run; the running space takes the file: start `guan-space run`");
    }
    Ok(())
}

fn wait(config: &SpaceConfig, waiting: &Path) -> anyhow::Result<TakeAnswer> {
    let path = waiting.with_extension(ANSWER_SUFFIX);
    loop {
        if let Ok(text) = fs::read(&path) {
            let _ = fs::remove_file(&path);
            return serde_json::from_slice(&text).context("the answer of the space");
        }
        check_runs(config)?;
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// Whole or not at all, and durable: a receipt that is lost is asked for again by taking the file again.
fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let part = PathBuf::from(format!("{}.part", path.display()));
    let written = File::create(&part)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written.with_context(|| format!("{} cannot be written", path.display()))
}
