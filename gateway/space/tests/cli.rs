//! The program `guan-space` as an operator meets it.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use guan_configs::SpaceConfig;
use guan_evidence::Program;
use guan_identity::{KeyFile, LogKeyFile, certificate_request};
use guan_model::{
    Batch, BatchHeader, BatchSeq, BootNumber, BoxId, Class, ClockQuality, ContractId, DatasetId,
    DescriptorTable, Now, PointDescriptor, PointId, PointName, Quality, Row, SpoolId, StreamId,
    Unit, Value, ValueType, WallTime,
};
use guan_space::logs::keys::LogKeys;
use guan_space::retention::Retention;
use guan_space::store::{Announcement, Delivery, Judged, LogParts, Store, StoredRecord, read_all};
use guan_spool::OsDisk;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

fn check(arguments: &[&str], success: bool, parts: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_guan-space")).args(arguments).output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.success(), success, "{arguments:?}: {text}");
    for part in parts {
        assert!(text.contains(part), "{arguments:?} does not say {part:?}: {text}");
    }
    text
}

fn request(folder: &Path, id: &str) -> String {
    let path = folder.join("box.csr.pem");
    let (key, _) = KeyFile::generate(id).unwrap();
    let request = certificate_request(Arc::new(key), &BoxId::parse(id).unwrap()).unwrap();
    std::fs::write(&path, request).unwrap();
    path.display().to_string()
}

#[test]
fn a_space_is_set_up_and_enrols_and_revokes() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("space").display().to_string();
    let init = ["init", "--dir", &dir, "--id", "space-1", "--host", "localhost"];
    check(&init, true, &["guan-space run", "contract key"]);
    check(&init, false, &["exists"]);
    let config = format!("{dir}/space.toml");
    check(&["config", "check", "--config", &config], true, &["is valid"]);
    check(&["status", "--config", &config], false, &["does not run"]);
    let key =
        check(&["contract", "key", "--config", &config], true, &["[[contracts.trusted_key]]"]);
    assert!(key.contains("party = \"space-1\""), "{key}");
    let csr = request(folder.path(), "box-1");
    let out = folder.path().join("box.pem").display().to_string();
    let enrol = |id: &'static str, tier: &'static str| {
        let what = ["box", "enrol", "--config", &config, "--box", id, "--csr", &csr];
        [&what[..], &["--tier", tier, "--out", &out]].concat()
    };
    check(&enrol("box-2", "unattested"), false, &["box-1", "box-2"]);
    check(&enrol("box-1", "hardware"), false, &["guan join"]);
    check(&enrol("box-1", "unattested"), true, &["fingerprint"]);
    check(&["box", "list", "--config", &config], true, &["box-1", "enrolled"]);
    check(&["box", "revoke", "--config", &config, "box-3"], false, &["not enrolled"]);
    check(&["box", "revoke", "--config", &config, "box-1"], true, &["turned away"]);
    check(&["box", "list", "--config", &config], true, &["REVOKED"]);
}

#[test]
fn contracts_are_signed_or_refused_with_reasons() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().display().to_string();
    check(&["init", "--dir", &dir, "--id", "space-1", "--host", "localhost"], true, &[]);
    let config = format!("{dir}/space.toml");
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/contracts/vessel.json");
    let out = format!("{dir}/signed.json");
    let sign = |input: &str| {
        ["contract", "sign", "--config", &config, "--in", input, "--out", &out].map(str::to_owned)
    };
    let run = |input: &str, success, parts: &[&str]| {
        let arguments = sign(input);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        check(&arguments, success, parts)
    };
    run(&sample.display().to_string(), true, &["signed as space-1"]);
    let bad = format!("{dir}/bad.json");
    std::fs::write(&bad, r#"{"id":"C-1","version":0}"#).unwrap();
    run(&bad, false, &["is not signed", "version"]);
}

/// A space with a box that is enrolled, and a folder for files.
struct Space {
    folder: tempfile::TempDir,
    config: String,
}

