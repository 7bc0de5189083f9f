//! A contract over a recorded capture: what would leave, in which form. The same decoder, plan and
//! decisions as on the running box, with a memory of its own.
//!
//! A capture is what `mosquitto_sub -F %j` prints: one JSON object a line with `tst`, `topic`, `payload`.

use crate::decode::Decoder;
use crate::engine::Heard;
use guan_configs::EdgeConfig;
use guan_model::{
    Batch, BatchHeader, BootNumber, ClockQuality, DatasetId, Now, Row, Value, WallTime,
};
use guan_policy::{Contract, Means, Permitted, Plan, Ruling, Situation, Usage};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::BufRead;
use std::time::Duration;

/// Longest line of a capture.
pub const LINE_BYTES_MAX: usize = 1 << 20;
/// Most messages of a capture.
pub const MESSAGES_MAX: usize = 5_000_000;
/// Rows that are decided on together.
const ROWS_AT_ONCE: usize = 1000;

/// Why a capture cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum CaptureFault {
    #[error("line {line}: {source}; record with `mosquitto_sub -F %j -t '#'`")]
    Line { line: usize, source: serde_json::Error },
    #[error("line {line}: {text:?} is no time such as 2026-11-24T08:00:00.000000+0800")]
    Time { line: usize, text: String },
    #[error("line {line} is longer than {LINE_BYTES_MAX} bytes")]
    Long { line: usize },
    #[error("the capture has more than {MESSAGES_MAX} messages; split it")]
    Many,
    #[error("line {line} cannot be read")]
    Read { line: usize, source: std::io::Error },
}

/// What mosquitto prints; more members may follow.
#[derive(Deserialize)]
struct Line {
    tst: String,
    topic: String,
    payload: String,
}

/// One recorded message.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub at: WallTime,
    pub topic: String,
    pub payload: Vec<u8>,
}

/// Reads a whole capture.
pub fn read_capture(input: impl BufRead) -> Result<Vec<Message>, CaptureFault> {
    let mut messages = Vec::new();
    let mut input = input;
    for line in 1.. {
        let mut text = String::new();
        let mut limited = std::io::Read::take(&mut input, LINE_BYTES_MAX as u64 + 1);
        let read = limited.read_line(&mut text);
        match read.map_err(|source| CaptureFault::Read { line, source })? {
            0 => break,
            length if length > LINE_BYTES_MAX => return Err(CaptureFault::Long { line }),
            _ => {}
        }
        if text.trim().is_empty() {
            continue;
        }
        if messages.len() == MESSAGES_MAX {
            return Err(CaptureFault::Many);
        }
        let parsed: Line =
            serde_json::from_str(&text).map_err(|source| CaptureFault::Line { line, source })?;
        let at = moment(&parsed.tst).ok_or(CaptureFault::Time { line, text: parsed.tst })?;
        messages.push(Message { at, topic: parsed.topic, payload: parsed.payload.into_bytes() });
    }
    Ok(messages)
}

/// RFC 3339, or with the zone as `+0800`, as mosquitto writes it.
fn moment(text: &str) -> Option<WallTime> {
    let place = text.len().checked_sub(5).filter(|place| text.is_char_boundary(*place))?;
    let (head, zone) = text.split_at(place);
    let is_short = zone.starts_with(['+', '-']) && zone[1..].bytes().all(|b| b.is_ascii_digit());
    let text = match is_short {
        true => format!("{head}{}:{}", &zone[..3], &zone[3..]),
        false => text.to_owned(),
    };
    let parsed = time::OffsetDateTime::parse(&text, &time::format_description::well_known::Rfc3339);
    i64::try_from(parsed.ok()?.unix_timestamp_nanos()).ok().map(WallTime)
}

/// One row for a plot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dot {
    pub at: WallTime,
    pub value: f64,
}

/// What became of one point.
#[derive(Debug, Clone, Default)]
pub struct PointOutcome {
    pub rows_in: u64,
    pub rows_out: u64,
    /// Of those, without a value.
    pub masked: u64,
    /// First value that came, and first that left.
    pub first_in: Option<Value>,
    pub first_out: Option<Value>,
    pub dots_in: Vec<Dot>,
    pub dots_out: Vec<Dot>,
}

/// What became of a capture.
#[derive(Debug, Default)]
pub struct Outcome {
    pub messages: u64,
    pub undecoded: u64,
    pub points: BTreeMap<String, PointOutcome>,
    /// Readings that did not leave, by reason and rule.
    pub refused: BTreeMap<String, u64>,
    /// Readings by verdict and the rule that gave it; what a window gives counts, too.
    pub rulings: BTreeMap<(Ruling, Option<String>), u64>,
    pub batches: u64,
    pub batch_bytes: u64,
    /// Batches that must wait for something when they leave, by the permission that let them in.
    pub on_terms: BTreeMap<String, u64>,
}

