//! What a contract keeps in is in no bytes that leave, whatever else contracts allow and do: values that
//! occur nowhere else are put behind each kind of guard, and everything that leaves is searched for them.

use super::draw::{BOOTS, Draw, collections, points};
use guan_model::{
    Batch, BatchHeader, ClockQuality, DatasetId, DescriptorTable, PointId, Quality, Row, Value,
    WallTime,
};
use guan_policy::{Contract, Means, Permitted, Plan, Situation, Usage};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Each with every guard, and once without; a tenth of `GUAN_REFERENCE_CASES`.
const CASES: u64 = 1_200;
/// The point whose values are guarded.
const GUARDED: &str = "A.z";
const GUARDED_ID: PointId = PointId(2);

/// How a value is kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Guard {
    /// The control.
    None,
    Prohibited,
    /// By another contract of the consumer.
    ProhibitedElsewhere,
    /// By its value: large numbers, and what is no number.
    ProhibitedValue,
    NotPermitted,
    Dropped,
    Masked,
    /// Numbers become edges of buckets; what is no number loses itself.
    Coarse,
    Named,
    Counted,
    /// With others, which alone do not tell what it was.
    Grouped,
    Noisy,
}

const GUARDS: [Guard; 11] = [
    Guard::Prohibited,
    Guard::ProhibitedElsewhere,
    Guard::ProhibitedValue,
    Guard::NotPermitted,
    Guard::Dropped,
    Guard::Masked,
    Guard::Coarse,
    Guard::Named,
    Guard::Counted,
    Guard::Grouped,
    Guard::Noisy,
];

fn refined(action: &str, parameters: &[(&str, &str)]) -> Json {
    let all = parameters.iter().chain(&[("dataField", GUARDED)]);
    let refinement: Vec<Json> = all
        .map(|(name, value)| json!({"leftOperand": name, "operator": "eq", "rightOperand": value}))
        .collect();
    json!({"action": action, "refinement": refinement})
}

fn bucket() -> Json {
    let edges = json!({"leftOperand": "edges", "operator": "eq", "rightOperand": [0, 5_000_000]});
    let mut duty = refined("bucket", &[]);
    push(&mut duty, "refinement", edges);
    duty
}

fn test(left: &str, operator: &str, right: &Json) -> Json {
    json!({"leftOperand": left, "operator": operator, "rightOperand": right})
}

fn push(rule: &mut Json, key: &str, value: Json) {
    match rule.get_mut(key).and_then(Json::as_array_mut) {
        Some(list) => list.push(value),
        None => rule[key] = json!([value]),
    }
}

impl Guard {
    fn put_on(self, object: &mut Json, action: &str) {
        let of_point = test("dataField", "isAnyOf", &json!([GUARDED]));
        let of_value = test("value", "gteq", &json!(1_000_000));
        let forbid = |object: &mut Json, constraint: Json| {
            let rule = json!({"uid": "guard", "action": action, "constraint": [constraint]});
            push(object, "prohibition", rule);
        };
        let duties: Vec<Json> = match self {
            Self::None | Self::ProhibitedElsewhere => return,
            Self::Prohibited => return forbid(object, of_point),
            Self::ProhibitedValue => return forbid(object, of_value),
            Self::NotPermitted => vec![],
            Self::Dropped => vec![refined("drop", &[])],
            Self::Masked => vec![refined("mask", &[])],
            Self::Coarse => vec![bucket()],
            Self::Named => vec![refined("pseudonymise", &[])],
            Self::Counted => {
                vec![refined("aggregate", &[("window", "PT1M"), ("statistic", "count")])]
            }
            Self::Grouped => {
                let by = [("window", "PT1M"), ("statistic", "max"), ("into", "G")];
                vec![refined("aggregate", &by)]
            }
            Self::Noisy => vec![
                refined("clamp", &[("low", "0"), ("high", "10000000")]),
                refined("noise", &[("mechanism", "laplace"), ("epsilon", "0.1"), ("budget", "1")]),
            ],
        };
        for permission in object["permission"].as_array_mut().expect("a list") {
            if self == Self::NotPermitted {
                let others = test("dataField", "isNoneOf", &json!([GUARDED]));
                push(permission, "constraint", others);
            }
            duties.iter().for_each(|duty| push(permission, "duty", duty.clone()));
        }
    }
}

