//! A span of each week, in UTC, to the minute.

use crate::WallTime;

const DAY_MIN: u32 = 24 * 60;
const WEEK_MIN: u32 = 7 * DAY_MIN;
const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Of the days on which it begins, from a minute of the day to another; past midnight where that is earlier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeekWindow {
    /// Monday first.
    days: [bool; 7],
    from_min: u32,
    length_min: u32,
}

impl WeekWindow {
    /// `days`: `mon-fri`, `sat`, or several with commas; `from` and `until`: `HH:MM`, the same for a whole day.
    pub fn parse(days: &str, from: &str, until: &str) -> Result<Self, String> {
        let (from_min, until_min) = (minute(from)?, minute(until)?);
        let length_min = match (until_min + DAY_MIN - from_min) % DAY_MIN {
            0 => DAY_MIN,
            length => length,
        };
        Ok(Self { days: parse_days(days)?, from_min, length_min })
    }

    pub fn holds(&self, wall: WallTime) -> bool {
        let minutes = wall.millis().div_euclid(60_000);
        // 1 January 1970 was a Thursday.
        let of_week = (minutes + 3 * i64::from(DAY_MIN)).rem_euclid(WEEK_MIN.into());
        let of_week = u32::try_from(of_week).expect("below a week");
        (0..7_u32).zip(self.days).filter(|(_, is_on)| *is_on).any(|(day, _)| {
            let begins = day * DAY_MIN + self.from_min;
            (of_week + WEEK_MIN - begins) % WEEK_MIN < self.length_min
        })
    }
}

fn minute(text: &str) -> Result<u32, String> {
    let fault = || "must be HH:MM, from 00:00 to 24:00".to_owned();
    let (hours, minutes) = text.split_once(':').ok_or_else(fault)?;
    let number = |part: &str| -> Option<u32> {
        let is_plain = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        is_plain.then(|| part.parse().ok()).flatten()
    };
    let total = number(hours).zip(number(minutes).filter(|minutes| *minutes < 60));
    match total.map(|(hours, minutes)| hours * 60 + minutes) {
        Some(total) if total <= DAY_MIN => Ok(total),
        _ => Err(fault()),
    }
}

fn parse_days(text: &str) -> Result<[bool; 7], String> {
    let fault = || "must be days such as mon-fri, sat or mon,wed".to_owned();
    let day = |name: &str| NAMES.iter().position(|known| *known == name).ok_or_else(fault);
    let mut days = [false; 7];
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        for step in 0..=(last + 7 - first) % 7 {
            days[(first + step) % 7] = true;
        }
    }
    Ok(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Monday, 00:00 UTC: 23 November 2026.
    const MONDAY_MS: i64 = 1_795_392_000_000;

    #[test]
    fn windows_hold_to_the_minute_and_over_midnight() {
        let check = |days: &str, from: &str, until: &str, minute: i64, holds: bool| {
            let window = WeekWindow::parse(days, from, until).unwrap();
            assert_eq!(
                window.holds(WallTime::from_millis(MONDAY_MS + minute * 60_000)),
                holds,
                "{days} {from}-{until} at {minute}"
            );
        };
        check("mon-fri", "22:00", "06:00", 22 * 60 - 1, false);
        check("mon-fri", "22:00", "06:00", 22 * 60, true);
        check("mon-fri", "22:00", "06:00", 30 * 60 - 1, true);
        check("mon-fri", "22:00", "06:00", 30 * 60, false);
        // Sunday's night is not begun on a working day, Friday's is.
        check("mon-fri", "22:00", "06:00", 60, false);
        check("mon-fri", "22:00", "06:00", 5 * 1440 + 60, true);
        check("sat-mon", "00:00", "24:00", 60, true);
        check("sat-mon", "00:00", "24:00", 1440, false);
        check("wed,sun", "00:00", "00:00", 6 * 1440 + 5, true);
        check("sun", "23:00", "01:00", 30, true);
    }

    #[test]
    fn windows_that_make_no_sense_are_refused() {
        let check = |days: &str, from: &str, until: &str, part: &str| {
            let fault = WeekWindow::parse(days, from, until).unwrap_err();
            assert!(fault.contains(part), "{fault}");
        };
        check("monday", "00:00", "01:00", "mon-fri");
        check("mon", "0:00", "01:00", "HH:MM");
        check("mon", "00:00", "24:01", "HH:MM");
        check("mon", "00:60", "01:00", "HH:MM");
    }
}
