//! What the space does about contracts beside the link: it looks for changed sets, deletes what is due, and looks
//! for overdue acknowledgements. Each is a task of its own, so that none waits for another: a revocation does
//! not wait while the whole store is read for a deletion.

use super::{STORE_DIR, wall_time};
use crate::acknowledgement::{self, KnownLines, UseFault, UseWatch};
use crate::alarms::Alarms;
use crate::logs::deletions::Deletions;
use crate::parties::PartyKeys;
use crate::retention::Retention;
use crate::runner::Request;
use crate::sets::Sets;
use guan_configs::SpaceConfig;
use guan_evidence::LeafBody;
use guan_identity::LogKeyFile;
use guan_model::Signer;
use guan_spool::{Disk, OsDisk};
use serde_json::Value;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};

/// How often changes of contract sets are looked for; a revocation waits no longer than this.
const SETS_INTERVAL: Duration = Duration::from_millis(250);
/// How often it is looked what is due for deletion.
const DELETIONS_INTERVAL: Duration = Duration::from_secs(1);
/// How often overdue acknowledgements are looked for.
const USES_INTERVAL: Duration = Duration::from_secs(5);

/// Starts looking for changed sets, for what they ask and for what is due; none waits for another.
pub(super) fn keep<D: Disk + Send + Sync + 'static>(
    keepers: &mut JoinSet<()>,
    (sets, retention, changed): (Sets, Retention, watch::Sender<u64>),
    deleting: Deleting<D>,
) {
    keepers.spawn(watch_duties(sets.clone(), retention, changed.subscribe()));
    keepers.spawn(watch_sets(sets, changed));
    keepers.spawn(deleting.run());
}

/// Says when a command has changed a set.
async fn watch_sets(sets: Sets, changed: watch::Sender<u64>) {
    loop {
        let (known, looked) = (*changed.borrow(), sets.clone());
        match tokio::task::spawn_blocking(move || looked.mark()).await {
            Ok(mark) if mark != known => drop(changed.send_replace(mark)),
            Ok(_) => {}
            Err(fault) => tracing::error!(%fault, "changed contract sets were not looked for"),
        }
        tokio::time::sleep(SETS_INTERVAL).await;
    }
}

/// Reads what contracts want deleted, of all boxes: that takes its time. Whoever tells a box of its set
/// has read what that one asks before.
async fn watch_duties(sets: Sets, retention: Retention, mut changed: watch::Receiver<u64>) {
    while changed.changed().await.is_ok() {
        let (sets, retention) = (sets.clone(), retention.clone());
        let read = tokio::task::spawn_blocking(move || retention.read_duties(&sets)).await;
        if let Err(fault) = read {
            tracing::error!(%fault, "what contracts want deleted was not read anew");
        }
    }
}

/// Deletes what contracts want deleted.
pub(super) struct Deleter {
    pub(super) retention: Retention,
    pub(super) store: PathBuf,
    pub(super) space: String,
    pub(super) signer: Arc<LogKeyFile>,
}

/// What was deleted, as signed, and the last fault in words.
type Turn = (Vec<Value>, Option<String>);

impl Deleter {
    /// Blocks on the disk.
    pub(super) fn turn(&self) -> Turn {
        let store = match OsDisk::open_read_only(&self.store) {
            Ok(store) => store,
            Err(fault) => {
                return (Vec::new(), Some(format!("{}: {fault}", self.store.display())));
            }
        };
        let by = (self.space.as_str(), self.signer.as_ref() as &dyn Signer);
        let (lines, faults) = self.retention.delete_due(wall_time(), by, &store);
        let fault = faults.last().map(|fault| guan_link::driver::describe(fault));
        (lines, fault)
    }
}

/// What it takes to delete, and to say so.
pub(super) struct Deleting<D: Disk> {
    pub(super) space: String,
    /// Blocks.
    pub(super) turn: Arc<dyn Fn() -> Turn + Send + Sync>,
    pub(super) alarms: Alarms,
    pub(super) deletions: Deletions<D>,
    pub(super) requests: mpsc::Sender<Request>,
}

