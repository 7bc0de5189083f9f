//! What contracts want told, the newest of each kind, for status and report.

use crate::status::NOTICES_SHOWN;
use std::collections::VecDeque;

/// By kind, in the order in which they came.
#[derive(Default)]
pub(super) struct Notices(VecDeque<(String, String)>);

impl Notices {
    /// Takes the place of an earlier one of its kind; past the limit the oldest goes.
    pub(super) fn put(&mut self, kind: String, text: String) {
        self.0.retain(|(known, _)| *known != kind);
        if self.0.len() == NOTICES_SHOWN {
            self.0.pop_front();
        }
        self.0.push_back((kind, text));
    }

    pub(super) fn texts(&self) -> Vec<String> {
        self.0.iter().map(|(_, text)| text.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_each_kind_is_kept() {
        let mut notices = Notices::default();
        let mut put = |kind: usize, text: &str| {
            notices.put(kind.to_string(), text.to_owned());
            notices.texts()
        };
        put(0, "a");
        put(1, "b");
        assert_eq!(put(0, "c"), ["b", "c"]);
        for kind in 2..NOTICES_SHOWN {
            put(kind, "d");
        }
        assert_eq!(put(1, "e").len(), NOTICES_SHOWN);
        let full = put(NOTICES_SHOWN, "f");
        assert_eq!((full.len(), full.contains(&"c".to_owned())), (NOTICES_SHOWN, false));
    }
}
