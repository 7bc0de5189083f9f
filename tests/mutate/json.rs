//! Mutations of JSON documents that keep them JSON, or nearly: members and values change places, terms
//! become other terms, numbers grow, lists nest.

use super::Dice;
use serde_json::Value;

/// Words that mean something in a contract.
const TERMS: [&str; 68] = [
    "dataField",
    "dataset",
    "recipient",
    "purpose",
    "recipientCountry",
    "grade",
    "tag",
    "eventTime",
    "age",
    "spatial",
    "value",
    "quality",
    "count",
    "dataSize",
    "rate",
    "consent",
    "vehicleState",
    "dateTime",
    "timeWindow",
    "link",
    "attested",
    "secureBoot",
    "releaseMin",
    "clockQuality",
    "eq",
    "neq",
    "lt",
    "lteq",
    "gt",
    "gteq",
    "isA",
    "isAnyOf",
    "isAllOf",
    "isNoneOf",
    "isPartOf",
    "hasPart",
    "and",
    "or",
    "xone",
    "deliver",
    "use",
    "collect",
    "sell",
    "drop",
    "mask",
    "sample",
    "clamp",
    "aggregate",
    "noise",
    "round",
    "bucket",
    "coarsenPosition",
    "pseudonymise",
    "delay",
    "delete",
    "good",
    "bad",
    "driving",
    "metered",
    "hardware",
    "PT1M",
    "P1D",
    "2027-06-01T00:00:00Z",
    "A.*",
    "into",
    "minContributors",
    "minReadings",
    "C",
];
/// Words that mean something in a document of TC609-6-2025-14.
const TDS_TERMS: [&str; 60] = [
    "transform",
    "anonymize",
    "desensitize",
    "read",
    "storage",
    "compute",
    "plicyTransmit",
    "delivery",
    "sell",
    "logRecordSend",
    "delete",
    "alert",
    "compensate",
    "expansionItem",
    "policyExpansion",
    "contractExpansionItem",
    "urn:guankou:odrl:1",
    "time",
    "timeWindow",
    "region",
    "networkAddress",
    "count",
    "frequency",
    "dataSize",
    "dateRecord",
    "dataRecord",
    "dataField",
    "valueExpression",
    "application",
    "algorithm",
    "executionEnv",
    "encryptMode",
    "deliveryMethod",
    "payAmount",
    "01",
    "02",
    "0301",
    "05",
    "06",
    "07",
    "09",
    "11",
    "eq",
    "lteq",
    "20270601000000",
    "2027-06-01 00:00:00",
    "2027-06-01T00:00:00+08:00/2027-07-01T00:00:00Z",
    "08:00/18:00",
    "P1D",
    "PT1M",
    "10000 \u{6b21}/\u{5929}",
    "7 GiB/\u{6708}",
    "[A.x, B.*]",
    "02\u{ff1a}\u{6570}\u{636e}\u{6d41}",
    "310000",
    "{\"urn:guankou:odrl:1\":{\"zone\":\"UTC\"}}",
    "assignerId",
    "consumerNodeId",
    "indate",
    "strategy",
];
/// Texts that readers trip over.
const TEXTS: [&str; 12] = [
    "",
    "\u{0}",
    "\u{202e}abc",
    "\u{1f600}",
    "e\u{301}",
    "-0",
    "1e999",
    "9223372036854775808",
    "NaN",
    "P99999999999999999999D",
    "9999-12-31T23:59:60Z",
    "../../etc/passwd",
];
const NUMBERS: [&str; 12] = [
    "0",
    "-1",
    "1",
    "9007199254740991",
    "9007199254740992",
    "18446744073709551615",
    "-9223372036854775808",
    "1e400",
    "0.1",
    "-0",
    "340282366920938463463374607431768211456",
    "4097",
];

/// A document with one to three changes, mostly one: more would seldom leave a contract.
pub(crate) fn mutate(dice: &mut Dice, corpus: &[Value]) -> Vec<u8> {
    let mut document = corpus[dice.below(corpus.len())].clone();
    let terms: &[&str] = match document.get("contractId") {
        Some(_) => &TDS_TERMS,
        None => &TERMS,
    };
    let changes = 1 + dice.below(2) * dice.below(3);
    for _ in 0..changes {
        let other = &corpus[dice.below(corpus.len())];
        let donor = pick(dice, other).clone();
        let place = dice.below(count(&document));
        let mut left = place;
        change(dice, &mut document, &mut left, (&donor, terms));
    }
    let mut text = document.to_string();
    // What a value cannot hold is done to the text.
    match dice.below(8) {
        0 => number_for_token(dice, &mut text),
        1 => repeat_member(dice, &mut text),
        _ => {}
    }
    text.into_bytes()
}

