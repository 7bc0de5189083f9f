//! Two ends over a network that loses, repeats and reorders, with commands, restarts and clocks at random.
//!
//! Whatever happens, no state is left that must not be left, both ends come to an end, and the ends
//! agree, but for the one doubt that no protocol can lift: the last message, never answered.

use super::*;

/// How many orders: a million at release speed.
const ORDERS: u64 = if cfg!(debug_assertions) { 5_000 } else { 1_000_000 };

/// xorshift64*, seeded.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % limit
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

#[derive(Clone)]
enum Packet {
    Message { from: Role, sequence: u32, message: Message },
    Answer { to: Role, sequence: u32, answer: Answer },
}

struct World {
    random: Random,
    now: Now,
    offers: [Terms; 4],
    consumer: Option<Negotiation>,
    provider: Option<Negotiation>,
    network: Vec<Packet>,
    limits: Limits,
}

#[derive(Default, Debug)]
struct Tally {
    finalized: u64,
    terminated: u64,
    in_doubt: u64,
    refused: u64,
}

impl World {
    fn new(seed: u64, offers: [Terms; 4]) -> Self {
        let mut random = Random::new(seed);
        let attempts_max = 2 + u32::try_from(random.below(8)).unwrap();
        let limits = limits(|l| (l.attempts_max, l.proposals_max) = (attempts_max, 5));
        let opener = if random.one_in(4) { Role::Provider } else { Role::Consumer };
        let now = at(0);
        let opened = Negotiation::open(now, parties(opener), offers[0].clone(), limits).unwrap();
        let (consumer, provider) = match opener {
            Role::Consumer => (Some(opened), None),
            Role::Provider => (None, Some(opened)),
        };
        Self { random, now, offers, consumer, provider, network: Vec::new(), limits }
    }

    fn end(&mut self, role: Role) -> &mut Option<Negotiation> {
        match role {
            Role::Consumer => &mut self.consumer,
            Role::Provider => &mut self.provider,
        }
    }

    /// Does something to one end and looks at the step it made.
    fn at_end<T>(&mut self, role: Role, act: impl FnOnce(&mut Negotiation, Now) -> T) -> Option<T> {
        let now = self.now;
        let end = self.end(role).as_mut()?;
        let before = end.state();
        let outcome = act(end, now);
        assert_step(before, end.state());
        Some(outcome)
    }

    fn poll(&mut self, role: Role) {
        let sent = self.at_end(role, Negotiation::poll_message).flatten();
        let Some(Transmit { sequence, message, .. }) = sent else { return };
        self.post(Packet::Message { from: role, sequence, message });
    }

    /// One in five is lost, one in five comes twice.
    fn post(&mut self, packet: Packet) {
        match self.random.below(5) {
            0 => {}
            1 => self.network.extend([packet.clone(), packet]),
            _ => self.network.push(packet),
        }
    }

    fn deliver(&mut self, tally: &mut Tally) {
        if self.network.is_empty() {
            return;
        }
        let place = self.random.below(self.network.len());
        match self.network.swap_remove(place) {
            Packet::Answer { to, sequence, answer } => {
                let outcome = self.at_end(to, |end, now| end.handle_answer(now, sequence, &answer));
                outcome.expect("who asked exists").expect("answers are honest");
            }
            Packet::Message { from, sequence, message } => {
                let answer = self.receive(from, &message, tally);
                self.post(Packet::Answer { to: from, sequence, answer });
            }
        }
    }

    fn receive(&mut self, from: Role, message: &Message, tally: &mut Tally) -> Answer {
        let to = from.other();
        let (now, limits) = (self.now, self.limits);
        let Some(outcome) = self.at_end(to, |end, now| end.handle_message(now, message)) else {
            let (end, ack) = Negotiation::begin(now, parties(to), message, limits).unwrap();
            *self.end(to) = Some(end);
            return Answer::Accepted(Some(ack));
        };
        match outcome {
            Ok(ack) => Answer::Accepted(Some(ack)),
            Err(refusal) => {
                tally.refused += 1;
                let state = self.end(to).as_ref().and_then(Negotiation::state);
                let is_over = state.is_some_and(State::is_terminal);
                let is_limit = matches!(refusal, Refusal::TooManyProposals { .. });
                assert!(is_over || is_limit, "honest ends meet only an end: {refusal}");
                Answer::Refused(Some(Rejection::from(&refusal)))
            }
        }
    }

    fn command(&mut self, role: Role) {
        let kinds = match role {
            _ if self.random.one_in(96) => [MessageKind::Termination; 3],
            Role::Consumer => {
                [MessageKind::Request, MessageKind::Accepted, MessageKind::Verification]
            }
            Role::Provider => [MessageKind::Offer, MessageKind::Agreement, MessageKind::Finalized],
        };
        let kind = kinds[self.random.below(3)];
        let terms = self.offers[self.random.below(4)].clone();
        // Most are refused, for it is not the turn; those that are not lead on.
        let _ = self.at_end(role, |end, now| match kind {
            MessageKind::Request => end.request(now, terms),
            MessageKind::Offer => end.offer(now, terms),
            MessageKind::Agreement if end.proposal().is_none() => end.finalize(now),
            other => super::command(end, now, other),
        });
    }

