//! Faults as the operator sees them, the samples, and texts that are no configuration.

mod golden;
mod limits;

use super::*;
use crate::edge::{FormatConfig, WhenFull};
use guan_model::PublicKey;
use proptest::prelude::*;
use std::path::Path;
use std::time::Duration;

const EDGE: &str = include_str!("../edge.toml");
const DEMO: &str = include_str!("../demo/edge.toml");
const SPACE: &str = include_str!("../space.toml");

const SMALL: &str = r#"schema = 1
[box]
id = "b"
state_dir = "s"
[identity]
tier = "unattested"
[link]
space = "localhost:4433"
"#;

fn edge(text: &str) -> Result<EdgeConfig, ConfigFaults> {
    EdgeConfig::parse(text, "edge.toml", Path::new("/etc/guan"))
}

/// Adds lines to a small valid file and compares the report's lines.
fn check(added: &str, expect: &[&str]) {
    let report = edge(&format!("{SMALL}{added}")).map(|_| ()).unwrap_err().to_string();
    let lines: Vec<&str> = report.lines().skip(1).map(str::trim).collect();
    assert_eq!(lines, expect, "{added}");
}

#[test]
fn keys_of_parties_are_of_two_kinds() {
    check(
        "[[contracts.trusted_key]]\nparty = \"x\"",
        &["line 9: contracts.trusted_key[0].ed25519: is missing; give 64 hex digits"],
    );
    check(
        "[[contracts.trusted_key]]\nparty = \"x\"\np256 = \"0412\"",
        &["line 11: contracts.trusted_key[0].p256: = \"0412\": must be 130 hex digits that begin \
         with 04"],
    );
    let (ed25519, p256) = ("a".repeat(64), format!("04{}", "b".repeat(128)));
    let key = |lines: &str| format!("[[contracts.trusted_key]]\nparty = \"x\"\n{lines}\n");
    let (ed25519, p256) = (format!("ed25519 = \"{ed25519}\""), format!("p256 = \"{p256}\""));
    check(
        &key(&format!("{ed25519}\n{p256}")),
        &["line 12: contracts.trusted_key[0].p256: stands beside ed25519; give each key a \
         [[contracts.trusted_key]] of its own"],
    );
    check(
        &format!("{}{}", key(&p256), key(&p256)),
        &["line 14: contracts.trusted_key[1].p256: is there twice"],
    );
    let config = edge(&format!("{SMALL}{}{}", key(&ed25519), key(&p256))).unwrap();
    let keys: Vec<_> = config.contracts.trusted_keys.iter().map(|one| &one.key).collect();
    assert!(matches!(keys[..], [PublicKey::Ed25519(_), PublicKey::EcdsaP256(_)]), "{keys:?}");
}

/// Files of earlier releases do not name it.
#[test]
fn the_space_of_the_box_is_a_party_with_a_key() {
    let key = format!(
        "[[contracts.trusted_key]]\nparty = \"space-1\"\ned25519 = \"{}\"\n",
        "a".repeat(64)
    );
    let space = |space: &str| format!("[contracts]\n{space}\n{key}");
    let named = edge(&format!("{SMALL}{}", space("space = \"space-1\""))).unwrap();
    assert_eq!(named.contracts.space.as_deref(), Some("space-1"));
    assert_eq!(edge(&format!("{SMALL}{}", space(""))).unwrap().contracts.space, None);
    check(
        &space("space = \"space-2\""),
        &[
            "line 10: contracts.space: = \"space-2\": names no party of a [[contracts.trusted_key]]; add the \
           space's, which `guan-space contract key` prints",
        ],
    );
}

