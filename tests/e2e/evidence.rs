//! The log beside those who vouch for it: the TPM, the space's witness and mirror; and data traced through
//! both logs.

use super::{DATASET, TOPIC, payload};
use crate::rig::programs;
use crate::rig::{Rig, mosquitto_pub, often, wait_for};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::process::Command;

/// What the box says of who vouches for its log.
fn evidence(rig: &Rig) -> Value {
    rig.status()["evidence"].clone()
}

fn size(value: &Value) -> u64 {
    value.as_u64().or_else(|| value[0].as_u64()).unwrap_or(0)
}

#[test]
fn a_log_is_anchored_cosigned_and_mirrored() {
    let Some(mut rig) = Rig::with_tpm_and(often) else { return };
    rig.stage.join().unwrap();
    rig.start_guan();
    for number in 1..=3 {
        if !mosquitto_pub(rig.port(), &["-q", "1", "-t", TOPIC, "-m", &payload(number)]) {
            return println!("SKIP: mosquitto_pub is not installed");
        }
    }
    rig.wait_for_rows(DATASET, 3);
    // The batches are in the mirror, with what the box wrote about the first heads.
    wait_for("everybody to vouch", || {
        let found = evidence(&rig);
        let batches = rig.stage.guan_json(&["log", "show", "--kind", "batch"]).unwrap();
        let last = batches["entries"].as_array().and_then(|all| all.last()?["seq"].as_u64());
        if size(&found["mirrored"]) <= last.unwrap_or(u64::MAX) {
            return false;
        }
        ["anchored", "chained", "cosigned", "mirrored"].iter().all(|who| size(&found[*who]) > 0)
    });
    assert_eq!(evidence(&rig)["suspect"], Value::Null);
    let entries = rig.stage.guan_json(&["log", "show", "--last", "500"]).unwrap();
    let kinds: Vec<&str> = entries["entries"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one["kind"].as_str())
        .collect();
    for kind in ["tpm.start", "anchor", "chain", "witness.receipt", "data.forwarded"] {
        assert!(kinds.contains(&kind), "{kind} is not among {kinds:?}");
    }
    rig.stop_guan();
    rig.check_log();
    let report = rig.stage.guan_json(&["log", "verify"]).unwrap();
    for who in ["anchors", "chained", "cosigned"] {
        assert!(report["vouched"][who].as_u64().unwrap() > 0, "{report}");
    }
    check_bundle(&rig);
    check_tiles(&rig);
    // Its last head is signed when it stops.
    rig.stop_space();
    check_trace(&rig);
}

fn path(rig: &Rig, name: &str) -> String {
    rig.stage.folder.join(name).display().to_string()
}

/// Runs a program; `None` when it is not installed.
fn run(program: &str, arguments: &[&str]) -> Option<(bool, String)> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    Some((output.status.success(), text))
}

/// Public tools take what the box hands out, and refuse it when it was changed.
fn check_bundle(rig: &Rig) {
    let tar = path(rig, "bundle.tar");
    let made = rig.stage.guan_json(&["log", "export", "--out", &tar, "--by", "a test"]).unwrap();
    assert_eq!(made["receipts"], true, "{made}");
    let verify = programs().join("guan-verify").display().to_string();
    let (holds, text) = run(&verify, &[&tar]).unwrap();
    assert!(holds && text.contains("quotes of the TPM"), "{text}");
    let cosigned = path(rig, "cosigned.tar");
    rig.stage.guan_json(&["log", "export", "--out", &cosigned, "--cosigned"]).unwrap();
    let (holds, text) = run(&verify, &[&cosigned]).unwrap();
    assert!(holds && text.contains("cosigned    by"), "{text}");
    let folder = path(rig, "bundle");
    std::fs::create_dir(&folder).unwrap();
    assert!(run("tar", &["-xf", &tar, "-C", &folder]).unwrap().0);
    let in_folder = |name: &str| format!("{folder}/{name}");
    let sums = Command::new("sha256sum")
        .args(["-c", "--quiet", "manifest.sha256"])
        .current_dir(&folder)
        .status();
    assert!(sums.unwrap().success());
    let anchors = std::fs::read_dir(in_folder("anchors")).unwrap();
    let names = anchors.map(|one| one.unwrap().file_name().into_string().unwrap());
    let anchor =
        names.into_iter().find_map(|name| name.strip_suffix(".msg").map(str::to_owned)).unwrap();
    let qualifying =
        std::fs::read_to_string(in_folder(&format!("anchors/{anchor}.qualifying"))).unwrap();
    let quote = |qualifying: &str| {
        let file = |ending: &str| in_folder(&format!("anchors/{anchor}.{ending}"));
        let (key, message, signature) = (in_folder("ak.pem"), file("msg"), file("sig"));
        let (registers, hash) = (file("pcrs"), "sha256");
        let arguments = [
            "-u", &key, "-m", &message, "-s", &signature, "-f", &registers, "-g", hash, "-q",
            qualifying,
        ];
        run("tpm2_checkquote", &arguments)
    };
    match quote(&qualifying) {
        Some((holds, text)) => {
            assert!(holds, "{text}");
            let other = format!("{:064x}", 7);
            assert!(!quote(&other).unwrap().0, "another head passes");
        }
        None => println!("SKIP: tpm2-tools are not installed"),
    }
    check_receipt(
        &in_folder("receipts/3.cbor"),
        &in_folder("entries/3.cbor"),
        &in_folder("entries/4.cbor"),
        &folder,
    );
    check_with_openssl(&folder);
    let entry = in_folder("entries/3.cbor");
    let mut bytes = std::fs::read(&entry).unwrap();
    bytes[10] ^= 1;
    std::fs::write(&entry, bytes).unwrap();
    let (holds, text) = run(&verify, &[&folder]).unwrap();
    assert!(!holds && text.contains("entries/3.cbor is not what the manifest lists"), "{text}");
}

