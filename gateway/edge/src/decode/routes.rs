//! Where the messages of a topic go, remembered: clients stay with their topics.
//!
//! Invariant: a route that is remembered is the one that would be found again; mappings never change.

use super::{Decoder, Route};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

/// Topics that are remembered; each place keeps the last one that fell on it.
const PLACES: usize = 1024;
/// Longer topics share one place, so that nobody fills memory with them.
const TOPIC_BYTES_MAX: usize = 128;

/// One task's memory of routes. Its hash has a secret, so that no client can choose who shares a place.
#[derive(Debug)]
pub struct Routes {
    /// The last one is for topics that are too long to be kept.
    places: Vec<Option<(Arc<str>, Route)>>,
    hash: RandomState,
    /// The topic before, by its address, and its place.
    last: Option<(Arc<str>, usize)>,
}

impl Default for Routes {
    fn default() -> Self {
        Self { places: vec![None; PLACES + 1], hash: RandomState::new(), last: None }
    }
}

impl Routes {
    /// `None`: no mapping takes the topic.
    pub(super) fn find(&mut self, decoder: &Decoder, topic: &Arc<str>) -> Option<&Route> {
        let place = self.place(topic);
        let is_known = self.places[place].as_ref().is_some_and(|(known, _)| known == topic);
        if !is_known {
            self.places[place] = decoder.route(topic).map(|route| (topic.clone(), route));
        }
        self.places[place].as_ref().map(|(_, route)| route)
    }

    fn place(&mut self, topic: &Arc<str>) -> usize {
        if topic.len() > TOPIC_BYTES_MAX {
            return PLACES;
        }
        if let Some((last, place)) = &self.last
            && Arc::ptr_eq(last, topic)
        {
            return *place;
        }
        let hash = self.hash.hash_one(topic) % PLACES as u64;
        let place = usize::try_from(hash).expect("below PLACES");
        self.last = Some((topic.clone(), place));
        place
    }
}
