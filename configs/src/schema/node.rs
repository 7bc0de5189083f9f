//! One table of the document, and the reads of its keys.

use super::Context;
use super::view::{Effective, KeyReference, Value};
use crate::fault::ConfigFault;
use crate::nearest;
use std::cell::RefCell;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What a text key holds, for its reference.
pub(crate) struct Kind<'a> {
    pub(crate) name: &'a str,
    pub(crate) accepted: &'a str,
}

/// One table. Without a document under it, reads give defaults.
pub(crate) struct Node<'c> {
    context: &'c RefCell<Context>,
    table: Option<&'c DeTable<'c>>,
    /// `spool.stream[0]`, `[[spool.stream]]`, `spool.stream[]`.
    path: String,
    header: String,
    generic: String,
    at: Option<usize>,
    known: RefCell<Vec<&'static str>>,
}

type Entry<'c> = (&'c DeValue<'c>, Range<usize>);

impl<'c> Node<'c> {
    pub(super) fn root(context: &'c RefCell<Context>, table: Option<&'c DeTable<'c>>) -> Self {
        let (path, header, generic) = (String::new(), String::new(), String::new());
        Self { context, table, path, header, generic, at: None, known: RefCell::default() }
    }

    fn child(
        &self,
        path: String,
        header: String,
        generic: String,
        table: Option<&'c DeTable<'c>>,
        at: Option<usize>,
    ) -> Self {
        let context = self.context;
        Self { context, table, path, header, generic, at, known: RefCell::default() }
    }

    fn entry(&self, key: &'static str) -> Option<Entry<'c>> {
        self.known.borrow_mut().push(key);
        self.table?.get(key).map(|value| (value.get_ref(), value.span()))
    }

    fn join(path: &str, key: &str) -> String {
        if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
    }

    fn fault_at(&self, at: Option<usize>, key: &str, text: String) {
        let mut context = self.context.borrow_mut();
        if !context.is_describing {
            let line = at.map_or(0, |at| context.line(at));
            let key = Self::join(&self.path, key);
            context.faults.push(ConfigFault { line, key, text });
        }
    }

    /// Reports something that is only seen across keys, at the place of one of them.
    pub(crate) fn fault(&self, key: &str, text: impl Display) {
        let span = self.table.and_then(|table| table.get(key)).map(Spanned::span);
        let at = span.map(|span| span.start).or(self.at);
        self.fault_at(at, key, text.to_string());
    }

    /// Line of the table, for faults that are found later.
    pub(crate) fn line(&self) -> usize {
        self.at.map_or(0, |at| self.context.borrow().line(at))
    }

    fn refer(&self, key: &str, kind: &str, accepted: String, default: Option<String>, about: &str) {
        let mut context = self.context.borrow_mut();
        if context.is_describing {
            let key = Self::join(&self.generic, key);
            let (kind, about) = (kind.to_owned(), about.to_owned());
            context.reference.push(KeyReference { key, kind, accepted, default, about });
        }
    }

    fn effective(&self, key: &str, value: Value, at: Option<usize>) {
        let mut context = self.context.borrow_mut();
        let line = at.map(|at| context.line(at));
        let (header, table) = (self.header.clone(), self.path.clone());
        context.effective.push(Effective { header, table, key: key.to_owned(), value, line });
    }

    fn missing(&self, key: &str, accepted: &str) {
        let text = format!("is missing; give {accepted}");
        self.fault_at(self.at, key, text);
    }

    fn wrong_kind(&self, key: &str, (value, span): &Entry<'_>, wanted: &str) {
        let text = format!("is a {}; give {wanted}", value.type_str());
        self.fault_at(Some(span.start), key, text);
    }

    /// A whole number; on a fault the lowest one.
    pub(crate) fn integer(
        &self,
        key: &'static str,
        about: &str,
        range: RangeInclusive<u64>,
        default: Option<u64>,
    ) -> u64 {
        let accepted = match range.start() == range.end() {
            true => range.start().to_string(),
            false => format!("{} to {}", range.start(), range.end()),
        };
        self.refer(key, "integer", accepted.clone(), default.map(|value| value.to_string()), about);
        let Some(entry) = self.entry(key) else {
            match default {
                Some(value) => self.effective(key, Value::Integer(value), None),
                None => self.missing(key, &accepted),
            }
            return default.unwrap_or(*range.start());
        };
        let Some(integer) = entry.0.as_integer() else {
            self.wrong_kind(key, &entry, "an integer");
            return *range.start();
        };
        match u64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(value) if range.contains(&value) => {
                self.effective(key, Value::Integer(value), Some(entry.1.start));
                value
            }
            _ => {
                let default =
                    default.map(|value| format!(" (default {value})")).unwrap_or_default();
                let found = clipped(integer.as_str());
                let text = format!("= {found}: must be {accepted}{default}");
                self.fault_at(Some(entry.1.start), key, text);
                *range.start()
            }
        }
    }

