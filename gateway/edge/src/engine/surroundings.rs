//! Readings that say where the box is and what happens around it: for the decision on their own message and on
//! later ones, never on what came before. What a bad sensor says is as good as nothing, and so is what was
//! said long ago: then the state is unknown.

use super::Engine;
use guan_model::{Now, PointId, Row, Severity, Value};
use guan_policy::Situation;
use guan_policy::constraint::Position;
use guan_policy::situation::{Track, VehicleState};
use guan_spool::Disk;
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

/// Points whose values are state, as the configuration names them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Latitude and longitude in degrees; a fix is two values of one message.
    pub position: Option<(PointId, PointId)>,
    pub consent: Option<PointId>,
    pub vehicle_state: Option<PointId>,
}

/// How long a word about consent or the vehicle holds; who has a say must repeat it.
const WORD_AGE_MAX: Duration = Duration::from_secs(15 * 60);

/// What sources have said of consent and vehicle, and when it was taken in, since boot.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Heard {
    surroundings: Surroundings,
    consent: Option<(bool, Duration)>,
    vehicle: Option<(VehicleState, Duration)>,
}

impl Surroundings {
    /// Notes the fixes in rows. They have their times, so that a reading has its own whatever comes after it.
    pub fn note_fixes(&self, rows: &[Row], track: &mut Track) {
        let Some((latitude, longitude)) = self.position else { return };
        // Values of one message came at one moment.
        let (mut north, mut east) = (BTreeMap::new(), BTreeMap::new());
        for row in rows {
            if row.point == latitude {
                north.insert(row.gateway_time, sound(row).and_then(number));
            } else if row.point == longitude {
                east.insert(row.gateway_time, sound(row).and_then(number));
            }
        }
        for (at, latitude) in north {
            let longitude = east.get(&at).copied().flatten();
            let fix = latitude.zip(longitude).and_then(|(lat, lon)| Position::new(lat, lon));
            if let Some(fix) = fix {
                track.note(at, fix);
            }
        }
    }
}

impl Heard {
    /// Nothing yet.
    pub fn of(surroundings: Surroundings) -> Self {
        Self { surroundings, ..Self::default() }
    }

    /// Takes in what one message tells. It holds for the message itself, and when it says two things nothing is
    /// known. `true`: what counts has changed.
    pub fn hear(&mut self, now: Duration, rows: &[Row]) -> bool {
        let before = (fresh(self.consent, now), fresh(self.vehicle, now));
        if let Some(said) = one_word(self.surroundings.consent, rows, truth) {
            self.consent = said.map(|given| (given, now));
        }
        if let Some(said) = one_word(self.surroundings.vehicle_state, rows, vehicle_state) {
            self.vehicle = said.map(|state| (state, now));
        }
        before != (fresh(self.consent, now), fresh(self.vehicle, now))
    }

    /// Rows that say something were refused and may come again: until then it is not known.
    pub fn doubt(&mut self, rows: &[Row]) {
        let says = |point: Option<PointId>| rows.iter().any(|row| Some(row.point) == point);
        if says(self.surroundings.consent) {
            self.consent = None;
        }
        if says(self.surroundings.vehicle_state) {
            self.vehicle = None;
        }
    }

    /// What holds now.
    pub fn describe(&self, now: Duration, situation: &mut Situation) {
        situation.consent = fresh(self.consent, now);
        situation.vehicle = fresh(self.vehicle, now);
    }
}

fn fresh<T>(word: Option<(T, Duration)>, now: Duration) -> Option<T> {
    word.filter(|(_, at)| now.saturating_sub(*at) <= WORD_AGE_MAX).map(|(said, _)| said)
}

/// What rows say of one point; `None`: nothing. Words that differ are as good as none.
fn one_word<T: PartialEq>(
    point: Option<PointId>,
    rows: &[Row],
    read: impl Fn(&Value) -> Option<T>,
) -> Option<Option<T>> {
    let words = rows.iter().filter(|row| Some(row.point) == point);
    let mut words = words.map(|row| sound(row).and_then(&read));
    let first = words.next()?;
    Some(first.filter(|first| words.all(|word| word.as_ref() == Some(first))))
}

/// The value, if its sensor is sound.
fn sound(row: &Row) -> Option<&Value> {
    row.value.as_ref().filter(|_| row.quality.severity() != Severity::Bad)
}

#[allow(clippy::cast_precision_loss, reason = "degrees and truths are small")]
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::F64(number) => Some(*number),
        Value::F32(number) => Some(f64::from(*number)),
        Value::I64(number) => Some(*number as f64),
        Value::U64(number) => Some(*number as f64),
        Value::Bool(_) | Value::Text(_) | Value::Bytes(_) => None,
    }
}

fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(given) => Some(*given),
        other => number(other).map(|number| number != 0.0),
    }
}

