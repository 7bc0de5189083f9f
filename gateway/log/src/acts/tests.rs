use super::*;
use guan_evidence::{Acted, Actor, Deed, ErasureGround, Exported, LeafBody};
use guan_spool::disk::{SimDisk, SimFile};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

fn opening(salt: u8, name: &str) -> Opening {
    Opening::new([salt; 32], Actor::parse(name).unwrap())
}

fn exported(actor: Option<Digest>) -> Act {
    let manifest = Digest([3; 32]);
    Act::Exported { actor, exported: Exported { from: 4, through: 70_000, entries: 12, manifest } }
}

fn erase(commitments: Vec<Digest>) -> Act {
    Act::erase(None, ErasureGround::ConsentWithdrawn, commitments).unwrap()
}

fn acted(actor: Option<Digest>, deed: Deed, about: Option<Digest>) -> Act {
    Act::Acted { actor, acted: Acted { deed, about } }
}

/// All bytes that the disk still has under any name.
fn holds(disk: &SimDisk, name: &str) -> bool {
    let files = disk.list().unwrap().into_iter().filter_map(|file| disk.contents(&file));
    files
        .flat_map(|bytes| bytes.windows(name.len()).map(<[u8]>::to_vec).collect::<Vec<_>>())
        .any(|window| window == name.as_bytes())
}

#[test]
fn who_acted_is_found_until_it_is_erased() {
    let disk = SimDisk::new();
    let acts = Acts::writer(disk.clone()).unwrap();
    let first = acts.keep(&opening(1, "li")).unwrap();
    let second = acts.keep(&opening(2, "li")).unwrap();
    let other = acts.keep(&opening(3, "wang")).unwrap();
    assert_ne!(first, second, "nobody can tell that both are of one");
    let known = acts.openings().unwrap();
    assert_eq!(known.name_of(Some(&other)), Some("wang"));
    assert_eq!((known.name_of(None), known.damaged), (None, 0));
    let act = erase(known.of_actor("li"));
    let name = acts.add(&act).unwrap();
    assert!(!holds(&disk, "lili"), "an act names nobody");
    assert_eq!(acts.waiting().unwrap(), std::slice::from_ref(&name));
    assert_eq!(acts.read(&name).unwrap(), act);
    acts.settle(&name, &act).unwrap();
    let known = acts.openings().unwrap();
    assert_eq!(known.known.keys().copied().collect::<Vec<_>>(), [other]);
    assert!(acts.waiting().unwrap().is_empty());
    acts.settle(&name, &act).unwrap();
}

/// The leaf says how many and which, and nothing of who.
#[test]
fn the_leaf_of_an_erasure_names_nobody() {
    let commitments: Vec<Digest> = (1..=3).map(|salt| opening(salt, "li").commitment()).collect();
    let twice = [&commitments[..], &commitments[..]].concat();
    let LeafBody::Erased(erased) = erase(twice).body() else { panic!("another kind") };
    assert_eq!((erased.commitments, erased.ground), (3, ErasureGround::ConsentWithdrawn));
    let mut sorted = commitments;
    sorted.sort_unstable();
    let mut tree = guan_evidence::Tree::new();
    sorted.iter().for_each(|one| _ = tree.append(guan_evidence::leaf_hash(&one.0)));
    assert_eq!(erased.root, tree.root());
    assert_eq!(erase(sorted).actor(), None);
    assert!(Act::erase(None, ErasureGround::LegalDuty, Vec::new()).is_none());
}

/// Power is cut after each step that the disk was asked for: what was said to be kept is kept, and what was said to
/// be erased is nowhere, once the act was settled again.
#[test]
fn a_power_cut_loses_no_act_and_brings_nothing_back() {
    for seed in 0..200 {
        let disk = SimDisk::new();
        let acts = Acts::writer(disk.clone()).unwrap();
        let li = acts.keep(&opening(1, "somebody")).unwrap();
        disk.crash(seed);
        assert_eq!(acts.openings().unwrap().name_of(Some(&li)), Some("somebody"));
        let act = erase(vec![li]);
        let name = acts.add(&act).unwrap();
        disk.crash(seed);
        assert_eq!(acts.read(&name).unwrap(), act);
        // The blanks are durable, the names are not yet gone.
        acts.destroy(&format!("{li}{OPENING}")).unwrap();
        disk.crash(seed);
        assert!(!holds(&disk, "somebody"));
        let acts = Acts::writer(disk.clone()).unwrap();
        assert_eq!(acts.read(&name).unwrap(), act, "it is done again");
        acts.settle(&name, &act).unwrap();
        disk.crash(seed);
        assert!(!holds(&disk, "somebody") && disk.list().unwrap().is_empty());
    }
}

/// A folder that keeps no names for a while.
#[derive(Clone)]
struct Unsynced(SimDisk, Arc<AtomicU32>);