#[test]
fn all_faults_of_the_use_of_the_link_come_at_once() {
    check(
        "congestion = \"cubic\"\nrate_bits_per_s_max = 9000\nbytes_per_day_max = 200000\n\
         bytes_per_month_max = 100000\nbacklog_share_percent = 91\n[[link.window]]\ndays = \"monday\"\n\
         from = \"9:00\"\n[[link.contract]]\nid = \"C\"\n[[link.contract]]\nid = \"C\"",
        &[
            "line 10: link.rate_bits_per_s_max: is kept by congestion = \"guan\" only: remove one of the two",
            "line 11: link.bytes_per_day_max: is above bytes_per_month_max = 100000",
            "line 13: link.backlog_share_percent: = 91: must be 0 to 90 (default 25)",
            "line 14: link.window[0].until: is missing; give HH:MM, from 00:00 to 24:00",
            "line 15: link.window[0].days: = \"monday\": must be days such as mon-fri, sat or mon,wed",
            "line 16: link.window[0].from: = \"9:00\": must be HH:MM, from 00:00 to 24:00",
            "line 20: link.contract[1].id: is there twice",
        ],
    );
}

#[test]
fn samples_are_valid() {
    let config = edge(EDGE).unwrap();
    assert_eq!(config.descriptors.iter().count(), 6);
    assert_eq!(config.spool.streams[1].when_full, WhenFull::DropOldest);
    let demo = edge(DEMO).unwrap();
    assert_eq!(demo.descriptors.iter().count(), 3 + 146);
    assert_eq!(demo.state_dir, Path::new("/etc/guan/state"));
    assert!(matches!(demo.mappings[3].format, FormatConfig::Raw { .. }));
    for text in [SPACE, include_str!("../demo/space.toml")] {
        SpaceConfig::parse(text, "space.toml", Path::new("")).unwrap();
    }
}

#[test]
fn the_reference_sample_names_every_key() {
    let check = |reference: Vec<KeyReference>, sample: &str| {
        for key in reference {
            let name = key.key.rsplit('.').next().unwrap();
            assert!(sample.contains(&format!("{name} = ")), "{} is not in the sample", key.key);
            assert!(!key.about.is_empty() && !key.accepted.is_empty(), "{key:?}");
        }
    };
    let listed = ["each", "quality", "encoding"];
    let edge: Vec<_> = EdgeConfig::reference();
    assert!(edge.len() > 60);
    let (shown, special): (Vec<_>, Vec<_>) =
        edge.into_iter().partition(|key| !listed.iter().any(|name| key.key.ends_with(name)));
    assert!(!special.is_empty());
    check(shown, EDGE);
    check(SpaceConfig::reference(), SPACE);
}

#[test]
fn defaults_are_filled_in_and_shown() {
    let config = edge(SMALL).unwrap();
    assert_eq!(config.batch.commit_window, Duration::from_millis(20));
    assert_eq!(config.evidence.origin, "guan/b");
    assert_eq!(config.link.server_name, "localhost");
    assert_eq!(config.spool.streams.len(), 1);
    assert!(config.mqtt.is_none());
    let shown = config.to_toml();
    let line = |key: &str| shown.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
    assert!(line("commit_window_ms").ends_with("# default"), "{shown}");
    assert!(line("space = ").ends_with("# edge.toml:8"), "{shown}");
    let again = edge(&shown).unwrap();
    assert_eq!(again.batch.rows_max, config.batch.rows_max);
    let again = edge(&edge(EDGE).unwrap().to_toml()).unwrap();
    assert_eq!(again.descriptors.digest(), edge(EDGE).unwrap().descriptors.digest());
}

