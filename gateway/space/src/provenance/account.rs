//! Metering (计量): what each box's log says was kept and sent under each contract, day by day, what of it is
//! proven, and what is stored here. The three agree, or the difference is shown.
//!
//! Days are those of the box's clock: each batch that the log names is looked up in the store.

use super::{ProvenanceFault, Source, boxes, open_disk, said};
use crate::logs::folders::{self, OsFolders, WITNESS_DIR};
use crate::logs::keys::LogKeys;
use crate::run::STORE_DIR;
use crate::store::{StoredRecord, read_all};
use guan_evidence::account::{Account, Fate, Fates, Line, LineKey, Places, Sum};
use guan_evidence::{Leaf, LeafBody, Tree, leaf_hash};
use guan_model::{BoxId, ContractId, WallTime};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// What was received so long before the witness saw a head must be told of under it: the longest
/// `evidence.checkpoint_interval_s` of a box, and ten minutes to show the head.
pub const COPY_LAG_MAX: Duration = Duration::from_secs(86_400 + 600);

/// A contract on a day, seen from both ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BothEnds {
    /// As the box's log says; `proven` is under a head that witness and mirror signed.
    pub line: Line,
    /// Of what was kept, in the store.
    pub received: Sum,
    /// In the log as received by this space, and not in the store.
    pub lost: Sum,
}

/// A contract in all: where the store has what the log does not tell of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unlogged {
    /// The copy of the log may not be that far yet.
    pub open: Sum,
    /// The copy is further: the box sent what it did not log.
    pub concealed: Sum,
    /// Readings that came, less those that the log tells of the same batches.
    pub rows_off: i64,
}

/// One box.
#[derive(Debug, Clone, Default)]
pub struct BoxAccount {
    pub lines: BTreeMap<LineKey, BothEnds>,
    /// In the store, whatever the log says.
    pub stored: BTreeMap<ContractId, Sum>,
    /// Only where there is any.
    pub unlogged: BTreeMap<ContractId, Unlogged>,
    /// Batches for which there was no line left.
    pub left_out: u64,
}

impl BoxAccount {
    /// What is on its way, or waits for its copied entry, is no difference.
    pub fn agrees(&self) -> bool {
        let is_whole = self.lines.values().all(|one| one.lost == Sum::default());
        let is_told = |one: &Unlogged| one.concealed == Sum::default() && one.rows_off == 0;
        is_whole && self.unlogged.values().all(is_told) && self.left_out == 0
    }
}

/// The copied logs of a box, and what they tell of batches.
#[derive(Default)]
struct Told {
    copies: Vec<boxes::Copy>,
    fates: Fates,
    batches: BTreeMap<ContractId, Places>,
    /// All that came before is told of.
    whole_until: Option<WallTime>,
}

impl Told {
    fn read(copies: Vec<boxes::Copy>) -> Result<Self, ProvenanceFault> {
        let fates = boxes::fates(&copies)?;
        let mut batches: BTreeMap<ContractId, Places> = BTreeMap::new();
        let mut spool = None;
        for (_, copy) in &copies {
            copy.reader.for_each(
                &mut |_, bytes| match Leaf::decode(bytes).map(|leaf| leaf.body) {
                    Ok(LeafBody::Start { spool: of_start, .. }) => spool = Some(of_start),
                    Ok(LeafBody::Batch(one)) => {
                        batches.entry(one.contract).or_default().insert(spool, one.stream, one.seq);
                    }
                    _ => {}
                },
            )?;
        }
        let seen = copies.last().and_then(|(_, copy)| copy.witnessed());
        let whole_until = seen.map(|at| at.saturating_sub(COPY_LAG_MAX));
        Ok(Self { copies, fates, batches, whole_until })
    }
}

/// What the store has of a box under a contract.
#[derive(Debug, Clone, Default)]
struct Held {
    places: Places,
    sum: Sum,
    unlogged: Unlogged,
}

type Store = BTreeMap<BoxId, BTreeMap<ContractId, Held>>;

/// All boxes that have sent something or whose log is copied.
pub fn accounts(
    state_dir: &Path,
    space: &str,
) -> Result<BTreeMap<BoxId, BoxAccount>, ProvenanceFault> {
    let keys = LogKeys::open(state_dir, space)?;
    let folders = OsFolders::new(state_dir);
    let path = folders.path(&[WITNESS_DIR]);
    let watched = folders::boxes(&folders, WITNESS_DIR);
    let watched = watched.map_err(|source| ProvenanceFault::Open { path, source })?;
    // Logs first, then the store: what they say was received is in the store by now.
    let mut told = BTreeMap::new();
    for box_id in watched {
        let copies = boxes::copies(&folders, &box_id, &keys)?;
        told.insert(box_id, Told::read(copies)?);
    }
    let store = held(state_dir, &told)?;
    for box_id in store.keys() {
        told.entry(box_id.clone()).or_default();
    }
    let nothing = BTreeMap::new();
    let mut accounts = BTreeMap::new();
    for (box_id, told) in &told {
        accounts.insert(box_id.clone(), account(told, store.get(box_id).unwrap_or(&nothing))?);
    }
    Ok(accounts)
}

