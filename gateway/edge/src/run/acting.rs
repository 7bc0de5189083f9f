//! Records what people did with the log by commands: bundles that were asked for, actors that are to be forgotten.
//!
//! The command leaves an act in the folder beside the log; here it becomes a leaf. What an act erases goes only when
//! the leaf that says so is durable, and the act goes last.

use super::Board;
use super::scribe::Scribe;
use guan_link::driver::describe;
use guan_log::{ACTS_DIR, Acts, ActsFault};
use guan_spool::OsDisk;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LOOK_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct Acting {
    folder: PathBuf,
    board: Board,
    scribe: Scribe,
}

impl Acting {
    pub(super) fn new(state_dir: &Path, board: &Board, scribe: Scribe) -> Self {
        Self { folder: state_dir.join(ACTS_DIR), board: board.clone(), scribe }
    }

    pub(super) async fn run(self) {
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            if let Err(fault) = self.record_all().await {
                let text = format!("acts wait for the log: {}", describe(&fault));
                self.board.alarm(text);
            }
        }
    }

    async fn record_all(&self) -> Result<(), ActsFault> {
        // Without an act nobody takes the lock, and without a folder there is no act.
        let Ok(disk) = OsDisk::open_read_only(&self.folder) else { return Ok(()) };
        if Acts::reader(disk).waiting()?.is_empty() {
            return Ok(());
        }
        // A lock that is held is waited for, a moment.
        let opened = tokio::task::block_in_place(|| OsDisk::open_exclusive(&self.folder));
        let disk = match opened {
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
                    self.board.alarm(format!(
                        "an act is damaged, is not recorded and was set aside in {}: {}",
                        self.folder.display(),
                        describe(&fault)
                    ));
                    continue;
                }
                read => read?,
            };
            let note = async |actor, body| self.scribe.note_of(actor, vec![body]).await;
            if !acts.carry_out(&name, &act, note).await? {
                return Ok(());
            }
            tracing::info!(act = %name, kind = act.body().kind_name(), "recorded");
        }
        Ok(())
    }
}
