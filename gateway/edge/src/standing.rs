//! Which contracts stand: the operator's folder, and what the space says over the link.
//!
//! The space's word is a signed set with an epoch. The box keeps the newest set and the contracts that it
//! names in its state folder, and never takes an older one. Without any set the folder alone counts.
//!
//! Never here: when a plan comes into force; the writer takes it between two batches.

use crate::contracts::{self, ContractFileError};
use crate::leaving::{Doubt, Standing};
use crate::metadata::{Metadata, MetadataError};
use crate::own_space::{OwnSpace, SpaceFault, Way};
use crate::set_counter::{Finding, SetCounter, compare};
use crate::upkeep::replace;
use guan_model::{BoxId, ContractId, DescriptorTable, Digest, WallTime};
use guan_policy::roster::Entry;
use guan_policy::{
    CARRIER_BYTES_MAX, CONTRACT_BYTES_MAX, CONTRACTS_MAX, Carrier, CarrierFault, Contract,
    ContractError, ContractState, Plan, Roster, TrustedKeys, canonical_json,
};
use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Folder in `box.state_dir`.
pub const CONTRACTS_DIR: &str = "contracts";
const ROSTER_FILE: &str = "set.json";
/// Digests of versions that stay in force until their successor has come.
const REPLACED_FILE: &str = "replaced.json";
/// What `guan contract import` left for the running program.
const CARRIED_FILE: &str = "carried.json";

/// Why the space's word does not count, or is not durable; nothing leaves until it sends another.
#[derive(Debug, thiserror::Error)]
pub enum StandingFault {
    #[error("the contract set of the space is refused")]
    Set(#[source] ContractError),
    #[error(transparent)]
    Space(#[from] SpaceFault),
    #[error("the contract set is for box {found}, this box is {ours}; correct it in the space")]
    OtherBox { found: BoxId, ours: BoxId },
    #[error(
        "the contract set has epoch {found}, this box has seen {known}: somebody plays an old set \
         again, or the space was restored from a backup (`guan-space contract renew` then helps)"
    )]
    Old { found: u64, known: u64 },
    #[error(
        "the space sent another contract set under epoch {epoch}, which this box has: its store was set back, \
         and what was revoked since may stand again; `guan-space contract renew` makes a set that counts"
    )]
    Forked { epoch: u64 },
    #[error("the space no longer knows of the contracts that it had set (epoch {known})")]
    Forgotten { known: u64 },
    #[error("a contract of the space is refused")]
    Contract(#[source] ContractError),
    #[error(
        "contract {contract} has ended: the space replaced it, and the version that replaces it is refused; correct \
         it in the space"
    )]
    Successor { contract: ContractId, source: ContractError },
    #[error("contract {found} is not in the set of the space")]
    NotListed { found: Digest },
    #[error(
        "contract {digest} of the space's set is not here; the next session with the space brings it"
    )]
    Absent { digest: Digest },
    #[error("{path} cannot be used: check the disk and its rights")]
    File { path: PathBuf, source: io::Error },
    #[error("{path} carries no contract set")]
    Carrier { path: PathBuf, source: CarrierFault },
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    #[error(
        "box.state_dir is older than its TPM remembers: {recorded} contract sets are recorded and {counted} were \
         taken, so the disk was set back to a copy. Nothing leaves before the space has said what stands; \
         uses that contracts count may be missing, so compare `guan-space meter` with the log"
    )]
    SetBack { recorded: u64, counted: u64 },
}

/// What the space gave this box, from a box's folder that may be in use.
#[derive(Default)]
pub struct OfSpace {
    pub contracts: Vec<Contract>,
    /// Files that do not count, and contracts of the set that are not here.
    pub refused: Vec<StandingFault>,
}

