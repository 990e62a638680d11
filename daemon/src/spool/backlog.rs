//! All mails that wait, most of them on disk alone: what is in memory, what is read next, which
//! segments have had their time. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::lane::{Gate, Lane, LaneId, Pair, Waiting};
use super::segment::SegmentId;

/// How many mails are in memory.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Of one lane, fresh and due ones each: enough to keep any number of delivery slots busy while
    /// the next ones are read from disk.
    pub lane: usize,
    /// Of all lanes together, those under way aside.
    pub total: usize,
    /// Of a lane in any case, whatever the others have.
    pub share: usize,
}

impl Default for Bounds {
    /// Some 7 MB in all.
    fn default() -> Self {
        Self { lane: 1_024, total: 65_536, share: 16 }
    }
}

/// Mails that are due within this time are brought into memory when their segment is read anyway, so
/// that it is not read for each of them.
const HORIZON_MS: u64 = 60_000;

/// How long a segment that could not be read is left alone.
const UNREADABLE_WAIT_MS: u64 = 60_000;

/// The mails of a spool that wait.
#[derive(Debug)]
pub struct Backlog<T> {
    segments: BTreeMap<SegmentId, Shelf>,
    lanes: Vec<Lane<T>>,
    /// Lanes that were removed: the next ones take their place.
    free: Vec<LaneId>,
    /// Mails in memory, those under way aside.
    loaded: usize,
    /// The lanes that have those: what is done every second should cost nothing for the thousands that have none.
    occupied: BTreeSet<LaneId>,
    bounds: Bounds,
    /// Octets on disk of each lane's mails.
    held: BTreeMap<LaneId, u64>,
    /// What is under way or set aside.
    away: HashMap<Pair, Away>,
    scan: Option<Scan>,
    lifetime_ms: u64,
}

/// A pair that is under way or set aside.
#[derive(Debug, Clone, Copy)]
struct Away {
    lane: LaneId,
    /// When its lifetime began, in milliseconds since 1970.
    since_ms: u64,
}

impl Away {
    fn of<T>(waiting: &Waiting<T>) -> Self {
        Self { lane: waiting.lane, since_ms: waiting.since_ms }
    }
}

/// A segment.
#[derive(Debug, Default)]
struct Shelf {
    /// Whether it is known what is in it.
    known: bool,
    /// Until when it is left alone, because it could not be read, in milliseconds since 1970.
    unreadable_until_ms: u64,
    /// Whether it was copied, though not all of it: another time would not do better.
    copied: bool,
    /// Pairs that wait or are under way.
    pairs: u64,
    /// Octets of those.
    live_bytes: u64,
    /// The same for each lane.
    by_lane: BTreeMap<LaneId, u64>,
    /// Octets of all its mails.
    bytes: u64,
    /// Those that are not in memory.
    resting: BTreeMap<LaneId, Resting>,
}

/// The pairs of a segment and a lane that are on disk alone.
#[derive(Debug, Clone, Copy)]
struct Resting {
    pairs: u64,
    /// When the first of them is due, or was.
    due_ms: u64,
    /// When the first of them is over: see [`Backlog::is_over`].
    over_ms: u64,
    /// Since when the oldest of them exists, at most.
    since_ms: u64,
}

/// A segment is being read.
#[derive(Debug)]
struct Scan {
    segment: SegmentId,
    /// What rested there before.
    before: BTreeMap<LaneId, Resting>,
    /// Pairs of which more is known than the disk said.
    touched: HashSet<Pair>,
}

/// What a look at a segment has found.
#[derive(Debug)]
pub struct Scanned<T> {
    /// Its pairs that have not met their end.
    pub waiting: Vec<Waiting<T>>,
    /// Octets of all its mails.
    pub bytes: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Found<T> {
    /// Those of which the disk says the truth: they have not changed meanwhile.
    pub unchanged: Vec<Pair>,
    /// Those that have waited for as long as they may, and are nowhere else: [`Backlog::set_aside`] comes next.
    pub expired: Vec<Waiting<T>>,
}

impl<T> Backlog<T> {
    /// What waits in `segments`, of which nothing is known yet. A mail waits no longer than
    /// `lifetime_ms`.
    #[must_use]
    pub fn new(segments: impl IntoIterator<Item = SegmentId>, lifetime_ms: u64, bounds: Bounds) -> Self {
        Self {
            segments: segments.into_iter().map(|segment| (segment, Shelf::default())).collect(),
            lanes: Vec::new(),
            free: Vec::new(),
            loaded: 0,
            occupied: BTreeSet::new(),
            bounds,
            held: BTreeMap::new(),
            away: HashMap::new(),
            scan: None,
            lifetime_ms,
        }
    }

