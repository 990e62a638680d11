//! Index of the lanes whose messages are on disk alone: which of them to look at next. Pure.
//!
//! A lane is **later** until the first of its messages on disk is due, then **ready** to be looked at. One that has no
//! room for messages is **parked** until something happens to it, or a second has gone by. So a look costs as much as the
//! lanes that it finds ready, however many wait.

use std::collections::BTreeSet;

use crate::spool::lane::LaneId;

/// The due time of a lane without messages on disk.
const NEVER: u64 = u64::MAX;

/// Where each lane with messages on disk stands.
#[derive(Debug, Default)]
pub(super) struct DueIndex {
    /// For each lane, when the first of its messages on disk is due, or before that.
    due_ms: Vec<u64>,
    later: BTreeSet<(u64, LaneId)>,
    ready: BTreeSet<LaneId>,
    parked: BTreeSet<LaneId>,
    /// The lane that was looked at last.
    looked_at: LaneId,
}

impl DueIndex {
    /// Notes a message on disk that is due then.
    pub(super) fn add(&mut self, lane: LaneId, due_ms: u64) {
        if due_ms < self.due_ms(lane) {
            self.set(lane, due_ms);
        }
    }

    /// Notes when the first message of a lane is due, now that it is known; `None` when none is on disk.
    pub(super) fn set_exactly(&mut self, lane: LaneId, due_ms: Option<u64>) {
        self.set(lane, due_ms.unwrap_or(NEVER));
    }

    fn set(&mut self, lane: LaneId, due_ms: u64) {
        let before = self.due_ms(lane);
        self.later.remove(&(before, lane));
        self.ready.remove(&lane);
        self.parked.remove(&lane);
        if due_ms != NEVER {
            self.later.insert((due_ms, lane));
        }
        let index = lane as usize;
        if self.due_ms.len() <= index {
            self.due_ms.resize(index + 1, NEVER);
        }
        self.due_ms[index] = due_ms;
    }

    fn due_ms(&self, lane: LaneId) -> u64 {
        self.due_ms.get(lane as usize).copied().unwrap_or(NEVER)
    }

    /// Forgets a lane.
    pub(super) fn remove(&mut self, lane: LaneId) {
        self.set(lane, NEVER);
    }

    /// Something has happened to a lane: it may have room now.
    pub(super) fn touch(&mut self, lane: LaneId) {
        if self.parked.remove(&lane) {
            self.ready.insert(lane);
        }
    }

    /// All lanes may have room now: time has gone by.
    pub(super) fn touch_all(&mut self) {
        self.ready.append(&mut self.parked);
    }

    /// The next lane to look at, if any of its messages is due.
    pub(super) fn next(&mut self, now_ms: u64) -> Option<LaneId> {
        while let Some((due_ms, lane)) = self.later.first().copied()
            && due_ms <= now_ms
        {
            self.later.pop_first();
            self.ready.insert(lane);
        }
        // They take turns: one that is looked at again and again must not keep others from it.
        let after = self.ready.range(self.looked_at.saturating_add(1)..).next();
        let next = after.or_else(|| self.ready.first()).copied();
        self.looked_at = next.unwrap_or(0);
        next
    }

    /// A ready lane has no room.
    pub(super) fn park(&mut self, lane: LaneId) {
        if self.ready.remove(&lane) {
            self.parked.insert(lane);
        }
    }

    /// Lanes that have messages on disk.
    pub(super) fn len(&self) -> usize {
        self.later.len() + self.ready.len() + self.parked.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_looked_at_when_they_are_due_and_have_room() {
        let mut index = DueIndex::default();
        index.add(7, 100);
        index.add(3, 50);
        index.add(3, 70);
        assert_eq!((index.next(49), index.len()), (None, 2));
        assert_eq!(index.next(50), Some(3));
        index.park(3);
        assert_eq!(index.next(99), None);
        assert_eq!(index.next(100), Some(7));
        index.touch(3);
        assert_eq!(index.next(100), Some(3));
        index.park(3);
        index.set_exactly(7, Some(200));
        assert_eq!(index.next(199), None);
        index.touch_all();
        assert_eq!(index.next(199), Some(3));
        index.remove(3);
        assert_eq!((index.next(199), index.next(200), index.len()), (None, Some(7), 1));
        index.set_exactly(7, None);
        assert_eq!((index.next(u64::MAX), index.len()), (None, 0));
    }
}
