//! What is known of one segment. Pure.

use std::collections::HashMap;

use crate::spool::lane::LaneId;

/// A segment of the spool.
#[derive(Debug)]
pub(super) struct SegmentState {
    /// Whether it is known what is in it.
    pub(super) is_known: bool,
    /// Whether its messages count for their lanes already, though it is not known which they are.
    pub(super) is_charged: bool,
    /// Whether some of it is damaged.
    pub(super) is_damaged: bool,
    /// Until when it is left alone because it could not be read, in milliseconds since 1970.
    pub(super) unreadable_until_ms: u64,
    /// Until when it is not compacted because not all of it could be copied, in milliseconds since 1970.
    pub(super) uncompacted_until_ms: u64,
    /// Pairs that wait or are under way.
    pub(super) pairs: u64,
    /// Bytes of those.
    pub(super) live_bytes: u64,
    /// Bytes of all its messages.
    pub(super) bytes: u64,
    /// Those that are on disk alone.
    pub(super) on_disk: OnDisk,
}

impl SegmentState {
    /// A segment of which nothing is known.
    pub(super) fn unknown() -> Self {
        Self {
            is_known: false,
            is_charged: false,
            is_damaged: false,
            unreadable_until_ms: 0,
            uncompacted_until_ms: 0,
            pairs: 0,
            live_bytes: 0,
            bytes: 0,
            on_disk: OnDisk::default(),
        }
    }

    /// A segment that is just being written to.
    pub(super) fn new() -> Self {
        Self { is_known: true, ..Self::unknown() }
    }

    /// Whether all its messages have met their end.
    pub(super) fn is_finished(&self) -> bool {
        self.is_known && self.pairs == 0
    }
}

/// The pairs of a segment that are on disk alone, by lane.
#[derive(Debug)]
pub(super) struct OnDisk {
    lanes: HashMap<LaneId, OfLane>,
    /// When the first of them has waited for as long as it may, or before that, in milliseconds since 1970.
    over_ms: u64,
    /// Since when the oldest of them exists, or before that, in milliseconds since 1970.
    since_ms: u64,
}

/// The pairs of one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OfLane {
    pairs: u32,
    /// When the first of them is due, or was, in milliseconds since 1970.
    due_ms: u64,
}

impl Default for OnDisk {
    fn default() -> Self {
        Self { lanes: HashMap::new(), over_ms: u64::MAX, since_ms: u64::MAX }
    }
}

impl OnDisk {
    /// Adds a pair.
    pub(super) fn add(&mut self, lane: LaneId, due_ms: u64, over_ms: u64, since_ms: u64) {
        let of_lane = self.lanes.entry(lane).or_insert(OfLane { pairs: 0, due_ms });
        of_lane.pairs += 1;
        of_lane.due_ms = of_lane.due_ms.min(due_ms);
        self.over_ms = self.over_ms.min(over_ms);
        self.since_ms = self.since_ms.min(since_ms);
    }

    /// Takes a pair out; whether there was one.
    pub(super) fn remove(&mut self, lane: LaneId) -> bool {
        let Some(of_lane) = self.lanes.get_mut(&lane) else { return false };
        of_lane.pairs -= 1;
        if of_lane.pairs == 0 {
            self.lanes.remove(&lane);
        }
        if self.lanes.is_empty() {
            *self = Self::default();
        }
        true
    }

    /// Adds those of another.
    pub(super) fn append(&mut self, other: Self) {
        for (lane, of_lane) in other.lanes {
            let both = self.lanes.entry(lane).or_insert(OfLane { pairs: 0, due_ms: of_lane.due_ms });
            both.pairs += of_lane.pairs;
            both.due_ms = both.due_ms.min(of_lane.due_ms);
        }
        self.over_ms = self.over_ms.min(other.over_ms);
        self.since_ms = self.since_ms.min(other.since_ms);
    }

    /// Has all pairs of a lane be over, if there are any; whether there are.
    pub(super) fn give_up(&mut self, lane: LaneId) -> bool {
        let has = self.lanes.contains_key(&lane);
        if has {
            self.over_ms = 0;
        }
        has
    }

    /// When the first pair of a lane is due.
    pub(super) fn due_ms(&self, lane: LaneId) -> Option<u64> {
        self.lanes.get(&lane).map(|of_lane| of_lane.due_ms)
    }

    /// When the first pair is over; never without one.
    pub(super) fn over_ms(&self) -> u64 {
        self.over_ms
    }

    /// Since when the oldest pair exists.
    pub(super) fn since_ms(&self) -> Option<u64> {
        (!self.lanes.is_empty()).then_some(self.since_ms)
    }

    /// Lanes that have pairs here.
    pub(super) fn lanes(&self) -> impl Iterator<Item = LaneId> {
        self.lanes.keys().copied()
    }

    /// Bytes of memory that the table takes.
    pub(super) fn memory_bytes(&self) -> usize {
        // One byte of each place is the table's own.
        self.lanes.capacity() * (size_of::<(LaneId, OfLane)>() + 1)
    }

    /// Moves all times by so much, after the clock was corrected.
    pub(super) fn shift(&mut self, shift: impl Fn(u64) -> u64) {
        self.lanes.values_mut().for_each(|of_lane| of_lane.due_ms = shift(of_lane.due_ms));
        (self.over_ms, self.since_ms) = (shift(self.over_ms), shift(self.since_ms));
    }
}
