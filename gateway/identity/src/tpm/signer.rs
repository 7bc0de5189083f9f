//! The TLS key in the TPM, behind the model's `Signer`.

use super::fault::TpmFault;
use super::key_blob::KeySlot;
use super::worker::Tpm;
use guan_model::{Digest, PublicKey, SignFault, Signer};
use std::path::Path;
use std::time::Duration;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

/// Longest wait for a signature: the other end of the handshake waits too.
const SIGN_WAIT: Duration = Duration::from_secs(5);

/// Signs with a kept key; the private half never leaves the TPM.
pub struct TpmSigner {
    tpm: Tpm,
    slot: KeySlot,
    public: PublicKey,
}

impl TpmSigner {
    /// Takes up a kept key of a folder; the TPM is asked when it signs.
    pub fn load(tpm: Tpm, slot: KeySlot, folder: &Path) -> Result<Self, TpmFault> {
        let public = slot.public(folder)?;
        Ok(Self { tpm, slot, public })
    }
}

impl Signer for TpmSigner {
    fn name(&self) -> &str {
        self.slot.name()
    }

    fn public_key(&self) -> PublicKey {
        self.public.clone()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignFault> {
        let (slot, digest) = (self.slot, Digest::of(message));
        let sign = || self.tpm.call_within(SIGN_WAIT, "sign", move |chip| chip.sign(slot, &digest));
        // QUIC signs inside the task that drives it: the other tasks of this thread must go elsewhere.
        let may_move = Handle::try_current()
            .is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
        let signed = if may_move { block_in_place(sign) } else { sign() };
        let device = |detail: String| SignFault::Device { key: slot.name().to_owned(), detail };
        let signature = signed.map_err(|fault| device(fault.to_string()))?;
        Ok(signature.to_der())
    }
}