impl<D: Disk> Deleting<D> {
    pub(super) async fn run(self) {
        let mut known_fault = None;
        loop {
            known_fault = self.once(known_fault).await;
            tokio::time::sleep(DELETIONS_INTERVAL).await;
        }
    }

    /// Gives the fault that stands; it is an alarm when it is another than before.
    async fn once(&self, known_fault: Option<String>) -> Option<String> {
        let turn = self.turn.clone();
        let turned = tokio::task::spawn_blocking(move || turn()).await;
        let (lines, fault) = turned.unwrap_or_else(|fault| (Vec::new(), Some(defect(fault))));
        for line in lines {
            tracing::info!(deleted = %line["deleted"], "data was deleted");
        }
        if let Some(text) = &fault
            && fault != known_fault
        {
            self.alarms.raise(&self.space, &format!("data that is due is not deleted: {text}"));
        }
        self.log().await;
        fault
    }

    /// The space's log says what was deleted, by the digest of each signed line.
    pub(super) async fn log(&self) {
        if let Err(fault) = self.try_log().await {
            tracing::error!(%fault, "a deletion is not in the space's log yet");
        }
    }

    async fn try_log(&self) -> io::Result<()> {
        for one in self.deletions.unlogged()? {
            if let Some(deleted) = one.deleted {
                let (reply, kept) = oneshot::channel();
                let body = LeafBody::Deleted(deleted);
                let asked = self.requests.send(Request::Note { actor: None, body, reply }).await;
                if asked.is_err() || kept.await.is_err() {
                    return Err(io::Error::other("the space's log takes nothing now"));
                }
            }
            self.deletions.set_logged(one.end)?;
        }
        Ok(())
    }
}

/// The same words for the same panic: the text of a `JoinError` numbers the task.
fn defect(fault: JoinError) -> String {
    let Ok(panic) = fault.try_into_panic() else { return "it was given up".to_owned() };
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    format!("it panicked, which is a defect of guan-space; report it and start anew: {text}")
}

/// Says which acknowledgements of use are overdue.
pub(super) async fn watch_uses(
    config: SpaceConfig,
    sets: Sets,
    overdue: watch::Sender<Vec<String>>,
) {
    let mut known = KnownLines::new(config.state_dir.clone(), PartyKeys::new(&config));
    let (mut watching, mut known_fault) = (UseWatch::new(), None);
    loop {
        let (state_dir, sets) = (config.state_dir.clone(), sets.clone());
        let look = tokio::task::spawn_blocking(move || {
            let asked = acknowledgement::asked(&sets);
            let store = OsDisk::open_read_only(&state_dir.join(STORE_DIR)).map_err(UseFault::Lines);
            let due = store.and_then(|store| {
                let due = watching.look(wall_time(), asked, &store, &mut known)?;
                Ok((due, watching.fault()))
            });
            (watching, known, due)
        });
        let due;
        (watching, known, due) = match look.await {
            Ok(looked) => looked,
            Err(fault) => {
                let text = format!("uses are counted no more: {}", defect(fault));
                tracing::error!("{text}");
                overdue.send_replace(vec![text]);
                return;
            }
        };
        match due {
            Ok((due, fault)) => {
                let mut alarms = acknowledgement::alarms(&due);
                alarms.extend(fault.map(|fault| fault.to_string()));
                overdue.send_replace(alarms);
                known_fault = None;
            }
            Err(fault) => {
                let text = guan_link::driver::describe(&fault);
                if known_fault.as_ref() != Some(&text) {
                    tracing::error!(fault = %text, "uses cannot be counted");
                    overdue.send_replace(vec![format!("uses cannot be counted: {text}")]);
                }
                known_fault = Some(text);
            }
        }
        tokio::time::sleep(USES_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests;
