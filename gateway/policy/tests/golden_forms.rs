//! Documents of TC609-6-2025-14 and what they are in our profile of ODRL, both ways.
//!
//! `*.json` and the digests are made by a Python program with its own JSON writer and check character;
//! `*.odrl.json` and `*.written.json` are what this crate writes, read by a person once.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use guan_policy::Contract;
use guan_policy::contract::WireForm;
use serde_json::Value;

fn check(document: &str, digest: &str, odrl: &str, written: &str) {
    let contract = Contract::draft(document.as_bytes()).unwrap();
    assert_eq!(contract.form(), WireForm::Tds);
    assert_eq!(contract.digest().to_string(), digest.trim_end());
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert_eq!(contract.to_odrl().unwrap(), json(odrl));
    assert_eq!(contract.to_tds().unwrap(), json(written));
    for other in [odrl, written] {
        let other = Contract::draft(other.as_bytes()).unwrap();
        assert!(other.means_same(&contract));
        assert_eq!(other.to_odrl().unwrap(), json(odrl));
        assert_eq!(other.to_tds().unwrap(), json(written));
    }
}

/// Nothing but what the document demands. It comes back as it was, byte for byte in canonical form.
#[test]
fn minimal() {
    let document = include_str!("golden/tds-minimal.json");
    let digest = include_str!("golden/tds-minimal.digest");
    check(document, digest, include_str!("golden/tds-minimal.odrl.json"), document);
}

/// All words of the dictionary but `region`, spelled as its tables disagree, and terms of ours.
#[test]
fn maximal() {
    check(
        include_str!("golden/tds-maximal.json"),
        include_str!("golden/tds-maximal.digest"),
        include_str!("golden/tds-maximal.odrl.json"),
        include_str!("golden/tds-maximal.written.json"),
    );
}
