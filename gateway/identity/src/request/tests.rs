use super::*;
use crate::key_file::{KeyFile, LogKeyFile};
use rcgen::{KeyPair, PKCS_ECDSA_P384_SHA384};

struct Broken(KeyFile);

impl Signer for Broken {
    fn name(&self) -> &str {
        "broken"
    }
    fn public_key(&self) -> PublicKey {
        self.0.public_key()
    }
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, SignFault> {
        Err(SignFault::Device { key: "broken".to_owned(), detail: "no answer".to_owned() })
    }
}

/// Shows another key than the one that it signs with.
struct Liar(KeyFile, KeyFile);

impl Signer for Liar {
    fn name(&self) -> &str {
        "liar"
    }
    fn public_key(&self) -> PublicKey {
        self.0.public_key()
    }
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignFault> {
        self.1.sign(message)
    }
}

fn box_id() -> BoxId {
    BoxId::parse("depot-7").unwrap()
}

fn key() -> KeyFile {
    KeyFile::generate("k").unwrap().0
}

fn refusal(pem: &str) -> String {
    Request::parse(pem).unwrap_err().to_string()
}

#[test]
fn a_request_names_box_and_key() {
    let key = Arc::new(key());
    let pem = certificate_request(key.clone(), &box_id()).unwrap();
    let request = Request::parse(&pem).unwrap();
    assert_eq!(request.common_name, "depot-7");
    assert_eq!(PublicKey::EcdsaP256(request.key.0), key.public_key());
}

#[test]
fn the_longest_box_id_fits() {
    let longest = BoxId::parse(&"x".repeat(64)).unwrap();
    let pem = certificate_request(Arc::new(key()), &longest).unwrap();
    assert_eq!(Request::parse(&pem).unwrap().common_name, longest.as_str());
}

#[test]
fn signers_that_cannot_make_one() {
    let check = |signer: Arc<dyn Signer>, expect: &str| {
        assert_eq!(certificate_request(signer, &box_id()).unwrap_err().to_string(), expect);
    };
    check(Arc::new(Broken(key())), "the key could not sign");
    check(
        Arc::new(LogKeyFile::generate("log").unwrap().0),
        "the key is of another kind than P-256, the only one that certificates are made for",
    );
}

#[test]
fn a_key_that_the_peer_does_not_hold_is_refused() {
    let pem = certificate_request(Arc::new(Liar(key(), key())), &box_id()).unwrap();
    assert_eq!(refusal(&pem), "the request is not signed by the key that it names");
}

#[test]
fn other_curves_are_refused() {
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let request = CertificateParams::default().serialize_request(&p384).unwrap();
    let expect =
        "the key is of another kind than P-256, the only one that certificates are made for";
    assert_eq!(refusal(&request.pem().unwrap()), expect);
}

#[test]
fn a_point_that_calls_itself_another_curve_is_refused() {
    let pem = certificate_request(Arc::new(key()), &box_id()).unwrap();
    let mut der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec();
    // prime256v1 is 1.2.840.10045.3.1.7; its last arc becomes 6 (prime239v3).
    let oid = [0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07];
    let at = der.windows(oid.len()).position(|window| window == oid).unwrap();
    der[at + oid.len() - 1] = 6;
    let expect =
        "the key is of another kind than P-256, the only one that certificates are made for";
    assert_eq!(refusal(&crate::pem::encode("CERTIFICATE REQUEST", &der)), expect);
}

#[test]
fn common_names_are_counted() {
    let check = |count: usize| {
        let mut params = CertificateParams::default();
        let mut subject = DistinguishedName::new();
        for number in 0..count {
            // rcgen keeps one value for each standard type; the type by number is another to it.
            let kind = if number == 0 {
                DnType::CommonName
            } else {
                DnType::CustomDnType(vec![2, 5, 4, 3])
            };
            subject.push(kind, format!("box-{number}"));
        }
        params.distinguished_name = subject;
        let pem = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        Request::parse(&pem).map(|request| request.common_name).map_err(|fault| fault.to_string())
    };
    let refused = |count| {
        Err(format!("the request has {count} common names; it must have one, the id of the box"))
    };
    assert_eq!(check(0), refused(0));
    assert_eq!(check(1), Ok("box-0".to_owned()));
    assert_eq!(check(2), refused(2));
}

#[test]
fn length_limit_is_exact() {
    let pem = certificate_request(Arc::new(key()), &box_id()).unwrap();
    let full = format!("{pem}{}", "\n".repeat(REQUEST_BYTES_MAX - pem.len()));
    assert!(Request::parse(&full).is_ok());
    assert_eq!(refusal(&format!("{full}\n")), "the request has 8193 bytes; the limit is 8192");
}

#[test]
fn texts_that_are_no_request() {
    let expect = "the request cannot be decoded; send a PKCS#10 request in PEM";
    assert_eq!(refusal(""), expect);
    assert_eq!(refusal("-----BEGIN CERTIFICATE REQUEST-----\nAA==\n"), expect);
    let empty = crate::pem::encode("CERTIFICATE REQUEST", b"");
    assert_eq!(refusal(&empty), expect);
    let pem = certificate_request(Arc::new(key()), &box_id()).unwrap();
    let mut der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec();
    der.push(0);
    assert_eq!(refusal(&crate::pem::encode("CERTIFICATE REQUEST", &der)), expect);
}

#[test]
fn no_change_of_what_was_signed_is_accepted() {
    let pem = certificate_request(Arc::new(key()), &box_id()).unwrap();
    let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec();
    let original = Request::parse(&pem).unwrap();
    let (_, parsed) = X509CertificationRequest::from_der(&der).unwrap();
    let signed = parsed.certification_request_info.raw;
    let start = der.windows(signed.len()).position(|window| window == signed).unwrap();
    let signed = start..start + signed.len();
    for at in 0..der.len() {
        for byte in 0..=u8::MAX {
            let mut changed = der.clone();
            changed[at] = byte;
            let outcome = Request::parse(&crate::pem::encode("CERTIFICATE REQUEST", &changed));
            if changed == der {
                continue;
            }
            // The envelope has bits that no signature covers (the form of a tag): they change nothing.
            if let Ok(request) = outcome {
                assert!(!signed.contains(&at), "byte {at} as {byte:#x} was accepted");
                assert_eq!(request.common_name, original.common_name);
                assert_eq!(request.key.0, original.key.0);
            }
        }
        let cut = crate::pem::encode("CERTIFICATE REQUEST", &der[..at]);
        assert!(Request::parse(&cut).is_err(), "cut at {at} was accepted");
    }
}
