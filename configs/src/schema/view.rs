//! What a configuration amounts to, for people and programs.

use std::fmt::Write;

/// A value as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Integer(u64),
    Flag(bool),
    Texts(Vec<String>),
    /// Not set, and there is no default.
    Absent,
}

/// One value that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// Header of its table as TOML writes it: empty, `[spool]` or `[[spool.stream]]`.
    pub header: String,
    /// Path of its table with numbers: `spool.stream[0]`.
    pub table: String,
    pub key: String,
    pub value: Value,
    /// Line of the file; `None` for a default.
    pub line: Option<usize>,
}

/// One key that the file may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyReference {
    /// `spool.stream[].name`.
    pub key: String,
    pub kind: String,
    /// Range or list of what is accepted.
    pub accepted: String,
    /// `None`: must be given.
    pub default: Option<String>,
    pub about: String,
}

impl Value {
    /// As TOML; strings are escaped as in JSON, which TOML's basic strings include.
    pub fn to_toml(&self) -> String {
        match self {
            Self::Text(text) => quote(text),
            Self::Integer(number) => number.to_string(),
            Self::Flag(flag) => flag.to_string(),
            Self::Texts(texts) => {
                let texts: Vec<_> = texts.iter().map(|text| quote(text)).collect();
                format!("[{}]", texts.join(", "))
            }
            Self::Absent => String::new(),
        }
    }
}

fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if control.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(control));
            }
            plain => out.push(plain),
        }
    }
    out.push('"');
    out
}

/// The effective configuration as a TOML file that can be used again, each line with its origin.
pub(crate) fn to_toml(effective: &[Effective], file: &str) -> String {
    let mut out = String::new();
    let mut table = "";
    for one in effective {
        if one.table != table {
            let _ = write!(out, "\n{}\n", one.header);
            table = &one.table;
        }
        let origin = match one.line {
            Some(line) => format!("{file}:{line}"),
            None => "default".to_owned(),
        };
        let line = match &one.value {
            Value::Absent => format!("# {} is not set", one.key),
            value => format!("{} = {}", one.key, value.to_toml()),
        };
        let _ = writeln!(out, "{line:<60} # {origin}");
    }
    out
}
