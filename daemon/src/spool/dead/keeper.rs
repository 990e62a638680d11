//! The thread that keeps dead letters: it makes messages dead letters, acts on those, and gives up the oldest.
//!
//! It reads what it needs from the spool's segments by itself, each segment's history once for all messages of it that
//! are given up together, and asks the spool's writer for nothing but short notes. So the writer, and with it new mail,
//! never waits for dead letters, however many messages are given up at the same time.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::spool::LOG_TARGET;
use crate::spool::bulk::{self, PORTION_BYTES};
use crate::spool::clock::Clock;
use crate::spool::dead::{Chosen, DeadLetters};
use crate::spool::disk::{Disk, DiskFile};
use crate::spool::entry::{Death, Head, Outcome, Progress, Subject};
use crate::spool::lane::Pair;
use crate::spool::segment::{Extent, Histories, Loaded, Location, Mails, SegmentId};
use crate::spool::selector::Selector;
use crate::spool::store::Entry;
use crate::spool::writer::{BulkAppend, BulkMessage, DeadLettered, Job, Jobs, Origin, Said};

/// Messages that are made dead letters together, at most: what they come to is told at once.
const PORTION_MESSAGES: usize = 256;

/// How long what a person wants is still done when the process ends: a fifth of the default grace.
const CLOSING_TIME_MAX: Duration = Duration::from_secs(5);

/// How often dead letters are looked at for those that are too old.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(60);

/// A request to the thread.
#[derive(Debug)]
pub enum DeadJob {
    /// Make messages of one segment dead letters.
    Keep(SegmentId, Vec<DeadLetterRequest>),
    /// Act on dead letters.
    Act(DeadAction),
    /// The clock was corrected by so many milliseconds.
    CorrectClock(i64),
    /// End.
    Stop,
}

/// A message to be made a dead letter.
#[derive(Debug)]
pub struct DeadLetterRequest {
    /// The message, at one of its destinations.
    pub pair: Pair,
    /// Why, and when it was decided.
    pub death: Death,
    /// Its last failure, if that was not noted.
    pub last: Option<Progress>,
}

/// What a person wants of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wish {
    /// They are delivered, now.
    Retry,
    /// The same, even those that the disk has damaged.
    Force,
    /// They go.
    Discard,
}

/// Dead letters to be acted on.
#[derive(Debug)]
pub struct DeadAction {
    /// The dead letters.
    pub selector: Selector,
    /// What is done to them.
    pub wish: Wish,
    /// Told how many there were.
    pub reply: oneshot::Sender<Result<Acted, String>>,
}

/// How many dead letters something was done to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Acted {
    /// Those that it was done to.
    pub done: u64,
    /// Those that were left alone because their content is damaged.
    pub damaged: u64,
}

/// The thread.
pub struct Keeper<D: Disk, T> {
    /// The spool's directory.
    disk: D,
    dead: DeadLetters<D>,
    jobs: Jobs<T>,
    /// Weak, so that the scheduler notices when the writer has gone.
    said: mpsc::WeakUnboundedSender<Said<T>>,
    clock: Clock,
    /// Cancelled when nothing more is begun.
    draining: CancellationToken,
    batches: VecDeque<Batch<D>>,
    actions: VecDeque<Acting>,
    expired_at: Instant,
    /// Since when it is known that the process ends.
    closing_since: Option<Instant>,
}

/// Messages of one segment that become dead letters.
struct Batch<D: Disk> {
    segment: SegmentId,
    requests: VecDeque<DeadLetterRequest>,
    /// What is read of the segment once, before the first portion.
    read: Option<(Mails<D::File>, Histories)>,
}

/// What a person wants of dead letters, as far as it was not done yet.
struct Acting {
    action: DeadAction,
    /// Segments to be looked through, once it is its turn.
    left: Option<VecDeque<SegmentId>>,
    acted: Acted,
}