    /// A further lane, with up to `concurrency` deliveries at once.
    pub fn add_lane(&mut self, concurrency: u32) -> LaneId {
        let added = Lane::new(concurrency, self.bounds.lane);
        if let Some(free) = self.free.pop()
            && let Some(lane) = self.lanes.get_mut(free as usize)
        {
            *lane = added;
            return free;
        }
        self.lanes.push(added);
        LaneId::try_from(self.lanes.len() - 1).unwrap_or(LaneId::MAX)
    }

    /// Removes those of `lanes` that have no mail, wherever it might be, and returns them. Another lane may have the
    /// name of one from then on.
    pub fn remove_empty(&mut self, mut lanes: BTreeSet<LaneId>) -> BTreeSet<LaneId> {
        let before = self.scan.iter().flat_map(|scan| scan.before.keys());
        let resting = self.segments.values().flat_map(|shelf| shelf.resting.keys());
        for lane in self.away.values().map(|away| &away.lane).chain(before).chain(resting) {
            lanes.remove(lane);
        }
        lanes.retain(|lane| self.lane(*lane).is_some_and(|lane| lane.loaded() == 0));
        self.free.extend(&lanes);
        self.held.retain(|lane, _| !lanes.contains(lane));
        lanes
    }

    /// All mails of a lane are due from now on.
    pub fn hasten(&mut self, lane: LaneId) {
        if let Some(lane) = self.lanes.get_mut(lane as usize) {
            lane.hasten();
        }
        let before = self.scan.iter_mut().map(|scan| &mut scan.before);
        for resting in self.segments.values_mut().map(|shelf| &mut shelf.resting).chain(before) {
            if let Some(resting) = resting.get_mut(&lane) {
                resting.due_ms = 0;
                resting.over_ms = resting.since_ms.saturating_add(self.lifetime_ms);
            }
        }
    }

    /// Allows so many deliveries at once in a lane from now on.
    pub fn set_concurrency(&mut self, lane: LaneId, concurrency: u32) {
        if let Some(lane) = self.lanes.get_mut(lane as usize) {
            lane.set_concurrency(concurrency);
        }
    }

    /// A lane.
    #[must_use]
    pub fn lane(&self, lane: LaneId) -> Option<&Lane<T>> {
        self.lanes.get(lane as usize)
    }

    /// The lanes that have mails in memory, those under way aside.
    pub fn occupied(&self) -> impl Iterator<Item = LaneId> {
        self.occupied.iter().copied()
    }

    /// Octets on disk of a lane's mails that wait or are under way, as far as it is known.
    #[must_use]
    pub fn held_bytes(&self, lane: LaneId) -> u64 {
        self.held.get(&lane).copied().unwrap_or(0)
    }

    /// Whether it is known of all segments what waits there.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.segments.values().all(|shelf| shelf.known)
    }

    /// Pairs that wait or are under way, as far as it is known.
    #[must_use]
    pub fn pairs(&self) -> u64 {
        self.segments.values().map(|shelf| shelf.pairs).sum()
    }

    /// Since when the oldest of them exists, in milliseconds since 1970.
    #[must_use]
    pub fn oldest_ms(&self) -> Option<u64> {
        let loaded = self.occupied.iter().filter_map(|lane| self.lane(*lane)?.oldest_ms());
        let resting =
            self.segments.values().flat_map(|shelf| shelf.resting.values().map(|resting| resting.since_ms));
        loaded.chain(resting).chain(self.away.values().map(|away| away.since_ms)).min()
    }

    /// Takes in a mail that was just spooled.
    pub fn push(&mut self, waiting: Waiting<T>) {
        self.count(&waiting);
        let (enough, share) = (self.loaded >= self.bounds.total, self.bounds.share);
        let rests = self.on(waiting.lane, |lane| {
            if enough && lane.loaded() >= share { Some(waiting) } else { lane.push_fresh(waiting).err() }
        });
        rests.flatten().into_iter().for_each(|waiting| self.rest(&waiting));
    }

    /// Takes in a mail that was copied to where it is now.
    pub fn push_copy(&mut self, waiting: &Waiting<T>) {
        self.count(waiting);
        self.rest(waiting);
    }

    fn count(&mut self, waiting: &Waiting<T>) {
        let shelf = self.segments.entry(waiting.pair.mail.segment).or_default();
        // Only a new segment is written to.
        shelf.known = true;
        shelf.pairs += 1;
        shelf.bytes += waiting.bytes;
        shelf.hold(&mut self.held, waiting);
    }

