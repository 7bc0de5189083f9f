//! What the space says under its signature about each deletion, and how anybody checks it.

use super::key::KeyName;
use super::{RetentionFault, key_of};
use crate::signed_lines;
use crate::store::{StoreError, StoredRecord, read_all};
use guan_model::{BoxId, PublicKey, Signer};
use guan_spool::Disk;
use ring::digest::{Context, SHA256};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

/// First line of what is signed about a deletion.
const DOMAIN: &[u8] = b"guan-data-deleted/1\n";
/// Boxes that a statement names; the first release had one key for all boxes of a contract.
const BOXES_NAMED_MAX: usize = 256;

/// What the store holds under one key.
pub(super) struct Holding {
    boxes: BTreeSet<BoxId>,
    batches: u64,
    rows: u64,
    bytes: u64,
    /// Over the digests of the batches, in the order of the store.
    digests: Context,
}

/// Reads the whole store once for all keys that are asked for.
pub(super) fn holdings(
    disk: &impl Disk,
    keys: &BTreeSet<KeyName>,
) -> Result<BTreeMap<KeyName, Holding>, StoreError> {
    let empty = || Holding {
        boxes: BTreeSet::new(),
        batches: 0,
        rows: 0,
        bytes: 0,
        digests: Context::new(&SHA256),
    };
    let mut found: BTreeMap<KeyName, Holding> =
        keys.iter().map(|key| (key.clone(), empty())).collect();
    read_all(disk, &mut |record| {
        if let StoredRecord::Batch(delivery) = record
            && let Some((name, _)) = key_of(&delivery)
            && let Some(holding) = found.get_mut(&name)
        {
            if holding.boxes.len() < BOXES_NAMED_MAX {
                holding.boxes.insert(delivery.box_id.clone());
            }
            holding.batches += 1;
            holding.rows += u64::from(delivery.rows);
            holding.bytes += delivery.bytes.len() as u64;
            holding.digests.update(&delivery.digest.0);
        }
        Ok(())
    })?;
    Ok(found)
}

impl Holding {
    /// Adds to a statement what is known of the data.
    pub(super) fn add_to(&self, event: &mut Value) {
        let boxes: Vec<&str> = self.boxes.iter().map(BoxId::as_str).collect();
        event["boxes"] = json!(boxes);
        event["batches"] = self.batches.into();
        event["rows"] = self.rows.into();
        event["bytes"] = self.bytes.into();
        event["batches_sha256"] = hex::encode(self.digests.clone().finish()).into();
    }
}

/// The line of a deletion that was done, signed over its canonical JSON.
pub(super) fn signed(event: &Value, signer: &dyn Signer) -> Result<Value, RetentionFault> {
    let message = [DOMAIN, &guan_policy::canonical_json(event)].concat();
    let signature = signer
        .sign(&message)
        .map_err(|fault| RetentionFault::Sign { detail: fault.to_string() })?;
    let key_id = guan_policy::key_id(&signer.public_key());
    Ok(json!({"deleted": event, "key_id": key_id, "signature": hex::encode(signature)}))
}

/// Whether a line about the deletion of this key is there already.
pub(super) fn is_said(path: &Path, name: &KeyName) -> io::Result<bool> {
    let (name, mut is_said) = (name.to_string(), false);
    signed_lines::read(path, &mut |line| {
        let line = line.and_then(|line| serde_json::from_slice::<Value>(line).ok());
        is_said |= line.is_some_and(|line| line["deleted"]["key"] == name.as_str());
    })?;
    Ok(is_said)
}

/// What a look at a line finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    Good,
    /// Changed after it was signed, signed for something else, or no line of this file.
    Forged,
    /// Signed with a key that is not the space's.
    Unknown,
    /// Half a line, as a power cut leaves it: the deletion is said again when the space runs.
    Damaged,
}

impl Finding {
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Forged => "FORGED",
            Self::Unknown => "UNKNOWN KEY",
            Self::Damaged => "DAMAGED",
        }
    }
}

/// Hands over every line of a file of deletions with what its signature is worth under the space's key.
pub fn review(
    path: &Path,
    key: &PublicKey,
    handle: &mut dyn FnMut(&Value, Finding),
) -> io::Result<()> {
    signed_lines::read(path, &mut |line| {
        // None that the space wrote is so long.
        let Some(line) = line else { return handle(&Value::Null, Finding::Forged) };
        match serde_json::from_slice::<Value>(line) {
            Ok(line) if line["deleted"]["event"] == "data.deleted" => {
                handle(&line["deleted"], judge(&line, key));
            }
            // A piece of a line is no JSON, so this is none.
            Ok(line) => handle(&line["deleted"], Finding::Forged),
            Err(_) => handle(&Value::Null, Finding::Damaged),
        }
    })
}

fn judge(line: &Value, key: &PublicKey) -> Finding {
    if line["key_id"] != guan_policy::key_id(key).as_str() {
        return Finding::Unknown;
    }
    let signature = line["signature"].as_str().and_then(|text| hex::decode(text).ok());
    let message = [DOMAIN, &guan_policy::canonical_json(&line["deleted"])].concat();
    let verifies = |signature: Vec<u8>| match key {
        PublicKey::Ed25519(key) => {
            UnparsedPublicKey::new(&ED25519, key).verify(&message, &signature).is_ok()
        }
        PublicKey::EcdsaP256(_) => false,
    };
    if signature.is_some_and(verifies) { Finding::Good } else { Finding::Forged }
}
