//! `guan identity init`.

use super::{Common, load, print_json};
use anyhow::{Context, bail};
use guan_edge::box_identity::{slot_of, start_tpm, tier};
use guan_evidence::VerifierKey;
use guan_identity::attest::{TpmPublic, endorsement_digest};
use guan_identity::tpm::Tpm;
use guan_identity::{
    KeyFile, LogKeyFile, Tier, certificate_request, peer_identity, read_certificates, validity,
};
use guan_model::Signer;
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Name of the certificate request, beside the key.
const REQUEST_FILE: &str = "box.csr.pem";

pub(super) fn init(common: &Common) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let identity = &config.identity;
    if tier(identity) != Tier::Unattested {
        bail!(
            "identity.tier is {}: the TPM makes the keys when the box joins; use `guan join`",
            tier(identity)
        );
    }
    for path in [&identity.key_file, &identity.log_key_file] {
        make_folder(path)?;
    }
    let name = config.box_id.as_str();
    let key = match identity.key_file.exists() {
        true => KeyFile::load(&identity.key_file, name)?,
        false => KeyFile::create(&identity.key_file, name)?,
    };
    let origin = &config.evidence.origin;
    let log_key = match identity.log_key_file.exists() {
        true => LogKeyFile::load(&identity.log_key_file, origin)?,
        false => LogKeyFile::create(&identity.log_key_file, origin)?,
    };
    let key: Arc<dyn Signer> = Arc::new(key);
    let request = certificate_request(key, &config.box_id)?;
    let Some(folder) = identity.key_file.parent() else {
        bail!("{} has no folder", identity.key_file.display());
    };
    let request_file = folder.join(REQUEST_FILE);
    std::fs::write(&request_file, request)
        .with_context(|| format!("{} cannot be written", request_file.display()))?;
    let log_key = VerifierKey::of(&log_key)?.to_string();
    if common.json {
        print_json(&json!({
            "box": name,
            "key_file": identity.key_file,
            "request_file": request_file,
            "log_key": log_key,
            "tier": Tier::Unattested.name(),
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    println!("box        {name}");
    println!(
        "key        {} (tier unattested: it proves nothing about the machine)",
        identity.key_file.display()
    );
    println!("log key    {log_key}");
    println!("request    {}", request_file.display());
    println!("\nNext, at the space:");
    println!(
        "  guan-space box enrol --box {name} --csr {} --tier unattested --out {}",
        request_file.display(),
        identity.certificate_file.display()
    );
    println!("and copy the space's ca.pem to {}", identity.space_ca_file.display());
    Ok(ExitCode::SUCCESS)
}

/// What is known without the space, and without failing over what is not there yet.
pub(super) fn show(common: &Common) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let identity = &config.identity;
    let tpm = start_tpm(identity)?;
    let endorsement = tpm.as_ref().map(endorsement).transpose()?;
    let pem = std::fs::read_to_string(&identity.certificate_file).ok();
    let leaf = pem.and_then(|pem| read_certificates(&pem).ok()?.into_iter().next());
    let slot = match (&leaf, &identity.tpm) {
        (Some(leaf), Some(settings)) => slot_of(&settings.folder, leaf).ok(),
        _ => None,
    };
    let named = leaf.as_ref().and_then(|leaf| peer_identity(leaf).ok());
    let until = leaf.as_ref().and_then(|leaf| validity(leaf).ok()).map(|times| times.not_after);
    let until =
        until.and_then(|until| OffsetDateTime::from_unix_timestamp(until.millis() / 1000).ok());
    let until = until.and_then(|until| until.format(&Rfc3339).ok());
    if common.json {
        print_json(&json!({
            "box": config.box_id.as_str(),
            "tier": tier(identity).name(),
            "tpm": identity.tpm.as_ref().map(|tpm| tpm.tcti.as_str()),
            "endorsement": endorsement,
            "certificate_tier": named.as_ref().map(|(_, tier)| tier.name()),
            "certificate_until": until,
            "slot": slot.map(|slot| slot.name()),
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    println!("box          {} (tier {})", config.box_id, tier(identity));
    if let (Some(settings), Some(endorsement)) = (&identity.tpm, endorsement) {
        println!("TPM          {}", settings.tcti);
        println!("endorsement  {endorsement}   (for `guan-space token new --ek`)");
    }
    match (named, until) {
        (Some((id, tier)), Some(until)) => {
            println!("certificate  {id}, tier {tier}, until {until}");
        }
        _ => println!("certificate  none; the box has not joined a space"),
    }
    if let Some(slot) = slot {
        println!("key          {} in the TPM", slot.name());
    }
    Ok(ExitCode::SUCCESS)
}

fn endorsement(tpm: &Tpm) -> anyhow::Result<String> {
    let public = tpm.call("show the endorsement key", |chip| chip.ek_public())?;
    Ok(endorsement_digest(&TpmPublic::parse(&public)?).to_string())
}

fn make_folder(path: &Path) -> anyhow::Result<()> {
    let Some(folder) = path.parent() else { return Ok(()) };
    std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))
}
