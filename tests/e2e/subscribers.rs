//! What the listener claims for local subscribers, with other people's clients and a SIGKILL in between.

use super::rig::{Rig, mosquitto_pub, python, wait_for};
use serde_json::{Value, json};
use std::io::Write as _;
use std::process::{Command, Stdio};

/// Most messages that wait for one client: `OUTBOX_MESSAGES_MAX` of the listener.
const QUEUE_MESSAGES_MAX: u32 = 1024;

/// The demo's box with topics that clients may read, and a point that takes any payload.
fn with_claims(text: String) -> String {
    let rights = "publish = [\"claims/#\", \"factory/#\"]\nsubscribe = [\"claims/#\"]";
    let start = text.find("publish = [").unwrap();
    let end = start + text[start..].find('\n').unwrap();
    format!(
        "{}{rights}{}\n[[dataset]]\nid = \"claims\"\n\n[[point]]\nid = 5000\nname = \"claims.bytes\"\n\
         type = \"bytes\"\ndataset = \"claims\"\n\n[[mapping]]\ntopic = \"claims/#\"\nformat = \"raw\"\n\
         point = \"claims.bytes\"\n",
        &text[..start],
        &text[end..]
    )
}

fn paho(rig: &Rig, protocol: &str, phase: &str) -> Option<Value> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/mqtt_claims.py");
    let port = rig.port().to_string();
    let output = Command::new(python()?).args([script, &port, protocol, phase]).output().unwrap();
    assert!(output.status.success(), "{phase}: {}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn what_a_subscriber_is_owed_survives_a_kill() {
    let mut rig = Rig::start(with_claims);
    for protocol in ["3", "5"] {
        let Some(said) = paho(&rig, protocol, "owe") else {
            return println!("SKIP: GUAN_TEST_PYTHON names no Python with paho-mqtt");
        };
        assert_eq!(said, json!({"present": false, "granted": 2}));
    }
    rig.kill_and_restart_guan();
    for protocol in ["3", "5"] {
        let said = paho(&rig, protocol, "collect").unwrap();
        let expect = json!({
            "present": true,
            // QoS 0 is not kept for who is away; sorted, as paho hands QoS 2 over at PUBREL.
            "owed": ["1/1", "2/2", "3/1", "4/2"],
            "retained": ["retained/1*"],
        });
        assert_eq!(said, expect, "version {protocol}");
    }
    rig.check_log();
}

#[test]
fn what_is_claimed_of_connected_clients_holds() {
    let rig = Rig::start(with_claims);
    for protocol in ["3", "5"] {
        let Some(said) = paho(&rig, protocol, "live") else {
            return println!("SKIP: GUAN_TEST_PYTHON names no Python with paho-mqtt");
        };
        let mut expect = json!({
            "refused": 0x80, "malformed": if protocol == "5" { 0x8F } else { 0x80 },
            "overlap": ["overlap/2"], "will": ["will/1"],
            "shared": ["0/1", "1/1", "2/1", "3/1"],
        });
        if protocol == "5" {
            let more = json!({
                "identifiers": [7, 8], "lives": true, "local": [], "alias_max": 16,
                "named": [[["unit", "Cel"]], "text/plain", "claims/answers", "77"],
            });
            let (expect, more) = (expect.as_object_mut().unwrap(), more.as_object().unwrap());
            expect.extend(more.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        assert_eq!(said, expect, "version {protocol}");
    }
    rig.check_log();
}

#[test]
fn mosquitto_collects_what_came_while_it_was_away() {
    let mut rig = Rig::start(with_claims);
    let subscribe = |port: u16, version: &str, more: &[&str]| {
        let mut command = Command::new("mosquitto_sub");
        command.args(["-p", &port.to_string(), "-V", version, "-c", "-i", version, "-q", "1"]);
        if version == "5" {
            command.args(["-x", "3600"]);
        }
        let output = command.args(["-t", "claims/m/#"]).args(more).output().ok()?;
        assert!(output.status.success(), "{more:?}: {}", String::from_utf8_lossy(&output.stderr));
        Some(String::from_utf8(output.stdout).unwrap())
    };
    for version in ["311", "5"] {
        if subscribe(rig.port(), version, &["-E"]).is_none() {
            return println!("SKIP: mosquitto_sub is not installed");
        }
    }
    for message in ["one", "two", "three"] {
        assert!(mosquitto_pub(rig.port(), &["-q", "1", "-t", "claims/m/x", "-m", message]));
    }
    rig.kill_and_restart_guan();
    for version in ["311", "5"] {
        let said = subscribe(rig.port(), version, &["-C", "3", "-W", "20"]).unwrap();
        assert_eq!(said, "one\ntwo\nthree\n", "version {version}");
    }
}

/// What a subscriber's queue has no room for is counted where an operator looks.
#[test]
fn what_subscribers_miss_is_told() {
    let rig = Rig::start(with_claims);
    let mut command = Command::new("mosquitto_sub");
    command.args([
        "-p",
        &rig.port().to_string(),
        "-c",
        "-i",
        "away",
        "-q",
        "1",
        "-t",
        "claims/m/#",
        "-E",
    ]);
    if command.status().is_err() {
        return println!("SKIP: mosquitto_sub is not installed");
    }
    let lines: String = (0..QUEUE_MESSAGES_MAX + 6).map(|number| format!("{number}\n")).collect();
    let mut publisher = Command::new("mosquitto_pub");
    let port = rig.port().to_string();
    publisher.args(["-p", &port, "-q", "1", "-t", "claims/m/x", "-l"]).stdin(Stdio::piped());
    let mut publisher = publisher.spawn().unwrap();
    publisher.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(publisher.wait().unwrap().success());
    wait_for("the count", || rig.status()["intake"]["missed"]["copies"] == json!(6));
}
