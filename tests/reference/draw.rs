//! Contracts, readings and situations drawn at random, close enough to each other that every answer
//! occurs. Texts and doubles of readings are unlike any other, so that a search finds them.

use super::dice::Dice;
use guan_model::{
    BootNumber, Class, ClockQuality, DatasetId, Now, PointDescriptor, PointId, PointName, Quality,
    Row, Severity, Tag, Unit, Value, ValueType, WallTime,
};
use guan_policy::constraint::{Position, ReleaseVersion};
use guan_policy::situation::{LinkClass, VehicleState};
use guan_policy::{Collections, Situation};
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// 2026-11-24T00:00:00Z, when readings come, give or take an hour.
const NOW_S: i64 = 1_795_478_400;

pub(crate) struct Draw {
    dice: Dice,
    /// Texts and doubles given out.
    secrets: u64,
}

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        Self { dice: Dice(seed), secrets: 0 }
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.dice.below(bound as u64)).expect("below a usize")
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.dice.one_in(count)
    }

    fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    /// One or two of several names.
    fn some(&mut self, all: &[&str]) -> Json {
        let (one, other) = (self.pick(all), self.pick(all));
        if one == other { json!(one) } else { json!([one, other]) }
    }

    fn moment(&mut self) -> i64 {
        NOW_S + self.pick(&[-3600, -60, -1, 0, 1, 60, 3600])
    }

    fn comparison(&mut self) -> &'static str {
        self.pick(&["eq", "neq", "lt", "lteq", "gt", "gteq"])
    }

    fn test(&mut self, left: &str, operators: &[&str], right: &[Json]) -> Json {
        let (operator, right) = (self.pick(operators), self.pick(right));
        json!({"leftOperand": left, "operator": operator, "rightOperand": right})
    }

    /// A test that contract and descriptor answer.
    fn settled(&mut self) -> Json {
        let names = ["eq", "neq", "isAnyOf", "isNoneOf"];
        let members = ["eq", "isNoneOf", "isPartOf"];
        match self.below(7) {
            0 => {
                let right = self.some(&["A.x", "A.*", "B.y", "*"]);
                self.test("dataField", &["isAnyOf", "isNoneOf"], &[right])
            }
            1 => self.test("dataset", &members, &[json!("d"), json!("e"), json!("group")]),
            2 => {
                self.test("recipient", &members, &[json!("x"), json!("insurers"), json!("nobody")])
            }
            3 => self.test("purpose", &["eq", "isA", "neq"], &[json!("risk"), json!("risk.fleet")]),
            4 => self.test("recipientCountry", &names, &[json!("CN"), json!("DE")]),
            5 => {
                let operator = self.comparison();
                self.test("grade", &[operator], &[json!("general"), json!("important"), json!(3)])
            }
            _ => {
                let right = self.some(&["personal", "trade-secret", "precise-location"]);
                self.test("tag", &["isAnyOf", "isAllOf", "isNoneOf"], &[right])
            }
        }
    }

    /// A test that is answered when the reading comes.
    fn collected(&mut self) -> Json {
        let operator = self.comparison();
        match self.below(7) {
            0 => {
                let moment = moment_text(self.moment());
                self.test("eventTime", &[operator], &[json!(moment)])
            }
            1 => self.test("age", &[operator], &[json!("PT0S"), json!("PT1S"), json!("PT1M")]),
            2 => {
                let circle = json!({"type": "circle", "latitude": "31.2", "longitude": "121.4", "radius_m": 5000});
                let corners = json!([[31, 121], [31, 122], [32, 122], [32, 121]]);
                let polygon = json!({"type": "polygon", "vertices": corners});
                self.test("spatial", &["isPartOf", "isNoneOf"], &[circle, polygon])
            }
            3 => self.test(
                "value",
                &[operator],
                &[json!(0), json!(1), json!("1.5"), json!(-7), json!("40.25")],
            ),
            4 => self.test(
                "quality",
                &[operator],
                &[json!("good"), json!("uncertain"), json!("bad")],
            ),
            5 => self.test("consent", &["eq", "neq"], &[json!(true), json!(false)]),
            _ => {
                let states = self.some(&["parked", "driving", "charging"]);
                self.test("vehicleState", &["isAnyOf", "isNoneOf"], &[states])
            }
        }
    }

    /// A test that is answered when the reading leaves.
    fn released(&mut self) -> Json {
        let operator = self.comparison();
        match self.below(7) {
            0 => {
                let moment = moment_text(self.moment());
                self.test("dateTime", &[operator], &[json!(moment)])
            }
            1 => {
                let hours = json!({"from": "08:00", "until": "18:00", "zone": "Asia/Shanghai"});
                self.test("timeWindow", &["isPartOf", "isNoneOf"], &[hours])
            }
            2 => self.test("link", &["eq", "neq"], &[json!("metered"), json!("unmetered")]),
            3 => self.test("attested", &[operator], &[json!("emulated"), json!("hardware")]),
            4 => self.test("secureBoot", &["eq", "neq"], &[json!(true), json!(false)]),
            5 => self.test("releaseMin", &[operator], &[json!("1.2"), json!("1.10")]),
            _ => self.test("clockQuality", &[operator], &[json!("rtc"), json!("ntp")]),
        }
    }

    /// A tree whose live tests belong to one moment.
    fn tree(&mut self, depth: usize, is_later: bool) -> Json {
        if depth > 0 && self.one_in(2) {
            let parts: Vec<Json> =
                (0..=self.below(3)).map(|_| self.tree(depth - 1, is_later)).collect();
            let join = self.pick(&["and", "or", "xone"]);
            return json!({join: parts});
        }
        match () {
            () if self.one_in(4) => self.settled(),
            () if is_later => self.released(),
            () => self.collected(),
        }
    }

    fn constraints(&mut self) -> Vec<Json> {
        let count = self.below(4);
        (0..count)
            .map(|_| {
                let is_later = self.one_in(4);
                self.tree(2, is_later)
            })
            .collect()
    }

    fn treatment(&mut self, action: &str, parameters: Vec<(&str, Json)>) -> Json {
        let points = self.pick(&["*", "A.*", "A.x", "B.y"]);
        let all = parameters.into_iter().chain([("dataField", json!(points))]);
        let refinement: Vec<Json> = all
            .map(|(name, value)| json!({"leftOperand": name, "operator": "eq", "rightOperand": value}))
            .collect();
        json!({"action": action, "refinement": refinement})
    }

    fn duties(&mut self) -> Vec<Json> {
        let mut duties = vec![json!({"action": "log"})];
        if self.one_in(8) {
            duties.push(self.treatment("drop", vec![]));
        }
        if self.one_in(4) {
            duties.push(self.treatment("mask", vec![]));
        }
        if self.one_in(4) {
            duties.push(self.treatment("clamp", vec![("low", json!("-1.5")), ("high", json!(30))]));
        }
        let coarser = match self.below(6) {
            0 => Some(("round", vec![("step", json!("0.5"))])),
            1 => Some(("bucket", vec![("edges", json!([0, 10, 20]))])),
            2 => {
                let axis = self.pick(&["latitude", "longitude"]);
                Some(("coarsenPosition", vec![("axis", json!(axis)), ("step_m", json!(500))]))
            }
            _ => None,
        };
        duties.extend(coarser.map(|(action, parameters)| self.treatment(action, parameters)));
        if self.one_in(6) {
            duties.push(self.treatment("delay", vec![("span", json!("PT30S"))]));
        }
        duties
    }

    /// A contract in our profile of ODRL; some are refused, for they make no sense.
    pub(crate) fn contract(&mut self, id: &str) -> Json {
        let mut uid = 0;
        let mut name = |kind: &str| {
            uid += 1;
            format!("{id}-{kind}{uid}")
        };
        let permissions: Vec<Json> = (0..=self.below(3))
            .map(|_| {
                let action = self.pick(&["deliver", "use", "deliver", "read"]);
                json!({"uid": name("p"), "action": action, "constraint": self.constraints(), "duty": self.duties()})
            })
            .collect();
        let prohibitions: Vec<Json> = (0..self.below(3))
            .map(|_| {
                let action = self.pick(&["deliver", "collect", "store", "sell", "transfer"]);
                json!({"uid": name("f"), "action": action, "constraint": self.constraints()})
            })
            .collect();
        let (from, until) = self.pick(&[
            ("2026-01-01T00:00:00Z", "2030-01-01T00:00:00Z"),
            ("2026-01-01T00:00:00Z", "2030-01-01T00:00:00Z"),
            ("2026-01-01T00:00:00Z", "2030-01-01T00:00:00Z"),
            ("2026-01-01T00:00:00Z", "2026-11-24T00:00:00Z"),
            ("2026-11-24T00:00:00Z", "2030-01-01T00:00:00Z"),
        ]);
        let mut object = json!({
            "@type": "Agreement", "@id": id, "profile": "urn:guankou:odrl:1", "version": 1,
            "assigner": "depot", "assignee": self.pick(&["x", "x", "y"]),
            "target": self.pick(&[json!("d"), json!("d"), json!(["d", "e"]), json!("e")]),
            "validity": {"notBefore": from, "notAfter": until},
            "permission": permissions, "prohibition": prohibitions,
        });
        if self.one_in(2) {
            object["purpose"] = json!(self.pick(&["risk", "risk.fleet", "riskless"]));
        }
        if self.one_in(2) {
            object["assigneeCountry"] = json!(self.pick(&["CN", "DE"]));
        }
        // An empty list of constraints is no list.
        for key in ["permission", "prohibition"] {
            for rule in object[key].as_array_mut().expect("a list") {
                if rule["constraint"].as_array().is_some_and(Vec::is_empty) {
                    rule.as_object_mut().expect("an object").remove("constraint");
                }
            }
        }
        object
    }

    pub(crate) fn situation(&mut self) -> Situation {
        let qualities = [ClockQuality::Unset, ClockQuality::Rtc, ClockQuality::Ntp];
        let quality = self.pick(&qualities);
        let monotonic = Duration::from_secs(self.dice.below(60));
        let now = Now { wall: WallTime::from_seconds(self.moment()), monotonic, quality };
        let mut situation = Situation::at(now);
        for second in [-50, -1, 0, 20] {
            if self.one_in(2) {
                let (latitude, longitude) =
                    self.pick(&[(31.2, 121.4), (31.21, 121.41), (40.0, 116.0)]);
                let position = Position::new(latitude, longitude).expect("on the globe");
                situation.track.note(WallTime::from_seconds(NOW_S + second), position);
            }
        }
        let booleans = [None, Some(true), Some(false)];
        situation.consent = self.pick(&booleans);
        situation.secure_boot = self.pick(&booleans);
        situation.link = self.pick(&[None, Some(LinkClass::Metered), Some(LinkClass::Unmetered)]);
        situation.attested = self.pick(&[None, Some(0), Some(1), Some(2)]);
        situation.release = self.pick(&["", "1.2", "1.9.1", "1.10"].map(ReleaseVersion::parse));
        let states = [VehicleState::Parked, VehicleState::Driving, VehicleState::Service];
        situation.vehicle = Some(self.pick(&states)).filter(|_| !self.one_in(4));
        situation
    }

    /// Few of the rows have the same answers; each comes a nanosecond after the one before it.
    pub(crate) fn rows(&mut self) -> Vec<Row> {
        let come_s = self.moment();
        // More than a block now and then.
        let count = if self.one_in(50) { 60 + self.below(90) } else { 1 + self.below(10) };
        (0..count).map(|place| self.row(come_s, place)).collect()
    }

    fn row(&mut self, come_s: i64, place: usize) -> Row {
        let place = i64::try_from(place).expect("few");
        let gateway_time = WallTime(WallTime::from_seconds(come_s).0 + place);
        let back = self.pick(&[0, 0, 1, 1_000_000_000, 60_000_000_000, 4_000_000_000_000, -5]);
        let source_time = Some(WallTime(gateway_time.0 - back)).filter(|_| !self.one_in(3));
        let severity = self.pick(&[Severity::Good, Severity::Uncertain, Severity::Bad]);
        let bits = ((severity as u16) << 14) | (self.pick(&[0, 1, 4, 9]) << 6);
        let quality =
            Quality::from_bits(bits).expect("a severity").with_flags(self.pick(&[0, 1, 8]));
        let point = PointId(self.pick(&[1, 1, 2, 3, 4, 9]));
        Row { point, source_time, gateway_time, quality, value: self.value() }
    }

    fn value(&mut self) -> Option<Value> {
        let whole = self.pick(&[0_i32, 1, -7, 29, 40, -500]);
        match self.below(12) {
            0 => None,
            1 => Some(Value::Bool(self.one_in(2))),
            2 => Some(Value::I64(i64::from(whole))),
            3 => Some(Value::U64(u64::from(whole.unsigned_abs()))),
            4 => Some(Value::F32(self.pick(&[1.5, 40.25, 0.0, f32::NAN]))),
            5 => Some(Value::F64(self.pick(&[1.5, 40.25, -0.0, f64::NAN, f64::INFINITY]))),
            6 => Some(Value::Bytes(self.secret_text().into_bytes().into())),
            7 | 8 => Some(Value::Text(self.secret_text())),
            _ => Some(Value::F64(self.secret_double(whole))),
        }
    }

    fn secret_text(&mut self) -> String {
        self.secrets += 1;
        format!("secret-{:016x}", Dice(self.secrets).roll())
    }

    /// A little more than a whole number, by an amount that no other value has.
    #[expect(clippy::cast_precision_loss, reason = "any double will do")]
    fn secret_double(&mut self, whole: i32) -> f64 {
        self.secrets += 1;
        f64::from(whole) + 0.1 + (Dice(self.secrets).roll() >> 24) as f64 / (1_u64 << 42) as f64
    }
}

