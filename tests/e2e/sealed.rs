//! The log's key under the TPM's policy: an unknown firmware collects nothing, says why, and is helped by the space.

use super::contracts::{agreement, has_key};
use super::{DATASET, TOPIC, payload};
use crate::rig::{Rig, mosquitto_pub, wait_for};
use guan_model::Digest;
use guan_spool::OsDisk;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Boots an image: PCR 11 of a TPM that starts anew is extended with it. Its value; `None` without tpm2-tools.
fn boot(rig: &mut Rig, image: u8) -> Option<Digest> {
    let tpm = rig.stage.tpm.as_mut().unwrap();
    tpm.stop().unwrap();
    tpm.start().unwrap();
    let digest = Digest([image; 32]);
    let pair = format!("11:sha256={digest}");
    let extended = Command::new("tpm2_pcrextend").args(["-T", &tpm.tcti(), &pair]).status();
    let Ok(extended) = extended else {
        println!("SKIP: tpm2-tools are not installed");
        return None;
    };
    assert!(extended.success());
    Some(Digest::of_parts(&[&[0; 32], &digest.0]))
}

/// The maker's keys, and policies that they sign.
struct Release {
    keys: PathBuf,
}

impl Release {
    fn new(rig: &Rig) -> Self {
        let keys = rig.stage.folder.join("release");
        let made = rig.stage.space(&["release", "keys", "--dir", &keys.display().to_string()]);
        assert!(made.unwrap().contains("attestation.release_keys"));
        let public = keys.join("policy.pub.pem");
        std::fs::copy(public, rig.stage.folder.join("box/policy.pub.pem")).unwrap();
        Self { keys }
    }

    fn policy(&self, rig: &Rig, pcr_11: &Digest, name: &str) -> PathBuf {
        let out = self.keys.join(name);
        let (keys, file) = (self.keys.display().to_string(), out.display().to_string());
        let pcr = format!("11={pcr_11}");
        let arguments = ["release", "policy", "--keys", &keys, "--release", "2026.11"];
        let more = ["--epoch", "1", "--pcr", &pcr, "--out", &file];
        rig.stage.space(&[&arguments[..], &more].concat()).unwrap();
        out
    }
}

/// A box whose store is sealed to its first image. `None` without an emulator or tpm2-tools.
fn sealed_rig() -> Option<(Rig, Release)> {
    let mut rig = Rig::with_tpm_and(|text| {
        let seal = "tier = \"emulated\"\nstore_policies = \"policies\"\n\
                    store_policy_key = \"policy.pub.pem\"";
        text.replace("tier = \"emulated\"", seal)
    })?;
    let first = boot(&mut rig, 1)?;
    let release = Release::new(&rig);
    let policies = rig.stage.folder.join("box/policies");
    std::fs::create_dir_all(&policies).unwrap();
    let policy = release.policy(&rig, &first, "first.json");
    std::fs::copy(policy, policies.join("first.json")).unwrap();
    Some((rig, release))
}

#[test]
fn an_unknown_firmware_is_shut_out_until_the_space_sends_its_policy() {
    let Some((mut rig, release)) = sealed_rig() else { return };
    rig.stage.join().unwrap();
    let log_key = std::fs::read(rig.stage.folder.join("box/identity/log-key.pem")).unwrap();
    assert!(log_key.starts_with(b"GUANSEAL"), "the log's key lies open");
    rig.start_guan();
    let publish = |rig: &Rig, number: u32| {
        mosquitto_pub(rig.port(), &["-q", "1", "-t", TOPIC, "-m", &payload(number)])
    };
    if !publish(&rig, 1) {
        return println!("SKIP: mosquitto_pub is not installed");
    }
    rig.wait_for_rows(DATASET, 1);
    // A new key of the log lies under the same lock, and opens at the next start.
    rig.stage.guan_json(&["log", "rollover"]).unwrap();
    let rolled = std::fs::read(rig.stage.folder.join("box/identity/log-key.pem")).unwrap();
    assert!(rolled.starts_with(b"GUANSEAL") && rolled != log_key, "the new key lies open");
    rig.kill_and_restart_guan();
    rig.stop_guan();
    rig.check_log();

    let second = boot(&mut rig, 2).unwrap();
    rig.begin_guan();
    wait_for("the box to say why", || {
        let alarms = rig.status()["alarms"].to_string();
        alarms.contains("nothing is collected") && alarms.contains("PCR 11 differ")
    });
    wait_for("the link", || rig.status()["link"]["state"] == "connected");
    assert!(std::net::TcpStream::connect(("127.0.0.1", rig.port())).is_err(), "it listens");
    let policy = release.policy(&rig, &second, "second.json").display().to_string();
    rig.stage.space_json(&["box", "send-policy", "demo-box", "--file", &policy]).unwrap();
    wait_for("the listener", || std::net::TcpStream::connect(("127.0.0.1", rig.port())).is_ok());
    publish(&rig, 2);
    rig.wait_for_rows(DATASET, 2);
    rig.stop_guan();
    rig.check_log();
    restore_after_a_clear(&mut rig);
    rig.start_guan();
    publish(&rig, 3);
    rig.wait_for_rows(DATASET, 3);
    rig.stop_guan();
    rig.check_log();
}