impl OfSpace {
    pub fn read(config: &guan_configs::EdgeConfig, keys: &TrustedKeys) -> Self {
        let folder = config.state_dir.join(CONTRACTS_DIR);
        let mut found = Self::default();
        let set = match std::fs::read(folder.join(ROSTER_FILE)) {
            Ok(set) => Roster::parse(&set, keys),
            // The space has said nothing yet.
            Err(_) => return found,
        };
        let own = OwnSpace::read(config);
        let checked = set.map_err(StandingFault::Set).and_then(|roster| {
            own.check(&roster.space, Way::Disk)?;
            Ok(roster)
        });
        let roster = match checked {
            Ok(roster) => roster,
            Err(fault) => {
                found.refused.push(fault);
                return found;
            }
        };
        for entry in roster.entries.iter().filter(|entry| !entry.state.is_final()) {
            let absent = || StandingFault::Absent { digest: entry.digest };
            let file = std::fs::read(folder.join(format!("{}.json", entry.digest)));
            match file.map(|file| Contract::parse(&file, keys)) {
                Ok(Ok(contract)) if contract.digest() == entry.digest => {
                    found.contracts.push(contract);
                }
                Ok(Ok(_)) | Err(_) => found.refused.push(absent()),
                Ok(Err(fault)) => found.refused.push(StandingFault::Contract(fault)),
            }
        }
        found
    }
}

/// What counts now.
pub struct InForce {
    pub plan: Arc<Plan>,
    pub standing: Standing,
}

/// The folder, the set, and the contracts of the set.
pub struct Book {
    keys: TrustedKeys,
    own_space: OwnSpace,
    /// Whose epoch the metadata has.
    counted_space: Option<String>,
    box_id: BoxId,
    descriptors: Arc<DescriptorTable>,
    /// The operator's.
    folder: PathBuf,
    /// Ours.
    state: PathBuf,
    metadata: Metadata,
    counter: Option<Box<dyn SetCounter>>,
    /// What the counter says about this disk; `None` until it has answered.
    finding: Option<Finding>,
    /// The newest set waits to be counted.
    is_uncounted: bool,
    /// The newest set counts and is not durable yet.
    is_unsaved: bool,
    from_folder: contracts::ContractSet,
    roster: Option<Roster>,
    from_space: Vec<Contract>,
    /// Versions that the set no longer names and that stay until their successor has come, so that there is never a
    /// gap, and never both.
    replaced: Vec<Contract>,
    /// Documents of the set that came and do not count.
    refused_successors: BTreeSet<Digest>,
    /// Why the set on the disk does not count.
    found: Option<StandingFault>,
}

impl Book {
    /// Reads what is on disk. Files that do not count are told of and left out.
    pub fn open(
        (keys, own_space): (TrustedKeys, OwnSpace),
        (box_id, descriptors): (BoxId, Arc<DescriptorTable>),
        (folder, state_dir): (&Path, &Path),
        metadata: Metadata,
        counter: Option<Box<dyn SetCounter>>,
    ) -> Result<Self, StandingFault> {
        let state = state_dir.join(CONTRACTS_DIR);
        let failed = |source| StandingFault::File { path: state.clone(), source };
        guan_spool::create_folder(&state).map_err(failed)?;
        let counted_space = own_space.kept().map(str::to_owned);
        let mut book = Self {
            keys,
            own_space,
            counted_space,
            box_id,
            descriptors,
            folder: folder.to_path_buf(),
            state,
            metadata,
            counter,
            finding: None,
            is_uncounted: false,
            is_unsaved: false,
            from_folder: contracts::none(),
            roster: None,
            from_space: Vec::new(),
            replaced: Vec::new(),
            refused_successors: BTreeSet::new(),
            found: None,
        };
        let path = book.state.join(ROSTER_FILE);
        if path.exists() {
            let failed = |source| StandingFault::File { path: path.clone(), source };
            let bytes = std::fs::read(&path).map_err(failed)?;
            if book.counted_space.is_none() {
                // Of an earlier release, which took it from whoever it is.
                let set = Roster::parse(&bytes, &book.keys).ok();
                book.counted_space = set.map(|set| set.space);
            }
            // Collecting must not stop for it; the space will send its set again.
            match book.judge(&bytes, Way::Disk) {
                Ok(roster) => book.roster = Some(roster),
                Err(fault) => book.found = Some(fault),
            }
            book.replaced = book.read_replaced();
            book.read_kept();
        }
        if let Err(fault) = book.ask_counter().and_then(|()| book.catch_up()) {
            book.found.get_or_insert(fault);
        }
        Ok(book)
    }

