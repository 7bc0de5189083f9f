//! The key of the log under a key that the TPM gives out to signed firmware only.

use guan_configs::EdgeConfig;
use guan_configs::edge::SealConfig;
use guan_evidence::VerifierKey;
use guan_identity::attest::{STORE_POLICY_BYTES_MAX, StorePolicy};
use guan_identity::tpm::{SEALED_BYTES, Tpm, TpmFault};
use guan_identity::{KeyFault, LogKeyFile, decode_public_p256};
use guan_model::PublicKey;
use ring::rand::{SecureRandom, SystemRandom};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Most policies that are read.
const POLICIES_MAX: usize = 64;
/// Policy that the space sent, in `identity.store_policies`.
const SENT_FILE: &str = "from-space.json";

/// What the TPM gives out.
pub type StoreKey = Zeroizing<[u8; SEALED_BYTES]>;

/// Why the log's key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SealFault {
    #[error("{path} cannot be used: check that it is there, and its rights")]
    File { path: PathBuf, source: io::Error },
    #[error("{path} holds no public key of P-256 in PEM")]
    Key { path: PathBuf },
    #[error(transparent)]
    Tpm(#[from] TpmFault),
    #[error(transparent)]
    LogKey(#[from] KeyFault),
    #[error(
        "the store was sealed by a TPM that was cleared or exchanged since: `guan tpm restore-store` with the \
         store key of `guan-space box passwords` seals it to this one"
    )]
    Foreign,
    #[error("identity.store_policies is not set: nothing is sealed on this box")]
    NotConfigured,
    #[error("identity.store_policies needs a TPM")]
    NoTpm,
    #[error("the system gives no random numbers")]
    Random,
}

impl SealFault {
    /// Whether another policy would help: the box stays reachable for one.
    pub fn is_shut(&self) -> bool {
        let Self::Tpm(fault) = self else { return false };
        matches!(fault, TpmFault::Firmware { .. } | TpmFault::OldRelease | TpmFault::NoPolicy)
    }
}

fn read(path: &Path) -> Result<String, SealFault> {
    fs::read_to_string(path).map_err(|source| SealFault::File { path: path.to_path_buf(), source })
}

fn release_key(seal: &SealConfig) -> Result<PublicKey, SealFault> {
    let path = &seal.key_file;
    decode_public_p256(&read(path)?).ok_or_else(|| SealFault::Key { path: path.clone() })
}

/// Those whose signature holds; the others are told of and left out.
fn policies(seal: &SealConfig, key: &PublicKey) -> Vec<StorePolicy> {
    let files = fs::read_dir(&seal.policies_dir).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = files.map(|file| file.path()).take(POLICIES_MAX).collect();
    paths.sort();
    let parse = |path: &PathBuf| {
        let is_short = fs::metadata(path).is_ok_and(|metadata| {
            metadata.is_file() && metadata.len() <= STORE_POLICY_BYTES_MAX as u64
        });
        let text = is_short.then(|| fs::read_to_string(path).ok()).flatten()?;
        match StorePolicy::parse(&text, key) {
            Ok(policy) => Some(policy),
            Err(fault) => {
                tracing::warn!(file = %path.display(), %fault, "a policy is left out");
                None
            }
        }
    };
    paths.iter().filter_map(parse).collect()
}

fn store_key(seal: &SealConfig, tpm: &Tpm) -> Result<StoreKey, SealFault> {
    let key = release_key(seal)?;
    let policies = policies(seal, &key);
    let opened = tpm.call("open the key of the store", move |chip| chip.unseal(&policies, &key));
    opened.map_err(|fault| match fault {
        TpmFault::ForeignKey { .. } => SealFault::Foreign,
        fault => fault.into(),
    })
}

/// Makes what is missing: the sealed key, and the log's key under it. Needs the TPM only where it is sealed.
pub fn make_log_key(config: &EdgeConfig, tpm: &Tpm) -> Result<Option<StoreKey>, SealFault> {
    let (path, origin) = (&config.identity.log_key_file, &config.evidence.origin);
    let Some(seal) = &config.identity.seal else {
        if !path.exists() {
            LogKeyFile::create(path, origin)?;
        }
        return Ok(None);
    };
    let has_sealed = tpm.call("look for the key of the store", |chip| Ok(chip.has_sealed()))?;
    if !has_sealed {
        let mut fresh = Zeroizing::new([0; SEALED_BYTES]);
        SystemRandom::new().fill(&mut *fresh).map_err(|_| SealFault::Random)?;
        let key = release_key(seal)?;
        tpm.call("seal the key of the store", move |chip| chip.seal(&fresh, &key))?;
    }
    // Proves at once that it opens again, before anything depends on it.
    let store_key = store_key(seal, tpm)?;
    if !path.exists() {
        let log_key = LogKeyFile::create_sealed(path, origin, &store_key)?;
        if let Ok(public) = VerifierKey::of(&log_key) {
            show_public(config, &public)?;
        }
    }
    Ok(Some(store_key))
}

