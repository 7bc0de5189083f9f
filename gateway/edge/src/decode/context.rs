//! What is the same for all rows of a message.

use guan_model::{ClockQuality, PointDescriptor, Quality, Reason, Row, Severity, Value, WallTime};

/// When and under which clock a message came in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context {
    pub(super) received: WallTime,
    clock: ClockQuality,
}

impl Context {
    pub(super) fn new(received: WallTime, clock: ClockQuality) -> Self {
        Self { received, clock }
    }

    /// A row of this message. A value that is not there is bad, whatever the source claims of it.
    pub(super) fn row(
        &self,
        point: &PointDescriptor,
        source_time: Option<WallTime>,
        value: Option<Value>,
        quality: Quality,
    ) -> Row {
        let quality = match value {
            None if quality.severity() != Severity::Bad => {
                Quality::new(Severity::Bad, Reason::Invalid)
            }
            _ => quality,
        };
        let mut flags = 0;
        if source_time.is_none() {
            flags |= Quality::SOURCE_TIME_MISSING;
        }
        if self.clock == ClockQuality::Unset {
            flags |= Quality::CLOCK_UNSURE;
        }
        Row {
            point: point.id,
            source_time,
            // Times of the gateway go in steps of a millisecond, see `Row`.
            gateway_time: WallTime::from_millis(self.received.millis()),
            quality: quality.with_flags(flags),
            value,
        }
    }
}
