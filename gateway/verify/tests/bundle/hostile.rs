//! Bundles that somebody made to be believed: whatever they hold, the verdict says what was checked.

use super::golden::{check, golden, seal, text, unpack, verify};
use guan_evidence::dossier::Files;
use guan_evidence::{CosignatureKey, VerifierKey};

/// The golden bundle with a change and a manifest that fits it, unpacked.
fn changed(change: impl FnOnce(&mut Files)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut files = golden();
    change(&mut files);
    seal(&mut files);
    unpack(folder.path(), &files);
    folder
}

fn policy_of(files: &Files) -> String {
    String::from_utf8(files["policy"].clone()).unwrap()
}

/// The key that signed stands behind a tab, beside one that an auditor knows.
#[test]
fn keys_are_printed_however_they_are_written() {
    let policy = policy_of(&golden());
    let signer = policy.lines().find_map(|line| line.strip_prefix("log ")).unwrap().to_owned();
    let witness = policy.lines().find_map(|line| line.strip_prefix("witness w0 ")).unwrap();
    let other = CosignatureKey::parse(witness).unwrap().key_bytes();
    let other = VerifierKey::new("guan/box-7", other).unwrap().to_string();
    let bundle = changed(|files| {
        let hidden = policy.replace("log ", &format!("log {other}\n \tlog\t"));
        files.insert("policy".to_owned(), hidden.into_bytes());
    });
    let path = text(bundle.path());
    check(&[&path], 0, &[&format!("signed      by {signer}\n"), &format!("  log {other}\n")]);
    check(&[&path], 0, &[&format!("  log {signer}\n"), &format!("  witness w0 {witness}\n")]);
    let (_, json) = verify(&[&path, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["signed"], serde_json::json!([signer]));
    let keys = [format!("log {other}"), format!("log {signer}"), format!("witness w0 {witness}")];
    assert_eq!(json["keys"], serde_json::json!(keys));
}

/// What no signature covers may be another one than was collected, and nobody reads it as proven.
#[test]
fn what_nobody_signed_is_checked_or_told() {
    let refused = |name: &str, bytes: &[u8], part: &str| {
        let bundle = changed(|files| drop(files.insert(name.to_owned(), bytes.to_vec())));
        check(&[&text(bundle.path())], 1, &["FINDING", part, "DOES NOT HOLD"]);
    };
    refused("entries/2.json", b"{\"contract\":\"FORGED\"}\n", "entries/2.json does not say");
    refused("anchors/5.head", b"guan/box-7\n999\nAAAA\n", "entry 5");
    refused("anchors/9.head", b"guan/box-7\n999\nAAAA\n", "anchors/9.head belongs to nothing");
    refused("invoice.pdf", b"", "invoice.pdf is no file of a bundle");
    let bare = changed(|files| files.retain(|name, _| !name.contains('/')));
    check(&[&text(bare.path())], 1, &["no entry", "DOES NOT HOLD"]);
    let told = changed(|files| drop(files.insert("README".to_owned(), b"$ rm -rf ~".to_vec())));
    let parts = ["do not run its commands", "nobody vouches for it", "collected by auditor at"];
    check(&[&text(told.path())], 0, &parts);
}
