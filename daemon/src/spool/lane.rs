//! The mails that wait for one destination in memory, and which of them goes next. Pure.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};

use super::pace::Window;
use super::segment::{Location, SegmentId};

/// Names a lane.
pub type LaneId = u32;

/// One mail at one of its destinations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pair {
    /// Where the mail is.
    pub mail: Location,
    /// Which of its destinations, in the order of its head.
    pub destination: u16,
}

/// A pair that waits to be delivered. `T` is what is held of the mail in memory.
#[derive(Debug, Clone)]
pub struct Waiting<T> {
    /// What waits.
    pub pair: Pair,
    /// Where it goes.
    pub lane: LaneId,
    /// When its lifetime began, in milliseconds since 1970.
    pub since_ms: u64,
    /// When it is due, in milliseconds since 1970.
    pub due_ms: u64,
    /// Deliveries that failed.
    pub failures: u32,
    /// Its share of the octets of the mail on disk.
    pub bytes: u64,
    /// The mail, as long as it is in memory anyway.
    pub held: Option<T>,
}

/// Whether a destination takes deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Its circuit is closed.
    Open,
    /// Its circuit may be tried by one delivery.
    Probe,
    /// Its circuit is open.
    Shut,
}

/// The mails of one destination that are in memory.
///
/// Fresh mails and those from disk take turns: neither does a backlog of days hold up what comes in
/// now, nor the other way round.
#[derive(Debug)]
pub struct Lane<T> {
    fresh: VecDeque<Waiting<T>>,
    /// Whether something may be held of a fresh one.
    holds: bool,
    due: BTreeMap<(u64, Pair), Waiting<T>>,
    /// What is under way, by the window's names.
    under_way: BTreeMap<Pair, u64>,
    probe: Option<Pair>,
    window: Window,
    /// Mails of each kind, fresh and due.
    bound: usize,
    /// Whether it is the turn of a fresh one.
    freshs_turn: bool,
    /// Since when the oldest of the due ones exists, while that is known.
    oldest_due_ms: Cell<Option<Option<u64>>>,
    /// Whether its messages have nowhere to go.
    pub is_given_up: bool,
}

impl<T> Lane<T> {
    /// An empty lane with up to `concurrency` deliveries at once, and up to `bound` mails in memory of
    /// each kind, fresh and due.
    #[must_use]
    pub fn new(concurrency: u32, bound: usize) -> Self {
        Self {
            fresh: VecDeque::new(),
            holds: false,
            due: BTreeMap::new(),
            under_way: BTreeMap::new(),
            probe: None,
            window: Window::new(concurrency),
            bound,
            freshs_turn: true,
            oldest_due_ms: Cell::new(None),
            is_given_up: false,
        }
    }

    /// Allows so many deliveries at once from now on.
    pub fn set_concurrency(&mut self, concurrency: u32) {
        self.window.set_max(concurrency);
    }

    /// Mails in memory, those under way aside.
    #[must_use]
    pub fn loaded(&self) -> usize {
        self.fresh.len() + self.due.len()
    }

    /// Mails in memory that are due, fresh ones aside, counted up to `most`.
    #[must_use]
    pub fn due_len(&self, now_ms: u64, most: usize) -> usize {
        self.due.keys().take(most).take_while(|(due_ms, _)| *due_ms <= now_ms).count()
    }

    /// Whether nothing in memory is due, and nothing under way.
    #[must_use]
    pub fn is_idle(&self, now_ms: u64) -> bool {
        self.fresh.is_empty() && self.due_len(now_ms, 1) == 0 && self.under_way.is_empty()
    }

    /// Fresh mails in memory.
    #[must_use]
    pub fn fresh_len(&self) -> usize {
        self.fresh.len()
    }

    /// Adds a mail that was just spooled.
    ///
    /// # Errors
    /// Gives it back when there are enough.
    pub fn push_fresh(&mut self, waiting: Waiting<T>) -> Result<(), Waiting<T>> {
        if self.fresh.len() >= self.bound {
            return Err(waiting);
        }
        self.holds |= waiting.held.is_some();
        self.fresh.push_back(waiting);
        Ok(())
    }

    /// What is held of fresh ones is held no longer.
    pub fn let_go(&mut self) {
        if std::mem::take(&mut self.holds) {
            self.fresh.iter_mut().for_each(|waiting| waiting.held = None);
        }
    }

    /// Adds a mail from disk, or one that failed; returns the one that is due last when there are
    /// too many.
    pub fn push_due(&mut self, waiting: Waiting<T>) -> Option<Waiting<T>> {
        self.oldest_due_ms.set(None);
        self.due.insert((waiting.due_ms, waiting.pair), waiting);
        if self.due.len() > self.bound { self.pop_last_due() } else { None }
    }

