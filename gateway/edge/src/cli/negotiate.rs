//! `guan contract negotiate`, `guan contract sign` and `guan contract keygen`.

use super::acting::{Undone, acting, not_begun, unsure};
use super::acts::By;
use super::{Common, load, print_json};
use anyhow::{Context, anyhow, bail};
use clap::Subcommand;
use guan_edge::negotiating;
use guan_edge::system_clock::{SharedClock, SystemClock};
use guan_evidence::Deed;
use guan_identity::{LogKeyFile, PartyKey};
use guan_model::{Digest, Now, PublicKey, Signer as _};
use guan_negotiation::{Found, LedgerFault, document, line};
use guan_policy::Contract;
use guan_policy::negotiation::{CommandFault, Negotiation, Terms};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct OneNegotiation {
    #[command(flatten)]
    common: Common,
    /// The negotiation, or the first eight characters of its number.
    pid: String,
}

#[derive(Subcommand)]
pub(super) enum NegotiateCommand {
    /// The negotiations with the space.
    List(Common),
    /// One negotiation with its terms.
    Show(OneNegotiation),
    /// Agree to what the consumer asks for, with the signature of the data's owner.
    Agree {
        #[command(flatten)]
        one: OneNegotiation,
        /// The owner's key; by default contracts.party_key_file.
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        #[command(flatten)]
        by: By,
    },
    /// Answer with other terms.
    Offer {
        #[command(flatten)]
        one: OneNegotiation,
        /// The draft.
        file: PathBuf,
        #[command(flatten)]
        by: By,
    },
    /// Refuse, and end the negotiation.
    Terminate {
        #[command(flatten)]
        one: OneNegotiation,
        /// What the consumer is told.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        by: By,
    },
}

fn now() -> Now {
    SharedClock::new(SystemClock::new(None)).read()
}

pub(super) fn execute(command: &NegotiateCommand) -> anyhow::Result<ExitCode> {
    match command {
        NegotiateCommand::List(common) => list(common),
        NegotiateCommand::Show(one) => show(one),
        NegotiateCommand::Agree { one, key, by } => agree(one, key.as_deref(), by),
        NegotiateCommand::Offer { one, file, by } => {
            let bytes = std::fs::read(file)
                .with_context(|| format!("{} cannot be read", file.display()))?;
            let what = || format!("{} is no draft of a contract", file.display());
            Contract::lint(&bytes).with_context(what)?;
            let terms = Terms::read(&bytes).with_context(what)?.to_offer();
            let done = (Deed::NegotiationOffered, by);
            change(one, done, |negotiation| negotiation.offer(now(), terms))
        }
        NegotiateCommand::Terminate { one, reason, by } => {
            change(one, (Deed::NegotiationTerminated, by), |negotiation| {
                negotiation.terminate(now(), Some("operator".to_owned()), vec![reason.clone()])
            })
        }
    }
}

fn change(
    one: &OneNegotiation,
    (deed, by): (Deed, &By),
    command: impl FnOnce(&mut Negotiation) -> Result<(), CommandFault>,
) -> anyhow::Result<ExitCode> {
    let config = load(&one.common.config)?;
    let ledger = negotiating::ledger(&config);
    let about = about(&ledger.open()?.load(now(), &one.pid)?);
    acting(&config, by, (deed, about), || {
        let opened = ledger.open().map_err(not_begun)?;
        opened.command(now(), &one.pid, command).map_err(undone)
    })?;
    show(one)
}

/// Nothing is written of what is refused; the disk may have failed afterwards.
fn undone(fault: LedgerFault) -> Undone {
    match fault {
        LedgerFault::File { .. } => unsure(fault),
        fault => not_begun(fault),
    }
}

/// The number that both sides know it by.
fn about(found: &Found) -> Option<Digest> {
    Some(Digest::of(found.pid.as_str().as_bytes()))
}

