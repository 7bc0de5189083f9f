//! `guan-space token`.

use super::{Common, load, print_json, wall_time};
use anyhow::{Context, bail};
use guan_identity::join::{JoinToken, TOKEN_BYTES};
use guan_identity::{Tier, read_certificates};
use guan_model::{BoxId, Digest};
use guan_space::registry::{Registry, TokenRecord};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;
use zeroize::Zeroizing;

/// Longest life of a token.
const HOURS_MAX: u32 = 24 * 31;

pub(super) fn new(
    common: &Common,
    id: &str,
    hours: u32,
    endorsement: Option<(&str, &str)>,
) -> anyhow::Result<()> {
    let config = load(&common.config)?;
    let box_id = BoxId::parse(id)?;
    if !(1..=HOURS_MAX).contains(&hours) {
        bail!("--hours {hours}: give 1 to {HOURS_MAX}");
    }
    if config.join_listen.is_none() {
        bail!("boxes cannot join: set listen.join_address in {}", common.config.display());
    }
    let endorsement =
        endorsement.map(|(digest, tier)| read_endorsement(digest, tier)).transpose()?;
    let path = &config.ca_certificate_file;
    let pem = std::fs::read_to_string(path)
        .with_context(|| format!("{} cannot be read", path.display()))?;
    let authority = Digest::of(&read_certificates(&pem)?[0]);
    let mut secret = Zeroizing::new([0; TOKEN_BYTES]);
    SystemRandom::new().fill(&mut *secret).ok().context("the system gives no random numbers")?;
    let record = TokenRecord {
        box_id: box_id.to_string(),
        expires_at_s: wall_time().millis() / 1000 + i64::from(hours) * 3600,
        endorsement,
    };
    std::fs::create_dir_all(&config.state_dir)
        .with_context(|| format!("{} cannot be made", config.state_dir.display()))?;
    Registry::new(&config.state_dir).keep_token(&JoinToken::digest(&secret), &record)?;
    let token = JoinToken { secret, authority }.reveal();
    if common.json {
        return print_json(&json!({
            "box": id, "token": *token, "expires_at_s": record.expires_at_s,
        }));
    }
    println!("token   {}", *token);
    println!("        for {box_id}, once, within {hours} hours");
    println!("\nOn the box:");
    println!("  guan join --space HOST:PORT --token TOKEN   (the port of listen.join_address)");
    Ok(())
}

fn read_endorsement(digest: &str, tier: &str) -> anyhow::Result<(String, String)> {
    let digest = Digest::from_hex(digest).context("--ek takes 64 hex digits")?;
    let tier = Tier::parse(tier)?;
    if tier == Tier::Unattested {
        bail!("--tier unattested: a TPM is worth hardware or emulated");
    }
    Ok((digest.to_string(), tier.name().to_owned()))
}

pub(super) fn drop_expired(common: &Common) -> anyhow::Result<()> {
    let config = load(&common.config)?;
    let now_s = wall_time().millis() / 1000;
    let dropped = Registry::new(&config.state_dir).drop_expired_tokens(now_s)?;
    match common.json {
        true => print_json(&json!({ "dropped": dropped })),
        false => {
            println!("{dropped} expired tokens are gone");
            Ok(())
        }
    }
}
