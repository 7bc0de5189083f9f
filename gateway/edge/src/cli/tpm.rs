//! `guan tpm`.

use super::acts::{By, acting};
use super::{Common, load, print_json};
use anyhow::{Context, bail};
use guan_edge::box_identity::start_tpm;
use guan_evidence::Deed;
use guan_identity::tpm::SEALED_BYTES;
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;
use zeroize::Zeroizing;

/// A secret in hex, from a file or the standard input.
fn read_secret(file: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let text = Zeroizing::new(match file == Path::new("-") {
        true => std::io::read_to_string(std::io::stdin())?,
        false => std::fs::read_to_string(file)
            .with_context(|| format!("{} cannot be read", file.display()))?,
    });
    let secret = hex::decode(text.trim()).ok();
    let secret =
        secret.context("that is no secret in hex; `guan-space box passwords` prints it")?;
    Ok(Zeroizing::new(secret))
}

pub(super) fn restore_store(common: &Common, file: &Path, by: &By) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let Some(tpm) = start_tpm(&config.identity)? else {
        bail!("identity.tier is unattested: this box has no TPM");
    };
    let secret = read_secret(file)?;
    let key = <[u8; SEALED_BYTES]>::try_from(&secret[..]);
    let key = key.ok().context("a store key has 64 hex digits")?;
    acting(&config, by, (Deed::StoreRestored, None), || {
        Ok(guan_edge::sealing::restore(&config, &tpm, Zeroizing::new(key))?)
    })?;
    match common.json {
        true => print_json(&json!({ "restored": true }))?,
        false => println!("the store is sealed to this TPM; next: guan join"),
    }
    Ok(ExitCode::SUCCESS)
}

/// For a box that the space has revoked before it could clear itself.
pub(super) fn clear(common: &Common, file: &Path, by: &By) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let Some(tpm) = start_tpm(&config.identity)? else {
        bail!("identity.tier is unattested: this box has no TPM");
    };
    let password = read_secret(file)?;
    acting(&config, by, (Deed::TpmCleared, None), || {
        Ok(tpm.call("be cleared", move |chip| chip.clear(&password))?)
    })?;
    match common.json {
        true => print_json(&json!({ "cleared": true }))?,
        false => println!("the TPM was cleared: nothing of this box's identity is left in it"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks once: a wrong password would lock this way out too.
pub(super) fn reset_lockout(common: &Common, file: &Path, by: &By) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let Some(tpm) = start_tpm(&config.identity)? else {
        bail!("identity.tier is unattested: this box has no TPM");
    };
    let password = read_secret(file)?;
    acting(&config, by, (Deed::LockoutReset, None), || {
        Ok(tpm.call("forgive wrong passwords", move |chip| chip.reset_lockout(&password))?)
    })?;
    match common.json {
        true => print_json(&json!({ "reset": true }))?,
        false => println!("the TPM is no longer locked out"),
    }
    Ok(ExitCode::SUCCESS)
}
