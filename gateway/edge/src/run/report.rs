//! Writes the status file each second.

use super::{Board, STATUS_INTERVAL, millis};
use crate::box_identity;
use crate::flash::FlashView;
use crate::status::{GuanStatus, IntakeStatus, LinkView};
use guan_configs::EdgeConfig;
use guan_drivers::mqtt::ListenerStats;
use guan_identity::Tier;
use guan_link::driver::LinkStatus;
use guan_model::{BootNumber, ClockQuality};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

pub(super) struct Reporter {
    folder: PathBuf,
    box_id: String,
    tier: Tier,
    boot: BootNumber,
    listening: Option<String>,
    stats: Option<Arc<ListenerStats>>,
    board: Board,
    started: Instant,
}

impl Reporter {
    pub(super) fn new(
        config: &EdgeConfig,
        boot: BootNumber,
        listening: Option<String>,
        stats: Option<Arc<ListenerStats>>,
        board: Board,
    ) -> Self {
        let (folder, box_id) = (config.state_dir.clone(), config.box_id.to_string());
        let tier = box_identity::tier(&config.identity);
        Self { folder, box_id, tier, boot, listening, stats, board, started: Instant::now() }
    }

    pub(super) async fn run(self) {
        let (mut has_failed, mut was_unset) = (false, false);
        loop {
            let is_unset = self.board.clock.read().quality == ClockQuality::Unset;
            if is_unset && !was_unset {
                self.board.alarm(
                    "the system's clock is impossible: time is carried on from the last durable \
                     moment and readings are marked; set the clock, or let NTP set it"
                        .to_owned(),
                );
            }
            was_unset = is_unset;
            let written = self.compose().write(&self.folder);
            if let (Err(fault), false) = (&written, has_failed) {
                tracing::warn!(%fault, "the status cannot be written");
            }
            has_failed = written.is_err();
            tokio::time::sleep(STATUS_INTERVAL).await;
        }
    }

    fn compose(&self) -> GuanStatus {
        let board = &self.board;
        let now = board.clock.read();
        let mut status = GuanStatus {
            schema: 1,
            box_id: self.box_id.clone(),
            written_ms: millis(now),
            process: std::process::id(),
            boot: self.boot.0,
            tier: self.tier.name().to_owned(),
            clock: now.quality.to_string(),
            mqtt_listen: self.listening.clone(),
            intake: self.intake(),
            link: LinkView::from(&LinkStatus::clone(&board.link.borrow())),
            link_use: board.link_use.borrow().clone(),
            queued_batches: 0,
            queued_bytes: 0,
            spool_bytes: 0,
            spool_bytes_max: 0,
            flash: FlashView::observe(&self.folder, self.started.elapsed()),
            streams: Vec::new(),
            datasets: BTreeMap::new(),
            commits: 0,
            log_entries: 0,
            evidence: board.evidence.borrow().clone(),
            contracts: board.contracts.borrow().clone(),
            waiting: Vec::new(),
            alarms: board.alarms.lock().expect("nobody panics while holding it").clone(),
            notices: board.notices(),
        };
        if let Some(engine) = &*board.engine.borrow() {
            status.set_engine(engine);
        }
        status
    }

    fn intake(&self) -> IntakeStatus {
        let mut intake = self.board.intake.borrow().clone();
        if let Some(stats) = &self.stats {
            intake.connections = stats.connections.load(Ordering::Relaxed);
            intake.connections_refused = stats.connections_turned_away.load(Ordering::Relaxed);
            let denied = stats.messages_denied.load(Ordering::Relaxed);
            if denied > 0 {
                intake.refused.insert("not-authorized".to_owned(), denied);
            }
            let missed = [
                ("copies-qos-0", &stats.taps_dropped),
                ("copies", &stats.copies_dropped),
                ("retained", &stats.retained_refused),
            ];
            for (what, count) in missed {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    intake.missed.insert(what.to_owned(), count);
                }
            }
        }
        intake
    }
}
