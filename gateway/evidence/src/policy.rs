//! Whom a checker believes: C2SP tlog-policy (<https://c2sp.org/tlog-policy>).
//!
//! A text with the keys of known logs, the keys of witnesses, groups of them, and the quorum: which
//! witnesses must have cosigned a checkpoint. Each name is in one group at most and stands after what
//! it refers to, so judging is one pass without recursion. The text is UTF-8 here, which the
//! specification recommends but does not demand. Policies are typed by people: faults name the line.

use crate::checkpoint::{CHECKPOINT_BYTES_MAX, Checkpoint, CheckpointError};
use crate::cosignature::{Cosignature, CosignatureKey};
use crate::epoch::epoch_number;
use crate::note::{KEY_NAME_BYTES_MAX, KeyFault, Note, NoteFault, VerifierKey};
use std::collections::BTreeSet;
use std::fmt;

/// Longest policy text.
pub const POLICY_BYTES_MAX: usize = 256 * 1024;
/// Most logs: the boxes of one evidence bundle.
pub const POLICY_LOGS_MAX: usize = 256;
/// Most witnesses; no more lines than that fit into a note anyway.
pub const POLICY_WITNESSES_MAX: usize = 64;
pub const POLICY_GROUPS_MAX: usize = 64;
/// Longest name of a witness or group.
pub const POLICY_NAME_BYTES_MAX: usize = KEY_NAME_BYTES_MAX;
/// The quorum that asks for no cosignature.
const NO_QUORUM: &str = "none";

/// Why a text is no policy; whoever wrote it is to blame. Lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyFault {
    #[error("the policy has {length} bytes; the limit is {POLICY_BYTES_MAX}")]
    TooLong { length: usize },
    #[error("line {line} has a control character; only tabs and newlines may stand in a policy")]
    Control { line: usize },
    #[error(
        "line {line} is none of `log KEY [URL]`, `witness NAME KEY [URL]`, `group NAME \
         all|any|NUMBER NAME...` and `quorum NAME`"
    )]
    Form { line: usize },
    #[error("line {line} has a key that cannot be used")]
    Key { line: usize, source: KeyFault },
    #[error("line {line} repeats the key of an earlier log or witness")]
    KeyTwice { line: usize },
    #[error("line {line}: the name {name:?} is `none`, too long or taken; give another")]
    Name { line: usize, name: String },
    #[error("line {line}: no earlier line defines {name:?}")]
    Unknown { line: usize, name: String },
    #[error("line {line}: {name:?} is in a group already; it may be in one only")]
    MemberTwice { line: usize, name: String },
    #[error("line {line}: the threshold {found:?} is not `all`, `any` or 1 to {members}")]
    Threshold { line: usize, found: String, members: usize },
    #[error("line {line} is one {what} too many; the limit is {max}")]
    TooMany { line: usize, what: &'static str, max: usize },
    #[error("line {line} is a second quorum; a policy has one")]
    QuorumTwice { line: usize },
    #[error("the policy has no quorum line; write `quorum none` to ask for no cosignature")]
    NoQuorum,
}

/// Why a checkpoint does not satisfy a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    #[error("the checkpoint cannot be trusted")]
    Checkpoint(#[from] CheckpointError),
    #[error("the policy knows no log {origin:?}; add a line `log` with its key")]
    UnknownLog { origin: String },
    #[error("the quorum {quorum:?} is not reached; cosigned by: {cosigned:?}")]
    Quorum { quorum: String, cosigned: Vec<String> },
}

impl From<NoteFault> for Distrust {
    fn from(fault: NoteFault) -> Self {
        Self::Checkpoint(fault.into())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct KnownLog {
    key: VerifierKey,
    url: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct KnownWitness {
    name: String,
    key: CosignatureKey,
    url: Option<String>,
}

/// A voter by its place in the list of witnesses or of groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Member {
    Witness(usize),
    Group(usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    name: String,
    /// 1 to the number of members.
    threshold: usize,
    /// Groups among them are earlier in the list.
    members: Vec<Member>,
}

/// Known logs, known witnesses, and which of them must agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    logs: Vec<KnownLog>,
    witnesses: Vec<KnownWitness>,
    groups: Vec<Group>,
    /// `None`: no cosignature is asked for.
    quorum: Option<Member>,
}

/// A checkpoint that satisfies a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trusted {
    pub checkpoint: Checkpoint,
    /// Keys of the log that signed it.
    pub signed: Vec<VerifierKey>,
    /// Known witnesses that cosigned, by their names in the policy, whether the quorum needs them or not.
    pub cosigned: Vec<(String, Cosignature)>,
}

impl Policy {
    /// A policy of logs alone, which asks for no witness.
    pub fn of_logs(logs: &[VerifierKey]) -> Result<Self, PolicyFault> {
        let text: String = logs.iter().map(|key| format!("log {key}\n")).collect();
        Self::parse(&(text + "quorum none\n"))
    }

