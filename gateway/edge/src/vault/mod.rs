//! A key for each contract version: what waits in the spool is enciphered under it, pseudonyms are made
//! with it, and destroying it makes unreadable what was not sent (数据销毁).
//!
//! All keys lie in one file under a root. Destroying some writes the others under a new root and overwrites the
//! old one, so that no copy of the file, however old, opens any more. A key is durable before anything is
//! enciphered under it, and its root is gone before anybody says so. AES-256-GCM with random nonces; the
//! batch's place is not bound, since the digest in the signed log binds the content.
//!
//! Crashes: both files are whole at every moment, and the one that the root opens counts.

mod file;
mod root;

pub use root::{FileRoot, Root, RootFault, RootKey, TpmRoot};

use file::{FILE_BYTES_MAX, KeyMap, StoreKey, derive};
use guan_model::bytes_io::Reader;
use guan_model::{ContractId, Digest};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use zeroize::Zeroizing;

/// Bytes of a contract's key.
pub const KEY_BYTES: usize = 32;
/// Most keys on a box: as many as contracts, and as many again that end.
pub const KEYS_MAX: usize = 4096;

const KEYS_FILE: &str = "contracts";
/// Under the root that is about to be.
const NEXT_FILE: &str = "contracts.next";
const ROOT_FILE: &str = "root";

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VaultFault {
    #[error("{path} cannot be used: check the disk and the rights of box.state_dir")]
    File { path: PathBuf, source: io::Error },
    #[error(
        "{path} does not open: it is damaged, or was brought back from a copy after keys in it were \
         destroyed. With it moved away, what waits in the spool is shredded and the box goes on"
    )]
    Damaged { path: PathBuf },
    #[error("{KEYS_MAX} keys of contracts are kept; end contracts that are no longer needed")]
    Full,
    #[error("the system gives no random numbers")]
    Random,
    #[error("the root of the contracts' keys cannot be used")]
    Root(#[from] RootFault),
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
    keys: KeyMap,
    /// `None`: keys live in memory only, for simulations.
    place: Option<Place>,
}

/// Where the keys are durable.
struct Place {
    folder: PathBuf,
    store_key: Option<StoreKey>,
    root: Box<dyn Root>,
    current: RootKey,
    /// A root that may be in force by now, and the keys that are to go with the old one.
    pending: Option<(RootKey, BTreeSet<Digest>)>,
}

/// Whose key it is, for saying so when it is destroyed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub contract: ContractId,
    pub version: u64,
}

impl Vault {
    /// Root and keys in files.
    pub fn open(folder: &Path) -> Result<Self, VaultFault> {
        Self::open_with(folder, Box::new(FileRoot::new(folder.join(ROOT_FILE))), None)
    }

    /// Opens under a root of the TPM and the key of the store. What an earlier release, or a box that was not
    /// sealed yet, kept in plain files is taken over.
    pub fn open_sealed(
        folder: &Path,
        root: Box<dyn Root>,
        store_key: StoreKey,
    ) -> Result<Self, VaultFault> {
        let plain = FileRoot::new(folder.join(ROOT_FILE));
        let vault = Self::open_with(folder, root, Some(store_key))?;
        plain.erase()?;
        Ok(vault)
    }

    fn open_with(
        folder: &Path,
        mut root: Box<dyn Root>,
        store_key: Option<StoreKey>,
    ) -> Result<Self, VaultFault> {
        let failed = |source| VaultFault::File { path: folder.to_path_buf(), source };
        guan_spool::create_folder(folder).map_err(failed)?;
        let found = root.read()?;
        let kept = match &found {
            Some(root) => Some(read_keys(folder, root, store_key.as_ref())?),
            None => None,
        };
        let (keys, is_moved) = match kept {
            Some(keys) => (keys, false),
            None => (read_plain(folder)?, true),
        };
        let (old, keys) = with_files_of_old(folder, keys)?;
        // A box that never had a key gets its root now, while the TPM certainly answers.
        let current = match &found {
            Some(root) => root.clone(),
            None => root::fresh()?,
        };
        let mut place =
            Place { folder: folder.to_path_buf(), store_key, root, current, pending: None };
        if is_moved {
            place.write(NEXT_FILE, &keys, &place.current.clone())?;
            place.root.write(&place.current)?;
            place.settle()?;
        } else if !old.is_empty() {
            place.store(&keys)?;
        }
        for path in old {
            root::erase(&path).map_err(|source| VaultFault::File { path, source })?;
        }
        let keys = Keys { keys, place: Some(place) };
        Ok(Self { shared: Arc::new(Mutex::new(keys)) })
    }

