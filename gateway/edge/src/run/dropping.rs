//! Gives up what waits in the spool, when an operator asks for it (`guan spool drop`).
//!
//! The request names streams and numbers, so that nothing is meant that came after he looked; and its time, since
//! an old one may speak of what is no more.

use super::Board;
use crate::engine::Event;
use crate::ingest::Token;
use crate::system_clock::wall_time;
use guan_model::{BatchSeq, Digest, StreamId, WallTime};
use serde::{Deserialize, Serialize};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};
use tokio::sync::mpsc;

/// In `box.state_dir`: made by `guan spool drop`, removed when it was acted on.
pub const DROP_REQUEST_FILE: &str = "spool-drop.request";
/// Largest request that is read: all lanes of all classes.
const REQUEST_BYTES_MAX: u64 = 256 << 10;
/// Without who asks, and with.
const SCHEMA: u32 = 1;
const SCHEMA_OF_ACTOR: u32 = 2;
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A request that is older is not acted on.
const AGE_MAX: Duration = Duration::from_secs(60);

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

/// Why a request is not acted on; the program that wrote it is to blame.
#[derive(Debug, thiserror::Error)]
enum RequestFault {
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error("it has more than {REQUEST_BYTES_MAX} bytes")]
    TooLarge,
    #[error("it is not of schema {SCHEMA}: {0}")]
    Json(#[from] serde_json::Error),
    #[error("it was made more than {} s ago, or by another clock", AGE_MAX.as_secs())]
    Old,
    #[error("it is of schema {0}, and this release reads {SCHEMA} and {SCHEMA_OF_ACTOR}")]
    Schema(u32),
    #[error("it does not say who asks as its schema wants")]
    Actor,
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

    fn actor(&self) -> Result<Option<Digest>, RequestFault> {
        match (self.schema, &self.actor) {
            (SCHEMA, None) => Ok(None),
            (SCHEMA_OF_ACTOR, Some(actor)) => {
                Digest::from_hex(actor).map(Some).ok_or(RequestFault::Actor)
            }
            _ => Err(RequestFault::Actor),
        }
    }

    fn parse(text: &[u8], now: WallTime) -> Result<Self, RequestFault> {
        if text.len() as u64 > REQUEST_BYTES_MAX {
            return Err(RequestFault::TooLarge);
        }
        let request: Self = serde_json::from_slice(text)?;
        if !(SCHEMA..=SCHEMA_OF_ACTOR).contains(&request.schema) {
            return Err(RequestFault::Schema(request.schema));
        }
        request.actor()?;
        let asked = WallTime::from_millis(request.asked_ms);
        if now.since(asked).max(asked.since(now)) > AGE_MAX {
            return Err(RequestFault::Old);
        }
        Ok(request)
    }
}

pub(super) async fn run(state_dir: PathBuf, board: Board, events: mpsc::Sender<Event<Token>>) {
    // One that was left behind is of another life.
    let _ = fs::remove_file(state_dir.join(DROP_REQUEST_FILE));
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let request = match take(&state_dir, wall_time()) {
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

/// The request, which is gone from the disk then: nothing is dropped because of an old one.
fn take(state_dir: &Path, now: WallTime) -> Result<Option<DropRequest>, RequestFault> {
    let path = state_dir.join(DROP_REQUEST_FILE);
    let mut text = Vec::new();
    let read = fs::File::open(&path)
        .and_then(|file| file.take(REQUEST_BYTES_MAX + 1).read_to_end(&mut text));
    match fs::remove_file(&path) {
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(None),
        removed => removed?,
    }
    read?;
    DropRequest::parse(&text, now).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_or_refused_with_a_reason() {
        let now = WallTime::from_seconds(1_800_000_000);
        let asked = |actor| DropRequest::new(now, actor, [(StreamId(9), BatchSeq(7))]);
        let request = asked(None);
        let by = Digest([7; 32]);
        let text = serde_json::to_vec(&asked(Some(by))).unwrap();
        assert_eq!(DropRequest::parse(&text, now).unwrap().actor().unwrap(), Some(by));
        let text = serde_json::to_vec(&request).unwrap();
        let later = |seconds: i64| WallTime::from_seconds(1_800_000_000 + seconds);
        for seconds in [-60, 0, 60] {
            assert_eq!(DropRequest::parse(&text, later(seconds)).unwrap(), request);
        }
        for seconds in [-61, 61] {
            let said = DropRequest::parse(&text, later(seconds)).unwrap_err().to_string();
            assert!(said.contains("60 s ago"), "{said}");
        }
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
        let limit = usize::try_from(REQUEST_BYTES_MAX).unwrap();
        let padded = |length: usize| [&text[..], &vec![b' '; length - text.len()]].concat();
        assert_eq!(DropRequest::parse(&padded(limit), now).unwrap(), request);
        check(&padded(limit + 1), "more than 262144 bytes");
    }
}