    /// Takes out the one that is due last, fresh ones aside.
    pub fn pop_last_due(&mut self) -> Option<Waiting<T>> {
        self.oldest_due_ms.set(None);
        self.due.pop_last().map(|(_, last)| last)
    }

    /// Moves all times, after the clock was corrected.
    pub fn shift(&mut self, shift: impl Fn(u64) -> u64) {
        self.oldest_due_ms.set(None);
        let moved = |waiting: Waiting<T>| {
            let (since_ms, due_ms) = (shift(waiting.since_ms), shift(waiting.due_ms));
            Waiting { since_ms, due_ms, ..waiting }
        };
        self.fresh = std::mem::take(&mut self.fresh).into_iter().map(moved).collect();
        let due = std::mem::take(&mut self.due).into_values().map(moved);
        self.due = due.map(|waiting| ((waiting.due_ms, waiting.pair), waiting)).collect();
    }

    /// All mails in memory are due from now on.
    pub fn hasten(&mut self) {
        self.fresh.iter_mut().for_each(|waiting| waiting.due_ms = 0);
        let due = std::mem::take(&mut self.due).into_values();
        self.due = due.map(|waiting| ((0, waiting.pair), Waiting { due_ms: 0, ..waiting })).collect();
    }

    /// The mail to be delivered now, which is under way from then on.
    pub fn next(&mut self, now_ms: u64, gate: Gate) -> Option<Waiting<T>> {
        let admitted = match gate {
            Gate::Open => self.window.has_room(),
            Gate::Probe => self.probe.is_none(),
            Gate::Shut => false,
        };
        if !admitted {
            return None;
        }
        let due = self.due.first_key_value().map(|((due_ms, _), _)| *due_ms).filter(|due| *due <= now_ms);
        let fresh = match (self.fresh.front(), due) {
            (None, None) => return None,
            (None, Some(_)) => false,
            (Some(_), None) => true,
            // The probe is the one that is due longest.
            (Some(fresh), Some(due)) if gate == Gate::Probe => fresh.due_ms < due,
            (Some(_), Some(_)) => self.freshs_turn,
        };
        self.freshs_turn = !fresh;
        let next = if fresh {
            self.fresh.pop_front()
        } else {
            self.oldest_due_ms.set(None);
            self.due.pop_first().map(|(_, waiting)| waiting)
        }?;
        self.under_way.insert(next.pair, self.window.begin());
        if gate == Gate::Probe {
            self.probe = Some(next.pair);
        }
        Some(next)
    }

    /// A delivery has ended. `succeeded` says how; `None` when there was none.
    pub fn back(&mut self, pair: Pair, succeeded: Option<bool>) {
        self.probe.take_if(|probe| *probe == pair);
        if let Some(delivery) = self.under_way.remove(&pair) {
            self.window.end(delivery, succeeded);
        }
    }

    /// Pairs of a segment that are in memory.
    pub fn of_segment(&self, segment: SegmentId) -> impl Iterator<Item = Pair> {
        self.waiting().map(|waiting| waiting.pair).filter(move |pair| pair.mail.segment == segment)
    }

    /// Takes out a pair of which the disk says that it is due then: here it may be due at another time, which is not
    /// worth a write.
    pub fn pick(&mut self, due_ms: u64, pair: Pair) -> Option<Waiting<T>> {
        let is_pair = |key: &(u64, Pair)| key.1 == pair;
        let key = Some((due_ms, pair)).filter(|key| self.due.contains_key(key));
        let key = key.or_else(|| self.due.keys().copied().find(is_pair));
        if let Some(waiting) = key.and_then(|key| self.due.remove(&key)) {
            self.oldest_due_ms.set(None);
            return Some(waiting);
        }
        // Fresh ones come in the order in which they were written.
        let index = self.fresh.binary_search_by_key(&pair, |waiting| waiting.pair).ok()?;
        self.fresh.remove(index)
    }

