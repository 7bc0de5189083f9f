use super::*;
use crate::certificate::{Validity, peer_identity, read_certificates, validity};
use crate::key_file::{KeyFile, LogKeyFile};
use crate::request::certificate_request;

const NOW: WallTime = WallTime(1_800_000_000_000_000_000);

fn key(name: &str) -> Arc<KeyFile> {
    Arc::new(KeyFile::generate(name).unwrap().0)
}

fn authority() -> SmallCa {
    SmallCa::create("Harbour space", key("ca"), NOW, 3650).unwrap()
}

fn box_id(name: &str) -> BoxId {
    BoxId::parse(name).unwrap()
}

fn days_after(start: WallTime, days: u32) -> WallTime {
    start.saturating_add(Duration::from_secs(u64::from(days) * 86_400))
}

/// The text of a fault and of its cause.
fn told(fault: &CaFault) -> String {
    let cause = std::error::Error::source(fault).map(|cause| format!(": {cause}"));
    format!("{fault}{}", cause.unwrap_or_default())
}

fn issue(ca: &SmallCa, days: u32) -> Result<String, CaFault> {
    let request = certificate_request(key("box"), &box_id("depot-7")).unwrap();
    ca.issue_box(&request, &box_id("depot-7"), Tier::Unattested, NOW, days)
}

#[test]
fn a_box_gets_its_id_tier_and_time() {
    let pem = issue(&authority(), 30).unwrap();
    let certificates = read_certificates(&pem).unwrap();
    let identity = peer_identity(&certificates[0]).unwrap();
    assert_eq!(identity, (box_id("depot-7"), Tier::Unattested));
    let validity = validity(&certificates[0]).unwrap();
    assert_eq!(validity.not_before, WallTime(NOW.0 - 3_600_000_000_000));
    assert_eq!(validity.not_after, days_after(NOW, 30));
}

#[test]
fn what_a_box_asks_for_beyond_its_key_is_ignored() {
    let key = CertificateKey::new(key("box")).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name("depot-7");
    params.subject_alt_names = vec![uri("urn:guan:box:depot-8".to_owned())];
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let request = params.serialize_request(&key).unwrap().pem().unwrap();
    let ca = authority();
    let pem = ca.issue_box(&request, &box_id("depot-7"), Tier::Emulated, NOW, 30).unwrap();

    let certificates = read_certificates(&pem).unwrap();
    let identity = peer_identity(&certificates[0]).unwrap();
    assert_eq!(identity, (box_id("depot-7"), Tier::Emulated));
    let parsed = certificate::parse(&certificates[0]).unwrap();
    assert!(!parsed.is_ca());
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any);
}

#[test]
fn a_request_for_another_box_is_refused() {
    let request = certificate_request(key("box"), &box_id("depot-8")).unwrap();
    let outcome = authority().issue_box(&request, &box_id("depot-7"), Tier::Unattested, NOW, 30);
    assert_eq!(
        told(&outcome.unwrap_err()),
        "the request is for \"depot-8\", but depot-7 was expected"
    );
}

#[test]
fn a_bad_request_is_refused_with_its_cause() {
    let outcome = authority().issue_box("x", &box_id("a"), Tier::Unattested, NOW, 30);
    assert_eq!(
        told(&outcome.unwrap_err()),
        "the request cannot be answered: the request cannot be decoded; send a PKCS#10 request in PEM"
    );
}

#[test]
fn limits_of_life_are_exact() {
    let ca = authority();
    let check = |days: u32, expect: Result<(), &str>| {
        let outcome = issue(&ca, days).map(drop).map_err(|fault| told(&fault));
        assert_eq!(outcome, expect.map_err(str::to_owned), "for {days} days");
    };
    check(0, Err("a life of 0 days was asked for; give 1 to 398"));
    check(1, Ok(()));
    check(398, Ok(()));
    check(399, Err("a life of 399 days was asked for; give 1 to 398"));

    let create = |days| SmallCa::create("a", key("ca"), NOW, days).map(drop);
    assert!(create(7320).is_ok());
    let fault = create(7321).unwrap_err();
    assert_eq!(told(&fault), "a life of 7321 days was asked for; give 1 to 7320");
}

#[test]
fn nothing_outlives_the_authority() {
    let ca = SmallCa::create("short", key("ca"), NOW, 30).unwrap();
    assert!(issue(&ca, 30).is_ok());
    assert!(matches!(issue(&ca, 31), Err(CaFault::OutlivesCa)));
    let public = key("server").public_key();
    let server = |days| ca.issue_server(&["a.example"], &public, NOW, days);
    assert!(server(30).is_ok());
    assert!(matches!(server(31), Err(CaFault::OutlivesCa)));
}

