//! What a key of the retention is for, and how it lies on the disk.
//!
//! Two forms are read. The first release named a key by its contract and hour and kept nothing else; keys of
//! version 2 have a random name, and what their contract asked stands beside them, so that a later
//! version of the contract changes nothing about what has come.

use super::RetentionFault;
use guan_model::{BoxId, ContractId, Digest, WallTime};
use guan_policy::Contract;
use guan_policy::duty::Duty;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

pub(super) const KEY_BYTES: usize = 32;
pub(super) const ID_BYTES: usize = 16;
/// Data that came in so many seconds has one key.
pub(super) const SLICE_S: i64 = 3600;
/// The same for data that is deleted soon.
const SHORT_SLICE_S: i64 = 60;
const SOON: Duration = Duration::from_secs(2 * 86_400);
/// First line of a key file of version 2; then the key, then JSON.
const MAGIC: &[u8] = b"guan-retention-key/2\n";
/// Longest key file: names of boxes and contracts are short.
const FILE_BYTES_MAX: u64 = 4096;
const SUFFIX: &str = ".key";

pub(super) type Key = Zeroizing<[u8; KEY_BYTES]>;

/// How long a contract wants its data kept, and when deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deletion {
    pub(super) after: Option<Duration>,
    pub(super) by: Option<WallTime>,
    /// Not before so much time has passed since it came, whatever else is said.
    pub(super) keep: Option<Duration>,
}

impl Deletion {
    /// The earliest deletion that the contract's duties ask for; `None`: they ask for none.
    pub fn of(contract: &Contract) -> Option<Self> {
        let mut deletion = Self::default();
        for duty in contract.duties_of_use() {
            let one = match duty {
                Duty::DeleteAfter(after) => Self { after: Some(*after), ..Self::default() },
                Duty::DeleteBy(by) => Self { by: Some(*by), ..Self::default() },
                Duty::Retain(keep) => Self { keep: Some(*keep), ..Self::default() },
                _ => continue,
            };
            deletion = deletion.and(one);
        }
        (deletion.after.is_some() || deletion.by.is_some()).then_some(deletion)
    }

    /// Both at once: the earliest deletion, the longest keeping.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            after: self.after.into_iter().chain(other.after).min(),
            by: self.by.into_iter().chain(other.by).min(),
            keep: self.keep.into_iter().chain(other.keep).max(),
        }
    }

    /// From when to when the slice lasts that a moment belongs to, in seconds.
    pub(super) fn slice_of(&self, at: WallTime) -> (i64, i64) {
        let is_soon = self.after.is_some_and(|after| after < SOON);
        let slice_s = if is_soon { SHORT_SLICE_S } else { SLICE_S };
        let began_s = at.0.div_euclid(1_000_000_000 * slice_s) * slice_s;
        (began_s, began_s.saturating_add(slice_s))
    }

    /// When a slice is deleted: counted from its begin, so never late, but kept counted from its end.
    pub(super) fn due_s(&self, (began_s, ends_s): (i64, i64)) -> i64 {
        let later = |from_s: i64, span: Duration| {
            from_s.saturating_add(i64::try_from(span.as_secs()).unwrap_or(i64::MAX))
        };
        let after = self.after.map(|after| later(began_s, after));
        let by = self.by.map(|by| by.0.div_euclid(1_000_000_000));
        let due_s = after.into_iter().chain(by).min().unwrap_or(i64::MAX);
        let whole = |keep: Duration| keep.saturating_add(Duration::from_nanos(999_999_999));
        self.keep.map_or(due_s, |keep| due_s.max(later(ends_s, whole(keep))))
    }
}

/// What the contract asked about data when it came. One key for all that is alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bound {
    #[serde(rename = "box")]
    pub(super) box_id: String,
    pub(super) contract: String,
    /// Of the version that was in force.
    pub(super) contract_digest: String,
    pub(super) received_from_s: i64,
    pub(super) received_until_s: i64,
    pub(super) due_s: i64,
}

impl Bound {
    pub(super) fn new(
        (box_id, contract): (&BoxId, &ContractId),
        digest: &Digest,
        deletion: &Deletion,
        at: WallTime,
    ) -> Self {
        let slice = deletion.slice_of(at);
        Self {
            box_id: box_id.to_string(),
            contract: contract.to_string(),
            contract_digest: digest.to_string(),
            received_from_s: slice.0,
            received_until_s: slice.1,
            due_s: deletion.due_s(slice),
        }
    }
}

