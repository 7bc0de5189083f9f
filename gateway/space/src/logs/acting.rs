//! Brings what people did with the space's log by commands into it: exports, and actors that are to be forgotten.
//!
//! The command leaves an act in `acts` of `space.state_dir`, as at a box; here it becomes a leaf
//! ([`guan_log::Recorder`]).

use crate::alarms::Alarms;
use crate::runner::Request;
use guan_evidence::LeafBody;
use guan_link::driver::describe;
use guan_log::{ACTS_DIR, LogKeeper, Recorder};
use guan_model::Digest;
use std::error::Error;
use std::path::Path;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

const LOOK_INTERVAL: Duration = Duration::from_secs(1);

struct Keeper {
    alarms: Alarms,
    requests: mpsc::Sender<Request>,
}

impl LogKeeper for Keeper {
    async fn note(&self, actor: Option<Digest>, body: LeafBody) -> bool {
        let kind = body.kind_name();
        let (reply, kept) = oneshot::channel();
        let note = Request::Note { actor, body, reply };
        let is_noted = self.requests.send(note).await.is_ok() && kept.await.is_ok();
        if is_noted {
            tracing::info!(kind, "an act is recorded");
        }
        is_noted
    }

    fn alarm(&self, what: &str, fault: &dyn Error) {
        self.alarms.raise(&"log", &format!("{what}: {}", describe(fault)));
    }
}

/// The task that does it.
pub struct Acting(Recorder<Keeper>);

impl Acting {
    pub fn new(state_dir: &Path, alarms: &Alarms, requests: mpsc::Sender<Request>) -> Self {
        let keeper = Keeper { alarms: alarms.clone(), requests };
        Self(Recorder::new(&state_dir.join(ACTS_DIR), keeper))
    }

    pub async fn run(mut self) {
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            self.0.record_all().await;
        }
    }
}
