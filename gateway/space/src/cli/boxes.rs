//! `guan-space box show|attest|approve-firmware|decommission|passwords`.

use super::enrol::registry;
use super::{Common, load, print_json};
use anyhow::{Context, bail};
use guan_identity::attest::STORE_POLICY_BYTES_MAX;
use guan_model::BoxId;
use guan_space::registry::{Enrolment, Retirement};
use serde_json::json;
use std::path::Path;

fn find(common: &Common, id: &str) -> anyhow::Result<(BoxId, Enrolment)> {
    let config = load(&common.config)?;
    let box_id = BoxId::parse(id)?;
    let found = registry(&config)?.find(&box_id)?;
    let enrolment = found.with_context(|| {
        format!("box {box_id} is not enrolled; `guan-space box list` shows those that are")
    })?;
    Ok((box_id, enrolment))
}

pub(super) fn show(common: &Common, id: &str) -> anyhow::Result<()> {
    let (box_id, enrolment) = find(common, id)?;
    if common.json {
        return print_json(&json!({ "id": box_id.as_str(), "enrolment": enrolment }));
    }
    let state = match (&enrolment.retirement, enrolment.revoked) {
        (Some(Retirement::Confirmed(_)), _) => "out of service, confirmed by its TPM",
        (Some(Retirement::Ordered { .. }), _) => "ordered out of service, not yet confirmed",
        (None, true) => "REVOKED",
        (None, false) => "enrolled",
    };
    println!("box          {box_id} (tier {}), {state}", enrolment.tier);
    println!("certificate  {}", enrolment.fingerprint);
    let Some(tpm) = &enrolment.tpm else { return Ok(()) };
    if let Some(next) = &tpm.next {
        println!("renewed      {}, not used yet", next.fingerprint);
    }
    println!("endorsement  {}", tpm.endorsement);
    match &tpm.last {
        None => println!("appraisal    none yet"),
        Some(last) => {
            println!("appraisal    {} at {} s", last.outcome, last.at_s);
            if let Some(version) = &last.tpm_firmware {
                println!("TPM          firmware {version}");
            }
            last.findings.iter().for_each(|finding| println!("             {finding}"));
        }
    }
    if let Some(Retirement::Confirmed(last)) = &enrolment.retirement {
        println!("last log     {} entries, root {}", last.log_size, last.log_root);
    }
    Ok(())
}

fn change(
    common: &Common,
    id: &str,
    change: impl FnOnce(&mut Enrolment) -> Result<String, String>,
) -> anyhow::Result<()> {
    let config = load(&common.config)?;
    let box_id = BoxId::parse(id)?;
    match registry(&config)?.update(&box_id, change)? {
        Ok(text) if common.json => print_json(&json!({ "box": id, "done": text })),
        Ok(text) => {
            println!("{text}");
            Ok(())
        }
        Err(text) => bail!("{text}"),
    }
}

pub(super) fn attest(common: &Common, id: &str) -> anyhow::Result<()> {
    change(common, id, |enrolment| {
        check_tpm(enrolment)?;
        enrolment.demand = true;
        Ok("asked within 5 s when it is connected, else at its next connection; `guan-space box show` \
            tells the verdict"
            .to_owned())
    })
}

pub(super) fn approve_firmware(common: &Common, id: &str) -> anyhow::Result<()> {
    change(common, id, |enrolment| {
        let last = enrolment.tpm.as_mut().and_then(|tpm| tpm.last.as_mut());
        let Some((last, shown)) = last.and_then(|last| {
            let shown = last.firmware.clone()?;
            Some((last, shown))
        }) else {
            return Err("the box has shown no firmware in a good quote yet".to_owned());
        };
        let seen = last.seen.as_mut().ok_or("the box has passed no appraisal yet")?;
        seen.firmware.clone_from(&shown);
        enrolment.demand = true;
        Ok(format!("PCR 0 may be {shown} from now on"))
    })
}

pub(super) fn decommission(common: &Common, id: &str, discard: bool) -> anyhow::Result<()> {
    change(common, id, |enrolment| {
        check_tpm(enrolment)?;
        if let Some(Retirement::Confirmed(_)) = enrolment.retirement {
            return Err("the box has confirmed already".to_owned());
        }
        enrolment.retirement = Some(Retirement::Ordered { discard });
        enrolment.demand = true;
        let what = match discard {
            true => "at once",
            false => "when it has sent everything",
        };
        Ok(format!(
            "told with its next verdict; {what} it confirms, is revoked, and clears its TPM; \
             `guan-space box show` shows the confirmation"
        ))
    })
}

/// The box itself checks the signature; here only the size is looked at.
pub(super) fn send_policy(common: &Common, id: &str, file: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("{} cannot be read", file.display()))?;
    if text.len() > STORE_POLICY_BYTES_MAX {
        bail!("{} has {} bytes; the limit is {STORE_POLICY_BYTES_MAX}", file.display(), text.len());
    }
    change(common, id, |enrolment| {
        check_tpm(enrolment)?;
        enrolment.store_policy = Some(text);
        enrolment.demand = true;
        Ok("sent with each verdict from now on; a box whose store is shut tries it at once"
            .to_owned())
    })
}

fn check_tpm(enrolment: &Enrolment) -> Result<(), String> {
    match (&enrolment.tpm, enrolment.revoked) {
        (None, _) => Err("the box has no TPM; `guan-space box revoke` turns it away".to_owned()),
        (_, true) => Err("the box is revoked, and no longer listened to".to_owned()),
        _ => Ok(()),
    }
}

/// For whoever stands before the box: they open what nothing else opens.
pub(super) fn passwords(common: &Common, id: &str) -> anyhow::Result<()> {
    let (box_id, enrolment) = find(common, id)?;
    let config = load(&common.config)?;
    let tpm = enrolment.tpm.context("the box has no TPM")?;
    let kept = registry(&config)?.find_passwords(&tpm.endorsement)?;
    let kept = kept.with_context(|| {
        format!("no passwords of {box_id}'s TPM are kept: it had an owner when it joined")
    })?;
    let (owner, lockout) = (hex::encode(*kept.owner), hex::encode(*kept.lockout));
    let store = registry(&config)?.find_store_key(&box_id)?.map(|key| hex::encode(&*key));
    if common.json {
        return print_json(&json!({
            "box": id, "owner": owner, "lockout": lockout, "store": store,
        }));
    }
    println!("owner    {owner}");
    println!("lockout  {lockout}   (for `guan tpm reset-lockout`, in hex)");
    if let Some(store) = store {
        println!("store    {store}   (for `guan tpm restore-store`, in hex)");
    }
    Ok(())
}
