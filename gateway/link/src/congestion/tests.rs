//! The controller on a modelled bottleneck, packet by packet.

use super::*;
use std::collections::VecDeque;

const PACKET: u64 = 1250;

#[derive(Clone, Copy)]
struct Link {
    rate_bytes_per_s: u64,
    delay: Duration,
    queue_packets: u64,
    /// Every so many packets one is lost; 0: none.
    lose_every: u64,
}

const SLOW: Link = Link {
    rate_bytes_per_s: 125_000,
    delay: Duration::from_millis(100),
    queue_packets: 50,
    lose_every: 0,
};

/// What a run came to.
#[derive(Debug)]
struct Seen {
    /// Share of the link's rate that arrived, after the first two seconds.
    used: f64,
    /// Share of what was sent that did not arrive, over all of it.
    gone: f64,
    /// Longest that a packet waited in the queue, after the first two seconds.
    queued: Duration,
    control: Control,
}

/// Sends as much as the window allows, for so long; `change` may alter the link on the way.
fn run(limits: Limits, link: Link, seconds: u64, change: impl Fn(Duration, &mut Link)) -> Seen {
    let mut link = link;
    let mut control = Control::new(Duration::ZERO, PACKET, limits);
    // Moments of arrival of the acknowledgement (or of the news of its loss), and of sending.
    let mut underway: VecDeque<(Duration, Duration, bool)> = VecDeque::new();
    let (mut now, mut busy_until) = (Duration::ZERO, Duration::ZERO);
    let (mut in_flight, mut sent, mut gone, mut arrived) = (0, 0_u64, 0_u64, 0_u64);
    let warm = Duration::from_secs(2);
    let mut queued = Duration::ZERO;
    while now < Duration::from_secs(seconds) {
        change(now, &mut link);
        while in_flight + PACKET <= control.window() {
            let takes = Duration::from_nanos(PACKET * 1_000_000_000 / link.rate_bytes_per_s);
            let waits = busy_until.saturating_sub(now);
            sent += 1;
            in_flight += PACKET;
            let is_full = waits > takes * u32::try_from(link.queue_packets).unwrap();
            let is_lost = link.lose_every > 0 && sent % link.lose_every == 0;
            if !is_full {
                busy_until = busy_until.max(now) + takes;
            }
            if now > warm {
                queued = queued.max(waits);
            }
            underway.push_back((busy_until + link.delay, now, is_full || is_lost));
        }
        let (at, sent_at, is_gone) = underway.pop_front().expect("the window lets packets out");
        now = now.max(at);
        in_flight -= PACKET;
        if is_gone {
            gone += 1;
            control.handle_loss(now, PACKET, false);
        } else {
            arrived += u64::from(now > warm);
            control.handle_ack(now, sent_at, PACKET, false);
            control.handle_acks_end(now, in_flight);
        }
    }
    let carried = (now - warm).as_secs_f64() * link.rate_bytes_per_s as f64;
    Seen {
        used: (arrived * PACKET) as f64 / carried,
        gone: gone as f64 / sent as f64,
        queued,
        control,
    }
}

fn free() -> Limits {
    Limits { rate_bytes_per_s_max: None }
}

fn check(name: &str, link: Link, used_min: f64, gone_max: f64, queued_max_ms: u64) {
    let seen = run(free(), link, 40, |_, _| ());
    assert!(seen.used >= used_min, "{name}: {seen:?}");
    assert!(seen.gone <= gone_max, "{name}: {seen:?}");
    assert!(seen.queued <= Duration::from_millis(queued_max_ms), "{name}: {seen:?}");
}

#[test]
fn links_are_filled_without_waste_whatever_they_lose() {
    let ten = Link { rate_bytes_per_s: 1_250_000, queue_packets: 200, ..SLOW };
    check("plain", SLOW, 0.97, 0.0, 100);
    check("2 % lost", Link { lose_every: 50, ..SLOW }, 0.94, 0.021, 100);
    check("5 % lost", Link { lose_every: 20, ..SLOW }, 0.91, 0.051, 100);
    check("ten times as fast", ten, 0.97, 0.0, 100);
    check("ten times as fast, 5 % lost", Link { lose_every: 20, ..ten }, 0.91, 0.051, 100);
    check("short", Link { delay: Duration::from_millis(2), ..SLOW }, 0.97, 0.0, 100);
    check("long", Link { delay: Duration::from_millis(600), ..SLOW }, 0.93, 0.0, 450);
}

