//! Which files a bundle has. Whatever else lies in it, nobody looks at and nothing vouches for.

use super::{disclosures, stamps};

/// Files that are about no single entry.
pub(super) const BESIDE: [&str; 6] =
    ["README", "ak.pem", "checkpoint", "custody.json", "manifest.sha256", "policy"];

/// Folders, and the endings of their files; each file is about one entry.
const FOLDERS: [(&str, &[&str]); 7] = [
    ("anchors", &["consistency", "head", "msg", "pcrs", "qualifying", "sig"]),
    ("chain", &["consistency", "der", "head", "msg", "qualifying", "sig"]),
    (disclosures::FOLDER, &["opening"]),
    ("entries", &["cbor", "json"]),
    ("proofs", &["tlog-proof"]),
    ("receipts", &["cbor"]),
    ("witness", &["consistency", "note"]),
];

/// What a file is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    Bundle,
    Entry(u64),
    /// The head of so many entries.
    Stamp(u64),
}

/// `None`: it is no name of a file of a bundle.
pub(super) fn about(name: &str) -> Option<About> {
    if BESIDE.contains(&name) {
        return Some(About::Bundle);
    }
    if let Some(size) = stamp(name) {
        return Some(About::Stamp(size));
    }
    let (folder, file) = name.split_once('/')?;
    let (number, ending) = file.split_once('.')?;
    let (_, endings) = FOLDERS.iter().find(|(known, _)| *known == folder)?;
    let index = number.parse().ok().filter(|index: &u64| index.to_string() == number);
    index.filter(|_| endings.contains(&ending)).map(About::Entry)
}

/// The size of the head that a time stamp is about.
pub(super) fn stamp(name: &str) -> Option<u64> {
    let (number, ending) = name.strip_prefix(stamps::FOLDER)?.strip_prefix('/')?.split_once('.')?;
    let size = number.parse().ok().filter(|size: &u64| size.to_string() == number);
    size.filter(|_| stamps::ENDINGS.contains(&ending))
}

/// Whether there is any file about this entry in this folder.
pub(super) fn is_any(files: &super::Files, folder: &str, index: u64) -> bool {
    let endings = FOLDERS.iter().find(|(known, _)| *known == folder).map_or(&[][..], |one| one.1);
    endings.iter().any(|ending| files.contains_key(&format!("{folder}/{index}.{ending}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_are_written() {
        let check = |name: &str, expect| assert_eq!(about(name), expect, "{name}");
        BESIDE.iter().for_each(|name| check(name, Some(About::Bundle)));
        for (folder, endings) in FOLDERS {
            for ending in endings {
                check(&format!("{folder}/17.{ending}"), Some(About::Entry(17)));
            }
            check(&format!("{folder}/17.exe"), None);
        }
        check(&format!("entries/{}.cbor", u64::MAX), Some(About::Entry(u64::MAX)));
        check("stamps/17.tsr", Some(About::Stamp(17)));
        ["stamps/017.tsr", "stamps/17.pem", "stamps/.tsr", "stamps17.tsr", "stamp/17.tsr"]
            .iter()
            .for_each(|name| check(name, None));
        let others = [
            "",
            "readme",
            "README ",
            "entries",
            "entries/",
            "entries/1",
            "entries/.cbor",
            "entries/01.cbor",
            "entries/+1.cbor",
            "entries/-1.cbor",
            "entries/1.cbor.json",
            "entries/1.CBOR",
            "entries/18446744073709551616.cbor",
            "entries/1/1.cbor",
            "proofs/1.cbor",
            "/entries/1.cbor",
            "chain/1.pcrs",
            "anchors/1.der",
        ];
        others.iter().for_each(|name| check(name, None));
    }
}
