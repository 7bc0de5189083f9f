//! The boxes that the space has enrolled, in sled.
//!
//! sled lets one process in at a time, and `guan-space box ...` must work while the daemon runs. So
//! nobody keeps it open: each look is open, read or write, close, with bounded retries. Boxes connect
//! rarely, thus the cost does not matter.
//!
//! `guan_spool::facts` makes changes durable, and opens what a power cut has left.

use guan_evidence::verify::ATTESTATION_KEYS_MAX;
use guan_identity::Tier;
use guan_identity::join::{JoinSecret, OwnerPasswords, PASSWORD_BYTES};
use guan_model::{BoxId, Digest, PublicKey};
use guan_spool::facts;
use serde::{Deserialize, Serialize};
use std::ops::Deref;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use zeroize::Zeroizing;

const TOKENS: &str = "tokens";
/// By the digest of the endorsement key: the passwords outlive a box's name.
const PASSWORDS: &str = "passwords";
/// By the box's name: the store's key belongs to its disk.
const STORE_KEYS: &str = "store-keys";
/// Most tokens that wait to be used.
pub const TOKENS_MAX: usize = 4096;

/// Why the registry cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("{path} stays locked by another guan-space command; end that command and try again")]
    Locked { path: PathBuf, source: sled::Error },
    #[error("{path} cannot be used: check the disk and the folder's rights")]
    Storage { path: PathBuf, source: sled::Error },
    #[error("the record of box {box_id} in {path} is damaged; enrol the box again")]
    Damaged { path: PathBuf, box_id: String },
    #[error(
        "{TOKENS_MAX} tokens wait to be used; `guan-space token drop-expired` removes old ones"
    )]
    Tokens,
    #[error("box {0} is not enrolled; `guan-space box list` shows those that are")]
    Unknown(BoxId),
}

/// Why a box that connects is turned away; the texts go to the box.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("box {0} is not enrolled here: enrol it with `guan-space box enrol`")]
    NotEnrolled(BoxId),
    #[error("box {0} was revoked: enrol it again if that was a mistake")]
    Revoked(BoxId),
    #[error("box {0} shows a certificate that it was not enrolled with: enrol it again")]
    OtherCertificate(BoxId),
    #[error("the tier {tier} of box {box_id} is not in boxes.accept_tiers of this space")]
    Tier { box_id: BoxId, tier: Tier },
}

/// What is known of one box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    pub tier: String,
    /// SHA-256 of the certificate, hex.
    pub fingerprint: String,
    /// Seconds since 1970.
    pub enrolled_at_s: i64,
    pub revoked: bool,
    /// Its TPM; `None` for the tier `unattested`.
    #[serde(default)]
    pub tpm: Option<TpmRecord>,
    /// A verdict is wanted now.
    #[serde(default)]
    pub demand: bool,
    #[serde(default)]
    pub retirement: Option<Retirement>,
    /// Signed policy for the box's store, told with each verdict.
    #[serde(default)]
    pub store_policy: Option<String>,
}

/// A box on its way out of service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retirement {
    /// The box is told with its next verdict. `discard`: what it has not sent by then is lost.
    Ordered { discard: bool },
    /// It has confirmed with the last signature of its attestation key, and is revoked.
    Confirmed(Confirmation),
}

/// The last words of a box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation {
    /// Seconds since 1970.
    pub at_s: i64,
    /// End of its evidence log.
    pub log_size: u64,
    pub log_root: String,
    /// TPMS_ATTEST and TPMT_SIGNATURE in hex, bound to `exporter` and the end of the log.
    pub quote: String,
    pub quote_signature: String,
    pub exporter: String,
}

