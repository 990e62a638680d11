//! All messages that wait, most of them on disk alone: what is in memory, what is read next, which
//! segments have had their time. Pure.

mod due;
mod segment;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use self::due::DueIndex;
use self::segment::{OnDisk, SegmentState};
use super::lane::{Gate, Lane, LaneId, Pair, Waiting};
use super::segment::SegmentId;

/// How many messages are in memory.
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

/// Messages that are due within this time are brought into memory when their segment is read anyway, so
/// that it is not read for each of them.
const HORIZON_MS: u64 = 60_000;

/// How long a segment that could not be read is left alone.
const UNREADABLE_WAIT_MS: u64 = 60_000;

/// How long a segment is not compacted again of which not all could be copied: a full disk may have room by then.
const UNCOMPACTED_WAIT_MS: u64 = 60_000;

/// How long messages that are over wait while no more dead letters can be made.
const EXPIRY_WAIT_MS: u64 = 1_000;

/// Lanes that are looked at for one decision: some 10 us.
const LANES_LOOKED_AT_MAX: usize = 64;

/// The messages of a spool that wait.
#[derive(Debug)]
pub struct Backlog<T> {
    segments: BTreeMap<SegmentId, SegmentState>,
    /// Segments of which nothing is known.
    unknown: BTreeSet<SegmentId>,
    /// Segments with pairs on disk alone, by when the first of them is over.
    expiring: BTreeSet<(u64, SegmentId)>,
    /// Lanes with pairs on disk alone.
    due: DueIndex,
    lanes: Vec<Lane<T>>,
    /// Lanes that were removed: the next ones take their place.
    free: Vec<LaneId>,
    /// Messages in memory, those under way aside.
    loaded: usize,
    /// The lanes that have those: a look at them should cost nothing for the thousands that have none.
    occupied: BTreeSet<LaneId>,
    bounds: Bounds,
    /// Pairs that wait or are under way, in all segments.
    pairs: u64,
    /// Bytes on disk of each lane's messages.
    held: HashMap<LaneId, u64>,
    /// Pairs that are under way or set aside.
    away: HashMap<Pair, Away>,
    scan: Option<Scan>,
    /// Whose turn it is when several reasons to read a segment compete.
    turn: u8,
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

/// A segment is being read.
#[derive(Debug)]
struct Scan {
    segment: SegmentId,
    /// Pairs that were on disk alone before.
    before: OnDisk,
    /// Pairs of which more is known than the disk said.
    touched: HashSet<Pair>,
}

/// What a look at a segment has found.
#[derive(Debug)]
pub struct Scanned<T> {
    /// Its pairs that have not met their end.
    pub waiting: Vec<Waiting<T>>,
    /// Bytes of all its messages.
    pub bytes: u64,
    /// Whether some of it is damaged.
    pub is_damaged: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Found<T> {
    /// Those of which the disk says the truth: they have not changed meanwhile.
    pub unchanged: Vec<Pair>,
    /// Those that have waited for as long as they may, or have nowhere to go, and are nowhere else:
    /// [`Backlog::set_aside`] comes next.
    pub expired: Vec<Waiting<T>>,
}

/// What becomes of a segment whose messages have all met their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// It is removed.
    Removable,
    /// It is set aside: some of it could not be read.
    Damaged,
}

impl<T> Backlog<T> {
    /// The messages in `segments`, of which nothing is known yet. A message waits no longer than `lifetime_ms`.
    #[must_use]
    pub fn new(segments: impl IntoIterator<Item = SegmentId>, lifetime_ms: u64, bounds: Bounds) -> Self {
        let unknown: BTreeSet<SegmentId> = segments.into_iter().collect();
        Self {
            segments: unknown.iter().map(|segment| (*segment, SegmentState::unknown())).collect(),
            unknown,
            expiring: BTreeSet::new(),
            due: DueIndex::default(),
            lanes: Vec::new(),
            free: Vec::new(),
            loaded: 0,
            occupied: BTreeSet::new(),
            bounds,
            pairs: 0,
            held: HashMap::new(),
            away: HashMap::new(),
            scan: None,
            turn: 0,
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

    /// Removes those of `lanes` that have no message, wherever it might be, and returns them. Another lane may have the
    /// name of one from then on.
    pub fn remove_empty(&mut self, mut lanes: BTreeSet<LaneId>) -> BTreeSet<LaneId> {
        // Messages that are being copied are nowhere else, and count all the while.
        lanes.retain(|lane| self.held_bytes(*lane) == 0);
        lanes.retain(|lane| self.lane(*lane).is_some_and(|lane| lane.loaded() == 0));
        for away in self.away.values() {
            lanes.remove(&away.lane);
        }
        let before = self.scan.iter().map(|scan| &scan.before);
        for on_disk in self.segments.values().map(|segment| &segment.on_disk).chain(before) {
            if lanes.is_empty() {
                break;
            }
            lanes.retain(|lane| on_disk.due_ms(*lane).is_none());
        }
        self.free.extend(&lanes);
        for lane in &lanes {
            self.held.remove(lane);
            self.due.remove(*lane);
        }
        lanes
    }

    /// Whether all messages of a lane have nowhere to go, and are over from now on.
    pub fn give_up(&mut self, lane: LaneId, is_given_up: bool) {
        let Some(state) = self.lanes.get_mut(lane as usize) else { return };
        if std::mem::replace(&mut state.is_given_up, is_given_up) == is_given_up || !is_given_up {
            return;
        }
        state.hasten();
        let segments: Vec<SegmentId> = self.segments.keys().copied().collect();
        for segment in segments {
            self.change_on_disk(segment, |on_disk| on_disk.give_up(lane));
        }
        if let Some(scan) = &mut self.scan {
            scan.before.give_up(lane);
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

    /// The lanes that have messages in memory, those under way aside.
    pub fn occupied(&self) -> impl Iterator<Item = LaneId> {
        self.occupied.iter().copied()
    }

    /// Bytes on disk of a lane's messages that wait or are under way, as far as it is known.
    #[must_use]
    pub fn held_bytes(&self, lane: LaneId) -> u64 {
        self.held.get(&lane).copied().unwrap_or(0)
    }

    /// Whether it is known of all segments what waits there.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.unknown.is_empty()
    }

    /// Segments of which nothing is known.
    pub fn unknown(&self) -> impl Iterator<Item = SegmentId> {
        self.unknown.iter().copied()
    }

    /// Pairs that wait or are under way, and the bytes of the segments that they are in, as far as they are known.
    #[must_use]
    pub fn density(&self) -> (u64, u64) {
        let known = self.segments.values().filter(|state| state.is_known);
        known.fold((0, 0), |(pairs, bytes), state| (pairs + state.pairs, bytes + state.bytes))
    }

    /// Pairs that wait or are under way, as far as it is known.
    #[must_use]
    pub fn pairs(&self) -> u64 {
        self.pairs
    }

    /// Since when the oldest of them exists, in milliseconds since 1970.
    #[must_use]
    pub fn oldest_ms(&self) -> Option<u64> {
        let loaded = self.occupied.iter().filter_map(|lane| self.lane(*lane)?.oldest_ms());
        let on_disk = self.segments.values().filter_map(|segment| segment.on_disk.since_ms());
        let before = self.scan.iter().filter_map(|scan| scan.before.since_ms());
        loaded.chain(on_disk).chain(before).chain(self.away.values().map(|away| away.since_ms)).min()
    }

    /// Bytes of memory that all of it takes, roughly.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        // A message in memory is an entry of a tree with its key; trees and tables are three quarters full.
        let loaded = (size_of::<Waiting<T>>() + size_of::<(u64, Pair)>()) * 4 / 3;
        let away = size_of::<(Pair, Away)>() * 2;
        let on_disk: usize = self.segments.values().map(|segment| segment.on_disk.memory_bytes()).sum();
        // Lanes are there with and without messages; those with some on disk are in the index, too.
        let lanes = self.lanes.len() * size_of::<Lane<T>>() + self.due.len() * 64;
        self.loaded * loaded + self.away.len() * away + on_disk + lanes
    }

    /// Takes in a message that was just spooled.
    pub fn push(&mut self, waiting: Waiting<T>) {
        self.count(&waiting);
        *self.held.entry(waiting.lane).or_default() += waiting.bytes;
        let (enough, share) = (self.loaded >= self.bounds.total, self.bounds.share);
        let rests = self.on(waiting.lane, |lane| {
            if enough && lane.loaded() >= share { Some(waiting) } else { lane.push_fresh(waiting).err() }
        });
        rests.flatten().into_iter().for_each(|waiting| self.rest(&waiting));
    }

    /// Takes in a message that was copied to where it is now. Before, it counted for `replaces` bytes.
    pub fn push_copy(&mut self, waiting: &Waiting<T>, replaces: u64) {
        self.count(waiting);
        let held = self.held.entry(waiting.lane).or_default();
        *held = held.saturating_sub(replaces) + waiting.bytes;
        self.rest(waiting);
    }

    fn count(&mut self, waiting: &Waiting<T>) {
        let segment = waiting.pair.mail.segment;
        let state = self.segments.entry(segment).or_insert_with(SegmentState::new);
        // Only a new segment is written to.
        state.is_known = true;
        state.pairs += 1;
        self.pairs += 1;
        state.bytes += waiting.bytes;
        state.live_bytes += waiting.bytes;
        self.unknown.remove(&segment);
    }

    /// The message of a lane that has to be delivered now.
    pub fn next(&mut self, lane: LaneId, now_ms: u64, gate: Gate) -> Option<Waiting<T>> {
        let next = self.on(lane, |lane| lane.next(now_ms, gate))??;
        self.away.insert(next.pair, Away::of(&next));
        Some(next)
    }

    /// Drops what is held of the fresh messages of a lane.
    pub fn let_go(&mut self, lane: LaneId) {
        if let Some(lane) = self.lanes.get_mut(lane as usize) {
            lane.let_go();
        }
    }

    /// Whether a message that exists since then has waited for as long as it may.
    #[must_use]
    pub fn is_expired(&self, since_ms: u64, now_ms: u64) -> bool {
        since_ms.saturating_add(self.lifetime_ms) <= now_ms
    }

    /// When a message that is not delivered before is to be given up: at the end of its lifetime, and not before it is
    /// due, which a disk that fails puts off.
    fn over_ms(&self, waiting: &Waiting<T>) -> u64 {
        if self.lane(waiting.lane).is_some_and(|lane| lane.is_given_up) {
            return waiting.due_ms;
        }
        waiting.since_ms.saturating_add(self.lifetime_ms).max(waiting.due_ms)
    }

    /// A delivery is over. `succeeded` says how; `None` when there was none. Returns since when the message exists, by the
    /// clock as it is now.
    ///
    /// What is known of the message comes next: [`Self::wait`], [`Self::end`] or [`Self::set_aside`].
    pub fn back(&mut self, lane: LaneId, pair: Pair, succeeded: Option<bool>) -> Option<u64> {
        let away = self.away.remove(&pair);
        self.on(lane, |lane| lane.back(pair, succeeded));
        self.due.touch(lane);
        away.map(|away| away.since_ms)
    }

    /// A message is neither delivered nor at its end for now.
    pub fn set_aside(&mut self, waiting: &Waiting<T>) {
        self.away.insert(waiting.pair, Away::of(waiting));
    }

    /// A message waits on, until it is due.
    pub fn wait(&mut self, waiting: Waiting<T>) {
        self.away.remove(&waiting.pair);
        self.touch(waiting.pair);
        self.keep_or_rest(waiting);
    }

    /// Keeps a message in memory, in place of one that is due later where there is no room, or leaves it on disk.
    fn keep_or_rest(&mut self, waiting: Waiting<T>) {
        let (enough, share) = (self.loaded >= self.bounds.total, self.bounds.share);
        let rests = self.on(waiting.lane, |lane| {
            let is_full = enough && lane.loaded() >= share;
            lane.push_due(waiting).or_else(|| if is_full { lane.pop_last_due() } else { None })
        });
        rests.flatten().into_iter().for_each(|waiting| self.rest(&waiting));
    }

    /// A message has met its end. Whether it was the last of its segment.
    pub fn end(&mut self, waiting: &Waiting<T>) -> bool {
        self.away.remove(&waiting.pair);
        self.touch(waiting.pair);
        let Some(state) = self.segments.get_mut(&waiting.pair.mail.segment) else { return false };
        self.pairs -= state.pairs.min(1);
        state.pairs = state.pairs.saturating_sub(1);
        state.live_bytes = state.live_bytes.saturating_sub(waiting.bytes);
        let is_finished = state.is_finished();
        if let Some(held) = self.held.get_mut(&waiting.lane) {
            *held = held.saturating_sub(waiting.bytes);
        }
        is_finished
    }

    /// Takes a message that is not under way out of memory or off the disk's account; whether it was
    /// there.
    pub fn pick(&mut self, wanted: &Waiting<T>) -> bool {
        if self.away.contains_key(&wanted.pair) {
            return false;
        }
        if self.on(wanted.lane, |lane| lane.pick(wanted.due_ms, wanted.pair)).flatten().is_some() {
            return true;
        }
        let mut was_there = false;
        self.change_on_disk(wanted.pair.mail.segment, |on_disk| was_there = on_disk.remove(wanted.lane));
        was_there
    }

    /// Segments older than `newest` of which nothing waits any more.
    #[must_use]
    pub fn finished(&self, newest: SegmentId) -> Vec<SegmentId> {
        let older = self.segments.range(..newest);
        let finished = older.filter(|(segment, state)| {
            state.is_finished() && self.scan.as_ref().is_none_or(|scan| scan.segment != **segment)
        });
        finished.map(|(segment, _)| *segment).collect()
    }

    /// Whether all messages of a segment have met their end, and what becomes of it then.
    #[must_use]
    pub fn is_finished(&self, segment: SegmentId) -> Option<Finished> {
        let state = self.segments.get(&segment).filter(|state| state.is_finished())?;
        Some(if state.is_damaged { Finished::Damaged } else { Finished::Removable })
    }

    /// Some of a segment is damaged: it will not be removed.
    pub fn note_damage(&mut self, segment: SegmentId) {
        if let Some(state) = self.segments.get_mut(&segment) {
            state.is_damaged = true;
        }
    }

    /// A segment has gone.
    pub fn forget(&mut self, segment: SegmentId) {
        self.change_on_disk(segment, |on_disk| *on_disk = OnDisk::default());
        let removed = self.segments.remove(&segment);
        self.pairs -= removed.map_or(0, |state| state.pairs);
        self.unknown.remove(&segment);
    }

    /// A segment older than `newest` most of which has met its end, so that copying the rest gives
    /// back three times the space that the copies take.
    #[must_use]
    pub fn sparse(&self, newest: SegmentId, now_ms: u64) -> Option<SegmentId> {
        let scanned = self.scan.as_ref().map(|scan| scan.segment);
        let sparse = self.segments.range(..newest).find(|(segment, state)| {
            state.is_known
                && state.pairs > 0
                && state.live_bytes.saturating_mul(4) <= state.bytes
                && scanned != Some(**segment)
                && !state.is_damaged
                && state.uncompacted_until_ms <= now_ms
                && !self.away.keys().any(|pair| pair.mail.segment == **segment)
        });
        sparse.map(|(segment, _)| *segment)
    }

    /// Takes a segment out, with all of its messages that are in memory, none of which is under way. They count for
    /// their lanes all the same.
    pub fn take_out(&mut self, segment: SegmentId) {
        self.take(|waiting| waiting.pair.mail.segment == segment);
        self.forget(segment);
    }

    /// A segment that was taken out is there again, because not all of it could be copied.
    pub fn put_in(&mut self, segment: SegmentId, now_ms: u64) {
        let uncompacted_until_ms = now_ms.saturating_add(UNCOMPACTED_WAIT_MS);
        let state = SegmentState { uncompacted_until_ms, is_charged: true, ..SegmentState::unknown() };
        self.segments.insert(segment, state);
        self.unknown.insert(segment);
    }

    /// Takes the messages out of memory that have waited for as long as they may, or have nowhere to go.
    pub fn take_expired(&mut self, now_ms: u64) -> Vec<Waiting<T>> {
        let lifetime_ms = self.lifetime_ms;
        let lanes: Vec<LaneId> = self.occupied().collect();
        let mut expired = Vec::new();
        for lane in lanes {
            let taken = self.on(lane, |lane| {
                let lifetime_ms = if lane.is_given_up { 0 } else { lifetime_ms };
                let is_over = |waiting: &Waiting<T>| {
                    waiting.since_ms.saturating_add(lifetime_ms).max(waiting.due_ms) <= now_ms
                };
                if lane.is_given_up
                    || lane.oldest_ms().is_some_and(|since_ms| since_ms + lifetime_ms <= now_ms)
                {
                    lane.take(is_over)
                } else {
                    Vec::new()
                }
            });
            expired.extend(taken.into_iter().flatten());
        }
        expired
    }

    fn take(&mut self, wanted: impl Fn(&Waiting<T>) -> bool) -> Vec<Waiting<T>> {
        let lanes: Vec<LaneId> = self.occupied().collect();
        lanes.into_iter().filter_map(|lane| self.on(lane, |lane| lane.take(&wanted))).flatten().collect()
    }

    /// Something has happened to a lane: it may have room for messages from disk.
    pub fn look_at(&mut self, lane: LaneId) {
        self.due.touch(lane);
    }

    /// Time has gone by: any lane may have room for messages from disk.
    pub fn look_at_all(&mut self) {
        self.due.touch_all();
    }

    /// The segment that is to be read now, unless one is: one with messages that are over, if `may_expire`; one of
    /// which nothing is known; one with messages that are due and for which their lane has room. They take turns.
    /// `shut` says whether the gate of a lane is: then one message in memory is enough, as the probe.
    pub fn wants(
        &mut self,
        now_ms: u64,
        may_expire: bool,
        shut: impl Fn(LaneId) -> bool,
    ) -> Option<SegmentId> {
        if self.scan.is_some() {
            return None;
        }
        for _ in 0..3 {
            self.turn = (self.turn + 1) % 3;
            let wanted = match self.turn {
                0 => self.next_due(now_ms, &shut),
                1 => self.unknown.iter().copied().find(|segment| self.is_readable(*segment, now_ms)),
                _ => self.next_over(now_ms).filter(|_| may_expire),
            };
            if wanted.is_some() {
                return wanted;
            }
        }
        None
    }

    fn next_over(&self, now_ms: u64) -> Option<SegmentId> {
        let over = self.expiring.iter().take_while(|(over_ms, _)| *over_ms <= now_ms);
        over.map(|(_, segment)| *segment).find(|segment| self.is_readable(*segment, now_ms))
    }

    fn next_due(&mut self, now_ms: u64, shut: &impl Fn(LaneId) -> bool) -> Option<SegmentId> {
        for _ in 0..LANES_LOOKED_AT_MAX {
            let lane = self.due.next(now_ms)?;
            if !self.has_room(lane, now_ms, shut) {
                self.due.park(lane);
                continue;
            }
            let (mut first_ms, mut wanted) = (None::<u64>, None);
            for (segment, state) in &self.segments {
                let Some(due_ms) = state.on_disk.due_ms(lane) else { continue };
                first_ms = Some(first_ms.map_or(due_ms, |first| first.min(due_ms)));
                if due_ms <= now_ms && state.unreadable_until_ms <= now_ms {
                    wanted = Some(*segment);
                    break;
                }
            }
            if wanted.is_some() {
                return wanted;
            }
            if first_ms.is_some_and(|first_ms| first_ms <= now_ms) {
                // In a segment that cannot be read now.
                self.due.park(lane);
            } else {
                self.due.set_exactly(lane, first_ms);
            }
        }
        None
    }

    fn is_readable(&self, segment: SegmentId, now_ms: u64) -> bool {
        self.segments.get(&segment).is_some_and(|state| state.unreadable_until_ms <= now_ms)
    }

    fn has_room(&self, lane: LaneId, now_ms: u64, shut: impl Fn(LaneId) -> bool) -> bool {
        let Some(state) = self.lane(lane) else { return false };
        if shut(lane) {
            return state.is_idle(now_ms);
        }
        // Before the lane runs dry.
        let low = (self.bounds.lane / 4).max(1);
        let due = state.due_len(now_ms, low);
        // Where memory is short, messages that are due take the place of others.
        due < low
            && (self.loaded < self.bounds.total
                || state.loaded() < self.bounds.share
                || due == 0 && state.fresh_len() == 0)
    }

    /// A segment begins to be read: what the disk says from now on is what counts.
    pub fn scan_begins(&mut self, segment: SegmentId) {
        if !self.segments.contains_key(&segment) {
            return;
        }
        let mut before = OnDisk::default();
        self.change_on_disk(segment, |on_disk| before = std::mem::take(on_disk));
        self.scan = Some(Scan { segment, before, touched: HashSet::new() });
    }

    /// A segment was read. Those that are due go into memory, as many as there is room for. Those that are over are
    /// found only if they `may_expire` now.
    pub fn scanned(&mut self, scanned: Scanned<T>, now_ms: u64, may_expire: bool) -> Found<T> {
        let mut found = Found { unchanged: Vec::new(), expired: Vec::new() };
        let Some(Scan { segment, touched, .. }) = self.scan.take() else { return found };
        let Some(state) = self.segments.get_mut(&segment) else { return found };
        state.is_damaged |= scanned.is_damaged;
        state.bytes = state.bytes.max(scanned.bytes);
        if !state.is_known {
            state.is_known = true;
            state.pairs = scanned.waiting.len() as u64;
            self.pairs += state.pairs;
            state.live_bytes = scanned.waiting.iter().map(|waiting| waiting.bytes).sum();
            let is_charged = std::mem::replace(&mut state.is_charged, true);
            for waiting in scanned.waiting.iter().filter(|_| !is_charged) {
                *self.held.entry(waiting.lane).or_default() += waiting.bytes;
            }
            self.unknown.remove(&segment);
        }
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
            if self.over_ms(&waiting) <= now_ms {
                if may_expire {
                    found.expired.push(waiting);
                } else {
                    // Later, or it would be looked for again at once.
                    let due_ms = now_ms.saturating_add(EXPIRY_WAIT_MS);
                    self.rest(&Waiting { due_ms, ..waiting });
                }
            } else if waiting.due_ms <= now_ms.saturating_add(HORIZON_MS) {
                self.keep_or_rest(waiting);
            } else {
                self.rest(&waiting);
            }
        }
        found
    }

    /// A segment could not be read. What is known of it stays, and it is looked at again later.
    pub fn scan_failed(&mut self, now_ms: u64) {
        let Some(Scan { segment, before, .. }) = self.scan.take() else { return };
        if let Some(state) = self.segments.get_mut(&segment) {
            state.unreadable_until_ms = now_ms + UNREADABLE_WAIT_MS;
        }
        self.change_on_disk(segment, |on_disk| on_disk.append(before));
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

    /// Moves all times in memory by `shift_ms`, after the clock was corrected.
    pub fn shift(&mut self, shift_ms: i64) {
        let shift =
            |ms: u64| if matches!(ms, 0 | u64::MAX) { ms } else { ms.saturating_add_signed(shift_ms) };
        self.lanes.iter_mut().for_each(|lane| lane.shift(shift));
        self.away.values_mut().for_each(|away| away.since_ms = shift(away.since_ms));
        if let Some(scan) = &mut self.scan {
            scan.before.shift(shift);
        }
        let segments: Vec<SegmentId> = self.segments.keys().copied().collect();
        for segment in segments {
            if let Some(state) = self.segments.get_mut(&segment) {
                state.unreadable_until_ms = shift(state.unreadable_until_ms);
                state.uncompacted_until_ms = shift(state.uncompacted_until_ms);
            }
            self.change_on_disk(segment, |on_disk| on_disk.shift(shift));
            let lanes: Vec<(LaneId, u64)> = self.segments.get(&segment).map_or_else(Vec::new, |state| {
                let due_ms = |lane| state.on_disk.due_ms(lane).map(|due_ms| (lane, due_ms));
                state.on_disk.lanes().filter_map(due_ms).collect()
            });
            lanes.into_iter().for_each(|(lane, due_ms)| self.due.add(lane, due_ms));
        }
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

    /// Changes what is on disk alone of a segment, and keeps account of when the first of it is over.
    fn change_on_disk<R>(&mut self, segment: SegmentId, change: impl FnOnce(&mut OnDisk) -> R) {
        let Some(state) = self.segments.get_mut(&segment) else { return };
        let before = state.on_disk.over_ms();
        change(&mut state.on_disk);
        let after = state.on_disk.over_ms();
        if before != after {
            self.expiring.remove(&(before, segment));
            if after != u64::MAX {
                self.expiring.insert((after, segment));
            }
        }
    }

    fn touch(&mut self, pair: Pair) {
        if let Some(scan) = self.scan.as_mut().filter(|scan| scan.segment == pair.mail.segment) {
            scan.touched.insert(pair);
        }
    }

    /// A message is on disk alone from now on.
    fn rest(&mut self, waiting: &Waiting<T>) {
        self.touch(waiting.pair);
        let over_ms = self.over_ms(waiting);
        let Waiting { lane, due_ms, since_ms, pair, .. } = *waiting;
        self.change_on_disk(pair.mail.segment, |on_disk| on_disk.add(lane, due_ms, over_ms, since_ms));
        self.due.add(lane, due_ms);
    }
}
