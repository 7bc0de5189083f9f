//! A box over its years: renewed certificates, demands, faults that are explained, and the way out.

use super::{DATASET, TOPIC, payload};
use crate::rig::{Rig, faketime, mosquitto_pub, wait_for};
use serde_json::Value;
use std::process::Command;

fn joined() -> Option<Rig> {
    let mut rig = Rig::with_tpm()?;
    rig.stage.join().unwrap();
    rig.start_guan();
    wait_for("the link", || rig.status()["link"]["state"] == "connected");
    Some(rig)
}

fn certificate(rig: &Rig) -> Value {
    rig.stage.guan_json(&["cert", "show"]).unwrap()["current"].clone()
}

fn enrolment(rig: &Rig) -> Value {
    rig.stage.space_json(&["box", "show", "demo-box"]).unwrap()["enrolment"].clone()
}

/// Sends one reading after `before` others have arrived, when there is something to send with.
fn check_delivery(rig: &Rig, before: u64) -> bool {
    let number = u32::try_from(before).unwrap() + 1;
    if !mosquitto_pub(rig.port(), &["-q", "1", "-t", TOPIC, "-m", &payload(number)]) {
        println!("SKIP: mosquitto_pub is not installed");
        return false;
    }
    rig.wait_for_rows(DATASET, before + 1);
    true
}

#[test]
fn a_certificate_is_rotated_in_service_and_the_old_one_ends() {
    let Some(mut rig) = joined() else { return };
    let before = certificate(&rig);
    assert_eq!((&before["slot"], &before["is_due"]), (&"TLS key A".into(), &false.into()));
    // Too young to be renewed; nothing happens.
    assert_eq!(rig.stage.guan_json(&["cert", "renew"]).unwrap()["renewed"], false);
    let rotated = rig.stage.guan_json(&["cert", "rotate"]).unwrap();
    assert_eq!(rotated["current"]["slot"], "TLS key B");
    assert_ne!(rotated["current"]["fingerprint"], before["fingerprint"]);
    wait_for("the space to know it", || {
        let enrolment = enrolment(&rig);
        enrolment["fingerprint"] == rotated["current"]["fingerprint"]
            && enrolment["tpm"]["next"].is_null()
    });
    assert!(!rig.stage.folder.join("box/identity/tpm/tls-a.key").exists(), "the old key is gone");
    check_delivery(&rig, 0);
    // Both ends start anew with what they have, and the next one goes back to slot A.
    rig.stop_guan();
    rig.start_guan();
    wait_for("the link", || rig.status()["link"]["state"] == "connected");
    let again = rig.stage.guan_json(&["cert", "rotate"]).unwrap();
    assert_eq!(again["current"]["slot"], "TLS key A");
    check_delivery(&rig, 1);
}

