//! Decides with [`Backlog`] what is delivered when, and has it done.

mod commands;
mod look;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::delivery::Incoming;
use crate::delivery::totals::Totals;
use crate::message::id::MailId;
use crate::metrics::{MessageOutcome, SpoolMetrics};
use crate::routes::{Route, RouteTable};
use crate::spool::LOG_TARGET as SPOOL_LOG;
use crate::spool::backlog::{Backlog, Bounds, Scanned};
use crate::spool::clock::{Clock, in_millis};
use crate::spool::control::Done;
use crate::spool::disk::Directory;
use crate::spool::entry::{Death, Outcome, Progress};
use crate::spool::lane::{Gate, LaneId, Pair, Waiting};
use crate::spool::pace::wait_after;
use crate::spool::segment::{Extent, Location, SegmentId, is_unwritten};
use crate::spool::writer::{Burial, Job, Jobs, Said, Spooled};
use crate::webhook::LOG_TARGET;
use crate::webhook::breaker::CircuitState;
use crate::webhook::destination::Delivery;

use self::commands::Commanded;
use self::look::{Look, pairs};
use super::courier::{Courier, End};

pub(super) use self::commands::Command;

/// How often what is due is looked for: waits are minutes.
const TICK: Duration = Duration::from_secs(1);

/// How often segments are looked through for mails that a lane has room for.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Mails that are held in memory for a destination beyond those under way: the next ones.
const HELD_MAX: usize = 128;

/// Events that are handled before deliveries are started.
const EVENTS_MAX: usize = 256;

/// How long a mail waits for which there was no memory.
const NO_MEMORY_WAIT: Duration = Duration::from_secs(1);

/// How long a mail waits that could not be read, or not be made a dead letter: a person has to see to
/// the disk.
const BAD_DISK_WAIT: Duration = Duration::from_secs(600);

/// A mail in memory. Boxed, as most that wait hold none.
type Held = Box<Incoming>;

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
}

/// The task that has mail delivered.
pub(super) struct Dispatcher {
    backlog: Backlog<Held>,
    /// `None` where a lane was removed.
    lanes: Vec<Option<Destined>>,
    by_name: HashMap<String, LaneId>,
    routes: watch::Receiver<Arc<RouteTable>>,
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
    burying: HashMap<Pair, Waiting<Held>>,
    under_way: usize,
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

struct Destined {
    name: String,
    route: Option<Arc<Route>>,
}

/// What the dispatcher's own tasks say.
enum Own {
    Ended { waiting: Waiting<Held>, id: Option<MailId>, end: End },
    Scanned { extent: Extent, result: io::Result<Look> },
    DeadDone { reply: oneshot::Sender<Result<Done, String>>, done: Done, result: Result<u64, String> },
}

/// What a dispatcher is made of.
pub(super) struct Parts {
    pub(super) segments: Vec<SegmentId>,
    pub(super) lifetime: Duration,
    pub(super) routes: watch::Receiver<Arc<RouteTable>>,
    pub(super) jobs: Jobs<Incoming>,
    pub(super) courier: Arc<Courier>,
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
                Ok(()) = changes.changed() => {}
                _ = tick.tick() => dispatcher.tick(),
                () = ears.stop.cancelled(), if !dispatcher.stopping => dispatcher.stopping = true,
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
        self.under_way == 0 && self.burying.is_empty() && self.commands.is_empty() && self.dead_actions == 0
    }

    fn new(parts: Parts, own: mpsc::UnboundedSender<Own>) -> Self {
        let Parts { segments, lifetime, routes, jobs, courier, disk, clock, metrics, totals, standing } =
            parts;
        Self {
            backlog: Backlog::new(segments, in_millis(lifetime), Bounds::default()),
            lanes: Vec::new(),
            by_name: HashMap::new(),
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
            burying: HashMap::new(),
            under_way: 0,
            touched: BTreeSet::new(),
            looked_at: Instant::now(),
            commands: VecDeque::new(),
            dead_actions: 0,
            scans_for_command: false,
            stopping: false,
        }
    }

    fn lane(&mut self, name: &str) -> LaneId {
        if let Some(lane) = self.by_name.get(name) {
            return *lane;
        }
        let route = self.routes.borrow().named(name).cloned();
        let concurrency = route.as_ref().map_or(1, |route| route.destination.concurrency());
        let lane = self.backlog.add_lane(concurrency);
        let destined = Some(Destined { name: name.to_owned(), route });
        match self.lanes.get_mut(lane as usize) {
            Some(place) => *place = destined,
            None => self.lanes.push(destined),
        }
        self.by_name.insert(name.to_owned(), lane);
        lane
    }

