//! The one writer of a spool: a thread that appends mails in groups, notes what became of them, keeps
//! dead letters and copies what is left of sparse segments.

mod compaction;

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tracing::{error, info};

use crate::metrics::SpoolMetrics;

use self::compaction::{Copied, Copies};
use super::LOG_TARGET;
use super::clock::Clock;
use super::dead::DeadLetters;
use super::disk::Disk;
use super::entry::{Death, Head, Outcome, Progress, Subject};
use super::lane::Pair;
use super::part::Sealed;
use super::segment::{Extent, Histories, Loaded, Location, SegmentId, load};
use super::selector::Selector;
use super::store::{AppendError, Entry, Store};

/// Octets of mails that are written and synced together: more does not make the disk faster.
const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long an outcome may be lost by a loss of power, which costs a second delivery.
const OUTCOMES_UNSYNCED_MAX: Duration = Duration::from_secs(1);

/// How often dead letters are looked at for those that are too old.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(60);

/// What the writer is asked for. What waits here is bounded by the sessions and the deliveries that
/// there are: each has asked for one thing at most.
#[derive(Debug)]
pub enum Job<T> {
    /// Take a mail over.
    Append(Box<Append<T>>),
    /// Take over a mail that is on disk already.
    Adopt(Adoption),
    /// Note what became of a mail.
    Note(Pair, Outcome),
    /// Make a mail a dead letter.
    Bury(Burial),
    /// Say what there is to read of a segment.
    Extent(SegmentId),
    /// Remove a segment, all mails of which have met their end, unless mails were written behind `end`
    /// meanwhile.
    Retire {
        /// Which.
        segment: SegmentId,
        /// Where its last mail ended.
        end: Option<u64>,
    },
    /// Copy what is left of a segment, none of which is under way, and remove it. One at a time.
    Compact {
        /// Which.
        segment: SegmentId,
        /// Where the copies are sent as they are read.
        jobs: Jobs<T>,
    },
    /// Write copies.
    Copy {
        /// Of mails of the segment that is being compacted.
        copies: Copies,
        /// Told whether all of them were written.
        reply: oneshot::Sender<bool>,
    },
    /// There is nothing more to copy: remove the segment, if all was.
    EndCompaction {
        /// Which.
        segment: SegmentId,
        /// Whether all that waits in it was copied.
        all: bool,
    },
    /// Act on dead letters.
    Dead(DeadAction),
    /// Write what was asked for so far, and end.
    Stop,
}

/// A mail to be taken over.
#[derive(Debug)]
pub struct Append<T> {
    /// What is written of it.
    pub entry: Entry,
    /// The names of its destinations.
    pub routes: Vec<String>,
    /// What is given back with it once it is written.
    pub rest: T,
    /// When its lifetime begins, in milliseconds since 1970.
    pub since_ms: u64,
    /// Told once it is on disk for good.
    pub reply: oneshot::Sender<Result<(), AppendError>>,
}

/// A mail on disk to be taken over.
#[derive(Debug)]
pub struct Adoption {
    /// Its file.
    pub sealed: Sealed,
    /// The names of its destinations.
    pub routes: Vec<String>,
    /// When its lifetime begins, in milliseconds since 1970.
    pub since_ms: u64,
    /// Told once it is in the spool for good.
    pub reply: oneshot::Sender<Result<(), AppendError>>,
}

/// A mail to be made a dead letter.
#[derive(Debug)]
pub struct Burial {
    /// Which, and for which of its destinations.
    pub pair: Pair,
    /// Why.
    pub death: Death,
    /// Its last failure, if that was not noted.
    pub last: Option<Progress>,
}

/// What a person wants of mails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wish {
    /// They are delivered, now.
    Retry,
    /// They go.
    Discard,
}

/// Dead letters to be acted on.
#[derive(Debug)]
pub struct DeadAction {
    /// Which.
    pub selector: Selector,
    /// What is done to them.
    pub wish: Wish,
    /// Told how many there were.
    pub reply: oneshot::Sender<Result<u64, String>>,
}

