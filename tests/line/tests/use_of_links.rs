//! The controller of the link under quinn: it fills bad links, and wastes nothing on them.

use guan_line::{HEADERS, Shape, Tls, in_virtual_time, transfer};
use guan_link::driver::{Congestion, LinkTuning};
use std::time::Duration;

const SHAPE: Shape = Shape {
    rate_bits_per_s: 1_000_000,
    delay: Duration::from_millis(50),
    jitter: Duration::ZERO,
    loss_permille: 50,
    queue_bytes: 64_000,
};
const BYTES: u64 = 4 << 20;
/// Of a full packet, and what of it is payload.
const FULL: (u64, u64) = (1452 + HEADERS, 1452 - 34);

/// Share of the line that carried payload, and bytes sent beyond those of the same payload in full packets.
fn use_of(tls: &Tls, congestion: Congestion, shape: Shape, seed: u64) -> (f64, f64) {
    let tuning = LinkTuning { congestion, ..LinkTuning::default() };
    // Long enough that the start is not most of it.
    let bytes = BYTES * (shape.rate_bits_per_s / 1_000_000).min(4);
    let run = in_virtual_time(transfer(tls, tuning, shape, seed, bytes));
    let used = (bytes * 8) as f64 / run.took.as_secs_f64() / shape.rate_bits_per_s as f64;
    let needed = bytes as f64 * FULL.0 as f64 / FULL.1 as f64;
    (used, run.up.offered_bytes as f64 / needed - 1.0)
}

fn check(shape: Shape, used_min: f64, extra_max: f64) {
    let tls = Tls::generate();
    for seed in 1..=4 {
        let (used, extra) = use_of(&tls, Congestion::default(), shape, seed);
        let all = format!("{shape:?}, seed {seed}: used {used:.3}, extra {extra:.3}");
        assert!(used >= used_min && extra <= extra_max, "{all}");
    }
}

#[test]
fn a_slow_link_that_loses_one_of_twenty_is_filled() {
    check(SHAPE, 0.85, 0.08);
}

#[test]
fn so_is_a_faster_one_and_one_that_jitters() {
    check(Shape { rate_bits_per_s: 10_000_000, queue_bytes: 250_000, ..SHAPE }, 0.75, 0.08);
    check(Shape { jitter: Duration::from_millis(40), ..SHAPE }, 0.8, 0.08);
}

#[test]
fn a_link_that_loses_nothing_loses_little_to_us() {
    check(Shape { loss_permille: 0, ..SHAPE }, 0.92, 0.01);
    check(Shape { loss_permille: 0, queue_bytes: 8_000, ..SHAPE }, 0.85, 0.08);
}

#[test]
fn a_cap_is_kept() {
    let congestion = Congestion::Guan { rate_bytes_per_s_max: Some(50_000) };
    let (used, _) = use_of(&Tls::generate(), congestion, SHAPE, 1);
    let share = used * 125_000.0 / 50_000.0;
    // It is kept in whole packets a round trip, of which there are few here.
    assert!((0.55..=1.0).contains(&share), "{share} of the cap");
}

/// The model is worth something: what is known of cubic shows on it.
#[test]
fn cubic_collapses_on_the_same_link() {
    let (used, _) = use_of(&Tls::generate(), Congestion::Cubic, SHAPE, 1);
    assert!(used < 0.7, "{used}");
}
