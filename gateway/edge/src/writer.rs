//! The writer: turns waiting into events and hands effects out. The only loop around the engine.
//!
//! It runs on a thread of its own, because a commit blocks for as long as the disk flushes; in the
//! simulator it is a task on virtual time. Two ways in, one line: events over a bounded channel, and the
//! space's cursors over a slot that is overwritten, so that it can never be full.

use crate::engine::{Effect, Engine, EngineError, Event};
use crate::system_clock::TimeSource;
use guan_model::{BatchSeq, Now, StreamId};
use guan_spool::Disk;
use std::collections::BTreeMap;
use tokio::sync::{mpsc, watch};

/// Most events that wait for the writer.
pub const EVENT_QUEUE_MAX: usize = 4096;
/// Events taken from the queue at a time.
const EVENTS_AT_ONCE: usize = 1024;

/// How far the space has stored each stream.
pub type Cursors = BTreeMap<StreamId, BatchSeq>;

/// What the writer waits for.
pub struct Inputs<T> {
    pub events: mpsc::Receiver<Event<T>>,
    pub cursors: watch::Receiver<Cursors>,
    /// What the reader found that can never leave.
    pub forfeits: watch::Receiver<Cursors>,
}

enum Wake<T> {
    Events(Vec<Event<T>>),
    Cursors,
    Forfeits,
    Timeout,
    Closed,
}

/// Runs until `Event::Stop`, until all senders are gone, or until the disk can no longer be trusted.
pub async fn run<D: Disk, T>(
    engine: &mut Engine<D, T>,
    clock: &mut impl TimeSource,
    mut inputs: Inputs<T>,
    mut handle_effect: impl FnMut(&Engine<D, T>, Effect<T>),
) -> Result<(), EngineError> {
    let (mut released, mut forfeited) = (Cursors::new(), Cursors::new());
    let mut stopped = false;
    while !stopped {
        let wait = engine.poll_timeout().saturating_sub(clock.now().monotonic);
        let mut events = Vec::new();
        let wake = tokio::select! {
            biased;
            count = inputs.events.recv_many(&mut events, EVENTS_AT_ONCE) => match count {
                0 => Wake::Closed,
                _ => Wake::Events(events),
            },
            // A link that is gone for good leaves its slot closed; then only events matter.
            Ok(()) = inputs.cursors.changed() => Wake::Cursors,
            Ok(()) = inputs.forfeits.changed() => Wake::Forfeits,
            () = tokio::time::sleep(wait) => Wake::Timeout,
        };
        let batch = match wake {
            Wake::Events(events) => events,
            Wake::Cursors => news(&inputs.cursors.borrow_and_update(), &mut released)
                .map(|(stream, through)| Event::Acknowledged { stream, through })
                .collect(),
            Wake::Forfeits => news(&inputs.forfeits.borrow_and_update(), &mut forfeited)
                .map(|(stream, through)| Event::Forfeited { stream, through })
                .collect(),
            Wake::Timeout => vec![Event::Tick],
            Wake::Closed => vec![Event::Stop],
        };
        // One look at the clock serves all that came together; a commit takes time, so it asks for another.
        let mut now = clock.now();
        for event in batch {
            stopped |= matches!(event, Event::Stop);
            if step(engine, clock, now, event, &mut handle_effect)? {
                now = clock.now();
            }
        }
        // A steady flow of events must not keep the tick from coming.
        let now = clock.now();
        if !stopped && now.monotonic >= engine.poll_timeout() {
            step(engine, clock, now, Event::Tick, &mut handle_effect)?;
        }
    }
    Ok(())
}

/// Whether the event brought about a commit.
fn step<D: Disk, T>(
    engine: &mut Engine<D, T>,
    clock: &mut impl TimeSource,
    now: Now,
    event: Event<T>,
    handle_effect: &mut impl FnMut(&Engine<D, T>, Effect<T>),
) -> Result<bool, EngineError> {
    let outcome = engine.apply(now, event);
    let mut has_committed = false;
    while let Some(effect) = engine.poll_effect() {
        if let Effect::Committed(now) = &effect {
            clock.handle_durable(*now);
            has_committed = true;
        }
        handle_effect(engine, effect);
    }
    outcome.map(|()| has_committed)
}

/// What went further since the last look.
fn news<'c>(
    cursors: &'c Cursors,
    known: &'c mut Cursors,
) -> impl Iterator<Item = (StreamId, BatchSeq)> + 'c {
    cursors.iter().filter_map(|(stream, through)| {
        let before = known.insert(*stream, *through).unwrap_or(BatchSeq::ZERO);
        (*through > before).then_some((*stream, *through))
    })
}