    /// The mail of a lane that has to be delivered now.
    pub fn next(&mut self, lane: LaneId, now_ms: u64, gate: Gate) -> Option<Waiting<T>> {
        let next = self.on(lane, |lane| lane.next(now_ms, gate))??;
        self.away.insert(next.pair, Away::of(&next));
        Some(next)
    }

    /// What is held of the fresh mails of a lane is held no longer.
    pub fn let_go(&mut self, lane: LaneId) {
        if let Some(lane) = self.lanes.get_mut(lane as usize) {
            lane.let_go();
        }
    }

    /// Whether a mail that exists since then has waited for as long as it may.
    #[must_use]
    pub fn is_expired(&self, since_ms: u64, now_ms: u64) -> bool {
        since_ms.saturating_add(self.lifetime_ms) <= now_ms
    }

    /// When a mail that is not delivered before is to be given up: at the end of its lifetime, and not before it is due,
    /// which a disk that fails puts off.
    fn over_ms(since_ms: u64, due_ms: u64, lifetime_ms: u64) -> u64 {
        since_ms.saturating_add(lifetime_ms).max(due_ms)
    }

    fn is_over(&self, waiting: &Waiting<T>, now_ms: u64) -> bool {
        Self::over_ms(waiting.since_ms, waiting.due_ms, self.lifetime_ms) <= now_ms
    }

    /// A delivery is over. `succeeded` says how; `None` when there was none.
    ///
    /// What is known of the mail comes next: [`Self::wait`], [`Self::end`] or [`Self::set_aside`].
    pub fn back(&mut self, lane: LaneId, pair: Pair, succeeded: Option<bool>) {
        self.away.remove(&pair);
        self.on(lane, |lane| lane.back(pair, succeeded));
    }

    /// A mail is neither delivered nor at its end for now.
    pub fn set_aside(&mut self, waiting: &Waiting<T>) {
        self.away.insert(waiting.pair, Away::of(waiting));
    }

    /// A mail waits on, until it is due.
    pub fn wait(&mut self, waiting: Waiting<T>) {
        self.away.remove(&waiting.pair);
        self.touch(waiting.pair);
        let rests = self.on(waiting.lane, |lane| lane.push_due(waiting));
        rests.flatten().into_iter().for_each(|waiting| self.rest(&waiting));
    }

    /// A mail has met its end. Whether it was the last of its segment.
    pub fn end(&mut self, waiting: &Waiting<T>) -> bool {
        self.away.remove(&waiting.pair);
        self.touch(waiting.pair);
        let Some(shelf) = self.segments.get_mut(&waiting.pair.mail.segment) else { return false };
        shelf.pairs = shelf.pairs.saturating_sub(1);
        shelf.release(&mut self.held, waiting);
        shelf.known && shelf.pairs == 0
    }

    /// Takes a mail that is not under way out of memory or off the disk's account; whether it was
    /// there.
    pub fn pick(&mut self, wanted: &Waiting<T>) -> bool {
        if self.away.contains_key(&wanted.pair) {
            return false;
        }
        if self.on(wanted.lane, |lane| lane.pick(wanted.due_ms, wanted.pair)).flatten().is_some() {
            return true;
        }
        let Some(shelf) = self.segments.get_mut(&wanted.pair.mail.segment) else { return false };
        let Some(resting) = shelf.resting.get_mut(&wanted.lane) else { return false };
        resting.pairs -= 1;
        if resting.pairs == 0 {
            shelf.resting.remove(&wanted.lane);
        }
        true
    }

    /// Segments older than `newest` of which nothing waits any more.
    #[must_use]
    pub fn finished(&self, newest: SegmentId) -> Vec<SegmentId> {
        let older = self.segments.range(..newest);
        let finished = older.filter(|(segment, shelf)| {
            shelf.known && shelf.pairs == 0 && self.scan.as_ref().is_none_or(|scan| scan.segment != **segment)
        });
        finished.map(|(segment, _)| *segment).collect()
    }

    /// Whether all mails of a segment have met their end.
    #[must_use]
    pub fn is_finished(&self, segment: SegmentId) -> bool {
        self.segments.get(&segment).is_some_and(|shelf| shelf.known && shelf.pairs == 0)
    }

    /// A segment has gone.
    pub fn forget(&mut self, segment: SegmentId) {
        let Some(shelf) = self.segments.remove(&segment) else { return };
        for (lane, bytes) in shelf.by_lane {
            take_from(&mut self.held, lane, bytes);
        }
    }

