use super::*;
use base64::Engine as _;
use bytes::Bytes;
use guan_evidence::{LeafBody, VerifierKey, leaf_hash, verify_consistency};
use guan_identity::LogKeyFile;
use guan_model::{
    BatchSeq, BootNumber, ClockQuality, Digest, Now, Signer as _, StreamId, WallTime,
};
use guan_spool::Disk;
use guan_spool::disk::SimDisk;
use std::sync::Arc;
use std::time::Duration;

mod damage;
mod refill;
mod rot;

const BASE: &str = "guan/box-1";

fn now(ms: u64) -> Now {
    Now {
        wall: WallTime::from_millis(1_800_000_000_000 + i64::try_from(ms).unwrap()),
        monotonic: Duration::from_millis(ms),
        quality: ClockQuality::Ntp,
    }
}

/// A log with its journal as a plain list.
struct Rig {
    disk: SimDisk,
    key: Arc<LogKeyFile>,
    journal: Vec<(u64, Bytes)>,
}

impl Rig {
    fn new() -> Self {
        let (key, _) = LogKeyFile::generate(BASE).unwrap();
        Self { disk: SimDisk::new(), key: Arc::new(key), journal: Vec::new() }
    }

    fn open(&self) -> EvidenceLog<SimDisk> {
        let from = EvidenceLog::tail_from(self.disk.clone()).unwrap();
        let tail = self.journal.iter().filter(|(place, _)| *place >= from).cloned().collect();
        EvidenceLog::open(self.disk.clone(), BASE, self.key.clone(), tail).unwrap()
    }

    fn append(&mut self, log: &mut EvidenceLog<SimDisk>, count: u64) {
        for number in 0..count {
            let moment = now(log.head().size + number);
            self.journal.push(log.append(&moment, BootNumber(1), LeafBody::Stop));
        }
        log.handle_committed();
    }

    fn reader(&self, epoch: Option<Epoch>) -> LogReader<SimDisk> {
        LogReader::open(self.disk.clone(), epoch, self.journal.clone()).unwrap()
    }
}

#[test]
fn a_log_goes_on_where_it_was() {
    let mut rig = Rig::new();
    let mut log = rig.open();
    rig.append(&mut log, 700);
    assert_eq!(log.seal().unwrap(), Some(512));
    let signed = log.sign_checkpoint(&now(1)).unwrap();
    assert_eq!((signed.size, signed.cosigned), (700, 0));
    let head = log.head();
    let again = rig.open();
    assert_eq!((again.head(), again.checkpoint_size(), again.lost()), (head, 700, None));
    assert_eq!(rig.reader(None).size().unwrap(), 700);
    // Bundles are small on the disk: 256 leaves of 30 bytes.
    let file = guan_spool::read_file(&rig.disk, "entries-0000000000000001", 1 << 20).unwrap();
    assert!(file.len() < 256 * 30, "{}", file.len());
}

#[test]
fn hashes_of_bundles_are_made_again() {
    let mut rig = Rig::new();
    let mut log = rig.open();
    rig.append(&mut log, 1000);
    log.seal().unwrap();
    let head = log.head();
    let whole = guan_spool::read_file(&rig.disk, "subtrees", 1 << 20).unwrap();
    assert_eq!(whole.len(), 3 * 32);
    for length in 0..=whole.len() {
        guan_spool::replace_file(&rig.disk, "subtrees", &whole[..length]).unwrap();
        assert_eq!(rig.open().head(), head, "cut at {length}");
    }
    rig.disk.remove("subtrees").unwrap();
    assert_eq!(rig.open().head(), head);
}

