//! JSON that can be signed: a strict reader and the canonical form of RFC 8785.
//!
//! Only texts, integers within 2^53 - 1, booleans, lists and objects with unique keys occur. Whatever
//! two readers could understand differently is refused, so that both parties signed what we read.

use crate::fault::{Faults, Problem, child, shown};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// Deepest nesting of lists and objects; a contract with nested conditions needs about twelve in our
/// profile of ODRL, and four more in the form of TC609-6-2025-14.
pub const DEPTH_MAX: usize = 20;
/// Largest integer that every JSON reader keeps exactly (RFC 8785, section 3.2.2.3).
pub(crate) const INTEGER_MAX: u64 = (1 << 53) - 1;

/// Reads a document and notes what is wrong with it. `None` if it is no JSON at all.
pub fn read(bytes: &[u8], faults: &mut Faults) -> Option<Value> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let strict = Strict { pointer: String::new(), depth: 0, faults: &mut *faults };
    match strict.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value)) {
        Ok(value) => Some(value),
        Err(fault) => {
            faults.add("", Problem::Syntax { detail: fault.to_string() });
            None
        }
    }
}

/// Reads one value at a place; refused values are noted and stand as null.
struct Strict<'f> {
    pointer: String,
    depth: usize,
    faults: &'f mut Faults,
}

