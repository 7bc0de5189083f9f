use super::*;
use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

// Made with `openssl genpkey` (3.0.19) for these tests; they protect nothing.
const OPENSSL_P256: &str = include_str!("../../tests/golden/openssl-p256.pem");
const OPENSSL_P256_SEC1: &str = include_str!("../../tests/golden/openssl-p256-sec1.pem");
const OPENSSL_P384: &str = include_str!("../../tests/golden/openssl-p384.pem");
const OPENSSL_ED25519: &str = include_str!("../../tests/golden/openssl-ed25519.pem");
// What `openssl pkey -pubout` says of them.
const P256_PUBLIC: [u8; 65] = [
    0x04, 0x7c, 0x73, 0x78, 0xa5, 0x0e, 0x78, 0x52, 0x3c, 0xea, 0xcc, 0xe8, 0xb7, 0x67, 0xb0, 0xad,
    0x47, 0x32, 0xb1, 0xf0, 0xc2, 0x04, 0x63, 0xa4, 0x79, 0xc3, 0xc5, 0x7e, 0x30, 0x8d, 0x6b, 0xd1,
    0xdb, 0x62, 0x02, 0x2f, 0x29, 0xa4, 0x92, 0x0c, 0x5b, 0x9b, 0x6f, 0xd8, 0x2a, 0x1a, 0x32, 0xca,
    0x01, 0x62, 0x1c, 0xd8, 0x69, 0x42, 0x22, 0x13, 0xb4, 0x13, 0xa1, 0x2a, 0x5a, 0x2c, 0xe0, 0xeb,
    0xbd,
];
const ED25519_PUBLIC: [u8; 32] = [
    0xe4, 0x88, 0x0f, 0x2f, 0xd3, 0xe4, 0x3a, 0x4b, 0x6f, 0x39, 0x9a, 0x96, 0x7a, 0x24, 0xab, 0x98,
    0xe7, 0x10, 0x12, 0xdc, 0x81, 0x41, 0xeb, 0xb6, 0x3b, 0x46, 0xd6, 0xa1, 0x93, 0xee, 0x9a, 0xa4,
];

#[test]
fn keys_of_openssl_are_read() {
    let key = KeyFile::from_pem(OPENSSL_P256, "box").unwrap();
    assert_eq!(key.public_key(), PublicKey::EcdsaP256(P256_PUBLIC.to_vec()));
    let key = LogKeyFile::from_pem(OPENSSL_ED25519, "log").unwrap();
    assert_eq!(key.public_key(), PublicKey::Ed25519(ED25519_PUBLIC));
}

#[test]
fn keys_of_the_wrong_kind_are_refused() {
    fn check<K: KeyKind>(pem: &str, expect: &str) {
        let fault = StoredKey::<K>::from_pem(pem, "x").unwrap_err();
        let cause = std::error::Error::source(&fault).map(|cause| format!(": {cause}"));
        assert_eq!(format!("{fault}{}", cause.unwrap_or_default()), expect);
    }
    let not_p256 = "the key is no P-256 key in PKCS#8; check that the path names the right key";
    let not_ed = "the key is no Ed25519 key in PKCS#8; check that the path names the right key";
    let sec1 = "the key is not readable PEM: the key is a \"EC PRIVATE KEY\"; convert it with \
                'openssl pkcs8 -topk8 -nocrypt'";
    check::<P256>(OPENSSL_ED25519, not_p256);
    check::<P256>(OPENSSL_P384, not_p256);
    check::<P256>(OPENSSL_P256_SEC1, sec1);
    check::<Ed25519>(OPENSSL_P256, not_ed);
    check::<Ed25519>(
        "hello",
        "the key is not readable PEM: there is no PEM block \"PRIVATE KEY\"; check that the path \
         names a private key",
    );
}

fn verify(key: &dyn Signer, message: &[u8], signature: &[u8]) -> bool {
    let (algorithm, public): (&dyn VerificationAlgorithm, Vec<u8>) = match key.public_key() {
        PublicKey::EcdsaP256(point) => (&ECDSA_P256_SHA256_ASN1, point),
        PublicKey::Ed25519(point) => (&ED25519, point.to_vec()),
    };
    UnparsedPublicKey::new(algorithm, public).verify(message, signature).is_ok()
}

fn check_file<K: KeyKind>() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.pem");
    let made = StoredKey::<K>::create(&path, "made").unwrap();
    let loaded = StoredKey::<K>::load(&path, "loaded").unwrap();
    assert_eq!((made.name(), loaded.name()), ("made", "loaded"));
    assert_eq!(made.public_key(), loaded.public_key());

    let signature = loaded.sign(b"message").unwrap();
    assert!(verify(&made, b"message", &signature));
    assert!(!verify(&made, b"massage", &signature));

    let again = StoredKey::<K>::create(&path, "again").unwrap_err();
    assert!(matches!(again, KeyFault::File(FileFault::Exists { .. })), "{again:?}");
    let kept = StoredKey::<K>::load(&path, "kept").unwrap();
    assert_eq!(kept.public_key(), made.public_key());

    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let exposed = StoredKey::<K>::load(&path, "exposed").unwrap_err();
    assert!(matches!(exposed, KeyFault::File(FileFault::Exposed { mode: 0o644, .. })));
}

#[test]
fn files_of_both_kinds() {
    check_file::<P256>();
    check_file::<Ed25519>();
}

#[test]
fn each_key_is_new() {
    let (first, _) = LogKeyFile::generate("a").unwrap();
    let (second, _) = LogKeyFile::generate("a").unwrap();
    assert_ne!(first.public_key(), second.public_key());
}

#[test]
fn debug_output_is_the_name_alone() {
    let key = KeyFile::from_pem(OPENSSL_P256, "box-7").unwrap();
    assert_eq!(format!("{key:?}"), "P-256 key \"box-7\"");
    assert_eq!(format!("{key:#?}"), "P-256 key \"box-7\"");
    let key = LogKeyFile::from_pem(OPENSSL_ED25519, "log-7").unwrap();
    assert_eq!(format!("{key:?}"), "Ed25519 key \"log-7\"");
}

#[test]
fn faults_do_not_repeat_the_key() {
    let damaged = OPENSSL_ED25519.replace("BCIEIOMo", "BCIEI*Mo");
    let fault = LogKeyFile::from_pem(&damaged, "x").unwrap_err();
    let text = format!("{fault} {fault:?}");
    for secret in ["0GyKJvMz", "BCIEI"] {
        assert!(!text.contains(secret), "{text}");
    }
}
