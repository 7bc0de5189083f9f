//! Topic filters (MQTT 5, section 4.7).

use super::limits::{FILTER_LEVELS_MAX, TOPIC_BYTES_MAX};

/// A valid filter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicFilter(Box<str>);

/// Why a text is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no topic filter: {why}")]
pub struct FilterFault {
    text: String,
    why: &'static str,
}

impl TopicFilter {
    pub fn parse(text: &str) -> Result<Self, FilterFault> {
        let fault = |why| Err(FilterFault { text: text.chars().take(64).collect(), why });
        if text.is_empty() || text.len() > TOPIC_BYTES_MAX || text.contains('\0') {
            return fault("give it 1 to 1024 bytes without NUL");
        }
        let levels = text.split('/').count();
        if levels > FILTER_LEVELS_MAX {
            return fault("it has more than 32 levels");
        }
        for (index, level) in text.split('/').enumerate() {
            match level {
                "#" if index + 1 < levels => return fault("'#' may only stand at the end"),
                "#" | "+" => {}
                plain if plain.contains(['+', '#']) => {
                    return fault("'+' and '#' must fill a whole level");
                }
                _ => {}
            }
        }
        Ok(Self(text.into()))
    }

    /// As [`parse`](Self::parse), and the group's name of a shared subscription (MQTT 5, 4.8.2).
    pub(super) fn parse_shared(text: &str) -> Result<(Self, Option<Box<str>>), FilterFault> {
        let Some(rest) = text.strip_prefix("$share/") else {
            return Ok((Self::parse(text)?, None));
        };
        let why =
            "a shared one is $share/GROUP/FILTER, and '+' and '#' are not in the group's name";
        let fault = FilterFault { text: text.chars().take(64).collect(), why };
        match rest.split_once('/') {
            Some((group, filter)) if !group.is_empty() && !group.contains(['+', '#']) => {
                Ok((Self::parse(filter)?, Some(group.into())))
            }
            _ => Err(fault),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn matches(&self, topic: &str) -> bool {
        // Wildcards at the first level leave topics of the server itself alone (4.7.2).
        if topic.starts_with('$') && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut levels = topic.split('/');
        for wanted in self.0.split('/') {
            match (wanted, levels.next()) {
                ("#", _) => return true,
                ("+", Some(_)) => {}
                (plain, Some(level)) if plain == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }

    /// Whether there is a topic that both match.
    pub fn overlaps(&self, other: &Self) -> bool {
        let is_own = |filter: &Self| filter.0.starts_with('$');
        let is_wild = |filter: &Self| filter.0.starts_with(['+', '#']);
        if (is_own(self) && is_wild(other)) || (is_own(other) && is_wild(self)) {
            return false;
        }
        let (mut ours, mut theirs) = (self.0.split('/'), other.0.split('/'));
        loop {
            match (ours.next(), theirs.next()) {
                (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
                (Some(one), Some(two)) if one == two || one == "+" || two == "+" => {}
                _ => return false,
            }
        }
    }
}

/// Whether a client may publish to it at all (4.7.1, 4.7.3).
pub(super) fn is_topic_name(topic: &str) -> bool {
    (1..=TOPIC_BYTES_MAX).contains(&topic.len()) && !topic.contains(['+', '#', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_the_standard_says() {
        let check = |filter: &str, topic: &str, expect: bool| {
            let filter = TopicFilter::parse(filter).unwrap();
            assert_eq!(filter.matches(topic), expect, "{filter:?} and {topic}");
        };
        check("a/b", "a/b", true);
        check("a/b", "a/b/c", false);
        check("a/+", "a/", true);
        check("a/+", "a", false);
        check("a/+/c", "a/b/c", true);
        check("a/#", "a", true);
        check("a/#", "a/b/c", true);
        check("a/#", "ab", false);
        check("#", "a/b", true);
        check("#", "$SYS/x", false);
        check("+/x", "$SYS/x", false);
        check("$SYS/#", "$SYS/x", true);
        check("+", "/a", false);
        check("/+", "/a", true);
    }

    #[test]
    fn shared_filters_have_a_group() {
        let check = |text: &str, expect: Option<(&str, Option<&str>)>| {
            let parsed = TopicFilter::parse_shared(text).ok();
            let parsed = parsed.as_ref().map(|(filter, group)| (filter.as_str(), group.as_deref()));
            assert_eq!(parsed, expect, "{text}");
        };
        check("a/+", Some(("a/+", None)));
        check("$share/g/a/+", Some(("a/+", Some("g"))));
        check("$share/g//a", Some(("/a", Some("g"))));
        for bad in ["$share/", "$share/g", "$share/g/", "$share//a", "$share/g+/a", "$share/g/a#"] {
            check(bad, None);
        }
    }

    #[test]
    fn filters_overlap_where_a_topic_fits_both() {
        let check = |one: &str, two: &str, expect: bool| {
            let (one, two) = (TopicFilter::parse(one).unwrap(), TopicFilter::parse(two).unwrap());
            assert_eq!(one.overlaps(&two), expect, "{one:?} {two:?}");
            assert_eq!(two.overlaps(&one), expect, "{two:?} {one:?}");
        };
        check("a/b", "a/b", true);
        check("a/b", "a/c", false);
        check("a/+", "+/c", true);
        check("a/+", "a/b/c", false);
        check("a/#", "a", true);
        check("a/#", "a/b/+", true);
        check("a/#", "b/#", false);
        check("#", "a/b", true);
        check("#", "$SYS/x", false);
        check("$SYS/#", "$SYS/x", true);
        check("+/x", "$SYS/x", false);
    }

    #[test]
    fn bad_filters_and_names_are_refused() {
        let deep = ["l"; FILTER_LEVELS_MAX].join("/");
        let check = |text: &str, good: bool| {
            assert_eq!(TopicFilter::parse(text).is_ok(), good, "{text:?}");
        };
        check("", false);
        check("a/#/b", false);
        check("a#", false);
        check("a+/b", false);
        check("a\0", false);
        check(&deep, true);
        check(&format!("{deep}/l"), false);
        check(&"x".repeat(TOPIC_BYTES_MAX), true);
        check(&"x".repeat(TOPIC_BYTES_MAX + 1), false);
        assert!(is_topic_name("a/b"));
        for bad in ["", "a/+", "#", "a\0b"] {
            assert!(!is_topic_name(bad), "{bad:?}");
        }
    }
}
