//! `guan-space log`: the space's own log, and the copies of those of the boxes.

use super::acts::{self, By};
use super::{Common, load, print_json, wall_time};
use anyhow::{Context, bail};
use clap::Subcommand;
use guan_configs::SpaceConfig;
use guan_evidence::verify::Trust;
use guan_evidence::view::{Newest, entry, line, vouched, vouched_line};
use guan_evidence::{Checkpoint, Exported, Lineage, VerifierKey};
use guan_link::driver::describe;
use guan_log::{Bundles, LogReader, Openings};
use guan_model::{BoxId, Digest};
use guan_policy::object::moment_text;
use guan_space::logs::folders::{MIRROR_DIR, OsFolders, WITNESS_DIR, folder_of};
use guan_space::logs::keys::LogKeys;
use guan_space::logs::{export, mirror, witnesses};
use guan_space::provenance::{BoxLog, box_logs, trust};
use guan_space::run::{LOG_DIR, STORE_DIR};
use guan_space::store::read_leaves;
use guan_spool::OsDisk;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct Which {
    #[command(flatten)]
    common: Common,
    /// The copy of this box's log instead of the space's own.
    #[arg(long = "box", value_name = "BOX")]
    box_id: Option<String>,
    /// Name of the box's log, if it is not the newest.
    #[arg(long, requires = "box_id")]
    origin: Option<String>,
}

#[derive(Subcommand)]
pub(super) enum LogCommand {
    /// The newest signed head.
    Head(Which),
    /// Recompute the log from its entries and compare it with its signed head.
    Verify(Which),
    /// The last entries.
    Show {
        #[command(flatten)]
        which: Which,
        /// How many.
        #[arg(long, default_value_t = 20)]
        last: usize,
        /// Only entries of this kind, such as `data.received`.
        #[arg(long)]
        kind: Option<String>,
        /// Say who acted, where this space still knows it.
        #[arg(long)]
        disclose: bool,
    },
    /// Write the log as files that programs of others read (C2SP tlog-tiles).
    Export {
        #[command(flatten)]
        which: Which,
        /// Folder for the files; it must be new or empty.
        #[arg(long)]
        out: PathBuf,
        #[command(flatten)]
        by: By,
    },
    /// Destroy what says who acted in entries of the space's log; they prove as before.
    Erase(acts::EraseArguments),
    /// The logs of the boxes: cosigned, copied, forked.
    Boxes(Common),
}

/// A log and the keys that sign it.
struct Source {
    reader: LogReader<OsDisk>,
    keys: Lineage,
    /// Name of a box's log.
    origin: Option<String>,
}