#[test]
fn a_loss_ends_the_log_and_begins_another() {
    let mut rig = Rig::new();
    let mut log = rig.open();
    rig.append(&mut log, 300);
    log.seal().unwrap();
    log.sign_checkpoint(&now(1)).unwrap();
    let root = log.root_at(290).unwrap();
    rig.journal.truncate(290);
    let mut log = rig.open();
    let begun = log.begun().unwrap().clone();
    assert_eq!((begun.previous.as_str(), begun.size, begun.signed), (BASE, 290, 300));
    assert_eq!(begun.root, root);
    assert_eq!((log.origin(), log.head().size), ("guan/box-1/e2", 0));
    let (place, bytes) = log.append(&now(2), BootNumber(2), LeafBody::EpochStart(begun));
    rig.journal.push((place, bytes));
    log.handle_committed();
    rig.append(&mut log, 400);
    assert_eq!(log.seal().unwrap(), Some(JournalPlace::new(log.epoch(), 256).number()));
    let signed = log.sign_checkpoint(&now(3)).unwrap();
    assert!(signed.text.starts_with("guan/box-1/e2\n401\n"));
    // Signed as the log that it is, so that programs which know C2SP notes alone can check it.
    let key = VerifierKey::of(rig.key.as_ref()).unwrap().key_bytes();
    let key = VerifierKey::new(log.origin(), key).unwrap();
    guan_evidence::Note::parse(&signed.text).unwrap().verify(&key).unwrap();
    let again = rig.open();
    assert_eq!((again.head(), again.begun()), (log.head(), None));
    // The old one stays as it was.
    let old = rig.reader(Some(Epoch::FIRST));
    assert_eq!((old.size().unwrap(), rig.reader(None).size().unwrap()), (290, 401));
    assert!(old.checkpoint().unwrap().unwrap().starts_with("guan/box-1\n300\n"));
}

/// A head of a second epoch that an earlier release signed, under the name of the first.
#[test]
fn heads_of_earlier_releases_are_read() {
    let mut rig = Rig::new();
    let mut log = rig.open();
    rig.append(&mut log, 300);
    log.sign_checkpoint(&now(1)).unwrap();
    rig.journal.truncate(290);
    let mut log = rig.open();
    let begun = log.begun().unwrap().clone();
    rig.journal.push(log.append(&now(2), BootNumber(2), LeafBody::EpochStart(begun)));
    log.handle_committed();
    let text = guan_evidence::checkpoint::head_text("guan/box-1/e2", 1, &log.head().root);
    let key = VerifierKey::of(rig.key.as_ref()).unwrap();
    let signature = [&key.id()[..], &rig.key.sign(text.as_bytes()).unwrap()].concat();
    let line = base64::engine::general_purpose::STANDARD.encode(signature);
    let old = format!("{text}\n\u{2014} {BASE} {line}\n");
    Bundles::of(rig.disk.clone(), log.epoch()).set_checkpoint(&old).unwrap();
    let again = rig.open();
    assert_eq!((again.checkpoint_size(), again.origin()), (1, "guan/box-1/e2"));
    assert_eq!(rig.reader(None).checkpoint_size().unwrap(), 1);
}

#[test]
fn proofs_reach_what_a_witness_knows() {
    let mut rig = Rig::new();
    let mut log = rig.open();
    rig.append(&mut log, 300);
    log.seal().unwrap();
    let first = log.sign_checkpoint(&now(1)).unwrap();
    log.set_cosigned(300);
    rig.append(&mut log, 300);
    log.seal().unwrap();
    let second = log.sign_checkpoint(&now(2)).unwrap();
    let (old, new) = ((300, &first.root), (600, &second.root));
    assert_eq!(second.cosigned, 300);
    verify_consistency(old, new, &second.consistency).unwrap();
    assert_eq!(log.signed_head().unwrap().unwrap(), second);
    let key = VerifierKey::of(rig.key.as_ref()).unwrap();
    guan_evidence::Checkpoint::parse_and_verify(&second.text, &key).unwrap();
}