/// A mail that is on disk.
#[derive(Debug)]
pub struct Spooled<T> {
    /// Where.
    pub at: Location,
    /// Octets of its entry.
    pub bytes: u64,
    /// When its lifetime began, in milliseconds since 1970.
    pub since_ms: u64,
    /// Its destinations: the name of each and where the delivery stands.
    pub destinations: Vec<(String, Progress)>,
    /// Its content and what came with it, where they are still in memory.
    pub mail: Option<(Vec<u8>, T)>,
}

/// What the writer says.
#[derive(Debug)]
pub enum Said<T> {
    /// These were taken over.
    Spooled(Vec<Spooled<T>>),
    /// There is so much to read of a segment.
    Extent(Extent),
    /// Whether mails became dead letters.
    Buried(Vec<(Pair, bool)>),
    /// A segment was removed, or not.
    Retired(SegmentId, bool),
    /// These were copied to where they are now.
    Copied(Vec<Spooled<T>>),
    /// What was left of a segment was copied; the segment is still there if it could not be all.
    Compacted {
        /// The segment.
        segment: SegmentId,
        /// How many mails were.
        mails: usize,
        /// Whether the segment has gone.
        gone: bool,
    },
}

/// The thread that writes.
pub struct Writer<D: Disk, T> {
    store: Store<D>,
    dead: DeadLetters<D>,
    said: mpsc::UnboundedSender<Said<T>>,
    clock: Clock,
    metrics: SpoolMetrics,
    /// When the first outcome was written that is not synced.
    unsynced_since: Option<Instant>,
    expired_at: Instant,
    /// Of the segment that is being compacted.
    copied: Copied,
    mails: Trouble,
    outcomes: Trouble,
}

/// Whether something could not be written the last time.
#[derive(Debug)]
struct Trouble {
    /// What it is, and what that means.
    what: &'static str,
    failing: bool,
}

impl Trouble {
    fn new(what: &'static str) -> Self {
        Self { what, failing: false }
    }

    /// Says once that the disk fails, and once that it does no longer.
    fn note(&mut self, failure: Option<&str>) {
        match (failure, self.failing) {
            (Some(why), false) => {
                error!(target: LOG_TARGET, why, "the spool cannot be written: {}", self.what);
            }
            (None, true) => info!(target: LOG_TARGET, "the spool can be written again"),
            _ => {}
        }
        self.failing = failure.is_some();
    }
}

/// What is written together.
#[derive(Debug)]
struct Group<T> {
    appends: Vec<Append<T>>,
    copies: Option<(Copies, oneshot::Sender<bool>)>,
    burials: Vec<Burial>,
    bytes: usize,
    stop: bool,
}