/// What a key is called, in its file's name and before the batches under it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum KeyName {
    /// Of the first release: a contract and the second at which a slice of its data began.
    Slice(ContractId, i64),
    Random([u8; ID_BYTES]),
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slice(contract, began_s) => write!(f, "{began_s}.{contract}"),
            Self::Random(id) => f.write_str(&hex::encode(id)),
        }
    }
}

impl KeyName {
    pub(super) fn random() -> Result<Self, RetentionFault> {
        let mut id = [0; ID_BYTES];
        SystemRandom::new().fill(&mut id).map_err(|_| RetentionFault::Random)?;
        Ok(Self::Random(id))
    }

    /// The key whose file, or whose order of deletion, has this path.
    pub(super) fn of(path: &Path, suffix: &str) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(suffix)?;
        match name.split_once('.') {
            Some((began_s, contract)) => {
                Some(Self::Slice(ContractId::parse(contract).ok()?, began_s.parse().ok()?))
            }
            None => Some(Self::Random(hex::decode(name).ok()?.try_into().ok()?)),
        }
    }

    fn path(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{self}{SUFFIX}"))
    }
}

/// A key, and what it is for; a key of the first release does not say.
pub(super) struct Held {
    pub(super) bound: Option<Arc<Bound>>,
    pub(super) key: Key,
}

/// Reads a key file; `None`: it is none.
pub(super) fn read(path: &Path) -> Result<Option<(KeyName, Held)>, RetentionFault> {
    let Some(name) = KeyName::of(path, SUFFIX) else { return Ok(None) };
    let failed = |source| RetentionFault::File { path: path.to_path_buf(), source };
    let damaged = || RetentionFault::Damaged { path: path.to_path_buf() };
    let mut bytes = Zeroizing::new(Vec::with_capacity(512));
    match File::open(path) {
        Ok(file) => file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?,
        // The daemon has deleted it since the folder was listed.
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(fault) => return Err(failed(fault)),
    };
    let (key, bound) = match name {
        KeyName::Slice(..) => (&bytes[..], None),
        KeyName::Random(_) => {
            let body = bytes.strip_prefix(MAGIC).ok_or_else(damaged)?;
            let (key, bound) = body.split_at_checked(KEY_BYTES).ok_or_else(damaged)?;
            (key, Some(Arc::new(serde_json::from_slice(bound).map_err(|_| damaged())?)))
        }
    };
    let key: [u8; KEY_BYTES] = key.try_into().map_err(|_| damaged())?;
    Ok(Some((name, Held { bound, key: Zeroizing::new(key) })))
}

/// Makes a key, durable when this returns.
pub(super) fn create(folder: &Path, bound: &Arc<Bound>) -> Result<(KeyName, Held), RetentionFault> {
    let name = KeyName::random()?;
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    SystemRandom::new().fill(&mut key[..]).map_err(|_| RetentionFault::Random)?;
    let json = serde_json::to_vec(&**bound).expect("a struct of plain fields is JSON");
    let bytes = Zeroizing::new([MAGIC, &key[..], &json].concat());
    let path = name.path(folder);
    place(folder, &path, &bytes).map_err(|source| RetentionFault::File { path, source })?;
    Ok((name, Held { bound: Some(bound.clone()), key }))
}

/// Writes a file that others see whole or not at all, and that only its owner may read.
pub(super) fn place(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut options = File::options();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    File::open(folder)?.sync_all()
}

/// Destroys a key; one that is gone already is no fault.
pub(super) fn erase(folder: &Path, name: &KeyName) -> Result<(), RetentionFault> {
    let path = name.path(folder);
    let erased = || -> io::Result<()> {
        let mut file = match File::options().write(true).open(&path) {
            Ok(file) => file,
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(fault) => return Err(fault),
        };
        if let KeyName::Random(_) = name {
            // The file stays one that can be read, should the power go in the middle.
            file.seek(SeekFrom::Start(MAGIC.len() as u64))?;
        }
        file.write_all(&[0; KEY_BYTES])?;
        file.sync_all()?;
        fs::remove_file(&path)?;
        File::open(folder)?.sync_all()
    };
    erased().map_err(|source| RetentionFault::File { path: path.clone(), source })
}