/// What is known of a box's TPM. Digests and points in hex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TpmRecord {
    /// SHA-256 of the endorsement key's public area.
    pub endorsement: String,
    /// Uncompressed points of P-256.
    pub attestation_key: String,
    /// Attestation keys of earlier joinings, the newest first: the box's log names them.
    #[serde(default)]
    pub earlier_keys: Vec<String>,
    pub tls_key: String,
    /// Issued, and not yet used: the old one is good until then.
    #[serde(default)]
    pub next: Option<NextCertificate>,
    #[serde(default)]
    pub last: Option<LastAppraisal>,
}

impl TpmRecord {
    /// Goes on after another record of the same box.
    pub fn after(mut self, before: Option<Self>) -> Self {
        let Some(before) = before else { return self };
        let known = std::iter::once(before.attestation_key).chain(before.earlier_keys);
        let earlier = known.filter(|key| *key != self.attestation_key);
        self.earlier_keys = earlier.take(ATTESTATION_KEYS_MAX - 1).collect();
        self
    }

    /// All attestation keys that the box was enrolled with.
    pub fn attestation_keys(&self) -> Vec<PublicKey> {
        let all = std::iter::once(&self.attestation_key).chain(&self.earlier_keys);
        all.filter_map(|key| hex::decode(key).ok()).map(PublicKey::EcdsaP256).collect()
    }
}

/// A renewed certificate that the box has yet to try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextCertificate {
    pub fingerprint: String,
    pub tls_key: String,
}

/// What the last appraisal left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastAppraisal {
    /// Seconds since 1970.
    pub at_s: i64,
    pub outcome: String,
    pub findings: Vec<String>,
    /// Of the last verdict that did not refuse.
    #[serde(default)]
    pub seen: Option<SeenRecord>,
    /// Version of the TPM's own firmware, 16 hex digits.
    #[serde(default)]
    pub tpm_firmware: Option<String>,
    /// PCR 0 as it was shown last, approved or not.
    #[serde(default)]
    pub firmware: Option<String>,
}

/// The TPM's counts and firmware, as last seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenRecord {
    pub clock_ms: u64,
    pub resets: u32,
    pub restarts: u32,
    pub counter: u64,
    /// PCR 0.
    pub firmware: String,
    /// Up to where the list of measured files was found good, and the PCR there.
    #[serde(default)]
    pub ima_entries: u64,
    #[serde(default)]
    pub ima_value: Option<String>,
}

/// What a one-time token allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    #[serde(rename = "box")]
    pub box_id: String,
    /// Seconds since 1970.
    pub expires_at_s: i64,
    /// Digest of the only endorsement key that may use it, and the tier that this gives.
    pub endorsement: Option<(String, String)>,
}

/// Tasks of this process queue here; only other processes are waited for by trying again.
static TURN: Mutex<()> = Mutex::new(());

/// The database as long as it is open. It is closed before the next one's turn.
struct OpenRegistry {
    db: sled::Db,
    _turn: MutexGuard<'static, ()>,
}

impl Deref for OpenRegistry {
    type Target = sled::Db;

    fn deref(&self) -> &sled::Db {
        &self.db
    }
}

/// The folder of the registry.
#[derive(Debug, Clone)]
pub struct Registry {
    path: PathBuf,
}

impl Registry {
    pub fn new(state_dir: &Path) -> Self {
        Self { path: state_dir.join("registry") }
    }

    pub fn enrol(&self, box_id: &BoxId, enrolment: &Enrolment) -> Result<(), RegistryError> {
        let bytes = serde_json::to_vec(enrolment).expect("a struct of plain fields is JSON");
        self.write(box_id, bytes)
    }

    pub fn revoke(&self, box_id: &BoxId) -> Result<(), RegistryError> {
        self.update(box_id, |enrolment| enrolment.revoked = true)
    }

