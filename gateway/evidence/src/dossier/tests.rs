use super::*;
use crate::Policy;
use crate::checkpoint::tests::TestSigner;
use crate::leaf::tests::{outside_samples, samples};
use crate::leaf::{Anchor, Chain, LeafBody, Statement};
use crate::tree::{Levels, leaf_hash};
use crate::{append_lines, cosign};
use guan_model::{PublicKey, WallTime};

mod accounted;
mod disclosures;
mod rollover;

const ORIGIN: &str = "guan/box-7";

fn bundle(entries: std::ops::Range<usize>) -> Files {
    bundle_of(samples().into_iter().chain(outside_samples()).collect(), entries, None)
}

pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits = (0..text.len()).step_by(2);
    digits.map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

const TPM_KEY: &str = include_str!("../../tests/golden/tpm-statements-v1.ak.pem");

/// A log about whose first three leaves an emulated TPM (swtpm 0.7, tpm2-tools 5.4) made a quote and
/// certified its digest over heads.
fn attested_log() -> Vec<Leaf> {
    let lines = include_str!("../../tests/golden/tpm-statements-v1.hex").lines().map(hex);
    let [quote, quote_by, chained, chained_by] = lines.collect::<Vec<_>>().try_into().unwrap();
    let trail = hex("36b35bbae2eddd09db1ff461dcd384fb5a32555bd23e211bd38b44380434613d");
    let trail = Digest(trail.try_into().unwrap());
    let zero = Digest([0; 32]);
    let quote = LeafBody::Anchor(Anchor {
        size: 3,
        trail: vec![3],
        pcrs: BTreeMap::from([(0, zero), (7, zero), (13, trail)]),
        quote: Statement::new(quote, quote_by).unwrap(),
    });
    let certified = Statement::new(chained, chained_by).unwrap();
    let chained = LeafBody::Chain(Chain { size: 3, before: None, certified });
    let mut leaves = samples();
    for (at, body) in [(3, quote), (4, chained)] {
        leaves.insert(at, Leaf { body, ..leaves[at].clone() });
    }
    leaves
}

fn attested_bundle() -> Files {
    bundle_of(attested_log(), 1..6, Some(TPM_KEY))
}

fn bundle_of(log_of: Vec<Leaf>, entries: std::ops::Range<usize>, key: Option<&str>) -> Files {
    try_bundle_of(log_of, entries, key, &|head| head).unwrap()
}

fn try_bundle_of(
    log_of: Vec<Leaf>,
    entries: std::ops::Range<usize>,
    key: Option<&str>,
    change_head: &dyn Fn(String) -> String,
) -> Result<Files, MakeFault> {
    let log = TestSigner::new(ORIGIN, 9);
    let witness = TestSigner::new("space-1/witness", 5);
    let mut leaves = Vec::new();
    let mut levels = Levels::default();
    for (seq, leaf) in log_of.into_iter().enumerate() {
        let bytes = Leaf { seq: seq as u64, ..leaf }.encode();
        levels.append(leaf_hash(&bytes));
        leaves.push((seq as u64, bytes));
    }
    let root = levels.root_at(levels.size()).unwrap();
    let head = Checkpoint::sign(ORIGIN, levels.size(), &root, &log).unwrap();
    let text = crate::note::Note::parse(&head).unwrap().text().to_owned();
    let line = cosign(&text, WallTime::from_seconds(1_800_000_000), &witness).unwrap();
    let checkpoint = change_head(append_lines(&head, &line).unwrap());
    let custody = Custody {
        collected_by: "auditor".to_owned(),
        collected_at: "2026-11-27T19:00:00Z".to_owned(),
        tool: "guan 0.1.0".to_owned(),
    };
    let material = Material {
        log_key: &VerifierKey::of(&log).unwrap(),
        witnesses: &[CosignatureKey::of(&witness).unwrap()],
        attestation_key: key,
        checkpoint: &checkpoint,
        nodes: &levels,
        signer: Some(&log),
        custody: &custody,
        stamps: &[],
        openings: &[disclosures::opening()].map(|one| (one.commitment(), one)).into(),
    };
    make(&material, &leaves[entries])
}

