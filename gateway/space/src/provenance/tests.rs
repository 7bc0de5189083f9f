//! From the store back to both logs, on real folders.

use super::*;
use crate::logs::mirrors::{MirrorLetter, Mirrors};
use crate::logs::tests::{BASE, LOG, Log, box_id, now};
use crate::logs::witnesses::Witnesses;
use crate::registry::{Enrolment, Registry, TpmRecord};
use crate::store::tests::{announcement, delivery_under};
use crate::store::{Delivery, Judged, LogParts, Store};
use guan_evidence::account::Sum as Counted;
use guan_evidence::verify::{ATTESTATION_KEYS_MAX, Fault, LogVerifier};
use guan_evidence::{
    BatchAccepted, ContractOutcome, Cosigned, DataGap, DecisionSummary, Deleted, Forwarded,
    GapReason, Policy, Program, TlogProof, TpmStart,
};
use guan_model::{BootNumber, Now, PointName};

const SPOOL: SpoolId = SpoolId([1; 16]);

fn contract() -> ContractId {
    ContractId::parse("C-1").unwrap()
}

fn dataset() -> DatasetId {
    DatasetId::parse("d").unwrap()
}

fn delivery(seq: u64) -> Delivery {
    Delivery { received: WallTime::from_seconds(1000), ..delivery_under("C-1", seq) }
}

fn box_log(batches: u64) -> Log {
    let mut log = Log::new(BASE, &LOG);
    let digest = Digest([7; 32]);
    let program = Program::parse("guan test").unwrap();
    let mut add = |body| {
        let leaf = Leaf::new(&now(0), log.leaves.len() as u64, BootNumber(1), body);
        log.leaves.push(leaf.encode().into());
    };
    add(LeafBody::Start { program, spool: SPOOL });
    add(LeafBody::ContractChange {
        contract: contract(),
        version: 3,
        digest,
        plan: digest,
        outcome: ContractOutcome::Accepted,
    });
    for seq in 1..=batches {
        add(LeafBody::Decision(DecisionSummary {
            dataset: dataset(),
            plan: digest,
            permitted: 1,
            masked: 0,
            denied: BTreeMap::new(),
        }));
        add(LeafBody::Batch(BatchAccepted {
            dataset: dataset(),
            contract: contract(),
            contract_digest: digest,
            plan: digest,
            batch: delivery(seq).digest,
            rows: 1,
            stream: StreamId(1),
            seq: BatchSeq(seq),
            permission: None,
        }));
    }
    log
}

/// A space with `batches` batches stored, of which the box's log is copied up to `mirrored` leaves.
fn space(state_dir: &Path, batches: u64, mirrored: u64) -> LogKeys {
    space_of(state_dir, &box_log(batches), (1..=batches).map(delivery), mirrored)
}

fn space_of(
    state_dir: &Path,
    log: &Log,
    stored: impl Iterator<Item = Delivery>,
    mirrored: u64,
) -> LogKeys {
    let keys = LogKeys::open_or_create(state_dir, "space-1").unwrap();
    let open = |name: &str| OsDisk::open_exclusive(&state_dir.join(name)).unwrap();
    let program = Program::parse("guan-space test").unwrap();
    let parts = LogParts { disk: open(LOG_DIR), signer: keys.log.clone(), program };
    let (mut store, _) = Store::open(open(STORE_DIR), 1 << 20, [0; 16], parts).unwrap();
    store.announce(&announcement()).unwrap();
    let folders = OsFolders::new(state_dir);
    let mut witnesses =
        Witnesses::open(folders.clone(), keys.witness.clone(), Box::new(|_| Ok(Vec::new())))
            .unwrap();
    let mut mirrors = Mirrors::new(folders, keys.mirror.clone());
    let half = mirrored / 2;
    for (minute, (old, size)) in (1..).zip([(0, half), (half, mirrored)]) {
        let witnessed = witnesses.handle(&now(minute), &box_id(1), &log.letter(old, size));
        assert_eq!(witnessed.status, 200, "{}", witnessed.body);
        let wall = WallTime::from_seconds(2000 + i64::try_from(minute).unwrap());
        store.note(&Now { wall, ..now(minute) }, witnessed.leaf.unwrap()).unwrap();
    }
    for first in (0..mirrored).step_by(200) {
        let range = (usize::try_from(first).unwrap(), usize::try_from(mirrored.min(first + 200)));
        let letter = MirrorLetter::parse(&log.mirror_letter(range.0, range.1.unwrap())).unwrap();
        let head = witnesses.head(&box_id(1), BASE).unwrap();
        mirrors.handle(&now(9), &box_id(1), &letter, head.as_deref()).unwrap().unwrap();
    }
    for delivery in stored {
        store.deliver(&now(9), &Judged::judge(delivery).unwrap()).unwrap().unwrap();
    }
    store.commit().unwrap();
    store.sign(&now(9)).unwrap().unwrap();
    let deleted = Deleted { contract: contract(), line: Digest([1; 32]) };
    store.note(&now(9), LeafBody::Deleted(deleted)).unwrap();
    store.commit().unwrap();
    keys
}

