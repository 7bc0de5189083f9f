//! Each limit, exactly at it and one above.

use super::{EDGE, SMALL, SPACE, edge};
use crate::{EdgeConfig, KeyReference, SpaceConfig};
use std::path::Path;

/// The ranges that the reference states, against the reader: one key of the sample is changed at a time.
#[test]
fn integers_take_exactly_what_the_reference_says() {
    let space = |text: &str| {
        SpaceConfig::parse(text, "s", Path::new(""))
            .map(|_| ())
            .map_err(|faults| faults.to_string())
    };
    let edge = |text: &str| edge(text).map(|_| ()).map_err(|faults| faults.to_string());
    // The range is spoken of in the reader's own words, so that relations to other keys are not mistaken.
    let check = |reference: Vec<KeyReference>,
                 sample,
                 parse: &dyn Fn(&str) -> Result<(), String>| {
        let mut count = 0;
        for key in reference.iter().filter(|key| key.kind == "integer") {
            let (low, high) = match key.accepted.split_once(" to ") {
                Some((low, high)) => (low.parse::<i128>().unwrap(), high.parse().unwrap()),
                None => (key.accepted.parse().unwrap(), key.accepted.parse().unwrap()),
            };
            let refused = |value: i128| {
                let text = with_value(sample, &key.key, value);
                let report = parse(&text).err().unwrap_or_default();
                report.contains(&format!("= {value}: must be {}", key.accepted))
            };
            for (value, expect) in [(low - 1, true), (low, false), (high, false), (high + 1, true)]
            {
                assert_eq!(refused(value), expect, "{} = {value}", key.key);
            }
            count += 1;
        }
        count
    };
    assert!(check(EdgeConfig::reference(), EDGE, &edge) >= 18);
    assert!(check(SpaceConfig::reference(), SPACE, &space) >= 3);
}

/// The sample with the first such key of such a table set to `value`.
fn with_value(sample: &str, key: &str, value: i128) -> String {
    let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
    let table = table.replace("[]", "");
    let (mut current, mut is_done, mut out) = ("", false, String::new());
    for line in sample.lines() {
        if line.starts_with('[') {
            current = line.trim_matches(['[', ']']);
        }
        match current == table && line.starts_with(&format!("{name} = ")) && !is_done {
            true => {
                is_done = true;
                out.push_str(&format!("{name} = {value}\n"));
            }
            false => out.push_str(&format!("{line}\n")),
        }
    }
    assert!(is_done, "{key} is not in the sample");
    out
}

/// `count` tables pass and one more is a fault that names the limit.
fn check(limit: usize, what: &str, before: &str, table: impl Fn(usize) -> String) {
    let text = |count: usize| {
        let tables: String = (0..count).map(&table).collect();
        format!("{SMALL}{before}{tables}")
    };
    if let Err(faults) = edge(&text(limit)) {
        panic!("{limit} {what}: {faults}");
    }
    let report = edge(&text(limit + 1)).map(|_| ()).unwrap_err().to_string();
    let expect = format!("{what}: has {} entries; the limit is {limit}", limit + 1);
    assert!(report.contains(&expect), "{report}");
}

#[test]
fn tables_are_counted() {
    let user = |n| format!("[[mqtt.user]]\nname = \"u{n}\"\npassword_file = \"p\"\n");
    check(256, "mqtt.user", "", user);
    let broker = |n| {
        format!(
            "[[broker]]\nname = \"b{n}\"\naddress = \"h:1\"\nclient_id = \"c\"\ntopics = [\"#\"]\n"
        )
    };
    check(8, "broker", "", broker);
    let dataset = |n| format!("[[dataset]]\nid = \"d{n}\"\n");
    check(256, "dataset", "", dataset);
    let key = |n| format!("[[contracts.trusted_key]]\nparty = \"p\"\ned25519 = \"{n:064x}\"\n");
    check(64, "contracts.trusted_key", "", key);
    // Tables of `link` follow its keys, which SMALL ends with.
    let budget = |n| format!("[[link.contract]]\nid = \"C{n}\"\n");
    check(256, "link.contract", "", budget);
    let window = |_| "[[link.window]]\nfrom = \"22:00\"\nuntil = \"06:00\"\n".to_owned();
    check(32, "link.window", "", window);
    let mapping = |n| format!("[[mapping]]\ntopic = \"t{n}\"\nformat = \"raw\"\npoint = \"p\"\n");
    check(4096, "mapping", "", mapping);
    let fields = "[[mapping]]\ntopic = \"t\"\nformat = \"json\"\n";
    let field = |n| format!("[[mapping.field]]\npoint = \"p{n}\"\nvalue = \"/v\"\n");
    check(256, "mapping[0].field", fields, field);
    let filter = |n: usize| format!("{}\"t{n}\"", if n == 0 { "" } else { "," });
    for count in [64, 65] {
        let filters: String = (0..count).map(filter).collect();
        let text = format!(
            "{SMALL}[mqtt]\nallow_anonymous = true\n[mqtt.anonymous]\npublish = [{filters}]"
        );
        assert_eq!(edge(&text).is_ok(), count == 64);
    }
}