#[test]
fn a_bundle_holds_and_says_who_vouches() {
    let files = bundle(2..8);
    let dossier = Dossier::check(&files, Believed::default()).unwrap();
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
        let found = Dossier::check(&other, Believed::default());
        assert!(!found.is_ok_and(|dossier| dossier.holds()), "{name} was changed");
        let mut other = files.clone();
        other.remove(name);
        let found = Dossier::check(&other, Believed::default());
        assert!(!found.is_ok_and(|dossier| dossier.holds()), "{name} was taken out");
    }
    let mut other = files.clone();
    other.insert("entries/1.cbor".to_owned(), vec![1]);
    assert!(!Dossier::check(&other, Believed::default()).unwrap().holds());
}

/// Makes the manifest anew, as whoever changes a bundle can.
fn seal(files: &mut Files) {
    files.remove("manifest.sha256");
    let lines = files.iter().map(|(name, bytes)| format!("{}  {name}\n", Digest::of(bytes)));
    let manifest: String = lines.collect();
    files.insert("manifest.sha256".to_owned(), manifest.into_bytes());
}

/// Whoever makes the manifest anew still cannot make the proofs.
#[test]
fn entries_stand_by_their_proofs_alone() {
    let mut files = bundle(3..6);
    seal(&mut files);
    assert!(Dossier::check(&files, Believed::default()).unwrap().holds(), "the twin");
    let check = |change: &dyn Fn(&mut Files), expect: &dyn Fn(&Finding) -> bool| {
        let mut other = files.clone();
        change(&mut other);
        seal(&mut other);
        let found = Dossier::check(&other, Believed::default()).unwrap().findings;
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
    let dossier =
        Dossier::check(&files, Believed { policy: Some(&policy), ..Believed::default() }).unwrap();
    assert!(matches!(dossier.findings[0], Finding::Head(_)), "{:?}", dossier.findings);
}

#[test]
fn limits_are_exact() {
    let mut files = bundle(3..4);
    files.insert("large".to_owned(), vec![0; FILE_BYTES_MAX + 1]);
    let fault = Dossier::check(&files, Believed::default()).unwrap_err();
    assert!(
        matches!(fault, DossierFault::TooLong { length, .. } if length == FILE_BYTES_MAX as u64 + 1)
    );
    let mut files = bundle(3..4);
    files.insert("large".to_owned(), vec![0; FILE_BYTES_MAX]);
    assert!(Dossier::check(&files, Believed::default()).is_ok());
}

/// The golden file is never written again: bundles with these bytes exist. Only the README may be newer.
#[test]
fn golden_bundle() {
    let golden = include_str!("../../tests/golden/bundle-v1.hex");
    let golden: Files = golden
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, bytes)| (name.to_owned(), hex(bytes)))
        .collect();
    let dossier = Dossier::check(&golden, Believed::default()).unwrap();
    assert!(dossier.holds(), "{:?}", dossier.findings);
    assert_eq!((dossier.entries.len(), dossier.receipts), (5, 5));
    assert_eq!((dossier.quotes, dossier.chained, dossier.cosigned.len()), (1, 1, 1));
    let newer = ["README", "manifest.sha256"];
    let lasting = |files: Files| -> Files {
        files.into_iter().filter(|(name, _)| !newer.contains(&name.as_str())).collect()
    };
    assert_eq!(lasting(attested_bundle()), lasting(golden));
}

