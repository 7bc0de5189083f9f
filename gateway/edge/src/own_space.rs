//! Which space is this box's own: whose contract sets count here.
//!
//! Every party of a contract signs with a key that is trusted here, so a good signature makes nobody the space. Its
//! name comes from the configuration; else from the set that was taken last, which the state folder keeps; else from
//! the authority by which the box was enrolled. Where none of them says it, a session brings the first set, as that
//! authority vouches for it; a medium does not.
//!
//! Never here: signatures and epochs.

use crate::standing::CONTRACTS_DIR;
use crate::upkeep::replace;
use guan_configs::EdgeConfig;
use guan_identity::{read_certificates, space_of_authority};
use guan_model::BoxId;
use std::io;
use std::path::{Path, PathBuf};

/// In the folder of contracts: the name of the space whose set was taken last.
const SPACE_FILE: &str = "space";

/// Why a set is of nobody who may say what stands; who made or brought it is to blame, or who moved the box.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpaceFault {
    #[error(
        "the contract set is signed by {found}, and the space of this box is {ours}, as {source_of_name} says: it \
         does not count. If the box now belongs to space {found}, set contracts.space to it and start guan again"
    )]
    Other { found: String, ours: String, source_of_name: NameFrom },
    #[error(
        "the contract set is signed by {found}, and nothing says that this is the space of this box: a medium does \
         not bring the first set of an unknown space. If it is, set contracts.space = {found:?}"
    )]
    Unnamed { found: String },
}

/// What says whose sets count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameFrom {
    Configuration,
    LastSet,
    Authority,
}

impl std::fmt::Display for NameFrom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Configuration => "contracts.space",
            Self::LastSet => "the set that it took last",
            Self::Authority => "the authority that enrolled it",
        })
    }
}

/// How a set came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Over the link, whose other end the box's authority has certified.
    Session,
    /// It lies in the state folder, where an earlier run put it.
    Disk,
    Medium,
}

/// Whose sets count here, and what says so.
#[derive(Debug, Clone)]
pub struct OwnSpace {
    configured: Option<String>,
    authority: Option<String>,
    /// Of the last set that was taken, durable.
    kept: Option<String>,
    file: PathBuf,
}

impl OwnSpace {
    pub fn read(config: &EdgeConfig) -> Self {
        let authority = authority(&config.identity.space_ca_file);
        Self::new(config.contracts.space.clone(), authority, &config.state_dir)
    }

    /// What is configured and what the authority's certificate says; the rest is read from the state folder.
    pub fn new(configured: Option<String>, authority: Option<String>, state_dir: &Path) -> Self {
        let file = state_dir.join(CONTRACTS_DIR).join(SPACE_FILE);
        let kept = match std::fs::read_to_string(&file) {
            Ok(text) => BoxId::parse(text.trim()).ok(),
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => None,
            Err(fault) => {
                tracing::warn!(path = %file.display(), %fault, "the name of the space");
                None
            }
        };
        Self { configured, authority, kept: kept.map(|name| name.to_string()), file }
    }

    /// Whether a set that `found` has signed may say what stands.
    pub fn check(&self, found: &str, way: Way) -> Result<(), SpaceFault> {
        let named = [
            (&self.configured, NameFrom::Configuration),
            (&self.kept, NameFrom::LastSet),
            (&self.authority, NameFrom::Authority),
        ];
        let first = named.into_iter().find_map(|(name, from)| Some((name.as_ref()?, from)));
        match first {
            Some((ours, _)) if ours == found => Ok(()),
            Some((ours, source_of_name)) => {
                let (found, ours) = (found.to_owned(), ours.clone());
                Err(SpaceFault::Other { found, ours, source_of_name })
            }
            None if way == Way::Medium => Err(SpaceFault::Unnamed { found: found.to_owned() }),
            None => Ok(()),
        }
    }

    /// Whose set was taken last.
    pub fn kept(&self) -> Option<&str> {
        self.kept.as_deref()
    }

    /// Notes whose set was taken, durably; from now on no other one counts.
    pub fn keep(&mut self, space: &str) -> io::Result<()> {
        if self.kept.as_deref() != Some(space) {
            replace(&self.file, format!("{space}\n"))?;
            self.kept = Some(space.to_owned());
        }
        Ok(())
    }

    pub fn file(&self) -> &Path {
        &self.file
    }
}

/// The space that the box's authority names in all of its certificates.
fn authority(file: &Path) -> Option<String> {
    let pem = std::fs::read_to_string(file).ok()?;
    let certificates = read_certificates(&pem).ok()?;
    let mut names = certificates.iter().map(|one| space_of_authority(one));
    let first = names.next()??;
    names.all(|name| name.as_ref() == Some(&first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_outranks_the_last_set_and_that_the_authority() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(CONTRACTS_DIR)).unwrap();
        let some = |name: &str| Some(name.to_owned());
        let open = |configured, authority| OwnSpace::new(configured, authority, folder.path());
        let refused = |own: &OwnSpace, found: &str, way, expect: &str| {
            let text = own.check(found, way).unwrap_err().to_string();
            assert!(text.contains(expect) && text.contains(found), "{text} for {expect}");
        };
        let unnamed = open(None, None);
        for way in [Way::Session, Way::Disk] {
            unnamed.check("space-1", way).unwrap();
        }
        refused(&unnamed, "space-1", Way::Medium, "set contracts.space = \"space-1\"");
        let mut enrolled = open(None, some("space-1"));
        for way in [Way::Session, Way::Disk, Way::Medium] {
            enrolled.check("space-1", way).unwrap();
            refused(&enrolled, "insurer-1", way, "is space-1, as the authority that enrolled it");
        }
        enrolled.keep("space-1").unwrap();
        // It has moved to another authority, and nobody said so in the configuration.
        let moved = open(None, some("space-2"));
        moved.check("space-1", Way::Medium).unwrap();
        refused(&moved, "space-2", Way::Session, "is space-1, as the set that it took last");
        let told = open(some("space-2"), some("space-1"));
        told.check("space-2", Way::Medium).unwrap();
        refused(&told, "space-1", Way::Session, "is space-2, as contracts.space says");
        assert_eq!(told.kept(), Some("space-1"));
        std::fs::write(told.file(), "no name\n").unwrap();
        assert_eq!(open(None, None).kept(), None);
    }
}