    /// For simulations: outlives a crash of the box only if the caller keeps it.
    pub fn in_memory() -> Self {
        let keys = Keys { keys: BTreeMap::new(), place: None };
        Self { shared: Arc::new(Mutex::new(keys)) }
    }

    fn keys(&self) -> std::sync::MutexGuard<'_, Keys> {
        self.shared.lock().expect("nobody panics while holding it")
    }

    /// Digests of the contracts that have a key.
    pub fn contracts(&self) -> Vec<Digest> {
        self.keys().keys.keys().copied().collect()
    }

    /// What a contract that has a key is called.
    pub fn name_of(&self, contract: &Digest) -> Option<Named> {
        self.keys().keys.get(contract).map(|(named, _)| named.clone())
    }

    pub fn has(&self, contract: &Digest) -> bool {
        self.keys().keys.contains_key(contract)
    }

    /// Makes keys for those contracts that have none; they are durable when this returns.
    pub fn provide(
        &self,
        contracts: impl Iterator<Item = (Digest, Named)>,
    ) -> Result<(), VaultFault> {
        let mut keys = self.keys();
        let mut all = keys.keys.clone();
        for (digest, named) in contracts.filter(|(digest, _)| !keys.keys.contains_key(digest)) {
            if all.len() >= KEYS_MAX {
                return Err(VaultFault::Full);
            }
            let mut key = Zeroizing::new([0; KEY_BYTES]);
            SystemRandom::new().fill(&mut key[..]).map_err(|_| VaultFault::Random)?;
            all.insert(digest, (named, key));
        }
        if all.len() > keys.keys.len() {
            if let Some(place) = &mut keys.place {
                place.store(&all)?;
            }
            keys.keys = all;
        }
        Ok(())
    }

    /// Destroys keys for good, and says whose they were. After an error of the root all are still there, and a
    /// later call makes good.
    pub fn destroy(&self, contracts: &[Digest]) -> Result<Vec<(Digest, Named)>, VaultFault> {
        let mut keys = self.keys();
        let doomed: BTreeSet<Digest> =
            contracts.iter().filter(|digest| keys.keys.contains_key(digest)).copied().collect();
        if doomed.is_empty() {
            return Ok(Vec::new());
        }
        let Keys { keys, place } = &mut *keys;
        let doomed = match place {
            Some(place) => place.rotate(keys, doomed)?,
            None => doomed,
        };
        let gone = doomed.into_iter().filter_map(|digest| Some((digest, keys.remove(&digest)?.0)));
        Ok(gone.collect())
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
        keys.keys.get(contract).map(|(_, key)| *derive(&key[..], &[], b"guankou pseudonyms 1"))
    }

    fn cipher(&self, contract: &Digest) -> Result<LessSafeKey, VaultFault> {
        let keys = self.keys();
        let key = keys.keys.get(contract);
        let key = key.ok_or(VaultFault::Destroyed { contract: *contract })?;
        let key = derive(&key.1[..], &[], b"guankou spool 1");
        let key = UnboundKey::new(&AES_256_GCM, &key[..]).expect("the key is as long as AES wants");
        Ok(LessSafeKey::new(key))
    }
}

impl Place {
    /// Makes all keys durable, whichever root is found at the next start.
    fn store(&mut self, keys: &KeyMap) -> Result<(), VaultFault> {
        if let Some((root, doomed)) = &self.pending {
            self.write(NEXT_FILE, &without(keys, doomed), root)?;
        }
        self.write(KEYS_FILE, keys, &self.current)
    }

    /// Brings all but the doomed under a new root, and gives back what went with the old one.
    fn rotate(
        &mut self,
        keys: &KeyMap,
        mut doomed: BTreeSet<Digest>,
    ) -> Result<BTreeSet<Digest>, VaultFault> {
        // A root that was given to a TPM which did not answer may arrive late: it must stay the same.
        let root = match self.pending.take() {
            Some((root, earlier)) => {
                doomed.extend(earlier);
                root
            }
            None => root::fresh()?,
        };
        self.pending = Some((root.clone(), doomed.clone()));
        self.write(NEXT_FILE, &without(keys, &doomed), &root)?;
        self.root.write(&root)?;
        (self.current, self.pending) = (root, None);
        self.settle()?;
        Ok(doomed)
    }

