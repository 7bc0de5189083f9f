//! What the policy benchmarks decide about: contracts of four rules, each of which asks the reading or the
//! box, and readings for which the rules give different answers. Shared with `tests/compare`.

use guan_model::{
    Batch, BatchHeader, BootNumber, Class, ClockQuality, DatasetId, DescriptorTable, Now,
    PointDescriptor, PointId, PointName, Quality, Reason, Row, Severity, Unit, Value, ValueType,
    WallTime,
};
use guan_policy::Situation;
use guan_policy::situation::VehicleState;
use serde_json::json;
use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

pub(crate) const POINTS: u32 = 4;
/// 2026-11-24T00:00:00Z.
pub(crate) const NOW_S: i64 = 1_795_478_400;

/// The limits that the four rules of one contract name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The first permission: values below it, of good quality.
    pub(crate) below: i64,
    /// The second permission, with consent: readings that are not bad and no older than this.
    pub(crate) age_s: i64,
    /// The first prohibition: values from here on while driving.
    pub(crate) driving_from: i64,
    /// The second prohibition: measured before this, or a value below the next.
    pub(crate) measured_before_s: i64,
    pub(crate) low: i64,
}

pub(crate) fn limits(contract: usize) -> Limits {
    let spread = i64::try_from(contract % 100).expect("below 100");
    Limits {
        below: 300 + 5 * spread,
        age_s: 5 + spread,
        driving_from: 700 + 3 * spread,
        measured_before_s: NOW_S - 1200 - 12 * spread,
        low: spread,
    }
}

pub(crate) fn moment(seconds: i64) -> String {
    let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    assert_eq!(day / 20_000, 1, "the readings are of two days");
    let day = match day - NOW_S / 86_400 {
        0 => "2026-11-24",
        -1 => "2026-11-23",
        other => panic!("{other} days from now"),
    };
    format!("{day}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// A contract in our profile of ODRL.
pub(crate) fn agreement(contract: usize, consumer: &str) -> serde_json::Value {
    let Limits { below, age_s, driving_from, measured_before_s, low } = limits(contract);
    let test = |left: &str, operator: &str, right: serde_json::Value| json!({"leftOperand": left, "operator": operator, "rightOperand": right});
    json!({
        "@context": ["http://www.w3.org/ns/odrl.jsonld"],
        "@type": "Agreement", "@id": format!("urn:contract:C-{contract:04}"),
        "profile": "urn:guankou:odrl:1", "version": 1,
        "assigner": "depot-7", "assignee": consumer, "target": ["vessel-bus"],
        "validity": {"notBefore": "2026-01-01T00:00:00Z", "notAfter": "2030-01-01T00:00:00Z"},
        "permission": [
            {"uid": "p1", "action": "deliver", "constraint": [
                test("value", "lt", json!(below)), test("quality", "eq", json!("good"))]},
            {"uid": "p2", "action": "deliver", "constraint": [
                test("quality", "neq", json!("bad")),
                test("age", "lteq", json!(format!("PT{age_s}S"))),
                test("consent", "eq", json!(true))]},
        ],
        "prohibition": [
            {"uid": "f1", "action": "deliver", "constraint": [
                test("value", "gteq", json!(driving_from)),
                test("vehicleState", "eq", json!("driving"))]},
            {"uid": "f2", "action": "deliver", "constraint": {"or": [
                test("eventTime", "lt", json!(moment(measured_before_s))),
                test("value", "lt", json!(low))]}},
        ],
    })
}

pub(crate) fn descriptors() -> DescriptorTable {
    let point = |id: u32| PointDescriptor {
        id: PointId(id),
        name: PointName::parse(&format!("Vessel.P{id}")).expect("a valid name"),
        value_type: ValueType::F64,
        unit: Unit::one(),
        dataset: DatasetId::parse("vessel-bus").expect("a valid name"),
        class: Class::General,
        tags: BTreeSet::new(),
    };
    DescriptorTable::new((0..POINTS).map(point).collect()).expect("points of their own")
}

/// Some reading, the same for the same number: a value from 0 to 999, measured up to 43 minutes ago.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) point: u32,
    pub(crate) value: i64,
    pub(crate) severity: Severity,
    pub(crate) measured_s: i64,
    pub(crate) came_s: i64,
}

pub(crate) fn sample(number: u64) -> Sample {
    // Splitmix64 (Steele, Lea, Flood 2014).
    let mut z = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    let part = |shift: u32, below: u64| i64::try_from((z >> shift) % below).expect("small");
    let came_s = NOW_S - part(0, 4) * part(8, 800);
    Sample {
        point: u32::try_from(number % u64::from(POINTS)).expect("small"),
        value: part(20, 1000),
        severity: [Severity::Good, Severity::Good, Severity::Uncertain, Severity::Bad]
            [usize::try_from(part(32, 4)).expect("small")],
        measured_s: came_s - part(40, 200),
        came_s,
    }
}

#[expect(clippy::cast_precision_loss, reason = "values below 1000")]
pub(crate) fn row(number: u64) -> Row {
    let sample = sample(number);
    Row {
        point: PointId(sample.point),
        source_time: Some(WallTime::from_seconds(sample.measured_s)),
        gateway_time: WallTime::from_seconds(sample.came_s),
        quality: Quality::new(sample.severity, Reason::Ok),
        value: Some(Value::F64(sample.value as f64)),
    }
}

pub(crate) fn batch(descriptors: &DescriptorTable, numbers: Range<u64>) -> Batch {
    let header = BatchHeader {
        dataset: DatasetId::parse("vessel-bus").expect("a valid name"),
        contract: None,
        descriptors: descriptors.digest(),
        boot: BootNumber(1),
        monotonic: Duration::ZERO,
        clock_quality: ClockQuality::Ntp,
    };
    Batch::from_rows(header, numbers.map(row)).expect("within the limits")
}

/// The clock is set, there is consent, and the vehicle drives.
pub(crate) fn situation() -> Situation {
    let now = Now {
        wall: WallTime::from_seconds(NOW_S),
        monotonic: Duration::ZERO,
        quality: ClockQuality::Ntp,
    };
    let mut situation = Situation::at(now);
    situation.consent = Some(true);
    situation.vehicle = Some(VehicleState::Driving);
    situation
}
