//! Our congestion control in quinn's clothes, and quinn's own beside it.

use crate::congestion::{Control, Limits, WINDOW_PACKETS_FIRST};
use quinn::congestion::{
    BbrConfig, Controller, ControllerFactory, ControllerMetrics, CubicConfig, NewRenoConfig,
};
use quinn_proto::RttEstimator;
use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What decides how much is on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Congestion {
    /// Ours; see [`crate::congestion`].
    Guan {
        rate_bytes_per_s_max: Option<u64>,
    },
    /// RFC 9438, for links that are shared with many others and lose nothing.
    Cubic,
    /// quinn's others, for comparison.
    NewReno,
    Bbr,
}

impl Default for Congestion {
    fn default() -> Self {
        Self::Guan { rate_bytes_per_s_max: None }
    }
}

impl Congestion {
    pub(super) fn factory(self) -> Arc<dyn ControllerFactory + Send + Sync> {
        match self {
            Self::Guan { rate_bytes_per_s_max } => {
                Arc::new(Factory { limits: Limits { rate_bytes_per_s_max } })
            }
            Self::Cubic => Arc::new(CubicConfig::default()),
            Self::NewReno => Arc::new(NewRenoConfig::default()),
            Self::Bbr => Arc::new(BbrConfig::default()),
        }
    }
}

struct Factory {
    limits: Limits,
}

impl ControllerFactory for Factory {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let control = Control::new(Duration::ZERO, current_mtu.into(), self.limits);
        Box::new(Clothed {
            origin: now,
            first: WINDOW_PACKETS_FIRST * u64::from(current_mtu),
            control,
        })
    }
}

#[derive(Clone)]
struct Clothed {
    origin: Instant,
    first: u64,
    control: Control,
}

impl Clothed {
    fn at(&self, moment: Instant) -> Duration {
        moment.saturating_duration_since(self.origin)
    }
}

impl Controller for Clothed {
    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        _: &RttEstimator,
    ) {
        let (now, sent) = (self.at(now), self.at(sent));
        self.control.handle_ack(now, sent, bytes, app_limited);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, _: bool, _: Option<u64>) {
        self.control.handle_acks_end(self.at(now), in_flight);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        _: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        match lost_bytes {
            0 => self.control.handle_mark(),
            bytes => self.control.handle_loss(self.at(now), bytes, is_persistent_congestion),
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.control.handle_packet_size(new_mtu.into());
    }

    fn window(&self) -> u64 {
        self.control.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = ControllerMetrics::default();
        metrics.congestion_window = self.window();
        metrics.pacing_rate = self.control.rate_bytes_per_s().map(|rate| rate.saturating_mul(8));
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.first
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