/// Nodes of a tree.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(values) => values.iter().map(count).sum(),
        Value::Object(members) => members.values().map(count).sum(),
        _ => 0,
    }
}

fn pick<'v>(dice: &mut Dice, value: &'v Value) -> &'v Value {
    let mut at = value;
    loop {
        let next = match at {
            Value::Array(values) if !values.is_empty() => values.get(dice.below(values.len())),
            Value::Object(members) if !members.is_empty() => {
                members.values().nth(dice.below(members.len()))
            }
            _ => None,
        };
        match next {
            Some(next) if dice.below(4) > 0 => at = next,
            _ => return at,
        }
    }
}

/// Changes the node that is so many nodes further on; `left` is spent on the way.
fn change(dice: &mut Dice, value: &mut Value, left: &mut usize, with: (&Value, &[&str])) {
    if *left == 0 {
        *left = usize::MAX;
        return change_here(dice, value, with);
    }
    *left -= 1;
    let values: Vec<&mut Value> = match value {
        Value::Array(values) => values.iter_mut().collect(),
        Value::Object(members) => members.values_mut().collect(),
        _ => return,
    };
    for value in values {
        change(dice, value, left, with);
        if *left == usize::MAX {
            return;
        }
    }
}

fn change_here(dice: &mut Dice, value: &mut Value, (donor, terms): (&Value, &[&str])) {
    match (dice.below(9), &mut *value) {
        (0 | 1, Value::String(_)) => *value = Value::from(terms[dice.below(terms.len())]),
        (2, _) => *value = Value::from(TEXTS[dice.below(TEXTS.len())]),
        (3, Value::Object(members)) if !members.is_empty() => {
            let key = members.keys().nth(dice.below(members.len())).cloned();
            members.remove(&key.expect("below the count"));
        }
        (4, Value::Object(members)) if !members.is_empty() => {
            let key = members.keys().nth(dice.below(members.len())).cloned();
            let moved = members.remove(&key.expect("below the count")).expect("it is there");
            members.insert(terms[dice.below(terms.len())].to_owned(), moved);
        }
        (3 | 4, Value::Array(values)) if !values.is_empty() => {
            let at = dice.below(values.len());
            let again = values[at].clone();
            values.splice(at..at, vec![again; dice.below(4)]);
        }
        (5, _) => {
            let depth = 1 + dice.below(24);
            let join = ["and", "or", "xone"][dice.below(3)];
            for _ in 0..depth {
                let inner = value.take();
                *value = serde_json::json!({join: [inner]});
            }
        }
        (6, _) => *value = Value::Array(vec![value.take()]),
        (0 | 1 | 7, Value::Number(number)) => {
            let number = number.as_i64().unwrap_or(0);
            *value = Value::from(number.wrapping_mul(1 << dice.below(60)).wrapping_add(1));
        }
        _ => *value = donor.clone(),
    }
}

/// Puts a number in place of some value of the text.
fn number_for_token(dice: &mut Dice, text: &mut String) {
    let colons: Vec<usize> = text.match_indices("\":").map(|(at, _)| at + 2).collect();
    let Some(at) = colons.get(dice.below(colons.len())) else { return };
    let rest = &text[*at..];
    let length = rest.find([',', '}', ']']).unwrap_or(rest.len());
    text.replace_range(*at..*at + length, NUMBERS[dice.below(NUMBERS.len())]);
}

/// Writes a member of an object twice.
fn repeat_member(dice: &mut Dice, text: &mut String) {
    let commas: Vec<usize> = text.match_indices(",\"").map(|(at, _)| at).collect();
    let Some(from) = commas.get(dice.below(commas.len())).copied() else { return };
    let length = text[from + 1..].find([',', '}', ']']).map_or(0, |length| length + 1);
    let member = text[from..from + length].to_owned();
    text.insert_str(from, &member);
}
