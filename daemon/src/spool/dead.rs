//! Dead letters: mails that were given up, kept with the reason until a person looks at them, they
//! are too old, or there are too many.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use tracing::{error, warn};

use crate::metrics::SpoolMetrics;

use super::LOG_TARGET;
use super::disk::Disk;
use super::entry::{Head, Outcome};
use super::segment::{Extent, Found, Location, SegmentId, State, load, scan};
use super::selector::Selector;
use super::store::{AppendError, Entry, Room, Store};

/// The store of dead letters: a spool of its own, in which nothing is ever due.
pub struct DeadLetters<D: Disk> {
    store: Store<D>,
    lifetime_ms: u64,
    segments: BTreeMap<SegmentId, Kept>,
    metrics: SpoolMetrics,
}

/// The dead letters of a segment.
#[derive(Debug, Default)]
struct Kept {
    routes: BTreeMap<String, u64>,
    /// When the newest of them died, in milliseconds since 1970.
    newest_ms: u64,
}

/// A dead letter that was taken out of its segment.
#[derive(Debug)]
pub struct Exhumed {
    /// Where it is.
    pub at: Location,
    /// What is known of it.
    pub head: Head,
    /// Its content.
    pub content: Vec<u8>,
}

impl<D: Disk> DeadLetters<D> {
    /// Takes stock of what is in `store`. A dead letter is kept for `lifetime`.
    #[must_use]
    pub fn new(store: Store<D>, lifetime: Duration, metrics: SpoolMetrics) -> Self {
        let lifetime_ms = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
        let mut dead = Self { store, lifetime_ms, segments: BTreeMap::new(), metrics };
        let segments: Vec<SegmentId> = dead.store.segments().collect();
        for segment in segments {
            let mut kept = Kept::default();
            let scanned = scan(dead.store.disk(), &Extent::all_of(segment), |found| {
                if is_kept(&found) {
                    kept.add(&found.head);
                }
                ControlFlow::Continue(())
            });
            if let Err(error) = scanned {
                error!(target: LOG_TARGET, segment, %error, "dead letters cannot be read");
            }
            for (route, count) in &kept.routes {
                dead.metrics.dead_letters(route, i64::try_from(*count).unwrap_or(i64::MAX));
            }
            dead.segments.insert(segment, kept);
        }
        dead
    }

    /// Dead letters that are kept.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.segments.values().map(Kept::count).sum()
    }

    /// All segments.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentId> {
        self.segments.keys().copied().collect()
    }

    /// Keeps mails. The oldest dead letters go where there is no room.
    pub fn keep(&mut self, heads: &[Head], entries: &[Entry]) -> Vec<Result<(), AppendError>> {
        let results = self.store.append(entries, Room::Bounded);
        for (result, head) in results.iter().zip(heads) {
            if let Ok(at) = result {
                self.count_in(at.segment, head);
            }
        }
        let kept = results.into_iter().zip(heads).zip(entries).map(|((mut result, head), entry)| {
            while result == Err(AppendError::Full) && self.evict_oldest() {
                result = self.store.append(std::slice::from_ref(entry), Room::Bounded).remove(0);
                if let Ok(at) = &result {
                    self.count_in(at.segment, head);
                }
            }
            result.map(drop)
        });
        kept.collect()
    }

    fn count_in(&mut self, segment: SegmentId, head: &Head) {
        self.segments.entry(segment).or_default().add(head);
        for target in &head.destinations {
            self.metrics.dead_letters(&target.route, 1);
        }
    }

    /// Gives up dead letters that are older than their lifetime, a segment at a time.
    pub fn expire(&mut self, now_ms: u64) {
        let too_old = |kept: &Kept| kept.newest_ms.saturating_add(self.lifetime_ms) <= now_ms;
        let old: Vec<SegmentId> =
            self.segments.iter().filter(|(_, kept)| too_old(kept)).map(|(segment, _)| *segment).collect();
        old.into_iter().for_each(|segment| self.evict(segment, "it is older than they are kept"));
    }

    fn evict_oldest(&mut self) -> bool {
        let oldest = self.segments.keys().next().copied();
        if let Some(oldest) = oldest {
            self.evict(oldest, "there is no room for all of them");
        }
        oldest.is_some()
    }

    fn evict(&mut self, segment: SegmentId, why: &str) {
        let _ = scan(self.store.disk(), &self.store.extent(segment), |found| {
            if is_kept(&found) {
                let reason = found.head.death.as_ref().map_or("", |death| death.reason.as_str());
                warn!(target: LOG_TARGET, id = found.head.id, reason, why, "dead letter dropped");
                self.metrics.dead_letter_dropped();
            }
            ControlFlow::Continue(())
        });
        self.forget(segment);
    }

    fn forget(&mut self, segment: SegmentId) {
        if let Err(error) = self.store.retire(segment) {
            error!(target: LOG_TARGET, segment, %error, "dead letters cannot be removed");
        }
        for (route, count) in self.segments.remove(&segment).unwrap_or_default().routes {
            self.metrics.dead_letters(&route, -i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Dead letters of a segment that `selector` chooses, each given to `visit` with its content.
    ///
    /// # Errors
    /// When the segment cannot be read.
    pub fn select(
        &self,
        segment: SegmentId,
        selector: &Selector,
        now_ms: u64,
        mut visit: impl FnMut(Exhumed),
    ) -> io::Result<()> {
        let mut chosen = Vec::new();
        scan(self.store.disk(), &self.store.extent(segment), |found| {
            if is_kept(&found) && selector.chooses_dead(&found.head, now_ms) {
                chosen.push(Location { segment, offset: found.offset });
            }
            ControlFlow::Continue(())
        })?;
        for at in chosen {
            let loaded = load(self.store.disk(), at)?;
            visit(Exhumed { at, head: loaded.head, content: loaded.content });
        }
        Ok(())
    }

    /// Dead letters are kept no longer.
    ///
    /// # Errors
    /// When it cannot be written; they may come back after a restart then.
    pub fn release(&mut self, released: &[(Location, Head)], outcome: &Outcome) -> io::Result<()> {
        for (at, head) in released {
            self.store.note(*at, 0, outcome.clone());
            let Some(kept) = self.segments.get_mut(&at.segment) else { continue };
            for target in &head.destinations {
                if let Some(count) = kept.routes.get_mut(&target.route) {
                    *count = count.saturating_sub(1);
                    self.metrics.dead_letters(&target.route, -1);
                }
            }
        }
        let written = self.store.write_outcomes(true);
        let empty: Vec<SegmentId> =
            self.segments.iter().filter(|(_, kept)| kept.count() == 0).map(|(segment, _)| *segment).collect();
        empty.into_iter().for_each(|segment| self.forget(segment));
        written
    }
}

impl Kept {
    fn count(&self) -> u64 {
        self.routes.values().sum()
    }

    fn add(&mut self, head: &Head) {
        for target in &head.destinations {
            *self.routes.entry(target.route.clone()).or_default() += 1;
        }
        let died_ms = head.death.as_ref().map_or(head.received_at_ms, |death| death.at_ms);
        self.newest_ms = self.newest_ms.max(died_ms);
    }
}

/// Whether it was neither replayed nor discarded.
#[must_use]
pub fn is_kept(found: &Found) -> bool {
    found.states.iter().any(|state| matches!(state, State::Pending(_)))
}
