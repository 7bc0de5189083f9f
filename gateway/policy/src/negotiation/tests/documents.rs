//! Message documents: the protocol's own form, what is refused with which pointer, and damage.

use super::*;
use crate::contract::CONTRACT_BYTES_MAX;
use crate::json::DEPTH_MAX;

fn example(kind: MessageKind) -> Value {
    let sender = match kind {
        MessageKind::Offer | MessageKind::Agreement | MessageKind::Finalized => Role::Provider,
        _ => Role::Consumer,
    };
    serde_json::from_slice(message(sender, kind, 1, false, &offer(0)).to_json()).unwrap()
}

fn check(document: &Value, expect: Result<(), &[&str]>) {
    let outcome = Message::read(document.to_string().as_bytes());
    let faults = outcome
        .map(|_| ())
        .map_err(|error| error.faults.iter().map(ToString::to_string).collect::<Vec<_>>());
    let expect = expect.map_err(|faults| faults.iter().map(|f| (*f).to_owned()).collect());
    assert_eq!(faults, expect, "{document}");
}

fn with(mut document: Value, key: &str, value: Value) -> Value {
    match value {
        Value::Null => document.as_object_mut().unwrap().remove(key),
        value => document.as_object_mut().unwrap().insert(key.to_owned(), value),
    };
    document
}

