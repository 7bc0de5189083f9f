//! A folder with one record a negotiation, written by rename, under a lock that ends with its holder.

use guan_model::{Digest, IdFault, Now};
use guan_policy::negotiation::{
    CommandFault, Limits, Negotiation, Parties, Pid, RECORD_BYTES_MAX, RecordFault, Role, Terms,
};
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Most negotiations with one peer that are not over.
pub const OPEN_MAX: usize = 64;
/// Most that are over and still shown; the oldest goes first.
pub const FINISHED_MAX: usize = 64;
const EXTENSION: &str = "negotiation";
const LOCK_FILE: &str = "lock";
const PID_PREFIX: &str = "urn:uuid:";

/// Why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerFault {
    #[error("{path} cannot be used: check the disk and its rights")]
    File { path: PathBuf, source: io::Error },
    #[error("{path} cannot be read; move it away to go on without this negotiation")]
    Record { path: PathBuf, source: RecordFault },
    #[error("there is no negotiation {pid}; `negotiate list` shows those that there are")]
    Unknown { pid: String },
    #[error("{OPEN_MAX} negotiations with {peer} are open, which is the limit; end one of them")]
    Full { peer: String },
    #[error(transparent)]
    Name(#[from] IdFault),
    #[error(transparent)]
    Command(#[from] CommandFault),
    #[error("the system gives no random bytes")]
    Random,
}

/// Where the negotiations with one peer are kept.
#[derive(Debug, Clone)]
pub struct Ledger {
    folder: PathBuf,
    role: Role,
    peer: String,
    callback: String,
    limits: Limits,
}

/// A record and what it says.
#[derive(Debug, Clone)]
pub struct Found {
    pub pid: Pid,
    pub negotiation: Negotiation,
    written: SystemTime,
    digest: Digest,
}

impl Ledger {
    /// `callback` is where this end takes messages, as the protocol wants to know it.
    pub fn new(folder: &Path, role: Role, peer: &str, callback: &str) -> Self {
        let (folder, limits) = (folder.to_owned(), Limits::default());
        Self { folder, role, peer: peer.to_owned(), callback: callback.to_owned(), limits }
    }

    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    pub fn peer(&self) -> &str {
        &self.peer
    }

    pub fn role(&self) -> Role {
        self.role
    }

    /// When a record last came, went or changed; `None` when there was never one.
    pub(crate) fn changed_at(&self) -> Option<SystemTime> {
        fs::metadata(&self.folder).and_then(|folder| folder.modified()).ok()
    }

    /// Waits for whoever has the ledger open, which is never for long.
    pub fn open(&self) -> Result<Opened<'_>, LedgerFault> {
        let fault = |path: &Path| {
            let path = path.to_owned();
            move |source| LedgerFault::File { path, source }
        };
        let above = self.folder.parent().unwrap_or(&self.folder);
        fs::create_dir_all(&self.folder)
            .and_then(|()| File::open(above)?.sync_all())
            .map_err(fault(&self.folder))?;
        let path = self.folder.join(LOCK_FILE);
        let lock = File::options().create(true).append(true).open(&path).map_err(fault(&path))?;
        lock.lock().map_err(fault(&path))?;
        Ok(Opened { ledger: self, _lock: lock })
    }
}

/// The ledger under its lock.
#[derive(Debug)]
pub struct Opened<'a> {
    ledger: &'a Ledger,
    _lock: File,
}

