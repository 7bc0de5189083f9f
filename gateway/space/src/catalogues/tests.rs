use super::*;
use guan_catalogue::Namer;
use guan_identity::LogKeyFile;
use guan_model::{
    Class, DatasetId, DescriptorTable, PointDescriptor, PointId, PointName, Signer, Unit, ValueType,
};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) const NOW: i64 = 1_795_478_400_000;

pub(crate) fn key() -> LogKeyFile {
    LogKeyFile::generate("guan/box").unwrap().0
}

pub(crate) fn name(text: &str) -> BoxId {
    BoxId::parse(text).unwrap()
}

/// `names`: the box in the identifiers.
pub(crate) fn document(box_id: &str, names: &str, millis: i64, key: &LogKeyFile) -> Vec<u8> {
    let point = PointDescriptor {
        id: PointId(1),
        name: PointName::parse("Press.Temperature").unwrap(),
        value_type: ValueType::F64,
        unit: Unit::parse("Cel").unwrap(),
        dataset: DatasetId::parse("press").unwrap(),
        class: Class::General,
        tags: BTreeSet::new(),
    };
    let provider = DatasetId::parse("plant-1").unwrap();
    let namer = Namer::new(provider.clone(), name(names), None);
    let catalogue = Catalogue::of_box(
        WallTime::from_millis(millis),
        &namer,
        (name(box_id), provider),
        &DescriptorTable::new(vec![point]).unwrap(),
        key.public_key(),
        |_| BTreeMap::new(),
    );
    dcat::write(&catalogue, key).unwrap()
}

#[test]
fn only_newer_catalogues_of_the_same_box_and_key_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let catalogues = Catalogues::open(folder.path());
    let (own, other) = (key(), key());
    let check = |bytes: &[u8], rule, expect: Result<bool, &str>| {
        let taken = catalogues.take(WallTime::from_millis(NOW), &name("box-1"), bytes, rule);
        match (taken, expect) {
            (Ok(accepted), Ok(is_known)) => assert_eq!(accepted.is_known, is_known),
            (Err(fault), Err(expect)) => {
                assert!(fault.to_string().contains(expect), "{fault} for {expect}");
            }
            (taken, expect) => panic!("{taken:?}, not {expect:?}"),
        }
    };
    let own_at = |millis| document("box-1", "box-1", millis, &own);
    let pinned = KeyRule::Pinned;
    check(&document("box-2", "box-2", NOW, &own), pinned, Err("of box box-2, not of box-1"));
    assert!(catalogues.boxes().is_empty());
    check(&own_at(NOW), pinned, Ok(false));
    check(&own_at(NOW), pinned, Ok(true));
    check(&own_at(NOW - 1), pinned, Err("not newer"));
    check(&own_at(NOW + 1), pinned, Ok(false));
    check(&own_at(NOW), pinned, Err("not newer"));
    check(&document("box-1", "box-1", NOW + 9, &other), pinned, Err("another key"));
    check(b"{}", pinned, Err("refused"));
    let day = 86_400_000;
    check(&own_at(NOW + day + 1), pinned, Err("ahead"));
    check(&own_at(NOW + day), pinned, Ok(false));
    // A box that was set up anew, whose clock may be behind.
    check(&document("box-1", "box-1", NOW, &other), KeyRule::Replace, Ok(false));
    check(&own_at(NOW + day), pinned, Err("another key"));
    let again = Catalogues::open(folder.path()).catalogue(&name("box-1")).unwrap().unwrap();
    assert_eq!(again.issued(), WallTime::from_millis(NOW));
}

#[test]
fn a_name_is_given_once() {
    let folder = tempfile::tempdir().unwrap();
    let catalogues = Catalogues::open(folder.path());
    let now = WallTime::from_millis(NOW);
    let first = document("box-1", "box-1", NOW, &key());
    catalogues.accept(now, &name("box-1"), &first).unwrap();
    let thief = document("box-2", "box-1", NOW, &key());
    let fault = catalogues.accept(now, &name("box-2"), &thief).unwrap_err();
    assert!(matches!(fault, CatalogueFault::Taken { .. }), "{fault}");
    catalogues.accept(now, &name("box-2"), &document("box-2", "box-2", NOW, &key())).unwrap();
    assert_eq!(catalogues.boxes(), [name("box-1"), name("box-2")]);
}

#[test]
fn a_damaged_one_is_told_of_and_can_be_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let catalogues = Catalogues::open(folder.path());
    let now = WallTime::from_millis(NOW);
    let own = key();
    for box_id in ["box-1", "box-2"] {
        let bytes = document(box_id, box_id, NOW, &own);
        catalogues.accept(now, &name(box_id), &bytes).unwrap();
    }
    let path = catalogues.path(&name("box-1"));
    let text = fs::read_to_string(&path).unwrap().replace("general", "core");
    fs::write(&path, text).unwrap();
    let (read, faults) = catalogues.all();
    assert_eq!((read.len(), faults.len()), (1, 1));
    let newer = document("box-1", "box-1", NOW + 1, &own);
    assert!(catalogues.accept(now, &name("box-1"), &newer).is_err());
    catalogues.take(now, &name("box-1"), &newer, KeyRule::Replace).unwrap();
    assert_eq!(catalogues.all().0.len(), 2);
}
