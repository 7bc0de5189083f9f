//! Every file of a bundle is checked, rebuilt, or told of.

use super::*;
use crate::leaf::TpmStart;
use crate::receipt::{ReceiptClaims, ReceiptProof, issue_receipt};

fn found(change: impl FnOnce(&mut Files)) -> Dossier {
    let mut files = attested_bundle();
    change(&mut files);
    seal(&mut files);
    Dossier::check(&files, Believed::default()).unwrap()
}

fn put(name: &str, bytes: &[u8]) -> impl FnOnce(&mut Files) {
    move |files| drop(files.insert(name.to_owned(), bytes.to_vec()))
}

/// All files of an entry, in each folder.
fn take_out(files: &mut Files, index: u64, folders: &[&str]) {
    let is_of = |name: &String| {
        folders.iter().any(|folder| name.starts_with(&format!("{folder}/{index}.")))
    };
    files.retain(|name, _| !is_of(name));
}

#[test]
fn what_people_read_is_what_the_leaf_says() {
    assert!(found(|_| ()).holds(), "the twin");
    let check = |change: &dyn Fn(String) -> String| {
        let text = String::from_utf8(attested_bundle()["entries/1.json"].clone()).unwrap();
        let other = change(text.clone());
        assert_ne!(other, text);
        let told = found(put("entries/1.json", other.as_bytes())).findings;
        assert_eq!(told, [Finding::View { index: 1 }]);
    };
    check(&|text| text.replace("\"version\":2", "\"version\":3"));
    check(&|text| text.replace("\"version\":2", "\"version\":2,\"version\":2"));
    check(&|text| text + " ");
    check(&|text| text.trim_end().to_owned());
    check(&|_| String::new());
}

/// A start in the bundle gives the trace ids of the batches after it, whatever their order in the folder.
#[test]
fn views_follow_the_order_of_the_log() {
    let start = samples()[0].clone();
    let mut log: Vec<Leaf> = (0..12).map(|_| samples()[9].clone()).collect();
    (log[2], log[11]) = (start, samples()[4].clone());
    log[10] = samples()[3].clone();
    let files = bundle_of(log.clone(), 2..12, None);
    let shown = std::str::from_utf8(&files["entries/11.json"]).unwrap();
    assert!(shown.contains("trace_id"), "{shown}");
    let dossier = Dossier::check(&files, Believed::default()).unwrap();
    assert!(dossier.holds(), "{:?}", dossier.findings);
    // Without it there is none, on both sides.
    let files = bundle_of(log, 3..12, None);
    assert!(!std::str::from_utf8(&files["entries/11.json"]).unwrap().contains("trace_id"));
    assert!(Dossier::check(&files, Believed::default()).unwrap().holds());
}

#[test]
fn strange_files_are_told() {
    for name in ["READ-ME-FIRST", "entries/x.cbor", "entries/01.cbor", "chain/4.pcrs", "x/1.cbor"] {
        let told = found(put(name, b"x")).findings;
        assert_eq!(told, [Finding::Unknown { name: name.to_owned() }]);
    }
    let names = ["entries/5.json", "proofs/5.tlog-proof", "receipts/5.cbor"];
    let told = found(|files| drop(files.remove("entries/5.cbor"))).findings;
    let orphans = names.map(|name| Finding::Orphan { name: name.to_owned() });
    // The record of custody counts the entries, too.
    assert_eq!(told, [&orphans[..], &[Finding::Custody]].concat());
    let told = found(put("witness/9.note", b"x")).findings;
    assert_eq!(told, [Finding::Orphan { name: "witness/9.note".to_owned() }]);
    let told = found(put("witness/4.consistency", b"x")).findings;
    assert_eq!(told, [Finding::Orphan { name: "witness/4.consistency".to_owned() }]);
}

