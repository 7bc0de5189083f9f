//! Retention over hours and restarts.

use super::*;
use guan_identity::LogKeyFile;
use guan_model::{BatchSeq, BoxId, DatasetId, Digest, SpoolId, StreamId};

const NOON_S: i64 = 1_800_000_000;

fn delivery(contract: &str, second: i64) -> Delivery {
    let bytes = Bytes::from_static(b"the readings");
    Delivery {
        box_id: BoxId::parse("box-1").unwrap(),
        spool: SpoolId([1; 16]),
        stream: StreamId(1),
        seq: BatchSeq(1),
        received: WallTime::from_seconds(NOON_S + second),
        dataset: DatasetId::parse("d").unwrap(),
        contract: ContractId::parse(contract).unwrap(),
        rows: 3,
        digest: Digest::of(&bytes),
        bytes,
    }
}

fn opened(folder: &Path) -> Retention {
    let retention = Retention::open(folder).unwrap();
    let deletion = Deletion { after: Some(Duration::from_secs(3 * 86_400)), by: None };
    let contract = ContractId::parse("C-1").unwrap();
    retention.state().deletions.insert(contract, deletion);
    retention
}

#[test]
fn data_is_readable_until_its_hour_is_due_and_never_after() {
    let folder = tempfile::tempdir().unwrap();
    let (key, _) = LogKeyFile::generate("space-1").unwrap();
    let retention = opened(folder.path());
    let (mut early, mut late, mut other) =
        (delivery("C-1", 0), delivery("C-1", 3600), delivery("C-2", 0));
    for one in [&mut early, &mut late, &mut other] {
        retention.seal(one).unwrap();
    }
    assert_eq!(other.bytes, &b"the readings"[..], "nobody asked for its deletion");
    assert!(!early.bytes.windows(12).any(|window| window == b"the readings"));
    // After a restart the keys are there.
    let retention = opened(folder.path());
    let read = |one: &Delivery| retention.open_batch(one).unwrap();
    assert_eq!(read(&early).as_deref(), Some(&b"the readings"[..]));
    let hour = NOON_S.div_euclid(SLICE_S) * SLICE_S + 2 * 86_400;
    let delete = |second: i64| {
        let now = WallTime::from_seconds(second);
        retention.delete_due(now, "space-1", &key).unwrap()
    };
    assert!(delete(hour + 86_399).is_empty());
    let lines = delete(hour + 86_400);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["deleted"]["contract"], "C-1");
    assert!(delete(hour + 86_400).is_empty(), "once is enough");
    assert_eq!((read(&early), read(&late).is_some(), read(&other).is_some()), (None, true, true));
    let again = opened(folder.path());
    assert_eq!(again.open_batch(&early).unwrap(), None);
    let text = fs::read_to_string(folder.path().join(DELETED_FILE)).unwrap();
    assert_eq!(text.lines().count(), 1);
    let mut changed = late.clone();
    changed.bytes = [&late.bytes[..late.bytes.len() - 1], &[0]].concat().into();
    assert!(matches!(again.open_batch(&changed), Err(RetentionFault::Changed { .. })));
}

#[test]
fn the_earliest_duty_counts() {
    let object = json!({
        "@type": "Agreement", "@id": "urn:contract:C-1", "profile": "urn:guankou:odrl:1",
        "version": 1, "conflict": "prohibit", "assigner": "a", "assignee": "b", "target": ["d"],
        "validity": {"notBefore": "2026-01-01T00:00:00Z", "notAfter": "2030-01-01T00:00:00Z"},
        "permission": [
            {"action": "deliver", "duty": [{"action": "delete", "refinement":
                {"leftOperand": "after", "operator": "eq", "rightOperand": "P30D"}}]},
            {"action": "deliver", "duty": [{"action": "delete", "refinement":
                {"leftOperand": "after", "operator": "eq", "rightOperand": "P7D"}}]},
        ],
    });
    let contract = Contract::draft(object.to_string().as_bytes()).unwrap();
    let deletion = Deletion::of(&contract).unwrap();
    assert_eq!(deletion.after, Some(Duration::from_secs(7 * 86_400)));
}