fn vehicle_state(value: &Value) -> Option<VehicleState> {
    let Value::Text(text) = value else { return None };
    let row = VehicleState::WORDS.iter().find(|(word, _)| word == text);
    row.map(|(_, state)| *state)
}

impl<D: Disk, T> Engine<D, T> {
    /// Divides the waiting publications where the word changes: each is decided under what was said until then,
    /// and a later word changes nothing for those before it.
    pub(super) fn look_around(&mut self, now: &Now) -> Vec<(Range<usize>, Heard)> {
        let surroundings = self.config.surroundings;
        let mut heard = self.heard.clone();
        let (mut parts, mut from, mut count) = (Vec::new(), 0, 0);
        for rows in self.pending.rows() {
            let before = heard.clone();
            if heard.hear(now.monotonic, rows) && from < count {
                parts.push((from..count, before));
                from = count;
            }
            count += 1;
        }
        if surroundings.position.is_some() {
            let pending = &self.pending;
            self.door.set_situation(|situation| {
                pending.rows().for_each(|rows| surroundings.note_fixes(rows, &mut situation.track));
            });
        }
        parts.push((from..count, heard.clone()));
        self.staged_heard = heard;
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guan_model::{Quality, Reason, WallTime};

    fn row(point: u32, at: i64, value: Value, severity: Severity) -> Row {
        let quality = match severity {
            Severity::Good => Quality::GOOD,
            other => Quality::new(other, Reason::OutOfRange),
        };
        let gateway_time = WallTime::from_seconds(at);
        Row { point: PointId(point), source_time: None, gateway_time, quality, value: Some(value) }
    }

    #[test]
    fn fixes_are_pairs_of_one_message() {
        let surroundings = Surroundings {
            position: Some((PointId(1), PointId(2))),
            consent: Some(PointId(3)),
            vehicle_state: Some(PointId(4)),
        };
        let good = |point, at, value| row(point, at, value, Severity::Good);
        let rows = [
            good(1, 10, Value::F64(31.2)),
            good(2, 10, Value::I64(121)),
            good(1, 11, Value::F64(31.3)),
            good(2, 12, Value::F64(121.3)),
            good(1, 13, Value::F64(131.3)),
            good(2, 13, Value::F64(121.3)),
            row(1, 14, Value::F64(1.0), Severity::Bad),
            good(2, 14, Value::F64(1.0)),
            good(3, 15, Value::Bool(true)),
            good(4, 15, Value::Text("charging".to_owned())),
            row(3, 16, Value::Bool(true), Severity::Bad),
        ];
        let mut track = Track::default();
        surroundings.note_fixes(&rows, &mut track);
        assert_eq!(track.len(), 1);
        assert_eq!(track.at(WallTime::from_seconds(10)), Position::new(31.2, 121.0));
    }

    /// What a message says holds for itself and until it is said anew, for a quarter of an hour.
    #[test]
    fn words_hold_until_the_next_and_not_for_ever() {
        let surroundings = Surroundings {
            position: None,
            consent: Some(PointId(3)),
            vehicle_state: Some(PointId(4)),
        };
        let good = |point, value| row(point, 0, value, Severity::Good);
        let consent = |given| good(3, Value::Bool(given));
        let state = |text: &str| good(4, Value::Text(text.to_owned()));
        let mut heard = Heard::of(surroundings);
        let mut check =
            |second, rows: &[Row], expect: (bool, Option<bool>, Option<VehicleState>)| {
                let now = Duration::from_secs(second);
                let has_changed = heard.hear(now, rows);
                let now_is = WallTime::from_seconds(0);
                let quality = guan_model::ClockQuality::Ntp;
                let mut situation = Situation::at(Now { wall: now_is, monotonic: now, quality });
                heard.describe(now, &mut situation);
                assert_eq!((has_changed, situation.consent, situation.vehicle), expect, "{second}");
            };
        use VehicleState::{Charging, Parked};
        check(0, &[good(1, Value::I64(1))], (false, None, None));
        check(1, &[consent(true), state("charging")], (true, Some(true), Some(Charging)));
        check(500, &[consent(true)], (false, Some(true), Some(Charging)));
        check(901, &[], (false, Some(true), Some(Charging)));
        check(902, &[], (false, Some(true), None));
        check(1400, &[state("parked")], (true, Some(true), Some(Parked)));
        check(1401, &[consent(true)], (true, Some(true), Some(Parked)));
        check(1402, &[consent(true), consent(false)], (true, None, Some(Parked)));
        check(1403, &[consent(false)], (true, Some(false), Some(Parked)));
        check(1404, &[row(3, 16, Value::Bool(true), Severity::Bad)], (true, None, Some(Parked)));
        check(1405, &[state("flying")], (true, None, None));
        check(1406, &[consent(true)], (true, Some(true), None));
        heard.doubt(&[consent(true)]);
        assert_eq!(heard.consent, None);
    }
}
