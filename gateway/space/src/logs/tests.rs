//! Witness and mirror on simulated disks, with boxes that lie.

use super::folders::tests::SimFolders;
use super::folders::{FORKS_DIR, Folders, MIRROR_DIR, WITNESS_DIR, folder_of};
use super::forks::{FORKS_PER_BOX_MAX, Kept, keep};
use super::mirror::{Mirror, MirrorFault, Taken, Target, read};
use super::mirrors::{FREE_BYTES_MIN, MirrorLetter, Mirrored, Mirrors};
use super::witnesses::{LOGS_PER_BOX_MAX, WITNESS_PER_MINUTE_MAX, Witnessed, Witnesses};
use base64::Engine as _;
use bytes::Bytes;
use guan_evidence::witness::WitnessReply;
use guan_evidence::{
    AddCheckpoint, Checkpoint, CosignatureKey, LEAF_BYTES_MAX, LeafBody, LogNodes, Note, Subtrees,
    VerifierKey, WitnessClient, bundle, leaf_hash, prove_consistency, root_at,
};
use guan_identity::LogKeyFile;
use guan_model::{BoxId, ClockQuality, Digest, Now, Signer as _, WallTime};
use guan_spool::Disk;
use guan_spool::disk::SimDisk;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

pub(crate) const BASE: &str = "guan/box-1";

pub(crate) static WITNESS: LazyLock<Arc<LogKeyFile>> = LazyLock::new(|| key("space-1/witness"));
pub(crate) static MIRROR: LazyLock<Arc<LogKeyFile>> = LazyLock::new(|| key("space-1/mirror"));
pub(crate) static LOG: LazyLock<Arc<LogKeyFile>> = LazyLock::new(|| key(BASE));

fn key(name: &str) -> Arc<LogKeyFile> {
    Arc::new(LogKeyFile::generate(name).unwrap().0)
}

/// Boxes without a TPM.
fn nobody() -> Box<super::witnesses::Attested> {
    Box::new(|_| Ok(Vec::new()))
}

pub(crate) fn now(minutes: u64) -> Now {
    let wall = WallTime::from_seconds(1_800_000_000);
    Now { wall, monotonic: Duration::from_secs(60 * minutes), quality: ClockQuality::Ntp }
}

pub(crate) fn box_id(number: u32) -> BoxId {
    BoxId::parse(&format!("box-{number}")).unwrap()
}

/// A box's log in memory, and what it sends about it.
#[derive(Clone)]
pub(crate) struct Log {
    pub(crate) origin: String,
    pub(crate) key: Arc<LogKeyFile>,
    pub(crate) leaves: Vec<Bytes>,
}

impl Log {
    pub(crate) fn new(origin: &str, key: &Arc<LogKeyFile>) -> Self {
        Self { origin: origin.to_owned(), key: key.clone(), leaves: Vec::new() }
    }

    /// `flavour` makes another history.
    pub(crate) fn grown(mut self, size: usize, flavour: &str) -> Self {
        let from = self.leaves.len();
        self.leaves.extend((from..size).map(|number| Bytes::from(format!("{flavour} {number}"))));
        self
    }

