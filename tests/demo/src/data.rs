//! The real data under `tests/data`, as the messages that sensors and a vessel would send.

use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

/// A message, and the reading that must come out at the other end.
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub reading: Reading,
}

/// What identifies a reading: equal readings may be there several times.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reading {
    pub point: String,
    /// Nanoseconds since 1970; `None` when the source gives no time.
    pub source_time: Option<i64>,
    /// Bits of a number, or bytes.
    pub value: Vec<u8>,
}

/// Messages that belong to one dataset.
pub struct Dataset {
    pub id: &'static str,
    /// The contract that lets all of it go, as it is.
    pub contract: &'static str,
    /// Whether a contract lets it go.
    pub is_granted: bool,
    pub messages: Vec<Message>,
}

/// Reads everything.
pub fn read(folder: &Path) -> Result<Vec<Dataset>> {
    let text = |file: &str| unpack(&folder.join(file));
    let machine = text("nab/machine_temperature_system_failure.csv.gz")?;
    let office = text("nab/ambient_temperature_system_failure.csv.gz")?;
    let vessel = text("canboat/dirona-actisense-serial.raw.gz")?;
    let gnss = text("gpsd/ublox-zed-f9p-nmea.log.chk.gz")?;
    Ok(vec![
        Dataset {
            id: "machine-temperature",
            contract: "C-maintainer",
            is_granted: true,
            messages: table(&machine, "factory/press-1/temperature", "machine.temperature")?,
        },
        Dataset {
            id: "vessel-bus",
            contract: "C-2026-vessel",
            is_granted: true,
            messages: bus(&vessel)?,
        },
        Dataset {
            id: "gnss-nmea",
            contract: "C-2026-gnss",
            is_granted: true,
            messages: sentences(&gnss),
        },
        Dataset {
            id: "office-climate",
            contract: "none",
            is_granted: false,
            messages: table(&office, "office/temperature", "office.temperature")?,
        },
    ])
}

/// `gzip` is on every Debian.
fn unpack(path: &Path) -> Result<String> {
    let output = Command::new("gzip").arg("-dc").arg(path).output();
    let output = output.context("gzip cannot be started")?;
    if !output.status.success() {
        bail!("{} cannot be unpacked", path.display());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// NAB: `2013-12-02 21:15:00,73.96`.
fn table(text: &str, topic: &str, point: &str) -> Result<Vec<Message>> {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    let mut messages = Vec::new();
    for line in text.lines().skip(1) {
        let (time, value) = line.split_once(',').context("a line without a comma")?;
        let moment = PrimitiveDateTime::parse(time, &format)?.assume_utc();
        let number: f64 = value.parse()?;
        messages.push(Message {
            topic: topic.to_owned(),
            payload: format!(
                r#"{{"t":"{}","asset":"{point}","unit":"degF","value":{value}}}"#,
                moment.format(&Rfc3339)?
            )
            .into_bytes(),
            reading: Reading {
                point: point.to_owned(),
                source_time: Some(nanos(moment)?),
                value: number.to_bits().to_be_bytes().to_vec(),
            },
        });
    }
    Ok(messages)
}

/// CANboat: `2016-02-28T19:57:02.364Z,2,127250,7,255,8,ff,10,...`: time, priority, PGN, source,
/// destination, length, bytes.
fn bus(text: &str) -> Result<Vec<Message>> {
    let mut messages = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split(',').collect();
        let [time, priority, pgn, source, destination, _, bytes @ ..] = fields.as_slice() else {
            continue;
        };
        let data = bytes.concat();
        let moment = bus_time(time)?;
        let time = moment.format(&Rfc3339)?;
        messages.push(Message {
            topic: format!("vessel/n2k/{pgn}/{source}"),
            payload: format!(
                r#"{{"t":"{time}","asset":"vessel-1","prio":{priority},"pgn":{pgn},"src":{source},"dst":{destination},"data":"{data}"}}"#
            )
            .into_bytes(),
            reading: Reading {
                point: format!("n2k.{pgn}.{source}"),
                source_time: Some(nanos(moment)?),
                value: bytes.iter().map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<_, _>>()?,
            },
        });
    }
    Ok(messages)
}

/// Two forms occur in the file: RFC 3339, and `2016-02-28-19:57:01`.
fn bus_time(text: &str) -> Result<OffsetDateTime> {
    if let Ok(moment) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(moment);
    }
    let format = format_description!("[year]-[month]-[day]-[hour]:[minute]:[second]");
    let moment = PrimitiveDateTime::parse(text, &format);
    Ok(moment.with_context(|| format!("{text} is no time"))?.assume_utc())
}

/// NMEA 0183 sentences; the log has lines of other kinds between them.
fn sentences(text: &str) -> Vec<Message> {
    let lines = text.lines().filter(|line| line.starts_with('$'));
    let message = |line: &str| Message {
        topic: "vehicle/gnss/nmea".to_owned(),
        payload: line.as_bytes().to_vec(),
        reading: Reading {
            point: "gnss.nmea".to_owned(),
            source_time: None,
            value: line.as_bytes().to_vec(),
        },
    };
    lines.map(message).collect()
}

fn nanos(moment: OffsetDateTime) -> Result<i64> {
    Ok(i64::try_from(moment.unix_timestamp_nanos())?)
}
