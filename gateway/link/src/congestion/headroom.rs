//! How much more than rate times round trip is on the way, by what loss says about it.
//!
//! A link that loses at random loses the same share whatever is sent; a queue that overflows loses nothing when
//! less is sent than the link carries. So when more is lost than is known of the link, the line is sounded: for
//! [`SOUNDING_PACKETS`] packets too little is sent to fill any queue, and what is lost then is the link's own, the floor.
//! Only loss above the floor makes the headroom small.

use super::rounds::Round;
use std::time::Duration;

const SHARE_MAX: f64 = 0.25;
const SHARE_STEP: f64 = 0.01;
/// Below this, half is as good as nothing.
const SHARE_SMALL: f64 = 0.04;
/// Share of rate times round trip that is on the way while the line is sounded.
const SOUNDING: f64 = -0.1;
/// From one sounding to the next: it costs a tenth of the rate.
const SOUNDING_INTERVAL: Duration = Duration::from_secs(20);
/// Rounds in which losses of before are still reported.
const SOUNDING_SKIP: u32 = 2;
/// Packets that one judgement needs: of fewer, loss says too little.
const JUDGED_PACKETS: u64 = 200;
/// Packets of one sounding.
const SOUNDING_PACKETS: u64 = 100;
/// Packets of soundings that are remembered.
const SOUNDED_PACKETS_MAX: u64 = 800;
/// Loss above the floor that is worth a reaction, where chance alone would not explain it.
const EXCESS: f64 = 0.01;
/// Standard deviations that chance may take.
const CHANCE: f64 = 2.0;
/// A line of which more is lost though little is sent is crowded, not bad.
const FLOOR_MAX: f64 = 0.15;
/// What a crowded line is left in one step, and how it comes back.
const TRIM: f64 = 0.7;
const TRIM_MIN: f64 = 0.1;
const UNTRIM: f64 = 1.1;

/// Bytes that arrived and that did not.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    acked: u64,
    lost: u64,
}

impl Tally {
    fn total(self) -> u64 {
        self.acked + self.lost
    }

    #[expect(clippy::cast_precision_loss, reason = "a share needs three digits")]
    fn loss(self) -> f64 {
        self.lost as f64 / self.total().max(1) as f64
    }

    /// By how much the share may be wrong for being of so few packets; never nothing, as none lost of a
    /// hundred does not mean that none ever is.
    #[expect(clippy::cast_precision_loss, reason = "a share needs three digits")]
    fn variance(self, packet_bytes: u64) -> f64 {
        if self.total() == 0 {
            return 0.0;
        }
        let packets = (self.total() as f64 / packet_bytes as f64).max(1.0);
        let loss = self.loss().max(1.0 / packets).min(0.5);
        loss * (1.0 - loss) / packets
    }
}

#[derive(Debug, Clone)]
pub(super) struct Headroom {
    share: f64,
    trim: f64,
    current: Tally,
    /// Rounds of the sounding before it counts; `None`: the line is not sounded.
    sounding: Option<u32>,
    sounded: Tally,
    sounded_at: Option<Duration>,
}

impl Headroom {
    pub(super) fn new() -> Self {
        Self {
            share: SHARE_MAX,
            trim: 1.0,
            current: Tally::default(),
            sounding: None,
            sounded: Tally::default(),
            sounded_at: None,
        }
    }

    /// As a share of rate times round trip; below zero while the line is sounded, or crowded.
    pub(super) fn share(&self) -> f64 {
        let share = if self.is_sounding() { SOUNDING } else { self.share };
        (1.0 + share) * self.trim - 1.0
    }

    pub(super) fn is_sounding(&self) -> bool {
        self.sounding.is_some()
    }

    /// What the link loses by itself.
    pub(super) fn floor(&self) -> f64 {
        self.sounded.loss().min(FLOOR_MAX)
    }

    pub(super) fn handle_mark(&mut self) {
        self.halve();
    }

    pub(super) fn handle_loss(&mut self, bytes: u64) {
        self.current.lost += bytes;
    }

    pub(super) fn handle_round(&mut self, now: Duration, round: &Round, packet_bytes: u64) {
        if let Some(left) = self.sounding
            && left > 0
        {
            self.sounding = Some(left - 1);
            self.current = Tally::default();
            return;
        }
        self.current.acked += round.acked;
        let packets = if self.is_sounding() { SOUNDING_PACKETS } else { JUDGED_PACKETS };
        if self.current.total() < packets * packet_bytes {
            return;
        }
        let tally = std::mem::take(&mut self.current);
        match self.sounding.take() {
            Some(_) => self.learn(now, tally, packet_bytes),
            None => self.judge(now, tally, packet_bytes),
        }
    }

    fn learn(&mut self, now: Duration, tally: Tally, packet_bytes: u64) {
        self.sounded_at = Some(now);
        if tally.loss() > FLOOR_MAX {
            self.trim = (self.trim * TRIM).max(TRIM_MIN);
            self.sounded_at = None;
            return;
        }
        self.sounded.acked += tally.acked;
        self.sounded.lost += tally.lost;
        if self.sounded.total() > SOUNDED_PACKETS_MAX * packet_bytes {
            self.sounded.acked /= 2;
            self.sounded.lost /= 2;
        }
    }

    fn judge(&mut self, now: Duration, tally: Tally, packet_bytes: u64) {
        let variance = tally.variance(packet_bytes) + self.sounded.variance(packet_bytes);
        if tally.loss() <= self.floor() + EXCESS + CHANCE * variance.sqrt() {
            self.trim = (self.trim * UNTRIM).min(1.0);
            self.share = (self.share + SHARE_STEP).min(SHARE_MAX);
            return;
        }
        let is_due = self.sounded_at.is_none_or(|at| now.saturating_sub(at) >= SOUNDING_INTERVAL);
        if is_due {
            self.sounding = Some(SOUNDING_SKIP);
        } else {
            self.halve();
        }
    }

    fn halve(&mut self) {
        self.share = if self.share < SHARE_SMALL { 0.0 } else { self.share / 2.0 };
    }
}
