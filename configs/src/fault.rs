//! Everything that is wrong with a file, with the place and the remedy.

use std::fmt;

/// More faults than this are counted and not shown.
pub const FAULTS_SHOWN: usize = 50;

/// One fault. The operator is to blame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFault {
    /// From 1; 0 when something is missing as a whole.
    pub line: usize,
    /// Path of the key, such as `spool.stream[0].name`.
    pub key: String,
    /// What was found, what is accepted, what to do.
    pub text: String,
}

/// All faults of one file, in the order of their lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFaults {
    pub file: String,
    pub faults: Vec<ConfigFault>,
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text)
    }
}

impl fmt::Display for ConfigFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.faults.len();
        write!(f, "{}: {count} fault{}", self.file, if count == 1 { "" } else { "s" })?;
        for fault in self.faults.iter().take(FAULTS_SHOWN) {
            write!(f, "\n  {fault}")?;
        }
        match count.saturating_sub(FAULTS_SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

impl std::error::Error for ConfigFaults {}
