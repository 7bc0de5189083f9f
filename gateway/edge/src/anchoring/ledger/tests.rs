use super::*;
use proptest::prelude::*;

const CADENCE: Cadence =
    Cadence { anchor: Duration::from_secs(3600), chain: Duration::from_secs(6 * 3600) };

const KEY: Digest = Digest([0xAA; 32]);

fn head(size: u64) -> TrailHead {
    TrailHead { size, digest: Digest::of(&size.to_be_bytes()) }
}

fn clock(resets: u32) -> TpmClock {
    TpmClock { clock_ms: 1, resets, restarts: 0, is_safe: true }
}

/// A TPM as far as the ledger sees it, and the log's last words.
#[derive(Clone)]
struct Outside {
    resets: u32,
    trail: Digest,
    chain: Option<Digest>,
    anchored: Option<u64>,
    chained: Option<u64>,
}

impl Outside {
    fn new() -> Self {
        let trail = Digest([0; 32]);
        Self { resets: 1, trail, chain: None, anchored: None, chained: None }
    }

    fn extend(&mut self, digest: &Digest) {
        self.trail = extended(&self.trail, digest);
    }

    fn chain(&mut self, digest: &Digest) {
        self.chain = Some(extended(&self.chain.unwrap_or(Digest([0; 32])), digest));
    }

    fn start(&self, disk: &[u8]) -> (Ledger, Vec<Suspicion>) {
        let mut ledger = Ledger::decode(disk).unwrap();
        let last = (self.anchored, self.chained);
        let found = ledger.handle_start(KEY, &clock(self.resets), (self.trail, self.chain), last);
        (ledger, found)
    }
}

#[test]
fn heads_go_into_the_register_and_then_into_an_anchor() {
    let mut outside = Outside::new();
    let mut ledger = Ledger::new(KEY, 1, outside.trail);
    assert!(ledger.handle_head(head(3)) && ledger.handle_head(head(9)));
    assert!(!ledger.handle_head(head(9)), "known already");
    while let Some((before, digest)) = ledger.next_extend() {
        assert_eq!(before, outside.trail);
        outside.extend(&digest);
        assert_eq!(ledger.handle_extended(outside.trail), None);
    }
    let sizes: Vec<u64> = ledger.anchor().iter().map(|head| head.size).collect();
    assert_eq!(sizes, [3, 9]);
    assert!(ledger.is_anchor_due(Duration::ZERO, CADENCE), "the first after the boot");
    ledger.handle_anchored(Duration::ZERO, 9);
    assert!(ledger.anchor().is_empty());
    ledger.handle_head(head(12));
    let (before, digest) = ledger.next_extend().unwrap();
    assert_eq!(before, outside.trail);
    outside.extend(&digest);
    ledger.handle_extended(outside.trail);
    assert!(!ledger.is_anchor_due(Duration::from_secs(3599), CADENCE));
    assert!(ledger.is_anchor_due(Duration::from_secs(3600), CADENCE));
}

#[test]
fn a_full_trail_wants_an_anchor_and_takes_no_more() {
    let mut ledger = Ledger::new(KEY, 1, Digest([0; 32]));
    let mut value = Digest([0; 32]);
    ledger.handle_anchored(Duration::ZERO, 0);
    for size in 1..=TRAIL_MAX as u64 {
        assert!(ledger.handle_head(head(size)));
        value = extended(&value, &head(size).digest);
        ledger.handle_extended(value);
        let due = ledger.is_anchor_due(Duration::ZERO, CADENCE);
        assert_eq!(due, size >= ANCHOR_HEADS as u64);
    }
    assert!(!ledger.handle_head(head(1000)));
    assert!(ledger.encode().len() < LEDGER_BYTES_MAX);
}

#[test]
fn foreign_hands_are_seen() {
    let mut ledger = Ledger::new(KEY, 1, Digest([0; 32]));
    ledger.handle_head(head(1));
    assert_eq!(ledger.handle_extended(Digest([9; 32])), Some(Suspicion::Trail));
    // It goes on from where the register is.
    ledger.handle_head(head(2));
    assert_eq!(ledger.next_extend().unwrap().0, Digest([9; 32]));
    let disk = ledger.encode();
    let outside = Outside { trail: Digest([8; 32]), ..Outside::new() };
    assert_eq!(outside.start(&disk).1, [Suspicion::Trail]);
    let outside = Outside { trail: Digest([9; 32]), resets: 2, ..Outside::new() };
    assert_eq!(outside.start(&disk).1, []);
    let outside = Outside { trail: Digest([9; 32]), resets: 0, ..Outside::new() };
    assert_eq!(outside.start(&disk).1, [Suspicion::Resets { known: 1, found: 0 }]);
    let outside =
        Outside { trail: Digest([9; 32]), chain: Some(Digest([7; 32])), ..Outside::new() };
    assert_eq!(outside.start(&disk).1, [Suspicion::Chain]);
}

