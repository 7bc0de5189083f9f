//! The contract set (合约集) of a box: which contracts stand, and how, as the space says with its signature.
//!
//! A set is for one box and has an epoch that only grows: an old set, played again from a disk or by
//! somebody on the way, is refused by whoever remembers the epoch. It names contracts by digest, so a
//! contract that was exchanged for another is not the one that stands.
//!
//! Never here: what was the highest epoch; the caller keeps it where a disk cannot be set back.

use crate::contract::{SIGNATURES_MAX, SignatureEntry, plain_name, signature};
use crate::fault::{ContractError, Faults, Problem};
use crate::json;
use crate::object::{Object, entries};
use crate::plan::CONTRACTS_MAX;
use crate::signature::{TrustedKeys, signature_json};
use guan_model::{BoxId, ContractId, Digest, Signer, WallTime};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// First line of what is signed.
const DOMAIN: &[u8] = b"guan-contract-set/1\n";
/// Longest set: the limit of contracts with the longest ids.
pub const ROSTER_BYTES_MAX: usize = 512 << 10;
const SCHEMA: i64 = 1;

/// How a contract stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContractState {
    Active,
    /// Readings are kept, none leaves.
    Suspended,
    /// Ended early, as agreed: what was kept leaves or is shredded as the contract says.
    Ended,
    /// Nothing leaves any more; what was kept is shredded.
    Revoked,
}

impl ContractState {
    pub const WORDS: [(&'static str, Self); 4] = [
        ("active", Self::Active),
        ("suspended", Self::Suspended),
        ("ended", Self::Ended),
        ("revoked", Self::Revoked),
    ];

    pub fn name(self) -> &'static str {
        let row = Self::WORDS.iter().find(|(_, state)| *state == self);
        row.expect("every state is in the table").0
    }

    /// Whether nothing follows: a contract that has ended never stands again.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Ended | Self::Revoked)
    }
}

/// One contract of the set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub contract: ContractId,
    pub version: u64,
    pub digest: Digest,
    pub state: ContractState,
}

/// A set whose signature was checked, or that is about to be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    pub box_id: BoxId,
    /// Whose set it is, and who signs it.
    pub space: String,
    pub epoch: u64,
    pub issued: WallTime,
    /// Sorted by id, each once.
    pub entries: Vec<Entry>,
}

impl Roster {
    /// Reads a set that the space must have signed.
    pub fn parse(bytes: &[u8], keys: &TrustedKeys) -> Result<Self, ContractError> {
        let mut faults = Faults::default();
        let roster = read(bytes, keys, &mut faults);
        faults.finish(roster)
    }

    /// The set with the space's signature.
    pub fn sign(&self, signer: &dyn Signer) -> Result<Vec<u8>, ContractError> {
        let mut faults = Faults::default();
        let set = self.json();
        let message = [DOMAIN, &json::canonical_json(&set)].concat();
        match signature_json(&self.space, signer, &message) {
            Ok(signature) => {
                let file = json!({"schema": SCHEMA, "set": set, "signatures": [signature]});
                let bytes = format!("{file:#}\n").into_bytes();
                // What no box could read is not handed out.
                json::read(&bytes, &mut faults);
                faults.finish(Some(bytes))
            }
            Err(detail) => {
                faults.add("", Problem::Signer { detail });
                faults.finish(None)
            }
        }
    }

    fn json(&self) -> Value {
        let entries = self.entries.iter().map(|one| {
            json!({
                "id": one.contract.as_str(),
                "version": one.version,
                "digest": one.digest.to_string(),
                "state": one.state.name(),
            })
        });
        json!({
            "box": self.box_id.as_str(),
            "space": self.space,
            "epoch": self.epoch,
            "issued": crate::object::moment_text(self.issued),
            "contracts": entries.collect::<Vec<_>>(),
        })
    }
}

