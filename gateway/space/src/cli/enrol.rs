//! `guan-space box`.

use super::{Common, load, print_json, wall_time};
use anyhow::{Context, bail};
use guan_configs::{SpaceConfig, Tier as AcceptedTier};
use guan_identity::{KeyFile, SmallCa, Tier, read_certificates};
use guan_model::{BoxId, Digest, Signer};
use guan_space::registry::{Enrolment, Registry};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;

/// What the operator asks for.
pub(super) struct Request<'a> {
    pub(super) id: &'a str,
    pub(super) csr: &'a Path,
    pub(super) tier: &'a str,
    pub(super) out: &'a Path,
    pub(super) days: u32,
}

pub(super) fn registry(config: &SpaceConfig) -> anyhow::Result<Registry> {
    std::fs::create_dir_all(&config.state_dir)
        .with_context(|| format!("{} cannot be made", config.state_dir.display()))?;
    Ok(Registry::new(&config.state_dir))
}

pub(super) fn enrol(common: &Common, request: &Request<'_>) -> anyhow::Result<()> {
    let config = load(&common.config)?;
    let id = BoxId::parse(request.id)?;
    let tier = Tier::parse(request.tier)?;
    if tier != Tier::Unattested {
        bail!(
            "a box of tier {} joins by itself: `guan-space token new`, then `guan join`",
            tier.name()
        );
    }
    if !config.accept_tiers.contains(&AcceptedTier::Unattested) {
        bail!("boxes.accept_tiers does not name {}: the box would be turned away", tier.name());
    }
    let read = |path: &Path| {
        std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
    };
    let csr = read(request.csr)?;
    let key: Arc<dyn Signer> =
        Arc::new(KeyFile::load(&config.ca_key_file, "certificate authority")?);
    let ca = SmallCa::load(&read(&config.ca_certificate_file)?, key)?;
    let now = wall_time();
    let pem = ca.issue_box(&csr, &id, tier, now, request.days)?;
    let chain = read_certificates(&pem)?;
    let fingerprint = Digest::of(&chain[0]).to_string();
    std::fs::write(request.out, &pem)
        .with_context(|| format!("{} cannot be written", request.out.display()))?;
    // Last, so that a box is never enrolled with a certificate that nobody has.
    let enrolment = Enrolment {
        tier: tier.name().to_owned(),
        fingerprint: fingerprint.clone(),
        enrolled_at_s: now.millis() / 1000,
        revoked: false,
        tpm: None,
        demand: false,
        retirement: None,
        store_policy: None,
    };
    registry(&config)?.enrol(&id, &enrolment)?;
    if common.json {
        return print_json(&json!({
            "box": id.to_string(), "tier": tier.name(), "fingerprint": fingerprint,
            "certificate_file": request.out,
        }));
    }
    println!("box          {id} (tier {})", tier.name());
    println!("certificate  {}, valid for {} days", request.out.display(), request.days);
    println!("fingerprint  {fingerprint}");
    Ok(())
}

pub(super) fn list(common: &Common) -> anyhow::Result<()> {
    let config = load(&common.config)?;
    let boxes = registry(&config)?.list()?;
    if common.json {
        let boxes: Vec<_> =
            boxes.iter().map(|(id, enrolment)| json!({"id": id, "enrolment": enrolment})).collect();
        return print_json(&boxes);
    }
    for (id, enrolment) in &boxes {
        let state = if enrolment.revoked { "REVOKED" } else { "enrolled" };
        println!("{id:<24} {state:<9} {:<11} {}", enrolment.tier, enrolment.fingerprint);
    }
    if boxes.is_empty() {
        println!("no box is enrolled; `guan-space box enrol` does it");
    }
    Ok(())
}

pub(super) fn revoke(common: &Common, id: &str) -> anyhow::Result<()> {
    let config = load(&common.config)?;
    registry(&config)?.revoke(&BoxId::parse(id)?)?;
    match common.json {
        true => print_json(&json!({"box": id, "revoked": true})),
        false => {
            println!("{id} is turned away within 5 s, and from now on");
            Ok(())
        }
    }
}