    fn with_nodes<T>(&self, ask: impl FnOnce(&LogNodes<'_>) -> T) -> T {
        let hashes: Vec<Digest> = self.leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
        let mut subtrees = Subtrees::new();
        hashes.chunks_exact(256).for_each(|full| {
            subtrees.seal(full).unwrap();
        });
        let read = |number: u64| {
            hashes.chunks(256).nth(usize::try_from(number).unwrap()).map(<[Digest]>::to_vec)
        };
        ask(&LogNodes::new(&subtrees, &read))
    }

    pub(crate) fn head(&self, size: u64) -> String {
        let root = self.with_nodes(|nodes| root_at(size, nodes).unwrap());
        Checkpoint::sign(&self.origin, size, &root, self.key.as_ref()).unwrap()
    }

    fn request(&self, old: u64, size: u64) -> AddCheckpoint {
        let proof = self.with_nodes(|nodes| prove_consistency(old, size, nodes).unwrap());
        AddCheckpoint { old_size: old, proof, checkpoint: self.head(size) }
    }

    pub(crate) fn letter(&self, old: u64, size: u64) -> Vec<u8> {
        let key = VerifierKey::of(self.key.as_ref()).unwrap();
        format!("{key}\n{}", self.request(old, size)).into_bytes()
    }

    pub(crate) fn mirror_letter(&self, from: usize, to: usize) -> Vec<u8> {
        let leaves = bundle::encode(&self.leaves[from..to]).unwrap();
        let first = (from as u64).to_be_bytes();
        [self.origin.as_bytes(), b"\n", &first, &leaves].concat()
    }
}

/// The space, whose memory ends with each crash.
struct Space {
    folders: SimFolders,
    witnesses: Witnesses<SimFolders>,
    mirrors: Mirrors<SimFolders>,
    minutes: u64,
}

impl Space {
    fn on(folders: &SimFolders) -> Self {
        let witnesses = Witnesses::open(folders.clone(), WITNESS.clone(), nobody()).unwrap();
        let mirrors = Mirrors::new(folders.clone(), MIRROR.clone());
        Self { folders: folders.clone(), witnesses, mirrors, minutes: 0 }
    }

    fn new() -> Self {
        Self::on(&SimFolders::default())
    }

    fn witness(&mut self, number: u32, letter: &[u8]) -> Witnessed {
        self.minutes += 1;
        self.witnesses.handle(&now(self.minutes), &box_id(number), letter)
    }

    fn mirror(&mut self, number: u32, letter: &[u8]) -> Mirrored {
        self.minutes += 1;
        let letter = MirrorLetter::parse(letter).unwrap();
        let head = self.witnesses.head(&box_id(number), &letter.origin).unwrap();
        let now = now(self.minutes);
        self.mirrors.handle(&now, &box_id(number), &letter, head.as_deref()).unwrap().unwrap()
    }
}

fn is_mirrored(log: &Log, size: u64, line: &str) -> bool {
    let head = log.head(size);
    let text = Note::parse(&head).unwrap().text().to_owned();
    let key = CosignatureKey::of(MIRROR.as_ref()).unwrap();
    Note::parse(&format!("{text}\n{line}")).is_ok_and(|note| note.verify(&key).is_ok())
}

#[test]
fn a_log_is_witnessed_as_the_specification_says() {
    let mut space = Space::new();
    let log = Log::new(BASE, &LOG).grown(40, "a");
    let first = space.witness(1, &log.letter(0, 10));
    assert_eq!((first.status, first.alarm), (200, None), "{}", first.body);
    let LeafBody::Head(head) = first.leaf.unwrap() else { panic!("no head") };
    assert_eq!((head.log.as_str(), head.size, head.box_id), (BASE, 10, box_id(1)));
    let mut client = WitnessClient::new(CosignatureKey::of(WITNESS.as_ref()).unwrap(), 0);
    let reply = client.take(&log.request(0, 10), first.status, &first.body).unwrap();
    assert!(matches!(reply, WitnessReply::Cosigned { .. }));
    let check = |space: &mut Space, letter: &[u8], status: u16, part: &str| {
        let answer = space.witness(1, letter);
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.body.contains(part) && answer.leaf.is_none(), "{answer:?}");
    };
    check(&mut space, &log.letter(5, 20), 409, "10\n");
    check(&mut space, b"nonsense", 400, "key");
    check(&mut space, b"a+b+c\nold 0\n\n", 400, "key");
    let vkey = VerifierKey::of(LOG.as_ref()).unwrap();
    check(&mut space, format!("{vkey}\nold 0\n").as_bytes(), 400, "empty line");
    check(&mut space, &[b'x'; 1 << 16], 400, "key");
    let other = Log::new("guan/box-1/sub", &LOG).grown(5, "a");
    check(&mut space, &other.letter(0, 5), 404, "does not watch");
    let thief = Log::new(BASE, &key(BASE)).grown(40, "a");
    let answer = space.witness(1, &thief.letter(10, 20));
    assert_eq!((answer.status, answer.alarm.is_some()), (403, true), "{answer:?}");
    assert_eq!(space.witness(1, &log.letter(10, 40)).status, 200);
}