    pub fn parse(text: &str) -> Result<Self, PolicyFault> {
        if text.len() > POLICY_BYTES_MAX {
            return Err(PolicyFault::TooLong { length: text.len() });
        }
        let mut reader = PolicyReader::default();
        for (at, line) in text.split('\n').enumerate() {
            reader.line = at + 1;
            reader.read(line)?;
        }
        let quorum = reader.quorum.ok_or(PolicyFault::NoQuorum)?;
        Ok(Self { quorum, ..reader.policy })
    }

    /// Demands a good signature of a known log whose name is the origin, or of which the origin is an epoch by the
    /// same key, and cosignatures by a quorum.
    /// A forged line of any known key spoils the checkpoint.
    pub fn check(&self, checkpoint: &str) -> Result<Trusted, Distrust> {
        if checkpoint.len() > CHECKPOINT_BYTES_MAX {
            let length = checkpoint.len();
            return Err(CheckpointError::TooLong { length }.into());
        }
        let note = Note::parse(checkpoint)?;
        let head = Checkpoint::of_note(&note)?;
        let signed = self.check_log(&note, &head.origin)?;
        let mut cosigned = Vec::new();
        let mut voted = vec![false; self.witnesses.len()];
        for (witness, voted) in self.witnesses.iter().zip(&mut voted) {
            if let Some(latest) = note.statements(&witness.key)?.into_iter().max() {
                cosigned.push((witness.name.clone(), latest));
                *voted = true;
            }
        }
        if !self.reached(&voted) {
            let quorum = self.quorum.map_or(NO_QUORUM, |member| self.name(member)).to_owned();
            let cosigned = cosigned.into_iter().map(|(name, _)| name).collect();
            return Err(Distrust::Quorum { quorum, cosigned });
        }
        Ok(Trusted { checkpoint: head, signed, cosigned })
    }

    /// The keys that signed.
    fn check_log(&self, note: &Note<'_>, origin: &str) -> Result<Vec<VerifierKey>, Distrust> {
        let of_log = |log: &&KnownLog| epoch_number(log.key.name(), origin).is_some();
        let keys: Vec<&VerifierKey> = self.logs.iter().filter(of_log).map(|log| &log.key).collect();
        if keys.is_empty() {
            return Err(Distrust::UnknownLog { origin: origin.to_owned() });
        }
        let mut signed = Vec::new();
        for signer in keys.iter().flat_map(|key| key.signers_of(origin)) {
            if !note.statements(&signer)?.is_empty() {
                signed.push(signer);
            }
        }
        let key = || keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match signed.is_empty() {
            true => Err(NoteFault::OtherKeys { key: key() }.into()),
            false => Ok(signed),
        }
    }

    fn reached(&self, witnesses: &[bool]) -> bool {
        let mut groups: Vec<bool> = Vec::new();
        let voted = |member: &Member, groups: &[bool]| match *member {
            Member::Witness(at) => witnesses[at],
            Member::Group(at) => groups[at],
        };
        for group in &self.groups {
            let votes = group.members.iter().filter(|member| voted(member, &groups)).count();
            groups.push(votes >= group.threshold);
        }
        self.quorum.is_none_or(|member| voted(&member, &groups))
    }

    fn name(&self, member: Member) -> &str {
        match member {
            Member::Witness(at) => &self.witnesses[at].name,
            Member::Group(at) => &self.groups[at].name,
        }
    }

    /// The same with one key more; the limit holds for what is written down.
    #[must_use]
    pub(crate) fn with_log_key(&self, key: VerifierKey) -> Self {
        let mut policy = self.clone();
        policy.logs.push(KnownLog { key, url: None });
        policy
    }

    /// Keys of the known logs; the name of each is its origin.
    pub fn log_keys(&self) -> impl Iterator<Item = &VerifierKey> {
        self.logs.iter().map(|log| &log.key)
    }

    /// Name, key and URL of each known witness.
    pub fn witnesses(&self) -> impl Iterator<Item = (&str, &CosignatureKey, Option<&str>)> {
        self.witnesses.iter().map(|known| (&*known.name, &known.key, known.url.as_deref()))
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url =
            |url: &Option<String>| url.as_ref().map_or(String::new(), |url| format!(" {url}"));
        for log in &self.logs {
            writeln!(f, "log {}{}", log.key, url(&log.url))?;
        }
        for known in &self.witnesses {
            writeln!(f, "witness {} {}{}", known.name, known.key, url(&known.url))?;
        }
        for group in &self.groups {
            write!(f, "group {} {}", group.name, group.threshold)?;
            group.members.iter().try_for_each(|member| write!(f, " {}", self.name(*member)))?;
            writeln!(f)?;
        }
        writeln!(f, "quorum {}", self.quorum.map_or(NO_QUORUM, |member| self.name(member)))
    }
}

/// Takes a policy line by line.
struct PolicyReader {
    line: usize,
    policy: Policy,
    keys_of_logs: BTreeSet<[u8; 32]>,
    keys_of_witnesses: BTreeSet<[u8; 32]>,
    /// Names that are members of a group.
    members: BTreeSet<String>,
    quorum: Option<Option<Member>>,
}

impl Default for PolicyReader {
    fn default() -> Self {
        let (logs, witnesses, groups) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            line: 0,
            policy: Policy { logs, witnesses, groups, quorum: None },
            keys_of_logs: BTreeSet::new(),
            keys_of_witnesses: BTreeSet::new(),
            members: BTreeSet::new(),
            quorum: None,
        }
    }
}

