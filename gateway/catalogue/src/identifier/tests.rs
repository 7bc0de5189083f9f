use super::*;
use proptest::prelude::*;

/// The example code of GB 32100-2015.
const SUBJECT: &str = "91350100M000100Y43";

fn namer(subject: Option<&str>) -> Namer {
    let subject = subject.map(|code| Subject::parse(code, "3501").unwrap());
    Namer::new(DatasetId::parse("plant-1").unwrap(), BoxId::parse("box-1").unwrap(), subject)
}

fn dataset(name: &str) -> DatasetId {
    DatasetId::parse(name).unwrap()
}

#[test]
fn identifiers_stay_as_they_are() {
    let check = |found: Identifier, expect: &str| {
        assert_eq!(found.as_str(), expect);
        assert_eq!(Identifier::parse(expect), Ok(found));
    };
    let (plain, national) = (namer(None), namer(Some(SUBJECT)));
    check(plain.connector(), "urn:guankou:box:plant-1:box-1");
    check(plain.dataset(&dataset("bus")), "urn:guankou:dataset:plant-1:box-1:bus");
    let offer = ContractId::parse("C-1").unwrap();
    check(plain.product(&offer), "urn:guankou:product:plant-1:box-1:C-1");
    check(plain.distribution(&dataset("bus")), "urn:guankou:distribution:plant-1:box-1:bus");
    check(national.distribution(&dataset("bus")), "urn:guankou:distribution:plant-1:box-1:bus");
    // These are out in the world: whoever changes how they are made changes what was published.
    check(national.connector(), CONNECTOR);
    check(national.dataset(&dataset("bus")), RESOURCE);
}

const CONNECTOR: &str = "591350100M000100Y433501ZH226DEIM";
const RESOURCE: &str = "791350100M000100Y433501ZDW3PUAE9";

#[test]
fn what_is_no_identifier_is_refused() {
    let check = |text: &str, expect: &str| {
        let fault = Identifier::parse(text).unwrap_err().to_string();
        assert!(fault.contains(expect), "{text:?}: {fault}");
    };
    check("", "neither");
    check("urn:guankou:box:plant-1", "neither");
    check("urn:guankou:dataset:plant-1:box-1", "neither");
    check("urn:guankou:thing:plant-1:box-1:x", "neither");
    check("urn:guankou:box:plant 1:box-1", "neither");
    check(&RESOURCE.replace("791", "891"), "neither");
    check(&RESOURCE.replace("791", "791a"), "neither");
    check(&RESOURCE.replace("350", "351"), "check character");
    check(&"x".repeat(IDENTIFIER_BYTES_MAX + 1), "the limit is 256");
    // The longest that the rules of names give.
    let name = "x".repeat(64);
    let longest = format!("urn:guankou:distribution:{name}:{name}:{name}");
    assert!(Identifier::parse(&longest).is_ok() && longest.len() <= IDENTIFIER_BYTES_MAX);
}

#[test]
fn an_older_id_may_follow() {
    let with = |old: &str| Identifier::parse(&format!("{RESOURCE}\u{2022}{old}"));
    assert_eq!(with("X-1").unwrap().kind(), Kind::Dataset);
    assert!(with(&"x".repeat(OLD_ID_CHARS_MAX)).is_ok());
    assert!(with(&"x".repeat(OLD_ID_CHARS_MAX + 1)).is_err());
    assert!(with("").is_err());
}

#[test]
fn subjects_are_checked() {
    assert!(Subject::parse(SUBJECT, "3501").is_ok());
    for wrong in ["91350100M000100Y44", "91350100M000100Y4", "91350100I000100Y43", ""] {
        assert!(matches!(Subject::parse(wrong, "3501"), Err(IdentifierFault::Subject { .. })));
    }
    for wrong in ["350", "35012", "35-1", "abcd"] {
        assert!(matches!(Subject::parse(SUBJECT, wrong), Err(IdentifierFault::Area { .. })));
    }
}

/// MOD 37-2 finds each single wrong character and each swap of two neighbours.
#[test]
fn slips_of_the_pen_are_found() {
    let mut tried = 0;
    for number in 0..80 {
        let right = namer(Some(SUBJECT)).dataset(&dataset(&format!("d{number}")));
        let bytes = right.as_str().as_bytes();
        for place in 0..bytes.len() {
            for other in BASE36.iter().chain(b"*").filter(|other| **other != bytes[place]) {
                let mut wrong = bytes.to_vec();
                wrong[place] = *other;
                assert!(Identifier::parse(std::str::from_utf8(&wrong).unwrap()).is_err());
                tried += 1;
            }
            if place > 0 && bytes[place] != bytes[place - 1] {
                let mut wrong = bytes.to_vec();
                wrong.swap(place, place - 1);
                assert!(Identifier::parse(std::str::from_utf8(&wrong).unwrap()).is_err());
                tried += 1;
            }
        }
    }
    assert!(tried > 90_000, "{tried}");
}

proptest! {
    #[test]
    fn what_is_named_can_be_read(provider in "[a-zA-Z0-9._-]{1,64}", name in "[a-zA-Z0-9._-]{1,64}") {
        for subject in [None, Some(Subject::parse(SUBJECT, "3501").unwrap())] {
            let namer = Namer::new(dataset(&provider), BoxId::parse(&name).unwrap(), subject);
            for found in [namer.connector(), namer.dataset(&dataset(&name)),
                namer.product(&ContractId::parse(&name).unwrap()), namer.distribution(&dataset(&name))] {
                prop_assert_eq!(Identifier::parse(found.as_str()), Ok(found));
            }
        }
    }

    #[test]
    fn any_text_gives_an_answer(text: String) {
        let _ = Identifier::parse(&text);
    }
}