    pub(crate) fn flag(&self, key: &'static str, about: &str, default: bool) -> bool {
        self.refer(key, "boolean", "true or false".to_owned(), Some(default.to_string()), about);
        let Some(entry) = self.entry(key) else {
            self.effective(key, Value::Flag(default), None);
            return default;
        };
        match entry.0.as_bool() {
            Some(flag) => {
                self.effective(key, Value::Flag(flag), Some(entry.1.start));
                flag
            }
            None => {
                self.wrong_kind(key, &entry, "true or false");
                default
            }
        }
    }

    /// A text that means something. `None` if it is missing without a default, or faulty.
    pub(crate) fn text<T>(
        &self,
        key: &'static str,
        about: &str,
        kind: &Kind<'_>,
        default: Option<&str>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (name, accepted) = (kind.name, kind.accepted.to_owned());
        self.refer(key, name, accepted, default.map(|value| format!("{value:?}")), about);
        let (text, at) = match self.entry(key) {
            Some(entry) => match entry.0.as_str() {
                Some(text) => (text, Some(entry.1.start)),
                None => {
                    self.wrong_kind(key, &entry, "a string");
                    return None;
                }
            },
            None => match default {
                Some(default) => (default, None),
                None => {
                    self.missing(key, kind.accepted);
                    return None;
                }
            },
        };
        match parse(text) {
            Ok(value) => {
                self.effective(key, Value::Text(text.to_owned()), at);
                Some(value)
            }
            Err(fault) => {
                self.fault_at(at.or(self.at), key, format!("= {}: {fault}", shown(text)));
                None
            }
        }
    }

