use super::*;
use guan_model::BoxId;
use proptest::prelude::*;

fn leaf(seq: u64, body: LeafBody) -> Leaf {
    Leaf {
        seq,
        wall: WallTime::from_millis(1_800_000_000_123),
        boot: BootNumber(7),
        monotonic: Duration::from_millis(65_536),
        clock_quality: ClockQuality::Ntp,
        actor: None,
        body,
    }
}

/// One leaf of each kind, with values that need heads of every width.
pub(crate) fn samples() -> Vec<Leaf> {
    let digest = |byte| Digest([byte; 32]);
    let contract = ContractId::parse("C-2026-001").unwrap();
    let dataset = DatasetId::parse("vessel-bus").unwrap();
    let denied = BTreeMap::from([(Denial::NoContract, 3), (Denial::PointNotCovered, 70_000)]);
    let bodies = vec![
        LeafBody::Start {
            program: Program::parse("guan 0.1.0").unwrap(),
            spool: SpoolId([0xAB; 16]),
        },
        LeafBody::ContractChange {
            contract: contract.clone(),
            version: 2,
            digest: digest(1),
            plan: digest(2),
            outcome: ContractOutcome::Accepted,
        },
        LeafBody::ConfigChange { digest: digest(3), outcome: ConfigOutcome::Applied },
        LeafBody::Decision(DecisionSummary {
            dataset: dataset.clone(),
            plan: digest(2),
            permitted: 4096,
            masked: 24,
            denied,
        }),
        LeafBody::Batch(BatchAccepted {
            dataset,
            contract,
            contract_digest: digest(1),
            plan: digest(2),
            batch: digest(4),
            rows: 4096,
            stream: StreamId(1),
            seq: BatchSeq(1),
            permission: None,
        }),
        LeafBody::ClockStep { from: WallTime::from_millis(-5), to: WallTime::from_millis(9) },
        LeafBody::LogGap { from: 1, through: u64::MAX, reason: GapReason::Damage, refill: None },
        LeafBody::DataGap(DataGap {
            stream: StreamId(1),
            from: BatchSeq(2),
            through: BatchSeq(300),
            rows: 1 << 40,
            reason: GapReason::QuotaAge,
        }),
        LeafBody::Salvage(Salvage {
            files_set_aside: 1,
            frames_lost: 24,
            bytes_lost: 256,
            torn_tail_bytes: 65_535,
        }),
        LeafBody::Stop,
    ];
    numbered(bodies)
}

fn numbered(bodies: Vec<LeafBody>) -> Vec<Leaf> {
    bodies.into_iter().enumerate().map(|(seq, body)| leaf(seq as u64, body)).collect()
}

/// One leaf of each kind that came with the anchors; golden in `leaves-outside-v1.hex`.
pub(crate) fn outside_samples() -> Vec<Leaf> {
    let digest = |byte| Digest([byte; 32]);
    let statement = Statement::new(vec![0xFF; 145], vec![0x18; 72]).unwrap();
    let box_id = BoxId::parse("depot-7").unwrap();
    let contract = ContractId::parse("C-2026-001").unwrap();
    let log = "guan/depot-7".to_owned();
    let root = digest(9);
    numbered(vec![
        LeafBody::EpochStart(EpochStart {
            previous: log.clone(),
            size: 300,
            root,
            signed: 320,
            cosigned: 256,
            reason: GapReason::Damage,
        }),
        LeafBody::TpmStart(TpmStart {
            attestation_key: digest(5),
            resets: 41,
            restarts: 0,
            clock_ms: 1 << 33,
            is_safe: false,
            lockouts: 1,
            trail: digest(0),
            chain: None,
        }),
        LeafBody::Anchor(Anchor {
            size: 700,
            trail: vec![3, 64, 700],
            pcrs: BTreeMap::from([(0, digest(1)), (TRAIL_PCR, digest(2))]),
            quote: statement.clone(),
        }),
        LeafBody::Chain(Chain { size: 700, before: Some(digest(7)), certified: statement.clone() }),
        LeafBody::Cosigned(Cosigned {
            witness: "space-1/witness".to_owned(),
            key_id: [1, 2, 3, 4],
            size: 700,
            timestamp_s: 1_800_000_000,
            signature: [6; 64],
        }),
        LeafBody::KeyRollover(KeyRollover { key: [3; 32], by_old: [4; 64], quote: None }),
        LeafBody::Prune(Prune { before: 0, first: 256, root }),
        LeafBody::Forwarded(Forwarded {
            stream: StreamId(1),
            from: BatchSeq(4),
            through: BatchSeq(9),
            log: "guan/space-1".to_owned(),
            first: 1000,
            last: 1010,
            root,
        }),
        LeafBody::Verdict { outcome: VerdictOutcome::Restrict, document: digest(8) },
        LeafBody::Received(Received {
            box_id: box_id.clone(),
            spool: SpoolId([0xAB; 16]),
            stream: StreamId(1),
            seq: BatchSeq(4),
            dataset: DatasetId::parse("vessel-bus").unwrap(),
            contract: contract.clone(),
            rows: 4096,
            batch: digest(4),
        }),
        LeafBody::Deleted(Deleted { contract, line: digest(3) }),
        LeafBody::Head(Head { box_id: box_id.clone(), log: log.clone(), size: 700, root }),
        LeafBody::Fork(Fork { box_id, log, known: 700, offered: 650, evidence: digest(6) }),
    ])
}