/// What was answered is known after any crash; a crash before the answer changes at most the size.
#[test]
fn heads_are_durable_before_the_answer() {
    let log = Log::new(BASE, &LOG).grown(60, "a");
    for seed in 0..60 {
        let mut space = Space::new();
        let size = seed % 7 + 1;
        assert_eq!(space.witness(1, &log.letter(0, size)).status, 200);
        space.folders.crash(seed);
        let mut space = Space::on(&space.folders);
        let forked = Log::new(BASE, &LOG).grown(60, "b");
        assert_eq!(space.witness(1, &forked.letter(0, 50)).status, 409, "seed {seed}");
        assert_eq!(space.witness(1, &forked.letter(size, 50)).status, 422, "seed {seed}");
        assert_eq!(space.witness(1, &log.letter(size, 50)).status, 200, "seed {seed}");
    }
}

/// The head does not reach the disk: no answer that binds, and after the crash the box goes on.
#[test]
fn a_broken_disk_cosigns_nothing() {
    let mut space = Space::new();
    let log = Log::new(BASE, &LOG).grown(60, "a");
    assert_eq!(space.witness(1, &log.letter(0, 10)).status, 200);
    let disk = space.folders.disk(&[WITNESS_DIR, "box-1", &folder_of(BASE)]);
    disk.fail_next_sync();
    let answer = space.witness(1, &log.letter(10, 20));
    assert_eq!((answer.status, answer.leaf), (500, None));
    assert!(!answer.body.contains('\u{2014}') && answer.alarm.is_some());
    space.folders.crash(1);
    let mut space = Space::on(&space.folders);
    assert_eq!(space.witness(1, &log.letter(10, 30)).status, 200);
}

#[test]
fn a_log_is_one_boxs() {
    let mut space = Space::new();
    let log = Log::new(BASE, &LOG).grown(40, "a");
    assert_eq!(space.witness(1, &log.letter(0, 10)).status, 200);
    let other = space.witness(2, &log.letter(10, 20));
    assert_eq!(other.status, 404);
    assert!(other.alarm.unwrap().contains("box-1"));
    // After a restart too, and its leaves neither.
    let mut space = Space::on(&space.folders);
    assert_eq!(space.witness(2, &log.letter(10, 20)).status, 404);
    let mirrored = space.mirror(2, &log.mirror_letter(0, 10));
    assert_eq!((mirrored.next, mirrored.line.as_str()), (0, ""));
    assert_eq!(space.folders.list(&[MIRROR_DIR]).unwrap(), Vec::<String>::new());
    // A second log of the same box that is no epoch of the first.
    let second = Log::new("guan/box-3", &key("guan/box-3")).grown(5, "a");
    assert_eq!(space.witness(1, &second.letter(0, 5)).status, 404);
    assert_eq!(space.witness(3, &second.letter(0, 5)).status, 200);
}

#[test]
fn an_epoch_closes_those_before() {
    let mut space = Space::new();
    let log = Log::new(BASE, &LOG).grown(40, "a");
    let next = Log::new("guan/box-1/e2", &LOG).grown(40, "b");
    assert_eq!(space.witness(1, &log.letter(0, 10)).status, 200);
    assert_eq!(space.witness(1, &next.letter(0, 5)).status, 200);
    for _ in 0..2 {
        let closed = space.witness(1, &log.letter(10, 20));
        assert_eq!(closed.status, 403);
        assert!(closed.body.contains("guan/box-1/e2"), "{}", closed.body);
        // What was cosigned of it can still be copied.
        assert_eq!(space.mirror(1, &log.mirror_letter(0, 10)).next, 10);
        space = Space::on(&space.folders);
    }
    let thief = Log::new("guan/box-1/e3", &key(BASE)).grown(5, "c");
    assert_eq!(space.witness(1, &thief.letter(0, 5)).status, 403);
    let odd = Log::new("guan/box-1/e02", &LOG).grown(5, "c");
    assert_eq!(space.witness(1, &odd.letter(0, 5)).status, 404);
    for number in 3..=LOGS_PER_BOX_MAX {
        let next = Log::new(&format!("guan/box-1/e{number}"), &LOG).grown(1, "a");
        assert_eq!(space.witness(1, &next.letter(0, 1)).status, 200, "{number}");
    }
    let one_more = Log::new(&format!("guan/box-1/e{}", LOGS_PER_BOX_MAX + 1), &LOG).grown(1, "a");
    let answer = space.witness(1, &one_more.letter(0, 1));
    assert!(answer.status == 403 && answer.body.contains("at most"), "{answer:?}");
}

