//! `guan log export` and `guan log prove`: entries with proofs, for people who trust no program of ours.

use super::acts::{By, openings, record_export};
use super::log::{key_of, lineage, log_signer, reader_of, witness_keys};
use super::{Common, load, print_json};
use anyhow::{Context, bail};
use clap::Args;
use guan_configs::EdgeConfig;
use guan_edge::run::COSIGNED_FILE;
use guan_evidence::account::About;
use guan_evidence::dossier::{Custody, ENTRIES_MAX, Files, Material, make, receipt, signed_head};
use guan_evidence::tile::{TileRow, tiles};
use guan_evidence::{Checkpoint, Exported, Leaf, LeafBody, TlogProof, bundle};
use guan_log::{LogReader, Openings};
use guan_model::{ContractId, Digest, Signer};
use guan_spool::OsDisk;
use serde_json::json;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Which entries, and where to.
#[derive(Args)]
pub(super) struct ExportArguments {
    #[command(flatten)]
    common: Common,
    /// The bundle, as a tar file.
    #[arg(long, required_unless_present = "tiles")]
    out: Option<PathBuf>,
    /// The whole log as C2SP tlog-tiles, in this new folder, instead of a bundle.
    #[arg(long, conflicts_with_all = ["out", "from", "through", "contract", "kind"])]
    tiles: Option<PathBuf>,
    /// Of an epoch that has ended, by its number; without, of the newest.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    epoch: Option<u16>,
    /// First entry.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Last entry.
    #[arg(long)]
    through: Option<u64>,
    /// Only what a witness has cosigned by now.
    #[arg(long, conflicts_with = "through")]
    cosigned: bool,
    /// Only what speaks of this contract: what came of it, its batches, the receipts for them, and those
    /// that were shredded or given up.
    #[arg(long)]
    contract: Option<String>,
    /// Only entries of this kind, as `guan log show` names them.
    #[arg(long)]
    kind: Option<String>,
    #[command(flatten)]
    by: By,
    /// Say in the bundle who acted in its entries, where this box still knows it.
    #[arg(long, conflicts_with = "tiles")]
    disclose: bool,
}

/// Which entry.
#[derive(Args)]
pub(super) struct ProveArguments {
    #[command(flatten)]
    common: Common,
    /// The entry's place in the log.
    #[arg(long)]
    index: u64,
    /// Of an epoch that has ended, by its number; without, of the newest.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    epoch: Option<u16>,
    /// Into this new file instead of the terminal.
    #[arg(long, required_if_eq("receipt", "true"))]
    out: Option<PathBuf>,
    /// A COSE Receipt (RFC 9942) instead of a C2SP tlog-proof; it is signed here, with the log's key.
    #[arg(long)]
    receipt: bool,
}

/// The head that proofs lead to: the newest that a witness cosigned, unless that is too old for `needed`
/// leaves.
pub(super) fn head(
    config: &EdgeConfig,
    reader: &LogReader<OsDisk>,
    needed: u64,
) -> anyhow::Result<(String, Checkpoint)> {
    let cosigned = fs::read_to_string(config.state_dir.join(COSIGNED_FILE)).ok();
    let own = reader.checkpoint()?;
    for text in [cosigned, reader.cosigned()?, own].into_iter().flatten() {
        let head = Checkpoint::parse_unverified(&text)?;
        let is_known = head.origin == reader.epoch().origin(&config.evidence.origin);
        if is_known && head.size >= needed && head.size <= reader.size()? {
            let key = key_of(config, &text)?;
            let checked = reader.with_nodes(|nodes| signed_head(&text, &key, nodes));
            let head = checked.with_context(|| {
                format!("a head in {} is not of this log", config.state_dir.display())
            })?;
            return Ok((text, head));
        }
    }
    bail!("no head over {needed} entries has been signed yet; it follows within seconds of them")
}

/// Which entries are asked for, while the leaves are read in their order.
struct Choice<'a> {
    arguments: &'a ExportArguments,
    about: Option<About>,
    /// The start before the entries of a contract: it names the spool in which their batches are numbered.
    start: Option<(u64, Vec<u8>)>,
    /// Last entry that may be chosen: a signed head covers it.
    last: u64,
    leaves: Vec<(u64, Vec<u8>)>,
    count: usize,
    /// Asked for, and not under that head.
    unsigned: u64,
}

impl<'a> Choice<'a> {
    fn new(arguments: &'a ExportArguments, last: u64) -> anyhow::Result<Self> {
        let contract = arguments.contract.as_deref().map(ContractId::parse).transpose()?;
        let about = contract.map(About::new);
        Ok(Self { arguments, about, start: None, last, leaves: Vec::new(), count: 0, unsigned: 0 })
    }