impl Space {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().display().to_string();
        check(&["init", "--dir", &dir, "--id", "space-1", "--host", "localhost"], true, &[]);
        let space = Self { config: format!("{dir}/space.toml"), folder };
        let csr = request(space.folder.path(), "box-1");
        let out = space.path("box.pem");
        let enrol = ["box", "enrol", "--box", "box-1", "--csr", &csr, "--out", &out];
        space.check(&[&enrol[..], &["--tier", "unattested"]].concat(), true, &[]);
        space
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn check(&self, arguments: &[&str], success: bool, parts: &[&str]) -> String {
        check(&[arguments, &["--config", &self.config]].concat(), success, parts)
    }

    fn keygen(&self, party: &str, extra: &[&str]) {
        let out = self.path(&format!("{party}.pem"));
        check(
            &[&["contract", "keygen", "--party", party, "--out", &out], extra].concat(),
            true,
            &[],
        );
    }

    fn publish(&self, party: &str, extra: &[&str]) {
        let public = self.path(&format!("parties/{party}.pub.pem"));
        self.keygen(party, &[extra, &["--public", &public]].concat());
    }

    fn sign(&self, input: &str, out: &str, party: &str, key: &str) -> Vec<String> {
        let (input, out, key) = (self.path(input), self.path(out), self.path(key));
        let sign =
            ["contract", "sign", "--in", &input, "--out", &out, "--party", party, "--key", &key];
        sign.map(str::to_owned).to_vec()
    }

    fn signs(&self, input: &str, out: &str, party: &str) {
        let sign = self.sign(input, out, party, &format!("{party}.pem"));
        self.check(&sign.iter().map(String::as_str).collect::<Vec<_>>(), true, &["signed as"]);
    }

    fn issue(&self, file: &str, extra: &[&str], success: bool, parts: &[&str]) {
        let file = self.path(file);
        let issue = ["contract", "issue", "--box", "box-1", &file];
        self.check(&[&issue[..], extra].concat(), success, parts);
    }

    /// Two batches of contract C-1 that came in 2026, as the daemon would have stored them.
    fn store(&self) {
        let path = self.folder.path().join("state/store");
        std::fs::create_dir_all(&path).unwrap();
        let disk = OsDisk::open_exclusive(&path).unwrap();
        let log = self.folder.path().join("state/log");
        std::fs::create_dir_all(&log).unwrap();
        let keys = LogKeys::open_or_create(&self.folder.path().join("state"), "space-1").unwrap();
        let log = LogParts {
            disk: OsDisk::open_exclusive(&log).unwrap(),
            signer: keys.log,
            program: Program::parse("test").unwrap(),
        };
        let (mut store, _) = Store::open(disk, 1 << 20, [0; 16], log).unwrap();
        let (box_id, dataset) = (BoxId::parse("box-1").unwrap(), DatasetId::parse("d").unwrap());
        let point = PointDescriptor {
            id: PointId(1),
            name: PointName::parse("t").unwrap(),
            value_type: ValueType::I64,
            unit: Unit::one(),
            dataset: dataset.clone(),
            class: Class::General,
            tags: std::collections::BTreeSet::new(),
        };
        let table = DescriptorTable::new(vec![point]).unwrap();
        let announcement = Announcement { box_id: box_id.clone(), table };
        store.announce(&announcement).unwrap();
        for seq in 1..=2u32 {
            let header = BatchHeader {
                dataset: dataset.clone(),
                contract: Some(ContractId::parse("C-1").unwrap()),
                descriptors: announcement.digest(),
                boot: BootNumber(1),
                monotonic: std::time::Duration::ZERO,
                clock_quality: ClockQuality::Rtc,
            };
            let row = Row {
                point: PointId(1),
                source_time: None,
                gateway_time: WallTime(0),
                quality: Quality::GOOD,
                value: Some(Value::I64(seq.into())),
            };
            let encoded = guan_codec::encode(&Batch::from_rows(header, [row]).unwrap());
            let delivery = Delivery {
                box_id: box_id.clone(),
                spool: SpoolId([1; 16]),
                stream: StreamId(1),
                seq: BatchSeq(seq.into()),
                // An hour apart.
                received: WallTime::from_seconds(1_767_225_600 + 3600 * i64::from(seq)),
                dataset: dataset.clone(),
                contract: ContractId::parse("C-1").unwrap(),
                rows: encoded.rows,
                digest: encoded.digest,
                bytes: encoded.bytes.into(),
            };
            let now = Now {
                wall: delivery.received,
                monotonic: std::time::Duration::from_secs(seq.into()),
                quality: ClockQuality::Ntp,
            };
            store.deliver(&now, &Judged::judge(delivery).unwrap()).unwrap().unwrap();
        }
        store.commit().unwrap();
    }
}

