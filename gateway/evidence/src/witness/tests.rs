use super::*;
use crate::checkpoint::tests::TestSigner;
use crate::cosignature::Cosignature;
use crate::note::SIGNATURES_MAX;
use crate::proof::prove_consistency;
use crate::tree::tests::numbered_leaves;
use crate::tree::{Levels, leaf_hash};
use proptest::prelude::*;

const ORIGIN: &str = "guan/box-7";
const NOW: WallTime = WallTime(1_800_000_000_000_000_000);

/// A log of a box. `fork` changes all leaves from that index on.
struct Log {
    levels: Levels,
    signer: TestSigner,
}

impl Log {
    fn new(size: usize, fork: usize) -> Self {
        let mut levels = Levels::default();
        for (index, leaf) in numbered_leaves(size).into_iter().enumerate() {
            levels.append(if index < fork { leaf } else { leaf_hash(&leaf.0) });
        }
        Self { levels, signer: TestSigner::new(ORIGIN, 9) }
    }

    fn checkpoint(&self, size: u64) -> String {
        let root = self.levels.root_at(size).unwrap();
        Checkpoint::sign(ORIGIN, size, &root, &self.signer).unwrap()
    }

    fn request(&self, old_size: u64, new: u64) -> AddCheckpoint {
        let proof = prove_consistency(old_size, new, &self.levels).unwrap();
        AddCheckpoint { old_size, proof, checkpoint: self.checkpoint(new) }
    }
}

fn space() -> TestSigner {
    TestSigner::new("space.example/witness", 3)
}

fn space_key() -> CosignatureKey {
    CosignatureKey::of(&space()).unwrap()
}

fn log_keys() -> Vec<VerifierKey> {
    vec![VerifierKey::of(&TestSigner::new(ORIGIN, 9)).unwrap()]
}

fn fresh() -> Witness {
    Witness::new(ORIGIN, log_keys(), None).unwrap()
}

fn answer(witness: &mut Witness, request: &AddCheckpoint) -> (WitnessAnswer, Option<Box<Fork>>) {
    match witness.handle(request, NOW, &space()).unwrap() {
        Handled::Refused { answer, fork } => (answer, fork),
        Handled::Pending(pending) => (pending.committed(), None),
    }
}

/// A witness that has cosigned this size of an honest log.
fn at(log: &Log, size: u64) -> Witness {
    let mut witness = fresh();
    assert_eq!(answer(&mut witness, &log.request(0, size)).0.status(), 200);
    witness
}

#[test]
fn a_log_grows_and_the_witness_resumes() {
    let log = Log::new(400, 400);
    let mut witness = fresh();
    let mut client = WitnessClient::new(space_key(), 0);
    for size in [0, 1, 7, 7, 256, 300, 400] {
        let sent = client.request(&log.checkpoint(size), &log.levels).unwrap();
        let body = AddCheckpoint::parse(sent.to_string().as_bytes()).unwrap();
        let (answer, fork) = answer(&mut witness, &body);
        assert_eq!((answer.status(), fork), (200, None), "at size {size}");
        let reply = client.take(&sent, answer.status(), &answer.body()).unwrap();
        let WitnessReply::Cosigned { cosignature, note } = reply else { panic!("{reply:?}") };
        assert_eq!(cosignature, Cosignature { seconds: 1_800_000_000 });
        assert_eq!(note, witness.head().unwrap().note);
        assert!(Note::parse(&note).unwrap().verify(&space_key()).is_ok());
        assert_eq!(client.cosigned(), size);
        let stored = witness.head().unwrap().note.clone();
        witness = Witness::new(ORIGIN, log_keys(), Some(&stored)).unwrap();
    }
}

#[test]
fn nothing_moves_before_it_is_committed() {
    let log = Log::new(10, 10);
    let mut witness = at(&log, 5);
    let before = witness.clone();
    let handled = witness.handle(&log.request(5, 9), NOW, &space()).unwrap();
    let Handled::Pending(pending) = handled else { panic!("{handled:?}") };
    assert_eq!(pending.head().size, 9);
    // The power fails here: the store holds the old head, or the new one without its answer given.
    drop(pending);
    assert_eq!(witness, before);
    assert!(matches!(
        witness.handle(&log.request(5, 9), WallTime(0), &space()),
        Err(CosignFault::Clock { .. })
    ));
    assert_eq!(witness, before);
}

