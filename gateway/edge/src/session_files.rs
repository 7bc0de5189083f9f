//! Sessions and retained messages of the MQTT listener on the disk: a journal of its own under `mqtt/`.
//!
//! One thread makes records durable, as many at once as have come. Each segment begins with a snapshot, so
//! that older ones can go. A record is durable before its number is told; without space on the disk the
//! records wait, and with them whoever was promised them.
//!
//! Never here: what a record says.

use guan_drivers::mqtt::{Record, SessionStore};
use guan_spool::{Disk, Journal, JournalConfig, JournalError, Salvage, Visit};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;

/// From this size on a segment is followed by another, which begins with a snapshot.
const SEGMENT_BYTES_MAX: u64 = 16 << 20;
/// Most records of one commit, so that the first of them does not wait for long.
const COMMIT_RECORDS_MAX: usize = 4096;
/// From so many bytes on a commit takes no further record: far below what the journal can take at once.
const COMMIT_BYTES_FULL: usize = 4 << 20;
/// Pause before the next attempt while the disk has no space.
const NO_SPACE_PAUSE: Duration = Duration::from_secs(1);
const KIND_RECORD: u8 = 1;

/// The port of the listener to its files.
#[derive(Debug)]
pub struct SessionFiles {
    records: mpsc::Sender<(u64, Record)>,
    number: AtomicU64,
    shared: Arc<Shared>,
    committed: watch::Receiver<u64>,
}

#[derive(Debug, Default)]
struct Shared {
    backlog_bytes: AtomicUsize,
    wants_snapshot: AtomicBool,
}

/// Files that were opened, and what they had.
pub struct Opened {
    pub files: SessionFiles,
    /// Oldest first.
    pub records: Vec<Vec<u8>>,
    pub salvage: Salvage,
    /// Ends when the listener has let go of `files`.
    pub thread: JoinHandle<()>,
}

/// Opens or begins the journal.
pub fn open<D: Disk>(disk: D) -> Result<Opened, JournalError> {
    open_with(disk, SEGMENT_BYTES_MAX)
}

fn open_with<D: Disk>(disk: D, segment_bytes_max: u64) -> Result<Opened, JournalError> {
    let mut records: Vec<Vec<u8>> = Vec::new();
    let mut visit = |visit: Visit<'_>| match visit {
        // Whatever was before is in it.
        Visit::Segment { snapshot: Some(snapshot), .. } => records = vec![snapshot.to_vec()],
        Visit::Frame { payload, .. } => records.push(payload.to_vec()),
        Visit::Segment { snapshot: None, .. } | Visit::Sealed { .. } => {}
    };
    // Nothing refers to this journal by its id.
    let config = JournalConfig { segment_bytes_max };
    let (journal, salvage) = Journal::open(disk, config, [0; 16], &mut visit)?;
    let (records_out, records_in) = mpsc::channel();
    let (committed_out, committed) = watch::channel(0);
    let shared = Arc::new(Shared::default());
    shared.wants_snapshot.store(journal.needs_segment(), Ordering::Release);
    let writer = Writer { journal, shared: shared.clone(), committed: committed_out };
    let thread = std::thread::Builder::new()
        .name("mqtt-sessions".to_owned())
        .spawn(move || writer.run(&records_in))
        .map_err(|source| {
            let name = "the thread of the MQTT sessions".to_owned();
            JournalError::Io { what: "started", name, source }
        })?;
    let files = SessionFiles { records: records_out, number: AtomicU64::new(0), shared, committed };
    Ok(Opened { files, records, salvage, thread })
}

impl SessionStore for SessionFiles {
    fn wants_snapshot(&self) -> bool {
        self.shared.wants_snapshot.load(Ordering::Acquire)
    }

    fn submit(&self, record: Record) -> u64 {
        let number = self.number.fetch_add(1, Ordering::AcqRel) + 1;
        self.shared.backlog_bytes.fetch_add(record.bytes.len(), Ordering::AcqRel);
        if record.snapshot.is_some() {
            self.shared.wants_snapshot.store(false, Ordering::Release);
        }
        // A thread that is gone has closed `committed`, and everybody waits for that.
        let _ = self.records.send((number, record));
        number
    }

    fn committed(&self) -> watch::Receiver<u64> {
        self.committed.clone()
    }

    /// Nothing waits for a thread that is gone: publishers whose messages no session needs go on.
    fn backlog_bytes(&self) -> usize {
        match self.committed.has_changed() {
            Ok(_) => self.shared.backlog_bytes.load(Ordering::Acquire),
            Err(_) => 0,
        }
    }
}

struct Writer<D: Disk> {
    journal: Journal<D>,
    shared: Arc<Shared>,
    /// Dropped with the thread: then no record will ever be durable.
    committed: watch::Sender<u64>,
}

