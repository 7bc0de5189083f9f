//! The folder beside the log that says who acted: openings of commitments, and acts that the log is still to record.
//!
//! `H.opening` opens the commitment H, in hex; `N.act` is an act ([`Act`]) that waits for its leaf. Invariants:
//! - An opening is durable before the act that names its commitment, and that before its leaf.
//! - An act goes only when its leaf is durable and, where it erases, the openings are gone. After a cut between the two
//!   it is done again: the log may then say the same thing twice, and never not at all.
//! - What is erased is overwritten where it lies before its name goes. Flash may keep an old copy below what software
//!   reaches, and so may a snapshot of the file system; the salt makes a copy of the *log* worth nothing.
//!
//! Never here: writing leaves, which is whose log it is ([`Recorder`]). One writer at a time, by the lock of the folder.

use crate::act::{Act, ActFault};
use guan_evidence::{OPENING_BYTES_MAX, Opening};
use guan_model::Digest;
use guan_spool::{Disk, DiskFile, read_file};
use std::collections::BTreeMap;
use std::io;

/// In `box.state_dir`.
pub const ACTS_DIR: &str = "acts";
/// Most openings; each takes a block of the disk.
pub const OPENINGS_MAX: usize = 4096;
/// Most acts that wait for the log.
pub const ACTS_MAX: usize = 64;
/// An act that erases all openings, and says who asked for it.
const ACT_BYTES_MAX: usize = 128 + OPENINGS_MAX * 34;
const OPENING: &str = ".opening";
const ACT: &str = ".act";
const DRAFT: &str = ".draft";
const DAMAGED: &str = ".damaged";

/// Why the folder cannot be used as asked.
#[derive(Debug, thiserror::Error)]
pub enum ActsFault {
    #[error("{name} cannot be read or written")]
    File { name: String, source: io::Error },
    #[error("{name} cannot be read")]
    Act { name: String, source: ActFault },
    #[error(
        "{OPENINGS_MAX} openings are kept, and that is the limit; `guan log erase` removes those that are no longer \
         needed"
    )]
    Openings,
    #[error(
        "{ACTS_MAX} acts wait for the log, and that is the limit; start `guan run`, which records them"
    )]
    Acts,
    #[error("the log may record it all the same: {name} could not be taken away again")]
    Stays { name: String, source: io::Error },
}

/// What is known of who acted.
#[derive(Debug, Default)]
pub struct Openings {
    pub known: BTreeMap<Digest, Opening>,
    /// Files that do not open what their name says.
    pub damaged: u64,
}

impl Openings {
    /// The name of who acted, for a leaf that commits to somebody.
    pub fn name_of(&self, commitment: Option<&Digest>) -> Option<&str> {
        Some(self.known.get(commitment?)?.actor().as_str())
    }

    /// Commitments to this actor.
    pub fn of_actor(&self, name: &str) -> Vec<Digest> {
        let is_of = |opening: &&Opening| opening.actor().as_str() == name;
        self.known.values().filter(is_of).map(Opening::commitment).collect()
    }
}

/// An act that waits for the log.
#[derive(Debug)]
pub struct Recorded {
    /// Of its file.
    pub name: String,
    /// The commitment whose opening was kept for it.
    pub actor: Option<Digest>,
}

/// The folder.
pub struct Acts<D: Disk>(D);

fn at(name: &str) -> impl Fn(io::Error) -> ActsFault {
    move |source| ActsFault::File { name: name.to_owned(), source }
}

impl<D: Disk> Acts<D> {
    /// Only to look.
    pub fn reader(disk: D) -> Self {
        Self(disk)
    }

    /// For whoever holds the folder's lock: what an interrupted writer left is destroyed.
    pub fn writer(disk: D) -> Result<Self, ActsFault> {
        let acts = Self(disk);
        for name in acts.names(DRAFT)? {
            acts.destroy(&name)?;
        }
        Ok(acts)
    }

    fn names(&self, ending: &str) -> Result<Vec<String>, ActsFault> {
        let mut names = self.0.list().map_err(at(ACTS_DIR))?;
        names.retain(|name| name.ends_with(ending));
        names.sort_unstable();
        Ok(names)
    }

    /// Keeps who acted, durably, and gives what a leaf may say of it.
    pub fn keep(&self, opening: &Opening) -> Result<Digest, ActsFault> {
        if self.names(OPENING)?.len() >= OPENINGS_MAX {
            return Err(ActsFault::Openings);
        }
        let commitment = opening.commitment();
        self.write(&format!("{commitment}{OPENING}"), &opening.encode())?;
        Ok(commitment)
    }

    /// Who acted, as far as it is known here.
    pub fn openings(&self) -> Result<Openings, ActsFault> {
        let mut openings = Openings::default();
        for name in self.names(OPENING)?.into_iter().take(OPENINGS_MAX) {
            let read = match read_file(&self.0, &name, OPENING_BYTES_MAX) {
                // It was erased since the folder was listed.
                Err(fault) if fault.kind() == io::ErrorKind::NotFound => continue,
                read => read.ok(),
            };
            let opening = read.and_then(|bytes| Opening::decode(&bytes).ok());
            match opening.map(|opening| (opening.commitment(), opening)) {
                Some((commitment, opening)) if name == format!("{commitment}{OPENING}") => {
                    openings.known.insert(commitment, opening);
                }
                _ => openings.damaged += 1,
            }
        }
        Ok(openings)
    }

