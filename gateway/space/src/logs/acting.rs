//! Brings what people did with the space's log by commands into it: exports, and actors that are to be forgotten.
//!
//! The command leaves an act in `acts` of `space.state_dir`, as at a box ([`guan_log::Acts`]); here it becomes a leaf.
//! What an act erases goes only when the leaf that says so is durable, and the act goes last.

use crate::alarms::Alarms;
use crate::runner::Request;
use guan_link::driver::describe;
use guan_log::{ACTS_DIR, Acts, ActsFault};
use guan_spool::OsDisk;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The task that does it.
pub struct Acting {
    folder: PathBuf,
    alarms: Alarms,
    requests: mpsc::Sender<Request>,
}

impl Acting {
    pub fn new(state_dir: &Path, alarms: &Alarms, requests: mpsc::Sender<Request>) -> Self {
        Self { folder: state_dir.join(ACTS_DIR), alarms: alarms.clone(), requests }
    }

    pub async fn run(self) {
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            if let Err(fault) = self.record_all().await {
                self.alarms.raise(&"log", &format!("acts wait for the log: {}", describe(&fault)));
            }
        }
    }

    async fn record_all(&self) -> Result<(), ActsFault> {
        // Without an act nobody takes the lock, and without a folder there is no act.
        let Ok(disk) = OsDisk::open_read_only(&self.folder) else { return Ok(()) };
        if Acts::reader(disk).waiting()?.is_empty() {
            return Ok(());
        }
        let folder = self.folder.clone();
        let opened = tokio::task::spawn_blocking(move || OsDisk::open_exclusive(&folder)).await;
        let disk = match opened.unwrap_or_else(|fault| Err(io::Error::other(fault))) {
            // A command is at it.
            Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            opened => {
                opened.map_err(|source| ActsFault::File { name: ACTS_DIR.to_owned(), source })?
            }
        };
        let acts = Acts::writer(disk)?;
        for name in acts.waiting()? {
            let act = match acts.read(&name) {
                Err(fault @ ActsFault::Act { .. }) => {
                    acts.set_aside(&name)?;
                    let (folder, fault) = (self.folder.display(), describe(&fault));
                    self.alarms.raise(
                        &"log",
                        &format!(
                            "a damaged act is not recorded and was set aside in {folder}: {fault}"
                        ),
                    );
                    continue;
                }
                read => read?,
            };
            let note = async |actor, body| {
                let (reply, kept) = oneshot::channel();
                let note = Request::Note { actor, body, reply };
                self.requests.send(note).await.is_ok() && kept.await.is_ok()
            };
            if !acts.carry_out(&name, &act, note).await? {
                return Ok(());
            }
            tracing::info!(act = %name, kind = act.body().kind_name(), "recorded");
        }
        Ok(())
    }
}
