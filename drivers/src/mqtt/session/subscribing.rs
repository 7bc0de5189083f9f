//! What the client subscribes to: which wishes can be granted at all.

use super::{Ask, Session};
use crate::mqtt::exchange::Subscription;
use crate::mqtt::filter::TopicFilter;
use crate::mqtt::packet::{Goodbye, SubscribeRefusal, Wish};
use std::num::{NonZeroU16, NonZeroU32};

impl Session {
    pub(super) fn handle_subscribe(
        &mut self,
        packet_id: NonZeroU16,
        filters: Vec<Wish>,
        identifier: Option<NonZeroU32>,
    ) {
        if filters.is_empty() {
            return self.end(Goodbye::Protocol, "a subscription to nothing");
        }
        let is_shared = |wish: &Wish| wish.filter.starts_with("$share/");
        if filters.iter().any(|wish| wish.options.no_local && is_shared(wish)) {
            // MQTT 5, 3.8.3.1.
            return self.end(Goodbye::Protocol, "a shared subscription without local messages");
        }
        let wanted = filters.into_iter().map(|wish| {
            let checked = self.check(&wish, identifier);
            (wish.filter.into_boxed_str(), checked)
        });
        let wanted = wanted.collect();
        self.asks.push_back(Ask::Subscribe { packet_id, wanted });
    }

    fn check(
        &self,
        wish: &Wish,
        identifier: Option<NonZeroU32>,
    ) -> Result<Subscription, SubscribeRefusal> {
        let parsed = TopicFilter::parse_shared(&wish.filter);
        let (filter, group) = parsed.map_err(|_| SubscribeRefusal::Filter)?;
        match self.config.rights.may_subscribe(&filter) {
            true => {
                let options = wish.options;
                Ok(Subscription { filter, group, options, identifier, last_turn: 0 })
            }
            false => Err(SubscribeRefusal::NotAuthorized),
        }
    }
}
