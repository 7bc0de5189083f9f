//! Topic filters (MQTT 5, section 4.7).

use super::limits::{FILTER_LEVELS_MAX, TOPIC_BYTES_MAX};

/// A valid filter.
#[derive(Debug, Clone, PartialEq, Eq)]
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
