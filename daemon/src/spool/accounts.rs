//! The backlog against a disk that is a map: whatever happens in whatever order, each mail is under
//! way once at a time and in the end delivered once.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::backlog::{Backlog, Bounds, Scanned};
use super::lane::{Gate, LaneId, Pair, Waiting};
use super::segment::{Location, SegmentId};

const BOUNDS: Bounds = Bounds { lane: 4, total: 10, share: 2 };
const LANES: u32 = 3;
/// Mails of a segment.
const SEGMENT_MAILS: u64 = 6;
/// Few mails get as old.
const LIFETIME_MS: u64 = 200_000;

#[derive(Debug, Clone)]
enum Action {
    Arrive(LaneId),
    /// The gate of a lane changes.
    Gate(LaneId, bool),
    Dispatch(LaneId),
    /// One that is under way ends.
    End(prop::sample::Index, End),
    ScanBegins,
    ScanEnds {
        fails: bool,
    },
    CompactionBegins,
    Copy,
    CompactionEnds {
        all: bool,
    },
    /// The route of a lane goes, or comes back.
    GiveUp(LaneId, bool),
    /// There is room for dead letters, or none.
    MayExpire(bool),
    /// The clock is set.
    SetClock(i64),
    /// Lanes without a mail go, and others take their place.
    RemoveEmpty,
    /// A person wants a mail now, or not at all.
    Pick(prop::sample::Index, bool),
    Restart,
    Later(u64),
}

#[derive(Debug, Clone, Copy)]
enum End {
    Delivered,
    Failed,
    Postponed,
    /// It waits until another time, of which the disk does not know.
    NoMemory,
}

fn action() -> impl Strategy<Value = Action> {
    let lane = 0..LANES;
    let end = prop_oneof![
        3 => Just(End::Delivered),
        2 => Just(End::Failed),
        1 => Just(End::Postponed),
        1 => Just(End::NoMemory),
    ];
    prop_oneof![
        8 => lane.clone().prop_map(Action::Arrive),
        1 => (lane.clone(), prop::bool::weighted(0.7)).prop_map(|(lane, open)| Action::Gate(lane, open)),
        6 => lane.clone().prop_map(Action::Dispatch),
        1 => (lane, prop::bool::weighted(0.3)).prop_map(|(lane, gone)| Action::GiveUp(lane, gone)),
        1 => prop::bool::weighted(0.8).prop_map(Action::MayExpire),
        1 => (-20_000_000i64..20_000_000).prop_map(Action::SetClock),
        1 => Just(Action::RemoveEmpty),
        6 => (any::<prop::sample::Index>(), end).prop_map(|(which, end)| Action::End(which, end)),
        4 => Just(Action::ScanBegins),
        4 => prop::bool::weighted(0.1).prop_map(|fails| Action::ScanEnds { fails }),
        2 => Just(Action::CompactionBegins),
        3 => Just(Action::Copy),
        1 => prop::bool::weighted(0.8).prop_map(|all| Action::CompactionEnds { all }),
        1 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(which, now)| Action::Pick(which, now)),
        1 => Just(Action::Restart),
        3 => (0u64..40_000).prop_map(Action::Later),
    ]
}

/// A mail on the disk.
#[derive(Debug, Clone, Copy)]
struct Mail {
    name: u64,
    lane: LaneId,
    since_ms: u64,
    due_ms: u64,
    failures: u32,
}