/// The certificate lives 30 days; a box whose clock says that 21 have gone renews by itself.
#[test]
fn a_certificate_is_renewed_at_two_thirds_of_its_life() {
    let Some(library) = faketime() else { return println!("SKIP: libfaketime is not installed") };
    let Some(mut rig) = Rig::with_tpm() else { return };
    rig.stage.join().unwrap();
    let before = certificate(&rig);
    rig.stage.guan_environment = vec![
        ("LD_PRELOAD".to_owned(), library.display().to_string()),
        ("FAKETIME".to_owned(), "+21d".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC".to_owned(), "1".to_owned()),
    ];
    rig.start_guan();
    wait_for("another certificate", || certificate(&rig)["fingerprint"] != before["fingerprint"]);
}

/// The space finds the certificate expired; the box goes on collecting, and says what to do.
#[test]
fn an_expired_certificate_costs_the_link_and_not_the_collection() {
    let Some(library) = faketime() else { return println!("SKIP: libfaketime is not installed") };
    let Some(mut rig) = Rig::with_tpm() else { return };
    rig.stage.join().unwrap();
    rig.stop_space();
    rig.stage.space_environment = vec![
        ("LD_PRELOAD".to_owned(), library.display().to_string()),
        ("FAKETIME".to_owned(), "+31d".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC".to_owned(), "1".to_owned()),
    ];
    rig.start_space();
    rig.start_guan();
    wait_for("the link to say why", || {
        let status = rig.status();
        status["link"]["last_error"].as_str().is_some_and(|error| error.contains("xpired"))
    });
    if mosquitto_pub(rig.port(), &["-q", "1", "-t", TOPIC, "-m", &payload(1)]) {
        wait_for("the reading in the spool", || rig.status()["queued_batches"] == 1);
    }
}

#[test]
fn a_box_proves_itself_on_demand() {
    let Some(rig) = joined() else { return };
    let verdict = || {
        let path = rig.stage.folder.join("box/state/attestation/verdict.json");
        std::fs::read_to_string(path).unwrap_or_default()
    };
    let first = verdict();
    assert!(first.contains("\"allow\""), "{first}");
    rig.stage.space_json(&["box", "attest", "demo-box"]).unwrap();
    wait_for("another verdict", || verdict() != first);
    assert_eq!(enrolment(&rig)["demand"], false);
    rig.stage.space_json(&["box", "approve-firmware", "demo-box"]).unwrap();
}

#[test]
fn a_box_is_decommissioned_with_a_confirmation_of_its_tpm() {
    let Some(mut rig) = joined() else { return };
    let has_sent = check_delivery(&rig, 0);
    rig.stage.space_json(&["box", "decommission", "demo-box"]).unwrap();
    let marker = rig.stage.folder.join("box/state/decommissioned");
    wait_for("the box to go", || marker.exists());
    rig.stop_guan();
    assert_eq!(std::fs::read_to_string(&marker).unwrap(), "the TPM was cleared\n");
    let gone = enrolment(&rig);
    assert_eq!(gone["revoked"], true);
    check_confirmation(&rig, &gone["retirement"]["confirmed"]);
    for file in ["ak.key", "tls-a.key", "tls-b.key"] {
        assert!(!rig.stage.folder.join("box/identity/tpm").join(file).exists(), "{file}");
    }
    let (code, report) = rig.stage.guan_check().unwrap();
    assert!(code == 1 && report.to_string().contains("out of service"), "{report}");
    let fault = rig.stage.start_guan().err().unwrap().to_string();
    assert!(fault.contains("ended at once"), "{fault}");
    // A new token, and a new life with the same log and the same spool.
    rig.stage.join().unwrap();
    rig.start_guan();
    check_delivery(&rig, u64::from(has_sent));
}

/// The last quote of the box passes for others' tools: bound to the session and to the end of the log.
fn check_confirmation(rig: &Rig, last: &Value) {
    let bytes = |name: &str| hex::decode(last[name].as_str().unwrap()).unwrap();
    let size = last["log_size"].as_u64().unwrap().to_be_bytes();
    let parts: [&[u8]; 4] = [b"guan-retire-1", &bytes("exporter"), &size, &bytes("log_root")];
    let bound = guan_model::Digest::of_parts(&parts).to_string();
    let folder = rig.stage.folder.join("confirmation");
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str| folder.join(name).display().to_string();
    std::fs::write(file("quote"), bytes("quote")).unwrap();
    std::fs::write(file("signature"), bytes("quote_signature")).unwrap();
    let ak = rig.stage.folder.join("box/state/attestation/ak.pem").display().to_string();
    let checked = Command::new("tpm2_checkquote")
        .args(["-u", &ak, "-m", &file("quote"), "-s", &file("signature"), "-g", "sha256"])
        .args(["-q", &bound])
        .output();
    let Ok(checked) = checked else { return println!("SKIP: tpm2-tools are not installed") };
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn check_explains_each_fault_with_a_cure() {
    let Some(mut rig) = Rig::with_tpm() else { return };
    let check = |rig: &Rig, code: i32, what: &str, part: &str| {
        let (found, report) = rig.stage.guan_check().unwrap();
        let lines = report["lines"].as_array().unwrap();
        let line = lines.iter().find(|line| line["what"] == what).unwrap_or(&Value::Null);
        let text = format!("{} {}", line["text"], line["cure"]);
        assert!(text.contains(part), "{what}: {text}");
        assert_eq!(found, code, "{report}");
        if line["grade"] != "good" {
            assert!(line["cure"].as_str().is_some_and(|cure| !cure.is_empty()), "{line}");
        }
    };
    check(&rig, 1, "certificate", "guan join");
    check(&rig, 1, "TPM's owner", "no passwords");
    rig.stage.join().unwrap();
    check(&rig, 0, "attestation", "in this TPM");
    check(&rig, 0, "gateway", "guan run");
    rig.start_guan();
    wait_for("the link", || rig.status()["link"]["state"] == "connected");
    check(&rig, 0, "link", "connected");
    rig.stop_guan();
    let tcti = rig.stage.tpm.as_ref().unwrap().tcti();
    let cleared = Command::new("tpm2_clear").args(["-T", &tcti, "-c", "p"]).output();
    if cleared.is_ok_and(|cleared| cleared.status.success()) {
        check(&rig, 1, "attestation", "guan join");
    }
    rig.stage.tpm.as_mut().unwrap().kill().unwrap();
    check(&rig, 3, "TPM", "no TPM answers");
}

/// The TPM answers nothing, for ever: guan keeps what it has, and ends with a status of its own.
#[test]
fn a_tpm_that_hangs_has_guan_started_anew() {
    let Some(mut rig) = joined() else { return };
    rig.stage.tpm.as_ref().unwrap().freeze(true).unwrap();
    rig.stage.space_json(&["box", "attest", "demo-box"]).unwrap();
    let has_sent = mosquitto_pub(rig.port(), &["-q", "1", "-t", TOPIC, "-m", &payload(1)]);
    assert_eq!(rig.wait_for_guan(), Some(4));
    rig.stage.tpm.as_ref().unwrap().freeze(false).unwrap();
    rig.start_guan();
    if has_sent {
        rig.wait_for_rows(DATASET, 1);
    }
}

/// The same box with another TPM of the same maker: only for an operator who has named it.
#[test]
fn an_exchanged_tpm_is_an_alarm_until_it_is_named() {
    let Some(mut rig) = Rig::with_tpm() else { return };
    rig.stage.join().unwrap();
    rig.stage.tpm.as_mut().unwrap().stop().unwrap();
    let port = rig.stage.tpm.as_ref().unwrap().port();
    let (other, ca) = (rig.stage.folder.join("other-tpm"), rig.stage.folder.join("tpm-ca"));
    let _other = guan_demo::swtpm::Swtpm::make_at(&other, &ca, port).unwrap();
    let fault = rig.stage.join_with(&rig.stage.token().unwrap()).unwrap_err().to_string();
    assert!(fault.contains("known with another TPM"), "{fault}");
    wait_for("the alarm", || {
        let status = rig.stage.space_json(&["status"]).unwrap_or_default();
        status["alarms"].to_string().contains("known with another TPM")
    });
    let shown = rig.stage.guan_json(&["identity", "show"]).unwrap();
    let digest = shown["endorsement"].as_str().unwrap();
    let named = ["token", "new", "--box", "demo-box", "--tier", "emulated", "--ek", digest];
    let token = rig.stage.space_json(&named).unwrap();
    rig.stage.join_with(token["token"].as_str().unwrap()).unwrap();
}
