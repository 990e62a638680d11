//! A webhook that is away for three days, in simulated time: the backlog, the breaker, the waits and the
//! window of `spool` together.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crate::spool::backlog::{Backlog, Bounds, Scanned};
use crate::spool::lane::{Gate, LaneId, Pair, Waiting};
use crate::spool::pace::wait_after;
use crate::spool::segment::{Location, SegmentId};
use crate::webhook::breaker::{Admission, Breaker, CircuitState};

const SECOND: u64 = 1_000;
const DAY: u64 = 24 * 3_600 * SECOND;

/// When it all begins, in milliseconds since 1970.
const START_MS: u64 = 1_800_000_000_000;

/// The webhook is away from the first hour on, for three days.
const AWAY: std::ops::Range<u64> = 3_600 * SECOND..3_600 * SECOND + 3 * DAY;

/// How long the circuit stays open.
const RESET: u64 = 60 * SECOND;

/// A mail comes in so often, until an hour after the webhook is back.
const MAIL_EVERY: u64 = 20 * SECOND;

/// Mails of a segment.
const SEGMENT_MAILS: u64 = 500;

/// Requests that the webhook works on at the same time; more are answered `503`.
const WEBHOOK_CAPACITY: usize = 8;

/// Time of a request, and of a delivery with all of its retries.
const TAKES: u64 = 50;
const FAILS_AFTER: u64 = 900;

const BOUNDS: Bounds = Bounds { lane: 64, total: 1_000, share: 16 };
const LIFETIME_MS: u64 = 5 * DAY;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives,
    Ends { delivery: u64, succeeds: bool },
    Tick,
}

#[derive(Debug, Clone, Copy)]
struct Mail {
    arrived: u64,
    due_ms: u64,
    failures: u32,
}

struct World {
    started: Instant,
    now: u64,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    backlog: Backlog<()>,
    lane: LaneId,
    breaker: Breaker,
    disk: BTreeMap<Location, Mail>,
    written: u64,
    under_way: BTreeMap<u64, (Waiting<()>, Admission)>,
    begun: u64,
    busy: usize,
    /// The mails in the order of their delivery: when each arrived, when it was delivered, and how often it had failed.
    delivered: Vec<(u64, u64, u32)>,
    failures: Vec<u64>,
    opened: Vec<u64>,
    seed: u32,
}

impl World {
    fn new() -> Self {
        let mut backlog = Backlog::new([], LIFETIME_MS, BOUNDS);
        let lane = backlog.add_lane(64);
        let events = [(0, Event::Arrives), (0, Event::Tick)];
        Self {
            started: Instant::now(),
            now: 0,
            events: events.into_iter().map(Reverse).collect(),
            backlog,
            lane,
            breaker: Breaker::new(NonZeroU32::new(5).unwrap(), Duration::from_millis(RESET)),
            disk: BTreeMap::new(),
            written: 0,
            under_way: BTreeMap::new(),
            begun: 0,
            busy: 0,
            delivered: Vec::new(),
            failures: Vec::new(),
            opened: Vec::new(),
            seed: 1,
        }
    }

    fn run(&mut self) {
        while let Some(Reverse((at, event))) = self.events.pop() {
            self.now = at;
            match event {
                Event::Arrives => self.arrives(),
                Event::Ends { delivery, succeeds } => self.ends(delivery, succeeds),
                Event::Tick => {
                    assert!(self.backlog.take_expired(self.now_ms()).is_empty());
                    // Until nothing is left to be done.
                    if at < AWAY.end || !self.disk.is_empty() {
                        self.events.push(Reverse((at + SECOND, Event::Tick)));
                    }
                }
            }
            self.look();
            self.dispatch();
        }
    }

    fn now_ms(&self) -> u64 {
        START_MS + self.now
    }

    fn instant(&self) -> Instant {
        self.started + Duration::from_millis(self.now)
    }

    fn gate(&self) -> Gate {
        match (self.breaker.state(), self.breaker.would_admit(self.instant())) {
            (CircuitState::Closed, _) => Gate::Open,
            (_, true) => Gate::Probe,
            (_, false) => Gate::Shut,
        }
    }

    fn arrives(&mut self) {
        let at = Location { segment: 1 + self.written / SEGMENT_MAILS, offset: self.written };
        self.written += 1;
        let mail = Mail { arrived: self.now, due_ms: self.now_ms(), failures: 0 };
        self.disk.insert(at, mail);
        self.backlog.push(self.waiting(at, &mail));
        if self.now < AWAY.end + 3_600 * SECOND {
            self.events.push(Reverse((self.now + MAIL_EVERY, Event::Arrives)));
        }
    }

    fn waiting(&self, at: Location, mail: &Mail) -> Waiting<()> {
        Waiting {
            pair: Pair { mail: at, destination: 0 },
            lane: self.lane,
            since_ms: START_MS + mail.arrived,
            due_ms: mail.due_ms,
            failures: mail.failures,
            bytes: 1,
            held: None,
        }
    }

