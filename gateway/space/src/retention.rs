//! Deletion that contracts ask of the consumer's store (到期删除): what came under such a contract lies
//! enciphered under a key of its hour (of its minute, if it is to be deleted within two days), and is
//! deleted by destroying the key. Every deletion is a signed line of `deleted.jsonl`.
//!
//! A key's data is deleted when its hour began so long ago as the contract says: up to an hour early, never
//! late by more than the interval at which the daemon looks, and not before the contract's `retain` is
//! over. Invariants:
//! - What a contract asks is bound to the key when data comes; a later version changes only what comes later.
//! - A key is destroyed after the order to do so is durable, and the order goes only after the signed line is:
//!   no deletion is without its line, whenever the power goes.
//!
//! A batch does not say under which version it was collected: the version counts that is in force when it
//! comes. A batch that was not yet committed when its key was ordered away is deleted and not counted.

mod duties;
mod key;
mod state;
mod statement;

pub use key::Deletion;
pub use statement::{Finding, review};

use crate::alarms::Alarms;
use crate::signed_lines;
use crate::store::{Delivery, StoreError};
use bytes::Bytes;
use duties::Asked;
use guan_model::{BoxId, ContractId, Signer, WallTime};
use guan_spool::Disk;
use key::{Bound, ID_BYTES, Key, KeyName};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::Value;
use state::{Order, State};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// Folder of the keys in `space.state_dir`.
pub const KEYS_DIR: &str = "retention";
/// Signed lines about what was deleted, in `space.state_dir`.
pub const DELETED_FILE: &str = "deleted.jsonl";
/// Most keys, for each box that the space may serve: two days of minutes, or four months of hours. A key
/// takes half a kilobyte of memory, and a small file.
pub const KEYS_A_BOX: usize = 2881;
/// From so much of the limit on it is an alarm.
const ALARM_PERCENT: usize = 80;
/// What helps against too many keys.
const FEWER_KEYS: &str = "have contracts ask for earlier deletion, raise listen.peers_max, or move \
                          boxes to another space";
/// Stands before a batch that the first release enciphered; no encoded batch begins so.
const SEALED_1: &[u8] = b"guan-sealed-1\n";
/// The same since keys have names of their own.
const SEALED: &[u8] = b"guan-sealed-2\n";
/// An order to delete what lies under a key; with the key's name before it.
const ORDER: &str = ".due";

/// Why data cannot be kept for deletion, or not be deleted.
#[derive(Debug, thiserror::Error)]
pub enum RetentionFault {
    #[error("{path} cannot be used: check the disk and its rights")]
    File { path: PathBuf, source: io::Error },
    #[error("{path} holds no key; what lies under it cannot be read")]
    Damaged { path: PathBuf },
    #[error(
        "{limit} keys wait for the deletion of their data, which is the limit, and no batch that needs \
         another is taken: {FEWER_KEYS}"
    )]
    Full { limit: usize },
    #[error("the system gives no random numbers")]
    Random,
    #[error("a batch of contract {contract} was changed on the disk")]
    Changed { contract: ContractId },
    #[error(
        "the document of contract {contract} of box {box_id} cannot be read, so nothing tells when \
         its data is to be deleted, and none is stored: restore the document, or issue a newer \
         version of the contract"
    )]
    Unread { box_id: BoxId, contract: ContractId },
    #[error("the deletion cannot be signed: {detail}")]
    Sign { detail: String },
}

/// The keys, and which contracts ask for deletion; clones share them.
#[derive(Clone)]
pub struct Retention {
    folder: PathBuf,
    deleted: PathBuf,
    alarms: Alarms,
    keys_max: usize,
    shared: Arc<Mutex<State>>,
}

