//! Payloads into readings: which mapping takes a topic, and what the message says about which points.
//!
//! Invariants: a message becomes all of its rows or none; every message gives rows or a refusal that
//! names topic, fault and remedy; a value is exactly what the source wrote, in the type of its
//! point. Bytes from outside never panic and never take memory beyond their own size.
//!
//! Never here: I/O, clocks, contracts.

mod context;
mod decimal;
mod json;
mod mapping;
mod refusal;
mod routes;
mod scalar;
mod senml;
mod source_time;
mod topics;

#[cfg(test)]
mod tests;

pub use json::DEPTH_MAX;
pub use mapping::{
    FIELDS_PER_MAPPING_MAX, FieldSpec, FormatSpec, MappingSpec, TimeSpec, Undecodable,
};
pub use refusal::{DecodeRefusal, MappingFault, REFUSAL_TEXT_BYTES_MAX, RefusalCode};
pub use routes::Routes;
pub use scalar::Encoding;
pub use source_time::TimeFormat;
pub use topics::FILTER_LEVELS_MAX;

use crate::rows::Rows;
use context::Context;
use guan_model::value::BYTES_BYTES_MAX;
use guan_model::{
    ClockQuality, DatasetId, DescriptorTable, PointDescriptor, Quality, Reason, Severity, Value,
    WallTime,
};
use mapping::{Mapping, Target};
use refusal::{Complaint, excerpt};
use smallvec::smallvec;
use std::sync::Arc;
use topics::{FilterTree, PointIndex};

/// Most rows that one message may give.
pub const ROWS_PER_MESSAGE_MAX: usize = 4096;
/// Most mappings of a box.
pub const MAPPINGS_MAX: usize = 4096;

/// Where messages of a topic go.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    mapping: usize,
    /// Where the mapping fills one point only.
    point: Option<Arc<PointDescriptor>>,
}

/// All mappings of a box, compiled. Shared by every connection; nothing in it changes.
#[derive(Debug)]
pub struct Decoder {
    filters: FilterTree,
    mappings: Vec<Mapping>,
    points: PointIndex,
}

impl Decoder {
    /// Reports the faults of all mappings at once.
    pub fn compile(
        specs: &[MappingSpec],
        table: &DescriptorTable,
    ) -> Result<Self, Vec<MappingFault>> {
        let mut faults = Vec::new();
        if specs.len() > MAPPINGS_MAX {
            let limit = MAPPINGS_MAX;
            return Err(vec![MappingFault::TooManyMappings { count: specs.len(), limit }]);
        }
        let mut filters = FilterTree::default();
        let mut mappings = Vec::with_capacity(specs.len());
        for (index, spec) in specs.iter().enumerate() {
            if let Err(why) = filters.insert(&spec.filter, index) {
                let filter = spec.filter.clone();
                faults.push(MappingFault::Filter { mapping: index + 1, filter, why });
            }
            match Mapping::compile(spec, index + 1, table) {
                Ok(mapping) => mappings.push(mapping),
                Err(found) => faults.extend(found),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let index = |point: &Arc<PointDescriptor>| (point.name.as_str().into(), point.clone());
        Ok(Self { filters, mappings, points: table.iter().map(index).collect() })
    }

    /// The rows of a message, at least one. `received` is also what relative times count from.
    pub fn decode(
        &self,
        topic: &str,
        payload: &[u8],
        received: WallTime,
        clock: ClockQuality,
    ) -> Result<Rows, DecodeRefusal> {
        self.decode_by(self.route(topic).as_ref(), topic, payload, Context::new(received, clock))
    }

    /// The same for who has many messages to decode.
    pub fn decode_with(
        &self,
        routes: &mut Routes,
        topic: &Arc<str>,
        payload: &[u8],
        received: WallTime,
        clock: ClockQuality,
    ) -> Result<Rows, DecodeRefusal> {
        let route = routes.find(self, topic);
        self.decode_by(route, topic, payload, Context::new(received, clock))
    }

    fn decode_by(
        &self,
        route: Option<&Route>,
        topic: &str,
        payload: &[u8],
        context: Context,
    ) -> Result<Rows, DecodeRefusal> {
        let rows = self.rows(route, topic, payload, &context);
        rows.map_err(|fault| DecodeRefusal::new(topic, &fault))
    }

    fn route(&self, topic: &str) -> Option<Route> {
        let mapping = self.filters.find(topic)?;
        let point = self.mappings[mapping].only_point(topic, &self.points).cloned();
        Some(Route { mapping, point })
    }

    /// The dataset for which messages of a topic are meant; `None` when the mapping leads to several.
    pub fn dataset_of(&self, topic: &str) -> Option<&DatasetId> {
        self.mappings[self.filters.find(topic)?].dataset(topic, &self.points)
    }

    fn rows(
        &self,
        route: Option<&Route>,
        topic: &str,
        payload: &[u8],
        context: &Context,
    ) -> Result<Rows, Complaint> {
        let Some(Route { mapping, point }) = route else {
            return Err(Complaint {
                code: RefusalCode::NoMapping,
                text: "no mapping takes this topic; add [[mapping]]".to_owned(),
            });
        };
        let mapping = &self.mappings[*mapping];
        let target = Target { topic, points: &self.points, point: point.as_deref() };
        match (mapping.rows(target, payload, context), mapping.opaque_point()) {
            (Err(fault), Some(point)) => {
                if payload.len() > BYTES_BYTES_MAX {
                    return Err(Complaint::too_long(format!(
                        "{} bytes, and at most {BYTES_BYTES_MAX} are kept undecoded: {}",
                        payload.len(),
                        fault.text
                    )));
                }
                let quality = Quality::new(Severity::Uncertain, Reason::Undecodable);
                let value = Value::Bytes(bytes::Bytes::copy_from_slice(payload));
                Ok(smallvec![context.row(point, None, Some(value), quality)])
            }
            (outcome, _) => outcome,
        }
    }
}

/// Text of a payload; JSON and text points are UTF-8.
fn utf8(payload: &[u8]) -> Result<&str, Complaint> {
    std::str::from_utf8(payload).map_err(|fault| {
        Complaint::undecodable(format!("not UTF-8 at byte {}", fault.valid_up_to()))
    })
}

/// What was looked for, for people.
fn missing(path: &str) -> Complaint {
    Complaint::undecodable(format!("the message has no {}", excerpt(path)))
}