struct World {
    now_ms: u64,
    disk: BTreeMap<SegmentId, BTreeMap<u64, Mail>>,
    newest: SegmentId,
    written: u64,
    backlog: Backlog<()>,
    open: [bool; LANES as usize],
    gone: [bool; LANES as usize],
    may_expire: bool,
    under_way: Vec<Waiting<()>>,
    /// What the disk said when the scan began.
    scanned: Option<(SegmentId, Vec<Waiting<()>>)>,
    /// What is to be copied of the segment that is being compacted. It counts for nothing meanwhile.
    compacted: Option<(SegmentId, BTreeMap<u64, Mail>)>,
    arrived: u64,
    ended: BTreeSet<u64>,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            now_ms: 1_000_000_000,
            disk: BTreeMap::new(),
            newest: 0,
            written: 0,
            backlog: Backlog::new([], LIFETIME_MS, BOUNDS),
            open: [true; LANES as usize],
            gone: [false; LANES as usize],
            may_expire: true,
            under_way: Vec::new(),
            scanned: None,
            compacted: None,
            arrived: 0,
            ended: BTreeSet::new(),
        };
        world.add_lanes();
        world
    }

    fn add_lanes(&mut self) {
        for lane in 0..LANES {
            assert_eq!(self.backlog.add_lane(3), lane);
            self.backlog.give_up(lane, self.gone[lane as usize]);
        }
    }

    fn gate(&self, lane: LaneId) -> Gate {
        if self.open[lane as usize] { Gate::Open } else { Gate::Shut }
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Arrive(lane) => {
                let mail = Mail {
                    name: self.arrived,
                    lane: *lane,
                    since_ms: self.now_ms,
                    due_ms: self.now_ms,
                    failures: 0,
                };
                self.arrived += 1;
                let waiting = self.write(mail);
                self.backlog.push(waiting);
            }
            Action::Gate(lane, open) => self.open[*lane as usize] = *open,
            Action::Dispatch(lane) => self.dispatch(*lane),
            Action::End(which, end) => {
                if !self.under_way.is_empty() {
                    let waiting = self.under_way.swap_remove(which.index(self.under_way.len()));
                    self.end(waiting, *end);
                }
            }
            Action::ScanBegins => self.scan_begins(),
            Action::ScanEnds { fails } => self.scan_ends(*fails),
            Action::CompactionBegins => self.compaction_begins(),
            Action::Copy => self.copy(),
            Action::CompactionEnds { all } => self.compaction_ends(*all),
            Action::GiveUp(lane, gone) => self.give_up(*lane, *gone),
            Action::MayExpire(may_expire) => self.may_expire = *may_expire,
            Action::SetClock(by_ms) => self.set_clock(*by_ms),
            Action::RemoveEmpty => {
                let removed = self.backlog.remove_empty((0..LANES).collect());
                let added: BTreeSet<LaneId> = removed.iter().map(|_| self.backlog.add_lane(3)).collect();
                assert_eq!(added, removed);
                added.iter().for_each(|lane| self.backlog.give_up(*lane, self.gone[*lane as usize]));
            }
            Action::Pick(which, now) => self.pick(which, *now),
            Action::Restart => {
                self.under_way.clear();
                self.scanned = None;
                // What was copied was noted as such.
                self.disk.extend(self.compacted.take().filter(|(_, mails)| !mails.is_empty()));
                self.backlog = Backlog::new(self.disk.keys().copied(), LIFETIME_MS, BOUNDS);
                self.add_lanes();
                // Mails go into a new segment.
                self.written = 0;
            }
            Action::Later(ms) => {
                self.now_ms += ms;
                let expired = self.backlog.take_expired(self.now_ms);
                self.bury(expired);
            }
        }
        let on_disk: usize = self.disk.values().map(BTreeMap::len).sum();
        if self.backlog.is_known() {
            assert_eq!(self.backlog.pairs(), on_disk as u64, "after {action:?}");
            // Each mail is of one octet.
            for lane in 0..LANES {
                // Those that are being copied count for their lane all the while.
                let copied = self.compacted.iter().map(|(_, mails)| mails);
                let mails = self.disk.values().chain(copied).flat_map(BTreeMap::values);
                let mails = mails.filter(|mail| mail.lane == lane);
                assert_eq!(self.backlog.held_bytes(lane), mails.count() as u64, "after {action:?}");
            }
        }
    }

    fn write(&mut self, mail: Mail) -> Waiting<()> {
        if self.written.is_multiple_of(SEGMENT_MAILS) {
            self.newest += 1;
            self.written = 0;
        }
        self.written += 1;
        let offset = self.written;
        self.disk.entry(self.newest).or_default().insert(offset, mail);
        as_waiting(self.newest, offset, &mail)
    }

    fn dispatch(&mut self, lane: LaneId) {
        while let Some(waiting) = self.backlog.next(lane, self.now_ms, self.gate(lane)) {
            assert!(waiting.due_ms <= self.now_ms, "{waiting:?} before its time");
            assert!(self.mail(waiting.pair).is_some(), "{waiting:?} has met its end");
            let twice = self.under_way.iter().any(|other| other.pair == waiting.pair);
            assert!(!twice, "{waiting:?} is under way twice");
            self.under_way.push(waiting);
        }
    }

    fn mail(&mut self, pair: Pair) -> Option<&mut Mail> {
        self.disk.get_mut(&pair.mail.segment)?.get_mut(&pair.mail.offset)
    }

    fn end(&mut self, waiting: Waiting<()>, end: End) {
        let now_ms = self.now_ms;
        let (lane, pair) = (waiting.lane, waiting.pair);
        match end {
            End::Delivered => {
                self.backlog.back(lane, pair, Some(true));
                self.remove(&waiting);
            }
            End::Failed => {
                self.backlog.back(lane, pair, Some(false));
                let due_ms = now_ms + 60_000;
                if let Some(mail) = self.mail(pair) {
                    mail.due_ms = due_ms;
                    mail.failures += 1;
                }
                self.backlog.wait(Waiting { due_ms, failures: waiting.failures + 1, ..waiting });
            }
            End::Postponed => {
                self.backlog.back(lane, pair, None);
                self.backlog.wait(waiting);
            }
            End::NoMemory => {
                self.backlog.back(lane, pair, None);
                self.backlog.wait(Waiting { due_ms: now_ms + 1_000, ..waiting });
            }
        }
    }

    fn bury(&mut self, expired: Vec<Waiting<()>>) {
        for waiting in expired {
            let is_gone = self.gone[waiting.lane as usize];
            let is_over = is_gone || self.backlog.is_expired(waiting.since_ms, self.now_ms);
            assert!(is_over, "{waiting:?} before its time");
            self.backlog.set_aside(&waiting);
            self.remove(&waiting);
        }
    }

    fn remove(&mut self, waiting: &Waiting<()>) {
        let segment = waiting.pair.mail.segment;
        let mails = self.disk.get_mut(&segment).unwrap();
        let mail = mails.remove(&waiting.pair.mail.offset).unwrap();
        assert!(self.ended.insert(mail.name), "{mail:?} has met its end twice");
        if mails.is_empty() {
            self.disk.remove(&segment);
        }
        if self.backlog.end(waiting) && segment < self.newest {
            assert!(!self.disk.contains_key(&segment), "{segment} goes with mails in it");
            self.backlog.forget(segment);
        }
    }

    fn scan_begins(&mut self) {
        let open = self.open;
        self.backlog.look_at_all();
        let may_expire = self.may_expire;
        let wanted = self.backlog.wants(self.now_ms, may_expire, |lane| !open[lane as usize]);
        let Some(segment) = wanted else { return };
        assert!(self.scanned.is_none());
        self.backlog.scan_begins(segment);
        let mails = self.disk.get(&segment).into_iter().flatten();
        self.scanned =
            Some((segment, mails.map(|(offset, mail)| as_waiting(segment, *offset, mail)).collect()));
    }

    fn scan_ends(&mut self, fails: bool) {
        let Some((segment, waiting)) = self.scanned.take() else { return };
        if fails {
            self.backlog.scan_failed(self.now_ms);
        } else {
            let scanned = Scanned { waiting, bytes: SEGMENT_MAILS, is_damaged: false };
            let found = self.backlog.scanned(scanned, self.now_ms, self.may_expire);
            self.bury(found.expired);
        }
        if self.backlog.is_finished(segment).is_some() && segment < self.newest {
            self.backlog.forget(segment);
        }
    }

    fn compaction_begins(&mut self) {
        if self.compacted.is_some() {
            return;
        }
        let Some(segment) = self.backlog.sparse(self.newest, self.now_ms) else { return };
        self.backlog.take_out(segment);
        self.compacted = Some((segment, self.disk.remove(&segment).unwrap()));
    }

    fn copy(&mut self) {
        let next = self.compacted.as_mut().and_then(|(_, mails)| mails.pop_first());
        if let Some((_, mail)) = next {
            let waiting = self.write(mail);
            self.backlog.push_copy(&waiting, 1);
        }
    }

    fn compaction_ends(&mut self, all: bool) {
        while all && self.compacted.as_ref().is_some_and(|(_, mails)| !mails.is_empty()) {
            self.copy();
        }
        let Some((segment, mails)) = self.compacted.take() else { return };
        if !mails.is_empty() {
            self.disk.insert(segment, mails);
            self.backlog.put_in(segment, self.now_ms);
        }
    }

    fn give_up(&mut self, lane: LaneId, is_gone: bool) {
        self.gone[lane as usize] = is_gone;
        self.backlog.give_up(lane, is_gone);
        if !is_gone {
            return;
        }
        // What is read of a message without a destination is due now.
        let copied = self.compacted.iter_mut().map(|(_, mails)| mails);
        let on_disk = self.disk.values_mut().chain(copied).flat_map(BTreeMap::values_mut);
        on_disk.filter(|mail| mail.lane == lane).for_each(|mail| mail.due_ms = 0);
        let read = self.scanned.iter_mut().flat_map(|(_, waiting)| waiting);
        read.filter(|waiting| waiting.lane == lane).for_each(|waiting| waiting.due_ms = 0);
    }

    /// The disk's times are read as if they had been noted by the clock as it is now.
    fn set_clock(&mut self, by_ms: i64) {
        let shift = |ms: &mut u64| *ms = if *ms == 0 { 0 } else { ms.saturating_add_signed(by_ms) };
        self.now_ms = self.now_ms.saturating_add_signed(by_ms);
        self.backlog.shift(by_ms);
        let copied = self.compacted.iter_mut().map(|(_, mails)| mails);
        for mail in self.disk.values_mut().chain(copied).flat_map(BTreeMap::values_mut) {
            shift(&mut mail.since_ms);
            shift(&mut mail.due_ms);
        }
        let read = self.scanned.iter_mut().flat_map(|(_, waiting)| waiting);
        for waiting in read.chain(&mut self.under_way) {
            shift(&mut waiting.since_ms);
            shift(&mut waiting.due_ms);
        }
    }

    fn pick(&mut self, which: &prop::sample::Index, now: bool) {
        let all: Vec<Waiting<()>> = self
            .disk
            .iter()
            .flat_map(|(segment, mails)| {
                mails.iter().map(|(offset, mail)| as_waiting(*segment, *offset, mail))
            })
            .collect();
        // A person's wish is granted right after the segment was read.
        let is_busy = self.scanned.is_some() || self.compacted.is_some();
        if all.is_empty() || is_busy || !self.backlog.is_known() {
            return;
        }
        let wanted = all[which.index(all.len())].clone();
        let under_way = self.under_way.iter().any(|waiting| waiting.pair == wanted.pair);
        assert_eq!(self.backlog.pick(&wanted), !under_way, "{wanted:?}");
        if under_way {
        } else if now {
            // The disk is not told.
            self.backlog.wait(Waiting { due_ms: self.now_ms, ..wanted });
        } else {
            self.remove(&wanted);
        }
    }

    /// Everything that waits is delivered, in the time that this takes.
    fn drain(&mut self) {
        self.open = [true; LANES as usize];
        self.may_expire = true;
        self.compaction_ends(true);
        for _ in 0..10_000 {
            if self.disk.is_empty() {
                break;
            }
            let lanes: Vec<LaneId> = self.backlog.occupied().collect();
            lanes.into_iter().for_each(|lane| self.dispatch(lane));
            for waiting in std::mem::take(&mut self.under_way) {
                self.end(waiting, End::Delivered);
            }
            self.scan_begins();
            self.scan_ends(false);
            let expired = self.backlog.take_expired(self.now_ms);
            self.bury(expired);
            self.now_ms += 1_000;
        }
        assert_eq!(self.ended.len() as u64, self.arrived, "{:?} are left, {:?}", self.disk, self.backlog);
        assert_eq!((self.backlog.pairs(), self.backlog.oldest_ms()), (0, None));
    }
}