    /// Changes one record. Nobody else gets in between: the database is open to one at a time.
    pub fn update<T>(
        &self,
        box_id: &BoxId,
        change: impl FnOnce(&mut Enrolment) -> T,
    ) -> Result<T, RegistryError> {
        let db = self.open()?;
        let bytes = db.get(box_id.as_str()).map_err(|source| self.storage(source))?;
        let bytes = bytes.ok_or_else(|| RegistryError::Unknown(box_id.clone()))?;
        let mut enrolment = self.parse(box_id.as_str(), &bytes)?;
        let changed = change(&mut enrolment);
        let bytes = serde_json::to_vec(&enrolment).expect("a struct of plain fields is JSON");
        db.insert(box_id.as_str(), bytes).map_err(|source| self.storage(source))?;
        self.flush(&db)?;
        Ok(changed)
    }

    /// Owner's and lockout's password of the TPM with this endorsement key.
    pub fn find_passwords(
        &self,
        endorsement: &str,
    ) -> Result<Option<OwnerPasswords>, RegistryError> {
        let db = self.open()?;
        let tree = db.open_tree(PASSWORDS).map_err(|source| self.storage(source))?;
        let bytes = tree.get(endorsement).map_err(|source| self.storage(source))?;
        let bytes = Zeroizing::new(bytes.map(|bytes| bytes.to_vec()).unwrap_or_default());
        let Some((owner, lockout)) = bytes.split_at_checked(PASSWORD_BYTES) else {
            return Ok(None);
        };
        let whole = |bytes: &[u8]| <[u8; PASSWORD_BYTES]>::try_from(bytes).ok().map(Zeroizing::new);
        let passwords = whole(owner).zip(whole(lockout));
        Ok(passwords.map(|(owner, lockout)| OwnerPasswords { owner, lockout }))
    }

    pub fn find(&self, box_id: &BoxId) -> Result<Option<Enrolment>, RegistryError> {
        let db = self.open()?;
        let bytes = db.get(box_id.as_str()).map_err(|source| self.storage(source))?;
        bytes.map(|bytes| self.parse(box_id.as_str(), &bytes)).transpose()
    }

    pub fn list(&self) -> Result<Vec<(String, Enrolment)>, RegistryError> {
        let db = self.open()?;
        let mut all = Vec::new();
        // Tokens have a tree of their own.
        for entry in db.iter() {
            let (key, value) = entry.map_err(|source| self.storage(source))?;
            let name = String::from_utf8_lossy(&key).into_owned();
            let enrolment = self.parse(&name, &value)?;
            all.push((name, enrolment));
        }
        Ok(all)
    }