fn ask(state_dir: &Path, question: &Question) -> Vec<Trace> {
    let found = find(state_dir, question).unwrap();
    Tracer::open(state_dir, "space-1", &found).unwrap().trace(found).unwrap()
}

#[test]
fn a_reading_is_traced_to_both_logs() {
    let folder = tempfile::tempdir().unwrap();
    let keys = space(folder.path(), 300, 602);
    let at = WallTime(40_400_000_000);
    let point = Some(PointName::parse("t").unwrap());
    let question = Question::Reading { box_id: box_id(1), dataset: dataset(), point, at };
    let traces = ask(folder.path(), &question);
    let [trace] = traces.as_slice() else { panic!("{traces:?}") };
    let reading = trace.reading.as_ref().unwrap();
    assert_eq!(
        (trace.batch_seq, reading.point.as_str(), reading.gateway_time_ns),
        (40, "t", 40_000_000_000)
    );
    assert_eq!(reading.value.as_deref(), Some("40"));
    assert_eq!((trace.contract.as_str(), trace.contract_version), ("C-1", Some(3)));
    assert_eq!(trace.missing, Vec::<String>::new());
    let kinds: Vec<_> = trace.box_log.iter().map(|one| (one.kind, one.index)).collect();
    assert_eq!(kinds, [("contract.change", 1), ("decision.summary", 80), ("batch", 81)]);
    assert_eq!(
        (trace.witnessed.not_before_ms, trace.witnessed.not_after_ms),
        (None, Some(2_001_000))
    );
    // Others check the proofs with the keys alone.
    let log = VerifierKey::of(LOG.as_ref()).unwrap();
    let (witness, mirror) =
        (CosignatureKey::of(keys.witness.as_ref()), CosignatureKey::of(keys.mirror.as_ref()));
    let (witness, mirror) = (witness.unwrap(), mirror.unwrap());
    let policy =
        format!("log {log}\nwitness w {witness}\nwitness m {mirror}\ngroup g 2 w m\nquorum g\n");
    let leaves = box_log(300).leaves;
    for one in &trace.box_log {
        let proof = TlogProof::parse(one.proof.as_ref().unwrap()).unwrap();
        let leaf = &leaves[usize::try_from(one.index).unwrap()];
        proof.verify(leaf, &Policy::parse(&policy).unwrap()).unwrap();
        assert!(one.witnessed_s.is_some() && one.mirrored_s.is_some());
    }
    let own = trace.space_log.as_ref().unwrap();
    assert_eq!((own.kind, own.index, own.head_size), ("data.received", 42, Some(303)));
    let proof = TlogProof::parse(own.proof.as_ref().unwrap()).unwrap();
    let policy = Policy::of_logs(&[keys.verifier().unwrap()]).unwrap();
    let log = open_disk(&folder.path().join(LOG_DIR)).unwrap();
    let bundle = LogReader::open(log, None, Vec::new()).unwrap().bundle(0).unwrap();
    proof.verify(&bundle[42], &policy).unwrap();
    let bracket = ask(folder.path(), &Question::Batch(delivery(299).digest))[0].witnessed;
    assert_eq!((bracket.not_before_ms, bracket.not_after_ms), (Some(2_001_000), Some(2_002_000)));
}