    /// A segment older than `newest` most of which has met its end, so that copying the rest gives
    /// back three times the space that the copies take.
    #[must_use]
    pub fn sparse(&self, newest: SegmentId) -> Option<SegmentId> {
        let scanned = self.scan.as_ref().map(|scan| scan.segment);
        let sparse = self.segments.range(..newest).find(|(segment, shelf)| {
            shelf.known
                && shelf.pairs > 0
                && shelf.live_bytes.saturating_mul(4) <= shelf.bytes
                && scanned != Some(**segment)
                && !shelf.copied
                && !self.away.keys().any(|pair| pair.mail.segment == **segment)
        });
        sparse.map(|(segment, _)| *segment)
    }

    /// Takes a segment out, with all of its mails that are in memory, none of which is under way.
    pub fn take_out(&mut self, segment: SegmentId) {
        self.take(|waiting| waiting.pair.mail.segment == segment);
        self.forget(segment);
    }

    /// A segment that was taken out is there again, because not all of it could be copied.
    pub fn put_in(&mut self, segment: SegmentId) {
        self.segments.insert(segment, Shelf { copied: true, ..Shelf::default() });
    }

    /// Takes the mails out of memory that have waited for as long as they may.
    pub fn take_expired(&mut self, now_ms: u64) -> Vec<Waiting<T>> {
        let lifetime_ms = self.lifetime_ms;
        self.take(|waiting| Self::over_ms(waiting.since_ms, waiting.due_ms, lifetime_ms) <= now_ms)
    }

    fn take(&mut self, wanted: impl Fn(&Waiting<T>) -> bool) -> Vec<Waiting<T>> {
        let lanes: Vec<LaneId> = self.occupied().collect();
        lanes.into_iter().filter_map(|lane| self.on(lane, |lane| lane.take(&wanted))).flatten().collect()
    }

    /// The segment that is to be read now, unless one is: one of which nothing is known, or with mails
    /// that are due, or expired, and for which their lane has room. `shut` says whether the gate of
    /// a lane is: then one mail in memory is enough, as the probe.
    #[must_use]
    pub fn wants(&self, now_ms: u64, shut: impl Fn(LaneId) -> bool) -> Option<SegmentId> {
        if self.scan.is_some() {
            return None;
        }
        let is_wanted = |lane: LaneId, resting: &Resting| {
            resting.over_ms <= now_ms || (resting.due_ms <= now_ms && self.has_room(lane, now_ms, &shut))
        };
        let wanted = |shelf: &Shelf| {
            shelf.unreadable_until_ms <= now_ms
                && (!shelf.known || shelf.resting.iter().any(|(lane, resting)| is_wanted(*lane, resting)))
        };
        self.segments.iter().find(|(_, shelf)| wanted(shelf)).map(|(segment, _)| *segment)
    }

    fn has_room(&self, lane: LaneId, now_ms: u64, shut: impl Fn(LaneId) -> bool) -> bool {
        let Some(state) = self.lane(lane) else { return false };
        if shut(lane) {
            return state.is_idle(now_ms);
        }
        // Before the lane runs dry.
        let low = (self.bounds.lane / 4).max(1);
        state.due_len(now_ms, low) < low
            && (self.loaded < self.bounds.total || state.loaded() < self.bounds.share)
    }

    /// A segment begins to be read: what the disk says from now on is what counts.
    pub fn scan_begins(&mut self, segment: SegmentId) {
        let Some(shelf) = self.segments.get_mut(&segment) else { return };
        let before = std::mem::take(&mut shelf.resting);
        self.scan = Some(Scan { segment, before, touched: HashSet::new() });
    }

    /// A segment was read. Those that are due go into memory, as many as there is room for.
    pub fn scanned(&mut self, scanned: Scanned<T>, now_ms: u64) -> Found<T> {
        let mut found = Found { unchanged: Vec::new(), expired: Vec::new() };
        let Some(Scan { segment, touched, .. }) = self.scan.take() else { return found };
        let Some(shelf) = self.segments.get_mut(&segment) else { return found };
        let first_look = !shelf.known;
        if first_look {
            shelf.known = true;
            shelf.pairs = scanned.waiting.len() as u64;
            scanned.waiting.iter().for_each(|waiting| shelf.hold(&mut self.held, waiting));
        }
        shelf.bytes = shelf.bytes.max(scanned.bytes);
        let here = self.occupied.iter().filter_map(|lane| self.lane(*lane));
        let here = here.flat_map(|lane| lane.of_segment(segment));
        let away = self.away.keys().copied().filter(|pair| pair.mail.segment == segment);
        let here: HashSet<Pair> = here.chain(away).collect();
        for waiting in scanned.waiting {
            if touched.contains(&waiting.pair) {
                continue;
            }
            found.unchanged.push(waiting.pair);
            if here.contains(&waiting.pair) {
                continue;
            }
            // There may never be room for it, and it would be wanted again at once.
            if self.is_over(&waiting, now_ms) {
                found.expired.push(waiting);
                continue;
            }
            let soon = waiting.due_ms <= now_ms.saturating_add(HORIZON_MS);
            let (enough, share) = (self.loaded >= self.bounds.total, self.bounds.share);
            let rests = self.on(waiting.lane, |lane| {
                let room = soon && (!enough || lane.loaded() < share);
                if room { lane.push_due(waiting) } else { Some(waiting) }
            });
            rests.flatten().into_iter().for_each(|waiting| self.rest(&waiting));
        }
        found
    }

