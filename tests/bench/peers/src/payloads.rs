//! What is published: real series as the JSON that sensors send, in the sizes to be measured, and the
//! data sets of the wire.

use crate::mqtt::Prepared;
use anyhow::{Context, Result};
use guan_demo::data::{Dataset, Message};
use std::sync::Arc;

/// A reading with asset, sensor, quality and number, as many gateways write it.
const JSON_BYTES: usize = 133;
const NOTE: &str = r#","note":""#;

/// Messages of every client, each under a topic of its own. `size`: bytes of a payload.
pub(crate) fn sized(machine: &Dataset, clients: usize, size: usize) -> Vec<Arc<Prepared>> {
    let all = &machine.messages;
    // Enough of them that no batch holds one twice, and little memory for many clients.
    let each = (all.len() / clients).max(64);
    let of_client = |client: usize| {
        let topic = format!("plant/press-{client}/temperature");
        let taken = all.iter().cycle().skip(client * each).take(each);
        let payloads: Vec<Vec<u8>> = taken.map(|message| resized(&message.payload, size)).collect();
        Arc::new(Prepared::new(payloads.iter().map(|payload| (topic.as_str(), &payload[..]))))
    };
    (0..clients).map(of_client).collect()
}

/// The reading in exactly so many bytes: alone and rounded where there is little room, with a note to
/// fill what is left.
fn resized(payload: &[u8], size: usize) -> Vec<u8> {
    let text = std::str::from_utf8(payload).expect("the data set is JSON");
    let value = text.rsplit(':').next().expect("the value comes last").trim_end_matches('}');
    let fitted = |mut json: String| {
        let room = size - json.len() - 1;
        let end = r#"""#;
        if room >= NOTE.len() + end.len() {
            json.push_str(NOTE);
            json.extend(std::iter::repeat_n('.', room - NOTE.len() - end.len()));
            json.push_str(end);
        } else {
            json.extend(std::iter::repeat_n(' ', room));
        }
        json.push('}');
        json.into_bytes()
    };
    if text.len() < size {
        return fitted(text[..text.len() - 1].to_owned());
    }
    let digits = value.len().min(size - r#"{"value":}"#.len());
    // A number may not end with its point.
    let value = value[..digits].trim_end_matches('.');
    fitted(format!(r#"{{"value":{value}"#))
}

/// One data set of the wire.
pub(crate) struct WireSet {
    pub(crate) name: &'static str,
    pub(crate) messages: Vec<Arc<Prepared>>,
    /// Readings of a batch; the product's default if there is nothing to say.
    pub(crate) rows_max: usize,
    /// Readings in all.
    pub(crate) readings: u64,
}

/// All of them: noisy doubles, a bus, several instruments, opaque texts, and small batches.
pub(crate) fn wire_sets(datasets: &[Dataset], rows_max: usize) -> Result<Vec<WireSet>> {
    let find = |id: &str| {
        let found = datasets.iter().find(|dataset| dataset.id == id);
        found.with_context(|| format!("tests/data has no {id}"))
    };
    let set = |name, messages: &[(String, Vec<u8>)], rows_max| {
        let packets = messages.iter().map(|(topic, payload)| (topic.as_str(), &payload[..]));
        let prepared = Arc::new(Prepared::new(packets));
        WireSet { name, readings: prepared.len() as u64, messages: vec![prepared], rows_max }
    };
    let plain = |dataset: &Dataset| -> Vec<(String, Vec<u8>)> {
        let owned = |message: &Message| (message.topic.clone(), message.payload.clone());
        dataset.messages.iter().map(owned).collect()
    };
    let (machine, bus) = (find("machine-temperature")?, find("vessel-bus")?);
    let padded = sized(machine, 1, JSON_BYTES);
    Ok(vec![
        set("machine_temperature", &plain(machine), rows_max),
        WireSet {
            name: "machine_temperature_133",
            readings: padded[0].len() as u64,
            messages: padded,
            rows_max,
        },
        set("vessel_bus", &plain(bus), rows_max),
        set("multi_series", &crate::instruments::readings(bus), rows_max),
        set("opaque", &plain(find("gnss-nmea")?), rows_max),
        set("batches_of_64", &plain(machine), 64),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_have_the_size_and_the_value() {
        let payload = br#"{"t":"2013-12-02T21:15:00Z","asset":"machine.temperature","unit":"degF","value":73.96732207}"#;
        let check = |size: usize, value: &str| {
            let resized = resized(payload, size);
            assert_eq!(resized.len(), size);
            let json: serde_json::Value = serde_json::from_slice(&resized).unwrap();
            assert_eq!(json["value"].to_string(), value);
        };
        check(16, "73.967");
        check(133, "73.96732207");
        check(200, "73.96732207");
        check(1024, "73.96732207");
    }
}
