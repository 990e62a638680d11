//! Dead letters: mails that were given up, kept with the reason until a person looks at them, they
//! are too old, or there are too many.

pub mod keeper;

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use tracing::{error, warn};

use crate::metrics::SpoolMetrics;

use super::LOG_TARGET;
use super::disk::Disk;
use super::entry::{Head, Outcome};
use super::segment::{Loaded, Location, SegmentId, load, scan};
use super::selector::Selector;
use super::store::{AppendError, Entry, Store};

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
    routes: BTreeMap<String, OfRoute>,
    /// When the oldest of them died, in milliseconds since 1970, or before.
    oldest_ms: Option<u64>,
    /// Whether not all of them are known, because the segment could not be read.
    is_unread: bool,
}

/// Dead letters of a route in a segment.
#[derive(Debug, Default, Clone, Copy)]
struct OfRoute {
    count: u64,
    bytes: u64,
}

/// A dead letter that a person has chosen.
#[derive(Debug)]
pub struct Chosen {
    /// Where it is.
    pub at: Location,
    /// What is known of it.
    pub head: Head,
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
            let extent = dead.store.extent(segment);
            let scanned = scan(dead.store.disk(), &extent, |found| {
                if found.is_pending() {
                    let died_ms = died_ms(&found.head).saturating_add_signed(extent.shift_ms);
                    kept.add(&found.head, died_ms, found.entry_bytes);
                }
                ControlFlow::Continue(())
            });
            if let Err(error) = scanned {
                error!(target: LOG_TARGET, segment, %error, "dead letters cannot be read");
                kept.is_unread = true;
            }
            for (route, of_route) in &kept.routes {
                dead.metrics.dead_letters(route, i64::try_from(of_route.count).unwrap_or(i64::MAX));
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

    /// Keeps mails. Where there is no room, dead letters of the route that has most go, the oldest first: one whose webhook
    /// is away for good takes nothing from the others.
    pub fn keep(&mut self, heads: &[Head], entries: &[Entry]) -> Vec<Result<(), AppendError>> {
        let results = self.store.append(entries);
        for ((result, head), entry) in results.iter().zip(heads).zip(entries) {
            if let Ok(at) = result {
                self.count_in(at.segment, head, entry.bytes());
            }
        }
        let kept = results.into_iter().zip(heads).zip(entries).map(|((mut result, head), entry)| {
            while result == Err(AppendError::Full) && self.make_room() {
                result = self.store.append(std::slice::from_ref(entry)).remove(0);
                if let Ok(at) = &result {
                    self.count_in(at.segment, head, entry.bytes());
                }
            }
            result.map(drop)
        });
        kept.collect()
    }

    fn count_in(&mut self, segment: SegmentId, head: &Head, bytes: u64) {
        self.segments.entry(segment).or_default().add(head, died_ms(head), bytes);
        for target in &head.destinations {
            self.metrics.dead_letters(&target.route, 1);
        }
    }

    /// Gives up dead letters that are older than their lifetime.
    pub fn expire(&mut self, now_ms: u64) {
        // What failed before is tried again now and then.
        if let Err(error) = self.store.write_corrections().and_then(|()| self.store.remove_again()) {
            error!(target: LOG_TARGET, %error, "files of dead letters cannot be written or removed; it is tried again");
        }
        let lifetime_ms = self.lifetime_ms;
        let is_old = |died_ms: u64| died_ms.saturating_add(lifetime_ms) <= now_ms;
        let has_old = |(_, kept): &(&SegmentId, &Kept)| kept.oldest_ms.is_some_and(is_old);
        let segments: Vec<SegmentId> =
            self.segments.iter().filter(has_old).map(|(segment, _)| *segment).collect();
        for segment in segments {
            let (mut old, mut oldest_ms) = (Vec::new(), None::<u64>);
            let extent = self.store.extent(segment);
            let scanned = scan(self.store.disk(), &extent, |found| {
                let died_ms = died_ms(&found.head).saturating_add_signed(extent.shift_ms);
                if found.is_pending() && is_old(died_ms) {
                    old.push((Location { segment, offset: found.offset }, found.head));
                } else if found.is_pending() {
                    oldest_ms = Some(oldest_ms.map_or(died_ms, |oldest| oldest.min(died_ms)));
                }
                ControlFlow::Continue(())
            });
            if let Some(kept) = self.segments.get_mut(&segment).filter(|_| scanned.is_ok()) {
                kept.oldest_ms = oldest_ms;
            }
            old.iter().for_each(|(_, head)| self.note_drop(head, "it is older than they are kept"));
            if let Err(error) = scanned.and_then(|_| self.release(&old, &Outcome::Discarded)) {
                error!(target: LOG_TARGET, segment, %error, "dead letters that are too old cannot be removed");
            }
        }
    }

    fn note_drop(&self, head: &Head, why: &str) {
        let reason = head.death.as_ref().map_or("", |death| death.reason.as_str());
        warn!(target: LOG_TARGET, id = head.id, reason, why, "dead letter dropped");
        self.metrics.dead_letter_dropped();
    }

    fn make_room(&mut self) -> bool {
        let evicted = self.least_missed();
        if let Some(segment) = evicted {
            self.evict(segment);
        }
        evicted.is_some()
    }

    /// The segment that goes for others: that which is most of all of the route with most, where this is half of it, and
    /// else the oldest; of several the oldest, too.
    fn least_missed(&self) -> Option<SegmentId> {
        let mut routes: BTreeMap<&str, u64> = BTreeMap::new();
        for (route, of_route) in self.segments.values().flat_map(|kept| &kept.routes) {
            *routes.entry(route).or_default() += of_route.bytes;
        }
        let most = routes.into_iter().max_by_key(|(_, bytes)| *bytes).map_or("", |(route, _)| route);
        let percent = |kept: &Kept| kept.bytes_of(most) * 100 / kept.bytes().max(1);
        // One that could not be read when stock was taken shows nothing of what is in it.
        let known = self.segments.iter().rev().filter(|(_, kept)| kept.bytes() > 0);
        let its = known.filter(|(_, kept)| percent(kept) >= 50).max_by_key(|(_, kept)| percent(kept));
        let least_missed = its.or_else(|| self.segments.iter().next());
        least_missed.map(|(segment, _)| *segment)
    }

    fn evict(&mut self, segment: SegmentId) {
        // What cannot be read is dropped without its name.
        let _ = scan(self.store.disk(), &self.store.extent(segment), |found| {
            if found.is_pending() {
                self.note_drop(&found.head, "there is no room for all of them");
            }
            ControlFlow::Continue(())
        });
        self.forget(segment);
    }

    fn forget(&mut self, segment: SegmentId) {
        if let Err(error) = self.store.retire(segment) {
            error!(target: LOG_TARGET, segment, %error, "dead letters cannot be removed");
        }
        for (route, of_route) in self.segments.remove(&segment).unwrap_or_default().routes {
            self.metrics.dead_letters(&route, -i64::try_from(of_route.count).unwrap_or(i64::MAX));
        }
    }

    /// Dead letters of a segment that `selector` chooses.
    ///
    /// # Errors
    /// When the segment cannot be read.
    pub fn select(&self, segment: SegmentId, selector: &Selector, now_ms: u64) -> io::Result<Vec<Chosen>> {
        let mut chosen = Vec::new();
        scan(self.store.disk(), &self.store.extent(segment), |found| {
            if found.is_pending() && selector.chooses_dead(&found.head, now_ms) {
                let at = Location { segment, offset: found.offset };
                chosen.push(Chosen { at, head: found.head });
            }
            ControlFlow::Continue(())
        })?;
        Ok(chosen)
    }

    /// Reads a dead letter.
    ///
    /// # Errors
    /// When it cannot be read, or what is known of it is damaged (`InvalidData`).
    pub fn load(&self, at: Location) -> io::Result<Loaded> {
        load(self.store.disk(), at)
    }

    /// Notes that the clock was corrected.
    pub fn correct_clock(&mut self, by_ms: i64) {
        if let Err(error) = self.store.correct_clock(by_ms) {
            error!(target: LOG_TARGET, %error, "a correction of the clock cannot be written for dead letters; it is tried again");
        }
        for kept in self.segments.values_mut() {
            kept.oldest_ms = kept.oldest_ms.map(|ms| ms.saturating_add_signed(by_ms));
        }
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
                if let Some(of_route) = kept.routes.get_mut(&target.route) {
                    of_route.release_one();
                    self.metrics.dead_letters(&target.route, -1);
                }
            }
        }
        let written = self.store.write_outcomes(true);
        let empty: Vec<SegmentId> = self
            .segments
            .iter()
            .filter(|(_, kept)| kept.count() == 0 && !kept.is_unread)
            .map(|(segment, _)| *segment)
            .collect();
        empty.into_iter().for_each(|segment| self.forget(segment));
        written
    }
}

