use super::*;
use guan_evidence::{Acted, Actor, Deed, ErasureGround, Opening};
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

/// Notes at once, after it did something that a command might do meanwhile.
struct Keeper<F> {
    meanwhile: F,
    notes: Mutex<Vec<LeafBody>>,
    alarms: Option<Mutex<Vec<String>>>,
}

impl<F: Fn(usize) -> bool + Sync> LogKeeper for Keeper<F> {
    async fn note(&self, _: Option<Digest>, body: LeafBody) -> bool {
        let count = self.notes.lock().unwrap().len();
        let is_noted = (self.meanwhile)(count);
        if is_noted {
            self.notes.lock().unwrap().push(body);
        }
        is_noted
    }

    fn alarm(&self, what: &str, fault: &dyn Error) {
        let Some(alarms) = &self.alarms else { panic!("{what}: {fault:?}") };
        alarms.lock().unwrap().push(format!("{what}: {fault}"));
    }
}

fn recorder<F: Fn(usize) -> bool + Sync>(folder: &Path, meanwhile: F) -> Recorder<Keeper<F>> {
    Recorder::new(folder, Keeper { meanwhile, notes: Mutex::default(), alarms: None })
}

fn record_all<F: Fn(usize) -> bool + Sync>(recorder: &mut Recorder<Keeper<F>>) -> usize {
    {
        let mut future = std::pin::pin!(recorder.record_all());
        let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(polled, Poll::Ready(()));
    }
    recorder.keeper.notes.lock().unwrap().len()
}

/// As a command does, which waits a moment at most.
fn command(folder: &Path) -> Acts<OsDisk> {
    Acts::writer(OsDisk::open_exclusive_within(folder, Duration::ZERO).unwrap()).unwrap()
}

fn act(deed: Deed) -> Act {
    Act::Acted { actor: None, acted: Acted { deed, about: None } }
}

fn waiting(folder: &Path) -> Vec<String> {
    Acts::reader(OsDisk::open_read_only(folder).unwrap()).waiting().unwrap()
}

/// A full disk holds a leaf up for hours, and a command is not to fail for it.
#[test]
fn commands_come_to_the_folder_while_a_leaf_is_on_its_way() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    command(path).add(&act(Deed::TpmCleared)).unwrap();
    let mut recorder = recorder(path, |count| {
        let acts = command(path);
        if count == 0 {
            acts.add(&act(Deed::LockoutReset)).unwrap();
        }
        true
    });
    assert_eq!(record_all(&mut recorder), 2);
    assert!(waiting(path).is_empty());
    assert_eq!(record_all(&mut recorder), 2);
}

/// What the log does not take waits on, and what it took is not said again because a command was at the folder.
#[test]
fn an_act_is_noted_once_however_long_its_settling_waits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let name = command(path).add(&act(Deed::TpmCleared)).unwrap();
    let refusing = &mut recorder(path, |_| false);
    assert_eq!((record_all(refusing), waiting(path)), (0, vec![name.clone()]));
    let busy = Mutex::new(None);
    let mut recorder = recorder(path, |_| {
        *busy.lock().unwrap() = Some(command(path));
        true
    });
    assert_eq!((record_all(&mut recorder), waiting(path)), (1, vec![name.clone()]));
    assert_eq!((record_all(&mut recorder), waiting(path)), (1, vec![name]), "a command is at it");
    drop(busy.lock().unwrap().take());
    assert_eq!((record_all(&mut recorder), waiting(path)), (1, Vec::new()));
}

/// Acts may lie where the gateway cannot look: that is told, and not each second. A folder that was never made is none.
#[test]
fn a_folder_that_cannot_be_looked_into_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let none = folder.path().join("none");
    assert_eq!(record_all(&mut recorder(&none, |_| true)), 0);
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let mut recorder = recorder(&file.join("acts"), |_| true);
    recorder.keeper.alarms = Some(Mutex::default());
    for _ in 0..3 {
        assert_eq!(record_all(&mut recorder), 0);
    }
    let count = |recorder: &Recorder<Keeper<_>>| {
        let alarms = recorder.keeper.alarms.as_ref().unwrap().lock().unwrap();
        assert!(alarms.iter().all(|alarm| alarm.contains("as the user that guan runs as")));
        alarms.len()
    };
    assert_eq!(count(&recorder), 1);
    recorder.told = Instant::now().checked_sub(ALARM_PAUSE);
    record_all(&mut recorder);
    assert_eq!(count(&recorder), 2, "after a while once more");
    // What comes anew is told at once.
    std::fs::remove_file(&file).unwrap();
    record_all(&mut recorder);
    std::fs::write(&file, "").unwrap();
    record_all(&mut recorder);
    assert_eq!(count(&recorder), 3);
}

/// Numbers are given anew: the name alone does not say that it is the same act. What the log calls erased is erased.
#[test]
fn another_act_under_the_same_name_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let acts = command(path);
    let li = acts.keep(&Opening::new([1; 32], Actor::parse("li").unwrap())).unwrap();
    let erase = Act::erase(None, ErasureGround::LegalDuty, vec![li]).unwrap();
    let name = acts.add(&erase).unwrap();
    drop(acts);
    let mut recorder = recorder(path, |count| {
        if count == 0 {
            let acts = command(path);
            acts.remove(&name).unwrap();
            assert_eq!(acts.add(&act(Deed::LockoutReset)).unwrap(), name);
        }
        true
    });
    assert_eq!(record_all(&mut recorder), 2, "the other one is noted, too");
    let bodies = recorder.keeper.notes.lock().unwrap().clone();
    assert_eq!(bodies, [erase.body(), act(Deed::LockoutReset).body()]);
    assert!(waiting(path).is_empty());
    let openings = Acts::reader(OsDisk::open_read_only(path).unwrap()).openings().unwrap();
    assert!(openings.known.is_empty());
}
