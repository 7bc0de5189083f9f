//! The book through folders, sets and restarts.

use super::*;
use guan_identity::LogKeyFile;
use guan_identity::tpm::TpmFault;
use guan_model::{ContractId, Signer};
use guan_policy::roster::Entry;
use serde_json::json;

struct World {
    space: LogKeyFile,
    owner: LogKeyFile,
    consumer: LogKeyFile,
    folder: tempfile::TempDir,
    counter: Counter,
    /// As configured, and as the authority's certificate says.
    own: (Option<&'static str>, Option<&'static str>),
}

/// A TPM's counter; `None`: it does not answer.
#[derive(Clone, Default)]
struct Counter(Arc<std::sync::Mutex<Option<u64>>>);

impl SetCounter for Counter {
    fn counted(&mut self) -> Result<u64, TpmFault> {
        let limit = std::time::Duration::ZERO;
        self.0.lock().unwrap().ok_or(TpmFault::Slow { what: "count", limit })
    }

    fn count(&mut self) -> Result<u64, TpmFault> {
        let next = self.counted()? + 1;
        *self.0.lock().unwrap() = Some(next);
        Ok(next)
    }
}

impl World {
    fn new() -> Self {
        let key = |name| LogKeyFile::generate(name).unwrap().0;
        let folder = tempfile::tempdir().unwrap();
        let counter = Counter(Arc::new(std::sync::Mutex::new(Some(40))));
        std::fs::create_dir(folder.path().join("operator")).unwrap();
        Self {
            space: key("space-1"),
            owner: key("depot-7"),
            consumer: key("insurer-1"),
            folder,
            counter,
            own: (None, None),
        }
    }

    fn open(&self) -> Result<Book, StandingFault> {
        let keys =
            [("space-1", &self.space), ("depot-7", &self.owner), ("insurer-1", &self.consumer)];
        let keys = keys.map(|(party, key)| (party.to_owned(), key.public_key())).to_vec();
        let keys = TrustedKeys::new(keys).unwrap();
        let descriptors = Arc::new(DescriptorTable::new(Vec::new()).unwrap());
        let (operator, state) = (self.folder.path().join("operator"), self.folder.path());
        let metadata = Metadata::open(state).unwrap();
        let ours = (BoxId::parse("box-1").unwrap(), descriptors);
        let counter = Box::new(self.counter.clone());
        let [configured, authority] = <[_; 2]>::from(self.own).map(|name| name.map(str::to_owned));
        let own = OwnSpace::new(configured, authority, state);
        Book::open((keys, own), ours, (&operator, state), metadata, Some(counter))
    }

    fn contract(&self, id: &str, version: u64) -> (Vec<u8>, Entry) {
        let object = json!({
            "@type": "Agreement", "@id": format!("urn:contract:{id}"),
            "profile": "urn:guankou:odrl:1", "version": version, "conflict": "prohibit",
            "assigner": "depot-7", "assignee": "insurer-1", "target": ["d"],
            "validity": {"notBefore": "2026-01-01T00:00:00Z", "notAfter": "2030-01-01T00:00:00Z"},
            "permission": [{"action": "deliver"}],
        });
        let file = guan_policy::sign(object.to_string().as_bytes(), "depot-7", &self.owner);
        let file = guan_policy::sign(&file.unwrap(), "insurer-1", &self.consumer).unwrap();
        let digest = Contract::draft(&file).unwrap().digest();
        let contract = ContractId::parse(id).unwrap();
        (file, Entry { contract, version, digest, state: ContractState::Active })
    }

    fn set(&self, box_id: &str, epoch: u64, entries: &[&Entry]) -> Vec<u8> {
        Self::set_of(("space-1", &self.space), box_id, epoch, entries)
    }

    /// Signed by whoever it is.
    fn set_of(
        (space, key): (&str, &LogKeyFile),
        box_id: &str,
        epoch: u64,
        entries: &[&Entry],
    ) -> Vec<u8> {
        let roster = Roster {
            box_id: BoxId::parse(box_id).unwrap(),
            space: space.to_owned(),
            epoch,
            issued: WallTime::from_seconds(1_800_000_000),
            entries: entries.iter().map(|one| (*one).clone()).collect(),
        };
        roster.sign(key).unwrap()
    }

