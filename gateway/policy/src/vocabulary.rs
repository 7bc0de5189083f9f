//! The words that a contract may use, and the published files made from them: JSON Schema and JSON-LD
//! context. Made from the tables that the reader uses, so they cannot say something else.

use crate::action::Action;
use crate::constraint::{Foreign, Operator, operand_names};
use crate::contract::odrl::CONTEXTS;
use crate::contract::{NAMESPACE, PROFILE, tds};
use serde_json::{Map, Value, json};

/// Where the published files live.
const SCHEMA_ID: &str = "urn:guankou:odrl:1:schema";
/// Operands that are ODRL 2.2's own; the others are of our profile.
const ODRL_OPERANDS: [&str; 7] =
    ["count", "dateTime", "purpose", "recipient", "spatial", "industry", "event"];
/// Actions that are ODRL 2.2's own.
const ODRL_ACTIONS: [&str; 22] = [
    "use",
    "transfer",
    "read",
    "modify",
    "delete",
    "reproduce",
    "print",
    "display",
    "distribute",
    "aggregate",
    "anonymize",
    "derive",
    "index",
    "execute",
    "sell",
    "give",
    "grantUse",
    "inform",
    "compensate",
    "stream",
    "play",
    "present",
];

/// Members of a contract that are of our profile.
const OWN_MEMBERS: [&str; 22] = [
    "version",
    "title",
    "assigneeCountry",
    "validity",
    "notBefore",
    "notAfter",
    "lease",
    "maxOffline",
    "graceDelivery",
    "onEarlyEnd",
    "price",
    "metering",
    "timestamp",
    "particulars",
    "summary",
    "created",
    "signMode",
    "products",
    "name",
    "node",
    "nodeName",
    "owner",
];

/// A duty, its parameters, and what it does, in English and Chinese.
#[derive(Debug, Clone, Copy)]
pub struct DutyWord {
    pub name: &'static str,
    pub required: &'static [&'static str],
    pub optional: &'static [&'static str],
    pub english: &'static str,
    pub chinese: &'static str,
}

const fn word(
    name: &'static str,
    required: &'static [&'static str],
    optional: &'static [&'static str],
    english: &'static str,
    chinese: &'static str,
) -> DutyWord {
    DutyWord { name, required, optional, english, chinese }
}

/// In the order in which transformations are done; duties after sending follow.
pub const DUTIES: [DutyWord; 18] = [
    word("drop", &[], &["dataField"], "the rows do not leave", "不输出"),
    word("mask", &[], &["dataField"], "the rows leave without value", "屏蔽数值"),
    word("sample", &["oneOf"], &["dataField"], "one of so many rows leaves", "抽样"),
    word("clamp", &["low", "high"], &["dataField"], "values move into a range", "限幅"),
    word(
        "aggregate",
        &["window", "statistic"],
        &["minReadings", "contributors", "into", "minContributors", "dataField"],
        "one row a window and point leaves, if so many of its readings stand behind it (contributors: \
         the same); with into, one row a window of all these points, on that point, if minContributors \
         of them (2) stand behind it",
        "按点窗口聚合，读数不足不输出；给出 into 时多点合并为一个窗口，贡献点不足 minContributors 不输出",
    ),
    word(
        "noise",
        &["mechanism", "epsilon", "budget"],
        &["delta", "period", "dataField"],
        "noise with a budget",
        "差分隐私加噪",
    ),
    word("round", &["step"], &["dataField"], "to the nearest multiple", "取整"),
    word("bucket", &["edges"], &["dataField"], "the lower edge of a bucket", "分桶"),
    word(
        "coarsenPosition",
        &["axis", "step_m"],
        &["referenceLatitude", "dataField"],
        "the middle of a cell of a grid",
        "位置网格化",
    ),
    word("pseudonymise", &[], &["dataField"], "a keyed hash in place of the value", "假名化"),
    word("delay", &["span"], &["dataField"], "the rows leave so much later", "延迟"),
    word("delete", &[], &["after", "by"], "the consumer deletes the data", "到期删除"),
    word("retain", &["atLeast"], &[], "the consumer keeps the data at least so long", "保留"),
    word("notify", &["target", "on"], &[], "somebody is told", "通知"),
    word("acknowledgeUse", &["every"], &[], "the consumer reports use", "使用回执"),
    word("log", &[], &[], "decisions stand in the log", "存证"),
    word("policyTransmit", &[], &[], "the contract's digest goes with the data", "策略随行"),
    word("compensate", &[], &[], "payment by the terms", "付费"),
];