    /// A power cut between a set and its epoch: the set is the newest that was taken.
    fn catch_up(&mut self) -> Result<(), StandingFault> {
        let Some(roster) = &self.roster else { return Ok(()) };
        let (epoch, space) = (roster.epoch, roster.space.clone());
        if epoch > self.known_epoch(&space)? {
            self.count_set(epoch)?;
        }
        self.keep_space()
    }

    /// Whether this disk is the newest that the TPM has seen. A TPM that does not answer is asked again with
    /// the next set: without it nothing is sent anyway.
    fn ask_counter(&mut self) -> Result<(), StandingFault> {
        let (Some(counter), None) = (&mut self.counter, self.finding) else { return Ok(()) };
        let recorded = self.metadata.sets()?.1;
        let counted = match counter.counted() {
            Ok(counted) => counted,
            Err(fault) => {
                tracing::warn!(%fault, "the count of contract sets is not compared yet");
                return Ok(());
            }
        };
        let finding = compare(recorded, counted);
        self.finding = Some(finding);
        match finding {
            Finding::Same | Finding::OtherTpm => Ok(()),
            Finding::Behind => {
                self.is_uncounted = counter.count().is_err();
                Ok(())
            }
            Finding::SetBack => Err(StandingFault::SetBack { recorded, counted }),
        }
    }

    /// Counts a set that was taken; without an answer of the TPM the next word of the space does it.
    fn count_set(&mut self, epoch: u64) -> Result<(), StandingFault> {
        let recorded = self.metadata.sets()?.1;
        self.is_uncounted = self.counter.is_some();
        let counted = self.counter.as_mut().map(|counter| counter.counted());
        // A counter that has not counted yet begins where it likes.
        let next = match &counted {
            Some(Ok(counted)) if *counted > 0 => counted + 1,
            _ => recorded,
        };
        self.put_sets(epoch, next)?;
        let (Some(counter), Some(Ok(_))) = (&mut self.counter, counted) else { return Ok(()) };
        match counter.count() {
            Ok(counted) => {
                (self.is_uncounted, self.finding) = (false, Some(Finding::Same));
                match counted == next {
                    true => Ok(()),
                    false => self.put_sets(epoch, counted),
                }
            }
            Err(fault) => {
                tracing::warn!(%fault, "a contract set is not counted yet");
                Ok(())
            }
        }
    }

    /// Of the same space an epoch never falls; another space counts anew.
    fn put_sets(&self, epoch: u64, count: u64) -> Result<(), StandingFault> {
        let of = self.roster.as_ref().map(|roster| roster.space.as_str());
        match self.counted_space.as_deref().is_some_and(|space| Some(space) != of) {
            true => Ok(self.metadata.begin_sets(epoch, count)?),
            false => Ok(self.metadata.set_sets(epoch, count)?),
        }
    }

    /// The highest epoch that this box has seen of a space.
    fn known_epoch(&self, space: &str) -> Result<u64, StandingFault> {
        match &self.counted_space {
            Some(counted) if counted != space => Ok(0),
            _ => Ok(self.metadata.epoch()?),
        }
    }

    /// The set that counts is this box's space's: from now on no other one's does.
    fn keep_space(&mut self) -> Result<(), StandingFault> {
        let Some(roster) = &self.roster else { return Ok(()) };
        let kept = self.own_space.keep(&roster.space);
        let path = self.own_space.file().to_path_buf();
        kept.map_err(|source| StandingFault::File { path, source })?;
        self.counted_space = Some(roster.space.clone());
        Ok(())
    }

    /// Looks at the operator's folder; `true` when it has changed.
    pub fn read_folder(&mut self) -> Result<bool, ContractFileError> {
        if !self.folder.exists() {
            return Ok(false);
        }
        let set = contracts::read_contracts(&self.folder, &self.keys)?;
        let is_new = set.digest != self.from_folder.digest;
        self.from_folder = set;
        Ok(is_new)
    }

