use super::*;
use crate::ca::SmallCa;
use crate::certificate::read_certificates;
use crate::key_file::{KeyFile, LogKeyFile};
use rustls::sign::SigningKey as _;

const NOW: WallTime = WallTime(1_800_000_000_000_000_000);

fn key(name: &str) -> Arc<KeyFile> {
    Arc::new(KeyFile::generate(name).unwrap().0)
}

#[test]
fn files_that_do_not_fit_together_are_refused() {
    let ca = SmallCa::create("space", key("ca"), NOW, 365).unwrap();
    let own = key("server");
    let pem = ca.issue_server(&["a.example"], &own.public_key(), NOW, 30).unwrap();
    let chain = read_certificates(&pem).unwrap();
    let roots = vec![ca.certificate().clone()];
    let time = Arc::new(TimeCell::new(NOW));
    let check = |chain: &[CertificateDer<'static>],
                 signer: Arc<dyn Signer>,
                 roots: &[CertificateDer<'static>],
                 expect: &str| {
        let (chain, roots) = (chain.to_vec(), roots.to_vec());
        let outcome =
            client_config(chain.clone(), signer.clone(), roots.clone(), b"x", time.clone());
        let client = outcome.err().map(|fault| fault.to_string());
        let outcome = server_config(chain, signer, roots, b"x", time.clone());
        let server = outcome.err().map(|fault| fault.to_string());
        assert_eq!(client.as_deref().unwrap_or("fits"), expect);
        assert_eq!(server, client, "both ends say the same");
    };
    check(&chain, own.clone(), &roots, "fits");
    check(&[], own.clone(), &roots, "there is no certificate of our own; join the space first");
    check(
        &chain,
        own.clone(),
        &[],
        "no authority is trusted; name the file with the space's authority certificate",
    );
    check(
        &chain,
        own.clone(),
        &[CertificateDer::from(vec![1, 2, 3])],
        "an authority certificate cannot be used; get it from the space again",
    );
    check(
        &chain,
        key("other"),
        &roots,
        "the certificate was not issued for the key other; name the two that belong together",
    );
    check(
        &chain,
        Arc::new(LogKeyFile::generate("log").unwrap().0),
        &roots,
        "the key log is of another kind than P-256; use the box's or server's identity key",
    );
}

#[test]
fn only_the_scheme_of_the_key_is_chosen() {
    let key = SignerKey::new(key("box")).unwrap();
    let chosen = |offered: &[SignatureScheme]| key.choose_scheme(offered).map(|s| s.scheme());
    let ours = SignatureScheme::ECDSA_NISTP256_SHA256;
    assert_eq!(chosen(&[SignatureScheme::ED25519, ours]), Some(ours));
    assert_eq!(chosen(&[SignatureScheme::ED25519, SignatureScheme::RSA_PSS_SHA256]), None);
    assert_eq!(chosen(&[]), None);
}

#[test]
fn debug_output_is_the_name_alone() {
    let key = SignerKey::new(key("box-7")).unwrap();
    assert_eq!(format!("{key:?}"), "SignerKey(\"box-7\")");
}

#[test]
fn time_follows_who_knows_it() {
    let time = TimeCell::new(NOW);
    assert_eq!(time.current_time().map(|t| t.as_secs()), Some(1_800_000_000));
    time.set(WallTime::from_seconds(1_900_000_000));
    assert_eq!(time.current_time().map(|t| t.as_secs()), Some(1_900_000_000));
    time.set(WallTime(-1));
    assert_eq!(time.current_time(), None);
}