    /// What was left for the book, as `guan contract import` leaves it.
    fn carry(&self, book: &mut Book, set: &[u8]) -> Option<Result<bool, StandingFault>> {
        let set = String::from_utf8_lossy(set).into_owned();
        let carrier = Carrier::new(set, Vec::new()).unwrap().encode().unwrap();
        std::fs::write(self.folder.path().join("contracts/carried.json"), carrier).unwrap();
        book.take_carried()
    }
}

/// It may revoke, and the command has said that it is taken.
#[test]
fn what_was_carried_stays_until_this_disk_has_it() {
    let world = World { own: (Some("space-1"), None), ..World::new() };
    let state = world.folder.path().join("contracts");
    let (_, entry) = world.contract("C-1", 1);
    let mut book = world.open().unwrap();
    std::fs::create_dir(state.join("set.json")).unwrap();
    let set = world.set("box-1", 1, &[&entry]);
    let kept = world.carry(&mut book, &set).unwrap();
    assert!(matches!(kept, Err(StandingFault::File { .. })), "{kept:?}");
    assert!(state.join("carried.json").exists());
    drop(book);
    std::fs::remove_dir(state.join("set.json")).unwrap();
    let mut book = world.open().unwrap();
    assert!(book.missing().is_empty(), "it is not there yet");
    assert!(book.take_carried().unwrap().unwrap());
    assert!(!state.join("carried.json").exists() && book.missing() == [entry.digest]);
    // What is refused does not come again.
    let other = world.set("box-2", 2, &[&entry]);
    world.carry(&mut book, &other).unwrap().unwrap_err();
    assert!(!state.join("carried.json").exists());
}

#[test]
fn another_space_has_confirmed_nothing() {
    let mut world = World { own: (Some("space-1"), None), ..World::new() };
    let confirmed = WallTime::from_seconds(1_800_000_000);
    let mut book = world.open().unwrap();
    book.handle_roster(&world.set("box-1", 4, &[])).unwrap();
    book.note_confirmed(confirmed).unwrap();
    assert_eq!(book.confirmed_at().unwrap(), Some(confirmed));
    drop(book);
    world.own = (Some("insurer-1"), None);
    let mut book = world.open().unwrap();
    assert_eq!(book.confirmed_at().unwrap(), None, "it was another's word");
    let set = World::set_of(("insurer-1", &world.consumer), "box-1", 1, &[]);
    book.handle_roster(&set).unwrap();
    assert_eq!(book.confirmed_at().unwrap(), None);
    drop(book);
    assert_eq!(world.open().unwrap().confirmed_at().unwrap(), None, "nor after a start");
}

fn names(book: &Book) -> Vec<String> {
    let in_force = book.in_force();
    let contracts = in_force.plan.contracts().iter();
    contracts.map(|one| format!("{} v{}", one.contract, one.version)).collect()
}

