//! Time stamps that are kept: heads of the log that an authority was asked about, and its answers.
//!
//! `timestamps/E-S.head` in `box.state_dir` is the text of the head of S entries of the log's epoch E, `E-S.tsr` the
//! answer about it, byte for byte. Earlier releases named both by S alone; of which epoch such a head is, its text
//! says. Invariant: an answer is kept only beside its head, and what is kept is never another than was given.
//!
//! Never here: the way to an authority, whether an answer holds.

use guan_evidence::dossier::Stamp;
use guan_evidence::timestamp::{TOKEN_BYTES_MAX, Token};
use guan_evidence::{CHECKPOINT_BYTES_MAX, Checkpoint};
use guan_log::Epoch;
use guan_model::{Digest, WallTime};
use guan_spool::{Disk, OsDisk, read_file, replace_file};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// In `box.state_dir`.
pub const STAMPS_DIR: &str = "timestamps";
/// Most heads that are kept: one a day for ten years.
pub const STAMPS_KEPT_MAX: usize = 4096;
/// How long another process may be at the folder.
const LOCK_WAIT: Duration = Duration::from_secs(5);
const HEAD: &str = "head";
const ANSWER: &str = "tsr";

/// Why a time stamp is not kept or not read.
#[derive(Debug, thiserror::Error)]
pub enum StampsFault {
    #[error("{} cannot be read or written", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(
        "{} holds {STAMPS_KEPT_MAX} heads, and that is the limit; move those that nobody needs away",
        path.display()
    )]
    Full { path: PathBuf },
    #[error("the head is of another log than {origin}")]
    OtherLog { origin: String },
}

/// Which head.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// `None`: its name is of an earlier release, and its head is not there to say.
    pub epoch: Option<Epoch>,
    pub size: u64,
    /// Of its files, without the ending.
    name: String,
}

impl Place {
    fn new(epoch: Epoch, size: u64) -> Self {
        Self { epoch: Some(epoch), size, name: format!("{epoch}-{size}") }
    }

    fn file(&self, ending: &str) -> String {
        format!("{}.{ending}", self.name)
    }
}

/// A number as it is written here, and no other form of it.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

/// The folder, of the log with this name in its first epoch.
pub struct Stamps<D: Disk> {
    disk: D,
    path: PathBuf,
    origin: String,
}

impl Stamps<OsDisk> {
    /// Only to look; `None`: there is no folder yet.
    pub fn reader(state_dir: &Path, origin: &str) -> Result<Option<Self>, StampsFault> {
        let path = state_dir.join(STAMPS_DIR);
        match OsDisk::open_read_only(&path) {
            Ok(disk) => Ok(Some(Self { disk, path, origin: origin.to_owned() })),
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StampsFault::File { path, source }),
        }
    }

    /// For this process alone.
    pub fn writer(state_dir: &Path, origin: &str) -> Result<Self, StampsFault> {
        let path = state_dir.join(STAMPS_DIR);
        match OsDisk::open_exclusive_within(&path, LOCK_WAIT) {
            Ok(disk) => Ok(Self { disk, path, origin: origin.to_owned() }),
            Err(source) => Err(StampsFault::File { path, source }),
        }
    }
}

impl Stamps<OsDisk> {
    /// When an answer was kept, by the clock of the box at that time.
    pub fn kept_at(&self, place: &Place) -> Option<WallTime> {
        let file = std::fs::metadata(self.path.join(place.file(ANSWER))).ok()?;
        let since = file.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some(WallTime::from_seconds(i64::try_from(since.as_secs()).ok()?))
    }
}

impl<D: Disk> Stamps<D> {
    fn fault(&self, name: &str) -> impl Fn(io::Error) -> StampsFault {
        let path = self.path.join(name);
        move |source| StampsFault::File { path: path.clone(), source }
    }

    /// Heads, or answers, by epoch and size.
    fn places(&self, ending: &str) -> Result<Vec<Place>, StampsFault> {
        let names = self.disk.list().map_err(self.fault(""))?;
        let mut places: Vec<Place> =
            names.iter().filter_map(|name| self.place(name.strip_suffix(ending)?)).collect();
        places.sort_unstable();
        Ok(places)
    }

    fn place(&self, stem: &str) -> Option<Place> {
        let name = stem.strip_suffix('.')?;
        if let Some((epoch, size)) = name.split_once('-') {
            let epoch = u16::try_from(number(epoch)?).ok().and_then(Epoch::new)?;
            return Some(Place::new(epoch, number(size)?));
        }
        let mut place = Place { epoch: None, size: number(name)?, name: name.to_owned() };
        let head = self.head(&place).ok().and_then(|text| Self::parse(&text));
        place.epoch = head.and_then(|head| Epoch::of_origin(&self.origin, &head.origin));
        Some(place)
    }