    /// Key of a box's store.
    pub fn find_store_key(
        &self,
        box_id: &BoxId,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, RegistryError> {
        let db = self.open()?;
        let tree = db.open_tree(STORE_KEYS).map_err(|source| self.storage(source))?;
        let bytes = tree.get(box_id.as_str()).map_err(|source| self.storage(source))?;
        Ok(bytes.map(|bytes| Zeroizing::new(bytes.to_vec())))
    }

    /// Whether a box with this certificate may deliver.
    pub fn admit(
        &self,
        box_id: &BoxId,
        tier: Tier,
        fingerprint: Digest,
        accepted: &[Tier],
    ) -> Result<Result<(), Rejection>, RegistryError> {
        let Some(enrolment) = self.find(box_id)? else {
            return Ok(Err(Rejection::NotEnrolled(box_id.clone())));
        };
        if enrolment.revoked {
            return Ok(Err(Rejection::Revoked(box_id.clone())));
        }
        let next = enrolment.tpm.as_ref().and_then(|tpm| tpm.next.as_ref());
        let fingerprint = fingerprint.to_string();
        let is_next = next.is_some_and(|next| next.fingerprint == fingerprint);
        if enrolment.fingerprint != fingerprint && !is_next {
            return Ok(Err(Rejection::OtherCertificate(box_id.clone())));
        }
        if !accepted.contains(&tier) || enrolment.tier != tier.name() {
            return Ok(Err(Rejection::Tier { box_id: box_id.clone(), tier }));
        }
        Ok(Ok(()))
    }

    /// Keeps a one-time token, by its digest.
    pub fn keep_token(&self, token: &Digest, record: &TokenRecord) -> Result<(), RegistryError> {
        let db = self.open()?;
        let tree = db.open_tree(TOKENS).map_err(|source| self.storage(source))?;
        if tree.len() >= TOKENS_MAX {
            return Err(RegistryError::Tokens);
        }
        let bytes = serde_json::to_vec(record).expect("a struct of plain fields is JSON");
        tree.insert(token.0, bytes).map_err(|source| self.storage(source))?;
        self.flush(&db)
    }

    /// Removes tokens that have expired; how many.
    pub fn drop_expired_tokens(&self, now_s: i64) -> Result<usize, RegistryError> {
        let db = self.open()?;
        let tree = db.open_tree(TOKENS).map_err(|source| self.storage(source))?;
        let mut dropped = 0;
        for entry in tree.iter() {
            let (key, value) = entry.map_err(|source| self.storage(source))?;
            let record = serde_json::from_slice::<TokenRecord>(&value);
            if record.is_ok_and(|record| record.expires_at_s >= now_s) {
                continue;
            }
            tree.remove(key).map_err(|source| self.storage(source))?;
            dropped += 1;
        }
        self.flush(&db)?;
        Ok(dropped)
    }

    /// What a token allows; it stays usable.
    pub fn find_token(&self, token: &Digest) -> Result<Option<TokenRecord>, RegistryError> {
        let db = self.open()?;
        let tree = db.open_tree(TOKENS).map_err(|source| self.storage(source))?;
        let bytes = tree.get(token.0).map_err(|source| self.storage(source))?;
        // A record that cannot be read allows nothing.
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Enrols a box and uses its token up, in one step. `false`: the token was used meanwhile.
    pub fn enrol_with_token(
        &self,
        token: &Digest,
        box_id: &BoxId,
        enrolment: &Enrolment,
        kept: &JoinSecret,
    ) -> Result<bool, RegistryError> {
        let db = self.open()?;
        let tree = db.open_tree(TOKENS).map_err(|source| self.storage(source))?;
        // The token goes first: after a crash between the two it is lost, and never usable twice.
        if tree.remove(token.0).map_err(|source| self.storage(source))?.is_none() {
            return Ok(false);
        }
        if let Some(key) = &kept.store_key {
            let tree = db.open_tree(STORE_KEYS).map_err(|source| self.storage(source))?;
            tree.insert(box_id.as_str(), &key[..]).map_err(|source| self.storage(source))?;
        }
        if let (Some(passwords), Some(tpm)) = (&kept.passwords, &enrolment.tpm) {
            let tree = db.open_tree(PASSWORDS).map_err(|source| self.storage(source))?;
            let both = Zeroizing::new([*passwords.owner, *passwords.lockout].concat());
            tree.insert(tpm.endorsement.as_str(), both.as_slice())
                .map_err(|source| self.storage(source))?;
        }
        let bytes = serde_json::to_vec(enrolment).expect("a struct of plain fields is JSON");
        db.insert(box_id.as_str(), bytes).map_err(|source| self.storage(source))?;
        self.flush(&db)?;
        Ok(true)
    }

    fn open(&self) -> Result<OpenRegistry, RegistryError> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        // Passwords are in it.
        let mut folder = std::fs::DirBuilder::new();
        let _ = folder.recursive(true).mode(0o700).create(&self.path);
        match facts::open_in_turn(&self.path) {
            Ok(facts) => {
                facts.set_aside.iter().for_each(|path| tell_set_aside(path));
                Ok(OpenRegistry { db: facts.db, _turn: turn })
            }
            Err(source @ sled::Error::Io(_)) => {
                Err(RegistryError::Locked { path: self.path.clone(), source })
            }
            Err(source) => Err(self.storage(source)),
        }
    }

    fn write(&self, box_id: &BoxId, bytes: Vec<u8>) -> Result<(), RegistryError> {
        let db = self.open()?;
        db.insert(box_id.as_str(), bytes).map_err(|source| self.storage(source))?;
        self.flush(&db)
    }

    fn flush(&self, db: &sled::Db) -> Result<(), RegistryError> {
        facts::flush(db, &self.path).map_err(|source| self.storage(source))
    }

    fn parse(&self, box_id: &str, bytes: &[u8]) -> Result<Enrolment, RegistryError> {
        serde_json::from_slice(bytes).map_err(|_| RegistryError::Damaged {
            path: self.path.clone(),
            box_id: box_id.to_owned(),
        })
    }

    fn storage(&self, source: sled::Error) -> RegistryError {
        RegistryError::Storage { path: self.path.clone(), source }
    }
}

/// The program's log hears of it, or whoever gave a command that keeps none.
fn tell_set_aside(path: &Path) {
    let path = path.display();
    if tracing::dispatcher::has_been_set() {
        tracing::error!(%path, "a damaged file of the registry was set aside and made anew");
    } else {
        eprintln!(
            "guan-space: a damaged file of the registry was set aside as {path} and made anew"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINT: Digest = Digest([7; 32]);

    fn check(
        prepare: impl Fn(&Registry, &BoxId),
        tier: Tier,
        print: Digest,
        expect: Result<(), &str>,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::new(folder.path());
        let box_id = BoxId::parse("box-1").unwrap();
        prepare(&registry, &box_id);
        let verdict = registry.admit(&box_id, tier, print, &[Tier::Unattested]).unwrap();
        let verdict = verdict.map_err(|rejection| rejection.to_string());
        match expect {
            Ok(()) => assert_eq!(verdict, Ok(())),
            Err(part) => assert!(verdict.unwrap_err().contains(part), "expected {part:?}"),
        }
    }

    fn enrol(registry: &Registry, box_id: &BoxId) {
        let enrolment = Enrolment {
            tier: Tier::Unattested.name().to_owned(),
            fingerprint: PRINT.to_string(),
            enrolled_at_s: 0,
            revoked: false,
            tpm: None,
            demand: false,
            retirement: None,
            store_policy: None,
        };
        registry.enrol(box_id, &enrolment).unwrap();
    }

    #[test]
    fn only_enrolled_boxes_are_admitted() {
        let revoked = |registry: &Registry, box_id: &BoxId| {
            enrol(registry, box_id);
            registry.revoke(box_id).unwrap();
        };
        check(enrol, Tier::Unattested, PRINT, Ok(()));
        check(|_, _| {}, Tier::Unattested, PRINT, Err("not enrolled"));
        check(revoked, Tier::Unattested, PRINT, Err("revoked"));
        check(enrol, Tier::Unattested, Digest([8; 32]), Err("certificate"));
        check(enrol, Tier::Hardware, PRINT, Err("accept_tiers"));
    }

    /// More tasks at once than an open database is waited for; none is turned away, and no change is lost.
    #[test]
    fn many_tasks_change_one_record() {
        const TASKS: i64 = 64;
        let folder = tempfile::tempdir().unwrap();
        let (registry, box_id) = (Registry::new(folder.path()), BoxId::parse("box-1").unwrap());
        enrol(&registry, &box_id);
        std::thread::scope(|scope| {
            for _ in 0..TASKS {
                scope.spawn(|| {
                    registry.update(&box_id, |enrolment| enrolment.enrolled_at_s += 1).unwrap();
                });
            }
        });
        assert_eq!(registry.find(&box_id).unwrap().unwrap().enrolled_at_s, TASKS);
    }

    #[test]
    fn an_unknown_box_cannot_be_revoked() {
        let folder = tempfile::tempdir().unwrap();
        let unknown = BoxId::parse("box-2").unwrap();
        let fault = Registry::new(folder.path()).revoke(&unknown).unwrap_err();
        assert!(matches!(fault, RegistryError::Unknown(_)));
    }
}