impl Strict<'_> {
    fn refuse(self, problem: Problem) -> Value {
        self.faults.add(&self.pointer, problem);
        Value::Null
    }

    fn child(&mut self, key: &str) -> Strict<'_> {
        Strict { pointer: child(&self.pointer, key), depth: self.depth + 1, faults: self.faults }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        match value <= INTEGER_MAX {
            true => Ok(Value::from(value)),
            false => Ok(self.refuse(Problem::NotCanonical)),
        }
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        match value.unsigned_abs() <= INTEGER_MAX {
            true => Ok(Value::from(value)),
            false => Ok(self.refuse(Problem::NotCanonical)),
        }
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(self.refuse(match value.fract() == 0.0 {
            true => Problem::NotCanonical,
            false => Problem::Fraction { found: shown(&value.to_string()) },
        }))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(self.refuse(Problem::NotCanonical))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Value, A::Error> {
        if self.depth >= DEPTH_MAX {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(self.refuse(Problem::TooDeep { limit: DEPTH_MAX }));
        }
        let mut values = Vec::new();
        loop {
            let index = values.len().to_string();
            match list.next_element_seed(self.child(&index))? {
                Some(value) => values.push(value),
                None => return Ok(Value::Array(values)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut object: A) -> Result<Value, A::Error> {
        if self.depth >= DEPTH_MAX {
            while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(self.refuse(Problem::TooDeep { limit: DEPTH_MAX }));
        }
        let mut members = Map::new();
        while let Some(key) = object.next_key::<String>()? {
            if members.contains_key(&key) {
                object.next_value::<IgnoredAny>()?;
                self.child(&key).refuse(Problem::DuplicateKey);
                continue;
            }
            let value = object.next_value_seed(self.child(&key))?;
            members.insert(key, value);
        }
        Ok(Value::Object(members))
    }
}

/// The canonical bytes of RFC 8785. Exact for what [`read`] lets through; floats never come here.
pub fn canonical_json(value: &Value) -> Vec<u8> {
    let mut out = String::new();
    write_canonical(&mut out, value);
    out.into_bytes()
}

fn write_canonical(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::String(text) => write_text(out, text),
        Value::Array(values) => {
            out.push('[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_canonical(out, value);
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<(&String, &Value)> = members.iter().collect();
            // By UTF-16 code units (section 3.2.3), which is not the order of UTF-8 bytes.
            members.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            out.push('{');
            for (index, (key, value)) in members.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_text(out, key);
                out.push(':');
                write_canonical(out, value);
            }
            out.push('}');
        }
    }
}

/// Section 3.2.2.2: short escapes where JSON has them, other controls as \u00xx, nothing else.
fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            control @ '\0'..' ' => out.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(json: &str, expect: Result<&str, &[(&str, Problem)]>) {
        let mut faults = Faults::default();
        let value = read(json.as_bytes(), &mut faults);
        let outcome = faults.finish(value).map(|value| canonical_json(&value));
        let outcome = outcome.map(|bytes| String::from_utf8(bytes).unwrap());
        let outcome = outcome.map_err(|error| {
            error.faults.into_iter().map(|f| (f.pointer, f.problem)).collect::<Vec<_>>()
        });
        let expect = expect.map(str::to_owned).map_err(|faults| {
            faults.iter().map(|(at, problem)| ((*at).to_owned(), problem.clone())).collect()
        });
        assert_eq!(outcome, expect, "for {json}");
    }

    #[test]
    fn canonical_form() {
        check(r#" { "b" : 1, "a" : [ true, -7 ] } "#, Ok(r#"{"a":[true,-7],"b":1}"#));
        check(r#""\u20ac$\u000F\nA'\u0042\"\\\/""#, Ok("\"\u{20ac}$\\u000f\\nA'B\\\"\\\\/\""));
        // The sorting example of RFC 8785, section 3.2.3.
        let json = r#"{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet
With Dagesh","1":"One","\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"x"}"#
            .replace('\n', " ");
        let expect = "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u{80}\":\"Control\",\
            \"\u{f6}\":\"x\",\"\u{20ac}\":\"Euro Sign\",\"\u{1f600}\":\"Emoji: Grinning Face\",\
            \"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\"}";
        check(&json, Ok(expect));
        check("9007199254740991", Ok("9007199254740991"));
        check("-9007199254740991", Ok("-9007199254740991"));
    }

    #[test]
    fn what_readers_could_take_differently_is_refused() {
        fn one(at: &str, problem: Problem) -> Result<&str, [(&str, Problem); 1]> {
            Err([(at, problem)])
        }
        let check = |json: &str, expect: Result<&str, [(&str, Problem); 1]>| {
            check(json, expect.as_ref().map(|text| *text).map_err(|faults| &faults[..]));
        };
        check("9007199254740992", one("", Problem::NotCanonical));
        check("-9007199254740992", one("", Problem::NotCanonical));
        check("18446744073709551616", one("", Problem::NotCanonical));
        check("[1.0]", one("/0", Problem::NotCanonical));
        check("[1e2]", one("/0", Problem::NotCanonical));
        check("[-0]", one("/0", Problem::NotCanonical));
        check(r#"{"a/b~":null}"#, one("/a~1b~0", Problem::NotCanonical));
        check(r#"{"a":1,"a":2}"#, one("/a", Problem::DuplicateKey));
        check(r#"{"a":1,"\u0061":2}"#, one("/a", Problem::DuplicateKey));
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        check(&nested(DEPTH_MAX), Ok(&nested(DEPTH_MAX)));
        let at = "/0".repeat(DEPTH_MAX);
        check(&nested(DEPTH_MAX + 1), one(&at, Problem::TooDeep { limit: DEPTH_MAX }));
    }

    #[test]
    fn all_faults_are_reported() {
        let expect = [
            ("/a/0", Problem::NotCanonical),
            ("/a/1", Problem::Fraction { found: "0.5".to_owned() }),
            ("/a", Problem::DuplicateKey),
        ];
        check(r#"{"a":[null,0.5],"a":1}"#, Err(&expect));
    }

    #[test]
    fn depth_is_no_way_to_exhaust_the_stack() {
        let mut faults = Faults::default();
        read("[".repeat(200_000).as_bytes(), &mut faults);
        assert!(!faults.is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(bytes: Vec<u8>) {
            let mut faults = Faults::default();
            let value = read(&bytes, &mut faults);
            prop_assert!(value.is_some() || !faults.is_empty());
        }

        #[test]
        fn texts_agree_with_serde_json(text: String) {
            let value = Value::from(text);
            prop_assert_eq!(canonical_json(&value), value.to_string().into_bytes());
        }
    }
}
