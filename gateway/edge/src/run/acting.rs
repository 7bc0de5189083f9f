//! Records what people did with the log by commands: bundles that were asked for, actors that are to be forgotten.
//!
//! The command leaves an act in the folder beside the log; here it becomes a leaf ([`guan_log::Recorder`]).

use super::Board;
use super::scribe::Scribe;
use guan_evidence::LeafBody;
use guan_link::driver::describe;
use guan_log::{ACTS_DIR, LogKeeper, Recorder};
use guan_model::Digest;
use std::error::Error;
use std::path::Path;
use std::time::Duration;

const LOOK_INTERVAL: Duration = Duration::from_secs(1);

struct Keeper {
    board: Board,
    scribe: Scribe,
}

impl LogKeeper for Keeper {
    async fn note(&self, actor: Option<Digest>, body: LeafBody) -> bool {
        let kind = body.kind_name();
        let is_noted = self.scribe.note_of(actor, vec![body]).await;
        if is_noted {
            tracing::info!(kind, "an act is recorded");
        }
        is_noted
    }

    fn alarm(&self, what: &str, fault: &dyn Error) {
        self.board.alarm(format!("{what}: {}", describe(fault)));
    }
}

/// The task that does it.
pub(super) struct Acting(Recorder<Keeper>);

impl Acting {
    pub(super) fn new(state_dir: &Path, board: &Board, scribe: Scribe) -> Self {
        let keeper = Keeper { board: board.clone(), scribe };
        Self(Recorder::new(&state_dir.join(ACTS_DIR), keeper))
    }

    pub(super) async fn run(mut self) {
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            self.0.record_all().await;
        }
    }
}