    /// Takes over where each lane leads now, before any mail is thought to have nowhere to go: one may be for a
    /// route that has just come.
    fn find_routes(&mut self) {
        let table = Arc::clone(&self.routes.borrow_and_update());
        for (number, lane) in (0..).zip(&mut self.lanes) {
            let Some(lane) = lane else { continue };
            lane.route = table.named(&lane.name).cloned();
            let concurrency = lane.route.as_ref().map_or(1, |route| route.destination.concurrency());
            self.backlog.set_concurrency(number, concurrency);
            if lane.route.is_none() && !table.awaits(&lane.name) {
                self.backlog.hasten(number);
            }
            self.touched.insert(number);
        }
    }

    /// Removes the lanes of routes that are no more, once nothing waits in them: routes come and go for as long as
    /// the process runs.
    fn remove_lanes(&mut self) {
        let gone =
            (0..).zip(&self.lanes).filter(|(_, lane)| lane.as_ref().is_some_and(|it| it.route.is_none()));
        let gone: BTreeSet<LaneId> = gone.map(|(number, _)| number).collect();
        if gone.is_empty() {
            return;
        }
        let removed = self.backlog.remove_empty(gone);
        if removed.is_empty() {
            return;
        }
        for number in &removed {
            if let Some(lane) = self.lanes.get_mut(*number as usize).and_then(Option::take) {
                self.by_name.remove(&lane.name);
            }
            self.touched.remove(number);
        }
        let (removed, left) = (removed.len(), self.by_name.len());
        debug!(target: SPOOL_LOG, removed, left, "nothing waits any more for routes that are gone");
    }

    fn destined(&self, lane: LaneId) -> Option<&Destined> {
        self.lanes.get(lane as usize).and_then(Option::as_ref)
    }

    fn route(&self, lane: LaneId) -> Option<&Arc<Route>> {
        self.destined(lane).and_then(|lane| lane.route.as_ref())
    }

    fn name(&self, lane: LaneId) -> &str {
        self.destined(lane).map_or("", |lane| lane.name.as_str())
    }

    /// When a mail of a lane is due of which the disk says `due_ms`: at once where it has nowhere to go.
    fn due_ms(&self, lane: LaneId, due_ms: u64) -> u64 {
        let is_gone = self.route(lane).is_none() && !self.routes.borrow().awaits(self.name(lane));
        if is_gone { 0 } else { due_ms }
    }

    /// Counts what a mail has come to, wherever it was to go.
    fn count(&self, lane: LaneId, outcome: MessageOutcome) {
        match self.route(lane) {
            Some(route) => route.destination.metrics().message(outcome),
            None => self.metrics.message_of_none(outcome),
        }
    }

    fn gate(&self, lane: LaneId) -> Gate {
        match self.route(lane).map(|route| route.destination.circuit()) {
            None if self.routes.borrow().awaits(self.name(lane)) => Gate::Shut,
            // What has nowhere to go becomes a dead letter at once.
            None | Some(CircuitState::Closed) => Gate::Open,
            Some(CircuitState::HalfOpen) => Gate::Probe,
            Some(CircuitState::Open) => Gate::Shut,
        }
    }

    fn ask(&self, job: Job<Incoming>) {
        // A writer that has gone is heard of by its end of the other channel.
        let _ = self.jobs.send(job);
    }

    fn hear(&mut self, said: Said<Incoming>) {
        match said {
            Said::Spooled(spooled) => spooled.into_iter().for_each(|spooled| self.spooled(spooled)),
            Said::Extent(extent) => self.scan(extent),
            Said::Buried(buried) => buried.into_iter().for_each(|(pair, buried)| self.buried(pair, buried)),
            Said::Retired(segment, gone) => {
                if gone && self.backlog.is_finished(segment) {
                    self.backlog.forget(segment);
                    self.newest.take_if(|(newest, _)| *newest == segment);
                }
            }
            Said::Copied(copies) => copies.into_iter().for_each(|copy| self.copied(copy)),
            Said::Compacted { segment, mails, gone } => self.compacted(segment, mails, gone),
        }
    }

    fn hear_own(&mut self, own: Own) {
        match own {
            Own::Ended { waiting, id, end } => self.ended(waiting, id, end),
            Own::Scanned { extent, result } => self.scanned(&extent, result),
            Own::DeadDone { reply, mut done, result } => {
                self.dead_actions -= 1;
                let _ = reply.send(result.map(|dead| {
                    done.done += dead;
                    done
                }));
            }
        }
    }

