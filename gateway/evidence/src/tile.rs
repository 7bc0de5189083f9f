//! The files that show a log to others: C2SP tlog-tiles (<https://c2sp.org/tlog-tiles>).
//!
//! A hash tile at level 0 holds up to 256 leaf hashes, one at level 1 up to 256 roots of full tiles of
//! level 0, and so on; an entry bundle ([`crate::bundle`]) holds the leaves themselves. A tile with
//! fewer than 256 is partial, its name ends with `.p/` and its width, and its bytes are a prefix of
//! the full one: so partial files can be cut on demand and need not be stored.
//!
//! Names and bytes only. Where the files lie and who may prune them is the business of others.

use crate::bundle::BUNDLE_LEAVES_MAX;
use crate::proof::ProofFault;
use crate::subtrees::{Nodes, node};
use guan_model::Digest;
use std::fmt;

/// Hashes of a full tile, leaves of a full bundle.
pub const TILE_WIDTH: u64 = BUNDLE_LEAVES_MAX as u64;
/// Levels of the tree between two levels of tiles.
pub const TILE_HEIGHT: u32 = TILE_WIDTH.trailing_zeros();
/// Highest level in a name. Trees of up to 2^64 leaves have tiles up to level 7.
pub const TILE_LEVEL_MAX: u8 = 63;
/// Longest name: the bundle with the greatest number that 64 bits hold.
pub const TILE_PATH_BYTES_MAX: usize = 64;

/// Why a text names no tile, or bytes are none; whoever asked or sent them is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TileFault {
    #[error(
        "{path:?} names no tile; the form is tile/LEVEL/N or tile/entries/N with N as x001/234, \
         and .p/WIDTH behind it for a width of 1 to 255"
    )]
    Path { path: String },
    #[error("the tile has {length} bytes; {expected} belong to its width")]
    Length { length: usize, expected: usize },
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TileRow {
    Entries,
    /// Hashes of subtrees of 256^level leaves.
    Hashes(u8),
}

/// Which file of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    pub row: TileRow,
    pub index: u64,
    /// 1 to 256.
    width: u16,
}

impl Tile {
    /// `None` if no tile has this width or level.
    pub fn new(row: TileRow, index: u64, width: u16) -> Option<Self> {
        let wide = (1..=TILE_WIDTH).contains(&u64::from(width));
        let high = matches!(row, TileRow::Hashes(level) if level > TILE_LEVEL_MAX);
        (wide && !high).then_some(Self { row, index, width })
    }

    pub fn width(&self) -> u16 {
        self.width
    }

    pub fn is_full(&self) -> bool {
        u64::from(self.width) == TILE_WIDTH
    }

    /// Reads a name as `to_string` writes it; other spellings of the same tile are refused.
    pub fn parse(path: &str) -> Result<Self, TileFault> {
        let fault = || TileFault::Path { path: path.chars().take(TILE_PATH_BYTES_MAX).collect() };
        let tile = (path.len() <= TILE_PATH_BYTES_MAX).then(|| parse_path(path)).flatten();
        tile.filter(|tile| tile.to_string() == path).ok_or_else(fault)
    }

    /// The bytes of a hash tile. An entry bundle has none here: [`crate::bundle::encode`] makes it.
    pub fn hashes(&self, nodes: &dyn Nodes) -> Result<Vec<u8>, ProofFault> {
        let TileRow::Hashes(level) = self.row else { return Ok(Vec::new()) };
        let outside = ProofFault::Missing { bundle: self.index };
        let first = self.index.checked_mul(TILE_WIDTH).ok_or(outside)?;
        let mut bytes = Vec::with_capacity(usize::from(self.width) * 32);
        for at in 0..u64::from(self.width) {
            let Digest(hash) = node(nodes, u32::from(level) * TILE_HEIGHT, first + at)?;
            bytes.extend_from_slice(&hash);
        }
        Ok(bytes)
    }

    /// Reads the bytes of a hash tile of this width.
    pub fn parse_hashes(&self, bytes: &[u8]) -> Result<Vec<Digest>, TileFault> {
        let (hashes, rest) = bytes.as_chunks::<32>();
        if !rest.is_empty() || hashes.len() != usize::from(self.width) {
            let expected = usize::from(self.width) * 32;
            return Err(TileFault::Length { length: bytes.len(), expected });
        }
        Ok(hashes.iter().copied().map(Digest).collect())
    }
}

