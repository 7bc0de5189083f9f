use super::*;
use guan_identity::LogKeyFile;
use guan_model::{PointId, Quality, Row, Value};

fn config(folder: &Path, more: &str) -> EdgeConfig {
    let text = format!(
        r#"
schema = 1
[box]
id = "box-1"
state_dir = "state"
[identity]
tier = "unattested"
[link]
space = "space.example.org:4433"
[catalogue]
provider = "plant-1"
offers_dir = "offers"
{more}
[[dataset]]
id = "press"
timely_within_ms = 5000
[[point]]
id = 1
name = "Press.Temperature"
type = "f64"
unit = "Cel"
dataset = "press"
interval_ms = 1000
low = "-10"
high = "99.5"
"#
    );
    EdgeConfig::parse(&text, "edge.toml", folder).unwrap()
}

fn offer(id: &str, target: &str) -> String {
    format!(
        r#"{{"@type":"Offer","@id":"urn:contract:{id}","profile":"urn:guankou:odrl:1","version":1,
        "assigner":"plant-1","assignee":"anybody","target":["{target}"],
        "validity":{{"notBefore":"2026-01-01T00:00:00Z","notAfter":"2027-01-01T00:00:00Z"}},
        "permission":[{{"action":"deliver"}}]}}"#
    )
}

fn at(seconds: i64) -> WallTime {
    WallTime::from_seconds(1_795_478_400 + seconds)
}

#[test]
fn what_was_kept_is_published() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "");
    let mut counted = Ledger::new(yardstick(&config).unwrap());
    for (second, value, late) in [(0, 20.0, 0), (1, 99.5, 0), (3, 99.6, 6)] {
        let (source_time, gateway_time) = (Some(at(second)), at(second + late));
        let (point, quality) = (PointId(1), Quality::GOOD);
        let value = Some(Value::F64(value));
        counted.observe(&Row { point, source_time, gateway_time, quality, value });
    }
    counted.watch(at(10));
    keep_days(&config.state_dir, &counted.take_changed()).unwrap();
    fs::create_dir(folder.path().join("offers")).unwrap();
    let file = |name: &str, text: &str| {
        fs::write(folder.path().join("offers").join(name), text).unwrap();
    };
    file("a.json", &offer("O-1", "press"));
    file("b.json", &offer("O-1", "press"));
    file("c.json", &offer("O-2", "hall"));
    file("d.json", &offer("O-3", "press").replace("deliver", "fly"));
    file("notes.txt", "no offer");
    let (key, _) = LogKeyFile::generate("guan/box-1").unwrap();
    let made = document(at(11), &config, &key).unwrap();
    let catalogue = dcat::read(&made.bytes).unwrap();
    assert_eq!(catalogue.version, made.version);
    let (_, figures) = catalogue.datasets[0].latest().unwrap();
    let shares = [figures.completeness, figures.accuracy, figures.timeliness, figures.consistency];
    let shares = shares.map(|share| share.unwrap().to_string());
    // Three of ten seconds have a value; one of three is too high, and it is too late.
    assert_eq!(shares, ["0.300000", "0.666666", "0.666666", "1.000000"]);
    assert_eq!(catalogue.offers.len(), 1);
    assert_eq!(catalogue.service.unwrap().endpoint, "quic://space.example.org:4433");
    let texts: Vec<String> = made.left_out.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 3, "{texts:?}");
    for (text, expect) in texts.iter().zip(["O-1", "/target: hall", "/permission/0/action"]) {
        assert!(text.contains(expect), "{text}");
    }
    // Only the moment differs, then more.
    let again = document(at(12), &config, &key).unwrap();
    assert!(again.version > made.version && again.content == made.content);
    fs::remove_file(folder.path().join("offers/a.json")).unwrap();
    fs::remove_file(folder.path().join("offers/b.json")).unwrap();
    assert_ne!(document(at(13), &config, &key).unwrap().content, made.content);
}

#[test]
fn old_days_go_and_damaged_ones_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "");
    let mut counted = Ledger::new(yardstick(&config).unwrap());
    for day in 0..40 {
        counted.watch(at(day * 86_400));
        keep_days(&config.state_dir, &counted.take_changed()).unwrap();
    }
    let found = files(&config.state_dir.join(QUALITY_DIR), "day").unwrap();
    assert_eq!(found.len(), DAYS_KEPT);
    fs::write(&found[0], b"rubbish").unwrap();
    fs::write(&found[1], vec![0; DAY_BYTES_MAX + 1]).unwrap();
    let (ledger, left_out) = ledger(&config).unwrap();
    assert_eq!((ledger.days().count(), left_out.len()), (DAYS_KEPT - 2, 2));
    let (key, _) = LogKeyFile::generate("guan/box-1").unwrap();
    let made = document(at(40 * 86_400), &config, &key).unwrap();
    assert_eq!(dcat::read(&made.bytes).unwrap().datasets[0].quality.len(), DAYS_PUBLISHED);
}

#[test]
fn a_wrong_subject_is_heard_of() {
    let folder = tempfile::tempdir().unwrap();
    let right = config(folder.path(), "subject = \"91350100M000100Y43\"\narea = \"3501\"");
    assert!(namer(&right).unwrap().connector().as_str().starts_with("591350100M000100Y433501"));
    let wrong = config(folder.path(), "subject = \"91350100M000100Y44\"\narea = \"3501\"");
    let fault = namer(&wrong).unwrap_err().to_string();
    assert!(fault.contains("catalogue.subject") && fault.contains("Y44"), "{fault}");
}