    fn handle_leaf(&mut self, index: u64, bytes: &[u8]) {
        // What cannot be read may be what was asked for: making the bundle then names it.
        let is_asked_for = Leaf::decode(bytes).map_or(true, |leaf| {
            let kind = self.arguments.kind.as_deref();
            let is_start = matches!(leaf.body, LeafBody::Start { .. });
            if is_start && self.about.is_some() && kind.is_none() {
                self.start = Some((index, bytes.to_vec()));
            }
            let about = self.about.as_mut();
            let is_about = about.is_none_or(|about| about.handle_leaf(&leaf));
            is_about && kind.is_none_or(|kind| leaf.body.kind_name() == kind)
        });
        let is_within = self.arguments.through.is_none_or(|through| index <= through);
        if !is_asked_for || index < self.arguments.from || !is_within {
            return;
        }
        if index > self.last {
            self.unsigned += 1;
            return;
        }
        if let Some((start, bytes)) = self.start.take() {
            self.choose(start, bytes);
        }
        self.choose(index, bytes.to_vec());
    }

    fn choose(&mut self, index: u64, bytes: Vec<u8>) {
        self.count += 1;
        if self.leaves.len() < ENTRIES_MAX {
            self.leaves.push((index, bytes));
        }
    }
}

pub(super) fn export(arguments: &ExportArguments) -> anyhow::Result<ExitCode> {
    let config = load(&arguments.common.config)?;
    let reader = reader_of(&config, arguments.epoch)?;
    if let Some(folder) = &arguments.tiles {
        return export_tiles(&config, &reader, folder, arguments);
    }
    let Some(out) = &arguments.out else { bail!("--out or --tiles says where to") };
    let newest = match arguments.cosigned {
        true => head(&config, &reader, 1)?.1.size,
        false => reader.checkpoint_size()?,
    };
    let mut choice = Choice::new(arguments, newest.saturating_sub(1))?;
    reader.for_each(&mut |index, bytes| choice.handle_leaf(index, bytes))?;
    let Choice { mut leaves, count, unsigned, .. } = choice;
    if count > ENTRIES_MAX {
        bail!("{count} entries fit that; the limit is {ENTRIES_MAX}, so name a smaller range");
    }
    let needed = leaves.last().map_or(1, |(index, _)| index + 1);
    let (text, signed) = head(&config, &reader, needed)?;
    put_hand_overs(&config, &reader, signed.size, &mut leaves)?;
    let files = bundle_of(&config, &reader, &text, arguments, &leaves)?;
    let disclosed = files.keys().filter(|name| name.starts_with("disclosures/")).count();
    if out.exists() {
        bail!("{} cannot be made; is it there already?", out.display());
    }
    // First the record: no bundle goes out that the log knows nothing of.
    record_export(&config, &arguments.by, exported(&files, &leaves))?;
    write_tar(&files, out)?;
    let has_receipts = files.keys().any(|name| name.starts_with("receipts/"));
    let first = reader.first()?;
    if arguments.common.json {
        print_json(&json!({
            "out": out.display().to_string(), "entries": leaves.len(), "files": files.len(),
            "origin": signed.origin, "size": signed.size, "receipts": has_receipts,
            "pruned_before": first, "not_yet_signed": unsigned, "disclosed": disclosed,
        }))?;
    } else {
        println!("{}: {} entries of {}", out.display(), leaves.len(), signed.origin);
        if first > arguments.from {
            println!("entries before {first} left this disk; the space's mirror has them");
        }
        if unsigned > 0 {
            let whom =
                if arguments.cosigned { "no witness has cosigned" } else { "no head covers" };
            println!(
                "{unsigned} entries more fit that, and {whom} them yet: export again in a minute"
            );
        }
        if !has_receipts && !leaves.is_empty() {
            println!("no receipts: they need the log's key, which lies in no file here");
        }
        println!("check it with: guan-verify {}", out.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// What the log says of a bundle.
fn exported(files: &Files, leaves: &[(u64, Vec<u8>)]) -> Exported {
    let indices = || leaves.iter().map(|(index, _)| *index);
    Exported {
        from: indices().min().unwrap_or(0),
        through: indices().max().unwrap_or(0),
        entries: leaves.len() as u64,
        manifest: Digest::of(files.get("manifest.sha256").map_or(&[], Vec::as_slice)),
    }
}

/// Whoever knows an earlier key of the log needs the entries that handed over from it to the one of today.
fn put_hand_overs(
    config: &EdgeConfig,
    reader: &LogReader<OsDisk>,
    size: u64,
    leaves: &mut Vec<(u64, Vec<u8>)>,
) -> anyhow::Result<()> {
    let (origin, first) = (reader.epoch().origin(&config.evidence.origin), reader.first()?);
    for step in lineage(config)?.of_log(&origin).steps() {
        let (_, index) = step.place();
        let is_here = leaves.iter().any(|(chosen, _)| *chosen == index);
        if !is_here && !leaves.is_empty() && (first..size).contains(&index) {
            leaves.push((index, step.leaf().to_vec()));
        }
    }
    Ok(())
}

fn bundle_of(
    config: &EdgeConfig,
    reader: &LogReader<OsDisk>,
    checkpoint: &str,
    arguments: &ExportArguments,
    leaves: &[(u64, Vec<u8>)],
) -> anyhow::Result<Files> {
    // Sealed under a TPM the key is not at hand here; then there are no receipts.
    let signer = log_signer(config).ok();
    let now = time::OffsetDateTime::now_utc();
    let custody = Custody {
        collected_by: arguments.by.name.as_deref().unwrap_or("not said").to_owned(),
        collected_at: now.format(&time::format_description::well_known::Rfc3339)?,
        tool: concat!("guan ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    let pem = guan_edge::prover::known_attestation_keys(&config.state_dir).into_iter().next();
    let known = if arguments.disclose { openings(config)? } else { Openings::default() };
    reader.with_nodes(|nodes| {
        let material = Material {
            log_key: &key_of(config, checkpoint)?,
            witnesses: &witness_keys(config),
            attestation_key: pem.as_deref(),
            checkpoint,
            nodes,
            signer: signer.as_ref().map(|key| key as &dyn Signer),
            custody: &custody,
            stamps: &super::timestamp::kept(config, reader.epoch())?,
            openings: &known.known,
        };
        Ok(make(&material, leaves)?)
    })
}

fn write_tar(files: &Files, out: &Path) -> anyhow::Result<()> {
    let file = File::create_new(out)
        .with_context(|| format!("{} cannot be made; is it there already?", out.display()))?;
    let mut archive = tar::Builder::new(file);
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes.as_slice())?;
    }
    archive.into_inner()?.sync_all()?;
    Ok(())
}

/// Files that a web server could show to everybody, and that Go's sumdb/tlog reads.
fn export_tiles(
    config: &EdgeConfig,
    reader: &LogReader<OsDisk>,
    folder: &Path,
    arguments: &ExportArguments,
) -> anyhow::Result<ExitCode> {
    fs::create_dir(folder).with_context(|| format!("{} must be a new folder", folder.display()))?;
    let (text, signed) = head(config, reader, 1)?;
    let first = reader.first()?;
    // Of tiles the signed head is what names all of them.
    let exported = Exported {
        from: first,
        through: signed.size.saturating_sub(1),
        entries: signed.size.saturating_sub(first),
        manifest: Digest::of(text.as_bytes()),
    };
    record_export(config, &arguments.by, exported)?;
    let write = |name: &str, bytes: &[u8]| -> anyhow::Result<()> {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(&path, bytes).with_context(|| format!("{} cannot be written", path.display()))
    };
    write("checkpoint", text.as_bytes())?;
    let (_, key) = Checkpoint::parse_and_name(&text, &key_of(config, &text)?)?;
    write("log.vkey", format!("{key}\n").as_bytes())?;
    for tile in tiles(signed.size) {
        let is_pruned = tile.index * bundle::BUNDLE_LEAVES_MAX as u64 + 256 <= first;
        let bytes = match tile.row {
            TileRow::Entries | TileRow::Hashes(0) if is_pruned => continue,
            TileRow::Entries => {
                let mut leaves = reader.bundle(tile.index)?;
                leaves.truncate(usize::from(tile.width()));
                bundle::encode(&leaves)?
            }
            TileRow::Hashes(_) => reader.with_nodes(|nodes| tile.hashes(nodes))?,
        };
        write(&tile.to_string(), &bytes)?;
    }
    match arguments.common.json {
        true => print_json(&json!({"out": folder.display().to_string(), "size": signed.size}))?,
        false => println!("{}: {} entries of {}", folder.display(), signed.size, signed.origin),
    }
    Ok(ExitCode::SUCCESS)
}

/// A C2SP tlog-proof, or a COSE Receipt.
pub(super) fn prove(arguments: &ProveArguments) -> anyhow::Result<ExitCode> {
    let config = load(&arguments.common.config)?;
    let reader = reader_of(&config, arguments.epoch)?;
    let index = arguments.index;
    let needed = index.checked_add(1).context("no log is that long")?;
    let (text, signed) = head(&config, &reader, needed)?;
    if arguments.receipt {
        let key = log_signer(&config).context("receipts need the log's key in a file")?;
        let bytes = reader.with_nodes(|nodes| receipt(&signed, index, nodes, &key))?;
        return put_proof(arguments, &bytes);
    }
    let proof = reader.with_nodes(|nodes| TlogProof::make(index, &text, nodes))?.to_string();
    if arguments.out.is_some() {
        return put_proof(arguments, proof.as_bytes());
    }
    match arguments.common.json {
        true => print_json(&json!({"index": index, "proof": proof}))?,
        false => print!("{proof}"),
    }
    Ok(ExitCode::SUCCESS)
}

fn put_proof(arguments: &ProveArguments, bytes: &[u8]) -> anyhow::Result<ExitCode> {
    let Some(out) = &arguments.out else { bail!("--out says where a receipt goes") };
    let file = File::create_new(out);
    let mut file =
        file.with_context(|| format!("{} cannot be made; is it there already?", out.display()))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    match arguments.common.json {
        true => print_json(&json!({"index": arguments.index, "out": out.display().to_string()}))?,
        false => println!("{}: entry {}", out.display(), arguments.index),
    }
    Ok(ExitCode::SUCCESS)
}