fn read(bytes: &[u8], keys: &TrustedKeys, faults: &mut Faults) -> Option<Roster> {
    if bytes.len() > ROSTER_BYTES_MAX {
        faults.add("", Problem::TooLong { length: bytes.len(), limit: ROSTER_BYTES_MAX });
        return None;
    }
    let value = json::read(bytes, faults)?;
    let file = Object::open(&value, "", &["schema", "set", "signatures"], faults)?;
    if let Some(schema) = file.members.get("schema")
        && schema.as_i64() != Some(SCHEMA)
    {
        let found = crate::fault::shown(&schema.to_string());
        faults.add("/schema", Problem::UnknownTerm { found, known: "1" });
    }
    let set = file.members.get("set")?;
    let roster = read_set(set, faults);
    let list = file.members.get("signatures")?;
    let signatures: Vec<SignatureEntry> = entries(list, "/signatures", SIGNATURES_MAX, faults)
        .iter()
        .filter_map(|(at, entry)| signature(entry, at, faults))
        .collect();
    let message = [DOMAIN, &json::canonical_json(set)].concat();
    if let Some(roster) = &roster {
        keys.check_parties(&[&roster.space], 1, &signatures, &message, faults);
    }
    roster
}

fn read_set(set: &Value, faults: &mut Faults) -> Option<Roster> {
    const KEYS: [&str; 5] = ["box", "space", "epoch", "issued", "contracts"];
    let set = Object::open(set, "/set", &KEYS, faults)?;
    let box_id = set.name("box", BoxId::parse, faults);
    let space = set.name("space", plain_name, faults);
    let epoch = number(&set, "epoch", faults);
    let issued = set.time("issued", faults);
    let list = entries(set.members.get("contracts")?, "/set/contracts", CONTRACTS_MAX, faults);
    let mut seen = BTreeSet::new();
    let mut read: Vec<Entry> = Vec::new();
    for (at, value) in &list {
        let Some(entry) = read_entry(value, at, faults) else { continue };
        if !seen.insert(entry.contract.clone()) {
            faults.add(at, Problem::Duplicate { found: entry.contract.to_string() });
        }
        read.push(entry);
    }
    read.sort_by(|a, b| a.contract.cmp(&b.contract));
    Some(Roster { box_id: box_id?, space: space?, epoch: epoch?, issued: issued?, entries: read })
}

/// A whole number that can also be written as one: sets are signed anew with what was read.
fn number(object: &Object<'_>, key: &str, faults: &mut Faults) -> Option<u64> {
    let number = object.member(key)?.whole(faults)?;
    if number > json::INTEGER_MAX {
        faults.add(&object.at(key), Problem::NotCanonical);
        return None;
    }
    Some(number)
}

