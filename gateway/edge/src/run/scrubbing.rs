//! Reads sealed bundles again and compares them with what the writer has in memory, which a start has held against
//! the signed head. Reads only: what looks damaged here the writer looks at itself.

use guan_log::Bundles;
use guan_model::Digest;
use guan_spool::Disk;

/// Bytes of files that one step reads at the most, but for its last bundle. There is one step a second.
pub(super) const SCRUB_BYTES_PER_STEP: u64 = 1 << 20;
/// What a bundle counts that cannot even be opened, so that a broken disk ends a step, too.
const UNREADABLE_BYTES: u64 = 64 << 10;

/// What one step saw.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Looked {
    /// Where the next step goes on; `None`: there is nothing left.
    pub(super) next: Option<u64>,
    pub(super) suspects: Vec<u64>,
}

/// `roots` are those of bundles that follow one another; none: all were looked at.
pub(super) fn look<D: Disk>(bundles: &Bundles<D>, roots: &[(u64, Digest)]) -> Looked {
    let (mut next, mut suspects, mut bytes) = (None, Vec::new(), 0);
    for (number, root) in roots {
        if bytes >= SCRUB_BYTES_PER_STEP {
            break;
        }
        bytes += bundles.bundle_bytes(*number).unwrap_or(UNREADABLE_BYTES);
        let is_whole = bundles.check(*number, root).is_ok();
        if !(is_whole && bundles.has_hash(*number, root)) {
            suspects.push(*number);
        }
        next = Some(number + 1);
    }
    Looked { next, suspects }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use guan_evidence::LeafBody;
    use guan_identity::LogKeyFile;
    use guan_log::{Epoch, EvidenceLog};
    use guan_model::{BootNumber, ClockQuality, Now, WallTime};
    use guan_spool::disk::SimDisk;
    use std::sync::Arc;
    use std::time::Duration;

    /// A log of so many bundles, which compress to little, and the writer's roots.
    fn log(count: u64) -> (SimDisk, Vec<(u64, Digest)>) {
        let disk = SimDisk::new();
        let (key, _) = LogKeyFile::generate("guan/box-1").unwrap();
        let tail: Vec<(u64, Bytes)> = Vec::new();
        let mut log = EvidenceLog::open(disk.clone(), "guan/box-1", Arc::new(key), tail).unwrap();
        let wall = WallTime::from_seconds(1_800_000_000);
        let now = Now { wall, monotonic: Duration::ZERO, quality: ClockQuality::Ntp };
        for _ in 0..count * 256 {
            log.append(&now, BootNumber(1), LeafBody::Stop);
        }
        log.handle_committed();
        log.seal().unwrap();
        (disk, log.roots_from(0, usize::MAX).unwrap())
    }

    #[test]
    fn damage_is_seen_wherever_it_lies() {
        let (disk, roots) = log(3);
        let bundles = Bundles::of(disk.clone(), Epoch::FIRST);
        let look = |roots| look(&bundles, roots);
        assert_eq!(look(&roots), Looked { next: Some(3), suspects: vec![] });
        assert_eq!(look(&roots[3..]), Looked { next: None, suspects: vec![] });
        let name = "entries-0000000000000001";
        let kept = disk.contents(name).unwrap();
        disk.flip_bit(name, 500);
        assert_eq!(look(&roots).suspects, [1]);
        disk.put(name, &kept);
        disk.flip_bit("subtrees", 2 * 256 + 9);
        assert_eq!(look(&roots).suspects, [2], "its hash");
        disk.flip_bit("subtrees", 2 * 256 + 9);
        // Somebody who writes a bundle of his own with its hash does not reach the writer's memory.
        let other = disk.contents("entries-0000000000000002").unwrap();
        disk.put("entries-0000000000000000", &other);
        let mut hashes = disk.contents("subtrees").unwrap();
        hashes.copy_within(64..96, 0);
        disk.put("subtrees", &hashes);
        assert_eq!(look(&roots).suspects, [0]);
    }

    #[test]
    fn a_step_ends_with_the_bundle_that_fills_it() {
        let (disk, roots) = log(4);
        let bundles = Bundles::of(disk.clone(), Epoch::FIRST);
        let name = "entries-0000000000000000";
        let limit = usize::try_from(SCRUB_BYTES_PER_STEP).unwrap();
        for (length, next) in [(limit - 1, 2), (limit, 1)] {
            disk.put(name, &vec![0; length]);
            let looked = look(&bundles, &roots[..2]);
            assert_eq!(looked, Looked { next: Some(next), suspects: vec![0] }, "{length}");
        }
    }
}
