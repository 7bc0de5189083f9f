//! Reading JSON objects of which every member is known: all faults are noted, each at its pointer.

use crate::fault::{Faults, Problem, child, shown};
use guan_model::{IdFault, WallTime};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// An object with exactly the known keys.
pub struct Object<'v> {
    pub pointer: String,
    pub members: &'v Map<String, Value>,
}

impl<'v> Object<'v> {
    /// Notes unknown and missing keys; `None` if the value is no object.
    pub fn open(
        value: &'v Value,
        pointer: &str,
        known: &[&str],
        faults: &mut Faults,
    ) -> Option<Self> {
        Self::open_with(value, pointer, known, &[], faults)
    }

    /// As `open`, with keys that may be left out.
    pub fn open_with(
        value: &'v Value,
        pointer: &str,
        required: &[&str],
        optional: &[&str],
        faults: &mut Faults,
    ) -> Option<Self> {
        let Some(members) = value.as_object() else {
            add_type(value, pointer, "an object", faults);
            return None;
        };
        let is_known =
            |key: &&String| required.contains(&key.as_str()) || optional.contains(&key.as_str());
        for key in members.keys().filter(|key| !is_known(key)) {
            faults.add(&child(pointer, key), Problem::UnknownKey);
        }
        for key in required.iter().filter(|key| !members.contains_key(**key)) {
            faults.add(&child(pointer, key), Problem::Missing);
        }
        Some(Self { pointer: pointer.to_owned(), members })
    }

    /// The member and its pointer.
    pub fn member(&self, key: &str) -> Option<Member<'v>> {
        let value = self.members.get(key)?;
        Some(Member { pointer: self.at(key), value })
    }

    pub fn at(&self, key: &str) -> String {
        child(&self.pointer, key)
    }

    pub fn text(&self, key: &str, faults: &mut Faults) -> Option<&'v str> {
        text(self.members.get(key)?, &self.at(key), faults)
    }

    pub fn name<T>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, IdFault>,
        faults: &mut Faults,
    ) -> Option<T> {
        name(self.members.get(key)?, &self.at(key), parse, faults)
    }

    /// A list of names without repetitions.
    pub fn names<T: Ord>(
        &self,
        key: &str,
        limit: usize,
        parse: impl Fn(&str) -> Result<T, IdFault>,
        faults: &mut Faults,
    ) -> Option<BTreeSet<T>> {
        let mut names = BTreeSet::new();
        for (at, value) in entries(self.members.get(key)?, &self.at(key), limit, faults) {
            let Some(parsed) = name(value, &at, &parse, faults) else { continue };
            if !names.insert(parsed) {
                let found = shown(value.as_str().unwrap_or_default());
                faults.add(&at, Problem::Duplicate { found });
            }
        }
        Some(names)
    }

    pub fn nonempty<T>(
        &self,
        key: &str,
        names: Option<BTreeSet<T>>,
        faults: &mut Faults,
    ) -> Option<BTreeSet<T>> {
        let is_empty_list = self.members.get(key)?.as_array().is_some_and(Vec::is_empty);
        if is_empty_list {
            faults.add(&self.at(key), Problem::Empty);
        }
        names
    }

    pub fn time(&self, key: &str, faults: &mut Faults) -> Option<WallTime> {
        self.member(key)?.moment(faults)
    }
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub struct Member<'v> {
    pub pointer: String,
    pub value: &'v Value,
}

