use super::*;
use crate::catalogue::Offer;
use crate::dcat::tests::{catalogue, offer};
use crate::identifier::Namer;
use guan_model::{BoxId, DatasetId};

fn space() -> Vec<Catalogue> {
    let general = Class::General;
    let mut first = catalogue(&[
        (1, "press", "Press.Temperature", "Cel", general),
        (2, "hall-climate", "Hall.Temperature", "Cel", general),
        (3, "hall-climate", "Hall.Humidity", "%", general),
    ]);
    let namer = Namer::new(first.provider.clone(), BoxId::parse("box-1").unwrap(), None);
    let datasets = first.datasets.iter().map(|one| one.name.clone()).collect();
    let json = offer("O-1", "Temperature of a forge", &["press"]).to_string();
    let offer = Offer::draft(json.as_bytes(), &namer, &datasets).unwrap();
    first = first.with_offers(vec![offer]);
    let mut second = catalogue(&[
        (1, "temperature", "T", "Cel", Class::Core),
        (2, "pressure", "P", "Pa", Class::Important),
    ]);
    second.provider = DatasetId::parse("plant-2").unwrap();
    for dataset in &mut second.datasets {
        for figures in dataset.quality.values_mut() {
            figures.completeness = Share::parse("0.5").ok();
        }
    }
    vec![first, second]
}

fn check(words: &str, change: impl Fn(&mut Query), expect: &[&str]) {
    let mut query = Query::new(words).unwrap();
    change(&mut query);
    let space = space();
    let names = |catalogues: Vec<&Catalogue>| {
        let hits = search(catalogues, &query);
        hits.iter().map(|hit| hit.dataset.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(space.iter().collect()), expect, "{words:?}");
    assert_eq!(names(space.iter().rev().collect()), expect, "{words:?} in another order");
}

#[test]
fn words_rank() {
    check("", |_| {}, &["hall-climate", "press", "pressure", "temperature"]);
    // The exact name, then points; the more complete one before the others.
    check("Temperature", |_| {}, &["temperature", "hall-climate", "press"]);
    check("press", |_| {}, &["press", "pressure"]);
    check("climate", |_| {}, &["hall-climate"]);
    check("forge", |_| {}, &["press"]);
    check("cel hall", |_| {}, &["hall-climate"]);
    check("plant-2 core", |_| {}, &["temperature"]);
    check("temperature nowhere", |_| {}, &[]);
}

#[test]
fn filters() {
    let cel = |query: &mut Query| query.unit = Unit::parse("Cel");
    check("", cel, &["hall-climate", "press", "temperature"]);
    check("", |q| q.class_max = Some(Class::General), &["hall-climate", "press"]);
    check("", |q| q.class_max = Some(Class::Important), &["hall-climate", "press", "pressure"]);
    check("", |q| q.provider = Some("plant-2".to_owned()), &["pressure", "temperature"]);
    let complete = |text: &str| Share::parse(text).ok();
    check("", |q| q.completeness_min = complete("0.999305"), &["hall-climate", "press"]);
    check("", |q| q.completeness_min = complete("0.999306"), &[]);
}

#[test]
fn a_dataset_without_figures_reaches_no_minimum() {
    let mut space = space();
    space[0].datasets.iter_mut().for_each(|one| one.quality.clear());
    let mut query = Query::new("").unwrap();
    query.completeness_min = Share::parse("0").ok();
    assert_eq!(search(&space, &query).len(), 2);
}

#[test]
fn the_limits_are_exact() {
    assert!(Query::new(&"a ".repeat(WORDS_MAX)).is_ok());
    let fault = Query::new(&"a ".repeat(WORDS_MAX + 1)).unwrap_err();
    assert_eq!(fault, QueryFault::TooMany { count: 17 });
    assert!(Query::new(&"a".repeat(WORD_BYTES_MAX)).is_ok());
    let fault = Query::new(&"a".repeat(WORD_BYTES_MAX + 1)).unwrap_err();
    assert_eq!(fault, QueryFault::TooLong { length: 129 });
}
