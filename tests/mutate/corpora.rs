//! Makes the corpora of the decoders of policy engine and chains, from what the product writes itself.
//!
//! `cargo run -p guan-tests --example corpora` writes them anew, after a new version of a form.

#![expect(clippy::unwrap_used, reason = "a generator may stop at the first surprise")]

use bytes::Bytes;
use guan_link::mux::Mux;
use guan_link::{
    Cursor, EncodedBatch, Item, Offer, Sender, SpaceFrame, StreamRange, VERSIONS, Welcome,
};
use guan_model::{
    Batch, BatchHeader, BatchSeq, BootNumber, BoxId, Class, ClockQuality, ContractId, DatasetId,
    DescriptorTable, Digest, Now, PointDescriptor, PointId, PointName, Quality, Row, SpoolId,
    StreamId, Unit, Value, ValueType, WallTime,
};
use guan_policy::negotiation::{
    Ack, Answer, Limits, Message, Negotiation, Parties, Pid, Refusal, Rejection, Role, Signatures,
    Terms,
};
use guan_policy::roster::Entry;
use guan_policy::{Contract, ContractState, Means, Plan, Roster, Situation, Usage};
use serde_json::{Value as Json, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

fn folder(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name)
}

fn write(target: &str, name: &str, bytes: &[u8]) {
    std::fs::create_dir_all(folder(target)).unwrap();
    std::fs::write(folder(target).join(name), bytes).unwrap();
}

fn now() -> Now {
    let wall = WallTime::from_seconds(1_800_000_000);
    Now { wall, monotonic: Duration::from_secs(60), quality: ClockQuality::Rtc }
}

fn table() -> DescriptorTable {
    let point = |(id, name)| PointDescriptor {
        id: PointId(id),
        name: PointName::parse(name).unwrap(),
        value_type: ValueType::F64,
        unit: Unit::one(),
        dataset: DatasetId::parse("d").unwrap(),
        class: Class::General,
        tags: BTreeSet::new(),
    };
    DescriptorTable::new((1..).zip(["A.x", "A.z", "B.y", "C"]).map(point).collect()).unwrap()
}

/// Four points, six rows each, from one minute into the next.
fn batch(table: &DescriptorTable) -> Batch {
    let header = BatchHeader {
        dataset: DatasetId::parse("d").unwrap(),
        contract: None,
        descriptors: table.digest(),
        boot: BootNumber(1),
        monotonic: Duration::ZERO,
        clock_quality: ClockQuality::Rtc,
    };
    let row = |place: u32| Row {
        point: PointId(1 + place / 6),
        source_time: None,
        gateway_time: now().wall.saturating_add(Duration::from_secs(u64::from(place % 6) * 15)),
        quality: Quality::GOOD,
        value: Some(Value::F64(f64::from(place) * 1.25)),
    };
    Batch::from_rows(header, (0..24).map(row)).unwrap()
}

/// The records of a file before they are sealed, and the file itself.
fn write_carried() {
    let golden = include_bytes!("../../gateway/carry/tests/golden/file-v1.carry");
    write("carried", "golden", golden);
    write("carried", "plain", &guan_tests::targets::plain_file(golden).unwrap());
}

/// Data and credit of three streams, and the end.
fn write_mux() {
    let second = Duration::from_secs(1);
    let (mut one, mut other) =
        (Mux::new(Duration::ZERO, second, second), Mux::new(Duration::ZERO, second, second));
    for stream in 0..guan_link::mux::STREAMS {
        let piece = Bytes::from(vec![u8::try_from(stream).unwrap(); 300]);
        one.push(stream, piece);
    }
    let mut said: Vec<Bytes> = std::iter::from_fn(|| one.poll_bytes(Duration::ZERO)).collect();
    said.extend(one.poll_bytes(second));
    one.handle_close(5, "storage");
    said.extend(one.poll_bytes(second));
    write("mux", "three-and-close", &said.concat());
    let mut credit = Vec::new();
    for _ in 0..12 {
        let record = [&[0, 2, 0x80, 0x3E][..], &[7; 16_000]].concat();
        other.handle_bytes(Duration::ZERO, &record).unwrap();
        while other.take(2, usize::MAX).is_some() {}
        credit.extend(other.poll_bytes(Duration::ZERO));
    }
    write("mux", "credit-and-ping", &[&credit.concat()[..], &[2, 0, 0, 0, 0, 1, 1, 0, 9]].concat());
}

