//! Deletion that contracts ask of the consumer's store (到期删除): what came under such a contract lies
//! enciphered under a key of its hour (of its minute, if it is to be deleted within two days), and is
//! deleted by destroying the key. Every deletion is a signed line of `deleted.jsonl`.
//!
//! A key's data is deleted when its hour began so long ago as the contract says: up to an hour early, never
//! late by more than the interval at which the daemon looks.

use crate::sets::Sets;
use crate::store::Delivery;
use bytes::Bytes;
use guan_model::{ContractId, Signer, WallTime};
use guan_policy::contract::Contract;
use guan_policy::duty::Duty;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use zeroize::Zeroizing;

/// Folder of the keys in `space.state_dir`.
pub const KEYS_DIR: &str = "retention";
/// Signed lines about what was deleted, in `space.state_dir`.
pub const DELETED_FILE: &str = "deleted.jsonl";
/// Most keys: a hundred contracts with a month of hours each.
pub const KEYS_MAX: usize = 100_000;
const KEY_BYTES: usize = 32;
/// Data that came in so many seconds has one key.
const SLICE_S: i64 = 3600;
/// The same for data that is deleted soon.
const SHORT_SLICE_S: i64 = 60;
const SOON: Duration = Duration::from_secs(2 * 86_400);
/// What stands before an enciphered batch; no encoded batch begins so.
const SEALED: &[u8] = b"guan-sealed-1\n";
/// First line of what is signed about a deletion.
const DOMAIN: &[u8] = b"guan-data-deleted/1\n";

/// Why data cannot be kept for deletion, or not be deleted.
#[derive(Debug, thiserror::Error)]
pub enum RetentionFault {
    #[error("{path} cannot be used: check the disk and its rights")]
    File { path: PathBuf, source: io::Error },
    #[error("{path} holds no key; what lies under it cannot be read")]
    Damaged { path: PathBuf },
    #[error(
        "{KEYS_MAX} keys wait for their data's deletion; raise the time less, or split the space"
    )]
    Full,
    #[error("the system gives no random numbers")]
    Random,
    #[error("a batch of contract {contract} was changed on the disk")]
    Changed { contract: ContractId },
    #[error("the deletion cannot be signed: {detail}")]
    Sign { detail: String },
}

/// When a contract wants its data deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deletion {
    after: Option<Duration>,
    by: Option<WallTime>,
}

impl Deletion {
    /// The earliest that the contract's duties ask; `None`: it asks for none.
    pub fn of(contract: &Contract) -> Option<Self> {
        let duties = contract.rules().iter().flat_map(|rule| &rule.duties);
        let mut deletion = Self::default();
        for duty in duties.chain(contract.obligations()) {
            match duty {
                Duty::DeleteAfter(after) => {
                    let known = deletion.after.unwrap_or(Duration::MAX);
                    deletion.after = Some(known.min(*after));
                }
                Duty::DeleteBy(by) => {
                    deletion.by = Some(deletion.by.map_or(*by, |known| known.min(*by)));
                }
                _ => {}
            }
        }
        (deletion != Self::default()).then_some(deletion)
    }

    /// When the slice that a moment belongs to began, in seconds.
    fn slice_of(&self, at: WallTime) -> i64 {
        let is_soon = self.after.is_some_and(|after| after < SOON);
        let slice_s = if is_soon { SHORT_SLICE_S } else { SLICE_S };
        at.0.div_euclid(1_000_000_000 * slice_s) * slice_s
    }

    fn is_due(&self, began_s: i64, now: WallTime) -> bool {
        let began = WallTime::from_seconds(began_s);
        self.after.is_some_and(|after| now >= began.saturating_add(after))
            || self.by.is_some_and(|by| now >= by)
    }
}

/// A contract and the second at which a slice of its data began.
type KeyName = (ContractId, i64);
type Key = Zeroizing<[u8; KEY_BYTES]>;

/// The keys, and which contracts ask for deletion; clones share them.
#[derive(Clone)]
pub struct Retention {
    folder: PathBuf,
    deleted: PathBuf,
    shared: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    deletions: BTreeMap<ContractId, Deletion>,
    keys: BTreeMap<KeyName, Key>,
}

