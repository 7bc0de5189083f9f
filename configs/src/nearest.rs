//! The known name that an unknown one was most likely meant to be.

/// Names further away than this are no help.
const DISTANCE_MAX: usize = 3;
/// Longer names are not compared: the cost grows with the square.
const NAME_BYTES_MAX: usize = 128;

/// `; did you mean X?`, or nothing.
pub(crate) fn hint<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let ranked = known.into_iter().map(|candidate| (distance(name, candidate), candidate));
    match ranked.min() {
        Some((distance, candidate)) if distance <= DISTANCE_MAX.min(candidate.len() / 2) => {
            format!("; did you mean {candidate}?")
        }
        _ => String::new(),
    }
}

/// Levenshtein distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > NAME_BYTES_MAX || b.len() > NAME_BYTES_MAX {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found() {
        let check = |name: &str, expect: &str| {
            let known = ["keep_alive_s", "listen", "id"];
            assert_eq!(hint(name, known), expect, "{name}");
        };
        check("keepalive_s", "; did you mean keep_alive_s?");
        check("lisen", "; did you mean listen?");
        check("wholly_different", "");
        check("ix", "; did you mean id?");
        check(&"x".repeat(1000), "");
    }
}
