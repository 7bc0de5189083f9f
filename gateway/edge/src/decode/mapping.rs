//! One mapping: what the configuration says, and its compiled form.

use super::context::Context;
use super::json::{Token, Wanted, pick, pointer};
use super::refusal::{Complaint, MappingFault};
use super::scalar::{Encoding, quality_of, value_of};
use super::source_time::{TimeFormat, source_time};
use super::topics::{PointIndex, Template};
use super::{missing, senml, utf8};
use crate::rows::Rows;
use bytes::Bytes;
use guan_model::value::{BYTES_BYTES_MAX, TEXT_BYTES_MAX};
use guan_model::{
    DatasetId, DescriptorTable, PointDescriptor, Quality, Value, ValueType, WallTime,
};
use smallvec::smallvec;
use std::sync::Arc;

/// Most points that one message's mapping fills.
pub const FIELDS_PER_MAPPING_MAX: usize = 256;
/// Slots that are kept on the stack: value, time and quality of a few fields.
const SLOTS_INLINE: usize = 8;

/// One `[[mapping]]`, as the operator wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappingSpec {
    /// Topic filter with `+` and `#`.
    pub filter: String,
    pub format: FormatSpec,
    pub undecodable: Undecodable,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FormatSpec {
    /// With one field, its value must be there. With several, each message may leave some out.
    Json(Vec<FieldSpec>),
    /// Points are named `prefix` + SenML name.
    Senml { prefix: String },
    /// The whole payload, bit for bit, in a point of type bytes or text.
    Raw { point: String },
}

/// What a member of a JSON message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldSpec {
    /// Name of a point; `{N}` stands for level N of the topic, counted from 0.
    pub point: String,
    /// JSON pointers (RFC 6901).
    pub value: String,
    pub time: Option<TimeSpec>,
    pub quality: Option<String>,
    /// For points of type bytes, and only for these.
    pub encoding: Option<Encoding>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeSpec {
    pub path: String,
    pub format: TimeFormat,
}

/// What becomes of a message that the mapping cannot read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undecodable {
    /// Its bytes are kept in this point, which is of type bytes.
    Opaque(String),
    Refuse,
}

/// What a message is for.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) topic: &'a str,
    pub(super) points: &'a PointIndex,
    /// The only point that the mapping fills, if it is known already.
    pub(super) point: Option<&'a PointDescriptor>,
}

#[derive(Debug)]
pub(super) struct Mapping {
    format: Format,
    opaque: Option<Arc<PointDescriptor>>,
}

#[derive(Debug)]
enum Format {
    Json {
        wanted: Wanted,
        slots: usize,
        fields: Vec<Field>,
    },
    /// The dataset, if all points under the prefix belong to one.
    Senml {
        prefix: String,
        dataset: Option<DatasetId>,
    },
    Raw(Template),
}

#[derive(Debug)]
struct Field {
    point: Template,
    path: String,
    value: usize,
    time: Option<(usize, TimeFormat)>,
    quality: Option<usize>,
    encoding: Option<Encoding>,
}

impl Mapping {
    pub(super) fn compile(
        spec: &MappingSpec,
        mapping: usize,
        table: &DescriptorTable,
    ) -> Result<Self, Vec<MappingFault>> {
        let mut faults = Vec::new();
        let opaque = match &spec.undecodable {
            Undecodable::Refuse => None,
            Undecodable::Opaque(name) => {
                opaque_point(name, mapping, table).map_err(|fault| faults.push(fault)).ok()
            }
        };
        let compiler = Compiler { filter: &spec.filter, mapping, table };
        let format = match &spec.format {
            FormatSpec::Json(fields) => compiler.json(fields),
            FormatSpec::Senml { prefix } => {
                let dataset = only_dataset(prefix, table);
                Ok(Format::Senml { prefix: prefix.clone(), dataset })
            }
            FormatSpec::Raw { point } => compiler.raw(point).map_err(|fault| vec![fault]),
        };
        match format {
            Ok(format) if faults.is_empty() => Ok(Self { format, opaque }),
            Ok(_) => Err(faults),
            Err(found) => {
                faults.extend(found);
                Err(faults)
            }
        }
    }

