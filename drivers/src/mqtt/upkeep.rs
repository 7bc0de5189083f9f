//! What happens without a connection: wills that are due are published, sessions end.

use super::hub::Due;
use super::limits::LOOK_AT_CLOCK;
use super::listener::Shared;
use super::message::Message;
use super::session::Durable;
use crate::submission::{Outcome, Publication, ReplyHandle, Submission, outcomes};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::{Instant, sleep_until};

/// Runs until the listener ends it.
pub(super) async fn run(shared: Arc<Shared>) {
    let (outcomes_out, mut settled) = outcomes();
    // One for each client that has vanished and whose will waits for the engine.
    let mut published: BTreeMap<u64, (Arc<str>, Message)> = BTreeMap::new();
    let mut ticket = 0;
    let mut look_at = Instant::now();
    loop {
        tokio::select! {
            biased;
            Some(settled) = settled.recv() => {
                for ticket in settled.tickets {
                    if let Some((client, message)) = published.remove(&ticket)
                        && settled.outcome == Outcome::Durable
                    {
                        shared.hub.publish(&client, &Durable { message, held: None });
                    }
                }
                continue;
            }
            () = shared.hub.upkeep.notified() => {}
            () = sleep_until(look_at) => {}
        }
        let Due { next, ended, wills } = shared.hub.look();
        look_at = Instant::now() + next.unwrap_or(LOOK_AT_CLOCK).min(LOOK_AT_CLOCK);
        for client in ended {
            let forgotten = Submission::SessionForgotten { client };
            // Without an engine nothing is left to be forgotten.
            let _ = shared.config.submissions.send(forgotten).await;
        }
        for (client, message) in wills {
            ticket += 1;
            let reply = ReplyHandle::new(ticket, outcomes_out.clone());
            published.insert(ticket, (client.clone(), message.clone()));
            submit(&shared, client, &message, reply).await;
        }
    }
}

/// The listener has ended: the wills of its last clients are still to be recorded.
pub(super) async fn finish(shared: &Shared) {
    for (client, message) in shared.hub.look().wills {
        let (nobody, _) = outcomes();
        submit(shared, client, &message, ReplyHandle::new(0, nobody)).await;
    }
}

async fn submit(shared: &Shared, client: Arc<str>, message: &Message, reply: ReplyHandle) {
    let publication = Publication {
        client,
        topic: message.topic.clone(),
        payload: message.payload.clone(),
        qos: message.qos,
        held: None,
        is_removal: message.retain && message.payload.is_empty(),
        received: (shared.config.clock)(),
        reply,
        permit: None,
    };
    // When the engine is gone, so is everything that the will could tell.
    let _ = shared.config.submissions.send(Submission::Publish(publication)).await;
}