/// As boxes of today show an epoch: under its own name, with a key that bears that name.
fn own_name_letter(log: &Log, old: u64, size: u64) -> Vec<u8> {
    let key = VerifierKey::of(log.key.as_ref()).unwrap().of_epoch(&log.origin);
    format!("{key}\n{}", log.request(old, size)).into_bytes()
}

/// The pinned 32 bytes sign the successor under its own name; no other key does, and no other box.
#[test]
fn an_epoch_is_the_successor_under_its_own_name() {
    let mut space = Space::new();
    let log = Log::new(BASE, &LOG).grown(40, "a");
    let next = Log::new("guan/box-1/e2", &LOG).grown(40, "b");
    assert!(next.head(5).contains("\n\u{2014} guan/box-1/e2 "));
    assert_eq!(space.witness(1, &log.letter(0, 10)).status, 200);
    let thief = Log::new("guan/box-1/e2", &key(BASE)).grown(5, "c");
    let answer = space.witness(1, &own_name_letter(&thief, 0, 5));
    assert_eq!((answer.status, answer.alarm.is_some()), (403, true), "{answer:?}");
    let answer = space.witness(2, &own_name_letter(&next, 0, 5));
    assert!(answer.status == 404 && answer.alarm.unwrap().contains("box-1"));
    assert_eq!(space.witness(1, &own_name_letter(&next, 0, 5)).status, 200);
    for _ in 0..2 {
        assert_eq!(space.witness(1, &log.letter(10, 20)).status, 403, "it has ended");
        space = Space::on(&space.folders);
    }
    // An earlier release of the box goes on with it: the key by its first name.
    assert_eq!(space.witness(1, &next.letter(5, 20)).status, 200);
    let forked = Log::new("guan/box-1/e2", &LOG).grown(40, "c");
    let answer = space.witness(1, &own_name_letter(&forked, 20, 30));
    assert!(answer.status == 422 && answer.alarm.unwrap().contains("two histories"));
    assert_eq!(space.mirror(1, &next.mirror_letter(0, 20)).next, 20);
    let third = Log::new("guan/box-1/e3", &LOG).grown(5, "d");
    let as_second = own_name_letter(&third, 0, 5);
    let as_second = String::from_utf8(as_second).unwrap().replacen(
        &VerifierKey::of(LOG.as_ref()).unwrap().of_epoch("guan/box-1/e3").to_string(),
        &VerifierKey::of(LOG.as_ref()).unwrap().of_epoch("guan/box-1/e2").to_string(),
        1,
    );
    assert_eq!(space.witness(1, as_second.as_bytes()).status, 404, "a key of another epoch");
    assert_eq!(space.witness(1, &own_name_letter(&third, 0, 5)).status, 200);
}

/// A head of an epoch as earlier releases signed it: the line bears the name of the first.
#[test]
fn boxes_of_earlier_releases_are_witnessed() {
    let log = Log::new("guan/box-1/e2", &LOG).grown(5, "b");
    let key = VerifierKey::of(LOG.as_ref()).unwrap();
    let head = log.head(5);
    let (text, _) = head.rsplit_once('\n').unwrap().0.rsplit_once('\n').unwrap();
    let text = text.trim_end_matches('\n').to_owned() + "\n";
    let signature = [&key.id()[..], &LOG.sign(text.as_bytes()).unwrap()].concat();
    let line = base64::engine::general_purpose::STANDARD.encode(signature);
    let request = AddCheckpoint {
        old_size: 0,
        proof: Vec::new(),
        checkpoint: format!("{text}\n\u{2014} {BASE} {line}\n"),
    };
    let mut space = Space::new();
    let answer = space.witness(1, format!("{key}\n{request}").as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.body);
    let mut space = Space::on(&space.folders);
    assert_eq!(space.witness(1, &own_name_letter(&log.grown(9, "b"), 5, 9)).status, 200);
}

