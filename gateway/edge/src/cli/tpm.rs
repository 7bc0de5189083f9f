//! `guan tpm`.

use super::{Common, load, print_json};
use anyhow::{Context, bail};
use guan_edge::box_identity::start_tpm;
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;
use zeroize::Zeroizing;

/// Asks once: a wrong password would lock this way out too.
pub(super) fn reset_lockout(common: &Common, file: &Path) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let Some(tpm) = start_tpm(&config.identity)? else {
        bail!("identity.tier is unattested: this box has no TPM");
    };
    let text = Zeroizing::new(match file == Path::new("-") {
        true => std::io::read_to_string(std::io::stdin())?,
        false => std::fs::read_to_string(file)
            .with_context(|| format!("{} cannot be read", file.display()))?,
    });
    let password = Zeroizing::new(hex::decode(text.trim()).ok().context(
        "that is no password in hex; `guan-space box passwords` prints the lockout password",
    )?);
    tpm.call("forgive wrong passwords", move |chip| chip.reset_lockout(&password))?;
    match common.json {
        true => print_json(&json!({ "reset": true }))?,
        false => println!("the TPM is no longer locked out"),
    }
    Ok(ExitCode::SUCCESS)
}
