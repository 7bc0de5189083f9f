//! What contracts have used up: counters, rates, samples, windows, budgets. The only state of a decision.
//!
//! Every change is undone with the commit that it belongs to, and durable with it: `delta` is written
//! beside the rows that were decided, `snapshot` begins each segment, so that after kill -9 every
//! counter stands where the last durable row left it. A record names whole cells, so replaying one twice
//! changes nothing.
//!
//! Never here: which rule asks, what a row looks like.

mod group;
mod quantiles;
mod window;
mod wire;

pub(crate) use group::{Absorbed, Given, GroupWindows, Shared};
pub use window::AHEAD_MAX;
pub(crate) use window::{Place, Window};
pub use wire::UsageFault;

use crate::constraint::{Period, QuotaKey, Rate};
use guan_model::{ContractId, Digest, PointId, WallTime};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most bytes that all cells may take as a record: they begin each segment of the spool, with the sessions.
/// At the limit what would need another cell is not granted. Enough for 6,000 counters, or for 300
/// windows with percentiles.
pub const CELLS_BYTES_MAX: usize = 1_500_000;
/// Most that a cell takes, but for what `cost` adds.
const CELL_BYTES: usize = 240;

/// What a cell is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum CellKey {
    /// Readings or bytes of a contract in a period.
    Quota { contract: ContractId, key: QuotaKey },
    /// Each rate of a rule has a bucket of its own; `None` is one of an earlier program, which had one for
    /// all, and is asked no more.
    Rate { contract: ContractId, rule: Arc<str>, rate: Option<Rate> },
    /// Rows seen since the last that was kept.
    Sample { contract: ContractId, rule: Arc<str>, point: PointId },
    /// Epsilon spent in a period, in millionths.
    Budget { contract: ContractId, point: PointId, period: Period },
    /// Of a point, or of a group by the point on which its results leave.
    /// `rules`: the version of the contract and the list of prohibitions under which it was begun; zero for
    /// one of an earlier program, which did not say. `forbids`: places in that list of what is asked again
    /// when the result leaves.
    Window {
        contract: ContractId,
        rules: Digest,
        rule: Arc<str>,
        forbids: Vec<u16>,
        point: PointId,
    },
}

impl CellKey {
    /// Not less than its bytes in a record.
    fn cost(&self, cell: &Cell) -> usize {
        let forbids = match self {
            Self::Window { forbids, .. } => 2 * forbids.len(),
            _ => 0,
        };
        let window = match cell {
            Cell::Window(window) => window.bytes_max(),
            Cell::Group(group) => group.bytes_max(),
            Cell::Counter { .. } | Cell::Bucket { .. } => 0,
        };
        CELL_BYTES + forbids + window
    }

    pub(crate) fn contract(&self) -> &ContractId {
        match self {
            Self::Quota { contract, .. }
            | Self::Rate { contract, .. }
            | Self::Sample { contract, .. }
            | Self::Budget { contract, .. }
            | Self::Window { contract, .. } => contract,
        }
    }

    /// Whether it outlives its contract: a contract that comes back starts no new count, and windows end with
    /// a word in the log.
    fn is_kept_for_ever(&self) -> bool {
        matches!(self, Self::Quota { .. } | Self::Budget { .. } | Self::Window { .. })
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Counter { period: i64, used: u64 },
    Bucket { left_nanos: u64, at: WallTime },
    Window(Box<Window>),
    Group(Box<GroupWindows>),
}

impl Cell {
    fn is_windows(&self) -> bool {
        matches!(self, Self::Window(_) | Self::Group(_))
    }

    /// Whether there is a window for which nothing more is waited.
    fn is_overdue(&self, now: WallTime) -> bool {
        match self {
            Self::Window(window) => window.is_overdue(now),
            Self::Group(group) => group.is_overdue(now),
            Self::Counter { .. } | Self::Bucket { .. } => false,
        }
    }
}

/// All cells, and what the commit underway has changed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Usage {
    cells: BTreeMap<CellKey, Cell>,
    /// Each cell that was touched since the last commit, as it was before.
    undo: BTreeMap<CellKey, Option<Cell>>,
    /// Sum of the costs of all cells.
    bytes: usize,
}

/// No room for another cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

impl Usage {
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// What is used of a counter in the period of `now`. A clock that went back stays in the later
    /// period, so that nothing is counted anew.
    pub(crate) fn used(&self, key: &CellKey, period: i64) -> u64 {
        match self.cells.get(key) {
            Some(Cell::Counter { period: last, used }) if *last >= period => *used,
            _ => 0,
        }
    }

    /// Adds to a counter.
    pub(crate) fn charge(&mut self, key: &CellKey, period: i64, amount: u64) -> Result<(), Full> {
        let used = self.used(key, period).saturating_add(amount);
        let last = match self.cells.get(key) {
            Some(Cell::Counter { period: last, .. }) => *last,
            _ => i64::MIN,
        };
        self.set(key, Cell::Counter { period: last.max(period), used })
    }

    /// Whether a rate has room for one more reading at a moment.
    pub(crate) fn has_room(&self, key: &CellKey, rate: Rate, at: WallTime) -> bool {
        self.room(key, rate, at) >= rate.cost_nanos()
    }

    /// Takes one reading out of a rate's bucket.
    pub(crate) fn take_one(&mut self, key: &CellKey, rate: Rate, at: WallTime) -> Result<(), Full> {
        let left_nanos = self.room(key, rate, at).saturating_sub(rate.cost_nanos());
        let last = match self.cells.get(key) {
            Some(Cell::Bucket { at: last, .. }) => at.max(*last),
            _ => at,
        };
        self.set(key, Cell::Bucket { left_nanos, at: last })
    }

