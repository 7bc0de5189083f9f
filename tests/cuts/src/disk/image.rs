//! What is on the disk, and what a program believes to be there.
//!
//! A file's bytes are durable after `sync` of the file, its name after `sync` of the folder; nothing else is
//! promised, as by POSIX. A power cut keeps of what was not synced, file by file, nothing, all, the first
//! part, or any part; the last write may be torn between sectors. Changes of one folder survive in their
//! order. After the cut everything fails until the power is back.
//!
//! Never here: threads, clocks, FUSE.

use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

pub(crate) const ROOT: u64 = 1;
/// What a disk writes whole.
const SECTOR_BYTES: usize = 512;
/// Largest file; a program that seeks past it has a defect.
const FILE_BYTES_MAX: usize = 1 << 30;

/// Why a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stuck {
    /// No power.
    Dead,
    NoEntry,
    NotEmpty,
    Exists,
    NotDirectory,
    IsDirectory,
    TooLarge,
}

#[derive(Debug, Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Resize(usize),
}

#[derive(Debug, Clone)]
enum NameChange {
    Put(OsString, u64),
    Remove(OsString),
    /// Within one folder, so that it is one change.
    Move(OsString, OsString, u64),
}

#[derive(Debug, Default)]
struct FileNode {
    durable: Vec<u8>,
    current: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Debug, Default)]
struct DirNode {
    durable: BTreeMap<OsString, u64>,
    current: BTreeMap<OsString, u64>,
    pending: Vec<NameChange>,
}

#[derive(Debug)]
enum Node {
    File(FileNode),
    Dir(DirNode),
}

/// Kind and size of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) is_dir: bool,
    pub(crate) bytes: u64,
}

/// All files and folders.
#[derive(Debug)]
pub struct Image {
    nodes: BTreeMap<u64, Node>,
    next: u64,
    is_dead: bool,
    /// Changes and syncs until the power is cut; `None`: it stays.
    left: Option<u64>,
    changes: u64,
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { at, bytes: written } => {
            let end = at + written.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*at..end].copy_from_slice(written);
        }
        Change::Resize(length) => bytes.resize(*length, 0),
    }
}

fn apply_name(names: &mut BTreeMap<OsString, u64>, change: &NameChange) {
    match change {
        NameChange::Put(name, node) => {
            names.insert(name.clone(), *node);
        }
        NameChange::Remove(name) => {
            names.remove(name);
        }
        NameChange::Move(from, to, node) => {
            names.remove(from);
            names.insert(to.clone(), *node);
        }
    }
}

impl FileNode {
    fn change(&mut self, change: Change) {
        apply(&mut self.current, &change);
        self.pending.push(change);
    }

    fn sync(&mut self) {
        for change in self.pending.drain(..) {
            apply(&mut self.durable, &change);
        }
    }

    fn cut(&mut self, dice: &mut Rng) {
        let count = self.pending.len();
        let kept: Vec<bool> = match dice.u8(0..4) {
            0 => vec![false; count],
            1 => vec![true; count],
            2 => {
                let first = dice.usize(0..=count);
                (0..count).map(|place| place < first).collect()
            }
            _ => (0..count).map(|_| dice.bool()).collect(),
        };
        let last = kept.iter().rposition(|is_kept| *is_kept);
        let is_torn = dice.bool();
        for (place, (change, is_kept)) in self.pending.drain(..).zip(kept).enumerate() {
            match change {
                _ if !is_kept => {}
                Change::Write { at, bytes } if is_torn && Some(place) == last => {
                    let sectors = (at + bytes.len()) / SECTOR_BYTES - at / SECTOR_BYTES;
                    let end = (at / SECTOR_BYTES + dice.usize(0..=sectors)) * SECTOR_BYTES;
                    let length = end.saturating_sub(at).min(bytes.len());
                    let bytes = bytes[..length].to_vec();
                    apply(&mut self.durable, &Change::Write { at, bytes });
                }
                change => apply(&mut self.durable, &change),
            }
        }
        self.current.clone_from(&self.durable);
    }
}

impl DirNode {
    fn change(&mut self, change: NameChange) {
        apply_name(&mut self.current, &change);
        self.pending.push(change);
    }

    fn sync(&mut self) {
        for change in self.pending.drain(..) {
            apply_name(&mut self.durable, &change);
        }
    }

    fn cut(&mut self, dice: &mut Rng) {
        let kept = dice.usize(0..=self.pending.len());
        for change in self.pending.drain(..).take(kept) {
            apply_name(&mut self.durable, &change);
        }
        self.current.clone_from(&self.durable);
    }
}

impl Default for Image {
    fn default() -> Self {
        let nodes = BTreeMap::from([(ROOT, Node::Dir(DirNode::default()))]);
        Self { nodes, next: ROOT + 1, is_dead: false, left: None, changes: 0 }
    }
}

impl Image {
    /// The power goes when so many more changes and syncs are done; the next is not done.
    pub fn arm(&mut self, changes: u64) {
        self.left = Some(changes);
    }