impl Kept {
    fn count(&self) -> u64 {
        self.routes.values().map(|of_route| of_route.count).sum()
    }

    fn bytes(&self) -> u64 {
        self.routes.values().map(|of_route| of_route.bytes).sum()
    }

    fn bytes_of(&self, route: &str) -> u64 {
        self.routes.get(route).map_or(0, |of_route| of_route.bytes)
    }

    fn add(&mut self, head: &Head, died_ms: u64, bytes: u64) {
        for target in &head.destinations {
            let of_route = self.routes.entry(target.route.clone()).or_default();
            *of_route = OfRoute { count: of_route.count + 1, bytes: of_route.bytes + bytes };
        }
        self.oldest_ms = Some(self.oldest_ms.map_or(died_ms, |oldest| oldest.min(died_ms)));
    }
}

impl OfRoute {
    /// One has gone, of which it is not known how large it was.
    fn release_one(&mut self) {
        self.bytes -= self.bytes / self.count.max(1);
        self.count = self.count.saturating_sub(1);
    }
}

fn died_ms(head: &Head) -> u64 {
    head.death.as_ref().map_or(head.received_at_ms, |death| death.at_ms)
}

#[cfg(test)]
mod tests {
    use super::super::entry::Death;
    use super::super::faulty::FaultyDisk;
    use super::super::store::Limits;
    use super::super::survey;
    use super::*;