impl PolicyReader {
    fn read(&mut self, text: &str) -> Result<(), PolicyFault> {
        let line = self.line;
        if text.bytes().any(|byte| (byte < b' ' && byte != b'\t') || byte == 0x7F) {
            return Err(PolicyFault::Control { line });
        }
        let items: Vec<&str> = text.split([' ', '\t']).filter(|item| !item.is_empty()).collect();
        match *items.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with('#') => Ok(()),
            ["log", key] => self.log(key, None),
            ["log", key, url] => self.log(key, Some(url)),
            ["witness", name, key] => self.witness(name, key, None),
            ["witness", name, key, url] => self.witness(name, key, Some(url)),
            ["group", name, threshold, ref members @ ..] if !members.is_empty() => {
                self.group(name, threshold, members)
            }
            ["quorum", name] => self.set_quorum(name),
            _ => Err(PolicyFault::Form { line }),
        }
    }

    fn room(&self, count: usize, max: usize, what: &'static str) -> Result<(), PolicyFault> {
        let line = self.line;
        (count < max).then_some(()).ok_or(PolicyFault::TooMany { line, what, max })
    }

    fn log(&mut self, key: &str, url: Option<&str>) -> Result<(), PolicyFault> {
        let line = self.line;
        self.room(self.policy.logs.len(), POLICY_LOGS_MAX, "log")?;
        let key = VerifierKey::parse(key).map_err(|source| PolicyFault::Key { line, source })?;
        if !self.keys_of_logs.insert(key.key_bytes()) {
            return Err(PolicyFault::KeyTwice { line });
        }
        self.policy.logs.push(KnownLog { key, url: url.map(str::to_owned) });
        Ok(())
    }

    fn witness(&mut self, name: &str, key: &str, url: Option<&str>) -> Result<(), PolicyFault> {
        let line = self.line;
        self.room(self.policy.witnesses.len(), POLICY_WITNESSES_MAX, "witness")?;
        let name = self.new_name(name)?;
        let key = CosignatureKey::parse(key).map_err(|source| PolicyFault::Key { line, source })?;
        if !self.keys_of_witnesses.insert(key.key_bytes()) {
            return Err(PolicyFault::KeyTwice { line });
        }
        self.policy.witnesses.push(KnownWitness { name, key, url: url.map(str::to_owned) });
        Ok(())
    }

    fn group(&mut self, name: &str, threshold: &str, members: &[&str]) -> Result<(), PolicyFault> {
        let line = self.line;
        self.room(self.policy.groups.len(), POLICY_GROUPS_MAX, "group")?;
        let name = self.new_name(name)?;
        let count = members.len();
        let number = match threshold {
            "all" => Some(count),
            "any" => Some(1),
            number => crate::text::parse_number(number).and_then(|k| usize::try_from(k).ok()),
        };
        let found = threshold.to_owned();
        let threshold = number
            .filter(|k| (1..=count).contains(k))
            .ok_or(PolicyFault::Threshold { line, found, members: count })?;
        let mut voters = Vec::new();
        for member in members {
            voters.push(self.find(member)?);
            if !self.members.insert((*member).to_owned()) {
                return Err(PolicyFault::MemberTwice { line, name: (*member).to_owned() });
            }
        }
        self.policy.groups.push(Group { name, threshold, members: voters });
        Ok(())
    }

    fn set_quorum(&mut self, name: &str) -> Result<(), PolicyFault> {
        if self.quorum.is_some() {
            return Err(PolicyFault::QuorumTwice { line: self.line });
        }
        let member = if name == NO_QUORUM { None } else { Some(self.find(name)?) };
        self.quorum = Some(member);
        Ok(())
    }

    fn position(&self, name: &str) -> Option<Member> {
        let witness = self.policy.witnesses.iter().position(|known| known.name == name);
        let group = || self.policy.groups.iter().position(|group| group.name == name);
        witness.map(Member::Witness).or_else(|| group().map(Member::Group))
    }

    fn find(&self, name: &str) -> Result<Member, PolicyFault> {
        let unknown = || PolicyFault::Unknown { line: self.line, name: name.to_owned() };
        self.position(name).ok_or_else(unknown)
    }

    fn new_name(&self, name: &str) -> Result<String, PolicyFault> {
        let fits = name != NO_QUORUM && name.len() <= POLICY_NAME_BYTES_MAX;
        match fits && self.position(name).is_none() {
            true => Ok(name.to_owned()),
            false => Err(PolicyFault::Name { line: self.line, name: name.to_owned() }),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