fn parse_path(path: &str) -> Option<Tile> {
    let rest = path.strip_prefix("tile/")?;
    let (row, rest) = rest.split_once('/')?;
    let row = match row {
        "entries" => TileRow::Entries,
        level => TileRow::Hashes(level.parse().ok()?),
    };
    let (number, width) = match rest.split_once(".p/") {
        Some((number, width)) => (number, width.parse().ok().filter(|width| *width < 256)?),
        None => (rest, 256),
    };
    let mut index: u64 = 0;
    for group in number.split('/') {
        let digits: u64 = group.strip_prefix('x').unwrap_or(group).parse().ok()?;
        index = index.checked_mul(1000)?.checked_add(digits)?;
    }
    Tile::new(row, index, width)
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.row {
            TileRow::Entries => f.write_str("tile/entries/")?,
            TileRow::Hashes(level) => write!(f, "tile/{level}/")?,
        }
        let digits = self.index.to_string();
        let digits = format!("{digits:0>width$}", width = digits.len().next_multiple_of(3));
        for (at, digit) in digits.chars().enumerate() {
            if at % 3 == 0 && at > 0 {
                f.write_str("/")?;
            }
            // All groups but the last begin with an x, so no file has the name of a folder.
            if at % 3 == 0 && at + 3 < digits.len() {
                f.write_str("x")?;
            }
            write!(f, "{digit}")?;
        }
        match self.is_full() {
            true => Ok(()),
            false => write!(f, ".p/{}", self.width),
        }
    }
}

/// All files of a tree of this size, bundles first, then hash tiles from the leaves up.
pub fn tiles(size: u64) -> impl Iterator<Item = Tile> {
    new_tiles(0, size)
}

