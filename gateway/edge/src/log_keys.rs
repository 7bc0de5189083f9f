//! The keys of the box's log on its disk: the one that signs, one that waits for its turn, and all of before by
//! their public halves.
//!
//! | file | holds |
//! |---|---|
//! | `identity.log_key_file` | the key that signs |
//! | the same with `.next.pem` | a new one, from before the entry that names it until it signs |
//! | `log-keys` in `box.state_dir` | the lineage: the first key and each entry that handed over |
//!
//! Order, so that a power cut at any point leaves a key that the log names: the new key durable, the entry durable,
//! the lineage durable, the new key in the place of the old. A start goes on from wherever that ended.

use crate::sealing::{self, SealFault, StoreKey};
use guan_configs::EdgeConfig;
use guan_evidence::{LINEAGE_BYTES_MAX, Leaf, LeafBody, Lineage, LineageFault, VerifierKey};
use guan_identity::LogKeyFile;
use guan_identity::tpm::Tpm;
use guan_log::{LogFileFault, LogReader, Piece};
use guan_model::{PublicKey, Signer};
use guan_spool::Disk;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// In `box.state_dir`.
pub const LINEAGE_FILE: &str = "log-keys";

/// Why the keys of the log do not go together.
#[derive(Debug, thiserror::Error)]
pub enum LogKeysFault {
    #[error("{path} cannot be read or written: check rights and disk")]
    File { path: PathBuf, source: io::Error },
    #[error(
        "{path} does not hold: restore it from a copy; the log goes on only after the keys in it"
    )]
    Lineage { path: PathBuf, source: LineageFault },
    #[error(
        "the key {key} of the log is not the one that it was handed over to ({newest}, see {LINEAGE_FILE}): \
         bring back the key's file"
    )]
    OtherKey { key: String, newest: String },
    #[error("a new key of the log waits, and the log cannot be read to see whether it was named")]
    Log(#[from] LogFileFault),
    #[error(transparent)]
    Key(#[from] SealFault),
}

/// The key that signs, and those before it.
#[derive(Debug, Clone)]
pub struct LogKeys {
    pub signer: Arc<LogKeyFile>,
    pub lineage: Lineage,
}

/// Where a key waits.
pub fn next_file(log_key_file: &Path) -> PathBuf {
    log_key_file.with_extension("next.pem")
}

fn public(key: &LogKeyFile) -> VerifierKey {
    VerifierKey::of(key).expect("the log's key is of Ed25519 and has the log's name")
}

/// The lineage on the disk; of a box that has had one key it is that key.
pub fn lineage(state_dir: &Path, newest: &VerifierKey) -> Result<Lineage, LogKeysFault> {
    let path = state_dir.join(LINEAGE_FILE);
    let is_short = fs::metadata(&path).map(|file| file.len() <= LINEAGE_BYTES_MAX as u64);
    let text = match is_short {
        Ok(true) => fs::read_to_string(&path),
        Ok(false) => Err(io::Error::other(format!("it is longer than {LINEAGE_BYTES_MAX} bytes"))),
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => {
            return Ok(Lineage::new(newest.clone()));
        }
        Err(fault) => Err(fault),
    };
    let text = text.map_err(|source| LogKeysFault::File { path: path.clone(), source })?;
    Lineage::parse(&text).map_err(|source| LogKeysFault::Lineage { path, source })
}

/// Durable when this returns.
pub fn keep(state_dir: &Path, lineage: &Lineage) -> Result<(), LogKeysFault> {
    let path = state_dir.join(LINEAGE_FILE);
    let kept = crate::upkeep::replace(&path, lineage.to_string());
    kept.map_err(|source| LogKeysFault::File { path, source })
}

/// The keys at a start. `log` reads what is on the disk; it is asked only when a key waits.
pub fn open<D: Disk>(
    config: &EdgeConfig,
    key: LogKeyFile,
    store_key: Option<&StoreKey>,
    log: impl FnOnce() -> Result<LogReader<D>, LogFileFault>,
) -> Result<LogKeys, LogKeysFault> {
    let next_path = next_file(&config.identity.log_key_file);
    let mut lineage = lineage(&config.state_dir, &public(&key))?;
    let mut key = key;
    if let Some(next) = sealing::next_key(config, store_key, &next_path)? {
        let is_kept = lineage.newest().key_bytes() == public(&next).key_bytes();
        let named = match is_kept {
            true => Named::default(),
            false => named(&log()?, &config.evidence.origin, &next)?,
        };
        if let Some((origin, leaf)) = &named.by {
            extend(&config.state_dir, &mut lineage, origin, leaf)?;
        }
        if is_kept || named.by.is_some() {
            sealing::install_key(config, &next_path, &public(&next))?;
            key = next;
        } else if named.is_whole {
            // No entry names it: it never signed anything. Where entries are damaged it stays, for who repairs them.
            let removed = fs::remove_file(&next_path);
            removed.map_err(|source| LogKeysFault::File { path: next_path, source })?;
        }
    }
    if lineage.newest().key_bytes() != public(&key).key_bytes() {
        let (key, newest) = (public(&key).to_string(), lineage.newest().to_string());
        return Err(LogKeysFault::OtherKey { key, newest });
    }
    sealing::show_public(config, &public(&key))?;
    Ok(LogKeys { signer: Arc::new(key), lineage })
}

fn extend(
    state_dir: &Path,
    lineage: &mut Lineage,
    origin: &str,
    leaf: &[u8],
) -> Result<(), LogKeysFault> {
    if let Err(source) = lineage.extend(origin, leaf) {
        let path = state_dir.join(LINEAGE_FILE);
        return Err(LogKeysFault::Lineage { path, source });
    }
    keep(state_dir, lineage)
}

/// What the newest log says of a key.
#[derive(Default)]
struct Named {
    /// Name of the log, and the entry that names the key.
    by: Option<(String, Vec<u8>)>,
    /// All entries could be read.
    is_whole: bool,
}

/// The entry that names a key. Damage elsewhere must not keep the box from starting.
fn named<D: Disk>(
    log: &LogReader<D>,
    base: &str,
    next: &LogKeyFile,
) -> Result<Named, LogFileFault> {
    let mut named = Named { by: None, is_whole: true };
    let PublicKey::Ed25519(wanted) = next.public_key() else { return Ok(named) };
    log.for_each_piece(&mut |piece| match piece {
        Piece::Leaf(_, bytes) => {
            if let Ok(Leaf { body: LeafBody::KeyRollover(rollover), .. }) = Leaf::decode(bytes)
                && rollover.key == wanted
            {
                named.by = Some((log.epoch().origin(base), bytes.to_vec()));
            }
        }
        Piece::Damaged { .. } => named.is_whole = false,
    })?;
    Ok(named)
}

/// What is left to do once the entry is durable.
pub fn settle(
    config: &EdgeConfig,
    lineage: &Lineage,
    next: &LogKeyFile,
) -> Result<(), LogKeysFault> {
    keep(&config.state_dir, lineage)?;
    let path = next_file(&config.identity.log_key_file);
    Ok(sealing::install_key(config, &path, &public(next))?)
}

/// A key that waits from now on.
pub fn make_next(config: &EdgeConfig, tpm: Option<&Tpm>) -> Result<LogKeyFile, LogKeysFault> {
    let path = next_file(&config.identity.log_key_file);
    Ok(sealing::make_next_key(config, tpm, &path)?)
}

#[cfg(test)]
mod tests;
