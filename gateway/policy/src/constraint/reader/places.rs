//! Hours of the week and areas on the ground, which contracts write as objects.

use crate::constraint::TimeWindow;
use crate::constraint::area::{Area, Position, VERTICES_MAX};
use crate::constraint::window::WEEKDAYS;
use crate::fault::{Faults, Problem, shown};
use crate::object::{Member, Object};

/// Largest radius of a circle: half the way around the earth.
const RADIUS_M_MAX: f64 = 20_040_000.0;

pub(super) fn window(member: &Member<'_>, faults: &mut Faults) -> Option<TimeWindow> {
    const KEYS: [&str; 3] = ["from", "until", "zone"];
    let object = Object::open_with(member.value, &member.pointer, &KEYS, &["weekdays"], faults)?;
    let weekdays = match object.member("weekdays") {
        None => 0b111_1111,
        Some(list) => {
            let table: Vec<(&str, u8)> = WEEKDAYS.iter().copied().zip(0..7).collect();
            let days = list.one_or_many(7, faults);
            let known = "mon, tue, wed, thu, fri, sat or sun";
            let days = days.iter().filter_map(|day| day.word(&table, known, faults));
            days.fold(0, |bits: u8, day| bits | (1 << day))
        }
    };
    let (from, until) = (object.text("from", faults), object.text("until", faults));
    let zone = object.text("zone", faults).and_then(|name| {
        let zone = TimeWindow::zone(name);
        if zone.is_none() {
            let known = "a zone of the IANA database such as Asia/Shanghai";
            faults.add(&object.at("zone"), Problem::UnknownTerm { found: shown(name), known });
        }
        zone
    });
    let window = TimeWindow::new(weekdays, from?, until?, zone?);
    if window.is_none() {
        faults.add(&member.pointer, Problem::Window);
    }
    window
}

pub(super) fn area(member: &Member<'_>, faults: &mut Faults) -> Option<Area> {
    if member.value.is_string() {
        // GB/T 2260 codes name districts whose borders no open source gives us to ship.
        let code = shown(member.value.as_str().unwrap_or_default());
        faults.add(&member.pointer, Problem::RegionCode { code });
        return None;
    }
    let optional = ["latitude", "longitude", "radius_m", "vertices", "datum"];
    let object = Object::open_with(member.value, &member.pointer, &["type"], &optional, faults)?;
    if let Some(datum) = object.member("datum") {
        // BeiDou gives its positions in CGCS2000.
        const DATUMS: [(&str, ()); 4] =
            [("WGS-84", ()), ("CGCS2000", ()), ("BeiDou", ()), ("BDS", ())];
        let known = "WGS-84 or CGCS2000 (BeiDou, BDS); convert GCJ-02 or BD-09 coordinates first";
        datum.word(&DATUMS, known, faults);
    }
    let kinds = [("circle", true), ("polygon", false)];
    let is_circle = object.member("type")?.word(&kinds, "circle or polygon", faults)?;
    let (shape, others): (_, &[&str]) = match is_circle {
        true => ("circle", &["vertices"]),
        false => ("polygon", &["latitude", "longitude", "radius_m"]),
    };
    let before = faults.len();
    for other in others.iter().filter_map(|key| object.member(key)) {
        faults.add(&other.pointer, Problem::OtherShape { shape });
    }
    if faults.len() > before {
        return None;
    }
    let area = if is_circle { circle(&object, faults) } else { polygon(&object, faults) };
    // A number that cannot be signed was noted when the text was parsed.
    if area.is_none() && !faults.is_within(&member.pointer) {
        faults.add(&member.pointer, Problem::Area { vertices_max: VERTICES_MAX });
    }
    area
}

fn circle(object: &Object<'_>, faults: &mut Faults) -> Option<Area> {
    let mut decimal = |key: &str| object.member(key).and_then(|member| member.decimal(faults));
    let (latitude, longitude) = (decimal("latitude"), decimal("longitude"));
    let radius_m = decimal("radius_m").filter(|radius| *radius > 0.0 && *radius <= RADIUS_M_MAX);
    Some(Area::Circle { centre: Position::new(latitude?, longitude?)?, radius_m: radius_m? })
}

fn polygon(object: &Object<'_>, faults: &mut Faults) -> Option<Area> {
    let corners = object.member("vertices")?.one_or_many(VERTICES_MAX, faults);
    let corner = |member: &Member<'_>, faults: &mut Faults| {
        let parts = member.one_or_many(2, faults);
        let [latitude, longitude] = parts.as_slice() else { return None };
        Position::new(latitude.decimal(faults)?, longitude.decimal(faults)?)
    };
    let corners: Option<Vec<Position>> =
        corners.iter().map(|member| corner(member, faults)).collect();
    let corners = corners?;
    // In a polygon without inside lies nothing: a prohibition about it would forbid nothing.
    if corners.len() >= 3 && is_line(&corners) {
        faults.add(&object.at("vertices"), Problem::Line);
        return None;
    }
    Area::polygon(corners)
}

/// Whether all corners lie on one line.
fn is_line(corners: &[Position]) -> bool {
    /// Square degrees; 0.1 mm beside a line of 100 km.
    const AREA_MIN: f64 = 1e-9;
    let from = corners[0];
    let legs =
        || corners.iter().map(|at| (at.latitude - from.latitude, at.longitude - from.longitude));
    let length = |(a, b): &(f64, f64)| a * a + b * b;
    let longest = legs().max_by(|a, b| length(a).total_cmp(&length(b)));
    let (north, east) = longest.expect("a list of corners is not empty");
    legs().all(|leg| (north * leg.1 - east * leg.0).abs() < AREA_MIN)
}
