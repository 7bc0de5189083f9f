//! The contract set of each box: signed files in one folder a box, changed by the command line, read by
//! the daemon.
//!
//! Every change has a higher epoch than the one before. A contract that has ended stays in the set as
//! such, so that nobody brings it back; the daemon ends what is over by the space's clock.

use crate::parties::Signed;
use guan_identity::LogKeyFile;
use guan_model::{BoxId, ContractId, Digest, Signer, WallTime};
use guan_policy::roster::{Entry, ROSTER_BYTES_MAX};
use guan_policy::{
    CONTRACT_BYTES_MAX, CONTRACTS_MAX, Carrier, CarrierFault, Contract, ContractError,
    ContractState, KeyFault, Roster, TrustedKeys,
};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Folder in `space.state_dir`.
pub const SETS_DIR: &str = "contracts";
const SET_FILE: &str = "set.json";
const LOCK_FILE: &str = "lock";

/// Why a set cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum SetFault {
    #[error("{path} cannot be used: check the disk and its rights")]
    File { path: PathBuf, source: io::Error },
    #[error("{path} is no set that this space signed; move it away to begin a new one")]
    Set { path: PathBuf, source: ContractError },
    #[error("{path} is refused: restore the file, or issue a newer version of the contract")]
    Contract { path: PathBuf, source: ContractError },
    #[error(
        "{path} is not there, or is another contract than the set names: restore the file, or issue \
         a newer version of the contract"
    )]
    Lost { path: PathBuf },
    #[error("the space's own key cannot be used: {0}")]
    Key(KeyFault),
    #[error("contract {contract} was over at {until_s} s since 1970; write one that is valid yet")]
    Over { contract: ContractId, until_s: i64 },
    #[error("the set cannot be signed")]
    Sign(#[source] ContractError),
    #[error(
        "box {box_id} has no contract {contract}; `guan-space contract list` shows what it has"
    )]
    Unknown { box_id: BoxId, contract: ContractId },
    #[error("contract {contract} is {state}, which is final; write a contract with another id")]
    Final { contract: ContractId, state: &'static str },
    #[error("contract {contract} has version {known} already; the new one says {found}, raise it")]
    Version { contract: ContractId, known: u64, found: u64 },
    #[error("the set does not fit one file; end contracts that are no longer needed")]
    Carrier(#[source] CarrierFault),
    #[error("box {box_id} has {CONTRACTS_MAX} contracts, which is the limit")]
    Full { box_id: BoxId },
}

/// Tells one set of a box from the next, as each is a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetMark(Option<(u64, i64, i64)>);

/// All sets of the space.
#[derive(Clone)]
pub struct Sets {
    folder: PathBuf,
    space: String,
    signer: Arc<LogKeyFile>,
    keys: Arc<TrustedKeys>,
}

impl Sets {
    pub fn open(state_dir: &Path, space: &str, signer: Arc<LogKeyFile>) -> Result<Self, SetFault> {
        let keys = TrustedKeys::new(vec![(space.to_owned(), signer.public_key())]);
        let keys = keys.map_err(|mut faults| SetFault::Key(faults.remove(0)))?;
        let folder = state_dir.join(SETS_DIR);
        let (space, keys) = (space.to_owned(), Arc::new(keys));
        Ok(Self { folder, space, signer, keys })
    }

    /// The set as it was signed; `None` when the box never had one.
    pub fn file(&self, box_id: &BoxId) -> Result<Option<Vec<u8>>, SetFault> {
        read(&self.path(box_id), ROSTER_BYTES_MAX)
    }

    pub fn roster(&self, box_id: &BoxId) -> Result<Option<Roster>, SetFault> {
        let Some(bytes) = self.file(box_id)? else { return Ok(None) };
        let path = self.path(box_id);
        let roster = Roster::parse(&bytes, &self.keys);
        roster.map(Some).map_err(|source| SetFault::Set { path, source })
    }

    /// The boxes that have a set.
    pub fn boxes(&self) -> Vec<BoxId> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut boxes: Vec<BoxId> = names.filter_map(|name| BoxId::parse(&name).ok()).collect();
        boxes.sort();
        boxes
    }

    /// A contract of the box's set.
    pub fn document(&self, box_id: &BoxId, digest: &Digest) -> Result<Option<Vec<u8>>, SetFault> {
        read(&self.document_path(box_id, digest), CONTRACT_BYTES_MAX)
    }

    fn document_path(&self, box_id: &BoxId, digest: &Digest) -> PathBuf {
        self.folder.join(box_id.as_str()).join(format!("{digest}.json"))
    }

    /// The contract itself. A signed set names it, so one that cannot be read is a fault.
    pub fn contract(&self, box_id: &BoxId, digest: &Digest) -> Result<Contract, SetFault> {
        let path = || self.document_path(box_id, digest);
        let lost = || SetFault::Lost { path: path() };
        let document = self.document(box_id, digest)?.ok_or_else(lost)?;
        let contract = Contract::draft(&document)
            .map_err(|source| SetFault::Contract { path: path(), source })?;
        if contract.digest() == *digest { Ok(contract) } else { Err(lost()) }
    }

    /// What each box has now, as far as it can be read.
    pub fn contracts(&self) -> Vec<Contract> {
        let mut all = Vec::new();
        for box_id in self.boxes() {
            let Ok(Some(roster)) = self.roster(&box_id) else { continue };
            for entry in roster.entries {
                let Ok(Some(file)) = self.document(&box_id, &entry.digest) else { continue };
                all.extend(Contract::draft(&file));
            }
        }
        all
    }

    /// Every version of every contract that the box ever had, as far as it can be read.
    pub fn versions(&self, box_id: &BoxId) -> Vec<Contract> {
        let entries =
            fs::read_dir(self.folder.join(box_id.as_str())).into_iter().flatten().flatten();
        let digests = entries.filter_map(|entry| {
            Digest::from_hex(entry.file_name().to_str()?.strip_suffix(".json")?)
        });
        let versions = digests.filter_map(|digest| {
            let read = self.contract(box_id, &digest);
            let told = read.inspect_err(|fault| {
                let fault = guan_link::driver::describe(fault);
                tracing::error!(%box_id, %fault, "a version of a contract cannot be read");
            });
            told.ok()
        });
        versions.collect()
    }

    /// Gives a contract, or a newer version of one, to a box.
    pub fn issue(
        &self,
        box_id: &BoxId,
        signed: &Signed,
        now: WallTime,
    ) -> Result<Roster, SetFault> {
        let contract = signed.contract();
        let (id, version) = (contract.id().clone(), contract.version());
        refuse_over(contract, now)?;
        let _turn = self.turn(box_id)?;
        let mut roster = self.begun(box_id, now)?;
        let known = roster.entries.iter().position(|one| one.contract == id);
        if let Some(known) = known.map(|place| &roster.entries[place]) {
            refuse_final(known)?;
            if known.version >= version {
                let (contract, known) = (id, known.version);
                return Err(SetFault::Version { contract, known, found: version });
            }
        } else if roster.entries.len() >= CONTRACTS_MAX {
            return Err(SetFault::Full { box_id: box_id.clone() });
        }
        let folder = self.folder.join(box_id.as_str());
        make_dir(&folder)?;
        write(&folder.join(format!("{}.json", contract.digest())), signed.file())?;
        let state = known.map_or(ContractState::Active, |place| roster.entries[place].state);
        let entry = Entry { contract: id, version, digest: contract.digest(), state };
        match known {
            Some(place) => roster.entries[place] = entry,
            None => roster.entries.push(entry),
        }
        self.put(roster, now)
    }

    /// Changes how a contract stands.
    pub fn set_state(
        &self,
        box_id: &BoxId,
        contract: &ContractId,
        state: ContractState,
        now: WallTime,
    ) -> Result<Roster, SetFault> {
        let unknown = || SetFault::Unknown { box_id: box_id.clone(), contract: contract.clone() };
        self.roster(box_id)?.ok_or_else(unknown)?;
        let _turn = self.turn(box_id)?;
        let mut roster = self.roster(box_id)?.ok_or_else(unknown)?;
        let mut entries = roster.entries.iter_mut();
        let entry = entries.find(|one| one.contract == *contract).ok_or_else(unknown)?;
        refuse_final(entry)?;
        entry.state = state;
        self.put(roster, now)
    }

    /// Signs the set anew under a much higher epoch, for a space that was restored from a backup.
    pub fn renew(&self, box_id: &BoxId, now: WallTime) -> Result<Roster, SetFault> {
        let _turn = self.turn(box_id)?;
        let mut roster = self.begun(box_id, now)?;
        // The time is above any epoch that was counted.
        roster.epoch = roster.epoch.max(now.0.div_euclid(1_000_000_000).unsigned_abs());
        self.put(roster, now)
    }

    /// Ends what is over by the space's clock. Gives the file to send.
    pub fn current(&self, box_id: &BoxId, now: WallTime) -> Result<Option<Vec<u8>>, SetFault> {
        if self.roster(box_id)?.is_none() {
            return Ok(None);
        }
        let _turn = self.turn(box_id)?;
        let Some(mut roster) = self.roster(box_id)? else { return Ok(None) };
        let mut has_changed = false;
        for entry in roster.entries.iter_mut().filter(|one| !one.state.is_final()) {
            let Some(file) = self.document(box_id, &entry.digest)? else { continue };
            let Ok(contract) = Contract::draft(&file) else { continue };
            let until = contract.not_after().saturating_add(contract.lease().grace_delivery);
            if now >= until {
                entry.state = ContractState::Ended;
                has_changed = true;
            }
        }
        if has_changed {
            self.put(roster, now)?;
        }
        self.file(box_id)
    }

    /// The set and its contracts as one file, for a box that is never online; `None` without a set.
    pub fn carrier(&self, box_id: &BoxId, now: WallTime) -> Result<Option<Vec<u8>>, SetFault> {
        let Some(set) = self.current(box_id, now)? else { return Ok(None) };
        let Some(roster) = self.roster(box_id)? else { return Ok(None) };
        let mut contracts = Vec::new();
        for entry in roster.entries.iter().filter(|one| !one.state.is_final()) {
            let document = self.document(box_id, &entry.digest)?;
            contracts.extend(document.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()));
        }
        let set = String::from_utf8_lossy(&set).into_owned();
        let carrier = Carrier::new(set, contracts).and_then(|carrier| carrier.encode());
        carrier.map(Some).map_err(SetFault::Carrier)
    }

    /// Changes whenever a set was written.
    pub fn mark(&self) -> u64 {
        let epochs = self.boxes().into_iter().map(|box_id| {
            let modified = fs::metadata(self.path(&box_id)).and_then(|file| file.modified());
            let since = modified.ok().and_then(|at| at.duration_since(io_epoch()).ok());
            // Enough to see that a file was written again.
            since.map_or(0, |since| since.as_secs() ^ u64::from(since.subsec_nanos()) << 32)
        });
        epochs.fold(0, u64::wrapping_add)
    }

    /// Changes whenever the set of this box was written.
    pub fn mark_of(&self, box_id: &BoxId) -> SetMark {
        let file = fs::metadata(self.path(box_id)).ok();
        SetMark(file.map(|file| (file.ino(), file.mtime(), file.mtime_nsec())))
    }

    fn begun(&self, box_id: &BoxId, now: WallTime) -> Result<Roster, SetFault> {
        let new = || Roster {
            box_id: box_id.clone(),
            space: self.space.clone(),
            epoch: 0,
            issued: now,
            entries: Vec::new(),
        };
        Ok(self.roster(box_id)?.unwrap_or_else(new))
    }

    fn put(&self, mut roster: Roster, now: WallTime) -> Result<Roster, SetFault> {
        roster.epoch += 1;
        roster.issued = now;
        roster.entries.sort_by(|a, b| a.contract.cmp(&b.contract));
        let file = roster.sign(self.signer.as_ref()).map_err(SetFault::Sign)?;
        make_dir(&self.folder.join(roster.box_id.as_str()))?;
        write(&self.path(&roster.box_id), &file)?;
        Ok(roster)
    }

    /// Sets are read, changed and written by commands and by the daemon: one after the other, or a change
    /// would be lost, and two sets would have one epoch. Ends when it is dropped.
    fn turn(&self, box_id: &BoxId) -> Result<File, SetFault> {
        let folder = self.folder.join(box_id.as_str());
        make_dir(&folder)?;
        let path = folder.join(LOCK_FILE);
        let file = File::options().create(true).append(true).open(&path);
        let locked = file.and_then(|file| file.lock().map(|()| file));
        locked.map_err(|source| SetFault::File { path, source })
    }

    fn path(&self, box_id: &BoxId) -> PathBuf {
        self.folder.join(box_id.as_str()).join(SET_FILE)
    }
}