#[test]
fn pruned_leaves_leave_their_hashes() {
    let mut rig = Rig::new();
    let mut log = rig.open();
    rig.append(&mut log, 1100);
    log.seal().unwrap();
    let head = log.head();
    log.prune(700).unwrap();
    assert_eq!(log.first().unwrap(), 512);
    let log = rig.open();
    assert_eq!((log.head(), log.first().unwrap()), (head, 512));
    assert!(log.root_at(512).is_some(), "from the hashes alone");
    let reader = rig.reader(None);
    assert!(matches!(reader.bundle(1), Err(LogFileFault::Pruned { .. })));
    let mut seen = 0;
    reader
        .for_each(&mut |index, leaf| {
            seen += 1;
            let hash = leaf_hash(leaf);
            let proof = reader
                .with_nodes(|nodes| guan_evidence::prove_inclusion(index, head.size, nodes))
                .unwrap();
            guan_evidence::verify_inclusion(&hash, index, head.size, &proof, &head.root).unwrap();
        })
        .unwrap();
    assert_eq!(seen, 1100 - 512);
    // The last bundle stays, or nobody could tell how many there were.
    let mut log = rig.open();
    log.prune(u64::MAX).unwrap();
    assert_eq!(log.first().unwrap(), 768);
    assert_eq!(rig.open().head(), head);
}

/// Leaves that only say what became of earlier ones do not keep a box awake.
#[test]
fn bookkeeping_makes_no_head_due() {
    let mut rig = Rig::new();
    let mut log = rig.open();
    rig.append(&mut log, 1);
    log.sign_checkpoint(&now(0)).unwrap();
    let due = |log: &EvidenceLog<SimDisk>| log.is_checkpoint_due(&now(60_000), Duration::ZERO, 1);
    let cosigned = guan_evidence::Cosigned {
        witness: "w".to_owned(),
        key_id: [0; 4],
        size: 1,
        timestamp_s: 1,
        signature: [0; 64],
    };
    rig.journal.push(log.append(&now(1), BootNumber(1), LeafBody::Cosigned(cosigned)));
    log.handle_committed();
    assert!(!due(&log));
    assert!(!due(&rig.open()));
    assert_eq!(rig.open().cosigned(), 1);
    rig.append(&mut log, 1);
    assert!(due(&log) && due(&rig.open()));
}

/// The last receipts before a box comes to rest are proven, too.
#[test]
fn a_receipt_makes_a_head_due() {
    let mut rig = Rig::new();
    let mut log = rig.open();
    rig.append(&mut log, 1);
    log.sign_checkpoint(&now(0)).unwrap();
    let receipt = guan_evidence::Forwarded {
        stream: StreamId(1),
        from: BatchSeq(1),
        through: BatchSeq(3),
        log: "space".to_owned(),
        first: 7,
        last: 9,
        root: Digest([0; 32]),
    };
    rig.journal.push(log.append(&now(1), BootNumber(1), LeafBody::Forwarded(receipt)));
    log.handle_committed();
    for log in [log, rig.open()] {
        assert!(log.is_checkpoint_due(&now(60_000), Duration::ZERO, 1));
    }
}

/// Leaves that cannot be sealed now are sealed later, in the same place, wherever the room ended.
#[test]
fn a_full_disk_loses_no_leaf() {
    let mut rig = Rig::new();
    let mut log = rig.open();
    rig.append(&mut log, 600);
    let (head, roomy) = (log.head(), 1 << 20);
    rig.disk.set_capacity(Some(roomy));
    assert_eq!(log.seal().unwrap(), Some(512));
    let needed = roomy - rig.disk.free_bytes().unwrap();
    let hashes = rig.disk.contents("subtrees").unwrap();
    let mut stops = std::collections::BTreeSet::new();
    for capacity in 0..=needed {
        let disk = SimDisk::new();
        let rig = Rig { disk, key: rig.key.clone(), journal: rig.journal.clone() };
        let mut log = rig.open();
        rig.disk.set_capacity(Some(capacity));
        assert_eq!(log.seal().is_ok(), capacity == needed, "{capacity} bytes");
        let (from, count) = (log.unsealed().next().unwrap().0, log.unsealed().count() as u64);
        assert_eq!((log.head(), from + count), (head, 600), "{capacity} bytes");
        assert_eq!(rig.open().head(), head, "started anew with {capacity} bytes");
        stops.insert(from);
        rig.disk.set_capacity(None);
        log.seal().unwrap();
        assert_eq!(log.unsealed().next().unwrap().0, 512, "{capacity} bytes");
        assert_eq!(rig.disk.contents("subtrees").unwrap(), hashes, "{capacity} bytes");
    }
    assert_eq!(Vec::from_iter(stops), [0, 256, 512]);
    rig.disk.set_capacity(None);
    rig.append(&mut log, 1);
    assert_eq!((rig.open().head(), rig.reader(None).size().unwrap()), (log.head(), 601));
}

