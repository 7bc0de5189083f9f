//! The durable half of MQTT sessions: which clients have one, and which QoS 2 packet ids they hold.
//!
//! QoS 2 is exactly once only if the receiver remembers an id from the first PUBLISH until the PUBREL,
//! across kill -9. So each change is a delta that goes into the same commit as the rows it belongs
//! to; every new segment starts with a snapshot, so that recovery needs the tail only.
//!
//! Never here: sockets, packets, time.

use guan_model::bytes_io::{ReadFault, Reader, Writer};
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::sync::Arc;

/// Most sessions that are kept; the one unused for longest without held ids gives way.
pub const SESSIONS_MAX: usize = 4096;
/// Most packet ids held in all sessions together.
pub const HELD_IDS_MAX: usize = 65_536;
const CLIENT_ID_BYTES_MAX: usize = 128;

/// Why a packet id cannot be held; the operator sets the number of clients and their windows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerFull {
    #[error("{HELD_IDS_MAX} QoS 2 packet ids are held; wait until clients release theirs")]
    Ids,
    #[error("{SESSIONS_MAX} sessions are kept, all with unreleased QoS 2 messages")]
    Sessions,
}

/// Why a snapshot or delta from the disk makes no sense: a bug, or another program wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerFault {
    #[error("the session record cannot be read")]
    Read(#[from] ReadFault),
    #[error(
        "the session record has the unknown operation {code}: a later release of guan wrote it; start that release"
    )]
    Operation { code: u8 },
    #[error("the session record has the client id of {length} bytes, or packet id 0")]
    Value { length: usize },
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Session {
    held: BTreeSet<NonZeroU16>,
    /// Larger is more recent; only orders sessions for eviction.
    used: u64,
}

/// All sessions. Changes are applied at once and noted as a delta until it is taken for the commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionLedger {
    sessions: BTreeMap<Arc<str>, Session>,
    held: usize,
    uses: u64,
    delta: Vec<u8>,
    undo: Vec<Undo>,
}

/// The inverse of one change since the last commit.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Undo {
    Open(Arc<str>),
    Forget(Arc<str>, Session),
    Hold(Arc<str>, NonZeroU16),
    Release(Arc<str>, NonZeroU16),
}

#[derive(Clone, Copy)]
enum Operation {
    Open = 1,
    Forget = 2,
    Hold = 3,
    Release = 4,
    /// Many ids of one client, whose name stands there once.
    HoldAll = 5,
}

impl SessionLedger {
    /// From the snapshot of the last segment and the deltas after it.
    pub fn recover(snapshot: &[u8], deltas: &[impl AsRef<[u8]>]) -> Result<Self, LedgerFault> {
        let mut ledger = Self::default();
        ledger.replay(snapshot)?;
        for delta in deltas {
            ledger.replay(delta.as_ref())?;
        }
        ledger.handle_committed();
        Ok(ledger)
    }

    pub fn is_known(&self, client: &str) -> bool {
        self.sessions.contains_key(client)
    }

    pub fn holds(&self, client: &str, id: NonZeroU16) -> bool {
        self.sessions.get(client).is_some_and(|session| session.held.contains(&id))
    }

    pub fn held_ids(&self, client: &str) -> Vec<NonZeroU16> {
        self.sessions.get(client).map_or_else(Vec::new, |s| s.held.iter().copied().collect())
    }

    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Starts or resumes a session.
    pub fn open(&mut self, client: &Arc<str>) -> Result<(), LedgerFull> {
        if !self.sessions.contains_key(client) && self.sessions.len() >= SESSIONS_MAX {
            self.evict()?;
        }
        self.uses += 1;
        let used = self.uses;
        match self.sessions.get_mut(client) {
            Some(session) => session.used = used,
            None => {
                self.sessions.insert(client.clone(), Session { held: BTreeSet::new(), used });
                self.note(Operation::Open, client, None);
                self.undo.push(Undo::Open(client.clone()));
            }
        }
        Ok(())
    }

    /// Ends a session and forgets what it held.
    pub fn forget(&mut self, client: &str) {
        if let Some(session) = self.sessions.remove(client) {
            self.held -= session.held.len();
            self.note(Operation::Forget, client, None);
            self.undo.push(Undo::Forget(Arc::from(client), session));
        }
    }

