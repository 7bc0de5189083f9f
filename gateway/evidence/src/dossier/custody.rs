//! Who collected a bundle, when and with what, in terms of ISO/IEC 27037. Nobody signs it: it is the word of
//! the collector, and only what it says of log and head can be held against something.

use super::{Files, Finding};
use crate::checkpoint::Checkpoint;
use serde_json::{Value, json};

pub(super) const CUSTODY_FILE: &str = "custody.json";

/// What the collector says of the collecting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Custody {
    pub collected_by: String,
    /// RFC 3339.
    pub collected_at: String,
    pub tool: String,
}

impl Custody {
    pub(super) fn record(&self, head: &Checkpoint, entries: usize) -> Vec<u8> {
        let Self { collected_by, collected_at, tool } = self;
        let record = json!({
            "schema": 1,
            "identified": {"log": head.origin, "size": head.size, "root": head.root.to_string()},
            "collected": {"by": collected_by, "at": collected_at, "entries": entries},
            "acquired": {"tool": tool},
            "preserved": {"digests": "manifest.sha256", "algorithm": "SHA-256"},
        });
        (record.to_string() + "\n").into_bytes()
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let record: Value = serde_json::from_slice(bytes).ok()?;
        let text = |name: &str| Some(record.pointer(name)?.as_str()?.to_owned());
        Some(Self {
            collected_by: text("/collected/by")?,
            collected_at: text("/collected/at")?,
            tool: text("/acquired/tool")?,
        })
    }
}

/// The claim, where there is one: all the rest of the record must be what follows from the bundle.
pub(super) fn check(
    files: &Files,
    head: Option<&Checkpoint>,
    entries: usize,
) -> Result<Option<Custody>, Finding> {
    let Some(bytes) = files.get(CUSTODY_FILE) else { return Ok(None) };
    let custody = Custody::parse(bytes).ok_or(Finding::Custody)?;
    let is_of_head = head.is_none_or(|head| custody.record(head, entries) == *bytes);
    is_of_head.then_some(Some(custody)).ok_or(Finding::Custody)
}
