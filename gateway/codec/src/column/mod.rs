//! One module a kind of column. Each writes a tag and what the tag's encoding needs.

pub(crate) mod bytes;
pub(crate) mod number;
pub(crate) mod quality;
pub(crate) mod time;

/// What a candidate would cost after the zstd pass that follows. Level 1 ranks as level 3 does.
fn cost(candidate: &[u8]) -> usize {
    zstd::bulk::compress(candidate, 1).map_or(usize::MAX, |squeezed| squeezed.len())
}

/// The cheapest of the candidates; the first one wins a tie.
fn cheapest(mut candidates: Vec<(u8, Vec<u8>)>) -> (u8, Vec<u8>) {
    if candidates.len() == 1 {
        return candidates.swap_remove(0);
    }
    let ranked = candidates.into_iter().min_by_key(|(_, bytes)| cost(bytes));
    ranked.expect("every column has at least one encoding")
}