impl<D: Disk + Clone, T: Send + 'static> Keeper<D, T> {
    /// Starts the thread, which takes stock of the dead letters first. `jobs` and `said` are those of the spool's
    /// writer; once `draining` is cancelled, nothing more is begun. `ended` is cancelled when the thread ends, for whatever
    /// reason.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn spawn(
        disk: D,
        dead: impl FnOnce() -> DeadLetters<D> + Send + 'static,
        asked: Receiver<DeadJob>,
        (jobs, said): (Jobs<T>, mpsc::WeakUnboundedSender<Said<T>>),
        clock: Clock,
        draining: CancellationToken,
        ended: CancellationToken,
    ) -> io::Result<JoinHandle<()>>
    where
        D::File: Send,
    {
        bulk::spawn("dead letters", move || {
            let _ended = ended.drop_guard();
            let keeper = Self {
                disk,
                dead: dead(),
                jobs,
                said,
                clock,
                draining,
                batches: VecDeque::new(),
                actions: VecDeque::new(),
                expired_at: Instant::now(),
                closing_since: None,
            };
            keeper.run(&asked);
        })
    }

    fn run(mut self, asked: &Receiver<DeadJob>) {
        loop {
            let is_idle = self.batches.is_empty() && self.actions.is_empty();
            match asked.recv_timeout(if is_idle { EXPIRY_INTERVAL } else { Duration::ZERO }) {
                Ok(DeadJob::Keep(segment, requests)) => {
                    self.batches.push_back(Batch { segment, requests: requests.into(), read: None });
                }
                Ok(DeadJob::Act(action)) => {
                    self.actions.push_back(Acting { action, left: None, acted: Acted::default() });
                }
                Ok(DeadJob::CorrectClock(by_ms)) => self.dead.correct_clock(by_ms),
                Ok(DeadJob::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.keep_portion();
            self.act_on_segment();
            if self.expired_at.elapsed() >= EXPIRY_INTERVAL {
                self.expired_at = Instant::now();
                self.dead.expire(self.clock.now_ms());
            }
        }
    }

    fn say(&self, results: Vec<(Pair, DeadLettered)>) {
        // A scheduler that is gone is about to end, and finds them on disk when it starts again.
        let _ = self.said.upgrade().map(|said| said.send(Said::DeadLettered(results)));
    }

    /// Makes the next messages dead letters; those whose turn has not come when the process ends wait on.
    fn keep_portion(&mut self) {
        if self.draining.is_cancelled() {
            let left = self.batches.drain(..).flat_map(|batch| batch.requests);
            let left: Vec<_> = left.map(|request| (request.pair, DeadLettered::Postponed)).collect();
            if !left.is_empty() {
                self.say(left);
            }
            return;
        }
        let Some(mut batch) = self.batches.pop_front() else { return };
        if batch.read.is_none() {
            match self.read(&batch) {
                Ok(read) => batch.read = Some(read),
                Err(error) => return self.cannot_read(batch, &error),
            }
        }
        self.keep(&mut batch);
        if !batch.requests.is_empty() {
            self.batches.push_front(batch);
        }
    }

    fn read(&self, batch: &Batch<D>) -> io::Result<(Mails<D::File>, Histories)> {
        let extent = self.extent(batch.segment)?;
        let wanted: HashSet<Subject> = batch.requests.iter().map(|request| subject(request.pair)).collect();
        let histories = Histories::read(&self.disk, &extent, |subject| wanted.contains(&subject))?;
        Ok((Mails::open(&self.disk, batch.segment)?, histories))
    }

    /// What there is to read of a segment, as the writer says.
    fn extent(&self, segment: SegmentId) -> io::Result<Extent> {
        let (reply, extent) = oneshot::channel();
        let _ = self.jobs.send(Job::Extent { segment, reply });
        extent.blocking_recv().map_err(|_| io::Error::other("the spool is being closed"))
    }

    fn cannot_read(&self, batch: Batch<D>, error: &io::Error) {
        let segment = batch.segment;
        let result = result_of(error);
        error!(target: LOG_TARGET, segment, %error, messages = batch.requests.len(), "messages cannot be read from the spool and are no dead letters");
        self.say(batch.requests.into_iter().map(|request| (request.pair, result)).collect());
    }

    fn keep(&mut self, batch: &mut Batch<D>) {
        let Some((mails, histories)) = &mut batch.read else { return };
        let (mut pairs, mut heads, mut entries, mut results) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut bytes = 0;
        while bytes < PORTION_BYTES
            && pairs.len() + results.len() < PORTION_MESSAGES
            && let Some(request) = batch.requests.pop_front()
        {
            let pair = request.pair;
            match dead_letter(mails, histories, request) {
                Ok((head, entry)) => {
                    bytes += entry.bytes();
                    pairs.push(pair);
                    heads.push(head);
                    entries.push(entry);
                }
                Err(error) => {
                    let (segment, offset) = (pair.mail.segment, pair.mail.offset);
                    error!(target: LOG_TARGET, segment, offset, %error, "message cannot be read from the spool and is no dead letter");
                    results.push((pair, result_of(&error)));
                }
            }
        }
        let kept = self.dead.keep(&heads, &entries);
        for ((pair, head), kept) in pairs.into_iter().zip(&heads).zip(kept) {
            let (id, route) = (&head.id, head.destinations.first().map_or("", |target| &target.route));
            match kept {
                Ok(()) => {
                    let reason = head.death.as_ref().map_or("", |death| &death.reason);
                    error!(target: LOG_TARGET, id, route, reason, "mail is a dead letter");
                    // Before it is told, so that its segment is not gone by then. If it is lost, the letter is there twice.
                    let _ = self.jobs.send(Job::Note(pair, Outcome::Dead));
                    results.push((pair, DeadLettered::Kept));
                }
                Err(error) => {
                    error!(target: LOG_TARGET, id, route, %error, "mail was not made a dead letter and waits on");
                    results.push((pair, DeadLettered::Failed));
                }
            }
        }
        self.say(results);
    }

    /// Whether the process has been ending for so long that nothing more is done for a person.
    fn is_closed(&mut self) -> bool {
        let is_closing = self.draining.is_cancelled();
        is_closing && self.closing_since.get_or_insert_with(Instant::now).elapsed() > CLOSING_TIME_MAX
    }

    /// Does what a person wants to the dead letters of one segment.
    fn act_on_segment(&mut self) {
        let Some(mut acting) = self.actions.pop_front() else { return };
        if self.is_closed() {
            let why = "the spool is being closed; not all of it was done".to_owned();
            let _ = acting.action.reply.send(Err(why));
            return;
        }
        let segment = acting.left.get_or_insert_with(|| self.dead.segments().into()).pop_front();
        let result = segment.map_or(Ok(()), |segment| self.act_on(segment, &mut acting));
        match result {
            Ok(()) if acting.left.as_ref().is_some_and(|left| !left.is_empty()) => {
                self.actions.push_front(acting);
            }
            result => {
                let _ = acting.action.reply.send(result.map(|()| acting.acted));
            }
        }
    }

    fn act_on(&mut self, segment: SegmentId, acting: &mut Acting) -> Result<(), String> {
        let now_ms = self.clock.now_ms();
        let DeadAction { selector, wish, .. } = &acting.action;
        let chosen = self.dead.select(segment, selector, now_ms).map_err(|error| error.to_string())?;
        match wish {
            Wish::Retry => self.replay(chosen, now_ms, false, &mut acting.acted),
            Wish::Force => self.replay(chosen, now_ms, true, &mut acting.acted),
            Wish::Discard => self.discard(chosen, &mut acting.acted),
        }
    }

    fn discard(&mut self, chosen: Vec<Chosen>, acted: &mut Acted) -> Result<(), String> {
        let released: Vec<(Location, Head)> =
            chosen.into_iter().map(|chosen| (chosen.at, chosen.head)).collect();
        self.dead.release(&released, &Outcome::Discarded).map_err(|error| error.to_string())?;
        acted.done += released.len() as u64;
        for (_, head) in &released {
            let route = head.destinations.first().map_or("", |target| &target.route);
            info!(target: LOG_TARGET, id = head.id, route, "mail discarded by hand");
        }
        Ok(())
    }

    /// Sends dead letters on their way again, a portion at a time.
    fn replay(
        &mut self,
        chosen: Vec<Chosen>,
        now_ms: u64,
        is_forced: bool,
        acted: &mut Acted,
    ) -> Result<(), String> {
        let text = |error: io::Error| error.to_string();
        let (mut portion, mut bytes) = (Vec::new(), 0);
        let mut chosen = chosen.into_iter().peekable();
        while let Some(next) = chosen.next() {
            let Loaded { head, content, intact, .. } = self.dead.load(next.at).map_err(text)?;
            let is_damaged = !intact || head.death.as_ref().is_some_and(|death| death.is_damaged);
            if is_damaged && !is_forced {
                acted.damaged += 1;
            } else {
                bytes += content.len() as u64;
                portion.push((next, replayed(head, now_ms), content));
            }
            if bytes >= PORTION_BYTES || chosen.peek().is_none() {
                bytes = 0;
                acted.done += self.replay_portion(std::mem::take(&mut portion))?;
            }
        }
        Ok(())
    }

    fn replay_portion(&mut self, portion: Vec<(Chosen, Head, Vec<u8>)>) -> Result<u64, String> {
        let (mut from, mut messages) = (Vec::new(), Vec::new());
        for (chosen, head, content) in portion {
            let entry = Entry::new(&head, content).map_err(|error| error.to_string())?;
            messages.push(BulkMessage { entry, head, replaces: Vec::new(), replaces_bytes: 0 });
            from.push((chosen.at, chosen.head));
        }
        let (reply, written) = oneshot::channel();
        let _ = self.jobs.send(Job::Bulk(BulkAppend { origin: Origin::Replay, messages, reply }));
        let written = written.blocking_recv().map_err(|_| "the spool is being closed".to_owned())?;
        let refused = written.iter().find_map(|written| written.as_ref().err().map(ToString::to_string));
        let released: Vec<(Location, Head)> = from
            .into_iter()
            .zip(written)
            .filter_map(|(from, written)| written.is_ok().then_some(from))
            .collect();
        self.dead.release(&released, &Outcome::Moved).map_err(|error| error.to_string())?;
        refused.map_or(Ok(released.len() as u64), Err)
    }
}

fn subject(pair: Pair) -> Subject {
    Subject { offset: pair.mail.offset, destination: pair.destination }
}

fn result_of(error: &io::Error) -> DeadLettered {
    if error.kind() == io::ErrorKind::InvalidData { DeadLettered::Unreadable } else { DeadLettered::Failed }
}

/// The dead letter that a message becomes.
fn dead_letter<F: DiskFile>(
    mails: &Mails<F>,
    histories: &mut Histories,
    request: DeadLetterRequest,
) -> io::Result<(Head, Entry)> {
    let DeadLetterRequest { pair, mut death, last } = request;
    let Loaded { mut head, content, intact, .. } = mails.load(pair.mail.offset)?;
    if !intact {
        death.is_damaged = true;
        death.reason = format!("{}; its content is damaged on disk", death.reason);
    }
    let index = usize::from(pair.destination);
    if index >= head.destinations.len() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut target = head.destinations.swap_remove(index);
    let mut history = histories.of(subject(pair), &target);
    target.progress = last.or_else(|| history.pop()).unwrap_or_default();
    target.history = history;
    head.destinations = vec![target];
    head.death = Some(death);
    let entry = Entry::new(&head, content)?;
    Ok((head, entry))
}

/// The message that a dead letter becomes again.
fn replayed(mut head: Head, now_ms: u64) -> Head {
    head.death = None;
    head.lifetime_began_ms = None;
    head.replayed_at_ms = Some(now_ms);
    for target in &mut head.destinations {
        let last = std::mem::take(&mut target.progress);
        target.history.extend((!last.is_none()).then_some(last));
    }
    head
}