/// What a box says of eight batches in a chain.
fn write_chain() {
    let (now, stream) = (Duration::ZERO, StreamId(1));
    let range = StreamRange { id: stream, oldest_unreleased: BatchSeq(1), newest: BatchSeq(8) };
    let offer = Offer::new(SpoolId([7; 16]), vec![range]).unwrap();
    let mut sender = Sender::new(now, VERSIONS, offer);
    sender.poll_piped().unwrap();
    let cursors = vec![Cursor { stream, through: BatchSeq::ZERO }];
    let welcome = Welcome { version: VERSIONS.max, cursors, credit_bytes: 1 << 20 };
    sender.handle_frame(now, SpaceFrame::Welcome(welcome)).unwrap();
    let encoded = guan_codec::encode(&batch(&table()));
    let mut bytes = Vec::new();
    for seq in 1..=8 {
        let one = EncodedBatch {
            seq: BatchSeq(seq),
            dataset: DatasetId::parse("d").unwrap(),
            contract: ContractId::parse("C-1").unwrap(),
            rows: encoded.rows,
            digest: encoded.digest,
            bytes: encoded.bytes.clone().into(),
        };
        let want = sender.poll_want().unwrap();
        sender.handle_item(now, want, Item::Batch(one)).unwrap();
        let (_, frame) = sender.poll_piped().unwrap();
        bytes.extend(guan_link::wire::encode(&frame).concat());
    }
    write("chain", "eight", &bytes);
}

fn agreement(rules: Json) -> Json {
    let mut object = json!({
        "@type": "Agreement", "@id": "urn:contract:F-1", "profile": "urn:guankou:odrl:1", "version": 1,
        "assigner": "depot-7", "assignee": "insurer-1", "target": ["d"],
        "validity": {"notBefore": "2026-01-01T00:00:00Z", "notAfter": "2030-01-01T00:00:00Z"},
    });
    let members = object.as_object_mut().unwrap();
    members.extend(rules.as_object().unwrap().clone());
    object
}

fn refined(action: &str, parameters: &[(&str, &str)]) -> Json {
    let parts: Vec<Json> = parameters.iter().map(|(name, value)| test(name, "eq", value)).collect();
    json!({"action": action, "refinement": parts})
}

fn test(left: &str, operator: &str, right: &str) -> Json {
    json!({"leftOperand": left, "operator": operator, "rightOperand": right})
}

/// Everything that is asked when a batch leaves: trees, a prohibition, a delay.
fn held() -> Json {
    let months = json!({"or": [
        test("dateTime", "lt", "2027-02-01T00:00:00Z"), test("dateTime", "gteq", "2028-02-01T00:00:00Z"),
    ]});
    let one_of = json!({"xone": [
        test("link", "eq", "metered"), json!({"and": [
            test("secureBoot", "eq", "true"), test("attested", "gteq", "hardware"),
        ]}),
    ]});
    let night = json!({"leftOperand": "timeWindow", "operator": "isPartOf", "rightOperand":
        {"from": "22:00", "until": "06:00", "zone": "Europe/Berlin"}});
    agreement(json!({
        "permission": [{
            "uid": "p1", "action": "deliver", "constraint": [months, one_of],
            "duty": [refined("delay", &[("span", "PT1H"), ("dataField", "A.*")])],
        }],
        "prohibition": [
            {"uid": "f1", "action": "deliver", "constraint": [night]},
            {"uid": "f2", "action": "collect", "constraint": [test("releaseMin", "lt", "1.2.3")]},
        ],
    }))
}