impl<D: Disk + Clone, T: Send + 'static> Writer<D, T> {
    /// Starts the thread, which ends when it is told to and everything is synced.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn spawn(
        store: Store<D>,
        dead: impl FnOnce() -> DeadLetters<D> + Send + 'static,
        jobs: Receiver<Job<T>>,
        said: mpsc::UnboundedSender<Said<T>>,
        clock: Clock,
        metrics: SpoolMetrics,
    ) -> io::Result<JoinHandle<()>>
    where
        D::File: Send,
    {
        std::thread::Builder::new().name("spool".to_owned()).spawn(move || {
            let writer = Self {
                store,
                dead: dead(),
                said,
                clock,
                metrics,
                unsynced_since: None,
                expired_at: Instant::now(),
                copied: Copied::default(),
                mails: Trouble::new("mail is refused for now, what waits is delivered"),
                outcomes: Trouble::new("what is delivered now is delivered again after a restart"),
            };
            writer.run(&jobs);
        })
    }

    fn run(mut self, jobs: &Receiver<Job<T>>) {
        loop {
            self.metrics.bytes(self.store.bytes());
            let job = match jobs.recv_timeout(self.patience()) {
                Ok(job) => job,
                Err(RecvTimeoutError::Timeout) => {
                    self.housekeeping();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let mut group =
                Group { appends: Vec::new(), copies: None, burials: Vec::new(), bytes: 0, stop: false };
            self.take(job, &mut group);
            while group.bytes < GROUP_BYTES_MAX
                && let Ok(job) = jobs.try_recv()
            {
                self.take(job, &mut group);
            }
            self.append(group.appends, group.copies);
            self.bury(group.burials);
            self.write_outcomes(false);
            self.housekeeping();
            if group.stop {
                break;
            }
        }
        // Of a compaction that has not come to its end.
        self.note_copied();
    }

    /// How long nothing has to be done if nothing is asked for.
    fn patience(&self) -> Duration {
        let unsynced = self.unsynced_since.map(|since| OUTCOMES_UNSYNCED_MAX.saturating_sub(since.elapsed()));
        unsynced.unwrap_or(EXPIRY_INTERVAL)
    }

    fn housekeeping(&mut self) {
        if self.unsynced_since.is_some_and(|since| since.elapsed() >= OUTCOMES_UNSYNCED_MAX) {
            self.write_outcomes(true);
        }
        if self.expired_at.elapsed() >= EXPIRY_INTERVAL {
            self.expired_at = Instant::now();
            self.dead.expire(self.clock.now_ms());
        }
    }

    fn take(&mut self, job: Job<T>, group: &mut Group<T>) {
        match job {
            Job::Append(append) => {
                group.bytes += append.entry.head.len() + append.entry.content.len();
                group.appends.push(*append);
            }
            Job::Adopt(adoption) => self.adopt(adoption),
            Job::Note(pair, outcome) => {
                self.store.note(pair.mail, pair.destination, outcome);
                self.unsynced_since.get_or_insert_with(Instant::now);
            }
            Job::Bury(burial) => {
                // A dead letter is read and written again; a few at a time.
                group.bytes += GROUP_BYTES_MAX / 64;
                group.burials.push(burial);
            }
            Job::Extent(segment) => self.say(Said::Extent(self.store.extent(segment))),
            Job::Retire { segment, end } => self.retire(segment, end),
            Job::Compact { segment, jobs } => self.compact(segment, jobs),
            Job::Copy { copies, reply } => group.copies = Some((copies, reply)),
            Job::EndCompaction { segment, all } => self.end_compaction(segment, all),
            Job::Dead(action) => self.act(action),
            Job::Stop => group.stop = true,
        }
    }

    fn say(&self, said: Said<T>) {
        // Who is not there to hear it is about to end, and finds it on disk when it starts again.
        let _ = self.said.send(said);
    }

    /// Writes mails and copies, which are synced together.
    fn append(&mut self, appends: Vec<Append<T>>, copies: Option<(Copies, oneshot::Sender<bool>)>) {
        if appends.is_empty() && copies.is_none() {
            return;
        }
        let (mut entries, rest): (Vec<Entry>, Vec<_>) = appends
            .into_iter()
            .map(|append| (append.entry, (append.routes, append.rest, append.since_ms, append.reply)))
            .unzip();
        let mails = entries.len();
        let copies = copies.map(|(copies, reply)| {
            entries.extend(copies.entries);
            (copies.of, reply)
        });
        let mut results = self.store.append(&entries);
        let failure = results.iter().find_map(|result| match result {
            Err(AppendError::Failed(why)) => Some(why.as_str()),
            Ok(_) | Err(AppendError::Full) => None,
        });
        self.mails.note(failure);
        let (copy_entries, copy_results) = (entries.split_off(mails), results.split_off(mails));
        let mut spooled = Vec::with_capacity(mails);
        for ((entry, (routes, rest, since_ms, reply)), result) in entries.into_iter().zip(rest).zip(results) {
            let told = result.map(|at| {
                let bytes = entry.bytes();
                let destinations = routes.into_iter().map(|route| (route, Progress::default())).collect();
                let mail = Some((entry.content, rest));
                spooled.push(Spooled { at, bytes, since_ms, destinations, mail });
            });
            // A session that has gone does not hear that its mail was taken; it is delivered all the same.
            let _ = reply.send(told);
        }
        if !spooled.is_empty() {
            self.say(Said::Spooled(spooled));
        }
        if let Some((of, reply)) = copies {
            let all = copy_results.iter().all(Result::is_ok);
            self.copied(copy_entries.iter().zip(copy_results).zip(of));
            // Who reads what is left ends without an answer, too.
            let _ = reply.send(all);
        }
    }

    fn copied<'e>(
        &mut self,
        copies: impl Iterator<Item = ((&'e Entry, Result<Location, AppendError>), (Vec<Pair>, Head))>,
    ) {
        let mut spooled = Vec::new();
        for ((entry, result), (from, head)) in copies {
            if let Ok(at) = result {
                self.copied.from.extend(from);
                spooled.push(Spooled::copy(at, entry, head));
            }
        }
        self.copied.mails += spooled.len();
        self.say(Said::Copied(spooled));
    }

    fn adopt(&mut self, adoption: Adoption) {
        let Adoption { sealed, routes, since_ms, reply } = adoption;
        let adopted = self.store.adopt(&sealed, routes.len());
        self.mails.note(match &adopted {
            Err(AppendError::Failed(why)) => Some(why),
            Ok(_) | Err(AppendError::Full) => None,
        });
        let told = adopted.map(|at| {
            let destinations = routes.into_iter().map(|route| (route, Progress::default())).collect();
            let bytes = sealed.entry_bytes;
            self.say(Said::Spooled(vec![Spooled { at, bytes, since_ms, destinations, mail: None }]));
        });
        let _ = reply.send(told);
    }

    fn bury(&mut self, burials: Vec<Burial>) {
        if burials.is_empty() {
            return;
        }
        let (mut pairs, mut heads, mut entries, mut said) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for burial in burials {
            let pair = burial.pair;
            match self.corpse(burial) {
                Ok((head, entry)) => {
                    pairs.push(pair);
                    heads.push(head);
                    entries.push(entry);
                }
                Err(error) => {
                    // Nothing can ever be delivered of what is known to be damaged.
                    let damaged = error.kind() == io::ErrorKind::InvalidData;
                    error!(target: LOG_TARGET, segment = pair.mail.segment, offset = pair.mail.offset, %error, damaged, "mail cannot be read from the spool");
                    said.push((pair, damaged));
                }
            }
        }
        let kept = self.dead.keep(&heads, &entries);
        for ((pair, head), result) in pairs.into_iter().zip(&heads).zip(kept) {
            let (id, route) = (&head.id, head.destinations.first().map_or("", |target| &target.route));
            match &result {
                Ok(()) => {
                    let reason = head.death.as_ref().map_or("", |death| &death.reason);
                    error!(target: LOG_TARGET, id, route, reason, "mail is a dead letter");
                }
                Err(error) => {
                    error!(target: LOG_TARGET, id, route, %error, "mail was not made a dead letter and waits on");
                }
            }
            said.push((pair, result.is_ok()));
        }
        for (pair, _) in said.iter().filter(|(_, buried)| *buried) {
            self.store.note(pair.mail, pair.destination, Outcome::Dead);
        }
        // Or it would die again after a loss of power.
        self.write_outcomes(true);
        self.say(Said::Buried(said));
    }

    fn corpse(&self, burial: Burial) -> io::Result<(Head, Entry)> {
        let Burial { pair, mut death, last } = burial;
        let Loaded { mut head, content, intact } = load(self.store.disk(), pair.mail)?;
        if !intact {
            death.reason = format!("{}; its content is damaged on disk", death.reason);
        }
        let subject = Subject { offset: pair.mail.offset, destination: pair.destination };
        let index = usize::from(pair.destination);
        if index >= head.destinations.len() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut target = head.destinations.swap_remove(index);
        let extent = self.store.extent(pair.mail.segment);
        let mut history =
            Histories::read(self.store.disk(), &extent, |of| of == subject)?.of(subject, &target);
        target.progress = last.or_else(|| history.pop()).unwrap_or_default();
        target.history = history;
        head.destinations = vec![target];
        head.death = Some(death);
        let entry = Entry::new(&head, content)?;
        Ok((head, entry))
    }

    fn write_outcomes(&mut self, durable: bool) {
        let written = self.store.write_outcomes(durable);
        if durable {
            self.unsynced_since = None;
        }
        let failure = written.err().map(|error| error.to_string());
        self.outcomes.note(failure.as_deref());
        if failure.is_some() {
            // What could not be written is written with the next, or after this time.
            self.unsynced_since = Some(Instant::now());
        }
    }

    fn retire(&mut self, segment: SegmentId, end: Option<u64>) {
        let as_known = end.is_none_or(|end| self.store.end(segment).is_ok_and(|now| now == end));
        let retired = as_known
            && self
                .store
                .retire(segment)
                .inspect_err(
                    |error| error!(target: LOG_TARGET, segment, %error, "a segment cannot be removed"),
                )
                .is_ok();
        self.say(Said::Retired(segment, retired));
    }

    fn compact(&mut self, segment: SegmentId, jobs: Jobs<T>) {
        self.write_outcomes(false);
        let extent = self.store.extent(segment);
        if let Err(error) = compaction::begin(self.store.disk().clone(), extent, jobs) {
            error!(target: LOG_TARGET, segment, %error, "a segment cannot be compacted");
        }
    }

    fn end_compaction(&mut self, segment: SegmentId, all: bool) {
        let gone = all && self.store.retire(segment).is_ok();
        let mails = self.copied.mails;
        if gone {
            self.copied = Copied::default();
        } else {
            self.note_copied();
        }
        self.say(Said::Compacted { segment, mails, gone });
    }

    /// What is in two places now is delivered from the new one.
    fn note_copied(&mut self) {
        for from in std::mem::take(&mut self.copied).from {
            self.store.note(from.mail, from.destination, Outcome::Moved);
        }
        self.write_outcomes(true);
    }

    fn act(&mut self, action: DeadAction) {
        let DeadAction { selector, wish, reply } = action;
        let now_ms = self.clock.now_ms();
        let mut count = 0;
        let mut result = Ok(());
        for segment in self.dead.segments() {
            result = result.and_then(|()| self.act_on(segment, &selector, wish, now_ms, &mut count));
        }
        let _ = reply.send(result.map(|()| count));
    }

    fn act_on(
        &mut self,
        segment: SegmentId,
        selector: &Selector,
        wish: Wish,
        now_ms: u64,
        count: &mut u64,
    ) -> Result<(), String> {
        let text = |error: io::Error| error.to_string();
        let mut chosen = Vec::new();
        self.dead.select(segment, selector, now_ms, |exhumed| chosen.push(exhumed)).map_err(text)?;
        let mut released = Vec::with_capacity(chosen.len());
        let mut spooled = Vec::new();
        let mut result = Ok(());
        for exhumed in chosen {
            if wish == Wish::Retry {
                let mut head = exhumed.head.clone();
                head.death = None;
                head.replayed_at_ms = Some(now_ms);
                for target in &mut head.destinations {
                    let last = std::mem::take(&mut target.progress);
                    target.history.extend((!last.is_none()).then_some(last));
                }
                let entry = Entry::new(&head, exhumed.content).map_err(text)?;
                match self.store.append(std::slice::from_ref(&entry)).remove(0) {
                    Ok(at) => spooled.push(Spooled::copy(at, &entry, head)),
                    Err(error) => {
                        result = Err(error.to_string());
                        break;
                    }
                }
            }
            released.push((exhumed.at, exhumed.head));
        }
        *count += released.len() as u64;
        let outcome = if wish == Wish::Retry { Outcome::Moved } else { Outcome::Discarded };
        let noted = self.dead.release(&released, &outcome).map_err(text);
        self.say(Said::Spooled(spooled));
        result.and(noted)
    }
}

impl<T> Spooled<T> {
    fn copy(at: Location, entry: &Entry, head: Head) -> Self {
        let since_ms = head.since_ms();
        let destinations =
            head.destinations.into_iter().map(|target| (target.route, target.progress)).collect();
        Self { at, bytes: entry.bytes(), since_ms, destinations, mail: None }
    }
}

/// What asks the writer.
pub type Jobs<T> = Sender<Job<T>>;

#[cfg(test)]
mod tests;
