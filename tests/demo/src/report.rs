//! What the demo found, for people and for programs.

use crate::recipients::Got;
use serde_json::{Map, json};
use std::path::PathBuf;

/// One dataset.
pub(crate) struct DatasetReport {
    pub(crate) id: &'static str,
    pub(crate) published: u64,
    pub(crate) delivered: u64,
    pub(crate) lost: i64,
    pub(crate) duplicated: i64,
    pub(crate) denied: u64,
    pub(crate) is_granted: bool,
    /// MQTT payloads as published.
    pub(crate) payload_bytes: u64,
    /// Encoded batches as stored.
    pub(crate) batch_bytes: u64,
}

/// The whole run.
pub(crate) struct Report {
    pub(crate) datasets: Vec<DatasetReport>,
    /// Of the machine's data, each under a contract of its own.
    pub(crate) recipients: Vec<Got>,
    pub(crate) acknowledged: u64,
    /// UDP payload both ways: handshakes, acknowledgements and repetitions included.
    pub(crate) wire_bytes: u64,
    pub(crate) log_entries: u64,
    pub(crate) log_verified: bool,
    pub(crate) parquet: PathBuf,
    pub(crate) seconds: f64,
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn ratio(bytes: u64, readings: u64) -> f64 {
    if readings == 0 { 0.0 } else { (bytes as f64 / readings as f64 * 100.0).round() / 100.0 }
}

impl Report {
    fn sum(&self, of: impl Fn(&DatasetReport) -> u64) -> u64 {
        self.datasets.iter().map(of).sum()
    }

    fn lost(&self) -> i64 {
        self.datasets.iter().map(|dataset| dataset.lost).sum()
    }

    fn duplicated(&self) -> i64 {
        self.datasets.iter().map(|dataset| dataset.duplicated).sum()
    }

    /// A dataset's share of everything on the wire, by the bytes of its batches.
    fn wire_bytes_of(&self, dataset: &DatasetReport) -> u64 {
        let all = self.sum(|dataset| dataset.batch_bytes).max(1);
        let share = u128::from(self.wire_bytes) * u128::from(dataset.batch_bytes) / u128::from(all);
        u64::try_from(share).unwrap_or(u64::MAX)
    }

    /// Denied must be exactly what went to the dataset without a contract.
    pub(crate) fn is_good(&self) -> bool {
        let denied_right = self.datasets.iter().all(|dataset| {
            dataset.denied == if dataset.is_granted { 0 } else { dataset.published }
        });
        let recipients_right =
            self.recipients.iter().all(|got| got.is_right && got.logged == got.delivered);
        self.lost() == 0
            && self.duplicated() == 0
            && self.log_verified
            && denied_right
            && recipients_right
    }

    pub(crate) fn print(&self, is_json: bool) {
        self.print_table();
        if is_json {
            println!("{}", self.to_json());
        }
    }

    fn print_table(&self) {
        println!(
            "\n{:<20} {:>9} {:>8} {:>9} {:>5} {:>10} {:>11} {:>11}",
            "dataset",
            "published",
            "denied",
            "delivered",
            "lost",
            "duplicated",
            "wire B/rdg",
            "MQTT B/rdg"
        );
        for dataset in &self.datasets {
            println!(
                "{:<20} {:>9} {:>8} {:>9} {:>5} {:>10} {:>11.2} {:>11.2}",
                dataset.id,
                dataset.published,
                dataset.denied,
                dataset.delivered,
                dataset.lost,
                dataset.duplicated,
                ratio(self.wire_bytes_of(dataset), dataset.delivered),
                ratio(dataset.payload_bytes, dataset.published),
            );
        }
        println!(
            "\n{:<14} {:<14} {:<28} {:>9} {:>9} {:>9}",
            "recipient", "contract", "may have", "delivered", "logged", "verdict"
        );
        for got in &self.recipients {
            let verdict = if got.is_right { "exact" } else { "WRONG" };
            println!(
                "{:<14} {:<14} {:<28} {:>9} {:>9} {verdict:>9}",
                got.recipient.party,
                got.recipient.contract,
                got.recipient.form,
                got.delivered,
                got.logged
            );
        }
        println!("\nacknowledged  {} messages (PUBCOMP)", self.acknowledged);
        println!("wire          {} bytes of UDP payload, both ways", self.wire_bytes);
        let verdict = if self.log_verified { "verified" } else { "NOT verified" };
        println!("log           {} entries, {verdict}", self.log_entries);
        println!("parquet       {}", self.parquet.display());
        println!("took          {:.1} s", self.seconds);
    }

    fn to_json(&self) -> serde_json::Value {
        let delivered = self.sum(|dataset| dataset.delivered);
        let granted =
            |dataset: &DatasetReport, bytes: u64| if dataset.is_granted { bytes } else { 0 };
        let mut wire = Map::new();
        let mut json_bytes = Map::new();
        for dataset in self.datasets.iter().filter(|dataset| dataset.is_granted) {
            let bytes = self.wire_bytes_of(dataset);
            wire.insert(dataset.id.to_owned(), json!(ratio(bytes, dataset.delivered)));
            let bytes = ratio(dataset.payload_bytes, dataset.published);
            json_bytes.insert(dataset.id.to_owned(), json!(bytes));
        }
        wire.insert("all".to_owned(), json!(ratio(self.wire_bytes, delivered)));
        let payload = self.sum(|dataset| granted(dataset, dataset.payload_bytes));
        let published = self.sum(|dataset| granted(dataset, dataset.published));
        json_bytes.insert("all".to_owned(), json!(ratio(payload, published)));
        json!({
            "published": self.sum(|dataset| dataset.published),
            "acknowledged": self.acknowledged,
            "denied": self.sum(|dataset| dataset.denied),
            "delivered": delivered,
            "lost": self.lost(),
            "duplicated": self.duplicated(),
            "wire_bytes_per_reading": wire,
            "json_bytes_per_reading": json_bytes,
            "recipients": self.recipients.iter().map(|got| json!({
                "party": got.recipient.party, "contract": got.recipient.contract,
                "delivered": got.delivered, "expected": got.expected, "logged": got.logged,
                "exact": got.is_right,
            })).collect::<Vec<_>>(),
            "wire_bytes": self.wire_bytes,
            "log_entries": self.log_entries,
            "log_verified": self.log_verified,
            "parquet": self.parquet,
            "seconds": self.seconds,
        })
    }
}
