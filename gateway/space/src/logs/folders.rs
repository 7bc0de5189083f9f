//! Where the state of witness and mirror lies: a folder for each log of each box.

use guan_model::{BoxId, Digest};
use guan_spool::{Disk, OsDisk};
use std::io;
use std::path::{Path, PathBuf};

/// Folders in `space.state_dir`: heads that were cosigned, copies of logs, what convicts logs.
pub const WITNESS_DIR: &str = "witness";
pub const MIRROR_DIR: &str = "mirror";
pub const FORKS_DIR: &str = "forks";
/// Longest name of a folder before it is a digest instead; file systems take 255 bytes.
const NAME_BYTES_MAX: usize = 200;

/// The port to them.
pub trait Folders: Clone + Send + 'static {
    type Disk: Disk;

    /// Opens a folder for writing and makes it, durably, if it is not there.
    fn open(&self, path: &[&str]) -> io::Result<Self::Disk>;
    /// Names of the folders in a folder; none if it is not there.
    fn list(&self, path: &[&str]) -> io::Result<Vec<String>>;
}

/// Those of the operating system.
#[derive(Debug, Clone)]
pub struct OsFolders(PathBuf);

impl OsFolders {
    pub fn new(state_dir: &Path) -> Self {
        Self(state_dir.to_path_buf())
    }

    pub fn path(&self, path: &[&str]) -> PathBuf {
        path.iter().fold(self.0.clone(), |folder, name| folder.join(name))
    }
}

impl Folders for OsFolders {
    type Disk = OsDisk;

    fn open(&self, path: &[&str]) -> io::Result<OsDisk> {
        let mut folder = self.0.clone();
        for name in path {
            let next = folder.join(name);
            if !next.exists() {
                guan_spool::create_folder(&next)?;
            }
            folder = next;
        }
        OsDisk::open_exclusive(&folder)
    }

    fn list(&self, path: &[&str]) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(self.path(path)) {
            Ok(entries) => entries,
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(fault) => return Err(fault),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                names.extend(entry.file_name().into_string().ok());
            }
        }
        names.sort();
        Ok(names)
    }
}

/// Name of a log's folder: its origin with `%2F` for a slash, as in a URL.
pub fn folder_of(origin: &str) -> String {
    let mut name = String::new();
    for byte in origin.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            // Neither a hidden file nor the folder above.
            b'.' if !name.is_empty() => name.push('.'),
            _ => name.push_str(&format!("%{byte:02X}")),
        }
    }
    match name.len() <= NAME_BYTES_MAX {
        true => name,
        false => format!("sha256-{}", Digest::of(origin.as_bytes())),
    }
}

/// The boxes that have a folder in this one.
pub fn boxes(folders: &impl Folders, area: &str) -> io::Result<Vec<BoxId>> {
    let names = folders.list(&[area])?;
    Ok(names.iter().filter_map(|name| BoxId::parse(name).ok()).collect())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use guan_spool::disk::SimDisk;
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    /// Folders in memory, that survive a crash as the disks in them do.
    #[derive(Debug, Clone, Default)]
    pub(in crate::logs) struct SimFolders(Arc<Mutex<BTreeMap<String, SimDisk>>>);

    impl SimFolders {
        pub(in crate::logs) fn disk(&self, path: &[&str]) -> SimDisk {
            self.0.lock().unwrap().entry(path.join("/")).or_default().clone()
        }

        pub(in crate::logs) fn crash(&self, seed: u64) {
            self.0.lock().unwrap().values().for_each(|disk| disk.crash(seed));
        }
    }

    impl Folders for SimFolders {
        type Disk = SimDisk;

        fn open(&self, path: &[&str]) -> io::Result<SimDisk> {
            Ok(self.disk(path))
        }

        fn list(&self, path: &[&str]) -> io::Result<Vec<String>> {
            let above = format!("{}/", path.join("/"));
            let all = self.0.lock().unwrap();
            let below = all.keys().filter_map(|path| path.strip_prefix(&above));
            let mut names: Vec<String> =
                below.filter_map(|rest| Some(rest.split('/').next()?.to_owned())).collect();
            names.dedup();
            Ok(names)
        }
    }

    #[test]
    fn origins_become_names_of_folders() {
        let check = |origin: &str, expect: &str| assert_eq!(folder_of(origin), expect);
        check("guan/box-1", "guan%2Fbox-1");
        check("guan/box-1/e2", "guan%2Fbox-1%2Fe2");
        check("..", "%2E.");
        check("../x", "%2E.%2Fx");
        check("a%2Fb", "a%252Fb");
        let long = "/".repeat(67);
        assert!(folder_of(&long).starts_with("sha256-"));
        assert_eq!(folder_of(&"/".repeat(66)).len(), 198);
    }
}