/// What the TPM said is bound to entry, head, registers and key, whoever makes the manifest.
#[test]
fn statements_of_the_tpm_stand_by_themselves() {
    let files = attested_bundle();
    assert!(Dossier::check(&files, Believed::default()).unwrap().holds(), "the twin");
    let refused = |files: &Files, believed: Believed<'_>, entry: u64| {
        let found = Dossier::check(files, believed).unwrap();
        let is_told = found.findings.iter().any(|one| {
            matches!(one, Finding::Statement { index, .. } | Finding::Consistency { index, .. }
                if *index == entry)
        });
        assert!(is_told, "{:?}", found.findings);
        assert!(found.quotes + found.chained < 2);
    };
    let endings = ["msg", "sig", "qualifying", "pcrs", "der", "head", "consistency"];
    let all = [("anchors", 3), ("chain", 4)].into_iter();
    let all = all.flat_map(|(folder, index)| endings.map(|end| (folder, index, end)));
    let all =
        all.filter(|(folder, index, end)| files.contains_key(&format!("{folder}/{index}.{end}")));
    let all: Vec<_> = all.collect();
    assert_eq!(all.len(), 12);
    for (folder, index, end) in all {
        let name = format!("{folder}/{index}.{end}");
        let mut other = files.clone();
        *other.get_mut(&name).unwrap().last_mut().unwrap() ^= 1;
        seal(&mut other);
        refused(&other, Believed::default(), index);
        let mut other = files.clone();
        other.remove(&name);
        seal(&mut other);
        refused(&other, Believed::default(), index);
    }
    let mut other = files.clone();
    other.insert("anchors/5.msg".to_owned(), files["anchors/3.msg"].clone());
    seal(&mut other);
    let found = Dossier::check(&other, Believed::default()).unwrap().findings;
    assert!(matches!(found[..], [Finding::Statement { index: 5, .. }]), "{found:?}");
}

/// A key of the TPM from elsewhere counts, not the one in the bundle.
#[test]
fn the_key_of_the_tpm_is_for_the_auditor_too() {
    let files = attested_bundle();
    let real = attestation_key(TPM_KEY.as_bytes()).unwrap();
    let check = |key: &PublicKey, holds: bool| {
        let believed = Believed { attestation_key: Some(key), ..Believed::default() };
        let dossier = Dossier::check(&files, believed).unwrap();
        assert_eq!(dossier.holds(), holds, "{:?}", dossier.findings);
        assert_ne!(dossier.quotes, u64::from(!holds));
    };
    check(&real, true);
    let PublicKey::EcdsaP256(mut point) = real else { panic!("a point") };
    point[40] ^= 1;
    check(&PublicKey::EcdsaP256(point), false);
}

/// The fullest entries that there can be stay under what a checker takes.
#[test]
fn an_entry_has_no_more_files_than_counted() {
    let mut log = attested_log();
    log[3].actor = Some(disclosures::opening().commitment());
    let files = bundle_of(log, 1..6, Some(TPM_KEY));
    for index in 1..6 {
        let about = |name: &&String| {
            name.split(['/', '.']).nth(1).is_some_and(|part| part == index.to_string())
        };
        assert!(files.keys().filter(about).count() <= FILES_PER_ENTRY_MAX);
    }
    let count =
        |index: u64| files.keys().filter(|name| name.contains(&format!("/{index}."))).count();
    assert_eq!(count(3), FILES_PER_ENTRY_MAX);
}

/// A box may write into a leaf what its TPM did not say; the bundle is made, and its check tells.
#[test]
fn an_entry_says_of_a_statement_what_the_tpm_said() {
    let check = |entry: u64, what: &str, change: &dyn Fn(&mut LeafBody)| {
        let mut leaves = attested_log();
        change(&mut leaves[usize::try_from(entry).unwrap()].body);
        let files = bundle_of(leaves, 1..6, Some(TPM_KEY));
        let found = Dossier::check(&files, Believed::default()).unwrap();
        let told: Vec<String> = found.findings.iter().map(ToString::to_string).collect();
        assert!(told.len() == 1 && told[0].contains(what), "{what}: {told:?}");
        assert_eq!(found.quotes + found.chained, 1, "the other one holds");
    };
    fn anchor(change: impl Fn(&mut Anchor)) -> impl Fn(&mut LeafBody) {
        move |body| match body {
            LeafBody::Anchor(anchor) => change(anchor),
            other => panic!("{other:?}"),
        }
    }
    let sized =
        |size: u64| move |found: &mut Anchor| (found.size, found.trail) = (size, vec![size]);
    check(3, "registers", &anchor(|found| found.pcrs.extend([(0, Digest([1; 32]))])));
    check(3, "registers", &anchor(|found| found.pcrs.retain(|pcr, _| *pcr != 7)));
    check(3, "something else than the head", &anchor(sized(2)));
    for missing in [0, 13, 700, u64::MAX] {
        check(3, "a file of it is missing", &anchor(sized(missing)));
    }
    check(4, "does not follow", &|body| match body {
        LeafBody::Chain(chain) => chain.before = Some(Digest([1; 32])),
        other => panic!("{other:?}"),
    });
    let LeafBody::Anchor(quote) = attested_log()[3].body.clone() else { panic!("an anchor") };
    check(4, "another kind", &|body| match body {
        LeafBody::Chain(chain) => chain.certified = quote.quote.clone(),
        other => panic!("{other:?}"),
    });
}