    /// Takes out those that `wanted` chooses.
    pub fn take(&mut self, wanted: impl Fn(&Waiting<T>) -> bool) -> Vec<Waiting<T>> {
        let due: Vec<(u64, Pair)> =
            self.due.iter().filter(|(_, waiting)| wanted(waiting)).map(|(key, _)| *key).collect();
        self.oldest_due_ms.set(None);
        let mut taken: Vec<Waiting<T>> = due.iter().filter_map(|key| self.due.remove(key)).collect();
        if self.fresh.iter().any(&wanted) {
            let (chosen, kept): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.fresh).into_iter().partition(wanted);
            self.fresh = kept.into();
            taken.extend(chosen);
        }
        taken
    }

    /// Since when the oldest in memory exists, in milliseconds since 1970.
    #[must_use]
    pub fn oldest_ms(&self) -> Option<u64> {
        let due = self.oldest_due_ms.get().unwrap_or_else(|| {
            let oldest = self.due.values().map(|waiting| waiting.since_ms).min();
            self.oldest_due_ms.set(Some(oldest));
            oldest
        });
        // Fresh ones come in the order in which they were taken.
        self.fresh.front().map(|waiting| waiting.since_ms).into_iter().chain(due).min()
    }

    fn waiting(&self) -> impl Iterator<Item = &Waiting<T>> {
        self.fresh.iter().chain(self.due.values())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: usize = 100;

    fn waiting(offset: u64, due_ms: u64) -> Waiting<()> {
        let pair = Pair { mail: Location { segment: 1, offset }, destination: 0 };
        Waiting { pair, lane: 0, since_ms: due_ms, due_ms, failures: 0, bytes: 1, held: None }
    }

    fn lane() -> Lane<()> {
        let mut lane = Lane::new(64, BOUND);
        for _ in 0..63 {
            let delivery = lane.window.begin();
            lane.window.end(delivery, Some(true));
        }
        lane
    }

    fn next(lane: &mut Lane<()>, now_ms: u64, gate: Gate) -> Option<u64> {
        lane.next(now_ms, gate).map(|waiting| waiting.pair.mail.offset)
    }

    #[test]
    fn fresh_and_due_mails_take_turns_and_none_goes_before_its_time() {
        let mut lane = lane();
        (1..=3).for_each(|n| lane.push_fresh(waiting(n, 100)).unwrap());
        (11..=14).for_each(|n| assert!(lane.push_due(waiting(n, n)).is_none()));
        let order: Vec<u64> = std::iter::from_fn(|| next(&mut lane, 13, Gate::Open)).collect();
        assert_eq!(order, [1, 11, 2, 12, 3, 13]);
        assert_eq!(next(&mut lane, 14, Gate::Open), Some(14));
    }

    #[test]
    fn the_probe_is_the_one_that_is_due_longest_and_goes_alone() {
        let mut lane = lane();
        lane.push_fresh(waiting(1, 50)).unwrap();
        lane.push_due(waiting(2, 40));
        assert_eq!(next(&mut lane, 60, Gate::Shut), None);
        assert_eq!(next(&mut lane, 60, Gate::Probe), Some(2));
        assert_eq!(next(&mut lane, 60, Gate::Probe), None);
        lane.back(waiting(2, 40).pair, Some(false));
        assert_eq!(next(&mut lane, 60, Gate::Probe), Some(1));
    }

    #[test]
    fn the_window_bounds_what_is_under_way() {
        let mut lane = Lane::new(2, BOUND);
        (1..=9).for_each(|n| lane.push_fresh(waiting(n, 0)).unwrap());
        assert_eq!((next(&mut lane, 0, Gate::Open), next(&mut lane, 0, Gate::Open)), (Some(1), None));
        lane.back(waiting(1, 0).pair, Some(true));
        assert_eq!(std::iter::from_fn(|| next(&mut lane, 0, Gate::Open)).count(), 2);
        lane.back(waiting(2, 0).pair, Some(false));
        assert_eq!(next(&mut lane, 0, Gate::Open), None, "one is under way, and one is allowed");
    }

    #[test]
    fn what_is_hastened_is_due_whenever_it_was() {
        let mut lane = lane();
        (11..=13).for_each(|n| assert!(lane.push_due(waiting(n, 1_000 + n)).is_none()));
        assert_eq!(next(&mut lane, 100, Gate::Open), None);
        lane.hasten();
        assert_eq!(lane.pick(1_012, waiting(12, 0).pair).unwrap().pair.mail.offset, 12);
        assert_eq!(std::iter::from_fn(|| next(&mut lane, 100, Gate::Open)).collect::<Vec<_>>(), [11, 13]);
        // One that was under way meanwhile, and waits again, is found whatever the disk says.
        assert!(lane.push_due(waiting(14, 1_014)).is_none());
        assert!(lane.pick(0, waiting(14, 0).pair).is_some());
    }

    #[test]
    fn a_lane_is_bounded_and_keeps_what_is_due_first() {
        let mut lane = lane();
        let bound = BOUND as u64;
        (0..bound).for_each(|n| lane.push_fresh(waiting(n, 0)).unwrap());
        assert!(lane.push_fresh(waiting(bound, 0)).is_err());
        (0..bound).for_each(|n| assert!(lane.push_due(waiting(n, n + 10)).is_none()));
        assert_eq!(lane.push_due(waiting(bound, 5)).unwrap().pair.mail.offset, bound - 1);
    }
}
