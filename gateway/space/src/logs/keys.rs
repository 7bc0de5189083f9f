//! The keys with which the space speaks about logs: its own log's, the witness's and the mirror's. One
//! file each in `keys` in the state folder, made once.

use crate::store::log_origin;
use guan_evidence::{CosignatureKey, VerifierKey};
use guan_identity::{KeyFault, LogKeyFile};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Folder of the keys in `space.state_dir`.
pub const KEYS_DIR: &str = "keys";

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum LogKeysFault {
    #[error("{path} cannot be made: check the folder's rights")]
    Folder { path: PathBuf, source: io::Error },
    #[error(
        "the key of the space's {what} cannot be used; restore it, a new one is another {what}"
    )]
    Key { what: &'static str, source: KeyFault },
    #[error("the space's name makes no name for a key")]
    Name(#[from] guan_evidence::KeyFault),
}

/// The keys, each under its own name.
#[derive(Clone)]
pub struct LogKeys {
    pub log: Arc<LogKeyFile>,
    pub witness: Arc<LogKeyFile>,
    pub mirror: Arc<LogKeyFile>,
}

impl LogKeys {
    /// Reads the keys and makes those that are missing.
    pub fn open_or_create(state_dir: &Path, space: &str) -> Result<Self, LogKeysFault> {
        let folder = state_dir.join(KEYS_DIR);
        let made = guan_spool::create_folder(&folder);
        made.map_err(|source| LogKeysFault::Folder { path: folder.clone(), source })?;
        let key = |what: &'static str| {
            let (path, name) = (path_of(&folder, what), name_of(space, what));
            let key = match path.exists() {
                true => LogKeyFile::load(&path, &name),
                false => {
                    tracing::info!(path = %path.display(), "a key of the space's {what} is made");
                    LogKeyFile::create(&path, &name)
                }
            };
            key.map(Arc::new).map_err(|source| LogKeysFault::Key { what, source })
        };
        Ok(Self { log: key("log")?, witness: key("witness")?, mirror: key("mirror")? })
    }

    /// For tools that look: the keys must be there.
    pub fn open(state_dir: &Path, space: &str) -> Result<Self, LogKeysFault> {
        let folder = state_dir.join(KEYS_DIR);
        let key = |what: &'static str| {
            let key = LogKeyFile::load(&path_of(&folder, what), &name_of(space, what));
            key.map(Arc::new).map_err(|source| LogKeysFault::Key { what, source })
        };
        Ok(Self { log: key("log")?, witness: key("witness")?, mirror: key("mirror")? })
    }

    pub fn verifier(&self) -> Result<VerifierKey, LogKeysFault> {
        Ok(VerifierKey::of(self.log.as_ref())?)
    }

    /// What boxes are told at the beginning of a session.
    pub fn letter(&self) -> Result<String, LogKeysFault> {
        let witness = CosignatureKey::of(self.witness.as_ref())?;
        let mirror = CosignatureKey::of(self.mirror.as_ref())?;
        Ok(format!("log {}\nwitness {witness}\nmirror {mirror}\n", self.verifier()?))
    }
}

fn path_of(folder: &Path, what: &str) -> PathBuf {
    folder.join(format!("{what}.key.pem"))
}

fn name_of(space: &str, what: &str) -> String {
    match what {
        "log" => log_origin(space),
        _ => format!("{space}/{what}"),
    }
}
