//! Contracts that count and remember, and readings over an hour or some days, drawn at random.

use super::dice::Dice;
use guan_model::{PointId, Quality, Reason, Row, Severity, Value, WallTime};
use guan_policy::Contract;
use serde_json::{Value as Json, json};

/// 2026-11-30T23:30:00Z: minutes, hours, days and a month end soon.
const START_S: i64 = 1_796_081_400;
pub(crate) const SECOND: i64 = 1_000_000_000;

/// Chooses contracts and readings.
pub(crate) struct Story(pub(crate) Dice);

impl Story {
    /// A number from 1 to a limit.
    pub(crate) fn up_to(&mut self, limit: usize) -> usize {
        1 + usize::try_from(self.0.below(limit as u64)).expect("below a usize")
    }

    pub(crate) fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        let place = self.0.below(all.len() as u64);
        all[usize::try_from(place).unwrap()].clone()
    }

    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.0.one_in(count)
    }

    fn counted(&mut self) -> Json {
        let (operand, units, limits): (_, &[&str], &[u64]) = match self.0.below(3) {
            0 => ("count", &["1", "1/min", "1/h", "1/d", "1/mo"], &[1, 3, 10, 40]),
            1 => ("dataSize", &["By", "By/min", "By/h", "By/d", "By/mo"], &[16, 50, 300, 900]),
            _ => ("rate", &["1/s", "1/min", "1/h", "1/d"], &[1, 2, 5, 30]),
        };
        let operator = if operand == "rate" { "lteq" } else { self.pick(&["lteq", "lt"]) };
        json!({"leftOperand": operand, "operator": operator, "rightOperand": self.pick(limits),
            "unit": self.pick(units)})
    }

    fn of_value(&mut self) -> Json {
        let (operator, limit) = (self.pick(&["lt", "gteq", "neq"]), self.pick(&[-10, 0, 25]));
        json!({"leftOperand": "value", "operator": operator, "rightOperand": limit})
    }

    fn constraints(&mut self) -> Vec<Json> {
        let mut all: Vec<Json> = Vec::new();
        for _ in 0..self.0.below(3) {
            all.push(self.counted());
        }
        if self.one_in(3) {
            let counted = json!({"leftOperand": "count", "operator": "lteq",
                "rightOperand": self.pick(&[2, 9]), "unit": self.pick(&["1", "1/min", "1/d"])});
            let parts = [counted, self.of_value()];
            let join = self.pick(&["or", "xone"]);
            all.push(json!({join: parts}));
        } else if self.one_in(3) {
            all.push(self.of_value());
        }
        all
    }

    fn duty(&mut self, action: &str, parameters: Json) -> Json {
        let points = self.pick(&["*", "*", "A.*", "A.x", "B.y"]);
        Self::duty_on(&json!(points), action, parameters)
    }

    /// What follows on a window: of a group it is done to all points, or to none.
    fn duty_after(&mut self, group: Option<&Json>, action: &str, parameters: Json) -> Json {
        let every = json!("*");
        match group {
            None => self.duty(action, parameters),
            Some(points) => {
                let points = self.pick(&[points, &every]);
                Self::duty_on(points, action, parameters)
            }
        }
    }

    /// A window of many points, or of each.
    fn aggregate(&mut self) -> (Json, Option<Json>) {
        let window = self.pick(&["PT1S", "PT10S", "PT1M", "PT1H"]);
        let statistic = self.pick(&["count", "min", "max", "mean"]);
        let contributors = self.pick(&[0, 1, 2, 4]);
        let mut by =
            json!({"window": window, "statistic": statistic, "contributors": contributors});
        if self.one_in(2) {
            return (self.duty("aggregate", by), None);
        }
        // Short windows end for want of room, with few points behind them.
        by["window"] = json!(self.pick(&["PT1S", "PT1M", "PT10M", "PT1H", "PT1H"]));
        let points = self.pick(&[json!("A.*"), json!(["A.*", "B.y"]), json!(["A.z", "B.y"])]);
        // Now and then there is no such point.
        by["into"] = json!(if self.one_in(12) { "H" } else { "G" });
        if self.one_in(2) {
            by["minContributors"] = json!(self.pick(&[2, 3]));
        }
        (Self::duty_on(&points, "aggregate", by), Some(points))
    }

    fn duty_on(points: &Json, action: &str, parameters: Json) -> Json {
        let parameters = parameters.as_object().unwrap().clone().into_iter();
        let all = parameters.chain([("dataField".to_owned(), json!(points))]);
        let refinement: Vec<Json> = all
            .map(|(name, value)| json!({"leftOperand": name, "operator": "eq", "rightOperand": value}))
            .collect();
        json!({"action": action, "refinement": refinement})
    }

    fn duties(&mut self) -> Vec<Json> {
        let mut duties = vec![json!({"action": "log"})];
        if self.one_in(12) {
            duties.push(self.duty("drop", json!({})));
        }
        if self.one_in(8) {
            duties.push(self.duty("mask", json!({})));
        }
        if self.one_in(3) {
            let one_of = self.pick(&[1, 2, 3, 7]);
            duties.push(self.duty("sample", json!({"oneOf": one_of})));
        }
        if self.one_in(4) {
            duties.push(self.duty("clamp", json!({"low": -10, "high": "25.5"})));
        }
        let mut group = None;
        if self.one_in(2) {
            let (duty, points) = self.aggregate();
            duties.push(duty);
            group = points;
        }
        let group = group.as_ref();
        // Means differ in their last bits, so that they are neither rounded nor named.
        let has_mean = duties.iter().any(|duty| duty.to_string().contains("\"mean\""));
        if !has_mean && self.one_in(4) {
            duties.push(self.duty_after(group, "round", json!({"step": "0.5"})));
        }
        if !has_mean && self.one_in(3) {
            duties.push(self.duty_after(group, "pseudonymise", json!({})));
        }
        if self.one_in(3) {
            duties.push(self.duty_after(group, "delay", json!({"span": "PT30S"})));
        }
        duties
    }

    pub(crate) fn contract(&mut self, id: &str, version: u64) -> Option<Contract> {
        let rule = |story: &mut Self, name: String, action: &str| {
            let mut rule = json!({"uid": name, "action": action});
            let constraints = story.constraints();
            if !constraints.is_empty() {
                rule["constraint"] = json!(constraints);
            }
            rule
        };
        let mut permissions = Vec::new();
        for place in 0..=self.0.below(2) {
            let mut permission = rule(self, format!("{id}-p{place}"), "deliver");
            permission["duty"] = json!(self.duties());
            permissions.push(permission);
        }
        let mut object = json!({
            "@type": "Agreement", "@id": id, "profile": "urn:guankou:odrl:1", "version": version,
            "assigner": "depot", "assignee": self.pick(&["x", "y"]), "target": "d",
            "validity": {"notBefore": "2026-01-01T00:00:00Z", "notAfter": "2030-01-01T00:00:00Z"},
            "permission": permissions,
        });
        if self.one_in(4) {
            let mut prohibition = rule(self, format!("{id}-f"), "collect");
            prohibition["constraint"] = json!([{"leftOperand": "count", "operator": "gt",
                "rightOperand": self.pick(&[5, 20]), "unit": self.pick(&["1", "1/h"])}]);
            object["prohibition"] = json!([prohibition]);
        }
        Contract::draft(object.to_string().as_bytes()).ok()
    }

    /// The contracts that are in force next: one is replaced, ended or new.
    pub(crate) fn other_contracts(&mut self, now: &[Contract], version: u64) -> Vec<Contract> {
        let id = self.pick(&["A", "B", "C"]);
        let is_it = |one: &&Contract| one.id().as_str() == id;
        let mut next: Vec<Contract> = now.iter().filter(|one| !is_it(one)).cloned().collect();
        if !self.one_in(4) {
            next.extend(self.contract(id, version));
        }
        next.sort_by(|a, b| a.id().cmp(b.id()));
        next
    }

    /// All readings of a story, in the order in which they come.
    pub(crate) fn rows(&mut self) -> Vec<Row> {
        let mut at = START_S * SECOND;
        let count = 10 + self.0.below(90);
        (0..count)
            .map(|place| {
                let seconds = self.pick(&[0, 0, 0, 1, 1, 3, 10, 40, 600, 1800]);
                at += if self.one_in(30) { 86_400 * SECOND } else { seconds * SECOND + 1 };
                self.row(WallTime(at), place)
            })
            .collect()
    }

    fn row(&mut self, gateway_time: WallTime, place: u64) -> Row {
        let back = self.pick(&[0, 0, 1, 5, 30, 70, 4000, -1, -50, -90]) * SECOND;
        let source_time = Some(WallTime(gateway_time.0 - back)).filter(|_| self.one_in(2));
        let severity =
            self.pick(&[Severity::Good, Severity::Good, Severity::Uncertain, Severity::Bad]);
        // A number that no other row of the point has, so that no sample is like another.
        let number = f64::from(i32::try_from(place).unwrap()) * 0.25 - 12.0;
        let value = match self.0.below(12) {
            0 => None,
            1 => Some(Value::Text(format!("text {place}"))),
            2 => Some(Value::F64(f64::NAN)),
            3 => Some(Value::Bool(true)),
            4 => Some(Value::I64(i64::try_from(place).unwrap() - 20)),
            _ => Some(Value::F64(number)),
        };
        let quality = Quality::new(severity, Reason::Ok);
        Row {
            point: PointId(self.pick(&[1, 1, 1, 2, 2, 3, 3, 5])),
            source_time,
            gateway_time,
            quality,
            value,
        }
    }
}