#[test]
fn folder_and_set_count_together_and_the_set_ends_both() {
    let world = World::new();
    let mut book = world.open().unwrap();
    let (one, mut one_entry) = world.contract("C-1", 1);
    let (two, two_entry) = world.contract("C-2", 1);
    std::fs::write(world.folder.path().join("operator/one.json"), &one).unwrap();
    assert!(book.read_folder().unwrap() && !book.read_folder().unwrap());
    assert_eq!(names(&book), ["C-1 v1"]);
    assert!(!book.handle_roster(b"").unwrap(), "a space without sets changes nothing");

    assert!(book.handle_roster(&world.set("box-1", 1, &[&two_entry])).unwrap());
    assert_eq!(book.missing(), [two_entry.digest]);
    assert_eq!(names(&book), ["C-1 v1"], "a contract counts when it is here");
    book.handle_document(&two).unwrap();
    assert_eq!((names(&book), book.missing()), (vec!["C-1 v1".into(), "C-2 v1".into()], vec![]));
    assert!(!book.handle_document(&one).unwrap(), "it lies in the folder");

    one_entry.state = ContractState::Revoked;
    book.handle_roster(&world.set("box-1", 2, &[&one_entry, &two_entry])).unwrap();
    assert_eq!(names(&book), ["C-2 v1"], "the space ends what lies in the folder, too");
    let standing = book.in_force().standing;
    assert!(standing.revoked.contains(&one_entry.contract));
    assert!(standing.listed.contains(&two_entry.contract));
    assert!(standing.has_ended(&one_entry.contract) && !standing.has_ended(&two_entry.contract));
    // A file that cannot be read ends nothing.
    let other = ContractId::parse("C-9").unwrap();
    assert!(standing.has_ended(&other));
    let broken = world.folder.path().join("operator/broken.json");
    std::fs::write(&broken, "{").unwrap();
    book.read_folder().unwrap();
    assert!(!book.in_force().standing.has_ended(&other));
    std::fs::remove_file(broken).unwrap();
    book.read_folder().unwrap();

    // After a restart everything stands as it did, without the space.
    drop(book);
    let mut book = world.open().unwrap();
    book.read_folder().unwrap();
    assert_eq!((names(&book), book.missing()), (vec!["C-2 v1".into()], vec![]));
}

/// Never a gap and never both, also over a restart; what ends, ends at once.
#[test]
fn a_version_stays_until_the_next_has_come() {
    let world = World::new();
    let mut book = world.open().unwrap();
    let (one, one_entry) = world.contract("C-1", 1);
    let (two, two_entry) = world.contract("C-1", 2);
    let (_, three_entry) = world.contract("C-1", 3);
    book.handle_roster(&world.set("box-1", 1, &[&one_entry])).unwrap();
    book.handle_document(&one).unwrap();
    book.handle_roster(&world.set("box-1", 2, &[&two_entry])).unwrap();
    assert_eq!((names(&book), book.missing()), (vec!["C-1 v1".into()], vec![two_entry.digest]));
    drop(book);
    let mut book = world.open().unwrap();
    assert_eq!(names(&book), ["C-1 v1"]);
    book.handle_roster(&world.set("box-1", 3, &[&three_entry])).unwrap();
    assert_eq!(names(&book), ["C-1 v1"], "the next is another one");
    let suspended = Entry { state: ContractState::Suspended, ..two_entry.clone() };
    book.handle_roster(&world.set("box-1", 4, &[&suspended])).unwrap();
    assert_eq!(names(&book), ["C-1 v1"]);
    assert!(book.in_force().standing.suspended.contains(&one_entry.contract));
    assert!(book.handle_document(&two).unwrap());
    assert_eq!(names(&book), ["C-1 v2"]);
    assert!(!book.handle_document(&two).unwrap(), "it came twice");
    drop(book);
    let mut book = world.open().unwrap();
    assert_eq!(names(&book), ["C-1 v2"]);

    // One that is ended, or named no more, waits for nobody.
    book.handle_roster(&world.set("box-1", 5, &[&three_entry])).unwrap();
    assert_eq!(names(&book), ["C-1 v2"]);
    let ended = Entry { state: ContractState::Ended, ..three_entry.clone() };
    book.handle_roster(&world.set("box-1", 6, &[&ended])).unwrap();
    assert!(names(&book).is_empty());
    book.handle_roster(&world.set("box-1", 7, &[&three_entry])).unwrap();
    assert!(names(&book).is_empty(), "what has ended does not come back");
    drop(book);
    assert!(names(&world.open().unwrap()).is_empty());
}

