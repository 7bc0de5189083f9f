//! What may come of a file: by the verdict on its box, and by what stands here.

use super::sieve::Sieve;
use super::*;
use crate::parties::Signed;
use bytes::Bytes;
use guan_link::{EncodedBatch, Item};
use guan_model::{ClockQuality, ContractId, DatasetId};
use guan_policy::ContractState;
use serde_json::json;
use std::sync::Mutex;

const NOW_S: i64 = 1_790_000_000;

#[test]
fn a_verdict_is_good_for_some_days_only() {
    let box_id = BoxId::parse("box-1").unwrap();
    let last = |outcome: &str, at_s| LastAppraisal {
        at_s,
        outcome: outcome.to_owned(),
        findings: Vec::new(),
        seen: None,
        tpm_firmware: None,
        firmware: None,
    };
    let check = |last: Option<LastAppraisal>| {
        check_proven(&box_id, last.as_ref(), WallTime::from_seconds(NOW_S))
    };
    let limit = i64::try_from(VERDICT_AGE_MAX.as_secs()).unwrap();
    check(Some(last("allow", NOW_S - limit))).unwrap();
    // A clock that was set back since.
    check(Some(last("allow", NOW_S + 60))).unwrap();
    let text = check(Some(last("allow", NOW_S - limit - 1))).unwrap_err().to_string();
    assert!(text.contains("last 30 days ago") && text.contains("let it connect once"), "{text}");
    let refused = check(Some(last("restrict", NOW_S)));
    assert!(matches!(refused, Err(TakeFault::Unproven(_, found)) if found == "restrict"));
    assert!(matches!(check(None), Err(TakeFault::Unproven(_, found)) if found == "none yet"));
}

struct Place {
    _folder: tempfile::TempDir,
    sets: Sets,
    box_id: BoxId,
    now_s: Arc<Mutex<i64>>,
    clock: Clock,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (key, _) = LogKeyFile::generate("space-1").unwrap();
        let sets = Sets::open(folder.path(), "space-1", Arc::new(key)).unwrap();
        let now_s = Arc::new(Mutex::new(NOW_S));
        let told = now_s.clone();
        let clock: Clock = Arc::new(move || Now {
            wall: WallTime::from_seconds(*told.lock().unwrap()),
            monotonic: Duration::ZERO,
            quality: ClockQuality::Ntp,
        });
        Self { _folder: folder, sets, box_id: BoxId::parse("box-1").unwrap(), now_s, clock }
    }

    fn now(&self) -> WallTime {
        (self.clock)().wall
    }

    fn issue(&self, id: &str, more: &serde_json::Value) {
        let mut object = json!({
            "@type": "Agreement", "@id": format!("urn:contract:{id}"), "profile": "urn:guankou:odrl:1",
            "version": 1, "conflict": "prohibit", "assigner": "depot-7",
            "assignee": "insurer-1", "target": ["d"],
            "validity": {"notBefore": "2026-01-01T00:00:00Z", "notAfter": "2027-01-01T00:00:00Z"},
            "permission": [{"action": "deliver"}],
        });
        object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let signed = Signed::unseen(object.to_string().as_bytes());
        self.sets.issue(&self.box_id, &signed, self.now()).unwrap();
    }

    fn set(&self, id: &str, state: ContractState) {
        let id = ContractId::parse(id).unwrap();
        self.sets.set_state(&self.box_id, &id, state, self.now()).unwrap();
    }
}

fn batch(stream: u16, contract: &str) -> BoxFrame {
    BoxFrame::Item(
        StreamId(stream),
        Item::Batch(EncodedBatch {
            seq: BatchSeq(4),
            dataset: DatasetId::parse("d").unwrap(),
            contract: ContractId::parse(contract).unwrap(),
            rows: 1,
            digest: Digest([0; 32]),
            bytes: Bytes::new(),
        }),
    )
}

#[test]
fn what_stands_no_more_does_not_come_though_it_changed_meanwhile() {
    let place = Place::new();
    let ids = ["C-live", "C-held", "C-shreds", "C-sends"];
    for id in ids {
        let lease = match id {
            "C-sends" => json!({"lease": {"onEarlyEnd": "send", "graceDelivery": "PT1H"}}),
            _ => json!({}),
        };
        place.issue(id, &lease);
    }
    place.set("C-held", ContractState::Suspended);
    place.set("C-shreds", ContractState::Ended);
    place.set("C-sends", ContractState::Ended);
    let mut sieve = Sieve::new(&place.sets, &place.box_id, &place.clock);
    let mut stream = 0;
    let mut passes = |sieve: &mut Sieve<'_>, contract: &str| {
        stream += 1;
        sieve.passes(&batch(stream, contract)).unwrap()
    };
    // One that no set names lies in the operator's folder.
    for (contract, expect) in ids.into_iter().chain(["C-own"]).zip([true, false, false, true, true])
    {
        assert_eq!(passes(&mut sieve, contract), expect, "{contract}");
    }
    let texts: Vec<&str> = sieve.refused.iter().map(|one| one.text.as_str()).collect();
    assert_eq!(texts, ["contract C-held is suspended here", "contract C-shreds is over here"]);
    // While a file is taken.
    place.set("C-live", ContractState::Revoked);
    assert!(!passes(&mut sieve, "C-live"));
    place.set("C-held", ContractState::Active);
    assert!(passes(&mut sieve, "C-held"));
    // After its end and the grace nothing of it comes, whatever its early end says.
    *place.now_s.lock().unwrap() = 1_830_000_000;
    let mut late = Sieve::new(&place.sets, &place.box_id, &place.clock);
    for contract in ["C-sends", "C-held"] {
        assert!(!passes(&mut late, contract), "{contract}");
    }
    // The rest of a stream does not come either; tables and gaps of others do.
    assert!(!late.passes(&batch(stream, "C-own")).unwrap());
    assert!(late.passes(&BoxFrame::Descriptors(Bytes::new())).unwrap());
}
