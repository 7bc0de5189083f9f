//! The box while its TPM keeps the store shut: no collection, because nothing could be recorded; reachable, so
//! that the space can see why and send a policy.

use super::link::Mail;
use super::link::{self, Uplink};
use super::report::Reporter;
use super::{Board, RunError, Signals};
use crate::leaving::Door;
use crate::system_clock::{SharedClock, SystemClock};
use bytes::Bytes;
use guan_configs::EdgeConfig;
use guan_identity::tpm::Tpm;
use guan_link::driver::{BatchSource, ReadFault};
use guan_link::frame::{Item, StreamRange};
use guan_model::{BatchSeq, BootNumber, SpoolId, StreamId};
use tokio::sync::watch;

/// Offers nothing: what is on disk cannot be opened.
struct Nothing;

impl BatchSource for Nothing {
    fn spool(&self) -> SpoolId {
        SpoolId([0; 16])
    }

    fn streams(&mut self) -> Result<Vec<StreamRange>, ReadFault> {
        Ok(Vec::new())
    }

    fn descriptors(&mut self) -> Result<Vec<Bytes>, ReadFault> {
        Ok(Vec::new())
    }

    fn next(&mut self, _: StreamId, _: BatchSeq) -> Result<Option<Item>, ReadFault> {
        Ok(None)
    }
}

/// Runs until a new policy has come (`true`), or the program is to end.
pub(super) async fn run(config: &EdgeConfig, tpm: Tpm, why: String) -> Result<bool, RunError> {
    let board = Board::new(SharedClock::new(SystemClock::new(None)));
    board.alarm(format!("nothing is collected: {why}"));
    let (stop, stopping) = watch::channel(false);
    let boot = BootNumber(0);
    // Nothing is decided here; the door is for what the verdict tells.
    let ours = (boot, Door::new(board.clock.read(), boot, None));
    let uplink: Option<Uplink<Nothing>> = link::prepare(config, Nothing, ours, &board, Some(tpm))?;
    let mut signals = Signals::new().map_err(RunError::Signals)?;
    // Nobody keeps contracts while the store is shut.
    let (words, _) = tokio::sync::mpsc::channel(1);
    let status = tokio::spawn(Reporter::new(config, boot, None, None, board.clone()).run());
    let link = uplink.map(|uplink| uplink.spawn(&stopping, &board, words, Mail::nobody()));
    let mut opened = board.policy.subscribe();
    let mut halted = board.halted.subscribe();
    let has_policy = tokio::select! {
        () = signals.wait() => false,
        _ = halted.wait_for(|halted| *halted) => false,
        _ = opened.wait_for(|is_new| *is_new) => true,
    };
    let _ = stop.send(true);
    if let Some(link) = link {
        let _ = tokio::time::timeout(super::STOP_WAIT, link).await;
    }
    status.abort();
    Ok(has_policy)
}