fn write_draft(space: &Space, name: &str, change: impl FnOnce(&mut serde_json::Value)) {
    let mut object = serde_json::json!({
        "@type": "Agreement", "@id": "urn:contract:C-1", "profile": "urn:guankou:odrl:1",
        "version": 1, "conflict": "prohibit", "assigner": "depot-7", "assignee": "insurer-1",
        "target": ["d"], "permission": [{"action": "deliver"}],
        "validity": {"notBefore": "2026-01-01T00:00:00Z", "notAfter": "2099-01-01T00:00:00Z"},
    });
    change(&mut object);
    std::fs::write(space.path(name), object.to_string()).unwrap();
}

#[test]
fn only_contracts_that_both_parties_have_signed_are_issued() {
    let space = Space::new();
    write_draft(&space, "draft.json", |_| {});
    space.keygen("depot-7", &[]);
    space.keygen("insurer-1", &[]);
    space.signs("draft.json", "half.json", "depot-7");
    space.signs("half.json", "whole.json", "insurer-1");
    let trust = ["--trust-unknown-keys"];
    space.issue("draft.json", &trust, false, &["is not issued", "missing"]);
    space.issue("half.json", &trust, false, &["is not issued", "insurer-1"]);
    space.issue("whole.json", &[], false, &["no key of depot-7 and insurer-1 is known here"]);
    let file = space.path("whole.json");
    let foreign = ["contract", "issue", "--box", "box-9", &file];
    space.check(&[&foreign[..], &trust].concat(), false, &["box-9 is not enrolled"]);
    let list = space.check(&["contract", "list"], true, &["no box has contracts"]);
    assert!(!list.contains("active"), "{list}");
    space.issue("whole.json", &trust, true, &["active", "depot-7", "was not checked"]);
}

#[test]
fn keys_that_are_known_are_asked_for() {
    let space = Space::new();
    write_draft(&space, "draft.json", |_| {});
    space.publish("depot-7", &[]);
    space.publish("insurer-1", &["--algorithm", "p256"]);
    let wrong = space.sign("draft.json", "half.json", "depot-7", "insurer-1.pem");
    let wrong: Vec<&str> = wrong.iter().map(String::as_str).collect();
    space.check(&wrong, false, &["is not depot-7's"]);
    space.signs("draft.json", "half.json", "depot-7");
    space.signs("half.json", "whole.json", "insurer-1");
    let text = std::fs::read_to_string(space.path("whole.json")).unwrap();
    assert!(text.contains("ECDSA-P256-SHA256"), "{text}");
    std::fs::write(space.path("altered.json"), text.replace("2099", "2098")).unwrap();
    space.issue("altered.json", &["--trust-unknown-keys"], false, &["altered after signing"]);
    space.issue("whole.json", &[], true, &["active"]);
    let key = space.path("insurer-1.pem");
    let shown = ["contract", "key", "--party", "insurer-1", "--key", &key];
    space.check(&shown, true, &["[[contracts.trusted_key]]", "p256 = \"04"]);
}

#[test]
fn what_is_over_is_neither_signed_nor_issued() {
    let space = Space::new();
    space.publish("depot-7", &[]);
    write_draft(&space, "over.json", |object| {
        object["validity"] = serde_json::json!({
            "notBefore": "2019-01-01T00:00:00Z", "notAfter": "2020-01-01T00:00:00Z",
        });
    });
    let sign = space.sign("over.json", "signed.json", "depot-7", "depot-7.pem");
    let sign: Vec<&str> = sign.iter().map(String::as_str).collect();
    space.check(&sign, false, &["is not signed", "was over at 1577836800"]);
    assert!(!Path::new(&space.path("signed.json")).exists());
}