impl Opened<'_> {
    /// Who negotiates, with a name for this end that nobody had before.
    pub(crate) fn new_parties(&self) -> Result<Parties, LedgerFault> {
        let mut bytes = [0_u8; 16];
        SystemRandom::new().fill(&mut bytes).map_err(|_| LedgerFault::Random)?;
        // RFC 9562, section 5.4: version 4, variant 10.
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let [a, b, c, d, e] = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
        let pid = Pid::parse(&format!("{PID_PREFIX}{a}-{b}-{c}-{d}-{e}"))?;
        let Ledger { role, peer, callback, .. } = self.ledger;
        Ok(Parties::new(*role, pid, peer, callback)?)
    }

    pub(crate) fn limits(&self) -> Limits {
        self.ledger.limits
    }

    /// Opens a negotiation with a proposal; it is said when the peer is next there.
    pub fn propose(&self, now: Now, proposal: Terms) -> Result<Pid, LedgerFault> {
        self.check_room(now)?;
        let negotiation = Negotiation::open(now, self.new_parties()?, proposal, self.limits())?;
        let pid = own_pid(&negotiation).clone();
        self.store(now, &negotiation)?;
        Ok(pid)
    }

    pub(crate) fn check_room(&self, now: Now) -> Result<(), LedgerFault> {
        let open = self.all(now)?.into_iter().filter(|found| !found.negotiation.is_done());
        match open.count() < OPEN_MAX {
            true => Ok(()),
            false => Err(LedgerFault::Full { peer: self.ledger.peer.clone() }),
        }
    }

    /// Changes one negotiation by a command; nothing is written when the command is refused.
    pub fn command(
        &self,
        now: Now,
        pid: &str,
        command: impl FnOnce(&mut Negotiation) -> Result<(), CommandFault>,
    ) -> Result<Negotiation, LedgerFault> {
        let mut negotiation = self.load(now, pid)?.negotiation;
        command(&mut negotiation)?;
        self.store(now, &negotiation)?;
        Ok(negotiation)
    }

    pub fn load(&self, now: Now, pid: &str) -> Result<Found, LedgerFault> {
        let unknown = || LedgerFault::Unknown { pid: pid.to_owned() };
        // The whole name or its beginning, as people type it.
        let mut all = self.paths()?.into_iter().filter(|(name, _)| {
            let typed = pid.strip_prefix(PID_PREFIX).unwrap_or(pid);
            typed.len() >= 8 && name.starts_with(typed)
        });
        let (Some((_, path)), None) = (all.next(), all.next()) else { return Err(unknown()) };
        self.read(now, &path)?.ok_or_else(unknown)
    }

    /// By name.
    pub fn all(&self, now: Now) -> Result<Vec<Found>, LedgerFault> {
        self.records(now, &mut |_, _| None)
    }

    /// All records; what `known` has for the bytes of one stands for it, as its clock went on.
    pub(crate) fn records(
        &self,
        now: Now,
        known: &mut dyn FnMut(&str, &Digest) -> Option<Negotiation>,
    ) -> Result<Vec<Found>, LedgerFault> {
        let mut all = Vec::new();
        for (name, path) in self.paths()? {
            match self.read_unless(now, &path, &mut |digest| known(&name, digest)) {
                Ok(found) => all.extend(found),
                // One that is damaged must not stop the others; it is shown whenever it is asked for.
                Err(fault @ LedgerFault::Record { .. }) => {
                    tracing::error!(%fault, "a negotiation is left aside");
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(all)
    }

    fn paths(&self) -> Result<BTreeMap<String, PathBuf>, LedgerFault> {
        let folder = &self.ledger.folder;
        let fault = |source| LedgerFault::File { path: folder.clone(), source };
        let mut paths = BTreeMap::new();
        for entry in fs::read_dir(folder).map_err(fault)? {
            let path = entry.map_err(fault)?.path();
            let is_record = path.extension().is_some_and(|extension| extension == EXTENSION);
            if let Some(name) = path.file_stem().and_then(|name| name.to_str())
                && is_record
            {
                paths.insert(name.to_owned(), path);
            }
        }
        Ok(paths)
    }

    fn read(&self, now: Now, path: &Path) -> Result<Option<Found>, LedgerFault> {
        self.read_unless(now, path, &mut |_| None)
    }

    fn read_unless(
        &self,
        now: Now,
        path: &Path,
        known: &mut dyn FnMut(&Digest) -> Option<Negotiation>,
    ) -> Result<Option<Found>, LedgerFault> {
        let fault = |source| LedgerFault::File { path: path.to_owned(), source };
        let about = fs::metadata(path).map_err(fault)?;
        let damaged = |source| LedgerFault::Record { path: path.to_owned(), source };
        let length = usize::try_from(about.len()).unwrap_or(usize::MAX);
        if length > RECORD_BYTES_MAX {
            return Err(damaged(RecordFault::TooLong { length }));
        }
        let bytes = fs::read(path).map_err(fault)?;
        let digest = Digest::of(&bytes);
        let negotiation = match known(&digest) {
            Some(negotiation) => negotiation,
            None => Negotiation::from_record(now, &bytes, self.ledger.limits).map_err(damaged)?,
        };
        let written = about.modified().map_err(fault)?;
        let pid = own_pid(&negotiation).clone();
        // A record of another peer that was copied here is not this peer's.
        let is_ours = negotiation.peer() == self.ledger.peer;
        Ok(is_ours.then_some(Found { pid, negotiation, written, digest }))
    }

    /// Durable when it returns.
    pub(crate) fn store(&self, now: Now, negotiation: &Negotiation) -> Result<Digest, LedgerFault> {
        let record = negotiation.to_record(now);
        let pid = own_pid(negotiation);
        let path = self.ledger.folder.join(format!("{}.{EXTENSION}", name_of(pid)));
        let draft = path.with_extension("part");
        let written = write_durably(&draft, &path, &self.ledger.folder, &record);
        written.map_err(|source| LedgerFault::File { path, source })?;
        if negotiation.is_done() {
            self.forget_oldest(now)?;
        }
        Ok(Digest::of(&record))
    }

    fn forget_oldest(&self, now: Now) -> Result<(), LedgerFault> {
        let mut done = self.all(now)?;
        done.retain(|found| found.negotiation.is_done());
        done.sort_by_key(|found| found.written);
        let surplus = done.len().saturating_sub(FINISHED_MAX);
        for found in &done[..surplus] {
            let name = name_of(&found.pid);
            let path = self.ledger.folder.join(format!("{name}.{EXTENSION}"));
            fs::remove_file(&path).map_err(|source| LedgerFault::File { path, source })?;
        }
        Ok(())
    }
}

impl Found {
    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }
}

/// How this end names a negotiation.
pub(crate) fn own_pid(negotiation: &Negotiation) -> &Pid {
    negotiation.pid(negotiation.role()).expect("an end always has its own name")
}

/// The file's name; our names have no character that a file's must not have.
pub(crate) fn name_of(pid: &Pid) -> &str {
    pid.as_str().strip_prefix(PID_PREFIX).unwrap_or(pid.as_str())
}

fn write_durably(draft: &Path, path: &Path, folder: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(draft)?;
    io::Write::write_all(&mut file, bytes)?;
    file.sync_all()?;
    fs::rename(draft, path)?;
    File::open(folder)?.sync_all()
}