    fn parse(text: &str) -> Option<Checkpoint> {
        // Kept as it was signed: without the signatures and the line before them.
        Checkpoint::parse_unverified(&format!("{text}\n")).ok()
    }

    /// The text of a head that is kept.
    pub fn head(&self, place: &Place) -> Result<String, StampsFault> {
        let name = place.file(HEAD);
        let bytes =
            read_file(&self.disk, &name, CHECKPOINT_BYTES_MAX).map_err(self.fault(&name))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Whether one more head can be kept.
    pub fn check_room(&self) -> Result<(), StampsFault> {
        let is_full = self.places(HEAD)?.len() >= STAMPS_KEPT_MAX;
        if is_full { Err(StampsFault::Full { path: self.path.clone() }) } else { Ok(()) }
    }

    /// Keeps the text of a head that an authority is asked about.
    pub fn put_head(&self, text: &str) -> Result<Place, StampsFault> {
        let other = || StampsFault::OtherLog { origin: self.origin.clone() };
        let head = Self::parse(text).ok_or_else(other)?;
        let epoch = Epoch::of_origin(&self.origin, &head.origin).ok_or_else(other)?;
        let place = Place::new(epoch, head.size);
        let name = place.file(HEAD);
        // Asked for once more it takes no more room.
        if !self.disk.list().map_err(self.fault(""))?.contains(&name) {
            self.check_room()?;
        }
        replace_file(&self.disk, &name, text.as_bytes()).map_err(self.fault(&name))?;
        Ok(place)
    }

    /// Keeps an answer beside its head.
    pub fn put_answer(&self, place: &Place, answer: &[u8]) -> Result<(), StampsFault> {
        let name = place.file(ANSWER);
        replace_file(&self.disk, &name, answer).map_err(self.fault(&name))
    }

    /// The newest head with this digest.
    pub fn find(&self, digest: &Digest) -> Result<Option<Place>, StampsFault> {
        let is_it = |place: &Place| {
            self.head(place).is_ok_and(|text| Digest::of(text.as_bytes()) == *digest)
        };
        Ok(self.places(HEAD)?.into_iter().rev().find(is_it))
    }

    /// The answers about heads of this epoch, whatever they are worth: making a bundle takes those about its log.
    pub fn answers(&self, epoch: Epoch) -> Result<Vec<Stamp>, StampsFault> {
        let mut places = self.places(ANSWER)?;
        places.retain(|place| place.epoch.is_none_or(|of| of == epoch));
        let read = |place: Place| Ok(Stamp { size: place.size, answer: self.answer(&place)? });
        places.into_iter().take(STAMPS_KEPT_MAX).map(read).collect()
    }

    fn answer(&self, place: &Place) -> Result<Vec<u8>, StampsFault> {
        let name = place.file(ANSWER);
        read_file(&self.disk, &name, TOKEN_BYTES_MAX).map_err(self.fault(&name))
    }

    /// The newest stamped head of this epoch whose answer counts, and when that was by the authority's clock, in
    /// seconds since 1970.
    pub fn newest(
        &self,
        epoch: Epoch,
        counts: impl Fn(&Token) -> bool,
    ) -> Result<Option<(Place, i64)>, StampsFault> {
        let places = self.places(ANSWER)?;
        let mut places = places.into_iter().rev().filter(|place| place.epoch == Some(epoch));
        Ok(places.find_map(|place| {
            let answer = self.answer(&place).ok()?;
            let token = Token::parse(&answer).ok().filter(&counts)?;
            Some((place, token.seconds))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guan_evidence::checkpoint::head_text;
    use guan_spool::disk::SimDisk;

    const ORIGIN: &str = "guan/box-7";
    const TOKEN: &str = include_str!("../../evidence/tests/golden/timestamp-p256-v1.tsr.hex");

    fn stamps() -> Stamps<SimDisk> {
        let (disk, path) = (SimDisk::new(), PathBuf::from(STAMPS_DIR));
        Stamps { disk, path, origin: ORIGIN.to_owned() }
    }

    fn text(origin: &str, size: u64, root: u8) -> String {
        head_text(origin, size, &Digest([root; 32]))
    }

    fn sizes(stamps: &Stamps<SimDisk>, epoch: u16) -> Vec<(u64, Vec<u8>)> {
        let answers = stamps.answers(Epoch::new(epoch).unwrap()).unwrap();
        answers.into_iter().map(|one| (one.size, one.answer)).collect()
    }

    /// Two epochs have heads of the same size.
    #[test]
    fn stamps_of_one_size_do_not_take_each_others_place() {
        let stamps = stamps();
        for (origin, number) in [("guan/box-7", 1), ("guan/box-7/e2", 2)] {
            let text = text(origin, 9, number);
            let place = stamps.put_head(&text).unwrap();
            assert_eq!(place.name, format!("{number}-9"));
            stamps.put_answer(&place, &[number]).unwrap();
            assert_eq!(stamps.find(&Digest::of(text.as_bytes())).unwrap(), Some(place));
        }
        assert_eq!(sizes(&stamps, 1), [(9, vec![1])]);
        assert_eq!(sizes(&stamps, 2), [(9, vec![2])]);
        let fault = stamps.put_head(&text("guan/other", 9, 3)).unwrap_err().to_string();
        assert!(fault.contains("another log than guan/box-7"), "{fault}");
        assert!(stamps.put_head("no head").is_err());
    }

    /// Names as the release before gave them.
    #[test]
    fn golden_names_without_an_epoch_are_read() {
        let stamps = stamps();
        let put = |name: &str, bytes: &[u8]| replace_file(&stamps.disk, name, bytes).unwrap();
        let (first, second) = (text("guan/box-7", 7, 1), text("guan/box-7/e2", 8, 2));
        put("7.head", first.as_bytes());
        put("7.tsr", b"a");
        put("8.head", second.as_bytes());
        put("8.tsr", b"b");
        // Its head is gone: it is offered to each, and making a bundle compares.
        put("9.tsr", b"c");
        for name in ["07.tsr", "1-07.tsr", "0-7.tsr", "1-1-7.tsr", "7.tsr.new", "x.tsr", ".tsr"] {
            put(name, b"not one of them");
        }
        assert_eq!(sizes(&stamps, 1), [(9, b"c".to_vec()), (7, b"a".to_vec())]);
        assert_eq!(sizes(&stamps, 2), [(9, b"c".to_vec()), (8, b"b".to_vec())]);
        let place = stamps.find(&Digest::of(second.as_bytes())).unwrap().unwrap();
        stamps.put_answer(&place, b"d").unwrap();
        assert_eq!(sizes(&stamps, 2)[1], (8, b"d".to_vec()));
        assert_eq!(stamps.head(&place).unwrap(), second);
    }

    #[test]
    fn the_limit_is_exact() {
        let stamps = stamps();
        let most = STAMPS_KEPT_MAX as u64;
        for size in 1..=most {
            stamps.put_head(&text(ORIGIN, size, 0)).unwrap();
        }
        let fault = stamps.put_head(&text(ORIGIN, most + 1, 0)).unwrap_err();
        assert!(fault.to_string().contains("holds 4096 heads"), "{fault}");
        stamps.put_head(&text(ORIGIN, most, 1)).unwrap();
    }

    #[test]
    fn the_newest_one_says_when() {
        let stamps = stamps();
        let digits = (0..TOKEN.len()).step_by(2);
        let token: Vec<u8> =
            digits.map(|at| u8::from_str_radix(&TOKEN[at..at + 2], 16).unwrap()).collect();
        let put = |origin: &str, size, answer: &[u8]| {
            let place = stamps.put_head(&text(origin, size, 0)).unwrap();
            stamps.put_answer(&place, answer).unwrap();
        };
        assert_eq!(stamps.newest(Epoch::FIRST, |_| true).unwrap(), None);
        put(ORIGIN, 10, &token);
        put(ORIGIN, 11, b"no answer");
        put("guan/box-7/e2", 12, &token);
        let (place, seconds) = stamps.newest(Epoch::FIRST, |_| true).unwrap().unwrap();
        assert_eq!(place.size, 10);
        assert!((1_795_000_000..1_796_000_000).contains(&seconds));
        // One that does not count leaves the place to an earlier one.
        put(ORIGIN, 9, &token);
        let asked = std::cell::Cell::new(0);
        let not_first = |_: &Token| asked.replace(asked.get() + 1) > 0;
        assert_eq!(stamps.newest(Epoch::FIRST, not_first).unwrap().unwrap().0.size, 9);
    }

    #[test]
    fn one_process_writes_and_others_look() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Stamps::reader(folder.path(), ORIGIN).unwrap().is_none());
        let writer = Stamps::writer(folder.path(), ORIGIN).unwrap();
        writer.put_head(&text(ORIGIN, 3, 0)).unwrap();
        let reader = Stamps::reader(folder.path(), ORIGIN).unwrap().unwrap();
        assert_eq!(reader.places(HEAD).unwrap().len(), 1);
        assert!(reader.put_head(&text(ORIGIN, 4, 0)).is_err());
        let place = Place::new(Epoch::FIRST, 3);
        assert_eq!(reader.kept_at(&place), None);
        writer.put_answer(&place, b"a").unwrap();
        let file = std::fs::File::open(folder.path().join("timestamps/1-3.tsr")).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(77)).unwrap();
        assert_eq!(reader.kept_at(&place), Some(WallTime::from_seconds(77)));
    }
}
