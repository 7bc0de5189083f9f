//! Document to catalogue: all faults at once, each with its pointer.

use super::write::{body, offer_id};
use super::{DELAY_P50, DELAY_P99, ENVELOPE, READINGS, REFUSED, TIMELY_WITHIN, first_difference};
use crate::catalogue::{
    Catalogue, CatalogueError, DATASETS_MAX, DAYS_MAX, Dataset, ENDPOINT_BYTES_MAX, OFFERS_MAX,
    Offer, Point, Service, is_offer,
};
use crate::identifier::{Identifier, Kind};
use crate::quality::{Day, Figures, Metric, Share};
use guan_model::descriptor::{POINTS_MAX, Tag};
use guan_model::{BoxId, Class, DatasetId, PointName, PublicKey, Unit, ValueType};
use guan_policy::fault::{Faults, Problem, child, shown};
use guan_policy::object::{Member, Object, entries};
use guan_policy::{Contract, TrustedKeys, canonical_json};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const KEYS: [&str; 13] = [
    "@context",
    "@id",
    "@type",
    "profile",
    "box",
    "publisher",
    "version",
    "issued",
    "key",
    "service",
    "dataset",
    "product",
    "@included",
];
const DATASET_KEYS: [&str; 9] = [
    "@id",
    "@type",
    "identifier",
    "class",
    "tag",
    "variable",
    "distribution",
    "hasPolicy",
    "hasQualityMeasurement",
];
/// Measurements of one day.
const MEASURES: usize = Metric::ALL.len() + 5;

/// Reads a document and checks that the key that it names has signed it. Whose key that is, and whether
/// the document is newer than another, is the caller's to know.
pub fn read(bytes: &[u8]) -> Result<Catalogue, CatalogueError> {
    let mut faults = Faults::default();
    let opened = ENVELOPE.open(bytes, &mut faults);
    let catalogue = opened.and_then(|opened| {
        let catalogue = catalogue(&opened.body, "/catalogue", &mut faults)?;
        let party = catalogue.box_id.to_string();
        match TrustedKeys::new(vec![(party.clone(), catalogue.key.clone())]) {
            Ok(keys) => opened.check(&party, &keys, &mut faults),
            Err(wrong) => wrong.iter().for_each(|fault| name(&mut faults, "/catalogue/key", fault)),
        }
        // What is written differently could be understood differently.
        if faults.is_empty()
            && let Some(at) = first_difference(&opened.body, &body(&catalogue))
        {
            let detail = "not as a catalogue with this content is written; make it anew";
            name(&mut faults, &format!("/catalogue{at}"), detail);
        }
        Some(catalogue)
    });
    faults.finish(catalogue).map_err(CatalogueError)
}

fn name(faults: &mut Faults, at: &str, detail: impl ToString) {
    faults.add(at, Problem::Name { detail: detail.to_string() });
}

fn catalogue(value: &Value, at: &str, faults: &mut Faults) -> Option<Catalogue> {
    let object = Object::open(value, at, &KEYS, faults)?;
    let id = identifier(&object, "@id", Kind::Box, faults);
    let box_id = object.name("box", BoxId::parse, faults);
    let provider = object.name("publisher", DatasetId::parse, faults);
    let version = object.member("version").and_then(|member| member.whole(faults));
    // Compared with what the version says when all is read.
    object.time("issued", faults);
    let key = object.member("key").and_then(|member| public_key(&member, faults));
    let service = service(&object, faults);
    let mut datasets: Vec<Dataset> = Vec::new();
    let mut points = 0;
    for member in list(&object, "dataset", DATASETS_MAX, faults) {
        let Some(read) = dataset(&member, faults) else { continue };
        points += read.points.len();
        if datasets.last().is_some_and(|last| last.name >= read.name) {
            name(faults, &member.pointer, "datasets must be sorted by name, each once");
        }
        datasets.push(read);
    }
    if points > POINTS_MAX {
        let problem = Problem::TooMany { count: points, limit: POINTS_MAX };
        faults.add(&object.at("dataset"), problem);
    }
    let offers = offers(&object, faults);
    let (id, box_id, provider) = (id?, box_id?, provider?);
    let (version, key, service) = (version?, key?, service?);
    let catalogue = Catalogue { id, box_id, provider, version, key, service, datasets, offers };
    check_offers(&catalogue, &object, faults);
    check_identifiers(&catalogue, &object, faults);
    Some(catalogue)
}