/// A window of each kind.
fn windows() -> Json {
    let window = |point: &str, statistic: &str| {
        let by = [("window", "PT1M"), ("statistic", statistic), ("dataField", point)];
        refined("aggregate", &by)
    };
    let duties = [("A.x", "mean"), ("A.z", "count"), ("B.y", "p50"), ("C", "max")];
    let duties = duties.map(|(point, statistic)| window(point, statistic));
    agreement(json!({"permission": [{"uid": "p1", "action": "deliver", "duty": duties}]}))
}

/// Two points that share windows, with what follows on them, and a third for the results.
fn groups() -> Json {
    let group = |statistic: &str, minimum: &str| {
        let by =
            [("window", "PT1M"), ("statistic", statistic), ("dataField", "A.*"), ("into", "C")];
        refined("aggregate", &[&by[..], &[("minContributors", minimum)]].concat())
    };
    let noise =
        [("epsilon", "0.5"), ("budget", "10"), ("mechanism", "laplace"), ("dataField", "A.*")];
    let noisy = [
        refined("clamp", &[("low", "0"), ("high", "10.5"), ("dataField", "A.*")]),
        group("p95", "2"),
        refined("noise", &noise),
    ];
    let low = json!([test("value", "lt", "5")]);
    agreement(json!({"permission": [
        {"uid": "noisy", "action": "deliver", "constraint": low, "duty": noisy},
        {"uid": "plain", "action": "deliver", "duty": [group("mean", "3")]},
    ]}))
}

fn write_terms_and_usage() {
    let groups = groups().to_string().into_bytes();
    write("draft", "groups.json", &groups);
    let table = table();
    let drafts = ["counted", "forms", "leaving"]
        .map(|name| (name, std::fs::read(folder("draft").join(format!("{name}.json"))).unwrap()));
    let [held, windows] = [held(), windows()].map(|json| json.to_string().into_bytes());
    let more = [("held", held), ("windows", windows), ("groups", groups)];
    for (name, json) in drafts.into_iter().chain(more) {
        let plan = Plan::compile(&[Contract::draft(&json).unwrap()], &table);
        let mut usage = Usage::default();
        let mut entropy = || 7;
        let mut situation = Situation::at(now());
        (situation.consent, situation.secure_boot) = (Some(true), Some(true));
        let mut means =
            Means { pseudonym_key: &|_| Some([7; 32]), ..Means::plain(&mut usage, &mut entropy) };
        let decision = plan.decide(&situation, &mut means, batch(&table));
        for (place, one) in decision.permitted.iter().enumerate() {
            let terms = one.terms.encode();
            if !terms.is_empty() {
                write("terms", &format!("{name}-{place}"), &terms);
            }
        }
        if usage.is_empty() {
            continue;
        }
        write("usage", &format!("{name}-delta"), &usage.delta());
        write("usage", &format!("{name}-snapshot"), &usage.snapshot());
        usage.handle_committed();
        usage.retain(|_| false);
        if usage.is_dirty() {
            write("usage", &format!("{name}-gone"), &usage.delta());
        }
    }
}

