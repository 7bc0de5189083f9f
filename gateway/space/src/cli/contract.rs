//! `guan-space contract`.

use super::negotiate::{self, NegotiateCommand};
use super::{Common, load, print_json, wall_time};
use anyhow::{Context, bail};
use clap::Subcommand;
use guan_configs::SpaceConfig;
use guan_identity::LogKeyFile;
use guan_model::{BoxId, ContractId, PublicKey, Signer};
use guan_policy::{ContractState, Roster};
use guan_space::sets::Sets;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Subcommand)]
pub(super) enum ContractCommand {
    /// Sign a contract as a party of it, by default as this space.
    Sign {
        #[command(flatten)]
        common: Common,
        /// The contract: a JSON object, or a file that others have signed already.
        #[arg(long = "in", value_name = "FILE")]
        input: PathBuf,
        /// File for the signed contract.
        #[arg(long)]
        out: PathBuf,
        /// The party that signs, if it is not this space.
        #[arg(long, requires = "key")]
        party: Option<String>,
        /// Its key, as `contract keygen` makes it.
        #[arg(long, requires = "party", value_name = "FILE")]
        key: Option<PathBuf>,
    },
    /// Print a contract to begin from: of a depot, a battery fleet or a cement plant.
    Template {
        /// What it is about.
        name: TemplateName,
        /// Chinese titles instead of English ones.
        #[arg(long)]
        zh: bool,
    },
    /// Make a key with which a party signs contracts, and print its public half.
    Keygen {
        /// The party whose key it is.
        #[arg(long)]
        party: String,
        /// File for the private key; it must not exist.
        #[arg(long)]
        out: PathBuf,
    },
    /// Print the key that boxes must trust, as lines for their configuration.
    Key(Common),
    /// Give a signed contract, or a newer version of one, to a box.
    Issue {
        #[command(flatten)]
        on: OnBox,
        /// The contract with the signatures of both parties.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Let a box keep readings under a contract and send none.
    Suspend(OneContract),
    /// Let a box send again under a contract that was suspended.
    Resume(OneContract),
    /// End a contract early, as its parties agreed; it says itself what becomes of unsent data.
    End(OneContract),
    /// Stop everything under a contract at once; what was not sent is shredded.
    Revoke(OneContract),
    /// Sign a box's set under a higher epoch, after this space was restored from a backup.
    Renew(OnBox),
    /// Write a box's set and its contracts to one file, for a box that is never online; `guan contract
    /// import` takes it.
    Carry {
        #[command(flatten)]
        on: OnBox,
        /// The file, on a USB stick for instance.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Propose a contract to a box, on behalf of its consumer: opens a negotiation.
    Offer {
        #[command(flatten)]
        on: OnBox,
        /// The draft; `contract template` prints one to begin from.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Contracts that are being negotiated with boxes.
    #[command(subcommand)]
    Negotiate(NegotiateCommand),
    /// The contracts of all boxes, or of one, and how they stand.
    List {
        #[command(flatten)]
        common: Common,
        /// Only this box.
        #[arg(long = "box")]
        id: Option<String>,
    },
}

/// The examples that are published in `configs/contracts/examples`.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum TemplateName {
    Depot,
    Battery,
    Cement,
}

macro_rules! example {
    ($name:literal) => {
        include_str!(concat!("../../../../configs/contracts/examples/", $name, ".json"))
    };
}

impl TemplateName {
    fn text(self, is_chinese: bool) -> &'static str {
        match (self, is_chinese) {
            (Self::Depot, false) => example!("depot.en"),
            (Self::Depot, true) => example!("depot.zh"),
            (Self::Battery, false) => example!("battery.en"),
            (Self::Battery, true) => example!("battery.zh"),
            (Self::Cement, false) => example!("cement.en"),
            (Self::Cement, true) => example!("cement.zh"),
        }
    }
}

#[derive(clap::Args)]
pub(super) struct OnBox {
    #[command(flatten)]
    common: Common,
    /// Name of the box.
    #[arg(long = "box")]
    id: String,
}

#[derive(clap::Args)]
pub(super) struct OneContract {
    #[command(flatten)]
    on: OnBox,
    /// Id of the contract.
    contract: String,
}

pub(super) fn execute(command: &ContractCommand) -> anyhow::Result<()> {
    let change = |one: &OneContract, state| {
        let contract = ContractId::parse(&one.contract)?;
        changed(&one.on, |sets, id| Ok(sets.set_state(id, &contract, state, wall_time())?))
    };
    match command {
        ContractCommand::Sign { common, input, out, party, key } => {
            sign(common, input, out, party.as_deref().zip(key.as_deref()))
        }
        ContractCommand::Template { name, zh } => {
            print!("{}", name.text(*zh));
            Ok(())
        }
        ContractCommand::Keygen { party, out } => keygen(party, out),
        ContractCommand::Key(common) => key(common),
        ContractCommand::Issue { on, file } => changed(on, |sets, id| {
            let bytes = std::fs::read(file);
            let bytes = bytes.with_context(|| format!("{} cannot be read", file.display()))?;
            let issued = sets.issue(id, &bytes, wall_time());
            issued.with_context(|| format!("{} is not issued", file.display()))
        }),
        ContractCommand::Suspend(one) => change(one, ContractState::Suspended),
        ContractCommand::Resume(one) => change(one, ContractState::Active),
        ContractCommand::End(one) => change(one, ContractState::Ended),
        ContractCommand::Revoke(one) => change(one, ContractState::Revoked),
        ContractCommand::Renew(on) => changed(on, |sets, id| Ok(sets.renew(id, wall_time())?)),
        ContractCommand::Carry { on, out } => carry(on, out),
        ContractCommand::Offer { on, file } => negotiate::offer(&on.common, &on.id, file),
        ContractCommand::Negotiate(command) => negotiate::execute(command),
        ContractCommand::List { common, id } => list(common, id.as_deref()),
    }
}

fn sets(config: &SpaceConfig) -> anyhow::Result<Sets> {
    let signer = Arc::new(signing_key(config)?);
    Ok(Sets::open(&config.state_dir, config.id.as_str(), signer)?)
}

fn changed(
    on: &OnBox,
    change: impl FnOnce(&Sets, &BoxId) -> anyhow::Result<Roster>,
) -> anyhow::Result<()> {
    let config = load(&on.common.config)?;
    let roster = change(&sets(&config)?, &BoxId::parse(&on.id)?)?;
    match on.common.json {
        true => print_json(&shown(&roster)),
        false => {
            println!("box {}: contract set of epoch {}", roster.box_id, roster.epoch);
            print_entries(&roster);
            Ok(())
        }
    }
}

fn carry(on: &OnBox, out: &Path) -> anyhow::Result<()> {
    let config = load(&on.common.config)?;
    let box_id = BoxId::parse(&on.id)?;
    let sets = sets(&config)?;
    let carrier = sets.carrier(&box_id, wall_time())?;
    let carrier = carrier.with_context(|| {
        format!("box {box_id} has no set; `guan-space contract issue` gives it a contract")
    })?;
    let temporary = out.with_extension("part");
    let written = std::fs::write(&temporary, &carrier)
        .and_then(|()| std::fs::File::open(&temporary)?.sync_all())
        .and_then(|()| std::fs::rename(&temporary, out));
    written.with_context(|| format!("{} cannot be written", out.display()))?;
    match on.common.json {
        true => print_json(&json!({"box": box_id.as_str(), "file": out, "bytes": carrier.len()})),
        false => {
            println!("the set of box {box_id}: {} ({} bytes)", out.display(), carrier.len());
            println!("at the box: guan contract import {}", out.display());
            Ok(())
        }
    }
}

fn shown(roster: &Roster) -> serde_json::Value {
    let entries = roster.entries.iter().map(|one| {
        json!({
            "id": one.contract.as_str(), "version": one.version, "state": one.state.name(),
            "digest": one.digest.to_string(),
        })
    });
    let contracts: Vec<serde_json::Value> = entries.collect();
    json!({"box": roster.box_id.as_str(), "epoch": roster.epoch, "contracts": contracts})
}

fn print_entries(roster: &Roster) {
    for one in &roster.entries {
        println!("  {:<10} {} version {}", one.state.name(), one.contract, one.version);
    }
}

fn list(common: &Common, id: Option<&str>) -> anyhow::Result<()> {
    let config = load(&common.config)?;
    let sets = sets(&config)?;
    let boxes = match id {
        Some(id) => vec![BoxId::parse(id)?],
        None => sets.boxes(),
    };
    let mut rosters = Vec::new();
    for id in &boxes {
        rosters.extend(sets.roster(id)?);
    }
    if common.json {
        let all: Vec<serde_json::Value> = rosters.iter().map(shown).collect();
        return print_json(&json!({"boxes": all}));
    }
    if rosters.is_empty() {
        println!("no box has contracts from this space; `guan-space contract issue` gives one");
    }
    for roster in &rosters {
        println!("box {} (epoch {})", roster.box_id, roster.epoch);
        print_entries(roster);
    }
    Ok(())
}

fn signing_key(config: &SpaceConfig) -> anyhow::Result<LogKeyFile> {
    LogKeyFile::load(&config.contract_key_file, config.id.as_str())
        .with_context(|| format!("the key {} cannot be used", config.contract_key_file.display()))
}

fn sign(
    common: &Common,
    input: &Path,
    out: &Path,
    other: Option<(&str, &Path)>,
) -> anyhow::Result<()> {
    let config = load(&common.config)?;
    let (party, key) = match other {
        None => (config.id.to_string(), signing_key(&config)?),
        Some((party, file)) => {
            let key = LogKeyFile::load(file, party);
            let key = key.with_context(|| format!("{} cannot be used", file.display()))?;
            (party.to_owned(), key)
        }
    };
    let contract =
        std::fs::read(input).with_context(|| format!("{} cannot be read", input.display()))?;
    let signed = guan_policy::sign(&contract, &party, &key)
        .with_context(|| format!("{} is not signed", input.display()))?;
    // By rename, as a box may look at the folder at any moment.
    let temporary = out.with_extension("part");
    std::fs::write(&temporary, signed)
        .and_then(|()| std::fs::rename(&temporary, out))
        .with_context(|| format!("{} cannot be written", out.display()))?;
    match common.json {
        true => print_json(&json!({"signed": out, "party": party})),
        false => {
            println!("signed as {party}: {}", out.display());
            Ok(())
        }
    }
}

fn keygen(party: &str, out: &Path) -> anyhow::Result<()> {
    let key = LogKeyFile::create(out, party)?;
    print_key(party, &key.public_key())
}

fn key(common: &Common) -> anyhow::Result<()> {
    let config = load(&common.config)?;
    let public = signing_key(&config)?.public_key();
    if common.json {
        let PublicKey::Ed25519(key) = public else { bail!("it is no Ed25519 key") };
        return print_json(&json!({"party": config.id.to_string(), "ed25519": hex::encode(key)}));
    }
    print_key(config.id.as_str(), &public)
}

fn print_key(party: &str, key: &PublicKey) -> anyhow::Result<()> {
    let PublicKey::Ed25519(key) = key else { bail!("the key of {party} is no Ed25519 key") };
    println!("[[contracts.trusted_key]]\nparty = \"{party}\"\ned25519 = \"{}\"", hex::encode(key));
    Ok(())
}