#[test]
fn faults_name_line_limit_and_remedy() {
    check(
        "keepalive_s = 3",
        &["line 9: link.keepalive_s: unknown key; did you mean link.keep_alive_s?"],
    );
    check(
        "keep_alive_s = 30",
        &["line 7: link.idle_timeout_s: must be above keep_alive_s, or the link drops when idle"],
    );
    check(
        "[spool]\nsegment_size_bytes = 12",
        &["line 10: spool.segment_size_bytes: = 12: must be 65536 to 268435456 (default 16777216)"],
    );
    check(
        "[batch]\nrows_max = \"many\"",
        &["line 10: batch.rows_max: is a string; give an integer"],
    );
    check(
        "[mqtt]",
        &["line 9: mqtt.allow_anonymous: is false and there is no [[mqtt.user]]: nobody could \
         connect; add a user, or set it to true"],
    );
    check(
        "[[dataset]]\nid = \"d\"\nclass = \"genral\"",
        &["line 11: dataset[0].class: = \"genral\": must be one of general, important, core; \
         did you mean general?"],
    );
    check(
        "[[dataset]]\nid = \"d\"\n[[point]]\nid = 1\nname = \"p\"\ntype = \"f64\"\ndataset = \"e\"",
        &["line 15: point[0].dataset: = \"e\": is no [[dataset]]"],
    );
    check(
        "[[mapping]]\ntopic = \"a#\"\nformat = \"raw\"\npoint = \"p\"",
        &["line 10: mapping[0].topic: = \"a#\": '+' and '#' must fill a whole level"],
    );
    check(
        "[[contracts.trusted_key]]\nparty = \"x\"\ned25519 = \"12\"",
        &["line 11: contracts.trusted_key[0].ed25519: = \"12\": must be 64 hex digits"],
    );
    check(
        "[batch]\nrows_max = 0\n[nonsense]\nx = 1\n[evidence]\norigin = \"a b\"",
        &[
            "line 10: batch.rows_max: = 0: must be 1 to 8192 (default 4096)",
            "line 11: nonsense: unknown key",
            "line 14: evidence.origin: = \"a b\": must be 1 to 122 printable characters without blanks \
             or +, and no /e2, /e3 ... at the end",
        ],
    );
}

#[test]
fn what_must_be_said_has_no_default() {
    let report = edge("schema = 1").map(|_| ()).unwrap_err();
    let keys: Vec<&str> = report.faults.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(keys, ["box.id", "box.state_dir", "identity.tier", "link.space"]);
    let check = |tier: &str, part: &str| {
        let text = SMALL.replace("unattested", tier);
        let report = edge(&text).map(|_| ()).unwrap_err().to_string();
        assert!(report.contains(part), "{report}");
    };
    check("hardware", "identity.tpm: must be given for this tier: device:/dev/tpmrm0");
    check("emulated", "identity.tpm: must be given for this tier");
    check("unatested", "did you mean unattested?");
    check("unattested\"\ntpm = \"device:/dev/tpmrm0", "tier is \"unattested\": remove one");
    check("hardware\"\ntpm = \"tabrmd", "= \"tabrmd\": must be device:/dev/tpmrm0");
    for (found, expect) in [
        ("[]", "is empty; give"),
        ("3", "is a integer"),
        ("[\"hardwear\"]", "did you mean hardware?"),
    ] {
        let space = SPACE.replace("[\"hardware\"]", found);
        let report = SpaceConfig::parse(&space, "s", Path::new("")).map(|_| ()).unwrap_err();
        assert!(report.to_string().contains(expect), "{report}");
    }
    let space = SPACE.replace("release_keys = ", "# ");
    let report = SpaceConfig::parse(&space, "s", Path::new("")).map(|_| ()).unwrap_err();
    assert!(report.to_string().contains("attestation.release_keys: must name a key"), "{report}");
    let space = SPACE.replace("accept_tiers", "# accept_tiers");
    let report = SpaceConfig::parse(&space, "s", Path::new("")).map(|_| ()).unwrap_err();
    assert!(report.to_string().contains("boxes.accept_tiers: is missing"), "{report}");
    let report = edge("schema = 2").map(|_| ()).unwrap_err().to_string();
    assert!(report.contains("schema: = 2: must be 1"), "{report}");
}

