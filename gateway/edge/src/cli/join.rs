//! `guan join`: shows the space which TPM this box has, and gets its certificate.

use super::{Common, load, print_json};
use anyhow::{Context, bail};
use guan_edge::box_identity::{TLS_SLOTS, slot_of, start_tpm, tier};
use guan_edge::joining::{JoinAsk, join};
use guan_edge::upkeep::{DECOMMISSIONED_FILE, next_certificate};
use guan_identity::join::JoinToken;
use guan_identity::read_certificates;
use guan_identity::tpm::KeySlot;
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;

/// The token, from where it is.
fn read_token(text: Option<&str>, file: Option<&Path>) -> anyhow::Result<JoinToken> {
    let text = match (text, file) {
        (Some(text), _) => text.to_owned(),
        (None, Some(file)) if file == Path::new("-") => std::io::read_to_string(std::io::stdin())?,
        (None, Some(file)) => std::fs::read_to_string(file)
            .with_context(|| format!("{} cannot be read", file.display()))?,
        (None, None) => bail!("give the token with --token or --token-file"),
    };
    let text = zeroize::Zeroizing::new(text);
    Ok(JoinToken::parse(text.trim())?)
}

pub(super) fn execute(
    common: &Common,
    space: &str,
    token: Option<&str>,
    token_file: Option<&Path>,
) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let token = read_token(token, token_file)?;
    let identity = &config.identity;
    let Some(tpm) = start_tpm(identity)? else {
        bail!(
            "identity.tier is unattested: a box without a TPM does not join by itself; use `guan identity \
             init` and `guan-space box enrol`"
        );
    };
    let settings = identity.tpm.as_ref().context("identity.tpm is not set")?;
    for folder in [
        Some(settings.folder.as_path()),
        identity.certificate_file.parent(),
        identity.log_key_file.parent(),
    ] {
        let folder = folder.unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)
            .with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    let store_key = guan_edge::sealing::make_log_key(&config, &tpm)?;
    let (host, port) = space.rsplit_once(':').context("--space takes HOST:PORT")?;
    let port = port.parse().with_context(|| format!("--space {space}: {port:?} is no port"))?;
    let ask = JoinAsk {
        tpm,
        slot: free_slot(&identity.certificate_file, &settings.folder),
        box_id: config.box_id.clone(),
        host: host.to_owned(),
        port,
        server_name: config.link.server_name.clone(),
        token,
        store_key,
    };
    let runtime = tokio::runtime::Runtime::new().context("the runtime cannot start")?;
    let joined = runtime.block_on(join(ask))?;
    if joined.tier != tier(identity) {
        bail!(
            "the space enrolled this box as {}, and identity.tier says {}: correct it and join again",
            joined.tier,
            tier(identity)
        );
    }
    replace(&identity.space_ca_file, &joined.authority_pem)?;
    replace(&identity.certificate_file, &joined.certificate_pem)?;
    // Of an earlier joining, or of an earlier life.
    for old in
        [next_certificate(&identity.certificate_file), config.state_dir.join(DECOMMISSIONED_FILE)]
    {
        if old.exists() {
            std::fs::remove_file(&old).with_context(|| format!("{} stays", old.display()))?;
        }
    }
    if let Some(fault) = &joined.unowned {
        eprintln!("guan: the TPM's passwords are not set ({fault}): root on this box can clear it");
    }
    if common.json {
        print_json(&json!({
            "box": config.box_id.as_str(),
            "tier": joined.tier.name(),
            "certificate_file": identity.certificate_file,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    println!("box          {} has joined (tier {})", config.box_id, joined.tier);
    println!("certificate  {}", identity.certificate_file.display());
    println!("\nNext: guan run --config {}", common.config.display());
    Ok(ExitCode::SUCCESS)
}

/// Never the slot that is in use: until the new certificate is there, the old one must go on working.
fn free_slot(certificate_file: &Path, tpm_dir: &Path) -> KeySlot {
    let leaf = std::fs::read_to_string(certificate_file)
        .ok()
        .and_then(|pem| read_certificates(&pem).ok()?.into_iter().next());
    let used = leaf.and_then(|leaf| slot_of(tpm_dir, &leaf).ok());
    TLS_SLOTS.into_iter().find(|slot| Some(*slot) != used).expect("there are two slots")
}

fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    guan_edge::upkeep::replace(path, text)
        .with_context(|| format!("{} cannot be written", path.display()))
}
