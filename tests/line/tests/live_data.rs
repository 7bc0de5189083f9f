//! What comes now while a backlog drains over a slow link: it arrives about as soon as without the backlog.

use guan_line::{Running, Shape, Tls, in_virtual_time};
use guan_link::driver::LinkTuning;
use guan_model::StreamId;
use std::time::Duration;

const SHAPE: Shape = Shape {
    rate_bits_per_s: 1_000_000,
    delay: Duration::from_millis(50),
    jitter: Duration::ZERO,
    loss_permille: 20,
    queue_bytes: 64_000,
};
const KEPT: StreamId = StreamId(1);
const LIVE: StreamId = StreamId(2);
const LIVE_BATCHES: usize = 150;
const LIVE_BYTES: usize = 1500;
const LIVE_PAUSE: Duration = Duration::from_millis(300);
const KEPT_BYTES: usize = 12_000;

/// Latencies of live batches, sorted, and bytes of the backlog that came meanwhile.
fn latencies(kept_batches: usize) -> (Vec<Duration>, usize) {
    in_virtual_time(async {
        let spooled = [(KEPT, vec![KEPT_BYTES; kept_batches]), (LIVE, vec![])];
        let running =
            Running::start(&Tls::generate(), LinkTuning::default(), SHAPE, &spooled, false);
        // The start of the link is another matter.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let before = running.stored(KEPT).len();
        for _ in 0..LIVE_BATCHES {
            running.commit(LIVE, LIVE_BYTES);
            tokio::time::sleep(LIVE_PAUSE).await;
        }
        let drained = (running.stored(KEPT).len() - before) * KEPT_BYTES;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let mut live = running.stored(LIVE);
        assert_eq!(live.len(), LIVE_BATCHES);
        live.sort();
        (live, drained)
    })
}

#[test]
fn live_batches_do_not_wait_for_the_backlog() {
    let percentile = |sorted: &[Duration], of: usize| sorted[(sorted.len() - 1) * of / 100];
    let (alone, _) = latencies(0);
    let (beside, drained) = latencies(2000);
    let seconds = (LIVE_PAUSE * u32::try_from(LIVE_BATCHES).unwrap()).as_secs_f64();
    let live = (LIVE_BATCHES * LIVE_BYTES) as f64 / seconds;
    let used = (drained as f64 / seconds + live) * 8.0 / SHAPE.rate_bits_per_s as f64;
    let shown = |sorted: &[Duration]| [50, 99].map(|of| percentile(sorted, of));
    println!("alone {:?}, beside {:?}, used {used:.2}", shown(&alone), shown(&beside));
    assert!(percentile(&beside, 99) <= percentile(&alone, 99) * 2, "{used}");
    assert!(used > 0.8, "{used}");
}
