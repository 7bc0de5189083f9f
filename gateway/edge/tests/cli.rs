//! The program `guan` as an operator meets it before anything runs.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use guan_edge::negotiating::NEGOTIATIONS_DIR;
use guan_edge::system_clock::{SharedClock, SystemClock};
use guan_log::{ACTS_DIR, Acts};
use guan_negotiation::Ledger;
use guan_policy::negotiation::{Role, Terms};
use guan_spool::OsDisk;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A public key (RFC 8032, 7.1, test 1).
const KEY: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs")
}

/// Runs a command and looks for parts of what it says.
fn check(arguments: &[&str], success: bool, parts: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_guan")).args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(output.status.success(), success, "{arguments:?}: {text}");
    for part in parts {
        assert!(text.contains(part), "{arguments:?} does not say {part:?}: {text}");
    }
    text
}

#[test]
fn the_samples_are_valid_and_shown_with_their_origins() {
    for sample in ["edge.toml", "demo/edge.toml"] {
        let path = configs().join(sample).display().to_string();
        check(&["config", "check", "--config", &path], true, &["is valid"]);
        check(&["config", "show", "--config", &path], true, &["# default", "edge.toml:"]);
        let json = check(&["config", "show", "--json", "--config", &path], true, &[]);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert!(json["values"].as_array().unwrap().len() > 50);
    }
}

#[test]
fn mappings_are_checked_with_their_lines() {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(configs().join("demo/edge.toml")).unwrap();
    let path = folder.path().join("edge.toml");
    std::fs::write(&path, text.replace("point = \"gnss.nmea\"", "point = \"gnss.nema\"")).unwrap();
    let path = path.display().to_string();
    check(&["config", "check", "--config", &path], false, &["1 fault", "line ", "gnss.nema"]);
}

#[test]
fn what_is_missing_is_named_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edge.toml");
    let text = std::fs::read_to_string(configs().join("demo/edge.toml")).unwrap();
    std::fs::write(&path, text.replace(&"0".repeat(64), KEY)).unwrap();
    let path = path.display().to_string();
    check(&["status", "--config", "/nowhere.toml"], false, &["/nowhere.toml", "--config"]);
    check(&["status", "--config", &path], false, &["does not run", "guan run"]);
    check(&["log", "verify", "--config", &path], false, &["identity init"]);
    check(&["identity", "init", "--config", &path], true, &["guan-space box enrol", "unattested"]);
    check(&["identity", "init", "--config", &path], true, &["log key"]);
    check(&["log", "verify", "--config", &path], false, &["guan run"]);
    check(&["run", "--config", &path], false, &["certificate.pem"]);
    std::fs::copy(configs().join("demo/edge.toml"), &path).unwrap();
    check(&["run", "--config", &path], false, &["contracts.trusted_key", "copy it again"]);
}

