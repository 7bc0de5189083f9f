//! Who signed what, and what is known of them.

use super::*;
use guan_identity::{PartyAlgorithm, encode_public};
use serde_json::json;

struct Known {
    folder: tempfile::TempDir,
    keys: PartyKeys,
}

impl Known {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key_file = folder.path().join("space.pem");
        PartyKey::create(&key_file, "space-1", PartyAlgorithm::Ed25519).unwrap();
        let parties_dir = Some(folder.path().to_path_buf());
        let keys = PartyKeys { space: "space-1".to_owned(), key_file, parties_dir };
        Self { folder, keys }
    }

    /// A key of somebody, kept outside of what the space looks at.
    fn key(&self, party: &str, algorithm: PartyAlgorithm) -> PartyKey {
        let outside = tempfile::tempdir().unwrap();
        PartyKey::create(&outside.path().join("key.pem"), party, algorithm).unwrap()
    }

    fn publish(&self, party: &str, key: &PartyKey) {
        let path = self.folder.path().join(format!("{party}.pub.pem"));
        std::fs::write(path, encode_public(&key.public_key())).unwrap();
    }
}

fn draft(consumer: &str) -> Vec<u8> {
    let object = json!({
        "@type": "Agreement", "@id": "urn:contract:C-1", "profile": "urn:guankou:odrl:1",
        "version": 1, "conflict": "prohibit", "assigner": "depot-7", "assignee": consumer,
        "target": ["d"], "permission": [{"action": "deliver"}],
        "validity": {"notBefore": "2026-01-01T00:00:00Z", "notAfter": "2027-01-01T00:00:00Z"},
    });
    object.to_string().into_bytes()
}

fn signed(consumer: &str, by: &[(&str, &PartyKey)]) -> Vec<u8> {
    let sign = |file: Vec<u8>, (party, key): &(&str, &PartyKey)| {
        guan_policy::sign(&file, party, *key).unwrap()
    };
    by.iter().fold(draft(consumer), sign)
}

#[test]
fn both_parties_must_have_signed_with_their_keys() {
    use PartyAlgorithm::{Ed25519, P256};
    let known = Known::new();
    let [depot, insurer, stranger] =
        [("depot-7", Ed25519), ("insurer-1", P256), ("x", Ed25519)].map(|(n, a)| known.key(n, a));
    known.publish("depot-7", &depot);
    known.publish("insurer-1", &insurer);
    let check = |file: Vec<u8>, strangers, part: &str| {
        let judged = known.keys.judge(file, strangers);
        let text = match judged {
            Ok(signed) => format!("good, unchecked {:?}", signed.unchecked()),
            Err(fault) => guan_link::driver::describe(&fault),
        };
        assert!(text.contains(part), "{text} for {part}");
    };
    let (depot, insurer) = (("depot-7", &depot), ("insurer-1", &insurer));
    let whole = signed("insurer-1", &[depot, insurer]);
    let altered = String::from_utf8(whole.clone()).unwrap().replace("2027-", "2028-").into_bytes();
    let forged = signed("insurer-1", &[depot, ("insurer-1", &stranger)]);
    // A known party must always sign with its key; only of others is anything taken unchecked.
    for strangers in [Strangers::Refused, Strangers::Trusted] {
        check(whole.clone(), strangers, "good, unchecked []");
        check(altered.clone(), strangers, "altered after signing");
        check(forged.clone(), strangers, "no trusted key of \"insurer-1\" has signed");
        check(signed("insurer-1", &[depot]), strangers, "\"insurer-1\" has signed");
        check(draft("insurer-1"), strangers, "missing");
        check(signed("court", &[depot]), strangers, "\"court\" has signed");
    }
    let foreign = signed("court", &[depot, ("court", &stranger)]);
    check(foreign.clone(), Strangers::Refused, "no key of court is known here");
    check(foreign, Strangers::Trusted, "good, unchecked [\"court\"]");
    // The space is a party that is known.
    let own = known.keys.private("space-1").unwrap().unwrap();
    check(signed("space-1", &[depot, ("space-1", &own)]), Strangers::Refused, "good");
    check(signed("space-1", &[depot, ("space-1", &stranger)]), Strangers::Trusted, "space-1");
}

#[test]
fn a_key_is_a_partys_or_not_known() {
    let known = Known::new();
    let (right, wrong) =
        (known.key("depot-7", PartyAlgorithm::P256), known.key("depot-7", PartyAlgorithm::P256));
    let check = |key: &PartyKey| known.keys.check_theirs("depot-7", &key.public_key());
    assert!(check(&right).is_ok() && check(&wrong).is_ok(), "nothing is known");
    known.publish("depot-7", &right);
    assert!(check(&right).is_ok());
    assert!(matches!(check(&wrong), Err(PartyFault::NotTheirs { .. })));
    // A damaged file is not the same as none.
    let path = known.folder.path().join("depot-7.pub.pem");
    for text in ["nonsense".to_owned(), "x".repeat(5000)] {
        std::fs::write(&path, text).unwrap();
        assert!(matches!(check(&right), Err(PartyFault::Public { .. })));
    }
}