/// Nobody gets the log's signature on a receipt over a root of their own.
#[test]
fn only_heads_of_this_log_get_receipts() {
    let make = |head: &dyn Fn(String) -> String| try_bundle_of(samples(), 1..3, None, head);
    assert!(make(&|head| head).is_ok(), "the twin");
    let by = |seed: u8| {
        let signer = TestSigner::new(ORIGIN, seed);
        move |_| Checkpoint::sign(ORIGIN, 10, &Digest([3; 32]), &signer).unwrap()
    };
    let fault = make(&by(10)).unwrap_err();
    assert!(matches!(fault, MakeFault::Checkpoint(_)), "{fault:?}");
    let fault = make(&by(9)).unwrap_err();
    assert!(matches!(fault, MakeFault::OtherRoot { size: 10 }), "{fault:?}");
}

/// Entry 4 keeps a cosignature over three leaves, older than that of the newest head.
fn witnessed_log(seconds: i64, seed: u8, size: u64) -> Vec<Leaf> {
    let mut leaves = samples();
    let mut levels = Levels::default();
    for (seq, leaf) in leaves.iter().take(3).enumerate() {
        levels.append(leaf_hash(&Leaf { seq: seq as u64, ..leaf.clone() }.encode()));
    }
    let text = crate::checkpoint::head_text(ORIGIN, 3, &levels.root_at(3).unwrap());
    let witness = TestSigner::new("space-1/witness", seed);
    let line = cosign(&text, WallTime::from_seconds(seconds), &witness).unwrap();
    let key = CosignatureKey::of(&witness).unwrap();
    let cosigned = crate::cosigned_leaf(&key, &format!("{text}\n{line}"), size).unwrap();
    leaves.insert(4, Leaf { body: LeafBody::Cosigned(cosigned), ..leaves[4].clone() });
    leaves
}