#[test]
fn a_contract_is_added_up_with_what_is_proven() {
    let folder = tempfile::tempdir().unwrap();
    space(folder.path(), 10, 12);
    let total = sum(&ask(folder.path(), &Question::Contract(contract())));
    assert_eq!(
        (total.batches, total.rows, total.proven_by_box, total.proven_by_space),
        (10, 10, 5, 10)
    );
    let traces = ask(folder.path(), &Question::Batch(delivery(9).digest));
    assert!(traces[0].missing[0].contains("not copied"), "{:?}", traces[0].missing);
    assert!(ask(folder.path(), &Question::Batch(Digest([0; 32]))).is_empty());
    let logs = box_logs(folder.path(), "space-1").unwrap();
    let [log] = logs.as_slice() else { panic!("{logs:?}") };
    assert_eq!(
        (log.origin.as_str(), log.cosigned, log.mirrored, log.mirrored_whole),
        (BASE, 12, 12, 12)
    );
    assert_eq!((log.forks, log.cosigned_s.is_some()), (0, true));
}

/// The box's log has ten batches, the store nine of them.
#[test]
fn batches_that_only_the_boxs_log_has_are_told() {
    let folder = tempfile::tempdir().unwrap();
    space(folder.path(), 10, 22);
    let mut found = find(folder.path(), &Question::Contract(contract())).unwrap();
    let none = absent(folder.path(), "space-1", &contract(), &found).unwrap();
    assert_eq!(none, (0, Vec::new()));
    found.remove(6);
    let (count, listed) = absent(folder.path(), "space-1", &contract(), &found).unwrap();
    let [one] = listed.as_slice() else { panic!("{listed:?}") };
    assert_eq!((count, one.batch_seq, one.index, one.rows), (1, 7, 15, 1));
    let other = ContractId::parse("C-2").unwrap();
    assert_eq!(absent(folder.path(), "space-1", &other, &[]).unwrap().0, 0);
}

/// The box's log: ten batches, of which `sent` have a receipt and `gap` was shredded.
fn log_with(sent: u64, gap: (u64, u64)) -> Log {
    let mut log = box_log(10);
    let stream = StreamId(1);
    let forwarded = Forwarded {
        stream,
        from: BatchSeq(1),
        through: BatchSeq(sent),
        log: "guan-space/space-1".to_owned(),
        first: 0,
        last: 9,
        root: Digest([9; 32]),
    };
    let (from, through) = (BatchSeq(gap.0), BatchSeq(gap.1));
    let gap = DataGap { stream, from, through, rows: 2, reason: GapReason::Shredded };
    for body in [LeafBody::Forwarded(forwarded), LeafBody::DataGap(gap)] {
        let leaf = Leaf::new(&now(0), log.leaves.len() as u64, BootNumber(1), body);
        log.leaves.push(leaf.encode().into());
    }
    log
}

#[test]
fn the_box_its_log_and_the_store_are_compared() {
    let check = |sent, stored: &[Delivery], expect: [u64; 3], lost, agrees, unlogged: Unlogged| {
        let folder = tempfile::tempdir().unwrap();
        let stored = stored.iter().cloned();
        space_of(folder.path(), &log_with(sent, (9, 10)), stored, 24);
        let accounts = accounts(folder.path(), "space-1").unwrap();
        let account = &accounts[&box_id(1)];
        let [one] = account.lines.values().collect::<Vec<_>>()[..] else { panic!("{account:?}") };
        let rows = [one.line.proven.rows, one.line.sent.rows, one.received.rows];
        assert_eq!((rows, one.lost.rows, account.agrees()), (expect, lost, agrees));
        assert_eq!((one.line.kept.rows, one.line.given_up().rows), (10, 2));
        let found = account.unlogged.get(&contract()).copied().unwrap_or_default();
        assert_eq!(found, unlogged);
        assert_eq!(account.stored[&contract()].batches, stored_batches(folder.path()));
    };
    let deliveries = |through| (1..=through).map(delivery).collect::<Vec<_>>();
    let none = Unlogged::default();
    let one = Counted { batches: 1, rows: 1 };
    // One batch is on its way, and has its receipt not yet.
    check(6, &deliveries(7), [10, 6, 7], 0, true, none);
    check(8, &deliveries(7), [10, 8, 7], 1, false, none);
    // The last came just now; or so long ago that the copied log must tell of it.
    let at_the_limit = now(9).wall.saturating_sub(COPY_LAG_MAX);
    let late = Delivery { received: at_the_limit, stream: StreamId(2), ..delivery(1) };
    let mut stored = [deliveries(8), vec![late]].concat();
    check(8, &stored, [10, 8, 8], 0, true, Unlogged { open: one, ..none });
    stored[8].received = WallTime(at_the_limit.0 - 1);
    check(8, &stored, [10, 8, 8], 0, false, Unlogged { concealed: one, ..none });
}