#[test]
fn forks_are_kept_and_told() {
    let mut space = Space::new();
    let log = Log::new(BASE, &LOG).grown(40, "a");
    let forked = Log::new(BASE, &LOG).grown(40, "b");
    assert_eq!(space.witness(1, &log.letter(0, 10)).status, 200);
    let answer = space.witness(1, &forked.letter(10, 20));
    assert_eq!(answer.status, 422);
    let LeafBody::Fork(fork) = answer.leaf.unwrap() else { panic!("no leaf") };
    assert_eq!((fork.known, fork.offered, fork.log.as_str()), (10, 20, BASE));
    assert!(answer.alarm.unwrap().contains("two histories"));
    let disk = space.folders.disk(&[FORKS_DIR, "box-1"]);
    let file = disk.contents(&format!("{}.txt", fork.evidence)).unwrap();
    let text = String::from_utf8(file).unwrap();
    assert!(text.contains(&forked.head(20)) && text.contains("guan/box-1\n10\n"), "{text}");
    assert_eq!(space.witness(1, &forked.letter(10, 20)).leaf, None, "one leaf for one fork");
    let many = (0..FORKS_PER_BOX_MAX as u64 + 1).map(|number| {
        let request = forked.request(10, 20 + number);
        let fork = guan_evidence::witness::Fork { cosigned: log.head(10), request };
        keep(&disk, &fork).unwrap()
    });
    let kept: Vec<Kept> = many.collect();
    let count = kept.iter().filter(|kept| matches!(kept, Kept::New(_))).count();
    assert_eq!((count, kept.last()), (FORKS_PER_BOX_MAX - 1, Some(&Kept::Not)));
}

#[test]
fn requests_are_rationed() {
    let mut space = Space::new();
    let log = Log::new(BASE, &LOG).grown(2, "a");
    let statuses: Vec<u16> = (0..=WITNESS_PER_MINUTE_MAX)
        .map(|_| space.witnesses.handle(&now(0), &box_id(1), &log.letter(0, 1)).status)
        .collect();
    assert_eq!(statuses[0], 200);
    assert_eq!(statuses[usize::try_from(WITNESS_PER_MINUTE_MAX).unwrap()], 429);
    assert!(statuses[1..statuses.len() - 1].iter().all(|status| *status == 409));
    assert_eq!(space.witnesses.handle(&now(0), &box_id(2), b"").status, 400, "others go on");
}

#[test]
fn a_log_is_mirrored_up_to_its_cosigned_heads() {
    let mut space = Space::new();
    let log = Log::new(BASE, &LOG).grown(1000, "a");
    assert_eq!(space.mirror(1, &log.mirror_letter(0, 5)).next, 0, "no head was cosigned");
    assert_eq!(space.witness(1, &log.letter(0, 700)).status, 200);
    let mut next = 0;
    while next < 600 {
        let answer = space.mirror(1, &log.mirror_letter(next, (next + 200).min(1000)));
        assert_eq!((answer.next, answer.line.as_str()), (next as u64 + 200, ""));
        next += 200;
    }
    // The head under way stays, even when another one was cosigned since.
    assert_eq!(space.witness(1, &log.letter(700, 990)).status, 200);
    let answer = space.mirror(1, &log.mirror_letter(600, 800));
    assert_eq!(answer.next, 800);
    assert!(is_mirrored(&log, 700, &answer.line), "{}", answer.line);
    let again = space.mirror(1, &log.mirror_letter(300, 500));
    assert_eq!(again, answer, "what it has it does not take again");
    assert_eq!(space.mirror(1, &log.mirror_letter(900, 1000)).next, 800, "nor what leaves a hole");
    let answer = space.mirror(1, &log.mirror_letter(800, 1000));
    assert_eq!(answer.next, 990, "nor what no head covers");
    assert!(is_mirrored(&log, 990, &answer.line));
    let disk = space.folders.disk(&[MIRROR_DIR, "box-1", &folder_of(BASE)]);
    let copy = read(disk).unwrap();
    let mut seen = Vec::new();
    copy.for_each(&mut |_, leaf| seen.push(Bytes::copy_from_slice(leaf))).unwrap();
    assert_eq!(seen, log.leaves[..990]);
    let parsed = Note::parse(&copy.checkpoint().unwrap().unwrap()).unwrap().text().to_owned();
    assert!(parsed.starts_with("guan/box-1\n990\n"));
}

