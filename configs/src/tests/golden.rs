//! Files of format 1 as they were written when it was made. They are never edited: a box in the field
//! keeps its file, and a later release must read the same out of it. Also the samples of contracts.

use super::{DEMO, edge};
use crate::{Effective, SpaceConfig, Value};
use std::path::Path;

/// Each line of `expect` must still be in force; keys may have been added since.
fn check(effective: &[Effective], expect: &str) {
    let lines: Vec<String> = effective
        .iter()
        .map(|one| match &one.value {
            Value::Absent => format!("{}.{} is not set", one.table, one.key),
            value => format!("{}.{} = {}", one.table, one.key, value.to_toml()),
        })
        .collect();
    for line in expect.lines() {
        assert!(lines.iter().any(|known| known == line), "{line}\nis not in\n{}", lines.join("\n"));
    }
    assert!(expect.lines().count() > 10);
}

#[test]
fn a_box_of_format_1_is_read_as_ever() {
    let config = edge(include_str!("../../tests/golden/edge-v1.toml")).unwrap();
    check(config.effective(), include_str!("../../tests/golden/edge-v1.values"));
    let digest = include_str!("../../tests/golden/edge-v1.points").trim();
    assert_eq!(config.descriptors.digest().to_string(), digest);
}

#[test]
fn a_space_of_format_1_is_read_as_ever() {
    let text = include_str!("../../tests/golden/space-v1.toml");
    let config = SpaceConfig::parse(text, "space.toml", Path::new("/srv")).unwrap();
    check(config.effective(), include_str!("../../tests/golden/space-v1.values"));
    assert_eq!(config.ca_key_file, Path::new("/srv/ca.key.pem"));
}

#[test]
fn contracts_of_the_demo_speak_of_its_datasets() {
    let config = edge(DEMO).unwrap();
    let mut granted = Vec::new();
    for text in [
        include_str!("../../contracts/machine.json"),
        include_str!("../../contracts/gnss.json"),
        include_str!("../../contracts/vessel.json"),
    ] {
        let contract: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(contract["provider"], config.box_id.as_str());
        assert_eq!(contract["consumer"], config.contracts.trusted_keys[0].party.as_str());
        let datasets = contract["datasets"].as_array().unwrap().iter();
        granted.extend(datasets.map(|id| id.as_str().unwrap().to_owned()));
    }
    granted.sort();
    assert_eq!(granted, ["gnss-nmea", "machine-temperature", "vessel-bus"]);
    let denied: Vec<&str> = config.datasets.iter().map(|dataset| dataset.id.as_str()).collect();
    assert!(denied.contains(&"office-climate") && denied.len() == granted.len() + 1);
}

#[test]
fn box_and_space_of_the_demo_meet() {
    let config = edge(DEMO).unwrap();
    let space =
        SpaceConfig::parse(include_str!("../../demo/space.toml"), "s", Path::new("")).unwrap();
    assert_eq!(space.listen.port(), config.link.port);
    assert_eq!(space.id.as_str(), config.contracts.trusted_keys[0].party);
}