#[test]
fn expectations_that_nothing_meets_are_refused() {
    let report = |added: &str| match edge(&format!("{SMALL}{added}\n")) {
        Ok(_) => String::new(),
        Err(faults) => faults.to_string(),
    };
    let point = |more: &str| {
        let dataset = "[[dataset]]\nid = \"d9\"\n[[point]]\nid = 9999\nname = \"p9\"\n";
        report(&format!("{dataset}type = \"f64\"\ndataset = \"d9\"\n{more}"))
    };
    assert_eq!(point("low = \"1\"\nhigh = \"1\"\ninterval_ms = 86400000"), "");
    assert!(point("low = \"1.5\"\nhigh = \"1\"").contains("is below low"));
    assert!(point("low = \"inf\"").contains("a number as a text"));
    assert!(point("interval_ms = 0").contains("interval_ms"));
    assert!(point("interval_ms = 86400001").contains("interval_ms"));
    let alone = report("[catalogue]\nsubject = \"91350100M000100Y43\"");
    assert!(alone.contains("belong together"), "{alone}");
    let wrong = report("[catalogue]\nsubject = \"9135\"\narea = \"abcd\"");
    assert!(wrong.contains("18 capital") && wrong.contains("4 capital"), "{wrong}");
}

#[test]
fn clashes_are_seen() {
    let point = |id: u32, name: &str| {
        format!("[[point]]\nid = {id}\nname = \"{name}\"\ntype = \"bool\"\ndataset = \"d\"\n")
    };
    let dataset = "[[dataset]]\nid = \"d\"\n";
    check(
        &format!("{dataset}{}{}", point(1, "a"), point(1, "b")),
        &["line 17: point[1].id: 1 is taken by a; give each point its own"],
    );
    check(
        &format!("{dataset}{}{}", point(1, "a"), point(2, "a")),
        &["line 18: point[1].name: a is there twice"],
    );
    check(&format!("{dataset}{dataset}"), &["line 12: dataset[1].id: d is there twice"]);
    check(
        &format!("{dataset}{}", point(1, "a{}")),
        &["line 13: point[0].name: = \"a{}\": holds `{}` without `each`"],
    );
}

#[test]
fn mappings_say_nothing_in_vain() {
    let mapping =
        |topic: &str, keys: &str| format!("[[mapping]]\ntopic = \"{topic}\"\nformat = {keys}\n");
    let raw = "\"raw\"\npoint = \"p\"";
    check(
        &format!("{}{}", mapping("a/#", raw), mapping("a/+/c", raw)),
        &["line 14: mapping[1].topic: = \"a/+/c\": takes nothing, for the mapping of line 9 with \
         topic = \"a/#\" comes first; put this one before it, or remove it"],
    );
    let specific_first = format!("{SMALL}{}{}", mapping("a/+/c", raw), mapping("a/#", raw));
    assert_eq!(edge(&specific_first).unwrap().mappings.len(), 2);
    check(
        &mapping("a", &format!("{raw}\ntime = \"/t\"\nprefix = \"x\"")),
        &[
            "line 13: mapping[0].time: has no effect with format = \"raw\"",
            "line 14: mapping[0].prefix: has no effect with format = \"raw\"",
        ],
    );
    let field = "[[mapping.field]]\npoint = \"p\"\nvalue = \"/v\"";
    check(
        &mapping(
            "a",
            &format!("{raw}\nquality = \"/q\"\nencoding = \"hex\"\nvalue = \"/v\"\n{field}"),
        ),
        &[
            "line 13: mapping[0].quality: has no effect with format = \"raw\"",
            "line 14: mapping[0].encoding: has no effect with format = \"raw\"",
            "line 15: mapping[0].value: has no effect with format = \"raw\"",
            "line 16: mapping[0].field: has no effect with format = \"raw\"",
        ],
    );
    check(
        &mapping("a", "\"senml\"\npoint = \"p\""),
        &["line 12: mapping[0].point: has no effect with format = \"senml\""],
    );
    check(
        &mapping("a", "\"json\"\ntime = \"/t\"\n[[mapping.field]]\npoint = \"p\"\nvalue = \"/v\""),
        &["line 12: mapping[0].time: has no effect beside [[mapping.field]]; write it into each \
         field"],
    );
    check(
        &mapping("a", "\"json\"\npoint = \"p\"\nvalue = \"/v\"\ntime_format = \"epoch-s\""),
        &["line 14: mapping[0].time_format: has no effect without `time`"],
    );
    check(
        &mapping("a", "\"json\"\npoint = \"p\"\nvalue = \"/v\"\nencoding = \"hexx\""),
        &["line 14: mapping[0].encoding: = \"hexx\": must be one of hex, base64, base64url; did \
         you mean hex?"],
    );
}