#[test]
fn every_status_of_the_specification() {
    let log = Log::new(100, 100);
    let other = Log::new(100, 0);
    let witness = at(&log, 50);
    let check = |request: &AddCheckpoint, status: u16, body: &str| {
        let mut witness = witness.clone();
        let (answer, _) = answer(&mut witness, request);
        assert_eq!(answer.status(), status, "{answer:?}");
        assert!(answer.body().starts_with(body), "{:?}", answer.body());
        if status != 200 {
            assert_eq!(witness, at(&log, 50), "a refusal moves nothing");
        }
    };
    check(&log.request(50, 80), 200, "\u{2014} space.example/witness ");
    check(&log.request(50, 50), 200, "\u{2014} space.example/witness ");
    check(&AddCheckpoint { old_size: 50, ..log.request(0, 40) }, 400, "old size 50 is above 40");
    let damaged = |checkpoint: &str| AddCheckpoint {
        checkpoint: checkpoint.to_owned(),
        ..log.request(50, 80)
    };
    check(&damaged("nonsense\n"), 400, "");
    check(&damaged(&log.checkpoint(80).replace("\n80\n", "\n080\n")), 400, "");
    check(&damaged(&log.checkpoint(80).replace("\n80\n", "\n81\n")), 403, "");
    let stranger = Checkpoint::sign(ORIGIN, 80, &Digest([0; 32]), &TestSigner::new(ORIGIN, 8));
    check(&damaged(&stranger.unwrap()), 403, "");
    let elsewhere = Checkpoint::sign("guan/box-8", 80, &Digest([0; 32]), &log.signer).unwrap();
    check(&damaged(&elsewhere), 404, "");
    check(&log.request(40, 80), 409, "50\n");
    check(&log.request(0, 50), 409, "50\n");
    check(&log.request(60, 80), 409, "50\n");
    let mut cut = log.request(50, 80);
    cut.proof.pop();
    check(&cut, 422, "");
    check(&other.request(50, 80), 422, "");
    check(&other.request(50, 50), 422, "");
    check(&AddCheckpoint { proof: vec![Digest([0; 32])], ..log.request(50, 50) }, 422, "");
    let conflict = WitnessAnswer::Conflict(50);
    assert_eq!(conflict.content_type(), "text/x.tlog.size");
    assert_eq!(conflict.body(), "50\n");
    assert_eq!(WitnessAnswer::UnknownLog.status(), 404);
}

#[test]
fn the_first_head_needs_no_proof_and_an_empty_tree_its_root() {
    let log = Log::new(9, 9);
    let with_proof = AddCheckpoint { proof: vec![Digest([0; 32])], ..log.request(0, 9) };
    let (refusal, fork) = answer(&mut fresh(), &with_proof);
    assert_eq!((refusal.status(), fork), (422, None));
    let root = Digest([1; 32]);
    let checkpoint = Checkpoint::sign(ORIGIN, 0, &root, &log.signer).unwrap();
    let empty = AddCheckpoint { old_size: 0, proof: Vec::new(), checkpoint };
    assert_eq!(answer(&mut fresh(), &empty).0.status(), 422);
    assert_eq!(answer(&mut fresh(), &log.request(0, 0)).0.status(), 200);
}

