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
    for path in paths {
        if set.contracts.len() == CONTRACTS_MAX {
            set.refused.push(ContractFileError::TooMany { path });
            break;
        }
        match read_one(&path) {
            Ok(bytes) => {
                let name = path.file_name().unwrap_or_default().as_encoded_bytes();
                let file = Digest::of(&bytes);
                set.digest = Digest::of_parts(&[&set.digest.0, name, &[0], &file.0]);
                match Contract::parse(&bytes, keys) {
                    Ok(contract) => set.contracts.push(contract),
                    Err(source) => set.refused.push(ContractFileError::Refused { path, source }),
                }
            }
            Err(fault) => set.refused.push(fault),
        }
    }
    Ok(set)
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
    fn a_missing_folder_is_the_operators_fault() {
        let keys = TrustedKeys::new(Vec::new()).unwrap();
        let fault = read_contracts(Path::new("/nowhere"), &keys).unwrap_err();
        assert!(fault.to_string().contains("/nowhere"));
    }
}
