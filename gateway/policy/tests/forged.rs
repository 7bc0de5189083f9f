//! Signed contracts and contract sets that somebody has changed: each is refused with its reason.
//!
//! Old epochs and other boxes' sets are refused by who remembers them: `standing` of guan-edge.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use guan_model::{BoxId, ContractId, Digest, PublicKey, SignFault, Signer, WallTime};
use guan_policy::roster::Entry;
use guan_policy::{
    Contract, ContractError, ContractState, Problem, Roster, TrustedKeys, canonical_json, sign,
};
use serde_json::{Value, json};

struct Key(SigningKey);

impl Key {
    fn new(seed: u8) -> Self {
        Self(SigningKey::from_bytes(&[seed; 32]))
    }
}

impl Signer for Key {
    fn name(&self) -> &str {
        "test"
    }

    fn public_key(&self) -> PublicKey {
        PublicKey::Ed25519(self.0.verifying_key().to_bytes())
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignFault> {
        Ok(self.0.sign(message).to_bytes().to_vec())
    }
}

const PARTIES: [(&str, u8); 3] = [("depot-7", 1), ("insurer-1", 2), ("insurer-2", 3)];

fn keys() -> TrustedKeys {
    let keys = PARTIES.map(|(party, seed)| (party.to_owned(), Key::new(seed).public_key()));
    TrustedKeys::new(keys.to_vec()).unwrap()
}

fn agreement() -> Value {
    json!({
        "@type": "Agreement", "@id": "C-1", "profile": "urn:guankou:odrl:1", "version": 1,
        "assigner": "depot-7", "assignee": "insurer-1", "target": ["vessel-bus"],
        "validity": {"notBefore": "2026-01-01T00:00:00Z", "notAfter": "2030-01-01T00:00:00Z"},
        "permission": [{"uid": "p", "action": "deliver", "duty": [{"action": "mask"}]}],
    })
}

fn first_form() -> Value {
    json!({
        "id": "C-1", "version": 1, "provider": "depot-7", "consumer": "insurer-1", "purpose": "x",
        "datasets": ["d"], "points": "all", "not_before": "2026-01-01T00:00:00Z",
        "not_after": "2030-01-01T00:00:00Z", "allow": ["forward"], "mask": [],
    })
}

/// The file with the signatures of some parties.
fn signed(object: &Value, parties: &[usize]) -> Value {
    let mut file = object.to_string().into_bytes();
    for (party, seed) in parties.iter().map(|place| PARTIES[*place]) {
        file = sign(&file, party, &Key::new(seed)).unwrap();
    }
    serde_json::from_slice(&file).unwrap()
}

fn refused(file: &Value) -> Vec<(String, Problem)> {
    match Contract::parse(file.to_string().as_bytes(), &keys()) {
        Ok(_) => Vec::new(),
        Err(error) => error.faults.into_iter().map(|one| (one.pointer, one.problem)).collect(),
    }
}

fn set() -> Roster {
    let entry = |name: &str, state| Entry {
        contract: ContractId::parse(name).unwrap(),
        version: 1,
        digest: Digest([7; 32]),
        state,
    };
    Roster {
        box_id: BoxId::parse("box-1").unwrap(),
        space: "depot-7".to_owned(),
        epoch: 9,
        issued: WallTime::from_seconds(1_800_000_000),
        entries: vec![entry("A", ContractState::Active), entry("B", ContractState::Revoked)],
    }
}

/// The file with one bit of a signature changed.
fn with_flip(file: &Value, signature: usize, bit: usize) -> Value {
    let mut file = file.clone();
    let place = &mut file["signatures"][signature]["signature"];
    let mut bytes = STANDARD.decode(place.as_str().unwrap()).unwrap();
    bytes[bit / 8] ^= 1 << (bit % 8);
    *place = json!(STANDARD.encode(bytes));
    file
}

#[test]
fn no_bit_of_a_signature_may_change() {
    let file = signed(&agreement(), &[0, 1]);
    assert_eq!(refused(&file), []);
    let roster: Value = serde_json::from_slice(&set().sign(&Key::new(1)).unwrap()).unwrap();
    assert_eq!(Roster::parse(roster.to_string().as_bytes(), &keys()).unwrap(), set());
    for bit in 0..512 {
        for (signature, other) in [(0, "depot-7"), (1, "insurer-1")] {
            let faults = refused(&with_flip(&file, signature, bit));
            let party = match &faults[..] {
                [(_, Problem::Forged { party, .. }), (_, Problem::NotSigned { .. })] => party,
                faults => panic!("bit {bit}: {faults:?}"),
            };
            assert_eq!(party, other);
        }
        let changed = with_flip(&roster, 0, bit).to_string();
        let ContractError { faults, .. } = Roster::parse(changed.as_bytes(), &keys()).unwrap_err();
        assert!(matches!(faults[0].problem, Problem::Forged { .. }), "bit {bit}: {faults:?}");
    }
}

/// Every byte of what was signed: the result is no document, or another one.
#[test]
fn no_byte_of_what_was_signed_may_change() {
    let file = signed(&agreement(), &[0, 1]);
    let roster: Value = serde_json::from_slice(&set().sign(&Key::new(1)).unwrap()).unwrap();
    for (file, key) in [(file, "contract"), (roster, "set")] {
        let text = canonical_json(&file);
        let object = canonical_json(&file[key]);
        let from = text.windows(object.len()).position(|at| at == object).unwrap();
        for place in from..from + object.len() {
            for bit in [0, 1, 3, 5] {
                let mut changed = text.clone();
                changed[place] ^= 1 << bit;
                let is_refused = match key {
                    "contract" => Contract::parse(&changed, &keys()).is_err(),
                    _ => Roster::parse(&changed, &keys()).is_err(),
                };
                assert!(is_refused, "{}", String::from_utf8_lossy(&changed));
            }
        }
    }
}

#[test]
fn what_was_signed_for_something_else_is_refused() {
    let not_signed =
        |party: &str| Problem::NotSigned { party: party.to_owned(), unknown: "none".to_owned() };
    let check = |what: &str, file: &Value, expect: &[(&str, Problem)]| {
        let expect: Vec<_> =
            expect.iter().map(|(at, one)| ((*at).to_owned(), one.clone())).collect();
        assert_eq!(refused(file), expect, "{what}");
    };
    let file = signed(&agreement(), &[0, 1]);
    let at = "/signatures";
    // Downgraded: the old form once counted with one signature.
    check("one of two", &signed(&first_form(), &[1]), &[(at, not_signed("depot-7"))]);
    check("one of two", &signed(&agreement(), &[0]), &[(at, not_signed("insurer-1"))]);
    check("both", &signed(&first_form(), &[0, 1]), &[]);
    let mut renumbered = file.clone();
    renumbered["schema"] = json!(1);
    let faults = refused(&renumbered);
    assert!(
        matches!(&faults[..], [(at, Problem::UnknownTerm { .. })] if at == "/schema"),
        "{faults:?}"
    );
    // Wrongly addressed: made out to one consumer, signed by another; a later version under old names.
    let key_id = |place: usize| file["signatures"][place]["key_id"].as_str().unwrap().to_owned();
    let forged = |place: usize| {
        let (party, key_id) = (PARTIES[place].0.to_owned(), key_id(place));
        Problem::Forged { party, key_id }
    };
    for (key, value) in [("assignee", json!("insurer-2")), ("version", json!(2))] {
        let mut other = file.clone();
        other["contract"][key] = value;
        let consumer = if key == "assignee" { "insurer-2" } else { "insurer-1" };
        let expect = [
            ("/signatures/0", forged(0)),
            ("/signatures/1", forged(1)),
            (at, not_signed("depot-7")),
            (at, not_signed(consumer)),
        ];
        check(key, &other, &expect);
    }
    // Signed, but as a contract set: the line before what is signed keeps them apart.
    let message = [b"guan-contract-set/1\n", &canonical_json(&agreement())[..]].concat();
    let mut misused = file.clone();
    let signature = Signer::sign(&Key::new(1), &message).unwrap();
    misused["signatures"][0]["signature"] = json!(STANDARD.encode(signature));
    check("a set's line", &misused, &[("/signatures/0", forged(0)), (at, not_signed("depot-7"))]);
}