impl<'v> Member<'v> {
    pub fn text(&self, faults: &mut Faults) -> Option<&'v str> {
        text(self.value, &self.pointer, faults)
    }

    /// One value, or a list of at most `limit`: JSON-LD writes a list of one without brackets.
    pub fn one_or_many(&self, limit: usize, faults: &mut Faults) -> Vec<Member<'v>> {
        if !self.value.is_array() {
            return vec![self.clone()];
        }
        let entries = entries(self.value, &self.pointer, limit, faults);
        if self.value.as_array().is_some_and(Vec::is_empty) {
            faults.add(&self.pointer, Problem::Empty);
        }
        entries.into_iter().map(|(pointer, value)| Member { pointer, value }).collect()
    }

    /// A whole number from 0, written as a number or, as JSON-LD has it, as a typed text.
    pub fn whole(&self, faults: &mut Faults) -> Option<u64> {
        let number = match self.value {
            Value::String(text) => text.parse().ok(),
            value => value.as_u64(),
        };
        if number.is_none() {
            add_type(self.value, &self.pointer, "a whole number from 0", faults);
        }
        number
    }

    /// A decimal number: an integer, or a text such as "0.25", for fractions have no canonical form.
    pub fn decimal(&self, faults: &mut Faults) -> Option<f64> {
        let is_plain = |text: &&str| {
            let digits = text.strip_prefix('-').unwrap_or(text);
            !digits.is_empty()
                && digits.len() <= DECIMAL_CHARS_MAX
                && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        };
        let number = match self.value {
            Value::String(text) => {
                Some(text.as_str()).filter(is_plain).and_then(|t| t.parse().ok())
            }
            value => value.as_i64().map(|number| number as f64),
        };
        if number.is_none() {
            let expected = "a decimal number; write fractions as a text such as \"0.25\"";
            add_type(self.value, &self.pointer, expected, faults);
        }
        number
    }

    pub fn moment(&self, faults: &mut Faults) -> Option<WallTime> {
        let text = self.text(faults)?;
        let moment = parse_moment(text);
        if moment.is_none() {
            faults.add(&self.pointer, Problem::Time { found: shown(text) });
        }
        moment
    }

    /// An ISO 8601 duration of days, hours, minutes and seconds.
    pub fn duration(&self, faults: &mut Faults) -> Option<Duration> {
        let text = self.text(faults)?;
        let duration = parse_duration(text);
        if duration.is_none() {
            faults.add(&self.pointer, Problem::Duration { found: shown(text) });
        }
        duration
    }

    /// One of the words of a table.
    pub fn word<T: Copy>(
        &self,
        table: &[(&str, T)],
        known: &'static str,
        faults: &mut Faults,
    ) -> Option<T> {
        let found = self.text(faults)?;
        let row = table.iter().find(|(word, _)| *word == found);
        if row.is_none() {
            faults.add(&self.pointer, Problem::UnknownTerm { found: shown(found), known });
        }
        row.map(|(_, meaning)| *meaning)
    }
}

/// Longest decimal number.
const DECIMAL_CHARS_MAX: usize = 24;

/// As [`Member::decimal`] reads it, to the same number.
pub(crate) fn decimal_text(number: f64) -> String {
    let text = number.to_string();
    let digits = text.strip_prefix('-').unwrap_or(&text);
    if digits.len() <= DECIMAL_CHARS_MAX {
        return text;
    }
    let sign = &text[..text.len() - digits.len()];
    match digits.strip_prefix('0') {
        Some(fraction) => format!("{sign}{fraction}"),
        // Of what was read from so few characters only 10^24 is longer than its own text.
        None => format!("{sign}{}", "9".repeat(DECIMAL_CHARS_MAX)),
    }
}

/// A whole number as [`Member::whole`] reads it; larger ones have no canonical form but a text.
pub(crate) fn whole_json(number: u64) -> Value {
    match number < 1 << 53 {
        true => Value::from(number),
        false => Value::from(number.to_string()),
    }
}

/// As [`parse_duration`] reads it, in the largest unit that divides it.
pub(crate) fn duration_text(duration: Duration) -> String {
    match duration.as_secs() {
        seconds if seconds > 0 && seconds % 86_400 == 0 => format!("P{}D", seconds / 86_400),
        seconds if seconds > 0 && seconds % 3600 == 0 => format!("PT{}H", seconds / 3600),
        seconds if seconds > 0 && seconds % 60 == 0 => format!("PT{}M", seconds / 60),
        seconds => format!("PT{seconds}S"),
    }
}

/// RFC 3339 in UTC.
pub fn parse_moment(text: &str) -> Option<WallTime> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok().filter(|_| text.ends_with('Z'))?;
    i64::try_from(moment.unix_timestamp_nanos()).ok().map(WallTime)
}

/// As [`parse_moment`] reads it, to the second.
pub fn moment_text(moment: WallTime) -> String {
    let seconds = i128::from(moment.0.div_euclid(1_000_000_000));
    nanoseconds_text(seconds * 1_000_000_000)
}

/// A day, counted from 1970-01-01, as RFC 3339 writes a full-date.
pub fn day_text(day: i64) -> String {
    let mut text = moment_text(WallTime::from_seconds(day.saturating_mul(86_400)));
    text.truncate("1970-01-01".len());
    text
}

/// As [`parse_moment`] reads it, to the nanosecond.
pub(crate) fn exact_moment_text(moment: WallTime) -> String {
    nanoseconds_text(i128::from(moment.0))
}

fn nanoseconds_text(nanoseconds: i128) -> String {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds);
    let moment = moment.expect("the years of a WallTime are within those of a date");
    moment.format(&Rfc3339).expect("a year of four digits can be written")
}