    fn restart(&mut self, role: Role) {
        let (now, limits) = (self.now, self.limits);
        let Some(end) = self.end(role) else { return };
        // What was due before is due now, and nothing else is different.
        let record = end.to_record(now);
        let read = Negotiation::from_record(now, &record, limits).unwrap();
        assert_eq!(read.to_record(now), record);
        *end = read;
    }

    fn wait(&mut self, seconds: u64) {
        self.now.monotonic += Duration::from_secs(seconds);
        self.now.wall = self.now.wall.saturating_add(Duration::from_secs(seconds));
        for role in [Role::Consumer, Role::Provider] {
            self.at_end(role, Negotiation::handle_timeout);
        }
    }

    fn act(&mut self, tally: &mut Tally) {
        let role = if self.random.one_in(2) { Role::Consumer } else { Role::Provider };
        match self.random.below(64) {
            0..24 => self.deliver(tally),
            24..40 => self.command(role),
            40..56 => self.poll(role),
            56..62 => {
                let seconds = 1 + self.random.next() % 10;
                self.wait(seconds);
            }
            62 => self.restart(role),
            _ if self.random.one_in(16) => {
                let days = self.random.next() % 8;
                self.wait(86_400 * days);
            }
            _ => {}
        }
    }

    fn is_done(&self) -> bool {
        [&self.consumer, &self.provider]
            .iter()
            .all(|end| end.as_ref().is_none_or(Negotiation::is_done))
    }

    /// Nobody decides anything more: what is on its way arrives or not, and then deadlines pass.
    fn settle(&mut self, tally: &mut Tally) {
        for _ in 0..200 {
            for role in [Role::Consumer, Role::Provider] {
                self.poll(role);
            }
            while !self.network.is_empty() {
                self.deliver(tally);
            }
            if self.is_done() {
                return;
            }
            self.wait(86_400 / 4);
        }
        panic!("there is no end: {:?} {:?}", self.consumer, self.provider);
    }

    fn judge(&self, tally: &mut Tally) {
        let state = |end: &Option<Negotiation>| end.as_ref().and_then(Negotiation::state);
        let provider_end = self.provider.as_ref().and_then(Negotiation::end);
        match (state(&self.consumer), state(&self.provider)) {
            (Some(State::Finalized), Some(State::Finalized)) => {
                tally.finalized += 1;
                let agreement =
                    |end: &Option<Negotiation>| end.as_ref().and_then(Negotiation::contract_file);
                assert!(agreement(&self.consumer).is_some());
                assert_eq!(agreement(&self.consumer), agreement(&self.provider));
            }
            (Some(State::Finalized), Some(State::Terminated)) => {
                tally.in_doubt += 1;
                let finalized = EndCause::AttemptsSpent { message: MessageKind::Finalized };
                let late = EndCause::Deadline { state: Some(State::Verified), in_doubt: true };
                assert!(
                    [Some(&finalized), Some(&late)].contains(&provider_end),
                    "{provider_end:?}"
                );
            }
            (Some(State::Terminated), Some(State::Terminated) | None)
            | (None, Some(State::Terminated)) => tally.terminated += 1,
            other => panic!("the ends differ: {other:?}"),
        }
    }
}

/// One step of the table; two where a message also shows that ours has arrived.
fn assert_step(from: Option<State>, to: Option<State>) {
    let ways = |from: Option<State>| {
        let roles = [Role::Consumer, Role::Provider].into_iter();
        roles.flat_map(move |role| {
            MessageKind::ALL.into_iter().filter_map(move |kind| next_state(from, role, kind))
        })
    };
    let gives_up = from.is_none() && to == Some(State::Terminated);
    let is_step = from == to
        || gives_up
        || to.is_some_and(|to| {
            ways(from).any(|first| first == to || ways(Some(first)).any(|second| second == to))
        });
    assert!(is_step, "{from:?} must not lead to {to:?}");
}

#[test]
fn two_ends_agree_whatever_the_network_does() {
    let offers = [0, 1, 2, 3].map(offer);
    let mut tally = Tally::default();
    for seed in 0..ORDERS {
        let mut world = World::new(seed, offers.clone());
        for _ in 0..200 {
            world.act(&mut tally);
            if world.is_done() {
                break;
            }
        }
        world.settle(&mut tally);
        world.judge(&mut tally);
    }
    println!("{ORDERS} orders: {tally:?}");
    let most = ORDERS / 20;
    assert!(tally.finalized > most && tally.terminated > most, "both ends are common: {tally:?}");
    assert!(tally.in_doubt > 0 && tally.refused > 0, "the rare is met, too: {tally:?}");
}
