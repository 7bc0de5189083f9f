//! `guan log erase`, and who acted: kept beside the log, shown only on request, forgotten on request.

use super::cert::now;
use super::log::read_leaves;
use super::{Common, load, print_json};
use anyhow::{Context, bail};
use clap::Args;
use guan_configs::EdgeConfig;
use guan_edge::status::GuanStatus;
use guan_evidence::{Actor, ErasureGround, Exported, Leaf, Opening};
use guan_log::{ACTS_DIR, Act, Acts, Openings};
use guan_model::Digest;
use guan_spool::OsDisk;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::json;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How long another process may be at the folder.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// Who does it: the same in all commands that change what the box does or hand out what it knows.
#[derive(Args)]
pub(super) struct By {
    /// Who does it: in the log by a commitment that `guan log erase` can undo; in the record of custody of a bundle by
    /// name. Not said: the log says that it was done, and not by whom.
    #[arg(long = "by", value_name = "NAME")]
    pub(super) name: Option<String>,
}

/// Whom to forget, and why.
#[derive(Args)]
pub(super) struct EraseArguments {
    #[command(flatten)]
    common: Common,
    /// The name, exactly as it was given with --by: all that names it is destroyed.
    #[arg(long, required_unless_present = "index")]
    actor: Option<String>,
    /// Whoever acted in this entry, and there only.
    #[arg(long, conflicts_with = "actor")]
    index: Option<u64>,
    /// Why: purpose-achieved, retention-expired, service-ended, consent-withdrawn, unlawful-processing or legal-duty.
    #[arg(long, value_parser = ground)]
    ground: ErasureGround,
    #[command(flatten)]
    by: By,
    /// How long to wait until it is done.
    #[arg(long, default_value_t = 30)]
    wait_s: u64,
}

fn ground(text: &str) -> Result<ErasureGround, String> {
    let all = ErasureGround::ALL;
    all.iter().copied().find(|ground| ground.name() == text).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|ground| ground.name()).collect();
        format!("it is one of {}", names.join(", "))
    })
}

/// Who acted, as far as this box knows.
pub(super) fn openings(config: &EdgeConfig) -> anyhow::Result<Openings> {
    match OsDisk::open_read_only(&config.state_dir.join(ACTS_DIR)) {
        Ok(disk) => Ok(Acts::reader(disk).openings()?),
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(Openings::default()),
        Err(fault) => Err(fault).context("the folder of those who acted cannot be read"),
    }
}

/// The folder, for this process alone.
pub(super) fn writer(state_dir: &Path) -> anyhow::Result<Acts<OsDisk>> {
    let path = state_dir.join(ACTS_DIR);
    let disk = OsDisk::open_exclusive_within(&path, LOCK_WAIT)
        .with_context(|| format!("{} cannot be used", path.display()))?;
    Ok(Acts::writer(disk)?)
}

impl By {
    /// Who it is, under a fresh salt; `None`: nobody said.
    pub(super) fn opening(&self) -> anyhow::Result<Option<Opening>> {
        let Some(name) = &self.name else { return Ok(None) };
        let actor = Actor::parse(name).context("--by is no name")?;
        let mut salt = [0; 32];
        SystemRandom::new().fill(&mut salt).ok().context("the system gives no random numbers")?;
        Ok(Some(Opening::new(salt, actor)))
    }
}

/// Keeps who acts, durably, and gives the commitment that the gateway is to put into the log.
pub(super) fn keep(config: &EdgeConfig, by: &By) -> anyhow::Result<Option<Digest>> {
    let Some(opening) = by.opening()? else { return Ok(None) };
    Ok(Some(writer(&config.state_dir)?.keep(&opening)?))
}

/// Forgets who was kept for what came to nothing.
pub(super) fn forget(config: &EdgeConfig, commitment: &Digest) -> anyhow::Result<()> {
    Ok(writer(&config.state_dir)?.forget(commitment)?)
}

/// Has the log record that a bundle is asked for, before anybody has it.
pub(super) fn record_export(
    config: &EdgeConfig,
    by: &By,
    exported: Exported,
) -> anyhow::Result<()> {
    let opening = by.opening()?;
    writer(&config.state_dir)?
        .record(opening.as_ref(), |actor| Act::Exported { actor, exported })?;
    Ok(())
}

pub(super) fn erase(arguments: &EraseArguments) -> anyhow::Result<ExitCode> {
    let config = load(&arguments.common.config)?;
    let acts = writer(&config.state_dir)?;
    let known = acts.openings()?;
    let commitments = match (&arguments.actor, arguments.index) {
        (Some(actor), _) => known.of_actor(actor),
        (None, Some(index)) => actor_of(&config, index)?
            .filter(|commitment| known.known.contains_key(commitment))
            .into_iter()
            .collect(),
        (None, None) => bail!("--actor or --index says whom"),
    };
    let count = commitments.len();
    if count == 0 {
        bail!("nothing here says who that is: there is nothing to erase");
    }
    if let Some(by) = &arguments.by.name
        && commitments.iter().any(|one| known.name_of(Some(one)) == Some(by.as_str()))
    {
        bail!(
            "--by would keep anew the name that is to be forgotten; leave it out, or let somebody else ask"
        );
    }
    let erase = |actor| Act::erase(actor, arguments.ground, commitments);
    let opening = arguments.by.opening()?;
    let recorded =
        acts.record(opening.as_ref(), |actor| erase(actor).expect("something is to be erased"))?;
    // The gateway needs the folder.
    drop(acts);
    let is_done = wait(&config, &recorded.name, Duration::from_secs(arguments.wait_s))?;
    if arguments.common.json {
        let ground = arguments.ground.name();
        print_json(&json!({"openings": count, "ground": ground, "done": is_done}))?;
    } else if is_done {
        println!(
            "{count} openings are destroyed, and an entry of the kind log.erase says so; the entries prove as before. \
             Copies in flash below the file system, snapshots and backups are beyond this command, and so are \
             bundles that disclosed it"
        );
    } else {
        println!(
            "{count} openings will be destroyed as soon as `guan run` does it; nothing else is needed"
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn actor_of(config: &EdgeConfig, index: u64) -> anyhow::Result<Option<Digest>> {
    let (mut at, mut found) = (None, None);
    read_leaves(config, &mut |bytes| {
        if let Ok(leaf) = Leaf::decode(bytes)
            && leaf.seq == index
        {
            (at, found) = (Some(index), leaf.actor);
        }
    })?;
    at.with_context(|| format!("there is no entry {index} on this disk"))?;
    Ok(found)
}

/// `false`: nobody does it now, or not in that time.
fn wait(config: &EdgeConfig, name: &str, longest: Duration) -> anyhow::Result<bool> {
    let deadline = Instant::now() + longest;
    let acts = Acts::reader(OsDisk::open_read_only(&config.state_dir.join(ACTS_DIR))?);
    loop {
        if !acts.waiting()?.iter().any(|one| one == name) {
            return Ok(true);
        }
        let runs = GuanStatus::read(&config.state_dir).is_ok_and(|status| !status.is_stale(now()));
        if !runs || Instant::now() > deadline {
            return Ok(false);
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}