/// Leaves that came with the actors: of schema 2 with an actor before the details, last, and alone; golden in
/// `leaves-actor-v2.hex`.
pub(crate) fn actor_samples() -> Vec<Leaf> {
    let exported = Exported { from: 3, through: 70_000, entries: 256, manifest: Digest([4; 32]) };
    let root = Digest([5; 32]);
    let erased = Erased { commitments: 24, root, ground: ErasureGround::RetentionExpired };
    let mut leaves = numbered(vec![
        LeafBody::Exported(exported.clone()),
        LeafBody::Exported(exported),
        LeafBody::Erased(erased),
        LeafBody::ConfigChange { digest: Digest([3; 32]), outcome: ConfigOutcome::Applied },
        LeafBody::KeyRollover(KeyRollover { key: [3; 32], by_old: [4; 64], quote: None }),
        LeafBody::Stop,
    ]);
    for at in [1, 3, 4, 5] {
        leaves[at].actor = Some(Digest([7; 32]));
    }
    leaves
}

/// What somebody had the box do, with and without who, and about what; golden in `leaves-acts-v1.hex`.
pub(crate) fn acted_samples() -> Vec<Leaf> {
    let acted = |deed, about| LeafBody::Acted(Acted { deed, about });
    let mut leaves = numbered(vec![
        acted(Deed::ContractsImported, Some(Digest([4; 32]))),
        acted(Deed::TpmCleared, None),
    ]);
    leaves[0].actor = Some(Digest([7; 32]));
    leaves
}

/// Leaves about data on a medium; golden in `leaves-carried-v1.hex`.
pub(crate) fn carried_samples() -> Vec<Leaf> {
    let carried = Carried {
        stream: StreamId(257),
        from: BatchSeq(24),
        through: BatchSeq(70_000),
        batches: 69_000,
        rows: 1 << 40,
        file: Digest([4; 32]),
        key: Digest([5; 32]),
    };
    let mut leaves = numbered(vec![LeafBody::Carried(carried.clone()), LeafBody::Carried(carried)]);
    leaves[1].actor = Some(Digest([7; 32]));
    leaves
}

/// Gaps that were refilled: of the log itself, and of an epoch that has ended; golden in `leaves-refill-v1.hex`.
pub(crate) fn refill_samples() -> Vec<Leaf> {
    let gap = |epoch| LeafBody::LogGap {
        from: 256,
        through: 511,
        reason: GapReason::Damage,
        refill: Some(Refill { root: Digest([9; 32]), epoch }),
    };
    numbered(vec![gap(None), gap(Some(1)), gap(Some(EPOCHS_MAX))])
}

