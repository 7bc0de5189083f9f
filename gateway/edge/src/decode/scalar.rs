//! A JSON value as the value of a point, exactly or not at all: nothing is cut, wrapped or guessed.

use super::decimal::{Decimal, DecimalFault};
use super::json::{RawText, Token};
use super::refusal::{Complaint, RefusalCode, excerpt};
use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use guan_model::value::{BYTES_BYTES_MAX, TEXT_BYTES_MAX};
use guan_model::{Quality, Reason, Severity, Value, ValueType};
use std::borrow::Cow;

const PADDING_OPTIONAL: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, PADDING_OPTIONAL);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, PADDING_OPTIONAL);

/// How bytes stand in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Either case, two digits a byte.
    Hex,
    /// RFC 4648, section 4; padding may be left out.
    Base64,
    /// RFC 4648, section 5; padding may be left out.
    Base64Url,
}

/// The value that a point of this type takes from a token. `Null` is the caller's business.
pub(super) fn value_of(
    token: Token<'_>,
    value_type: ValueType,
    encoding: Option<Encoding>,
) -> Result<Value, Complaint> {
    match (value_type, token) {
        (ValueType::Bool, Token::Bool(value)) => Ok(Value::Bool(value)),
        (ValueType::Text, Token::Text(raw)) => text_of(raw).map(|text| Value::Text(text.into())),
        (ValueType::Bytes, Token::Text(raw)) => bytes_of(raw, encoding).map(Value::Bytes),
        (_, Token::Number(text)) => number_of(text, value_type),
        _ => Err(wrong_kind(token.kind(), value_type)),
    }
}

fn wrong_kind(kind: &str, value_type: ValueType) -> Complaint {
    let wanted = value_type.name();
    Complaint::undecodable(format!("{kind} is no value for a point of type {wanted}"))
}

/// Rounds once, from the digits to the point's type.
pub(super) fn number_of(text: &str, value_type: ValueType) -> Result<Value, Complaint> {
    let name = value_type.name();
    let beyond = || Complaint::undecodable(format!("{} is out of range for {name}", excerpt(text)));
    let integer = || {
        Decimal::parse(text).whole(0).map_err(|fault| match fault {
            DecimalFault::Range => beyond(),
            DecimalFault::Fraction => Complaint::undecodable(format!(
                "{} is not a whole number; the point is of type {name}",
                excerpt(text)
            )),
        })
    };
    match value_type {
        ValueType::F64 => {
            let value: f64 = text.parse().expect("a JSON number is a float literal");
            value.is_finite().then_some(Value::F64(value)).ok_or_else(beyond)
        }
        ValueType::F32 => {
            let value: f32 = text.parse().expect("a JSON number is a float literal");
            value.is_finite().then_some(Value::F32(value)).ok_or_else(beyond)
        }
        ValueType::I64 => match text.parse() {
            Ok(value) => Ok(Value::I64(value)),
            Err(_) => i64::try_from(integer()?).map(Value::I64).map_err(|_| beyond()),
        },
        ValueType::U64 => match text.parse() {
            Ok(value) => Ok(Value::U64(value)),
            Err(_) => u64::try_from(integer()?).map(Value::U64).map_err(|_| beyond()),
        },
        ValueType::Bool | ValueType::Text | ValueType::Bytes => {
            Err(wrong_kind("a number", value_type))
        }
    }
}

pub(super) fn plain(raw: RawText<'_>) -> Result<Cow<'_, str>, Complaint> {
    raw.unescape().ok_or_else(|| Complaint::undecodable("half of a surrogate pair in a string"))
}

fn text_of(raw: RawText<'_>) -> Result<Cow<'_, str>, Complaint> {
    let text = plain(raw)?;
    match text.len() <= TEXT_BYTES_MAX {
        true => Ok(text),
        false => Err(Complaint::too_long(format!(
            "a text of {} bytes; the limit is {TEXT_BYTES_MAX}",
            text.len()
        ))),
    }
}

fn bytes_of(raw: RawText<'_>, encoding: Option<Encoding>) -> Result<Bytes, Complaint> {
    let text = plain(raw)?;
    let encoding = encoding.ok_or_else(|| Complaint {
        code: RefusalCode::UnknownPoint,
        text: "a string is no value for a bytes point; give the mapping an encoding".to_owned(),
    })?;
    let (decoded, name) = match encoding {
        Encoding::Hex => (hex::decode(&*text).ok(), "hexadecimal"),
        Encoding::Base64 => (BASE64.decode(&*text).ok(), "base64"),
        Encoding::Base64Url => (BASE64_URL.decode(&*text).ok(), "base64url"),
    };
    let bytes = decoded
        .ok_or_else(|| Complaint::undecodable(format!("{} is not {name}", excerpt(&text))))?;
    match bytes.len() <= BYTES_BYTES_MAX {
        true => Ok(Bytes::from(bytes)),
        false => Err(Complaint::too_long(format!(
            "{} bytes in one value; the limit is {BYTES_BYTES_MAX}",
            bytes.len()
        ))),
    }
}

/// What a source says about its own value: a boolean, a word, or the number of OPC DA and
/// Sparkplug B (0 bad, 64 uncertain, 192 good; 500 is Sparkplug's "stale").
pub(super) fn quality_of(token: Token<'_>) -> Result<Quality, Complaint> {
    let bad = Quality::new(Severity::Bad, Reason::DeviceFault);
    let uncertain = Quality::new(Severity::Uncertain, Reason::DeviceFault);
    let stale = Quality::new(Severity::Uncertain, Reason::Stale);
    let known = match token {
        Token::Null => Some(Quality::GOOD),
        Token::Bool(good) => Some(if good { Quality::GOOD } else { bad }),
        Token::Number(text) => match text.parse::<u16>() {
            Ok(0..=63) => Some(bad),
            Ok(64..=127) => Some(uncertain),
            Ok(192..=255) => Some(Quality::GOOD),
            Ok(500) => Some(stale),
            _ => None,
        },
        Token::Text(raw) => match plain(raw)?.to_ascii_lowercase().as_str() {
            "good" => Some(Quality::GOOD),
            "uncertain" => Some(uncertain),
            "stale" => Some(stale),
            "bad" => Some(bad),
            _ => None,
        },
        Token::Array | Token::Object => None,
    };
    known.ok_or_else(|| {
        Complaint::undecodable(
            "no quality; send good, uncertain, stale or bad, true or false, 192, 64 or 0",
        )
    })
}
