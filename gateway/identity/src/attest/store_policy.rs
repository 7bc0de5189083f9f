//! Under which firmware a box may open what it has sealed: one signed file per release, for the TPM itself.
//!
//! ```json
//! {"schema":1,"release":"2026.11","epoch":3,"pcrs":{"7":"<hex>","11":"<hex>"},"signature":"<r and s in hex>"}
//! ```
//! The signature (ECDSA P-256 over SHA-256) is over the digest of PolicyPCR and PolicyNV, as TPM2_PolicyAuthorize
//! wants it (TPM 2.0, part 3, 23.16). A policy opens as long as no later epoch has run on this TPM: the TPM keeps
//! one bit for each, which can be set and never be cleared.

use super::nv::epochs_name;
use guan_evidence::tpm::{PCR_COUNT, Pcrs, TpmSignature, pcr_digest};
use guan_model::{Digest, PublicKey, SignFault, Signer};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Longest file.
pub const STORE_POLICY_BYTES_MAX: usize = 8 << 10;
/// Epochs are bits of a word of the TPM, and the first is 1.
pub const EPOCH_MAX: u8 = 63;
const SCHEMA: u64 = 1;
const CC_POLICY_NV: u32 = 0x149;
const CC_POLICY_AUTHORIZE: u32 = 0x16A;
const CC_POLICY_PCR: u32 = 0x17F;
const ALG_SHA256: u16 = 0x000B;
/// TPM_EO_BITCLEAR: no bit of the operand is set.
pub(crate) const BIT_CLEAR: u16 = 0x000B;

/// Why a file is no policy; whoever made the release is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorePolicyFault {
    #[error("the file has {length} bytes; the limit is {STORE_POLICY_BYTES_MAX}")]
    TooLong { length: usize },
    #[error("the document cannot be read: {0}")]
    Json(String),
    #[error("schema {found}; schema {SCHEMA} is spoken here")]
    Schema { found: u64 },
    #[error("{pcr:?} is no PCR (0 to 23) with a digest in hex")]
    Pcr { pcr: String },
    #[error("no PCR is named: every firmware would open it")]
    NoPcrs,
    #[error("epoch {found}: give 1 to {EPOCH_MAX}")]
    Epoch { found: u64 },
    #[error("the signature is not the release key's")]
    Signature,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    schema: u64,
    release: String,
    epoch: u64,
    pcrs: BTreeMap<String, String>,
    signature: String,
}

/// A policy whose signature holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorePolicy {
    pub release: String,
    pub epoch: u8,
    pub pcrs: Pcrs,
    signature: TpmSignature,
}

impl StorePolicy {
    pub fn parse(text: &str, key: &PublicKey) -> Result<Self, StorePolicyFault> {
        if text.len() > STORE_POLICY_BYTES_MAX {
            return Err(StorePolicyFault::TooLong { length: text.len() });
        }
        let document = serde_json::from_str::<Document>(text);
        let document = document.map_err(|fault| StorePolicyFault::Json(fault.to_string()))?;
        if document.schema != SCHEMA {
            return Err(StorePolicyFault::Schema { found: document.schema });
        }
        let mut pcrs = Pcrs::new();
        for (pcr, value) in document.pcrs {
            let number = pcr.parse::<u8>().ok().filter(|number| *number < PCR_COUNT);
            match number.zip(Digest::from_hex(&value)) {
                Some((number, digest)) => drop(pcrs.insert(number, digest)),
                None => return Err(StorePolicyFault::Pcr { pcr }),
            }
        }
        if pcrs.is_empty() {
            return Err(StorePolicyFault::NoPcrs);
        }
        let epoch = read_epoch(document.epoch)?;
        let mut bytes = [0; 64];
        hex::decode_to_slice(&document.signature, &mut bytes)
            .map_err(|_| StorePolicyFault::Signature)?;
        let (r, s) = bytes.split_at(32);
        let signature =
            TpmSignature::from_scalars(r, s).map_err(|_| StorePolicyFault::Signature)?;
        match signature.is_by(key, &approved(&pcrs, epoch).0) {
            true => Ok(Self { release: document.release, epoch, pcrs, signature }),
            false => Err(StorePolicyFault::Signature),
        }
    }

    /// What the release key signed.
    pub fn approved(&self) -> Digest {
        approved(&self.pcrs, self.epoch)
    }

    pub fn signature(&self) -> &TpmSignature {
        &self.signature
    }

    /// PCRs that are not what this policy asks for.
    pub fn differences(&self, found: &Pcrs) -> Vec<u8> {
        let differs =
            |(pcr, value): (&u8, &Digest)| (found.get(pcr) != Some(value)).then_some(*pcr);
        self.pcrs.iter().filter_map(differs).collect()
    }
}

fn read_epoch(found: u64) -> Result<u8, StorePolicyFault> {
    let epoch = u8::try_from(found).ok().filter(|epoch| (1..=EPOCH_MAX).contains(epoch));
    epoch.ok_or(StorePolicyFault::Epoch { found })
}

