//! `guan-space contract`.

use super::{Common, load, print_json};
use anyhow::{Context, bail};
use guan_configs::SpaceConfig;
use guan_identity::LogKeyFile;
use guan_model::{PublicKey, Signer};
use serde_json::json;
use std::path::Path;

fn signing_key(config: &SpaceConfig) -> anyhow::Result<LogKeyFile> {
    LogKeyFile::load(&config.contract_key_file, config.id.as_str())
        .with_context(|| format!("the key {} cannot be used", config.contract_key_file.display()))
}

pub(super) fn sign(common: &Common, input: &Path, out: &Path) -> anyhow::Result<()> {
    let config = load(&common.config)?;
    let key = signing_key(&config)?;
    let contract =
        std::fs::read(input).with_context(|| format!("{} cannot be read", input.display()))?;
    let signed = guan_policy::sign(&contract, config.id.as_str(), &key)
        .with_context(|| format!("{} is not signed", input.display()))?;
    // By rename, as a box may look at the folder at any moment.
    let temporary = out.with_extension("part");
    std::fs::write(&temporary, signed)
        .and_then(|()| std::fs::rename(&temporary, out))
        .with_context(|| format!("{} cannot be written", out.display()))?;
    match common.json {
        true => print_json(&json!({"signed": out, "party": config.id.to_string()})),
        false => {
            println!("signed as {}: {}", config.id, out.display());
            Ok(())
        }
    }
}

pub(super) fn key(common: &Common) -> anyhow::Result<()> {
    let config = load(&common.config)?;
    let PublicKey::Ed25519(key) = signing_key(&config)?.public_key() else {
        bail!("{} holds no Ed25519 key", config.contract_key_file.display());
    };
    let (party, key) = (config.id.to_string(), hex::encode(key));
    if common.json {
        return print_json(&json!({"party": party, "ed25519": key}));
    }
    println!("[[contracts.trusted_key]]\nparty = \"{party}\"\ned25519 = \"{key}\"");
    Ok(())
}