    /// Remembers a QoS 2 packet id. `false` when it was held already.
    pub fn hold(&mut self, client: &Arc<str>, id: NonZeroU16) -> Result<bool, LedgerFull> {
        if self.holds(client, id) {
            return Ok(false);
        }
        if self.held >= HELD_IDS_MAX {
            return Err(LedgerFull::Ids);
        }
        self.open(client)?;
        let session = self.sessions.get_mut(client).expect("opened above");
        session.held.insert(id);
        self.held += 1;
        self.note(Operation::Hold, client, Some(id));
        self.undo.push(Undo::Hold(client.clone(), id));
        Ok(true)
    }

    pub fn release(&mut self, client: &str, id: NonZeroU16) {
        let released = self.sessions.get_mut(client).is_some_and(|s| s.held.remove(&id));
        if released {
            self.held -= 1;
            self.note(Operation::Release, client, Some(id));
            self.undo.push(Undo::Release(Arc::from(client), id));
        }
    }

    /// What changed since the last commit; empty when nothing did.
    pub fn delta(&self) -> &[u8] {
        &self.delta
    }

    /// The delta is durable.
    pub fn handle_committed(&mut self) {
        self.delta.clear();
        self.undo.clear();
    }

    /// The commit failed: everything since the last one is as if it had not been.
    pub fn rollback(&mut self) {
        for undo in std::mem::take(&mut self.undo).into_iter().rev() {
            match undo {
                Undo::Open(client) => self.forget(&client),
                Undo::Forget(client, session) => {
                    self.held += session.held.len();
                    self.sessions.insert(client, session);
                }
                Undo::Hold(client, id) => self.release(&client, id),
                Undo::Release(client, id) => {
                    if let Some(session) = self.sessions.get_mut(&client) {
                        self.held += usize::from(session.held.insert(id));
                    }
                }
            }
        }
        self.handle_committed();
    }

