//! A connection that its holder keeps for more than one message, and when it must be given back all the same. Opens none.

use std::sync::atomic::Ordering;

use super::{Checkout, Pool, SLICE};

impl Pool {
    /// Tells whether the holder of a connection may carry another message over it before giving it back.
    ///
    /// `has_had_its_turn` says that it has carried as much as others who wait should have to wait for.
    pub(crate) fn may_keep(&self, checkout: &Checkout, has_had_its_turn: bool) -> bool {
        let now = self.0.endpoint.clock.moment();
        let is_young = now.since(checkout.opened) < SLICE;
        // The message it was handed out for is counted only when it comes back.
        let messages = checkout.messages.saturating_add(1);
        !self.is_closed()
            && self.worn(checkout.opened, messages, now).is_none()
            && (!has_had_its_turn || self.0.waiting.load(Ordering::Relaxed) == 0)
            && (is_young || !self.0.places.are_short())
    }
}

impl Checkout {
    /// Counts another message that it carries before it comes back.
    pub(crate) fn carry_another(&mut self) {
        self.messages = self.messages.saturating_add(1);
    }

    /// Tells spans and metrics that whoever runs in the span `checkout` has it now.
    pub(crate) fn hand_on(&mut self) {
        self.tally.reuse();
    }
}