/// Values that occur nowhere else: doubles of odd bits, none with a payload, texts, bytes, integers.
fn markers(seed: u64, guard: Guard) -> Vec<Value> {
    let odd = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) & 0x0007_FFFF_FFFF_FFFF;
    let double = |high: u64| Value::F64(f64::from_bits(high | odd | 1));
    let mut markers = vec![
        // From 1,000,000 to 10,000,000, and near the largest.
        double(0x4140_0000_0000_0000),
        double(0x7FD0_0000_0000_0000),
        Value::Text(format!("marker {odd:016x}")),
        Value::Bytes(format!("\u{1}marker\u{2}{odd:016x}").into_bytes().into()),
        Value::I64((odd | 0x0100_0000_0000_0000).cast_signed()),
        Value::U64(odd | 0xE100_0000_0000_0000),
    ];
    if guard != Guard::ProhibitedValue {
        // Small, subnormal, none: no limit of a value is about them.
        let small = [0x3FE0_0000_0000_0000, 0, 0x7FF8_0000_0000_0000, 0xFFF8_0000_0000_0000];
        markers.extend(small.map(double));
    }
    markers
}

/// How a marker may stand in bytes.
fn patterns(marker: &Value) -> Vec<Vec<u8>> {
    let number = |bits: u64| vec![bits.to_le_bytes().to_vec(), bits.to_be_bytes().to_vec()];
    match marker {
        Value::F64(value) => {
            let mut all = number(value.to_bits());
            if value.is_finite() {
                all.push(value.to_string().into_bytes());
            }
            all
        }
        Value::I64(value) => {
            [number(value.cast_unsigned()), vec![value.to_string().into_bytes()]].concat()
        }
        Value::U64(value) => [number(*value), vec![value.to_string().into_bytes()]].concat(),
        Value::Text(text) => vec![text.as_bytes().to_vec()],
        Value::Bytes(bytes) => vec![bytes.to_vec()],
        other => unreachable!("{other:?} is no marker"),
    }
}

fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::F64(a), Value::F64(b)) => a.to_bits() == b.to_bits(),
        (a, b) => a == b,
    }
}

/// Draws until a contract makes sense.
const TRIES: usize = 16;

#[derive(Debug, Clone, Copy, Default)]
struct Found {
    /// Batches that left at all.
    batches: u64,
    as_values: u64,
    /// In the bytes, packed or not; pco columns hold numbers in pieces.
    as_bytes: u64,
}

fn search(permitted: &[Permitted], markers: &[Value], found: &mut Found) {
    for one in permitted {
        found.batches += 1;
        let encoded = guan_codec::encode(&one.batch).bytes;
        let plain = guan_codec::plain(&encoded).unwrap();
        let terms = one.terms.encode();
        let decoded = guan_codec::decode(&encoded).unwrap().batch;
        let values: Vec<Value> = decoded.iter_rows().filter_map(|row| row.value).collect();
        for marker in markers {
            found.as_values += u64::from(values.iter().any(|value| is_same(value, marker)));
            let is_in = |bytes: &[u8]| {
                let patterns = patterns(marker);
                patterns.iter().any(|pattern| bytes.windows(pattern.len()).any(|at| at == pattern))
            };
            found.as_bytes += u64::from([&encoded[..], &plain, &terms].into_iter().any(is_in));
        }
    }
}

/// Readings of all points, those of the guarded one with the markers among others.
fn rows(draw: &mut Draw, markers: &[Value]) -> Vec<Row> {
    let mut rows = draw.rows();
    rows.retain(|row| row.point != GUARDED_ID);
    let at = rows.first().map_or(WallTime(0), |row| row.gateway_time);
    let marked = (0..).zip(markers).map(|(place, marker)| Row {
        point: GUARDED_ID,
        source_time: None,
        gateway_time: WallTime(at.0 + place),
        quality: Quality::GOOD,
        value: Some(marker.clone()),
    });
    rows.extend(marked);
    rows
}

