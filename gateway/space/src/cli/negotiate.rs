//! `guan-space contract offer` and `guan-space contract negotiate`.

use super::contract::key_of;
use super::{Common, load, print_json, wall_time};
use anyhow::Context;
use clap::Subcommand;
use guan_model::{BoxId, ClockQuality, Now};
use guan_negotiation::{Ledger, document, line};
use guan_policy::Contract;
use guan_policy::negotiation::{CommandFault, Negotiation, Terms};
use guan_space::negotiating;
use guan_space::parties::PartyKeys;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(clap::Args)]
pub(super) struct OneNegotiation {
    #[command(flatten)]
    common: Common,
    /// Name of the box.
    #[arg(long = "box")]
    id: String,
    /// The negotiation, or the first eight characters of its number.
    pid: String,
}

#[derive(Subcommand)]
pub(super) enum NegotiateCommand {
    /// The negotiations with all boxes, or with one.
    List {
        #[command(flatten)]
        common: Common,
        /// Only this box.
        #[arg(long = "box")]
        id: Option<String>,
    },
    /// One negotiation with its terms.
    Show(OneNegotiation),
    /// Take the box's last offer.
    Accept(OneNegotiation),
    /// Answer the box's offer with other terms.
    Request {
        #[command(flatten)]
        one: OneNegotiation,
        /// The draft.
        file: PathBuf,
    },
    /// Sign the agreement as the consumer, where this space has no key of it.
    Verify {
        #[command(flatten)]
        one: OneNegotiation,
        /// The consumer's key, as `contract keygen` makes it.
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
    /// Give the negotiation up.
    Terminate {
        #[command(flatten)]
        one: OneNegotiation,
        /// What the box is told.
        #[arg(long)]
        reason: String,
    },
}

/// A command lives for a moment, so its monotonic clock may stand still.
fn now() -> Now {
    Now { monotonic: Duration::ZERO, wall: wall_time(), quality: ClockQuality::Ntp }
}

/// Reads a draft and refuses one that nobody could agree to.
fn draft(file: &Path) -> anyhow::Result<Terms> {
    let bytes =
        std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let what = || format!("{} is no draft of a contract", file.display());
    Contract::lint(&bytes).with_context(what)?;
    Ok(Terms::read(&bytes).with_context(what)?.to_offer())
}

/// Asks a box for a contract.
pub(super) fn offer(common: &Common, id: &str, file: &Path) -> anyhow::Result<()> {
    let config = load(&common.config)?;
    let ledger = negotiating::ledger(&config.state_dir, &BoxId::parse(id)?);
    let pid = ledger.open()?.propose(now(), draft(file)?)?;
    if common.json {
        return print_json(&json!({"box": id, "pid": pid.as_str()}));
    }
    println!("{} is proposed to {id} as {pid}", file.display());
    println!("`guan-space contract negotiate list` shows what becomes of it");
    Ok(())
}

pub(super) fn execute(command: &NegotiateCommand) -> anyhow::Result<()> {
    match command {
        NegotiateCommand::List { common, id } => list(common, id.as_deref()),
        NegotiateCommand::Show(one) => show(one),
        NegotiateCommand::Accept(one) => change(one, |negotiation| negotiation.accept(now())),
        NegotiateCommand::Request { one, file } => {
            let terms = draft(file)?;
            change(one, |negotiation| negotiation.request(now(), terms))
        }
        NegotiateCommand::Verify { one, key } => verify(one, key.as_deref()),
        NegotiateCommand::Terminate { one, reason } => change(one, |negotiation| {
            negotiation.terminate(now(), Some("operator".to_owned()), vec![reason.clone()])
        }),
    }
}

fn ledger(one: &OneNegotiation) -> anyhow::Result<Ledger> {
    let config = load(&one.common.config)?;
    Ok(negotiating::ledger(&config.state_dir, &BoxId::parse(&one.id)?))
}

fn change(
    one: &OneNegotiation,
    command: impl FnOnce(&mut Negotiation) -> Result<(), CommandFault>,
) -> anyhow::Result<()> {
    ledger(one)?.open()?.command(now(), &one.pid, command)?;
    show(one)
}

fn verify(one: &OneNegotiation, key: Option<&Path>) -> anyhow::Result<()> {
    let config = load(&one.common.config)?;
    let ledger = ledger(one)?;
    let opened = ledger.open()?;
    let found = opened.load(now(), &one.pid)?;
    let party = negotiating::party(&found.negotiation)
        .context("the box has not agreed to anything yet; `negotiate show` says where it stands")?;
    let key = match key {
        Some(file) => key_of(&config, Some((&party, file)))?.1,
        None => PartyKeys::new(&config)
            .private(&party)?
            .with_context(|| format!("this space has no key of {party}; name it with --key"))?,
    };
    opened.command(now(), &one.pid, |negotiation| {
        negotiating::verify(now(), negotiation, &key, &party)
    })?;
    drop(opened);
    show(one)
}

fn show(one: &OneNegotiation) -> anyhow::Result<()> {
    let ledger = ledger(one)?;
    let found = ledger.open()?.load(now(), &one.pid)?;
    if one.common.json {
        return print_json(&document(&found));
    }
    println!("{}", line(&found));
    let terms = found.negotiation.agreement().or(found.negotiation.proposal());
    if let Some(terms) = terms {
        println!("{:#}", serde_json::from_slice::<Value>(&terms.to_json())?);
    }
    Ok(())
}

fn list(common: &Common, id: Option<&str>) -> anyhow::Result<()> {
    let config = load(&common.config)?;
    let boxes = match id {
        Some(id) => vec![BoxId::parse(id)?],
        None => negotiating::boxes(&config.state_dir),
    };
    let mut all = Vec::new();
    for box_id in boxes {
        let ledger = negotiating::ledger(&config.state_dir, &box_id);
        let found = ledger.open()?.all(now())?;
        if !common.json && !found.is_empty() {
            println!("box {box_id}");
            found.iter().for_each(|found| println!("  {}", line(found)));
        }
        all.extend(found.iter().map(document));
    }
    if common.json {
        return print_json(&json!({"negotiations": all}));
    }
    if all.is_empty() {
        println!("nothing is negotiated; `guan-space contract offer` begins");
    }
    Ok(())
}
