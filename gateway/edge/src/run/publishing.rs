//! Sends the catalogue of the box to the space, and again whenever what it says has changed.

use super::Board;
use crate::catalogue::{self, Document};
use bytes::Bytes;
use guan_codec::pack_document;
use guan_configs::EdgeConfig;
use guan_link::driver::{LinkState, describe};
use guan_link::{LETTER_BYTES_MAX, Letter, Topic};
use guan_model::Digest;
use serde_json::Value;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How often the link is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How often the catalogue is made anew; its figures change once a minute.
const MAKE_INTERVAL: Duration = Duration::from_secs(60);

/// What became of the catalogue.
struct Sent {
    content: Digest,
    ticket: u32,
    is_answered: bool,
}

pub(super) struct Publisher {
    config: EdgeConfig,
    board: Board,
    out: mpsc::Sender<Letter>,
    receipts: mpsc::Receiver<Letter>,
    last: Option<Sent>,
    ticket: u32,
}

impl Publisher {
    pub(super) fn new(
        config: &EdgeConfig,
        board: &Board,
        out: mpsc::Sender<Letter>,
        receipts: mpsc::Receiver<Letter>,
    ) -> Self {
        let (config, board) = (config.clone(), board.clone());
        Self { config, board, out, receipts, last: None, ticket: 0 }
    }

    pub(super) async fn run(mut self) {
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut session, mut made) = (0, None);
        loop {
            tokio::select! {
                receipt = self.receipts.recv() => match receipt {
                    Some(receipt) => self.settle(&receipt),
                    None => return,
                },
                _ = look.tick() => {}
            }
            let (state, sessions) = {
                let link = self.board.link.borrow();
                (link.state, link.sessions)
            };
            let is_due = sessions != session
                || made.is_none_or(|made: Instant| made.elapsed() >= MAKE_INTERVAL);
            if state == LinkState::Connected && is_due {
                // What was on its way in an earlier session may not have come.
                let is_new = sessions != session;
                (session, made) = (sessions, Some(Instant::now()));
                self.publish(is_new).await;
            }
        }
    }

    async fn publish(&mut self, is_new_session: bool) {
        let config = self.config.clone();
        let Some(key) = self.board.keys.borrow().as_ref().map(|keys| keys.signer.clone()) else {
            return;
        };
        let now = self.board.clock.read().wall;
        let made = tokio::task::spawn_blocking(move || {
            catalogue::document(now, &config, key.as_ref()).map(|made| {
                let packed = pack_document(&made.bytes);
                (made, packed)
            })
        });
        let (made, packed) = match made.await {
            Ok(Ok(made)) => made,
            Ok(Err(fault)) => return self.complain(&describe(&fault)),
            Err(_) => return self.complain("it cannot be made"),
        };
        let Document { content, version, left_out, .. } = made;
        for fault in left_out {
            tracing::warn!(%fault, "the catalogue leaves something out");
        }
        let known = self.last.as_ref().filter(|last| last.content == content);
        if known.is_some_and(|last| last.is_answered && !is_new_session) {
            return;
        }
        if packed.len() > LETTER_BYTES_MAX {
            return self.complain(&format!(
                "it has {} bytes compressed, the link takes {LETTER_BYTES_MAX}; publish fewer \
                 datasets, or carry the file of `guan catalogue export`",
                packed.len()
            ));
        }
        self.ticket = self.ticket.wrapping_add(1);
        let letter =
            Letter { topic: Topic::Catalogue, ticket: self.ticket, body: Bytes::from(packed) };
        if self.out.try_send(letter).is_ok() {
            tracing::debug!(version, "the catalogue is sent");
            self.last = Some(Sent { content, ticket: self.ticket, is_answered: false });
        }
    }

    fn settle(&mut self, receipt: &Letter) {
        let Some(last) = self.last.as_mut().filter(|last| last.ticket == receipt.ticket) else {
            return;
        };
        last.is_answered = true;
        let receipt: Value = serde_json::from_slice(&receipt.body).unwrap_or_default();
        if receipt["accepted"] == true {
            tracing::info!(version = receipt["version"].as_u64(), "the space has the catalogue");
            return;
        }
        let text = receipt["text"].as_str().unwrap_or("without a reason").to_owned();
        self.complain(&format!("the space refuses it: {text}"));
    }

    fn complain(&self, text: &str) {
        self.board.alarm(format!("catalogue: {text}"));
    }
}
