//! End to end with other people's clients: mosquitto, Eclipse paho, rumqttc, pandas and DuckDB.
//!
//! The programs are started as an operator would (`guan_demo::stage`). `cargo verify` builds them first and
//! installs the peers; a peer that is missing prints SKIP.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod attestation;
mod carrying;
mod contracts;
mod evidence;
mod forgetting;
mod mending;
mod rig;
mod sealed;
mod service;
mod stamping;
mod subscribers;
mod transport;

use rig::{Rig, mosquitto_pub, python, wait_for};
use std::process::Command;

const TOPIC: &str = "factory/press-1/temperature";
const DATASET: &str = "machine-temperature";

fn payload(number: u32) -> String {
    format!(r#"{{"t":"2026-11-23T08:00:{:02}Z","value":{number}.5}}"#, number % 60)
}

#[test]
fn mosquitto_publishes_at_every_qos_in_both_versions() {
    let rig = Rig::start(|text| text);
    let mut count = 0;
    for version in ["311", "5"] {
        for qos in ["0", "1", "2"] {
            let arguments = ["-V", version, "-q", qos, "-t", TOPIC, "-m", &payload(count)];
            if !mosquitto_pub(rig.port(), &arguments) {
                return println!("SKIP: mosquitto_pub is not installed");
            }
            count += 1;
        }
    }
    rig.wait_for_rows(DATASET, count.into());
    let delivered = rig.delivered(DATASET);
    assert_eq!(delivered.values().sum::<i64>(), i64::from(count));
    rig.check_log();
}

#[test]
fn paho_is_acknowledged_what_arrives() {
    let Some(python) = python() else {
        return println!("SKIP: GUAN_TEST_PYTHON names no Python with paho-mqtt; use cargo verify");
    };
    let rig = Rig::start(|text| text);
    let mut total = 0;
    for (qos, protocol) in [("1", "3"), ("2", "3"), ("1", "5"), ("2", "5")] {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/paho_client.py");
        let output = Command::new(&python)
            .args([script, &rig.port().to_string(), TOPIC, "250", qos, protocol])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(said["acknowledged"], 250, "QoS {qos}, version {protocol}");
        total += 250;
    }
    rig.wait_for_rows(DATASET, total);
    rig.check_log();
    let folder = rig.export();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/read_parquet.py");
    let file = folder.join(format!("{DATASET}.parquet"));
    let output = Command::new(&python).arg(script).arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(seen["rows"], total);
    assert_eq!(seen["gateway_time"], "datetime64[ns, UTC]");
    // Four times the numbers 0 to 249.
    assert_eq!(seen["sum_f64"], 4.0 * 31_125.0);
}

#[test]
fn a_broker_of_the_site_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let Some(broker) = rig::Broker::start(folder.path()) else {
        return println!("SKIP: mosquitto is not installed");
    };
    let added = format!(
        "\n[[broker]]\nname = \"hall\"\naddress = \"127.0.0.1:{}\"\nclient_id = \"guan\"\n\
         topics = [\"factory/#\"]\n",
        broker.port
    );
    let rig = Rig::start(|text| text + &added);
    wait_for("the subscription at the broker", || broker.log().contains("factory/#"));
    for number in 0..20 {
        let message = payload(number);
        assert!(mosquitto_pub(broker.port, &["-q", "1", "-t", TOPIC, "-m", &message]));
    }
    rig.wait_for_rows(DATASET, 20);
    rig.check_log();
}

#[test]
fn passwords_and_tls_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let tls = rig::ListenerTls::make(folder.path());
    let added = tls.configuration(folder.path());
    let rig = Rig::start(|text| {
        text.replace("allow_anonymous = true", "allow_anonymous = false") + &added
    });
    let ca = tls.ca.display().to_string();
    let publish = |password: &str| {
        let message = payload(1);
        let secure = ["--cafile", &ca, "-u", "press-1", "-P", password];
        let what = ["-q", "1", "-t", TOPIC, "-m", &message];
        rig::mosquitto_status(rig.port(), &[&secure[..], &what].concat())
    };
    let Some(right) = publish("right") else {
        return println!("SKIP: mosquitto_pub is not installed");
    };
    assert!(right, "the right password");
    assert_eq!(publish("wrong"), Some(false));
    let plain = ["-q", "1", "-t", TOPIC, "-m", "x"];
    assert_eq!(rig::mosquitto_status(rig.port(), &plain), Some(false), "no TLS");
    rig.wait_for_rows(DATASET, 1);
}

