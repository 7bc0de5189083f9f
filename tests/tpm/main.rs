//! The box's TPM code on swtpm: keys, quotes, certificates of makers, and what happens when it breaks.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod ends;
mod event_log;
mod handshake;
mod memory;
mod relay;
mod seal;
mod trail;

use guan_demo::swtpm::Swtpm;
use guan_identity::attest::{
    Attestation, Attested, PCRS_REQUIRED, TpmKey, TpmPublic, TpmSignature, check_endorsement,
    make_credential, pcr_digest,
};
use guan_identity::read_certificates;
use guan_identity::tpm::{KeySlot, Tcti, Tpm, TpmFault, TpmOptions, TpmSigner};
use guan_model::{Digest, PublicKey, Signer, WallTime};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// An emulator and a box's TPM thread on it; `None` when swtpm is not installed.
struct Bench {
    swtpm: Swtpm,
    tpm: Tpm,
    folder: tempfile::TempDir,
}

fn bench() -> Option<Bench> {
    bench_with(Duration::ZERO)
}

fn bench_with(added_delay: Duration) -> Option<Bench> {
    if !Swtpm::is_installed() {
        println!("SKIP: swtpm is not installed; cargo verify does it");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let swtpm = Swtpm::make(&folder.path().join("tpm"), &folder.path().join("ca")).unwrap();
    let tpm = start(&swtpm, folder.path(), added_delay);
    Some(Bench { swtpm, tpm, folder })
}

fn start(swtpm: &Swtpm, folder: &Path, added_delay: Duration) -> Tpm {
    let tcti = Tcti::parse(&swtpm.tcti()).unwrap();
    Tpm::start(TpmOptions { tcti, folder: folder.to_path_buf(), added_delay }).unwrap()
}

impl Bench {
    /// The emulator dies without a word and comes back; the box's thread notices by itself.
    fn power_cut(&mut self) {
        self.swtpm.kill().unwrap();
        self.swtpm.start().unwrap();
    }

    fn ek(&self) -> TpmPublic {
        let public = self.tpm.call("test", |chip| chip.ek_public()).unwrap();
        TpmPublic::parse(&public).unwrap()
    }

    /// Of TLS key A, which must have been made.
    fn signer(&self) -> TpmSigner {
        TpmSigner::load(self.tpm.clone(), KeySlot::TlsA, self.folder.path()).unwrap()
    }

    /// Attestation key and TLS key A.
    fn keys(&self) -> (TpmPublic, TpmPublic) {
        let keys = self.tpm.call("test", |chip| {
            Ok((chip.make_attestation_key()?, chip.make_tls_key(KeySlot::TlsA)?))
        });
        keys.unwrap()
    }
}

fn now() -> WallTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    WallTime(i64::try_from(since.as_nanos()).unwrap())
}

#[test]
fn the_maker_vouches_for_the_endorsement_key() {
    let Some(bench) = bench() else { return };
    let ek = bench.ek();
    let certificate = bench.tpm.call("test", |chip| chip.ek_certificate()).unwrap();
    let [root, intermediate] = bench.swtpm.makers().map(|path| {
        let pem = std::fs::read_to_string(path).unwrap();
        read_certificates(&pem).unwrap().remove(0)
    });
    let check = |ek: &TpmPublic, root, intermediates: &[Vec<u8>]| {
        check_endorsement(ek, &certificate, intermediates, &[root], now())
    };
    let intermediates = [intermediate.to_vec()];
    assert_eq!(check(&ek, root.clone(), &intermediates), Ok(()));
    assert!(check(&ek, root.clone(), &[]).is_err(), "the chain is cut");
    // Another TPM of another maker.
    let Some(other) = self::bench() else { return };
    assert!(check(&other.ek(), root.clone(), &intermediates).is_err(), "another key");
    let foreign = std::fs::read_to_string(&other.swtpm.makers()[0]).unwrap();
    let foreign = read_certificates(&foreign).unwrap().remove(0);
    assert!(check(&ek, foreign, &intermediates).is_err(), "another maker");
}