fn all_samples() -> Vec<Leaf> {
    let more = outside_samples().into_iter().chain(actor_samples()).chain(refill_samples());
    samples().into_iter().chain(more).chain(carried_samples()).chain(acted_samples()).collect()
}

#[test]
fn the_epoch_of_a_refill_is_one_that_can_be() {
    let leaf = refill_samples().remove(1);
    let bytes = leaf.encode();
    assert_eq!(bytes[bytes.len() - 2..], [4, 1]);
    let with = |epoch: &[u8]| Leaf::decode(&[&bytes[..bytes.len() - 1], epoch].concat());
    assert_eq!(with(&[1]), Ok(leaf));
    assert_eq!(with(&[0]), Err(LeafError::Epoch { found: 0 }));
    assert_eq!(with(&[0x19, 0x27, 0x10]), Err(LeafError::Epoch { found: 10_000 }));
}

/// The actor has one place and one length, and leaves without one are those of the first release.
#[test]
fn an_actor_is_of_schema_2() {
    let mut plain = leaf(
        7,
        LeafBody::ConfigChange { digest: Digest([3; 32]), outcome: ConfigOutcome::Applied },
    );
    let old = plain.encode();
    plain.actor = Some(Digest([7; 32]));
    let new = plain.encode();
    assert_eq!((old[2], new[2], new.len()), (1, 2, old.len() + 35));
    assert_eq!(new[old.len()..][..3], [12, 0x58, 32]);
    // Neither schema takes the other's form.
    let with_schema = |bytes: &[u8], schema: u8| {
        let mut bytes = bytes.to_vec();
        bytes[2] = schema;
        Leaf::decode(&bytes)
    };
    assert!(with_schema(&old, 2).is_err() && with_schema(&new, 1).is_err());
    assert_eq!(with_schema(&new, 3), Err(LeafError::Schema { found: 3 }));
    let mut short = new.clone();
    short[old.len() + 2] = 31;
    short.pop();
    assert!(matches!(Leaf::decode(&short), Err(LeafError::Cbor(CborFault::Length { .. }))));
}

#[test]
fn every_kind_survives() {
    for leaf in all_samples() {
        assert_eq!(Leaf::decode(&leaf.encode()), Ok(leaf));
    }
    let kinds: Vec<u8> = all_samples().iter().map(|leaf| leaf.body.kind()).collect();
    let mut sorted = kinds.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted, (1..=27).collect::<Vec<u8>>(), "a sample for each kind");
}

/// The golden file is never written again: logs with these bytes exist.
#[test]
fn golden_leaves() {
    let check = |golden: &str, leaves: Vec<Leaf>| {
        let lines: Vec<&str> = golden.lines().collect();
        assert_eq!(lines.len(), leaves.len());
        for (line, leaf) in lines.iter().zip(leaves) {
            let hex: String = leaf.encode().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(*line, hex, "{}", leaf.body.kind_name());
        }
    };
    check(include_str!("../../tests/golden/leaves-v1.hex"), samples());
    check(include_str!("../../tests/golden/leaves-outside-v1.hex"), outside_samples());
    check(include_str!("../../tests/golden/leaves-actor-v2.hex"), actor_samples());
    check(include_str!("../../tests/golden/leaves-refill-v1.hex"), refill_samples());
    check(include_str!("../../tests/golden/leaves-carried-v1.hex"), carried_samples());
    check(include_str!("../../tests/golden/leaves-acts-v1.hex"), acted_samples());
}