    /// For which dataset a message was meant that cannot be read.
    pub(super) fn dataset<'m>(
        &'m self,
        topic: &str,
        points: &'m PointIndex,
    ) -> Option<&'m DatasetId> {
        let template = match &self.format {
            Format::Json { fields, .. } => &fields.first()?.point,
            Format::Raw(template) => template,
            Format::Senml { dataset, .. } => return dataset.as_ref(),
        };
        resolve(template, topic, points).ok().map(|point| &point.dataset)
    }

    /// The point that messages of a topic fill, if there is only one.
    pub(super) fn only_point<'m>(
        &'m self,
        topic: &str,
        points: &'m PointIndex,
    ) -> Option<&'m Arc<PointDescriptor>> {
        let template = match &self.format {
            Format::Json { fields, .. } if fields.len() == 1 => &fields[0].point,
            Format::Raw(template) => template,
            Format::Json { .. } | Format::Senml { .. } => return None,
        };
        template.resolve(topic, points).ok()
    }

    pub(super) fn opaque_point(&self) -> Option<&PointDescriptor> {
        self.opaque.as_deref()
    }

    pub(super) fn rows(
        &self,
        target: Target<'_>,
        payload: &[u8],
        context: &Context,
    ) -> Result<Rows, Complaint> {
        match &self.format {
            Format::Json { wanted, slots, fields } => {
                let text = utf8(payload)?;
                let mut inline = [None; SLOTS_INLINE];
                let mut many = Vec::new();
                let found: &mut [Option<Token<'_>>] = match inline.get_mut(..*slots) {
                    Some(few) => few,
                    None => {
                        many.resize(*slots, None);
                        &mut many
                    }
                };
                pick(text, wanted, found)?;
                json_rows(target, fields, found, context)
            }
            Format::Senml { prefix, .. } => {
                senml::rows(utf8(payload)?, prefix, target.points, context).map(Rows::from)
            }
            Format::Raw(template) => {
                let point = target.point(template)?;
                let value = raw_value(payload, point.value_type)?;
                Ok(smallvec![context.row(point, None, Some(value), Quality::GOOD)])
            }
        }
    }
}

impl<'a> Target<'a> {
    fn point(&self, template: &'a Template) -> Result<&'a PointDescriptor, Complaint> {
        match self.point {
            Some(point) => Ok(point),
            None => resolve(template, self.topic, self.points),
        }
    }
}

fn only_dataset(prefix: &str, table: &DescriptorTable) -> Option<DatasetId> {
    let mut points = table.iter().filter(|point| point.name.as_str().starts_with(prefix));
    let dataset = points.next()?.dataset.clone();
    points.all(|point| point.dataset == dataset).then_some(dataset)
}

fn opaque_point(
    name: &str,
    mapping: usize,
    table: &DescriptorTable,
) -> Result<Arc<PointDescriptor>, MappingFault> {
    let template = || name.to_owned();
    let point = table
        .by_name(name)
        .ok_or_else(|| MappingFault::NoSuchPoint { mapping, template: template() })?;
    match point.value_type {
        ValueType::Bytes => Ok(point.clone()),
        other => Err(MappingFault::PointType {
            mapping,
            point: template(),
            found: other.name(),
            wanted: "bytes",
        }),
    }
}

/// The parts of one mapping are compiled against the same filter and table.
struct Compiler<'a> {
    filter: &'a str,
    mapping: usize,
    table: &'a DescriptorTable,
}

