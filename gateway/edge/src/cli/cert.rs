//! `guan cert`: the box's certificate, and its renewal by the running gateway.

use super::acting::{acting, unsure};
use super::acts::By;
use super::{Common, load, print_json};
use anyhow::{Context, bail};
use guan_configs::EdgeConfig;
use guan_edge::box_identity::{slot_of, tier};
use guan_edge::status::GuanStatus;
use guan_edge::upkeep::{RENEW_REQUEST_FILE, next_certificate, renew_at};
use guan_evidence::Deed;
use guan_identity::{Tier, peer_identity, read_certificates, validity};
use guan_model::{Digest, WallTime};
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const LOOK_INTERVAL: Duration = Duration::from_millis(100);

pub(super) fn text(time: WallTime) -> String {
    let time = OffsetDateTime::from_unix_timestamp(time.millis() / 1000).ok();
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}

pub(super) fn now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// What a certificate file says; `None` when there is none.
pub(super) fn look(config: &EdgeConfig, path: &Path) -> anyhow::Result<Option<Value>> {
    let Ok(pem) = std::fs::read_to_string(path) else { return Ok(None) };
    let chain = read_certificates(&pem).with_context(|| path.display().to_string())?;
    let (box_id, tier) = peer_identity(&chain[0])?;
    let times = validity(&chain[0])?;
    let slot = config.identity.tpm.as_ref().and_then(|tpm| slot_of(&tpm.folder, &chain[0]).ok());
    Ok(Some(json!({
        "file": path,
        "box": box_id.as_str(),
        "tier": tier.name(),
        "fingerprint": Digest::of(&chain[0]).to_string(),
        "not_before": text(times.not_before),
        "not_after": text(times.not_after),
        "renew_at": text(renew_at(times)),
        "is_due": now() >= renew_at(times),
        "is_expired": now() > times.not_after,
        "slot": slot.map(|slot| slot.name()),
    })))
}

pub(super) fn show(common: &Common) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let file = &config.identity.certificate_file;
    let current = look(&config, file)?;
    let next = look(&config, &next_certificate(file))?;
    if common.json {
        print_json(&json!({ "current": current, "next": next }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(current) = current else {
        bail!("{} holds no certificate; join a space first (`guan join`)", file.display());
    };
    for (name, certificate) in [("in use", Some(&current)), ("to be tried", next.as_ref())] {
        let Some(certificate) = certificate else { continue };
        let word = |key: &str| certificate[key].as_str().unwrap_or("a file");
        println!("{name:<12} {} (tier {})", word("box"), word("tier"));
        println!("  key        {}", word("slot"));
        println!("  valid      {} to {}", word("not_before"), word("not_after"));
        println!("  renewed    from {} on", word("renew_at"));
        println!("  print      {}", word("fingerprint"));
        if certificate["is_expired"] == true {
            println!(
                "  EXPIRED: readings are collected, nothing is sent; `guan join` with a new token"
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Who asks for a new certificate, and how long.
#[derive(clap::Args)]
pub(super) struct RenewArguments {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    by: By,
    /// How long to wait for the space.
    #[arg(long, default_value_t = 60)]
    wait_s: u64,
}

/// `is_forced`: whatever its age.
pub(super) fn renew(arguments: &RenewArguments, is_forced: bool) -> anyhow::Result<ExitCode> {
    let RenewArguments { common, by, wait_s } = arguments;
    let config = load(&common.config)?;
    if tier(&config.identity) == Tier::Unattested {
        bail!(
            "identity.tier is unattested: such certificates are issued by hand (`guan-space box enrol`)"
        );
    }
    let file = &config.identity.certificate_file;
    let Some(before) = look(&config, file)? else {
        bail!("there is no certificate to renew; join a space first (`guan join`)");
    };
    if !is_forced && before["is_due"] == false {
        return tell(common, &before, false);
    }
    let status = GuanStatus::read(&config.state_dir)?;
    if status.is_stale(now()) {
        bail!("guan does not run; the running gateway renews its certificate: start `guan run`");
    }
    let request = config.state_dir.join(RENEW_REQUEST_FILE);
    acting(&config, by, (Deed::CertificateRenewed, None), || {
        // Whatever stands in it, the gateway acts on a file that is there.
        std::fs::write(&request, b"renew\n")
            .with_context(|| format!("{} cannot be written", request.display()))
            .map_err(unsure)
    })?;
    let deadline = Instant::now() + Duration::from_secs(*wait_s);
    loop {
        let after = look(&config, file)?.context("the certificate is gone")?;
        if after["fingerprint"] != before["fingerprint"] {
            return tell(common, &after, true);
        }
        if Instant::now() > deadline {
            bail!(
                "no new certificate within {wait_s} s, and the old one stays; see link and alarms in \
                 `guan status`"
            );
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

fn tell(common: &Common, certificate: &Value, is_renewed: bool) -> anyhow::Result<ExitCode> {
    if common.json {
        print_json(&json!({ "renewed": is_renewed, "current": certificate }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let word = |key: &str| certificate[key].as_str().unwrap_or("?").to_owned();
    match is_renewed {
        true => println!("renewed: valid until {}, key {}", word("not_after"), word("slot")),
        false => println!(
            "not due before {}; `guan cert rotate` makes a new key and certificate now",
            word("renew_at")
        ),
    }
    Ok(ExitCode::SUCCESS)
}