#[test]
fn points_are_counted_over_all_families() {
    let report = |count: usize| {
        let each: String = (0..count).map(|n| format!("\"{n}\",")).collect();
        let text = format!(
            "{SMALL}[[dataset]]\nid = \"d\"\n[[point]]\nid = 1\nname = \"p{{}}\"\ntype = \"bool\"\n\
             dataset = \"d\"\neach = [{each}]\n[[point]]\nid = 0\nname = \"q\"\ntype = \"bool\"\n\
             dataset = \"d\"\n"
        );
        edge(&text).map(|config| config.descriptors.iter().count()).map_err(|f| f.to_string())
    };
    assert_eq!(report(65_535), Ok(65_536));
    let fault = report(65_536).unwrap_err();
    assert!(fault.contains("65537 points are described; the limit is 65536"), "{fault}");
}

#[test]
fn ids_of_a_family_end_with_the_numbers() {
    let text = |first: u64| {
        format!(
            "{SMALL}[[dataset]]\nid = \"d\"\n[[point]]\nid = {first}\nname = \"p{{}}\"\n\
             type = \"bool\"\ndataset = \"d\"\neach = [\"a\", \"b\"]\n"
        )
    };
    assert!(edge(&text(u64::from(u32::MAX) - 1)).is_ok());
    let report = edge(&text(u64::from(u32::MAX))).map(|_| ()).unwrap_err().to_string();
    assert!(report.contains("the ids run out"), "{report}");
}

#[test]
fn streams_fit_into_the_spool() {
    const TOTAL: u64 = 4 << 20;
    let outcome = |sizes: &[u64]| {
        let mut text =
            format!("{SMALL}[spool]\nsegment_size_bytes = 1048576\nsize_bytes_max = {TOTAL}\n");
        for (n, size) in sizes.iter().enumerate() {
            text.push_str(&format!(
                "[[spool.stream]]\nname = \"s{n}\"\npriority = {n}\nsize_bytes_max = {size}\n"
            ));
        }
        edge(&text).map(|_| ()).map_err(|faults| faults.to_string())
    };
    let check = |sizes: &[u64], part: &str| {
        let report = outcome(sizes).unwrap_err();
        assert!(report.contains(part), "{report}");
    };
    assert_eq!(outcome(&[TOTAL]), Ok(()));
    check(&[TOTAL + 1], "is above spool.size_bytes_max = 4194304");
    assert_eq!(outcome(&[1 << 20, 3 << 20]), Ok(()));
    check(&[1 << 20, (3 << 20) + 1], "the streams may take 4194305 together");
    check(&[(1 << 20) - 1], "is below spool.segment_size_bytes = 1048576");
    let small = |total: u64| {
        edge(&format!("{SMALL}[spool]\nsegment_size_bytes = 1048576\nsize_bytes_max = {total}"))
            .is_ok()
    };
    assert!(small(4 << 20) && !small((4 << 20) - 1));
    assert_eq!(outcome(&[1 << 19; 0]), Ok(()));
    let stream = |n: usize| {
        format!("[[spool.stream]]\nname = \"s{n}\"\npriority = {n}\nsize_bytes_max = 16777216\n")
    };
    let eight: String = (0..8).map(stream).collect();
    assert!(edge(&format!("{SMALL}{eight}")).is_ok());
    let twice =
        format!("{SMALL}{}{}", stream(1), stream(2).replace("priority = 2", "priority = 1"));
    assert!(edge(&twice).map(|_| ()).unwrap_err().to_string().contains("1 is there twice"));
}
