//! What keeps contracts while something is slow or fails.

use super::*;
use crate::parties::Signed;
use guan_model::{BoxId, WallTime};
use guan_spool::disk::SimDisk;
use serde_json::json;
use std::fs::File;
use std::process::Command;
use std::sync::Mutex;
use std::sync::mpsc as std_mpsc;

/// Longer than anything takes here; a test that waits so long has failed.
const LIMIT: Duration = Duration::from_secs(20);

fn sets(folder: &std::path::Path) -> Sets {
    let (key, _) = LogKeyFile::generate("space-1").unwrap();
    Sets::open(folder, "space-1", Arc::new(key)).unwrap()
}

fn issue(sets: &Sets, version: u64) {
    let object = json!({
        "@type": "Agreement", "@id": "urn:contract:C-1", "profile": "urn:guankou:odrl:1",
        "version": version, "conflict": "prohibit", "assigner": "a", "assignee": "b",
        "target": ["d"], "permission": [{"action": "deliver"}],
        "validity": {"notBefore": "2026-01-01T00:00:00Z", "notAfter": "2030-01-01T00:00:00Z"},
    });
    let signed = Signed::unseen(object.to_string().as_bytes());
    let now = WallTime::from_seconds(1_800_000_000);
    sets.issue(&BoxId::parse("box-1").unwrap(), &signed, now).unwrap();
}

fn deleting(
    folder: &std::path::Path,
    turn: impl Fn() -> Turn + Send + Sync + 'static,
) -> Deleting<SimDisk> {
    Deleting {
        space: "space-1".to_owned(),
        turn: Arc::new(turn),
        alarms: Alarms::default(),
        deletions: Deletions::new(folder.join("deleted.jsonl"), SimDisk::new()),
        requests: mpsc::channel(1).0,
    }
}

/// A revocation must not wait until the whole store is read.
#[tokio::test]
async fn changed_sets_are_seen_while_a_deletion_lasts() {
    let folder = tempfile::tempdir().unwrap();
    let sets = sets(folder.path());
    issue(&sets, 1);
    let (changed_out, mut changed) = watch::channel(0);
    let (began_out, began) = std_mpsc::channel();
    let (end, ends) = std_mpsc::channel::<()>();
    let ends = Mutex::new(ends);
    let deleting = deleting(folder.path(), move || {
        began_out.send(()).unwrap();
        // Lasts until the test lets it go.
        let _ = ends.lock().unwrap().recv();
        Turn::default()
    });
    let retention = Retention::open(folder.path()).unwrap();
    let mut keepers = JoinSet::new();
    keep(&mut keepers, (sets.clone(), retention, changed_out), deleting);
    began_in(began).await;
    tokio::time::timeout(LIMIT, changed.changed()).await.expect("the first set").unwrap();
    issue(&sets, 2);
    let seen = tokio::time::timeout(LIMIT, changed.changed()).await;
    drop(end);
    seen.expect("the second set, while the deletion lasts").unwrap();
    keepers.shutdown().await;
}

/// Nor until the contracts of all boxes are read.
#[tokio::test]
async fn changed_sets_are_seen_while_duties_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let sets = sets(folder.path());
    issue(&sets, 1);
    // A set on a disk that does not answer.
    let slow = folder.path().join("contracts/box-2");
    std::fs::create_dir(&slow).unwrap();
    let slow = slow.join("set.json");
    assert!(Command::new("mkfifo").arg(&slow).status().unwrap().success());
    let (changed_out, mut changed) = watch::channel(0);
    let retention = Retention::open(folder.path()).unwrap();
    let deleting = deleting(folder.path(), Turn::default);
    let mut keepers = JoinSet::new();
    keep(&mut keepers, (sets.clone(), retention, changed_out), deleting);
    tokio::time::timeout(LIMIT, changed.changed()).await.expect("the first set").unwrap();
    issue(&sets, 2);
    let seen = tokio::time::timeout(LIMIT, changed.changed()).await;
    // To open it for writing waits until somebody reads it.
    let answer = tokio::task::spawn_blocking(move || {
        let end = File::create(&slow).unwrap();
        std::fs::remove_file(&slow).unwrap();
        drop(end);
    });
    tokio::time::timeout(LIMIT, answer).await.expect("it is read").unwrap();
    seen.expect("the second set, while duties are read").unwrap();
    keepers.shutdown().await;
}

async fn began_in(began: std_mpsc::Receiver<()>) {
    tokio::task::spawn_blocking(move || began.recv_timeout(LIMIT).unwrap()).await.unwrap();
}

/// A defect in the deletion is an alarm like any other fault of it.
#[tokio::test]
async fn a_deletion_that_panics_raises_the_alarm() {
    let folder = tempfile::tempdir().unwrap();
    let deleting = deleting(folder.path(), || panic!("a defect"));
    let fault = deleting.once(None).await;
    assert_eq!(deleting.once(None).await, fault, "the same in the same words");
    let alarms = deleting.alarms.list();
    assert_eq!(alarms.len(), 1, "{alarms:?}");
    assert!(alarms[0].contains("is not deleted") && alarms[0].contains("a defect"), "{alarms:?}");
}
