//! Lets the link up and down each second, as windows, budgets and sleep want it, and counts its bytes.

use super::Board;
use crate::ledger::{self, KEEP_INTERVAL, LinkLedger};
use crate::status::{ContractUse, LinkUse};
use guan_configs::edge::UseConfig;
use guan_link::driver::Permit;
use guan_link::rota::{Facts, Rota, Rules, Usage, Verdict, Why};
use guan_model::{ClockQuality, ContractId};
use std::time::Duration;
use tokio::time::Instant;

const INTERVAL: Duration = Duration::from_secs(1);

fn rules(config: &UseConfig) -> Rules {
    Rules {
        windows: config.windows.clone(),
        budget: ledger::budget(config.budget),
        sleep_after: config.sleep_after,
        check_in: config.check_in,
    }
}

/// Whether something waits for the link that was not there, or that nothing but the link holds back.
struct Work {
    newest: u64,
}

impl Work {
    /// `is_held`: the budget of a contract holds some of it back.
    fn look(&mut self, board: &Board, is_held: bool) -> bool {
        let engine = board.engine.borrow();
        let Some(engine) = &*engine else { return false };
        let streams = &engine.spool.streams;
        let newest = streams.iter().map(|stream| stream.newest.0).sum();
        let is_new = std::mem::replace(&mut self.newest, newest) < newest;
        let queued: u64 = streams.iter().map(|stream| stream.queued_batches).sum();
        is_new || (queued > 0 && engine.waiting.is_empty() && !is_held)
    }
}

/// For `guan status`.
fn shown(
    permit: Permit,
    why: Option<Why>,
    usage: &Usage,
    contracts: Vec<(ContractId, (u64, u64), bool)>,
) -> LinkUse {
    let (bytes_today, bytes_month) = usage.link_bytes();
    let contracts = contracts.into_iter().map(|(id, (day, month), is_spent)| ContractUse {
        id: id.to_string(),
        bytes_today: day,
        bytes_month: month,
        is_spent,
    });
    LinkUse {
        permit: format!("{permit:?}").to_lowercase(),
        why: why.map(|why| why.text().to_owned()),
        bytes_today,
        bytes_month,
        contracts: contracts.collect(),
    }
}

pub(super) async fn run(config: UseConfig, ledger: LinkLedger, board: Board) {
    let started = Instant::now();
    let mut rota = Rota::new(Duration::ZERO, rules(&config));
    let (mut work, mut counted, mut kept_at) = (Work { newest: 0 }, 0, Duration::ZERO);
    loop {
        let now = started.elapsed();
        let clock = board.clock.read();
        let wall = (clock.quality != ClockQuality::Unset).then_some(clock.wall);
        let link = board.link.borrow().clone();
        let bytes = link.path_bytes_sent + link.path_bytes_received;
        let day = ledger.usage().day();
        ledger.handle_link(wall, bytes.saturating_sub(std::mem::replace(&mut counted, bytes)));
        let usage = ledger.usage();
        let contracts = ledger.contracts();
        let is_held = contracts.iter().any(|(_, _, is_spent)| *is_spent);
        let facts = Facts {
            now,
            wall,
            is_waiting: work.look(&board, is_held),
            is_connected: link.connected_since.is_some(),
            said_bytes: link.stream_bytes_sent + link.stream_bytes_received,
        };
        let (verdict, why, _) = rota.poll(&facts, &usage);
        let permit = match verdict {
            Verdict::Open => Permit::Open,
            Verdict::Control => Permit::Control,
            Verdict::Closed => Permit::Closed,
        };
        let mut was = permit;
        board.permit.send_if_modified(|known| {
            was = std::mem::replace(known, permit);
            was != permit
        });
        if was != permit {
            tracing::info!(?permit, why = why.map(|why| why.text()), "the link");
        }
        if day != usage.day() || (was != permit && permit == Permit::Open) {
            // What a budget held back is looked at again.
            board.committed.send_modify(|count| *count += 1);
        }
        board.link_use.send_replace(shown(permit, why, &usage, contracts));
        if now.saturating_sub(kept_at) >= KEEP_INTERVAL {
            kept_at = now;
            let ledger = ledger.clone();
            let kept = tokio::task::spawn_blocking(move || ledger.keep()).await;
            if let Ok(Err(fault)) = kept {
                board.alarm(format!("the ledger of the link's bytes is not kept: {fault}"));
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
