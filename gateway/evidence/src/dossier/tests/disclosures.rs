use super::*;
use crate::opening::{Actor, Opening};

pub(super) fn opening() -> Opening {
    Opening::new([8; 32], Actor::parse("李工 <li@depot-7>").unwrap())
}

/// Entries 2 and 3 are of two people, and only the opening of the one is at hand.
fn files() -> Files {
    let mut log = samples();
    log[2].actor = Some(opening().commitment());
    log[3].actor = Some(Opening::new([9; 32], opening().actor().clone()).commitment());
    bundle_of(log, 1..5, None)
}

const FILE: &str = "disclosures/2.opening";

#[test]
fn who_acted_is_said_of_the_entries_that_commit_to_it() {
    let files = files();
    let names: Vec<&String> = files.keys().filter(|name| name.starts_with("disc")).collect();
    assert_eq!(names, [FILE]);
    let dossier = Dossier::check(&files, Believed::default()).unwrap();
    assert!(dossier.holds(), "{:?}", dossier.findings);
    let actor = "李工 <li@depot-7>".to_owned();
    assert_eq!(dossier.disclosed, [Disclosed { index: 2, actor }]);
}

/// Whoever makes the manifest anew still names nobody whom the entry does not commit to.
#[test]
fn a_forged_disclosure_is_refused() {
    let check = |expect: &dyn Fn(&Finding) -> bool, change: &dyn Fn(&mut Files)| {
        let mut files = files();
        change(&mut files);
        seal(&mut files);
        let dossier = Dossier::check(&files, Believed::default()).unwrap();
        assert!(dossier.findings.iter().any(expect), "{:?}", dossier.findings);
        assert!(!dossier.disclosed.iter().any(|one| one.index != 2), "{:?}", dossier.disclosed);
    };
    let is_other = |index| move |finding: &Finding| *finding == Finding::Disclosure { index };
    let other = Opening::new([8; 32], Actor::parse("wang").unwrap()).encode();
    check(&is_other(2), &|files| _ = files.insert(FILE.to_owned(), other.clone()));
    // The right opening at an entry of somebody else, and at one of nobody.
    for index in [3, 1] {
        let name = format!("disclosures/{index}.opening");
        check(&is_other(index), &|files| _ = files.insert(name.clone(), files[FILE].clone()));
    }
    let cut = |files: &mut Files| files.get_mut(FILE).unwrap().truncate(32);
    check(&|finding| matches!(finding, Finding::Opening { index: 2, .. }), &cut);
    let orphan = "disclosures/7.opening".to_owned();
    let is_orphan = |finding: &Finding| *finding == Finding::Orphan { name: orphan.clone() };
    check(&is_orphan, &|files| _ = files.insert(orphan.clone(), files[FILE].clone()));
}

/// What was erased is not in the bundle, and the entries prove as before.
#[test]
fn entries_prove_without_their_disclosures() {
    let mut files = files();
    files.remove(FILE);
    seal(&mut files);
    let dossier = Dossier::check(&files, Believed::default()).unwrap();
    assert!(dossier.holds() && dossier.disclosed.is_empty(), "{:?}", dossier.findings);
    assert_eq!(dossier.entries[1].actor, Some(opening().commitment()));
}
