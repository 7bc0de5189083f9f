//! What of ours lies in the TPM's memory: the counters of releases and of contract sets, the digest over the
//! log's heads, the root of the contracts' keys.

use super::chip::{Attested, Chip, During, EK_HANDLE, HANDLE_1, PASSWORD};
use super::fault::{TpmFault, raw_code};
use super::key_blob::{KeyBlob, KeySlot};
use super::raw::RawTpm;
use crate::attest::{
    COUNTER_BYTES, COUNTER_INDEX, HEADS_BYTES, HEADS_INDEX, ROOT_BYTES, ROOT_INDEX, SETS_INDEX,
};
use guan_model::Digest;
use std::fs;
use tss_esapi::attributes::NvIndexAttributesBuilder;
use tss_esapi::constants::NvIndexType;
use tss_esapi::handles::{NvIndexHandle, NvIndexTpmHandle, TpmHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::resource_handles::{NvAuth, Provision};
use tss_esapi::structures::{MaxNvBuffer, NvPublic, NvPublicBuilder};
use zeroize::Zeroizing;

/// Release that the counter was last moved for.
const RELEASE_FILE: &str = "release";
/// An index that was never written (TPM_RC_NV_UNINITIALIZED).
const UNWRITTEN: u32 = 0x14A;
/// Bytes of the root of the contracts' keys.
pub const ROOT_KEY_BYTES: usize = ROOT_BYTES as usize;

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

    /// Makes all places, as long as the owner's password is not set.
    pub(super) fn make_areas(&mut self) -> Result<(), TpmFault> {
        let what = "make room in its memory";
        self.index(COUNTER_INDEX, NvIndexType::Counter, COUNTER_BYTES, what)?;
        self.index(HEADS_INDEX, NvIndexType::Extend, HEADS_BYTES, what)?;
        self.index(SETS_INDEX, NvIndexType::Counter, COUNTER_BYTES, what)?;
        self.index(ROOT_INDEX, NvIndexType::Ordinary, ROOT_BYTES, what)?;
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

    /// How many contract sets were counted; 0 before the first.
    pub fn sets_counted(&mut self) -> Result<u64, TpmFault> {
        let what = "say how many contract sets it has counted";
        let bytes = self.written(SETS_INDEX, COUNTER_BYTES, what)?;
        let Some(bytes) = bytes else { return Ok(0) };
        let bytes = <[u8; 8]>::try_from(&bytes[..]);
        bytes.map(u64::from_be_bytes).map_err(|_| TpmFault::Other { what, code: 0 })
    }

    /// Counts one more contract set.
    pub fn count_set(&mut self) -> Result<u64, TpmFault> {
        let what = "count a contract set";
        let (index, _) = self.index(SETS_INDEX, NvIndexType::Counter, COUNTER_BYTES, what)?;
        let counted = self.context.execute_with_session(PASSWORD, |context| {
            context.nv_increment(NvAuth::NvIndex(index), index)
        });
        counted.during(what)?;
        self.read_counter(index, what)
    }

    /// The root of the contracts' keys; `None` before the first, and after the TPM was cleared.
    pub fn root(&mut self) -> Result<Option<Zeroizing<[u8; ROOT_KEY_BYTES]>>, TpmFault> {
        let what = "give out the root of the contracts' keys";
        let Some(bytes) = self.written(ROOT_INDEX, ROOT_BYTES, what)? else { return Ok(None) };
        let bytes = <[u8; ROOT_KEY_BYTES]>::try_from(&bytes[..]);
        bytes.map(|root| Some(Zeroizing::new(root))).map_err(|_| TpmFault::Other { what, code: 0 })
    }

    /// Overwrites the root: what lay under the old one is gone.
    pub fn set_root(&mut self, root: &[u8; ROOT_KEY_BYTES]) -> Result<(), TpmFault> {
        let what = "take a new root of the contracts' keys";
        let (index, _) = self.index(ROOT_INDEX, NvIndexType::Ordinary, ROOT_BYTES, what)?;
        let buffer = MaxNvBuffer::try_from(&root[..]).during(what)?;
        let written = self.context.execute_with_session(PASSWORD, |context| {
            context.nv_write(NvAuth::NvIndex(index), index, buffer, 0)
        });
        written.during(what)
    }

    /// What an index holds; `None` when it is not there or was never written.
    pub(super) fn written(
        &mut self,
        index: u32,
        size: u16,
        what: &'static str,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, TpmFault> {
        let handle = NvIndexTpmHandle::new(index).during(what)?;
        let is = |fault, code| raw_code(fault).is_some_and(|found| found & 0xFFF == code);
        let index: NvIndexHandle = match self.context.tr_from_tpm_public(TpmHandle::NvIndex(handle))
        {
            Ok(found) => found.into(),
            Err(fault) if is(fault, HANDLE_1) => return Ok(None),
            Err(fault) => return Err(TpmFault::of(what, fault)),
        };
        let read = self.context.execute_with_session(PASSWORD, |context| {
            context.nv_read(NvAuth::NvIndex(index), index, size, 0)
        });
        match read {
            Ok(bytes) => Ok(Some(Zeroizing::new(bytes.to_vec()))),
            Err(fault) if is(fault, UNWRITTEN) => Ok(None),
            Err(fault) => Err(TpmFault::of(what, fault)),
        }
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
