//! What of ours lies in the TPM's memory: the counter of releases, and the digest over the log's heads.

use super::chip::{Attested, Chip, During, EK_HANDLE, HANDLE_1, PASSWORD};
use super::fault::{TpmFault, raw_code};
use super::key_blob::{KeyBlob, KeySlot};
use super::raw::RawTpm;
use crate::attest::{COUNTER_BYTES, COUNTER_INDEX, HEADS_BYTES, HEADS_INDEX};
use guan_model::Digest;
use std::fs;
use tss_esapi::attributes::NvIndexAttributesBuilder;
use tss_esapi::constants::NvIndexType;
use tss_esapi::handles::{NvIndexHandle, NvIndexTpmHandle, TpmHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::resource_handles::{NvAuth, Provision};
use tss_esapi::structures::{NvPublic, NvPublicBuilder};

/// Release that the counter was last moved for.
const RELEASE_FILE: &str = "release";

fn area(index: u32, kind: NvIndexType, size: u16) -> tss_esapi::Result<NvPublic> {
    let attributes = NvIndexAttributesBuilder::new()
        .with_auth_write(true)
        .with_auth_read(true)
        .with_owner_read(true)
        .with_no_da(true)
        .with_nv_index_type(kind)
        .build()?;
    NvPublicBuilder::new()
        .with_nv_index(NvIndexTpmHandle::new(index)?)
        .with_index_name_algorithm(HashingAlgorithm::Sha256)
        .with_index_attributes(attributes)
        .with_data_area_size(size.into())
        .build()
}

impl Chip {
    /// The index, made when it is not there; whether it was.
    pub(super) fn index(
        &mut self,
        index: u32,
        kind: NvIndexType,
        size: u16,
        what: &'static str,
    ) -> Result<(NvIndexHandle, bool), TpmFault> {
        let handle = NvIndexTpmHandle::new(index).during(what)?;
        match self.context.tr_from_tpm_public(TpmHandle::NvIndex(handle)) {
            Ok(found) => return Ok((found.into(), true)),
            Err(fault) if raw_code(fault).is_some_and(|code| code & 0xFFF == HANDLE_1) => {}
            Err(fault) => return Err(TpmFault::of(what, fault)),
        }
        let public = area(index, kind, size).during(what)?;
        let made = self.context.execute_with_session(PASSWORD, |context| {
            context.nv_define_space(Provision::Owner, None, public)
        });
        // Nothing was counted with it yet, whatever a TPM that was cleared since had counted.
        let _ = fs::remove_file(self.folder().join(RELEASE_FILE));
        Ok((made.during(what)?, false))
    }

    /// Makes both places, as long as the owner's password is not set.
    pub(super) fn make_areas(&mut self) -> Result<(), TpmFault> {
        let what = "make room in its memory";
        self.index(COUNTER_INDEX, NvIndexType::Counter, COUNTER_BYTES, what)?;
        self.index(HEADS_INDEX, NvIndexType::Extend, HEADS_BYTES, what)?;
        self.make_epochs()
    }

    /// The counter; moved on when another release runs than when it was last asked for.
    pub fn count_release(&mut self, release: &str) -> Result<u64, TpmFault> {
        let what = "count releases";
        let (index, is_old) =
            self.index(COUNTER_INDEX, NvIndexType::Counter, COUNTER_BYTES, what)?;
        let path = self.folder().join(RELEASE_FILE);
        let is_counted = is_old && fs::read(&path).is_ok_and(|last| last == release.as_bytes());
        if !is_counted {
            let counted = self.context.execute_with_session(PASSWORD, |context| {
                context.nv_increment(NvAuth::NvIndex(index), index)
            });
            counted.during(what)?;
            // After the count: a power cut between the two counts once too often, and never too little.
            let kept = crate::secret_file::replace(&path, release.as_bytes());
            kept.map_err(|fault| TpmFault::Folder { detail: fault.to_string() })?;
        }
        self.read_counter(index, what)
    }

    fn read_counter(&mut self, index: NvIndexHandle, what: &'static str) -> Result<u64, TpmFault> {
        let read = self.context.execute_with_session(PASSWORD, |context| {
            context.nv_read(NvAuth::NvIndex(index), index, COUNTER_BYTES, 0)
        });
        let bytes = <[u8; 8]>::try_from(&read.during(what)?[..]);
        bytes.map(u64::from_be_bytes).map_err(|_| TpmFault::Other { what, code: 0 })
    }

    /// The attestation key's word on the counter.
    pub fn certify_counter(&mut self, qualifying: &Digest) -> Result<Attested, TpmFault> {
        self.certify_index(COUNTER_INDEX, COUNTER_BYTES, qualifying, "certify its counter")
    }

    /// The attestation key's word on the digest over the log's heads.
    pub fn certify_heads(&mut self, qualifying: &Digest) -> Result<Attested, TpmFault> {
        self.certify_index(HEADS_INDEX, HEADS_BYTES, qualifying, "certify the log's heads")
    }

    fn certify_index(
        &mut self,
        index: u32,
        size: u16,
        qualifying: &Digest,
        what: &'static str,
    ) -> Result<Attested, TpmFault> {
        // The key is loaded once more over there, and a TPM has room for three.
        self.unload_tls()?;
        self.ek()?;
        let key = KeyBlob::load(self.folder(), KeySlot::Attestation)?;
        let mut raw = RawTpm::open(&self.tcti, what)?;
        let (statement, signature) = raw.certify_nv(EK_HANDLE, &key, index, size, &qualifying.0)?;
        Ok(Attested { statement, signature })
    }

    /// Puts a head of the log into the digest over all heads.
    pub fn extend_heads(&mut self, head: &Digest) -> Result<(), TpmFault> {
        let what = "keep the log's head";
        self.index(HEADS_INDEX, NvIndexType::Extend, HEADS_BYTES, what)?;
        RawTpm::open(&self.tcti, what)?.extend_nv(HEADS_INDEX, &head.0)
    }

    /// Ends a lockout with the password that the space keeps. Asked once: a wrong one locks this out too.
    pub fn reset_lockout(&mut self, password: &[u8]) -> Result<(), TpmFault> {
        RawTpm::open(&self.tcti, "forgive wrong passwords")?.reset_lockout(password)
    }
}