/// As some makers do: the chain lies in the TPM, and the space need not have it.
#[test]
fn the_makers_chain_is_read_out_of_the_tpm() {
    let Some(bench) = bench() else { return };
    assert!(bench.tpm.call("test", |chip| chip.ek_intermediates()).unwrap().is_empty());
    let [root, intermediate] = bench.swtpm.makers().map(|path| {
        let pem = std::fs::read_to_string(path).unwrap();
        read_certificates(&pem).unwrap().remove(0)
    });
    let tool = |name: &str, arguments: &[&str]| {
        let command = &mut std::process::Command::new(name);
        command.args(["-T", &bench.swtpm.tcti()]).args(arguments).output()
    };
    for (index, certificate) in [("0x1c00100", &intermediate), ("0x1c00101", &root)] {
        let file = bench.folder.path().join("certificate").display().to_string();
        std::fs::write(&file, certificate).unwrap();
        let attributes = "ownerwrite|ownerread|authread|authwrite";
        let size = certificate.len().to_string();
        let made = tool("tpm2_nvdefine", &[index, "-C", "o", "-s", &size, "-a", attributes]);
        let Ok(made) = made else { return println!("SKIP: tpm2-tools are not installed") };
        assert!(made.status.success(), "{made:?}");
        let written = tool("tpm2_nvwrite", &[index, "-C", "o", "-i", &file]).unwrap();
        assert!(written.status.success(), "{written:?}");
    }
    let chain = bench.tpm.call("test", |chip| chip.ek_intermediates()).unwrap();
    assert_eq!(chain, [intermediate.to_vec(), root.to_vec()]);
    let certificate = bench.tpm.call("test", |chip| chip.ek_certificate()).unwrap();
    check_endorsement(&bench.ek(), &certificate, &chain, &[root], now()).unwrap();
}

#[test]
fn a_credential_opens_for_its_key_and_no_other() {
    let Some(bench) = bench() else { return };
    let (ek, (ak, _)) = (bench.ek(), bench.keys());
    assert!(ak.attributes.is_bound_to_tpm() && ak.attributes.is_attestation_key());
    assert!(ak.attributes.is_free_of_lockout());
    let TpmKey::Rsa { modulus, exponent } = &ek.key else { panic!("{ek:?}") };
    let activate = |name: &[u8]| {
        let (challenge, secret) = make_credential(modulus, *exponent, name).unwrap();
        let opened = bench
            .tpm
            .call("test", move |chip| chip.activate(&challenge.blob, &challenge.encrypted_seed));
        opened.map(|opened| assert_eq!(opened[..], secret[..]))
    };
    activate(&ak.name()).unwrap();
    let mut wrong = ak.name();
    wrong[33] ^= 1;
    assert!(matches!(activate(&wrong), Err(TpmFault::ForeignKey { .. })));
    activate(&ak.name()).unwrap();
}

#[test]
fn quotes_certifies_and_signs() {
    let Some(bench) = bench() else { return };
    let (ak, tls) = bench.keys();
    let qualifying = Digest([9; 32]);
    let (quote, pcrs) =
        bench.tpm.call("test", move |chip| chip.quote(&PCRS_REQUIRED, &qualifying)).unwrap();
    let signed = |statement: &[u8], signature: &[u8]| {
        TpmSignature::parse(signature).unwrap().is_by(ak.p256().unwrap(), statement)
    };
    assert!(signed(&quote.statement, &quote.signature));
    let statement = Attestation::parse(&quote.statement).unwrap();
    assert_eq!(statement.extra, qualifying.0);
    let selected = PCRS_REQUIRED.to_vec();
    let digest = pcr_digest(&pcrs).0.to_vec();
    assert_eq!(statement.attested, Attested::Quote { selected, digest });
    let certified =
        bench.tpm.call("test", move |chip| chip.certify(KeySlot::TlsA, &qualifying)).unwrap();
    assert!(signed(&certified.statement, &certified.signature));
    let statement = Attestation::parse(&certified.statement).unwrap();
    assert_eq!(statement.attested, Attested::Certify { name: tls.name() });
    assert!(tls.attributes.is_bound_to_tpm() && tls.attributes.is_signing_key());
    let signer = TpmSigner::load(bench.tpm.clone(), KeySlot::TlsA, bench.folder.path()).unwrap();
    assert_eq!(signer.public_key(), *tls.p256().unwrap());
    check_signature(&signer);
    // What the attestation key is asked to sign must come from the TPM itself.
    let foreign = bench.tpm.call("test", move |chip| chip.sign(KeySlot::Attestation, &qualifying));
    assert!(matches!(foreign, Err(TpmFault::Other { .. })), "{foreign:?}");
}

fn check_signature(signer: &TpmSigner) {
    use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
    let signature = signer.sign(b"message").unwrap();
    let PublicKey::EcdsaP256(point) = signer.public_key() else { panic!("P-256 was asked for") };
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(b"message", &signature).unwrap();
}

