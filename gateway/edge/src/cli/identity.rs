//! `guan identity init`.

use super::{Common, load, print_json};
use anyhow::{Context, bail};
use guan_evidence::VerifierKey;
use guan_identity::{KeyFile, LogKeyFile, certificate_request};
use guan_model::Signer;
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// Name of the certificate request, beside the key.
const REQUEST_FILE: &str = "box.csr.pem";

pub(super) fn init(common: &Common) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let identity = &config.identity;
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
            "tier": guan_edge::wiring::TIER.name(),
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

fn make_folder(path: &Path) -> anyhow::Result<()> {
    let Some(folder) = path.parent() else { return Ok(()) };
    std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))
}
