//! The box's key: in a file, or in its TPM, as the configuration says and never otherwise.

use guan_configs::edge::IdentityConfig;
use guan_configs::{EdgeConfig, Tier as ConfiguredTier};
use guan_identity::tpm::{KeySlot, Tcti, TctiFault, Tpm, TpmFault, TpmOptions, TpmSigner};
use guan_identity::{KeyFault, KeyFile, Tier, certificate_key};
use guan_model::Signer;
use rustls_pki_types::CertificateDer;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Slots of TLS keys, in the order in which they are tried.
pub const TLS_SLOTS: [KeySlot; 2] = [KeySlot::TlsA, KeySlot::TlsB];

/// Why the box has no key.
#[derive(Debug, thiserror::Error)]
pub enum BoxKeyFault {
    #[error("the key of the box cannot be used; `guan identity init` makes one")]
    File(#[from] KeyFault),
    #[error(transparent)]
    Tcti(#[from] TctiFault),
    #[error(transparent)]
    Tpm(#[from] TpmFault),
    #[error("identity.tpm is not set; it must be for the tier {0}")]
    NoTpm(Tier),
    #[error(
        "no key of the TPM belongs to the box's certificate: join the space again (`guan join`), or restore \
         the folder identity.tpm_dir"
    )]
    NoSlot,
}

/// The configured tier in the words of the identity.
pub fn tier(config: &IdentityConfig) -> Tier {
    match config.tier {
        ConfiguredTier::Unattested => Tier::Unattested,
        ConfiguredTier::Emulated => Tier::Emulated,
        ConfiguredTier::Hardware => Tier::Hardware,
    }
}

/// Starts the TPM's thread; `None` for the tier `unattested`. The TPM itself is asked later.
pub fn start_tpm(config: &IdentityConfig) -> Result<Option<Tpm>, BoxKeyFault> {
    let tier = tier(config);
    if tier == Tier::Unattested {
        return Ok(None);
    }
    let tpm = config.tpm.as_ref().ok_or(BoxKeyFault::NoTpm(tier))?;
    let options = TpmOptions {
        tcti: Tcti::parse(&tpm.tcti)?,
        folder: tpm.folder.clone(),
        added_delay: Duration::ZERO,
    };
    Ok(Some(Tpm::start(options)?))
}

/// The slot whose key the certificate is for. Needs no TPM: public parts lie in the folder.
pub fn slot_of(tpm_dir: &Path, leaf: &CertificateDer<'_>) -> Result<KeySlot, BoxKeyFault> {
    let wanted = certificate_key(leaf).ok();
    let holds = |slot: &KeySlot| {
        let key = slot.public(tpm_dir).ok();
        key.is_some() && key == wanted
    };
    TLS_SLOTS.into_iter().find(holds).ok_or(BoxKeyFault::NoSlot)
}

/// The key that TLS signs with.
pub fn signer(
    config: &EdgeConfig,
    tpm: Option<&Tpm>,
    leaf: &CertificateDer<'_>,
) -> Result<Arc<dyn Signer>, BoxKeyFault> {
    let identity = &config.identity;
    match (tpm, &identity.tpm) {
        (Some(tpm), Some(settings)) => {
            let slot = slot_of(&settings.folder, leaf)?;
            Ok(Arc::new(TpmSigner::load(tpm.clone(), slot, &settings.folder)?))
        }
        _ => Ok(Arc::new(KeyFile::load(&identity.key_file, config.box_id.as_str())?)),
    }
}
