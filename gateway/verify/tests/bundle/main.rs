//! A golden bundle, given to the program and to tools that its authors did not write, by the very
//! commands that its README tells.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod golden;
mod hostile;

use golden::{check, golden, golden_file, pack, text, unpack};
use std::fs;
use std::path::Path;
use std::process::Command;

/// As bundles of today have it.
const README: &str = include_str!("../../../evidence/src/dossier/readme.txt");
const ANCHOR: u64 = 3;
const CHAIN: u64 = 4;

#[test]
fn a_verdict_says_whom_it_believed() {
    let folder = tempfile::tempdir().unwrap();
    let (tar, unpacked) = (folder.path().join("b.tar"), folder.path().join("b"));
    pack(&tar, &golden());
    unpack(&unpacked, &golden());
    let own =
        ["the keys that the bundle itself names", "the key of the TPM that the bundle itself"];
    for bundle in [&tar, &unpacked] {
        check(&[&text(bundle)], 0, &own);
        check(&[&text(bundle)], 0, &["1 quotes of the TPM, 1 of its digest", "there by 2027"]);
    }
    // A policy from elsewhere says nothing of the TPM.
    let policy = text(&unpacked.join("policy"));
    check(&[&text(&tar), "--policy", &policy], 0, &own[1..]);
    let ak = text(&unpacked.join("ak.pem"));
    let both = ["--policy", &policy, "--ak", &ak, "--json"];
    let expect = ["\"trust\":\"policy\"", "\"trust\":\"ak\"", "\"not_after_s\":1800000000"];
    check(&[&[text(&tar).as_str()][..], &both].concat(), 0, &expect);
    let digests = [
        "\"spki_sha256\":\"eb9e1b741d490f9502018a40aa828cd1c4c81f21f7efc3cea2d61b97775b1e7f\"",
        "\"point_sha256\":\"",
    ];
    check(&[&text(&tar), "--json"], 0, &digests);
    check(&[&text(&tar), "--ak", &policy], 2, &["holds no public key"]);
    fs::write(unpacked.join("entries/2.json"), "{}").unwrap();
    check(&[&text(&unpacked)], 1, &["DOES NOT HOLD", "entries/2.json"]);
}

/// What a hostile tar file claims costs no memory: it is refused by its header.
#[test]
fn tar_files_are_bounded_before_they_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let tar = folder.path().join("b.tar");
    let write = |kind: tar::EntryType, size: u64| {
        let mut header = tar::Header::new_gnu();
        header.set_path("policy").unwrap();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_cksum();
        fs::write(&tar, header.as_bytes()).unwrap();
        // Sparse: as long as it claims, and no disk behind it.
        fs::File::options().write(true).open(&tar).unwrap().set_len(512 + size + 1024).unwrap();
    };
    for size in [(1 << 20) + 1, 8 << 30] {
        write(tar::EntryType::Regular, size);
        // Nothing behind the header: whoever read first would say that it ends early.
        fs::File::options().write(true).open(&tar).unwrap().set_len(512).unwrap();
        check(&[&text(&tar)], 2, &[&format!("policy has {size} bytes")]);
    }
    for kind in [tar::EntryType::GNULongName, tar::EntryType::XHeader, tar::EntryType::Symlink] {
        write(kind, 8 << 30);
        check(&[&text(&tar)], 2, &["no plain file"]);
    }
}

/// The commands in the README, each as a whole: what follows a `$ `, to the next one or an empty line.
fn commands(readme: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut is_open = false;
    for line in readme.lines() {
        if let Some(first) = line.strip_prefix("     $ ") {
            commands.push(format!("{first}\n"));
            is_open = true;
        } else if line.trim().is_empty() {
            is_open = false;
        } else if is_open {
            let last = commands.last_mut().unwrap();
            *last += line.strip_prefix("       ").unwrap();
            last.push('\n');
        }
    }
    commands
}

fn is_installed(tool: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output().unwrap();
    found.status.success()
}

