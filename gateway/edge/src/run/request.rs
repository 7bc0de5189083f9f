//! What a command leaves for the running gateway as a file in `box.state_dir`, and how it is read.
//!
//! Invariants: a request is gone from the disk before it is acted on, and whoever took its name away has it: the gateway,
//! or the command that takes it back. It is read after that, so that no other file under the name is taken for it. One
//! that is old, too large or of another form is not acted on.

use guan_model::{Digest, WallTime};
use serde::de::DeserializeOwned;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A request that is older is not acted on.
const AGE_MAX: Duration = Duration::from_secs(60);

/// Why a request is not acted on; the program that wrote it is to blame.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestFault {
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error("it has more than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("it is not of schema {}: {source}", or(.schemas))]
    Json { schemas: RangeInclusive<u32>, source: serde_json::Error },
    #[error("it was made more than {} s ago, or by another clock", AGE_MAX.as_secs())]
    Old,
    #[error("it is of schema {found}, and this release reads {}", or(.schemas))]
    Schema { found: u32, schemas: RangeInclusive<u32> },
    #[error("it does not say who asks as its schema wants, by a commitment in hex")]
    Actor,
}

fn or(schemas: &RangeInclusive<u32>) -> String {
    let schemas: Vec<String> = schemas.clone().map(|schema| schema.to_string()).collect();
    schemas.join(" or ")
}

/// A kind of them.
pub(super) trait Request: DeserializeOwned {
    /// In `box.state_dir`.
    const FILE: &'static str;
    /// Largest one that is read.
    const BYTES_MAX: u64;
    const SCHEMAS: RangeInclusive<u32>;

    fn schema(&self) -> u32;

    /// By the wall clock of the box, milliseconds since 1970.
    fn asked_ms(&self) -> i64;

    /// Commitment to who asks. What cannot be read is a fault: else it would be done under an entry that names nobody.
    fn actor(&self) -> Result<Option<Digest>, RequestFault>;

    fn parse(text: &[u8], now: WallTime) -> Result<Self, RequestFault> {
        if text.len() as u64 > Self::BYTES_MAX {
            return Err(RequestFault::TooLarge { limit: Self::BYTES_MAX });
        }
        let request: Self = serde_json::from_slice(text)
            .map_err(|source| RequestFault::Json { schemas: Self::SCHEMAS, source })?;
        if !Self::SCHEMAS.contains(&request.schema()) {
            return Err(RequestFault::Schema { found: request.schema(), schemas: Self::SCHEMAS });
        }
        request.actor()?;
        let asked = WallTime::from_millis(request.asked_ms());
        if now.since(asked).max(asked.since(now)) > AGE_MAX {
            return Err(RequestFault::Old);
        }
        Ok(request)
    }

    /// The request, which is gone from the disk then: nothing is done because of an old one.
    fn take(state_dir: &Path, now: WallTime) -> Result<Option<Self>, RequestFault> {
        let taken = taken(state_dir, Self::FILE);
        match fs::rename(state_dir.join(Self::FILE), &taken) {
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(None),
            renamed => renamed?,
        }
        let mut text = Vec::new();
        let read = File::open(&taken)
            .and_then(|file| file.take(Self::BYTES_MAX + 1).read_to_end(&mut text));
        fs::remove_file(&taken)?;
        read?;
        Self::parse(&text, now).map(Some)
    }

    /// One that was left behind is of another life.
    fn discard(state_dir: &Path) {
        for path in [state_dir.join(Self::FILE), taken(state_dir, Self::FILE)] {
            let _ = fs::remove_file(path);
        }
    }
}

/// Where the gateway reads a request that it has taken; it is never acted on from there.
fn taken(state_dir: &Path, name: &str) -> PathBuf {
    state_dir.join(format!("{name}.taken"))
}

/// A commitment in hex, if there is one.
pub(super) fn commitment(text: Option<&str>) -> Result<Option<Digest>, RequestFault> {
    text.map(|text| Digest::from_hex(text).ok_or(RequestFault::Actor)).transpose()
}

#[cfg(test)]
mod tests {
    use super::super::carrying::{CarryAsk, CarryRequest};
    use super::super::dropping::DropRequest;
    use super::super::rollover::RolloverRequest;
    use super::*;
    use guan_model::{BatchSeq, StreamId};
    use serde::Serialize;
    use std::io::Write as _;

    const SECONDS: i64 = 1_800_000_000;

    fn at(seconds: i64) -> WallTime {
        WallTime::from_seconds(SECONDS + seconds)
    }

