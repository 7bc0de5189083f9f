use super::*;
use crate::fault::{FAULTS_MAX, Problem};
use crate::signature::{KeyFault, TRUSTED_KEYS_MAX, key_id, sign};
use ed25519_dalek::{Signer as _, SigningKey};
use guan_model::{ClockQuality, PublicKey, SignFault, Signer};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::time::Duration;

/// A key that lies in memory, as no product key does.
pub(crate) struct TestSigner(SigningKey);

impl TestSigner {
    pub(crate) fn new(seed: u8) -> Self {
        Self(SigningKey::from_bytes(&[seed; 32]))
    }

    fn key(&self) -> PublicKey {
        PublicKey::Ed25519(self.0.verifying_key().to_bytes())
    }
}

impl Signer for TestSigner {
    fn name(&self) -> &str {
        "test"
    }

    fn public_key(&self) -> PublicKey {
        self.key()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignFault> {
        Ok(self.0.sign(message).to_bytes().to_vec())
    }
}

const CONSUMER_SEED: u8 = 1;
const PROVIDER_SEED: u8 = 2;

/// The keys of the consumer `space-1` and of a party `court` that is in no contract.
pub(crate) fn trusted() -> TrustedKeys {
    let consumer = ("space-1".to_owned(), TestSigner::new(CONSUMER_SEED).key());
    let court = ("court".to_owned(), TestSigner::new(3).key());
    TrustedKeys::new(vec![consumer, court]).unwrap().accepting_single(true)
}

pub(crate) fn object() -> Value {
    json!({
        "id": "C-2026-001", "version": 1, "provider": "depot-7", "consumer": "space-1",
        "purpose": "predictive-maintenance", "datasets": ["vessel-bus"],
        "points": ["Vessel.Speed", "Vessel.Position"],
        "not_before": "2026-01-01T00:00:00Z", "not_after": "2030-01-01T00:00:00Z",
        "allow": ["forward"], "mask": ["Vessel.Position"],
    })
}

/// The contract object with one member changed; null takes it out.
pub(crate) fn with(mut object: Value, key: &str, value: Value) -> Value {
    let members = object.as_object_mut().unwrap();
    match value {
        Value::Null => members.remove(key),
        value => members.insert(key.to_owned(), value),
    };
    object
}

pub(crate) fn contract(object: &Value) -> Contract {
    let file = sign(object.to_string().as_bytes(), "space-1", &TestSigner::new(CONSUMER_SEED));
    Contract::parse(&file.unwrap(), &trusted()).unwrap()
}

fn faults_of(json: &str) -> Vec<(String, String)> {
    let error = Contract::parse(json.as_bytes(), &trusted()).unwrap_err();
    error.faults.into_iter().map(|f| (f.pointer, f.problem.to_string())).collect()
}

const GOLDEN: &str = include_str!("../../tests/golden/contract-v1.json");

/// Made by a Python program with its own JSON writer and Ed25519; never written again.
#[test]
fn golden_contract() {
    let contract = Contract::parse(GOLDEN.as_bytes(), &trusted()).unwrap();
    let digest = include_str!("../../tests/golden/contract-v1.digest");
    assert_eq!(contract.digest().to_string(), digest.trim_end());
    assert_eq!(contract.id().as_str(), "C-2026-001");
    assert_eq!((contract.provider(), contract.consumer()), ("depot-7", "space-1"));
    assert_eq!((contract.version(), contract.purpose()), (1, Some("predictive-maintenance")));
    assert_eq!(contract.not_before(), WallTime::from_seconds(1_767_225_600));

    let consumer = TestSigner::new(CONSUMER_SEED);
    let file = sign(object().to_string().as_bytes(), "space-1", &consumer).unwrap();
    let file = sign(&file, "depot-7", &TestSigner::new(PROVIDER_SEED)).unwrap();
    let ours: Value = serde_json::from_slice(&file).unwrap();
    assert_eq!(ours, serde_json::from_str::<Value>(GOLDEN).unwrap());
    assert_eq!(sign(&file, "depot-7", &TestSigner::new(PROVIDER_SEED)).unwrap(), file);
}

fn check(key: &str, value: Value, pointer: &str, problem: Problem) {
    let changed = with(object(), key, value);
    let shown = changed.to_string();
    let error = sign(shown.as_bytes(), "space-1", &TestSigner::new(CONSUMER_SEED)).unwrap_err();
    let found = error.faults.iter().map(|f| (f.pointer.as_str(), &f.problem)).collect::<Vec<_>>();
    assert_eq!(found, [(pointer, &problem)], "for {shown}");
}

fn term(found: &str, known: &'static str) -> Problem {
    Problem::UnknownTerm { found: found.to_owned(), known }
}

#[test]
fn every_term_is_known_or_refused() {
    let name = |detail: &str| Problem::Name { detail: detail.to_owned() };
    let time = |found: &str| Problem::Time { found: found.to_owned() };
    check(
        "id",
        json!("a b"),
        "/id",
        name("contract id contains ' '; use letters, digits, '.', '-' and '_'"),
    );
    check("id", json!(7), "/id", Problem::Type { expected: "a text" });
    check("id", Value::Null, "/id", Problem::Missing);
    check("note", json!("x"), "/note", Problem::UnknownKey);
    check("version", json!(0), "/version", Problem::Version { found: 0 });
    check("version", json!("1"), "/version", Problem::Type { expected: "an integer" });
    check("version", json!(1.5), "/version", Problem::Fraction { found: "1.5".to_owned() });
    check("version", json!(1e300), "/version", Problem::NotCanonical);
    check("purpose", json!(""), "/purpose", name("name is empty; give it 1 to 64 characters"));
    check("datasets", json!([]), "/datasets", Problem::Empty);
    check("datasets", json!("all"), "/datasets", Problem::Type { expected: "a list" });
    let twice = Problem::Duplicate { found: "d".to_owned() };
    check("datasets", json!(["d", "d"]), "/datasets/1", twice);
    check("points", json!("some"), "/points", term("some", "\"all\" or a list of points"));
    check("points", json!([]), "/points", Problem::Empty);
    check("allow", json!(["sell"]), "/allow/0", term("sell", "\"forward\""));
    check("allow", json!([]), "/allow", Problem::Empty);
    let masked = Problem::MaskNotCovered { found: "Other".to_owned() };
    check("mask", json!(["Other"]), "/mask", masked);
    check("not_after", json!("2026-01-01T00:00:00Z"), "/not_after", Problem::Interval);
    check("not_after", json!("2030-01-01"), "/not_after", time("2030-01-01"));
    check(
        "not_after",
        json!("2030-01-01T00:00:00+08:00"),
        "/not_after",
        time("2030-01-01T00:00:00+08:00"),
    );
    check("not_after", json!("2300-01-01T00:00:00Z"), "/not_after", time("2300-01-01T00:00:00Z"));
}

#[test]
fn limits_are_exact() {
    let names = |count: usize| (0..count).map(|n| format!("P{n}")).collect::<Vec<_>>();
    let at = |key: &str, limit: usize, base: Value| {
        contract(&with(base.clone(), key, json!(names(limit))));
        let over = with(base, key, json!(names(limit + 1))).to_string();
        let error = sign(over.as_bytes(), "space-1", &TestSigner::new(CONSUMER_SEED)).unwrap_err();
        let expect = Problem::TooMany { count: limit + 1, limit };
        assert_eq!(error.faults[0].problem, expect, "for {key}");
    };
    let all = with(object(), "points", json!("all"));
    at("datasets", DATASETS_MAX, object());
    at("mask", POINTS_NAMED_MAX, all);
    at("points", POINTS_NAMED_MAX, with(object(), "mask", json!([])));

    let padded = |length: usize| GOLDEN.to_owned() + &" ".repeat(length - GOLDEN.len());
    assert!(Contract::parse(padded(CONTRACT_BYTES_MAX).as_bytes(), &trusted()).is_ok());
    let length = CONTRACT_BYTES_MAX + 1;
    let error = Contract::parse(padded(length).as_bytes(), &trusted()).unwrap_err();
    let expect = Problem::FileTooLong { limit: CONTRACT_BYTES_MAX };
    assert_eq!(error.faults[0].problem, expect);

    let mut file: Value = serde_json::from_str(GOLDEN).unwrap();
    let one = file["signatures"][0].clone();
    file["signatures"] = json!(vec![one.clone(); SIGNATURES_MAX]);
    assert!(Contract::parse(file.to_string().as_bytes(), &trusted()).is_ok());
    file["signatures"] = json!(vec![one; SIGNATURES_MAX + 1]);
    assert!(Contract::parse(file.to_string().as_bytes(), &trusted()).is_err());

    let many = json!({ "contract": vec![Value::Null; FAULTS_MAX + 1] }).to_string();
    let error = Contract::parse(many.as_bytes(), &trusted()).unwrap_err();
    assert_eq!((error.faults.len(), error.truncated), (FAULTS_MAX, true));
}

#[test]
fn all_faults_are_reported_at_once() {
    let json = r#"{"schema":2,"contract":{"id":"","version":1,"provider":"p","consumer":"c",
        "purpose":"x","datasets":["d"],"points":"all","not_before":"now","not_after":null,
        "allow":["forward"],"mask":[],"mask":[]},"signatures":[{"party":"c"}],"extra":true}"#;
    let pointers: Vec<String> = faults_of(json).into_iter().map(|(at, _)| at).collect();
    let expect = [
        "/contract/not_after",
        "/contract/mask",
        "/extra",
        "/schema",
        "/signatures/0/key_id",
        "/signatures/0/algorithm",
        "/signatures/0/signature",
        "/contract/id",
        "/contract/not_before",
    ];
    assert_eq!(pointers, expect);
    let error = Contract::parse(json.as_bytes(), &trusted()).unwrap_err().to_string();
    assert!(
        error.contains("\n  /schema: \"2\" is not known here, use 1 for this form of contract\n"),
        "{error}"
    );
}

