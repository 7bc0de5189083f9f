//! How congestion controllers use a link: 100 ms round trip, several rates and losses, in virtual time.
//!
//! `cargo bench -p guan-line [-- --json] [--only guan]`. The link is modelled (`src/model.rs`), quinn and
//! TLS are real, so a run says the same on a busy machine. Columns: payload over line rate; packets that did not
//! arrive; bytes sent (IP) over bytes that arrived; bytes sent over what the same payload takes in full packets.

use guan_line::{HEADERS, Shape, Tls, Transfer, in_virtual_time, transfer};
use guan_link::driver::{Congestion, LinkTuning};
use serde_json::json;
use std::time::Duration;

const DELAY: Duration = Duration::from_millis(50);
/// Runs of each row; each has its own losses.
const SEEDS: u64 = 8;
/// A full packet: 1,452 bytes of UDP payload, of which header, tag and frame header of quinn take about this.
const PACKET_BYTES: u64 = 1452;
const PACKET_OVERHEAD: u64 = 34;

struct Case {
    name: &'static str,
    shape: Shape,
    bytes: u64,
}

fn cases() -> Vec<Case> {
    let shape = |rate_bits_per_s, loss_permille, queue_bytes| Shape {
        rate_bits_per_s,
        delay: DELAY,
        jitter: Duration::ZERO,
        loss_permille,
        queue_bytes,
    };
    let (one, ten) = (1_000_000, 10_000_000);
    let jitter = Duration::from_millis(40);
    vec![
        Case { name: "1 Mbit/s, 0 %", shape: shape(one, 0, 64_000), bytes: 4 << 20 },
        Case { name: "1 Mbit/s, 1 %", shape: shape(one, 10, 64_000), bytes: 4 << 20 },
        Case { name: "1 Mbit/s, 5 %", shape: shape(one, 50, 64_000), bytes: 4 << 20 },
        Case { name: "1 Mbit/s, 5 %, 1 MB", shape: shape(one, 50, 64_000), bytes: 1_000_000 },
        Case { name: "10 Mbit/s, 1 %", shape: shape(ten, 10, 250_000), bytes: 16 << 20 },
        Case { name: "10 Mbit/s, 5 %", shape: shape(ten, 50, 250_000), bytes: 16 << 20 },
        Case { name: "1 Mbit/s, queue 8 kB", shape: shape(one, 0, 8_000), bytes: 4 << 20 },
        Case { name: "10 Mbit/s, queue 20 kB", shape: shape(ten, 0, 20_000), bytes: 16 << 20 },
        Case {
            name: "1 Mbit/s, 5 %, jitter 40 ms",
            shape: Shape { jitter, ..shape(one, 50, 64_000) },
            bytes: 4 << 20,
        },
    ]
}

/// Means over the seeds.
struct Row {
    goodput_share: f64,
    gone_share: f64,
    sent_over_arrived: f64,
    extra_share: f64,
    spurious: u64,
}

fn full_bytes(bytes: u64) -> f64 {
    let payload = PACKET_BYTES - PACKET_OVERHEAD;
    bytes as f64 * (PACKET_BYTES + HEADERS) as f64 / payload as f64
}

fn measure(tls: &Tls, congestion: Congestion, case: &Case) -> Row {
    let tuning = LinkTuning { congestion, ..LinkTuning::default() };
    let runs: Vec<Transfer> = (1..=SEEDS)
        .map(|seed| in_virtual_time(transfer(tls, tuning, case.shape, seed, case.bytes)))
        .collect();
    let mean = |of: &dyn Fn(&Transfer) -> f64| runs.iter().map(of).sum::<f64>() / SEEDS as f64;
    let rate = case.shape.rate_bits_per_s as f64;
    Row {
        goodput_share: mean(&|run| case.bytes as f64 * 8.0 / run.took.as_secs_f64() / rate),
        gone_share: mean(&|run| {
            let gone = run.up.lost_packets + run.up.dropped_packets;
            gone as f64 / run.up.offered_packets as f64
        }),
        sent_over_arrived: mean(&|run| {
            run.up.offered_bytes as f64 / run.up.arrived_bytes as f64 - 1.0
        }),
        extra_share: mean(&|run| run.up.offered_bytes as f64 / full_bytes(case.bytes) - 1.0),
        spurious: runs.iter().map(|run| run.lost_spuriously).sum::<u64>() / SEEDS,
    }
}

fn main() {
    let is_json = std::env::args().any(|argument| argument == "--json");
    let tls = Tls::generate();
    let controllers = [
        ("guan", Congestion::default()),
        ("cubic", Congestion::Cubic),
        ("newreno", Congestion::NewReno),
        ("bbr", Congestion::Bbr),
    ];
    let only = std::env::args().skip_while(|argument| argument != "--only").nth(1);
    let mut rows = Vec::new();
    println!(
        "{:<28} {:<8} {:>8} {:>8} {:>13} {:>8} {:>9}",
        "link", "control", "goodput", "gone", "sent/arrived", "extra", "spurious"
    );
    let case_name = std::env::args().skip_while(|argument| argument != "--case").nth(1);
    for case in cases() {
        if case_name.as_ref().is_some_and(|only| !case.name.contains(only.as_str())) {
            continue;
        }
        for (name, congestion) in controllers {
            if only.as_ref().is_some_and(|only| only != name) {
                continue;
            }
            let row = measure(&tls, congestion, &case);
            println!(
                "{:<28} {name:<8} {:>7.1}% {:>7.1}% {:>12.1}% {:>7.1}% {:>9}",
                case.name,
                row.goodput_share * 100.0,
                row.gone_share * 100.0,
                row.sent_over_arrived * 100.0,
                row.extra_share * 100.0,
                row.spurious,
            );
            rows.push(json!({
                "link": case.name,
                "control": name,
                "goodput_share": row.goodput_share,
                "gone_share": row.gone_share,
                "sent_over_arrived": row.sent_over_arrived,
                "extra_share": row.extra_share,
                "spurious_losses": row.spurious,
            }));
        }
    }
    if is_json {
        println!("{}", json!({ "schema": 1, "seeds": SEEDS, "rows": rows }));
    }
}
