//! From topics and payloads to points. Names and pointers are checked by the decoder that compiles them.

use super::filter::{covers, parse_filter};
use crate::schema::{Kind, Node, shown};

const MAPPINGS_MAX: usize = 4096;
const FIELDS_MAX: usize = 256;
const POINTER_BYTES_MAX: usize = 256;

/// One `[[mapping]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MappingConfig {
    pub topic: String,
    pub format: FormatConfig,
    pub undecodable: UndecodableConfig,
    /// Line in the file, for faults that the decoder finds.
    pub line: usize,
}

/// What a payload is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FormatConfig {
    Json(Vec<FieldConfig>),
    Senml { prefix: String },
    Raw { point: String },
}

/// One value of a JSON message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FieldConfig {
    pub point: String,
    pub value: String,
    pub time: Option<String>,
    pub time_format: TimeFormatName,
    pub quality: Option<String>,
    pub encoding: Option<EncodingName>,
}

/// How a source writes its times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeFormatName {
    Auto,
    Rfc3339,
    EpochSeconds,
    EpochMillis,
    EpochNanos,
}

/// How a source writes bytes in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncodingName {
    Hex,
    Base64,
    Base64Url,
}

/// What becomes of a message that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UndecodableConfig {
    /// Its bytes are kept in this point.
    Opaque(String),
    Refuse,
}

#[derive(Clone, Copy)]
enum Format {
    Json,
    Senml,
    Raw,
}

const POINT: Kind<'_> =
    Kind { name: "template", accepted: "name of a point; {N} is level N of the topic, from 0" };
const POINTER: Kind<'_> =
    Kind { name: "pointer", accepted: "a JSON pointer (RFC 6901), such as /value" };

pub(super) fn read_mappings(root: &Node<'_>) -> Vec<MappingConfig> {
    let mut mappings: Vec<MappingConfig> = Vec::new();
    for node in root.tables("mapping", MAPPINGS_MAX) {
        let Some(mapping) = read_mapping(&node) else { continue };
        if let Some(first) = mappings.iter().find(|first| covers(&first.topic, &mapping.topic)) {
            let (topic, line) = (shown(&first.topic), first.line);
            let text = format!(
                "= {}: takes nothing, for the mapping of line {line} with topic = {topic} comes \
                 first; put this one before it, or remove it",
                shown(&mapping.topic)
            );
            node.fault("topic", text);
        }
        mappings.push(mapping);
    }
    mappings
}

fn read_mapping(node: &Node<'_>) -> Option<MappingConfig> {
    let kind = Kind { name: "filter", accepted: "a topic filter with + and #" };
    let about = "Messages that it takes; the first mapping of the file that matches wins.";
    let topic = node.text("topic", about, &kind, None, parse_filter);
    let formats = [("json", Format::Json), ("senml", Format::Senml), ("raw", Format::Raw)];
    let about = "json: values by pointer. senml: RFC 8428. raw: the payload as it is, bit for bit.";
    let format = node.choice("format", about, &formats, None);
    // A JSON message with one value is written in the mapping itself.
    let single = read_field(node);
    let about = "senml: stands before each SenML name.";
    let kind = Kind { name: "text", accepted: "the beginning of point names, may be empty" };
    let prefix = node.text("prefix", about, &kind, Some(""), parse_short);
    let choices = [("refuse", false), ("opaque", true)];
    let about = "A message that cannot be read: refuse it with a reason, or keep its bytes.";
    let is_opaque = node.choice("undecodable", about, &choices, Some("refuse"));
    let about = "opaque: point of type bytes that keeps them.";
    let opaque_point = node.optional_text("opaque_point", about, &POINT, parse_short);
    let fields: Vec<_> = node.tables("field", FIELDS_MAX).iter().map(read_listed_field).collect();
    node.finish();
    let format = format?;
    refuse_idle_keys(node, format, &single, prefix.as_deref(), fields.is_empty());
    let format = match format {
        Format::Senml => FormatConfig::Senml { prefix: prefix? },
        Format::Raw => match single.point {
            Some(point) => FormatConfig::Raw { point },
            None => {
                node.fault("point", "is missing: raw payloads go to a point");
                return None;
            }
        },
        Format::Json => FormatConfig::Json(json_fields(node, single, fields)?),
    };
    let undecodable = match (is_opaque?, opaque_point) {
        (false, None) => UndecodableConfig::Refuse,
        (true, Some(point)) => UndecodableConfig::Opaque(point),
        (true, None) => {
            node.fault("opaque_point", "is missing: undecodable = \"opaque\" needs it");
            return None;
        }
        (false, Some(_)) => {
            node.fault("opaque_point", "has no effect without undecodable = \"opaque\"");
            return None;
        }
    };
    Some(MappingConfig { topic: topic?, format, undecodable, line: node.line() })
}