    fn spooled(&mut self, spooled: Spooled<Incoming>) {
        let Spooled { at, bytes, since_ms, destinations, mail } = spooled;
        self.advance(at, bytes);
        let id = mail.as_ref().map(|(_, incoming)| incoming.mail.id);
        let alone = destinations.len() == 1;
        let mut mail = mail.filter(|_| alone);
        for (waiting, name) in pairs(at, bytes, since_ms, destinations) {
            let lane = self.lane(&name);
            let gate = self.gate(lane);
            if let (Gate::Shut, Some(id)) = (gate, id) {
                warn!(target: LOG_TARGET, %id, route = name, "mail deferred: the circuit is open");
            }
            let near = self.backlog.lane(lane).is_some_and(|lane| lane.fresh_len() < HELD_MAX);
            let held = mail.take().filter(|_| gate == Gate::Open && near).map(|(content, mut incoming)| {
                incoming.mail.content = content;
                Box::new(incoming)
            });
            self.backlog.push(Waiting { lane, held, ..waiting });
            self.touched.insert(lane);
        }
    }

    /// Notes that mails are written there now.
    fn advance(&mut self, at: Location, bytes: u64) {
        self.quiet = false;
        let is_new = self.newest.is_none_or(|(newest, _)| newest < at.segment);
        self.newest = Some((at.segment, at.offset + bytes));
        if is_new {
            for segment in self.backlog.finished(at.segment) {
                self.retire(segment);
            }
        }
    }

