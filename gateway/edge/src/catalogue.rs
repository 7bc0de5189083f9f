//! The catalogue of this box: offers from a folder, quality figures from disk, and the document that it signs.
//!
//! `state_dir/quality/` has one file a day, replaced whole once a minute and at the end: a kill -9 costs the
//! figures of a minute, never a reading. Files and not sled, so that commands can read them while the gateway
//! runs. A file or offer that is refused never takes the others down.

use guan_catalogue::catalogue::{CATALOGUE_BYTES_MAX, OFFERS_MAX, OfferFault};
use guan_catalogue::quality::{
    DAY_BYTES_MAX, DAYS_KEPT, DayFault, DayTally, Expectation, Ledger, Yardstick, YardstickFault,
};
use guan_catalogue::{
    Catalogue, CatalogueError, Day, Figures, IdentifierFault, Namer, Offer, Service, Subject, dcat,
};
use guan_configs::EdgeConfig;
use guan_model::{DatasetId, Digest, PublicKey, Signer, WallTime};
use guan_policy::{CONTRACT_BYTES_MAX, canonical_json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Folder in `box.state_dir`.
pub const QUALITY_DIR: &str = "quality";
/// Days whose figures are published; more are kept.
pub const DAYS_PUBLISHED: usize = 7;

/// Why there is no catalogue.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueFault {
    #[error("catalogue.subject or catalogue.area: {0}")]
    Subject(#[from] IdentifierFault),
    #[error("{}", list(.0))]
    Yardstick(Vec<YardstickFault>),
    #[error("{path} cannot be used: check the disk and its rights")]
    File { path: PathBuf, source: io::Error },
    #[error("what this box describes makes no catalogue of at most {CATALOGUE_BYTES_MAX} bytes")]
    Write(#[from] CatalogueError),
}

fn list(faults: &[YardstickFault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Why a file is left out.
#[derive(Debug, thiserror::Error)]
pub enum LeftOut {
    #[error("{path} cannot be read: check its rights")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is longer than {limit} bytes; it is nothing of ours")]
    TooLong { path: PathBuf, limit: usize },
    #[error("{path}: {source}")]
    Offer { path: PathBuf, source: OfferFault },
    #[error("{path}: another offer has the id {id}; give each its own")]
    Repeated { path: PathBuf, id: String },
    #[error("{path} and later files: the folder holds more than {OFFERS_MAX} offers")]
    TooMany { path: PathBuf },
    #[error("{path}: {source}")]
    Day { path: PathBuf, source: DayFault },
}

/// What the readings of this box are measured with.
pub fn yardstick(config: &EdgeConfig) -> Result<Arc<Yardstick>, CatalogueFault> {
    let expectations = config.expectations.iter().map(|(point, expected)| {
        let (interval, low, high) = (expected.interval, expected.low, expected.high);
        (*point, Expectation { interval, low, high })
    });
    let limits = config.datasets.iter();
    let limits = limits.filter_map(|one| Some((one.id.clone(), one.timely_within?)));
    let yardstick = Yardstick::new(
        &config.descriptors,
        &expectations.collect(),
        &limits.collect(),
        config.catalogue.timely_within,
    );
    yardstick.map(Arc::new).map_err(CatalogueFault::Yardstick)
}

/// Names what this box publishes.
pub fn namer(config: &EdgeConfig) -> Result<Namer, CatalogueFault> {
    let subject = config.catalogue.subject.as_ref();
    let subject = subject.map(|(code, area)| Subject::parse(code, area)).transpose()?;
    Ok(Namer::new(config.catalogue.provider.clone(), config.box_id.clone(), subject))
}

/// The days that are on disk.
pub fn ledger(config: &EdgeConfig) -> Result<(Ledger, Vec<LeftOut>), CatalogueFault> {
    let mut ledger = Ledger::new(yardstick(config)?);
    let mut left_out = Vec::new();
    for path in files(&config.state_dir.join(QUALITY_DIR), "day")? {
        let read = read(&path, DAY_BYTES_MAX).and_then(|bytes| {
            let path = path.clone();
            DayTally::decode(&bytes).map_err(|source| LeftOut::Day { path, source })
        });
        match read {
            Ok((day, tally)) => ledger.restore(day, tally),
            Err(fault) => left_out.push(fault),
        }
    }
    Ok((ledger, left_out))
}

/// Keeps days, and removes those that are too old.
pub fn keep_days(state_dir: &Path, days: &[(Day, Vec<u8>)]) -> Result<(), CatalogueFault> {
    let folder = state_dir.join(QUALITY_DIR);
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| CatalogueFault::File { path, source }
    };
    guan_spool::create_folder(&folder).map_err(failed(&folder))?;
    for (day, bytes) in days {
        let path = folder.join(format!("{day}.day"));
        replace(&path, bytes).map_err(failed(&path))?;
    }
    let kept = files(&folder, "day")?;
    for path in kept.iter().take(kept.len().saturating_sub(DAYS_KEPT)) {
        fs::remove_file(path).map_err(failed(path))?;
    }
    Ok(())
}

/// By rename, as a command may read at any moment.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("draft");
    fs::write(&draft, bytes)?;
    File::open(&draft)?.sync_all()?;
    fs::rename(&draft, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// Sorted by name, which for days is by age; none when the folder is not there.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, CatalogueFault> {
    let failed = |source| CatalogueFault::File { path: folder.to_path_buf(), source };
    let entries = match fs::read_dir(folder) {
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|found| found == extension) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn read(path: &Path, limit: usize) -> Result<Vec<u8>, LeftOut> {
    let failed = |source| LeftOut::Read { path: path.to_path_buf(), source };
    if fs::metadata(path).map_err(failed)?.len() > limit as u64 {
        return Err(LeftOut::TooLong { path: path.to_path_buf(), limit });
    }
    fs::read(path).map_err(failed)
}

fn offers(
    config: &EdgeConfig,
    namer: &Namer,
) -> Result<(Vec<Offer>, Vec<LeftOut>), CatalogueFault> {
    let (mut offers, mut left_out): (Vec<Offer>, Vec<LeftOut>) = (Vec::new(), Vec::new());
    let Some(folder) = &config.catalogue.offers_dir else { return Ok((offers, left_out)) };
    let datasets: BTreeSet<DatasetId> = config.descriptors.datasets();
    for path in files(folder, "json")? {
        if offers.len() == OFFERS_MAX {
            left_out.push(LeftOut::TooMany { path });
            break;
        }
        let draft = read(&path, CONTRACT_BYTES_MAX).and_then(|bytes| {
            let path = path.clone();
            let draft = Offer::draft(&bytes, namer, &datasets);
            draft.map_err(|source| LeftOut::Offer { path, source })
        });
        match draft {
            Ok(offer) if offers.iter().any(|known| known.id() == offer.id()) => {
                left_out.push(LeftOut::Repeated { path, id: offer.id().to_string() });
            }
            Ok(offer) => offers.push(offer),
            Err(fault) => left_out.push(fault),
        }
    }
    Ok((offers, left_out))
}

/// Everything that this box offers now, from its configuration, its folder of offers and a ledger.
pub fn make(
    now: WallTime,
    config: &EdgeConfig,
    key: PublicKey,
    ledger: &Ledger,
) -> Result<(Catalogue, Vec<LeftOut>), CatalogueFault> {
    let namer = namer(config)?;
    let (offers, left_out) = offers(config, &namer)?;
    let figures = |dataset: &DatasetId| -> BTreeMap<Day, Figures> {
        let days = ledger.days().filter_map(|day| Some((day, ledger.figures(day, dataset)?)));
        days.take(DAYS_PUBLISHED).collect()
    };
    let who = (config.box_id.clone(), config.catalogue.provider.clone());
    let mut catalogue = Catalogue::of_box(now, &namer, who, &config.descriptors, key, figures);
    if config.link.is_enabled {
        let host = match config.link.host.contains(':') {
            true => format!("[{}]", config.link.host),
            false => config.link.host.clone(),
        };
        let endpoint = format!("quic://{host}:{}", config.link.port);
        catalogue.service = Some(Service { endpoint });
    }
    Ok((catalogue.with_offers(offers), left_out))
}

/// A signed catalogue, ready to be pushed.
#[derive(Debug)]
pub struct Document {
    pub bytes: Vec<u8>,
    /// Higher than that of every document that was made at an earlier moment.
    pub version: u64,
    /// The same as long as nothing but the moment differs: then nothing needs to be pushed.
    pub content: Digest,
    pub left_out: Vec<LeftOut>,
}

/// The document to push to the space, from what is on disk. Reads files: not for a task that must not block.
pub fn document(
    now: WallTime,
    config: &EdgeConfig,
    signer: &dyn Signer,
) -> Result<Document, CatalogueFault> {
    let (ledger, mut left_out) = ledger(config)?;
    let (catalogue, offers_left_out) = make(now, config, signer.public_key(), &ledger)?;
    left_out.extend(offers_left_out);
    let bytes = dcat::write(&catalogue, signer)?;
    let version = catalogue.version;
    let timeless = Catalogue { version: 0, ..catalogue };
    let content = Digest::of(&canonical_json(&dcat::body(&timeless)));
    Ok(Document { bytes, version, content, left_out })
}

#[cfg(test)]
mod tests;
