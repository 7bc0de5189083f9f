//! An evidence bundle that is damaged file by file, under a manifest that fits: what still holds shows the entries
//! that were logged, and nothing else.

use super::{Dice, mutate};
use guan_evidence::dossier::{Believed, Dossier, Files};
use guan_model::Digest;

/// Each costs some twenty signatures.
const DAMAGES: usize = 10_000;
const GOLDEN: &str = include_str!("../../gateway/evidence/tests/golden/bundle-v1.hex");

fn golden() -> Files {
    let hex = |text: &str| -> Vec<u8> {
        let digits = (0..text.len()).step_by(2);
        digits.map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    };
    let lines = GOLDEN.lines().map(|line| line.split_once(' ').unwrap());
    lines.map(|(name, bytes)| (name.to_owned(), hex(bytes))).collect()
}

/// As whoever changes a bundle can.
fn seal(files: &mut Files) {
    files.remove("manifest.sha256");
    let lines = files.iter().map(|(name, bytes)| format!("{}  {name}\n", Digest::of(bytes)));
    let manifest: String = lines.collect();
    files.insert("manifest.sha256".to_owned(), manifest.into_bytes());
}

fn damage(dice: &mut Dice, files: &mut Files, name: &str) {
    let other = files.keys().nth(dice.below(files.len())).cloned().unwrap();
    match dice.below(8) {
        0 => drop(files.remove(name)),
        1 => drop(files.insert(name.to_owned(), files[&other].clone())),
        2 => {
            let bytes = files.remove(name).unwrap();
            let moved = name.replace(char::is_numeric, &dice.below(12).to_string());
            files.insert(moved, bytes);
        }
        3 => drop(files.insert(name.to_owned(), Vec::new())),
        _ => {
            let corpus = [files[name].clone(), files[&other].clone()];
            let sources = 1 + dice.below(2);
            let bytes = mutate(dice, &corpus[..sources]);
            files.insert(name.to_owned(), bytes);
        }
    }
}

#[test]
fn bundles_that_hold_show_what_was_logged() {
    let golden = golden();
    let names: Vec<&String> = golden.keys().filter(|name| *name != "manifest.sha256").collect();
    let more = std::env::var("GUAN_MUTATIONS").ok().and_then(|text| text.parse().ok());
    let count: usize = more.unwrap_or(DAMAGES);
    let (mut dice, mut held) = (Dice(13), 0);
    for number in 0..count {
        let (mut files, name) = (golden.clone(), names[number % names.len()]);
        damage(&mut dice, &mut files, name);
        seal(&mut files);
        let Ok(dossier) = Dossier::check(&files, Believed::default()) else { continue };
        if !dossier.holds() {
            continue;
        }
        held += 1;
        for (other, bytes) in files.iter().filter(|(name, _)| name.contains('/')) {
            assert_eq!(golden.get(other), Some(bytes), "{other} is another one, after {name}");
        }
        assert!(!dossier.entries.is_empty(), "nothing is shown, after {name}");
    }
    println!("bundle: {count} damages, {held} of them hold");
    assert!(held > 0, "a README may be another one, and a receipt may be missing");
}