fn write_rosters_and_mandates() {
    let entry = |(place, (name, state)): (u8, (&'static str, ContractState))| Entry {
        contract: ContractId::parse(name).unwrap(),
        version: u64::from(place) + 1,
        digest: Digest([place; 32]),
        state,
    };
    let roster = |entries| Roster {
        box_id: BoxId::parse("box-1").unwrap(),
        space: "space-1".to_owned(),
        epoch: 9,
        issued: now().wall,
        entries,
    };
    let all = (0..).zip(ContractState::WORDS).map(entry).collect();
    let space = guan_tests::targets::Space::new();
    write("roster", "empty.json", &roster(Vec::new()).sign(&space).unwrap());
    write("roster", "states.json", &roster(all).sign(&space).unwrap());
    let mandate = |name: &str, transforms: Json, needs_operator: bool| {
        let mandate = json!({
            "schema": 1, "consumers": ["insurer-1", "space-1"], "datasets": ["d", "machine-temperature"],
            "actions": ["deliver", "use"], "highestClass": "important",
            "requiredTransforms": transforms, "longestTerm": "P1461D", "needsOperator": needs_operator,
        });
        write("mandate", name, mandate.to_string().as_bytes());
    };
    mandate("free.json", json!([]), false);
    let required = json!([
        {"tag": "personal", "transforms": ["mask", "drop", "pseudonymise"]},
        {"tag": "precise-location", "transforms": ["coarsenPosition"]},
    ]);
    mandate("strict.json", required, true);
}

fn pid(role: Role) -> Pid {
    Pid::parse(if role == Role::Consumer { "urn:uuid:c-1" } else { "urn:uuid:p-1" }).unwrap()
}

fn terms(kind: &str) -> Terms {
    let json = std::fs::read(folder("draft").join("counted.json")).unwrap();
    let mut value: Json = serde_json::from_slice(&json).unwrap();
    value["@type"] = json!(kind);
    Terms::read(value.to_string().as_bytes()).unwrap()
}

/// Sends what one end has to send; both ends' records and the message go to the corpora.
fn pass(from: &mut Negotiation, to: Option<Negotiation>, name: &str) -> Negotiation {
    write("record", &format!("{name}-waiting"), &from.to_record(now()));
    let sent = from.poll_message(now()).unwrap();
    write("message", &format!("{name}.json"), sent.message.to_json());
    let message = Message::read(sent.message.to_json()).unwrap();
    let (to, ack) = match to {
        Some(mut to) => {
            let ack = to.handle_message(now(), &message).unwrap();
            (to, ack)
        }
        None => {
            let role = from.role().other();
            let parties = Parties::new(role, pid(role), "peer", "https://example.org/dsp").unwrap();
            Negotiation::begin(now(), parties, &message, Limits::default()).unwrap()
        }
    };
    from.handle_answer(now(), sent.sequence, &Answer::Accepted(Some(ack))).unwrap();
    write("record", &format!("{name}-taken"), &to.to_record(now()));
    to
}

fn write_negotiations() {
    let (consumer, provider) = (Role::Consumer, Role::Provider);
    let parties =
        Parties::new(consumer, pid(consumer), "depot-7", "https://example.org/c").unwrap();
    let mut ours = Negotiation::open(now(), parties, terms("Offer"), Limits::default()).unwrap();
    let mut theirs = pass(&mut ours, None, "1-request");
    theirs.offer(now(), terms("Offer")).unwrap();
    ours = pass(&mut theirs, Some(ours), "2-offer");
    ours.accept(now()).unwrap();
    theirs = pass(&mut ours, Some(theirs), "3-accepted");
    let entry = json!({"party": "depot-7", "key_id": "0123abcd", "algorithm": "Ed25519", "signature": "AA=="});
    let file = json!({"signatures": [entry]}).to_string();
    let signatures = || Signatures::of_file(file.as_bytes()).unwrap();
    theirs.agree(now(), terms("Agreement"), signatures()).unwrap();
    ours = pass(&mut theirs, Some(ours), "4-agreement");
    let mut given_up = ours.clone();
    given_up.terminate(now(), Some("1".to_owned()), vec!["too dear".to_owned()]).unwrap();
    pass(&mut given_up, Some(theirs.clone()), "5-termination");
    ours.verify(now(), signatures()).unwrap();
    theirs = pass(&mut ours, Some(theirs), "6-verification");
    theirs.finalize(now()).unwrap();
    pass(&mut theirs, Some(ours), "7-finalized");
    let state = guan_policy::negotiation::State::Agreed;
    let ack = Ack { consumer_pid: pid(consumer), provider_pid: pid(provider), state };
    write("message", "ack.json", &ack.to_json());
    let rejection = Rejection::from(&Refusal::TooManyProposals { limit: 16 });
    write("message", "rejection.json", &rejection.to_json(&pid(consumer), &pid(provider)));
}

fn main() {
    write_chain();
    write_carried();
    write_mux();
    write_terms_and_usage();
    write_rosters_and_mandates();
    write_negotiations();
}