/// What an answer counts is there after any crash, and what a head covers is never another history.
#[test]
fn mirrored_leaves_survive_crashes() {
    let log = Log::new(BASE, &LOG).grown(900, "a");
    for seed in 0..40 {
        let folders = SimFolders::default();
        let mut space = Space::on(&folders);
        assert_eq!(space.witness(1, &log.letter(0, 850)).status, 200);
        let (mut next, mut crashes) = (0_usize, 0);
        while next < 850 {
            let to = (next + 100 + usize::try_from(seed).unwrap()).min(900);
            // Some letters come in part only: the disk breaks under them.
            let disk = folders.disk(&[MIRROR_DIR, "box-1", &folder_of(BASE)]);
            let is_broken = (next as u64 + seed).is_multiple_of(3) && crashes < 5;
            if is_broken {
                disk.fail_next_sync();
                let letter = MirrorLetter::parse(&log.mirror_letter(next, to)).unwrap();
                let head = space.witnesses.head(&box_id(1), BASE).unwrap();
                let failed = space.mirrors.handle(&now(999), &box_id(1), &letter, head.as_deref());
                assert!(failed.is_err());
            } else {
                next = usize::try_from(space.mirror(1, &log.mirror_letter(next, to)).next).unwrap();
            }
            if is_broken || (next as u64 + seed).is_multiple_of(2) {
                crashes += 1;
                folders.crash(seed + crashes);
                space = Space::on(&folders);
                let now = space.mirror(1, &log.mirror_letter(0, 0)).next;
                assert!(now >= next as u64, "seed {seed}: {now} of {next}");
                next = usize::try_from(now).unwrap();
            }
        }
        let answer = space.mirror(1, &log.mirror_letter(0, 0));
        assert!(is_mirrored(&log, 850, &answer.line), "seed {seed}");
    }
}

#[test]
fn leaves_of_another_history_are_dropped() {
    let mut space = Space::new();
    let log = Log::new(BASE, &LOG).grown(1000, "a");
    assert_eq!(space.witness(1, &log.letter(0, 300)).status, 200);
    space.mirror(1, &log.mirror_letter(0, 200));
    let whole = space.mirror(1, &log.mirror_letter(200, 300));
    assert_eq!(space.witness(1, &log.letter(300, 900)).status, 200);
    let lies = Log { leaves: log.leaves[..300].to_vec(), ..log.clone() }.grown(1000, "b");
    for from in [300, 500, 700] {
        let answer = space.mirror(1, &lies.mirror_letter(from, from + 200));
        let (next, alarm) = (answer.next, answer.alarm);
        match from {
            700 => assert!(next == 300 && alarm.unwrap().contains("do not fit"), "{next}"),
            _ => assert_eq!((next, alarm), (from as u64 + 200, None)),
        }
    }
    let answer = space.mirror(1, &log.mirror_letter(0, 0));
    assert_eq!((answer.next, answer.line), (300, whole.line));
    for from in [300, 500, 700] {
        space.mirror(1, &log.mirror_letter(from, from + 200));
    }
    let answer = space.mirror(1, &log.mirror_letter(0, 0));
    assert!(answer.next == 900 && is_mirrored(&log, 900, &answer.line));
}

