//! The negotiations of the box while it runs: letters of the link, and what people did on the disk.

use super::Board;
use crate::negotiating::{self, NegotiatingFault, Provider};
use bytes::Bytes;
use guan_configs::EdgeConfig;
use guan_link::driver::LinkState;
use guan_link::{Letter, Topic};
use guan_model::Now;
use guan_negotiation::{Desk, LedgerFault, Parcel};
use std::time::Duration;
use tokio::sync::mpsc;

/// How often the desk looks for what people did, and for what is due.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct Negotiator {
    desk: Desk<Provider>,
    board: Board,
    out: mpsc::Sender<Letter>,
    letters: mpsc::Receiver<Letter>,
}

impl Negotiator {
    pub(super) fn open(
        config: &EdgeConfig,
        board: &Board,
        out: mpsc::Sender<Letter>,
        letters: mpsc::Receiver<Letter>,
    ) -> Result<Self, NegotiatingFault> {
        let desk = Desk::new(negotiating::ledger(config), Provider::new(config)?);
        Ok(Self { desk, board: board.clone(), out, letters })
    }

    pub(super) async fn run(mut self) {
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let letter = tokio::select! {
                letter = self.letters.recv() => match letter {
                    Some(letter) => Some(letter),
                    // The link is off.
                    None => return,
                },
                _ = look.tick() => None,
            };
            let now = self.board.clock.read();
            let is_connected = self.board.link.borrow().state == LinkState::Connected;
            let mut desk = self.desk;
            // The desk waits for the disk, and for whoever has the ledger open.
            let turn = tokio::task::spawn_blocking(move || {
                let turned = turn(&mut desk, now, letter, is_connected);
                (desk, turned)
            });
            let Ok((desk, turned)) = turn.await else { return };
            self.desk = desk;
            match turned {
                Ok(parcels) => parcels.into_iter().for_each(|parcel| post(&self.out, parcel)),
                Err(fault) => {
                    let text = guan_link::driver::describe(&fault);
                    self.board.alarm(format!("negotiations: {text}"));
                }
            }
        }
    }
}

fn turn(
    desk: &mut Desk<Provider>,
    now: Now,
    letter: Option<Letter>,
    is_connected: bool,
) -> Result<Vec<Parcel>, LedgerFault> {
    let mut parcels = Vec::new();
    match letter {
        Some(Letter { topic: Topic::Negotiation, ticket, body }) => {
            parcels.push(desk.handle_message(now, ticket, &body)?);
        }
        Some(Letter { topic: Topic::NegotiationAnswer, ticket, body }) => {
            desk.handle_answer(now, ticket, &body)?;
        }
        _ => {}
    }
    parcels.extend(desk.poll(now, is_connected)?);
    Ok(parcels)
}

/// A letter that finds no room is written again: a message by its machine, an answer when it is asked for.
fn post(out: &mpsc::Sender<Letter>, parcel: Parcel) {
    let topic = if parcel.is_message { Topic::Negotiation } else { Topic::NegotiationAnswer };
    let letter = Letter { topic, ticket: parcel.ticket, body: Bytes::from(parcel.json) };
    if out.try_send(letter).is_err() {
        tracing::debug!("the link is behind with its letters");
    }
}