    #[test]
    fn who_has_most_makes_room_for_all() {
        let limits = Limits { total_bytes: 100_000, segment_bytes: 10_000, outcome_bytes: 0 };
        let store = Store::open(FaultyDisk::default(), limits).unwrap();
        let mut dead = DeadLetters::new(store, Duration::from_secs(10), SpoolMetrics::default());
        let mut number = 0;
        let mut keep = |dead: &mut DeadLetters<FaultyDisk>, route: &str, count: u64| {
            for _ in 0..count {
                number += 1;
                let mut head = Head::example(&number.to_string());
                head.destinations[0].route = route.to_owned();
                let entry = Entry::new(&head, vec![b'x'; 1_000]).unwrap();
                assert_eq!(dead.keep(&[head], &[entry]), [Ok(())]);
            }
        };
        let count = |dead: &DeadLetters<FaultyDisk>, route: &str| -> u64 {
            dead.segments.values().filter_map(|kept| kept.routes.get(route)).map(|it| it.count).sum()
        };
        keep(&mut dead, "quiet", 3);
        keep(&mut dead, "loud", 500);
        let loud = count(&dead, "loud");
        assert_eq!(count(&dead, "quiet"), 3);
        assert!(loud > 30, "{loud}: nothing is left");
        keep(&mut dead, "quiet", 30);
        assert_eq!(count(&dead, "quiet"), 33);
        assert!(count(&dead, "loud") < loud);
        // Those of one route alone go in the order in which they came.
        let mut left = Vec::new();
        for segment in dead.segments() {
            let selector = Selector::default();
            left.extend(dead.select(segment, &selector, 0).unwrap().into_iter().map(|chosen| chosen.head.id));
        }
        assert!(left.contains(&"503".to_owned()) && !left.contains(&"20".to_owned()), "{left:?}");
    }

    #[test]
    fn each_is_kept_for_its_lifetime() {
        let disk = FaultyDisk::default();
        let limits = Limits { total_bytes: 100_000, segment_bytes: 10_000, outcome_bytes: 0 };
        let open = || {
            let store = Store::open(disk.clone(), limits).unwrap();
            DeadLetters::new(store, Duration::from_secs(10), SpoolMetrics::default())
        };
        let mut dead = open();
        for at_ms in [1_000, 5_000, 9_000] {
            let death = Some(Death { at_ms, reason: String::new(), is_damaged: false });
            let head = Head { death, ..Head::example(&at_ms.to_string()) };
            let entry = Entry::new(&head, Vec::new()).unwrap();
            assert_eq!(dead.keep(&[head], &[entry]), [Ok(())]);
        }
        for (now_ms, count) in [(10_999, 3), (11_000, 2), (14_999, 2), (16_000, 1)] {
            dead.expire(now_ms);
            assert_eq!((dead.count(), survey::count(&disk).unwrap()), (count, count), "at {now_ms}");
        }
        let mut dead = open();
        assert_eq!(dead.count(), 1);
        dead.expire(19_000);
        assert_eq!((dead.count(), disk.list().unwrap().len()), (0, 0), "nothing is left on disk");
    }
}