/// OpenSSL checks the line of the log in the signed head, and no other text under it.
fn check_with_openssl(folder: &str) {
    let read = |name: &str| std::fs::read_to_string(format!("{folder}/{name}")).unwrap();
    let (policy, checkpoint) = (read("policy"), read("checkpoint"));
    let key = policy.lines().find_map(|line| line.strip_prefix("log ")).unwrap();
    let encoded = key.splitn(3, '+').nth(2).unwrap();
    let line = checkpoint.lines().find(|line| line.starts_with('\u{2014}')).unwrap();
    let key = STANDARD.decode(encoded).unwrap();
    let signature = STANDARD.decode(line.rsplit(' ').next().unwrap()).unwrap();
    let (text, _) = checkpoint.split_once("\n\n").unwrap();
    // SubjectPublicKeyInfo of Ed25519 (RFC 8410) before the 32 bytes.
    let spki = [&[0x30, 0x2A, 0x30, 5, 6, 3, 0x2B, 0x65, 0x70, 3, 0x21, 0][..], &key[1..]].concat();
    let file = |name: &str, bytes: &[u8]| {
        let path = format!("{folder}/../{name}");
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let (key, signature) = (file("log.der", &spki), file("head.sig", &signature[4..]));
    let verify = |text: &str| {
        let text = file("head.txt", text.as_bytes());
        let key = ["-verify", "-pubin", "-inkey", &key, "-keyform", "DER"];
        let rest = ["-rawin", "-in", &text, "-sigfile", &signature];
        run("openssl", &[&["pkeyutl"][..], &key, &rest].concat())
    };
    match verify(&format!("{text}\n")) {
        Some((holds, said)) => {
            assert!(holds, "{said}");
            assert!(!verify(&format!("{text}\n1\n")).unwrap().0, "another head passes");
        }
        None => println!("SKIP: openssl is not installed"),
    }
}

/// scitt-cose, which we did not write, reads the COSE receipt.
fn check_receipt(receipt: &str, leaf: &str, other: &str, folder: &str) {
    let Some(python) = crate::rig::python() else {
        return println!("SKIP: no Python with the packages of the tests; cargo verify makes one");
    };
    let policy = std::fs::read_to_string(format!("{folder}/policy")).unwrap();
    let key = policy.lines().find_map(|line| line.strip_prefix("log ")).unwrap();
    let script = format!("{}/verifiers/receipt.py", env!("CARGO_MANIFEST_DIR"));
    let python = python.display().to_string();
    let (holds, text) = run(&python, &[&script, receipt, leaf, key]).unwrap();
    assert!(holds, "{text}");
    assert!(!run(&python, &[&script, receipt, other, key]).unwrap().0, "another leaf passes");
}

/// Go's sumdb, which we did not write, reads the log as tiles.
fn check_tiles(rig: &Rig) {
    let tiles = path(rig, "tiles");
    rig.stage.guan_json(&["log", "export", "--tiles", &tiles]).unwrap();
    let key = std::fs::read_to_string(format!("{tiles}/log.vkey")).unwrap();
    let (tool, source) =
        (path(rig, "tlog"), format!("{}/verifiers/tlog.go", env!("CARGO_MANIFEST_DIR")));
    let built = Command::new("go")
        .args(["build", "-o", &tool, &source])
        .envs([("GO111MODULE", "off"), ("GOPATH", "/usr/share/gocode")])
        .env("GOCACHE", path(rig, "go-cache"))
        .output();
    let Ok(built) = built else {
        return println!("SKIP: go is not installed; cargo verify does it");
    };
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let (holds, text) = run(&tool, &[&tiles, key.trim()]).unwrap();
    assert!(holds, "{text}");
    let entries = std::fs::read_dir(format!("{tiles}/tile/entries/000.p")).unwrap();
    let entries = entries.into_iter().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&entries).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&entries, bytes).unwrap();
    assert!(!run(&tool, &[&tiles, key.trim()]).unwrap().0, "a changed entry passes");
}

/// From a contract to both logs, and from a reading to its batch.
fn check_trace(rig: &Rig) {
    let boxes = rig.stage.space_json(&["log", "boxes"]).unwrap().to_string();
    assert!(boxes.contains("demo-box"), "{boxes}");
    let batches = rig.stage.guan_json(&["log", "show", "--kind", "batch"]).unwrap();
    let batch = &batches["entries"][0];
    let contract = batch["entry"]["contract"].as_str().unwrap();
    let trace = rig.stage.space_json(&["trace", "--contract", contract]).unwrap().to_string();
    let id = batch["trace_id"].as_str().unwrap();
    assert!(trace.contains(id), "{id} is not in {trace}");
    let digest = batch["entry"]["digest"].as_str().unwrap();
    let trace = rig.stage.space_json(&["trace", "--batch", digest]).unwrap();
    let batch = &trace["batches"][0];
    assert!(batch["box_log"][0]["proof"].is_string(), "{trace:#}");
    assert!(batch["space_log"]["proof"].is_string(), "{trace:#}");
    assert!(batch["witnessed"]["not_after_ms"].is_number(), "{trace:#}");
    let verified = rig.stage.space_json(&["log", "verify"]).unwrap();
    assert_eq!(verified["verified"], true, "{verified}");
}
