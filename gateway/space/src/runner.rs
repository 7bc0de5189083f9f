//! The task that owns the store: takes what the sessions queue, commits it in groups, answers.
//!
//! Invariant: a receipt is settled as durable only after the fdatasync that holds its item. Heads of the
//! space's log are signed here too, between commits. On the real disk it runs on a thread of its own; in
//! the simulator it is a task.

use crate::received::Tally;
use crate::store::{
    Announcement, DatasetTotals, Judged, Store, StoreCounters, StoreError, StoredGap, StreamKey,
};
use guan_evidence::epoch::{epoch_base, epoch_number};
use guan_evidence::{Checkpoint, LeafBody};
use guan_link::driver::Receipt;
use guan_log::LogHead;
use guan_model::{BatchSeq, BoxId, DatasetId, Digest, Now, SpoolId, StreamId};
use guan_spool::{Disk, JournalError};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

/// Most requests that wait for the store.
pub const REQUESTS_MAX: usize = 1024;
/// Most bytes of batches that wait for the store, of all boxes together.
pub const QUEUED_BYTES_MAX: usize = 64 << 20;
/// Most requests of one commit.
const COMMIT_REQUESTS_MAX: usize = 512;
/// Most alarms that status shows; later ones push out earlier ones.
const ALARMS_SHOWN: usize = 16;
/// How often it is looked whether a head is to be signed, while leaves wait for one.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The store's clock.
pub type Clock = Arc<dyn Fn() -> Now + Send + Sync>;

/// What sessions ask of the store.
#[derive(Debug)]
pub enum Request {
    Cursors {
        box_id: BoxId,
        spool: SpoolId,
        reply: oneshot::Sender<BTreeMap<StreamId, BatchSeq>>,
    },
    Batch {
        judged: Box<Judged>,
        receipt: Receipt,
        room: OwnedSemaphorePermit,
    },
    Gap {
        gap: StoredGap,
        receipt: Receipt,
    },
    Describe {
        announcement: Announcement,
        reply: oneshot::Sender<()>,
    },
    /// The inner error blames the box.
    Checkpoint {
        box_id: BoxId,
        text: String,
        reply: oneshot::Sender<Result<u64, String>>,
    },
    /// Something for the space's log. No answer: it is not there.
    Note {
        /// Commitment to who did it, if somebody did.
        actor: Option<Digest>,
        body: LeafBody,
        reply: oneshot::Sender<()>,
    },
}

/// What the store looks like after a commit.
#[derive(Debug, Clone, Default)]
pub struct StoreStatus {
    pub counters: StoreCounters,
    pub totals: BTreeMap<DatasetId, DatasetTotals>,
    pub cursors: BTreeMap<StreamKey, BatchSeq>,
    pub checkpoints: BTreeMap<BoxId, String>,
    /// Digests of the tables that batches may refer to.
    pub tables: BTreeSet<Digest>,
    pub disk_bytes: u64,
    /// The last commit failed because the disk was full.
    pub is_full: bool,
    pub alarms: Vec<String>,
    /// Of the space's own log.
    pub log: Option<LogHead>,
}

/// An answer that is due after the commit.
enum Answer {
    Receipt(Receipt, Option<OwnedSemaphorePermit>),
    Cursors(BoxId, SpoolId, oneshot::Sender<BTreeMap<StreamId, BatchSeq>>),
    Told(oneshot::Sender<()>),
    Checkpoint(oneshot::Sender<Result<u64, String>>, Result<u64, String>),
}

/// Runs until all senders are gone, or the disk can no longer be trusted.
pub async fn run<D: Disk>(
    mut store: Store<D>,
    mut requests: mpsc::Receiver<Request>,
    status: watch::Sender<StoreStatus>,
    clock: Clock,
    tally: Tally,
) -> Result<(), StoreError> {
    let started = store.start(&clock());
    commit(&mut store, started, &status)?;
    let mut batch = Vec::new();
    loop {
        let received = requests.recv_many(&mut batch, COMMIT_REQUESTS_MAX);
        let received = match store.is_unsigned() {
            true => tokio::time::timeout(LOOK_INTERVAL, received).await.ok(),
            false => Some(received.await),
        };
        match received {
            Some(0) => break,
            Some(_) => {
                let now = clock();
                let mut answers = Vec::with_capacity(batch.len());
                let mut outcome = Ok(());
                for request in batch.drain(..) {
                    match stage(&mut store, &now, request, &status) {
                        Ok(answer) => answers.extend(answer),
                        Err(fault) => outcome = Err(fault),
                    }
                }
                let is_through = match commit(&mut store, outcome, &status) {
                    Ok(is_through) => is_through,
                    Err(fault) => {
                        let detail = "its disk cannot be trusted";
                        answers.into_iter().for_each(|answer| fail(answer, detail));
                        return Err(fault);
                    }
                };
                tally.add(store.take_logged());
                for answer in answers {
                    match is_through {
                        true => settle(&store, answer),
                        false => fail(answer, "its disk is full"),
                    }
                }
            }
            None => {}
        }
        let signed = store.sign_due(&clock()).map(drop);
        unless_full(signed)?;
    }
    let stopped = store.note(&clock(), LeafBody::Stop);
    commit(&mut store, stopped, &status)?;
    unless_full(store.sign(&clock()).map(drop))
}

