//! The TPM's memory: what was counted or kept there does not go back, and the TPM says so itself.

use super::{Bench, bench, start};
use guan_identity::attest::{Attestation, Attested, TpmSignature, counter_name};
use guan_identity::tpm::TpmFault;
use guan_model::Digest;
use std::process::Command;
use std::time::Duration;

fn count(bench: &Bench, release: &'static str) -> u64 {
    bench.tpm.call("test", move |chip| chip.count_release(release)).unwrap()
}

/// What the attestation key says of an index: its name and contents.
fn certified(
    bench: &Bench,
    of: fn(
        &mut guan_identity::tpm::Chip,
        &Digest,
    ) -> Result<guan_identity::tpm::Attested, TpmFault>,
) -> (Vec<u8>, Vec<u8>) {
    let qualifying = Digest([5; 32]);
    let ak = bench.tpm.call("test", |chip| chip.public(guan_identity::tpm::KeySlot::Attestation));
    let word = bench.tpm.call("test", move |chip| of(chip, &qualifying)).unwrap();
    let signature = TpmSignature::parse(&word.signature).unwrap();
    assert!(signature.is_by(ak.unwrap().p256().unwrap(), &word.statement));
    let statement = Attestation::parse(&word.statement).unwrap();
    assert_eq!(statement.extra, qualifying.0);
    match statement.attested {
        Attested::Nv { index_name, offset: 0, contents } => (index_name, contents),
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_release_counts_once_and_the_counter_never_goes_back() {
    let Some(mut bench) = bench() else { return };
    bench.keys();
    let first = count(&bench, "2026.11");
    assert_eq!(count(&bench, "2026.11"), first);
    assert_eq!(count(&bench, "2026.12"), first + 1);
    let certify = |bench: &Bench| certified(bench, |chip, data| chip.certify_counter(data));
    assert_eq!(certify(&bench), (counter_name(), (first + 1).to_be_bytes().to_vec()));
    // Back to the old release, and after a restart of both.
    assert_eq!(count(&bench, "2026.11"), first + 2);
    bench.swtpm.stop().unwrap();
    bench.swtpm.start().unwrap();
    bench.tpm = start(&bench.swtpm, bench.folder.path(), Duration::ZERO);
    assert_eq!(count(&bench, "2026.11"), first + 2);
    // An owner who removes it gains nothing.
    let undefined = Command::new("tpm2_nvundefine")
        .args(["-T", &bench.swtpm.tcti(), "-C", "o", "0x1800100"])
        .output();
    let Ok(undefined) = undefined else { return println!("SKIP: tpm2-tools are not installed") };
    assert!(undefined.status.success(), "{undefined:?}");
    assert!(count(&bench, "2026.11") > first + 2);
}

#[test]
fn heads_of_the_log_stay_in_the_tpm() {
    let Some(bench) = bench() else { return };
    bench.keys();
    let mut expected = Digest([0; 32]);
    for head in [Digest([1; 32]), Digest([2; 32])] {
        bench.tpm.call("test", move |chip| chip.extend_heads(&head)).unwrap();
        expected = Digest::of_parts(&[&expected.0, &head.0]);
        let (_, contents) = certified(&bench, |chip, data| chip.certify_heads(data));
        assert_eq!(contents, expected.0);
    }
}

#[test]
fn a_lockout_is_named_spares_our_keys_and_ends_with_the_password() {
    let Some(bench) = bench() else { return };
    bench.keys();
    let tcti = bench.swtpm.tcti();
    let tool = |name: &str, arguments: &[&str]| {
        Command::new(name).args(["-T", &tcti]).args(arguments).output()
    };
    let set = tool("tpm2_changeauth", &["-c", "lockout", "password"]);
    let Ok(set) = set else { return println!("SKIP: tpm2-tools are not installed") };
    assert!(set.status.success(), "{set:?}");
    // A wrong password for the lockout's own hierarchy locks it at once.
    let reset =
        |password: &'static [u8]| bench.tpm.call("test", move |chip| chip.reset_lockout(password));
    reset(b"password").unwrap();
    let _ = tool(
        "tpm2_dictionarylockout",
        &["-s", "-n", "1", "-t", "1000", "-l", "0", "-p", "password"],
    );
    lock(&bench);
    assert!(bench.tpm.call("test", |chip| chip.state()).unwrap().is_locked_out());
    // What is free of the lock goes on.
    super::check_signature(&bench.signer());
    let quoted = bench
        .tpm
        .call("test", |chip| chip.quote(&guan_identity::attest::PCRS_REQUIRED, &Digest([1; 32])));
    quoted.unwrap();
    reset(b"password").unwrap();
    assert!(!bench.tpm.call("test", |chip| chip.state()).unwrap().is_locked_out());
}

/// One wrong password for something that is under the lock.
fn lock(bench: &Bench) {
    let tcti = bench.swtpm.tcti();
    let folder = bench.folder.path().display().to_string();
    let script = format!(
        "cd {folder} && tpm2_createprimary -T {tcti} -C o -c p.ctx -p right -g sha256 -G ecc && \
         ! tpm2_create -T {tcti} -C p.ctx -P wrong -G ecc -u x.pub -r x.priv"
    );
    let locked = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(locked.status.success(), "{locked:?}");
}
