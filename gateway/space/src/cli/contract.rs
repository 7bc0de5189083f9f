//! `guan-space contract`.

use super::acknowledge;
use super::enrol::registry;
use super::negotiate::{self, NegotiateCommand};
use super::{Common, load, print_json, wall_time};
use anyhow::{Context, bail};
use clap::Subcommand;
use guan_configs::SpaceConfig;
use guan_identity::{LogKeyFile, PartyAlgorithm, PartyKey, encode_public};
use guan_model::{BoxId, ContractId, PublicKey, Signer};
use guan_policy::{Contract, ContractState, Roster};
use guan_space::parties::{PartyKeys, Strangers};
use guan_space::registry::RegistryError;
use guan_space::sets::{Sets, refuse_over};
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
        /// What kind of key.
        #[arg(long, value_enum, default_value = "ed25519")]
        algorithm: AlgorithmName,
        /// File for the public half (PEM): PARTY.pub.pem in contracts.party_keys_dir of a space lets it
        /// check what the party signs.
        #[arg(long, value_name = "FILE")]
        public: Option<PathBuf>,
    },
    /// Print the key that boxes must trust, as lines for their configuration: of this space, or of a
    /// party.
    Key {
        #[command(flatten)]
        common: Common,
        /// The party, if it is not this space.
        #[arg(long, requires = "key")]
        party: Option<String>,
        /// Its key, as `contract keygen` makes it.
        #[arg(long, requires = "party", value_name = "FILE")]
        key: Option<PathBuf>,
    },
    /// Give a signed contract, or a newer version of one, to a box.
    Issue {
        #[command(flatten)]
        on: OnBox,
        /// The contract with the signatures of both parties.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Take signatures of parties of which no key is in contracts.party_keys_dir, unchecked.
        #[arg(long)]
        trust_unknown_keys: bool,
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
    /// Acknowledge, as its consumer, what was delivered under a contract that asks for it.
    Acknowledge {
        #[command(flatten)]
        common: Common,
        /// Id of the contract.
        contract: String,
        /// A moment in the period, such as 2026-01-01T00:00:00Z; by default every period that is due.
        #[arg(long, value_name = "TIME")]
        period: Option<String>,
        /// The consumer, where this space has no key of it.
        #[arg(long, requires = "key")]
        by: Option<String>,
        /// Its key, as `contract keygen` makes it.
        #[arg(long, requires = "by", value_name = "FILE")]
        key: Option<PathBuf>,
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

/// Kinds of keys with which contracts are signed.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum AlgorithmName {
    Ed25519,
    P256,
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
        ContractCommand::Keygen { party, out, algorithm, public } => {
            keygen(party, out, *algorithm, public.as_deref())
        }
        ContractCommand::Key { common, party, key } => {
            print_key_of(common, party.as_deref().zip(key.as_deref()))
        }
        ContractCommand::Issue { on, file, trust_unknown_keys } => {
            let strangers = match trust_unknown_keys {
                true => Strangers::Trusted,
                false => Strangers::Refused,
            };
            issue(on, file, strangers)
        }
        ContractCommand::Suspend(one) => change(one, ContractState::Suspended),
        ContractCommand::Resume(one) => change(one, ContractState::Active),
        ContractCommand::End(one) => change(one, ContractState::Ended),
        ContractCommand::Revoke(one) => change(one, ContractState::Revoked),
        ContractCommand::Renew(on) => changed(on, |sets, id| Ok(sets.renew(id, wall_time())?)),
        ContractCommand::Carry { on, out } => carry(on, out),
        ContractCommand::Offer { on, file } => negotiate::offer(&on.common, &on.id, file),
        ContractCommand::Acknowledge { common, contract, period, by, key } => {
            let by = by.as_deref().zip(key.as_deref());
            acknowledge::execute(common, contract, period.as_deref(), by)
        }
        ContractCommand::Negotiate(command) => negotiate::execute(command),
        ContractCommand::List { common, id } => list(common, id.as_deref()),
    }
}

