//! A key for each contract version: what waits in the spool is enciphered under it, pseudonyms are made
//! with it, and destroying it makes unreadable what was not sent (数据销毁).
//!
//! A key is durable before anything is enciphered under it, and gone from the disk before anybody says
//! so. AES-256-GCM with random nonces; the batch's place is not bound, since the digest in the signed log
//! binds the content.

use guan_model::bytes_io::{Reader, Writer};
use guan_model::{ContractId, Digest};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf;
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a contract's key.
pub const KEY_BYTES: usize = 32;
/// Most keys on a box: as many as contracts, and as many again that end.
pub const KEYS_MAX: usize = 4096;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VaultFault {
    #[error("{path} cannot be used: check the disk and the rights of box.state_dir")]
    File { path: PathBuf, source: io::Error },
    #[error("{path} holds no key; without it what was kept under that contract cannot be read")]
    Damaged { path: PathBuf },
    #[error("{KEYS_MAX} keys of contracts are kept; end contracts that are no longer needed")]
    Full,
    #[error("the system gives no random numbers")]
    Random,
    #[error("the key of contract {contract} was destroyed; what was kept under it cannot be read")]
    Destroyed { contract: Digest },
    #[error("a batch of contract {contract} is not what was kept: the disk changed it")]
    Changed { contract: Digest },
}

type Key = Zeroizing<[u8; KEY_BYTES]>;

/// The keys, shared by the writer and the link's reader.
#[derive(Clone)]
pub struct Vault {
    shared: Arc<Mutex<Keys>>,
}

struct Keys {
    /// `None`: keys live in memory only, for simulations.
    folder: Option<PathBuf>,
    keys: BTreeMap<Digest, (Named, Key)>,
}

/// Whose key it is, for saying so when it is destroyed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub contract: ContractId,
    pub version: u64,
}

impl Vault {
    pub fn open(folder: &Path) -> Result<Self, VaultFault> {
        let failed = |source| VaultFault::File { path: folder.to_path_buf(), source };
        fs::create_dir_all(folder).map_err(failed)?;
        let mut keys = BTreeMap::new();
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let Some(contract) = contract_of(&path) else { continue };
            keys.insert(contract, read_key(&path)?);
        }
        let keys = Keys { folder: Some(folder.to_path_buf()), keys };
        Ok(Self { shared: Arc::new(Mutex::new(keys)) })
    }

    /// For simulations: outlives a crash of the box only if the caller keeps it.
    pub fn in_memory() -> Self {
        let keys = Keys { folder: None, keys: BTreeMap::new() };
        Self { shared: Arc::new(Mutex::new(keys)) }
    }

    fn keys(&self) -> std::sync::MutexGuard<'_, Keys> {
        self.shared.lock().expect("nobody panics while holding it")
    }

    /// Digests of the contracts that have a key.
    pub fn contracts(&self) -> Vec<Digest> {
        self.keys().keys.keys().copied().collect()
    }

    /// Makes a contract's key if it has none; it is durable when this returns.
    pub fn provide(&self, contract: &Digest, named: &Named) -> Result<(), VaultFault> {
        let mut keys = self.keys();
        if keys.keys.contains_key(contract) {
            return Ok(());
        }
        if keys.keys.len() >= KEYS_MAX {
            return Err(VaultFault::Full);
        }
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        SystemRandom::new().fill(&mut key[..]).map_err(|_| VaultFault::Random)?;
        if let Some(folder) = &keys.folder {
            let path = path_of(folder, contract);
            write_key(folder, &path, named, &key)
                .map_err(|source| VaultFault::File { path, source })?;
        }
        keys.keys.insert(*contract, (named.clone(), key));
        Ok(())
    }

    /// Destroys a contract's key for good, and says whose it was. `None`: there was none.
    pub fn destroy(&self, contract: &Digest) -> Result<Option<Named>, VaultFault> {
        let mut keys = self.keys();
        if !keys.keys.contains_key(contract) {
            return Ok(None);
        }
        if let Some(folder) = &keys.folder {
            let path = path_of(folder, contract);
            erase(folder, &path).map_err(|source| VaultFault::File { path, source })?;
        }
        let removed = keys.keys.remove(contract);
        Ok(removed.map(|(named, mut key)| {
            key.zeroize();
            named
        }))
    }

    /// Enciphers a batch.
    pub fn seal(&self, contract: &Digest, batch: &[u8]) -> Result<Vec<u8>, VaultFault> {
        let key = self.cipher(contract)?;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| VaultFault::Random)?;
        let mut sealed = nonce.to_vec();
        let mut body = batch.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(nonce, Aad::from(contract.0), &mut body)
            .expect("a batch is shorter than 64 GB");
        sealed.append(&mut body);
        Ok(sealed)
    }

    /// The batch that was enciphered.
    pub fn open_batch(&self, contract: &Digest, sealed: &[u8]) -> Result<Vec<u8>, VaultFault> {
        let changed = || VaultFault::Changed { contract: *contract };
        let key = self.cipher(contract)?;
        let (nonce, body) = sealed.split_at_checked(NONCE_LEN).ok_or_else(changed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| changed())?;
        let mut body = body.to_vec();
        let opened = key.open_in_place(nonce, Aad::from(contract.0), &mut body);
        let length = opened.map_err(|_| changed())?.len();
        body.truncate(length);
        Ok(body)
    }

    /// The key for pseudonyms under a contract.
    pub fn pseudonym_key(&self, contract: &Digest) -> Option<[u8; KEY_BYTES]> {
        let keys = self.keys();
        keys.keys.get(contract).map(|(_, key)| *derive(key, b"guankou pseudonyms 1"))
    }

    fn cipher(&self, contract: &Digest) -> Result<LessSafeKey, VaultFault> {
        let keys = self.keys();
        let key = keys.keys.get(contract);
        let key = key.ok_or(VaultFault::Destroyed { contract: *contract })?;
        let key = derive(&key.1, b"guankou spool 1");
        let key = UnboundKey::new(&AES_256_GCM, &key[..]).expect("the key is as long as AES wants");
        Ok(LessSafeKey::new(key))
    }
}