/// A successor that is refused for certain ends what it replaces; what it may be ends nothing.
#[test]
fn a_refused_successor_ends_what_it_replaces() {
    let world = World::new();
    let mut book = world.open().unwrap();
    let (one, one_entry) = world.contract("C-1", 1);
    let (two, two_entry) = world.contract("C-1", 2);
    book.handle_roster(&world.set("box-1", 1, &[&one_entry])).unwrap();
    book.handle_document(&one).unwrap();
    book.handle_roster(&world.set("box-1", 2, &[&two_entry])).unwrap();
    assert!(matches!(book.handle_document(b"{"), Err(StandingFault::Contract(_))));
    assert_eq!(names(&book), ["C-1 v1"]);
    let mut half: serde_json::Value = serde_json::from_slice(&two).unwrap();
    half["signatures"].as_array_mut().unwrap().pop();
    let half = half.to_string();
    let fault = book.handle_document(half.as_bytes()).unwrap_err();
    assert!(
        matches!(&fault, StandingFault::Successor { contract, .. } if *contract == one_entry.contract)
    );
    assert!(names(&book).is_empty());
    // It is refused again, and nothing ends again.
    let again = book.handle_document(half.as_bytes());
    assert!(matches!(again, Err(StandingFault::Contract(_))));
    drop(book);
    let mut book = world.open().unwrap();
    assert!(names(&book).is_empty());
    book.handle_document(&two).unwrap();
    assert_eq!(names(&book), ["C-1 v2"]);
}

#[test]
fn old_foreign_wrongly_addressed_and_forgotten_sets_do_not_count() {
    let world = World::new();
    let mut book = world.open().unwrap();
    let (_, entry) = world.contract("C-1", 1);
    book.handle_roster(&world.set("box-1", 5, &[&entry])).unwrap();
    let check = |book: &mut Book, bytes: &[u8], expect: &str| {
        let fault = book.handle_roster(bytes).unwrap_err().to_string();
        assert!(fault.contains(expect), "{fault} for {expect}");
        assert_eq!(book.roster().unwrap().epoch, 5);
    };
    check(&mut book, &world.set("box-1", 4, &[]), "epoch 4");
    check(&mut book, &world.set("box-1", 5, &[]), "epoch 5");
    check(&mut book, &world.set("box-2", 6, &[]), "for box box-2");
    check(&mut book, b"", "no longer knows");
    check(&mut book, b"{}", "refused");
    let stranger = World { space: LogKeyFile::generate("space-1").unwrap().0, ..World::new() };
    check(&mut book, &stranger.set("box-1", 6, &[]), "refused");
    // A disk that was set back to an older set is found out by the epoch beside it.
    drop(book);
    let path = world.folder.path().join("contracts/set.json");
    std::fs::write(&path, world.set("box-1", 4, &[&entry])).unwrap();
    let mut book = world.open().unwrap();
    assert!(matches!(book.take_found(), Some(StandingFault::Old { found: 4, known: 5 })));
    assert!(book.roster().is_none());
    assert!(book.handle_roster(&world.set("box-1", 5, &[&entry])).unwrap());
}

/// A revocation counts although the disk takes no file, and is written down when it does again.
#[test]
fn a_set_that_cannot_be_kept_counts_at_once() {
    let world = World::new();
    let mut book = world.open().unwrap();
    let (file, entry) = world.contract("C-1", 1);
    book.handle_roster(&world.set("box-1", 5, &[&entry])).unwrap();
    book.handle_document(&file).unwrap();
    let path = world.folder.path().join("contracts/set.json");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let revoked = Entry { state: ContractState::Revoked, ..entry.clone() };
    let set = world.set("box-1", 6, &[&revoked]);
    assert!(matches!(book.handle_roster(&set), Err(StandingFault::File { .. })));
    let InForce { plan, standing } = book.in_force();
    assert!(plan.contracts().is_empty() && standing.revoked.contains(&entry.contract));
    assert_eq!(book.metadata.epoch().unwrap(), 5);
    // The older set does not come back meanwhile.
    let old = book.handle_roster(&world.set("box-1", 5, &[&entry]));
    assert!(matches!(old, Err(StandingFault::Old { found: 5, known: 6 })));
    std::fs::remove_dir(&path).unwrap();
    assert!(!book.handle_roster(&set).unwrap());
    assert_eq!(book.metadata.epoch().unwrap(), 6);
    drop(book);
    assert_eq!(world.open().unwrap().roster().unwrap().epoch, 6);
}