#[test]
fn what_is_refused_is_told_with_its_reason() {
    let rig = Rig::start(|text| text);
    let publish = |topic: &str, message: &str| {
        rig::mosquitto_output(rig.port(), &["-V", "5", "-q", "1", "-d", "-t", topic, "-m", message])
    };
    let Some(unmapped) = publish("factory/nowhere", "x") else {
        return println!("SKIP: mosquitto_pub is not installed");
    };
    assert!(unmapped.contains("RC:153"), "payload format invalid: {unmapped}");
    let forbidden = publish("kitchen/1", "x").unwrap();
    assert!(forbidden.contains("RC:135"), "not authorized: {forbidden}");
    let unreadable = publish(TOPIC, "{").unwrap();
    assert!(unreadable.contains("RC:153"), "{unreadable}");
    wait_for("the refusals in the status", || {
        let refused = &rig.status()["intake"]["refused"];
        refused["no-mapping"] == 1 && refused["undecodable"] == 1 && refused["not-authorized"] == 1
    });
    let last = rig.status()["intake"]["last_refusal"].to_string();
    assert!(last.contains(TOPIC), "{last}");
}

#[test]
fn a_space_that_is_away_costs_nothing() {
    let mut rig = Rig::start(|text| text);
    rig.stop_space();
    for number in 0..30 {
        if !mosquitto_pub(rig.port(), &["-q", "2", "-t", TOPIC, "-m", &payload(number)]) {
            return println!("SKIP: mosquitto_pub is not installed");
        }
    }
    wait_for("batches in the spool", || {
        rig.status()["queued_batches"].as_u64().is_some_and(|queued| queued > 0)
    });
    rig.kill_and_restart_guan();
    rig.start_space();
    rig.wait_for_rows(DATASET, 30);
    rig.check_log();
}

/// The box believes neither 1970 nor 2040, says so, and delivers all the same.
#[test]
fn a_wrong_clock_is_carried_on_and_told() {
    let Some(library) = rig::faketime() else {
        return println!("SKIP: faketime is not installed");
    };
    for moment in ["1970-01-02 00:00:00", "2040-01-01 00:00:00"] {
        let environment = [
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME", format!("@{moment}")),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("TZ", "UTC".to_owned()),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let mut rig = Rig::prepare(|text| text);
        rig.stage.guan_environment = environment;
        rig.stage.add_parties(&["depot-7", "insurer-1"]).unwrap();
        rig.start_space();
        rig.start_guan();
        if !mosquitto_pub(rig.port(), &["-q", "1", "-t", TOPIC, "-m", &payload(1)]) {
            return println!("SKIP: mosquitto_pub is not installed");
        }
        // What stands in the box's folder has a term, and the box cannot tell whether it is over.
        wait_for("what waits", || rig.stale_status()["waiting"].to_string().contains("clock"));
        // What the space names as standing is not over by the space's clock.
        let contract = contracts::agreement("C-1", 1, |_| {});
        rig.stage.issue(&contract, &["depot-7", "insurer-1"]).unwrap();
        wait_for("C-1", || rig.stale_status()["contracts"].to_string().contains("C-1 v1"));
        assert!(mosquitto_pub(rig.port(), &["-q", "1", "-t", TOPIC, "-m", &payload(2)]));
        rig.wait_for_rows(DATASET, 1);
        wait_for("the alarm", || rig.stale_status()["alarms"].to_string().contains("clock"));
        assert_eq!(rig.stale_status()["clock"], "unset", "{moment}");
        rig.check_log();
    }
}
