//! Entry bundles: up to 256 leaves in one file, after C2SP tlog-tiles
//! (<https://c2sp.org/tlog-tiles>). Each leaf is a big-endian 16-bit length and its bytes.

/// Leaves of a full bundle.
pub const BUNDLE_LEAVES_MAX: usize = 256;
/// Largest leaf that the length field can state.
pub const BUNDLE_LEAF_BYTES_MAX: usize = u16::MAX as usize;

/// Why leaves make no bundle, or bytes are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BundleFault {
    #[error("the bundle has more than {BUNDLE_LEAVES_MAX} leaves")]
    TooMany,
    #[error("leaf {index} has {length} bytes; the limit is {BUNDLE_LEAF_BYTES_MAX}")]
    TooLong { index: usize, length: usize },
    #[error("the bundle ends inside leaf {index}")]
    Short { index: usize },
}

/// The bytes of a bundle. A bundle with fewer leaves is a prefix of the one with more.
pub fn encode<L: AsRef<[u8]>>(leaves: &[L]) -> Result<Vec<u8>, BundleFault> {
    if leaves.len() > BUNDLE_LEAVES_MAX {
        return Err(BundleFault::TooMany);
    }
    let mut out = Vec::new();
    for (index, leaf) in leaves.iter().enumerate() {
        let leaf = leaf.as_ref();
        let length = u16::try_from(leaf.len())
            .map_err(|_| BundleFault::TooLong { index, length: leaf.len() })?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(leaf);
    }
    Ok(out)
}

/// The leaves of a bundle, in order. Borrows; whether a leaf makes sense is for `Leaf::decode`.
pub fn decode(bytes: &[u8]) -> Result<Vec<&[u8]>, BundleFault> {
    let mut leaves = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let index = leaves.len();
        if index == BUNDLE_LEAVES_MAX {
            return Err(BundleFault::TooMany);
        }
        let short = BundleFault::Short { index };
        let (length, after) = rest.split_first_chunk::<2>().ok_or(short)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (leaf, after) = after.split_at_checked(length).ok_or(short)?;
        leaves.push(leaf);
        rest = after;
    }
    Ok(leaves)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn form_of_the_specification() {
        let bytes = encode(&[&b"ab"[..], b"", b"c"]).unwrap();
        assert_eq!(bytes, [0, 2, b'a', b'b', 0, 0, 0, 1, b'c']);
        assert_eq!(decode(&bytes[..3]), Err(BundleFault::Short { index: 0 }));
        assert_eq!(decode(&bytes[..5]), Err(BundleFault::Short { index: 1 }));
        assert_eq!(decode(&bytes[..6]).unwrap().len(), 2);
    }

    #[test]
    fn limits_are_exact() {
        let full = encode(&[[1_u8]; BUNDLE_LEAVES_MAX]).unwrap();
        assert_eq!(decode(&full).unwrap().len(), BUNDLE_LEAVES_MAX);
        assert_eq!(encode(&[[1_u8]; BUNDLE_LEAVES_MAX + 1]), Err(BundleFault::TooMany));
        let over = [&full[..], &[0, 1, 1]].concat();
        assert_eq!(decode(&over), Err(BundleFault::TooMany));
        assert!(encode(&[vec![0; BUNDLE_LEAF_BYTES_MAX]]).is_ok());
        let length = BUNDLE_LEAF_BYTES_MAX + 1;
        let expect = BundleFault::TooLong { index: 0, length };
        assert_eq!(encode(&[vec![0; length]]), Err(expect));
    }

    proptest! {
        #[test]
        fn bundles_survive(
            leaves in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..40),
        ) {
            let bytes = encode(&leaves).unwrap();
            prop_assert_eq!(decode(&bytes).unwrap(), leaves);
        }

        #[test]
        fn what_decodes_encodes_to_the_same(bytes: Vec<u8>) {
            if let Ok(leaves) = decode(&bytes) {
                prop_assert_eq!(encode(&leaves).unwrap(), bytes);
            }
        }
    }
}