fn held(state_dir: &Path, told: &BTreeMap<BoxId, Told>) -> Result<Store, ProvenanceFault> {
    let mut store = Store::new();
    read_all(&open_disk(&state_dir.join(STORE_DIR))?, &mut |record| {
        let StoredRecord::Batch(one) = record else { return Ok(()) };
        let contracts = store.entry(one.box_id.clone()).or_default();
        let held = contracts.entry(one.contract.clone()).or_default();
        let sum = Sum { batches: 1, rows: u64::from(one.rows) };
        held.places.insert(Some(one.spool), one.stream, one.seq);
        held.sum.add(sum);
        let of_box = told.get(&one.box_id);
        let batches = of_box.and_then(|told| told.batches.get(&one.contract));
        if batches.is_some_and(|told| told.contains(Some(one.spool), one.stream, one.seq)) {
            return Ok(());
        }
        let whole_until = of_box.and_then(|told| told.whole_until);
        match whole_until.is_some_and(|until| one.received < until) {
            true => held.unlogged.concealed.add(sum),
            false => held.unlogged.open.add(sum),
        }
        Ok(())
    })?;
    Ok(store)
}

fn account(told: &Told, here: &BTreeMap<ContractId, Held>) -> Result<BoxAccount, ProvenanceFault> {
    let mut account = Account::new(&told.fates);
    let mut lines: BTreeMap<LineKey, BothEnds> = BTreeMap::new();
    let mut found: BTreeMap<ContractId, Sum> = BTreeMap::new();
    for (_, copy) in &told.copies {
        let proven = copy.proven_size()?;
        copy.reader.for_each(&mut |index, bytes| {
            let Ok(leaf) = Leaf::decode(bytes) else { return };
            let Some(one) = account.handle_leaf(&leaf, index < proven) else { return };
            let LeafBody::Batch(batch) = &leaf.body else { return };
            let held = here.get(&batch.contract);
            let is_here =
                held.is_some_and(|held| held.places.contains(one.spool, batch.stream, batch.seq));
            if is_here {
                lines.entry(one.key).or_default().received.add(one.sum);
                found.entry(batch.contract.clone()).or_default().add(one.sum);
            } else if one.fate == Some(Fate::Sent) {
                lines.entry(one.key).or_default().lost.add(one.sum);
            }
        })?;
    }
    let left_out = account.left_out();
    for (key, line) in account.lines() {
        lines.entry(key).or_default().line = line;
    }
    let mut both = BoxAccount { lines, left_out, ..BoxAccount::default() };
    for (contract, held) in here {
        both.stored.insert(contract.clone(), held.sum);
        let Unlogged { open, concealed, .. } = held.unlogged;
        let told_rows = found.get(contract).map_or(0, |sum| sum.rows);
        let rows = [held.sum.rows, open.rows, concealed.rows, told_rows].map(i128::from);
        let off = rows[0] - rows[1] - rows[2] - rows[3];
        let rows_off = i64::try_from(off).unwrap_or(if off < 0 { i64::MIN } else { i64::MAX });
        let unlogged = Unlogged { rows_off, ..held.unlogged };
        if unlogged != Unlogged::default() {
            both.unlogged.insert(contract.clone(), unlogged);
        }
    }
    Ok(both)
}

impl Source {
    /// How many leaves are under the vouched head, when they lead to its root; otherwise none is proven.
    fn proven_size(&self) -> Result<u64, ProvenanceFault> {
        let Some(head) = self.vouched() else { return Ok(0) };
        let mut tree = Tree::new();
        self.reader.for_each(&mut |index, bytes| {
            if index < head.size {
                tree.append(leaf_hash(bytes));
            }
        })?;
        let holds = tree.size() == head.size && tree.root() == head.root;
        Ok(if holds { head.size } else { 0 })
    }

    /// When the space's witness signed the head that is here whole.
    fn witnessed(&self) -> Option<WallTime> {
        let (_, text) = self.head.as_ref()?;
        let seconds = said(text, self.witness.as_ref())?;
        i64::try_from(seconds).ok().map(WallTime::from_seconds)
    }
}
