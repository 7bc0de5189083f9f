//! A secret that the TPM gives out only under a firmware that the release key has signed for, and not after a
//! later one has run.

use super::chip::{Chip, SRK_HANDLE};
use super::fault::TpmFault;
use super::key_blob::{KeyBlob, KeySlot};
use super::raw::RawTpm;
use crate::attest::{StorePolicy, sealing_key};
use guan_model::PublicKey;
use tss_esapi::constants::NvIndexType;
use zeroize::Zeroizing;

/// Bytes of a secret that is sealed.
pub const SEALED_BYTES: usize = 32;

impl Chip {
    /// Seals a secret and keeps it, in place of an earlier one.
    pub fn seal(
        &mut self,
        secret: &[u8; SEALED_BYTES],
        release_key: &PublicKey,
    ) -> Result<(), TpmFault> {
        let what = "seal the key of the store";
        self.make_areas()?;
        self.srk()?;
        let key = sealing_key(release_key).ok_or(TpmFault::Other { what, code: 0 })?;
        let blob = RawTpm::open(&self.tcti, what)?.seal(SRK_HANDLE, secret, &key)?;
        blob.store(self.folder(), KeySlot::Store)
    }

    pub fn has_sealed(&self) -> bool {
        KeySlot::Store.path(self.folder()).exists()
    }

    /// Opens what was sealed under one of these policies; from then on policies of earlier epochs are worth
    /// nothing to this TPM.
    pub fn unseal(
        &mut self,
        policies: &[StorePolicy],
        release_key: &PublicKey,
    ) -> Result<Zeroizing<[u8; SEALED_BYTES]>, TpmFault> {
        let what = "open the key of the store";
        let key = sealing_key(release_key).ok_or(TpmFault::Other { what, code: 0 })?;
        let blob = KeyBlob::load(self.folder(), KeySlot::Store)?;
        self.srk()?;
        let mut closest: Option<Vec<u8>> = None;
        for policy in policies {
            let pcrs: Vec<u8> = policy.pcrs.keys().copied().collect();
            let differences = policy.differences(&self.read_pcrs(&pcrs)?);
            if !differences.is_empty() {
                closest =
                    closest.filter(|last| last.len() <= differences.len()).or(Some(differences));
                continue;
            }
            self.unload_tls()?;
            let mut raw = RawTpm::open(&self.tcti, what)?;
            let opened = raw.unseal(SRK_HANDLE, &blob, &key, policy);
            let secret = match opened {
                Ok(secret) => secret,
                Err(TpmFault::Policy { .. }) => {
                    closest = Some(Vec::new());
                    continue;
                }
                Err(fault) => return Err(fault),
            };
            raw.set_epoch(policy.epoch)?;
            let secret = <[u8; SEALED_BYTES]>::try_from(&secret[..]);
            return secret.map(Zeroizing::new).map_err(|_| TpmFault::Other { what, code: 0 });
        }
        Err(match closest {
            Some(pcrs) if pcrs.is_empty() => TpmFault::OldRelease,
            Some(pcrs) => TpmFault::Firmware { pcrs },
            None => TpmFault::NoPolicy,
        })
    }

    /// The place of the epochs, beside the others.
    pub(super) fn make_epochs(&mut self) -> Result<(), TpmFault> {
        let what = "make room in its memory";
        let (index, size) = (crate::attest::EPOCHS_INDEX, crate::attest::EPOCHS_BYTES);
        let (_, is_old) = self.index(index, NvIndexType::Bits, size, what)?;
        // The name of an index changes when it is first written, and policies are about its name.
        if !is_old {
            RawTpm::open(&self.tcti, what)?.set_epoch(0)?;
        }
        Ok(())
    }
}
