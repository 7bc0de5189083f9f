//! `guan catalogue`: what this box offers, as DCAT 3 or as a table.

use super::{Common, load, print_json};
use anyhow::Context;
use clap::Subcommand;
use guan_catalogue::quality::Metric;
use guan_catalogue::{Catalogue, Figures};
use guan_configs::EdgeConfig;
use guan_edge::catalogue::{self, LeftOut};
use guan_identity::LogKeyFile;
use guan_model::{Signer, WallTime};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Subcommand)]
pub(super) enum CatalogueCommand {
    /// Print the signed catalogue as DCAT 3 (JSON-LD). Quality figures are those of the last minute at the
    /// latest. Offers that are refused are named, left out, and make the status 1.
    Export {
        #[command(flatten)]
        common: Common,
        /// A file instead of the standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// The datasets with identifiers, offers and the quality figures of the latest day.
    Show(Common),
    /// Print the JSON-LD context that maps the terms of a catalogue.
    Context,
}

pub(super) fn execute(command: &CatalogueCommand) -> anyhow::Result<ExitCode> {
    match command {
        CatalogueCommand::Export { common, out } => export(common, out.as_deref()),
        CatalogueCommand::Show(common) => show(common),
        CatalogueCommand::Context => {
            print!("{}", guan_catalogue::dcat::CONTEXT_FILE);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// A sealed key opens in the running gateway and in here alike, as far as the TPM lets it.
fn log_key(config: &EdgeConfig) -> anyhow::Result<LogKeyFile> {
    let tpm = match config.identity.seal {
        Some(_) => guan_edge::box_identity::start_tpm(&config.identity)?,
        None => None,
    };
    let key = guan_edge::sealing::log_key(config, tpm.as_ref());
    key.context("the catalogue cannot be signed; `guan identity init` or `guan join` makes the key")
}

fn now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

fn tell(left_out: &[LeftOut]) -> ExitCode {
    for fault in left_out {
        eprintln!("left out: {fault}");
    }
    if left_out.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn export(common: &Common, out: Option<&Path>) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let made = catalogue::document(now(), &config, &log_key(&config)?)?;
    let mut bytes = made.bytes;
    if !common.json {
        // Other blanks, the same canonical form: the signature holds.
        let value: serde_json::Value = serde_json::from_slice(&bytes)?;
        bytes = format!("{value:#}\n").into_bytes();
    }
    match out {
        Some(path) => std::fs::write(path, bytes)
            .with_context(|| format!("{} cannot be written", path.display()))?,
        None => print!("{}", String::from_utf8(bytes)?),
    }
    Ok(tell(&made.left_out))
}

fn show(common: &Common) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let key = log_key(&config)?;
    let (ledger, mut left_out) = catalogue::ledger(&config)?;
    let (catalogue, refused) = catalogue::make(now(), &config, key.public_key(), &ledger)?;
    left_out.extend(refused);
    if common.json {
        print_json(&guan_catalogue::dcat::body(&catalogue))?;
    } else {
        print(&catalogue);
    }
    Ok(tell(&left_out))
}

fn print(catalogue: &Catalogue) {
    println!("{} of {}", catalogue.id, catalogue.provider);
    println!(
        "\n{:<24} {:<9} {:<10} {:>9} {:>7}  complete  accurate    timely consistent",
        "dataset", "class", "day", "readings", "refused"
    );
    for dataset in &catalogue.datasets {
        let (name, class) = (dataset.name.as_str(), dataset.class.name());
        match dataset.latest() {
            None => println!("{name:<24} {class:<9} nothing measured yet"),
            Some((day, figures)) => println!(
                "{name:<24} {class:<9} {day:<10} {:>9} {:>7}{}",
                figures.readings,
                figures.refused,
                shares(figures),
                day = day.to_string()
            ),
        }
    }
    println!();
    for dataset in &catalogue.datasets {
        println!("{} {}, {} points", dataset.id, dataset.name, dataset.points.len());
        for offer in catalogue.offers_of(&dataset.name) {
            let title = offer.contract.title().unwrap_or("without a title");
            println!("  offer {}: {title} ({})", offer.id(), offer.product);
        }
    }
}

fn shares(figures: &Figures) -> String {
    let shown = |(_, metric): (_, Metric)| {
        let share = figures.share(metric).map_or("-".to_owned(), |share| share.to_string());
        format!("{share:>10}")
    };
    Metric::ALL.map(shown).concat()
}
