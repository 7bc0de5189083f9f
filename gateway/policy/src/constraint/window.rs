//! Hours of the week in a time zone, such as the opening hours of a depot.

use guan_model::WallTime;
use guan_model::bytes_io::{ReadFault, Reader, Writer};
use jiff::tz::TimeZone;

/// Seconds of a day.
const DAY_S: i64 = 86_400;

/// Weekdays and hours. Hours past midnight belong to the weekday on which they begin.
#[derive(Debug, Clone, PartialEq)]
pub struct TimeWindow {
    /// Bit 0 is Monday.
    weekdays: u8,
    /// Second of the day at which it opens.
    from_s: i64,
    /// Second of the day at which it closes; not later than `from_s` means on the next day.
    until_s: i64,
    zone: TimeZone,
}

/// Names of weekdays in a contract, Monday first.
pub(in crate::constraint) const WEEKDAYS: [&str; 7] =
    ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl TimeWindow {
    /// `from` and `until` as `HH:MM`; `None` if they are no times of day.
    pub fn new(weekdays: u8, from: &str, until: &str, zone: TimeZone) -> Option<Self> {
        let (from_s, until_s) = (time_of_day(from)?, time_of_day(until)?);
        (from_s < DAY_S && weekdays != 0).then_some(Self { weekdays, from_s, until_s, zone })
    }

    /// A zone of the IANA database, or `None`.
    pub fn zone(name: &str) -> Option<TimeZone> {
        // The database that is compiled in: the same answer on every box and at the space.
        jiff::tz::TimeZoneDatabase::bundled().get(name).ok()
    }

    /// Names of its weekdays, Monday first.
    pub(crate) fn weekdays(&self) -> Vec<&'static str> {
        let days = WEEKDAYS.iter().zip(0..);
        days.filter(|(_, place)| (self.weekdays >> place) & 1 == 1).map(|(day, _)| *day).collect()
    }

    /// The hours as `HH:MM`, from and until.
    pub(crate) fn hours(&self) -> [String; 2] {
        let text = |seconds: i64| format!("{:02}:{:02}", seconds / 3600, seconds / 60 % 60);
        [text(self.from_s), text(self.until_s)]
    }

    /// Seconds of the day at which the answer can change.
    pub(crate) fn edges(&self) -> [i64; 2] {
        [self.from_s, self.until_s % DAY_S]
    }

    pub(crate) fn zone_name(&self) -> &str {
        self.zone.iana_name().expect("zones come from the database by name")
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.u8(self.weekdays);
        out.u32(u32::try_from(self.from_s).expect("within a day"));
        out.u32(u32::try_from(self.until_s).expect("within a day"));
        out.text(self.zone_name());
    }

    /// `None` for values that no contract can have.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, ReadFault> {
        let weekdays = reader.u8()?;
        let (from_s, until_s) = (i64::from(reader.u32()?), i64::from(reader.u32()?));
        let zone = Self::zone(reader.text()?);
        let is_sound = weekdays != 0 && from_s < DAY_S && until_s <= DAY_S;
        Ok(zone.filter(|_| is_sound).map(|zone| Self { weekdays, from_s, until_s, zone }))
    }

    pub fn contains(&self, moment: WallTime) -> bool {
        let Ok(timestamp) = jiff::Timestamp::from_nanosecond(i128::from(moment.0)) else {
            return false;
        };
        let offset_s = i64::from(self.zone.to_offset(timestamp).seconds());
        let local_s = moment.0.div_euclid(1_000_000_000) + offset_s;
        self.contains_local(local_s.div_euclid(DAY_S), local_s.rem_euclid(DAY_S))
    }

    /// A day since 1970 and a second of it, in the window's own zone.
    pub(crate) fn contains_local(&self, day: i64, second: i64) -> bool {
        if self.from_s < self.until_s {
            return self.opens_on(day) && (self.from_s..self.until_s).contains(&second);
        }
        (self.opens_on(day) && second >= self.from_s)
            || (self.opens_on(day - 1) && second < self.until_s)
    }

    /// 1970-01-01 was a Thursday.
    fn opens_on(&self, day: i64) -> bool {
        (self.weekdays >> (day + 3).rem_euclid(7)) & 1 == 1
    }
}

/// Seconds of `HH:MM`, up to `24:00`.
fn time_of_day(text: &str) -> Option<i64> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str| {
        (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit()))
            .then(|| text.parse::<i64>().ok())
            .flatten()
    };
    let seconds = number(hours)? * 3600 + number(minutes).filter(|m| *m < 60)? * 60;
    (seconds <= DAY_S).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(window: (u8, &str, &str, &str), moment: &str, expect: bool) {
        let zone = TimeWindow::zone(window.3).unwrap();
        let built = TimeWindow::new(window.0, window.1, window.2, zone).unwrap();
        let nanos = moment.parse::<jiff::Timestamp>().unwrap().as_nanosecond();
        let at = WallTime(i64::try_from(nanos).unwrap());
        assert_eq!(built.contains(at), expect, "{window:?} at {moment}");
    }

    const WORKDAYS: u8 = 0b001_1111;

    #[test]
    fn hours_are_local() {
        let office = (WORKDAYS, "08:00", "18:00", "Asia/Shanghai");
        // Monday 2026-11-23, 08:00 in Shanghai is midnight UTC.
        check(office, "2026-11-22T23:59:59Z", false);
        check(office, "2026-11-23T00:00:00Z", true);
        check(office, "2026-11-23T09:59:59.999Z", true);
        check(office, "2026-11-23T10:00:00Z", false);
        check(office, "2026-11-28T02:00:00Z", false);
    }

    #[test]
    fn nights_belong_to_the_day_on_which_they_begin() {
        let night = (0b001_0000, "22:00", "06:00", "UTC");
        check(night, "2026-11-27T22:00:00Z", true);
        check(night, "2026-11-28T05:59:00Z", true);
        check(night, "2026-11-28T06:00:00Z", false);
        check(night, "2026-11-27T05:00:00Z", false);
        let whole = (0b000_0001, "00:00", "24:00", "UTC");
        check(whole, "2026-11-23T23:59:59Z", true);
        check(whole, "2026-11-24T00:00:00Z", false);
    }

    #[test]
    fn summer_time_moves_the_window() {
        let office = (WORKDAYS, "09:00", "17:00", "Europe/Berlin");
        check(office, "2026-07-01T07:00:00Z", true);
        check(office, "2026-12-01T07:00:00Z", false);
        check(office, "2026-12-01T08:00:00Z", true);
    }

    #[test]
    fn what_is_no_time() {
        let zone = || TimeWindow::zone("UTC").unwrap();
        for (from, until) in [("8:00", "18:00"), ("08:60", "18:00"), ("24:00", "18:00"), ("a", "b")]
        {
            assert!(TimeWindow::new(1, from, until, zone()).is_none(), "{from} {until}");
        }
        assert!(TimeWindow::new(0, "08:00", "18:00", zone()).is_none());
        assert!(TimeWindow::zone("Mars/Olympus").is_none());
    }
}