/// The TPM was cleared in the firmware's setup: the space has what opens the store, and the log goes on.
fn restore_after_a_clear(rig: &mut Rig) {
    let kept = rig.stage.space_json(&["box", "passwords", "demo-box"]).unwrap();
    let tcti = rig.stage.tpm.as_ref().unwrap().tcti();
    let cleared = Command::new("tpm2_clear").args(["-T", &tcti, "-c", "p"]).output().unwrap();
    assert!(cleared.status.success(), "{cleared:?}");
    let fault = rig.stage.join().unwrap_err().to_string();
    assert!(fault.contains("guan tpm restore-store"), "{fault}");
    let file = rig.stage.folder.join("store-key");
    let restore = |key: &str| {
        std::fs::write(&file, key).unwrap();
        let file = file.display().to_string();
        rig.stage.guan_json(&["tpm", "restore-store", "--key-file", &file])
    };
    let fault = restore(&"00".repeat(32)).unwrap_err().to_string();
    assert!(fault.contains("another key"), "{fault}");
    // Somebody is at the folder of acts, and that keeps nobody from saving the box.
    let acts = OsDisk::open_exclusive(&rig.stage.folder.join("box/state/acts")).unwrap();
    let restored = restore(kept["store"].as_str().unwrap()).unwrap();
    assert_eq!((&restored["restored"], &restored["recorded"]), (&true.into(), &false.into()));
    drop(acts);
    let restored = restore(kept["store"].as_str().unwrap()).unwrap();
    assert_eq!(restored["recorded"], true, "{restored}");
    rig.stage.join().unwrap();
}

/// Whoever brings back a copy of the disk brings back neither a key that was destroyed nor a contract that ended.
#[test]
fn a_copy_of_the_disk_brings_nothing_back() {
    let Some((mut rig, _)) = sealed_rig() else { return };
    rig.stop_space();
    rig.stage.add_parties(&["depot-7", "insurer-1"]).unwrap();
    rig.start_space();
    rig.stage.join().unwrap();
    rig.start_guan();
    rig.stage.issue(&agreement("C-9", 1, |_| {}), &["depot-7", "insurer-1"]).unwrap();
    wait_for("the contract", || rig.status()["contracts"].to_string().contains("C-9 v1"));
    rig.stop_guan();
    let state = rig.stage.folder.join("box/state");
    let image = rig.stage.folder.join("image");
    let copy = |from: &Path, to: &Path| {
        let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
        assert!(done.success());
    };
    copy(&state, &image);

    rig.start_guan();
    assert!(has_key(&rig, "C-9"));
    rig.stage.space_json(&["contract", "revoke", "--box", "demo-box", "C-9"]).unwrap();
    wait_for("the end of the key", || !has_key(&rig, "C-9"));
    rig.stop_guan();

    std::fs::remove_dir_all(&state).unwrap();
    copy(&image, &state);
    assert!(has_key(&rig, "C-9"), "the copy has the key's file");
    assert!(rig.stage.start_guan().is_err(), "the copy's keys open");
    let said = std::fs::read_to_string(rig.stage.folder.join("guan.log")).unwrap();
    assert!(said.contains("brought back from a copy"), "{said}");
    std::fs::remove_file(state.join("keys/contracts")).unwrap();
    rig.start_guan();
    wait_for("the alarm", || rig.status()["alarms"].to_string().contains("set back to a copy"));
}

#[test]
fn reference_values_are_made_by_the_tool_and_taken_by_the_space() {
    let Some(mut rig) = Rig::with_tpm() else { return };
    let release = Release::new(&rig);
    let keys = release.keys.display().to_string();
    let references = rig.stage.folder.join("references");
    std::fs::create_dir_all(&references).unwrap();
    let out = references.join("1.ref").display().to_string();
    let pcr = format!("11={}", Digest([0; 32]));
    let make = |until: &str| {
        let first = ["release", "reference", "--keys", &keys, "--release", "unknown"];
        let more = ["--counter", "1", "--pcr", &pcr, "--until", until, "--out", &out];
        rig.stage.space(&[&first[..], &more].concat())
    };
    assert!(make("tomorrow").unwrap_err().to_string().contains("no time like"));
    make("2099-01-01T00:00:00Z").unwrap();
    let said = rig.stage.space(&["release", "keys", "--dir", &format!("{keys}/again")]).unwrap();
    assert!(said.contains("store_policy_key"));
    let config = rig.stage.folder.join("space/space.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let key = public_key(&release.keys.join("reference.key.pem"));
    let demands = format!(
        "\n[attestation]\nreferences_dir = \"{}\"\nrelease_keys = [\"{key}\"]\n",
        references.display()
    );
    std::fs::write(&config, text + &demands).unwrap();
    rig.stop_space();
    rig.start_space();
    rig.stage.join().unwrap();
    rig.start_guan();
    let found = || {
        let shown = rig.stage.space_json(&["box", "show", "demo-box"]).unwrap();
        shown["enrolment"]["tpm"]["last"].clone()
    };
    wait_for("a verdict", || found()["outcome"] == "allow");
    let findings = found()["findings"].to_string();
    assert!(!findings.contains("no reference values"), "{findings}");
}

fn public_key(path: &std::path::Path) -> String {
    use guan_model::{PublicKey, Signer};
    let key = guan_identity::LogKeyFile::load(path, "release").unwrap();
    let PublicKey::Ed25519(bytes) = key.public_key() else { panic!("Ed25519 was made") };
    hex::encode(bytes)
}
