//! Decides with [`Backlog`] what is delivered when, and has it done.
//!
//! It runs on a thread of its own: whatever waits, sessions and deliveries do not wait for its decisions.

mod commands;
mod dead_letters;
mod ends;
mod lanes;
mod look;
mod scans;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::delivery::Incoming;
use crate::delivery::totals::Totals;
use crate::memory::Reservation;
use crate::message::id::MailId;
use crate::metrics::SpoolMetrics;
use crate::routes::RouteTable;
use crate::spool::LOG_TARGET as SPOOL_LOG;
use crate::spool::backlog::{Backlog, Bounds, Finished};
use crate::spool::clock::{Clock, in_millis};
use crate::spool::control::Done;
use crate::spool::dead::keeper::{Acted, DeadJob};
use crate::spool::disk::Directory;
use crate::spool::lane::{Gate, LaneId, Waiting};
use crate::spool::segment::SegmentId;
use crate::spool::writer::{Job, Jobs, Said, Spooled};
use crate::webhook::LOG_TARGET;

use self::commands::Commanded;
use self::dead_letters::DeadLetterQueue;
use self::ends::LATE;
use self::lanes::Destined;
use self::look::{Look, pairs};
use super::courier::{Courier, End, InMemory};
use super::memory_queue::MemoryWaits;

pub(super) use self::commands::Command;

/// How often what is due is looked for: waits are minutes.
const TICK: Duration = Duration::from_secs(1);

/// How often segments are looked through for mails that a lane has room for.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Mails that are held in memory for a destination beyond those under way: the next ones.
const HELD_MAX: usize = 128;

/// Events that are handled before deliveries are started.
const EVENTS_MAX: usize = 256;

/// A mail in memory. Boxed, as most that wait hold none.
type Held = Box<InMemory>;

/// What waits, as far as it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Whether it is known of all segments.
    pub(super) known: bool,
    /// Mails, at each destination.
    pub(super) waiting: u64,
}

/// What the dispatcher hears of.
pub(super) struct Ears {
    pub(super) said: mpsc::UnboundedReceiver<Said<Incoming>>,
    pub(super) commands: mpsc::Receiver<Command>,
    /// Cancelled when no further delivery begins.
    pub(super) stop: CancellationToken,
    /// Cancelled when the thread that keeps dead letters has gone.
    pub(super) keeper_ended: CancellationToken,
}

/// The task that has mail delivered.
pub(super) struct Dispatcher {
    backlog: Backlog<Held>,
    /// Bytes of each segment that there was at the start.
    segment_bytes: HashMap<SegmentId, u64>,
    /// `None` where a lane was removed.
    lanes: Vec<Option<Destined>>,
    by_name: HashMap<String, LaneId>,
    routes: watch::Receiver<Arc<RouteTable>>,
    /// The routes as they were looked at last.
    table: Arc<RouteTable>,
    jobs: Jobs<Incoming>,
    courier: Arc<Courier>,
    disk: Directory,
    clock: Clock,
    metrics: SpoolMetrics,
    totals: Arc<Totals>,
    standing: watch::Sender<Standing>,
    own: mpsc::UnboundedSender<Own>,
    /// The segment that is written to, and where its last mail ends.
    newest: Option<(SegmentId, u64)>,
    /// Whether nothing was spooled since the last tick.
    quiet: bool,
    compacting: Option<SegmentId>,
    dead_letters: DeadLetterQueue,
    under_way: usize,
    /// Runs deliveries.
    deliveries: Handle,
    /// The memory that the backlog takes.
    memory: Reservation,
    memory_waits: MemoryWaits,
    /// Messages in segments that were not read yet, as they were counted last.
    unread: u64,
    /// How often the clock was corrected: what was read of the disk before is by another clock.
    clock_corrections: u64,
    /// Lanes that something happened to.
    touched: BTreeSet<LaneId>,
    looked_at: Instant,
    commands: VecDeque<Commanded>,
    /// Commands that are being carried out on dead letters.
    dead_actions: usize,
    /// Whether the segment that is being read is read for a command.
    scans_for_command: bool,
    stopping: bool,
}

/// What the dispatcher's own tasks say.
enum Own {
    Ended { waiting: Waiting<Held>, id: Option<MailId>, end: End },
    Scanned { segment: SegmentId, clock_corrections: u64, result: io::Result<Look> },
    DeadDone { reply: oneshot::Sender<Result<Done, String>>, done: Done, result: Result<Acted, String> },
}

