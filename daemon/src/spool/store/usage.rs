//! What a spool's files take.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::spool::segment::SegmentId;

/// Octets of each segment's files, and of all together: the sum is asked for with every group of mails.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    by_segment: BTreeMap<SegmentId, u64>,
    total: Usage,
}

/// What a spool's files take, for those who do not write to it.
#[derive(Debug, Clone, Default)]
pub struct Usage(Arc<AtomicU64>);

impl Usage {
    /// Octets of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

impl Sizes {
    /// All segments, the oldest first.
    pub(super) fn segments(&self) -> impl Iterator<Item = SegmentId> {
        self.by_segment.keys().copied()
    }

    pub(super) fn has(&self, segment: SegmentId) -> bool {
        self.by_segment.contains_key(&segment)
    }

    /// Of all files together.
    pub(super) fn total(&self) -> &Usage {
        &self.total
    }

    pub(super) fn grow(&mut self, segment: SegmentId, bytes: u64) {
        *self.by_segment.entry(segment).or_default() += bytes;
        self.total.0.fetch_add(bytes, Ordering::AcqRel);
    }

    pub(super) fn remove(&mut self, segment: SegmentId) {
        self.total.0.fetch_sub(self.by_segment.remove(&segment).unwrap_or(0), Ordering::AcqRel);
    }
}