    /// The same for each kind, given one that names somebody.
    fn check<R: Request + Serialize>(request: &R, by: Digest) {
        let text = serde_json::to_string(request).unwrap();
        let actor = |request: R| request.actor().unwrap();
        for seconds in [-60, 0, 60] {
            assert_eq!(actor(R::parse(text.as_bytes(), at(seconds)).unwrap()), Some(by));
        }
        let refused = |text: &str, now, expect: &str| {
            let said = R::parse(text.as_bytes(), now).err().unwrap().to_string();
            assert!(said.contains(expect), "{text}: {said}");
        };
        refused(&text, at(-61), "60 s ago");
        refused(&text, at(61), "60 s ago");
        refused("", at(0), "it is not of schema");
        let newer = format!("\"schema\":{}", R::SCHEMAS.end() + 1);
        let of_schema = format!("\"schema\":{}", request.schema());
        refused(&text.replace(&of_schema, &newer), at(0), "and this release reads");
        for other in ["li", "", &by.to_string()[1..], &format!("{by}0")] {
            let other = text.replace(&by.to_string(), other);
            refused(&other, at(0), "does not say who asks");
        }
        let limit = usize::try_from(R::BYTES_MAX).unwrap();
        let padded = |length: usize| text.clone() + &" ".repeat(length - text.len());
        assert_eq!(actor(R::parse(padded(limit).as_bytes(), at(0)).unwrap()), Some(by));
        refused(&padded(limit + 1), at(0), &format!("more than {limit} bytes"));

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(R::FILE);
        assert!(R::take(folder.path(), at(0)).unwrap().is_none());
        fs::write(&path, &text).unwrap();
        assert_eq!(R::take(folder.path(), at(0)).unwrap().map(actor), Some(Some(by)));
        fs::write(&path, padded(limit + 2)).unwrap();
        assert!(R::take(folder.path(), at(0)).is_err());
        assert!(!path.exists(), "nobody acts on it later");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nor from anywhere else");
    }

    /// One command takes its request back and another leaves its own, just while the gateway reads: a pipe makes it wait.
    #[test]
    fn what_is_read_is_what_was_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(RolloverRequest::FILE);
        let text = |actor| serde_json::to_vec(&RolloverRequest::new(at(0), actor)).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let pipe = folder.path().join("pipe");
        fs::hard_link(&path, &pipe).unwrap();
        let meanwhile = std::thread::spawn(move || {
            let mut first = File::options().write(true).open(&pipe)?;
            let _ = fs::remove_file(&path);
            fs::write(&path, text(Some(BY)))?;
            first.write_all(&text(None))
        });
        let taken = RolloverRequest::take(folder.path(), at(0)).unwrap().unwrap();
        meanwhile.join().unwrap().unwrap();
        assert_eq!(taken.actor().unwrap(), None);
        let second = RolloverRequest::take(folder.path(), at(0)).unwrap();
        assert_eq!(second.map(|second| second.actor().unwrap()), Some(Some(BY)));
    }

    const BY: Digest = Digest([0xa7; 32]);

    #[test]
    fn a_rollover_is_read_or_refused_with_a_reason() {
        check(&RolloverRequest::new(at(0), Some(BY)), BY);
    }

    #[test]
    fn a_drop_is_read_or_refused_with_a_reason() {
        check(&DropRequest::new(at(0), Some(BY), [(StreamId(9), BatchSeq(7))]), BY);
    }

    #[test]
    fn an_export_is_read_or_refused_with_a_reason() {
        let ask = CarryAsk::Export {
            out: "/media/out.carry".into(),
            key: "{}".to_owned(),
            streams: [9].into(),
            bytes_max: 1 << 20,
            actor: Some(BY.to_string()),
        };
        check(&CarryRequest::new(at(0), "7", ask), BY);
    }

    #[test]
    fn whoever_asks_need_not_say_who() {
        let (now, streams) = (at(0), [(StreamId(9), BatchSeq(7))]);
        let text = serde_json::to_vec(&RolloverRequest::new(now, None)).unwrap();
        assert_eq!(RolloverRequest::parse(&text, now).unwrap().actor().unwrap(), None);
        let text = serde_json::to_vec(&DropRequest::new(now, None, streams)).unwrap();
        assert_eq!(DropRequest::parse(&text, now).unwrap().actor().unwrap(), None);
        let ask = CarryAsk::Acknowledge { receipt: "{}".to_owned() };
        let text = serde_json::to_vec(&CarryRequest::new(now, "7", ask)).unwrap();
        assert_eq!(CarryRequest::parse(&text, now).unwrap().actor().unwrap(), None);
    }
}