/// A mirror drops bundles that were no log's; what is left goes on.
#[test]
fn bundles_are_cut_from_the_end() {
    let mut rig = Rig::new();
    let mut log = rig.open();
    rig.append(&mut log, 1100);
    log.seal().unwrap();
    let bundles = Bundles::of(rig.disk.clone(), Epoch::FIRST);
    bundles.cut(2).unwrap();
    assert_eq!((bundles.count().unwrap(), bundles.first().unwrap()), (2, 0));
    let tree = sealed_tree(&bundles.recover_subtrees().unwrap());
    assert_eq!((tree.size(), Some(tree.root())), (512, log.root_at(512)));
}

/// A log of two bundles and 88 leaves, all under a signed head.
fn signed_rig() -> (Rig, LogHead) {
    let mut rig = Rig::new();
    let mut log = rig.open();
    rig.append(&mut log, 600);
    log.seal().unwrap();
    log.sign_checkpoint(&now(1)).unwrap();
    (rig, log.head())
}

/// No flipped bit of the hashes makes the log sign another history.
#[test]
fn flipped_bits_of_hashes_are_mended() {
    let (rig, head) = signed_rig();
    let whole = rig.disk.contents("subtrees").unwrap();
    for bit in 0..whole.len() * 8 {
        rig.disk.flip_bit("subtrees", bit);
        let log = rig.open();
        assert_eq!((log.head(), log.begun(), log.damaged()), (head, None, &[][..]), "bit {bit}");
        assert_eq!(rig.disk.contents("subtrees").unwrap(), whole, "bit {bit}");
    }
    // Nor those of a bundle that no head covers.
    let mut rig = Rig::new();
    let mut log = rig.open();
    rig.append(&mut log, 100);
    log.sign_checkpoint(&now(1)).unwrap();
    rig.append(&mut log, 700);
    log.seal().unwrap();
    for bit in 0..3 * 32 * 8 {
        rig.disk.flip_bit("subtrees", bit);
        assert_eq!(rig.open().head(), log.head(), "bit {bit}");
    }
    // What a full disk left unwritten is written with the next bundle.
    rig.disk.put("subtrees", &[]);
    rig.disk.set_capacity(Some(0));
    let mut again = rig.open();
    rig.disk.set_capacity(None);
    rig.append(&mut again, 300);
    again.seal().unwrap();
    assert_eq!(rig.disk.contents("subtrees").unwrap().len(), 4 * 32);
    assert_eq!(rig.open().head(), again.head());
}

/// Where hash and leaves are both wrong nothing leads to the signed head: the log ends, and says what is left.
#[test]
fn what_leads_to_no_signed_head_ends_the_log() {
    let (rig, _) = signed_rig();
    let root_before = rig.open().root_at(256);
    let name = "entries-0000000000000001";
    let bundle = rig.disk.contents(name).unwrap();
    rig.disk.put(name, &bundle[..40]);
    rig.disk.flip_bit("subtrees", 256 + 7);
    let mut bytes = rig.disk.contents("subtrees").unwrap();
    bytes.truncate(32);
    rig.disk.put("subtrees", &bytes);
    let log = rig.open();
    let begun = log.begun().unwrap();
    assert_eq!((begun.size, begun.signed, Some(begun.root)), (256, 600, root_before));
    assert_eq!((log.origin(), log.head().size), ("guan/box-1/e2", 0));
    // A history of its own from the first leaf on, with every hash right: nothing shows where it parts.
    let (mut rig, _) = signed_rig();
    let checkpoint = rig.disk.contents("checkpoint").unwrap();
    rig.disk = SimDisk::new();
    rig.journal.clear();
    let mut log = rig.open();
    for _ in 0..600 {
        rig.journal.push(log.append(&now(5), BootNumber(1), LeafBody::Stop));
    }
    log.handle_committed();
    log.seal().unwrap();
    rig.disk.put("checkpoint", &checkpoint);
    let log = rig.open();
    assert_eq!(log.lost(), Some(LeavesLost { have: 0, promised: 600 }));
    assert_eq!(log.origin(), "guan/box-1/e2");
}

