//! What consumers have acknowledged: signed lines, and who signed them.

use super::{ACKNOWLEDGED_FILE, UseFault};
use crate::parties::PartyKeys;
use crate::signed_lines;
use guan_model::Signer;
use guan_policy::TrustedKeys;
use guan_policy::envelope::Envelope;
use guan_policy::fault::Faults;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

const SCHEMA: u32 = 1;
const ENVELOPE: Envelope = Envelope {
    domain: b"guan-use-acknowledged/1\n",
    body: "acknowledged",
    schema: SCHEMA,
    bytes_max: signed_lines::LINE_BYTES_MAX,
};

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acknowledged {
    pub contract: String,
    /// Who has acknowledged.
    pub party: String,
    pub space: String,
    pub from_s: i64,
    pub until_s: i64,
    pub batches: u64,
    pub rows: u64,
    pub at_s: i64,
}

/// Whether a signature was made by a key that is known to be the party's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seal {
    Good,
    /// No key of the party is known here.
    Unchecked,
    /// By another key than the party's, or changed since.
    Forged,
}

impl Seal {
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Unchecked => "unchecked",
            Self::Forged => "FORGED",
        }
    }
}

/// Signs a line and makes it durable.
pub fn acknowledge(what: &Acknowledged, signer: &dyn Signer) -> Result<Vec<u8>, UseFault> {
    let body = serde_json::to_value(what).expect("a struct of plain fields is JSON");
    let mut line = ENVELOPE.seal(&body, &what.party, signer).map_err(UseFault::Sign)?;
    line.pop_if(|last| *last == b'\n');
    Ok(line)
}

/// Every line that says something, and how many say nothing. `keys` gives those known of a party.
pub fn read(
    path: &Path,
    keys: &mut dyn FnMut(&str) -> TrustedKeys,
) -> io::Result<(Vec<(Acknowledged, Seal)>, u64)> {
    let (mut found, mut damaged) = (Vec::new(), 0);
    signed_lines::read(path, &mut |line| match line.and_then(|line| judge(line, keys)) {
        Some(one) => found.push(one),
        None => damaged += 1,
    })?;
    Ok((found, damaged))
}

/// As [`read`], with what the space knows of the parties.
pub fn read_known(
    state_dir: &Path,
    parties: &PartyKeys,
) -> io::Result<(Vec<(Acknowledged, Seal)>, u64)> {
    let mut known: BTreeMap<String, TrustedKeys> = BTreeMap::new();
    read(&state_dir.join(ACKNOWLEDGED_FILE), &mut |party| {
        let keys = known.entry(party.to_owned()).or_insert_with(|| {
            let keys = parties.trusted(&[party]);
            keys.inspect_err(|fault| tracing::warn!(%fault, "a key cannot be used"))
                .unwrap_or_default()
        });
        keys.clone()
    })
}

fn judge(line: &[u8], keys: &mut dyn FnMut(&str) -> TrustedKeys) -> Option<(Acknowledged, Seal)> {
    let mut faults = Faults::default();
    let opened = ENVELOPE.open(line, &mut faults).filter(|_| faults.is_empty())?;
    let what: Acknowledged = serde_json::from_value(opened.body.clone()).ok()?;
    let keys = keys(&what.party);
    opened.check(&what.party, &keys, &mut faults);
    let seal = match (keys.knows(&what.party), faults.is_empty()) {
        (false, _) => Seal::Unchecked,
        (true, true) => Seal::Good,
        (true, false) => Seal::Forged,
    };
    Some((what, seal))
}

/// The lines of a space, read and checked again only when the file or what is known of keys has changed.
pub struct KnownLines {
    state_dir: PathBuf,
    parties: PartyKeys,
    read_at: Option<Stamp>,
    lines: Vec<(Acknowledged, Seal)>,
}

/// Of the file: its length and when it was written; of the folder of keys: when that was.
type Stamp = (u64, Option<SystemTime>, Option<SystemTime>);

impl KnownLines {
    pub fn new(state_dir: PathBuf, parties: PartyKeys) -> Self {
        Self { state_dir, parties, read_at: None, lines: Vec::new() }
    }

    /// Whether they may be others than before.
    pub fn refresh(&mut self) -> io::Result<bool> {
        // Before it is read: what is added meanwhile is read the next time.
        let stamp = self.stamp()?;
        if self.read_at == Some(stamp) {
            return Ok(false);
        }
        self.lines = read_known(&self.state_dir, &self.parties)?.0;
        self.read_at = Some(stamp);
        Ok(true)
    }

    pub fn lines(&self) -> &[(Acknowledged, Seal)] {
        &self.lines
    }

    fn stamp(&self) -> io::Result<Stamp> {
        let keys = self.parties.changed();
        match fs::metadata(self.state_dir.join(ACKNOWLEDGED_FILE)) {
            Ok(file) => Ok((file.len(), file.modified().ok(), keys)),
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok((0, None, keys)),
            Err(fault) => Err(fault),
        }
    }
}