#[test]
fn use_is_metered_and_acknowledged() {
    let space = Space::new();
    space.publish("depot-7", &[]);
    space.publish("insurer-1", &["--algorithm", "p256"]);
    write_draft(&space, "draft.json", |object| {
        let every = serde_json::json!(
            {"leftOperand": "every", "operator": "eq", "rightOperand": "PT1H"});
        object["permission"][0]["duty"] = serde_json::json!([
            {"action": "acknowledgeUse", "refinement": every}, {"action": "compensate"}]);
        object["price"] = serde_json::json!({"amount": "5", "unit": "CNY"});
    });
    space.signs("draft.json", "half.json", "depot-7");
    space.signs("half.json", "whole.json", "insurer-1");
    space.issue("whole.json", &[], true, &["active"]);
    space.store();
    let overdue = "insurer-1 has yet to acknowledge 1 readings in 1 batches under C-1, \
                   2026-01-01T01:00:00Z to 2026-01-01T02:00:00Z: OVERDUE";
    let paid = "insurer-1 pays depot-7 by the terms {\"price\":{\"amount\":\"5\",\"unit\":\"CNY\"}} for 2 \
                readings in 2 batches; no money moves";
    space.check(&["meter"], true, &[overdue, paid]);

    let acknowledge = ["contract", "acknowledge", "C-1"];
    space.check(&acknowledge, false, &["no key of insurer-1", "--by insurer-1"]);
    let (key, wrong) = (space.path("insurer-1.pem"), space.path("depot-7.pem"));
    let by = |party: &'static str, key: &str| {
        [&acknowledge[..], &["--by", party, "--key"]]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .chain([key.to_owned()])
            .collect::<Vec<String>>()
    };
    let run = |arguments: &[String], extra: &[&str], success, parts: &[&str]| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        space.check(&[&arguments[..], extra].concat(), success, parts)
    };
    run(&by("depot-7", &wrong), &[], false, &["is not the consumer"]);
    run(&by("insurer-1", &wrong), &[], false, &["is not insurer-1's"]);
    let first = ["--period", "2026-01-01T01:30:00Z"];
    run(&by("insurer-1", &key), &first, true, &["acknowledges 1 readings, 2026-01-01T01:00:00Z"]);
    run(&by("insurer-1", &key), &first, true, &["nothing is due"]);
    run(&by("insurer-1", &key), &[], true, &["acknowledges 1 readings, 2026-01-01T02:00:00Z"]);
    let said =
        space.check(&["meter"], true, &["insurer-1 acknowledged 1 readings", "signature good"]);
    assert!(!said.contains("OVERDUE"), "{said}");

    // What is said beside the sums takes nothing away from them.
    let file = space.folder.path().join("state/acknowledged.jsonl");
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let fault = "acknowledgements are not all here: acknowledged.jsonl cannot be read";
    let said = space.check(&["meter"], false, &["C-1: 2 readings in 2 batches", paid, fault]);
    assert_eq!(said.lines().filter(|line| line.starts_with("FAULT")).count(), 1, "{said}");
    space.check(&["meter", "--json"], false, &["\"agrees\":true", "\"fault\":\"acknowledged"]);
    std::fs::remove_dir(&file).unwrap();

    // No entry of the box's log is here yet.
    let open = "C-1: 2 readings in 2 batches wait for their entries";
    space.check(&["meter", "--box", "box-1"], true, &[open, "box-1, its log and this space agree"]);
    space.check(&["meter", "--box", "box-2"], false, &["box box-2 has sent nothing"]);
}

/// Each period is counted and signed for by itself.
#[test]
fn acknowledgements_of_no_time_are_not_signed() {
    let space = Space::new();
    space.publish("depot-7", &[]);
    let asking = |every: &str, place: &str| {
        let every =
            serde_json::json!({"leftOperand": "every", "operator": "eq", "rightOperand": every});
        let duty = serde_json::json!([{"action": "acknowledgeUse", "refinement": every}]);
        write_draft(&space, "draft.json", |object| match place {
            "duty" => object["permission"][0]["duty"] = duty,
            place => object[place] = duty,
        });
        let sign = space.sign("draft.json", "signed.json", "depot-7", "depot-7.pem");
        let is_signed = every["rightOperand"] == "PT1S";
        let said: &[&str] = match is_signed {
            true => &["signed as depot-7"],
            false => &["is not signed", "every 0 s", "the shortest period is 1 s"],
        };
        space.check(&sign.iter().map(String::as_str).collect::<Vec<_>>(), is_signed, said);
    };
    for place in ["duty", "obligation"] {
        asking("PT0S", place);
        asking("PT1S", place);
    }
}

