//! What we ask of a TPM, one thing at a time, on its thread.
//!
//! Every key is free of the dictionary attack lock (noDA): three unclean stops would lock the others. Empty
//! passwords are given as a password, not in a session of HMACs, which costs nine times a signature.

use super::fault::{TpmFault, raw_code};
use super::key_blob::{KeyBlob, KeySlot};
use super::tcti::Tcti;
use super::template;
use crate::attest::{
    INTERMEDIATES_MAX, MAKER_CERTIFICATE_BYTES_MAX, Pcrs, TpmPublic, TpmSignature,
};
use guan_model::Digest as Sha256Digest;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tss_esapi::Context;
use tss_esapi::abstraction::{AsymmetricAlgorithmSelection, ak, ek, nv};
use tss_esapi::constants::{CapabilityType, SessionType};
use tss_esapi::handles::{
    AuthHandle, KeyHandle, ObjectHandle, PersistentTpmHandle, SessionHandle, TpmHandle,
};
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, SignatureSchemeAlgorithm};
use tss_esapi::interface_types::dynamic_handles::Persistent;
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::key_bits::RsaKeyBits;
use tss_esapi::interface_types::resource_handles::{Hierarchy, NvAuth, Provision};
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{
    Attest, CapabilityData, Data, Digest, EncryptedSecret, IdObject, PcrSelectionListBuilder,
    PcrSlot, Private, Public, Signature, SignatureScheme, SymmetricDefinition,
};
use tss_esapi::traits::{Marshall, UnMarshall};
use zeroize::Zeroizing;

/// Places that TCG reserves for these keys (Registry of Reserved TPM 2.0 Handles).
pub(super) const EK_HANDLE: u32 = 0x8101_0001;
pub(super) const SRK_HANDLE: u32 = 0x8100_0001;
const EK_KIND: AsymmetricAlgorithmSelection =
    AsymmetricAlgorithmSelection::Rsa(RsaKeyBits::Rsa2048);
/// Beginnings of the ranges of handles (part 2, 7.2).
const TRANSIENT_FIRST: u32 = 0x8000_0000;
const LOADED_SESSION_FIRST: u32 = 0x0200_0000;
const SAVED_SESSION_FIRST: u32 = 0x0300_0000;
const LEFTOVERS_MAX: u32 = 64;
/// Where makers put intermediate certificates.
const CHAIN_FIRST: u32 = 0x01C0_0100;
const CHAIN_LAST: u32 = 0x01C0_01FF;
const CHAIN_COUNT_MAX: u32 = 16;
/// "No such handle", for a handle in the first place of a command.
pub(super) const HANDLE_1: u32 = 0x18B;
/// A read returns eight PCRs at most.
const PCR_READS_MAX: usize = 8;
/// How often a quote is taken again because a PCR changed while it was read.
const QUOTES_MAX: u32 = 4;
pub(super) const PASSWORD: Option<AuthSession> = Some(AuthSession::Password);

/// What a TPM attested to, as it was said and as it was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attested {
    /// TPMS_ATTEST.
    pub statement: Vec<u8>,
    /// TPMT_SIGNATURE.
    pub signature: Vec<u8>,
}

/// The TPM and what of ours is in it.
pub struct Chip {
    pub(super) context: Context,
    pub(super) tcti: Tcti,
    folder: PathBuf,
    ek: Option<KeyHandle>,
    srk: Option<KeyHandle>,
    loaded: BTreeMap<KeySlot, KeyHandle>,
}

/// Names a step for the error that it may end with.
pub(super) trait During<T> {
    fn during(self, what: &'static str) -> Result<T, TpmFault>;
}

impl<T> During<T> for tss_esapi::Result<T> {
    fn during(self, what: &'static str) -> Result<T, TpmFault> {
        self.map_err(|fault| TpmFault::of(what, fault))
    }
}

impl Chip {
    pub(super) fn open(tcti: &Tcti, folder: PathBuf) -> Result<Self, TpmFault> {
        let context = Context::new(tcti.name()?).map_err(|fault| TpmFault::Absent {
            tcti: tcti.to_string(),
            code: raw_code(fault).unwrap_or_default(),
        })?;
        let (ek, srk, loaded) = (None, None, BTreeMap::new());
        let mut chip = Self { context, tcti: tcti.clone(), folder, ek, srk, loaded };
        if tcti.is_private() {
            chip.flush_leftovers();
        }
        Ok(chip)
    }