/// A policy that the release key signs.
pub fn sign_store_policy(
    release: &str,
    epoch: u8,
    pcrs: &Pcrs,
    key: &dyn Signer,
) -> Result<String, SignFault> {
    let signed = key.sign(&approved(pcrs, epoch).0)?;
    let signature = TpmSignature::from_der(&signed).ok_or_else(|| SignFault::Device {
        key: key.name().to_owned(),
        detail: "it is not of P-256".to_owned(),
    })?;
    Ok(store_policy_text(release, epoch, pcrs, &signature))
}

fn store_policy_text(release: &str, epoch: u8, pcrs: &Pcrs, signature: &TpmSignature) -> String {
    let pcrs: BTreeMap<String, String> =
        pcrs.iter().map(|(pcr, value)| (pcr.to_string(), value.to_string())).collect();
    let document = serde_json::json!({
        "schema": SCHEMA,
        "release": release,
        "epoch": epoch,
        "pcrs": pcrs,
        "signature": hex::encode(signature.as_bytes()),
    });
    format!("{document}\n")
}

/// Bits of all epochs after this one.
pub(crate) fn later_epochs(epoch: u8) -> [u8; 8] {
    (!0_u64).checked_shl(u32::from(epoch) + 1).unwrap_or(0).to_be_bytes()
}

/// TPML_PCR_SELECTION of the SHA-256 bank.
pub(crate) fn selection(pcrs: &Pcrs) -> Vec<u8> {
    let mut bits = [0_u8; 3];
    for pcr in pcrs.keys() {
        bits[usize::from(pcr / 8)] |= 1 << (pcr % 8);
    }
    [&1_u32.to_be_bytes()[..], &ALG_SHA256.to_be_bytes(), &[3], &bits].concat()
}

/// Digest of the policy "these PCRs, and no later epoch".
fn approved(pcrs: &Pcrs, epoch: u8) -> Digest {
    let code = CC_POLICY_PCR.to_be_bytes();
    let of_pcrs = Digest::of_parts(&[&[0; 32], &code, &selection(pcrs), &pcr_digest(pcrs).0]);
    let offset = 0_u16.to_be_bytes();
    let compared = Digest::of_parts(&[&later_epochs(epoch), &offset, &BIT_CLEAR.to_be_bytes()]);
    let code = CC_POLICY_NV.to_be_bytes();
    Digest::of_parts(&[&of_pcrs.0, &code, &compared.0, &epochs_name()])
}

/// Digest of the policy "whatever this key has signed".
pub(crate) fn authorized_by(key_name: &[u8]) -> Digest {
    let code = CC_POLICY_AUTHORIZE.to_be_bytes();
    // The second digest is over the reference, which is empty.
    let named = Digest::of_parts(&[&[0; 32], &code, key_name]);
    Digest::of(&named.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_epochs_are_the_bits_above() {
        let check = |epoch: u8, expect: u64| {
            assert_eq!(u64::from_be_bytes(later_epochs(epoch)), expect, "{epoch}");
        };
        check(1, !0b11);
        check(62, 1 << 63);
        check(63, 0);
    }

    #[test]
    fn what_is_no_signed_policy_is_refused() {
        let tpm = super::super::tests::FakeTpm::new();
        let pcrs: Pcrs = [(7, Digest([7; 32]))].into();
        let signed = |epoch: u8, pcrs: &Pcrs| {
            let signature = tpm.sign(&approved(pcrs, epoch).0);
            let signature = TpmSignature::parse(&signature).unwrap();
            assert_eq!(TpmSignature::from_der(&signature.to_der()), Some(signature.clone()));
            store_policy_text("r", epoch, pcrs, &signature)
        };
        let good = signed(3, &pcrs);
        let key = tpm.public();
        let policy = StorePolicy::parse(&good, &key).unwrap();
        assert_eq!((policy.epoch, &policy.pcrs), (3, &pcrs));
        assert_eq!(policy.differences(&[(7, Digest([8; 32]))].into()), [7]);
        let check = |text: &str, part: &str| {
            let fault = StorePolicy::parse(text, &key).unwrap_err().to_string();
            assert!(fault.contains(part), "{fault}");
        };
        check("{", "cannot be read");
        check(&good.replace("\"schema\":1", "\"schema\":2"), "schema 2");
        check(&good.replace("\"epoch\":3", "\"epoch\":4"), "not the release key's");
        check(&good.replace("\"epoch\":3", "\"epoch\":64"), "1 to 63");
        check(&good.replace("\"7\"", "\"24\""), "no PCR");
        check(&good.replace("0707", "0708"), "not the release key's");
        check(&signed(3, &Pcrs::new()), "every firmware");
        check(&format!("{good}{}", " ".repeat(STORE_POLICY_BYTES_MAX)), "the limit");
        let other = super::super::tests::FakeTpm::new().public();
        assert_eq!(StorePolicy::parse(&good, &other), Err(StorePolicyFault::Signature));
    }
}