    /// Everything, as a delta against nothing.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut whole = Self::default();
        let mut order: Vec<_> = self.sessions.iter().collect();
        order.sort_by_key(|(_, session)| session.used);
        for (client, session) in order {
            whole.note(Operation::Open, client, None);
            if !session.held.is_empty() {
                whole.note_all(client, &session.held);
            }
        }
        whole.delta
    }

    fn note_all(&mut self, client: &str, ids: &BTreeSet<NonZeroU16>) {
        let count = u16::try_from(ids.len()).expect("a set of u16 without 0");
        let mut out = Writer::new();
        out.u8(Operation::HoldAll as u8);
        out.text(client);
        out.u16(count);
        ids.iter().for_each(|id| out.u16(id.get()));
        self.delta.extend_from_slice(&out.finish());
    }

    fn evict(&mut self) -> Result<(), LedgerFull> {
        let idle = self.sessions.iter().filter(|(_, session)| session.held.is_empty());
        let oldest = idle.min_by_key(|(_, session)| session.used).map(|(client, _)| client.clone());
        self.forget(&oldest.ok_or(LedgerFull::Sessions)?);
        Ok(())
    }

    fn note(&mut self, operation: Operation, client: &str, id: Option<NonZeroU16>) {
        let mut out = Writer::new();
        out.u8(operation as u8);
        out.text(client);
        if let Some(id) = id {
            out.u16(id.get());
        }
        self.delta.extend_from_slice(&out.finish());
    }

    fn replay(&mut self, record: &[u8]) -> Result<(), LedgerFault> {
        let mut reader = Reader::new(record);
        while reader.left() > 0 {
            let code = reader.u8()?;
            self.replay_one(code, &mut reader)?;
        }
        Ok(())
    }

    /// Takes in one operation of a record, whose code was read already.
    pub(crate) fn replay_one(
        &mut self,
        code: u8,
        reader: &mut Reader<'_>,
    ) -> Result<(), LedgerFault> {
        let client = reader.text()?;
        let fault = LedgerFault::Value { length: client.len() };
        if client.len() > CLIENT_ID_BYTES_MAX {
            return Err(fault);
        }
        let client: Arc<str> = Arc::from(client);
        let mut id = || -> Result<NonZeroU16, LedgerFault> {
            NonZeroU16::new(reader.u16()?).ok_or(fault.clone())
        };
        // A record that this program wrote keeps the limits, so fullness cannot occur here.
        let full = |_| LedgerFault::Value { length: 0 };
        match code {
            1 => self.open(&client).map_err(full)?,
            2 => self.forget(&client),
            3 => {
                let id = id()?;
                self.hold(&client, id).map_err(full)?;
            }
            4 => {
                let id = id()?;
                self.release(&client, id);
            }
            5 => {
                for _ in 0..reader.u16()? {
                    let id = NonZeroU16::new(reader.u16()?).ok_or(fault.clone())?;
                    self.hold(&client, id).map_err(full)?;
                }
            }
            code => return Err(LedgerFault::Operation { code }),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(number: u16) -> NonZeroU16 {
        NonZeroU16::new(number).unwrap()
    }

    proptest! {
        #[test]
        fn snapshot_and_deltas_agree(steps in prop::collection::vec((0_u8..4, 0_u8..4, 1_u16..6), 0..60),
                                     cut in 0_usize..60) {
            let mut ledger = SessionLedger::default();
            let (mut snapshot, mut deltas) = (Vec::new(), Vec::new());
            for (index, (what, client, number)) in steps.into_iter().enumerate() {
                if index == cut {
                    snapshot = ledger.snapshot();
                    deltas.clear();
                }
                let client: Arc<str> = Arc::from(format!("c{client}"));
                match what {
                    0 => ledger.open(&client).unwrap(),
                    1 => ledger.forget(&client),
                    2 => { ledger.hold(&client, id(number)).unwrap(); }
                    _ => ledger.release(&client, id(number)),
                }
                if number == 5 {
                    ledger.rollback();
                }
                deltas.push(ledger.delta().to_vec());
                ledger.handle_committed();
            }
            let again = SessionLedger::recover(&snapshot, &deltas).unwrap();
            prop_assert_eq!(again.held, ledger.held);
            for client in ["c0", "c1", "c2", "c3"] {
                prop_assert_eq!(again.is_known(client), ledger.is_known(client));
                prop_assert_eq!(again.held_ids(client), ledger.held_ids(client));
            }
        }

        #[test]
        fn any_record_gives_an_answer(record: Vec<u8>) {
            let _ = SessionLedger::recover(&record, &[] as &[Vec<u8>]);
        }
    }

    #[test]
    fn ids_are_limited() {
        let mut ledger = SessionLedger::default();
        let client: Arc<str> = Arc::from("a");
        let other: Arc<str> = Arc::from("b");
        for number in 1..=u16::MAX {
            assert_eq!(ledger.hold(&client, id(number)), Ok(true));
        }
        assert_eq!(ledger.hold(&other, id(1)), Ok(true));
        assert_eq!(ledger.hold(&other, id(2)), Err(LedgerFull::Ids));
        assert_eq!(ledger.hold(&other, id(1)), Ok(false));
        ledger.release(&client, id(9));
        assert_eq!(ledger.hold(&other, id(2)), Ok(true));
    }

    /// Snapshots stand in the headers of segments, which hold 8 MiB.
    #[test]
    fn the_fullest_ledger_has_a_short_snapshot() {
        let mut ledger = SessionLedger::default();
        let client = |number: usize| Arc::from(format!("{number:0>CLIENT_ID_BYTES_MAX$}"));
        for number in 0..SESSIONS_MAX {
            ledger.open(&client(number)).unwrap();
        }
        for number in 1..=u16::MAX {
            ledger.hold(&client(0), id(number)).unwrap();
        }
        ledger.hold(&client(1), id(1)).unwrap();
        assert_eq!(ledger.hold(&client(1), id(2)), Err(LedgerFull::Ids));
        let snapshot = ledger.snapshot();
        assert!(snapshot.len() < 700 << 10, "{}", snapshot.len());
        let again = SessionLedger::recover(&snapshot, &[] as &[Vec<u8>]).unwrap();
        assert_eq!((again.held, again.len()), (HELD_IDS_MAX, SESSIONS_MAX));
        assert_eq!(again.snapshot(), snapshot);
    }

    #[test]
    fn the_longest_unused_session_gives_way() {
        let mut ledger = SessionLedger::default();
        for number in 0..SESSIONS_MAX {
            ledger.open(&Arc::from(format!("c{number}"))).unwrap();
        }
        ledger.hold(&Arc::from("c0"), id(1)).unwrap();
        ledger.open(&Arc::from("new")).unwrap();
        assert_eq!(ledger.len(), SESSIONS_MAX);
        assert!(ledger.is_known("c0") && !ledger.is_known("c1") && ledger.is_known("new"));
    }
}