/// A TPM that was cleared and joined again begins anew, with a key of its own.
#[test]
fn another_key_begins_anew() {
    let mut ledger = Ledger::new(KEY, 7, Digest([0; 32]));
    ledger.handle_head(head(1));
    let found = (Digest([3; 32]), None);
    let other = Digest([0xBB; 32]);
    assert_eq!(ledger.handle_start(other, &clock(1), found, (None, None)), []);
    assert_eq!(ledger.next_extend(), None);
    let again = Ledger::decode(&ledger.encode()).unwrap().handle_start(
        other,
        &clock(1),
        found,
        (None, None),
    );
    assert_eq!(again, []);
}

#[test]
fn damaged_ledgers_are_none() {
    let check = |text: &str| assert_eq!(Ledger::decode(text.as_bytes()), None, "{text}");
    check("");
    check("{}");
    let whole = String::from_utf8(Ledger::new(KEY, 1, Digest([0; 32])).encode()).unwrap();
    assert!(Ledger::decode(whole.as_bytes()).is_some());
    check(&whole.replace("\"schema\":1", "\"schema\":2"));
    check(&whole.replace(&"0".repeat(64), "00"));
}

proptest! {
    /// Whatever the moment of the crash, an honest disk is never suspected, nothing is done twice, and
    /// the register is always what the anchors account for.
    #[test]
    fn crashes_leave_no_suspicion(steps in prop::collection::vec(0_u8..7, 1..120)) {
        let mut outside = Outside::new();
        let mut ledger = Ledger::new(KEY, 1, outside.trail);
        let mut disk = ledger.encode();
        let mut size = 0;
        // What an auditor replays: the boot's first value, then the heads of each anchor.
        let mut audited = outside.trail;
        for step in steps {
            match step {
                0 | 1 => {
                    size += 5;
                    ledger.handle_head(head(size));
                    disk = ledger.encode();
                }
                2 => if let Some((_, digest)) = ledger.next_extend() {
                    outside.extend(&digest);
                    prop_assert_eq!(ledger.handle_extended(outside.trail), None);
                },
                3 => if let Some(last) = ledger.anchor().last().copied() {
                    // The leaf is durable; the ledger on the disk does not know yet.
                    audited = ledger.anchor().iter().fold(audited, |value, head| extended(&value, &head.digest));
                    prop_assert_eq!(audited, outside.trail);
                    outside.anchored = Some(last.size);
                    ledger.handle_anchored(Duration::ZERO, last.size);
                },
                4 => disk = ledger.encode(),
                5 => if size > 0 && ledger.intent().is_none() {
                    let before = ledger.begin_chain(head(size));
                    disk = ledger.encode();
                    prop_assert_eq!(before, outside.chain);
                    outside.chain(&head(size).digest);
                    outside.chained = Some(size);
                    ledger.handle_chained(Duration::ZERO);
                },
                // A crash, or a power cut.
                _ => {
                    if size % 2 == 1 {
                        outside.resets += 1;
                        outside.trail = Digest([0; 32]);
                        audited = outside.trail;
                        outside.anchored = None;
                    }
                    let (again, suspicions) = outside.start(&disk);
                    prop_assert_eq!(suspicions, vec![]);
                    ledger = again;
                    prop_assert_eq!(ledger.chain(), outside.chain);
                }
            }
        }
    }
}

/// What a log says of itself, beside a ledger that knows heads of 3 and 9 entries and a chain.
mod words {
    use super::*;
    use crate::anchoring::{ChainWord, LogWords};

