//! Numbers for the topics of messages to the client (MQTT 5, 3.3.2.3.4).

use crate::mqtt::limits::OUT_ALIASES_MAX;
use crate::mqtt::packet::Alias;
use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::Arc;

/// The first topics get a number, as many as both ends allow; the others keep their names.
#[derive(Debug)]
pub(super) struct OutAliases {
    max: u16,
    numbers: BTreeMap<Arc<str>, NonZeroU16>,
}

impl OutAliases {
    pub(super) fn new(max: u16) -> Self {
        Self { max: max.min(OUT_ALIASES_MAX), numbers: BTreeMap::new() }
    }

    pub(super) fn get(&mut self, topic: &Arc<str>) -> Option<Alias> {
        if let Some(number) = self.numbers.get(topic) {
            return Some(Alias { number: *number, is_known: true });
        }
        let used = u16::try_from(self.numbers.len()).ok().filter(|used| *used < self.max)?;
        let number = NonZeroU16::MIN.saturating_add(used);
        self.numbers.insert(topic.clone(), number);
        Some(Alias { number, is_known: false })
    }

    /// The message that would have told the client the newest number did not go out.
    pub(super) fn take_back(&mut self, topic: &Arc<str>) {
        self.numbers.remove(topic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_topics_are_shortened_up_to_the_lower_limit() {
        for (max, expect) in [(0, 0), (1, 1), (u16::MAX, usize::from(OUT_ALIASES_MAX))] {
            let mut aliases = OutAliases::new(max);
            for round in [false, true] {
                let given = (0..OUT_ALIASES_MAX + 2)
                    .filter_map(|number| aliases.get(&Arc::from(number.to_string())));
                let given: Vec<Alias> = given.collect();
                assert_eq!(given.len(), expect, "{max}");
                assert!(given.iter().all(|alias| alias.is_known == round), "{max}");
                let distinct: std::collections::BTreeSet<_> =
                    given.iter().map(|alias| alias.number).collect();
                assert_eq!(distinct.len(), expect);
            }
        }
    }
}
