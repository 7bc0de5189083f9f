//! A set of packet ids. Clients number their messages one after the other, so members stand close together: a
//! bit each, in blocks that exist only while they have a member.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

const BLOCK_BITS: u16 = 512;
const WORD_BITS: u16 = 64;

/// Bits of a block, and how many of them are set.
#[derive(Debug, Default)]
struct Block {
    words: [u64; (BLOCK_BITS / WORD_BITS) as usize],
    count: u16,
}

#[derive(Debug, Default)]
pub(super) struct PacketIds {
    blocks: BTreeMap<u16, Block>,
    count: usize,
}

/// Block, word and bit of an id.
fn place(id: NonZeroU16) -> (u16, usize, u64) {
    let within = id.get() % BLOCK_BITS;
    (id.get() / BLOCK_BITS, usize::from(within / WORD_BITS), 1 << (within % WORD_BITS))
}

impl PacketIds {
    pub(super) fn insert(&mut self, id: NonZeroU16) {
        let (block, word, bit) = place(id);
        let block = self.blocks.entry(block).or_default();
        if block.words[word] & bit == 0 {
            block.words[word] |= bit;
            block.count += 1;
            self.count += 1;
        }
    }

    pub(super) fn remove(&mut self, id: NonZeroU16) {
        let (number, word, bit) = place(id);
        let Some(block) = self.blocks.get_mut(&number) else { return };
        if block.words[word] & bit == 0 {
            return;
        }
        block.words[word] &= !bit;
        block.count -= 1;
        self.count -= 1;
        if block.count == 0 {
            self.blocks.remove(&number);
        }
    }

    pub(super) fn contains(&self, id: NonZeroU16) -> bool {
        let (block, word, bit) = place(id);
        self.blocks.get(&block).is_some_and(|block| block.words[word] & bit != 0)
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_set(steps in prop::collection::vec((any::<bool>(), 1_u16..=u16::MAX), 0..400), mask in any::<u16>()) {
            let (mut ours, mut model) = (PacketIds::default(), BTreeSet::new());
            for (is_insertion, id) in steps {
                // A mask makes ids meet.
                let id = NonZeroU16::new(id & mask).unwrap_or(NonZeroU16::MAX);
                if is_insertion {
                    ours.insert(id);
                    model.insert(id);
                } else {
                    ours.remove(id);
                    model.remove(&id);
                }
                prop_assert_eq!(ours.contains(id), model.contains(&id));
                prop_assert_eq!(ours.len(), model.len());
            }
            for id in &model {
                ours.remove(*id);
            }
            prop_assert!(ours.blocks.is_empty());
        }
    }
}
