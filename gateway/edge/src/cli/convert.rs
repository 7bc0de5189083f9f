//! `guan contract convert`: a contract or draft in its other wire form, without signatures.

use super::authoring::read_draft;
use anyhow::{Context, bail};
use clap::ValueEnum;
use guan_policy::contract::tds::IDENTIFIER_CHARS;
use std::path::Path;
use std::process::ExitCode;

/// The forms that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    /// TC609-6-2025-14.
    Tds,
    /// Our profile of ODRL 2.2.
    Odrl,
}

pub(super) fn convert(
    file: &Path,
    (to, unnumbered): (Form, bool),
    out: Option<&Path>,
) -> anyhow::Result<ExitCode> {
    let (contract, bytes) = read_draft(file)?;
    if to == Form::Tds && !contract.is_numbered() && !unnumbered {
        bail!(
            "the id {} is no number of {IDENTIFIER_CHARS} characters as TC609-6-2025-14 wants it, and \
             only a platform can give one; make that number the id of the contract, or convert with \
             --unnumbered, which leaves contractId empty and keeps the id in our extension",
            contract.id()
        );
    }
    let object = match to {
        Form::Tds => contract.to_tds(),
        Form::Odrl => contract.to_odrl(),
    };
    let object = object.with_context(|| format!("{} cannot be converted", file.display()))?;
    let text = format!("{object:#}\n");
    match out {
        Some(out) => std::fs::write(out, text)
            .with_context(|| format!("{} cannot be written", out.display()))?,
        None => print!("{text}"),
    }
    let dropped = signatures(&bytes);
    if dropped > 0 {
        eprintln!(
            "{dropped} signatures were left out: they are of the old form. Both parties sign the \
             new one, see `guan-space contract sign`"
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// How many signatures a file has that was read before.
fn signatures(bytes: &[u8]) -> usize {
    let value: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    value["signatures"].as_array().map_or(0, Vec::len)
}