fn moment_text(seconds: i64) -> String {
    let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let day = if day < NOW_S / 86_400 { "2026-11-23" } else { "2026-11-24" };
    format!("{day}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// Three points of `d` and one of `e`, and one of `d` for the results of groups.
pub(crate) fn points() -> Vec<PointDescriptor> {
    let point = |id: u32, name: &str, dataset: &str, class: Class, tags: &[Tag]| PointDescriptor {
        id: PointId(id),
        name: PointName::parse(name).expect("a valid name"),
        value_type: ValueType::F64,
        unit: Unit::one(),
        dataset: DatasetId::parse(dataset).expect("a valid name"),
        class,
        tags: tags.iter().copied().collect(),
    };
    vec![
        point(1, "A.x", "d", Class::General, &[]),
        point(2, "A.z", "d", Class::Important, &[Tag::Personal, Tag::TradeSecret]),
        point(3, "B.y", "d", Class::Core, &[Tag::PreciseLocation]),
        point(4, "A.x.e", "e", Class::General, &[Tag::Personal]),
        point(5, "G", "d", Class::General, &[]),
    ]
}

/// One collection of each kind is described, the others that contracts name are not.
pub(crate) fn collections() -> Collections {
    let one = |name: &str, members: &[&str]| {
        let members: BTreeSet<String> = members.iter().map(|one| (*one).to_owned()).collect();
        BTreeMap::from([(name.to_owned(), members)])
    };
    Collections { parties: one("insurers", &["x"]), datasets: one("group", &["d"]) }
}

/// The boot of readings, and one after it.
pub(crate) const BOOTS: [BootNumber; 2] = [BootNumber(1), BootNumber(2)];
