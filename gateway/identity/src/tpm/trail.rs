//! What the TPM remembers of the evidence log: the heads of this boot in a PCR, those of all boots in an
//! index that only grows.
//!
//! Neither step may happen twice, and a request is repeated when its answer was lost. So each is told what
//! value it starts from and looks before it acts.

use super::chip::{Attested, Chip, During};
use super::fault::TpmFault;
use super::key_blob::KeySlot;
use super::raw::RawTpm;
use crate::attest::{HEADS_BYTES, HEADS_INDEX, Pcrs, TpmClock, extend};
use guan_evidence::TRAIL_PCR;
use guan_model::{Digest, PublicKey};
use tss_esapi::constants::PropertyTag;
use tss_esapi::handles::PcrHandle;
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::structures::{Digest as TpmDigest, DigestValues};

/// The trail's register by the library's name.
const TRAIL_HANDLE: PcrHandle = PcrHandle::Pcr13;
/// PCRs of an anchor: firmware, boot loader, Secure Boot, and the trail.
pub const ANCHOR_PCRS: [u8; 4] = [0, 4, 7, TRAIL_PCR];

/// What a start of the program finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    pub attestation_key: PublicKey,
    pub clock: TpmClock,
    pub lockouts: u32,
    pub trail: Digest,
    /// `None`: nothing was ever chained.
    pub chain: Option<Digest>,
}

impl Chip {
    pub fn remembered(&mut self) -> Result<Remembered, TpmFault> {
        // A statement of its own: an emulator takes the next connection only when this one is closed.
        let clock = RawTpm::open(&self.tcti, "tell its time")?.read_clock()?;
        Ok(Remembered {
            attestation_key: KeySlot::Attestation.public(self.folder())?,
            clock,
            lockouts: self.property(PropertyTag::LockoutCounter, "count wrong passwords")?,
            trail: self.trail()?,
            chain: self.chained()?,
        })
    }

    fn trail(&mut self) -> Result<Digest, TpmFault> {
        let values = self.read_pcrs(&[TRAIL_PCR])?;
        Ok(values[&TRAIL_PCR])
    }

    /// Extends the trail from `before` by the digest of a head, unless that has happened already.
    /// Gives the value that the trail has then; it is another one if somebody else extended it.
    pub fn extend_trail(&mut self, before: &Digest, head: &Digest) -> Result<Digest, TpmFault> {
        if self.trail()? == *before {
            let what = "keep a head of the log";
            let mut values = DigestValues::new();
            let digest = TpmDigest::try_from(head.0.to_vec()).during(what)?;
            values.set(HashingAlgorithm::Sha256, digest);
            let password = super::chip::PASSWORD;
            let extended = self
                .context
                .execute_with_session(password, |context| context.pcr_extend(TRAIL_HANDLE, values));
            extended.during(what)?;
        }
        self.trail()
    }

    /// The digest over all chained heads.
    pub fn chained(&mut self) -> Result<Option<Digest>, TpmFault> {
        let what = "show the digest over the log's heads";
        let Some(bytes) = self.written(HEADS_INDEX, HEADS_BYTES, what)? else { return Ok(None) };
        let bytes = <[u8; 32]>::try_from(&bytes[..]);
        bytes.map(|bytes| Some(Digest(bytes))).map_err(|_| TpmFault::Other { what, code: 0 })
    }

    /// Chains the digest of a head after `before`, unless that has happened already, and gives the
    /// attestation key's word on the value. `None`: the chain is somewhere else.
    pub fn chain(
        &mut self,
        before: Option<&Digest>,
        head: &Digest,
    ) -> Result<Option<Attested>, TpmFault> {
        let mut after = before.copied().unwrap_or(Digest([0; 32]));
        extend(&mut after, head);
        let found = self.chained()?;
        if found.as_ref() == before {
            self.extend_heads(head)?;
        } else if found != Some(after) {
            return Ok(None);
        }
        self.certify_heads(head).map(Some)
    }

    /// A quote over [`ANCHOR_PCRS`] with the digest of a head in it.
    pub fn anchor(&mut self, head: &Digest) -> Result<(Attested, Pcrs), TpmFault> {
        self.quote(&ANCHOR_PCRS, head)
    }
}