/// What counters count, in English and Chinese.
pub const COUNTED: [&str; 2] = [
    "count, dataSize and rate count the readings that a permission takes in, before sample, aggregate \
     and drop of its own: what goes in, not the rows that leave",
    "count、dataSize、rate 按许可规则接收的读数计算，在抽样、聚合之前计数，而不是按输出的行数计算",
];

/// Units of counters and rates.
const UNITS: [&str; 12] =
    ["1", "1/s", "1/min", "1/h", "1/d", "1/mo", "By", "By/min", "By/h", "By/d", "By/mo", "m"];

/// All operands, operators, actions and duties as JSON.
pub fn vocabulary() -> Value {
    let duties = DUTIES.iter().map(|duty| {
        json!({
            "name": duty.name, "required": duty.required, "optional": duty.optional,
            "english": duty.english, "chinese": duty.chinese,
        })
    });
    json!({
        "profile": PROFILE,
        "operands": operand_names().collect::<Vec<_>>(),
        "elsewhere": Foreign::all().map(Foreign::name).collect::<Vec<_>>(),
        "operators": Operator::all().map(Operator::name).collect::<Vec<_>>(),
        "actions": Action::all().map(Action::name).collect::<Vec<_>>(),
        "duties": duties.collect::<Vec<_>>(),
        "units": UNITS,
        "counted": COUNTED,
        "tds": document_vocabulary(),
    })
}

/// The words of TC609-6-2025-14: what it names, and where it spells one thing in two ways.
fn document_vocabulary() -> Value {
    let spellings = |rows: &[tds::Spelling]| {
        let rows = rows.iter().filter(|row| !row.also.is_empty());
        rows.map(|row| json!({"written": row.written, "also": row.also, "sources": row.sources}))
            .collect::<Vec<_>>()
    };
    let statuses = tds::Status::TABLE.iter().map(|(code, status, chinese, english)| {
        json!({
            "code": code, "chinese": chinese, "english": english,
            "can_grant": status.can_grant(),
        })
    });
    json!({
        "document": "TC609-6-2025-14",
        "actions": tds::action_words().collect::<Vec<_>>(),
        "constraints": tds::constraint_words().collect::<Vec<_>>(),
        "operators": Operator::all()
            .map(|operator| json!({"code": operator.code(), "name": operator.name()}))
            .collect::<Vec<_>>(),
        "statuses": statuses.collect::<Vec<_>>(),
        "members": spellings(&tds::MEMBERS),
        "values": spellings(&tds::VALUES),
    })
}

/// Operands that are decided here, and those that are answered elsewhere.
fn all_operands() -> impl Iterator<Item = &'static str> {
    operand_names().chain(Foreign::all().map(Foreign::name))
}

/// The JSON-LD context: which word is ODRL's and which is ours.
pub fn context() -> Value {
    let mut terms = Map::new();
    let mut put = |name: &str, value: Value| drop(terms.insert(name.to_owned(), value));
    put("odrl", json!("http://www.w3.org/ns/odrl/2/"));
    put("guan", json!(NAMESPACE));
    let own = |name: &str, is_odrl: bool| {
        let prefix = if is_odrl { "odrl" } else { "guan" };
        json!({"@id": format!("{prefix}:{name}")})
    };
    for name in ["permission", "prohibition", "obligation", "duty", "remedy", "constraint"] {
        put(name, json!({"@id": format!("odrl:{name}"), "@container": "@set"}));
    }
    for name in [
        "assigner",
        "assignee",
        "target",
        "profile",
        "conflict",
        "action",
        "refinement",
        "leftOperand",
        "operator",
        "rightOperand",
        "unit",
        "uid",
    ] {
        put(name, own(name, true));
    }
    for name in ["Agreement", "Offer", "Set", "and", "or", "xone"] {
        put(name, own(name, true));
    }
    for name in OWN_MEMBERS {
        put(name, own(name, false));
    }
    for operator in Operator::all() {
        put(operator.name(), own(operator.name(), true));
    }
    for operand in all_operands() {
        put(operand, own(operand, ODRL_OPERANDS.contains(&operand)));
    }
    for action in Action::all() {
        put(action.name(), own(action.name(), ODRL_ACTIONS.contains(&action.name())));
    }
    for duty in &DUTIES {
        if Action::from_name(duty.name).is_none() {
            put(duty.name, own(duty.name, ODRL_ACTIONS.contains(&duty.name)));
        }
        for parameter in duty.required.iter().chain(duty.optional) {
            if !all_operands().any(|operand| operand == *parameter) {
                put(parameter, own(parameter, false));
            }
        }
    }
    json!({"@context": terms})
}