#[test]
fn forks_are_kept_and_convict() {
    let log = Log::new(100, 100);
    let forked = Log::new(100, 30);
    let check = |request: &AddCheckpoint, status: u16, proven: Option<bool>| {
        let (answer, fork) = answer(&mut at(&log, 50), request);
        assert_eq!(answer.status(), status);
        let found = fork.map(|fork| fork.is_proven(&log_keys()).unwrap());
        assert_eq!(found, proven, "for old {}", request.old_size);
    };
    // Two roots at one size, also where the client's old size is wrong.
    check(&forked.request(50, 50), 422, Some(true));
    check(&forked.request(20, 50), 409, Some(true));
    // The log's own proof shows that its tree holds another root at the cosigned size.
    check(&forked.request(50, 80), 422, Some(true));
    // A broken proof and a stale size convict nobody.
    let mut cut = log.request(50, 80);
    cut.proof[0] = Digest([0; 32]);
    check(&cut, 422, Some(false));
    check(&log.request(20, 40), 409, None);
    check(&log.request(50, 80), 200, None);
    // Below the fork the histories are one.
    check(&forked.request(20, 30), 409, None);

    let (_, fork) = answer(&mut at(&log, 50), &forked.request(50, 50));
    let mut fork = *fork.unwrap();
    let strangers = [VerifierKey::of(&TestSigner::new(ORIGIN, 1)).unwrap()];
    assert!(fork.is_proven(&strangers).is_err(), "evidence counts only with the keys of the log");
    fork.request.checkpoint = log.checkpoint(50);
    assert_eq!(fork.is_proven(&log_keys()), Ok(false));
}

#[test]
fn a_newer_cosignature_takes_the_place_of_the_older() {
    let log = Log::new(9, 9);
    let mut client = WitnessClient::new(space_key(), 0);
    let mut note = log.checkpoint(9);
    for seconds in [1_800_000_000, 1_800_000_060] {
        let sent = client.request(&note, &log.levels).unwrap();
        let text = Note::parse(&note).unwrap().text().to_owned();
        let now = WallTime::from_seconds(seconds);
        let line = crate::cosign(&text, now, &space()).unwrap();
        let reply = client.take(&sent, 200, &line).unwrap();
        let WitnessReply::Cosigned { note: cosigned, .. } = reply else { panic!("{reply:?}") };
        let said = Note::parse(&cosigned).unwrap().statements(&space_key()).unwrap();
        assert_eq!(said, [Cosignature { seconds: seconds.cast_unsigned() }]);
        note = cosigned;
    }
}

#[test]
fn the_client_learns_from_refusals() {
    let log = Log::new(100, 100);
    let mut witness = at(&log, 50);
    let mut client = WitnessClient::new(space_key(), 0);
    let sent = client.request(&log.checkpoint(80), &log.levels).unwrap();
    let (refusal, _) = answer(&mut witness, &sent);
    let reply = client.take(&sent, refusal.status(), &refusal.body());
    assert_eq!(reply, Ok(WitnessReply::Again { size: 50 }));
    let again = client.request(&log.checkpoint(80), &log.levels).unwrap();
    assert_eq!(answer(&mut witness, &again).0.status(), 200);

    let mut check = |status: u16, body: &str, expect: fn(&ClientFault) -> bool| {
        let fault = client.take(&again, status, body).unwrap_err();
        assert!(expect(&fault), "{status} {body:?}: {fault:?}");
    };
    check(409, "81\n", |fault| *fault == ClientFault::RolledBack { own: 80, witness: 81 });
    check(409, "50\n", |fault| matches!(fault, ClientFault::Refused { status: 409, .. }));
    check(409, "50", |fault| *fault == ClientFault::Malformed);
    check(409, "050\n", |fault| *fault == ClientFault::Malformed);
    check(403, "", |fault| *fault == ClientFault::UnknownKey);
    check(404, "", |fault| *fault == ClientFault::UnknownLog);
    check(422, "x", |fault| matches!(fault, ClientFault::Inconsistent { reason } if reason == "x"));
    check(
        500,
        &"\u{e9}".repeat(999),
        |fault| matches!(fault, ClientFault::Refused { reason, .. } if reason.chars().count() == 200),
    );
    check(200, "", |fault| matches!(fault, ClientFault::Cosignature(_)));
    check(200, &"x".repeat(CHECKPOINT_BYTES_MAX + 1), |fault| *fault == ClientFault::Malformed);
    let text = Note::parse(&again.checkpoint).unwrap().text();
    let by_other = crate::cosign(text, NOW, &TestSigner::new("space.example/witness", 4)).unwrap();
    check(200, &by_other, |fault| {
        matches!(fault, ClientFault::Cosignature(NoteFault::OtherKeys { .. }))
    });
    let of_other_text = crate::cosign("o\n1\n", NOW, &space()).unwrap();
    check(200, &of_other_text, |fault| {
        matches!(fault, ClientFault::Cosignature(NoteFault::Forged { .. }))
    });
    assert_eq!(client.cosigned(), 50);
    let behind = WitnessClient::new(space_key(), 81).request(&log.checkpoint(80), &log.levels);
    assert_eq!(behind, Err(ClientFault::RolledBack { own: 80, witness: 81 }));
}