/// Commits what was staged; `false` if the disk is full. Then it is undone: nothing is acknowledged, the
/// boxes keep it and come again.
fn commit<D: Disk>(
    store: &mut Store<D>,
    staged: Result<(), StoreError>,
    status: &watch::Sender<StoreStatus>,
) -> Result<bool, StoreError> {
    match staged.and_then(|()| store.commit()) {
        Ok(()) => {
            publish(store, status, false);
            Ok(true)
        }
        Err(StoreError::Journal(JournalError::NoSpace)) => {
            tracing::error!("the disk of the space is full: free space in space.state_dir");
            store.rollback();
            publish(store, status, true);
            Ok(false)
        }
        Err(fault) => Err(fault),
    }
}

/// A head that finds no room is signed later.
fn unless_full(signed: Result<(), StoreError>) -> Result<(), StoreError> {
    match signed {
        Err(StoreError::Journal(JournalError::NoSpace)) => Ok(()),
        other => other,
    }
}

fn stage<D: Disk>(
    store: &mut Store<D>,
    now: &Now,
    request: Request,
    status: &watch::Sender<StoreStatus>,
) -> Result<Option<Answer>, StoreError> {
    Ok(match request {
        Request::Cursors { box_id, spool, reply } => Some(Answer::Cursors(box_id, spool, reply)),
        Request::Batch { judged, receipt, room } => match store.deliver(now, &judged)? {
            Ok(_) => Some(Answer::Receipt(receipt, Some(room))),
            Err(refused) => {
                receipt.failed(&refused.to_string());
                None
            }
        },
        Request::Gap { gap, receipt } => match store.note_gap(&gap)? {
            Ok(_) => Some(Answer::Receipt(receipt, None)),
            Err(refused) => {
                receipt.failed(&refused.to_string());
                None
            }
        },
        Request::Describe { announcement, reply } => {
            store.announce(&announcement)?;
            Some(Answer::Told(reply))
        }
        Request::Note { actor, body, reply } => {
            store.note_of(now, actor, body)?;
            Some(Answer::Told(reply))
        }
        Request::Checkpoint { box_id, text, reply } => {
            let known = store.checkpoints().get(&box_id);
            let verdict = compare_heads(known.map(String::as_str), &text);
            match &verdict {
                Ok(size) if known != Some(&text) => {
                    let (before, after) = (known.map(|known| name(known)), name(&text));
                    if let Some(before) = before.filter(|before| *before != after) {
                        let alarm = format!(
                            "its log goes on as {after} in place of {before}, as after a loss"
                        );
                        raise(status, &box_id, &alarm);
                    }
                    tracing::debug!(%box_id, size, "a signed head of a log");
                    store.note_checkpoint(&box_id, &text)?;
                }
                Ok(_) => {}
                Err(alarm) => raise(status, &box_id, alarm),
            }
            Some(Answer::Checkpoint(reply, verdict))
        }
    })
}

