//! From the drivers to the writer: payloads become rows, refusals get their reason.
//!
//! One task, so that the messages of a client keep their order. Waits for the writer (bounded channel),
//! which holds the drivers up in turn; nothing is dropped here.

use crate::decode::{Decoder, Routes};
use crate::engine::{Effect, Event, Publication, Refusal};
use crate::rows::Rows;
use crate::status::IntakeStatus;
use crate::system_clock::SharedClock;
use guan_drivers::{DurableRun, Outcome, RefuseReason, ReplyHandle, SessionState, Submission};
use guan_model::{ClockQuality, WallTime};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

/// Most submissions that wait for decoding, of all drivers together.
pub const SUBMISSIONS_MAX: usize = 4096;
/// Submissions that are taken, decoded and handed on together.
const AT_ONCE: usize = 256;
/// Refusals whose text is logged in one second; the others are counted.
const REFUSALS_LOGGED_PER_S: u32 = 10;

/// What the engine hands back with its answer.
#[derive(Debug)]
pub enum Token {
    /// The permit frees the message's memory with the answer.
    Message(ReplyHandle, Option<OwnedSemaphorePermit>),
    Session(oneshot::Sender<SessionState>),
}

/// Runs until all drivers are gone, or the writer is.
pub async fn run(
    mut submissions: mpsc::Receiver<Submission>,
    decoder: Arc<Decoder>,
    clock: SharedClock,
    events: mpsc::Sender<Event<Token>>,
    status: watch::Sender<IntakeStatus>,
) {
    let mut tally =
        Tally { status, publications: 0, window: Instant::now(), logged: 0, left_out: 0 };
    let (mut received, mut decoded) = (Vec::new(), Vec::new());
    let mut routes = Routes::default();
    while submissions.recv_many(&mut received, AT_ONCE).await > 0 {
        let quality = clock.quality();
        let before = tally.publications;
        for submission in received.drain(..) {
            decoded.extend(match submission {
                Submission::Publish(publication) => {
                    decode((&decoder, &mut routes), quality, publication, &mut tally)
                }
                Submission::Release { client, packet_id, reply } => {
                    Some(Event::Release { client, packet_id, token: Token::Message(reply, None) })
                }
                Submission::SessionOpened { client, clean, reply } => {
                    Some(Event::SessionOpened { client, clean, token: Token::Session(reply) })
                }
                Submission::SessionForgotten { client } => Some(Event::SessionForgotten { client }),
            });
        }
        if tally.publications > before {
            tally.show_publications();
        }
        let mut left = decoded.drain(..);
        while left.len() > 0 {
            let room = events.reserve_many(left.len().min(events.max_capacity())).await;
            let Ok(room) = room else { return };
            room.zip(left.by_ref()).for_each(|(place, event)| place.send(event));
        }
    }
}

fn decode(
    (decoder, routes): (&Decoder, &mut Routes),
    quality: ClockQuality,
    publication: guan_drivers::Publication,
    tally: &mut Tally,
) -> Option<Event<Token>> {
    let guan_drivers::Publication {
        client,
        topic,
        payload,
        held,
        is_removal,
        received,
        reply,
        permit,
        ..
    } = publication;
    if is_removal {
        // Of a reading to be forgotten by subscribers: no data, but its packet id is held as any other.
        let held = held.map(|id| (client, id));
        let token = Token::Message(reply, permit);
        return Some(Event::Publication(Publication { held, rows: Rows::new(), token }));
    }
    // Milliseconds are what the gateway vouches for, and what its column costs least with.
    let received = WallTime::from_millis(received.millis());
    match decoder.decode_with(routes, &topic, &payload, received, quality) {
        Ok(rows) => {
            let held = held.map(|id| (client, id));
            let token = Token::Message(reply, permit);
            tally.publications += 1;
            Some(Event::Publication(Publication { held, rows, token }))
        }
        Err(refusal) => {
            tally.note(&client, refusal.code().name(), refusal.text());
            let text = refusal.text().to_owned();
            reply.settle(Outcome::Refused { reason: RefuseReason::PayloadInvalid, text });
            let dataset = decoder.dataset_of(&topic)?.clone();
            Some(Event::Undecoded { dataset })
        }
    }
}

