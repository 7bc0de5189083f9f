//! SenML packs in JSON (RFC 8428): several records a message, each a row.
//!
//! A pack is taken whole or not at all: one record that does not fit refuses all, because half of
//! what a device said is not what it said. Sums (`s`, `bs`) and labels that must be understood
//! (`..._`) are refused.

use super::ROWS_PER_MESSAGE_MAX;
use super::context::Context;
use super::decimal::Decimal;
use super::json::{JsonFault, RawText, Scanner, Token};
use super::refusal::{Complaint, RefusalCode, excerpt};
use super::scalar::{Encoding, number_of, plain, value_of};
use super::source_time::senml_time;
use super::topics::PointIndex;
use guan_model::{PointDescriptor, Quality, Row, Unit, Value, ValueType};
use std::borrow::Cow;

/// The version of RFC 8428, and the newest that is understood.
const VERSION: i128 = 10;

/// Units that SenML's registry and UCUM spell differently (RFC 8428, section 12.1).
const SPELLINGS: [(&str, &str); 12] = [
    ("%RH", "%"),
    ("%EL", "%"),
    ("/", "1"),
    ("count", "1"),
    ("lat", "deg"),
    ("lon", "deg"),
    ("pH", "[pH]"),
    ("1/s", "/s"),
    ("1/min", "/min"),
    ("beat/min", "/min"),
    ("B", "By"),
    ("VA", "V.A"),
];

/// What holds for all records that follow.
#[derive(Debug, Default)]
struct Base<'a> {
    name: Cow<'a, str>,
    unit: Option<Cow<'a, str>>,
    time: Option<&'a str>,
    value: Option<&'a str>,
}

/// One record as it stands, before the base is applied.
#[derive(Debug, Default)]
struct Record<'a> {
    name: Option<Cow<'a, str>>,
    unit: Option<Cow<'a, str>>,
    time: Option<&'a str>,
    value: Option<Sent<'a>>,
}

/// A value with the label that it came under.
#[derive(Debug)]
enum Sent<'a> {
    Number(&'a str),
    Text(RawText<'a>),
    Bool(bool),
    Data(RawText<'a>),
}

/// All rows of a pack. Point names are `prefix` + SenML name, with `.` for each `/` and `:`.
pub(super) fn rows(
    text: &str,
    prefix: &str,
    points: &PointIndex,
    context: &Context,
) -> Result<Vec<Row>, Complaint> {
    let mut scanner = Scanner::new(text);
    let mut base = Base::default();
    let mut rows = Vec::new();
    scanner.expect(b'[', "'[' of a SenML pack")?;
    loop {
        let record = read_record(&mut scanner, &mut base)?;
        let is_base_only = record.name.is_none() && record.value.is_none();
        if !is_base_only {
            if rows.len() == ROWS_PER_MESSAGE_MAX {
                let text = format!("more than {ROWS_PER_MESSAGE_MAX} records in one message");
                return Err(Complaint::too_long(text));
            }
            rows.push(row_of(record, &base, prefix, points, context)?);
        }
        if scanner.take(b']') {
            break;
        }
        scanner.expect(b',', "',' or ']'")?;
    }
    scanner.end()?;
    match rows.is_empty() {
        true => Err(Complaint::undecodable("a SenML pack without values")),
        false => Ok(rows),
    }
}

impl From<JsonFault> for Complaint {
    fn from(fault: JsonFault) -> Self {
        Self::undecodable(fault.to_string())
    }
}

fn read_record<'a>(
    scanner: &mut Scanner<'a>,
    base: &mut Base<'a>,
) -> Result<Record<'a>, Complaint> {
    let mut record = Record::default();
    let mut seen: Vec<Cow<'a, str>> = Vec::new();
    scanner.expect(b'{', "'{' of a SenML record")?;
    if scanner.take(b'}') {
        return Ok(record);
    }
    loop {
        let label = scanner.name()?;
        let token = scanner.whole(2)?;
        if is_known(&label) {
            if seen.contains(&label) {
                return Err(Complaint::undecodable("a label stands twice in a record").at(&label));
            }
            take_label(&label, token, base, &mut record).map_err(|fault| fault.at(&label))?;
            seen.push(label);
        } else if label.ends_with('_') {
            let text = "a label that must be understood (RFC 8428, section 4.4) and is not";
            return Err(Complaint::undecodable(text).at(&label));
        }
        if scanner.take(b'}') {
            return Ok(record);
        }
        scanner.expect(b',', "',' or '}'")?;
    }
}

/// Labels of RFC 8428, section 4.3; the known ones bound what `seen` holds.
fn is_known(label: &str) -> bool {
    const LABELS: [&str; 15] =
        ["bn", "bt", "bu", "bv", "bs", "bver", "n", "u", "v", "vs", "vb", "vd", "s", "t", "ut"];
    LABELS.contains(&label)
}