impl Disk for Unsynced {
    type File = SimFile;

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        self.0.open(name)
    }

    fn create_new(&self, name: &str) -> io::Result<SimFile> {
        self.0.create_new(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn sync_directory(&self) -> io::Result<()> {
        let is_failing = |left: u32| left.checked_sub(1);
        match self.1.fetch_update(Ordering::SeqCst, Ordering::SeqCst, is_failing) {
            Ok(_) => Err(io::Error::other("the disk is broken")),
            Err(_) => self.0.sync_directory(),
        }
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.0.free_bytes()
    }
}

/// Whoever is told that nothing was kept does nothing: the log is not to record it, nor to know somebody for nothing.
#[test]
fn what_is_not_durable_is_taken_away_again() {
    let disk = SimDisk::new();
    let acts = Acts::writer(Unsynced(disk.clone(), Arc::default())).unwrap();
    let fail = |times| acts.0.1.store(times, Ordering::SeqCst);
    let left = || (acts.waiting().unwrap().len(), acts.openings().unwrap().known.len());
    let act = |actor| acted(actor, Deed::LockoutReset, None);
    fail(1);
    assert!(matches!(acts.keep(&opening(1, "li")), Err(ActsFault::File { .. })));
    assert_eq!((left(), holds(&disk, "li")), ((0, 0), false));
    // The opening is kept, and then the act is not.
    let keep = || opening(1, "li");
    let record = |times| {
        acts.record(Some(&keep()), |actor| {
            fail(times);
            act(actor)
        })
    };
    assert!(matches!(record(1), Err(ActsFault::File { .. })));
    assert_eq!((left(), holds(&disk, "li")), ((0, 0), false));
    // A cut may bring the act back: then the log is to say who it was.
    let stays = record(2).unwrap_err();
    assert!(matches!(stays, ActsFault::Stays { .. }), "{stays:?}");
    assert_eq!(left().1, 1);
}

#[test]
fn drafts_of_an_interrupted_writer_are_destroyed() {
    let disk = SimDisk::new();
    disk.put("ab.opening.draft", b"salt and somebody");
    let acts = Acts::writer(disk.clone()).unwrap();
    assert!(disk.list().unwrap().is_empty());
    disk.set_capacity(Some(40));
    let full = acts.keep(&opening(1, "somebody with a longer name"));
    assert!(matches!(full, Err(ActsFault::File { .. })), "{full:?}");
    assert!(disk.list().unwrap().is_empty(), "no half of it stays");
}

/// An opening that was altered opens nothing, and an act that was altered is no act.
#[test]
fn damage_is_counted_and_set_aside() {
    let disk = SimDisk::new();
    let acts = Acts::writer(disk.clone()).unwrap();
    let li = acts.keep(&opening(1, "li")).unwrap();
    disk.flip_bit(&format!("{li}{OPENING}"), 7);
    let known = acts.openings().unwrap();
    assert_eq!((known.known.len(), known.damaged), (0, 1));
    let name = acts.add(&exported(None)).unwrap();
    disk.flip_bit(&name, 0);
    assert!(matches!(acts.read(&name), Err(ActsFault::Act { .. })));
    acts.set_aside(&name).unwrap();
    assert!(acts.waiting().unwrap().is_empty());
}

#[test]
fn both_limits_refuse_one_more() {
    let disk = SimDisk::new();
    let acts = Acts::writer(disk.clone()).unwrap();
    for _ in 0..ACTS_MAX {
        acts.add(&exported(None)).unwrap();
    }
    assert!(matches!(acts.add(&exported(None)), Err(ActsFault::Acts)));
    for number in 0..OPENINGS_MAX {
        disk.put(&format!("{number:064x}{OPENING}"), b"");
    }
    assert!(matches!(acts.keep(&opening(1, "li")), Err(ActsFault::Openings)));
    let all = (0..OPENINGS_MAX as u64).map(|one| Digest::of(&one.to_be_bytes())).collect();
    let (ground, asked) = (ErasureGround::LegalDuty, Some(Digest([1; 32])));
    let all = Act::erase(asked, ground, all).unwrap().encode();
    assert!(all.len() <= ACT_BYTES_MAX && Act::decode(&all).is_ok());
    let more = (0..=OPENINGS_MAX as u64).map(|one| Digest::of(&one.to_be_bytes())).collect();
    assert!(Act::decode(&erase(more).encode()).is_err());
}

/// The golden files are never written again: boxes have files with these bytes.
#[test]
fn golden_acts() {
    let first = vec![
        exported(None),
        exported(Some(Digest([1; 32]))),
        erase(vec![Digest([2; 32]), Digest([1; 32])]),
    ];
    let check = |acts: Vec<Act>, golden: &str| {
        let hex =
            |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let lines: Vec<String> = acts.iter().map(|act| hex(act.encode())).collect();
        assert_eq!(lines, golden.lines().collect::<Vec<_>>());
        acts.iter().for_each(|act| assert_eq!(Act::decode(&act.encode()).as_ref(), Ok(act)));
    };
    check(first, include_str!("../../tests/golden/acts-v1.hex"));
    let commitments = vec![Digest([2; 32]), Digest([1; 32])];
    let asked = Some(Digest([7; 32]));
    let second = vec![
        Act::erase(asked, ErasureGround::ConsentWithdrawn, commitments).unwrap(),
        acted(asked, Deed::ContractsImported, Some(Digest([4; 32]))),
        acted(None, Deed::TpmCleared, None),
    ];
    check(second, include_str!("../../tests/golden/acts-v2.hex"));
}

proptest! {
    /// One form for each act: what is read is written back byte for byte.
    #[test]
    fn altered_acts_are_refused_or_whole(at in 0_usize..80, bits in 1_u8..=255, cut in 0_usize..80) {
        let (one, two) = (Digest([1; 32]), Digest([2; 32]));
        for act in [
            exported(Some(one)),
            erase(vec![two, one]),
            Act::erase(Some(two), ErasureGround::LegalDuty, vec![one]).unwrap(),
            acted(Some(one), Deed::LockoutReset, None),
        ] {
            let mut bytes = act.encode();
            prop_assert!(Act::decode(&bytes[..cut.min(bytes.len() - 1)]).is_err());
            let at = at % bytes.len();
            bytes[at] ^= bits;
            if let Ok(read) = Act::decode(&bytes) {
                prop_assert_eq!(read.encode(), bytes);
            }
        }
    }
}