/// Runs the commands; the first that fails.
fn run(folder: &Path, index: u64) -> Option<String> {
    let scratch = folder.join("..").display().to_string();
    let commands = commands(README);
    assert_eq!(commands.len(), 13, "{commands:#?}");
    // The golden bundle names nobody.
    let is_there =
        |command: &String| !command.contains("disclosures/") || folder.join("disclosures").exists();
    commands.into_iter().filter(is_there).find(|command| {
        let tool = command.split_whitespace().next().unwrap();
        if ["openssl", "python3", "tpm2_checkquote"].contains(&tool) && !is_installed(tool) {
            println!("SKIP: {tool} is not installed");
            return false;
        }
        let command = command.replace("/tmp/", &format!("{scratch}/"));
        let script = format!("N={index}; A={ANCHOR}; C={CHAIN}\n{command}");
        let output =
            Command::new("sh").args(["-ec", &script]).current_dir(folder).output().unwrap();
        println!("{}", String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
        !output.status.success()
    })
}

/// The file of who acted opens what the entry commits to, with public tools.
#[test]
fn the_readme_opens_a_disclosure() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("disclosures")).unwrap();
    fs::write(folder.path().join("disclosures/2.opening"), [&[7; 32][..], b"li"].concat()).unwrap();
    let about = commands(README).into_iter().filter(|command| command.contains("disclosures/"));
    let said = about.map(|command| {
        let script = format!("N=2\n{command}");
        let mut shell = Command::new("sh");
        let output = shell.args(["-ec", &script]).current_dir(folder.path()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    });
    let opening = guan_evidence::Opening::decode(&[&[7; 32][..], b"li"].concat()).unwrap();
    assert_eq!(
        said.collect::<Vec<_>>(),
        [format!("{}  -\n", opening.commitment()), "li".to_owned()]
    );
}

#[test]
fn every_command_of_the_readme_works_and_can_refuse() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("b");
    unpack(&bundle, &golden());
    for index in 1..6 {
        assert_eq!(run(&bundle, index), None);
    }
    let seal = "rm manifest.sha256; find . -type f ! -name manifest.sha256 -printf '%P\\n' \
        | xargs sha256sum > ../m; mv ../m manifest.sha256";
    let refused_at = |name: &str, at: Option<usize>, tool: &str, part: &str| {
        let path = bundle.join(name);
        let before = fs::read(&path).unwrap();
        let mut other = before.clone();
        let at = at.unwrap_or(other.len() / 2);
        other[at] = if other[at] == b'7' { b'8' } else { b'7' };
        fs::write(&path, other).unwrap();
        assert!(run(&bundle, 2).unwrap().starts_with("sha256sum"), "{name} without a new manifest");
        let sealed = Command::new("sh").args(["-ec", seal]).current_dir(&bundle).status();
        assert!(sealed.unwrap().success());
        if is_installed(tool) {
            assert!(run(&bundle, 2).is_some_and(|command| command.contains(part)), "{name}");
        }
        fs::write(&path, before).unwrap();
        fs::write(bundle.join("manifest.sha256"), golden_file("manifest.sha256")).unwrap();
    };
    let refused = |name: &str, tool: &str, part: &str| refused_at(name, None, tool, part);
    refused("entries/2.cbor", "python3", "python3");
    refused("proofs/2.tlog-proof", "python3", "python3");
    refused("checkpoint", "openssl", "openssl pkeyutl");
    for part in ["msg", "sig", "qualifying"] {
        refused(&format!("anchors/3.{part}"), "tpm2_checkquote", "tpm2_checkquote");
    }
    // In the value of the third register; much of the file is padding.
    refused_at("anchors/3.pcrs", Some(274), "tpm2_checkquote", "tpm2_checkquote");
    refused("anchors/3.head", "sha256sum", "anchors/$A.head");
    for part in ["msg", "der"] {
        refused(&format!("chain/4.{part}"), "openssl", "openssl dgst");
    }
    refused("chain/4.head", "sha256sum", "chain/$C.head");
}
