//! What of the disk is left for a mail of one destination.

use crate::spool::store::{Limits, Usage};
use crate::webhook::destination::Destination;
use crate::webhook::share::{Held, Share, of_disk};

/// Segments that are kept free for destinations which hold little: one that is written to, and the next. Space is
/// given back by the segment, so with less than that a few mails that wait could hold up all others.
const SEGMENTS_KEPT: u64 = 2;

/// The room of a spool.
#[derive(Debug)]
pub(super) struct Room {
    usage: Usage,
    limits: Limits,
    /// Whether destinations share it that do not know each other.
    is_shared: bool,
    /// What is on its way to the disk.
    coming_in: Held,
}

impl Room {
    pub(super) fn new(usage: Usage, limits: Limits, is_shared: bool) -> Self {
        Self { usage, limits, is_shared, coming_in: Held::default() }
    }

    /// Whether there is some for a destination.
    pub(super) fn is_left_for(&self, destination: &Destination) -> bool {
        let octets = |octets| usize::try_from(octets).unwrap_or(usize::MAX);
        let held = destination.held_disk().amount().saturating_add(destination.coming_in().amount());
        let free = octets(self.limits.total_bytes.saturating_sub(self.usage.bytes()));
        let free = free.saturating_sub(self.coming_in.amount());
        let reserve = octets(self.limits.segment_bytes * SEGMENTS_KEPT);
        !self.is_shared || held < of_disk(free, reserve)
    }

    /// Has so many octets for these destinations count until they are on the disk: mails that end at the same time would
    /// otherwise all find the same room.
    pub(super) fn expect<'d>(
        &self,
        bytes: usize,
        destinations: impl Iterator<Item = &'d Destination>,
    ) -> Vec<Share> {
        let of_destinations = destinations.map(|destination| destination.coming_in().hold(bytes));
        std::iter::once(self.coming_in.hold(bytes)).chain(of_destinations).collect()
    }
}
