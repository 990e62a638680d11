//! What of the disk is left for a mail of one destination.

use crate::spool::store::{Limits, Usage};
use crate::webhook::share::{Held, of_disk};

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
}

impl Room {
    pub(super) fn new(usage: Usage, limits: Limits, is_shared: bool) -> Self {
        Self { usage, limits, is_shared }
    }

    /// Whether there is some for a destination that holds so much.
    pub(super) fn is_left_for(&self, held: &Held) -> bool {
        let octets = |octets| usize::try_from(octets).unwrap_or(usize::MAX);
        let free = octets(self.limits.total_bytes.saturating_sub(self.usage.bytes()));
        let reserve = octets(self.limits.segment_bytes * SEGMENTS_KEPT);
        !self.is_shared || held.is_below(of_disk(free, reserve))
    }
}