    /// As [`text`](Self::text), and may be left out.
    pub(crate) fn optional_text<T>(
        &self,
        key: &'static str,
        about: &str,
        kind: &Kind<'_>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if self.has(key) {
            return self.text(key, about, kind, None, parse);
        }
        self.known.borrow_mut().push(key);
        let default = Some("not set".to_owned());
        self.refer(key, kind.name, kind.accepted.to_owned(), default, about);
        self.effective(key, Value::Absent, None);
        None
    }

    pub(crate) fn optional_integer(
        &self,
        key: &'static str,
        about: &str,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        if self.has(key) {
            return Some(self.integer(key, about, range, None));
        }
        self.known.borrow_mut().push(key);
        let accepted = format!("{} to {}", range.start(), range.end());
        self.refer(key, "integer", accepted, Some("not set".to_owned()), about);
        self.effective(key, Value::Absent, None);
        None
    }

    /// A path; relative ones count from the folder of the file.
    pub(crate) fn path(
        &self,
        key: &'static str,
        about: &str,
        default: Option<&str>,
    ) -> Option<PathBuf> {
        self.text(key, about, &PATH, default, |text| self.parse_path(text))
    }

    pub(crate) fn optional_path(&self, key: &'static str, about: &str) -> Option<PathBuf> {
        self.optional_text(key, about, &PATH, |text| self.parse_path(text))
    }

    fn parse_path(&self, text: &str) -> Result<PathBuf, String> {
        match text.is_empty() || text.contains('\0') {
            true => Err("give a path".to_owned()),
            false => Ok(self.context.borrow().base.join(text)),
        }
    }

    /// One of a few names.
    pub(crate) fn choice<T: Copy>(
        &self,
        key: &'static str,
        about: &str,
        choices: &[(&'static str, T)],
        default: Option<&str>,
    ) -> Option<T> {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let accepted = format!("one of {}", names.join(", "));
        let kind = Kind { name: "string", accepted: &accepted };
        self.text(key, about, &kind, default, |text| {
            let found = choices.iter().find(|(name, _)| *name == text);
            found.map(|(_, value)| *value).ok_or_else(|| {
                let hint = nearest::hint(text, names.iter().copied());
                format!("must be {accepted}{hint}")
            })
        })
    }

    /// As [`choice`](Self::choice), and may be left out.
    pub(crate) fn optional_choice<T: Copy>(
        &self,
        key: &'static str,
        about: &str,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        if self.has(key) {
            return self.choice(key, about, choices, None);
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let accepted = format!("one of {}", names.join(", "));
        let kind = Kind { name: "string", accepted: &accepted };
        self.optional_text(key, about, &kind, |_| Err(accepted.clone()))
    }

    /// A list of texts.
    pub(crate) fn texts<T>(
        &self,
        key: &'static str,
        about: &str,
        accepted: &str,
        count: RangeInclusive<usize>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let kind = "list of strings";
        // A list that may not be empty must be given.
        let is_required = *count.start() > 0;
        let default = (!is_required).then(|| "[]".to_owned());
        self.refer(key, kind, accepted.to_owned(), default, about);
        let Some(entry) = self.entry(key) else {
            match is_required {
                true => self.missing(key, accepted),
                false => self.effective(key, Value::Texts(Vec::new()), None),
            }
            return Vec::new();
        };
        let Some(array) = entry.0.as_array() else {
            self.wrong_kind(key, &entry, "a list of strings");
            return Vec::new();
        };
        if !count.contains(&array.len()) {
            let text = match array.is_empty() {
                true => format!("is empty; give {accepted}"),
                false => format!("has {} entries; the limit is {}", array.len(), count.end()),
            };
            self.fault_at(Some(entry.1.start), key, text);
            return Vec::new();
        }
        let (mut texts, mut parsed) = (Vec::new(), Vec::new());
        for value in array.iter() {
            let at = Some(value.span().start);
            match value.get_ref().as_str() {
                Some(text) => match parse(text) {
                    Ok(one) => {
                        texts.push(text.to_owned());
                        parsed.push(one);
                    }
                    Err(fault) => self.fault_at(at, key, format!("{}: {fault}", shown(text))),
                },
                None => self.wrong_kind(key, &(value.get_ref(), value.span()), "strings only"),
            }
        }
        self.effective(key, Value::Texts(texts), Some(entry.1.start));
        parsed
    }

    /// Whether the document sets the key.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// A table with defaults: it is read even when the document leaves it out.
    pub(crate) fn table(&self, key: &'static str) -> Node<'c> {
        let path = Self::join(&self.path, key);
        let generic = Self::join(&self.generic, key);
        let header = format!("[{}]", generic.replace("[]", ""));
        let Some(entry) = self.entry(key) else {
            return self.child(path, header, generic, None, self.at);
        };
        let table = entry.0.as_table();
        if table.is_none() {
            self.wrong_kind(key, &entry, &format!("a table {header}"));
        }
        self.child(path, header, generic, table, Some(entry.1.start))
    }

    /// A table that may be left out.
    pub(crate) fn optional_table(&self, key: &'static str) -> Option<Node<'c>> {
        if self.has(key) || self.context.borrow().is_describing {
            return Some(self.table(key));
        }
        self.known.borrow_mut().push(key);
        None
    }

    /// Tables that repeat.
    pub(crate) fn tables(&self, key: &'static str, count_max: usize) -> Vec<Node<'c>> {
        let path = Self::join(&self.path, key);
        let generic = format!("{}[]", Self::join(&self.generic, key));
        let header = format!("[[{}]]", generic.replace("[]", ""));
        if self.context.borrow().is_describing {
            return vec![self.child(path, header, generic, None, None)];
        }
        let Some(entry) = self.entry(key) else { return Vec::new() };
        let Some(array) = entry.0.as_array() else {
            self.wrong_kind(key, &entry, &format!("tables {header}"));
            return Vec::new();
        };
        if array.len() > count_max {
            let text = format!("has {} entries; the limit is {count_max}", array.len());
            self.fault_at(Some(entry.1.start), key, text);
            return Vec::new();
        }
        let mut nodes = Vec::with_capacity(array.len());
        for (index, value) in array.iter().enumerate() {
            let Some(table) = value.get_ref().as_table() else {
                self.wrong_kind(key, &(value.get_ref(), value.span()), "tables only");
                continue;
            };
            let path = format!("{path}[{index}]");
            let at = Some(value.span().start);
            nodes.push(self.child(path, header.clone(), generic.clone(), Some(table), at));
        }
        nodes
    }

    /// Reports the keys that nobody asked for.
    pub(crate) fn finish(&self) {
        let Some(table) = self.table else { return };
        let known = self.known.borrow();
        for key in table.keys() {
            let name: &str = key.get_ref();
            if !known.contains(&name) {
                let full: Vec<String> =
                    known.iter().map(|key| Self::join(&self.path, key)).collect();
                let at = nearest::find(name, known.iter().copied());
                let hint = at.map_or(String::new(), |at| nearest::did_you_mean(&full[at]));
                self.fault_at(Some(key.span().start), &clipped(name), format!("unknown key{hint}"));
            }
        }
    }
}

/// Longest part of a value or key that a fault repeats.
const SHOWN_CHARS_MAX: usize = 80;

/// A value as a fault repeats it: quoted, and not longer than a line.
pub(crate) fn shown(text: &str) -> String {
    format!("{:?}", clipped(text))
}

fn clipped(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

const PATH: Kind<'_> =
    Kind { name: "path", accepted: "a path, absolute or from this file's folder" };
