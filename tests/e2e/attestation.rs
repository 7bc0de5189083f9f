//! A box with a TPM: joins, is appraised, delivers; and everything that must not pass for one.

use super::{DATASET, TOPIC, payload};
use crate::rig::{Rig, mosquitto_pub, wait_for};
use guan_demo::swtpm::Swtpm;
use std::path::Path;
use std::process::Command;

/// Publishes one message; `false` without mosquitto.
fn publish(rig: &Rig, number: u32) -> bool {
    let is_there = mosquitto_pub(rig.port(), &["-q", "1", "-t", TOPIC, "-m", &payload(number)]);
    if !is_there {
        println!("SKIP: mosquitto_pub is not installed");
    }
    is_there
}

fn link_error(rig: &Rig) -> String {
    rig.status()["link"]["last_error"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_box_joins_is_appraised_and_delivers() {
    let Some(mut rig) = Rig::with_tpm() else { return };
    rig.stage.join().unwrap();
    rig.start_guan();
    if !publish(&rig, 1) {
        return;
    }
    rig.wait_for_rows(DATASET, 1);
    assert_eq!(rig.status()["tier"], "emulated");
    let boxes = rig.stage.space_json(&["box", "list"]).unwrap();
    assert_eq!(boxes[0]["enrolment"]["tpm"]["last"]["outcome"], "allow", "{boxes}");
    check_with_tpm2_tools(&rig.stage.folder.join("box/state/attestation"));
    rig.check_log();
}

/// The quote that is left behind passes for others' tools, and with another nonce it does not.
fn check_with_tpm2_tools(folder: &Path) {
    let file = |name: &str| folder.join(name).display().to_string();
    let qualifying = std::fs::read_to_string(file("quote.qualifying")).unwrap();
    let check = |qualifying: &str| {
        let (key, message, signature) = (file("ak.pem"), file("quote.msg"), file("quote.sig"));
        let output = Command::new("tpm2_checkquote")
            .args(["-u", &key, "-m", &message, "-s", &signature, "-g", "sha256", "-q", qualifying])
            .output();
        output.ok().map(|output| output.status.success())
    };
    let Some(accepted) = check(&qualifying) else {
        return println!("SKIP: tpm2-tools are not installed");
    };
    assert!(accepted, "the quote is good");
    let first = if qualifying.starts_with('0') { "1" } else { "0" };
    assert_eq!(check(&format!("{first}{}", &qualifying[1..])), Some(false), "another nonce");
}

#[test]
fn tokens_work_once_for_their_box_and_their_space() {
    let Some(rig) = Rig::with_tpm() else { return };
    let refused = |token: &str, part: &str| {
        let text = rig.stage.join_with(token).unwrap_err().to_string();
        assert!(text.contains(part), "{part}: {text}");
    };
    let token = rig.stage.token().unwrap();
    rig.stage.join_with(&token).unwrap();
    refused(&token, "was used");
    let other = rig.stage.space_json(&["token", "new", "--box", "box-2"]).unwrap();
    refused(other["token"].as_str().unwrap(), "for box box-2");
    refused(&token[..token.len() - 1], "not whole");
    // Another space's token: the digest of the authority is not that of this one.
    let foreign = format!("{}{}", &token[..token.len() - 4], "0000");
    refused(&foreign, "the token is of this space");
    let ek = rig.stage.guan_json(&["identity", "show"]).unwrap()["endorsement"].to_string();
    let listed = ["token", "new", "--box", "demo-box", "--tier", "emulated", "--ek"];
    let digest = ek.trim_matches('"');
    let token = rig.stage.space_json(&[&listed[..], &[digest]].concat()).unwrap();
    rig.stage.join_with(token["token"].as_str().unwrap()).unwrap();
    let wrong = "00".repeat(32);
    let token = rig.stage.space_json(&[&listed[..], &[&wrong]].concat()).unwrap();
    refused(token["token"].as_str().unwrap(), "another endorsement key");
}

#[test]
fn a_tpm_of_no_pinned_maker_does_not_join() {
    let Some(mut rig) = Rig::with_tpm() else { return };
    let folder = tempfile::tempdir().unwrap();
    // The same address, another TPM of another maker.
    rig.stage.tpm.as_mut().unwrap().kill().unwrap();
    let port = rig.stage.tpm.as_ref().unwrap().port();
    let (tpm, ca) = (folder.path().join("tpm"), folder.path().join("ca"));
    let _foreign = Swtpm::make_at(&tpm, &ca, port).unwrap();
    let text = rig.stage.join_with(&rig.stage.token().unwrap()).unwrap_err().to_string();
    assert!(text.contains("no pinned maker vouches"), "{text}");
}

#[test]
fn a_cloned_disk_is_worth_nothing_without_its_tpm() {
    let Some(mut rig) = Rig::with_tpm() else { return };
    rig.stage.join().unwrap();
    let folder = tempfile::tempdir().unwrap();
    rig.stage.tpm.as_mut().unwrap().stop().unwrap();
    let port = rig.stage.tpm.as_ref().unwrap().port();
    let (tpm, ca) = (folder.path().join("tpm"), folder.path().join("ca"));
    let _thief = Swtpm::make_at(&tpm, &ca, port).unwrap();
    rig.start_guan();
    wait_for("the link to say why", || link_error(&rig).contains("another TPM"));
    // Collection goes on all the same.
    if publish(&rig, 1) {
        wait_for("the reading in the spool", || rig.status()["queued_batches"] == 1);
    }
}

#[test]
fn a_tpm_that_breaks_costs_the_link_and_not_the_collection() {
    let Some(mut rig) = Rig::with_tpm() else { return };
    rig.stage.join().unwrap();
    rig.stage.tpm.as_mut().unwrap().kill().unwrap();
    rig.start_guan();
    if !publish(&rig, 1) {
        return;
    }
    wait_for("the link to say why", || link_error(&rig).contains("no TPM answers"));
    rig.stage.tpm.as_mut().unwrap().start().unwrap();
    rig.wait_for_rows(DATASET, 1);
}

#[test]
fn a_revoked_box_is_turned_away() {
    let Some(mut rig) = Rig::with_tpm() else { return };
    rig.stage.join().unwrap();
    rig.stage.space_json(&["box", "revoke", "demo-box"]).unwrap();
    rig.start_guan();
    wait_for("the link to say why", || link_error(&rig).contains("revoked"));
}

#[test]
fn a_revocation_reaches_a_live_connection() {
    let Some(mut rig) = Rig::with_tpm() else { return };
    rig.stage.join().unwrap();
    rig.start_guan();
    wait_for("the link", || rig.status()["link"]["state"] == "connected");
    rig.stage.space_json(&["box", "revoke", "demo-box"]).unwrap();
    wait_for("the end of the link", || link_error(&rig).contains("revoked"));
}

/// A box that was cleared joins again with new keys, and its old certificate is worth nothing.
#[test]
fn a_cleared_tpm_joins_again() {
    let Some(mut rig) = Rig::with_tpm() else { return };
    rig.stage.join().unwrap();
    let tcti = rig.stage.tpm.as_ref().unwrap().tcti();
    // Whoever is root on the box cannot: the space keeps the password.
    let refused = Command::new("tpm2_clear").args(["-T", &tcti]).output();
    let Ok(refused) = refused else { return println!("SKIP: tpm2-tools are not installed") };
    assert!(!refused.status.success(), "the TPM was cleared without a password");
    // The firmware can.
    let cleared = Command::new("tpm2_clear").args(["-T", &tcti, "-c", "p"]).output();
    let Ok(cleared) = cleared else { return println!("SKIP: tpm2-tools are not installed") };
    assert!(cleared.status.success(), "{}", String::from_utf8_lossy(&cleared.stderr));
    rig.start_guan();
    wait_for("the link to say why", || link_error(&rig).contains("join the space again"));
    rig.stop_guan();
    rig.stage.join().unwrap();
    rig.start_guan();
    if publish(&rig, 1) {
        rig.wait_for_rows(DATASET, 1);
    }
}
