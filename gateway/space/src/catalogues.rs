//! The catalogues of all boxes: `state_dir/catalogues/<box>/catalogue.json`, and the key that signs them.
//!
//! A box's first catalogue, which comes over its own authenticated link or from an operator's hand, says which
//! key signs; from then on no other key counts until somebody says so, and no document that is not newer
//! than the one that is here. What is on the disk is checked again whenever it is read.

use crate::logs::folders::{Folders, OsFolders, WITNESS_DIR};
use crate::logs::witnesses;
use guan_catalogue::catalogue::{CATALOGUE_BYTES_MAX, Catalogue, CatalogueError};
use guan_catalogue::{Identifier, dcat};
use guan_model::{BoxId, PublicKey, WallTime};
use guan_spool::OsDisk;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Folder in `space.state_dir`.
pub const CATALOGUES_DIR: &str = "catalogues";
/// A catalogue from further in the future is refused: it would keep all later ones out.
pub const AHEAD_MAX: Duration = Duration::from_secs(24 * 3600);
const FILE: &str = "catalogue.json";

/// Why a catalogue is not taken, or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueFault {
    #[error("{path} cannot be used: check the disk and its rights")]
    File { path: PathBuf, source: io::Error },
    #[error("{path} is damaged; import a new one with `guan-space catalogue import --replace-key`")]
    Damaged { path: PathBuf, source: CatalogueError },
    #[error("{0}")]
    Refused(#[from] CatalogueError),
    #[error("this is the catalogue of box {found}, not of {box_id}; name the right box")]
    OtherBox { box_id: BoxId, found: BoxId },
    #[error("version {found} is not newer than {known}, which is here; export it anew on the box")]
    NotNewer { known: u64, found: u64 },
    #[error("it is from more than a day ahead of this space's clock; set the clocks")]
    Future,
    #[error(
        "it is signed with another key than the catalogues of box {box_id} before; if the box was set up \
         anew, import it with --replace-key"
    )]
    OtherKey { box_id: BoxId },
    #[error(
        "{identifier} is named by box {other} already; correct catalogue.provider of one of them"
    )]
    Taken { identifier: Identifier, other: BoxId },
}

/// What became of a catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    pub version: u64,
    pub datasets: usize,
    pub offers: usize,
    /// Exactly this document was here already.
    pub is_known: bool,
}

/// Whether another key than the known one may sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRule {
    Pinned,
    Replace,
}

/// All catalogues of a space.
#[derive(Debug, Clone)]
pub struct Catalogues {
    folder: PathBuf,
}

impl Catalogues {
    pub fn open(state_dir: &Path) -> Self {
        Self { folder: state_dir.join(CATALOGUES_DIR) }
    }

    /// Takes what a box has pushed over its own link. Reads and writes files.
    pub fn accept(
        &self,
        now: WallTime,
        box_id: &BoxId,
        bytes: &[u8],
    ) -> Result<Accepted, CatalogueFault> {
        self.take(now, box_id, bytes, KeyRule::Pinned)
    }

    /// As `accept`, by an operator's hand.
    pub fn take(
        &self,
        now: WallTime,
        box_id: &BoxId,
        bytes: &[u8],
        rule: KeyRule,
    ) -> Result<Accepted, CatalogueFault> {
        let catalogue = dcat::read(bytes)?;
        if catalogue.box_id != *box_id {
            return Err(CatalogueFault::OtherBox {
                box_id: box_id.clone(),
                found: catalogue.box_id,
            });
        }
        let mut accepted = Accepted {
            version: catalogue.version,
            datasets: catalogue.datasets.len(),
            offers: catalogue.offers.len(),
            is_known: false,
        };
        let known = match (self.file(box_id)?, rule) {
            (Some(known), KeyRule::Pinned) => Some((self.parse(box_id, &known)?, known)),
            // A damaged one must not stand in the way of its replacement.
            (Some(known), KeyRule::Replace) => dcat::read(&known).ok().map(|read| (read, known)),
            (None, _) => None,
        };
        if let Some((known, file)) = known {
            if is_other(&known.key, &catalogue.key) {
                let is_heir = || self.has_handed_over(box_id, &known.key, &catalogue.key);
                if rule == KeyRule::Pinned && !is_heir() {
                    return Err(CatalogueFault::OtherKey { box_id: box_id.clone() });
                }
            } else if file == bytes {
                accepted.is_known = true;
                return Ok(accepted);
            } else if catalogue.version <= known.version {
                let (known, found) = (known.version, catalogue.version);
                return Err(CatalogueFault::NotNewer { known, found });
            }
        }
        if catalogue.issued() > now.saturating_add(AHEAD_MAX) {
            return Err(CatalogueFault::Future);
        }
        self.check_names(&catalogue)?;
        self.put(box_id, bytes)?;
        Ok(accepted)
    }

