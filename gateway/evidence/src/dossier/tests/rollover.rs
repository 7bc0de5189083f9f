//! A bundle of a log whose key changed, before an auditor who knows the first key.

use super::*;
use crate::leaf::KeyRollover;
use crate::verify::attacks::rig::SoftTpm;
use crate::verify::{handover_text, rollover_text};

fn signer(number: u8) -> TestSigner {
    TestSigner::new(ORIGIN, number)
}

fn key(number: u8) -> VerifierKey {
    VerifierKey::of(&signer(number)).unwrap()
}

/// Leaf 4 hands over from key 9 to key 10; key `by` signs the head. Entries 2 to 6 are in the bundle.
fn rolled(quote: Option<Statement>, by: u8) -> Files {
    let mut leaves = samples();
    let new = key(10).key_bytes();
    let by_old = signer(9).sign(rollover_text(ORIGIN, 4, &new).as_bytes()).unwrap();
    let by_old = by_old.try_into().unwrap();
    let body = LeafBody::KeyRollover(KeyRollover { key: new, by_old, quote });
    leaves.insert(4, Leaf { body, ..leaves[4].clone() });
    let mut levels = Levels::default();
    let encode = |(seq, leaf): (u64, Leaf)| (seq, Leaf { seq, ..leaf }.encode());
    let leaves: Vec<(u64, Vec<u8>)> = (0..).zip(leaves).map(encode).collect();
    leaves.iter().for_each(|(_, bytes)| levels.append(leaf_hash(bytes)));
    let root = levels.root_at(levels.size()).unwrap();
    let checkpoint = Checkpoint::sign(ORIGIN, levels.size(), &root, &signer(by)).unwrap();
    let custody = Custody {
        collected_by: "auditor".to_owned(),
        collected_at: "2026-11-27T19:00:00Z".to_owned(),
        tool: "guan 0.1.0".to_owned(),
    };
    let material = Material {
        log_key: &key(by),
        witnesses: &[],
        attestation_key: None,
        checkpoint: &checkpoint,
        nodes: &levels,
        signer: Some(&signer(by)),
        custody: &custody,
        stamps: &[],
        openings: &BTreeMap::new(),
    };
    make(&material, &leaves[2..7]).unwrap()
}

fn check(files: &Files, policy: &Policy, tpm: Option<&PublicKey>) -> Dossier {
    let believed = Believed { policy: Some(policy), attestation_key: tpm, ..Believed::default() };
    Dossier::check(files, believed).unwrap()
}

#[test]
fn an_earlier_key_leads_to_the_one_that_signed() {
    let first = Policy::of_logs(&[key(9)]).unwrap();
    let mut tpm = SoftTpm::new();
    let text = handover_text(ORIGIN, &key(9).key_bytes(), &key(10).key_bytes());
    let quote = tpm.quote(&Digest::of(text.as_bytes())).0;
    let files = rolled(Some(quote), 10);
    for believed in [None, Some(tpm.public())] {
        let dossier = check(&files, &first, believed.as_ref());
        assert!(dossier.holds(), "{:?}", dossier.findings);
        assert_eq!((dossier.signed, dossier.receipts), (vec![key(10)], 5));
        let is_quoted = believed.is_some();
        let told = Remark::HandedOver { index: 4, key: key(10).to_string(), is_quoted };
        assert_eq!(dossier.remarks, [told]);
    }
    // By itself, and by a policy that names the key of today.
    assert!(Dossier::check(&files, Believed::default()).unwrap().holds());
    assert!(check(&files, &Policy::of_logs(&[key(10)]).unwrap(), None).holds());
    // Without the entry nothing leads there, nor does it from another key.
    let mut cut = files.clone();
    cut.retain(|name, _| !name.contains("/4."));
    seal(&mut cut);
    assert!(!check(&cut, &first, None).holds());
    assert!(!check(&files, &Policy::of_logs(&[key(8)]).unwrap(), None).holds());
}

#[test]
fn a_hand_over_without_the_tpm_is_a_thiefs() {
    let first = Policy::of_logs(&[key(9)]).unwrap();
    let mut tpm = SoftTpm::new();
    let other = tpm.quote(&Digest::of(b"another")).0;
    for quote in [None, Some(other)] {
        let dossier = check(&rolled(quote, 10), &first, Some(&tpm.public()));
        assert!(
            dossier.findings.contains(&Finding::Unquoted { index: 4 }),
            "{:?}",
            dossier.findings
        );
    }
}

#[test]
fn a_key_that_handed_over_signs_nothing_more() {
    let first = Policy::of_logs(&[key(9)]).unwrap();
    let dossier = check(&rolled(None, 9), &first, None);
    assert_eq!(dossier.findings, [Finding::RetiredKey { index: 4 }]);
}
