//! Evidence made with a key in memory, so that every part of it can be wrong on its own.

mod appraisal;
mod hostile;
mod structures;

use super::*;
use guan_model::{Digest, PublicKey};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

/// A key that signs what it is told to be a TPM's.
pub(super) struct FakeTpm {
    pair: EcdsaKeyPair,
}

impl FakeTpm {
    pub(super) fn new() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
        Self { pair }
    }

    pub(super) fn public(&self) -> PublicKey {
        PublicKey::EcdsaP256(self.pair.public_key().as_ref().to_vec())
    }

    /// TPMT_SIGNATURE.
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature = self.pair.sign(&SystemRandom::new(), message).unwrap();
        let (r, s) = signature.as_ref().split_at(32);
        [&[0, 0x18, 0, 0x0B, 0, 32][..], r, &[0, 32], s].concat()
    }
}

pub(super) fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

/// TPMS_ATTEST of a quote over these PCRs.
pub(super) fn quote_bytes(extra: &[u8], clock: TpmClock, pcrs: &Pcrs, digest: &Digest) -> Vec<u8> {
    let mut bits = [0_u8; 3];
    for pcr in pcrs.keys() {
        bits[usize::from(pcr / 8)] |= 1 << (pcr % 8);
    }
    let selection = [&1_u32.to_be_bytes()[..], &[0, 0x0B, 3], &bits].concat();
    attest_bytes(0x8018, extra, clock, &[selection, sized(&digest.0)].concat())
}

/// TPMS_ATTEST of the counter.
pub(super) fn counter_bytes(extra: &[u8], clock: TpmClock, name: &[u8], counter: u64) -> Vec<u8> {
    let contents = sized(&counter.to_be_bytes());
    attest_bytes(0x8014, extra, clock, &[&sized(name)[..], &[0, 0], &contents].concat())
}

fn attest_bytes(kind: u16, extra: &[u8], clock: TpmClock, attested: &[u8]) -> Vec<u8> {
    [
        &0xFF54_4347_u32.to_be_bytes()[..],
        &kind.to_be_bytes(),
        &sized(b"qualified signer"),
        &sized(extra),
        &clock.clock_ms.to_be_bytes(),
        &clock.resets.to_be_bytes(),
        &clock.restarts.to_be_bytes(),
        &[u8::from(clock.is_safe)],
        &7_u64.to_be_bytes(),
        attested,
    ]
    .concat()
}

fn little(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap().to_le_bytes()
}

/// A boot log: header, then events of PCR, type and data, whose digest is that of the data.
pub(super) fn boot_log(events: &[(u8, u32, &[u8])]) -> Vec<u8> {
    let inner = [
        b"Spec ID Event03\0".as_slice(),
        &[0, 0, 0, 0, 0, 2, 0, 2],
        &little(1),
        &[0x0B, 0, 32, 0],
        &[0],
    ]
    .concat();
    let mut log = [&little(0)[..], &little(3), &[0; 20], &little(inner.len()), &inner].concat();
    for (pcr, kind, data) in events {
        log.extend_from_slice(&little(usize::from(*pcr)));
        log.extend_from_slice(&kind.to_le_bytes());
        log.extend_from_slice(&little(1));
        log.extend_from_slice(&[0x0B, 0]);
        log.extend_from_slice(&Digest::of(data).0);
        log.extend_from_slice(&little(data.len()));
        log.extend_from_slice(data);
    }
    log
}

/// An entry of an IMA list with the template ima-sig.
pub(super) fn ima_entry(path: &str, digest: &[u8], signature: &[u8]) -> Vec<u8> {
    let field = |bytes: &[u8]| [&little(bytes.len())[..], bytes].concat();
    let digest = [b"sha256:\0".as_slice(), digest].concat();
    let path = [path.as_bytes(), b"\0"].concat();
    let data = [field(&digest), field(&path), field(signature)].concat();
    [&little(10)[..], &[1; 20], &field(b"ima-sig"), &field(&data)].concat()
}