/// `P1DT2H3M4S`, each part at most once and in this order; `None` for anything else.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let body = text.strip_prefix('P')?;
    let (date, clock) = match body.split_once('T') {
        Some((_, "")) => return None,
        Some((date, clock)) => (date, clock),
        None => (body, ""),
    };
    let (days, rest) = part(date, 'D')?;
    let (hours, clock) = part(clock, 'H')?;
    let (minutes, clock) = part(clock, 'M')?;
    let (seconds, clock) = part(clock, 'S')?;
    if !rest.is_empty() || !clock.is_empty() || body.is_empty() {
        return None;
    }
    let parts = [(days, 86_400), (hours, 3600), (minutes, 60), (seconds, 1)];
    let total = parts
        .iter()
        .try_fold(0_u64, |sum, (count, unit)| sum.checked_add(count.checked_mul(*unit)?))?;
    (total <= DURATION_S_MAX).then(|| Duration::from_secs(total))
}

/// Longest duration of a contract: a hundred years.
const DURATION_S_MAX: u64 = 100 * 366 * 86_400;

/// The number before a unit, zero if the unit does not follow, and what comes after it.
fn part(text: &str, unit: char) -> Option<(u64, &str)> {
    match text.split_once(unit) {
        None => Some((0, text)),
        Some((digits, rest)) => {
            let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            is_number.then(|| digits.parse().ok()).flatten().map(|number| (number, rest))
        }
    }
}

/// Notes a wrong type, except of a null: the reader has noted what it stands for.
pub fn add_type(value: &Value, pointer: &str, expected: &'static str, faults: &mut Faults) {
    if !value.is_null() {
        faults.add(pointer, Problem::Type { expected });
    }
}

pub fn text<'v>(value: &'v Value, pointer: &str, faults: &mut Faults) -> Option<&'v str> {
    let text = value.as_str();
    if text.is_none() {
        add_type(value, pointer, "a text", faults);
    }
    text
}

pub fn name<T>(
    value: &Value,
    pointer: &str,
    parse: impl Fn(&str) -> Result<T, IdFault>,
    faults: &mut Faults,
) -> Option<T> {
    match parse(text(value, pointer, faults)?) {
        Ok(name) => Some(name),
        Err(fault) => {
            faults.add(pointer, Problem::Name { detail: fault.to_string() });
            None
        }
    }
}

pub fn entries<'v>(
    value: &'v Value,
    pointer: &str,
    limit: usize,
    faults: &mut Faults,
) -> Vec<(String, &'v Value)> {
    let Some(values) = value.as_array() else {
        add_type(value, pointer, "a list", faults);
        return Vec::new();
    };
    if values.len() > limit {
        faults.add(pointer, Problem::TooMany { count: values.len(), limit });
        return Vec::new();
    }
    let numbered = values.iter().enumerate();
    numbered.map(|(index, value)| (child(pointer, &index.to_string()), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text: &str, expect: Option<u64>| {
            let found = parse_duration(text);
            assert_eq!(found.map(|d| d.as_secs()), expect, "for {text:?}");
            let again = found.map(|found| parse_duration(&duration_text(found)));
            assert!(again.is_none_or(|again| again == found), "for {text:?}");
        };
        check("PT72H", Some(259_200));
        check("P7D", Some(604_800));
        check("P1DT2H3M4S", Some(93_784));
        check("PT0S", Some(0));
        for wrong in
            ["", "P", "PT", "7D", "P1M", "PT1D", "P1H", "PT1M1H", "PT-1S", "PT1.5S", "P1DT"]
        {
            check(wrong, None);
        }
        check("PT99999999999999999999S", None);
        check("P36600D", Some(3_162_240_000));
        check("P36601D", None);
    }

    fn decimal(text: &str) -> Option<f64> {
        let value = Value::from(text);
        Member { pointer: String::new(), value: &value }.decimal(&mut Faults::default())
    }

    proptest::proptest! {
        /// Every number that can be read can be written, and is read as the same.
        #[test]
        fn decimals_survive(text in "-?[0-9]{0,24}\\.?[0-9]{0,24}", keep in 0..24_usize) {
            let text = &text[..text.len().min(keep + 2)];
            if let Some(number) = decimal(text) {
                let again = decimal(&decimal_text(number));
                proptest::prop_assert_eq!(again.map(f64::to_bits), Some(number.to_bits()));
            }
        }
    }

    #[test]
    fn the_longest_decimals_survive() {
        let check = |text: &str| {
            let number = decimal(text).unwrap();
            assert_eq!(decimal(&decimal_text(number)), Some(number), "{text}");
        };
        check(&"9".repeat(DECIMAL_CHARS_MAX));
        check(&format!("-{}", "9".repeat(DECIMAL_CHARS_MAX)));
        check(&format!(".{}1", "0".repeat(DECIMAL_CHARS_MAX - 2)));
        check(&format!("-.{}1", "0".repeat(DECIMAL_CHARS_MAX - 2)));
    }
}
