//! Catalogue to document.

use super::{
    CONTEXT, DELAY_P50, DELAY_P99, ENVELOPE, MEDIA_TYPE, PROFILE, READINGS, REFUSED, SERVICE_ID,
    TIMELY_WITHIN,
};
use crate::catalogue::{Catalogue, CatalogueError, Dataset, Offer, Point};
use crate::quality::{Day, Figures, Metric};
use guan_model::descriptor::Tag;
use guan_model::{PublicKey, Signer};
use guan_policy::object::moment_text;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The signed document. What nobody could read back is not handed out.
pub fn write(catalogue: &Catalogue, signer: &dyn Signer) -> Result<Vec<u8>, CatalogueError> {
    let sealed = ENVELOPE.seal(&body(catalogue), catalogue.box_id.as_str(), signer);
    let bytes = sealed.map_err(CatalogueError)?;
    super::read(&bytes).map(|_| bytes)
}

/// The document without its signature.
pub fn body(catalogue: &Catalogue) -> Value {
    let datasets: Vec<Value> =
        catalogue.datasets.iter().map(|one| dataset(one, catalogue)).collect();
    let products: Vec<Value> = catalogue.offers.iter().map(|one| product(one, catalogue)).collect();
    let offers: Vec<&Value> = catalogue.offers.iter().map(|offer| &offer.json).collect();
    let services: Vec<Value> = catalogue
        .service
        .iter()
        .map(|service| {
            json!({"@id": SERVICE_ID, "@type": "DataService", "endpointURL": service.endpoint})
        })
        .collect();
    json!({
        "@context": CONTEXT,
        "@id": catalogue.id.as_str(),
        "@type": "Catalog",
        "profile": PROFILE,
        "box": catalogue.box_id.as_str(),
        "publisher": catalogue.provider.as_str(),
        "version": catalogue.version,
        "issued": moment_text(catalogue.issued()),
        "key": key(&catalogue.key),
        "service": services,
        "dataset": datasets,
        "product": products,
        "@included": offers,
    })
}

fn key(key: &PublicKey) -> Value {
    let (algorithm, bytes): (_, &[u8]) = match key {
        PublicKey::Ed25519(bytes) => ("Ed25519", bytes),
        PublicKey::EcdsaP256(point) => ("ECDSA-P256-SHA256", point),
    };
    let public: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({"algorithm": algorithm, "public": public})
}

fn tags(tags: &BTreeSet<Tag>) -> Vec<&'static str> {
    tags.iter().map(|tag| tag.name()).collect()
}

/// How an offer calls itself, which is how others refer to it.
pub(super) fn offer_id(offer: &Value) -> &str {
    offer.get("@id").and_then(Value::as_str).unwrap_or_default()
}

fn dataset(dataset: &Dataset, catalogue: &Catalogue) -> Value {
    let mut distribution = json!({
        "@id": dataset.distribution.as_str(),
        "@type": "Distribution",
        "mediaType": MEDIA_TYPE,
    });
    if catalogue.service.is_some() {
        distribution["accessService"] = Value::from(SERVICE_ID);
    }
    let policies = catalogue.offers_of(&dataset.name).map(|offer| offer_id(&offer.json));
    let measured = dataset.quality.iter().flat_map(|(day, figures)| measurements(*day, figures));
    json!({
        "@id": dataset.id.as_str(),
        "@type": "Dataset",
        "identifier": dataset.name.as_str(),
        "class": dataset.class.name(),
        "tag": tags(&dataset.tags),
        "variable": dataset.points.iter().map(variable).collect::<Vec<_>>(),
        "distribution": [distribution],
        "hasPolicy": policies.collect::<Vec<_>>(),
        "hasQualityMeasurement": measured.collect::<Vec<_>>(),
    })
}

fn variable(point: &Point) -> Value {
    json!({
        "name": point.name.as_str(),
        "unit": point.unit.as_str(),
        "datatype": point.value_type.name(),
        "class": point.class.name(),
        "tag": tags(&point.tags),
    })
}

fn product(offer: &Offer, catalogue: &Catalogue) -> Value {
    let targets = offer.contract.datasets();
    let parts = catalogue.datasets.iter().filter(|one| targets.contains(&one.name));
    json!({
        "@id": offer.product.as_str(),
        "@type": "DataProduct",
        "hasPart": parts.map(|one| one.id.as_str()).collect::<Vec<_>>(),
        "hasPolicy": offer_id(&offer.json),
    })
}

fn measurements(day: Day, figures: &Figures) -> Vec<Value> {
    let counts = [
        (READINGS, Some(figures.readings)),
        (REFUSED, Some(figures.refused)),
        (DELAY_P50, figures.delay_p50_ms),
        (DELAY_P99, figures.delay_p99_ms),
        (TIMELY_WITHIN, Some(figures.timely_within_ms)),
    ];
    let counts = counts.into_iter().map(|(name, count)| (name, count.map(|one| one.to_string())));
    let shares = Metric::ALL.into_iter().map(|(name, metric)| {
        let share = figures.share(metric);
        (name, share.map(|share| share.to_string()))
    });
    let known = shares.chain(counts).filter_map(|(name, value)| Some((name, value?)));
    known
        .map(|(name, value)| {
            json!({
                "@type": "QualityMeasurement",
                "isMeasurementOf": name,
                "value": value,
                "date": day.to_string(),
            })
        })
        .collect()
}