    fn write(&self, name: &str, keys: &KeyMap, root: &RootKey) -> Result<(), VaultFault> {
        let path = self.folder.join(name);
        let bytes = file::encode(keys, root, self.store_key.as_ref()).ok_or(VaultFault::Random)?;
        root::replace(&path, &bytes).map_err(|source| VaultFault::File { path, source })
    }

    /// The file under the new root takes its place.
    fn settle(&self) -> Result<(), VaultFault> {
        settle(&self.folder)
    }
}

fn settle(folder: &Path) -> Result<(), VaultFault> {
    let (from, to) = (folder.join(NEXT_FILE), folder.join(KEYS_FILE));
    root::rename(&from, &to).map_err(|source| VaultFault::File { path: to, source })
}

fn without(keys: &KeyMap, doomed: &BTreeSet<Digest>) -> KeyMap {
    let left = keys.iter().filter(|(digest, _)| !doomed.contains(digest));
    left.map(|(digest, kept)| (*digest, kept.clone())).collect()
}

/// The keys that this root opens. None lie there before the first.
fn read_keys(
    folder: &Path,
    root: &RootKey,
    store_key: Option<&StoreKey>,
) -> Result<KeyMap, VaultFault> {
    let mut is_there = false;
    // Both open only when the rename after a destruction failed, and then the next file is the older one.
    for name in [KEYS_FILE, NEXT_FILE] {
        let Some(bytes) = read(&folder.join(name))? else { continue };
        is_there = true;
        let Some(keys) = file::decode(&bytes, root, store_key) else { continue };
        if name == NEXT_FILE {
            settle(folder)?;
        }
        return Ok(keys);
    }
    match is_there {
        true => Err(VaultFault::Damaged { path: folder.join(KEYS_FILE) }),
        false => Ok(KeyMap::new()),
    }
}

/// The keys of a box that had no root yet, or that a cleared TPM has taken with it.
fn read_plain(folder: &Path) -> Result<KeyMap, VaultFault> {
    if let Some(root) = FileRoot::new(folder.join(ROOT_FILE)).read()? {
        return read_keys(folder, &root, None);
    }
    if folder.join(KEYS_FILE).exists() {
        tracing::error!(
            "the TPM was cleared, and the keys of contracts with it: what waits in the spool is shredded"
        );
    }
    Ok(KeyMap::new())
}

/// Earlier releases had a file for each key: the key, then version and id of its contract.
fn with_files_of_old(
    folder: &Path,
    mut keys: KeyMap,
) -> Result<(Vec<PathBuf>, KeyMap), VaultFault> {
    let failed = |source| VaultFault::File { path: folder.to_path_buf(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".key"));
        let Some(digest) = name.and_then(|name| hex::decode(name).ok()?.try_into().ok()) else {
            continue;
        };
        let bytes = Zeroizing::new(read(&path)?.unwrap_or_default());
        let kept = parse_old(&bytes).ok_or_else(|| VaultFault::Damaged { path: path.clone() })?;
        keys.entry(Digest(digest)).or_insert(kept);
        paths.push(path);
    }
    Ok((paths, keys))
}

fn parse_old(bytes: &[u8]) -> Option<(Named, Key)> {
    let mut reader = Reader::new(bytes);
    let key: [u8; KEY_BYTES] = reader.raw(KEY_BYTES).ok()?.try_into().ok()?;
    let version = reader.varint().ok()?;
    let contract = ContractId::parse(reader.text().ok()?).ok()?;
    reader.end().ok()?;
    Some((Named { contract, version }, Zeroizing::new(key)))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, VaultFault> {
    let failed = |source| VaultFault::File { path: path.to_path_buf(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(fault) => return Err(failed(fault)),
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    match bytes.len() as u64 > FILE_BYTES_MAX {
        true => Err(VaultFault::Damaged { path: path.to_path_buf() }),
        false => Ok(Some(bytes)),
    }
}

#[cfg(test)]
mod tests;