    pub fn is_dead(&self) -> bool {
        self.is_dead
    }

    /// The power goes now.
    pub fn kill(&mut self) {
        self.is_dead = true;
    }

    /// Changes and syncs that were done so far.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Everything that is there is durable.
    pub fn sync_all(&mut self) {
        for node in self.nodes.values_mut() {
            match node {
                Node::File(file) => file.sync(),
                Node::Dir(dir) => dir.sync(),
            }
        }
    }

    /// The power is back: what was not synced is lost or not, by the dice. No program may run meanwhile.
    pub fn recover(&mut self, dice: &mut Rng) {
        for node in self.nodes.values_mut() {
            match node {
                Node::File(file) => file.cut(dice),
                Node::Dir(dir) => dir.cut(dice),
            }
        }
        let mut reached = BTreeSet::new();
        let mut open = vec![ROOT];
        while let Some(ino) = open.pop() {
            if reached.insert(ino)
                && let Some(Node::Dir(dir)) = self.nodes.get(&ino)
            {
                open.extend(dir.current.values());
            }
        }
        self.nodes.retain(|ino, _| reached.contains(ino));
        self.is_dead = false;
        self.left = None;
    }

    /// Before each change: whether there is still power for it.
    fn spend(&mut self) -> Result<(), Stuck> {
        if let Some(left) = &mut self.left {
            match left.checked_sub(1) {
                Some(rest) => *left = rest,
                None => self.is_dead = true,
            }
        }
        self.live()?;
        self.changes += 1;
        Ok(())
    }

    fn live(&self) -> Result<(), Stuck> {
        if self.is_dead { Err(Stuck::Dead) } else { Ok(()) }
    }