#[test]
fn fewer_readings_than_the_log_tells_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = box_log(10);
    let last = log.leaves.pop().unwrap();
    let Leaf { seq, body: LeafBody::Batch(batch), .. } = Leaf::decode(&last).unwrap() else {
        panic!()
    };
    let body = LeafBody::Batch(BatchAccepted { rows: 5, ..batch });
    log.leaves.push(Leaf::new(&now(0), seq, BootNumber(1), body).encode().into());
    space_of(folder.path(), &log, (1..=10).map(delivery), 22);
    let accounts = accounts(folder.path(), "space-1").unwrap();
    let account = &accounts[&box_id(1)];
    assert_eq!(account.unlogged[&contract()], Unlogged { rows_off: -4, ..Unlogged::default() });
    assert!(!account.agrees());
}

fn stored_batches(state_dir: &Path) -> u64 {
    let mut batches = 0;
    let disk = open_disk(&state_dir.join(STORE_DIR)).unwrap();
    crate::store::read_all(&disk, &mut |record| {
        batches += u64::from(matches!(record, crate::store::StoredRecord::Batch(_)));
        Ok(())
    })
    .unwrap();
    batches
}

/// Nothing is proven by a copy whose leaves do not lead to the signed root.
#[test]
fn an_altered_copy_proves_no_use() {
    let folder = tempfile::tempdir().unwrap();
    space(folder.path(), 10, 22);
    let proven = || {
        let accounts = accounts(folder.path(), "space-1").unwrap();
        accounts[&box_id(1)].lines.values().map(|one| one.line.proven.rows).sum::<u64>()
    };
    assert_eq!(proven(), 10);
    alter_copy(folder.path());
    assert_eq!(proven(), 0);
}

#[test]
fn what_is_absent_and_shredded_says_so() {
    let folder = tempfile::tempdir().unwrap();
    space_of(folder.path(), &log_with(7, (9, 10)), (1..=7).map(delivery), 24);
    let found = find(folder.path(), &Question::Contract(contract())).unwrap();
    let (count, listed) = absent(folder.path(), "space-1", &contract(), &found).unwrap();
    let said: Vec<_> = listed.iter().map(|one| (one.batch_seq, one.given_up)).collect();
    assert_eq!(count, 3);
    assert_eq!(said, [(8, None), (9, Some("shredded")), (10, Some("shredded"))]);
}

/// A copy that was changed on the disk proves nothing.
#[test]
fn what_was_altered_is_not_proven() {
    let folder = tempfile::tempdir().unwrap();
    space(folder.path(), 10, 22);
    alter_copy(folder.path());
    let traces = ask(folder.path(), &Question::Batch(delivery(3).digest));
    assert!(traces[0].box_log.iter().all(|one| !one.is_proven()));
    assert!(
        traces[0].missing.iter().any(|what| what.contains("box's log")),
        "{:?}",
        traces[0].missing
    );
}

fn alter_copy(state_dir: &Path) {
    let tail = state_dir.join("mirror/box-1/guan%2Fbox-1/tail-0000000000000000");
    let whole = std::fs::read(&tail).unwrap();
    // The leaf of the contract says another version, and the frame is made to fit.
    let mut log = box_log(10);
    let Leaf { body, .. } = Leaf::decode(&log.leaves[1]).unwrap();
    let LeafBody::ContractChange { contract, digest, plan, outcome, .. } = body else { panic!() };
    let body = LeafBody::ContractChange { contract, version: 4, digest, plan, outcome };
    log.leaves[1] = Leaf::new(&now(0), 1, BootNumber(1), body).encode().into();
    let frames = log.leaves[..22].iter().flat_map(|leaf| {
        let length = u16::try_from(leaf.len()).unwrap().to_be_bytes();
        [&length[..], &leaf_hash(leaf).0[..8], leaf].concat()
    });
    let altered: Vec<u8> = frames.collect();
    assert_eq!(altered.len(), whole.len());
    std::fs::write(&tail, altered).unwrap();
}

/// A leaf of the first boot at the end of a log.
fn push(log: &mut Log, body: LeafBody) {
    let leaf = Leaf::new(&now(0), log.leaves.len() as u64, BootNumber(1), body);
    log.leaves.push(leaf.encode().into());
}

