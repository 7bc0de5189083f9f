//! Sets up those who vouch for the log beside its own key: the TPM, the space's witness and mirror; who changes
//! that key, and who writes into the log what people do: acts, and files for a medium.

use super::Board;
use super::acting::Acting;
use super::anchoring::Anchoring;
use super::carrying::Carrying;
use super::link::LogDesks;
use super::mending::{LogFiles, Mending};
use super::mirroring::Mirroring;
use super::rollover::Rolling;
use super::scribe::Scribe;
use super::witnessing::{SPACE_KEYS_FILE, Witnessing};
use crate::anchoring::Anchors;
use crate::anchoring::ledger::{Cadence, Suspicion};
use crate::carrying::SharedExporter;
use crate::engine::Event;
use crate::ingest::Token;
use guan_configs::EdgeConfig;
use guan_identity::tpm::Tpm;
use guan_policy::TrustedKeys;
use guan_spool::OsDisk;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

/// What a start found, before anything runs.
pub(super) struct Vouching {
    pub(super) log: String,
    /// `None`: the box has none.
    pub(super) tpm: Option<Tpm>,
    /// `None`: no TPM, or none that answers.
    pub(super) anchors: Option<Anchors>,
    pub(super) suspicions: Vec<Suspicion>,
    pub(super) mirroring: Mirroring,
    pub(super) files: LogFiles,
    /// Whose documents count.
    pub(super) parties: TrustedKeys,
    pub(super) exporter: SharedExporter<OsDisk>,
}

impl Vouching {
    /// Gives the task of the anchors: it ends by itself, after its last anchor.
    pub(super) fn spawn(
        self,
        config: &EdgeConfig,
        board: &Board,
        events: &mpsc::Sender<Event<Token>>,
        desks: LogDesks,
        stop: &watch::Receiver<bool>,
        others: &mut JoinSet<()>,
    ) -> JoinHandle<()> {
        board.evidence.send_modify(|status| status.log.clone_from(&self.log));
        self.suspicions.iter().for_each(|one| board.suspect(one.to_string()));
        let scribe = Scribe::new(events.clone(), board.noted.subscribe());
        let evidence = &config.evidence;
        let witnessing = Witnessing::new(
            board,
            scribe.clone(),
            desks.evidence,
            evidence.witness_interval,
            config.state_dir.join(SPACE_KEYS_FILE),
            self.mirroring,
        );
        others.spawn(witnessing.run());
        let log_disk = self.files.disk.clone();
        let mending = Mending::new(config, board, scribe.clone(), desks.refills, self.files);
        others.spawn(mending.run());
        others.spawn(Acting::new(&config.state_dir, board, scribe.clone()).run());
        let carrying = Carrying {
            config: config.clone(),
            keys: self.parties,
            tpm: self.tpm.clone(),
            exporter: self.exporter,
            log_disk,
            board: board.clone(),
            scribe: scribe.clone(),
            events: events.clone(),
        };
        others.spawn(carrying.run());
        others.spawn(Rolling::new(config, self.tpm, board, events.clone()).run());
        let cadence = Cadence { anchor: evidence.anchor_interval, chain: evidence.chain_interval };
        match self.anchors {
            Some(anchors) => {
                let anchoring = Anchoring::new(anchors, cadence, scribe, board, stop.clone());
                tokio::spawn(anchoring.run())
            }
            None => tokio::spawn(std::future::ready(())),
        }
    }
}