#[test]
fn a_short_queue_is_not_kept_overflowing() {
    for queue_packets in [3, 6] {
        let seen = run(free(), Link { queue_packets, ..SLOW }, 60, |_, _| ());
        assert!(seen.used > 0.95 && seen.gone < 0.05, "{queue_packets} packets: {seen:?}");
    }
}

#[test]
fn a_cap_is_kept_and_not_overshot() {
    let limits = Limits { rate_bytes_per_s_max: Some(60_000) };
    let seen = run(limits, SLOW, 40, |_, _| ());
    let share = seen.used * 125_000.0 / 60_000.0;
    assert!((0.9..=1.0).contains(&share), "{share} of the cap: {seen:?}");
    assert_eq!((seen.gone, seen.queued), (0.0, Duration::ZERO));
}

#[test]
fn a_link_that_changes_is_followed() {
    let half = Duration::from_secs(20);
    let faster = |now: Duration, link: &mut Link| {
        link.rate_bytes_per_s = if now < half { 125_000 } else { 500_000 };
    };
    let seen = run(free(), Link { queue_packets: 100, ..SLOW }, 40, faster);
    let rate = seen.control.rate_bytes_per_s().unwrap();
    assert!((490_000..=510_000).contains(&rate), "{rate}");
    let slower = |now: Duration, link: &mut Link| {
        link.rate_bytes_per_s = if now < half { 500_000 } else { 125_000 };
    };
    let seen = run(free(), Link { queue_packets: 100, ..SLOW }, 40, slower);
    let rate = seen.control.rate_bytes_per_s().unwrap();
    assert!((120_000..=130_000).contains(&rate), "{rate}");
    // The way got longer: what looks like a queue is distance, and is learnt as such.
    let longer = |now: Duration, link: &mut Link| {
        link.delay = Duration::from_millis(if now < half { 100 } else { 300 });
    };
    let seen = run(free(), SLOW, 60, longer);
    let rate = seen.control.rate_bytes_per_s().unwrap();
    assert!(rate > 115_000, "{rate}");
}

#[test]
fn a_path_that_lost_everything_begins_anew() {
    let mut seen = run(free(), SLOW, 10, |_, _| ());
    assert!(seen.control.window() > WINDOW_PACKETS_FIRST * PACKET);
    seen.control.handle_loss(Duration::from_secs(12), PACKET, true);
    assert_eq!(seen.control.window(), WINDOW_PACKETS_MIN * PACKET);
    assert_eq!(seen.control.rate_bytes_per_s(), None);
}

#[test]
fn who_has_little_to_send_keeps_what_is_known() {
    let mut seen = run(free(), SLOW, 10, |_, _| ());
    let (window, rate) = (seen.control.window(), seen.control.rate_bytes_per_s());
    for second in 11..60 {
        let sent = Duration::from_secs(second);
        let now = sent + Duration::from_millis(110);
        seen.control.handle_ack(now, sent, 200, true);
        seen.control.handle_acks_end(now, 0);
    }
    assert_eq!(seen.control.rate_bytes_per_s(), rate);
    assert!(seen.control.window() > window / 2, "{} of {window}", seen.control.window());
}

#[test]
fn marks_take_headroom_as_loss_does() {
    let mut seen = run(free(), SLOW, 10, |_, _| ());
    let before = seen.control.headroom.share();
    seen.control.handle_mark();
    assert!(seen.control.headroom.share() < before);
}

#[test]
fn samples_of_rates_are_limited() {
    let mut rounds = Rounds::new(Duration::ZERO);
    for number in 1..1000_u32 {
        let now = Duration::from_micros(10) * number;
        // Each round is slower than the one before, so that none pushes out another.
        let bytes = 100_000 - 100 * u64::from(number.min(999));
        rounds.handle_ack(now - Duration::from_micros(9), Duration::from_micros(9), bytes, false);
        rounds.poll_end(now, false);
    }
    assert_eq!(rounds.kept(), rounds::SAMPLES_MAX);
}