/// What TPM and witness are said to have said is held against the keys that the space has of them.
#[test]
fn a_box_log_is_judged_by_those_whom_the_space_believes() {
    let folder = tempfile::tempdir().unwrap();
    let keys = LogKeys::open_or_create(folder.path(), "space-1").unwrap();
    let points = [vec![4; 65], vec![5; 65], vec![6; 65]];
    let [today, earlier, foreign] = points.each_ref().map(|point| Digest::of(point));
    let record = |point: &[u8]| TpmRecord {
        endorsement: String::new(),
        attestation_key: hex::encode(point),
        earlier_keys: Vec::new(),
        tls_key: String::new(),
        next: None,
        last: None,
    };
    let enrolment = Enrolment {
        tier: "hardware".to_owned(),
        fingerprint: String::new(),
        enrolled_at_s: 0,
        revoked: false,
        tpm: Some(record(&points[0]).after(Some(record(&points[1])))),
        demand: false,
        retirement: None,
        store_policy: None,
    };
    Registry::new(folder.path()).enrol(&box_id(1), &enrolment).unwrap();
    let mut log = box_log(2);
    let start = |attestation_key| {
        LeafBody::TpmStart(TpmStart {
            attestation_key,
            resets: 1,
            restarts: 0,
            clock_ms: 1,
            is_safe: true,
            lockouts: 0,
            trail: Digest([0; 32]),
            chain: None,
        })
    };
    push(&mut log, start(earlier));
    push(&mut log, start(today));
    let (size, head) = (log.leaves.len() as u64, log.head(log.leaves.len() as u64));
    let text = Note::parse(&head).unwrap().text().to_owned();
    let at = WallTime::from_seconds(2000);
    let line = guan_evidence::cosign(&text, at, keys.witness.as_ref()).unwrap();
    let witness = CosignatureKey::of(keys.witness.as_ref()).unwrap();
    let said = guan_evidence::cosigned_leaf(&witness, &format!("{head}{line}"), size).unwrap();
    push(&mut log, LeafBody::Cosigned(said.clone()));
    let verify = |log: &Log| {
        let key = VerifierKey::of(log.key.as_ref()).unwrap();
        let trust = trust(folder.path(), "space-1", (&box_id(1), &log.origin), &key).unwrap();
        let mut verifier = LogVerifier::with_trust(trust);
        log.leaves.iter().for_each(|leaf| verifier.handle_leaf(leaf));
        verifier.finish(&[&log.head(log.leaves.len() as u64)], &key)
    };
    let twin = verify(&log);
    assert_eq!((&twin.faults[..], twin.vouched.cosigned), (&[][..], 1));
    let line = guan_evidence::view::vouched_line(&twin);
    assert_eq!(line, "0 quotes and 0 chained heads of the TPM, 1 cosignatures hold");
    let index = log.leaves.len() as u64;
    push(&mut log, LeafBody::Cosigned(Cosigned { timestamp_s: said.timestamp_s + 1, ..said }));
    push(&mut log, start(foreign));
    let faults = verify(&log).faults;
    let other = Fault::OtherTpm { index: index + 1, found: foreign };
    assert!(matches!(faults[..], [Fault::Cosigned { .. }, _]) && faults[1] == other, "{faults:?}");
}

/// A box that joins again and again keeps as many keys as an auditor takes.
#[test]
fn earlier_attestation_keys_are_bounded() {
    let mut record = None;
    for number in 0..=u8::try_from(ATTESTATION_KEYS_MAX).unwrap() {
        let joined = TpmRecord {
            endorsement: String::new(),
            attestation_key: hex::encode([number; 65]),
            earlier_keys: Vec::new(),
            tls_key: String::new(),
            next: None,
            last: None,
        };
        let joined = joined.clone().after(Some(joined.after(record)));
        let expect = ATTESTATION_KEYS_MAX.min(usize::from(number) + 1);
        assert_eq!(joined.attestation_keys().len(), expect);
        record = Some(joined);
    }
    let keys = record.unwrap().attestation_keys();
    let newest = u8::try_from(ATTESTATION_KEYS_MAX).unwrap();
    assert_eq!(keys[0], guan_model::PublicKey::EcdsaP256(vec![newest; 65]));
}