/// The same story with one guard; `None`: the contracts make no sense with it.
fn run(seed: u64, guard: Guard, table: &DescriptorTable) -> Option<Found> {
    let mut draw = Draw::new(seed);
    let actions = ["collect", "store", "deliver"];
    let mut contracts = Vec::new();
    for id in ["A", "B"] {
        // Many draws contradict themselves, with a guard more than without.
        let contract = (0..TRIES).find_map(|_| {
            let mut object = draw.contract(id);
            if guard == Guard::None {
                // So that there is something to find.
                push(&mut object, "permission", json!({"uid": "open", "action": "deliver"}));
            }
            guard.put_on(&mut object, actions[usize::try_from(seed % 3).unwrap()]);
            Contract::draft(object.to_string().as_bytes()).ok()
        });
        contracts.push(contract?);
    }
    if guard == Guard::ProhibitedElsewhere {
        for consumer in ["x", "y"] {
            let mut object = draw.contract(&format!("guard-{consumer}"));
            object["assignee"] = json!(consumer);
            object["target"] = json!("d");
            object["validity"] =
                json!({"notBefore": "2026-01-01T00:00:00Z", "notAfter": "2030-01-01T00:00:00Z"});
            object["permission"] = json!([{"uid": "p", "action": "read"}]);
            Guard::Prohibited.put_on(&mut object, actions[usize::try_from(seed % 3).unwrap()]);
            contracts.push(Contract::draft(object.to_string().as_bytes()).ok()?);
        }
    }
    let plan = Plan::compile_with(&contracts, table, &collections());
    let markers = markers(seed, guard);
    let (mut usage, mut state) = (Usage::default(), seed);
    let mut entropy = move || {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
        state ^ (state >> 29)
    };
    let key = |_: &_| Some([3; 32]);
    let mut means =
        Means { pseudonym_key: &key, boot: BOOTS[0], ..Means::plain(&mut usage, &mut entropy) };
    let header = BatchHeader {
        dataset: DatasetId::parse("d").unwrap(),
        contract: None,
        descriptors: table.digest(),
        boot: BOOTS[0],
        monotonic: Duration::ZERO,
        clock_quality: ClockQuality::Rtc,
    };
    let mut found = Found::default();
    let mut situation: Option<Situation> = None;
    for _ in 0..2 {
        let comes = draw.situation();
        let batch = Batch::from_rows(header.clone(), rows(&mut draw, &markers)).unwrap();
        let decision = plan.decide(&comes, &mut means, batch);
        search(&decision.permitted, &markers, &mut found);
        situation = Some(comes);
    }
    let mut later = situation?;
    later.now.wall = later.now.wall.saturating_add(Duration::from_secs(86_400));
    let flushed = plan.flush(&later, &mut means, |_| header.clone());
    search(&flushed.permitted, &markers, &mut found);
    Some(found)
}

#[test]
fn what_is_kept_in_is_in_no_bytes_that_leave() {
    let table = DescriptorTable::new(points()).unwrap();
    let count = std::env::var("GUAN_REFERENCE_CASES").ok().and_then(|text| text.parse().ok());
    let count = count.map_or(CASES, |count: u64| count.div_ceil(10));
    let mut tally: BTreeMap<Guard, (u64, Found)> = BTreeMap::new();
    for seed in 0..count {
        for guard in GUARDS.into_iter().chain([Guard::None]) {
            let Some(found) = run(seed, guard, &table) else { continue };
            if guard != Guard::None {
                let leaks = (found.as_values, found.as_bytes);
                assert_eq!(leaks, (0, 0), "seed {seed}: {guard:?} lets markers out");
            }
            let (cases, sum) = tally.entry(guard).or_default();
            *cases += 1;
            sum.batches += found.batches;
            sum.as_values += found.as_values;
            sum.as_bytes += found.as_bytes;
        }
    }
    println!("{tally:?}");
    let (cases, control) = tally[&Guard::None];
    assert!(control.as_values > cases && control.as_bytes > cases, "the search finds nothing");
    for guard in GUARDS {
        let (cases, found) = tally[&guard];
        assert!(cases * 4 > count && found.batches * 4 > cases, "{guard:?} was hardly tried");
    }
}