/// A key that the format does not look at would be a wish that is silently dropped. Defaults are spared,
/// for the effective view writes them out.
fn refuse_idle_keys(
    node: &Node<'_>,
    format: Format,
    single: &RawField,
    prefix: Option<&str>,
    is_single: bool,
) {
    let (name, takes_point, takes_value) = match format {
        Format::Json => ("json", true, true),
        Format::Senml => ("senml", false, false),
        Format::Raw => ("raw", true, false),
    };
    let idle = |key: &str| node.fault(key, format!("has no effect with format = {name:?}"));
    if single.point.is_some() && !takes_point {
        idle("point");
    }
    let value_keys = [
        ("value", single.value.is_some()),
        ("time", single.time.is_some()),
        ("quality", single.quality.is_some()),
        ("encoding", single.encoding.is_some()),
    ];
    for (key, _) in value_keys.into_iter().filter(|(_, is_set)| *is_set && !takes_value) {
        idle(key);
    }
    // With fields, `value` beside them is reported where the two are put together.
    for (key, _) in value_keys.into_iter().skip(1).filter(|(_, is_set)| *is_set && takes_value) {
        if !is_single {
            node.fault(key, "has no effect beside [[mapping.field]]; write it into each field");
        }
    }
    if !is_single && !takes_value {
        idle("field");
    }
    if prefix.is_some_and(|prefix| !prefix.is_empty()) && !matches!(format, Format::Senml) {
        idle("prefix");
    }
}

/// Keys of one value, complete or not.
struct RawField {
    point: Option<String>,
    value: Option<String>,
    time: Option<String>,
    time_format: Option<TimeFormatName>,
    quality: Option<String>,
    encoding: Option<EncodingName>,
}

fn json_fields(
    node: &Node<'_>,
    single: RawField,
    listed: Vec<Option<FieldConfig>>,
) -> Option<Vec<FieldConfig>> {
    let is_single = single.point.is_some() || single.value.is_some();
    match (is_single, listed.is_empty()) {
        (true, true) => match single.complete() {
            Some(field) => Some(vec![field]),
            None => {
                node.fault("value", "json needs `point` and `value`, or [[mapping.field]]");
                None
            }
        },
        (false, false) => listed.into_iter().collect(),
        (true, false) => {
            node.fault("field", "give either `point` and `value` or [[mapping.field]], not both");
            None
        }
        (false, true) => {
            node.fault("value", "json needs `point` and `value`, or [[mapping.field]]");
            None
        }
    }
}

fn read_listed_field(node: &Node<'_>) -> Option<FieldConfig> {
    let field = read_field(node);
    node.finish();
    let field = field.complete();
    if field.is_none() {
        node.fault("value", "a field needs `point` and `value`");
    }
    field
}

fn read_field(node: &Node<'_>) -> RawField {
    let point =
        node.optional_text("point", "json, raw: where the value goes.", &POINT, parse_short);
    let value =
        node.optional_text("value", "json: where the value stands.", &POINTER, parse_pointer);
    let about = "json: where the source's time stands; without it readings are marked.";
    let time = node.optional_text("time", about, &POINTER, parse_pointer);
    let formats = [
        ("auto", TimeFormatName::Auto),
        ("rfc3339", TimeFormatName::Rfc3339),
        ("epoch-s", TimeFormatName::EpochSeconds),
        ("epoch-ms", TimeFormatName::EpochMillis),
        ("epoch-ns", TimeFormatName::EpochNanos),
    ];
    let time_format =
        node.choice("time_format", "json: how it is written.", &formats, Some("auto"));
    let about = "json: where a quality stands (good, uncertain, bad).";
    let quality = node.optional_text("quality", about, &POINTER, parse_pointer);
    if time.is_none() && time_format.is_some_and(|format| format != TimeFormatName::Auto) {
        node.fault("time_format", "has no effect without `time`");
    }
    let encodings = [
        ("hex", EncodingName::Hex),
        ("base64", EncodingName::Base64),
        ("base64url", EncodingName::Base64Url),
    ];
    let about = "json: how bytes are written, for points of type bytes.";
    let encoding = node.optional_choice("encoding", about, &encodings);
    RawField { point, value, time, time_format, quality, encoding }
}

impl RawField {
    fn complete(self) -> Option<FieldConfig> {
        Some(FieldConfig {
            point: self.point?,
            value: self.value?,
            time: self.time,
            time_format: self.time_format?,
            quality: self.quality,
            encoding: self.encoding,
        })
    }
}

fn parse_short(text: &str) -> Result<String, String> {
    match text.len() <= POINTER_BYTES_MAX {
        true => Ok(text.to_owned()),
        false => Err(format!("must have at most {POINTER_BYTES_MAX} bytes")),
    }
}

fn parse_pointer(text: &str) -> Result<String, String> {
    match text.len() <= POINTER_BYTES_MAX && (text.is_empty() || text.starts_with('/')) {
        true => Ok(text.to_owned()),
        false => Err(format!("must be {}", POINTER.accepted)),
    }
}
