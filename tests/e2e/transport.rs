//! Where UDP does not get through, the link goes over TCP, and back to QUIC when it does again.

use crate::rig::{Rig, mosquitto_pub, wait_for};
use crate::{DATASET, TOPIC, payload};
use std::fs;
use std::net::UdpSocket;

#[test]
fn a_box_behind_a_wall_for_udp_delivers_over_tcp_and_returns_to_quic() {
    let mut rig = Rig::prepare(|text| text);
    let port = rig.stage.space_port;
    let config = fs::read_to_string(rig.stage.space_config()).unwrap();
    let both = format!("127.0.0.1:{port}\"\ntcp_address = \"127.0.0.1:{port}");
    let open = config.replace(&format!("127.0.0.1:{port}"), &both);
    assert_ne!(open, config);
    // The space's UDP is where the box does not send, and nobody is where it does.
    let elsewhere = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let address = format!("address = \"127.0.0.1:{port}\"\ntcp_");
    let walled = open.replace(&address, &format!("address = \"{elsewhere}\"\ntcp_"));
    assert_ne!(walled, open);
    fs::write(rig.stage.space_config(), walled).unwrap();
    rig.start_space();
    rig.start_guan();
    if !mosquitto_pub(rig.port(), &["-q", "1", "-t", TOPIC, "-m", &payload(1)]) {
        return println!("SKIP: mosquitto_pub is not installed");
    }
    let transport = |rig: &Rig| {
        let link = rig.status()["link"].clone();
        (link["state"] == "connected").then(|| link["transport"].clone())
    };
    wait_for("a link over TCP", || transport(&rig).is_some_and(|name| name == "tcp"));
    rig.wait_for_rows(DATASET, 1);
    let said = rig.stage.space_json(&["status"]).unwrap();
    assert_eq!(said["boxes"][0]["transport"], "tcp", "{said}");

    rig.stop_space();
    // A look for QUIC that ends just before the space is back would leave the next session to TCP.
    wait_for("an outage of both", || {
        let link = rig.status()["link"].clone();
        link["last_error"].as_str().is_some_and(|fault| fault.contains("over TCP"))
    });
    fs::write(rig.stage.space_config(), open).unwrap();
    assert!(mosquitto_pub(rig.port(), &["-q", "1", "-t", TOPIC, "-m", &payload(2)]));
    rig.start_space();
    wait_for("a link over QUIC", || transport(&rig).is_some_and(|name| name == "quic"));
    rig.wait_for_rows(DATASET, 2);
    rig.check_log();
}
