//! Values that TC609-6-2025-14 writes as texts: moments, periods and amounts with their units inside.
//!
//! A local time is a moment only in a zone, and nothing here takes one for granted.

use crate::fault::{Faults, Problem, shown};
use crate::object::Member;
use guan_model::WallTime;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Longest text that can be a moment.
const MOMENT_BYTES_MAX: usize = 40;
/// Between the ends of an interval: ISO 8601, and what annex D prints.
const BETWEEN: [&str; 2] = ["/", "--"];
/// Words for what is counted, and for the period after `/`, with the letter of our units.
const COUNTED: [&str; 4] = ["\u{6b21}", "\u{6761}", "1", ""];
const PERIODS: [(&str, &str); 14] = [
    ("\u{79d2}", "s"),
    ("s", "s"),
    ("\u{5206}\u{949f}", "min"),
    ("\u{5206}", "min"),
    ("min", "min"),
    ("\u{5c0f}\u{65f6}", "h"),
    ("\u{65f6}", "h"),
    ("h", "h"),
    ("\u{5929}", "d"),
    ("\u{65e5}", "d"),
    ("d", "d"),
    ("\u{6708}", "mo"),
    ("mo", "mo"),
    ("M", "mo"),
];
/// Powers of ten, as SI has them, and of two.
const SIZES: [(&str, u64); 15] = [
    ("", 1),
    ("B", 1),
    ("By", 1),
    ("K", 1000),
    ("KB", 1000),
    ("M", 1_000_000),
    ("MB", 1_000_000),
    ("G", 1_000_000_000),
    ("GB", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// A local time: 14 digits, or date and time with a blank or a `T` between them.
pub(super) fn civil(text: &str) -> Option<DateTime> {
    let digits = text.len() == 14 && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits {
        let part = |from: usize, until: usize| text[from..until].parse::<i8>().ok();
        let year = text[..4].parse::<i16>().ok()?;
        let (month, day) = (part(4, 6)?, part(6, 8)?);
        return DateTime::new(year, month, day, part(8, 10)?, part(10, 12)?, part(12, 14)?, 0).ok();
    }
    let is_long = text.len() == 19 && text.is_ascii();
    let parts = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    let has = |(place, byte): (usize, u8)| text.as_bytes().get(place) == Some(&byte);
    if !is_long || !parts.into_iter().all(has) || !matches!(text.as_bytes()[10], b' ' | b'T') {
        return None;
    }
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    (digits.len() == 14).then(|| civil(&digits)).flatten()
}

/// A moment with its offset from UTC.
fn zoned(text: &str) -> Option<WallTime> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(moment.unix_timestamp_nanos()).ok().map(WallTime)
}

/// Whether a text is written as a moment, with a zone or without.
pub(in crate::contract) fn is_moment(text: &str) -> bool {
    text.len() <= MOMENT_BYTES_MAX && (zoned(text).is_some() || civil(text).is_some())
}

/// A piece of the document that is a moment. Times that a change of the clocks repeats or leaves out
/// are none.
pub(super) fn moment_of(text: &str, zone: Option<&TimeZone>) -> Result<WallTime, Problem> {
    if let Some(moment) = zoned(text) {
        return Ok(moment);
    }
    let found = shown(text);
    let Some(local) = civil(text) else { return Err(Problem::Time { found }) };
    let Some(zone) = zone else { return Err(Problem::NoZone { found }) };
    let timestamp = zone.to_ambiguous_timestamp(local).unambiguous().ok();
    let nanoseconds = timestamp.and_then(|moment| i64::try_from(moment.as_nanosecond()).ok());
    nanoseconds.map(WallTime).ok_or(Problem::Time { found })
}

pub(super) fn moment(
    member: &Member<'_>,
    zone: Option<&TimeZone>,
    faults: &mut Faults,
) -> Option<WallTime> {
    match moment_of(member.text(faults)?, zone) {
        Ok(moment) => Some(moment),
        Err(problem) => {
            faults.add(&member.pointer, problem);
            None
        }
    }
}

/// The two ends of an interval.
pub(super) fn ends(text: &str) -> Option<[&str; 2]> {
    let (from, until) = BETWEEN.iter().find_map(|between| text.split_once(between))?;
    Some([from.trim(), until.trim()])
}

/// As [`ends`] takes it apart.
pub(super) fn ends_of(ends: &[String; 2]) -> String {
    ends.join(BETWEEN[0])
}

/// A number and a unit of ours, such as `10000` and `1/d` for "10000 per day".
pub(super) fn amount(text: &str, is_size: bool) -> Option<(u64, Option<String>)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let (counted, period) = match rest.split_once('/') {
        Some((counted, period)) => (counted.trim(), Some(period.trim())),
        None => (rest.trim(), None),
    };
    let number = match is_size {
        true => {
            let (_, factor) = SIZES.iter().find(|(name, _)| *name == counted)?;
            number.checked_mul(*factor)?
        }
        false => COUNTED.contains(&counted).then_some(number)?,
    };
    let period = match period {
        Some(found) => Some(PERIODS.iter().find(|(name, _)| *name == found)?.1),
        None => None,
    };
    Some((number, period.map(|letter| unit(letter, is_size))))
}

