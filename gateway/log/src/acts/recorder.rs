//! Brings the acts that wait into the log; whose log it is, a box's or the space's, [`LogKeeper`] says.
//!
//! Invariant: nobody holds the folder while a leaf is on its way. A full disk takes no leaf, and commands must come to
//! the folder just then. An act that is seen here belongs to a command that is through or died, since a command that may
//! still withdraw its act holds the folder; what else may happen to the file meanwhile, the settling looks at.
//!
//! Between the leaf and its settling the act is remembered here alone. A crash there has the act recorded a second
//! time; a folder that is locked or cannot be written there has not, it is settled later.

use super::{ACTS_DIR, Acts, ActsFault};
use crate::act::Act;
use guan_evidence::LeafBody;
use guan_model::Digest;
use guan_spool::{Disk, OsDisk};
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the same trouble is not told again.
const ALARM_PAUSE: Duration = Duration::from_secs(60);

/// The program that writes the log.
pub trait LogKeeper: Sync {
    /// Comes to its end when the leaf is durable; `false`: the log takes nothing now, and the act waits on.
    fn note(&self, actor: Option<Digest>, body: LeafBody) -> impl Future<Output = bool> + Send;

    /// Somebody should look at this.
    fn alarm(&self, what: &str, fault: &dyn Error);
}

/// The one who does it, of one folder.
pub struct Recorder<K> {
    folder: PathBuf,
    keeper: K,
    /// Its leaf is durable, and it is not settled yet.
    noted: Option<(String, Act)>,
    /// When it was last told that acts wait.
    told: Option<Instant>,
}

impl<K: LogKeeper> Recorder<K> {
    pub fn new(folder: &Path, keeper: K) -> Self {
        Self { folder: folder.to_owned(), keeper, noted: None, told: None }
    }

    /// Records what waits now, or as far as it comes; to be called again and again.
    pub async fn record_all(&mut self) {
        let folder = self.folder.clone();
        match self.record_with(&|is_noted| open(&folder, is_noted)).await {
            Ok(()) => self.told = None,
            Err(_) if self.told.is_some_and(|told| told.elapsed() < ALARM_PAUSE) => {}
            Err(fault) => {
                self.told = Some(Instant::now());
                let what = format!(
                    "acts may wait for the log in {}; run guan's commands as the user that guan runs as",
                    self.folder.display()
                );
                self.keeper.alarm(&what, &fault);
            }
        }
    }

    /// `open` takes the folder, or gives nothing where that must wait; it is told whether an act is to be settled.
    pub(super) async fn record_with<D: Disk>(
        &mut self,
        open: &(impl Fn(bool) -> Result<Option<Acts<D>>, ActsFault> + Sync),
    ) -> Result<(), ActsFault> {
        while let Some((name, act)) = self.settle_and_take(open)? {
            if !self.keeper.note(act.actor(), act.body()).await {
                return Ok(());
            }
            self.noted = Some((name, act));
        }
        Ok(())
    }

    /// Settles what was noted, and gives the oldest act that waits. The folder is free again after it.
    fn settle_and_take<D: Disk>(
        &mut self,
        open: &impl Fn(bool) -> Result<Option<Acts<D>>, ActsFault>,
    ) -> Result<Option<(String, Act)>, ActsFault> {
        let Some(acts) = open(self.noted.is_some())? else { return Ok(None) };
        if let Some((name, act)) = &self.noted {
            acts.settle(name, act)?;
            self.noted = None;
        }
        for name in acts.waiting()? {
            match acts.read(&name) {
                Ok(act) => return Ok(Some((name, act))),
                Err(fault @ ActsFault::Act { .. }) => {
                    acts.set_aside(&name)?;
                    let folder = self.folder.display();
                    let what =
                        format!("an act is damaged, is not recorded and was set aside in {folder}");
                    self.keeper.alarm(&what, &fault);
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(None)
    }
}

fn open(folder: &Path, is_noted: bool) -> Result<Option<Acts<OsDisk>>, ActsFault> {
    // Without an act nobody takes the lock, and without a folder there is no act.
    let fault = |source| ActsFault::File { name: ACTS_DIR.to_owned(), source };
    let disk = match OsDisk::open_read_only(folder) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(fault)?,
    };
    if !is_noted && Acts::reader(disk).waiting()?.is_empty() {
        return Ok(None);
    }
    // Not waited for: it is looked again soon, and a task of the runtime may not wait.
    match OsDisk::open_exclusive_within(folder, Duration::ZERO) {
        // A command is at it.
        Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => Ok(None),
        opened => Acts::writer(opened.map_err(fault)?).map(Some),
    }
}

#[cfg(test)]
mod tests;