/// A bundle that cannot be read stops no log; it is told once.
#[test]
fn a_damaged_newest_bundle_is_passed_over() {
    let (mut rig, head) = signed_rig();
    rig.journal.retain(|(place, _)| *place < 512);
    let mut shorter = Rig { disk: SimDisk::new(), key: rig.key.clone(), journal: Vec::new() };
    let mut log = shorter.open();
    for (place, _) in &rig.journal {
        let moment = now(*place);
        let boot = BootNumber(if *place < 256 { 1 } else { 2 });
        shorter.journal.push(log.append(&moment, boot, LeafBody::Stop));
    }
    log.handle_committed();
    log.seal().unwrap();
    let sealed = log.head();
    assert_ne!(sealed, head);
    assert_eq!(shorter.open().last_boot(), Some(BootNumber(2)));
    shorter.disk.flip_bit("entries-0000000000000001", 400);
    shorter.journal.clear();
    let mut log = shorter.open();
    let damaged = LeavesDamaged { from: 256, through: 511 };
    assert_eq!((log.head(), log.damaged(), log.begun()), (sealed, &[damaged][..], None));
    assert_eq!(log.last_boot(), Some(BootNumber(1 + 256)), "above any that was lost");
    let LeavesDamaged { from, through } = damaged;
    let reason = guan_evidence::GapReason::Damage;
    let gap = LeafBody::LogGap { from, through, reason, refill: None };
    shorter.journal.push(log.append(&now(0), BootNumber(300), gap));
    log.handle_committed();
    assert_eq!(log.untold().collect::<Vec<_>>(), [damaged]);
    let again = shorter.open();
    assert_eq!((again.head(), again.untold().count()), (log.head(), 0));
    assert_eq!(again.damaged(), [damaged], "told, and still not here");
    // With its hash gone too the log ends; whoever signed nothing yet has promised nothing.
    shorter.disk.put("subtrees", &[0; 32]);
    let log = shorter.open();
    assert_eq!(log.lost(), Some(LeavesLost { have: 256, promised: 0 }));
}

/// A hash too many is dropped, and the others stay: of a pruned log nothing else could make them.
#[test]
fn a_hash_without_its_bundle_is_dropped() {
    let mut rig = Rig::new();
    let mut log = rig.open();
    rig.append(&mut log, 1100);
    log.seal().unwrap();
    log.prune(700).unwrap();
    let whole = rig.disk.contents("subtrees").unwrap();
    let more = [&whole[..], &[7; 32], &[8; 9]].concat();
    rig.disk.put("subtrees", &more);
    assert_eq!(rig.open().head(), log.head());
    assert_eq!(rig.disk.contents("subtrees").unwrap(), whole);
    rig.disk.put("subtrees", &more);
    let bundles = Bundles::of(rig.disk.clone(), Epoch::FIRST);
    assert_eq!(bundles.recover_subtrees().unwrap().bundles(), 4);
    assert_eq!(rig.disk.contents("subtrees").unwrap(), whole);
    // Too few for what was pruned: nothing can be built on them.
    rig.disk.put("subtrees", &whole[..32]);
    assert_eq!(rig.open().begun().unwrap().size, 256);
    let fault = bundles.recover_subtrees().unwrap_err();
    assert!(matches!(fault, LogFileFault::Pruned { .. }), "{fault}");
}