impl Retention {
    pub fn open(state_dir: &Path) -> Result<Self, RetentionFault> {
        let folder = state_dir.join(KEYS_DIR);
        let failed = |source| RetentionFault::File { path: folder.clone(), source };
        fs::create_dir_all(&folder).map_err(failed)?;
        let mut state = State::default();
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let Some(name) = name_of(&path) else { continue };
            let bytes = fs::read(&path)
                .map_err(|source| RetentionFault::File { path: path.clone(), source })?;
            let key: [u8; KEY_BYTES] =
                bytes.try_into().map_err(|_| RetentionFault::Damaged { path })?;
            state.keys.insert(name, Zeroizing::new(key));
        }
        let deleted = state_dir.join(DELETED_FILE);
        Ok(Self { folder, deleted, shared: Arc::new(Mutex::new(state)) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock().expect("nobody panics while holding it")
    }

    /// Looks again which contracts of all boxes ask for deletion. Contracts that have ended still do.
    pub fn read_duties(&self, sets: &Sets) {
        let mut deletions = BTreeMap::new();
        for box_id in sets.boxes() {
            let Ok(Some(roster)) = sets.roster(&box_id) else { continue };
            for entry in roster.entries {
                let Ok(Some(file)) = sets.document(&box_id, &entry.digest) else { continue };
                let Ok(contract) = Contract::draft(&file) else { continue };
                if let Some(deletion) = Deletion::of(&contract) {
                    deletions.insert(entry.contract, deletion);
                }
            }
        }
        self.state().deletions = deletions;
    }

    /// Enciphers a batch whose contract asks for deletion.
    pub fn seal(&self, delivery: &mut Delivery) -> Result<(), RetentionFault> {
        let mut state = self.state();
        let Some(deletion) = state.deletions.get(&delivery.contract) else { return Ok(()) };
        let began_s = deletion.slice_of(delivery.received);
        let name = (delivery.contract.clone(), began_s);
        if !state.keys.contains_key(&name) {
            if state.keys.len() >= KEYS_MAX {
                return Err(RetentionFault::Full);
            }
            let mut key = Zeroizing::new([0; KEY_BYTES]);
            SystemRandom::new().fill(&mut key[..]).map_err(|_| RetentionFault::Random)?;
            let path = self.path_of(&name);
            write_key(&self.folder, &path, &key)
                .map_err(|source| RetentionFault::File { path, source })?;
            state.keys.insert(name.clone(), key);
        }
        let cipher = cipher(&state.keys[&name]);
        drop(state);
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| RetentionFault::Random)?;
        let mut body = delivery.bytes.to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        cipher
            .seal_in_place_append_tag(unique, Aad::from(delivery.digest.0), &mut body)
            .expect("a batch is shorter than 64 GB");
        delivery.bytes = [SEALED, &began_s.to_le_bytes(), &nonce, &body].concat().into();
        Ok(())
    }

    /// The batch as it came; `None`: it was deleted.
    pub fn open_batch(&self, delivery: &Delivery) -> Result<Option<Bytes>, RetentionFault> {
        let Some(sealed) = delivery.bytes.strip_prefix(SEALED) else {
            return Ok(Some(delivery.bytes.clone()));
        };
        let changed = || RetentionFault::Changed { contract: delivery.contract.clone() };
        let (began, sealed) = sealed.split_first_chunk().ok_or_else(changed)?;
        let name = (delivery.contract.clone(), i64::from_le_bytes(*began));
        let state = self.state();
        let Some(key) = state.keys.get(&name) else { return Ok(None) };
        let (nonce, body) = sealed.split_at_checked(NONCE_LEN).ok_or_else(changed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| changed())?;
        let mut body = body.to_vec();
        let opened = cipher(key).open_in_place(nonce, Aad::from(delivery.digest.0), &mut body);
        let length = opened.map_err(|_| changed())?.len();
        body.truncate(length);
        Ok(Some(body.into()))
    }

    /// Deletes what is due, and says so under the space's signature. Gives the lines.
    pub fn delete_due(
        &self,
        now: WallTime,
        space: &str,
        signer: &dyn Signer,
    ) -> Result<Vec<Value>, RetentionFault> {
        let due: Vec<KeyName> = {
            let state = self.state();
            let is_due = |(contract, began_s): &&KeyName| {
                let deletion = state.deletions.get(contract);
                deletion.is_some_and(|deletion| deletion.is_due(*began_s, now))
            };
            state.keys.keys().filter(is_due).cloned().collect()
        };
        let mut lines = Vec::new();
        for name in due {
            let path = self.path_of(&name);
            let failed = |source| RetentionFault::File { path: path.clone(), source };
            let line = statement(&name, now, space, signer)?;
            erase(&self.folder, &path).map_err(failed)?;
            self.state().keys.remove(&name);
            append(&self.deleted, &line)
                .map_err(|source| RetentionFault::File { path: self.deleted.clone(), source })?;
            lines.push(line);
        }
        Ok(lines)
    }

    fn path_of(&self, (contract, began_s): &KeyName) -> PathBuf {
        self.folder.join(format!("{began_s}.{contract}.key"))
    }
}

/// What was deleted, signed over its canonical JSON.
fn statement(
    (contract, began_s): &KeyName,
    now: WallTime,
    space: &str,
    signer: &dyn Signer,
) -> Result<Value, RetentionFault> {
    let event = json!({
        "event": "data.deleted", "schema": 1, "space": space, "contract": contract.as_str(),
        "received_from_s": began_s, "deleted_at_s": now.millis().div_euclid(1000),
    });
    let message = [DOMAIN, &guan_policy::canonical_json(&event)].concat();
    let signature = signer
        .sign(&message)
        .map_err(|fault| RetentionFault::Sign { detail: fault.to_string() })?;
    let key_id = guan_policy::key_id(&signer.public_key());
    Ok(json!({"deleted": event, "key_id": key_id, "signature": hex::encode(signature)}))
}

fn cipher(key: &Key) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key[..]).expect("a key of AES has 32 bytes"))
}

fn name_of(path: &Path) -> Option<KeyName> {
    let name = path.file_name()?.to_str()?.strip_suffix(".key")?;
    let (began_s, contract) = name.split_once('.')?;
    Some((ContractId::parse(contract).ok()?, began_s.parse().ok()?))
}

fn write_key(folder: &Path, path: &Path, key: &Key) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut options = File::options();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(&key[..])?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    File::open(folder)?.sync_all()
}

fn erase(folder: &Path, path: &Path) -> io::Result<()> {
    let mut file = File::options().write(true).open(path)?;
    file.write_all(&[0; KEY_BYTES])?;
    file.sync_all()?;
    fs::remove_file(path)?;
    File::open(folder)?.sync_all()
}

fn append(path: &Path, line: &Value) -> io::Result<()> {
    let mut file = File::options().create(true).append(true).open(path)?;
    writeln!(file, "{line}")?;
    file.sync_all()
}

#[cfg(test)]
mod tests;