impl<D: Disk> Writer<D> {
    fn run(mut self, records: &mpsc::Receiver<(u64, Record)>) {
        while let Ok(first) = records.recv() {
            let mut bytes = first.1.bytes.len();
            let mut batch = vec![first];
            while bytes < COMMIT_BYTES_FULL
                && batch.len() < COMMIT_RECORDS_MAX
                && let Ok(next) = records.try_recv()
            {
                bytes += next.1.bytes.len();
                batch.push(next);
            }
            loop {
                match self.write(&batch) {
                    Ok(()) => break,
                    Err(fault @ JournalError::NoSpace) => {
                        tracing::warn!(%fault, "MQTT sessions wait for the disk");
                        self.journal.rollback();
                        std::thread::sleep(NO_SPACE_PAUSE);
                    }
                    Err(fault) => {
                        return tracing::error!(%fault, "MQTT sessions cannot be kept any more");
                    }
                }
            }
            self.shared.backlog_bytes.fetch_sub(bytes, Ordering::AcqRel);
            if let Some((number, _)) = batch.last() {
                self.committed.send_replace(*number);
            }
            if self.journal.needs_segment() {
                self.shared.wants_snapshot.store(true, Ordering::Release);
            }
        }
    }

    /// Writing some of it twice is no harm: a record says how things are, or ends what is over.
    fn write(&mut self, batch: &[(u64, Record)]) -> Result<(), JournalError> {
        // The newest snapshot has everything before it, and its own record.
        let newest = batch.iter().rposition(|(_, record)| record.snapshot.is_some());
        let mut rest = batch;
        if let Some(index) = newest
            && let Some(snapshot) = &batch[index].1.snapshot
        {
            let number = self.journal.begin(&[], snapshot.clone())?;
            self.journal.remove_through(number - 1)?;
            rest = &batch[index + 1..];
        }
        for (_, record) in rest {
            self.journal.append(KIND_RECORD, &[&record.bytes])?;
        }
        self.journal.commit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guan_spool::disk::SimDisk;

    fn submit(files: &SessionFiles, name: &str) -> u64 {
        let snapshot = files.wants_snapshot().then(|| format!("all up to {name}").into_bytes());
        files.submit(Record { bytes: name.as_bytes().to_vec(), snapshot })
    }

    fn wait(files: &SessionFiles, number: u64) {
        let mut committed = files.committed();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(committed.wait_for(|done| *done >= number)).unwrap();
    }

    fn texts(records: &[Vec<u8>]) -> Vec<&str> {
        records.iter().map(|record| std::str::from_utf8(record).unwrap()).collect()
    }

    #[test]
    fn what_was_committed_is_there_after_any_cut() {
        for seed in 0..50 {
            let disk = SimDisk::new();
            let opened = open(disk.clone()).unwrap();
            assert!(opened.records.is_empty());
            for name in ["a", "b", "c"] {
                wait(&opened.files, submit(&opened.files, name));
            }
            assert_eq!(opened.files.backlog_bytes(), 0);
            submit(&opened.files, "d");
            disk.crash(seed);
            drop(opened.files);
            opened.thread.join().unwrap();
            let again = open(disk).unwrap();
            let texts = texts(&again.records);
            assert_eq!(texts[..3], ["all up to a", "b", "c"], "seed {seed}");
            assert!(texts.len() <= 4);
        }
    }

    #[test]
    fn a_full_segment_is_followed_by_a_snapshot_and_goes() {
        let disk = SimDisk::new();
        let opened = open_with(disk.clone(), 200).unwrap();
        for number in 0..100 {
            wait(&opened.files, submit(&opened.files, &format!("record {number}")));
        }
        drop(opened.files);
        opened.thread.join().unwrap();
        let files = disk.list().unwrap();
        assert_eq!(files.len(), 1, "older segments are gone: {files:?}");
        let again = open(disk).unwrap();
        let texts = texts(&again.records);
        assert!(texts[0].starts_with("all up to record "), "{texts:?}");
        assert!(texts.last().unwrap().ends_with("record 99"), "{texts:?}");
    }

    #[test]
    fn a_failed_flush_closes_the_store() {
        let disk = SimDisk::new();
        let opened = open(disk.clone()).unwrap();
        wait(&opened.files, submit(&opened.files, "a"));
        disk.fail_next_sync();
        submit(&opened.files, "b");
        let mut committed = opened.files.committed();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert!(runtime.block_on(committed.wait_for(|done| *done >= 2)).is_err());
        opened.thread.join().unwrap();
        submit(&opened.files, "c");
        assert_eq!(opened.files.backlog_bytes(), 0, "nobody is held up for what cannot be kept");
    }

    /// What came together is more than the journal takes at once.
    #[test]
    fn much_is_committed_in_parts() {
        let disk = SimDisk::new();
        let opened = open(disk.clone()).unwrap();
        let record = |snapshot| Record { bytes: vec![7; 1 << 20], snapshot };
        opened.files.submit(record(Some(b"all".to_vec())));
        let last = (0..70).map(|_| opened.files.submit(record(None))).last().unwrap();
        wait(&opened.files, last);
        assert_eq!(opened.files.backlog_bytes(), 0);
        drop(opened.files);
        opened.thread.join().unwrap();
        assert_eq!(open(disk).unwrap().records.len(), 71);
    }
}