fn agree(one: &OneNegotiation, key: Option<&Path>, by: &By) -> anyhow::Result<ExitCode> {
    let config = load(&one.common.config)?;
    let Some(file) = key.or(config.contracts.party_key_file.as_deref()) else {
        bail!("there is no key to sign with: name one with --key, or set contracts.party_key_file");
    };
    let ledger = negotiating::ledger(&config);
    let found = ledger.open()?.load(now(), &one.pid)?;
    let party = negotiating::party(&found.negotiation).context(
        "nothing was proposed that can be agreed to; `negotiate show` says what there is",
    )?;
    let key = PartyKey::load(file, &party);
    let key = key.with_context(|| format!("{} cannot be used", file.display()))?;
    acting(&config, by, (Deed::NegotiationAgreed, about(&found)), || {
        let opened = ledger.open().map_err(not_begun)?;
        let meanwhile = opened.load(now(), &one.pid).map_err(not_begun)?;
        check_unchanged(found.negotiation.proposal(), meanwhile.negotiation.proposal())?;
        let agree =
            |negotiation: &mut Negotiation| negotiating::agree(now(), negotiation, &key, &party);
        opened.command(now(), &one.pid, agree).map_err(undone)
    })?;
    show(one)
}

/// The ledger was free for a moment, and the other end may have proposed something else: nobody agrees to that unseen.
fn check_unchanged(before: Option<&Terms>, now: Option<&Terms>) -> Result<(), Undone> {
    if before == now {
        return Ok(());
    }
    Err(not_begun(anyhow!(
        "other terms were proposed just now; look at them with `negotiate show`, then agree again"
    )))
}

fn show(one: &OneNegotiation) -> anyhow::Result<ExitCode> {
    let config = load(&one.common.config)?;
    let found = negotiating::ledger(&config).open()?.load(now(), &one.pid)?;
    if one.common.json {
        print_json(&document(&found))?;
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}", line(&found));
    if let Some(terms) = found.negotiation.agreement().or(found.negotiation.proposal()) {
        println!("{:#}", serde_json::from_slice::<Value>(&terms.to_json())?);
    }
    Ok(ExitCode::SUCCESS)
}

fn list(common: &Common) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let all = negotiating::ledger(&config).open()?.all(now())?;
    if common.json {
        let all: Vec<Value> = all.iter().map(document).collect();
        print_json(&json!({"negotiations": all}))?;
        return Ok(ExitCode::SUCCESS);
    }
    all.iter().for_each(|found| println!("{}", line(found)));
    if all.is_empty() {
        println!("nothing is negotiated; the space begins with `guan-space contract offer`");
    }
    Ok(ExitCode::SUCCESS)
}

/// Signs a contract as a party of it.
pub(super) fn sign(file: &Path, party: &str, key: &Path, out: &Path) -> anyhow::Result<ExitCode> {
    let key =
        PartyKey::load(key, party).with_context(|| format!("{} cannot be used", key.display()))?;
    let contract =
        std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let signed = guan_policy::sign(&contract, party, &key)
        .with_context(|| format!("{} is not signed", file.display()))?;
    // By rename, as this box may look at the folder at any moment.
    let draft = out.with_extension("part");
    std::fs::write(&draft, signed)
        .and_then(|()| std::fs::rename(&draft, out))
        .with_context(|| format!("{} cannot be written", out.display()))?;
    println!("signed as {party}: {}", out.display());
    Ok(ExitCode::SUCCESS)
}

/// Makes a party's key.
pub(super) fn keygen(party: &str, out: &Path) -> anyhow::Result<ExitCode> {
    let key = LogKeyFile::create(out, party)?.public_key();
    let PublicKey::Ed25519(key) = key else { bail!("the key of {party} is no Ed25519 key") };
    println!("[[contracts.trusted_key]]\nparty = \"{party}\"\ned25519 = \"{}\"", hex::encode(key));
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_agrees_to_terms_that_came_meanwhile() {
        let [one, two] = [1, 2].map(|number| {
            let offer =
                json!({"@type": "Offer", "@id": format!("urn:offer:{number}"), "target": "d"});
            Terms::read(offer.to_string().as_bytes()).unwrap()
        });
        check_unchanged(Some(&one), Some(&one)).unwrap();
        for other in [Some(&two), None] {
            let fault = check_unchanged(Some(&one), other).unwrap_err();
            assert!(matches!(fault, Undone::NotBegun(_)), "{fault:?}");
        }
    }
}
