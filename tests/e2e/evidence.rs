//! The log beside those who vouch for it: the TPM, the space's witness and mirror; and data traced through
//! both logs.

use super::{DATASET, TOPIC, payload};
use crate::rig::{Rig, mosquitto_pub, wait_for};
use serde_json::Value;

/// What the box says of who vouches for its log.
fn evidence(rig: &Rig) -> Value {
    rig.status()["evidence"].clone()
}

fn size(value: &Value) -> u64 {
    value.as_u64().or_else(|| value[0].as_u64()).unwrap_or(0)
}

#[test]
fn a_log_is_anchored_cosigned_and_mirrored() {
    let Some(mut rig) = Rig::with_tpm() else { return };
    rig.stage.join().unwrap();
    rig.start_guan();
    for number in 1..=3 {
        if !mosquitto_pub(rig.port(), &["-q", "1", "-t", TOPIC, "-m", &payload(number)]) {
            return println!("SKIP: mosquitto_pub is not installed");
        }
    }
    rig.wait_for_rows(DATASET, 3);
    wait_for("everybody to vouch", || {
        let found = evidence(&rig);
        ["anchored", "chained", "cosigned", "mirrored"].iter().all(|who| size(&found[*who]) > 0)
    });
    assert_eq!(evidence(&rig)["suspect"], Value::Null);
    let entries = rig.stage.guan_json(&["log", "show", "--last", "500"]).unwrap();
    let kinds: Vec<&str> = entries["entries"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one["kind"].as_str())
        .collect();
    for kind in ["tpm.start", "anchor", "chain", "witness.receipt", "data.forwarded"] {
        assert!(kinds.contains(&kind), "{kind} is not among {kinds:?}");
    }
    rig.stop_guan();
    rig.check_log();
}