    /// Files of the folder that do not count, with the reasons.
    pub fn refused(&self) -> &[ContractFileError] {
        &self.from_folder.refused
    }

    /// What is wrong with the disk as it was found, once.
    pub fn take_found(&mut self) -> Option<StandingFault> {
        self.found.take()
    }

    /// The newest set, if the space ever sent one.
    pub fn roster(&self) -> Option<&Roster> {
        self.roster.as_ref()
    }

    /// The space's word. `true` when something changed.
    pub fn handle_roster(&mut self, bytes: &[u8]) -> Result<bool, StandingFault> {
        self.take_roster(bytes, Way::Session)
    }

    fn take_roster(&mut self, bytes: &[u8], way: Way) -> Result<bool, StandingFault> {
        if bytes.is_empty() {
            return match self.metadata.epoch()? {
                0 => Ok(false),
                known => Err(StandingFault::Forgotten { known }),
            };
        }
        let roster = self.judge(bytes, way)?;
        // A TPM that did not answer at the start must be compared before it counts on.
        if let Err(fault) = self.ask_counter() {
            self.found = Some(fault);
        }
        // The space vouches for what the counter did not, but not on a medium, which may be as old as the disk.
        let was_set_back = self.finding == Some(Finding::SetBack) && way != Way::Medium;
        let is_new = self.roster.as_ref() != Some(&roster);
        let epoch = roster.epoch;
        if is_new {
            // It counts from here on, whatever the disk says: a revocation does not wait for room.
            self.roster = Some(roster);
            self.is_unsaved = true;
            self.read_kept();
        }
        if self.is_unsaved {
            self.save(bytes, epoch)?;
        } else if was_set_back || self.is_uncounted {
            self.count_set(epoch)?;
        }
        Ok(is_new || was_set_back)
    }

    fn save(&mut self, set: &[u8], epoch: u64) -> Result<(), StandingFault> {
        let path = self.state.join(ROSTER_FILE);
        let text = String::from_utf8_lossy(set);
        replace(&path, text.as_bytes()).map_err(|source| StandingFault::File { path, source })?;
        self.keep_replaced()?;
        // The file first: an epoch without its set would refuse the set for ever.
        self.count_set(epoch)?;
        // Only now: the epoch that was counted is of this space.
        self.keep_space()?;
        self.is_unsaved = false;
        let issued = self.roster.as_ref().map(|roster| roster.issued);
        match self.doubt()?.filter(|doubt| issued > doubt.after) {
            // It is of before this set.
            Some(_) => Ok(self.metadata.set_doubt(None)?),
            None => Ok(()),
        }
    }

    /// A contract of the set. `false`: it is here already. The link asks for all that is missing whenever one of
    /// them has come, so that the others come more than once.
    pub fn handle_document(&mut self, bytes: &[u8]) -> Result<bool, StandingFault> {
        let contract = match Contract::parse(bytes, &self.keys) {
            Ok(contract) => contract,
            Err(fault) => return Err(self.refuse_document(bytes, fault)?),
        };
        let digest = contract.digest();
        if self.has(&digest) {
            return Ok(false);
        }
        if !self.missing().contains(&digest) {
            return Err(StandingFault::NotListed { found: digest });
        }
        let path = self.path_of(&digest);
        let text = String::from_utf8_lossy(bytes);
        replace(&path, text.as_bytes()).map_err(|source| StandingFault::File { path, source })?;
        self.refused_successors.remove(&digest);
        self.from_space.push(contract);
        self.drop_replaced();
        self.keep_replaced()?;
        Ok(true)
    }

    /// With the version that was to come, the one that it replaces ends: the space wants it no longer.
    fn refuse_document(
        &mut self,
        bytes: &[u8],
        source: ContractError,
    ) -> Result<StandingFault, StandingFault> {
        let digest = digest_of(bytes).filter(|digest| self.missing().contains(digest));
        let Some(digest) = digest else { return Ok(StandingFault::Contract(source)) };
        self.refused_successors.insert(digest);
        let before = self.replaced.len();
        self.drop_replaced();
        let entry = self.entries().find(|one| one.digest == digest);
        let contract = entry.map(|one| one.contract.clone());
        match contract.filter(|_| self.replaced.len() < before) {
            Some(contract) => {
                self.keep_replaced()?;
                Ok(StandingFault::Successor { contract, source })
            }
            None => Ok(StandingFault::Contract(source)),
        }
    }

