//! The source's own time, kept exactly to the nanosecond or refused; never replaced by ours.

use super::decimal::Decimal;
use super::json::{Token, is_number};
use super::refusal::{Complaint, excerpt};
use super::scalar::plain;
use guan_model::WallTime;
use std::borrow::Cow;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How a source writes moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeFormat {
    /// RFC 3339 if it is a string that is no number, else by magnitude: below 10^11 seconds, below
    /// 10^14 milliseconds, below 10^17 microseconds, else nanoseconds.
    #[default]
    Auto,
    Rfc3339,
    /// Since 1970-01-01T00:00:00Z, as number or string, with or without a fraction.
    EpochSeconds,
    EpochMillis,
    EpochNanos,
}

/// `None` when the source gives no time.
pub(super) fn source_time(
    token: Option<Token<'_>>,
    format: TimeFormat,
) -> Result<Option<WallTime>, Complaint> {
    let text = match token {
        None | Some(Token::Null) => return Ok(None),
        Some(Token::Number(text)) => Cow::Borrowed(text),
        Some(Token::Text(raw)) => plain(raw)?,
        Some(other) => {
            let text = format!("{} is no time", other.kind());
            return Err(Complaint::undecodable(text));
        }
    };
    let time = match format {
        TimeFormat::Rfc3339 => rfc3339(&text),
        TimeFormat::EpochSeconds => epoch(&text, 9),
        TimeFormat::EpochMillis => epoch(&text, 6),
        TimeFormat::EpochNanos => epoch(&text, 0),
        TimeFormat::Auto if is_number(&text) => epoch(&text, power_by_magnitude(&text)),
        TimeFormat::Auto => rfc3339(&text),
    };
    time.map(Some)
}

fn rfc3339(text: &str) -> Result<WallTime, Complaint> {
    let parsed = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
        Complaint::undecodable(format!(
            "{} is no time of RFC 3339, such as 2026-11-23T08:00:00Z",
            excerpt(text)
        ))
    })?;
    nanoseconds(parsed.unix_timestamp_nanos()).ok_or_else(|| out_of_range(text))
}

fn epoch(text: &str, power: u32) -> Result<WallTime, Complaint> {
    if !is_number(text) {
        let text = format!("{} is no number of seconds since 1970", excerpt(text));
        return Err(Complaint::undecodable(text));
    }
    let nanos = Decimal::parse(text).floor(power).map_err(|_| out_of_range(text))?;
    nanoseconds(nanos).ok_or_else(|| out_of_range(text))
}

fn power_by_magnitude(text: &str) -> u32 {
    match Decimal::parse(text).floor(0).map(i128::unsigned_abs) {
        Ok(0..100_000_000_000) => 9,
        Ok(0..100_000_000_000_000) => 6,
        Ok(0..100_000_000_000_000_000) => 3,
        _ => 0,
    }
}

fn nanoseconds(nanos: i128) -> Option<WallTime> {
    i64::try_from(nanos).ok().map(WallTime)
}

fn out_of_range(text: &str) -> Complaint {
    Complaint::undecodable(format!("time {} lies outside 1677 to 2262", excerpt(text)))
}

/// The sum of SenML's base time and time as a moment (RFC 8428, section 4.5.3): a sum below 2^28
/// seconds counts from `now`.
pub(super) fn senml_time(
    base: Option<&str>,
    time: Option<&str>,
    now: WallTime,
) -> Result<Option<WallTime>, Complaint> {
    const ABSOLUTE_MIN: i128 = (1 << 28) * 1_000_000_000;
    if base.is_none() && time.is_none() {
        return Ok(None);
    }
    let mut sum = 0;
    for text in [base, time].into_iter().flatten() {
        let nanos = Decimal::parse(text).floor(9).map_err(|_| out_of_range(text))?;
        // Each part below 2^126 keeps the sum inside i128.
        sum += (nanos.unsigned_abs() < 1 << 126).then_some(nanos).ok_or(out_of_range(text))?;
    }
    let moment = if sum < ABSOLUTE_MIN { sum.saturating_add(i128::from(now.0)) } else { sum };
    nanoseconds(moment).map(Some).ok_or_else(|| out_of_range(time.or(base).unwrap_or_default()))
}