/// A statement whose entry was taken out, or of which only some files are left, is nobody's.
#[test]
fn statements_belong_to_entries() {
    let told = found(|files| {
        take_out(files, 3, &["entries", "proofs", "receipts"]);
        files.insert("anchors/3.head".to_owned(), b"guan/box-7\n999\nAAAA\n".to_vec());
    });
    let is_orphan = |one: &Finding| matches!(one, Finding::Orphan { .. });
    assert_eq!(told.findings.iter().filter(|one| is_orphan(one)).count(), 6, "{:?}", told.findings);
    for (entry, folder) in [(3, "anchors"), (4, "chain")] {
        let told = found(|files| {
            take_out(files, entry, &[folder]);
            // Of another box's TPM: nothing but the files says that there is a statement.
            files.remove("ak.pem");
            files.insert(format!("{folder}/{entry}.head"), b"x".to_vec());
        });
        let is_it =
            |one: &Finding| matches!(one, Finding::Statement { index, .. } if *index == entry);
        assert!(told.findings.iter().any(is_it), "{:?}", told.findings);
    }
    // A proof of consistency is written in one way.
    let name = "anchors/3.consistency";
    let text = String::from_utf8(attested_bundle()[name].clone()).unwrap();
    for other in [text.replace('\n', "\r\n"), text.trim_end().to_owned()] {
        let told = found(put(name, other.as_bytes())).findings;
        assert!(matches!(told[..], [Finding::Statement { index: 3, .. }]), "{told:?}");
    }
    // Beside an entry of another kind.
    let told = found(put("chain/5.consistency", b"x")).findings;
    assert!(matches!(told[..], [Finding::Statement { index: 5, .. }]), "{told:?}");
}

#[test]
fn a_bundle_without_entries_shows_nothing() {
    let told = found(|files| files.retain(|name, _| !name.contains('/')));
    assert!(told.findings.contains(&Finding::NoEntries), "{:?}", told.findings);
    let fault = try_bundle_of(samples(), 3..3, None, &|head| head).unwrap_err();
    assert!(matches!(fault, MakeFault::NoEntries), "{fault}");
}

#[test]
fn a_proof_holds_nothing_else() {
    let name = "proofs/5.tlog-proof";
    let text = String::from_utf8(attested_bundle()[name].clone()).unwrap();
    let check = |other: String| {
        assert_ne!(other, text);
        assert_eq!(found(put(name, other.as_bytes())).findings, [Finding::OtherHead { index: 5 }]);
    };
    check(text.replace("\nindex 5\n", "\nextra AAAA\nindex 5\n"));
    // The same head, with a line that `checkpoint` does not have.
    check(text.clone() + "\u{2014} someone AAAAAAAA\n");
}

/// What the collector says of himself is his; what he says of the log is not.
#[test]
fn custody_is_a_claim_about_the_collecting_alone() {
    let text = String::from_utf8(attested_bundle()["custody.json"].clone()).unwrap();
    let check = |from: &str, to: &str, by: Option<&str>| {
        let other = text.replace(from, to);
        assert_ne!(other, text);
        let told = found(put("custody.json", other.as_bytes()));
        assert_eq!(told.custody.as_ref().map(|custody| &*custody.collected_by), by);
        assert_eq!(told.findings.contains(&Finding::Custody), by.is_none(), "{other}");
    };
    check("auditor", "nobody", Some("nobody"));
    check("2026-11", "2036-11", Some("auditor"));
    check("\"entries\":5", "\"entries\":6", None);
    check("box-7", "box-8", None);
    check("\"schema\":1", "\"schema\":1,\"seal\":\"of the court\"", None);
    check("{", "", None);
    let bare = found(|files| drop(files.remove("custody.json")));
    assert!(bare.holds() && bare.custody.is_none(), "{:?}", bare.findings);
}

#[test]
fn another_readme_is_remarked() {
    assert_eq!(found(|_| ()).remarks, []);
    let other = found(put("README", b"$ rm -rf ~\n"));
    assert!(other.holds());
    assert_eq!(other.remarks, [Remark::OtherReadme]);
}

