//! What the space's log says of batches that came on a medium, kept for the next receipt as well: a receipt may be
//! lost on its way, and nobody else tells the box.
//!
//! The box notes words before it releases what they are of, and each once. So words are forgotten when a later file
//! shows that all of it was released. One file for each box.

use guan_evidence::bundle::{self, BUNDLE_LEAVES_MAX};
use guan_evidence::{Leaf, LeafBody};
use guan_link::{LETTER_BYTES_MAX, Offer};
use guan_model::{BoxId, SpoolId};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

const WORDS_DIR: &str = "words";
/// First in each file; then come the spool's id and the words as in a letter.
const MAGIC: &[u8] = b"guan-carry-words/1\n";
/// Most words for one box; later ones push out earlier ones.
const WORDS_MAX: usize = BUNDLE_LEAVES_MAX;

/// Words that are not told for certain.
pub(super) struct Words {
    folder: PathBuf,
}

impl Words {
    /// In the folder of carried files.
    pub(super) fn new(carried: &Path) -> Self {
        Self { folder: carried.join(WORDS_DIR) }
    }

    /// All that the next receipt must say: what was said before and is not released, and what is new. `kept` is
    /// whether it will be there again.
    pub(super) fn next(
        &self,
        box_id: &BoxId,
        offer: &Offer,
        new: Option<&[u8]>,
    ) -> (Vec<u8>, io::Result<()>) {
        let path = self.folder.join(box_id.as_str());
        let before = read(&path, offer.spool());
        let mut words: Vec<&[u8]> = bundle::decode(&before).unwrap_or_default();
        words.retain(|word| !is_released(word, offer));
        words.extend(new.and_then(|new| bundle::decode(new).ok()).unwrap_or_default());
        let words = &words[words.len().saturating_sub(WORDS_MAX)..];
        let letter = bundle::encode(words).expect("words are bounded as bundles are");
        let kept = guan_spool::create_folder(&self.folder).and_then(|()| {
            let bytes = [MAGIC, &offer.spool().0, &letter].concat();
            replace(&path, &bytes)
        });
        (letter, kept)
    }
}

/// What was kept for this life of the spool; nothing of what cannot be read.
fn read(path: &Path, spool: SpoolId) -> Vec<u8> {
    let head = [MAGIC, &spool.0].concat();
    let limit = (head.len() + LETTER_BYTES_MAX) as u64;
    match fs::metadata(path) {
        Ok(file) if file.len() <= limit => {}
        _ => return Vec::new(),
    }
    let bytes = fs::read(path).unwrap_or_default();
    bytes.strip_prefix(&head[..]).map(<[u8]>::to_vec).unwrap_or_default()
}

fn is_released(word: &[u8], offer: &Offer) -> bool {
    let Ok(Leaf { body: LeafBody::Forwarded(sent), .. }) = Leaf::decode(word) else { return true };
    let range = offer.streams().iter().find(|range| range.id == sent.stream);
    range.is_some_and(|range| sent.through < range.oldest_unreleased)
}

/// The old or the new one, whole.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // No box has such a name.
    let draft = path.with_file_name("draft~");
    let mut file = File::create(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    File::open(path.parent().expect("it lies in a folder"))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use guan_evidence::Forwarded;
    use guan_link::StreamRange;
    use guan_model::{BatchSeq, BootNumber, ClockQuality, Digest, Now, StreamId, WallTime};
    use std::time::Duration;

    fn word(stream: u16, from: u64, through: u64) -> Vec<u8> {
        let wall = WallTime::from_seconds(1_800_000_000);
        let now = Now { wall, monotonic: Duration::ZERO, quality: ClockQuality::Ntp };
        let said = Forwarded {
            stream: StreamId(stream),
            from: BatchSeq(from),
            through: BatchSeq(through),
            log: "guan-space/s".to_owned(),
            first: from,
            last: through,
            root: Digest([1; 32]),
        };
        Leaf::new(&now, 0, BootNumber(1), LeafBody::Forwarded(said)).encode()
    }

    fn offer(spool: u8, oldest: [u64; 2]) -> Offer {
        let range = |(id, oldest)| StreamRange {
            id: StreamId(id),
            oldest_unreleased: BatchSeq(oldest),
            newest: BatchSeq(1000),
        };
        Offer::new(SpoolId([spool; 16]), [1, 2].into_iter().zip(oldest).map(range).collect())
            .unwrap()
    }

    fn letter(words: &[Vec<u8>]) -> Vec<u8> {
        bundle::encode(words).unwrap()
    }

    #[test]
    fn words_are_said_until_the_box_shows_that_it_has_them() {
        let folder = tempfile::tempdir().unwrap();
        let box_id = BoxId::parse("box-1").unwrap();
        let next = |offer: Offer, new: Option<&[u8]>| {
            // Each time as after a restart.
            let (letter, kept) = Words::new(folder.path()).next(&box_id, &offer, new);
            kept.unwrap();
            letter
        };
        let [one, two, three] = [word(1, 1, 5), word(2, 1, 3), word(1, 6, 9)];
        let both = letter(&[one.clone(), two.clone()]);
        assert_eq!(next(offer(7, [1, 1]), Some(&both)), both);
        // The receipt is lost, and the file is taken again, or another one comes with the same.
        assert_eq!(next(offer(7, [1, 1]), None), both);
        let new = letter(std::slice::from_ref(&three));
        assert_eq!(next(offer(7, [1, 1]), Some(&new)), letter(&[one, two.clone(), three.clone()]));
        // Half of the last word was released: it is not known for certain.
        assert_eq!(next(offer(7, [9, 1]), None), letter(&[two, three.clone()]));
        assert_eq!(next(offer(7, [9, 4]), None), new);
        assert_eq!(next(offer(7, [10, 4]), None), b"");
        next(offer(7, [1, 1]), Some(&both));
        let other = BoxId::parse("box-2").unwrap();
        let (said, _) = Words::new(folder.path()).next(&other, &offer(7, [1, 1]), None);
        assert_eq!(said, b"");
        assert_eq!(next(offer(8, [1, 1]), None), b"", "of another life of the spool");
        next(offer(8, [1, 1]), Some(&both));
        std::fs::write(folder.path().join("words/box-1"), "damaged").unwrap();
        assert_eq!(next(offer(8, [1, 1]), None), b"");
        // A disk that takes nothing: they are said all the same, once.
        std::fs::remove_file(folder.path().join("words/box-1")).unwrap();
        std::fs::create_dir(folder.path().join("words/box-1")).unwrap();
        let (said, kept) = Words::new(folder.path()).next(&box_id, &offer(8, [1, 1]), Some(&both));
        assert!(said == both && kept.is_err());
    }

    #[test]
    fn the_newest_words_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let box_id = BoxId::parse("box-1").unwrap();
        let words: Vec<Vec<u8>> = (1..=WORDS_MAX as u64).map(|seq| word(1, seq, seq)).collect();
        let next = |new: &[Vec<u8>]| {
            let offer = offer(7, [1, 1]);
            Words::new(folder.path()).next(&box_id, &offer, Some(&letter(new))).0
        };
        assert_eq!(next(&words), letter(&words));
        let more = word(2, 1, 1);
        let expect = [&words[1..], std::slice::from_ref(&more)].concat();
        assert_eq!(next(&[more]), letter(&expect));
    }
}