#[test]
fn earlier_cosignatures_bound_the_time_of_what_is_under_them() {
    const EARLIER: i64 = 1_799_000_000;
    let files = bundle_of(witnessed_log(EARLIER, 5, 3), 1..6, None);
    let dossier = Dossier::check(&files, Believed::default()).unwrap();
    assert!(dossier.holds(), "{:?}", dossier.findings);
    let times: Vec<_> = (1..6).map(|index| dossier.not_after_s(index)).collect();
    let (early, late) = (Some(1_799_000_000), Some(1_800_000_000));
    assert_eq!(times, [early, early, late, late, late]);
    let is_here = |files: &Files| files.contains_key("witness/4.note");
    assert!(is_here(&files));
    // Of another witness, and about a head that is not there or another one: no note is made.
    for log in [(6, 3), (5, 2), (5, 0), (5, 700)] {
        assert!(!is_here(&bundle_of(witnessed_log(EARLIER, log.0, log.1), 1..6, None)), "{log:?}");
    }
    let check = |change: &dyn Fn(&mut Files), is_told: &dyn Fn(&Dossier) -> bool| {
        let mut other = files.clone();
        change(&mut other);
        seal(&mut other);
        let found = Dossier::check(&other, Believed::default()).unwrap();
        assert!(is_told(&found), "{:?}", found.findings);
        assert_eq!(found.not_after_s(1), late, "what does not hold bounds nothing");
    };
    let name = "witness/4.note";
    let refused = |found: &Dossier| !found.holds();
    let edit = |from: &'static str, to: &'static str| {
        move |files: &mut Files| {
            let text = String::from_utf8(files[name].clone()).unwrap();
            assert!(text.contains(from));
            files.insert(name.to_owned(), text.replace(from, to).into_bytes());
        }
    };
    check(&edit("\n3\n", "\n5\n"), &refused);
    check(&edit("guan/box-7", "guan/box-8"), &refused);
    check(&edit("space-1", "space-2"), &refused);
    check(&edit("\n\n", "\n"), &refused);
    check(&|files| drop(files.insert(name.to_owned(), vec![0xFF])), &refused);
    check(&|files| drop(files.remove("witness/4.consistency")), &refused);
    let elsewhere = |files: &mut Files| {
        for ending in ["note", "consistency"] {
            let file = files.remove(&format!("witness/4.{ending}")).unwrap();
            files.insert(format!("witness/3.{ending}"), file);
        }
    };
    check(&elsewhere, &|found| matches!(found.findings[..], [Finding::Witness { index: 3, .. }]));
    // Without the note nothing false is said.
    let bare = |files: &mut Files| files.retain(|name, _| !name.starts_with("witness/"));
    check(&bare, &Dossier::holds);
}

/// A witness that the auditor does not know says nothing, and is no fault of the bundle.
#[test]
fn witnesses_are_for_the_auditor_too() {
    let files = bundle_of(witnessed_log(1_799_000_000, 5, 3), 1..6, None);
    let policy = Policy::of_logs(&[VerifierKey::of(&TestSigner::new(ORIGIN, 9)).unwrap()]).unwrap();
    let believed = Believed { policy: Some(&policy), ..Believed::default() };
    let dossier = Dossier::check(&files, believed).unwrap();
    assert!(dossier.holds(), "{:?}", dossier.findings);
    assert_eq!(dossier.not_after_s(1), None);
}

/// A good cosignature of a smaller head, or of another log, bounds no more than it says.
#[test]
fn a_cosignature_counts_for_its_own_head_only() {
    let log = witnessed_log(1_799_000_000, 5, 3);
    let LeafBody::Cosigned(good) = log[4].body.clone() else { panic!("a cosignature") };
    let check = |body: crate::leaf::Cosigned, note: &dyn Fn(&str) -> String| {
        let mut log = log.clone();
        log.insert(5, Leaf { body: LeafBody::Cosigned(body), ..log[5].clone() });
        let mut files = bundle_of(log, 1..7, None);
        assert!(!files.contains_key("witness/5.note"), "nobody honest makes it");
        let text = String::from_utf8(files["witness/4.note"].clone()).unwrap();
        files.insert("witness/5.note".to_owned(), note(&text).into_bytes());
        let proof = files["witness/4.consistency"].clone();
        files.insert("witness/5.consistency".to_owned(), proof);
        seal(&mut files);
        let found = Dossier::check(&files, Believed::default()).unwrap();
        assert!(
            matches!(found.findings[..], [Finding::Statement { index: 5, .. }]),
            "{:?}",
            found.findings
        );
        assert_eq!(found.witnessed.len(), 1, "the twin");
    };
    check(crate::leaf::Cosigned { size: 5, ..good.clone() }, &str::to_owned);
    let witness = TestSigner::new("space-1/witness", 5);
    let key = CosignatureKey::of(&witness).unwrap();
    let files = bundle_of(log.clone(), 4..5, None);
    let text = String::from_utf8(files["witness/4.note"].clone()).unwrap();
    let text = text.split_once("\n\n").unwrap().0.replace(ORIGIN, "guan/box-8") + "\n";
    let line = cosign(&text, WallTime::from_seconds(1_799_000_000), &witness).unwrap();
    let note = format!("{text}\n{line}");
    let body = crate::cosigned_leaf(&key, &note, 3).unwrap();
    check(body, &|_| note.clone());
}
