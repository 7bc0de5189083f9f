//! Gives up what waits in the spool, when an operator asks for it (`guan spool drop`).
//!
//! The request names streams and numbers, so that nothing is meant that came after he looked; and its time, since
//! an old one may speak of what is no more.

use super::Board;
use super::request::{Request, RequestFault, commitment};
use crate::engine::Event;
use crate::ingest::Token;
use crate::system_clock::wall_time;
use guan_model::{BatchSeq, Digest, StreamId, WallTime};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;

/// In `box.state_dir`: made by `guan spool drop`, removed when it was acted on.
pub const DROP_REQUEST_FILE: &str = "spool-drop.request";
/// Largest request that is read: all lanes of all classes.
const REQUEST_BYTES_MAX: u64 = 256 << 10;
/// Without who asks, and with.
const SCHEMA: u32 = 1;
const SCHEMA_OF_ACTOR: u32 = 2;
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What is to be given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DropRequest {
    schema: u32,
    /// By the wall clock of the box, milliseconds since 1970.
    asked_ms: i64,
    /// Stream and the last number that is meant.
    streams: Vec<(u16, u64)>,
    /// Commitment to who asks, in hex; in schema 2, and only there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    actor: Option<String>,
}

impl DropRequest {
    pub fn new(
        asked: WallTime,
        actor: Option<Digest>,
        streams: impl IntoIterator<Item = (StreamId, BatchSeq)>,
    ) -> Self {
        let streams = streams.into_iter().map(|(stream, through)| (stream.0, through.0)).collect();
        let schema = if actor.is_some() { SCHEMA_OF_ACTOR } else { SCHEMA };
        let actor = actor.map(|actor| actor.to_string());
        Self { schema, asked_ms: asked.millis(), streams, actor }
    }
}

impl Request for DropRequest {
    const FILE: &'static str = DROP_REQUEST_FILE;
    const BYTES_MAX: u64 = REQUEST_BYTES_MAX;
    const SCHEMAS: RangeInclusive<u32> = SCHEMA..=SCHEMA_OF_ACTOR;

    fn schema(&self) -> u32 {
        self.schema
    }

    fn asked_ms(&self) -> i64 {
        self.asked_ms
    }

    fn actor(&self) -> Result<Option<Digest>, RequestFault> {
        match (self.schema, commitment(self.actor.as_deref())?) {
            (SCHEMA, None) => Ok(None),
            (SCHEMA_OF_ACTOR, Some(actor)) => Ok(Some(actor)),
            _ => Err(RequestFault::Actor),
        }
    }
}

pub(super) async fn run(state_dir: PathBuf, board: Board, events: mpsc::Sender<Event<Token>>) {
    DropRequest::discard(&state_dir);
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let request = match DropRequest::take(&state_dir, wall_time()) {
            Ok(None) => continue,
            Ok(Some(request)) => request,
            Err(fault) => {
                board.alarm(format!("{DROP_REQUEST_FILE} is not acted on: {fault}"));
                continue;
            }
        };
        let actor = request.actor().ok().flatten();
        for (stream, through) in request.streams {
            let (stream, through) = (StreamId(stream), BatchSeq(through));
            if events.send(Event::GivenUp { stream, through, actor }).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_other_forms_are_refused() {
        let now = WallTime::from_seconds(1_800_000_000);
        let by = Digest([7; 32]);
        let check = |text: &[u8], expect: &str| {
            let said = DropRequest::parse(text, now).unwrap_err().to_string();
            assert!(said.contains(expect), "{said}");
        };
        check(b"", "schema 1");
        check(br#"{"schema":1,"asked_ms":0,"streams":[[70000,1]]}"#, "schema 1");
        check(br#"{"schema":1,"asked_ms":0,"streams":[],"all":true}"#, "schema 1");
        check(br#"{"schema":3,"asked_ms":0,"streams":[]}"#, "schema 3");
        check(br#"{"schema":2,"asked_ms":0,"streams":[]}"#, "who asks");
        check(br#"{"schema":2,"asked_ms":0,"streams":[],"actor":"li"}"#, "who asks");
        let early = format!(r#"{{"schema":1,"asked_ms":0,"streams":[],"actor":"{by}"}}"#);
        check(early.as_bytes(), "who asks");
    }
}