    fn room(&self, key: &CellKey, rate: Rate, at: WallTime) -> u64 {
        match self.cells.get(key) {
            // A clock that went back fills nothing.
            Some(Cell::Bucket { left_nanos, at: last }) => {
                let since = u64::try_from(at.since(*last).as_nanos()).unwrap_or(u64::MAX);
                left_nanos.saturating_add(since).min(rate.full_nanos())
            }
            _ => rate.full_nanos(),
        }
    }

    pub(crate) fn window(&self, key: &CellKey) -> Option<&Window> {
        match self.cells.get(key) {
            Some(Cell::Window(window)) => Some(window),
            _ => None,
        }
    }

    /// A window to change; `None` when there is none.
    pub(crate) fn window_mut(&mut self, key: &CellKey) -> Option<&mut Window> {
        self.touch(key);
        match self.cells.get_mut(key) {
            Some(Cell::Window(window)) => Some(window),
            _ => None,
        }
    }

    pub(crate) fn open_window(&mut self, key: &CellKey, window: Window) -> Result<(), Full> {
        self.set(key, Cell::Window(Box::new(window)))
    }

    pub(crate) fn close_window(&mut self, key: &CellKey) -> Option<Window> {
        self.window(key)?;
        self.touch(key);
        match self.take(key) {
            Some(Cell::Window(window)) => Some(*window),
            _ => None,
        }
    }

    /// The windows of a group, to change; `None` when there are none.
    pub(crate) fn group_mut(&mut self, key: &CellKey) -> Option<&mut GroupWindows> {
        self.touch(key);
        match self.cells.get_mut(key) {
            Some(Cell::Group(group)) => Some(group),
            _ => None,
        }
    }

    pub(crate) fn open_group(&mut self, key: &CellKey, group: GroupWindows) -> Result<(), Full> {
        self.set(key, Cell::Group(Box::new(group)))
    }

    pub(crate) fn close_group(&mut self, key: &CellKey) -> Option<GroupWindows> {
        self.group_mut(key)?;
        match self.take(key) {
            Some(Cell::Group(group)) => Some(*group),
            _ => None,
        }
    }

    /// Readings behind the open windows of a point or a group, which are no more.
    pub(crate) fn give_up_windows(&mut self, key: &CellKey) -> u64 {
        self.touch(key);
        match self.take(key) {
            Some(Cell::Window(window)) => window.count(),
            Some(Cell::Group(group)) => group.count(),
            _ => 0,
        }
    }

    /// All windows, those of a point in order.
    pub(crate) fn windows(&self) -> Vec<CellKey> {
        let found = self.cells.iter().filter(|(_, cell)| cell.is_windows());
        found.map(|(key, _)| key.clone()).collect()
    }

    /// Whether any window is open.
    pub fn has_windows(&self) -> bool {
        self.cells.values().any(Cell::is_windows)
    }

    /// Windows for which nothing more is waited.
    pub(crate) fn overdue(&self, now: WallTime) -> Vec<CellKey> {
        let found = self.cells.iter().filter(|(_, cell)| cell.is_overdue(now));
        found.map(|(key, _)| key.clone()).collect()
    }

    /// Whether `overdue` would find any.
    pub fn is_overdue(&self, now: WallTime) -> bool {
        self.cells.values().any(|cell| cell.is_overdue(now))
    }

    /// Forgets what contracts had begun that are no longer there; what they used up stays counted, and windows
    /// are left to [`crate::Plan::hand_over`].
    pub fn retain(&mut self, is_known: impl Fn(&ContractId) -> bool) {
        let is_gone = |key: &&CellKey| !key.is_kept_for_ever() && !is_known(key.contract());
        let gone: Vec<CellKey> = self.cells.keys().filter(is_gone).cloned().collect();
        for key in gone {
            self.touch(&key);
            self.take(&key);
        }
    }

    fn set(&mut self, key: &CellKey, cell: Cell) -> Result<(), Full> {
        let before = self.cells.get(key).map_or(0, |known| key.cost(known));
        let after = self.bytes - before + key.cost(&cell);
        if after > CELLS_BYTES_MAX && after > self.bytes {
            return Err(Full);
        }
        self.touch(key);
        self.put(key.clone(), cell);
        Ok(())
    }

    fn put(&mut self, key: CellKey, cell: Cell) {
        self.take(&key);
        self.bytes += key.cost(&cell);
        self.cells.insert(key, cell);
    }

    fn take(&mut self, key: &CellKey) -> Option<Cell> {
        let cell = self.cells.remove(key)?;
        self.bytes -= key.cost(&cell);
        Some(cell)
    }

    fn touch(&mut self, key: &CellKey) {
        if !self.undo.contains_key(key) {
            self.undo.insert(key.clone(), self.cells.get(key).cloned());
        }
    }

    /// Whether the commit underway has changed anything.
    pub fn is_dirty(&self) -> bool {
        !self.undo.is_empty()
    }

    /// The commit is durable.
    pub fn handle_committed(&mut self) {
        self.undo.clear();
    }

    /// The commit is undone.
    pub fn rollback(&mut self) {
        for (key, cell) in std::mem::take(&mut self.undo) {
            match cell {
                Some(cell) => self.put(key, cell),
                None => drop(self.take(&key)),
            }
        }
    }
}

#[cfg(test)]
mod tests;