/// The longest of everything that an anchor may hold fits a leaf.
#[test]
fn the_longest_anchor_fits() {
    let trail: Vec<u64> = (1..=TRAIL_MAX as u64).map(|step| step << 40).collect();
    let quote = vec![1; STATEMENT_BYTES_MAX];
    let signature = vec![1; STATEMENT_SIGNATURE_BYTES_MAX];
    let anchor = Anchor {
        size: *trail.last().unwrap(),
        trail,
        pcrs: (0..).take(ANCHOR_PCRS_MAX).map(|pcr| (pcr, Digest([1; 32]))).collect(),
        quote: Statement::new(quote.clone(), signature.clone()).unwrap(),
    };
    let longest = leaf(u64::MAX, LeafBody::Anchor(anchor.clone()));
    assert_eq!(Leaf::decode(&longest.encode()), Ok(longest));
    assert!(Statement::new([&quote[..], &[1]].concat(), signature.clone()).is_none());
    assert!(Statement::new(quote, [&signature[..], &[1]].concat()).is_none());
    let refused = |change: &dyn Fn(&mut Anchor)| {
        let mut other = anchor.clone();
        change(&mut other);
        let bytes = leaf(0, LeafBody::Anchor(other)).encode();
        assert!(Leaf::decode(&bytes).is_err());
    };
    refused(&|anchor| anchor.size += 1);
    refused(&|anchor| anchor.trail.insert(0, 1));
    refused(&|anchor| anchor.trail[1] = anchor.trail[0]);
    refused(&|anchor| anchor.pcrs.extend([(8, Digest([0; 32]))]));
    refused(&|anchor| anchor.trail.clear());
}

#[test]
fn every_truncation_is_refused() {
    for leaf in all_samples() {
        let bytes = leaf.encode();
        for end in 0..bytes.len() {
            assert!(Leaf::decode(&bytes[..end]).is_err(), "{} cut at {end}", leaf.body.kind_name());
        }
        let longer = [&bytes[..], &[0]].concat();
        let expect = LeafError::Cbor(CborFault::Trailing { left: 1 });
        assert_eq!(Leaf::decode(&longer), Err(expect));
    }
}

#[test]
fn limit_is_exact() {
    let check = |length, too_long: bool| {
        let fault = Leaf::decode(&vec![0; length]).unwrap_err();
        assert_eq!(fault == LeafError::TooLong { length }, too_long, "{length} bytes");
    };
    check(LEAF_BYTES_MAX, false);
    check(LEAF_BYTES_MAX + 1, true);
    assert!(Program::parse(&"x".repeat(PROGRAM_BYTES_MAX)).is_some());
    assert!(Program::parse(&"x".repeat(PROGRAM_BYTES_MAX + 1)).is_none());
    assert!(Program::parse("").is_none() && Program::parse("a\n").is_none());
}

/// The permission came after the first release; leaves without it stand in the golden file.
#[test]
fn a_batch_names_its_permission() {
    let Some(LeafBody::Batch(batch)) =
        samples().into_iter().map(|leaf| leaf.body).find(|body| body.kind() == 3)
    else {
        panic!("there is a sample of each kind")
    };
    let with = |permission: &str| {
        let permission = RuleId::parse(permission);
        assert!(permission.is_some());
        leaf(7, LeafBody::Batch(BatchAccepted { permission, ..batch.clone() }))
    };
    let (bare, short) = (leaf(7, LeafBody::Batch(batch.clone())).encode(), with("p1").encode());
    for leaf in [with("p1"), with(&"x".repeat(guan_model::ids::RULE_ID_BYTES_MAX))] {
        assert_eq!(Leaf::decode(&leaf.encode()), Ok(leaf));
    }
    // The map of details has one key more, and the id stands last.
    assert_eq!(short[bare.len()..], [0x05, 0x62, b'p', b'1']);
    let changed = |at: usize, byte: u8| {
        let mut bytes = short.clone();
        bytes[at] = byte;
        Leaf::decode(&bytes).unwrap_err()
    };
    let last = short.len() - 1;
    assert_eq!(changed(last, b'+'), LeafError::Permission);
    assert!(matches!(changed(bare.len(), 0x06), LeafError::Cbor(CborFault::Key { found: 6, .. })));
}