#[test]
fn lines_of_deletions_are_listed_and_checked() {
    let space = Space::new();
    space.check(&["deleted"], true, &["nothing was deleted"]);
    std::fs::create_dir_all(space.folder.path().join("state")).unwrap();
    let line = r#"{"deleted":{"event":"data.deleted","contract":"C-1","rows":3},"key_id":"00000000","signature":"00"}"#;
    std::fs::write(space.path("state/deleted.jsonl"), format!("{line}\n")).unwrap();
    space.check(&["deleted"], true, &["contract C-1", "3 readings"]);
    space.check(&["deleted", "--verify"], false, &["UNKNOWN KEY", "1 of 1 lines"]);
    space.check(&["deleted", "--verify", "--json"], false, &["\"verified\":false"]);
}

/// Two deletions as the space does them; gives their lines.
fn deletions(space: &Space) -> Vec<String> {
    space.publish("depot-7", &[]);
    space.publish("insurer-1", &[]);
    write_draft(space, "draft.json", |object| {
        let after = serde_json::json!(
            {"leftOperand": "after", "operator": "eq", "rightOperand": "PT60S"});
        object["permission"][0]["duty"] =
            serde_json::json!([{"action": "delete", "refinement": after}]);
    });
    space.signs("draft.json", "half.json", "depot-7");
    space.signs("half.json", "whole.json", "insurer-1");
    space.issue("whole.json", &[], true, &["active"]);
    space.store();
    let text = std::fs::read_to_string(&space.config).unwrap();
    let config = SpaceConfig::parse(&text, &space.config, space.folder.path()).unwrap();
    let retention = Retention::open(&config.state_dir).unwrap();
    retention.read_duties(&guan_space::run::open_sets(&config).unwrap());
    let store = OsDisk::open_read_only(&config.state_dir.join("store")).unwrap();
    let mut stored = Vec::new();
    let read = read_all(&store, &mut |record| {
        if let StoredRecord::Batch(delivery) = record {
            stored.push(delivery);
        }
        Ok(())
    });
    read.unwrap();
    stored.iter_mut().for_each(|delivery| retention.seal(delivery).unwrap());
    let key = LogKeyFile::load(&config.contract_key_file, "space-1").unwrap();
    let now = WallTime::from_seconds(1_790_000_000);
    let (lines, faults) = retention.delete_due(now, ("space-1", &key), &store);
    assert!(faults.is_empty(), "{faults:?}");
    lines.iter().map(ToString::to_string).collect()
}

/// A power cut within a line is nobody's lie, and must not look like one for ever.
#[test]
fn half_a_line_of_a_power_cut_is_no_forged_one() {
    let space = Space::new();
    let lines = deletions(&space);
    let [first, second] = &lines[..] else { panic!("{lines:?}") };
    space.check(&["deleted", "--verify"], true, &["2 lines, all signed by space-1"]);
    let half = &first[..first.len() / 2];
    let file = space.path("state/deleted.jsonl");
    let verify = ["deleted", "--verify"];
    let said = "half a line of a power cut; its deletion is said again below";
    for text in [format!("{half}\n{first}\n{second}\n"), format!("{first}\n{second}\n{half}")] {
        std::fs::write(&file, &text).unwrap();
        let all = "2 lines, all signed by space-1";
        assert_eq!(space.check(&verify, true, &[all, said]).matches("half a line").count(), 1);
        let json = [&verify[..], &["--json"]].concat();
        space.check(&json, true, &["\"verified\":true", "\"damaged\":1"]);
        std::fs::write(&file, text.replace("\"C-1\"", "\"C-9\"")).unwrap();
        space.check(&verify, false, &["FORGED", "2 of 2 lines are not what space-1 signed"]);
        std::fs::write(&file, text.replace("data.deleted", "data.kept")).unwrap();
        space.check(&verify, false, &["FORGED", "2 of 2 lines"]);
    }
}

