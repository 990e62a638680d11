//! The one writer of a spool: a thread that appends mails in groups, notes what became of them, keeps
//! dead letters and copies what is left of sparse segments.

mod compaction;
mod dead;
mod job;
mod trouble;

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tracing::error;

use crate::metrics::SpoolMetrics;

use self::compaction::{Copied, Copies};
use self::dead::Acting;
use self::trouble::Trouble;
use super::LOG_TARGET;
use super::clock::Clock;
use super::dead::DeadLetters;
use super::disk::Disk;
use super::entry::{Head, Outcome, Progress};
use super::lane::Pair;
use super::segment::{Location, SegmentId};
use super::store::{AppendError, Entry, Store};

pub use self::job::{Adoption, Append, Burial, DeadAction, Job, Jobs, Said, Spooled, Wish};

/// Octets of mails that are written and synced together: more does not make the disk faster.
const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long an outcome may be lost by a loss of power, which costs a second delivery.
const OUTCOMES_UNSYNCED_MAX: Duration = Duration::from_secs(1);

/// How often dead letters are looked at for those that are too old.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(60);

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
    /// What is wanted of dead letters.
    acting: VecDeque<Acting>,
    mails: Trouble,
    outcomes: Trouble,
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
                acting: VecDeque::new(),
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
        if !self.acting.is_empty() {
            return Duration::ZERO;
        }
        let unsynced = self.unsynced_since.map(|since| OUTCOMES_UNSYNCED_MAX.saturating_sub(since.elapsed()));
        unsynced.unwrap_or(EXPIRY_INTERVAL)
    }

    fn housekeeping(&mut self) {
        self.go_on_acting();
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
            Job::Dead(action) => self.acting.push_back(Acting::new(action)),
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
}

#[cfg(test)]
mod tests;