fn read_entry(value: &Value, at: &str, faults: &mut Faults) -> Option<Entry> {
    let object = Object::open(value, at, &["id", "version", "digest", "state"], faults)?;
    let contract = object.name("id", ContractId::parse, faults);
    let version = number(&object, "version", faults);
    let digest = object.text("digest", faults).and_then(|text| {
        let digest = Digest::from_hex(text);
        if digest.is_none() {
            let known = "64 lower-case hex digits";
            let found = crate::fault::shown(text);
            faults.add(&object.at("digest"), Problem::UnknownTerm { found, known });
        }
        digest
    });
    let known = "active, suspended, ended or revoked";
    let state = object.member("state");
    let state = state.and_then(|member| member.word(&ContractState::WORDS, known, faults));
    Some(Entry { contract: contract?, version: version?, digest: digest?, state: state? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::tests::TestSigner;

    fn entry(id: &str, state: ContractState) -> Entry {
        let contract = ContractId::parse(id).unwrap();
        Entry { contract, version: 3, digest: Digest([7; 32]), state }
    }

    fn roster() -> Roster {
        Roster {
            box_id: BoxId::parse("box-1").unwrap(),
            space: "space-1".to_owned(),
            epoch: 9,
            issued: WallTime::from_seconds(1_800_000_000),
            entries: ContractState::WORDS.iter().map(|(name, state)| entry(name, *state)).collect(),
        }
    }

    fn keys(signer: &TestSigner) -> TrustedKeys {
        TrustedKeys::new(vec![("space-1".to_owned(), signer.public_key())]).unwrap()
    }

    #[test]
    fn a_set_is_read_as_it_was_signed() {
        let signer = TestSigner::new(1);
        let mut expect = roster();
        expect.entries.sort_by(|a, b| a.contract.cmp(&b.contract));
        let file = roster().sign(&signer).unwrap();
        assert_eq!(Roster::parse(&file, &keys(&signer)).unwrap(), expect);
    }

    #[test]
    fn changed_foreign_and_repeated_sets_are_refused() {
        let signer = TestSigner::new(1);
        let file = String::from_utf8(roster().sign(&signer).unwrap()).unwrap();
        let check = |file: &str, keys: &TrustedKeys, expect: &str| {
            let error = Roster::parse(file.as_bytes(), keys).unwrap_err().to_string();
            assert!(error.contains(expect), "{error} for {expect}");
        };
        let keys = keys(&signer);
        check(&file.replace("suspended", "active"), &keys, "altered after signing");
        check(&file.replace("\"epoch\": 9", "\"epoch\": 10"), &keys, "altered after signing");
        check(&file.replace("box-1", "box-2"), &keys, "altered after signing");
        let other = TestSigner::new(2);
        let foreign = TrustedKeys::new(vec![("space-1".to_owned(), other.public_key())]).unwrap();
        check(&file, &foreign, "space-1");
        check(&file.replace("\"id\": \"ended\"", "\"id\": \"active\""), &keys, "twice");
        check(&file.replace("\"revoked\"", "\"paused\""), &keys, "paused");
        check("{}", &keys, "missing");
    }

    /// A text may hold a number that no set can: the space would sign what every box refuses.
    #[test]
    fn numbers_are_those_that_can_be_written_again() {
        let signer = TestSigner::new(1);
        let sign = |epoch: u64| Roster { epoch, ..roster() }.sign(&signer);
        let file = sign(json::INTEGER_MAX).unwrap();
        assert_eq!(Roster::parse(&file, &keys(&signer)).unwrap().epoch, json::INTEGER_MAX);
        let at = |error: ContractError| {
            (error.faults[0].pointer.clone(), error.faults[0].problem.clone())
        };
        let expect = |pointer: &str| (pointer.to_owned(), Problem::NotCanonical);
        assert_eq!(at(sign(json::INTEGER_MAX + 1).unwrap_err()), expect("/set/epoch"));
        let mut set = roster().json();
        set["contracts"][1]["version"] = json!("9007199254740992");
        let message = [DOMAIN, &json::canonical_json(&set)].concat();
        let signature = signature_json("space-1", &signer, &message).unwrap();
        let file = json!({"schema": SCHEMA, "set": set, "signatures": [signature]}).to_string();
        let error = Roster::parse(file.as_bytes(), &keys(&signer)).unwrap_err();
        assert_eq!(at(error), expect("/set/contracts/1/version"));
    }

    #[test]
    fn the_limits_are_exact() {
        let signer = TestSigner::new(1);
        let many = |count: usize| {
            let name = |number| format!("{}{number:05}", "x".repeat(40));
            let entries = (0..count).map(|n| entry(&name(n), ContractState::Active)).collect();
            let file = Roster { entries, ..roster() }.sign(&signer).unwrap();
            Roster::parse(&file, &keys(&signer))
        };
        assert_eq!(many(CONTRACTS_MAX).unwrap().entries.len(), CONTRACTS_MAX);
        assert!(many(CONTRACTS_MAX + 1).is_err());
        let long = vec![b' '; ROSTER_BYTES_MAX + 1];
        assert!(Roster::parse(&long, &keys(&signer)).is_err());
    }
}