/// Runs the space until it is ready, stops it in order, and gives what it said.
fn run_once(config: &str) -> String {
    let mut space = Command::new(env!("CARGO_BIN_EXE_guan-space"))
        .args(["run", "--config", config])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut said, mut is_ready) = (String::new(), false);
    for line in BufReader::new(space.stderr.take().unwrap()).lines() {
        said += &(line.unwrap() + "\n");
        if said.contains("ready") && !is_ready {
            is_ready = true;
            let kill = Command::new("kill").args(["-TERM", &space.id().to_string()]).status();
            assert!(kill.unwrap().success());
        }
    }
    assert!(space.wait().unwrap().success(), "{said}");
    said
}

#[test]
fn a_space_keeps_a_log_that_others_can_read() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().display().to_string();
    let init = ["init", "--dir", &dir, "--id", "space-1", "--host", "localhost"];
    check(&[&init[..], &["--listen", "127.0.0.1:0"]].concat(), true, &[]);
    let config = format!("{dir}/space.toml");
    let with = |what: &'static [&'static str]| [what, &["--config", &config]].concat();
    check(&with(&["log", "head"]), false, &["start `guan-space run`"]);
    assert!(!run_once(&config).contains("is made"), "init makes the keys");
    let head = check(&with(&["log", "head"]), true, &["guan-space/space-1\n2\n"]);
    // An older space has no log and no keys for it.
    for name in ["keys", "log", "store"] {
        std::fs::remove_dir_all(folder.path().join("state").join(name)).unwrap();
    }
    let said = run_once(&config);
    assert!(said.contains("a key of the space's log is made"), "{said}");
    assert_ne!(check(&with(&["log", "head"]), true, &[]), head);
    let deleted = "{\"deleted\":{\"contract\":\"C-1\"}}\n";
    std::fs::write(folder.path().join("state/deleted.jsonl"), deleted).unwrap();
    run_once(&config);
    check(&with(&["log", "verify"]), true, &["5, 5 under a signed head", "\nverified"]);
    check(&with(&["log", "show", "--kind", "data.deleted"]), true, &["contract C-1"]);
    check(&with(&["log", "verify", "--json"]), true, &["\"verified\":true"]);
    check(&with(&["log", "show"]), true, &["guan-space 0.1.0", "stop"]);
    check(&with(&["log", "show", "--kind", "stop", "--json"]), true, &["\"kind\":\"stop\""]);
    check(&with(&["log", "boxes"]), true, &["no box"]);
    check(&with(&["log", "head", "--box", "box-9"]), false, &["no such log"]);
    let out = format!("{dir}/tiles");
    let export = with(&["log", "export", "--out"]);
    let export = [&export[..3], &[&out], &export[3..]].concat();
    check(&export, true, &["5 entries of guan-space/space-1"]);
    check(&export, false, &["not empty"]);
    for name in ["checkpoint", "log.vkey", "tile/0/000.p/5", "tile/entries/000.p/5"] {
        assert!(Path::new(&out).join(name).is_file(), "{name}");
    }
    check(&with(&["trace"]), false, &["name --box"]);
    check(&with(&["trace", "--contract", "C-1"]), false, &["nothing of that kind"]);
    check(&with(&["trace", "--batch", "12"]), false, &["64 hexadecimal"]);
    let question = ["trace", "--box", "b", "--dataset", "d", "--at", "2026-11-27T08:30:00Z"];
    check(&[&question[..], &["--config", &config]].concat(), false, &["nothing of that kind"]);
    // A leaf that was changed is named.
    let file = folder.path().join("state/store/seg-0000000000000001.gks");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    check(&with(&["log", "verify"]), false, &["FAULT", "NOT verified"]);
    std::fs::write(&file, bytes).unwrap();
    check(&with(&["log", "verify"]), true, &["\nverified"]);
}