    fn look(&mut self) {
        let shut = self.gate() == Gate::Shut;
        self.backlog.look_at_all();
        while let Some(segment) = self.backlog.wants(self.now_ms(), true, |_| shut) {
            self.backlog.scan_begins(segment);
            let range = Location { segment, offset: 0 }..Location { segment: segment + 1, offset: 0 };
            let waiting = self.disk.range(range).map(|(at, mail)| self.waiting(*at, mail)).collect();
            let scanned = Scanned { waiting, bytes: SEGMENT_MAILS, is_damaged: false };
            let found = self.backlog.scanned(scanned, self.now_ms(), true);
            assert!(found.expired.is_empty(), "{found:?}");
        }
        let loaded = self.backlog.lane(self.lane).unwrap().loaded();
        assert!(loaded <= 2 * BOUNDS.lane, "{loaded} mails are in memory");
    }

    fn dispatch(&mut self) {
        while let Some(waiting) = self.backlog.next(self.lane, self.now_ms(), self.gate()) {
            assert!(!self.backlog.is_expired(waiting.since_ms, self.now_ms()));
            let Some(admission) = self.breaker.admit(self.instant()) else {
                self.backlog.back(self.lane, waiting.pair, None);
                self.backlog.wait(waiting);
                continue;
            };
            let succeeds = !AWAY.contains(&self.now) && self.busy < WEBHOOK_CAPACITY;
            self.busy += usize::from(succeeds);
            self.begun += 1;
            let ends = self.now + if succeeds { TAKES } else { FAILS_AFTER };
            self.events.push(Reverse((ends, Event::Ends { delivery: self.begun, succeeds })));
            self.under_way.insert(self.begun, (waiting, admission));
        }
    }

    fn ends(&mut self, delivery: u64, succeeds: bool) {
        let (waiting, admission) = self.under_way.remove(&delivery).unwrap();
        self.busy -= usize::from(succeeds);
        let before = self.breaker.state();
        self.breaker.record(admission, succeeds, self.instant());
        if before == CircuitState::Closed && self.breaker.state() == CircuitState::Open {
            self.opened.push(self.now);
        }
        self.backlog.back(self.lane, waiting.pair, Some(succeeds));
        if succeeds {
            let mail = self.disk.remove(&waiting.pair.mail).unwrap();
            self.delivered.push((mail.arrived, self.now, mail.failures));
            if self.backlog.end(&waiting) && waiting.pair.mail.segment < self.newest() {
                self.backlog.forget(waiting.pair.mail.segment);
            }
            return;
        }
        self.failures.push(self.now);
        // Any jitter will do, as long as it differs.
        self.seed = self.seed.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        let jitter = u16::try_from(self.seed >> 16).unwrap();
        let failures = waiting.failures + 1;
        let wait = wait_after(failures, None, jitter);
        let due_ms = self.now_ms() + u64::try_from(wait.as_millis()).unwrap();
        let mail = self.disk.get_mut(&waiting.pair.mail).unwrap();
        (mail.due_ms, mail.failures) = (due_ms, failures);
        self.backlog.wait(Waiting { due_ms, failures, ..waiting });
    }

    fn newest(&self) -> SegmentId {
        1 + (self.written - 1) / SEGMENT_MAILS
    }
}

#[test]
fn three_days_without_the_webhook_end_with_everything_delivered() {
    let mut world = World::new();
    world.run();
    assert_eq!(world.delivered.len() as u64, world.written);
    assert!(world.written > 13_000 && world.disk.is_empty());

    // While it was away it was left alone, but for a probe a minute.
    let opened = world.opened.len();
    assert_eq!(opened, 1, "the backlog has tripped the breaker again");
    let while_away = world.failures.iter().filter(|at| **at < AWAY.end).count();
    assert!((4_200..=4_330).contains(&while_away), "{while_away} deliveries failed");

    let (waited, fresh): (Vec<_>, Vec<_>) = world
        .delivered
        .iter()
        .filter(|(_, delivered, _)| *delivered >= AWAY.end)
        .partition(|(arrived, ..)| *arrived < AWAY.end);
    // What comes in once the circuit is closed does not wait for what waited, unless it was too much for
    // the webhook itself.
    let at_once = fresh.iter().filter(|(arrived, _, failures)| *arrived > AWAY.end + RESET && *failures == 0);
    assert!(at_once.clone().count() * 10 >= fresh.len() * 9, "too many were too much for the webhook");
    let slowest = at_once.map(|(arrived, delivered, _)| delivered - arrived).max().unwrap();
    assert!(slowest < 5 * SECOND, "a fresh mail waited for {slowest} ms");
    // What waited goes in the order in which it came, as far as it can be seen from memory: those that
    // came last are fresh, those that were a probe or too much for the webhook wait a little longer.
    let in_order = waited.iter().filter(|(_, _, failures)| *failures == 0).map(|(arrived, ..)| *arrived);
    let (older, newer): (Vec<u64>, Vec<u64>) =
        in_order.partition(|arrived| *arrived < AWAY.end - BOUNDS.lane as u64 * MAIL_EVERY);
    let span = u64::try_from(older.len()).unwrap();
    let behind = older.windows(2).filter(|pair| pair[0] > pair[1] + BOUNDS.lane as u64 * MAIL_EVERY).count();
    assert!(span > 5_000 && newer.len() <= BOUNDS.lane, "{span} and {}", newer.len());
    assert!(behind <= older.len() / 100, "{behind} of {span} mails came long after younger ones");
    // And it does not take longer than the webhook needs for it.
    let last = waited.iter().map(|(_, delivered, _)| delivered - AWAY.end).max().unwrap();
    assert!(last < 15 * 60 * SECOND, "the backlog took {last} ms");
}
