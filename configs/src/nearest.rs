//! The known name that an unknown one was most likely meant to be.

/// Names further away than this are no help.
const DISTANCE_MAX: usize = 3;
/// Longer names are not compared: the cost grows with the square.
const NAME_BYTES_MAX: usize = 128;

/// `; did you mean X?`, or nothing.
pub(crate) fn hint<'a>(name: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    let at = find(name, known.clone());
    at.and_then(|at| known.into_iter().nth(at)).map_or(String::new(), did_you_mean)
}

/// Where the nearest of the known names stands.
pub(crate) fn find<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<usize> {
    let ranked = known.into_iter().enumerate().filter_map(|(at, candidate)| {
        let limit = DISTANCE_MAX.min(candidate.len() / 2);
        // The lengths alone may already be too far apart; the rest of the work is square.
        if name.len().abs_diff(candidate.len()) > limit {
            return None;
        }
        let distance = distance(name, candidate);
        (distance <= limit).then_some((distance, candidate, at))
    });
    ranked.min().map(|(_, _, at)| at)
}

pub(crate) fn did_you_mean(name: &str) -> String {
    format!("; did you mean {name}?")
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