    /// Contracts that the set names as standing and that are not here.
    pub fn missing(&self) -> Vec<Digest> {
        let standing = self.entries().filter(|one| !one.state.is_final());
        standing.map(|one| one.digest).filter(|digest| !self.has(digest)).collect()
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.roster.iter().flat_map(|roster| &roster.entries)
    }

    fn has(&self, digest: &Digest) -> bool {
        let folder = self.from_folder.contracts.iter();
        folder.chain(&self.from_space).any(|contract| contract.digest() == *digest)
    }

    pub fn in_force(&self) -> InForce {
        let entries = || self.roster.iter().flat_map(|roster| &roster.entries);
        let with = |state| {
            let found = entries().filter(move |one| one.state == state);
            found.map(|one| one.contract.clone()).collect()
        };
        let is_over = |contract: &&Contract| {
            entries().any(|one| one.contract == *contract.id() && one.state.is_final())
        };
        let all = self.from_folder.contracts.iter().chain(&self.from_space).chain(&self.replaced);
        let standing: Vec<Contract> = all.filter(|contract| !is_over(contract)).cloned().collect();
        // There was a set, and it cannot be read: its contracts have not ended for that.
        let is_set_lost =
            self.roster.is_none() && self.metadata.epoch().map_or(true, |epoch| epoch > 0);
        let ended = entries().filter(|one| one.state.is_final());
        InForce {
            plan: Arc::new(Plan::compile(&standing, &self.descriptors)),
            standing: Standing {
                space: self.roster.as_ref().map(|roster| roster.space.clone()),
                issued: self.roster.as_ref().map(|roster| roster.issued),
                listed: with(ContractState::Active),
                suspended: with(ContractState::Suspended),
                revoked: with(ContractState::Revoked),
                ended: ended.map(|one| one.contract.clone()).collect(),
                is_uncertain: is_set_lost
                    || !self.folder.exists()
                    || !self.from_folder.refused.is_empty()
                    || self.finding == Some(Finding::SetBack),
            },
        }
    }

    /// When the space last said which contracts stand; leases count from there across restarts.
    pub fn confirmed_at(&self) -> Result<Option<WallTime>, StandingFault> {
        match self.finding {
            // That was another time.
            Some(Finding::SetBack) => Ok(None),
            // That was another space.
            _ if self.has_moved() => Ok(None),
            _ => Ok(self.metadata.confirmed_at()?),
        }
    }

    /// The configuration names another space than the one whose sets were taken.
    fn has_moved(&self) -> bool {
        let before = self.counted_space.as_deref();
        before.is_some_and(|space| self.own_space.check(space, Way::Disk).is_err())
    }

    /// The doubt is over, wherever it came from.
    pub fn note_confirmed(&self, at: WallTime) -> Result<(), StandingFault> {
        self.metadata.set_confirmed_at(at)?;
        Ok(self.metadata.set_doubt(None)?)
    }

    /// Nobody knows what stands: that outlives the program, as a medium asks no session.
    pub fn note_doubt(&self) -> Result<(), StandingFault> {
        let issued = self.roster.as_ref().map(|roster| roster.issued);
        // A set that is not on the disk will count when it comes again; one before it will not.
        let after = match self.is_unsaved {
            true => issued.map(|at| WallTime(at.0.saturating_sub(1))),
            false => issued,
        };
        let known = self.doubt()?.and_then(|doubt| doubt.after);
        Ok(self.metadata.set_doubt(Some(Doubt { after: after.max(known) }))?)
    }

    /// What was in doubt, and is still.
    pub fn doubt(&self) -> Result<Option<Doubt>, StandingFault> {
        Ok(self.metadata.doubt()?)
    }

