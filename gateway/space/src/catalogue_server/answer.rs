//! What is said of catalogues, as JSON: the same over HTTP and on the command line.

use guan_catalogue::catalogue::{Catalogue, Dataset, Named};
use guan_catalogue::search::Hit;
use guan_catalogue::{Identifier, dcat};
use serde_json::{Value, json};

/// All catalogues, a line each.
pub fn index(catalogues: &[Catalogue]) -> Value {
    let rows = catalogues.iter().map(|one| {
        json!({
            "box": one.box_id.as_str(), "id": one.id.as_str(), "version": one.version,
            "provider": one.provider.as_str(), "datasets": one.datasets.len(),
            "offers": one.offers.len(),
        })
    });
    json!({"catalogues": rows.collect::<Vec<_>>()})
}

/// What a search found, in its order.
pub fn hits(hits: &[Hit<'_>]) -> Value {
    let rows = hits.iter().map(|hit| {
        json!({
            "id": hit.dataset.id.as_str(), "dataset": hit.dataset.name.as_str(),
            "box": hit.catalogue.box_id.as_str(), "provider": hit.catalogue.provider.as_str(),
            "class": hit.dataset.class.name(), "score": hit.score,
        })
    });
    json!({"hits": rows.collect::<Vec<_>>()})
}

/// The catalogue and the thing in it that an identifier names.
pub fn named<'c>(
    catalogues: &'c [Catalogue],
    identifier: &Identifier,
) -> Option<(&'c Catalogue, Named<'c>)> {
    catalogues.iter().find_map(|one| Some((one, one.resolve(identifier)?)))
}

pub fn kind(named: &Named<'_>) -> &'static str {
    match named {
        Named::Box => "box",
        Named::Dataset(_) => "dataset",
        Named::Distribution(_) => "distribution",
        Named::Product(_) => "product",
    }
}

/// What an identifier names, with everything that is known of it.
pub fn resolved(catalogue: &Catalogue, named: &Named<'_>) -> Value {
    let what = match named {
        Named::Box => dcat::body(catalogue),
        Named::Dataset(one) | Named::Distribution(one) => dataset(catalogue, one),
        Named::Product(offer) => offer.json.clone(),
    };
    json!({"kind": kind(named), "box": catalogue.box_id.as_str(), "what": what})
}

fn dataset(catalogue: &Catalogue, dataset: &Dataset) -> Value {
    let at = catalogue.datasets.iter().position(|one| one.id == dataset.id);
    let at = at.expect("the dataset is of this catalogue");
    dcat::body(catalogue)["dataset"][at].clone()
}