    /// Has the log record it; durable when this returns. Gives its name.
    pub fn add(&self, act: &Act) -> Result<String, ActsFault> {
        let waiting = self.waiting()?;
        if waiting.len() >= ACTS_MAX {
            return Err(ActsFault::Acts);
        }
        let number = |name: &String| name.strip_suffix(ACT)?.parse::<u64>().ok();
        let next = waiting.iter().filter_map(number).max().map_or(0, |last| last.saturating_add(1));
        let name = format!("{next:020}{ACT}");
        self.write(&name, &act.encode())?;
        Ok(name)
    }

    /// Keeps who acts, if that is said, and has the log record the act; both are durable when this returns. No opening
    /// stays for an act that certainly was not kept; where that is not certain, the log is to say who it was.
    pub fn record(
        &self,
        opening: Option<&Opening>,
        act: impl FnOnce(Option<Digest>) -> Act,
    ) -> Result<Recorded, ActsFault> {
        let actor = opening.map(|opening| self.keep(opening)).transpose()?;
        match self.add(&act(actor)) {
            Ok(name) => Ok(Recorded { name, actor }),
            Err(fault @ ActsFault::Stays { .. }) => Err(fault),
            Err(fault) => {
                actor.map_or(Ok(()), |actor| self.forget(&actor))?;
                Err(fault)
            }
        }
    }

    /// Acts that wait, the oldest first.
    pub fn waiting(&self) -> Result<Vec<String>, ActsFault> {
        self.names(ACT)
    }

    pub fn read(&self, name: &str) -> Result<Act, ActsFault> {
        let bytes = read_file(&self.0, name, ACT_BYTES_MAX).map_err(at(name))?;
        Act::decode(&bytes).map_err(|source| ActsFault::Act { name: name.to_owned(), source })
    }

    /// One that cannot be read stays, out of the way, for examination.
    pub fn set_aside(&self, name: &str) -> Result<(), ActsFault> {
        self.0.rename(name, &format!("{name}{DAMAGED}")).map_err(at(name))?;
        self.0.sync_directory().map_err(at(name))
    }

    /// The act's leaf is durable: what it erases goes, then the act itself. The log says by then that it is erased, so
    /// it is even where somebody took the act away meanwhile; another act that got its name stays.
    pub(crate) fn settle(&self, name: &str, act: &Act) -> Result<(), ActsFault> {
        if let Act::Erase { commitments, .. } = act {
            for commitment in commitments {
                self.destroy(&format!("{commitment}{OPENING}"))?;
            }
            self.0.sync_directory().map_err(at(ACTS_DIR))?;
        }
        match self.read(name) {
            Ok(found) if found == *act => self.remove(name),
            Ok(_) | Err(ActsFault::Act { .. }) => Ok(()),
            Err(ActsFault::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(())
            }
            Err(fault) => Err(fault),
        }
    }

    /// Nothing came of what it says: the log is to say nothing of it either. Who acted is then to be forgotten, too.
    pub fn withdraw(&self, recorded: &Recorded) -> Result<(), ActsFault> {
        self.remove(&recorded.name)
    }

    /// An opening whose act came to nothing: no leaf commits to it.
    pub fn forget(&self, commitment: &Digest) -> Result<(), ActsFault> {
        self.destroy(&format!("{commitment}{OPENING}"))?;
        self.0.sync_directory().map_err(at(ACTS_DIR))
    }

    /// An act names nobody: without its name it is gone. Blanks in its place would be a damaged act after a cut.
    fn remove(&self, name: &str) -> Result<(), ActsFault> {
        match self.0.remove(name) {
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => {}
            removed => removed.map_err(at(name))?,
        }
        self.0.sync_directory().map_err(at(ACTS_DIR))
    }

    /// Overwrites a file and removes it. One that is not there is gone already.
    fn destroy(&self, name: &str) -> Result<(), ActsFault> {
        let mut file = match self.0.open(name) {
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened.map_err(at(name))?,
        };
        file.blank().and_then(|()| file.sync_data()).map_err(at(name))?;
        self.0.remove(name).map_err(at(name))
    }

    /// The one inode gets its name when it is whole: no copy of it stays behind. What is not durable under its name is
    /// taken away again, as whoever asks is told that it is not kept.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), ActsFault> {
        let draft = format!("{name}{DRAFT}");
        let write = || {
            let mut file = self.0.create_new(&draft)?;
            file.append(bytes)?;
            file.sync_data()?;
            self.0.rename(&draft, name)
        };
        if let Err(fault) = write() {
            // What was to be kept is not; the fault of the write is the one to tell.
            let _ = self.destroy(&draft);
            return Err(at(name)(fault));
        }
        let Err(fault) = self.0.sync_directory() else { return Ok(()) };
        let gone = match name.ends_with(ACT) {
            true => self.remove(name),
            false => self.destroy(name).and_then(|()| self.0.sync_directory().map_err(at(name))),
        };
        Err(match gone {
            Ok(()) => at(name)(fault),
            Err(_) => ActsFault::Stays { name: name.to_owned(), source: fault },
        })
    }
}

mod recorder;

pub use recorder::{LogKeeper, Recorder};

#[cfg(test)]
mod order;
#[cfg(test)]
mod tests;