pub(super) fn execute(command: &LogCommand) -> anyhow::Result<ExitCode> {
    match command {
        LogCommand::Head(which) => head(which)?,
        LogCommand::Verify(which) => return verify(which),
        LogCommand::Show { which, last, kind, disclose } => {
            show(which, *last, kind.as_deref(), *disclose)?;
        }
        LogCommand::Export { which, out, by } => write(which, out, by)?,
        LogCommand::Erase(arguments) => acts::erase(arguments)?,
        LogCommand::Boxes(common) => boxes(common)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn disk(path: &Path) -> anyhow::Result<OsDisk> {
    OsDisk::open_read_only(path).with_context(|| {
        format!("there is nothing in {}; start `guan-space run` first", path.display())
    })
}

fn source(which: &Which) -> anyhow::Result<Source> {
    let config = load(&which.common.config)?;
    match &which.box_id {
        Some(id) => of_box(&config, &BoxId::parse(id)?, which.origin.as_deref()),
        None => {
            let keys = LogKeys::open(&config.state_dir, config.id.as_str())?;
            let log = disk(&config.state_dir.join(LOG_DIR))?;
            let leaves = read_leaves(&disk(&config.state_dir.join(STORE_DIR))?, log.clone())?;
            let reader = LogReader::open(log, None, leaves)?;
            Ok(Source { reader, keys: Lineage::new(keys.verifier()?), origin: None })
        }
    }
}

fn of_box(config: &SpaceConfig, id: &BoxId, origin: Option<&str>) -> anyhow::Result<Source> {
    let logs = box_logs(&config.state_dir, config.id.as_str())?;
    let own = logs.into_iter().filter(|log| log.box_id == id.as_str());
    let own = own.filter(|log| origin.is_none_or(|origin| log.origin == origin));
    let newest = own.max_by_key(|log| (log.origin.len(), log.origin.clone()));
    let newest = newest.with_context(|| format!("the space watches no such log of box {id}"))?;
    let folders = OsFolders::new(&config.state_dir);
    let name = folder_of(&newest.origin);
    let keys = witnesses::lineage(&disk(&folders.path(&[WITNESS_DIR, id.as_str(), &name]))?)?
        .context("the space watches no such log")?;
    let copy = OsDisk::open_read_only(&folders.path(&[MIRROR_DIR, id.as_str(), &name]));
    let copy = copy.with_context(|| format!("nothing of log {} is copied yet", newest.origin))?;
    Ok(Source { reader: mirror::read(copy)?, keys, origin: Some(newest.origin) })
}

/// The newest head, its text, and the key under the name that it signed with.
fn signed(source: &Source) -> anyhow::Result<(Checkpoint, String, VerifierKey)> {
    let text = source.reader.checkpoint()?;
    let text = text.context("no head has been signed yet; it follows the first entries")?;
    let claimed = Checkpoint::parse_unverified(&text)?;
    let signer = source.keys.at(&claimed.origin, claimed.size);
    let (head, key) = Checkpoint::parse_and_name(&text, signer)?;
    Ok((head, text, key))
}

fn head(which: &Which) -> anyhow::Result<()> {
    let source = match &which.box_id {
        Some(_) => source(which)?,
        // The head alone, however large the store.
        None => {
            let config = load(&which.common.config)?;
            let key = LogKeys::open(&config.state_dir, config.id.as_str())?.verifier()?;
            let log = disk(&config.state_dir.join(LOG_DIR))?;
            let epoch = Bundles::newest(log.clone())?.epoch();
            let reader = LogReader::open(log, Some(epoch), Vec::new())?;
            Source { reader, keys: Lineage::new(key), origin: None }
        }
    };
    let (head, text, key) = signed(&source)?;
    match which.common.json {
        true => print_json(&json!({
            "origin": head.origin, "size": head.size, "root": head.root.to_string(),
            "key": key.to_string(), "checkpoint": text,
        })),
        false => {
            print!("{text}");
            Ok(())
        }
    }
}

fn verify(which: &Which) -> anyhow::Result<ExitCode> {
    let source = source(which)?;
    let trust = match (&which.box_id, &source.origin) {
        (Some(id), Some(origin)) => {
            let config = load(&which.common.config)?;
            let of = (&BoxId::parse(id)?, origin.as_str());
            let state_dir = &config.state_dir;
            trust(state_dir, config.id.as_str(), of, source.keys.first())?
        }
        _ => Trust::of_key(source.keys.first().name(), source.keys.first().clone()),
    };
    let report = source.reader.judge(trust, &mut |_, _| {})?;
    let faults: Vec<String> = report.faults.iter().map(|one| describe(one)).collect();
    let remarks: Vec<String> = report.remarks.iter().map(ToString::to_string).collect();
    if which.common.json {
        print_json(&json!({
            "verified": report.is_valid(), "origin": report.origin, "entries": report.entries,
            "signed_entries": report.signed_entries, "root": report.root.to_string(),
            "faults": faults, "faults_left_out": report.faults_left_out, "remarks": remarks,
            "vouched": vouched(&report),
        }))?;
    } else {
        println!("log        {}", report.origin.as_deref().unwrap_or("without a signed head"));
        println!("entries    {}, {} under a signed head", report.entries, report.signed_entries);
        println!("root       {}", report.root);
        if source.origin.is_some() {
            println!("vouched    {}", vouched_line(&report));
        }
        remarks.iter().for_each(|remark| println!("remark     {remark}"));
        faults.iter().for_each(|fault| println!("FAULT      {fault}"));
        println!("{}", if report.is_valid() { "verified" } else { "NOT verified: keep the disk" });
    }
    Ok(if report.is_valid() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(which: &Which, last: usize, kind: Option<&str>, disclose: bool) -> anyhow::Result<()> {
    let known = match disclose {
        true => acts::openings(&load(&which.common.config)?)?,
        false => Openings::default(),
    };
    let (source, mut newest) = (source(which)?, Newest::new(last, kind));
    source.reader.for_each(&mut |_, bytes| newest.handle_bytes(bytes))?;
    if which.common.json {
        let entries = newest.entries().map(|(leaf, json)| {
            let mut json = json.clone();
            if let Some(name) = known.name_of(leaf.actor.as_ref()) {
                json["actor_name"] = json!(name);
            }
            json
        });
        return print_json(&json!({"entries": entries.collect::<Vec<_>>()}));
    }
    for (leaf, _) in newest.entries() {
        let (seq, kind, at) = (leaf.seq, leaf.body.kind_name(), moment_text(leaf.wall));
        let by = match (leaf.actor, known.name_of(leaf.actor.as_ref())) {
            (None, _) => String::new(),
            (Some(_), Some(name)) => format!(", by {name}"),
            (Some(commitment), None) => format!(", by {commitment}"),
        };
        println!("{seq:>8}  {at}  {kind:<16} {}{by}", line(&entry(&leaf.body)));
    }
    Ok(())
}

fn write(which: &Which, out: &Path, by: &By) -> anyhow::Result<()> {
    let source = source(which)?;
    let (head, text, key) = signed(&source)?;
    if out.exists() && std::fs::read_dir(out)?.next().is_some() {
        bail!("{} is not empty; name a new folder with --out", out.display());
    }
    // First the record: nothing goes out that the space's log knows nothing of. The head names all that is in it.
    let exported = Exported {
        from: 0,
        through: head.size.saturating_sub(1),
        entries: head.size,
        manifest: Digest::of(text.as_bytes()),
    };
    acts::record_export(&load(&which.common.config)?, by, exported)?;
    let files = export::write(&source.reader, head.size, &text, &key, out)?;
    if which.common.json {
        return print_json(&json!({
            "origin": head.origin, "size": head.size, "root": head.root.to_string(),
            "key": key.to_string(), "files": files, "out": out,
        }));
    }
    println!("{} entries of {} -> {} files in {}", head.size, head.origin, files, out.display());
    println!("key        {key}");
    println!("check it with any program that reads C2SP tlog-tiles and this key");
    Ok(())
}

fn boxes(common: &Common) -> anyhow::Result<()> {
    let config = load(&common.config)?;
    let logs = box_logs(&config.state_dir, config.id.as_str())?;
    if common.json {
        return print_json(&json!({"logs": logs}));
    }
    println!(
        "{:<16} {:<28} {:>10} {:>8} {:>10} {:>10} {:>5}",
        "box", "log", "cosigned", "ago", "copied", "whole", "forks"
    );
    let now_s = wall_time().millis() / 1000;
    for BoxLog { box_id, origin, cosigned, cosigned_s, mirrored, mirrored_whole, forks, .. } in
        &logs
    {
        let ago = cosigned_s.and_then(|at| i64::try_from(at).ok());
        let ago = ago.map_or_else(|| "-".to_owned(), |at| format!("{} s", (now_s - at).max(0)));
        println!(
            "{box_id:<16} {origin:<28} {cosigned:>10} {ago:>8} {mirrored:>10} {mirrored_whole:>10} \
             {forks:>5}"
        );
    }
    if logs.is_empty() {
        println!("no box has shown its log yet");
    }
    Ok(())
}