fn as_waiting(segment: SegmentId, offset: u64, mail: &Mail) -> Waiting<()> {
    Waiting {
        pair: Pair { mail: Location { segment, offset }, destination: 0 },
        lane: mail.lane,
        since_ms: mail.since_ms,
        due_ms: mail.due_ms,
        failures: mail.failures,
        bytes: 1,
        held: None,
    }
}

proptest! {
    #[test]
    fn every_mail_meets_its_end_once(actions in prop::collection::vec(action(), 1..200)) {
        let mut world = World::new();
        actions.iter().for_each(|action| world.act(action));
        world.drain();
    }
}

const NOW_MS: u64 = LIFETIME_MS + 1_000;

/// Two segments of which nothing is known, with a mail each: an old one that is due after `due_ms`, and one that is due.
fn old_and_due(due_ms: u64) -> (Backlog<()>, [Waiting<()>; 2]) {
    let mut backlog = Backlog::new([0, 1], LIFETIME_MS, Bounds { lane: 1, ..BOUNDS });
    let lane = backlog.add_lane(3);
    let old = Mail { name: 0, lane, since_ms: 0, due_ms: NOW_MS + due_ms, failures: 9 };
    let due = Mail { name: 1, lane, since_ms: NOW_MS, due_ms: NOW_MS, failures: 0 };
    (backlog, [as_waiting(0, 0, &old), as_waiting(1, 0, &due)])
}

