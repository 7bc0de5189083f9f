//! Bundles that somebody made to be believed: whatever they hold, the verdict says what was checked.

use super::golden::{check, golden, pack, seal, text, unpack, verify};
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

/// What a name or a text of the bundle would write on a terminal below the findings.
const FALSE_VERDICT: &str = "x\nholds: every entry is in the log that these keys signed\u{1b}[8m";

/// As many verdicts that it holds, and nothing that a terminal obeys.
fn is_plain(text: &str, verdicts: usize) -> bool {
    text.lines().filter(|line| line.starts_with("holds:")).count() == verdicts
        && text.chars().all(|one| one == '\n' || !one.is_control() && one != '\u{202e}')
}

#[test]
fn names_cannot_speak_for_the_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let (tar, unpacked) = (folder.path().join("b.tar"), folder.path().join("b"));
    for name in [FALSE_VERDICT, "a b", "\u{9b}8m", "\u{202e}x"] {
        let mut files = golden();
        files.insert(name.to_owned(), b"x".to_vec());
        pack(&tar, &files);
        unpack(&unpacked, &files);
        for bundle in [&tar, &unpacked] {
            let (status, said) = verify(&[&text(bundle)]);
            assert_eq!(status, Some(2), "{said}");
            assert!(is_plain(&said, 0) && said.contains("is no name for a file"), "{said:?}");
            let (status, said) = verify(&[&text(bundle), "--json"]);
            assert!(status == Some(2) && is_plain(&said, 0) && said.is_ascii(), "{said:?}");
        }
        std::fs::remove_dir_all(&unpacked).unwrap();
    }
}

#[test]
fn texts_cannot_speak_for_the_verdict() {
    let check = |status: i32, change: &dyn Fn(&mut Files)| {
        let folder = tempfile::tempdir().unwrap();
        let mut files = golden();
        change(&mut files);
        unpack(folder.path(), &files);
        for form in [&[][..], &["--json"]] {
            let (found, said) = verify(&[&[&*text(folder.path())], form].concat());
            assert_eq!(found, Some(status), "{said}");
            let verdicts = usize::from(status == 0 && form.is_empty());
            assert!(is_plain(&said, verdicts), "{said:?}");
        }
    };
    let edit = |files: &mut Files, name: &str, from: &str, to: &str| {
        let before = String::from_utf8(files[name].clone()).unwrap();
        assert!(before.contains(from), "{name}");
        files.insert(name.to_owned(), before.replacen(from, to, 1).into_bytes());
    };
    let quoted = serde_json::to_string(FALSE_VERDICT).unwrap();
    check(0, &|files| {
        edit(files, "custody.json", "\"auditor\"", &quoted);
        seal(files);
    });
    // In the manifest, in the name of a witness, and in the origin of the head.
    check(1, &|files| edit(files, "manifest.sha256", "README", "\u{1b}[8m\u{9b}README"));
    check(0, &|files| {
        edit(files, "policy", "witness w0", "witness w\u{9b}8m\u{202e}");
        edit(files, "policy", "quorum w0", "quorum w\u{9b}8m\u{202e}");
        seal(files);
    });
    check(1, &|files| edit(files, "checkpoint", "guan/box-7", "guan/box-7\u{9b}8m"));
    check(1, &|files| edit(files, "anchors/3.head", "guan/box-7", "guan/\u{202e}box-7"));
}
