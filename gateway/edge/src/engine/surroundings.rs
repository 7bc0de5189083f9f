//! Readings that say where the box is and what happens around it, for the decisions of the same commit
//! and later ones. What a bad sensor says is as good as nothing: then the state is unknown.

use super::Engine;
use guan_model::{PointId, Row, Severity, Value, WallTime};
use guan_policy::Situation;
use guan_policy::constraint::Position;
use guan_policy::situation::VehicleState;
use guan_spool::Disk;
use std::collections::BTreeMap;

/// Points whose values are state, as the configuration names them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Latitude and longitude in degrees; a fix is two values of one message.
    pub position: Option<(PointId, PointId)>,
    pub consent: Option<PointId>,
    pub vehicle_state: Option<PointId>,
}

/// What some rows tell; `Some(None)`: that it is not known any more.
#[derive(Debug, Default, PartialEq)]
struct News {
    fixes: Vec<(WallTime, Position)>,
    consent: Option<Option<bool>>,
    vehicle: Option<Option<VehicleState>>,
}

impl Surroundings {
    fn read<'r>(&self, rows: impl Iterator<Item = &'r Row>) -> News {
        let mut news = News::default();
        // Values of one message came at one moment.
        let (mut north, mut east) = (BTreeMap::new(), BTreeMap::new());
        for row in rows {
            let value = row.value.as_ref().filter(|_| row.quality.severity() != Severity::Bad);
            let point = Some(row.point);
            if point == self.position.map(|(latitude, _)| latitude) {
                north.insert(row.gateway_time, value.and_then(number));
            } else if point == self.position.map(|(_, longitude)| longitude) {
                east.insert(row.gateway_time, value.and_then(number));
            }
            if point == self.consent {
                news.consent = Some(value.and_then(truth));
            }
            if point == self.vehicle_state {
                news.vehicle = Some(value.and_then(vehicle_state));
            }
        }
        for (at, latitude) in north {
            let longitude = east.get(&at).copied().flatten();
            let fix = latitude.zip(longitude).and_then(|(lat, lon)| Position::new(lat, lon));
            news.fixes.extend(fix.map(|fix| (at, fix)));
        }
        news
    }
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

impl Surroundings {
    /// Takes in what rows tell.
    pub fn look<'r>(&self, rows: impl Iterator<Item = &'r Row>, situation: &mut Situation) {
        if *self == Self::default() {
            return;
        }
        let news = self.read(rows);
        for (at, fix) in news.fixes {
            situation.track.note(at, fix);
        }
        if let Some(consent) = news.consent {
            situation.consent = consent;
        }
        if let Some(vehicle) = news.vehicle {
            situation.vehicle = vehicle;
        }
    }
}

impl<D: Disk, T> Engine<D, T> {
    /// Takes in what the waiting rows tell of the surroundings, before any of them is decided on.
    pub(super) fn look_around(&mut self) {
        let (surroundings, rows) = (self.config.surroundings, self.pending.rows());
        self.door.set_situation(|situation| surroundings.look(rows, situation));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guan_model::{Quality, Reason};

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
        let news = surroundings.read(rows.iter());
        let fix = Position::new(31.2, 121.0).unwrap();
        assert_eq!(news.fixes, [(WallTime::from_seconds(10), fix)]);
        assert_eq!(news.consent, Some(None), "the last word came from a bad sensor");
        assert_eq!(news.vehicle, Some(Some(VehicleState::Charging)));
    }
}
