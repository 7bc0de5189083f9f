//! The order of an erasure, with the power cut before each single step: never is somebody forgotten of whom the log does
//! not say so, and never does the log say so and the name comes back.

use super::*;
use guan_evidence::{Actor, ErasureGround, LeafBody};
use guan_spool::disk::{SimDisk, SimFile};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll, Waker};

const NAME: &str = "somebody@depot-7";
const LEAVES: &str = "leaves";

/// Fails for good after so many steps that change something.
#[derive(Clone)]
struct Cut {
    disk: SimDisk,
    left: Arc<AtomicI64>,
}

struct CutFile {
    file: SimFile,
    left: Arc<AtomicI64>,
}

fn step(left: &AtomicI64) -> io::Result<()> {
    match left.fetch_sub(1, Ordering::SeqCst) > 0 {
        true => Ok(()),
        false => Err(io::Error::other("the power is cut")),
    }
}

impl Disk for Cut {
    type File = CutFile;

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn open(&self, name: &str) -> io::Result<CutFile> {
        Ok(CutFile { file: self.disk.open(name)?, left: self.left.clone() })
    }

    fn create_new(&self, name: &str) -> io::Result<CutFile> {
        step(&self.left)?;
        Ok(CutFile { file: self.disk.create_new(name)?, left: self.left.clone() })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        step(&self.left)?;
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        step(&self.left)?;
        self.disk.remove(name)
    }

    fn sync_directory(&self) -> io::Result<()> {
        step(&self.left)?;
        self.disk.sync_directory()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
}

impl DiskFile for CutFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        step(&self.left)?;
        self.file.append(bytes)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        step(&self.left)?;
        self.file.sync_data()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, buffer)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        step(&self.left)?;
        self.file.truncate(length)
    }

    fn blank(&mut self) -> io::Result<()> {
        step(&self.left)?;
        self.file.blank()
    }
}

fn holds(disk: &SimDisk, name: &str) -> bool {
    let files = disk.list().unwrap().into_iter().filter_map(|file| disk.contents(&file));
    let mut files = files.map(|bytes| bytes.windows(name.len()).any(|one| one == name.as_bytes()));
    files.any(|holds| holds)
}

/// The log, as one byte a leaf: durable when this returns.
fn log(disk: &Cut) -> bool {
    let append = || {
        let mut file = disk.open(LEAVES)?;
        file.append(b"E")?;
        file.sync_data()
    };
    append().is_ok()
}

/// Nothing here waits for anybody else.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

type Order = fn(&Acts<Cut>, &Cut, &str, &Act) -> Result<(), ActsFault>;

/// Writes a leaf in its own way.
struct Keeper<'a>(&'a Cut, fn(&Cut) -> bool);

impl LogKeeper for Keeper<'_> {
    async fn note(&self, _: Option<Digest>, _: LeafBody) -> bool {
        self.1(self.0)
    }

    fn alarm(&self, what: &str, fault: &dyn std::error::Error) {
        panic!("{what}: {fault:?}");
    }
}

fn carry_out(disk: &Cut, write: fn(&Cut) -> bool) -> Result<(), ActsFault> {
    let mut recorder = Recorder::new(Path::new(ACTS_DIR), Keeper(disk, write));
    now(recorder.record_with(&|_| Acts::writer(disk.clone()).map(Some)))
}

fn as_it_is(_: &Acts<Cut>, disk: &Cut, _: &str, _: &Act) -> Result<(), ActsFault> {
    carry_out(disk, log)
}

/// The file first: what must not be.
fn turned_round(acts: &Acts<Cut>, disk: &Cut, name: &str, act: &Act) -> Result<(), ActsFault> {
    acts.settle(name, act)?;
    log(disk);
    Ok(())
}

/// The leaf is written and not waited for: what must not be either.
fn not_waited_for(_: &Acts<Cut>, disk: &Cut, _: &str, _: &Act) -> Result<(), ActsFault> {
    carry_out(disk, |disk| disk.open(LEAVES).and_then(|mut file| file.append(b"E")).is_ok())
}

/// Cuts after `steps` steps, and looks at what is there then. `None`: it was done before.
fn cut(order: Order, steps: i64, seed: u64) -> Option<Result<(), &'static str>> {
    let disk = SimDisk::new();
    let left = Arc::new(AtomicI64::new(i64::MAX));
    let cut = Cut { disk: disk.clone(), left: left.clone() };
    drop(disk.create_new(LEAVES).unwrap());
    let acts = Acts::writer(cut.clone()).unwrap();
    let opening = Opening::new([7; 32], Actor::parse(NAME).unwrap());
    let kept = acts.keep(&opening).unwrap();
    let act = Act::erase(None, ErasureGround::ConsentWithdrawn, vec![kept]).unwrap();
    let name = acts.add(&act).unwrap();
    left.store(steps, Ordering::SeqCst);
    let _ = order(&acts, &cut, &name, &act);
    let is_cut = left.load(Ordering::SeqCst) < 0;
    disk.crash(seed);
    left.store(i64::MAX, Ordering::SeqCst);
    let is_logged = || disk.contents(LEAVES).is_some_and(|leaves| !leaves.is_empty());
    let acts = Acts::writer(cut.clone()).unwrap();
    let is_known = !acts.openings().unwrap().known.is_empty();
    let is_done = acts.waiting().unwrap().is_empty();
    if !is_known && !is_logged() {
        return Some(Err("somebody is forgotten, and the log does not say so"));
    }
    if is_done && (!is_logged() || holds(&disk, NAME)) {
        return Some(Err("an act is gone that was not carried out"));
    }
    carry_out(&cut, log).unwrap();
    disk.crash(seed + 1);
    if holds(&disk, NAME) || !is_logged() {
        return Some(Err("the next start does not bring it to its end"));
    }
    is_cut.then_some(Ok(()))
}

/// The first fault of any cut, and how many steps there were.
fn all_cuts(order: Order) -> (Option<&'static str>, i64) {
    let mut steps = 0;
    loop {
        let mut is_done = true;
        for seed in 0..64 {
            match cut(order, steps, seed * 2) {
                Some(Err(fault)) => return (Some(fault), steps),
                Some(Ok(())) => is_done = false,
                None => {}
            }
        }
        if is_done {
            return (None, steps);
        }
        steps += 1;
    }
}

#[test]
fn the_log_says_so_before_anybody_is_forgotten() {
    let (fault, steps) = all_cuts(as_it_is);
    assert_eq!(fault, None, "after {steps} steps");
    assert!(steps >= 8, "leaf, its sync, blanks, their sync, two names, their syncs: {steps}");
    let (fault, _) = all_cuts(turned_round);
    assert_eq!(fault, Some("somebody is forgotten, and the log does not say so"));
    let (fault, _) = all_cuts(not_waited_for);
    assert_eq!(fault, Some("somebody is forgotten, and the log does not say so"));
}