    const CHAIN: Digest = Digest([7; 32]);

    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(KEY, 1, Digest([0; 32]));
        ledger.handle_log("guan/b", false, (Digest([0; 32]), None));
        ledger.kept.chain = Some(CHAIN);
        ledger.handle_head(head(3));
        ledger.handle_head(head(9));
        ledger
    }

    fn words(size: u64) -> LogWords<'static> {
        LogWords {
            origin: "guan/b".to_owned(),
            size,
            begun: None,
            chain: ChainWord::Is { key: Some(KEY), chain: Some(CHAIN) },
            last: (None, None),
            digest_at: Box::new(|size| Some(head(size).digest)),
        }
    }

    fn compare(words: &LogWords<'_>) -> Vec<Suspicion> {
        ledger().compare_log(words, Some(CHAIN))
    }

    #[test]
    fn a_log_that_has_all_heads_is_sound() {
        assert_eq!(compare(&words(9)), []);
        assert_eq!(compare(&words(8)), [Suspicion::Heads { known: 9, found: 8 }]);
        let other = |at: u64| LogWords {
            digest_at: Box::new(move |size| {
                Some(if size == at { Digest([1; 32]) } else { head(size).digest })
            }),
            ..words(20)
        };
        assert_eq!(compare(&other(9)), [Suspicion::History { size: 9 }]);
        assert_eq!(compare(&other(3)), [Suspicion::History { size: 3 }]);
        assert_eq!(compare(&other(4)), []);
        // A root that cannot be told is held against nobody.
        assert_eq!(compare(&LogWords { digest_at: Box::new(|_| None), ..words(20) }), []);
        let begun = |promised| LogWords {
            begun: Some(("guan/b".to_owned(), promised)),
            origin: "guan/b/e2".to_owned(),
            chain: ChainWord::Unknown,
            digest_at: Box::new(|_| Some(Digest([1; 32]))),
            ..words(0)
        };
        assert_eq!(compare(&begun(9)), []);
        assert_eq!(compare(&begun(8)), [Suspicion::Heads { known: 9, found: 8 }]);
    }

    #[test]
    fn the_last_word_about_the_chain_counts() {
        let with = |chain| compare(&LogWords { chain, ..words(9) });
        assert_eq!(with(ChainWord::Unknown), []);
        assert_eq!(with(ChainWord::Never), [Suspicion::Word]);
        let is = |key, chain| ChainWord::Is { key, chain };
        assert_eq!(with(is(None, Some(CHAIN))), []);
        assert_eq!(with(is(None, None)), [Suspicion::Word]);
        assert_eq!(with(is(Some(KEY), Some(Digest([8; 32])))), [Suspicion::Word]);
        assert_eq!(with(is(Some(Digest([0xBB; 32])), None)), [], "another TPM's");
        // A link whose leaf was lost is known by the intent.
        let mut ledger = ledger();
        ledger.begin_chain(head(9));
        let next = extended(&CHAIN, &head(9).digest);
        assert_eq!(ledger.compare_log(&words(9), Some(next)), []);
        assert_eq!(ledger.compare_log(&words(9), Some(CHAIN)), []);
        assert_eq!(ledger.compare_log(&words(9), Some(Digest([6; 32]))), [Suspicion::Word]);
    }

    /// Heads of an epoch that has ended are neither anchored nor chained in the next one.
    #[test]
    fn an_epoch_begins_with_what_the_tpm_has() {
        let mut ledger = ledger();
        ledger.begin_chain(head(9));
        let found = (Digest([5; 32]), Some(Digest([6; 32])));
        ledger.handle_log("guan/b/e2", true, found);
        assert_eq!((ledger.base(), ledger.chain(), ledger.intent()), (found.0, found.1, None));
        assert!(ledger.anchor().is_empty() && ledger.next_extend().is_none());
        assert!(ledger.handle_head(head(2)), "smaller than those before");
        let mut again = Ledger::decode(&ledger.encode()).unwrap();
        again.handle_log("guan/b/e2", false, (Digest([1; 32]), None));
        assert_eq!(again.heads(), [head(2)], "the same log goes on");
        // An earlier release that did not know the name of its log.
        let old = String::from_utf8(ledger.encode()).unwrap();
        let old = old.replace(",\"log\":\"guan/b/e2\"", "");
        let mut old = Ledger::decode(old.as_bytes()).unwrap();
        assert_eq!((old.log(), old.compare_log(&words(0), old.chain()).len()), (None, 1));
        old.handle_log("guan/b/e2", false, found);
        assert_eq!(old.heads(), [head(2)]);
    }
}