impl Compiler<'_> {
    fn raw(&self, point: &str) -> Result<Format, MappingFault> {
        let (template, fits) = Template::compile(point, self.filter, self.mapping, self.table)?;
        let takes = |kind| matches!(kind, ValueType::Bytes | ValueType::Text);
        match fits.iter().any(|point| takes(point.value_type)) {
            true => Ok(Format::Raw(template)),
            false => Err(MappingFault::PointType {
                mapping: self.mapping,
                point: point.to_owned(),
                found: fits[0].value_type.name(),
                wanted: "bytes or text",
            }),
        }
    }

    fn json(&self, specs: &[FieldSpec]) -> Result<Format, Vec<MappingFault>> {
        if specs.is_empty() || specs.len() > FIELDS_PER_MAPPING_MAX {
            return Err(vec![MappingFault::Fields {
                mapping: self.mapping,
                count: specs.len(),
                limit: FIELDS_PER_MAPPING_MAX,
            }]);
        }
        let mut faults = Vec::new();
        let mut wanted = Wanted::default();
        let mut slots = 0;
        let mut fields = Vec::with_capacity(specs.len());
        for spec in specs {
            let mut slot = |path: &str| match pointer(path) {
                Some(steps) => Some(wanted.insert(&steps, &mut slots)),
                None => {
                    let pointer = path.to_owned();
                    faults.push(MappingFault::Pointer { mapping: self.mapping, pointer });
                    None
                }
            };
            let value = slot(&spec.value);
            let time = spec.time.as_ref().and_then(|time| Some((slot(&time.path)?, time.format)));
            let quality = spec.quality.as_deref().and_then(slot);
            match (self.point(spec), value) {
                (Err(fault), _) => faults.push(fault),
                (Ok(_), None) => {}
                (Ok(point), Some(value)) => {
                    let (path, encoding) = (spec.value.clone(), spec.encoding);
                    fields.push(Field { point, path, value, time, quality, encoding });
                }
            }
        }
        if faults.is_empty() { Ok(Format::Json { wanted, slots, fields }) } else { Err(faults) }
    }

    /// A template may fit points of several types; only what suits none of them is a fault.
    fn point(&self, spec: &FieldSpec) -> Result<Template, MappingFault> {
        let mapping = self.mapping;
        let (template, fits) = Template::compile(&spec.point, self.filter, mapping, self.table)?;
        let is_bytes = |point: &Arc<PointDescriptor>| point.value_type == ValueType::Bytes;
        let point = spec.point.clone();
        match spec.encoding {
            None if fits.iter().all(is_bytes) => {
                Err(MappingFault::EncodingMissing { mapping, point })
            }
            Some(_) if !fits.iter().any(is_bytes) => {
                let found = fits[0].value_type.name();
                Err(MappingFault::EncodingNeedless { mapping, point, found })
            }
            _ => Ok(template),
        }
    }
}

fn resolve<'a>(
    template: &'a Template,
    topic: &str,
    points: &'a PointIndex,
) -> Result<&'a PointDescriptor, Complaint> {
    match template.resolve(topic, points) {
        Ok(point) => Ok(point),
        Err(name) => Err(Complaint::unknown_point(&name)),
    }
}

fn raw_value(payload: &[u8], value_type: ValueType) -> Result<Value, Complaint> {
    let limit = match value_type {
        ValueType::Bytes => BYTES_BYTES_MAX,
        ValueType::Text => TEXT_BYTES_MAX,
        other => {
            let text = format!("a raw payload is no value for a point of type {}", other.name());
            return Err(Complaint::undecodable(text));
        }
    };
    if payload.len() > limit {
        let text = format!("{} bytes; the point takes at most {limit}", payload.len());
        return Err(Complaint::too_long(text));
    }
    match value_type {
        ValueType::Text => Ok(Value::Text(utf8(payload)?.to_owned())),
        _ => Ok(Value::Bytes(Bytes::copy_from_slice(payload))),
    }
}

fn json_rows(
    target: Target<'_>,
    fields: &[Field],
    found: &[Option<Token<'_>>],
    context: &Context,
) -> Result<Rows, Complaint> {
    let mut rows = Rows::with_capacity(fields.len());
    // Fields of a message mostly share one time: read it once.
    let mut last: Option<((usize, TimeFormat), Option<WallTime>)> = None;
    for field in fields {
        let Some(token) = found[field.value] else { continue };
        let time = match field.time {
            None => None,
            Some(key) => match last {
                Some((known, time)) if known == key => time,
                _ => {
                    let time = source_time(found[key.0], key.1)?;
                    last = Some((key, time));
                    time
                }
            },
        };
        let quality = match field.quality.and_then(|slot| found[slot]) {
            None => Quality::GOOD,
            Some(token) => quality_of(token)?,
        };
        let point = target.point(&field.point)?;
        let value = match token {
            Token::Null => None,
            token => Some(
                value_of(token, point.value_type, field.encoding)
                    .map_err(|fault| fault.at(&field.path))?,
            ),
        };
        rows.push(context.row(point, time, value, quality));
    }
    match rows.is_empty() {
        true => Err(missing(&fields[0].path)),
        false => Ok(rows),
    }
}