/// Our unit for a number in a period.
pub(super) fn unit(letter: &str, is_size: bool) -> String {
    format!("{}/{letter}", if is_size { "By" } else { "1" })
}

/// The period of a counter, from an ISO 8601 duration of one.
pub(super) fn period(text: &str) -> Option<&'static str> {
    const PERIODS: [(&str, &str); 6] = [
        ("PT1S", "s"),
        ("PT1M", "min"),
        ("PT60M", "h"),
        ("PT1H", "h"),
        ("P1D", "d"),
        ("P1M", "mo"),
    ];
    PERIODS.iter().find(|(duration, _)| *duration == text).map(|(_, letter)| *letter)
}

/// What a list of names is written as: a list, a text, or texts between brackets in one text.
pub(super) fn listed(text: &str) -> Vec<&str> {
    match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.split([',', '\u{ff0c}']).map(str::trim).collect(),
        None => vec![text],
    }
}

/// A code without the label that annex D puts behind it.
pub(super) fn code(text: &str) -> &str {
    text.split([':', '\u{ff1a}']).next().unwrap_or(text).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        let shanghai = jiff::tz::TimeZoneDatabase::bundled().get("Asia/Shanghai").unwrap();
        let berlin = jiff::tz::TimeZoneDatabase::bundled().get("Europe/Berlin").unwrap();
        let check = |text: &str, zone: Option<&TimeZone>, expect: Result<i64, &str>| {
            let found = moment_of(text, zone).map(|moment| moment.0 / 1_000_000_000);
            let found = found.map_err(|problem| match problem {
                Problem::NoZone { .. } => "zone",
                _ => "time",
            });
            assert_eq!(found, expect, "{text}");
        };
        let midnight = 1_795_478_400;
        check("2026-11-24T00:00:00Z", None, Ok(midnight));
        check("2026-11-24T08:00:00+08:00", None, Ok(midnight));
        check("20261124080000", Some(&shanghai), Ok(midnight));
        check("2026-11-24 08:00:00", Some(&shanghai), Ok(midnight));
        check("2026-11-24T08:00:00", Some(&shanghai), Ok(midnight));
        for local in ["20261124080000", "2026-11-24 08:00:00"] {
            check(local, None, Err("zone"));
        }
        // The hour that is left out, and the one that comes twice.
        check("20260329023000", Some(&berlin), Err("time"));
        check("20261025023000", Some(&berlin), Err("time"));
        for wrong in ["", "2026112408000", "20261324080000", "20261124250000", "2026-11-24"] {
            check(wrong, Some(&shanghai), Err("time"));
        }
        check("\u{ff12}0261124080000", Some(&shanghai), Err("time"));
        check("12900101000000", Some(&shanghai), Err("time"));
    }

    #[test]
    fn amounts() {
        let check = |text: &str, is_size: bool, expect: Option<(u64, Option<&str>)>| {
            let expect = expect.map(|(number, unit)| (number, unit.map(str::to_owned)));
            assert_eq!(amount(text, is_size), expect, "{text}");
        };
        check("10000 \u{6b21}/\u{5929}", false, Some((10_000, Some("1/d"))));
        check("1000 \u{6b21}", false, Some((1000, None)));
        check("1000", false, Some((1000, None)));
        check("5\u{6761}/\u{5206}\u{949f}", false, Some((5, Some("1/min"))));
        check("7 1/h", false, Some((7, Some("1/h"))));
        check("10G", true, Some((10_000_000_000, None)));
        check("2 GiB/\u{6708}", true, Some((2 << 30, Some("By/mo"))));
        check("10G", false, None);
        check("-1", false, None);
        check("1.5G", true, None);
        check("20000000T", true, None);
        check("", false, None);
        check("5 \u{6b21}/week", false, None);
    }
}