/// A box that only thinks.
pub struct Simulation<'s> {
    config: &'s EdgeConfig,
    decoder: &'s Decoder,
    plan: Plan,
    contracts: &'s [Contract],
    usage: Usage,
    situation: Situation,
    heard: Heard,
    entropy: u64,
    outcome: Outcome,
}

impl<'s> Simulation<'s> {
    pub fn new(config: &'s EdgeConfig, decoder: &'s Decoder, contracts: &'s [Contract]) -> Self {
        let now = Now { wall: WallTime(0), monotonic: Duration::ZERO, quality: ClockQuality::Ntp };
        let surroundings = crate::wiring::surroundings(config);
        Self {
            config,
            decoder,
            plan: Plan::compile(contracts, &config.descriptors),
            contracts,
            usage: Usage::default(),
            situation: Situation::at(now),
            heard: Heard::of(surroundings),
            entropy: 0x9E37_79B9_7F4A_7C15,
            outcome: Outcome::default(),
        }
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Runs all messages; `progress` is told how many are done.
    pub fn run(mut self, messages: &[Message], mut progress: impl FnMut(usize)) -> Outcome {
        let mut waiting: Vec<Row> = Vec::new();
        let started = messages.first().map_or(WallTime(0), |first| first.at);
        for (place, message) in messages.iter().enumerate() {
            self.outcome.messages += 1;
            let second = |at: WallTime| at.0.div_euclid(1_000_000_000);
            // As the commit window does: what came together is decided together.
            if second(self.situation.now.wall) != second(message.at)
                || waiting.len() >= ROWS_AT_ONCE
            {
                self.decide(std::mem::take(&mut waiting));
            }
            self.situation.now.wall = message.at;
            self.situation.now.monotonic = message.at.since(started);
            let decoded = self.decoder.decode(
                &message.topic,
                &message.payload,
                message.at,
                ClockQuality::Ntp,
            );
            match decoded {
                Ok(rows) => {
                    // As the box does: a word is not for what came before it.
                    let before = self.heard.clone();
                    let now = self.situation.now.monotonic;
                    if self.heard.hear(now, &rows) {
                        let after = std::mem::replace(&mut self.heard, before);
                        self.decide(std::mem::take(&mut waiting));
                        self.heard = after;
                    }
                    waiting.extend(rows);
                }
                Err(_) => self.outcome.undecoded += 1,
            }
            if place % 10_000 == 0 {
                progress(place);
            }
        }
        self.decide(waiting);
        self.end();
        self.outcome
    }

    fn header(&self, dataset: &DatasetId) -> BatchHeader {
        BatchHeader {
            dataset: dataset.clone(),
            contract: None,
            descriptors: self.plan.descriptors(),
            boot: BootNumber(0),
            monotonic: self.situation.now.monotonic,
            clock_quality: self.situation.now.quality,
        }
    }

    fn decide(&mut self, rows: Vec<Row>) {
        crate::wiring::surroundings(self.config).note_fixes(&rows, &mut self.situation.track);
        self.heard.describe(self.situation.now.monotonic, &mut self.situation);
        let mut datasets: BTreeMap<DatasetId, Vec<Row>> = BTreeMap::new();
        for row in rows {
            let point = self.config.descriptors.point(row.point);
            let point = point.expect("the decoder knows the described points only");
            let outcome = self.outcome.points.entry(point.name.to_string()).or_default();
            outcome.rows_in += 1;
            outcome.first_in = outcome.first_in.take().or_else(|| row.value.clone());
            outcome.dots_in.extend(dot(&row));
            datasets.entry(point.dataset.clone()).or_default().push(row);
        }
        for (dataset, rows) in datasets {
            let batch = Batch::from_rows(self.header(&dataset), rows);
            let batch = batch.expect("rows of the decoder keep the limits of a batch");
            let decision =
                self.with_means(|plan, situation, means| plan.decide(situation, means, batch));
            for refusal in &decision.refused {
                let rule = refusal.reason.rule().map_or(String::new(), |rule| format!(" ({rule})"));
                let reason = format!("{}{rule}", refusal.reason.name());
                *self.outcome.refused.entry(reason).or_default() += refusal.rows;
                let by = (Ruling::of_refusal(&refusal.reason), refusal.reason.rule());
                let by = (by.0, by.1.map(str::to_owned));
                *self.outcome.rulings.entry(by).or_default() += refusal.rows;
            }
            decision.permitted.into_iter().for_each(|permitted| self.note(&permitted));
        }
        // As the box does at each tick: what comes later for them is late.
        if self.usage.is_overdue(self.situation.now.wall) {
            self.flush();
        }
    }

    /// Windows that are still open leave, as they would when nothing comes any more.
    fn end(&mut self) {
        let later = self.situation.now.wall.saturating_add(guan_policy::duty::WINDOW_MAX * 2);
        self.situation.now.wall = later;
        self.flush();
    }

    fn flush(&mut self) {
        let header = self.header(&DatasetId::parse("none").expect("a plain name"));
        let results = self.with_means(|plan, situation, means| {
            plan.flush(situation, means, |dataset| BatchHeader {
                dataset: dataset.clone(),
                ..header.clone()
            })
        });
        results.permitted.iter().for_each(|permitted| self.note(permitted));
    }

    fn with_means<T>(&mut self, act: impl FnOnce(&Plan, &Situation, &mut Means<'_>) -> T) -> T {
        let Self { plan, usage, situation, entropy, .. } = self;
        // Nothing leaves, so chance need not be hidden; runs are to be repeatable.
        let mut next = || {
            *entropy ^= *entropy << 13;
            *entropy ^= *entropy >> 7;
            *entropy ^= *entropy << 17;
            *entropy
        };
        let key = |_: &guan_model::ContractId| Some([0x5A; 32]);
        let boot = BootNumber(0);
        let mut means = Means { usage, entropy: &mut next, pseudonym_key: &key, boot };
        act(plan, situation, &mut means)
    }

    fn note(&mut self, permitted: &Permitted) {
        self.outcome.batches += 1;
        self.outcome.batch_bytes += guan_codec::encode(&permitted.batch).bytes.len() as u64;
        if !permitted.terms.is_free() {
            let rule = permitted.terms.permission().to_string();
            *self.outcome.on_terms.entry(rule).or_default() += 1;
        }
        let contract = self.contracts.iter().find(|one| *one.id() == permitted.contract);
        let contract = contract.expect("the plan was made of these contracts");
        let rule = permitted.terms.permission();
        for row in permitted.batch.iter_rows() {
            let point = self.config.descriptors.point(row.point);
            let name = point.expect("decisions add no points").name.to_string();
            let by = (contract.ruling(rule, &name), Some(rule.to_string()));
            *self.outcome.rulings.entry(by).or_default() += 1;
            let outcome = self.outcome.points.entry(name).or_default();
            outcome.rows_out += 1;
            outcome.masked += u64::from(row.value.is_none());
            outcome.first_out = outcome.first_out.take().or_else(|| row.value.clone());
            outcome.dots_out.extend(dot(&row));
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "a picture has fewer than 2^53 dots")]
fn dot(row: &Row) -> Option<Dot> {
    let at = row.source_time.unwrap_or(row.gateway_time);
    let value = match row.value.as_ref()? {
        Value::F64(value) => *value,
        Value::F32(value) => f64::from(*value),
        Value::I64(value) => *value as f64,
        Value::U64(value) => *value as f64,
        Value::Bool(value) => f64::from(u8::from(*value)),
        Value::Text(_) | Value::Bytes(_) => return None,
    };
    value.is_finite().then_some(Dot { at, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_are_what_mosquitto_prints() {
        let text = concat!(
            r#"{"tst":"2026-11-24T08:00:00.250000+0800","topic":"a/b","qos":1,"payloadlen":1,"payload":"7"}"#,
            "\n\n",
            r#"{"tst":"2026-11-24T00:00:01Z","topic":"a/c","payload":"{\"x\":1}"}"#,
        );
        let messages = read_capture(text.as_bytes()).unwrap();
        assert_eq!(messages[1].at.since(messages[0].at), Duration::from_millis(750));
        assert_eq!(
            (messages[0].topic.as_str(), &messages[1].payload[..]),
            ("a/b", &b"{\"x\":1}"[..])
        );
        let check = |text: &str, expect: &str| {
            let fault = read_capture(text.as_bytes()).unwrap_err().to_string();
            assert!(fault.contains(expect), "{fault}");
        };
        check("\n{}", "line 2");
        check(r#"{"tst":"yesterday","topic":"a","payload":"1"}"#, "yesterday");
        check(&"x".repeat(LINE_BYTES_MAX + 1), "longer");
    }
}