#[test]
fn keys_survive_a_restart_of_both() {
    let Some(mut bench) = bench() else { return };
    let (_, tls) = bench.keys();
    bench.swtpm.stop().unwrap();
    bench.swtpm.start().unwrap();
    let tpm = start(&bench.swtpm, bench.folder.path(), Duration::ZERO);
    let signer = TpmSigner::load(tpm, KeySlot::TlsA, bench.folder.path()).unwrap();
    assert_eq!(signer.public_key(), *tls.p256().unwrap());
    check_signature(&signer);
}

#[test]
fn a_broken_connection_is_made_anew() {
    let Some(mut bench) = bench() else { return };
    bench.keys();
    let signer = TpmSigner::load(bench.tpm.clone(), KeySlot::TlsA, bench.folder.path()).unwrap();
    check_signature(&signer);
    bench.swtpm.kill().unwrap();
    let fault = signer.sign(b"message").unwrap_err().to_string();
    assert!(fault.contains("no TPM answers"), "{fault}");
    bench.swtpm.start().unwrap();
    check_signature(&signer);
    assert!(bench.tpm.rebuilds() > 0);
}

/// Three SIGKILLs lock every key that is not free of the lock.
#[test]
fn three_unclean_stops_lock_nothing_of_ours() {
    let Some(mut bench) = bench() else { return };
    bench.keys();
    let signer = TpmSigner::load(bench.tpm.clone(), KeySlot::TlsA, bench.folder.path()).unwrap();
    for _ in 0..4 {
        check_signature(&signer);
        bench.swtpm.kill().unwrap();
        bench.swtpm.start().unwrap();
    }
    check_signature(&signer);
    bench.tpm.call("test", |chip| chip.quote(&PCRS_REQUIRED, &Digest([1; 32]))).unwrap();
}

/// Without a resource manager a TPM has room for three keys, and nobody cleans up after a kill.
#[test]
fn programs_that_were_killed_leave_no_keys_behind() {
    let Some(bench) = bench() else { return };
    bench.keys();
    let killed: Vec<Tpm> =
        (0..4).map(|_| start(&bench.swtpm, bench.folder.path(), Duration::ZERO)).collect();
    // Each still holds its keys when the next begins; those that live on load them again.
    for tpm in killed.iter().chain(&killed) {
        let signer = TpmSigner::load(tpm.clone(), KeySlot::TlsA, bench.folder.path()).unwrap();
        check_signature(&signer);
        tpm.call("test", |chip| chip.quote(&PCRS_REQUIRED, &Digest([1; 32]))).unwrap();
    }
}

/// 0x902: others' keys fill the TPM. Ours come back as soon as there is room; here, once leftovers are flushed.
#[test]
fn a_tpm_without_room_is_asked_again() {
    let Some(bench) = bench() else { return };
    bench.keys();
    check_signature(&bench.signer());
    // Another program, which leaves what it made.
    for _ in 0..2 {
        let made = std::process::Command::new("tpm2_createprimary")
            .args(["-T", &bench.swtpm.tcti(), "-C", "n", "-G", "ecc", "-Q"])
            .output();
        let Ok(_full) = made else { return println!("SKIP: tpm2-tools are not installed") };
    }
    let held = std::process::Command::new("tpm2_getcap")
        .args(["-T", &bench.swtpm.tcti(), "handles-transient"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&held.stdout).lines().count(), 3, "the TPM is full");
    bench.tpm.call("test", |chip| chip.quote(&PCRS_REQUIRED, &Digest([1; 32]))).unwrap();
    check_signature(&bench.signer());
}

#[test]
fn another_tpm_does_not_take_the_keys() {
    let (Some(bench), Some(other)) = (bench(), bench()) else { return };
    bench.keys();
    // A disk that was put into another box.
    let tpm = start(&other.swtpm, bench.folder.path(), Duration::ZERO);
    let signer = TpmSigner::load(tpm, KeySlot::TlsA, bench.folder.path()).unwrap();
    let fault = signer.sign(b"message").unwrap_err().to_string();
    assert!(fault.contains("another TPM"), "{fault}");
}

#[test]
fn an_absent_tpm_is_named_with_its_address() {
    let folder = tempfile::tempdir().unwrap();
    let tcti = Tcti::parse("swtpm:host=127.0.0.1,port=1").unwrap();
    let (folder, added_delay) = (folder.path().to_path_buf(), Duration::ZERO);
    let tpm = Tpm::start(TpmOptions { tcti, folder, added_delay }).unwrap();
    let fault = tpm.call("test", |chip| chip.ek_public()).unwrap_err();
    assert!(matches!(fault, TpmFault::Absent { .. }), "{fault}");
    assert!(fault.to_string().contains("port=1"), "{fault}");
}