#[test]
fn documents_of_the_protocol() {
    let context = json!([CONTEXT]);
    let request = json!({
        "@context": context, "@type": "ContractRequestMessage", "consumerPid": "urn:uuid:1",
        "callbackAddress": "https://example.com/callback",
        "offer": {"@type": "Offer", "@id": "urn:uuid:2", "target": "urn:uuid:3",
                  "permission": [{"action": "use"}]},
    });
    check(&request, Ok(()));
    check(&with(request.clone(), "providerPid", json!("urn:uuid:4")), Ok(()));
    let termination = json!({
        "@context": context, "@type": "ContractNegotiationTerminationMessage",
        "consumerPid": "urn:uuid:1", "providerPid": "urn:uuid:4", "code": "99",
        "reason": [{"message": "no"}, "never"],
    });
    let read = Message::read(termination.to_string().as_bytes()).unwrap();
    let reasons = vec![r#"{"message":"no"}"#.to_owned(), "never".to_owned()];
    assert_eq!(read.body(), &Body::Termination { code: Some("99".to_owned()), reasons });
    for kind in MessageKind::ALL {
        check(&example(kind), Ok(()));
    }
}

#[test]
fn what_is_refused_and_where() {
    let request = example(MessageKind::Request);
    check(
        &with(request.clone(), "@type", json!("OfferMessage")),
        Err(&[
            r#"/@type: "OfferMessage" is not known here, use a message of a contract negotiation"#,
        ]),
    );
    check(&with(request.clone(), "offer", Value::Null), Err(&["/offer: missing; add it"]));
    check(
        &with(request.clone(), "consumerPid", Value::Null),
        Err(&["/consumerPid: missing; add it"]),
    );
    check(
        &with(request.clone(), "providerPid", Value::Null),
        Err(&["/callbackAddress: missing; add it"]),
    );
    check(
        &with(request.clone(), "state", json!("AGREED")),
        Err(&["/state: unknown key; remove it or correct its name"]),
    );
    check(&with(request.clone(), "@context", json!([])), Err(&["/@context: missing; add it"]));
    check(
        &with(request.clone(), "@context", json!([CONTEXT, "https://example.com/x"])),
        Err(&[
            "/@context/1: \"https://example.com/x\" is not known here, use the contexts of the Dataspace \
         Protocol 2025-1",
        ]),
    );
    let pid_of = |length: usize| json!("p".repeat(length));
    check(&with(request.clone(), "consumerPid", pid_of(256)), Ok(()));
    check(
        &with(request.clone(), "consumerPid", pid_of(257)),
        Err(&["/consumerPid: pid has 257 bytes; the limit is 256"]),
    );
    let agreement = with(request.clone(), "offer", terms_value("Agreement", 0));
    check(
        &agreement,
        Err(&[
            "/offer/@type: \"Agreement\" is not known here, use Offer in a request or an offer, \
         Agreement in an agreement",
        ]),
    );
    check(
        &with(request, "offer", json!({"@type": "Offer"})),
        Err(&["/offer/@id: missing; add it"]),
    );
    let event = example(MessageKind::Finalized);
    check(
        &with(event, "eventType", json!("VERIFIED")),
        Err(&["/eventType: \"VERIFIED\" is not known here, use ACCEPTED or FINALIZED"]),
    );
    let address = |length| with(example(MessageKind::Request), "callbackAddress", pid_of(length));
    check(&address(1024), Ok(()));
    check(&address(1025), Err(&["/callbackAddress: address has 1025 bytes; the limit is 1024"]));
}

#[test]
fn sizes_at_their_limits() {
    let nested = |depth: usize| {
        let value = (0..depth).fold(json!(1), |inner, _| json!([inner]));
        with(terms_value("Offer", 0), "terms", value).to_string()
    };
    // The terms themselves are one level, the message around them another.
    let deepest = Terms::read(nested(DEPTH_MAX - 2).as_bytes()).unwrap();
    assert!(Terms::read(nested(DEPTH_MAX - 1).as_bytes()).is_err());
    let mut end =
        Negotiation::open(at(0), parties(Role::Consumer), deepest, Limits::default()).unwrap();
    let sent = end.poll_message(at(0)).unwrap();
    assert!(Message::read(sent.message.to_json()).is_ok(), "what is sent can be read");

    let sized = |length: usize| {
        let empty = with(terms_value("Offer", 0), "title", json!("")).to_string().len();
        with(terms_value("Offer", 0), "title", json!("t".repeat(length - empty))).to_string()
    };
    let largest = Terms::read(sized(CONTRACT_BYTES_MAX).as_bytes()).unwrap();
    assert!(Terms::read(sized(CONTRACT_BYTES_MAX + 1).as_bytes()).is_err());
    let mut end =
        Negotiation::open(at(0), parties(Role::Consumer), largest, Limits::default()).unwrap();
    let sent = end.poll_message(at(0)).unwrap();
    assert!(Message::read(sent.message.to_json()).is_ok());
    assert!(restart(end, at(0)).in_flight().is_some());
    let long = " ".repeat(MESSAGE_BYTES_MAX + 1);
    assert!(Message::read(long.as_bytes()).unwrap_err().to_string().contains("the limit is"));

    let signatures = |count: usize, length: usize| {
        let list = vec![json!({"party": "p".repeat(length)}); count];
        Signatures::of_file(json!({"signatures": list}).to_string().as_bytes())
    };
    assert!(signatures(16, 1).is_ok());
    assert!(signatures(17, 1).is_err());
    // Two brackets, and twelve bytes around the name.
    assert!(signatures(1, 16 * 1024 - 14).is_ok());
    assert!(signatures(1, 16 * 1024 - 13).is_err());
}

#[test]
fn damaged_documents_never_panic() {
    let documents: Vec<Vec<u8>> = MessageKind::ALL
        .into_iter()
        .map(|kind| example(kind).to_string().into_bytes())
        .chain([
            ack().to_json(),
            Rejection::from(&refusal()).to_json(&pid(Role::Consumer), &pid(Role::Provider)),
        ])
        .collect();
    let start = play(Role::Provider, Limits::default(), "<request >offer");
    let mut random = model::Random::new(7);
    let (mut read, mut followed) = (0, 0);
    for round in 0..100_000 {
        let mut bytes = documents[round % documents.len()].clone();
        for _ in 0..=random.below(4) {
            damage(&mut bytes, &mut random, &documents);
        }
        let _ = Answer::read(&bytes);
        let Ok(message) = Message::read(&bytes) else { continue };
        read += 1;
        let again = Message::read(message.to_json()).unwrap();
        assert_eq!(again, message, "the canonical form says the same");
        followed += u32::from(start.clone().handle_message(at(9), &message).is_ok());
    }
    assert!(read > 1000 && followed > 100, "the damage is not too coarse: {read}, {followed}");
}

fn ack() -> Ack {
    let state = State::Offered;
    Ack { consumer_pid: pid(Role::Consumer), provider_pid: pid(Role::Provider), state }
}

fn refusal() -> Refusal {
    Refusal::TooManyProposals { limit: 3 }
}

fn damage(bytes: &mut Vec<u8>, random: &mut model::Random, documents: &[Vec<u8>]) {
    const WORDS: [&str; 8] =
        ["\"", "{", "]", "null", "\"@id\":1,", "1e9", "\\u0000", "\"offer\":{},"];
    let place = random.below(bytes.len().max(1));
    let end = (place + random.below(12)).min(bytes.len());
    match random.below(6) {
        0 if !bytes.is_empty() => bytes[place] ^= 1 << random.below(8),
        1 => drop(bytes.drain(place..end)),
        2 => {
            let word = WORDS[random.below(WORDS.len())].bytes();
            drop(bytes.splice(place..place, word));
        }
        3 => {
            let other = &documents[random.below(documents.len())];
            let from = random.below(other.len());
            let piece = other[from..(from + 20).min(other.len())].to_vec();
            drop(bytes.splice(place..end, piece));
        }
        4 => bytes.truncate(place),
        // A letter for a letter: most often still a document.
        _ if !bytes.is_empty() => bytes[place] = b'a' + u8::try_from(random.below(26)).unwrap(),
        _ => {}
    }
}