#[test]
fn a_server_is_valid_for_a_box_whose_clock_starts_at_the_beginning() {
    let ca = authority();
    assert!(validity(ca.certificate()).unwrap().not_before <= EARLIEST);
    let public = key("server").public_key();
    let pem = ca.issue_server(&["a.example"], &public, NOW, 30).unwrap();
    let server = validity(&read_certificates(&pem).unwrap()[0]).unwrap();
    assert_eq!(server, Validity { not_before: EARLIEST, not_after: days_after(NOW, 30) });
}

#[test]
fn server_names_are_names_or_addresses() {
    let ca = authority();
    let public = key("server").public_key();
    let check = |names: &[&str], expect: Result<(), &str>| {
        let outcome = ca.issue_server(names, &public, NOW, 30).map(drop);
        let outcome = outcome.map_err(|fault| told(&fault));
        assert_eq!(outcome, expect.map_err(str::to_owned), "for {names:?}");
    };
    check(&["space.example", "10.0.0.1", "::1"], Ok(()));
    check(
        &["space.example", "", "a b", "中"],
        Err("no DNS names or IP addresses: \"\", \"a b\", \"中\""),
    );
    check(&[], Err("the server has 0 names; give 1 to 16"));
    check(&["a.example"; 16], Ok(()));
    check(&["a.example"; 17], Err("the server has 17 names; give 1 to 16"));
}

#[test]
fn names_of_authorities_have_a_length() {
    let create = |name: &str| SmallCa::create(name, key("ca"), NOW, 30).map(drop);
    assert!(create(&"港".repeat(64)).is_ok());
    assert!(matches!(create(&"港".repeat(65)), Err(CaFault::Name { chars: 65 })));
    assert!(matches!(create(""), Err(CaFault::Name { chars: 0 })));
}

#[test]
fn an_authority_is_taken_up_again_only_with_its_own_key() {
    let key_of_ca = key("ca");
    let ca = SmallCa::create("Harbour space", key_of_ca.clone(), NOW, 3650).unwrap();
    let again = SmallCa::load(&ca.certificate_pem(), key_of_ca.clone()).unwrap();
    assert_eq!(again.certificate(), ca.certificate());
    assert!(issue(&again, 30).is_ok());

    let refused = |pem: &str, signer: Arc<dyn Signer>| SmallCa::load(pem, signer).unwrap_err();
    let pem = ca.certificate_pem();
    assert!(matches!(refused(&pem, key("other")), CaFault::KeyMismatch));
    let log_key = Arc::new(LogKeyFile::generate("log").unwrap().0);
    assert!(matches!(refused(&pem, log_key), CaFault::KeyKind));
    assert!(matches!(refused(&pem.repeat(2), key_of_ca.clone()), CaFault::NotCa));
    assert!(matches!(refused("", key_of_ca), CaFault::Certificate(CertFault::NoCertificate)));
}

#[test]
fn a_leaf_cannot_become_an_authority() {
    let ca = authority();
    let leaf_key = key("server");
    let pem = ca.issue_server(&["a.example"], &leaf_key.public_key(), NOW, 30).unwrap();
    assert!(matches!(SmallCa::load(&pem, leaf_key), Err(CaFault::NotCa)));
}

#[test]
fn an_authority_must_be_one_in_both_ways() {
    let check = |is_ca: IsCa, usage: KeyUsagePurpose, fits: bool| {
        let signer = key("ca");
        let own = CertificateKey::new(signer.clone()).unwrap();
        let mut params = CertificateParams::default();
        (params.is_ca, params.key_usages) = (is_ca, vec![usage]);
        let pem = params.self_signed(&own).unwrap().pem();
        match SmallCa::load(&pem, signer) {
            Ok(_) => assert!(fits),
            Err(fault) => assert!(!fits && matches!(fault, CaFault::NotCa), "{fault}"),
        }
    };
    let authority = IsCa::Ca(BasicConstraints::Unconstrained);
    check(authority, KeyUsagePurpose::KeyCertSign, true);
    check(authority, KeyUsagePurpose::DigitalSignature, false);
    check(IsCa::ExplicitNoCa, KeyUsagePurpose::KeyCertSign, false);
}

#[test]
fn serial_numbers_differ_for_the_same_key() {
    let ca = authority();
    let public = key("server").public_key();
    let serial = || {
        let pem = ca.issue_server(&["a.example"], &public, NOW, 30).unwrap();
        let certificates = read_certificates(&pem).unwrap();
        certificate::parse(&certificates[0]).unwrap().raw_serial().to_vec()
    };
    let (first, second) = (serial(), serial());
    assert_ne!(first, second);
    assert_eq!(first.len(), 16);
    assert!(first[0] & 0x80 == 0, "a serial number is positive");
}

#[test]
fn debug_output_shows_no_key() {
    assert_eq!(
        format!("{:?}", authority()),
        format!("SmallCa {{ not_after: {:?}, .. }}", days_after(NOW, 3650))
    );
}