    fn dir(&self, ino: u64) -> Result<&DirNode, Stuck> {
        match self.nodes.get(&ino) {
            Some(Node::Dir(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(Stuck::NotDirectory),
            None => Err(Stuck::NoEntry),
        }
    }

    fn dir_mut(&mut self, ino: u64) -> Result<&mut DirNode, Stuck> {
        match self.nodes.get_mut(&ino) {
            Some(Node::Dir(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(Stuck::NotDirectory),
            None => Err(Stuck::NoEntry),
        }
    }

    fn file_mut(&mut self, ino: u64) -> Result<&mut FileNode, Stuck> {
        match self.nodes.get_mut(&ino) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(Stuck::IsDirectory),
            None => Err(Stuck::NoEntry),
        }
    }

    pub(crate) fn look(&self, ino: u64) -> Result<Look, Stuck> {
        self.live()?;
        match self.nodes.get(&ino).ok_or(Stuck::NoEntry)? {
            Node::File(file) => Ok(Look { is_dir: false, bytes: file.current.len() as u64 }),
            Node::Dir(_) => Ok(Look { is_dir: true, bytes: 0 }),
        }
    }

    pub(crate) fn lookup(&self, parent: u64, name: &OsStr) -> Result<u64, Stuck> {
        self.live()?;
        self.dir(parent)?.current.get(name).copied().ok_or(Stuck::NoEntry)
    }

    pub(crate) fn list(&self, ino: u64) -> Result<Vec<(OsString, u64)>, Stuck> {
        self.live()?;
        let names = self.dir(ino)?.current.iter();
        Ok(names.map(|(name, ino)| (name.clone(), *ino)).collect())
    }

    /// A new file or folder.
    pub(crate) fn make(&mut self, parent: u64, name: &OsStr, is_dir: bool) -> Result<u64, Stuck> {
        if self.dir(parent)?.current.contains_key(name) {
            return Err(Stuck::Exists);
        }
        self.spend()?;
        let ino = self.next;
        self.next += 1;
        let node = match is_dir {
            true => Node::Dir(DirNode::default()),
            false => Node::File(FileNode::default()),
        };
        self.nodes.insert(ino, node);
        self.dir_mut(parent)?.change(NameChange::Put(name.to_owned(), ino));
        Ok(ino)
    }

    pub(crate) fn remove(&mut self, parent: u64, name: &OsStr, is_dir: bool) -> Result<(), Stuck> {
        let ino = self.lookup(parent, name)?;
        match (&self.nodes[&ino], is_dir) {
            (Node::Dir(dir), true) if !dir.current.is_empty() => return Err(Stuck::NotEmpty),
            (Node::Dir(_), false) => return Err(Stuck::IsDirectory),
            (Node::File(_), true) => return Err(Stuck::NotDirectory),
            _ => {}
        }
        self.spend()?;
        self.dir_mut(parent)?.change(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    pub(crate) fn rename(
        &mut self,
        (parent, name): (u64, &OsStr),
        (new_parent, new_name): (u64, &OsStr),
    ) -> Result<(), Stuck> {
        let ino = self.lookup(parent, name)?;
        self.dir(new_parent)?;
        self.spend()?;
        if parent == new_parent {
            let change = NameChange::Move(name.to_owned(), new_name.to_owned(), ino);
            self.dir_mut(parent)?.change(change);
        } else {
            self.dir_mut(new_parent)?.change(NameChange::Put(new_name.to_owned(), ino));
            self.dir_mut(parent)?.change(NameChange::Remove(name.to_owned()));
        }
        Ok(())
    }

    pub(crate) fn read(&self, ino: u64, at: u64, length: usize) -> Result<&[u8], Stuck> {
        self.live()?;
        let Some(Node::File(file)) = self.nodes.get(&ino) else { return Err(Stuck::NoEntry) };
        let from = usize::try_from(at).unwrap_or(usize::MAX).min(file.current.len());
        let to = from.saturating_add(length).min(file.current.len());
        Ok(&file.current[from..to])
    }

    pub(crate) fn write(&mut self, ino: u64, at: u64, bytes: &[u8]) -> Result<(), Stuck> {
        let at = usize::try_from(at).map_err(|_| Stuck::TooLarge)?;
        if at.saturating_add(bytes.len()) > FILE_BYTES_MAX {
            return Err(Stuck::TooLarge);
        }
        self.spend()?;
        self.file_mut(ino)?.change(Change::Write { at, bytes: bytes.to_vec() });
        Ok(())
    }

    pub(crate) fn resize(&mut self, ino: u64, length: u64) -> Result<(), Stuck> {
        let length = usize::try_from(length).map_err(|_| Stuck::TooLarge)?;
        if length > FILE_BYTES_MAX {
            return Err(Stuck::TooLarge);
        }
        self.spend()?;
        self.file_mut(ino)?.change(Change::Resize(length));
        Ok(())
    }

    pub(crate) fn sync(&mut self, ino: u64) -> Result<(), Stuck> {
        self.spend()?;
        match self.nodes.get_mut(&ino).ok_or(Stuck::NoEntry)? {
            Node::File(file) => file.sync(),
            Node::Dir(dir) => dir.sync(),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> &OsStr {
        OsStr::new(text)
    }

    /// A file of `old` that is durable, then written over with `new` and not synced.
    fn written(old: &[u8], new: &[u8]) -> (Image, u64) {
        let mut image = Image::default();
        let ino = image.make(ROOT, name("a"), false).unwrap();
        image.write(ino, 0, old).unwrap();
        image.sync_all();
        image.write(ino, 0, new).unwrap();
        (image, ino)
    }

    /// All bytes of the file after many cuts.
    fn outcomes(old: &[u8], new: &[u8], sync: bool) -> BTreeSet<Vec<u8>> {
        let cut = |seed| {
            let (mut image, ino) = written(old, new);
            if sync {
                image.sync(ino).unwrap();
            }
            image.kill();
            image.recover(&mut Rng::with_seed(seed));
            image.read(ino, 0, 1 << 20).unwrap().to_vec()
        };
        (0..200).map(cut).collect()
    }

    #[test]
    fn what_is_synced_stays_and_the_rest_may_go_or_tear() {
        let (old, new) = (vec![1; 1024], vec![2; 1024]);
        assert_eq!(outcomes(&old, &new, true), BTreeSet::from([new.clone()]));
        let torn = [vec![2; 512], vec![1; 512]].concat();
        assert_eq!(outcomes(&old, &new, false), BTreeSet::from([old, torn, new]));
    }

    #[test]
    fn names_need_a_sync_of_their_folder_and_keep_their_order() {
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let mut image = Image::default();
            let first = image.make(ROOT, name("a"), false).unwrap();
            image.write(first, 0, b"x").unwrap();
            image.sync(first).unwrap();
            image.make(ROOT, name("b"), false).unwrap();
            image.rename((ROOT, name("b")), (ROOT, name("c"))).unwrap();
            image.kill();
            assert_eq!(image.lookup(ROOT, name("a")), Err(Stuck::Dead));
            image.recover(&mut Rng::with_seed(seed));
            let names: Vec<OsString> =
                image.list(ROOT).unwrap().into_iter().map(|(name, _)| name).collect();
            if let Ok(ino) = image.lookup(ROOT, name("a")) {
                assert_eq!(image.read(ino, 0, 9).unwrap(), b"x", "its bytes were synced");
            }
            seen.insert(names);
        }
        let all = [&[][..], &["a"], &["a", "b"], &["a", "c"]];
        let all = all.map(|names| names.iter().map(OsString::from).collect());
        assert_eq!(seen, BTreeSet::from(all));
    }

    #[test]
    fn the_power_goes_after_so_many_changes() {
        let mut image = Image::default();
        image.arm(2);
        let ino = image.make(ROOT, name("a"), false).unwrap();
        image.write(ino, 0, b"x").unwrap();
        assert!(!image.is_dead());
        assert_eq!(image.write(ino, 1, b"y"), Err(Stuck::Dead));
        assert_eq!(image.read(ino, 0, 1), Err(Stuck::Dead));
        image.recover(&mut Rng::with_seed(7));
        assert!(image.look(ROOT).unwrap().is_dir);
    }
}