/// The JSON Schema (2020-12) of a contract object. What it accepts may still be refused: it knows the words,
/// not which of them go together.
pub fn schema() -> Value {
    let moment = json!({"type": "string", "format": "date-time"});
    let duration = json!({"type": "string", "pattern": "^P"});
    let types = ["Agreement", "Offer", "Set", "odrl:Agreement", "odrl:Offer", "odrl:Set"];
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "A contract in the profile urn:guankou:odrl:1",
        "type": "object",
        "properties": {
            "@context": one_or_many(&json!({"enum": CONTEXTS})), "@type": {"enum": types}, "@id": {"type": "string"},
            "profile": {"const": PROFILE}, "version": {"type": "integer", "minimum": 1},
            "conflict": {"enum": ["prohibit", "odrl:prohibit"]},
            "title": {"type": "string"}, "assigner": {"type": "string"},
            "assignee": {"type": "string"},
            "assigneeCountry": {"type": "string", "pattern": "^[A-Z]{2}$"},
            "purpose": {"type": "string"},
            "target": one_or_many(&json!({"type": "string"})),
            "validity": {
                "type": "object",
                "properties": {"notBefore": moment, "notAfter": moment},
                "required": ["notBefore", "notAfter"], "additionalProperties": false,
            },
            "timestamp": moment,
            "permission": one_or_many(&rule_schema("duty")),
            "prohibition": one_or_many(&rule_schema("remedy")),
            "obligation": one_or_many(&reference("duty")),
            "lease": {
                "type": "object",
                "properties": {
                    "maxOffline": duration, "graceDelivery": duration,
                    "onEarlyEnd": {"enum": ["send", "shred"]},
                },
                "additionalProperties": false,
            },
            "price": {}, "metering": {}, "particulars": {"type": "object"},
        },
        "required": [
            "@type", "@id", "profile", "version", "assigner", "assignee", "target", "validity",
        ],
        "additionalProperties": false,
        "$defs": {
            "action": {"enum": Action::all().map(Action::name).collect::<Vec<_>>()},
            "constraint": constraint_schema(),
            "duty": duty_schema(),
        },
    })
}

fn one_or_many(of: &Value) -> Value {
    json!({"anyOf": [of, {"type": "array", "items": of}]})
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/$defs/{name}")})
}

/// `duty`: how the duties of such a rule are called.
fn rule_schema(duty: &str) -> Value {
    json!({
        "type": "object",
        "properties": {
            "uid": {"type": "string", "maxLength": 64}, "@type": {"type": "string"},
            "action": one_or_many(&reference("action")),
            "constraint": one_or_many(&reference("constraint")),
            duty: one_or_many(&reference("duty")),
        },
        "required": ["action"], "additionalProperties": false,
    })
}

fn constraint_schema() -> Value {
    let test = json!({
        "type": "object",
        "properties": {
            "leftOperand": {"enum": all_operands().collect::<Vec<_>>()},
            "operator": {"enum": Operator::all().map(Operator::name).collect::<Vec<_>>()},
            "rightOperand": {}, "unit": {"enum": UNITS},
            "@type": {"type": "string"}, "uid": {"type": "string"},
        },
        "required": ["leftOperand", "operator", "rightOperand"],
        "additionalProperties": false,
    });
    let joined = one_or_many(&reference("constraint"));
    let join = json!({
        "type": "object", "minProperties": 1, "maxProperties": 1,
        "properties": {"and": joined, "or": joined, "xone": joined},
        "additionalProperties": false,
    });
    json!({"anyOf": [test, join]})
}