fn io_epoch() -> std::time::SystemTime {
    std::time::SystemTime::UNIX_EPOCH
}

/// Nobody is to sign or to be given what can never be in force.
pub fn refuse_over(contract: &Contract, now: WallTime) -> Result<(), SetFault> {
    let (id, until) = (contract.id().clone(), contract.not_after());
    match now >= until {
        true => Err(SetFault::Over { contract: id, until_s: until.0.div_euclid(1_000_000_000) }),
        false => Ok(()),
    }
}

fn refuse_final(entry: &Entry) -> Result<(), SetFault> {
    let (contract, state) = (entry.contract.clone(), entry.state.name());
    match entry.state.is_final() {
        true => Err(SetFault::Final { contract, state }),
        false => Ok(()),
    }
}

fn make_dir(folder: &Path) -> Result<(), SetFault> {
    guan_spool::create_folder(folder)
        .map_err(|source| SetFault::File { path: folder.to_path_buf(), source })
}

fn read(path: &Path, bytes_max: usize) -> Result<Option<Vec<u8>>, SetFault> {
    let failed = |source| SetFault::File { path: path.to_path_buf(), source };
    match fs::metadata(path) {
        Ok(file) if file.len() > bytes_max as u64 => {
            Err(failed(io::Error::other(format!("it is longer than {bytes_max} bytes"))))
        }
        Ok(_) => fs::read(path).map(Some).map_err(failed),
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(fault) => Err(failed(fault)),
    }
}

/// By rename, as the daemon may read at any moment.
fn write(path: &Path, bytes: &[u8]) -> Result<(), SetFault> {
    let draft = path.with_extension("draft");
    let written = fs::write(&draft, bytes)
        .and_then(|()| File::open(&draft)?.sync_all())
        .and_then(|()| fs::rename(&draft, path))
        .and_then(|()| File::open(path.parent().expect("it lies in a folder"))?.sync_all());
    written.map_err(|source| SetFault::File { path: path.to_path_buf(), source })
}

#[cfg(test)]
mod tests;