    /// A program that was killed leaves its keys and sessions in a TPM without resource manager, and three
    /// of them fill it. What cannot be flushed shows when there is no room.
    fn flush_leftovers(&mut self) {
        for first in [TRANSIENT_FIRST, LOADED_SESSION_FIRST, SAVED_SESSION_FIRST] {
            let listed = self.context.execute_without_session(|context| {
                context.get_capability(CapabilityType::Handles, first, LEFTOVERS_MAX)
            });
            let Ok((CapabilityData::Handles(handles), _)) = listed else { continue };
            for handle in handles.into_inner() {
                let found = self.context.tr_from_tpm_public(handle);
                if let Ok(object) = found {
                    let _ = self.context.flush_context(object);
                }
            }
        }
    }

    /// The TPM holds none of our keys any more.
    pub(super) fn forget(&mut self) {
        (self.ek, self.srk) = (None, None);
        self.loaded.clear();
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The key at a permanent place, or a new primary key that is put there.
    fn primary(
        &mut self,
        handle: u32,
        hierarchy: Hierarchy,
        what: &'static str,
        template: fn() -> tss_esapi::Result<Public>,
    ) -> Result<KeyHandle, TpmFault> {
        let place = PersistentTpmHandle::new(handle).during(what)?;
        match self.context.tr_from_tpm_public(TpmHandle::Persistent(place)) {
            Ok(found) => return Ok(found.into()),
            Err(fault) if raw_code(fault).is_some_and(|code| code & 0xFFF == HANDLE_1) => {}
            Err(fault) => return Err(TpmFault::of(what, fault)),
        }
        let public = template().during(what)?;
        self.context
            .execute_with_session(PASSWORD, |context| {
                let made = context.create_primary(hierarchy, public, None, None, None, None)?;
                let (key, place) = (made.key_handle.into(), Persistent::Persistent(place));
                let kept = context.evict_control(Provision::Owner, key, place);
                context.flush_context(key)?;
                Ok(KeyHandle::from(kept?))
            })
            .during(what)
    }

    pub(super) fn ek(&mut self) -> Result<KeyHandle, TpmFault> {
        if self.ek.is_none() {
            let what = "find or make the endorsement key";
            let template = || {
                ek::create_ek_public_from_default_template_2(
                    EK_KIND,
                    tss_esapi::abstraction::DefaultKey,
                )
            };
            self.ek = Some(self.primary(EK_HANDLE, Hierarchy::Endorsement, what, template)?);
        }
        Ok(self.ek.expect("it was just set"))
    }

    pub(super) fn srk(&mut self) -> Result<KeyHandle, TpmFault> {
        if self.srk.is_none() {
            let what = "find or make the storage root key";
            self.srk =
                Some(self.primary(SRK_HANDLE, Hierarchy::Owner, what, template::storage_root)?);
        }
        Ok(self.srk.expect("it was just set"))
    }

    /// TPMT_PUBLIC of the endorsement key.
    pub fn ek_public(&mut self) -> Result<Vec<u8>, TpmFault> {
        let what = "show the endorsement key";
        let ek = self.ek()?;
        let (public, _, _) = self.context.read_public(ek).during(what)?;
        public.marshall().during(what)
    }

    /// The maker's certificate of the endorsement key, in DER.
    pub fn ek_certificate(&mut self) -> Result<Vec<u8>, TpmFault> {
        let found = ek::retrieve_ek_pubcert(&mut self.context, EK_KIND);
        found.during("show the endorsement certificate")
    }

    /// Certificates that the maker put beside the endorsement certificate (TCG EK Credential Profile, 2.2.1.5.2:
    /// indices from 0x01C00100 on, each with certificates one after the other).
    pub fn ek_intermediates(&mut self) -> Result<Vec<Vec<u8>>, TpmFault> {
        let what = "show its maker's certificates";
        let kind = CapabilityType::Handles;
        let listed = self.context.execute_without_session(|context| {
            context.get_capability(kind, CHAIN_FIRST, CHAIN_COUNT_MAX)
        });
        let CapabilityData::Handles(handles) = listed.during(what)?.0 else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for handle in handles.into_inner() {
            let TpmHandle::NvIndex(index) = handle else { continue };
            if !(CHAIN_FIRST..=CHAIN_LAST).contains(&u32::from(index)) {
                continue;
            }
            let area = self.context.tr_from_tpm_public(TpmHandle::NvIndex(index)).during(what)?;
            let own = NvAuth::NvIndex(area.into());
            let read = self
                .context
                .execute_with_session(PASSWORD, |context| nv::read_full(context, own, index));
            // What cannot be read without a password is not carried.
            let Ok(bytes) = read else { continue };
            split_certificates(&bytes, &mut found);
        }
        found.truncate(INTERMEDIATES_MAX);
        Ok(found)
    }

    /// Makes a new attestation key and keeps it. The old one, if any, is dead from then on.
    pub fn make_attestation_key(&mut self) -> Result<TpmPublic, TpmFault> {
        let what = "make an attestation key";
        let ek = self.ek()?;
        let made = ak::create_ak_2(
            &mut self.context,
            ek,
            HashingAlgorithm::Sha256,
            AsymmetricAlgorithmSelection::Ecc(EccCurve::NistP256),
            SignatureSchemeAlgorithm::EcDsa,
            None,
            template::FreeOfLockout,
        );
        let made = made.during(what)?;
        self.keep(KeySlot::Attestation, &made.out_public, &made.out_private, what)
    }

    /// Makes a new TLS key in a slot and keeps it.
    pub fn make_tls_key(&mut self, slot: KeySlot) -> Result<TpmPublic, TpmFault> {
        let what = "make a TLS key";
        let srk = self.srk()?;
        let public = template::tls_key().during(what)?;
        let made = self.context.execute_with_session(PASSWORD, |context| {
            context.create(srk, public, None, None, None, None)
        });
        let made = made.during(what)?;
        self.keep(slot, &made.out_public, &made.out_private, what)
    }

    fn keep(
        &mut self,
        slot: KeySlot,
        public: &Public,
        private: &Private,
        what: &'static str,
    ) -> Result<TpmPublic, TpmFault> {
        let public = public.marshall().during(what)?;
        let parsed =
            TpmPublic::parse(&public).map_err(|source| TpmFault::Answer { what, source })?;
        let blob = KeyBlob { public, private: private.to_vec() };
        blob.store(&self.folder, slot)?;
        if let Some(old) = self.loaded.remove(&slot) {
            self.context.flush_context(old.into()).during(what)?;
        }
        Ok(parsed)
    }

    /// The public part of a kept key.
    pub fn public(&mut self, slot: KeySlot) -> Result<TpmPublic, TpmFault> {
        let blob = KeyBlob::load(&self.folder, slot)?;
        TpmPublic::parse(&blob.public)
            .map_err(|source| TpmFault::Answer { what: "show a key", source })
    }

    /// Whether this TPM takes the kept key; `false` after it was cleared.
    pub fn holds(&mut self, slot: KeySlot) -> Result<bool, TpmFault> {
        match self.load(slot) {
            Ok(_) => Ok(true),
            Err(TpmFault::ForeignKey { .. } | TpmFault::NoKey { .. }) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    fn load(&mut self, slot: KeySlot) -> Result<KeyHandle, TpmFault> {
        if let Some(key) = self.loaded.get(&slot) {
            return Ok(*key);
        }
        let what = "load a key";
        let blob = KeyBlob::load(&self.folder, slot)?;
        let public = Public::unmarshall(&blob.public).during(what)?;
        let private = Private::try_from(blob.private).during(what)?;
        let key = match slot {
            KeySlot::Store => return Err(TpmFault::NoKey { what: slot.name() }),
            KeySlot::Attestation => {
                let ek = self.ek()?;
                ak::load_ak(&mut self.context, ek, None, private, public)
            }
            KeySlot::TlsA | KeySlot::TlsB => {
                let srk = self.srk()?;
                // A TPM has room for three keys; the other slot's is in use only while it is tried.
                self.unload_tls()?;
                self.context
                    .execute_with_session(PASSWORD, |context| context.load(srk, private, public))
            }
        };
        let key = key.during(what)?;
        self.loaded.insert(slot, key);
        Ok(key)
    }

    pub(super) fn unload_tls(&mut self) -> Result<(), TpmFault> {
        for slot in [KeySlot::TlsA, KeySlot::TlsB] {
            if let Some(key) = self.loaded.remove(&slot) {
                self.context.flush_context(key.into()).during("make room for a key")?;
            }
        }
        Ok(())
    }

    /// Signs a SHA-256 digest with a TLS key. Attestation keys refuse what the TPM did not make.
    pub fn sign(&mut self, slot: KeySlot, digest: &Sha256Digest) -> Result<TpmSignature, TpmFault> {
        let what = "sign";
        let key = self.load(slot)?;
        let digest = Digest::try_from(digest.0.to_vec()).during(what)?;
        let ticket = template::no_ticket().during(what)?;
        let signed = self.context.execute_with_session(PASSWORD, |context| {
            context.sign(key, digest, SignatureScheme::Null, ticket)
        });
        signature(&signed.during(what)?, what)
    }

    /// A quote over these PCRs with the attestation key, and the values that it covers.
    pub fn quote(
        &mut self,
        pcrs: &[u8],
        qualifying: &Sha256Digest,
    ) -> Result<(Attested, Pcrs), TpmFault> {
        let what = "quote its PCRs";
        let key = self.load(KeySlot::Attestation)?;
        let selection = || {
            let slots = pcrs.iter().map(|pcr| PcrSlot::try_from(1_u32 << pcr));
            let slots = slots.collect::<Result<Vec<_>, _>>()?;
            PcrSelectionListBuilder::new().with_selection(HashingAlgorithm::Sha256, &slots).build()
        };
        for _ in 0..QUOTES_MAX {
            let list = selection().during(what)?;
            let data = Data::try_from(qualifying.0.to_vec()).during(what)?;
            let quoted = self.context.execute_with_session(PASSWORD, |context| {
                context.quote(key, data, SignatureScheme::Null, list)
            });
            let attested = attested(quoted.during(what)?, what)?;
            let values = self.read_pcrs(pcrs)?;
            let statement = crate::attest::Attestation::parse(&attested.statement)
                .map_err(|source| TpmFault::Answer { what, source })?;
            let digest = crate::attest::pcr_digest(&values);
            let covers = matches!(&statement.attested,
                crate::attest::Attested::Quote { digest: quoted, .. } if quoted[..] == digest.0);
            if covers {
                return Ok((attested, values));
            }
        }
        Err(TpmFault::Busy { what, code: 0 })
    }

    pub(super) fn read_pcrs(&mut self, pcrs: &[u8]) -> Result<Pcrs, TpmFault> {
        let what = "read its PCRs";
        let mut values = Pcrs::new();
        for some in pcrs.chunks(PCR_READS_MAX) {
            let slots = some.iter().map(|pcr| PcrSlot::try_from(1_u32 << pcr));
            let slots = slots.collect::<Result<Vec<_>, _>>().during(what)?;
            let list =
                PcrSelectionListBuilder::new().with_selection(HashingAlgorithm::Sha256, &slots);
            let list = list.build().during(what)?;
            let read = self.context.execute_without_session(|context| context.pcr_read(list));
            let (_, _, digests) = read.during(what)?;
            let mut sorted = some.to_vec();
            sorted.sort_unstable();
            for (pcr, digest) in sorted.iter().zip(digests.value()) {
                let bytes = <[u8; 32]>::try_from(&digest[..]);
                let bytes = bytes.map_err(|_| TpmFault::Other { what, code: 0 })?;
                values.insert(*pcr, Sha256Digest(bytes));
            }
        }
        match values.len() == pcrs.len() {
            true => Ok(values),
            false => Err(TpmFault::Other { what, code: 0 }),
        }
    }

    /// The attestation key's word that a TLS key lives in this TPM.
    pub fn certify(
        &mut self,
        slot: KeySlot,
        qualifying: &Sha256Digest,
    ) -> Result<Attested, TpmFault> {
        let what = "certify a TLS key";
        let (signer, object) = (self.load(KeySlot::Attestation)?, self.load(slot)?);
        let data = Data::try_from(qualifying.0.to_vec()).during(what)?;
        let certified = self.context.execute_with_sessions((PASSWORD, PASSWORD, None), |context| {
            context.certify(ObjectHandle::from(object), signer, data, SignatureScheme::Null)
        });
        attested(certified.during(what)?, what)
    }

    /// Opens a credential that was made for our EK and our attestation key.
    pub fn activate(&mut self, blob: &[u8], seed: &[u8]) -> Result<Zeroizing<Vec<u8>>, TpmFault> {
        let what = "open the space's credential";
        // Room for the policy session's objects: 3 keys fit beside each other.
        self.unload_tls()?;
        let (ek, ak) = (self.ek()?, self.load(KeySlot::Attestation)?);
        let blob = IdObject::try_from(blob.to_vec()).during(what)?;
        let seed = EncryptedSecret::try_from(seed.to_vec()).during(what)?;
        let session = self.ek_session(what)?;
        let opened =
            self.context.execute_with_sessions((PASSWORD, Some(session), None), |context| {
                context.activate_credential(ak, ek, blob, seed)
            });
        let flushed = self.context.flush_context(SessionHandle::from(session).into());
        let secret = opened.during(what)?;
        flushed.during(what)?;
        Ok(Zeroizing::new(secret.to_vec()))
    }

    /// A session that the standard EK's policy is content with.
    fn ek_session(&mut self, what: &'static str) -> Result<AuthSession, TpmFault> {
        let (kind, hash) = (SessionType::Policy, HashingAlgorithm::Sha256);
        let symmetric = SymmetricDefinition::AES_128_CFB;
        let started = self.context.start_auth_session(None, None, None, kind, symmetric, hash);
        let session = started.during(what)?.ok_or(TpmFault::Other { what, code: 0 })?;
        let secret = PolicySession::try_from(session).and_then(|policy| {
            self.context.execute_with_session(PASSWORD, |context| {
                let (nonce, digest) = (Default::default(), Default::default());
                let reference = Default::default();
                context.policy_secret(
                    policy,
                    AuthHandle::Endorsement,
                    nonce,
                    digest,
                    reference,
                    None,
                )
            })
        });
        if let Err(fault) = secret {
            // The first fault counts; a session that stays is flushed with the context.
            let _ = self.context.flush_context(SessionHandle::from(session).into());
            return Err(TpmFault::of(what, fault));
        }
        Ok(session)
    }
}

/// DER values one after the other; what is none ends it.
fn split_certificates(mut bytes: &[u8], found: &mut Vec<Vec<u8>>) {
    const SEQUENCE_LONG: [u8; 2] = [0x30, 0x82];
    while let Some(rest) = bytes.strip_prefix(&SEQUENCE_LONG) {
        let Some((length, _)) = rest.split_at_checked(2) else { return };
        let length = 4 + usize::from(u16::from_be_bytes([length[0], length[1]]));
        let Some((certificate, more)) = bytes.split_at_checked(length) else { return };
        if length <= MAKER_CERTIFICATE_BYTES_MAX {
            found.push(certificate.to_vec());
        }
        bytes = more;
    }
}

fn signature(signed: &Signature, what: &'static str) -> Result<TpmSignature, TpmFault> {
    let bytes = signed.marshall().during(what)?;
    TpmSignature::parse(&bytes).map_err(|source| TpmFault::Answer { what, source })
}

fn attested(
    (statement, signed): (Attest, Signature),
    what: &'static str,
) -> Result<Attested, TpmFault> {
    let (statement, signature) =
        (statement.marshall().during(what)?, signed.marshall().during(what)?);
    Ok(Attested { statement, signature })
}