/// The golden file with its signatures replaced.
fn signed_as(signatures: Value) -> Vec<Problem> {
    let mut file: Value = serde_json::from_str(GOLDEN).unwrap();
    file["signatures"] = signatures;
    match Contract::parse(file.to_string().as_bytes(), &trusted()) {
        Ok(_) => Vec::new(),
        Err(error) => error.faults.into_iter().map(|fault| fault.problem).collect(),
    }
}

#[test]
fn who_must_have_signed() {
    let file: Value = serde_json::from_str(GOLDEN).unwrap();
    let (consumer, provider) = (&file["signatures"][0], &file["signatures"][1]);
    let provider_id = key_id(&TestSigner::new(PROVIDER_SEED).key());
    let by = |party: &str, unknown: &str| Problem::NotSigned {
        party: party.to_owned(),
        unknown: unknown.to_owned(),
    };
    let not_signed = |unknown: &str| [by("depot-7", unknown), by("space-1", unknown)];
    assert_eq!(signed_as(json!([consumer])), []);
    assert_eq!(signed_as(json!([provider, consumer])), []);
    assert_eq!(signed_as(json!([])), not_signed("none"));
    assert_eq!(signed_as(json!([provider])), not_signed(&provider_id));
    // Unless the operator says so, one signature is not enough for an old file either.
    let both = trusted().accepting_single(false);
    let error = Contract::parse(GOLDEN.as_bytes(), &both).unwrap_err();
    assert_eq!(error.faults[0].problem, by("depot-7", &provider_id));

    // A stranger's signature counts if the operator says so; that of somebody who is known is checked.
    let strangers = both.counting_strangers(true);
    assert!(strangers.knows("space-1") && !strangers.knows("depot-7"));
    Contract::parse(GOLDEN.as_bytes(), &strangers).unwrap();
    let of_depot =
        TrustedKeys::new(vec![("depot-7".to_owned(), TestSigner::new(9).key())]).unwrap();
    let error = Contract::parse(GOLDEN.as_bytes(), &of_depot.counting_strangers(true)).unwrap_err();
    assert_eq!(error.faults[0].problem, by("depot-7", &provider_id));

    let mut forged = consumer.clone();
    forged["signature"] = provider["signature"].clone();
    let key_id_of_consumer = consumer["key_id"].as_str().unwrap().to_owned();
    let fault = Problem::Forged { party: "space-1".to_owned(), key_id: key_id_of_consumer.clone() };
    assert_eq!(signed_as(json!([consumer, forged])), [fault]);

    let mut renamed = consumer.clone();
    renamed["party"] = json!("depot-7");
    let fault = Problem::WrongParty {
        key_id: key_id_of_consumer,
        owner: "space-1".to_owned(),
        party: "depot-7".to_owned(),
    };
    let [first, second] = not_signed("none");
    assert_eq!(signed_as(json!([renamed])), [fault, first, second]);

    // A trusted key of somebody who is no party: it holds, but does not count.
    let court = TestSigner::new(3);
    let canonical = crate::json::canonical_json(&object());
    let signature = court.0.sign(&[b"guan-contract/1\n", &canonical[..]].concat());
    let mut entry = consumer.clone();
    entry["party"] = json!("court");
    entry["key_id"] = json!(key_id(&court.key()));
    entry["signature"] = json!(base64_of(&signature.to_bytes()));
    assert_eq!(signed_as(json!([entry])), not_signed("none"));
    assert_eq!(signed_as(json!([entry, consumer])), []);
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[test]
fn signing_needs_a_party_and_a_key_that_works() {
    struct P256Signer;
    impl Signer for P256Signer {
        fn name(&self) -> &str {
            "p256"
        }
        fn public_key(&self) -> PublicKey {
            PublicKey::EcdsaP256(vec![4; 65])
        }
        fn sign(&self, _: &[u8]) -> Result<Vec<u8>, SignFault> {
            Err(SignFault::Missing { key: "p256".to_owned(), detail: "test".to_owned() })
        }
    }
    let problem = |party: &str, signer: &dyn Signer| {
        let error = sign(object().to_string().as_bytes(), party, signer).unwrap_err();
        error.faults.into_iter().map(|fault| fault.problem).collect::<Vec<_>>()
    };
    let stranger = Problem::NotAParty { party: "court".to_owned() };
    assert_eq!(problem("court", &TestSigner::new(3)), [stranger]);
    let detail = "the key p256 is not there: test".to_owned();
    let failed = Problem::Signer { detail };
    assert_eq!(problem("space-1", &P256Signer), [failed]);
}

#[test]
fn trusted_keys_report_all_faults() {
    let key = TestSigner::new(1).key();
    let faults = TrustedKeys::new(vec![
        ("a".to_owned(), key.clone()),
        ("b b".to_owned(), key),
        ("weak".to_owned(), PublicKey::Ed25519([0; 32])),
        ("short".to_owned(), PublicKey::EcdsaP256(vec![4; 64])),
    ])
    .unwrap_err();
    assert!(matches!(
        &faults[..],
        [
            KeyFault::Party { .. },
            KeyFault::Duplicate { .. },
            KeyFault::Point { .. },
            KeyFault::Point { .. }
        ]
    ));
    let keys = |count: usize| {
        let signer = |n: usize| SigningKey::from_bytes(&Digest::of(&n.to_be_bytes()).0);
        let key = |n: usize| PublicKey::Ed25519(signer(n).verifying_key().to_bytes());
        let pair = |n: usize| (format!("p{n}"), key(n));
        TrustedKeys::new((0..count).map(pair).collect())
    };
    assert!(keys(TRUSTED_KEYS_MAX).is_ok());
    let count = TRUSTED_KEYS_MAX + 1;
    assert_eq!(keys(count).unwrap_err(), [KeyFault::TooMany { count }]);
}

#[test]
fn validity_is_from_the_first_moment_to_before_the_last() {
    let contract = contract(&object());
    let check = |wall: WallTime, expect| {
        let now = Now { wall, monotonic: Duration::ZERO, quality: ClockQuality::Rtc };
        assert_eq!(contract.validity(&now), expect, "at {wall:?}");
        assert_eq!(contract.valid_at(&now), expect == Validity::Valid);
    };
    check(WallTime(contract.not_before().0 - 1), Validity::NotYet);
    check(contract.not_before(), Validity::Valid);
    check(WallTime(contract.not_after().0 - 1), Validity::Valid);
    check(contract.not_after(), Validity::Expired);
}

#[test]
fn a_tampered_file_is_never_another_contract() {
    let good = Contract::parse(GOLDEN.as_bytes(), &trusted()).unwrap();
    let mut refused = 0;
    for at in 0..GOLDEN.len() {
        for bit in 0..8 {
            let mut bytes = GOLDEN.as_bytes().to_vec();
            bytes[at] ^= 1 << bit;
            match Contract::parse(&bytes, &trusted()) {
                Ok(contract) => assert_eq!(contract, good, "bit {bit} of byte {at}"),
                Err(_) => refused += 1,
            }
        }
    }
    // Only blanks and the signature by the unknown key may change without a refusal.
    assert!(refused > GOLDEN.len() * 6, "{refused} of {} flips refused", GOLDEN.len() * 8);
}

/// SplitMix64: the same mutations in every run, cheaper than a shrinking strategy.
fn random(state: &mut u64) -> usize {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    usize::try_from((mixed ^ (mixed >> 31)) >> 16).unwrap()
}

#[test]
fn a_hundred_thousand_mutations_give_an_answer() {
    let good = Contract::parse(GOLDEN.as_bytes(), &trusted()).unwrap();
    let keys = trusted();
    let mut state = 1;
    for round in 0..100_000 {
        let mut bytes = GOLDEN.as_bytes().to_vec();
        for _ in 0..=random(&mut state) % 4 {
            let at = random(&mut state) % bytes.len();
            let other = random(&mut state) % GOLDEN.len();
            match random(&mut state) % 4 {
                0 => bytes[at] = random(&mut state).to_le_bytes()[0],
                1 => bytes.insert(at, GOLDEN.as_bytes()[other]),
                2 => drop(bytes.remove(at)),
                _ => bytes.truncate(at.max(8)),
            }
        }
        if let Ok(contract) = Contract::parse(&bytes, &keys) {
            assert_eq!(contract, good, "in round {round}");
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_give_an_answer(bytes: Vec<u8>, text: String) {
        prop_assert!(Contract::parse(&bytes, &trusted()).is_err());
        prop_assert!(Contract::parse(text.as_bytes(), &trusted()).is_err());
    }
}
