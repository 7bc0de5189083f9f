//! The golden bundle as files, and the program that judges it.

use guan_evidence::dossier::Files;
use guan_model::Digest;
use std::fs;
use std::path::Path;
use std::process::Command;

/// `name hex`, one file a line.
const GOLDEN: &str = include_str!("../../../evidence/tests/golden/bundle-v1.hex");

fn hex(text: &str) -> Vec<u8> {
    let digits = (0..text.len()).step_by(2);
    digits.map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

pub(crate) fn golden() -> Files {
    let lines = GOLDEN.lines().map(|line| line.split_once(' ').unwrap());
    lines.map(|(name, bytes)| (name.to_owned(), hex(bytes))).collect()
}

pub(crate) fn golden_file(name: &str) -> Vec<u8> {
    golden().remove(name).unwrap()
}

/// Makes the manifest anew, as whoever changes a bundle can.
pub(crate) fn seal(files: &mut Files) {
    files.remove("manifest.sha256");
    let lines = files.iter().map(|(name, bytes)| format!("{}  {name}\n", Digest::of(bytes)));
    let manifest: String = lines.collect();
    files.insert("manifest.sha256".to_owned(), manifest.into_bytes());
}

pub(crate) fn unpack(folder: &Path, files: &Files) {
    for (name, bytes) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

pub(crate) fn pack(tar: &Path, files: &Files) {
    let mut archive = tar::Builder::new(fs::File::create(tar).unwrap());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    archive.finish().unwrap();
}

pub(crate) fn verify(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_guan-verify")).args(arguments).output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code(), text)
}

pub(crate) fn check(arguments: &[&str], status: i32, parts: &[&str]) {
    let (found, text) = verify(arguments);
    assert_eq!(found, Some(status), "{text}");
    parts.iter().for_each(|part| assert!(text.contains(part), "{part} is not in {text}"));
}

pub(crate) fn text(path: &Path) -> String {
    path.display().to_string()
}
