//! Three recipients of the same data under three contracts, and what each must have got: worked out here
//! from the raw file, not with the product's code.

use anyhow::{Context, Result};
use guan_demo::data::{Dataset, Reading};
use guan_demo::delivered;
use guan_demo::stage::Stage;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// The data that all of them want.
const DATASET: &str = "machine-temperature";
/// Whose data it is.
const OWNER: &str = "plant-1";
const HOUR_NANOS: i64 = 3_600_000_000_000;
/// As the insurer's contract says.
const CONTRIBUTORS_MIN: u32 = 6;

/// One recipient.
pub(crate) struct Recipient {
    pub(crate) party: &'static str,
    pub(crate) contract: &'static str,
    file: &'static str,
    pub(crate) form: &'static str,
    expect: fn(&Dataset) -> Vec<Readings>,
}

type Readings = BTreeMap<Reading, i64>;

pub(crate) const RECIPIENTS: [Recipient; 3] = [
    Recipient {
        party: "maintainer-1",
        contract: "C-maintainer",
        file: "maintainer",
        form: "every reading",
        expect: |dataset| vec![raw(dataset)],
    },
    Recipient {
        party: "insurer-1",
        contract: "C-insurer",
        file: "insurer",
        form: "hourly means",
        expect: hourly_means,
    },
    Recipient {
        party: "regulator-1",
        contract: "C-regulator",
        file: "regulator",
        form: "above 95, to the nearest 5",
        expect: |dataset| vec![alarms(dataset)],
    },
];

/// What one recipient got.
pub(crate) struct Got {
    pub(crate) recipient: &'static Recipient,
    pub(crate) delivered: u64,
    pub(crate) expected: u64,
    /// Equal, reading by reading.
    pub(crate) is_right: bool,
    /// What the box's signed log says that it kept for this contract.
    pub(crate) logged: u64,
}

/// Keys for all parties, before the box starts.
pub(crate) fn add_parties(stage: &Stage) -> Result<()> {
    let parties: Vec<&str> =
        std::iter::once(OWNER).chain(RECIPIENTS.iter().map(|one| one.party)).collect();
    stage.add_parties(&parties)
}

/// Both parties sign each contract; the space gives it to the box over the link.
pub(crate) fn issue(stage: &Stage, configs: &Path) -> Result<()> {
    for one in &RECIPIENTS {
        let path = configs.join(format!("demo/contracts/{}.json", one.file));
        let text = std::fs::read_to_string(&path);
        let text = text.with_context(|| format!("{} cannot be read", path.display()))?;
        stage.issue(&serde_json::from_str(&text)?, &[OWNER, one.party])?;
    }
    Ok(())
}

/// Whether the box acts on all of them.
pub(crate) fn are_in_force(stage: &Stage) -> bool {
    let Ok(status) = stage.guan_json(&["status"]) else { return false };
    let contracts = status["contracts"].to_string();
    RECIPIENTS.iter().all(|one| contracts.contains(one.contract))
}

/// Compares what each recipient's files hold with what its contract lets go.
pub(crate) fn examine(datasets: &[Dataset], files: &Path, log: &Value) -> Result<Vec<Got>> {
    let dataset = datasets.iter().find(|one| one.id == DATASET).context("the machine's data")?;
    let mut all = Vec::new();
    for recipient in &RECIPIENTS {
        let path = files.join(recipient.contract).join(format!("{DATASET}.parquet"));
        let delivered = match path.exists() {
            true => delivered::read(&path)?,
            false => Readings::new(),
        };
        let expected = (recipient.expect)(dataset);
        let sum = |readings: &Readings| readings.values().sum::<i64>().unsigned_abs();
        all.push(Got {
            recipient,
            delivered: sum(&delivered),
            expected: expected.first().map_or(0, sum),
            is_right: expected.contains(&delivered),
            logged: log["contracts"][recipient.contract].as_u64().unwrap_or(0),
        });
    }
    Ok(all)
}

fn raw(dataset: &Dataset) -> Readings {
    count(dataset.messages.iter().map(|message| message.reading.clone()))
}

fn count(readings: impl Iterator<Item = Reading>) -> Readings {
    let mut counted = Readings::new();
    for reading in readings {
        *counted.entry(reading).or_insert(0) += 1;
    }
    counted
}

fn number(reading: &Reading) -> f64 {
    let bits: [u8; 8] = reading.value.as_slice().try_into().expect("a temperature is a double");
    f64::from_bits(u64::from_be_bytes(bits))
}

fn with(reading: &Reading, number: f64) -> Reading {
    Reading { value: number.to_bits().to_be_bytes().to_vec(), ..reading.clone() }
}

fn alarms(dataset: &Dataset) -> Readings {
    let readings = dataset.messages.iter().map(|message| &message.reading);
    let hot = readings.filter(|reading| number(reading) > 95.0);
    count(hot.map(|reading| with(reading, (number(reading) / 5.0).round() * 5.0)))
}

/// Without and with the last hour, which ends only when nothing has come for a minute.
fn hourly_means(dataset: &Dataset) -> Vec<Readings> {
    let mut hours: Vec<(i64, Vec<f64>)> = Vec::new();
    for message in &dataset.messages {
        let time = message.reading.source_time.expect("the file has times");
        let hour = time.div_euclid(HOUR_NANOS);
        match hours.last_mut() {
            Some((last, values)) if *last == hour => values.push(number(&message.reading)),
            // Late: its hour has left already.
            Some((last, _)) if *last > hour => {}
            _ => hours.push((hour, vec![number(&message.reading)])),
        }
    }
    let point = &dataset.messages[0].reading.point;
    let mean = |(hour, values): &(i64, Vec<f64>)| {
        let enough = u32::try_from(values.len()).is_ok_and(|count| count >= CONTRIBUTORS_MIN);
        enough.then(|| Reading {
            point: point.clone(),
            source_time: Some(hour * HOUR_NANOS),
            value: running_mean(values).to_bits().to_be_bytes().to_vec(),
        })
    };
    let means: Vec<Option<Reading>> = hours.iter().map(mean).collect();
    let closed = &means[..means.len().saturating_sub(1)];
    [closed, &means[..]].map(|means| count(means.iter().flatten().cloned())).to_vec()
}

/// In the order of the readings, so that it is equal to the last bit.
fn running_mean(values: &[f64]) -> f64 {
    let mut count = 0.0;
    values.iter().fold(0.0, |mean, value| {
        count += 1.0;
        mean + (value - mean) / count
    })
}