#[test]
fn largest_leaf_keeps_the_limit() {
    let name = "x".repeat(guan_model::ids::NAME_BYTES_MAX);
    let body = LeafBody::Batch(BatchAccepted {
        dataset: DatasetId::parse(&name).unwrap(),
        contract: ContractId::parse(&name).unwrap(),
        contract_digest: Digest([1; 32]),
        plan: Digest([2; 32]),
        batch: Digest([3; 32]),
        rows: u64::MAX,
        stream: StreamId(u16::MAX),
        seq: BatchSeq(u64::MAX),
        permission: RuleId::parse(&"x".repeat(guan_model::ids::RULE_ID_BYTES_MAX)),
    });
    let now = Now {
        wall: WallTime(i64::MIN),
        monotonic: Duration::MAX,
        quality: ClockQuality::Witnessed,
    };
    let leaf = Leaf::new(&now, u64::MAX, BootNumber(u32::MAX), body);
    let bytes = leaf.encode();
    assert!(bytes.len() <= 470, "{} bytes", bytes.len());
    assert_eq!(Leaf::decode(&bytes), Ok(leaf));
}

#[test]
fn faults_name_the_cause() {
    let bytes = samples()[9].encode();
    let with = |at: usize, byte: u8| {
        let mut changed = bytes.clone();
        changed[at] = byte;
        Leaf::decode(&changed).unwrap_err()
    };
    assert_eq!(with(2, 3), LeafError::Schema { found: 3 });
    let unsorted = CborFault::Key { at: 3, found: 1, expected: 2 };
    assert_eq!(with(3, 1), LeafError::Cbor(unsorted));
    let last = bytes.len() - 1;
    assert_eq!(with(last, 0), LeafError::Kind { found: 0 });
    assert_eq!(with(last - 2, 9), LeafError::Code { what: "clock quality", found: 9 });
    assert_eq!(with(0, 0xA6), LeafError::Cbor(CborFault::UnknownKeys { at: bytes.len(), left: 1 }));
}

#[test]
fn a_summary_has_one_form() {
    let good = samples()[3].encode();
    let (head, denied) = good.split_at(good.len() - 9);
    assert_eq!(denied, [0xA2, 1, 3, 4, 0x1A, 0, 1, 0x11, 0x70], "two reasons with their rows");
    let with = |denied: &[u8]| Leaf::decode(&[head, denied].concat()).unwrap_err();
    let at = good.len() - 6;
    let twice = CborFault::Key { at, found: 1, expected: 2 };
    assert_eq!(with(&[0xA2, 1, 3, 1, 4]), LeafError::Cbor(twice));
    let unsorted = CborFault::Key { at, found: 1, expected: 5 };
    assert_eq!(with(&[0xA2, 4, 3, 1, 4]), LeafError::Cbor(unsorted));
    assert_eq!(with(&[0xA1, 1, 0]), LeafError::ZeroCount);
    assert_eq!(with(&[0xA1, 10, 1]), LeafError::Code { what: "reason", found: 10 });
    let contract = good.windows(2).position(|two| two == [0x82, 0x60]).unwrap() + 1;
    let named = [&good[..contract], b"\x61x", &good[contract + 1..]].concat();
    assert_eq!(Leaf::decode(&named), Err(LeafError::SummaryOfOne));
}

#[test]
fn codes_are_read_back() {
    assert!(Denial::ALL.iter().all(|one| Denial::from_code(one.code()) == Some(*one)));
    assert!(GapReason::ALL.iter().all(|one| GapReason::from_code(one.code()) == Some(*one)));
    assert_eq!((Denial::from_code(0), GapReason::from_code(0)), (None, None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_decodes_is_canonical(
        which in 0_usize..31,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = all_samples()[which].encode();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(leaf) = Leaf::decode(&bytes) {
            prop_assert_eq!(leaf.encode(), bytes);
        }
    }

    #[test]
    fn any_bytes_give_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(leaf) = Leaf::decode(&bytes) {
            prop_assert_eq!(leaf.encode(), bytes);
        }
    }

    #[test]
    fn moments_survive(wall: i64, secs: u64, nanos in 0_u32..1_000_000_000, seq: u64) {
        let now = Now {
            wall: WallTime(wall),
            monotonic: Duration::new(secs, nanos),
            quality: ClockQuality::Unset,
        };
        let leaf = Leaf::new(&now, seq, BootNumber(1), LeafBody::Stop);
        prop_assert_eq!(Leaf::decode(&leaf.encode()), Ok(leaf));
    }
}