#[test]
fn what_would_never_work_is_refused() {
    check(
        "server_name = \"\"",
        &["line 9: link.server_name: = \"\": must be a DNS name or IP address"],
    );
    check(
        "[[broker]]\nname = \"b\"\naddress = \"h:1\"\nclient_id = \"c\"\ntopics = []",
        &["line 13: broker[0].topics: is empty; give 1 to 64 topic filters with + and #"],
    );
    // All of 1 MiB is what the spool keeps back for leaves and cursors.
    check(
        "[spool]\nsegment_size_bytes = 65536\nsize_bytes_max = 1048576",
        &["line 11: spool.size_bytes_max: = 1048576: must be 2097152 to 4398046511104 (default \
         4294967296)"],
    );
}

#[test]
fn long_values_are_cut_in_faults() {
    let long = "é".repeat(100_000);
    for added in [format!("server_name = \"{long}\""), format!("\"{long}\" = 1")] {
        let report = edge(&format!("{SMALL}{added}")).map(|_| ()).unwrap_err().to_string();
        assert!(report.len() < 400 && report.contains("é..."), "{} bytes", report.len());
    }
}

#[test]
fn numbers_are_read_as_toml_writes_them() {
    let rows = |value: &str| {
        edge(&format!("{SMALL}[batch]\nrows_max = {value}"))
            .ok()
            .map(|config| config.batch.rows_max)
    };
    for (value, expect) in [("1_024", 1024), ("0x400", 1024), ("+7", 7), ("0o17", 15)] {
        assert_eq!(rows(value), Some(expect), "{value}");
    }
    for value in ["-1", "1e3", "1.0", "99999999999999999999999", "0"] {
        assert_eq!(rows(value), None, "{value}");
    }
}

#[test]
fn deep_nesting_is_a_fault_and_not_the_end_of_the_stack() {
    for open in ["[", "{a=", "{a=["] {
        assert!(edge(&format!("x = {}", open.repeat(200_000))).is_err());
    }
    assert!(edge(&format!("x{} = 1", ".a".repeat(200_000))).is_err());
}

#[test]
fn no_toml_and_too_long_files_are_refused() {
    let report = edge("schema = \n").map(|_| ()).unwrap_err();
    assert_eq!(report.faults[0].line, 1);
    let long = format!("{SMALL}#{}", " ".repeat(CONFIG_BYTES_MAX - SMALL.len() - 1));
    assert!(edge(&long).is_ok());
    let report = edge(&format!("{long} ")).map(|_| ()).unwrap_err().to_string();
    assert!(report.contains("the limit is 1048576"), "{report}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn damaged_files_are_faults_and_never_a_panic(
        at in any::<prop::sample::Index>(),
        length in 0..40_usize,
        with in "[\\PC\n]{0,12}",
    ) {
        for text in [EDGE, SPACE] {
            let from = text.floor_char_boundary(at.index(text.len()));
            let to = text.floor_char_boundary((from + length).min(text.len()));
            let damaged = format!("{}{with}{}", &text[..from], &text[to..]);
            if let Err(faults) = edge(&damaged) {
                prop_assert!(!faults.faults.is_empty());
            }
            let _ = SpaceConfig::parse(&damaged, "s", Path::new(""));
        }
    }
}

/// An epoch's name is the log's with six characters more, and no log may look like the epoch of another one.
#[test]
fn names_of_logs_leave_room_for_epochs() {
    let with = |origin: &str| edge(&format!("{SMALL}[evidence]\norigin = \"{origin}\"\n"));
    for origin in ["a".repeat(122).as_str(), "guan/e", "guan/e02", "guan/e2x", "e2", "x/f2"] {
        assert_eq!(with(origin).unwrap().evidence.origin, origin);
    }
    for origin in ["a".repeat(123).as_str(), "guan/b/e2", "guan/e9999", "guan/b/e10000"] {
        assert!(with(origin).is_err(), "{origin}");
    }
}
