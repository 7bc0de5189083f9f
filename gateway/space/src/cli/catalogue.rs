//! `guan-space catalogue`: what boxes offer.

use super::{Common, load, print_json, wall_time};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use guan_catalogue::catalogue::{Catalogue, Dataset, Named};
use guan_catalogue::quality::Metric;
use guan_catalogue::search::{Limits, Query, search};
use guan_catalogue::{Identifier, dcat};
use guan_model::BoxId;
use guan_space::catalogue_server::answer;
use guan_space::catalogues::{Catalogues, KeyRule};
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub(super) enum CatalogueCommand {
    /// Take the catalogue of a box, as `guan catalogue export` wrote it.
    Import {
        #[command(flatten)]
        common: Common,
        /// Name of the box.
        #[arg(long = "box")]
        id: String,
        /// The signed document.
        file: PathBuf,
        /// Take it even if another key has signed it than before: the box was set up anew.
        #[arg(long)]
        replace_key: bool,
    },
    /// The catalogues that are here.
    List(Common),
    /// The catalogue of one box, or what one identifier names, with everything that is known of it.
    Show {
        #[command(flatten)]
        common: Common,
        /// Name of a box, or an identifier.
        id: String,
    },
    /// Datasets in which all words occur, best first.
    Search(SearchOptions),
    /// What an identifier names, and which box has it.
    Resolve {
        #[command(flatten)]
        common: Common,
        identifier: String,
    },
}

#[derive(Args)]
pub(super) struct SearchOptions {
    #[command(flatten)]
    common: Common,
    /// Words; without any, all datasets.
    words: Vec<String>,
    /// Only datasets with a point of this unit (UCUM).
    #[arg(long)]
    unit: Option<String>,
    /// No class above this: general, important or core.
    #[arg(long)]
    class: Option<String>,
    /// Only of this provider.
    #[arg(long)]
    provider: Option<String>,
    /// At least this complete on the latest day, such as 0.95.
    #[arg(long)]
    completeness: Option<String>,
}

pub(super) fn execute(command: &CatalogueCommand) -> anyhow::Result<()> {
    match command {
        CatalogueCommand::Import { common, id, file, replace_key } => {
            let rule = if *replace_key { KeyRule::Replace } else { KeyRule::Pinned };
            import(common, &BoxId::parse(id)?, file, rule)
        }
        CatalogueCommand::List(common) => list(common),
        CatalogueCommand::Show { common, id } => show(common, id),
        CatalogueCommand::Search(options) => find(options),
        CatalogueCommand::Resolve { common, identifier } => resolve(common, identifier),
    }
}

fn catalogues(common: &Common) -> anyhow::Result<Catalogues> {
    Ok(Catalogues::open(&load(&common.config)?.state_dir))
}

/// Those that cannot be read are told of.
fn all(common: &Common) -> anyhow::Result<Vec<Catalogue>> {
    let (read, faults) = catalogues(common)?.all();
    faults.iter().for_each(|fault| eprintln!("left out: {fault}"));
    Ok(read)
}

fn import(common: &Common, id: &BoxId, file: &Path, rule: KeyRule) -> anyhow::Result<()> {
    let bytes =
        std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let accepted = catalogues(common)?.take(wall_time(), id, &bytes, rule);
    let accepted = accepted.with_context(|| format!("{} is not taken", file.display()))?;
    if common.json {
        return print_json(&json!({
            "box": id.as_str(), "version": accepted.version, "datasets": accepted.datasets,
            "offers": accepted.offers, "known": accepted.is_known,
        }));
    }
    let (datasets, offers) = (accepted.datasets, accepted.offers);
    let known = if accepted.is_known { ", which was here already" } else { "" };
    println!("box {id}: version {}{known}; {datasets} datasets, {offers} offers", accepted.version);
    Ok(())
}

fn list(common: &Common) -> anyhow::Result<()> {
    let all = all(common)?;
    if common.json {
        return print_json(&answer::index(&all));
    }
    if all.is_empty() {
        println!("no catalogue is here; `guan-space catalogue import` takes one");
    }
    for one in &all {
        let (datasets, offers) = (one.datasets.len(), one.offers.len());
        println!("{:<20} {} {datasets} datasets, {offers} offers", one.box_id.as_str(), one.id);
    }
    Ok(())
}

fn show(common: &Common, id: &str) -> anyhow::Result<()> {
    let Ok(box_id) = BoxId::parse(id) else { return resolve(common, id) };
    let Some(catalogue) = catalogues(common)?.catalogue(&box_id)? else {
        // A national identifier looks like a name.
        return match Identifier::parse(id) {
            Ok(_) => resolve(common, id),
            Err(_) => bail!("box {box_id} has no catalogue here; `catalogue list` shows all"),
        };
    };
    if common.json {
        return print_json(&dcat::body(&catalogue));
    }
    println!("{} of {}, box {box_id}", catalogue.id, catalogue.provider);
    catalogue.datasets.iter().for_each(|one| print_dataset(&catalogue, one));
    Ok(())
}

fn print_dataset(catalogue: &Catalogue, dataset: &Dataset) {
    println!("\n{}\n  {}, class {}", dataset.id, dataset.name, dataset.class.name());
    if let Some((day, figures)) = dataset.latest() {
        let shares = Metric::ALL.into_iter().filter_map(|(name, metric)| {
            figures.share(metric).map(|share| format!("{name} {share}"))
        });
        let shares: Vec<String> = shares.collect();
        println!("  {day}: {} readings, {}", figures.readings, shares.join(", "));
    }
    for point in &dataset.points {
        let (unit, kind) = (point.unit.as_str(), point.value_type.name());
        println!("  point {} [{unit}] {kind}, {}", point.name, point.class.name());
    }
    for offer in catalogue.offers_of(&dataset.name) {
        let title = offer.contract.title().unwrap_or("without a title");
        println!("  offer {}: {title} ({})", offer.id(), offer.product);
    }
}

fn find(options: &SearchOptions) -> anyhow::Result<()> {
    let limits = Limits {
        unit: options.unit.clone(),
        class: options.class.clone(),
        provider: options.provider.clone(),
        completeness: options.completeness.clone(),
    };
    let query = Query::new(&options.words.join(" "))?.within(&limits)?;
    let all = all(&options.common)?;
    let hits = search(&all, &query);
    if options.common.json {
        return print_json(&answer::hits(&hits));
    }
    if hits.is_empty() {
        println!("nothing fits");
    }
    for hit in hits {
        let complete = hit.dataset.latest().and_then(|(_, figures)| figures.completeness);
        let complete = complete.map_or("-".to_owned(), |share| share.to_string());
        println!("{} {} {complete}", hit.dataset.id, hit.dataset.class.name());
    }
    Ok(())
}

fn resolve(common: &Common, text: &str) -> anyhow::Result<()> {
    let identifier = Identifier::parse(text)?;
    let all = all(common)?;
    let Some((catalogue, named)) = answer::named(&all, &identifier) else {
        bail!("{identifier} is in no catalogue here; `guan-space catalogue search` shows what is");
    };
    if common.json {
        return print_json(&answer::resolved(catalogue, &named));
    }
    let kind = answer::kind(&named);
    println!("{identifier}: a {kind} of box {}", catalogue.box_id);
    match named {
        Named::Box => catalogue.datasets.iter().for_each(|one| print_dataset(catalogue, one)),
        Named::Dataset(one) | Named::Distribution(one) => print_dataset(catalogue, one),
        Named::Product(offer) => println!("{:#}", offer.json),
    }
    Ok(())
}