/// A log only grows, and one size has one root. Whoever signs otherwise shows two logs. A later epoch begins anew:
/// its first entry says why, and the witness closes the one before.
fn compare_heads(known: Option<&str>, new: &str) -> Result<u64, String> {
    let new = Checkpoint::parse_unverified(new).map_err(|fault| fault.to_string())?;
    let Some(known) = known.and_then(|text| Checkpoint::parse_unverified(text).ok()) else {
        return Ok(new.size);
    };
    let base = epoch_base(&known.origin).unwrap_or(&known.origin);
    match epoch_number(base, &new.origin).cmp(&epoch_number(base, &known.origin)) {
        Ordering::Greater => return Ok(new.size),
        Ordering::Less if epoch_number(base, &new.origin).is_some() => {
            return Err(format!("the log goes back from {} to {}", known.origin, new.origin));
        }
        _ => {}
    }
    if new.size < known.size {
        return Err(format!("the log shrank from {} to {} entries", known.size, new.size));
    }
    if new.size == known.size && new.root != known.root {
        return Err(format!("the log of {} entries has two roots: a fork", new.size));
    }
    Ok(new.size)
}

/// The name of a log, for people.
fn name(head: &str) -> &str {
    head.lines().next().unwrap_or_default()
}

fn raise(status: &watch::Sender<StoreStatus>, box_id: &BoxId, alarm: &str) {
    tracing::error!(%box_id, alarm, "the evidence log of a box is not what it was");
    status.send_modify(|status| {
        let line = format!("{box_id}: {alarm}");
        if !status.alarms.contains(&line) {
            if status.alarms.len() == ALARMS_SHOWN {
                status.alarms.remove(0);
            }
            status.alarms.push(line);
        }
    });
}

fn publish<D: Disk>(store: &Store<D>, status: &watch::Sender<StoreStatus>, is_full: bool) {
    status.send_modify(|status| {
        status.counters = store.counters();
        status.totals.clone_from(store.totals());
        status.cursors.clone_from(store.all_cursors());
        status.checkpoints.clone_from(store.checkpoints());
        if status.tables.len() != store.tables().len() {
            status.tables.clone_from(store.tables());
        }
        status.disk_bytes = store.disk_bytes();
        status.is_full = is_full;
        status.log = Some(store.log_head());
    });
}

// A session that is gone needs no answer: its successor asks for the cursors.
fn settle<D: Disk>(store: &Store<D>, answer: Answer) {
    match answer {
        Answer::Receipt(receipt, room) => {
            receipt.durable();
            drop(room);
        }
        Answer::Cursors(box_id, spool, reply) => {
            let _ = reply.send(store.cursors(&box_id, spool));
        }
        Answer::Told(reply) => {
            let _ = reply.send(());
        }
        Answer::Checkpoint(reply, verdict) => {
            let _ = reply.send(verdict);
        }
    }
}

/// Replies that are dropped tell the session that the store failed.
fn fail(answer: Answer, detail: &str) {
    if let Answer::Receipt(receipt, _) = answer {
        receipt.failed(detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guan_model::Signer;

    #[test]
    fn a_log_that_forks_or_shrinks_is_seen() {
        let (key, _) = guan_identity::LogKeyFile::generate("guan/box-1").unwrap();
        let signer: &dyn Signer = &key;
        let head = |size: u64, root: u8| {
            Checkpoint::sign("guan/box-1", size, &Digest([root; 32]), signer).unwrap()
        };
        let check = |known: Option<String>, new: &str, expect: Result<u64, &str>| match (
            compare_heads(known.as_deref(), new),
            expect,
        ) {
            (Ok(size), Ok(expected)) => assert_eq!(size, expected),
            (Err(alarm), Err(part)) => assert!(alarm.contains(part), "{alarm}"),
            (found, expected) => panic!("{found:?} instead of {expected:?}"),
        };
        check(None, &head(5, 1), Ok(5));
        check(Some(head(5, 1)), &head(5, 1), Ok(5));
        check(Some(head(5, 1)), &head(6, 2), Ok(6));
        check(Some(head(5, 1)), &head(5, 2), Err("two roots"));
        check(Some(head(5, 1)), &head(4, 1), Err("shrank"));
        // Another epoch is another log, and no epoch comes back.
        let of = |origin: &str, size: u64| {
            let (key, _) = guan_identity::LogKeyFile::generate(origin).unwrap();
            Checkpoint::sign(origin, size, &Digest([3; 32]), &key).unwrap()
        };
        let (second, third) = (of("guan/box-1/e2", 2), of("guan/box-1/e3", 1));
        check(Some(head(5, 1)), &second, Ok(2));
        check(Some(second.clone()), &third, Ok(1));
        check(Some(second.clone()), &of("guan/box-1/e2", 1), Err("shrank"));
        check(Some(third.clone()), &second, Err("goes back"));
        check(Some(second), &head(9, 1), Err("goes back"));
        check(None, "nonsense", Err("line"));
    }
}