#[test]
fn only_the_lines_of_the_log_are_stored() {
    let log = Log::new(9, 9);
    let mut request = log.request(0, 9);
    let other = crate::note::signature_line("other.example", [1; 4], &[7; 64]);
    request.checkpoint = append_lines(&request.checkpoint, &other).unwrap();
    // The same good line often enough to leave no room for the witness.
    let own = request.checkpoint.lines().nth(4).unwrap().to_owned() + "\n";
    request.checkpoint += &own.repeat(SIGNATURES_MAX - 2);
    let mut witness = fresh();
    assert_eq!(answer(&mut witness, &request).0.status(), 200);
    assert_eq!(witness.head().unwrap().note.lines().count(), 4 + 2);

    // A checkpoint that leaves no room for the line of the witness would be unreadable later.
    let text = Note::parse(&log.checkpoint(9)).unwrap().text().to_owned();
    let bare = request.checkpoint.len() - own.len() * (SIGNATURES_MAX - 2) - other.len();
    let filled = format!("{text}{}\n", "x".repeat(CHECKPOINT_BYTES_MAX - bare - 1));
    let key = VerifierKey::of(&log.signer).unwrap();
    request.checkpoint = crate::note::sign(&filled, &key, &log.signer).unwrap();
    assert_eq!(request.checkpoint.len(), CHECKPOINT_BYTES_MAX);
    assert_eq!(answer(&mut fresh(), &request).0.status(), 400);
}

#[test]
fn logs_need_keys_and_their_own_head() {
    let keys = |count: usize| vec![log_keys()[0].clone(); count];
    let origin = ORIGIN.to_owned();
    for found in [0, LOG_KEYS_MAX + 1] {
        let fault = WitnessFault::Keys { origin: origin.clone(), found };
        assert_eq!(Witness::new(ORIGIN, keys(found), None), Err(fault));
    }
    assert!(Witness::new(ORIGIN, keys(LOG_KEYS_MAX), None).is_ok());
    let fault = Witness::new(ORIGIN, keys(1), Some("torn")).unwrap_err();
    assert!(matches!(fault, WitnessFault::Head { .. }));
    let note = Log::new(1, 1).checkpoint(1);
    let fault = Witness::new("guan/box-8", keys(1), Some(&note)).unwrap_err();
    assert_eq!(fault, WitnessFault::Origin { origin: "guan/box-8".to_owned(), found: origin });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes in which order: all cosigned heads are of one growing log.
    #[test]
    fn cosigned_heads_never_contradict(
        steps in prop::collection::vec((any::<bool>(), 0_u64..60, 0_u64..60), 1..20),
    ) {
        let logs = [Log::new(60, 60), Log::new(60, 20)];
        let mut witness = fresh();
        let mut cosigned: Vec<(u64, Digest)> = Vec::new();
        for (which, old, new) in steps {
            let old = if old > 40 { witness.head().map_or(0, |head| head.size) } else { old };
            let (old, new) = (old.min(new), new);
            let request = logs[usize::from(which)].request(old, new);
            if answer(&mut witness, &request).0.status() == 200 {
                let head = witness.head().unwrap();
                cosigned.push((head.size, head.root));
            }
        }
        let of_one = |log: &Log| {
            cosigned.iter().all(|(size, root)| log.levels.root_at(*size) == Some(*root))
        };
        prop_assert!(cosigned.is_sorted_by_key(|(size, _)| *size));
        prop_assert!(logs.iter().any(of_one));
    }
}
