//! The contracts of a box: signed files in one folder, read again when the folder changes.
//!
//! A file that is refused never takes the others down: it is reported with its reasons, and what it
//! would have granted stays denied.

use guan_model::Digest;
use guan_policy::{CONTRACT_BYTES_MAX, CONTRACTS_MAX, Contract, ContractError, TrustedKeys};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Why a file in the folder is not in force.
#[derive(Debug, thiserror::Error)]
pub enum ContractFileError {
    #[error("{path} cannot be read: check its rights")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is larger than {CONTRACT_BYTES_MAX} bytes; it is no contract")]
    TooLarge { path: PathBuf },
    #[error("{path} is not in force")]
    Refused { path: PathBuf, source: ContractError },
    #[error(
        "{path} and later files are ignored: the folder holds more than {CONTRACTS_MAX} contracts"
    )]
    TooMany { path: PathBuf },
}

/// What the folder held at one moment.
#[derive(Debug)]
pub struct ContractSet {
    pub contracts: Vec<Contract>,
    pub refused: Vec<ContractFileError>,
    /// Over names and bytes of all files: equal when nothing changed.
    pub digest: Digest,
}

/// Files that are read at once, shared out among the cores: signatures are most of the work.
const ROUND_FILES: usize = 256;

/// Threads that read a round; more gain nothing that a box would notice.
const READERS_MAX: usize = 4;

/// Reads all `*.json` of a folder in the order of their names.
pub fn read_contracts(folder: &Path, keys: &TrustedKeys) -> Result<ContractSet, ContractFileError> {
    let failed = |source| ContractFileError::Read { path: folder.to_path_buf(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            paths.push(path);
        }
    }
    paths.sort();
    let mut set = none();
    for round in paths.chunks(ROUND_FILES) {
        for (path, file) in round.iter().zip(read_round(round, keys)) {
            if set.contracts.len() == CONTRACTS_MAX {
                set.refused.push(ContractFileError::TooMany { path: path.clone() });
                return Ok(set);
            }
            set.take(path, file);
        }
    }
    Ok(set)
}

/// What came of one file: the digest of its bytes, if they could be read, and its contract.
struct ReadFile {
    digest: Option<Digest>,
    contract: Result<Contract, ContractFileError>,
}

impl ContractSet {
    fn take(&mut self, path: &Path, file: ReadFile) {
        if let Some(digest) = file.digest {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            self.digest = Digest::of_parts(&[&self.digest.0, name, &[0], &digest.0]);
        }
        match file.contract {
            Ok(contract) => self.contracts.push(contract),
            Err(fault) => self.refused.push(fault),
        }
    }
}

/// One entry for each path, in their order.
fn read_round(paths: &[PathBuf], keys: &TrustedKeys) -> Vec<ReadFile> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = paths.len().div_ceil(cores.min(READERS_MAX)).max(1);
    std::thread::scope(|scope| {
        let readers: Vec<_> = paths
            .chunks(share)
            .map(|share| {
                scope.spawn(|| share.iter().map(|path| read_file(path, keys)).collect::<Vec<_>>())
            })
            .collect();
        let joined = readers.into_iter().map(|reader| reader.join());
        // A reader that panicked met a bug of ours: it ends the caller as it would have there.
        joined.flat_map(|read| read.unwrap_or_else(|bug| std::panic::resume_unwind(bug))).collect()
    })
}

fn read_file(path: &Path, keys: &TrustedKeys) -> ReadFile {
    let bytes = match read_one(path) {
        Ok(bytes) => bytes,
        Err(fault) => return ReadFile { digest: None, contract: Err(fault) },
    };
    let contract = Contract::parse(&bytes, keys)
        .map_err(|source| ContractFileError::Refused { path: path.to_path_buf(), source });
    ReadFile { digest: Some(Digest::of(&bytes)), contract }
}

/// No contract at all: nothing may leave.
pub fn none() -> ContractSet {
    ContractSet { contracts: Vec::new(), refused: Vec::new(), digest: Digest([0; 32]) }
}

fn read_one(path: &Path) -> Result<Vec<u8>, ContractFileError> {
    let failed = |source| ContractFileError::Read { path: path.to_path_buf(), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(CONTRACT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    match bytes.len() > CONTRACT_BYTES_MAX {
        true => Err(ContractFileError::TooLarge { path: path.to_path_buf() }),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_file_does_not_take_the_others_down() {
        let folder = tempfile::tempdir().unwrap();
        let keys = TrustedKeys::new(Vec::new()).unwrap();
        let before = read_contracts(folder.path(), &keys).unwrap();
        std::fs::write(folder.path().join("a.json"), "{").unwrap();
        std::fs::write(folder.path().join("b.json"), vec![b' '; CONTRACT_BYTES_MAX + 1]).unwrap();
        std::fs::write(folder.path().join("ignored.txt"), "{").unwrap();
        let after = read_contracts(folder.path(), &keys).unwrap();
        assert!(after.contracts.is_empty());
        assert!(matches!(
            after.refused.as_slice(),
            [ContractFileError::Refused { .. }, ContractFileError::TooLarge { .. }]
        ));
        assert_ne!(before.digest, after.digest);
        assert_eq!(after.digest, read_contracts(folder.path(), &keys).unwrap().digest);
    }

    #[test]
    fn files_count_in_the_order_of_their_names_however_many_read_them() {
        let folder = tempfile::tempdir().unwrap();
        let keys = TrustedKeys::new(Vec::new()).unwrap();
        let names: Vec<String> =
            (0..2 * ROUND_FILES + 3).map(|number| format!("{number:04}.json")).collect();
        for name in names.iter().rev() {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let set = read_contracts(folder.path(), &keys).unwrap();
        let refused = set.refused.iter().map(|fault| match fault {
            ContractFileError::Refused { path, .. } => path.file_name().unwrap().to_str().unwrap(),
            other => panic!("{other}"),
        });
        assert!(refused.eq(names.iter().map(String::as_str)));
        let expected = names.iter().fold(Digest([0; 32]), |digest, name| {
            let file = Digest::of(name.as_bytes());
            Digest::of_parts(&[&digest.0, name.as_bytes(), &[0], &file.0])
        });
        assert_eq!(set.digest, expected);
    }

    #[test]
    fn a_missing_folder_is_the_operators_fault() {
        let keys = TrustedKeys::new(Vec::new()).unwrap();
        let fault = read_contracts(Path::new("/nowhere"), &keys).unwrap_err();
        assert!(fault.to_string().contains("/nowhere"));
    }
}