fn issue(on: &OnBox, file: &Path, strangers: Strangers) -> anyhow::Result<()> {
    let config = load(&on.common.config)?;
    changed(on, |sets, id| {
        let what = || format!("{} is not issued", file.display());
        let bytes = std::fs::read(file);
        let bytes = bytes.with_context(|| format!("{} cannot be read", file.display()))?;
        let signed = PartyKeys::new(&config).judge(bytes, strangers).with_context(what)?;
        let known = registry(&config)?.find(id)?.is_some();
        if !known {
            return Err(RegistryError::Unknown(id.clone())).with_context(what);
        }
        let roster = sets.issue(id, &signed, wall_time()).with_context(what)?;
        for party in signed.unchecked() {
            eprintln!("guan-space: no key of {party} is known here; its signature was not checked");
        }
        Ok(roster)
    })
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

/// The key of a party in a file, or that of this space; refused if it is known not to be theirs.
pub(super) fn key_of(
    config: &SpaceConfig,
    other: Option<(&str, &Path)>,
) -> anyhow::Result<(String, PartyKey)> {
    let (party, file) = match other {
        None => (config.id.as_str(), config.contract_key_file.as_path()),
        Some(other) => other,
    };
    let key = PartyKey::load(file, party);
    let key = key.with_context(|| format!("{} cannot be used", file.display()))?;
    let theirs = PartyKeys::new(config).check_theirs(party, &key.public_key());
    theirs.with_context(|| format!("{} is not used", file.display()))?;
    Ok((party.to_owned(), key))
}

fn sign(
    common: &Common,
    input: &Path,
    out: &Path,
    other: Option<(&str, &Path)>,
) -> anyhow::Result<()> {
    let config = load(&common.config)?;
    let (party, key) = key_of(&config, other)?;
    let contract =
        std::fs::read(input).with_context(|| format!("{} cannot be read", input.display()))?;
    let what = || format!("{} is not signed", input.display());
    refuse_over(&Contract::draft(&contract).with_context(what)?, wall_time()).with_context(what)?;
    let signed = guan_policy::sign(&contract, &party, &key).with_context(what)?;
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

fn keygen(
    party: &str,
    out: &Path,
    algorithm: AlgorithmName,
    public: Option<&Path>,
) -> anyhow::Result<()> {
    let algorithm = match algorithm {
        AlgorithmName::Ed25519 => PartyAlgorithm::Ed25519,
        AlgorithmName::P256 => PartyAlgorithm::P256,
    };
    if let Some(file) = public
        && file.exists()
    {
        bail!("{} exists; move it away, or name another file with --public", file.display());
    }
    let key = PartyKey::create(out, party, algorithm)?.public_key();
    if let Some(file) = public {
        let written = std::fs::write(file, encode_public(&key));
        written.with_context(|| format!("{} cannot be written", file.display()))?;
    }
    print_key(party, &key);
    Ok(())
}

fn print_key_of(common: &Common, other: Option<(&str, &Path)>) -> anyhow::Result<()> {
    let config = load(&common.config)?;
    let (party, key) = key_of(&config, other)?;
    let public = key.public_key();
    if common.json {
        let (name, hex) = named(&public);
        return print_json(&json!({"party": party, name: hex}));
    }
    print_key(&party, &public);
    if other.is_none() {
        println!("# and in [contracts]: space = \"{party}\"");
    }
    Ok(())
}

/// The word for a key in the configuration of boxes, and the key in hex.
fn named(key: &PublicKey) -> (&'static str, String) {
    match key {
        PublicKey::Ed25519(key) => ("ed25519", hex::encode(key)),
        PublicKey::EcdsaP256(point) => ("p256", hex::encode(point)),
    }
}

fn print_key(party: &str, key: &PublicKey) {
    let (name, hex) = named(key);
    println!("[[contracts.trusted_key]]\nparty = \"{party}\"\n{name} = \"{hex}\"");
}