/// Counts what was taken and every refusal, and logs the first refusals of each second.
struct Tally {
    status: watch::Sender<IntakeStatus>,
    publications: u64,
    window: Instant,
    logged: u32,
    left_out: u64,
}

impl Tally {
    fn show_publications(&self) {
        self.status.send_modify(|status| status.publications = self.publications);
    }

    fn note(&mut self, client: &str, reason: &str, text: &str) {
        self.status.send_modify(|status| {
            *status.refused.entry(reason.to_owned()).or_insert(0) += 1;
            status.last_refusal = Some(text.to_owned());
        });
        if self.window.elapsed() >= Duration::from_secs(1) {
            if self.left_out > 0 {
                let count = self.left_out;
                tracing::warn!(count, "more messages were refused in the last second");
            }
            (self.window, self.logged, self.left_out) = (Instant::now(), 0, 0);
        }
        if self.logged < REFUSALS_LOGGED_PER_S {
            self.logged += 1;
            tracing::warn!(client, reason, text, "a message was refused");
        } else {
            self.left_out += 1;
        }
    }
}

/// Answers the drivers. Effects that are not answers are returned; the last effect of a commit is one of them, so
/// what is durable is told with it at the latest.
pub fn answer(effect: Effect<Token>, durable: &mut DurableRun) -> Option<Effect<Token>> {
    match effect {
        Effect::Durable(Token::Message(reply, permit)) => durable.settle(reply, permit),
        Effect::Refused(Token::Message(reply, permit), refusal) => {
            let text = refusal.to_string();
            reply.settle(Outcome::Refused { reason: RefuseReason::Quota, text });
            drop(permit);
        }
        Effect::SessionReady { token: Token::Session(reply), present, held } => {
            // A client that is gone opens its session again.
            let _ = reply.send(SessionState { present, held });
        }
        // Dropped replies turn the client away; it comes again.
        Effect::Refused(Token::Session(_), refusal) => log_session_refusal(&refusal),
        Effect::Durable(Token::Session(_)) | Effect::SessionReady { .. } => {
            unreachable!("sessions are answered with SessionReady, messages with Durable")
        }
        other => {
            durable.flush();
            return Some(other);
        }
    }
    None
}

fn log_session_refusal(refusal: &Refusal) {
    tracing::warn!(%refusal, "a client's session could not be opened");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system_clock::SystemClock;
    use bytes::Bytes;
    use guan_drivers::QoS;
    use guan_model::DescriptorTable;

    #[tokio::test]
    async fn what_cannot_be_read_is_refused_with_its_reason_and_counted() {
        let table = DescriptorTable::new(Vec::new()).unwrap();
        let decoder = Arc::new(Decoder::compile(&[], &table).unwrap());
        let clock = SharedClock::new(SystemClock::new(None));
        let (submissions, received) = mpsc::channel(8);
        let (events, _events) = mpsc::channel(8);
        let (status, shown) = watch::channel(IntakeStatus::default());
        let task = tokio::spawn(run(received, decoder, clock, events, status));
        let (outcomes, mut settled) = guan_drivers::outcomes();
        let publication = guan_drivers::Publication {
            client: Arc::from("c"),
            topic: Arc::from("nowhere"),
            payload: Bytes::from_static(b"{}"),
            qos: QoS::AtLeastOnce,
            held: None,
            is_removal: false,
            received: WallTime(0),
            reply: ReplyHandle::new(3, outcomes),
            permit: None,
        };
        submissions.send(Submission::Publish(publication)).await.unwrap();
        let settled = settled.recv().await.unwrap();
        assert_eq!(settled.tickets, 3..4);
        let Outcome::Refused { reason, text } = settled.outcome else { panic!("{settled:?}") };
        assert_eq!(reason, RefuseReason::PayloadInvalid);
        assert!(text.contains("nowhere") && text.contains("[[mapping]]"), "{text}");
        drop(submissions);
        task.await.unwrap();
        assert_eq!(shown.borrow().refused["no-mapping"], 1);
    }
}
