//! Topic filters (MQTT 5, section 4.7): which are valid, and which leave nothing to another.

const LEVELS_MAX: usize = 32;
const FILTER_BYTES_MAX: usize = 1024;

pub(super) fn parse_filter(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > FILTER_BYTES_MAX || text.contains('\0') {
        return Err(format!("must have 1 to {FILTER_BYTES_MAX} bytes, none of them zero"));
    }
    let levels: Vec<&str> = text.split('/').collect();
    if levels.len() > LEVELS_MAX {
        return Err(format!("has {} levels; the limit is {LEVELS_MAX}", levels.len()));
    }
    let last = levels.len() - 1;
    for (index, level) in levels.iter().enumerate() {
        match *level {
            "#" if index == last => {}
            "#" => return Err("'#' may only stand at the end".to_owned()),
            "+" => {}
            plain if plain.contains(['+', '#']) => {
                return Err("'+' and '#' must fill a whole level".to_owned());
            }
            _ => {}
        }
    }
    Ok(text.to_owned())
}

/// Whether every topic that `narrow` matches is also matched by `wide`. Both are valid.
pub(super) fn covers(wide: &str, narrow: &str) -> bool {
    // Wildcards at the first level leave topics of the server itself alone (section 4.7.2).
    if narrow.starts_with('$') && wide.starts_with(['+', '#']) {
        return false;
    }
    let mut narrow = narrow.split('/');
    for level in wide.split('/') {
        match (level, narrow.next()) {
            ("#", _) => return true,
            ("+", Some(other)) if other != "#" => {}
            (level, Some(other)) if level == other => {}
            _ => return false,
        }
    }
    narrow.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_covers_another() {
        let check =
            |wide, narrow, expect| assert_eq!(covers(wide, narrow), expect, "{wide} {narrow}");
        check("a/b", "a/b", true);
        check("a/b", "a/c", false);
        check("a/b", "a/b/c", false);
        check("a/b/c", "a/b", false);
        check("a/+", "a/b", true);
        check("a/b", "a/+", false);
        check("a/+", "a/+", true);
        check("a/+", "a/#", false);
        check("a/+/#", "a/#", false);
        check("a/#", "a", true);
        check("a/#", "a/+/c/#", true);
        check("#", "a/#", true);
        check("#", "$SYS/a", false);
        check("+/a", "$SYS/a", false);
        check("$SYS/#", "$SYS/a", true);
    }

    #[test]
    fn limits_of_filters() {
        let check =
            |text: &str, expect: bool| assert_eq!(parse_filter(text).is_ok(), expect, "{text}");
        check("", false);
        check("a/#/b", false);
        check("a/b+", false);
        check("+/#", true);
        check(&["l"; LEVELS_MAX].join("/"), true);
        check(&["l"; LEVELS_MAX + 1].join("/"), false);
        check(&"x".repeat(FILTER_BYTES_MAX), true);
        check(&"x".repeat(FILTER_BYTES_MAX + 1), false);
    }
}