/// The files of a tree of `new` leaves that are new or wider than in the one of `old`.
pub fn new_tiles(old: u64, new: u64) -> impl Iterator<Item = Tile> {
    let levels = u8::try_from(u64::BITS / TILE_HEIGHT).expect("64 bits are 8 levels");
    let rows = std::iter::once(TileRow::Entries).chain((0..levels).map(TileRow::Hashes));
    rows.flat_map(move |row| {
        let level = match row {
            TileRow::Entries => 0,
            TileRow::Hashes(level) => u32::from(level),
        };
        let (old, new) = (old >> (level * TILE_HEIGHT), new >> (level * TILE_HEIGHT));
        let first = if old < new { old / TILE_WIDTH } else { new.div_ceil(TILE_WIDTH) };
        (first..new.div_ceil(TILE_WIDTH)).map(move |index| {
            let width = (new - index * TILE_WIDTH).min(TILE_WIDTH);
            let width = u16::try_from(width).expect("a tile has at most 256 hashes");
            Tile { row, index, width }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Levels;
    use crate::tree::tests::numbered_leaves;
    use proptest::prelude::*;

    fn hashes(level: u8, index: u64, width: u16) -> Tile {
        Tile::new(TileRow::Hashes(level), index, width).unwrap()
    }

    #[test]
    fn names_of_the_specification() {
        let check = |tile: Tile, path: &str| {
            assert_eq!(tile.to_string(), path);
            assert_eq!(Tile::parse(path), Ok(tile));
        };
        check(hashes(0, 1_234_067, 256), "tile/0/x001/x234/067");
        check(hashes(0, 0, 1), "tile/0/000.p/1");
        check(hashes(63, 999, 255), "tile/63/999.p/255");
        check(hashes(1, 1000, 256), "tile/1/x001/000");
        let bundle = Tile::new(TileRow::Entries, u64::MAX, 17).unwrap();
        check(bundle, "tile/entries/x018/x446/x744/x073/x709/x551/615.p/17");
        assert!(bundle.to_string().len() <= TILE_PATH_BYTES_MAX);
    }

    #[test]
    fn other_spellings_are_refused() {
        let check = |path: &str| {
            let fault = TileFault::Path { path: path.chars().take(TILE_PATH_BYTES_MAX).collect() };
            assert_eq!(Tile::parse(path), Err(fault));
        };
        check("");
        check("tile/0");
        check("tile/0/");
        check("tile/0/0");
        check("tile/0/0000");
        check("tile/00/000");
        check("tile/+0/000");
        check("tile/64/000");
        check("tile/data/000");
        check("tile/0/x000/001");
        check("tile/0/001/001");
        check("tile/0/x001");
        check("tile/0/x001/x001");
        check("tile/0/-01");
        check("tile/0/../../etc/passwd");
        check("tile/0/000.p/0");
        check("tile/0/000.p/256");
        check("tile/0/000.p/01");
        check("tile/0/x018/x446/x744/x073/x709/x551/616");
        check(&format!("tile/0/{}", "x000/".repeat(100)));
        assert_eq!(Tile::new(TileRow::Entries, 0, 0), None);
        assert_eq!(Tile::new(TileRow::Entries, 0, 257), None);
        assert_eq!(Tile::new(TileRow::Hashes(TILE_LEVEL_MAX + 1), 0, 1), None);
    }

    /// The two examples of the specification.
    #[test]
    fn files_of_a_tree() {
        let hash_tiles = |size| -> Vec<Tile> {
            tiles(size).filter(|tile| tile.row != TileRow::Entries).collect()
        };
        let of_70_000 = hash_tiles(70_000);
        assert_eq!(of_70_000.len(), 273 + 1 + 1 + 1 + 1);
        assert_eq!(of_70_000[272], hashes(0, 272, 256));
        let tail = [hashes(0, 273, 112), hashes(1, 0, 256), hashes(1, 1, 17), hashes(2, 0, 1)];
        assert_eq!(of_70_000[273..], tail);
        assert_eq!(hash_tiles(256), [hashes(0, 0, 256), hashes(1, 0, 1)]);
        assert_eq!(tiles(0).count(), 0);
        let last = tiles(1).collect::<Vec<_>>();
        assert_eq!(last, [Tile::new(TileRow::Entries, 0, 1).unwrap(), hashes(0, 0, 1)]);
        let grown: Vec<Tile> = new_tiles(255, 257).collect();
        let entries = |index, width| Tile::new(TileRow::Entries, index, width).unwrap();
        let expect = [entries(0, 256), entries(1, 1), hashes(0, 0, 256), hashes(0, 1, 1)];
        assert_eq!(grown[..4], expect);
        assert_eq!(grown[4..], [hashes(1, 0, 1)]);
        assert_eq!(new_tiles(257, 257).count(), 0);
        assert_eq!(new_tiles(257, 256).count(), 0);
    }

    #[test]
    fn bytes_are_the_hashes_and_a_prefix() {
        let leaves = numbered_leaves(700);
        let mut levels = Levels::default();
        leaves.iter().for_each(|leaf| levels.append(*leaf));
        let full = hashes(0, 1, 256).hashes(&levels).unwrap();
        assert_eq!(full, leaves[256..512].iter().flat_map(|hash| hash.0).collect::<Vec<u8>>());
        let partial = hashes(0, 1, 44).hashes(&levels).unwrap();
        assert_eq!(partial, full[..44 * 32]);
        let above = hashes(1, 0, 2).hashes(&levels).unwrap();
        let roots = hashes(1, 0, 2).parse_hashes(&above).unwrap();
        assert_eq!(roots[0], crate::tree::tests::naive_root(&leaves[..256]));
        let fault = TileFault::Length { length: 64, expected: 96 };
        assert_eq!(hashes(1, 0, 3).parse_hashes(&above), Err(fault));
        let fault = TileFault::Length { length: 63, expected: 64 };
        assert_eq!(hashes(1, 0, 2).parse_hashes(&above[..63]), Err(fault));
        let missing = ProofFault::Missing { bundle: 2 };
        assert_eq!(hashes(0, 2, 256).hashes(&levels), Err(missing));
    }

    proptest! {
        #[test]
        fn names_survive(level in 0_u8..=63, index: u64, width in 1_u16..=256) {
            let tile = hashes(level, index, width);
            prop_assert_eq!(Tile::parse(&tile.to_string()), Ok(tile));
        }

        #[test]
        fn any_name_gives_an_answer(path in "(tile/)?[0-9a-z/.+x]{0,70}") {
            if let Ok(tile) = Tile::parse(&path) {
                prop_assert_eq!(tile.to_string(), path);
            }
        }
    }
}