/// HKDF (RFC 5869): one key for each use.
fn derive(key: &Key, purpose: &[u8]) -> Key {
    let mut out = Zeroizing::new([0; KEY_BYTES]);
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]);
    let info = [purpose];
    let derived = salt.extract(&key[..]);
    let okm = derived.expand(&info, hkdf::HKDF_SHA256).expect("32 bytes are few");
    okm.fill(&mut out[..]).expect("SHA-256 gives 32 bytes");
    out
}

fn path_of(folder: &Path, contract: &Digest) -> PathBuf {
    folder.join(format!("{}.key", hex::encode(contract.0)))
}

fn contract_of(path: &Path) -> Option<Digest> {
    let name = path.file_name()?.to_str()?.strip_suffix(".key")?;
    let bytes = hex::decode(name).ok()?;
    Some(Digest(bytes.try_into().ok()?))
}

fn read_key(path: &Path) -> Result<(Named, Key), VaultFault> {
    let failed = |source| VaultFault::File { path: path.to_path_buf(), source };
    let bytes = Zeroizing::new(fs::read(path).map_err(failed)?);
    parse_key(&bytes).ok_or_else(|| VaultFault::Damaged { path: path.to_path_buf() })
}

/// The key, then the version and the id of its contract.
fn parse_key(bytes: &[u8]) -> Option<(Named, Key)> {
    let mut reader = Reader::new(bytes);
    let key: [u8; KEY_BYTES] = reader.raw(KEY_BYTES).ok()?.try_into().ok()?;
    let version = reader.varint().ok()?;
    let contract = ContractId::parse(reader.text().ok()?).ok()?;
    reader.end().ok()?;
    Some((Named { contract, version }, Zeroizing::new(key)))
}

fn write_key(folder: &Path, path: &Path, named: &Named, key: &Key) -> io::Result<()> {
    let mut rest = Writer::new();
    rest.varint(named.version);
    rest.text(named.contract.as_str());
    let new = path.with_extension("new");
    let mut options = File::options();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&key[..])?;
    file.write_all(&rest.finish())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(folder)?.sync_all()
}

/// Overwrites before it unlinks; on flash the overwriting may miss the old cells, the unlinking is what
/// counts there.
fn erase(folder: &Path, path: &Path) -> io::Result<()> {
    let mut file = File::options().write(true).open(path)?;
    file.write_all(&[0; KEY_BYTES])?;
    file.sync_all()?;
    fs::remove_file(path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named() -> Named {
        Named { contract: ContractId::parse("C-1").unwrap(), version: 300 }
    }

    #[test]
    fn destroyed_keys_open_nothing_even_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (Digest([1; 32]), Digest([2; 32]));
        let vault = Vault::open(folder.path()).unwrap();
        vault.provide(&one, &named()).unwrap();
        vault.provide(&two, &named()).unwrap();
        let sealed = vault.seal(&one, b"the batch").unwrap();
        assert!(!sealed.windows(9).any(|window| window == b"the batch"));
        let vault = Vault::open(folder.path()).unwrap();
        assert_eq!(vault.open_batch(&one, &sealed).unwrap(), b"the batch");
        assert!(matches!(vault.open_batch(&two, &sealed), Err(VaultFault::Changed { .. })));
        let pseudonyms = vault.pseudonym_key(&one);
        assert!(pseudonyms.is_some() && pseudonyms != vault.pseudonym_key(&two));
        assert_eq!(vault.destroy(&one).unwrap(), Some(named()));
        assert_eq!(vault.destroy(&one).unwrap(), None);
        for vault in [vault, Vault::open(folder.path()).unwrap()] {
            let fault = vault.open_batch(&one, &sealed);
            assert!(matches!(fault, Err(VaultFault::Destroyed { .. })));
            assert_eq!(vault.contracts(), [two]);
        }
    }

    #[test]
    fn damage_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::open(folder.path()).unwrap();
        let one = Digest([1; 32]);
        vault.provide(&one, &named()).unwrap();
        let sealed = vault.seal(&one, b"x").unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(vault.open_batch(&one, &changed).is_err());
            assert!(vault.open_batch(&one, &sealed[..at]).is_err());
        }
        fs::write(path_of(folder.path(), &one), b"short").unwrap();
        assert!(matches!(Vault::open(folder.path()), Err(VaultFault::Damaged { .. })));
    }
}