/// The log's key signs receipts over other heads and with other claims, too; here they say nothing.
#[test]
fn a_receipt_is_of_this_entry_and_head() {
    let files = attested_bundle();
    let signer = TestSigner::new(ORIGIN, 9);
    let mut levels = Levels::default();
    let leaves = attested_log().into_iter().zip(0..);
    for (leaf, seq) in leaves {
        levels.append(leaf_hash(&Leaf { seq, ..leaf }.encode()));
    }
    let head = std::str::from_utf8(&files["checkpoint"]).unwrap();
    let head = Checkpoint::parse_unverified(head).unwrap();
    let check = |head: &Checkpoint, index: u64, what: Option<&'static str>| {
        let bytes = receipt(head, index, &levels, &signer).unwrap();
        let dossier = found(put("receipts/5.cbor", &bytes));
        let told = what.map(|what| Finding::OtherReceipt { index: 5, what });
        assert_eq!(dossier.findings, Vec::from_iter(told));
        assert_eq!(dossier.receipts, 4 + u64::from(what.is_none()));
    };
    check(&head, 5, None);
    let root = levels.root_at(8).unwrap();
    check(&Checkpoint { size: 8, root, ..head.clone() }, 5, Some("size"));
    let origin = "guan/box-8".to_owned();
    check(&Checkpoint { origin, ..head.clone() }, 5, Some("issuer"));
    let parts = |subject: &str, index: u64, size: u64| {
        let claims = ReceiptClaims { issuer: ORIGIN.to_owned(), subject: subject.to_owned() };
        let path = crate::proof::prove_inclusion(index, size, &levels).unwrap();
        let root = levels.root_at(size).unwrap();
        let proof = ReceiptProof::Inclusion { size, index, path };
        issue_receipt(&claims, &proof, &root, &signer).unwrap()
    };
    let refused = |bytes: &[u8], what| {
        let dossier = found(put("receipts/5.cbor", bytes));
        assert_eq!(dossier.findings, [Finding::OtherReceipt { index: 5, what }]);
    };
    refused(&parts("guan/box-7/4", 5, 12), "subject");
    refused(&parts("guan/box-7", 5, 12), "subject");
    // Only the root is signed: index and size fit more than one path.
    let text = parts("guan/box-7/5", 5, 12);
    let at = text.windows(3).position(|part| part == [0x83, 12, 5]).unwrap();
    let mut moved = text.clone();
    moved[at + 1] = 11;
    let dossier = found(put("receipts/5.cbor", &moved));
    assert!(!dossier.holds() && dossier.receipts == 4, "{:?}", dossier.findings);
}

/// A root of another tree with as many leaves, signed by the log's own key: a fork.
#[test]
fn a_receipt_over_another_root_is_told() {
    let mut log = attested_log();
    log[6] = log[7].clone();
    let fork = bundle_of(log, 5..6, Some(TPM_KEY));
    let receipt = &fork["receipts/5.cbor"];
    assert_eq!(fork["entries/5.cbor"], attested_bundle()["entries/5.cbor"], "the twin");
    let told = found(put("receipts/5.cbor", receipt)).findings;
    assert_eq!(told, [Finding::OtherReceipt { index: 5, what: "root" }]);
}

/// Starts in the bundle say which TPM the box has: a statement of another one in that boot does not hold.
#[test]
fn starts_name_the_key_that_is_believed() {
    let PublicKey::EcdsaP256(point) = attestation_key(TPM_KEY.as_bytes()).unwrap() else {
        panic!("a point")
    };
    let (own, other) = (Digest::of(&point), Digest([6; 32]));
    let check = |named: Digest, boot: u32| {
        let mut log = attested_log();
        let found = outside_samples().into_iter().find_map(|leaf| match leaf.body {
            LeafBody::TpmStart(start) => Some(start),
            _ => None,
        });
        let start = TpmStart { attestation_key: named, ..found.unwrap() };
        log[2] = Leaf {
            body: LeafBody::TpmStart(start),
            boot: guan_model::BootNumber(boot),
            ..log[2].clone()
        };
        Dossier::check(&bundle_of(log, 2..6, Some(TPM_KEY)), Believed::default()).unwrap()
    };
    let is_told = |dossier: &Dossier| dossier.remarks.contains(&Remark::KeyNotNamed { point: own });
    assert!(!is_told(&check(own, 7)) && is_told(&check(other, 7)) && is_told(&check(other, 6)));
    let mut dossier = found(|_| ());
    assert_eq!(dossier.attestation_key.unwrap().point, own);
    let anchor = dossier.entries[2].clone();
    let LeafBody::TpmStart(start) = outside_samples()[1].body.clone() else { panic!("a start") };
    for (named, boot, findings) in
        [(own, anchor.boot.0, 0), (other, anchor.boot.0, 1), (other, 6, 0)]
    {
        let start = TpmStart { attestation_key: named, ..start.clone() };
        let boot = guan_model::BootNumber(boot);
        dossier.entries[0] = Leaf { body: LeafBody::TpmStart(start), boot, ..anchor.clone() };
        dossier.findings.clear();
        dossier.check_start_of(3, &anchor);
        assert_eq!(dossier.findings.len(), findings);
    }
}