    /// Whether the space's witness has followed the box's log from one key to the other: a catalogue is signed with
    /// the log's key.
    fn has_handed_over(&self, box_id: &BoxId, old: &PublicKey, new: &PublicKey) -> bool {
        let (PublicKey::Ed25519(old), PublicKey::Ed25519(new)) = (old, new) else { return false };
        let Some(state_dir) = self.folder.parent() else { return false };
        let folders = OsFolders::new(state_dir);
        let own = [WITNESS_DIR, box_id.as_str()];
        folders.list(&own).unwrap_or_default().iter().any(|name| {
            let disk = OsDisk::open_read_only(&folders.path(&[WITNESS_DIR, box_id.as_str(), name]));
            let lineage = disk.and_then(|disk| witnesses::lineage(&disk)).ok().flatten();
            lineage.is_some_and(|lineage| {
                let steps = lineage.after(old).unwrap_or_default();
                steps.iter().any(|step| step.new_key().key_bytes() == *new)
            })
        })
    }

    /// One identifier names one thing in the whole space.
    fn check_names(&self, catalogue: &Catalogue) -> Result<(), CatalogueFault> {
        for other in self.boxes().into_iter().filter(|one| *one != catalogue.box_id) {
            // A damaged neighbour is told of when it is read itself.
            let Ok(Some(known)) = self.catalogue(&other) else { continue };
            let datasets = catalogue.datasets.iter().flat_map(|one| [&one.id, &one.distribution]);
            let products = catalogue.offers.iter().map(|one| &one.product);
            let mut names = std::iter::once(&catalogue.id).chain(datasets).chain(products);
            if let Some(identifier) = names.find(|name| known.resolve(name).is_some()) {
                let identifier = identifier.clone();
                return Err(CatalogueFault::Taken { identifier, other });
            }
        }
        Ok(())
    }

    /// The boxes that have a catalogue.
    pub fn boxes(&self) -> Vec<BoxId> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut boxes: Vec<BoxId> = names.filter_map(|name| BoxId::parse(&name).ok()).collect();
        boxes.sort();
        boxes
    }

    /// The catalogue of a box; `None` when it never had one.
    pub fn catalogue(&self, box_id: &BoxId) -> Result<Option<Catalogue>, CatalogueFault> {
        self.file(box_id)?.map(|bytes| self.parse(box_id, &bytes)).transpose()
    }

    /// The catalogue of a box as it was signed, once it has been checked.
    pub fn document(&self, box_id: &BoxId) -> Result<Option<Vec<u8>>, CatalogueFault> {
        let Some(bytes) = self.file(box_id)? else { return Ok(None) };
        self.parse(box_id, &bytes).map(|_| Some(bytes))
    }

    /// All that can be read, and what is wrong with the others.
    pub fn all(&self) -> (Vec<Catalogue>, Vec<CatalogueFault>) {
        let (mut read, mut faults) = (Vec::new(), Vec::new());
        for box_id in self.boxes() {
            match self.catalogue(&box_id) {
                Ok(catalogue) => read.extend(catalogue),
                Err(fault) => faults.push(fault),
            }
        }
        (read, faults)
    }

    fn parse(&self, box_id: &BoxId, bytes: &[u8]) -> Result<Catalogue, CatalogueFault> {
        let path = self.path(box_id);
        dcat::read(bytes).map_err(|source| CatalogueFault::Damaged { path, source })
    }

    fn path(&self, box_id: &BoxId) -> PathBuf {
        self.folder.join(box_id.as_str()).join(FILE)
    }

    fn file(&self, box_id: &BoxId) -> Result<Option<Vec<u8>>, CatalogueFault> {
        let path = self.path(box_id);
        let bytes = match fs::metadata(&path) {
            Ok(file) if file.len() > CATALOGUE_BYTES_MAX as u64 => {
                Err(io::Error::other(format!("it is longer than {CATALOGUE_BYTES_MAX} bytes")))
            }
            Ok(_) => fs::read(&path).map(Some),
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(fault) => Err(fault),
        };
        bytes.map_err(|source| CatalogueFault::File { path, source })
    }

    /// By rename, as a command may read at any moment.
    fn put(&self, box_id: &BoxId, bytes: &[u8]) -> Result<(), CatalogueFault> {
        let path = self.path(box_id);
        let draft = path.with_extension("draft");
        let folder = path.parent().expect("it lies in the folder of its box");
        let written = guan_spool::create_folder(folder)
            .and_then(|()| fs::write(&draft, bytes))
            .and_then(|()| File::open(&draft)?.sync_all())
            .and_then(|()| fs::rename(&draft, &path))
            .and_then(|()| File::open(folder)?.sync_all());
        written.map_err(|source| CatalogueFault::File { path, source })
    }
}

fn is_other(known: &PublicKey, found: &PublicKey) -> bool {
    match (known, found) {
        (PublicKey::Ed25519(known), PublicKey::Ed25519(found)) => known != found,
        (PublicKey::EcdsaP256(known), PublicKey::EcdsaP256(found)) => known != found,
        _ => true,
    }
}

#[cfg(test)]
pub(crate) mod tests;