#[test]
fn fewer_descriptors_than_clients_are_refused_with_the_remedy() {
    let path = configs().join("demo/edge.toml");
    let script = "ulimit -Sn 200; ulimit -Hn 300; exec \"$0\" run --config \"$1\"";
    let guan = env!("CARGO_BIN_EXE_guan");
    let output = Command::new("sh").args(["-c", script, guan]).arg(path).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{text}");
    for part in ["mqtt.connections_max", "300", "LimitNOFILE"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn the_reference_and_help_explain() {
    check(&["config", "reference"], true, &["box.id", "must be given", "commit_window_ms"]);
    check(&["--help"], true, &["run", "status", "config", "identity", "spool", "log", "contract"]);
}

#[test]
fn drafts_of_contracts_are_linted() {
    let sample = configs().join("contracts/gnss.json").display().to_string();
    check(&["contract", "lint", &sample], true, &["C-2026-gnss v1 is well formed", "always"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("draft.json");
    std::fs::write(&path, r#"{"@type": "Offer", "profile": "urn:cx:1"}"#).unwrap();
    let path = path.display().to_string();
    check(&["contract", "lint", &path], false, &["/profile: \"urn:cx:1\"", "/assigner: missing"]);
    check(&["contract", "lint", "--json", &path], false, &["\"pointer\":\"/assigner\""]);
    // What is asked in return, and what is hardly meant so.
    let battery = configs().join("contracts/examples/battery.en.json");
    let shown = battery.display().to_string();
    let parts = ["duty aggregate dataField battery.*, window PT5M", "duty retain atLeast P180D"];
    check(&["contract", "lint", &shown], true, &parts);
    let text = std::fs::read_to_string(&battery).unwrap().replace("2027-12", "2025-12");
    std::fs::write(&path, text.replace("2026-12", "2024-12")).unwrap();
    check(&["contract", "lint", &path], true, &["warning: the validity ended at 2025-12-01"]);
    check(&["contract", "lint", "--json", &path], true, &["\"warnings\":[\"the validity ended"]);
    std::fs::write(&path, " ".repeat(5_000_000)).unwrap();
    check(&["contract", "lint", &path], false, &["more than 262144 bytes"]);
    check(&["contract", "lint", "/nowhere"], false, &["/nowhere cannot be read"]);
}

/// From one form to the other and back; a signed file is told what it loses.
#[test]
fn contracts_change_their_form() {
    let example = configs().join("contracts/examples/depot.tds.zh.json").display().to_string();
    check(&["contract", "lint", &example], true, &["depot-2026-01 v1 is well formed"]);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (odrl, tds) = (path("odrl.json"), path("tds.json"));
    check(&["contract", "convert", &example, "--to", "odrl", "--out", &odrl], true, &[]);
    check(&["contract", "lint", &odrl], true, &["depot-2026-01 v1 is well formed"]);
    let convert = ["contract", "convert", &odrl, "--to", "tds"];
    check(&convert, false, &["depot-2026-01 is no number of 47", "--unnumbered"]);
    let unnumbered = [&convert[..], &["--unnumbered"]].concat();
    let printed = check(&unnumbered, true, &["\"contractId\": \"\""]);
    assert!(!printed.contains("signatures"), "{printed}");
    let signed = configs().join("../gateway/policy/tests/golden/contract-v1.json");
    let signed = signed.display().to_string();
    let told = ["signatures were left out"];
    let convert = ["contract", "convert", &signed, "--to", "tds", "--unnumbered", "--out", &tds];
    check(&convert, true, &told);
    // Spelling and order are no differences.
    check(&["contract", "diff", &example, &odrl], true, &["are equal"]);
    check(&["contract", "diff", &signed, &tds], true, &["are equal"]);
    check(&["contract", "lint", &tds], true, &["C-2026-001 v1 is well formed"]);
    check(&["contract", "convert", "/nowhere", "--to", "tds"], false, &["cannot be read"]);
    check(&["contract", "vocabulary"], true, &["TC609-6-2025-14", "08=isNoneOf"]);
}

/// A contract over a capture, its table of cases, and what differs between two.
#[test]
fn contracts_are_tried_before_anyone_signs() {
    let folder = tempfile::tempdir().unwrap();
    let sample = |name: &str| configs().join("demo").join(name).display().to_string();
    let (regulator, insurer) =
        (sample("contracts/regulator.json"), sample("contracts/insurer.json"));
    let config = sample("edge.toml");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let line = |second: u32| {
        let value = 90 + second;
        let payload = format!(r#"{{"t":"2026-11-24T08:00:{second:02}Z","value":{value}}}"#);
        let tst = format!("2026-11-24T08:00:{second:02}.000000+0000");
        serde_json::json!({"tst": tst, "topic": "factory/press-1/temperature", "payload": payload})
    };
    let lines: Vec<String> = (0..10).map(|second| line(second).to_string()).collect();
    std::fs::write(at("capture.jsonl"), lines.join("\n")).unwrap();
    let (capture, plot) = (at("capture.jsonl"), at("plot.svg"));
    let simulate = ["contract", "simulate", &regulator, "--capture", &capture, "--plot", &plot];
    let said = check(&[&simulate[..], &["--config", &config, "--json"]].concat(), true, &[]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["points"]["machine.temperature"]["leaves"], 4);
    assert_eq!(said["stays"]["prohibited (normal)"], 6);
    let verdicts = said["verdicts"].to_string();
    let conditional =
        r#"{"chinese":"有条件允许","readings":4,"rule":"alarms","verdict":"conditional allow"}"#;
    let denied = r#"{"chinese":"拒绝","readings":6,"rule":"normal","verdict":"deny"}"#;
    assert!(verdicts.contains(conditional) && verdicts.contains(denied), "{verdicts}");
    let table = [&simulate[..5], &["--config", &config]].concat();
    check(&table, true, &["拒绝 deny: 6 readings by rule normal"]);
    assert!(std::fs::read_to_string(plot).unwrap().starts_with("<svg"));

    let table = r#"[
        {"point": "machine.temperature", "value": 97.4, "expect": "permit", "leaves": 95},
        {"point": "machine.temperature", "value": 94.0, "expect": "refuse"},
        {"point": "machine.temperature", "value": 94.0, "expect": "permit"}]"#;
    std::fs::write(at("cases.json"), table).unwrap();
    let test = ["contract", "test", &regulator, &at("cases.json"), "--config", &config];
    check(&test, false, &["ok     case 0", "ok     case 1", "FAILED case 2", "2 passed, 1 failed"]);

    let explain = ["contract", "explain", "--config", &config, "--file", &regulator];
    let asked = ["--point", "machine.temperature", "--value", "97.4"];
    check(
        &[&explain[..], &asked].concat(),
        true,
        &["有条件允许 conditional allow: leaves as 95 by rule alarms", "value lteq 95"],
    );
    let low = ["--point", "machine.temperature", "--value", "94"];
    check(&[&explain[..], &low].concat(), true, &["拒绝 deny: stays: prohibited by rule normal"]);
    let json = check(&[&explain[..], &low, &["--json"]].concat(), true, &[]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let ruling = serde_json::json!({"english": "deny", "chinese": "拒绝", "rule": "normal"});
    assert_eq!(json["contracts"][0]["ruling"], ruling);
    check(&["contract", "diff", &regulator, &insurer], false, &["~ /assignee", "+ /permission"]);
    check(&["contract", "diff", &insurer, &insurer], true, &["are equal"]);
}

/// Of the battery fleet: five vehicles stand behind an hour, of the next hour four, and nobody agreed.
#[test]
fn a_fleet_leaves_as_one_when_enough_vehicles_are_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let demo = std::fs::read_to_string(configs().join("demo/edge.toml")).unwrap();
    let points = r#"
        [[dataset]]
        id = "battery-pack"
        [[point]]
        id = 3000
        name = "fleet.soh"
        type = "f64"
        unit = "%"
        dataset = "battery-pack"
        [[point]]
        id = 3001
        name = "battery.soh.{}"
        type = "f64"
        unit = "%"
        dataset = "battery-pack"
        each = ["v1", "v2", "v3", "v4", "v5"]
        [[mapping]]
        topic = "fleet/+/soh"
        format = "json"
        point = "battery.soh.{1}"
        value = "/soh"
    "#;
    std::fs::write(at("edge.toml"), format!("{demo}{points}")).unwrap();
    let reading = |hour: u32, minute: u32, vehicle: u32| {
        let payload = format!(r#"{{"soh":{}}}"#, 90 + vehicle);
        let tst = format!("2026-12-02T{hour:02}:{minute:02}:00.000000+0000");
        let topic = format!("fleet/v{vehicle}/soh");
        serde_json::json!({"tst": tst, "topic": topic, "payload": payload}).to_string()
    };
    let hours = (1..=5).map(|vehicle| reading(8, vehicle * 9, vehicle));
    let lines: Vec<String> = hours.chain((1..=4).map(|one| reading(9, one * 9, one))).collect();
    std::fs::write(at("capture.jsonl"), lines.join("\n")).unwrap();
    let battery = configs().join("contracts/examples/battery.zh.json").display().to_string();
    let (config, capture) = (at("edge.toml"), at("capture.jsonl"));
    let simulate = ["contract", "simulate", &battery, "--capture", &capture, "--config", &config];
    let said = check(&[&simulate[..], &["--json"]].concat(), true, &[]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["points"]["fleet.soh"]["leaves"], 1, "{said}");
    assert_eq!(said["points"]["fleet.soh"]["first_out"], "93", "{said}");
    assert_eq!(said["points"]["battery.soh.v1"]["leaves"], 0, "{said}");
    let verdicts = said["verdicts"].to_string();
    let left = r#""readings":1,"rule":"fleet-means","verdict":"conditional allow""#;
    assert!(verdicts.contains(left), "{verdicts}");
    check(&simulate, true, &["fleet.soh", "absorbed"]);
    let warned = ["rule fleet-means asks for 5 different points behind each row of fleet.soh"];
    check(&["contract", "lint", &battery], true, &warned);
}

/// As `guan conformance | head -n 1`: the reader is gone before the rest is written.
#[test]
fn a_closed_pipe_is_no_panic() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_guan"))
        .args(["contract", "vocabulary", "--schema"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// A configuration in a folder of its own.
fn config(folder: &Path, change: impl Fn(String) -> String) -> String {
    let path = folder.join("edge.toml");
    let text = std::fs::read_to_string(configs().join("demo/edge.toml")).unwrap();
    std::fs::write(&path, change(text.replace(&"0".repeat(64), KEY))).unwrap();
    path.display().to_string()
}

/// What saves a box is done though the log cannot be told of it, and that is said loudly.
#[test]
fn a_tpm_is_cleared_without_a_record_if_need_be() {
    let folder = tempfile::tempdir().unwrap();
    let path = config(folder.path(), |text| {
        let tpm = "tier = \"emulated\"\ntpm = \"swtpm:host=127.0.0.1,port=1\"";
        text.replace("tier = \"unattested\"", tpm)
    });
    let password = folder.path().join("password");
    std::fs::write(&password, "00").unwrap();
    let password = password.display().to_string();
    let clear = ["tpm", "clear", "--password-file", &password, "--by", "li", "--config", &path];
    let said = check(&clear, false, &["no TPM answers"]);
    assert!(!said.contains("NOT RECORDED"), "{said}");
    let acts = folder.path().join("state").join(ACTS_DIR);
    let left = Acts::reader(OsDisk::open_read_only(&acts).unwrap());
    assert!(left.waiting().unwrap().is_empty(), "it was certainly not done");
    assert!(left.openings().unwrap().known.is_empty());
    std::fs::remove_dir_all(&acts).unwrap();
    std::fs::write(&acts, "no folder").unwrap();
    check(&clear, false, &["WARNING: NOT RECORDED", "no TPM answers"]);
}

/// The gateway needs the negotiations, and does not wait for whoever is at the acts.
#[test]
fn nobody_waits_for_the_acts_while_holding_the_negotiations() {
    let folder = tempfile::tempdir().unwrap();
    let path = config(folder.path(), |text| text);
    let state = folder.path().join("state");
    let callback = "urn:guankou:link:box";
    let ledger = Ledger::new(&state.join(NEGOTIATIONS_DIR), Role::Provider, "space", callback);
    let offer = br#"{"@type": "Offer", "@id": "urn:offer:1", "target": "d"}"#;
    let now = SharedClock::new(SystemClock::new(None)).read();
    let pid = ledger.open().unwrap().propose(now, Terms::read(offer).unwrap()).unwrap();
    let held = OsDisk::open_exclusive(&state.join(ACTS_DIR)).unwrap();
    let mut guan = Command::new(env!("CARGO_BIN_EXE_guan"))
        .args(["contract", "negotiate", "terminate", pid.as_str(), "--reason", "no"])
        .args(["--config", &path])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It waits five seconds for the acts.
    let mut longest = Duration::ZERO;
    while guan.try_wait().unwrap().is_none() {
        let asked = Instant::now();
        drop(ledger.open().unwrap());
        longest = longest.max(asked.elapsed());
        std::thread::yield_now();
    }
    let mut said = String::new();
    guan.stderr.unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("in use by another process"), "{said}");
    assert!(longest < Duration::from_secs(3), "{longest:?}");
    drop(held);
    let terminate = ["contract", "negotiate", "terminate", pid.as_str(), "--reason", "no"];
    check(&[&terminate[..], &["--config", &path]].concat(), true, &[]);
}

/// A word that is no level would count as a target, and silence all others.
#[test]
fn a_log_filter_that_says_nothing_is_refused() {
    let check = |filter: &str, expect: &str| {
        let mut guan = Command::new(env!("CARGO_BIN_EXE_guan"));
        guan.args(["run", "--config", "/nowhere.toml"]).env("GUAN_LOG", filter);
        let output = guan.output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains(expect), "{filter}: {text}");
    };
    check("verbose", "\"verbose\" is no level");
    check("info,inof", "\"inof\" is no level");
    check("guan_link=loud", "GUAN_LOG is \"guan_link=loud\"");
    for good in ["info", "warn,guan_link=debug", "off"] {
        check(good, "/nowhere.toml cannot be read");
    }
}
