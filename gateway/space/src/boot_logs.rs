//! Boot logs that were found to lead to a box's PCRs, one for each box: they are sent once a boot.

use guan_identity::attest::{EVENT_LOG_BYTES_MAX, unpack_boot_log};
use guan_model::BoxId;
use std::fs;
use std::path::{Path, PathBuf};

/// Folder in `space.state_dir`.
const FOLDER: &str = "boot-logs";
/// Packed, as evidence carries them; longer files are not ours.
const PACKED_BYTES_MAX: u64 = 512 << 10;

/// The folder.
#[derive(Debug, Clone)]
pub struct BootLogs {
    folder: PathBuf,
}

impl BootLogs {
    pub fn new(state_dir: &Path) -> Self {
        Self { folder: state_dir.join(FOLDER) }
    }

    fn path(&self, box_id: &BoxId) -> PathBuf {
        self.folder.join(hex::encode(box_id.as_str()))
    }

    /// Unpacked; `None` when there is none, or none that can be read.
    pub fn read(&self, box_id: &BoxId) -> Option<Vec<u8>> {
        let path = self.path(box_id);
        let length = fs::metadata(&path).ok()?.len();
        let packed = (length <= PACKED_BYTES_MAX).then(|| fs::read(&path).ok()).flatten()?;
        unpack_boot_log(&packed).ok().filter(|log| log.len() <= EVENT_LOG_BYTES_MAX)
    }

    /// A log that cannot be kept is sent again next time.
    pub fn keep(&self, box_id: &BoxId, packed: &[u8]) {
        let (path, draft) = (self.path(box_id), self.path(box_id).with_extension("draft"));
        let kept = fs::create_dir_all(&self.folder)
            .and_then(|()| fs::write(&draft, packed))
            .and_then(|()| fs::rename(&draft, &path));
        if let Err(fault) = kept {
            tracing::warn!(%box_id, %fault, "a boot log cannot be kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guan_identity::attest::pack_log;

    #[test]
    fn what_was_kept_is_read_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let logs = BootLogs::new(folder.path());
        let (one, other) = (BoxId::parse("box-1").unwrap(), BoxId::parse("box-2").unwrap());
        assert_eq!(logs.read(&one), None);
        logs.keep(&one, &pack_log(b"a log").unwrap());
        assert_eq!((logs.read(&one), logs.read(&other)), (Some(b"a log".to_vec()), None));
        logs.keep(&one, b"no zstd");
        assert_eq!(logs.read(&one), None);
    }
}