fn list<'v>(object: &Object<'v>, key: &str, limit: usize, faults: &mut Faults) -> Vec<Member<'v>> {
    let Some(member) = object.member(key) else { return Vec::new() };
    let entries = entries(member.value, &member.pointer, limit, faults);
    entries.into_iter().map(|(pointer, value)| Member { pointer, value }).collect()
}

fn identifier(
    object: &Object<'_>,
    key: &str,
    kind: Kind,
    faults: &mut Faults,
) -> Option<Identifier> {
    let text = object.text(key, faults)?;
    match Identifier::parse(text) {
        Ok(found) if found.kind() == kind => Some(found),
        Ok(found) => {
            let detail = format!("{found} names a {:?}, not a {kind:?}", found.kind());
            name(faults, &object.at(key), detail);
            None
        }
        Err(fault) => {
            name(faults, &object.at(key), fault);
            None
        }
    }
}

fn public_key(member: &Member<'_>, faults: &mut Faults) -> Option<PublicKey> {
    let object = Object::open(member.value, &member.pointer, &["algorithm", "public"], faults)?;
    const KINDS: [(&str, bool); 2] = [("Ed25519", true), ("ECDSA-P256-SHA256", false)];
    let known = "Ed25519 or ECDSA-P256-SHA256";
    let is_ed25519 = object.member("algorithm").and_then(|one| one.word(&KINDS, known, faults));
    let bytes = object.text("public", faults).and_then(from_hex);
    let key = match (is_ed25519, bytes) {
        (Some(true), Some(bytes)) => <[u8; 32]>::try_from(bytes).ok().map(PublicKey::Ed25519),
        (Some(false), Some(bytes)) => (bytes.len() == 65).then_some(PublicKey::EcdsaP256(bytes)),
        _ => None,
    };
    if key.is_none() && is_ed25519.is_some() {
        name(faults, &object.at("public"), "is no public key of this algorithm in hex");
    }
    key
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if !text.len().is_multiple_of(2) || text.len() > 130 || !text.bytes().all(is_hex) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

/// The outer `None` is a fault that was noted.
#[expect(clippy::option_option, reason = "a fault, and a service that is not there")]
fn service(object: &Object<'_>, faults: &mut Faults) -> Option<Option<Service>> {
    let members = list(object, "service", 1, faults);
    let Some(member) = members.first() else { return Some(None) };
    let keys = ["@id", "@type", "endpointURL"];
    let service = Object::open(member.value, &member.pointer, &keys, faults)?;
    let endpoint = service.text("endpointURL", faults)?;
    let fits = endpoint.len() <= ENDPOINT_BYTES_MAX
        && endpoint.starts_with("quic://")
        && endpoint.bytes().all(|byte| byte.is_ascii_graphic());
    if !fits {
        name(faults, &service.at("endpointURL"), "is no quic://host:port of at most 300 bytes");
    }
    Some(Some(Service { endpoint: endpoint.to_owned() }))
}

fn dataset(member: &Member<'_>, faults: &mut Faults) -> Option<Dataset> {
    let object = Object::open(member.value, &member.pointer, &DATASET_KEYS, faults)?;
    let id = identifier(&object, "@id", Kind::Dataset, faults);
    let name_of = object.name("identifier", DatasetId::parse, faults);
    class(&object, faults);
    tags(&object, faults);
    let mut points: Vec<Point> = Vec::new();
    for member in list(&object, "variable", POINTS_MAX, faults) {
        let Some(read) = point(&member, faults) else { continue };
        if points.last().is_some_and(|last| last.name >= read.name) {
            name(faults, &member.pointer, "points must be sorted by name, each once");
        }
        points.push(read);
    }
    let distribution = list(&object, "distribution", 1, faults);
    let distribution = distribution.first().and_then(|member| {
        let (keys, optional) = (["@id", "@type", "mediaType"], ["accessService"]);
        let one = Object::open_with(member.value, &member.pointer, &keys, &optional, faults)?;
        identifier(&one, "@id", Kind::Distribution, faults)
    });
    if distribution.is_none() {
        name(faults, &object.at("distribution"), "must have one distribution with its identifier");
    }
    let quality = quality(&object, faults);
    // Of its points, whatever it says: nothing is found below its class.
    let class = points.iter().map(|point| point.class).max().unwrap_or(Class::General);
    let tags = points.iter().flat_map(|point| &point.tags).copied().collect();
    Some(Dataset {
        id: id?,
        distribution: distribution?,
        name: name_of?,
        class,
        tags,
        points,
        quality,
    })
}

fn class(object: &Object<'_>, faults: &mut Faults) -> Option<Class> {
    let classes = Class::ALL.map(|class| (class.name(), class));
    object.member("class")?.word(&classes, "general, important or core", faults)
}

fn tags(object: &Object<'_>, faults: &mut Faults) -> Option<BTreeSet<Tag>> {
    let known = Tag::ALL.map(|tag| (tag.name(), tag));
    let words = list(object, "tag", Tag::ALL.len(), faults);
    words.iter().map(|word| word.word(&known, "a tag of the descriptor", faults)).collect()
}

fn point(member: &Member<'_>, faults: &mut Faults) -> Option<Point> {
    let keys = ["name", "unit", "datatype", "class", "tag"];
    let object = Object::open(member.value, &member.pointer, &keys, faults)?;
    let name_of = object.name("name", PointName::parse, faults);
    let unit = object.text("unit", faults).and_then(|text| {
        let unit = Unit::parse(text);
        if unit.is_none() {
            name(faults, &object.at("unit"), format!("{:?} is no UCUM code", shown(text)));
        }
        unit
    });
    let types = ValueType::ALL.map(|kind| (kind.name(), kind));
    let known = "a type of values";
    let value_type = object.member("datatype").and_then(|one| one.word(&types, known, faults));
    let (class, tags) = (class(&object, faults), tags(&object, faults));
    Some(Point { name: name_of?, unit: unit?, value_type: value_type?, class: class?, tags: tags? })
}

fn quality(object: &Object<'_>, faults: &mut Faults) -> BTreeMap<Day, Figures> {
    let mut days: BTreeMap<Day, Figures> = BTreeMap::new();
    for member in list(object, "hasQualityMeasurement", DAYS_MAX * MEASURES, faults) {
        let keys = ["@type", "isMeasurementOf", "value", "date"];
        let Some(one) = Object::open(member.value, &member.pointer, &keys, faults) else {
            continue;
        };
        let day = one.text("date", faults).and_then(|text| {
            let day = Day::parse(text);
            if day.is_none() {
                name(faults, &one.at("date"), "is no day such as 2026-11-24");
            }
            day
        });
        let (metric, value) = (one.text("isMeasurementOf", faults), one.text("value", faults));
        let (Some(day), Some(metric), Some(value)) = (day, metric, value) else { continue };
        if let Err((key, detail)) = set(days.entry(day).or_default(), metric, value) {
            name(faults, &one.at(key), detail);
        }
    }
    if days.len() > DAYS_MAX {
        let problem = Problem::TooMany { count: days.len(), limit: DAYS_MAX };
        faults.add(&object.at("hasQualityMeasurement"), problem);
    }
    days
}

/// What stands twice differs from how it is written, which is found later.
fn set(figures: &mut Figures, metric: &str, value: &str) -> Result<(), (&'static str, String)> {
    let count = || {
        let number = value.parse::<u64>().map_err(|_| format!("{:?} is no count", shown(value)));
        number.map_err(|detail| ("value", detail))
    };
    if let Some((_, metric)) = Metric::ALL.iter().find(|(word, _)| *word == metric) {
        let share = Share::parse(value).map_err(|fault| ("value", fault.to_string()))?;
        *figures.share_mut(*metric) = Some(share);
        return Ok(());
    }
    match metric {
        READINGS => figures.readings = count()?,
        REFUSED => figures.refused = count()?,
        DELAY_P50 => figures.delay_p50_ms = Some(count()?),
        DELAY_P99 => figures.delay_p99_ms = Some(count()?),
        TIMELY_WITHIN => figures.timely_within_ms = count()?,
        _ => return Err(("isMeasurementOf", format!("{:?} is no metric here", shown(metric)))),
    }
    Ok(())
}

fn offers(object: &Object<'_>, faults: &mut Faults) -> Vec<Offer> {
    let mut offers: Vec<Offer> = Vec::new();
    let mut products: BTreeMap<&str, Identifier> = BTreeMap::new();
    for member in list(object, "product", OFFERS_MAX, faults) {
        let keys = ["@id", "@type", "hasPart", "hasPolicy"];
        let Some(one) = Object::open(member.value, &member.pointer, &keys, faults) else {
            continue;
        };
        let product = identifier(&one, "@id", Kind::Product, faults);
        if let (Some(product), Some(policy)) = (product, one.text("hasPolicy", faults)) {
            products.insert(policy, product);
        }
    }
    for member in list(object, "@included", OFFERS_MAX, faults) {
        let contract = match Contract::draft(&canonical_json(member.value)) {
            Ok(contract) if is_offer(member.value) => contract,
            Ok(_) => {
                name(faults, &child(&member.pointer, "@type"), "must be an Offer");
                continue;
            }
            Err(error) => {
                for fault in error.faults {
                    faults.add(&format!("{}{}", member.pointer, fault.pointer), fault.problem);
                }
                continue;
            }
        };
        if offers.last().is_some_and(|last| last.id() >= contract.id()) {
            name(faults, &member.pointer, "offers must be sorted by id, each once");
        }
        match products.get(offer_id(member.value)) {
            Some(product) => {
                let (product, json) = (product.clone(), member.value.clone());
                offers.push(Offer { product, contract, json });
            }
            None => name(faults, &member.pointer, "no product has this offer as its policy"),
        }
    }
    offers
}

fn check_offers(catalogue: &Catalogue, object: &Object<'_>, faults: &mut Faults) {
    let datasets: BTreeSet<&DatasetId> = catalogue.datasets.iter().map(|one| &one.name).collect();
    for (at, offer) in catalogue.offers.iter().enumerate() {
        let pointer = child(&object.at("@included"), &at.to_string());
        if offer.contract.provider() != catalogue.provider.as_str() {
            name(faults, &child(&pointer, "assigner"), "is not the publisher of the catalogue");
        }
        if let Some(found) = offer.contract.datasets().iter().find(|one| !datasets.contains(one)) {
            name(faults, &child(&pointer, "target"), format!("{found} is no dataset of it"));
        }
    }
}

/// One identifier names one thing.
fn check_identifiers(catalogue: &Catalogue, object: &Object<'_>, faults: &mut Faults) {
    let datasets = catalogue.datasets.iter().flat_map(|one| [&one.id, &one.distribution]);
    let products = catalogue.offers.iter().map(|offer| &offer.product);
    let mut seen = BTreeSet::from([&catalogue.id]);
    for identifier in datasets.chain(products) {
        if !seen.insert(identifier) {
            faults.add(&object.pointer, Problem::Duplicate { found: identifier.to_string() });
        }
    }
}
