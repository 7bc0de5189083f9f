use super::*;
use crate::Policy;
use crate::checkpoint::tests::TestSigner;
use crate::leaf::tests::{outside_samples, samples};
use crate::tree::{Levels, leaf_hash};
use crate::{append_lines, cosign};
use guan_model::WallTime;

const ORIGIN: &str = "guan/box-7";

fn bundle(entries: std::ops::Range<usize>) -> Files {
    let log = TestSigner::new(ORIGIN, 9);
    let witness = TestSigner::new("space-1/witness", 5);
    let mut leaves = Vec::new();
    let mut levels = Levels::default();
    for (seq, leaf) in samples().into_iter().chain(outside_samples()).enumerate() {
        let bytes = Leaf { seq: seq as u64, ..leaf }.encode();
        levels.append(leaf_hash(&bytes));
        leaves.push((seq as u64, bytes));
    }
    // The sample of an anchor speaks of more leaves than there are.
    leaves.retain(|(_, bytes)| !matches!(Leaf::decode(bytes).unwrap().body, LeafBody::Anchor(_)));
    let root = levels.root_at(levels.size()).unwrap();
    let head = Checkpoint::sign(ORIGIN, levels.size(), &root, &log).unwrap();
    let text = crate::note::Note::parse(&head).unwrap().text().to_owned();
    let line = cosign(&text, WallTime::from_seconds(1_800_000_000), &witness).unwrap();
    let checkpoint = append_lines(&head, &line).unwrap();
    let custody = Custody {
        collected_by: "auditor".to_owned(),
        collected_at: "2026-11-27T19:00:00Z".to_owned(),
        tool: "guan 0.1.0".to_owned(),
    };
    let material = Material {
        log_key: &VerifierKey::of(&log).unwrap(),
        witnesses: &[CosignatureKey::of(&witness).unwrap()],
        attestation_key: None,
        checkpoint: &checkpoint,
        nodes: &levels,
        signer: Some(&log),
        custody: &custody,
    };
    make(&material, &leaves[entries]).unwrap()
}

#[test]
fn a_bundle_holds_and_says_who_vouches() {
    let files = bundle(2..8);
    let dossier = Dossier::check(&files, None).unwrap();
    assert!(dossier.holds(), "{:?}", dossier.findings);
    assert_eq!((dossier.entries.len(), dossier.receipts), (6, 6));
    assert_eq!(dossier.cosigned.len(), 1);
    let readme = std::str::from_utf8(&files["README"]).unwrap();
    for tool in ["sha256sum -c", "tpm2_checkquote", "tlog.CheckRecord", "scitt-cose"] {
        assert!(readme.contains(tool), "{tool}");
    }
}

#[test]
fn every_changed_file_is_told() {
    let files = bundle(3..6);
    for name in files.keys().filter(|name| *name != "manifest.sha256") {
        let mut other = files.clone();
        other.get_mut(name).unwrap()[0] ^= 1;
        let found = Dossier::check(&other, None);
        assert!(!found.is_ok_and(|dossier| dossier.holds()), "{name} was changed");
        let mut other = files.clone();
        other.remove(name);
        let found = Dossier::check(&other, None);
        assert!(!found.is_ok_and(|dossier| dossier.holds()), "{name} was taken out");
    }
    let mut other = files.clone();
    other.insert("entries/1.cbor".to_owned(), vec![1]);
    assert!(!Dossier::check(&other, None).unwrap().holds());
}

/// Whoever makes the manifest anew still cannot make the proofs.
#[test]
fn entries_stand_by_their_proofs_alone() {
    let seal = |files: &mut Files| {
        files.remove("manifest.sha256");
        let lines = files.iter().map(|(name, bytes)| format!("{}  {name}\n", Digest::of(bytes)));
        let manifest: String = lines.collect();
        files.insert("manifest.sha256".to_owned(), manifest.into_bytes());
    };
    let mut files = bundle(3..6);
    seal(&mut files);
    assert!(Dossier::check(&files, None).unwrap().holds(), "the twin");
    let check = |change: &dyn Fn(&mut Files), expect: &dyn Fn(&Finding) -> bool| {
        let mut other = files.clone();
        change(&mut other);
        seal(&mut other);
        let found = Dossier::check(&other, None).unwrap().findings;
        assert!(found.iter().any(expect), "{found:?}");
    };
    let swap = |files: &mut Files| {
        let bytes = files["entries/4.cbor"].clone();
        files.insert("entries/3.cbor".to_owned(), bytes);
    };
    check(&swap, &|one| matches!(one, Finding::Seq { index: 3, seq: 4 }));
    check(&swap, &|one| matches!(one, Finding::Proof { index: 3, .. }));
    check(&swap, &|one| matches!(one, Finding::Receipt { index: 3, .. }));
    let other_proof = |files: &mut Files| {
        let bytes = files["proofs/4.tlog-proof"].clone();
        files.insert("proofs/3.tlog-proof".to_owned(), bytes);
    };
    check(&other_proof, &|one| matches!(one, Finding::Proof { index: 3, .. }));
    check(&|files| drop(files.remove("proofs/3.tlog-proof")), &|one| {
        matches!(one, Finding::NoProof { index: 3 })
    });
}

#[test]
fn whom_to_believe_is_for_the_auditor() {
    let files = bundle(3..6);
    let stranger = TestSigner::new(ORIGIN, 10);
    let policy = Policy::of_logs(&[VerifierKey::of(&stranger).unwrap()]).unwrap();
    let dossier = Dossier::check(&files, Some(&policy)).unwrap();
    assert!(matches!(dossier.findings[0], Finding::Head(_)), "{:?}", dossier.findings);
}

#[test]
fn limits_are_exact() {
    let mut files = bundle(3..4);
    files.insert("large".to_owned(), vec![0; FILE_BYTES_MAX + 1]);
    let fault = Dossier::check(&files, None).unwrap_err();
    assert!(matches!(fault, DossierFault::TooLong { length, .. } if length == FILE_BYTES_MAX + 1));
    let mut files = bundle(3..4);
    files.insert("large".to_owned(), vec![0; FILE_BYTES_MAX]);
    assert!(Dossier::check(&files, None).is_ok());
}