impl Retention {
    /// Changes nothing on the disk beside making the folder.
    pub fn open(state_dir: &Path) -> Result<Self, RetentionFault> {
        let folder = state_dir.join(KEYS_DIR);
        let failed = |source| RetentionFault::File { path: folder.clone(), source };
        guan_spool::create_folder(&folder).map_err(failed)?;
        let mut state = State::default();
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if let Some((name, held)) = key::read(&path)? {
                state.keep(name, held);
            } else if let Some(name) = KeyName::of(&path, ORDER) {
                let bytes = match fs::read(&path) {
                    Ok(bytes) => bytes,
                    Err(fault) if fault.kind() == io::ErrorKind::NotFound => continue,
                    Err(source) => return Err(RetentionFault::File { path, source }),
                };
                let event = serde_json::from_slice(&bytes);
                let event = event.map_err(|_| RetentionFault::Damaged { path })?;
                state.orders.insert(name, Order { event, is_again: true });
            }
        }
        // What is ordered deleted is deleted for whoever reads.
        let ordered: Vec<KeyName> = state.orders.keys().cloned().collect();
        ordered.iter().for_each(|name| state.forget(name));
        let deleted = state_dir.join(DELETED_FILE);
        let (alarms, shared) = (Alarms::default(), Arc::new(Mutex::new(state)));
        Ok(Self { folder, deleted, alarms, keys_max: KEYS_A_BOX, shared })
    }

    /// Where it says what an operator should look at.
    #[must_use]
    pub fn with_alarms(self, alarms: Alarms) -> Self {
        Self { alarms, ..self }
    }

    /// Makes room for the keys of so many boxes; without it there is room for one.
    #[must_use]
    pub fn with_boxes(self, boxes: usize) -> Self {
        Self { keys_max: boxes.saturating_mul(KEYS_A_BOX), ..self }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock().expect("nobody panics while holding it")
    }

    /// Enciphers a batch whose contract asks for deletion.
    pub fn seal(&self, delivery: &mut Delivery) -> Result<(), RetentionFault> {
        let mut state = self.state();
        let owner = (&delivery.box_id, &delivery.contract);
        let (digest, deletion) = match state.duties.of(owner) {
            None => return Ok(()),
            Some(Asked::Deletion(digest, deletion)) => (digest, deletion),
            Some(Asked::Unread) => {
                let (box_id, contract) = (owner.0.clone(), owner.1.clone());
                return Err(RetentionFault::Unread { box_id, contract });
            }
        };
        let bound = Bound::new(owner, digest, deletion, delivery.received);
        let name = match state.open.get(&bound) {
            Some(name) => name.clone(),
            None => {
                if state.count() >= self.keys_max {
                    return Err(RetentionFault::Full { limit: self.keys_max });
                }
                let (name, held) = key::create(&self.folder, &Arc::new(bound))?;
                state.keep(name.clone(), held);
                self.warn(&mut state);
                name
            }
        };
        let cipher = cipher(&state.keys[&name].key);
        drop(state);
        let KeyName::Random(id) = name else { unreachable!("new keys have random names") };
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| RetentionFault::Random)?;
        let mut body = delivery.bytes.to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        cipher
            .seal_in_place_append_tag(unique, Aad::from(delivery.digest.0), &mut body)
            .expect("a batch is shorter than 64 GB");
        delivery.bytes = [SEALED, &id, &nonce, &body].concat().into();
        Ok(())
    }

    /// Says once that the limit is near, and again after it was not.
    fn warn(&self, state: &mut State) {
        let limit = self.keys_max;
        let is_near = state.count().saturating_mul(100) >= limit.saturating_mul(ALARM_PERCENT);
        if is_near && !state.is_nearly_full {
            let text = format!(
                "{ALARM_PERCENT} % of the {limit} keys for data that is to be deleted are in use; at the \
                 limit no batch that needs another is taken: {FEWER_KEYS}"
            );
            self.alarms.raise(&"the store", &text);
        }
        state.is_nearly_full = is_near;
    }

    /// The batch as it came; `None`: it was deleted.
    pub fn open_batch(&self, delivery: &Delivery) -> Result<Option<Bytes>, RetentionFault> {
        let changed = || RetentionFault::Changed { contract: delivery.contract.clone() };
        let is_sealed = delivery.bytes.starts_with(SEALED) || delivery.bytes.starts_with(SEALED_1);
        if !is_sealed {
            return Ok(Some(delivery.bytes.clone()));
        }
        let (name, sealed) = key_of(delivery).ok_or_else(changed)?;
        let state = self.state();
        let Some(held) = state.keys.get(&name) else { return Ok(None) };
        let (nonce, body) = sealed.split_at_checked(NONCE_LEN).ok_or_else(changed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| changed())?;
        let mut body = body.to_vec();
        let opened =
            cipher(&held.key).open_in_place(nonce, Aad::from(delivery.digest.0), &mut body);
        let length = opened.map_err(|_| changed())?.len();
        body.truncate(length);
        Ok(Some(body.into()))
    }

    /// Deletes what is due, and what was ordered before; says so under the space's signature. Reads the
    /// whole store when something is due. Gives the lines, and why keys could not be deleted: those are
    /// tried again.
    pub fn delete_due(
        &self,
        now: WallTime,
        (space, signer): (&str, &dyn Signer),
        store: &impl Disk,
    ) -> (Vec<Value>, Vec<RetentionFault>) {
        let due = self.state().due(now);
        let (mut lines, mut faults) = (Vec::new(), Vec::new());
        if !due.is_empty() {
            faults.extend(self.order(&due, space, store));
        }
        let orders: Vec<KeyName> = self.state().orders.keys().cloned().collect();
        for name in orders {
            match self.carry_out(&name, now, signer) {
                Ok(line) => lines.extend(line),
                Err(fault) => faults.push(fault),
            }
        }
        (lines, faults)
    }

    /// Makes durable that these keys are to be destroyed, and what lies under them.
    fn order(
        &self,
        due: &BTreeSet<KeyName>,
        space: &str,
        store: &impl Disk,
    ) -> Vec<RetentionFault> {
        {
            // What comes from here on gets another key, so that what is counted is what is deleted.
            let mut state = self.state();
            due.iter().for_each(|name| state.close(name));
        }
        let holdings = statement::holdings(store, due).unwrap_or_else(|fault: StoreError| {
            // The duty to delete does not wait for a disk that can be read.
            tracing::error!(%fault, "what is deleted cannot be counted");
            BTreeMap::new()
        });
        let mut faults = Vec::new();
        for name in due {
            let mut event = self.state().event(name, space);
            if let Some(holding) = holdings.get(name) {
                holding.add_to(&mut event);
            }
            let path = self.order_path(name);
            let bytes = serde_json::to_vec(&event).expect("a value is JSON");
            if let Err(source) = key::place(&self.folder, &path, &bytes) {
                faults.push(RetentionFault::File { path, source });
                continue;
            }
            let mut state = self.state();
            state.forget(name);
            state.orders.insert(name.clone(), Order { event, is_again: false });
        }
        faults
    }

    /// Destroys one key and says so, unless that was said already.
    fn carry_out(
        &self,
        name: &KeyName,
        now: WallTime,
        signer: &dyn Signer,
    ) -> Result<Option<Value>, RetentionFault> {
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            |source| RetentionFault::File { path, source }
        };
        key::erase(&self.folder, name)?;
        let (mut event, is_again) = {
            let mut state = self.state();
            let order = state.orders.get_mut(name).expect("only orders are carried out");
            (order.event.clone(), std::mem::replace(&mut order.is_again, true))
        };
        let is_said =
            is_again && statement::is_said(&self.deleted, name).map_err(failed(&self.deleted))?;
        let line = match is_said {
            true => None,
            false => {
                event["deleted_at_s"] = now.millis().div_euclid(1000).into();
                let line = statement::signed(&event, signer)?;
                signed_lines::append(&self.deleted, line.to_string().as_bytes())
                    .map_err(failed(&self.deleted))?;
                Some(line)
            }
        };
        let path = self.order_path(name);
        fs::remove_file(&path).map_err(failed(&path))?;
        self.state().orders.remove(name);
        Ok(line)
    }

    fn order_path(&self, name: &KeyName) -> PathBuf {
        self.folder.join(format!("{name}{ORDER}"))
    }
}

/// The key under which a batch lies, and what follows its name; `None`: it is not enciphered.
fn key_of(delivery: &Delivery) -> Option<(KeyName, &[u8])> {
    if let Some(sealed) = delivery.bytes.strip_prefix(SEALED) {
        let (id, sealed) = sealed.split_first_chunk::<ID_BYTES>()?;
        return Some((KeyName::Random(*id), sealed));
    }
    let sealed = delivery.bytes.strip_prefix(SEALED_1)?;
    let (began, sealed) = sealed.split_first_chunk()?;
    Some((KeyName::Slice(delivery.contract.clone(), i64::from_le_bytes(*began)), sealed))
}

fn cipher(key: &Key) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key[..]).expect("a key of AES has 32 bytes"))
}

#[cfg(test)]
mod tests;
