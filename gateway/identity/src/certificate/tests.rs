use super::*;
use crate::pem;
use rcgen::string::Ia5String;
use rcgen::{CertificateParams, KeyPair, SanType};

/// A certificate with these URIs, signed by itself: nothing here looks at signatures.
fn certificate(uris: &[&str]) -> Vec<u8> {
    let mut params = CertificateParams::default();
    for uri in uris {
        params.subject_alt_names.push(SanType::URI(Ia5String::try_from(*uri).unwrap()));
    }
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

fn check(uris: &[&str], expect: Result<(&str, Tier), &str>) {
    let outcome = peer_identity(&certificate(uris));
    let outcome = outcome.as_ref().map(|(id, tier)| (id.as_str(), *tier));
    let outcome = outcome.map_err(ToString::to_string);
    assert_eq!(outcome, expect.map_err(str::to_owned), "for {uris:?}");
}

#[test]
fn names_say_who_the_peer_is() {
    let tier = "urn:guan:tier:emulated";
    check(&["urn:guan:box:depot-7", tier], Ok(("depot-7", Tier::Emulated)));
    check(&[tier, "https://example.org/", "urn:guan:box:a"], Ok(("a", Tier::Emulated)));

    let no_box =
        "the certificate has no name urn:guan:box:...; have the space issue one for this box";
    let no_tier =
        "the certificate has no name urn:guan:tier:...; have the space issue one for this box";
    check(&[], Err(no_box));
    check(&[tier], Err(no_box));
    check(&["URN:guan:box:a", tier], Err(no_box));
    check(&["urn:guan:box:a"], Err(no_tier));

    let two = "the certificate has more than one name urn:guan:box:...; a box has exactly one";
    check(&["urn:guan:box:a", tier, "urn:guan:box:b"], Err(two));
    check(&["urn:guan:box:a", tier, "urn:guan:box:a"], Err(two));
    let two = "the certificate has more than one name urn:guan:tier:...; a box has exactly one";
    check(&["urn:guan:box:a", tier, "urn:guan:tier:hardware"], Err(two));

    let bad = Err("the box id in the certificate is not valid");
    check(&["urn:guan:box:", tier], bad);
    check(&["urn:guan:box:../a", tier], bad);
    check(&[&format!("urn:guan:box:{}", "x".repeat(65)), tier], bad);
    let bad = Err("the tier in the certificate is not valid");
    check(&["urn:guan:box:a", "urn:guan:tier:Hardware"], bad);
}

#[test]
fn the_subject_is_not_asked() {
    let mut params = CertificateParams::default();
    params.distinguished_name = crate::request::common_name("depot-7");
    let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
    assert_eq!(peer_identity(&der), Err(CertFault::NameMissing { urn: BOX_URN }));
}

#[test]
fn damaged_certificates_do_no_harm() {
    let der = certificate(&["urn:guan:box:depot-7", "urn:guan:tier:hardware"]);
    let mut refused = 0;
    for at in 0..der.len() {
        assert!(peer_identity(&der[..at]).is_err(), "cut at {at} was accepted");
        for byte in 0..=u8::MAX {
            let mut changed = der.clone();
            changed[at] = byte;
            // Many changes only spoil the signature, which is not looked at here.
            refused += usize::from(peer_identity(&changed).is_err());
        }
    }
    assert!(refused > 10_000, "only {refused} changes were noticed");
    let mut longer = der.clone();
    longer.push(0);
    assert_eq!(peer_identity(&longer), Err(CertFault::Encoding));
}

#[test]
fn length_limit_is_exact() {
    let check = |length: usize, expect: CertFault| {
        assert_eq!(peer_identity(&vec![0; length]), Err(expect));
    };
    check(CERTIFICATE_BYTES_MAX, CertFault::Encoding);
    let length = CERTIFICATE_BYTES_MAX + 1;
    check(length, CertFault::TooLong { length });
}

#[test]
fn files_with_certificates() {
    let der = certificate(&[]);
    let one = pem::encode(pem::CERTIFICATE, &der).to_string();
    let count = |text: &str| read_certificates(text).map(|all| all.len());
    assert_eq!(count(&one), Ok(1));
    assert_eq!(read_certificates(&one).unwrap()[0].as_ref(), der);
    assert_eq!(count(&one.repeat(CERTIFICATES_MAX)), Ok(CERTIFICATES_MAX));
    assert_eq!(count(&one.repeat(CERTIFICATES_MAX + 1)), Err(CertFault::TooMany));
    assert_eq!(count(""), Err(CertFault::NoCertificate));
    assert_eq!(count(&pem::encode(pem::PRIVATE_KEY, &der)), Err(CertFault::NoCertificate));
    assert_eq!(count(&one[..one.len() - 30]), Err(CertFault::Pem));
    let cut = pem::encode(pem::CERTIFICATE, &der[..20]).to_string();
    assert_eq!(count(&format!("{one}{cut}")), Err(CertFault::Encoding));
}
