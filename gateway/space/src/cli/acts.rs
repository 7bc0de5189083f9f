//! `guan-space log erase`, and who acted: kept beside the space's log, shown and forgotten on request.

use super::{Common, load, print_json};
use anyhow::{Context, bail};
use clap::Args;
use guan_configs::SpaceConfig;
use guan_evidence::{Actor, ErasureGround, Exported, Opening};
use guan_log::{ACTS_DIR, Act, Acts, Openings};
use guan_spool::OsDisk;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::json;
use std::io;
use std::time::Duration;

/// How long another process may be at the folder.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// Who does it, as in the commands of `guan`.
#[derive(Args)]
pub(super) struct By {
    /// Who does it: in the space's log by a commitment that `guan-space log erase` can undo. Not said: the log says that
    /// it was done, and not by whom.
    #[arg(long = "by", value_name = "NAME")]
    name: Option<String>,
}

/// Whom to forget, and why.
#[derive(Args)]
pub(super) struct EraseArguments {
    #[command(flatten)]
    common: Common,
    /// The name, exactly as it was given with --by: all that names it is destroyed.
    #[arg(long)]
    actor: String,
    /// Why: purpose-achieved, retention-expired, service-ended, consent-withdrawn, unlawful-processing or legal-duty.
    #[arg(long, value_parser = ground)]
    ground: ErasureGround,
    #[command(flatten)]
    by: By,
}

fn ground(text: &str) -> Result<ErasureGround, String> {
    let all = ErasureGround::ALL;
    all.iter().copied().find(|ground| ground.name() == text).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|ground| ground.name()).collect();
        format!("it is one of {}", names.join(", "))
    })
}

fn writer(config: &SpaceConfig) -> anyhow::Result<Acts<OsDisk>> {
    let path = config.state_dir.join(ACTS_DIR);
    let disk = OsDisk::open_exclusive_within(&path, LOCK_WAIT)
        .with_context(|| format!("{} cannot be used", path.display()))?;
    Ok(Acts::writer(disk)?)
}

fn opening(by: &By) -> anyhow::Result<Option<Opening>> {
    let Some(by) = &by.name else { return Ok(None) };
    let by = Actor::parse(by).context("--by is no name")?;
    let mut salt = [0; 32];
    SystemRandom::new().fill(&mut salt).ok().context("the system gives no random numbers")?;
    Ok(Some(Opening::new(salt, by)))
}

/// Who acted, as far as this space knows.
pub(super) fn openings(config: &SpaceConfig) -> anyhow::Result<Openings> {
    match OsDisk::open_read_only(&config.state_dir.join(ACTS_DIR)) {
        Ok(disk) => Ok(Acts::reader(disk).openings()?),
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(Openings::default()),
        Err(fault) => Err(fault).context("the folder of those who acted cannot be read"),
    }
}

/// Has the space's log record that a log is handed out, before anybody has it.
pub(super) fn record_export(
    config: &SpaceConfig,
    by: &By,
    exported: Exported,
) -> anyhow::Result<()> {
    let opening = opening(by)?;
    writer(config)?.record(opening.as_ref(), |actor| Act::Exported { actor, exported })?;
    Ok(())
}

pub(super) fn erase(arguments: &EraseArguments) -> anyhow::Result<()> {
    let EraseArguments { common, actor, ground, by } = arguments;
    let config = load(&common.config)?;
    if by.name.as_ref() == Some(actor) {
        bail!(
            "--by would keep anew the name that is to be forgotten; leave it out, or let somebody else ask"
        );
    }
    let acts = writer(&config)?;
    let commitments = acts.openings()?.of_actor(actor);
    let count = commitments.len();
    if count == 0 {
        bail!("nothing here says who that is: there is nothing to erase");
    }
    let opening = opening(by)?;
    acts.record(opening.as_ref(), |actor| {
        Act::erase(actor, *ground, commitments).expect("something is to be erased")
    })?;
    match common.json {
        true => print_json(&json!({"openings": count, "ground": ground.name()})),
        false => {
            println!(
                "{count} openings are destroyed as soon as `guan-space run` has logged it, a second when it runs; the \
                 entries prove as before"
            );
            Ok(())
        }
    }
}