fn expired(backlog: &mut Backlog<()>, mail: &Waiting<()>, now_ms: u64) -> usize {
    backlog.scan_begins(mail.pair.mail.segment);
    let waiting = vec![mail.clone()];
    let scanned = Scanned { waiting, bytes: SEGMENT_MAILS, is_damaged: false };
    backlog.scanned(scanned, now_ms, true).expired.len()
}

#[test]
fn what_has_expired_before_it_is_due_does_not_keep_others_from_being_read() {
    let (mut backlog, [old, due]) = old_and_due(3_600_000);
    let wants = |backlog: &mut Backlog<()>, now_ms| {
        backlog.look_at_all();
        backlog.wants(now_ms, true, |_| true)
    };
    assert_eq!(wants(&mut backlog, NOW_MS), Some(0));
    assert_eq!(expired(&mut backlog, &old, NOW_MS), 0);
    assert_eq!(wants(&mut backlog, NOW_MS), Some(1));
    assert_eq!(expired(&mut backlog, &due, NOW_MS), 0);
    assert_eq!((wants(&mut backlog, NOW_MS), wants(&mut backlog, old.due_ms - 1)), (None, None));
    // There is no room for it, and never need be.
    assert_eq!(wants(&mut backlog, old.due_ms), Some(0));
    assert_eq!(expired(&mut backlog, &old, old.due_ms), 1);
    backlog.set_aside(&old);
    assert_eq!(wants(&mut backlog, old.due_ms), None);
}