    fn retire(&mut self, segment: SegmentId) {
        self.backlog.forget(segment);
        self.ask(Job::Retire { segment, end: None });
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
        }
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
        while let Some(mut waiting) = self.backlog.next(lane, now_ms, self.gate(lane)) {
            let pair = waiting.pair;
            if self.backlog.is_expired(&waiting, now_ms) {
                self.backlog.back(lane, pair, None);
                self.bury(waiting, "it could not be delivered in time".to_owned(), None);
                continue;
            }
            let Some(route) = self.route(lane).cloned() else {
                self.backlog.back(lane, pair, None);
                let why = format!("there is no destination {} any more", self.name(lane));
                self.bury(waiting, why, None);
                continue;
            };
            self.under_way += 1;
            let (held, courier, own) = (waiting.held.take(), Arc::clone(&self.courier), self.own.clone());
            tokio::spawn(async move {
                let (id, end) = courier.deliver(route, pair, waiting.bytes, held).await;
                let _ = own.send(Own::Ended { waiting, id, end });
            });
        }
    }

    fn ended(&mut self, waiting: Waiting<Held>, id: Option<MailId>, end: End) {
        self.under_way -= 1;
        let (lane, pair, now_ms) = (waiting.lane, waiting.pair, self.clock.now_ms());
        self.touched.insert(lane);
        let succeeded = match &end {
            End::Of(Delivery::Delivered | Delivery::Refused(_)) => Some(true),
            End::Of(Delivery::Failed { .. }) | End::Defect => Some(false),
            End::Of(Delivery::CircuitOpen)
            | End::NoMemory
            | End::TooLarge
            | End::Unreadable(_)
            | End::Stopped => None,
        };
        self.backlog.back(lane, pair, succeeded);
        match end {
            End::Of(Delivery::Delivered) => {
                self.count(lane, MessageOutcome::Forwarded);
                if let Some(route) = self.route(lane) {
                    let took = Duration::from_millis(now_ms.saturating_sub(waiting.since_ms));
                    route.destination.metrics().delivered_after(took.as_secs_f64());
                }
                self.totals.forwarded.fetch_add(1, Ordering::Relaxed);
                self.meets_its_end(&waiting, Outcome::Delivered);
            }
            End::Of(Delivery::Refused(reason)) => {
                let last = Progress {
                    failures: waiting.failures + 1,
                    due_ms: 0,
                    at_ms: now_ms,
                    reason: reason.clone(),
                };
                self.bury(waiting, reason, Some(last));
            }
            End::Of(Delivery::Failed { reason, retry_after }) => {
                self.failed(waiting, id, reason, retry_after);
            }
            End::Defect => {
                self.failed(waiting, id, "its delivery panicked, which is a defect".to_owned(), None);
            }
            End::Of(Delivery::CircuitOpen) | End::Stopped => self.backlog.wait(waiting),
            End::NoMemory => {
                let due_ms = now_ms + in_millis(NO_MEMORY_WAIT);
                self.backlog.wait(Waiting { due_ms, ..waiting });
            }
            End::TooLarge => self.bury(waiting, "as a request it is larger than all memory".to_owned(), None),
            End::Unreadable(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.bury(waiting, error.to_string(), None);
            }
            End::Unreadable(error) => {
                error!(target: SPOOL_LOG, segment = pair.mail.segment, offset = pair.mail.offset, %error, "mail cannot be read from the spool and waits on");
                let due_ms = now_ms + in_millis(BAD_DISK_WAIT);
                self.backlog.wait(Waiting { due_ms, ..waiting });
            }
        }
    }

    fn failed(
        &mut self,
        waiting: Waiting<Held>,
        id: Option<MailId>,
        reason: String,
        retry_after: Option<Duration>,
    ) {
        let (lane, now_ms) = (waiting.lane, self.clock.now_ms());
        let failures = waiting.failures.saturating_add(1);
        let wait = wait_after(failures, retry_after, random());
        let due_ms = self.due_ms(lane, now_ms + in_millis(wait));
        let waiting = Waiting { failures, due_ms, ..waiting };
        let progress = Progress { failures, due_ms: waiting.due_ms, at_ms: now_ms, reason };
        if self.backlog.is_expired(&waiting, waiting.due_ms) {
            let why = format!("it could not be delivered in time; at last: {}", progress.reason);
            self.bury(waiting, why, Some(progress));
            return;
        }
        let (route, id) = (self.name(lane), id.as_ref().map_or("", MailId::as_str));
        warn!(target: LOG_TARGET, id, route, failures, wait_seconds = wait.as_secs(), "mail deferred: it is tried again later");
        self.count(lane, MessageOutcome::Deferred);
        self.ask(Job::Note(waiting.pair, Outcome::Deferred(progress)));
        self.backlog.wait(waiting);
    }

    fn meets_its_end(&mut self, waiting: &Waiting<Held>, outcome: Outcome) {
        self.ask(Job::Note(waiting.pair, outcome));
        self.end(waiting);
    }

    fn end(&mut self, waiting: &Waiting<Held>) {
        let segment = waiting.pair.mail.segment;
        if self.backlog.end(waiting) && self.newest.is_none_or(|(newest, _)| segment < newest) {
            self.retire(segment);
        }
    }

    fn bury(&mut self, waiting: Waiting<Held>, reason: String, last: Option<Progress>) {
        let (pair, at_ms) = (waiting.pair, self.clock.now_ms());
        self.backlog.set_aside(&waiting);
        self.burying.insert(pair, waiting);
        self.ask(Job::Bury(Burial { pair, death: Death { at_ms, reason }, last }));
    }

    fn buried(&mut self, pair: Pair, buried: bool) {
        let Some(waiting) = self.burying.remove(&pair) else { return };
        if !buried {
            let due_ms = self.clock.now_ms() + in_millis(BAD_DISK_WAIT);
            self.backlog.wait(Waiting { due_ms, ..waiting });
            return;
        }
        self.count(waiting.lane, MessageOutcome::DeadLettered);
        self.totals.failed.fetch_add(1, Ordering::Relaxed);
        self.end(&waiting);
    }

    /// What has to be done from time to time.
    fn tick(&mut self) {
        let now_ms = self.clock.now_ms();
        for waiting in self.backlog.take_expired(now_ms) {
            self.bury(waiting, "it could not be delivered in time".to_owned(), None);
        }
        self.remove_lanes();
        self.touched.extend(self.by_name.values());
        let quiet = std::mem::replace(&mut self.quiet, true);
        if let Some((segment, end)) = self.newest.filter(|_| quiet)
            && self.backlog.is_finished(segment)
        {
            self.ask(Job::Retire { segment, end: Some(end) });
        }
        let newest = self.newest.map_or(SegmentId::MAX, |(newest, _)| newest);
        if self.compacting.is_none()
            && self.commands.is_empty()
            && let Some(segment) = self.backlog.sparse(newest)
        {
            self.compacting = Some(segment);
            self.backlog.take_out(segment);
            self.ask(Job::Compact { segment, jobs: self.jobs.clone() });
        }
        let oldest_ms = self.backlog.oldest_ms().map_or(0, |oldest| now_ms.saturating_sub(oldest));
        let standing = Standing {
            known: self.backlog.is_known() && self.compacting.is_none(),
            waiting: self.backlog.pairs(),
        };
        self.metrics.waiting(standing.waiting, oldest_ms / 1_000);
        self.standing.send_if_modified(|before| std::mem::replace(before, standing) != standing);
    }

    fn copied(&mut self, copy: Spooled<Incoming>) {
        let Spooled { at, bytes, since_ms, destinations, .. } = copy;
        self.advance(at, bytes);
        for (waiting, name) in pairs(at, bytes, since_ms, destinations) {
            let lane = self.lane(&name);
            let due_ms = self.due_ms(lane, waiting.due_ms);
            self.backlog.push_copy(&Waiting { lane, due_ms, ..waiting });
        }
    }

    fn compacted(&mut self, segment: SegmentId, mails: usize, gone: bool) {
        self.compacting = None;
        if !gone {
            self.backlog.put_in(segment);
        }
        let into = self.newest.map(|(newest, _)| newest);
        info!(target: SPOOL_LOG, segment, mails, gone, into, "a segment was compacted");
    }

    fn look(&mut self) {
        self.looked_at = Instant::now();
        // Copies are looked for once they are all there: each look goes through all of a segment.
        if self.backlog.scanning().is_some() || self.compacting.is_some() {
            return;
        }
        let now_ms = self.clock.now_ms();
        // A command and deliveries take turns.
        let commands_turn = !self.scans_for_command;
        let mut of_command = if commands_turn { self.next_of_command() } else { None };
        let due = if of_command.is_some() || self.stopping {
            None
        } else {
            self.backlog.wants(now_ms, |lane| self.gate(lane) == Gate::Shut)
        };
        if due.is_none() && of_command.is_none() {
            of_command = self.next_of_command();
        }
        self.scans_for_command = of_command.is_some();
        let Some(segment) = of_command.or(due) else {
            self.conclude();
            return;
        };
        self.backlog.scan_begins(segment);
        if self.backlog.scanning().is_some() {
            self.ask(Job::Extent(segment));
        }
    }

    fn scan(&self, extent: Extent) {
        let (disk, own, now_ms) = (self.disk.clone(), self.own.clone(), self.clock.now_ms());
        let command = self.commands.front().filter(|_| self.scans_for_command);
        let selector = command.map(|it| it.command.selector.clone());
        tokio::task::spawn_blocking(move || {
            let result = Look::at(&disk, &extent, selector.as_ref(), now_ms);
            let _ = own.send(Own::Scanned { extent, result });
        });
    }

    fn scanned(&mut self, extent: &Extent, result: io::Result<Look>) {
        let (segment, now_ms) = (extent.segment, self.clock.now_ms());
        let look = match result {
            Ok(look) => look,
            // Made in the moment of a crash: nothing in it was acknowledged.
            Err(_) if is_unwritten(&self.disk, segment) => Look::nothing(),
            Err(error) => {
                error!(target: SPOOL_LOG, segment, %error, "a segment cannot be read; its mails stay where they are");
                self.backlog.scan_failed(now_ms);
                return;
            }
        };
        if look.damaged_bytes > 0 {
            error!(target: SPOOL_LOG, segment, bytes = look.damaged_bytes, "a segment is damaged; what can be read of it is delivered");
        }
        let lanes: Vec<LaneId> = look.names.iter().map(|name| self.lane(name)).collect();
        let of_lane = |waiting: Waiting<Held>| {
            let lane = lanes.get(waiting.lane as usize).copied().unwrap_or(LaneId::MAX);
            Waiting { lane, due_ms: self.due_ms(lane, waiting.due_ms), ..waiting }
        };
        let waiting = look.waiting.into_iter().map(of_lane).collect();
        let chosen: Vec<Waiting<Held>> = look.chosen.into_iter().map(of_lane).collect();
        let unchanged = self.backlog.scanned(Scanned { waiting, bytes: look.bytes }, now_ms);
        self.touched.extend(lanes.iter().copied());
        if self.scans_for_command {
            let unchanged: HashSet<Pair> = unchanged.into_iter().collect();
            for chosen in chosen {
                if unchanged.contains(&chosen.pair) {
                    self.grant(chosen);
                }
            }
        }
        if self.backlog.is_finished(segment) && self.newest.is_none_or(|(newest, _)| segment < newest) {
            self.retire(segment);
        }
    }
}

/// Jitter; none without a source of randomness.
fn random() -> u16 {
    let mut bytes = [0; 2];
    let filled = getrandom::fill(&mut bytes);
    filled.map_or(0, |()| u16::from_le_bytes(bytes))
}
