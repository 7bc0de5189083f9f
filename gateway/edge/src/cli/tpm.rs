//! `guan tpm`: what saves a box, so that it is done even where the log cannot be told of it.

use super::acting::{Undone, not_begun, rescuing, unsure};
use super::acts::By;
use super::{Common, load, print_json};
use anyhow::{Context, bail};
use guan_edge::box_identity::start_tpm;
use guan_edge::sealing::{self, SealFault};
use guan_evidence::Deed;
use guan_identity::tpm::{Chip, SEALED_BYTES, Tpm, TpmFault};
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use zeroize::Zeroizing;

/// A secret in hex, from a file or the standard input.
fn read_secret(file: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let text = Zeroizing::new(match file == Path::new("-") {
        true => std::io::read_to_string(std::io::stdin())?,
        false => std::fs::read_to_string(file)
            .with_context(|| format!("{} cannot be read", file.display()))?,
    });
    let secret = hex::decode(text.trim()).ok();
    let secret =
        secret.context("that is no secret in hex; `guan-space box passwords` prints it")?;
    Ok(Zeroizing::new(secret))
}

/// Asks the TPM for one thing.
fn ask(
    tpm: &Tpm,
    what: &'static str,
    mut ask: impl FnMut(&mut Chip) -> Result<(), TpmFault> + Send + 'static,
) -> Result<(), Undone> {
    let times = Arc::new(AtomicU32::new(0));
    let count = times.clone();
    let asked = tpm.call(what, move |chip| {
        count.fetch_add(1, Ordering::Relaxed);
        ask(chip)
    });
    asked.map_err(|fault| of_times(fault, times.load(Ordering::Relaxed)))
}

/// Whether it was certainly not done by a TPM that was asked so often and then gave this fault.
fn of_times(fault: TpmFault, times: u32) -> Undone {
    let is_refused = match times {
        // It may still come to the TPM.
        0 => !matches!(fault, TpmFault::Slow { .. }),
        1 => fault.is_refusal(),
        // The first time may have done it, and the second have failed for that.
        _ => false,
    };
    if is_refused { not_begun(fault) } else { unsure(fault) }
}

pub(super) fn restore_store(common: &Common, file: &Path, by: &By) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let Some(tpm) = start_tpm(&config.identity)? else {
        bail!("identity.tier is unattested: this box has no TPM");
    };
    let secret = read_secret(file)?;
    let key = <[u8; SEALED_BYTES]>::try_from(&secret[..]);
    let key = key.ok().context("a store key has 64 hex digits")?;
    let recorded = rescuing(&config, by, (Deed::StoreRestored, None), || {
        let restored = sealing::restore(&config, &tpm, Zeroizing::new(key));
        restored.map_err(|fault| match fault {
            // Several steps, of which some may be done.
            SealFault::Tpm(_) => unsure(fault),
            fault => not_begun(fault),
        })
    })?;
    match common.json {
        true => print_json(&json!({ "restored": true, "recorded": recorded }))?,
        false => println!("the store is sealed to this TPM; next: guan join"),
    }
    Ok(ExitCode::SUCCESS)
}

/// For a box that the space has revoked before it could clear itself.
pub(super) fn clear(common: &Common, file: &Path, by: &By) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let Some(tpm) = start_tpm(&config.identity)? else {
        bail!("identity.tier is unattested: this box has no TPM");
    };
    let password = read_secret(file)?;
    let recorded = rescuing(&config, by, (Deed::TpmCleared, None), || {
        ask(&tpm, "be cleared", move |chip| chip.clear(&password))
    })?;
    match common.json {
        true => print_json(&json!({ "cleared": true, "recorded": recorded }))?,
        false => println!("the TPM was cleared: nothing of this box's identity is left in it"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks once: a wrong password would lock this way out too.
pub(super) fn reset_lockout(common: &Common, file: &Path, by: &By) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let Some(tpm) = start_tpm(&config.identity)? else {
        bail!("identity.tier is unattested: this box has no TPM");
    };
    let password = read_secret(file)?;
    let recorded = rescuing(&config, by, (Deed::LockoutReset, None), || {
        ask(&tpm, "forgive wrong passwords", move |chip| chip.reset_lockout(&password))
    })?;
    match common.json {
        true => print_json(&json!({ "reset": true, "recorded": recorded }))?,
        false => println!("the TPM is no longer locked out"),
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_tpm_certainly_did_nothing_if_it_refused_the_only_time_or_was_never_asked() {
        let what = "be cleared";
        let is_certain =
            |fault: &TpmFault, times| matches!(of_times(fault.clone(), times), Undone::NotBegun(_));
        let slow = TpmFault::Slow { what, limit: Duration::from_secs(30) };
        let absent = TpmFault::Absent { tcti: "device".to_owned(), code: 0 };
        // A wrong password: TPM_RC_AUTH_FAIL.
        let refused = TpmFault::Other { what, code: 0x98E };
        // What the library made of it, when it had been sent.
        let library = TpmFault::Other { what, code: 0x9_0001 };
        let broken = TpmFault::Io { what, code: 0xA_000A };
        let expected = [
            (&slow, [false, false, false]),
            (&absent, [true, false, false]),
            (&refused, [true, true, false]),
            (&TpmFault::Lockout { what }, [true, true, false]),
            (&library, [true, false, false]),
            (&broken, [true, false, false]),
        ];
        for (fault, certain) in expected {
            assert_eq!([0, 1, 2].map(|times| is_certain(fault, times)), certain, "{fault}");
        }
    }
}
