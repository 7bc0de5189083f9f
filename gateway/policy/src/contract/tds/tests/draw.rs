//! Contracts in our profile of ODRL drawn at random, with every operand, operator, action and duty that
//! the profile has; about half make sense.

use crate::action::Action;
use crate::constraint::Foreign;
use crate::contract::tds::identifier::tests::identifier;
use serde_json::{Value as Json, json};

/// Splitmix64 (Steele, Lea, Flood 2014).
pub(super) struct Draw(pub(super) u64);

/// Parameters of every duty, in spellings that a person may use.
const SPANS: [&str; 5] = ["PT1S", "PT90M", "P1D", "P1DT2H3M4S", "P365D"];
const DECIMALS: [&str; 8] = ["0.5", "1", "-40.25", "007", ".125", "1e3", "31.23040", "9999999"];

const COMPARE: [&str; 7] = ["eq", "neq", "lt", "lteq", "gt", "gteq", "odrl:lt"];
const NAMES: [&str; 6] = ["eq", "neq", "isA", "isAnyOf", "isNoneOf", "isPartOf"];
const INSIDE: [&str; 4] = ["isPartOf", "eq", "isNoneOf", "neq"];

impl Draw {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % bound as u64).unwrap()
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    fn some(&mut self, all: &[&str]) -> Json {
        let (one, other) = (self.pick(all), self.pick(all));
        if one == other { json!(one) } else { json!([one, other]) }
    }

    fn decimal(&mut self) -> Json {
        match self.below(3) {
            0 => json!(i64::try_from(self.below(1000)).unwrap() - 500),
            1 => json!(format!("{}.{:03}", self.below(180), self.below(1000))),
            _ => json!(self.pick(&DECIMALS)),
        }
    }

    fn positive(&mut self) -> Json {
        json!(format!("{}.{:02}1", self.below(90), self.below(100)))
    }

    fn moment(&mut self) -> Json {
        let all = [
            "2026-06-01T00:00:00Z",
            "2027-01-31T23:59:59.123456789Z",
            "2028-02-29T12:00:00.5Z",
            "2026-11-24T08:00:00Z",
        ];
        json!(self.pick(&all))
    }

    fn span(&mut self) -> Json {
        json!(self.pick(&SPANS))
    }

    fn test(&mut self, left: &str, operators: &[&str], right: Json) -> Json {
        json!({"leftOperand": left, "operator": self.pick(operators), "rightOperand": right})
    }

    fn counted(&mut self, left: &str, units: &[&str]) -> Json {
        let right = match self.below(3) {
            0 => json!((1_u64 << 53).to_string()),
            1 => json!("17"),
            _ => json!(self.below(1_000_000) + 1),
        };
        let mut test = self.test(left, &["lteq", "11"], right);
        if self.one_in(2) || left == "rate" {
            test["unit"] = json!(self.pick(units));
        }
        test
    }

    /// One test; `later` of what is asked at leaving.
    fn leaf(&mut self, later: bool) -> Json {
        match () {
            () if self.one_in(2) => self.settled(),
            () if later => self.released(),
            () => self.collected(),
        }
    }

    fn settled(&mut self) -> Json {
        match self.below(8) {
            0 => self.test("dataField", &NAMES, json!(["A.x", "B.*"])),
            1 => self.test("dataset", &NAMES, json!(["d", "group"])),
            2 => self.test("recipient", &["isPartOf", "isNoneOf"], json!(["x", "insurers"])),
            3 => self.test("purpose", &NAMES[..3], json!("risk.fleet")),
            4 => self.test("recipientCountry", &["isAnyOf", "isNoneOf"], json!(["CN", "DE"])),
            5 => {
                let class = self.pick(&[json!(2), json!("general"), json!("\u{6838}\u{5fc3}")]);
                self.test("grade", &COMPARE, class)
            }
            6 => {
                let tags = self.some(&["personal", "trade-secret", "precise-location"]);
                self.test("tag", &["isAnyOf", "isAllOf", "isNoneOf", "hasPart"], tags)
            }
            _ => {
                let codes = self.some(&["01", "02", "03", "04"]);
                self.test("deliveryMethod", &["isAnyOf", "isNoneOf"], codes)
            }
        }
    }

    fn collected(&mut self) -> Json {
        let (decimal, moment, span) = (self.decimal(), self.moment(), self.span());
        match self.below(8) {
            0 => self.test("eventTime", &COMPARE, moment),
            1 => self.test("age", &COMPARE, span),
            2 => {
                let latitude = self.positive();
                let areas = [
                    json!({"type": "circle", "latitude": latitude, "longitude": "121.4",
                        "radius_m": 800, "datum": "CGCS2000"}),
                    json!({"type": "polygon", "vertices": [[31, 121], ["31.5", "-0"], [32, 121]]}),
                ];
                let area = self.pick(&areas);
                self.test("spatial", &INSIDE, area)
            }
            3 => self.test("value", &COMPARE, decimal),
            4 => {
                let word = self.pick(&["good", "uncertain", "bad"]);
                self.test("quality", &COMPARE, json!(word))
            }
            5 => {
                let is = self.one_in(2);
                self.test("consent", &["eq", "neq"], json!(is))
            }
            6 => match self.below(3) {
                0 => self.counted("count", &["1", "1/min", "1/h", "1/d", "1/mo"]),
                1 => self.counted("dataSize", &["By", "By/min", "By/h", "By/d", "By/mo"]),
                _ => json!({"leftOperand": "frequency", "operator": "lteq",
                    "rightOperand": self.below(1000) + 1,
                    "unit": self.pick(&["1/s", "1/min", "1/h", "1/d"])}),
            },
            _ => {
                let states = self.some(&["parked", "driving", "charging", "service"]);
                self.test("vehicleState", &["isAnyOf", "isNoneOf"], states)
            }
        }
    }

    fn released(&mut self) -> Json {
        match self.below(7) {
            0 => {
                let moment = self.moment();
                self.test("dateTime", &COMPARE, moment)
            }
            1 => {
                let hours = [
                    json!({"from": "08:00", "until": "18:00", "zone": "Asia/Shanghai"}),
                    json!({"from": "22:30", "until": "06:00", "zone": "UTC", "weekdays": "sun"}),
                    json!({"from": "00:00", "until": "24:00", "zone": "Europe/Berlin",
                        "weekdays": ["mon", "wed"]}),
                ];
                let hours = self.pick(&hours);
                self.test("timeWindow", &INSIDE, hours)
            }
            2 => self.test("link", &["eq", "neq", "isA"], json!("metered")),
            3 => {
                let tier = self.pick(&["unattested", "emulated", "hardware"]);
                self.test("attested", &COMPARE, json!(tier))
            }
            4 => self.test("secureBoot", &["eq", "neq"], json!("true")),
            5 => {
                let version = self.pick(&["1", "1.10", "0.0.0.7", "2.0.0", "0"]);
                self.test("releaseMin", &COMPARE, json!(version))
            }
            _ => {
                let quality = self.pick(&["unset", "rtc", "ntp", "authenticated", "witnessed"]);
                self.test("clockQuality", &COMPARE, json!(quality))
            }
        }
    }

    fn foreign(&mut self) -> Json {
        let all: Vec<Foreign> = Foreign::all().collect();
        let foreign = self.pick(&all);
        let value = match foreign {
            Foreign::ExecutionEnv => self.some(&["01", "02", "07"]),
            Foreign::EncryptMode => json!(self.pick(&["01", "02", "03"])),
            Foreign::PayAmount => json!("100.00 CNY"),
            _ => self.some(&["10.0.0.0/8", "\u{7b97}\u{6cd5}", "x y"]),
        };
        self.test(foreign.name(), &["eq", "isA", "isAnyOf", "hasPart", "isAllOf", "06"], value)
    }

    fn tree(&mut self, depth: usize, later: bool) -> Json {
        if depth == 0 || self.one_in(2) {
            return self.leaf(later);
        }
        let parts: Vec<Json> = (0..=self.below(3)).map(|_| self.tree(depth - 1, later)).collect();
        json!({self.pick(&["and", "or", "xone"]): parts})
    }

    fn constraints(&mut self, is_foreign: bool) -> Vec<Json> {
        let count = self.below(4);
        let mut all: Vec<Json> = (0..count)
            .map(|_| {
                let later = self.one_in(3);
                self.tree(2, later)
            })
            .collect();
        if is_foreign && self.one_in(2) {
            all.push(self.foreign());
        }
        all
    }

    fn action(&mut self, name: &str, parameters: Vec<(&str, Json)>) -> Json {
        let mut refinement: Vec<Json> = parameters
            .into_iter()
            .map(|(name, value)| json!({"leftOperand": name, "operator": "eq", "rightOperand": value}))
            .collect();
        if self.one_in(2) && refinement.len() > 1 {
            refinement.reverse();
        }
        match refinement.is_empty() {
            true => json!({"action": name}),
            false => json!({"action": name, "refinement": refinement}),
        }
    }

    fn treatment(&mut self) -> Json {
        let points = self.pick(&[json!("*"), json!(["A.*", "B.y"]), json!("A.x"), json!(["A.x"])]);
        let mut with = match self.one_in(3) {
            true => Vec::new(),
            false => vec![("dataField", points)],
        };
        let (name, more) = match self.below(12) {
            0 => ("drop", vec![]),
            1 => ("mask", vec![]),
            2 => ("pseudonymise", vec![]),
            3 => ("sample", vec![("oneOf", json!(self.below(100) + 1))]),
            4 => ("clamp", vec![("low", json!("-40.5")), ("high", self.positive())]),
            5 => (
                "aggregate",
                vec![
                    ("window", self.span()),
                    ("statistic", json!(self.pick(&["count", "mean", "p05", "p99"]))),
                    ("contributors", json!(self.pick(&["0", "1", "18446744073709551615"]))),
                ],
            ),
            6 => ("noise", self.noise()),
            7 => ("round", vec![("step", self.positive())]),
            8 => ("bucket", vec![("edges", json!([-1, "0.5", 10]))]),
            9 => {
                let mut all = vec![
                    ("axis", json!(self.pick(&["latitude", "longitude"]))),
                    ("step_m", json!(self.below(900) + 1)),
                ];
                if self.one_in(2) {
                    all.push(("referenceLatitude", json!("31.2")));
                }
                ("coarsenPosition", all)
            }
            10 => {
                with = vec![("dataField", json!(["A.*", "B.y"]))];
                let mut all = vec![
                    ("window", self.span()),
                    ("statistic", json!(self.pick(&["count", "p95"]))),
                    ("into", json!(self.pick(&["G", "B.z"]))),
                ];
                if self.one_in(2) {
                    all.push(("minContributors", json!(self.pick(&["2", "1024"]))));
                }
                ("aggregate", all)
            }
            _ => ("delay", vec![("span", self.span())]),
        };
        with.extend(more);
        self.action(name, with)
    }

    fn noise(&mut self) -> Vec<(&'static str, Json)> {
        let micro = format!("0.{:06}", self.below(999_999) + 1);
        let mut all = vec![
            ("epsilon", json!(micro)),
            ("budget", json!(self.pick(&["1", "1000", "3.14159265"]))),
        ];
        if self.one_in(2) {
            all.push(("period", json!(self.pick(&["total", "hour", "day", "month"]))));
        }
        match self.one_in(2) {
            true => all.push(("mechanism", json!("laplace"))),
            false => all.extend([
                ("mechanism", json!("gaussian")),
                ("delta", json!(self.pick(&["0.1", "0.000000000001", "0.0123"]))),
            ]),
        }
        all
    }

    fn duty(&mut self) -> Json {
        let (name, parameters) = match self.below(8) {
            0 => ("delete", vec![("after", self.span())]),
            1 => ("delete", vec![("by", self.moment())]),
            2 => ("retain", vec![("atLeast", self.span())]),
            3 => (
                "notify",
                vec![
                    ("target", json!("ops@depot.example")),
                    ("on", json!(self.pick(&["deny", "quota", "use"]))),
                ],
            ),
            4 => ("acknowledgeUse", vec![("every", self.span())]),
            5 => ("log", vec![]),
            6 => ("policyTransmit", vec![]),
            _ => ("compensate", vec![]),
        };
        self.action(name, parameters)
    }

    fn duties(&mut self) -> Vec<Json> {
        (0..self.below(4)).map(|_| self.duty()).collect()
    }

    fn actions(&mut self, far: bool) -> Json {
        let near = ["deliver", "use", "collect", "store"];
        let names: Vec<&str> = Action::all().map(Action::name).collect();
        let count = self.below(3) + 1;
        let all: Vec<&str> = (0..count)
            .map(|_| if far || self.one_in(3) { self.pick(&names) } else { self.pick(&near) })
            .filter(|name| !far || !near.contains(name))
            .collect();
        if all.is_empty() { json!("read") } else { json!(all) }
    }

    fn rule(&mut self, uid: String, duties_key: &str) -> Json {
        let far = self.one_in(3);
        let mut rule = json!({"action": self.actions(far)});
        if self.one_in(2) {
            rule["uid"] = json!(uid);
        }
        let constraints = self.constraints(far);
        if !constraints.is_empty() {
            rule["constraint"] = json!(constraints);
        }
        let mut duties = self.duties();
        if duties_key == "duty" {
            duties.extend((0..self.below(3)).map(|_| self.treatment()));
        }
        if !duties.is_empty() {
            rule[duties_key] = json!(duties);
        }
        rule
    }

    pub(super) fn contract(&mut self) -> Json {
        let id = match self.one_in(2) {
            true => "depot-2026-01".to_owned(),
            false => identifier(u32::try_from(self.roll() >> 32).unwrap())
                .contract_id()
                .unwrap()
                .to_string(),
        };
        let permissions = self.below(4);
        let prohibitions = self.below(3);
        let rules = |draw: &mut Self, count: usize, name: &str, key: &str| -> Vec<Json> {
            (0..count).map(|place| draw.rule(format!("{name}{place}"), key)).collect()
        };
        let mut out = json!({
            "@type": "Agreement", "@id": format!("urn:contract:{id}"),
            "profile": "urn:guankou:odrl:1", "version": self.below(9) + 1,
            "assigner": "depot-7", "assignee": self.pick(&["x", "insurer-1"]),
            "target": self.pick(&[json!("d"), json!(["d", "e"])]),
            "validity": {"notBefore": "2026-01-01T00:00:00Z", "notAfter": "2030-01-01T00:00:00.25Z"},
            "permission": rules(self, permissions, "p", "duty"),
            "prohibition": rules(self, prohibitions, "f", "remedy"),
        });
        let duties = self.duties();
        let optional = [
            ("title", json!("\u{7269}\u{6d41}\u{67a2}\u{7ebd}")),
            ("purpose", json!("risk.fleet")),
            ("assigneeCountry", json!("CN")),
            ("lease", json!({"maxOffline": "PT1H", "onEarlyEnd": "send"})),
            ("price", json!({"amount": "100.00", "list": [1, {"a": true}]})),
            ("metering", json!("monthly")),
            ("timestamp", json!("2026-01-01T00:00:00.75Z")),
            ("obligation", json!(duties)),
            ("particulars", self.particulars()),
        ];
        for (key, value) in optional {
            let is_empty = value.as_array().is_some_and(Vec::is_empty);
            if !is_empty && self.one_in(2) {
                out[key] = value;
            }
        }
        out
    }

    fn particulars(&mut self) -> Json {
        let all = [
            ("summary", json!("\u{7b80}\u{4ecb}")),
            ("created", json!("20251224080000")),
            ("signMode", json!(self.pick(&["01", "02"]))),
            ("assigner", json!({"name": "Depot", "node": "box-7", "nodeName": "Box"})),
            ("assignee", json!({"node": self.pick(&["x", "node-9"])})),
            ("products", json!([{"dataset": "d", "name": "D", "owner": "depot-7"}])),
        ];
        let mut out = json!({});
        for (key, value) in all {
            if self.one_in(2) {
                out[key] = value;
            }
        }
        out
    }
}