    fn judge(&self, bytes: &[u8], way: Way) -> Result<Roster, StandingFault> {
        let roster = Roster::parse(bytes, &self.keys).map_err(StandingFault::Set)?;
        self.own_space.check(&roster.space, way)?;
        if roster.box_id != self.box_id {
            let (found, ours) = (roster.box_id, self.box_id.clone());
            return Err(StandingFault::OtherBox { found, ours });
        }
        // The set on the disk may be newer than the epoch beside it.
        let held = self.roster.as_ref().map_or(0, |roster| roster.epoch);
        let (found, known) = (roster.epoch, self.known_epoch(&roster.space)?.max(held));
        if found < known {
            return Err(StandingFault::Old { found, known });
        }
        if self.roster.as_ref().is_some_and(|kept| kept.epoch == found && *kept != roster) {
            return Err(StandingFault::Forked { epoch: found });
        }
        Ok(roster)
    }

    /// What was carried to the box; `None` when nothing was. It is gone afterwards, taken or refused, unless this disk
    /// could not keep it: the next look or start must find it then, as it may revoke. It confirms no session: nothing
    /// leaves for it.
    pub fn take_carried(&mut self) -> Option<Result<bool, StandingFault>> {
        let path = self.state.join(CARRIED_FILE);
        let taken = match read_carrier(&path) {
            Ok(None) => return None,
            Ok(Some(carrier)) => match self.handle_carrier(&carrier) {
                Err(fault @ (StandingFault::File { .. } | StandingFault::Metadata(_))) => {
                    return Some(Err(fault));
                }
                taken => taken,
            },
            Err(fault) => Err(fault),
        };
        let removed = std::fs::remove_file(&path);
        Some(taken.and_then(|changed| match removed {
            Ok(()) => Ok(changed),
            Err(source) => Err(StandingFault::File { path, source }),
        }))
    }

