//! The link obeys its permit: up for all, for contracts only, or down.

use guan_line::{Running, Shape, Tls, in_virtual_time};
use guan_link::driver::{Congestion, LinkState, LinkTuning, Permit};
use guan_model::StreamId;
use std::time::Duration;

const SHAPE: Shape = Shape {
    rate_bits_per_s: 1_000_000,
    delay: Duration::from_millis(50),
    jitter: Duration::ZERO,
    loss_permille: 0,
    queue_bytes: 64_000,
};
const STREAM: StreamId = StreamId(1);
const WHILE: Duration = Duration::from_secs(30);

#[test]
fn batches_leave_with_an_open_permit_only_and_a_closed_one_costs_nothing() {
    in_virtual_time(async {
        let tls = Tls::generate();
        let running =
            Running::start(&tls, LinkTuning::default(), SHAPE, &[(STREAM, vec![500])], true);
        let state = || running.status.borrow().state;
        tokio::time::sleep(WHILE).await;
        assert_eq!((running.stored(STREAM).len(), state()), (1, LinkState::Connected));
        running.permit.send_replace(Permit::Control);
        running.commit(STREAM, 500);
        tokio::time::sleep(WHILE).await;
        assert_eq!((running.stored(STREAM).len(), state()), (1, LinkState::Connected));
        running.permit.send_replace(Permit::Closed);
        tokio::time::sleep(WHILE).await;
        assert_eq!((running.connections(), state()), (1, LinkState::Resting));
        let before = running.line_bytes();
        tokio::time::sleep(WHILE * 100).await;
        assert_eq!(running.line_bytes(), before);
        running.permit.send_replace(Permit::Control);
        tokio::time::sleep(WHILE).await;
        assert_eq!((running.connections(), running.stored(STREAM).len()), (2, 1));
        running.permit.send_replace(Permit::Open);
        tokio::time::sleep(WHILE).await;
        assert_eq!((running.connections(), running.stored(STREAM).len()), (2, 2));
    });
}

#[test]
fn a_cap_holds_on_a_path_that_is_too_short_for_windows() {
    in_virtual_time(async {
        let near = Shape {
            rate_bits_per_s: 1_000_000_000,
            delay: Duration::from_millis(1),
            queue_bytes: 1 << 20,
            ..SHAPE
        };
        let cap = 50_000;
        let congestion = Congestion::Guan { rate_bytes_per_s_max: Some(cap) };
        let tuning = LinkTuning { congestion, ..LinkTuning::default() };
        let spooled = [(STREAM, vec![10_000; 1000])];
        let tls = Tls::generate();
        let running = Running::start_capped(&tls, tuning, near, &spooled, false, Some(cap));
        tokio::time::sleep(WHILE * 2).await;
        let sent = running.status.borrow().path_bytes_sent;
        assert!((cap * 50..=cap * 61).contains(&sent), "{sent} in a minute");
    });
}
