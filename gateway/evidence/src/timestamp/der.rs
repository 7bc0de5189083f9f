//! The little of DER (X.690) that a time stamp needs: definite lengths, one level at a time, nothing copied.
//!
//! Whoever made the bytes is not trusted: a length beyond the bytes is a fault, and nothing recurses.

/// Tags, with their class and form.
pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const NULL: u8 = 0x05;
pub(super) const OID: u8 = 0x06;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;
/// `[n]`, constructed.
pub(super) const fn context(number: u8) -> u8 {
    0xA0 | number
}

/// Most bytes of a length; more would be longer than any token.
const LENGTH_BYTES_MAX: usize = 3;

/// One value after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Der<'d> {
    rest: &'d [u8],
}

/// A value with its tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value<'d> {
    pub(super) tag: u8,
    pub(super) contents: &'d [u8],
    /// With tag and length, as it stands.
    pub(super) whole: &'d [u8],
}

impl<'d> Value<'d> {
    pub(super) fn inside(&self) -> Der<'d> {
        Der { rest: self.contents }
    }
}

impl<'d> Der<'d> {
    pub(super) fn new(bytes: &'d [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next value, whatever it is.
    pub(super) fn any(&mut self) -> Option<Value<'d>> {
        let (head, after) = self.rest.split_first_chunk::<2>()?;
        let [tag, length] = *head;
        // Tags of several bytes are in nothing that is read here.
        if tag & 0x1F == 0x1F {
            return None;
        }
        let (length, after) = match length {
            0..0x80 => (usize::from(length), after),
            _ => {
                let count = usize::from(length & 0x7F);
                let (bytes, after) = after.split_at_checked(count)?;
                let is_short = (1..=LENGTH_BYTES_MAX).contains(&count) && bytes[0] != 0;
                let length =
                    bytes.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte));
                (length >= 0x80 && is_short).then_some((length, after))?
            }
        };
        let (contents, after) = after.split_at_checked(length)?;
        let whole = &self.rest[..self.rest.len() - after.len()];
        self.rest = after;
        Some(Value { tag, contents, whole })
    }

    /// The next value, which must have this tag.
    pub(super) fn take(&mut self, tag: u8) -> Option<Value<'d>> {
        self.any().filter(|value| value.tag == tag)
    }

    /// The next value, if it has this tag.
    pub(super) fn optional(&mut self, tag: u8) -> Option<Value<'d>> {
        (self.rest.first() == Some(&tag)).then(|| self.any()).flatten()
    }
}

/// A value from its parts.
pub(super) fn put(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let contents = parts.concat();
    let length = contents.len();
    let mut out = vec![tag];
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let bytes = length.to_be_bytes();
            let from = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len() - 1);
            out.push(0x80 | u8::try_from(bytes.len() - from).expect("eight at the most"));
            out.extend_from_slice(&bytes[from..]);
        }
    }
    out.extend_from_slice(&contents);
    out
}

/// Seconds since 1970 of a UTCTime or GeneralizedTime in UTC; parts of a second are cut off.
pub(super) fn seconds(value: &Value<'_>) -> Option<i64> {
    let text = std::str::from_utf8(value.contents).ok()?.strip_suffix('Z')?;
    let (text, _) = text.split_once('.').unwrap_or((text, ""));
    let text = match value.tag {
        UTC_TIME if text.len() == 12 => {
            // RFC 5280: two digits mean 1950 to 2049.
            let century = if text.get(..2)? < "50" { "20" } else { "19" };
            format!("{century}{text}")
        }
        TIME => text.to_owned(),
        _ => return None,
    };
    if text.len() != 14 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = |range: std::ops::Range<usize>| text[range].parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(4..6)?, number(6..8)?);
    let (hour, minute, second) = (number(8..10)?, number(10..12)?, number(12..14)?);
    let is_date = (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_date || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days since 1970 by the rule of the Gregorian calendar, years that begin in March.
    let shifted = year - i64::from(month <= 2);
    let era = shifted.div_euclid(400);
    let of_era = shifted - era * 400;
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_they_are_written() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let bytes = put(OCTETS, &[&vec![7; length]]);
            let mut der = Der::new(&bytes);
            let value = der.take(OCTETS).unwrap();
            assert_eq!((value.contents.len(), value.whole.len()), (length, bytes.len()));
            assert!(der.is_empty());
            (0..bytes.len()).step_by(length / 50 + 1).for_each(|cut| {
                assert_eq!(Der::new(&bytes[..cut]).any(), None, "{length} cut at {cut}");
            });
        }
    }

    #[test]
    fn odd_forms_are_refused() {
        let odd: [&[u8]; 8] = [
            &[],
            &[4],
            &[4, 0x80, 0, 0],
            &[4, 0x81, 5, 1, 2, 3, 4, 5],
            &[4, 0x82, 0, 0x80],
            &[4, 0x84, 0, 0, 0, 1, 9],
            &[0x1F, 1, 1],
            &[4, 0xFF],
        ];
        odd.iter().for_each(|bytes| assert_eq!(Der::new(bytes).any(), None, "{bytes:?}"));
        assert_eq!(Der::new(&[4, 1, 9]).take(OID), None);
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        let check = |tag, text: &str, expect| {
            let value = Value { tag, contents: text.as_bytes(), whole: &[] };
            assert_eq!(seconds(&value), expect, "{text}");
        };
        check(TIME, "19700101000000Z", Some(0));
        check(TIME, "20240229120000.123Z", Some(1_709_208_000));
        check(TIME, "20261128035539Z", Some(1_795_838_139));
        check(UTC_TIME, "491231235959Z", Some(2_524_607_999));
        check(UTC_TIME, "500101000000Z", Some(-631_152_000));
        for text in
            ["", "Z", "20261128035539", "20261328035539Z", "2026112803553xZ", "202611280355Z"]
        {
            check(TIME, text, None);
        }
        check(UTC_TIME, "20261128035539Z", None);
    }
}
