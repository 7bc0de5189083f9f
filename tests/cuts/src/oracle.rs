//! What must hold after all cuts: every number of every client is in the space, once, in its order.

use crate::clients;
use anyhow::{Context, Result, ensure};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

/// What the space has of the clients' messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    pub delivered: u64,
    /// Completed at a client and not in the space.
    pub lost: u64,
    /// Twice or more often there.
    pub duplicated: u64,
    /// After a later one of the same client.
    pub out_of_order: u64,
    /// Rows that no client has sent.
    pub strange: u64,
}

impl Findings {
    pub fn is_good(&self) -> bool {
        let Self { delivered: _, lost, duplicated, out_of_order, strange } = self;
        [lost, duplicated, out_of_order, strange].into_iter().all(|count| *count == 0)
    }
}

/// Compares rows, in the order in which they were taken, with how many each client has completed.
pub fn judge<'r>(rows: impl Iterator<Item = &'r [u8]>, completed: &[u64]) -> Findings {
    let mut findings = Findings::default();
    let mut seen: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    let mut latest: BTreeMap<u64, u64> = BTreeMap::new();
    for row in rows {
        let known = clients::parse(row)
            .filter(|(client, _)| usize::try_from(*client).is_ok_and(|at| at < completed.len()));
        let Some((client, number)) = known else {
            findings.strange += 1;
            continue;
        };
        let count = seen.entry((client, number)).or_default();
        *count += 1;
        if *count > 1 {
            findings.duplicated += 1;
            continue;
        }
        findings.delivered += 1;
        match latest.get(&client) {
            Some(latest) if *latest > number => findings.out_of_order += 1,
            _ => drop(latest.insert(client, number)),
        }
    }
    for (client, completed) in (0..).zip(completed) {
        let there = seen.range((client, 0)..(client, *completed)).count() as u64;
        findings.lost += completed - there;
        // What was not completed may be there once, and no client counts further than it has sent.
    }
    findings
}

/// What sorts a row: start of the box, time since then, and number of the batch.
type Committed = (u32, u64, u64);

/// The last batch of each stream, in the order in which the space stored them.
#[derive(Debug, Default)]
struct Streams(BTreeMap<u16, u64>);

impl Streams {
    /// Within a stream nothing overtakes, whatever a batch knows of its time.
    fn handle_row(&mut self, stream: u16, seq: u64) -> Result<()> {
        let before = self.0.insert(stream, seq);
        ensure!(
            before.is_none_or(|before| before <= seq),
            "stream {stream}: batch {seq} was stored after {before:?}"
        );
        Ok(())
    }
}

/// What an exported file has.
#[derive(Debug, Default)]
pub struct Exported {
    pub rows: Vec<Vec<u8>>,
    /// How many streams they came in.
    pub streams: usize,
}

/// The payloads in an exported file, in the order in which the box committed them: what came after an outage may have
/// been stored before what came during it.
pub fn rows(path: &Path) -> Result<Exported> {
    let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let mut rows: Vec<(Committed, Vec<u8>)> = Vec::new();
    let mut streams = Streams::default();
    for row in SerializedFileReader::new(file)?.get_row_iter(None)? {
        let row = row?;
        let (mut bytes, mut committed, mut stream) = (Vec::new(), (0, 0, 0), 0);
        for (name, field) in row.get_column_iter() {
            match (name.as_str(), field) {
                ("value_bytes", Field::Bytes(value)) => bytes = value.data().to_vec(),
                ("boot", Field::UInt(boot)) => committed.0 = *boot,
                ("since_boot_ns", Field::ULong(nanos)) => committed.1 = *nanos,
                ("batch_seq", Field::ULong(seq)) => committed.2 = *seq,
                ("stream", Field::UShort(number)) => stream = *number,
                _ => {}
            }
        }
        streams.handle_row(stream, committed.2)?;
        rows.push((committed, bytes));
    }
    // Rows of a batch stay as they are.
    rows.sort_by_key(|(committed, _)| *committed);
    let rows = rows.into_iter().map(|(_, bytes)| bytes).collect();
    Ok(Exported { rows, streams: streams.0.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_is_stored_in_another_order_is_seen() {
        let mut streams = Streams::default();
        for (stream, seq) in [(1, 1), (2, 5), (1, 1), (1, 2), (2, 6)] {
            streams.handle_row(stream, seq).unwrap();
        }
        streams.handle_row(2, 5).unwrap_err();
    }

    #[test]
    fn each_fault_is_seen() {
        let check = |rows: &[&str], expect: [u64; 5]| {
            let [delivered, lost, duplicated, out_of_order, strange] = expect;
            let findings = judge(rows.iter().map(|row| row.as_bytes()), &[2, 1]);
            let expect = Findings { delivered, lost, duplicated, out_of_order, strange };
            assert_eq!(findings, expect, "{rows:?}");
        };
        check(&["0:0", "1:0", "0:1"], [3, 0, 0, 0, 0]);
        check(&["0:0", "0:1"], [2, 1, 0, 0, 0]);
        check(&["0:0", "1:0", "0:1", "0:1"], [3, 0, 1, 0, 0]);
        check(&["0:1", "0:0", "1:0"], [3, 0, 0, 1, 0]);
        check(&["0:0", "0:1", "1:0", "2:0", "x"], [3, 0, 0, 0, 2]);
        // On its way when the run ended.
        check(&["0:0", "0:1", "0:2", "1:0"], [4, 0, 0, 0, 0]);
    }
}