fn take_label<'a>(
    label: &str,
    token: Token<'a>,
    base: &mut Base<'a>,
    record: &mut Record<'a>,
) -> Result<(), Complaint> {
    let sent = match label {
        "bn" => return text(token).map(|name| base.name = name),
        "bt" => return number(token).map(|time| base.time = Some(time)),
        "bu" => return text(token).map(|unit| base.unit = Some(unit)),
        "bv" => return number(token).map(|value| base.value = Some(value)),
        "bver" => {
            let version = Decimal::parse(number(token)?).whole(0);
            let known = version.is_ok_and(|version| (0..=VERSION).contains(&version));
            let newer = || Complaint::undecodable("a version of SenML newer than 10");
            return known.then_some(()).ok_or_else(newer);
        }
        "n" => return text(token).map(|name| record.name = Some(name)),
        "u" => return text(token).map(|unit| record.unit = Some(unit)),
        "t" => return number(token).map(|time| record.time = Some(time)),
        // How soon the next record may come says nothing about this one.
        "ut" => return number(token).map(drop),
        "v" => Sent::Number(number(token)?),
        "vs" => Sent::Text(raw(token)?),
        "vd" => Sent::Data(raw(token)?),
        "vb" => match token {
            Token::Bool(value) => Sent::Bool(value),
            other => return Err(wrong(other, "a boolean")),
        },
        _ => return Err(Complaint::undecodable("sums are not taken; send values")),
    };
    match record.value.replace(sent) {
        None => Ok(()),
        Some(_) => Err(Complaint::undecodable("a second value in one record")),
    }
}

fn wrong(token: Token<'_>, wanted: &str) -> Complaint {
    Complaint::undecodable(format!("{} instead of {wanted}", token.kind()))
}

fn number(token: Token<'_>) -> Result<&str, Complaint> {
    match token {
        Token::Number(text) => Ok(text),
        other => Err(wrong(other, "a number")),
    }
}

fn raw(token: Token<'_>) -> Result<RawText<'_>, Complaint> {
    match token {
        Token::Text(raw) => Ok(raw),
        other => Err(wrong(other, "a string")),
    }
}

fn text(token: Token<'_>) -> Result<Cow<'_, str>, Complaint> {
    plain(raw(token)?)
}

fn row_of(
    record: Record<'_>,
    base: &Base<'_>,
    prefix: &str,
    points: &PointIndex,
    context: &Context,
) -> Result<Row, Complaint> {
    let name = format!("{}{}", base.name, record.name.as_deref().unwrap_or_default());
    let point = find_point(&name, prefix, points)?;
    let take = || {
        let unit = record.unit.as_deref().or(base.unit.as_deref());
        check_unit(unit, &point.unit)?;
        let time = senml_time(base.time, record.time, context.received)?;
        let Some(sent) = &record.value else {
            return Err(Complaint::undecodable("a record without v, vs, vb or vd"));
        };
        let value = value(sent, base.value, point)?;
        Ok(context.row(point, time, Some(value), Quality::GOOD))
    };
    take().map_err(|fault: Complaint| fault.at(&name))
}

fn find_point<'a>(
    name: &str,
    prefix: &str,
    points: &'a PointIndex,
) -> Result<&'a PointDescriptor, Complaint> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | ':' | '.' | '/' | '_');
    let begins_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !begins_well || !name.chars().all(allowed) {
        let text = format!("{} is no SenML name (RFC 8428, section 4.5.1)", excerpt(name));
        return Err(Complaint::undecodable(text));
    }
    let name = format!("{prefix}{}", name.replace(['/', ':'], "."));
    match points.get(name.as_str()) {
        Some(point) => Ok(point),
        None => Err(Complaint::unknown_point(&name)),
    }
}

fn check_unit(sent: Option<&str>, declared: &Unit) -> Result<(), Complaint> {
    let Some(sent) = sent else { return Ok(()) };
    let declared = declared.as_str();
    if sent == declared || SPELLINGS.contains(&(sent, declared)) {
        return Ok(());
    }
    let text = format!("unit {} where the point has {declared}; correct one", excerpt(sent));
    Err(Complaint { code: RefusalCode::Undecodable, text })
}

fn value(sent: &Sent<'_>, base: Option<&str>, point: &PointDescriptor) -> Result<Value, Complaint> {
    use ValueType::{Bool, Bytes, F32, F64, I64, Text, U64};
    let wanted = point.value_type;
    match (sent, wanted) {
        (Sent::Number(text), F32 | F64 | I64 | U64) => match base {
            None => number_of(text, wanted),
            Some(base) => sum(base, text, wanted),
        },
        (Sent::Bool(value), Bool) => Ok(Value::Bool(*value)),
        (Sent::Text(raw), Text) => value_of(Token::Text(*raw), wanted, None),
        (Sent::Data(raw), Bytes) => value_of(Token::Text(*raw), wanted, Some(Encoding::Base64Url)),
        _ => {
            let text = format!("its label does not suit a point of type {}", wanted.name());
            Err(Complaint::undecodable(text))
        }
    }
}

/// Base value plus value: exact for whole numbers, one rounding of binary doubles otherwise.
fn sum(base: &str, value: &str, wanted: ValueType) -> Result<Value, Complaint> {
    if let (Ok(base), Ok(value)) = (Decimal::parse(base).whole(0), Decimal::parse(value).whole(0))
        && let Some(sum) = base.checked_add(value)
    {
        return number_of(&sum.to_string(), wanted);
    }
    let double = |text| -> Result<f64, Complaint> {
        match number_of(text, ValueType::F64)? {
            Value::F64(value) => Ok(value),
            _ => unreachable!("number_of gives the type that was asked for"),
        }
    };
    let sum: f64 = double(base)? + double(value)?;
    match sum.is_finite() {
        // `Display` of a double reads back as the same double, and never uses an exponent.
        true => number_of(&sum.to_string(), wanted),
        false => Err(Complaint::undecodable("the sum with the base value is out of range")),
    }
}
