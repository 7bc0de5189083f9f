//! The task that answers what boxes write about their logs, and tells them of their batches.

use super::folders::Folders;
use super::mirrors::{AskLetter, MirrorLetter, Mirrors};
use super::witnesses::Witnesses;
use crate::alarms::Alarms;
use crate::negotiating::Mail;
use crate::received::Tally;
use crate::runner::{Clock, Request};
use bytes::Bytes;
use guan_evidence::LeafBody;
use guan_link::{Letter, Topic};
use guan_model::BoxId;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What it takes to answer.
pub struct Desk<F: Folders> {
    pub mail: Mail,
    pub witnesses: Witnesses<F>,
    pub mirrors: Mirrors<F>,
    pub requests: mpsc::Sender<Request>,
    pub tally: Tally,
    pub alarms: Alarms,
    pub clock: Clock,
}

/// An answer, and what must stand in the space's log before it leaves.
struct Answer {
    leaf: Option<LeafBody>,
    letter: Option<Letter>,
}

impl<F: Folders> Desk<F> {
    /// Runs until nobody writes any more.
    pub async fn run(mut self, mut letters: mpsc::Receiver<(BoxId, Letter)>) {
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let (box_id, letter) = tokio::select! {
                letter = letters.recv() => match letter {
                    Some(letter) => letter,
                    None => return,
                },
                _ = look.tick() => {
                    self.tell_received();
                    continue;
                }
            };
            // The state lies in files.
            let turn = tokio::task::spawn_blocking(move || {
                let answer = self.answer(&box_id, letter);
                (self, box_id, answer)
            });
            let Ok((back, box_id, answer)) = turn.await else { return };
            self = back;
            self.give(&box_id, answer).await;
        }
    }

    async fn give(&self, box_id: &BoxId, answer: Answer) {
        if let Some(body) = answer.leaf {
            let (reply, kept) = oneshot::channel();
            let asked = self.requests.send(Request::Note { actor: None, body, reply }).await;
            if asked.is_err() || kept.await.is_err() {
                // The box asks again, and what was signed is signed again.
                tracing::warn!(%box_id, "the space's log takes nothing, so nothing is answered");
                return;
            }
        }
        if let Some(letter) = answer.letter {
            self.mail.post(box_id, letter);
        }
    }

    fn answer(&mut self, box_id: &BoxId, letter: Letter) -> Answer {
        match letter.topic {
            Topic::Witness => self.witness(box_id, &letter),
            Topic::Mirror => self.mirror(box_id, &letter),
            Topic::MirrorAsk => self.give_back(box_id, &letter),
            _ => Answer { leaf: None, letter: None },
        }
    }

    fn witness(&mut self, box_id: &BoxId, letter: &Letter) -> Answer {
        let witnessed = self.witnesses.handle(&(self.clock)(), box_id, &letter.body);
        if let Some(alarm) = &witnessed.alarm {
            self.alarms.raise(box_id, alarm);
        }
        let body = [&witnessed.status.to_be_bytes()[..], witnessed.body.as_bytes()].concat();
        let (topic, ticket) = (Topic::WitnessAnswer, letter.ticket);
        let letter = Letter { topic, ticket, body: Bytes::from(body) };
        Answer { leaf: witnessed.leaf, letter: Some(letter) }
    }

    fn mirror(&mut self, box_id: &BoxId, letter: &Letter) -> Answer {
        let mut answer = Answer { leaf: None, letter: None };
        // Read once already, when it came.
        let Ok(leaves) = MirrorLetter::parse(&letter.body) else { return answer };
        let now = (self.clock)();
        let head = self.witnesses.head(box_id, &leaves.origin).map_err(Into::into);
        let taken =
            head.and_then(|head| self.mirrors.handle(&now, box_id, &leaves, head.as_deref()));
        match taken {
            Ok(Some(mirrored)) => {
                if let Some(alarm) = &mirrored.alarm {
                    self.alarms.raise(box_id, alarm);
                }
                let (topic, ticket) = (Topic::MirrorAnswer, letter.ticket);
                let body = Bytes::from(mirrored.encode());
                answer.letter = Some(Letter { topic, ticket, body });
            }
            Ok(None) => tracing::debug!(%box_id, "a box writes too often about its log"),
            Err(fault) => {
                let text = guan_link::driver::describe(&fault);
                self.alarms.raise(box_id, &format!("its log is not copied: {text}"));
            }
        }
        answer
    }

    fn give_back(&mut self, box_id: &BoxId, letter: &Letter) -> Answer {
        let mut answer = Answer { leaf: None, letter: None };
        let Ok(ask) = AskLetter::parse(&letter.body) else { return answer };
        let now = (self.clock)();
        let head = self.witnesses.head(box_id, &ask.origin).map_err(Into::into);
        let given = head.and_then(|head| self.mirrors.give(&now, box_id, &ask, head.as_deref()));
        match given {
            Ok(Some(body)) => {
                tracing::info!(%box_id, log = ask.origin, first = ask.first, "a box asks for lost entries");
                let (topic, ticket) = (Topic::MirrorLeaves, letter.ticket);
                answer.letter = Some(Letter { topic, ticket, body: Bytes::from(body) });
            }
            Ok(None) => tracing::debug!(%box_id, "a box asks too often for its log"),
            Err(fault) => {
                let text = guan_link::driver::describe(&fault);
                self.alarms.raise(box_id, &format!("lost entries are not given back: {text}"));
            }
        }
        answer
    }

    /// Boxes without a session are told in the next one.
    fn tell_received(&self) {
        let now = (self.clock)();
        for box_id in self.tally.boxes() {
            if !self.mail.is_connected(&box_id) {
                continue;
            }
            if let Some(body) = self.tally.poll(&box_id, &now) {
                let letter = Letter { topic: Topic::Received, ticket: 0, body };
                self.mail.post(&box_id, letter);
            }
        }
    }
}
