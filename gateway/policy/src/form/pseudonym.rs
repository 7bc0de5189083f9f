//! Pseudonyms: the same value gives the same text under one contract and one key, and nobody without the
//! key can try values out. HMAC-SHA-256 (RFC 2104), cut to 128 bits.

use crate::means::PSEUDONYM_KEY_BYTES;
use crate::transform;
use guan_model::{Column, Series, Value};
use ring::hmac;
use std::fmt::Write;

/// Bytes of a pseudonym; its text is twice as long.
const BYTES: usize = 16;

/// Puts pseudonyms in place of values; gives how many rows lost theirs for want of a key.
pub(super) fn apply(key: Option<&[u8; PSEUDONYM_KEY_BYTES]>, series: &mut Series) -> u64 {
    if matches!(series.values, Column::Absent) {
        return 0;
    }
    let Some(key) = key else {
        transform::mask(series);
        return series.rows() as u64;
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let rows = 0..series.rows();
    let texts = rows.map(|row| series.values.value(row).map_or(String::new(), |v| name(&key, &v)));
    let texts = Column::Text(texts.collect());
    transform::set_values(series, texts);
    0
}

fn name(key: &hmac::Key, value: &Value) -> String {
    let mut context = hmac::Context::with_key(key);
    // Numbers that are equal get one name, whatever type a decoder gave them.
    match value {
        Value::Bool(value) => context.update(&[0, u8::from(*value)]),
        Value::I64(_) | Value::U64(_) | Value::F32(_) | Value::F64(_) => {
            context.update(&[1]);
            context.update(number(value).as_bytes());
        }
        Value::Text(text) => {
            context.update(&[2]);
            context.update(text.as_bytes());
        }
        Value::Bytes(bytes) => {
            context.update(&[3]);
            context.update(bytes);
        }
    }
    let tag = context.sign();
    tag.as_ref()[..BYTES].iter().fold(String::with_capacity(2 * BYTES), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}

fn number(value: &Value) -> String {
    match value {
        Value::I64(value) => value.to_string(),
        Value::U64(value) => value.to_string(),
        Value::F32(value) => f64::from(*value).to_string(),
        Value::F64(value) => value.to_string(),
        other => unreachable!("{other:?} is no number"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guan_model::Value;

    #[test]
    fn equal_values_have_equal_names_and_keys_differ() {
        let key = |byte| hmac::Key::new(hmac::HMAC_SHA256, &[byte; PSEUDONYM_KEY_BYTES]);
        let one = name(&key(1), &Value::I64(7));
        assert_eq!(one.len(), 32);
        assert_eq!(one, name(&key(1), &Value::F64(7.0)));
        assert_ne!(one, name(&key(2), &Value::I64(7)));
        assert_ne!(one, name(&key(1), &Value::Text("7".to_owned())));
        assert_ne!(one, name(&key(1), &Value::I64(8)));
    }
}
