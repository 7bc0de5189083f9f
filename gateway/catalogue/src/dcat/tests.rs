use super::*;
use crate::catalogue::{Catalogue, DATASETS_MAX, Named, Offer, OfferFault, Service};
use crate::identifier::Namer;
use crate::quality::{Day, Figures, Share};
use ed25519_dalek::{Signer as _, SigningKey};
use guan_model::descriptor::Tag;
use guan_model::{
    BoxId, Class, DatasetId, DescriptorTable, PointDescriptor, PointId, PointName, PublicKey,
    SignFault, Signer, Unit, ValueType, WallTime,
};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) struct TestSigner(SigningKey);

impl TestSigner {
    pub(crate) fn new(seed: u8) -> Self {
        Self(SigningKey::from_bytes(&[seed; 32]))
    }
}

impl Signer for TestSigner {
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

fn name(text: &str) -> DatasetId {
    DatasetId::parse(text).unwrap()
}

pub(crate) fn offer(id: &str, title: &str, targets: &[&str]) -> Value {
    json!({
        "@type": "Offer", "@id": format!("urn:contract:{id}"), "profile": "urn:guankou:odrl:1",
        "version": 1, "title": title, "assigner": "plant-1", "assignee": "anybody",
        "target": targets,
        "validity": {"notBefore": "2026-01-01T00:00:00Z", "notAfter": "2027-01-01T00:00:00Z"},
        "permission": [{"action": "deliver"}],
    })
}

fn namer() -> Namer {
    Namer::new(name("plant-1"), BoxId::parse("box-1").unwrap(), None)
}

/// Points are (id, dataset, name, unit, class).
pub(crate) fn catalogue(points: &[(u32, &str, &str, &str, Class)]) -> Catalogue {
    let described = points.iter().map(|(id, dataset, point, unit, class)| PointDescriptor {
        id: PointId(*id),
        name: PointName::parse(point).unwrap(),
        value_type: ValueType::F64,
        unit: Unit::parse(unit).unwrap(),
        dataset: name(dataset),
        class: *class,
        tags: BTreeSet::from([Tag::TradeSecret]),
    });
    let table = DescriptorTable::new(described.collect()).unwrap();
    let figures = Figures {
        readings: 1440,
        refused: 1,
        completeness: Share::parse("0.999305").ok(),
        accuracy: Share::parse("1").ok(),
        timeliness: None,
        consistency: Share::parse("0.5").ok(),
        delay_p50_ms: Some(5),
        delay_p99_ms: None,
        timely_within_ms: 60_000,
    };
    let days = BTreeMap::from([(Day::parse("2026-11-23").unwrap(), figures)]);
    let who = (BoxId::parse("box-1").unwrap(), name("plant-1"));
    let key = TestSigner::new(1).public_key();
    let now = WallTime::from_millis(1_795_478_400_123);
    Catalogue::of_box(now, &namer(), who, &table, key, |_| days.clone())
}

fn sample() -> Catalogue {
    let points = [
        (1, "press", "Press.Temperature", "Cel", Class::General),
        (2, "press", "Press.Force", "N", Class::Important),
        (3, "hall", "Hall.Humidity", "%", Class::General),
    ];
    let catalogue = catalogue(&points);
    let datasets = catalogue.datasets.iter().map(|one| one.name.clone()).collect();
    let made =
        |value: Value| Offer::draft(value.to_string().as_bytes(), &namer(), &datasets).unwrap();
    let offers =
        vec![made(offer("O-2", "both", &["press", "hall"])), made(offer("O-1", "air", &["hall"]))];
    let service = Some(Service { endpoint: "quic://space.example.org:4433".to_owned() });
    Catalogue { service, ..catalogue.with_offers(offers) }
}

#[test]
fn a_catalogue_is_read_as_it_was_written() {
    let written = write(&sample(), &TestSigner::new(1)).unwrap();
    assert_eq!(read(&written).unwrap(), sample());
    let bare = Catalogue { service: None, offers: vec![], datasets: vec![], ..sample() };
    assert_eq!(read(&write(&bare, &TestSigner::new(1)).unwrap()).unwrap(), bare);
    // Somebody else's signature under the key of the box.
    assert!(write(&sample(), &TestSigner::new(2)).is_err());
}

/// What is out in the world; never edited, only added to.
#[test]
fn the_document_is_the_golden_one() {
    let written = write(&sample(), &TestSigner::new(1)).unwrap();
    let golden = include_str!("../../tests/golden/catalogue-v1.json");
    assert_eq!(String::from_utf8(written).unwrap(), golden);
}

/// Every term of a document is mapped, so that any JSON-LD reader understands it.
#[test]
fn the_context_maps_every_term() {
    let context: Value = serde_json::from_str(CONTEXT_FILE).unwrap();
    let terms = context["@context"].as_object().unwrap();
    fn check(value: &Value, terms: &serde_json::Map<String, Value>) {
        match value {
            Value::Array(values) => values.iter().for_each(|value| check(value, terms)),
            Value::Object(members) => {
                for (key, value) in members.iter().filter(|(key, _)| *key != "@included") {
                    assert!(key.starts_with('@') || terms.contains_key(key), "{key}");
                    if ["@type", "isMeasurementOf", "class", "datatype"].contains(&key.as_str()) {
                        assert!(terms.contains_key(value.as_str().unwrap()), "{key}: {value}");
                    }
                    check(value, terms);
                }
            }
            _ => {}
        }
    }
    check(&body(&sample()), terms);
}

/// The sample with one place changed, signed again.
fn refused(at: &str, with: Value) -> String {
    let mut changed = body(&sample());
    let (parent, key) = at.rsplit_once('/').unwrap();
    match changed.pointer_mut(parent).unwrap() {
        Value::Object(members) => drop(members.insert(key.to_owned(), with)),
        Value::Array(values) => values[key.parse::<usize>().unwrap()] = with,
        _ => panic!("{at} leads nowhere"),
    }
    let sealed = ENVELOPE.seal(&changed, "box-1", &TestSigner::new(1)).unwrap();
    read(&sealed).unwrap_err().to_string()
}

#[test]
fn faults_have_their_place() {
    let check = |at: &str, with: Value, expect: &str| {
        let found = refused(at, with);
        assert!(found.contains("/catalogue") && found.contains(expect), "{at}: {found}");
    };
    check("/@id", json!("urn:guankou:dataset:a:b:c"), "/catalogue/@id: ");
    check("/@context", json!("https://example.org/x"), "/catalogue/@context: not as");
    check("/@type", json!("Catalogue"), "/catalogue/@type: not as");
    check("/more", json!(1), "/catalogue/more: unknown key");
    check("/version", json!(7), "/catalogue/issued: not as");
    check("/issued", json!("yesterday"), "/catalogue/issued: ");
    check("/publisher", json!("plant-2"), "/catalogue/@included/0/assigner: is not the publisher");
    check("/key", json!({"algorithm": "Ed25519", "public": "00"}), "/catalogue/key/public: ");
    check("/service/0/endpointURL", json!("http://a"), "endpointURL: is no quic");
    check("/dataset/0", json!(3), "/catalogue/dataset/0: not an object");
    check("/dataset/0/class", json!("secret"), "/catalogue/dataset/0/class: ");
    check("/dataset/1/class", json!("general"), "/catalogue/dataset/1/class: not as");
    check("/dataset/0/tag", json!([]), "/catalogue/dataset/0/tag: not as");
    check("/dataset/0/identifier", json!("zoo"), "sorted by name");
    check("/dataset/0/@id", json!("urn:guankou:dataset:plant-1:box-1:press"), "stands twice");
    check("/dataset/1/variable/0/unit", json!("°C"), "variable/0/unit: ");
    check("/dataset/1/variable/0/datatype", json!("double"), "variable/0/datatype: ");
    check("/dataset/1/hasPolicy", json!([]), "/catalogue/dataset/1/hasPolicy: not as");
    check("/dataset/1/distribution", json!([]), "must have one distribution");
    let measured = "/dataset/1/hasQualityMeasurement/0";
    check(&format!("{measured}/value"), json!("1.5"), "0/value: ");
    check(&format!("{measured}/date"), json!("2026-02-30"), "0/date: ");
    check(&format!("{measured}/isMeasurementOf"), json!("beauty"), "beauty");
    check(&format!("{measured}/isMeasurementOf"), json!("accuracy"), "not as a catalogue");
    check("/product/0/hasPolicy", json!("urn:contract:O-2"), "no product has this offer");
    check("/@included/0/target", json!(["cellar"]), "cellar is no dataset");
    check(
        "/@included/0/permission",
        json!([{"action": "fly"}]),
        "/@included/0/permission/0/action",
    );
    check("/@included/0/@type", json!("Agreement"), "must be an Offer");
}

#[test]
fn all_faults_are_reported_and_no_signature_is_forged() {
    let found = refused("/dataset/0", json!({"class": "secret", "identifier": "a b"}));
    assert!(found.contains("class") && found.contains("identifier") && found.contains("missing"));
    let written = write(&sample(), &TestSigner::new(1)).unwrap();
    let text = String::from_utf8(written).unwrap();
    for (from, to) in [("0.999305", "1.000000"), ("\"box\":\"box-1\"", "\"box\":\"box-2\"")] {
        assert!(read(text.replace(from, to).as_bytes()).is_err(), "{from}");
    }
}

#[test]
fn offers_that_do_not_fit_the_box_are_refused() {
    let datasets = BTreeSet::from([name("press")]);
    let check = |value: Value, expect: &str| {
        let fault = Offer::draft(value.to_string().as_bytes(), &namer(), &datasets).unwrap_err();
        assert!(fault.to_string().contains(expect), "{fault}");
    };
    let good = offer("O", "t", &["press"]);
    assert!(Offer::draft(good.to_string().as_bytes(), &namer(), &datasets).is_ok());
    let with = |key: &str, value: Value| {
        let mut changed = good.clone();
        changed[key] = value;
        changed
    };
    check(with("target", json!(["hall"])), "/target: hall");
    check(with("assigner", json!("plant-2")), "/assigner: is \"plant-2\"");
    check(with("@type", json!("Agreement")), "@type Offer");
    check(with("permission", json!([{"action": "fly"}])), "/permission/0/action");
    let fault = Offer::draft(b"{", &namer(), &datasets).unwrap_err();
    assert!(matches!(fault, OfferFault::Draft(_)));
}

#[test]
fn identifiers_resolve() {
    let sample = sample();
    let namer = namer();
    assert_eq!(sample.resolve(&namer.connector()), Some(Named::Box));
    let press = sample.datasets.iter().find(|one| one.name.as_str() == "press").unwrap();
    assert_eq!(sample.resolve(&namer.dataset(&press.name)), Some(Named::Dataset(press)));
    let distribution = namer.distribution(&press.name);
    assert_eq!(sample.resolve(&distribution), Some(Named::Distribution(press)));
    let product = namer.product(sample.offers[0].id());
    assert_eq!(sample.resolve(&product), Some(Named::Product(&sample.offers[0])));
    assert_eq!(sample.resolve(&namer.dataset(&name("cellar"))), None);
}

#[test]
fn the_limits_are_exact() {
    let many = |count: usize| {
        let names: Vec<(String, String)> =
            (0..count).map(|n| (format!("d{n:04}"), format!("p{n:04}"))).collect();
        let points: Vec<_> = (0_u32..)
            .zip(&names)
            .map(|(id, (d, p))| (id, d.as_str(), p.as_str(), "1", Class::General))
            .collect();
        write(&catalogue(&points), &TestSigner::new(1))
    };
    assert!(many(DATASETS_MAX).is_ok());
    let fault = many(DATASETS_MAX + 1).unwrap_err().to_string();
    assert!(fault.contains("257 entries, the limit is 256"), "{fault}");
    let long = vec![b' '; crate::catalogue::CATALOGUE_BYTES_MAX + 1];
    assert!(read(&long).unwrap_err().to_string().contains("the limit is 8388608"));
}

#[test]
fn differences_are_found_where_they_are() {
    let check = |a: Value, b: Value, expect: Option<&str>| {
        assert_eq!(first_difference(&a, &b).as_deref(), expect, "{a} {b}");
    };
    check(json!({"a": [1, {"b": 2}]}), json!({"a": [1, {"b": 2}]}), None);
    check(json!({"a": [1, {"b": 2}]}), json!({"a": [1, {"b": 3}]}), Some("/a/1/b"));
    check(json!({"a": [1]}), json!({"a": [1, 2]}), Some("/a"));
    check(json!({"a": 1}), json!({}), Some("/a"));
    check(json!({}), json!({"b": 1}), Some("/b"));
}
