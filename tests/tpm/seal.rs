//! What is sealed opens under signed firmware only, survives an update, and does not go back.

use super::{Bench, bench, start};
use guan_identity::KeyFile;
use guan_identity::attest::{Pcrs, StorePolicy, sign_store_policy};
use guan_identity::tpm::TpmFault;
use guan_model::{Digest, PublicKey, Signer};
use std::process::Command;
use std::time::Duration;

const SECRET: [u8; 32] = [42; 32];

/// The key that signs policies, outside every TPM.
struct Release(KeyFile);

impl Release {
    fn new() -> Self {
        Self(KeyFile::generate("release").unwrap().0)
    }

    fn key(&self) -> PublicKey {
        self.0.public_key()
    }

    fn policy(&self, epoch: u8, pcrs: &Pcrs) -> StorePolicy {
        let text = sign_store_policy("r", epoch, pcrs, &self.0).unwrap();
        StorePolicy::parse(&text, &self.key()).unwrap()
    }
}

fn unseal(bench: &Bench, key: &PublicKey, policies: &[StorePolicy]) -> Result<[u8; 32], TpmFault> {
    let (key, policies) = (key.clone(), policies.to_vec());
    let opened = bench.tpm.call("test", move |chip| chip.unseal(&policies, &key));
    opened.map(|secret| *secret)
}

/// Another firmware boots: PCR 11 of a TPM that starts anew is zero, and is extended once.
fn boot(bench: &mut Bench, image: u8) -> Option<Pcrs> {
    bench.swtpm.stop().unwrap();
    bench.swtpm.start().unwrap();
    bench.tpm = start(&bench.swtpm, bench.folder.path(), Duration::ZERO);
    let digest = Digest([image; 32]);
    let extended = Command::new("tpm2_pcrextend")
        .args(["-T", &bench.swtpm.tcti(), &format!("11:sha256={digest}")])
        .status();
    let Ok(extended) = extended else {
        println!("SKIP: tpm2-tools are not installed");
        return None;
    };
    assert!(extended.success());
    let value = Digest::of_parts(&[&[0; 32], &digest.0]);
    Some([(7, Digest([0; 32])), (11, value)].into())
}

#[test]
fn an_update_keeps_the_store_and_a_downgrade_does_not_open_it() {
    let Some(mut bench) = bench() else { return };
    bench.keys();
    let release = Release::new();
    let key = release.key();
    let Some(old) = boot(&mut bench, 1) else { return };
    let sealed = key.clone();
    bench.tpm.call("test", move |chip| chip.seal(&SECRET, &sealed)).unwrap();
    let first = release.policy(3, &old);
    assert_eq!(unseal(&bench, &key, std::slice::from_ref(&first)).unwrap(), SECRET);
    // Again, and after a restart with the same firmware.
    assert_eq!(unseal(&bench, &key, std::slice::from_ref(&first)).unwrap(), SECRET);
    boot(&mut bench, 1).unwrap();
    assert_eq!(unseal(&bench, &key, std::slice::from_ref(&first)).unwrap(), SECRET);
    // The next release: its policy came with it, and nothing was sealed anew.
    let new = boot(&mut bench, 2).unwrap();
    let fault = unseal(&bench, &key, std::slice::from_ref(&first)).unwrap_err();
    assert!(fault.to_string().contains("PCR 11 differ"), "{fault}");
    let both = [first.clone(), release.policy(4, &new)];
    assert_eq!(unseal(&bench, &key, &both).unwrap(), SECRET);
    // Back to the old one, whose policy was signed once and for all.
    boot(&mut bench, 1).unwrap();
    let fault = unseal(&bench, &key, &both).unwrap_err();
    assert!(matches!(fault, TpmFault::OldRelease), "{fault}");
    // A fix of the old firmware under the present epoch opens it again.
    assert_eq!(unseal(&bench, &key, &[release.policy(4, &old)]).unwrap(), SECRET);
}

#[test]
fn nobody_elses_policy_opens_the_store() {
    let Some(mut bench) = bench() else { return };
    bench.keys();
    let (release, other) = (Release::new(), Release::new());
    let Some(pcrs) = boot(&mut bench, 1) else { return };
    let key = release.key();
    let sealed = key.clone();
    bench.tpm.call("test", move |chip| chip.seal(&SECRET, &sealed)).unwrap();
    let foreign = other.policy(3, &pcrs);
    let fault = unseal(&bench, &other.key(), std::slice::from_ref(&foreign)).unwrap_err();
    assert!(matches!(fault, TpmFault::OldRelease | TpmFault::Policy { .. }), "{fault}");
    let fault = unseal(&bench, &key, &[foreign]).unwrap_err();
    assert!(!fault.to_string().is_empty());
    assert!(matches!(unseal(&bench, &key, &[]), Err(TpmFault::NoPolicy)));
    assert_eq!(unseal(&bench, &key, &[release.policy(3, &pcrs)]).unwrap(), SECRET);
    // Nothing was left over in the TPM by what failed.
    for _ in 0..8 {
        assert_eq!(unseal(&bench, &key, &[release.policy(3, &pcrs)]).unwrap(), SECRET);
    }
}