/// The power went between the set and its epoch.
#[test]
fn a_set_that_is_newer_than_its_epoch_is_counted_at_the_start() {
    let world = World::new();
    let mut book = world.open().unwrap();
    let (_, entry) = world.contract("C-1", 1);
    book.handle_roster(&world.set("box-1", 5, &[&entry])).unwrap();
    drop(book);
    let path = world.folder.path().join("contracts/set.json");
    std::fs::write(&path, world.set("box-1", 6, &[])).unwrap();
    let mut book = world.open().unwrap();
    assert_eq!((book.metadata.epoch().unwrap(), book.take_found().is_none()), (6, true));
    let old = book.handle_roster(&world.set("box-1", 5, &[&entry]));
    assert!(matches!(old, Err(StandingFault::Old { found: 5, known: 6 })));
}

/// What was kept under the contracts of a set that cannot be read waits for the space.
#[test]
fn contracts_of_a_set_that_cannot_be_read_have_not_ended() {
    let world = World::new();
    // A TPM that does not answer says nothing about the disk.
    *world.counter.0.lock().unwrap() = None;
    let mut book = world.open().unwrap();
    assert!(!book.in_force().standing.is_uncertain, "there was no set yet");
    let (_, entry) = world.contract("C-1", 1);
    book.handle_roster(&world.set("box-1", 5, &[&entry])).unwrap();
    assert!(!book.in_force().standing.is_uncertain);
    drop(book);
    let path = world.folder.path().join("contracts/set.json");
    for (damage, epoch) in [(Some("{}"), 6), (None, 8)] {
        match damage {
            Some(text) => std::fs::write(&path, text).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let mut book = world.open().unwrap();
        assert!(!book.in_force().standing.has_ended(&entry.contract), "{damage:?}");
        // The space says that it is over, and then it is.
        let ended = Entry { state: ContractState::Ended, ..entry.clone() };
        book.handle_roster(&world.set("box-1", epoch, &[&ended])).unwrap();
        std::fs::write(world.folder.path().join("operator/broken.json"), "{").unwrap();
        book.read_folder().unwrap();
        let standing = book.in_force().standing;
        assert!(standing.is_uncertain && standing.has_ended(&entry.contract));
        std::fs::remove_file(world.folder.path().join("operator/broken.json")).unwrap();
        book.handle_roster(&world.set("box-1", epoch + 1, &[&entry])).unwrap();
    }
}

#[test]
fn half_signed_and_exchanged_contracts_do_not_count() {
    let world = World::new();
    let mut book = world.open().unwrap();
    let (file, entry) = world.contract("C-1", 1);
    book.handle_roster(&world.set("box-1", 1, &[&entry])).unwrap();
    let mut half: serde_json::Value = serde_json::from_slice(&file).unwrap();
    half["signatures"].as_array_mut().unwrap().pop();
    let fault = book.handle_document(half.to_string().as_bytes());
    assert!(matches!(fault, Err(StandingFault::Contract(_))));
    let (other, _) = world.contract("C-1", 2);
    assert!(matches!(book.handle_document(&other), Err(StandingFault::NotListed { .. })));
    book.handle_document(&file).unwrap();
    // Exchanged on the disk for another good one.
    drop(book);
    let path = world.folder.path().join(format!("contracts/{}.json", entry.digest));
    std::fs::write(path, other).unwrap();
    assert_eq!(world.open().unwrap().missing(), [entry.digest]);
}

/// The state folder is copied, sets are taken, the copy comes back.
#[test]
fn a_disk_that_was_set_back_is_found_by_the_counter() {
    let mut world = World::new();
    *world.counter.0.lock().unwrap() = Some(0);
    let (one, one_entry) = world.contract("C-1", 1);
    let mut book = world.open().unwrap();
    book.handle_roster(&world.set("box-1", 1, &[&one_entry])).unwrap();
    book.handle_document(&one).unwrap();
    book.note_confirmed(WallTime::from_seconds(1_800_000_000)).unwrap();
    drop(book);
    let image = tempfile::tempdir().unwrap();
    let copy = |from: &Path, to: &Path| {
        let done = std::process::Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status();
        assert!(done.unwrap().success());
    };
    copy(world.folder.path(), image.path());
    let mut book = world.open().unwrap();
    assert!(book.take_found().is_none());
    book.handle_roster(&world.set("box-1", 2, &[])).unwrap();
    drop(book);
    assert!(world.open().unwrap().take_found().is_none());

    world.folder = image;
    let late = tempfile::tempdir().unwrap();
    copy(world.folder.path(), late.path());
    let mut book = world.open().unwrap();
    assert!(matches!(book.take_found(), Some(StandingFault::SetBack { recorded: 1, counted: 2 })));
    assert!(book.in_force().standing.is_uncertain && book.confirmed_at().unwrap().is_none());
    assert_eq!(names(&book), ["C-1 v1"], "it collects on; nothing leaves before the space's word");
    book.handle_roster(&world.set("box-1", 2, &[])).unwrap();
    assert!(names(&book).is_empty() && !book.in_force().standing.is_uncertain);
    drop(book);
    assert!(world.open().unwrap().take_found().is_none());

    // The same copy, and a TPM that answers only later.
    world.folder = late;
    let counted = world.counter.0.lock().unwrap().take();
    let mut book = world.open().unwrap();
    assert!(book.take_found().is_none());
    *world.counter.0.lock().unwrap() = counted;
    // The set that the copy holds, on a medium, vouches for nothing.
    let same = world.set("box-1", 1, &[&one_entry]);
    let same = world.carry(&mut book, &same).unwrap();
    assert!(matches!(same, Ok(false)), "{same:?}");
    assert!(matches!(book.take_found(), Some(StandingFault::SetBack { .. })));
    assert!(book.in_force().standing.is_uncertain && book.confirmed_at().unwrap().is_none());
    book.handle_roster(&world.set("box-1", 2, &[])).unwrap();
    assert!(!book.in_force().standing.is_uncertain);
}

#[test]
fn a_counter_that_does_not_answer_costs_nothing() {
    let world = World::new();
    *world.counter.0.lock().unwrap() = Some(0);
    let (_, entry) = world.contract("C-1", 1);
    let mut book = world.open().unwrap();
    book.handle_roster(&world.set("box-1", 1, &[&entry])).unwrap();
    *world.counter.0.lock().unwrap() = None;
    let mut book = {
        drop(book);
        world.open().unwrap()
    };
    assert!(book.take_found().is_none());
    assert!(book.handle_roster(&world.set("box-1", 2, &[&entry])).unwrap());
    drop(book);
    *world.counter.0.lock().unwrap() = Some(1);
    let mut book = world.open().unwrap();
    assert!(book.take_found().is_none());
    // It answers again: the next word of the space is counted, and the same word not twice.
    *world.counter.0.lock().unwrap() = None;
    assert!(book.handle_roster(&world.set("box-1", 3, &[&entry])).unwrap());
    *world.counter.0.lock().unwrap() = Some(1);
    for _ in 0..2 {
        assert!(!book.handle_roster(&world.set("box-1", 3, &[&entry])).unwrap());
        assert_eq!(*world.counter.0.lock().unwrap(), Some(2));
    }
    drop(book);
    // The power failed before the TPM had counted: the next start makes good.
    *world.counter.0.lock().unwrap() = Some(1);
    assert!(world.open().unwrap().take_found().is_none());
    assert_eq!(*world.counter.0.lock().unwrap(), Some(2));
    // Another TPM, or a cleared one: the keys tell that better.
    *world.counter.0.lock().unwrap() = Some(0);
    assert!(world.open().unwrap().take_found().is_none());
}

/// A party of a contract has a trusted key, too. Its sets do not count, however they come, and change nothing.
#[test]
fn sets_of_another_party_do_not_count() {
    let mut world = World::new();
    let (file, entry) = world.contract("C-1", 1);
    let insurer = |world: &World, epoch| {
        World::set_of(("insurer-1", &world.consumer), "box-1", epoch, &[&entry])
    };
    let refused = |heard: Result<bool, StandingFault>, expect: &[&str]| {
        let text = heard.unwrap_err().to_string();
        assert!(expect.iter().all(|part| text.contains(part)), "{text} for {expect:?}");
    };
    // Nothing names the space: a medium does not.
    let mut book = world.open().unwrap();
    let unnamed = ["signed by insurer-1", "set contracts.space"];
    refused(world.carry(&mut book, &insurer(&world, 1)).unwrap(), &unnamed);
    refused(world.carry(&mut book, &world.set("box-1", 1, &[])).unwrap(), &["signed by space-1"]);
    drop(book);
    // The authority that enrolled it does, and then whoever was first.
    world.own = (None, Some("space-1"));
    let mut book = world.open().unwrap();
    let other =
        ["signed by insurer-1", "space of this box is space-1", "authority", "contracts.space"];
    refused(world.carry(&mut book, &insurer(&world, 9)).unwrap(), &other);
    refused(book.handle_roster(&insurer(&world, 9)), &other);
    assert_eq!((book.roster(), book.metadata.epoch().unwrap()), (None, 0));
    assert!(world.carry(&mut book, &world.set("box-1", 5, &[&entry])).unwrap().unwrap());
    book.handle_document(&file).unwrap();
    refused(book.handle_roster(&insurer(&world, 9)), &["set that it took last"]);
    drop(book);
    world.own = (None, None);
    let mut book = world.open().unwrap();
    refused(world.carry(&mut book, &insurer(&world, 9)).unwrap(), &["set that it took last"]);
    assert_eq!(names(&book), ["C-1 v1"]);
    drop(book);
    // Nor when it lies on the disk, as an earlier release may have left it there.
    let path = world.folder.path().join("contracts");
    std::fs::write(path.join("set.json"), insurer(&world, 9)).unwrap();
    let mut book = world.open().unwrap();
    assert!(matches!(book.take_found(), Some(StandingFault::Space(_))));
    assert!(book.in_force().standing.is_uncertain && book.roster().is_none());
}

/// The first session says whose box it is, where nothing else does; a set that an earlier release kept says it, too.
#[test]
fn the_first_space_stays() {
    let world = World::new();
    let (_, entry) = world.contract("C-1", 1);
    let mut book = world.open().unwrap();
    book.handle_roster(&world.set("box-1", 5, &[&entry])).unwrap();
    drop(book);
    let name = world.folder.path().join("contracts/space");
    for _ in 0..2 {
        assert_eq!(std::fs::read_to_string(&name).unwrap(), "space-1\n");
        let mut book = world.open().unwrap();
        assert!(book.take_found().is_none() && book.roster().is_some());
        let set = World::set_of(("depot-7", &world.owner), "box-1", 6, &[]);
        assert!(matches!(book.handle_roster(&set), Err(StandingFault::Space(_))));
        drop(book);
        std::fs::remove_file(&name).unwrap();
        drop(world.open().unwrap());
    }
}

/// A box that moves to another space is told so, and what was kept waits until that space has spoken.
#[test]
fn a_space_is_changed_by_the_configuration_alone() {
    let mut world = World::new();
    *world.counter.0.lock().unwrap() = Some(0);
    let (_, entry) = world.contract("C-1", 1);
    let mut book = world.open().unwrap();
    book.handle_roster(&world.set("box-1", 50, &[&entry])).unwrap();
    drop(book);
    let new = |epoch, entries: &[&Entry]| {
        World::set_of(("depot-7", &world.owner), "box-1", epoch, entries)
    };
    let (first, second) = (new(1, &[&entry]), new(2, &[]));
    world.own = (Some("depot-7"), Some("space-1"));
    let mut book = world.open().unwrap();
    assert!(matches!(book.take_found(), Some(StandingFault::Space(_))));
    assert!(!book.in_force().standing.has_ended(&entry.contract));
    assert!(matches!(
        book.handle_roster(&world.set("box-1", 51, &[])),
        Err(StandingFault::Space(_))
    ));
    // Its epochs are its own; from then on they do not fall.
    assert!(book.handle_roster(&second).unwrap());
    assert!(matches!(book.handle_roster(&first), Err(StandingFault::Old { found: 1, known: 2 })));
    drop(book);
    let mut book = world.open().unwrap();
    assert!(book.take_found().is_none() && book.roster().is_some());
    assert_eq!(book.metadata.epoch().unwrap(), 2);
    assert!(matches!(book.handle_roster(&first), Err(StandingFault::Old { found: 1, known: 2 })));
    drop(book);
    // The power failed between the set and its epoch, and between the epoch and the name.
    for lost in ["depot-7", "space-1"] {
        std::fs::write(world.folder.path().join("contracts/space"), "space-1\n").unwrap();
        let metadata = Metadata::open(world.folder.path()).unwrap();
        let epoch = if lost == "depot-7" { 50 } else { 2 };
        metadata.begin_sets(epoch, metadata.sets().unwrap().1).unwrap();
        drop(metadata);
        let mut book = world.open().unwrap();
        assert!(book.take_found().is_none() && book.roster().is_some(), "{lost}");
        assert_eq!((book.metadata.epoch().unwrap(), book.own_space.kept()), (2, Some("depot-7")));
    }
}

/// Doubt about a set outlives the program, until a session confirms what stands or a later set is on the disk.
#[test]
fn a_set_in_doubt_stays_so_over_a_restart() {
    let world = World::new();
    let (_, entry) = world.contract("C-1", 1);
    let at = |seconds| Some(Doubt { after: Some(WallTime::from_seconds(seconds)) });
    let doubt = |book: Book| {
        drop(book);
        let book = world.open().unwrap();
        (book.doubt().unwrap(), book)
    };
    let (known, book) = doubt(world.open().unwrap());
    assert_eq!(known, None);
    book.note_doubt().unwrap();
    let (known, book) = doubt(book);
    assert_eq!(known, Some(Doubt { after: None }));
    book.note_confirmed(WallTime::from_seconds(1_800_000_000)).unwrap();
    let (known, mut book) = doubt(book);
    assert_eq!(known, None);

    let issued = 1_800_000_000;
    book.handle_roster(&world.set("box-1", 5, &[&entry])).unwrap();
    book.handle_roster(&world.set("box-1", 4, &[])).unwrap_err();
    book.note_doubt().unwrap();
    // The set that is in doubt settles nothing; one that was signed later does.
    let (known, mut book) = doubt(book);
    assert_eq!(known, at(issued));
    assert!(!book.handle_roster(&world.set("box-1", 5, &[&entry])).unwrap());
    assert!(book.handle_roster(&world.set("box-1", 6, &[&entry])).unwrap());
    let (known, book) = doubt(book);
    assert_eq!(known, at(issued));
    let later = |epoch, seconds| {
        let issued = WallTime::from_seconds(issued + seconds);
        let (box_id, space) = (BoxId::parse("box-1").unwrap(), "space-1".to_owned());
        let roster = Roster { box_id, space, epoch, issued, entries: vec![entry.clone()] };
        roster.sign(&world.space).unwrap()
    };
    let mut book = book;
    assert!(world.carry(&mut book, &later(7, 10)).unwrap().unwrap());
    let (known, mut book) = doubt(book);
    assert_eq!(known, None);

    // One that counts and is not on the disk: what lies there is older than it, and so is all between them.
    let path = world.folder.path().join("contracts/set.json");
    let old = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    book.handle_roster(&later(9, 30)).unwrap_err();
    book.note_doubt().unwrap();
    drop(book);
    std::fs::remove_dir(&path).unwrap();
    std::fs::write(&path, old).unwrap();
    let mut book = world.open().unwrap();
    book.handle_roster(&later(8, 20)).unwrap();
    assert!(book.doubt().unwrap().is_some());
    book.handle_roster(&later(9, 30)).unwrap();
    assert_eq!(book.doubt().unwrap(), None);
}