#[test]
fn a_disk_that_fails_at_what_has_expired_does_not_keep_others_from_being_read() {
    let (mut backlog, [old, due]) = old_and_due(0);
    let wants = |backlog: &mut Backlog<()>, now_ms| {
        backlog.look_at_all();
        backlog.wants(now_ms, true, |_| true)
    };
    assert_eq!(expired(&mut backlog, &old, NOW_MS), 1);
    backlog.set_aside(&old);
    // It could not be made a dead letter, and waits in memory.
    let later = NOW_MS + 600_000;
    backlog.wait(Waiting { due_ms: later, ..old.clone() });
    assert_eq!(backlog.take_expired(later - 1).len(), 0);
    assert_eq!(backlog.take_expired(later).len(), 1);
    // Or on disk, where there is room for others alone.
    backlog.set_aside(&old);
    assert_eq!(expired(&mut backlog, &due, NOW_MS), 0);
    backlog.wait(Waiting { due_ms: later, ..old.clone() });
    assert_eq!((wants(&mut backlog, later - 1), wants(&mut backlog, later)), (None, Some(0)));
    // What cannot be read at all is left alone for a while.
    backlog.scan_begins(0);
    backlog.scan_failed(later);
    assert_eq!((wants(&mut backlog, later + 59_999), wants(&mut backlog, later + 60_000)), (None, Some(0)));
}
