//! Structures of a TPM, and a credential that is opened as a TPM opens it.

use super::*;

/// TPMT_PUBLIC of an elliptic key.
fn ecc_public(attributes: u32, x: &[u8], y: &[u8]) -> Vec<u8> {
    [
        &[0, 0x23, 0, 0x0B][..],
        &attributes.to_be_bytes(),
        &sized(&[]),
        &[0, 0x10, 0, 0x18, 0, 0x0B, 0, 3, 0, 0x10],
        &sized(x),
        &sized(y),
    ]
    .concat()
}

#[test]
fn attributes_tell_keys_apart() {
    const AK: u32 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 10 | 1 << 16 | 1 << 18;
    let parse = |attributes| TpmPublic::parse(&ecc_public(attributes, &[1; 32], &[2; 32])).unwrap();
    let ak = parse(AK).attributes;
    assert!(ak.is_bound_to_tpm() && ak.is_attestation_key() && ak.is_free_of_lockout());
    assert!(!ak.is_signing_key());
    let tls = parse(AK & !(1 << 16)).attributes;
    assert!(tls.is_signing_key() && !tls.is_attestation_key());
    assert!(!parse(AK & !(1 << 1)).attributes.is_bound_to_tpm());
    assert!(!parse(AK | 1 << 17).attributes.is_attestation_key());
}

#[test]
fn short_coordinates_are_padded() {
    let public = TpmPublic::parse(&ecc_public(0, &[7; 31], &[])).unwrap();
    let PublicKey::EcdsaP256(point) = public.p256().unwrap() else { panic!("{public:?}") };
    assert_eq!((point.len(), point[0], point[1], point[2]), (65, 4, 0, 7));
    assert!(TpmPublic::parse(&ecc_public(0, &[7; 33], &[])).is_err());
    let name = public.name();
    assert_eq!((name.len(), &name[..2]), (34, &[0, 0x0B][..]));
}

#[test]
fn short_scalars_are_padded() {
    let signature = TpmSignature::from_scalars(&[1], &[2; 32]).unwrap();
    assert_eq!((signature.as_bytes()[30], signature.as_bytes()[31]), (0, 1));
    assert!(TpmSignature::from_scalars(&[1; 33], &[]).is_err());
}

/// ring reads both forms; random signatures have every length of numbers.
#[test]
fn the_form_of_x509_is_the_same_signature() {
    use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
    let tpm = FakeTpm::new();
    let PublicKey::EcdsaP256(point) = tpm.public() else { panic!() };
    for number in 0..600_u32 {
        let message = number.to_be_bytes();
        let signature = TpmSignature::parse(&tpm.sign(&message)).unwrap();
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &point);
        key.verify(&message, &signature.to_der()).unwrap();
    }
}

#[test]
fn a_quote_is_read() {
    let clock = TpmClock { clock_ms: 1, resets: 2, restarts: 3, is_safe: true };
    let pcrs: Pcrs = [(0, Digest([0; 32])), (23, Digest([1; 32]))].into();
    let bytes = quote_bytes(b"nonce", clock, &pcrs, &pcr_digest(&pcrs));
    let quote = Attestation::parse(&bytes).unwrap();
    assert_eq!((quote.extra.as_slice(), quote.clock, quote.firmware), (&b"nonce"[..], clock, 7));
    let digest = pcr_digest(&pcrs).0.to_vec();
    assert_eq!(quote.attested, Attested::Quote { selected: vec![0, 23], digest });
    for length in 0..bytes.len() {
        assert!(Attestation::parse(&bytes[..length]).is_err(), "{length} bytes");
    }
    assert!(Attestation::parse(&[&bytes[..], &[0]].concat()).is_err(), "one byte more");
}