    /// A segment could not be read. What is known of it stays, and it is looked at again later.
    pub fn scan_failed(&mut self, now_ms: u64) {
        let Some(Scan { segment, before, .. }) = self.scan.take() else { return };
        let Some(shelf) = self.segments.get_mut(&segment) else { return };
        shelf.unreadable_until_ms = now_ms + UNREADABLE_WAIT_MS;
        for (lane, resting) in before {
            let other = shelf.resting.get(&lane).copied();
            shelf.resting.insert(lane, other.map_or(resting, |other| resting.and(other)));
        }
    }

    /// The segment that is being read.
    #[must_use]
    pub fn scanning(&self) -> Option<SegmentId> {
        self.scan.as_ref().map(|scan| scan.segment)
    }

    /// All segments.
    pub fn segments(&self) -> impl Iterator<Item = SegmentId> {
        self.segments.keys().copied()
    }

    /// Changes a lane and keeps account of what is in memory.
    fn on<R>(&mut self, lane: LaneId, change: impl FnOnce(&mut Lane<T>) -> R) -> Option<R> {
        let changed = self.lanes.get_mut(lane as usize)?;
        let before = changed.loaded();
        let result = change(changed);
        let after = changed.loaded();
        self.loaded = self.loaded + after - before;
        match (before, after) {
            (0, 1..) => drop(self.occupied.insert(lane)),
            (1.., 0) => drop(self.occupied.remove(&lane)),
            _ => {}
        }
        Some(result)
    }

    fn touch(&mut self, pair: Pair) {
        if let Some(scan) = self.scan.as_mut().filter(|scan| scan.segment == pair.mail.segment) {
            scan.touched.insert(pair);
        }
    }

    /// A mail is on disk alone from now on.
    fn rest(&mut self, waiting: &Waiting<T>) {
        self.touch(waiting.pair);
        let Waiting { since_ms, due_ms, .. } = *waiting;
        let over_ms = Self::over_ms(since_ms, due_ms, self.lifetime_ms);
        let one = Resting { pairs: 1, due_ms, over_ms, since_ms };
        let Some(shelf) = self.segments.get_mut(&waiting.pair.mail.segment) else { return };
        let resting = shelf.resting.get(&waiting.lane).map_or(one, |resting| resting.and(one));
        shelf.resting.insert(waiting.lane, resting);
    }
}

impl Shelf {
    /// A mail takes of the disk, in this segment and among all of its lane.
    fn hold<T>(&mut self, held: &mut BTreeMap<LaneId, u64>, waiting: &Waiting<T>) {
        self.live_bytes += waiting.bytes;
        *self.by_lane.entry(waiting.lane).or_default() += waiting.bytes;
        *held.entry(waiting.lane).or_default() += waiting.bytes;
    }

    /// It does no longer. Its share of a mail may have grown since, when other destinations had theirs.
    fn release<T>(&mut self, held: &mut BTreeMap<LaneId, u64>, waiting: &Waiting<T>) {
        self.live_bytes = self.live_bytes.saturating_sub(waiting.bytes);
        let released = take_from(&mut self.by_lane, waiting.lane, waiting.bytes);
        take_from(held, waiting.lane, released);
    }
}

/// Takes up to `bytes` from what a lane has; returns how many there were.
fn take_from(lanes: &mut BTreeMap<LaneId, u64>, lane: LaneId, bytes: u64) -> u64 {
    let Some(has) = lanes.get_mut(&lane) else { return 0 };
    let taken = bytes.min(*has);
    *has -= taken;
    if *has == 0 {
        lanes.remove(&lane);
    }
    taken
}

impl Resting {
    fn and(self, other: Self) -> Self {
        Self {
            pairs: self.pairs + other.pairs,
            due_ms: self.due_ms.min(other.due_ms),
            over_ms: self.over_ms.min(other.over_ms),
            since_ms: self.since_ms.min(other.since_ms),
        }
    }
}