#[test]
fn a_torn_tail_is_cut_and_damage_is_told() {
    let disk = SimDisk::new();
    let log = Log::new(BASE, &LOG).grown(10, "a");
    let target = Target::of(&log.head(10)).unwrap();
    let mut mirror = Mirror::open(disk.clone()).unwrap();
    let taken = mirror.take(&log.leaves[..7], &target, now(0).wall, MIRROR.as_ref()).unwrap();
    assert_eq!((taken, mirror.next()), (Taken::Kept, 7));
    drop(mirror);
    let name = "tail-0000000000000000";
    let whole = disk.contents(name).unwrap();
    for length in 0..=whole.len() {
        for filler in [0, 1, 50] {
            let torn = [&whole[..length], &vec![0; filler]].concat();
            disk.put(name, &torn);
            let mut mirror = Mirror::open(disk.clone()).unwrap();
            let next = usize::try_from(mirror.next()).unwrap();
            assert_eq!(next, length / (whole.len() / 7), "cut at {length}");
            let rest = &log.leaves[next..];
            let taken = mirror.take(rest, &target, now(0).wall, MIRROR.as_ref()).unwrap();
            assert_eq!(taken, Taken::Whole, "cut at {length}");
            disk.remove("checkpoint").unwrap();
        }
    }
    let mut mirror = Mirror::open(disk.clone()).unwrap();
    assert_eq!(mirror.take(&[], &target, now(0).wall, MIRROR.as_ref()).unwrap(), Taken::Whole);
    disk.put(name, &whole);
    let fault = Mirror::open(disk).err().unwrap();
    assert!(matches!(fault, MirrorFault::Damaged { size: 10 }), "{fault}");
}

#[test]
fn hostile_letters_are_refused_by_name() {
    let check = |letter: &[u8], part: &str| {
        let fault = MirrorLetter::parse(letter).unwrap_err().to_string();
        assert!(fault.contains(part), "{fault}");
    };
    let good = |leaves: &[Vec<u8>]| {
        let bundle = bundle::encode(leaves).unwrap();
        [b"o\n", &7_u64.to_be_bytes()[..], &bundle].concat()
    };
    assert_eq!(MirrorLetter::parse(&good(&vec![vec![0; LEAF_BYTES_MAX]; 2])).unwrap().first, 7);
    check(&good(&[vec![0; LEAF_BYTES_MAX + 1]]), "leaf 7");
    check(b"", "name");
    check(&[b'o'; 1000], "name");
    check(b"\xFF\n12345678", "name");
    check(b"o\n1234567", "index");
    check(b"o\n\xFF2345678", "beyond");
    check(&[b"o\n", &[0; 8][..], &[0, 9, 1]].concat(), "bundle");
    let many = [b"o\n", &[0; 8][..], &[0, 1, 1].repeat(257)].concat();
    check(&many, "bundle");
}

#[test]
fn copies_leave_room_for_the_store() {
    let mut space = Space::new();
    let log = Log::new(BASE, &LOG).grown(10, "a");
    assert_eq!(space.witness(1, &log.letter(0, 10)).status, 200);
    let disk = space.folders.disk(&[MIRROR_DIR, "box-1", &folder_of(BASE)]);
    disk.set_capacity(Some(FREE_BYTES_MIN - 1));
    assert_eq!(space.mirror(1, &log.mirror_letter(0, 10)).next, 0);
    disk.set_capacity(Some(FREE_BYTES_MIN));
    assert_eq!(space.mirror(1, &log.mirror_letter(0, 10)).next, 10);
}

