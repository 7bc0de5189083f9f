//! Keeps the plan up to date: with the operator's folder, and with what the space says.

use super::{Board, RunError};
use crate::engine::Event;
use crate::ingest::Token;
use crate::standing::{Book, InForce, StandingFault};
use bytes::Bytes;
use guan_configs::{EdgeConfig, Tier};
use std::time::Duration;
use tokio::sync::mpsc;

/// Most words of the space that wait to be judged.
pub(super) const WORDS_MAX: usize = 16;

/// What came over the link.
#[derive(Debug)]
pub(super) enum Word {
    Roster { session: u64, bytes: Bytes },
    Document(Bytes),
}

pub(super) struct Keeper {
    book: Book,
    events: mpsc::Sender<Event<Token>>,
    board: Board,
    reload: Duration,
    has_tpm: bool,
}

impl Keeper {
    /// Reads the folder for the first time and has the engine take the plan.
    pub(super) async fn start(
        config: &EdgeConfig,
        mut book: Book,
        events: mpsc::Sender<Event<Token>>,
        board: Board,
    ) -> Result<Self, RunError> {
        let folder = &config.contracts.directory;
        if !folder.exists() {
            tracing::warn!(folder = %folder.display(), "the folder of contracts is missing");
        }
        book.read_folder().map_err(RunError::Contracts)?;
        let found = book.take_found();
        let has_tpm = config.identity.tier != Tier::Unattested;
        let keeper = Self { book, events, board, reload: config.contracts.reload, has_tpm };
        if let Some(fault) = &found {
            keeper.complain(fault);
        }
        let mut keeper = keeper;
        let issued = |book: &Book| book.roster().map(|roster| roster.issued);
        let before = issued(&keeper.book);
        // What was carried here while the program did not run.
        keeper.look().await;
        keeper.change().await;
        if found.is_some() && issued(&keeper.book) <= before {
            // What is on the disk may be older than what this box was told already.
            keeper.doubt().await;
        }
        Ok(keeper)
    }

    pub(super) async fn run(mut self, mut words: mpsc::Receiver<Word>) {
        let mut look = tokio::time::interval(self.reload);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        look.tick().await;
        loop {
            tokio::select! {
                _ = look.tick() => self.look().await,
                word = words.recv() => match word {
                    Some(word) => self.hear(word).await,
                    // No link: the folder alone counts.
                    None => {
                        look.tick().await;
                        self.look().await;
                    }
                },
            }
        }
    }

    async fn look(&mut self) {
        let carried = tokio::task::block_in_place(|| self.book.take_carried());
        match carried {
            None => {}
            Some(Err(fault)) => {
                self.complain(&fault);
                // What came before the fault counts.
                self.change().await;
                self.board.wanted.send_replace(self.book.missing());
            }
            Some(Ok(has_changed)) => {
                tracing::info!(has_changed, "a contract set was carried here");
                if has_changed {
                    self.change().await;
                }
                self.board.wanted.send_replace(self.book.missing());
            }
        }
        if let Some(fault) = self.book.take_found() {
            self.complain(&fault);
            if let StandingFault::SetBack { .. } = fault {
                // The TPM has answered late, and knows of sets that this disk does not.
                self.doubt().await;
                self.change().await;
            }
        }
        match self.book.read_folder() {
            Ok(true) => {
                tracing::info!("contracts were read again");
                self.change().await;
            }
            Ok(false) => {}
            // A folder that is gone for a moment must not deny everything: keep what is in force.
            Err(fault) => tracing::debug!(%fault, "the contracts stay as they are"),
        }
    }

    async fn hear(&mut self, word: Word) {
        let heard = match &word {
            // The TPM may be slow.
            Word::Roster { bytes, .. } => {
                tokio::task::block_in_place(|| self.book.handle_roster(bytes))
            }
            Word::Document(bytes) => self.book.handle_document(bytes),
        };
        if let Some(fault) = self.book.take_found() {
            self.complain(&fault);
        }
        let changed = match heard {
            Ok(changed) => changed,
            Err(fault) => {
                self.complain(&fault);
                if let Word::Roster { .. } = word {
                    // Nobody knows whether what was confirmed still stands.
                    self.doubt().await;
                }
                // What came before the fault counts.
                self.change().await;
                return;
            }
        };
        if changed {
            self.change().await;
        }
        self.board.wanted.send_replace(self.book.missing());
        if let Word::Roster { session, .. } = word {
            // After the plan: what was revoked must be gone before anything leaves.
            let _ = self.events.send(Event::Confirmed { session }).await;
            if let Err(fault) = self.book.note_confirmed(self.board.clock.read().wall) {
                self.complain(&fault);
            }
        }
    }

    /// Durable first: a box that is started again must not seal for a medium what it doubted before.
    async fn doubt(&self) {
        if let Err(fault) = self.book.note_doubt() {
            self.complain(&fault);
        }
        let _ = self.events.send(Event::Doubted).await;
    }

    async fn change(&self) {
        let InForce { plan, standing } = self.book.in_force();
        for refused in self.book.refused() {
            let text = guan_link::driver::describe(refused);
            tracing::error!(%text, "a contract is not in force");
        }
        for warning in plan.warnings() {
            tracing::warn!(%warning, "a contract has no full effect");
        }
        let blind = plan.contracts().iter().filter(|one| one.asks_secure_boot && !self.has_tpm);
        for one in blind {
            let contract = &one.contract;
            tracing::warn!(%contract, "it asks for Secure Boot, which a box without a TPM never knows");
        }
        let names = plan.contracts().iter().map(|one| {
            let is_suspended = standing.suspended.contains(&one.contract);
            let how = if is_suspended { " (suspended)" } else { "" };
            format!("{} v{}{how}", one.contract, one.version)
        });
        self.board.contracts.send_replace(names.collect());
        let _ = self.events.send(Event::PlanChanged(plan, standing)).await;
    }

    fn complain(&self, fault: &StandingFault) {
        let text = guan_link::driver::describe(fault);
        self.board.alarm(format!("contracts: {text}"));
    }
}
