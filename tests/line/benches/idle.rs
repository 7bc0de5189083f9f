//! What a link costs that has nothing to send: bytes on the line in both directions, IP headers included.
//!
//! `cargo bench -p guan-line --bench idle [-- --json]`. A day of virtual time, times thirty. Session, TLS, keep-alives
//! and attestation are real; evidence, verdict and roster have the sizes of a box with a TPM and one contract.

use guan_line::{Running, Shape, Tls, in_virtual_time};
use guan_link::driver::{LinkTuning, Permit};
use guan_link::rota::{Budget, Facts, Rota, Rules, Usage, Verdict};
use guan_link::text::ReportJson;
use guan_model::{StreamId, WallTime};
use serde_json::json;
use std::time::Duration;

const SHAPE: Shape = Shape {
    rate_bits_per_s: 1_000_000,
    delay: Duration::from_millis(50),
    jitter: Duration::ZERO,
    loss_permille: 0,
    queue_bytes: 64_000,
};
const DAY: Duration = Duration::from_secs(86_400);
const STREAM: StreamId = StreamId(1);
const TICK: Duration = Duration::from_secs(1);

struct Case {
    name: &'static str,
    keep_alive_s: u64,
    /// After so long without work the link is let go, and comes up so often: seconds.
    sleep: Option<(u64, u64)>,
    batches_per_day: u32,
}

struct Row {
    line_bytes: u64,
    connections: u64,
    slowest: Duration,
}

fn permit(verdict: Verdict) -> Permit {
    match verdict {
        Verdict::Open => Permit::Open,
        Verdict::Control => Permit::Control,
        Verdict::Closed => Permit::Closed,
    }
}

async fn run(tls: &Tls, case: &Case) -> Row {
    let keep_alive = Duration::from_secs(case.keep_alive_s);
    let tuning = LinkTuning {
        keep_alive,
        idle_timeout: keep_alive * 2,
        is_probing_size: case.sleep.is_none(),
        ..LinkTuning::default()
    };
    let running = Running::start(tls, tuning, SHAPE, &[(STREAM, vec![])], true);
    // The report and the signed head of the log, which each session begins with.
    let report = format!("{{\"report\":\"{}\"}}", "x".repeat(1000));
    running.report.send_replace(ReportJson::parse(&report).ok());
    let rules = Rules {
        windows: vec![],
        budget: Budget::default(),
        sleep_after: case.sleep.map(|(after, _)| Duration::from_secs(after)),
        check_in: Duration::from_secs(case.sleep.map_or(0, |(_, check_in)| check_in)),
    };
    let (started, usage) = (tokio::time::Instant::now(), Usage::default());
    let mut rota = Rota::new(Duration::ZERO, rules);
    let mut committed = 0;
    while started.elapsed() < DAY {
        let elapsed = started.elapsed();
        if elapsed >= DAY * committed / case.batches_per_day.max(1) + TICK * 100
            && committed < case.batches_per_day
        {
            running.commit(STREAM, 500);
            committed += 1;
        }
        let status = running.status.borrow().clone();
        let facts = Facts {
            now: elapsed,
            wall: Some(WallTime(0)),
            is_waiting: running.stored(STREAM).len() < committed as usize,
            is_connected: status.connected_since.is_some(),
            said_bytes: status.stream_bytes_sent + status.stream_bytes_received,
        };
        let verdict = permit(rota.poll(&facts, &usage).0);
        running.permit.send_if_modified(|known| std::mem::replace(known, verdict) != verdict);
        tokio::time::sleep(TICK).await;
    }
    Row {
        line_bytes: running.line_bytes(),
        connections: running.connections(),
        slowest: running.stored(STREAM).into_iter().max().unwrap_or_default(),
    }
}

fn main() {
    let is_json = std::env::args().any(|argument| argument == "--json");
    let tls = Tls::generate();
    let case = |name, keep_alive_s, sleep, batches_per_day| Case {
        name,
        keep_alive_s,
        sleep,
        batches_per_day,
    };
    let (hours_12, hours_8, hours_6) = (43_200, 28_800, 21_600);
    let cases = [
        case("kept up, keep-alive 15 s", 15, None, 0),
        case("kept up, keep-alive 240 s", 240, None, 0),
        case("sleeps, check-in each 6 h", 15, Some((10, hours_6)), 0),
        case("sleeps, check-in each 8 h", 15, Some((10, hours_8)), 0),
        case("sleeps, check-in each 12 h", 15, Some((10, hours_12)), 0),
        case("sleeps, 12 h, 24 batches a day", 15, Some((10, hours_12)), 24),
    ];
    println!(
        "{:<32} {:>12} {:>10} {:>9} {:>9}",
        "link", "bytes a day", "MB a month", "sessions", "slowest"
    );
    let mut rows = Vec::new();
    for case in &cases {
        let row = in_virtual_time(run(&tls, case));
        let month_mb = row.line_bytes as f64 * 30.0 / 1e6;
        let slowest_ms = row.slowest.as_secs_f64() * 1e3;
        println!(
            "{:<32} {:>12} {month_mb:>10.2} {:>9} {slowest_ms:>6.0} ms",
            case.name, row.line_bytes, row.connections,
        );
        rows.push(json!({
            "link": case.name,
            "line_bytes_per_day": row.line_bytes,
            "mb_per_month": month_mb,
            "sessions": row.connections,
            "slowest_ms": slowest_ms,
        }));
    }
    if is_json {
        println!("{}", json!({ "schema": 1, "rows": rows }));
    }
}