/// The whole way: a session begins with the keys, a head is answered after the space's log has it, a batch
/// is told of, and a letter that is none ends the session.
#[tokio::test(start_paused = true)]
async fn letters_are_answered() {
    use crate::alarms::Alarms;
    use crate::logs::desk::Desk;
    use crate::negotiating::Mail;
    use crate::received::Tally;
    use crate::runner::{self, Clock, StoreStatus};
    use crate::store::{LogParts, Logged, Store};
    use guan_link::{Letter, Topic};
    use tokio::sync::{mpsc, watch};

    let folders = SimFolders::default();
    let disk = SimDisk::new();
    let program = guan_evidence::Program::parse("guan-space test").unwrap();
    let parts = LogParts { disk: disk.clone(), signer: key("guan-space/space-1"), program };
    let store = Store::open(disk.clone(), 1 << 20, [1; 16], parts).unwrap().0;
    let (requests, queue) = mpsc::channel(16);
    let (tally, started) = (Tally::default(), tokio::time::Instant::now());
    let clock: Clock = Arc::new(move || Now { monotonic: started.elapsed(), ..now(0) });
    let status = watch::channel(StoreStatus::default()).0;
    tokio::spawn(runner::run(store, queue, status.clone(), clock.clone(), tally.clone()));
    let (mail, _negotiations) = Mail::new();
    let (mail, letters) = mail.with_logs(Bytes::from_static(b"log L\nwitness W\nmirror M\n"));
    let witnesses = Witnesses::open(folders.clone(), WITNESS.clone(), nobody()).unwrap();
    let mirrors = Mirrors::new(folders, MIRROR.clone());
    let (alarms, tallied) = (Alarms::default(), tally.clone());
    let desk = Desk { mail: mail.clone(), witnesses, mirrors, requests, tally, alarms, clock };
    tokio::spawn(desk.run(letters));

    let mut session = mail.begin(&box_id(1));
    let keys = session.recv().await.unwrap();
    assert_eq!((keys.topic, &keys.body[..5]), (Topic::LogKeys, &b"log L"[..]));
    let log = Log::new(BASE, &LOG).grown(10, "a");
    let write = |topic, body: Vec<u8>| Letter { topic, ticket: 7, body: body.into() };
    mail.receive(&box_id(1), write(Topic::Witness, log.letter(0, 10))).await.unwrap();
    let answer = session.recv().await.unwrap();
    assert_eq!((answer.topic, answer.ticket), (Topic::WitnessAnswer, 7));
    assert_eq!(answer.body[..2], 200_u16.to_be_bytes());
    let leaves = crate::store::read_leaves(&disk, disk.clone()).unwrap();
    assert_eq!(guan_evidence::Leaf::decode(&leaves[1].1).unwrap().body.kind_name(), "log.head");
    mail.receive(&box_id(1), write(Topic::Mirror, log.mirror_letter(0, 10))).await.unwrap();
    let answer = session.recv().await.unwrap();
    assert_eq!((answer.topic, &answer.body[..8]), (Topic::MirrorAnswer, &10_u64.to_be_bytes()[..]));
    let line = std::str::from_utf8(&answer.body[8..]).unwrap();
    assert!(is_mirrored(&log, 10, line), "{line}");
    tallied.add(vec![Logged {
        box_id: box_id(1),
        spool: guan_model::SpoolId([1; 16]),
        stream: guan_model::StreamId(1),
        seq: guan_model::BatchSeq(1),
        origin: "guan-space/space-1".to_owned(),
        index: 3,
        leaf: Digest([1; 32]),
    }]);
    assert_eq!(session.recv().await.unwrap().topic, Topic::Received);
    let ask = [BASE.as_bytes(), b"\n", &4_u64.to_be_bytes(), &3_u32.to_be_bytes()].concat();
    mail.receive(&box_id(1), write(Topic::MirrorAsk, ask.clone())).await.unwrap();
    let answer = session.recv().await.unwrap();
    assert_eq!((answer.topic, answer.ticket), (Topic::MirrorLeaves, 7));
    let expect = [&4_u64.to_be_bytes()[..], &bundle::encode(&log.leaves[4..7]).unwrap()].concat();
    assert_eq!(answer.body, expect);
    let hostile = mail.receive(&box_id(1), write(Topic::MirrorAsk, ask[..20].to_vec())).await;
    assert!(hostile.unwrap_err().contains("does not end with how many"));
    let hostile = mail.receive(&box_id(1), write(Topic::Mirror, b"x".to_vec())).await;
    assert!(hostile.unwrap_err().contains("name of a log"));
    let hostile = mail.receive(&box_id(1), write(Topic::LogKeys, Vec::new())).await;
    assert!(hostile.unwrap_err().contains("come from the space"));
    // Without room for the leaf there is no answer, and the next one comes through.
    disk.set_capacity(Some(0));
    mail.receive(&box_id(1), write(Topic::Witness, log.letter(10, 10))).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(session.try_recv().is_err());
    disk.set_capacity(None);
    mail.receive(&box_id(1), write(Topic::Witness, log.letter(10, 10))).await.unwrap();
    assert_eq!(session.recv().await.unwrap().body[..2], 200_u16.to_be_bytes());
}

mod giving;
mod rollover;