/// What a dispatcher is made of.
pub(super) struct Parts {
    /// The segments that there are, with the bytes of each.
    pub(super) segments: Vec<(SegmentId, u64)>,
    pub(super) lifetime: Duration,
    pub(super) routes: watch::Receiver<Arc<RouteTable>>,
    pub(super) jobs: Jobs<Incoming>,
    pub(super) dead_jobs: std::sync::mpsc::Sender<DeadJob>,
    pub(super) courier: Arc<Courier>,
    pub(super) deliveries: Handle,
    pub(super) memory: Reservation,
    pub(super) disk: Directory,
    pub(super) clock: Clock,
    pub(super) metrics: SpoolMetrics,
    pub(super) totals: Arc<Totals>,
    pub(super) standing: watch::Sender<Standing>,
}

impl Dispatcher {
    /// Runs until `ears.stop` is cancelled and what is under way has ended.
    pub(super) async fn run(parts: Parts, mut ears: Ears) {
        let (own, mut heard) = mpsc::unbounded_channel();
        let mut changes = parts.routes.clone();
        let mut dispatcher = Self::new(parts, own);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                said = ears.said.recv() => match said {
                    Some(said) => dispatcher.hear(said),
                    // The writer has gone; nothing can be done any more.
                    None => return,
                },
                Some(own) = heard.recv() => dispatcher.hear_own(own),
                Some(command) = ears.commands.recv(), if !dispatcher.stopping => dispatcher.begin(command),
                // Nothing can be given up any more.
                () = ears.keeper_ended.cancelled() => return,
                Ok(()) = changes.changed() => {}
                _ = tick.tick() => dispatcher.tick(),
                () = ears.stop.cancelled(), if !dispatcher.stopping => dispatcher.begin_to_stop(),
            }
            for _ in 0..EVENTS_MAX {
                match (ears.said.try_recv(), heard.try_recv()) {
                    (Err(_), Err(_)) => break,
                    (said, own) => {
                        said.into_iter().for_each(|said| dispatcher.hear(said));
                        own.into_iter().for_each(|own| dispatcher.hear_own(own));
                    }
                }
            }
            if dispatcher.stopping && dispatcher.has_ended() {
                return;
            }
            dispatcher.go_on();
        }
    }

    /// Whether nothing is left of what was begun.
    fn has_ended(&self) -> bool {
        self.under_way == 0
            && self.dead_letters.is_empty()
            && self.commands.is_empty()
            && self.dead_actions == 0
    }

    fn new(parts: Parts, own: mpsc::UnboundedSender<Own>) -> Self {
        let Parts {
            segments,
            lifetime,
            routes,
            jobs,
            dead_jobs,
            courier,
            deliveries,
            memory,
            disk,
            clock,
            metrics,
            totals,
            standing,
        } = parts;
        let table = Arc::clone(&routes.borrow());
        Self {
            backlog: Backlog::new(
                segments.iter().map(|(segment, _)| *segment),
                in_millis(lifetime),
                Bounds::default(),
            ),
            segment_bytes: segments.into_iter().collect(),
            lanes: Vec::new(),
            by_name: HashMap::new(),
            table,
            routes,
            jobs,
            courier,
            disk,
            clock,
            metrics,
            totals,
            standing,
            own,
            newest: None,
            quiet: true,
            compacting: None,
            dead_letters: DeadLetterQueue::new(dead_jobs),
            under_way: 0,
            deliveries,
            memory,
            memory_waits: MemoryWaits::default(),
            unread: 0,
            clock_corrections: 0,
            touched: BTreeSet::new(),
            looked_at: Instant::now(),
            commands: VecDeque::new(),
            dead_actions: 0,
            scans_for_command: false,
            stopping: false,
        }
    }

    fn ask(&self, job: Job<Incoming>) {
        // A writer that has gone is heard of by its end of the other channel.
        let _ = self.jobs.send(job);
    }

    fn hear(&mut self, said: Said<Incoming>) {
        match said {
            Said::Spooled(spooled) => spooled.into_iter().for_each(|spooled| self.spooled(spooled)),
            Said::DeadLettered(results) => self.dead_lettered(results),
            Said::Retired(segment, gone) => {
                if gone && self.backlog.is_finished(segment).is_some() {
                    self.backlog.forget(segment);
                    self.newest.take_if(|(newest, _)| *newest == segment);
                }
            }
            Said::Copied(copies) => copies.into_iter().for_each(|copy| self.copied(copy)),
            Said::Compacted { segment, mails, gone } => self.compacted(segment, mails, gone),
        }
    }

    /// Begins nothing more; messages that are not dead letters yet wait on.
    fn begin_to_stop(&mut self) {
        self.stopping = true;
        for waiting in self.dead_letters.take_unsent() {
            self.backlog.wait(waiting);
        }
    }

    fn hear_own(&mut self, own: Own) {
        match own {
            Own::Ended { waiting, id, end } => self.ended(waiting, id, end),
            Own::Scanned { segment, clock_corrections, result } => {
                self.scanned(segment, clock_corrections, result);
            }
            Own::DeadDone { reply, mut done, result } => {
                self.dead_actions -= 1;
                let _ = reply.send(result.map(|acted| {
                    done.done += acted.done;
                    done.damaged += acted.damaged;
                    done
                }));
            }
        }
    }

    fn spooled(&mut self, spooled: Spooled<Incoming>) {
        let Spooled { at, id, share_bytes, end, since_ms, destinations, mail, .. } = spooled;
        self.advance(at.segment, end);
        let id = id.or_else(|| mail.as_ref().map(|(_, incoming)| incoming.mail.id.to_string()));
        let alone = destinations.len() == 1;
        let mut mail = mail.filter(|_| alone);
        let now_ms = self.clock.now_ms();
        for (waiting, name) in pairs(at, share_bytes, since_ms, destinations, now_ms) {
            let lane = self.lane(&name);
            let gate = self.gate(lane);
            if let (Gate::Shut, Some(id)) = (gate, &id) {
                warn!(target: LOG_TARGET, id, route = name, "mail deferred: the circuit is open");
            }
            let near = self.backlog.lane(lane).is_some_and(|lane| lane.fresh_len() < HELD_MAX);
            let is_next = gate == Gate::Open && near;
            let held = mail.take().filter(|_| is_next).and_then(|(content, mut incoming)| {
                incoming.mail.content = content;
                InMemory::hold(incoming, self.route(lane)?).map(Box::new)
            });
            self.backlog.push(Waiting { lane, held, ..waiting });
            self.touched.insert(lane);
        }
    }

    /// Notes that messages are written there now, up to `end`.
    fn advance(&mut self, segment: SegmentId, end: u64) {
        self.quiet = false;
        let is_new = self.newest.is_none_or(|(newest, _)| newest < segment);
        self.newest = Some((segment, end));
        if is_new {
            for older in self.backlog.finished(segment) {
                self.retire(older);
            }
        }
    }

    /// Has a segment removed all of whose messages have met their end, or set aside where some could not be read.
    fn retire(&mut self, segment: SegmentId) {
        let finished = self.backlog.is_finished(segment);
        self.backlog.forget(segment);
        self.ask(match finished {
            Some(Finished::Damaged) => Job::SetAside(segment),
            Some(Finished::Removable) | None => Job::Retire { segment, end: None },
        });
    }

    /// Starts deliveries, and has the next mails read.
    fn go_on(&mut self) {
        if self.routes.has_changed().unwrap_or(false) {
            self.find_routes();
        }
        if self.stopping {
            self.touched.clear();
        }
        while let Some(lane) = self.touched.pop_first() {
            self.show_held(lane);
            self.dispatch(lane);
            self.backlog.look_at(lane);
        }
        self.dead_letters.send();
        self.metrics.messages(self.backlog.pairs() + self.unread);
        if self.looked_at.elapsed() >= LOOK_INTERVAL {
            self.look();
        }
    }

    /// Tells those who take mail what the mails of a lane hold of the disk.
    fn show_held(&self, lane: LaneId) {
        if let Some(route) = self.route(lane) {
            let bytes = usize::try_from(self.backlog.held_bytes(lane)).unwrap_or(usize::MAX);
            route.destination.held_disk().set(bytes);
        }
    }

    fn dispatch(&mut self, lane: LaneId) {
        let now_ms = self.clock.now_ms();
        if self.gate(lane) == Gate::Shut {
            // They may have to wait for hours.
            self.backlog.let_go(lane);
            return;
        }
        while let Some(mut waiting) = self.backlog.next(lane, now_ms, self.gate(lane)) {
            let pair = waiting.pair;
            if self.backlog.is_expired(waiting.since_ms, now_ms) {
                self.backlog.back(lane, pair, None);
                self.dead_letter(waiting, LATE.to_owned(), None);
                continue;
            }
            let Some(route) = self.route(lane).cloned() else {
                self.backlog.back(lane, pair, None);
                let why = format!("there is no destination {} any more", self.name(lane));
                self.dead_letter(waiting, why, None);
                continue;
            };
            self.under_way += 1;
            let (held, courier, own) = (waiting.held.take(), Arc::clone(&self.courier), self.own.clone());
            self.deliveries.spawn(async move {
                let (id, end) = courier.deliver(route, pair, waiting.bytes, held).await;
                let _ = own.send(Own::Ended { waiting, id, end });
            });
        }
    }

    /// What has to be done from time to time.
    fn tick(&mut self) {
        self.follow_wall_clock();
        let now_ms = self.clock.now_ms();
        if !self.stopping {
            for waiting in self.backlog.take_expired(now_ms) {
                self.give_up(waiting);
            }
        }
        self.remove_lanes();
        // What is due by now, and what waits for a circuit.
        self.touched.extend(self.backlog.occupied());
        self.backlog.look_at_all();
        self.tidy(now_ms);
        self.show_standing(now_ms);
    }

    /// Removes segments that have had their time, and has sparse ones compacted.
    fn tidy(&mut self, now_ms: u64) {
        let quiet = std::mem::replace(&mut self.quiet, true);
        if let Some((segment, end)) = self.newest.filter(|_| quiet) {
            match self.backlog.is_finished(segment) {
                Some(Finished::Removable) => self.ask(Job::Retire { segment, end: Some(end) }),
                // It is set aside once there is a newer one.
                Some(Finished::Damaged) | None => {}
            }
        }
        let newest = self.newest.map_or(SegmentId::MAX, |(newest, _)| newest);
        if self.compacting.is_none()
            && !self.stopping
            && self.commands.is_empty()
            && let Some(segment) = self.backlog.sparse(newest, now_ms)
        {
            debug!(target: SPOOL_LOG, segment, "a segment is being compacted");
            self.compacting = Some(segment);
            self.backlog.take_out(segment);
            self.ask(Job::Compact { segment, jobs: self.jobs.clone() });
        }
    }

    /// Shows how much waits. Segments that were not read yet count by their size.
    fn show_standing(&mut self, now_ms: u64) {
        let oldest_ms = self.backlog.oldest_ms();
        self.memory.force_resize(self.backlog.memory_bytes());
        let standing = Standing {
            known: self.backlog.is_known() && self.compacting.is_none(),
            waiting: self.backlog.pairs(),
        };
        let waiting_for_memory = i64::try_from(self.memory_waits.len()).unwrap_or(i64::MAX);
        self.metrics.waiting_for_memory().set(waiting_for_memory);
        let age_ms = oldest_ms.map_or(0, |since_ms| now_ms.saturating_sub(since_ms));
        self.unread = self.unread_messages();
        self.metrics.oldest_seconds(age_ms / 1_000);
        self.standing.send_if_modified(|before| std::mem::replace(before, standing) != standing);
    }

    /// Follows the wall clock where that was set: whatever waits goes on to wait for as long as it had to.
    fn follow_wall_clock(&mut self) {
        let Some(by_ms) = self.clock.divergence_ms(SystemTime::now()) else { return };
        warn!(target: SPOOL_LOG, by_seconds = by_ms / 1_000, "the clock was set; due times and lifetimes of the spool move with it");
        self.clock_corrections += 1;
        // What is stamped by the one clock and written after the other must not seem to be old.
        if by_ms > 0 {
            self.clock.correct(by_ms);
        }
        self.ask(Job::CorrectClock(by_ms));
        self.dead_letters.correct_clock(by_ms);
        if by_ms < 0 {
            self.clock.correct(by_ms);
        }
        self.backlog.shift(by_ms);
    }

    fn copied(&mut self, copy: Spooled<Incoming>) {
        let Spooled { at, share_bytes, end, replaces_bytes, since_ms, destinations, .. } = copy;
        self.advance(at.segment, end);
        let now_ms = self.clock.now_ms();
        for (waiting, name) in pairs(at, share_bytes, since_ms, destinations, now_ms) {
            let lane = self.lane(&name);
            let due_ms = self.due_ms(lane, waiting.due_ms);
            self.backlog.push_copy(&Waiting { lane, due_ms, ..waiting }, replaces_bytes);
            self.touched.insert(lane);
        }
    }

    fn compacted(&mut self, segment: SegmentId, mails: usize, gone: bool) {
        self.compacting = None;
        if !gone {
            self.backlog.put_in(segment, self.clock.now_ms());
        }
        let into = self.newest.map(|(newest, _)| newest);
        info!(target: SPOOL_LOG, segment, mails, gone, into, "a segment was compacted");
    }
}