    fn handle_carrier(&mut self, carrier: &Carrier) -> Result<bool, StandingFault> {
        let mut has_changed = self.take_roster(carrier.set(), Way::Medium)?;
        for document in carrier.contracts() {
            match self.handle_document(document) {
                Ok(is_new) => has_changed |= is_new,
                // Nobody needs it.
                Err(StandingFault::NotListed { .. }) => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(has_changed)
    }

    /// Contracts of the set that are on disk; those that it no longer names go.
    fn read_kept(&mut self) {
        let listed: Vec<Digest> = {
            let entries = self.roster.iter().flat_map(|roster| &roster.entries);
            entries.filter(|one| !one.state.is_final()).map(|one| one.digest).collect()
        };
        let known = std::mem::take(&mut self.from_space);
        let (known, gone): (Vec<Contract>, Vec<Contract>) =
            known.into_iter().partition(|contract| listed.contains(&contract.digest()));
        self.from_space = known;
        for digest in listed {
            if !self.from_space.iter().any(|contract| contract.digest() == digest) {
                self.from_space.extend(self.read_file(&digest));
            }
        }
        self.replaced.extend(gone);
        self.drop_replaced();
    }

    /// A contract that was kept; `None` for one that is not there, or not as it was.
    fn read_file(&self, digest: &Digest) -> Option<Contract> {
        let path = self.path_of(digest);
        let short =
            std::fs::metadata(&path).is_ok_and(|file| file.len() <= CONTRACT_BYTES_MAX as u64);
        let bytes = short.then(|| std::fs::read(&path).ok()).flatten()?;
        match Contract::parse(&bytes, &self.keys) {
            Ok(contract) if contract.digest() == *digest => return Some(contract),
            Ok(_) => tracing::warn!(path = %path.display(), "a kept contract is another one"),
            Err(fault) => tracing::warn!(path = %path.display(), %fault, "a kept contract"),
        }
        None
    }

    /// Of the versions that were replaced, only those stay whose successor is still to come.
    fn drop_replaced(&mut self) {
        let missing = self.missing();
        let awaited: BTreeSet<ContractId> = {
            let awaited = self.entries().filter(|one| {
                missing.contains(&one.digest) && !self.refused_successors.contains(&one.digest)
            });
            awaited.map(|one| one.contract.clone()).collect()
        };
        self.replaced.retain(|contract| awaited.contains(contract.id()));
    }

    fn read_replaced(&self) -> Vec<Contract> {
        let path = self.state.join(REPLACED_FILE);
        let file = std::fs::read(&path).ok();
        let digests = file.and_then(|file| serde_json::from_slice::<Vec<String>>(&file).ok());
        let digests = digests.unwrap_or_default();
        let digests = digests.iter().take(CONTRACTS_MAX).filter_map(|text| Digest::from_hex(text));
        digests.filter_map(|digest| self.read_file(&digest)).collect()
    }

    fn keep_replaced(&self) -> Result<(), StandingFault> {
        let path = self.state.join(REPLACED_FILE);
        let digests: Vec<String> =
            self.replaced.iter().map(|contract| contract.digest().to_string()).collect();
        if digests.is_empty() && !path.exists() {
            return Ok(());
        }
        let text = serde_json::to_string(&digests).expect("a list of texts is JSON");
        replace(&path, text.as_bytes()).map_err(|source| StandingFault::File { path, source })
    }

    fn path_of(&self, digest: &Digest) -> PathBuf {
        self.state.join(format!("{digest}.json"))
    }
}

/// The digest that a contract file would have, whatever is wrong with it.
fn digest_of(bytes: &[u8]) -> Option<Digest> {
    let file: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let contract = file.get("contract").unwrap_or(&file);
    Some(Digest::of(&canonical_json(contract)))
}

/// Leaves a carrier for the program that runs now or next, if it is for this box and not older than what is
/// there. Gives the set that it carries.
pub fn leave_carrier(
    config: &guan_configs::EdgeConfig,
    keys: &TrustedKeys,
    file: &Path,
) -> Result<Roster, StandingFault> {
    let failed = |source| StandingFault::File { path: file.to_path_buf(), source };
    let carrier = read_carrier(file)?;
    let carrier = carrier.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    let roster = Roster::parse(carrier.set(), keys).map_err(StandingFault::Set)?;
    let own = OwnSpace::read(config);
    own.check(&roster.space, Way::Medium)?;
    if roster.box_id != config.box_id {
        let (found, ours) = (roster.box_id, config.box_id.clone());
        return Err(StandingFault::OtherBox { found, ours });
    }
    let folder = config.state_dir.join(CONTRACTS_DIR);
    let kept = std::fs::read(folder.join(ROSTER_FILE)).ok();
    let kept = kept.and_then(|bytes| Roster::parse(&bytes, keys).ok());
    // Epochs of another space say nothing.
    let kept = kept.filter(|kept| kept.space == roster.space);
    if let Some(known) = kept.map(|kept| kept.epoch).filter(|known| *known > roster.epoch) {
        return Err(StandingFault::Old { found: roster.epoch, known });
    }
    for document in carrier.contracts() {
        Contract::parse(document, keys).map_err(StandingFault::Contract)?;
    }
    let path = folder.join(CARRIED_FILE);
    let failed = |source| StandingFault::File { path: path.clone(), source };
    guan_spool::create_folder(&folder).map_err(failed)?;
    let text =
        carrier.encode().map_err(|source| StandingFault::Carrier { path: path.clone(), source })?;
    replace(&path, String::from_utf8_lossy(&text).as_bytes()).map_err(failed)?;
    Ok(roster)
}

/// Whether what was left is still there.
pub fn carrier_waits(state_dir: &Path) -> bool {
    state_dir.join(CONTRACTS_DIR).join(CARRIED_FILE).exists()
}

fn read_carrier(path: &Path) -> Result<Option<Carrier>, StandingFault> {
    let failed = |source| StandingFault::File { path: path.to_path_buf(), source };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(fault) => return Err(failed(fault)),
    };
    let mut bytes = Vec::new();
    io::Read::take(file, CARRIER_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    let parsed = Carrier::parse(&bytes);
    parsed.map(Some).map_err(|source| StandingFault::Carrier { path: path.to_path_buf(), source })
}

#[cfg(test)]
mod tests;