/// Seals a key that the space has kept to the TPM that is there now. Nothing is changed when it is not the key
/// of this box's store.
pub fn restore(config: &EdgeConfig, tpm: &Tpm, store_key: StoreKey) -> Result<(), SealFault> {
    let seal = config.identity.seal.as_ref().ok_or(SealFault::NotConfigured)?;
    let (path, origin) = (&config.identity.log_key_file, &config.evidence.origin);
    LogKeyFile::load_sealed(path, origin, &store_key)?;
    let key = release_key(seal)?;
    Ok(tpm.call("seal the key of the store", move |chip| chip.seal(&store_key, &key))?)
}

/// The key that signs the log's heads.
pub fn log_key(config: &EdgeConfig, tpm: Option<&Tpm>) -> Result<LogKeyFile, SealFault> {
    open_store(config, tpm).map(|(log_key, _)| log_key)
}

/// The key that signs the log's heads, and what else lies under the store's key in which TPM.
pub fn open_store(
    config: &EdgeConfig,
    tpm: Option<&Tpm>,
) -> Result<(LogKeyFile, Option<(Tpm, StoreKey)>), SealFault> {
    let (path, origin) = (&config.identity.log_key_file, &config.evidence.origin);
    match &config.identity.seal {
        None => Ok((LogKeyFile::load(path, origin)?, None)),
        Some(seal) => {
            let tpm = tpm.ok_or(SealFault::NoTpm)?;
            let store_key = store_key(seal, tpm)?;
            let log_key = LogKeyFile::load_sealed(path, origin, &store_key)?;
            Ok((log_key, Some((tpm.clone(), store_key))))
        }
    }
}

/// A new key that waits beside the one that signs, under the same lock. One that waited before is of a turn that
/// came to nothing.
pub fn make_next_key(
    config: &EdgeConfig,
    tpm: Option<&Tpm>,
    next: &Path,
) -> Result<LogKeyFile, SealFault> {
    let origin = &config.evidence.origin;
    if next.exists() {
        let failed = |source| SealFault::File { path: next.to_path_buf(), source };
        fs::remove_file(next).map_err(failed)?;
    }
    match &config.identity.seal {
        None => Ok(LogKeyFile::create(next, origin)?),
        Some(seal) => {
            let store_key = store_key(seal, tpm.ok_or(SealFault::NoTpm)?)?;
            Ok(LogKeyFile::create_sealed(next, origin, &store_key)?)
        }
    }
}

/// The key that waits, if one does.
pub fn next_key(
    config: &EdgeConfig,
    store_key: Option<&StoreKey>,
    next: &Path,
) -> Result<Option<LogKeyFile>, SealFault> {
    let origin = &config.evidence.origin;
    if !next.exists() {
        return Ok(None);
    }
    let key = match store_key {
        None => LogKeyFile::load(next, origin)?,
        Some(store_key) => LogKeyFile::load_sealed(next, origin, store_key)?,
    };
    Ok(Some(key))
}

/// Puts the key that waited in the place of the old one, and its public half beside it where it is sealed.
pub fn install_key(
    config: &EdgeConfig,
    next: &Path,
    public: &VerifierKey,
) -> Result<(), SealFault> {
    LogKeyFile::install(next, &config.identity.log_key_file)?;
    show_public(config, public)
}

/// Puts the public half beside a sealed key, unless it is there. A cut may have come between the two.
pub fn show_public(config: &EdgeConfig, public: &VerifierKey) -> Result<(), SealFault> {
    if config.identity.seal.is_none() {
        return Ok(());
    }
    let (path, text) = (public_file(&config.identity.log_key_file), format!("{public}\n"));
    if fs::read_to_string(&path).is_ok_and(|known| known == text) {
        return Ok(());
    }
    crate::upkeep::replace(&path, &text).map_err(|source| SealFault::File { path, source })
}

/// The public half beside a sealed key, for whoever checks the log.
pub fn public_file(log_key_file: &Path) -> PathBuf {
    log_key_file.with_extension("pub")
}

/// Keeps a policy that the space sent, if the release key signed it; whether it is new.
pub fn take_policy(seal: &SealConfig, text: &str) -> Result<bool, String> {
    let key = release_key(seal).map_err(|fault| fault.to_string())?;
    StorePolicy::parse(text, &key).map_err(|fault| fault.to_string())?;
    let path = seal.policies_dir.join(SENT_FILE);
    if fs::read_to_string(&path).is_ok_and(|known| known == text) {
        return Ok(false);
    }
    let kept =
        fs::create_dir_all(&seal.policies_dir).and_then(|()| crate::upkeep::replace(&path, text));
    kept.map_err(|fault| format!("{}: {fault}", path.display()))?;
    Ok(true)
}
