//! Bytes that the files of a spool take, and that the outcomes of its messages will take.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::spool::segment::SegmentId;

/// Bytes of each segment's files, and of all together: the sum is asked for with every group of messages.
#[derive(Debug)]
pub(super) struct Sizes {
    by_segment: BTreeMap<SegmentId, Size>,
    /// Segments that are set aside. Their files count like all others, so that a failing disk cannot fill itself.
    aside: BTreeMap<SegmentId, u64>,
    /// Bytes that are reserved for the outcomes of each message at each destination.
    outcome_bytes: u64,
    files: u64,
    charged: Usage,
}

/// What one segment takes.
#[derive(Debug, Default, Clone, Copy)]
struct Size {
    mails: u64,
    outcomes: u64,
    /// Messages, once for each destination, whose outcomes are to come; 0 where that is not known.
    pairs: u64,
}

impl Size {
    fn files(self) -> u64 {
        self.mails + self.outcomes
    }

    fn charged(self, outcome_bytes: u64) -> u64 {
        self.mails + self.outcomes.max(self.pairs.saturating_mul(outcome_bytes))
    }
}

/// Bytes that a spool's files take, with those reserved for outcomes, for readers outside the writer.
#[derive(Debug, Clone, Default)]
pub struct Usage(Arc<AtomicU64>);

impl Usage {
    /// Bytes of all files, and those reserved for outcomes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

impl Sizes {
    /// No segments yet; `outcome_bytes` are reserved for each message at each destination.
    pub(super) fn new(outcome_bytes: u64) -> Self {
        Self {
            by_segment: BTreeMap::new(),
            aside: BTreeMap::new(),
            outcome_bytes,
            files: 0,
            charged: Usage::default(),
        }
    }

    /// All segments but those set aside, the oldest first.
    pub(super) fn segments(&self) -> impl Iterator<Item = SegmentId> {
        self.by_segment.keys().copied()
    }

    /// All segments but those set aside, with the bytes of their messages.
    pub(super) fn mail_bytes(&self) -> impl Iterator<Item = (SegmentId, u64)> {
        self.by_segment.iter().map(|(segment, size)| (*segment, size.mails))
    }

    /// Segments that are set aside.
    pub(super) fn aside(&self) -> BTreeSet<SegmentId> {
        self.aside.keys().copied().collect()
    }

    pub(super) fn has(&self, segment: SegmentId) -> bool {
        self.by_segment.contains_key(&segment)
    }

    /// Bytes of all files, for those who show them.
    pub(super) fn files(&self) -> u64 {
        self.files
    }

    /// Bytes of all files, and those reserved for outcomes.
    pub(super) fn charged(&self) -> &Usage {
        &self.charged
    }

    /// Adds bytes of messages, with so many pairs of message and destination.
    pub(super) fn add_mails(&mut self, segment: SegmentId, bytes: u64, pairs: u64) {
        self.change(segment, |size| {
            size.mails += bytes;
            size.pairs += pairs;
        });
    }

    /// Notes how many pairs of message and destination a segment holds that another process wrote.
    pub(super) fn set_pairs(&mut self, segment: SegmentId, pairs: u64) {
        if self.has(segment) {
            self.change(segment, |size| size.pairs = size.pairs.max(pairs));
        }
    }

    /// Notes what a segment's outcomes take.
    pub(super) fn set_outcomes(&mut self, segment: SegmentId, bytes: u64) {
        if self.has(segment) {
            self.change(segment, |size| size.outcomes = bytes);
        }
    }

    /// Forgets a segment whose files are gone.
    pub(super) fn remove(&mut self, segment: SegmentId) {
        if let Some(size) = self.by_segment.remove(&segment) {
            self.files -= size.files();
            self.charged.0.fetch_sub(size.charged(self.outcome_bytes), Ordering::AcqRel);
        }
    }

    /// Counts a segment that was set aside by its files alone.
    pub(super) fn set_aside(&mut self, segment: SegmentId) {
        let bytes = self.by_segment.get(&segment).map_or(0, |size| size.files());
        self.remove(segment);
        self.add_aside(segment, bytes);
    }

    /// Adds bytes of a segment that is set aside.
    pub(super) fn add_aside(&mut self, segment: SegmentId, bytes: u64) {
        *self.aside.entry(segment).or_default() += bytes;
        self.files += bytes;
        self.charged.0.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Forgets a segment that was set aside and has been removed since.
    pub(super) fn remove_aside(&mut self, segment: SegmentId) {
        if let Some(bytes) = self.aside.remove(&segment) {
            self.files -= bytes;
            self.charged.0.fetch_sub(bytes, Ordering::AcqRel);
        }
    }

    fn change(&mut self, segment: SegmentId, change: impl FnOnce(&mut Size)) {
        let size = self.by_segment.entry(segment).or_default();
        let before = *size;
        change(size);
        let after = *size;
        self.files = self.files - before.files() + after.files();
        let (before, after) = (before.charged(self.outcome_bytes), after.charged(self.outcome_bytes));
        // One step, so that a reader never sees a spool that seems empty.
        if after >= before {
            self.charged.0.fetch_add(after - before, Ordering::AcqRel);
        } else {
            self.charged.0.fetch_sub(before - after, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_charged_before_they_are_written() {
        let mut sizes = Sizes::new(100);
        sizes.add_mails(1, 1_000, 3);
        assert_eq!((sizes.files(), sizes.charged().bytes()), (1_000, 1_300));
        sizes.set_outcomes(1, 250);
        assert_eq!((sizes.files(), sizes.charged().bytes()), (1_250, 1_300));
        sizes.set_outcomes(1, 450);
        assert_eq!((sizes.files(), sizes.charged().bytes()), (1_450, 1_450));
        sizes.set_outcomes(1, 200);
        sizes.set_aside(1);
        assert_eq!((sizes.files(), sizes.charged().bytes()), (1_200, 1_200));
        assert!(!sizes.has(1) && sizes.aside() == BTreeSet::from([1]));
        sizes.remove_aside(1);
        assert_eq!((sizes.files(), sizes.charged().bytes()), (0, 0));
    }
}