fn duty_schema() -> Value {
    let names: Vec<&str> = DUTIES.iter().map(|duty| duty.name).collect();
    let mut parameters: Vec<&str> =
        DUTIES.iter().flat_map(|duty| duty.required.iter().chain(duty.optional)).copied().collect();
    parameters.sort_unstable();
    parameters.dedup();
    let refinement = json!({
        "type": "object",
        "properties": {
            "leftOperand": {"enum": parameters}, "operator": {"enum": ["eq", "isAnyOf"]},
            "rightOperand": {}, "@type": {"type": "string"},
        },
        "required": ["leftOperand", "operator", "rightOperand"],
        "additionalProperties": false,
    });
    json!({
        "type": "object",
        "properties": {
            "action": {"enum": names}, "uid": {"type": "string"}, "@type": {"type": "string"},
            "refinement": one_or_many(&refinement),
        },
        "required": ["action"], "additionalProperties": false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Contract;
    use crate::contract::odrl::tests::agreement;
    use std::path::Path;

    /// A value that a parameter may have.
    fn sample(duty: &str, parameter: &str) -> Value {
        match (duty, parameter) {
            (_, "window" | "span" | "after" | "atLeast" | "every") => json!("PT1H"),
            (_, "statistic") => json!("p95"),
            (_, "mechanism") => json!("laplace"),
            (_, "epsilon") => json!("0.1"),
            (_, "budget") => json!("1"),
            (_, "edges") => json!([1, 2]),
            (_, "axis") => json!("latitude"),
            (_, "dataField") => json!("Vessel.Speed"),
            (_, "into") => json!("Fleet.Speed"),
            (_, "target") => json!("ops@example.org"),
            (_, "on") => json!("quota"),
            (_, "low") => json!(0),
            (_, "period") => json!("day"),
            (_, "delta") => json!("0.001"),
            (_, "by") => json!("2029-01-01T00:00:00Z"),
            (_, "referenceLatitude") => json!("31.2"),
            (_, "step_m") => json!(500),
            _ => json!(10),
        }
    }

    fn draft(duty: &DutyWord, parameters: &[&str]) -> Result<Contract, crate::ContractError> {
        let mut object = agreement();
        let refinement = parameters.iter().map(|name| {
            json!({"leftOperand": name, "operator": "eq", "rightOperand": sample(duty.name, name)})
        });
        let mut one = json!({"action": duty.name});
        let refinement: Vec<Value> = refinement.collect();
        if !refinement.is_empty() {
            one["refinement"] = json!(refinement);
        }
        let clamp = json!({"action": "clamp", "refinement": [
            {"leftOperand": "low", "operator": "eq", "rightOperand": 0},
            {"leftOperand": "high", "operator": "eq", "rightOperand": 9}]});
        object["permission"][0]["duty"] = match duty.name {
            // Nothing else bounds what one value reveals.
            "noise" => json!([clamp, one]),
            _ => json!([one]),
        };
        Contract::draft(object.to_string().as_bytes())
    }

    /// The table says what the reader takes: with every required parameter a duty is read, without any
    /// one of them it is not, and each optional one is known.
    #[test]
    fn the_table_of_duties_is_what_the_reader_reads() {
        for duty in &DUTIES {
            let required = match duty.name {
                "delete" => vec!["after"],
                _ => duty.required.to_vec(),
            };
            draft(duty, &required).unwrap_or_else(|fault| panic!("{}: {fault}", duty.name));
            for left_out in &required {
                let rest: Vec<&str> =
                    required.iter().filter(|name| *name != left_out).copied().collect();
                assert!(draft(duty, &rest).is_err(), "{} without {left_out}", duty.name);
            }
            for optional in duty.optional.iter().filter(|name| !required.contains(name)) {
                let with = match *optional {
                    // One of two.
                    "by" => vec!["by"],
                    // Only with the names that it is not among, and with the point of the results.
                    "into" => [&required[..], &["into", "dataField"]].concat(),
                    "minContributors" => [&required[..], &["into", "dataField", optional]].concat(),
                    "delta" => continue,
                    optional => [&required[..], &[optional]].concat(),
                };
                draft(duty, &with)
                    .unwrap_or_else(|fault| panic!("{} {with:?}: {fault}", duty.name));
            }
            assert!(draft(duty, &[&required[..], &["nonsense"]].concat()).is_err());
        }
    }

    #[test]
    fn the_examples_are_well_formed() {
        let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
        let mut count = 0;
        for folder in ["contracts/examples", "demo/contracts"] {
            for entry in std::fs::read_dir(configs.join(folder)).unwrap() {
                let path = entry.unwrap().path();
                let draft = Contract::lint(&std::fs::read(&path).unwrap());
                draft.unwrap_or_else(|fault| panic!("{}: {fault}", path.display()));
                count += 1;
            }
        }
        assert_eq!(count, 10);
    }

    /// The published files are these; `guan contract vocabulary --schema` and `--context` write them.
    #[test]
    fn the_published_files_are_up_to_date() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/contracts");
        for (name, value) in [("schema.json", schema()), ("context.jsonld", context())] {
            let text = std::fs::read_to_string(folder.join(name)).unwrap();
            let published: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(published, value, "{name} is out of date");
        }
    }
}
