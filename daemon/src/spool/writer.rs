//! The one writer of a spool: a thread that appends messages in groups and notes what became of them.
//!
//! New messages come first: whatever else there is to write, they wait for one group before them and one sync. Bulk work
//! on messages that wait already is read and prepared by other threads, and written in portions beside them: at most one
//! portion, and the sync of one file with outcomes, for each group.

mod compaction;
mod job;
mod trouble;

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tracing::{error, warn};

use crate::metrics::SpoolMetrics;

use self::compaction::Copied;
use self::trouble::Trouble;
use super::LOG_TARGET;
use super::bulk;
use super::disk::Disk;
use super::entry::{Outcome, Progress};
use super::segment::SegmentId;
use super::store::{AppendError, Entry, Merge, Merged, Store};

pub use self::job::{
    Adoption, Append, BulkAppend, BulkMessage, DeadLettered, Job, Jobs, Origin, Said, Spooled, share_bytes,
};

/// Octets of mails that are written and synced together: more does not make the disk faster.
const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long an outcome may be lost by a loss of power, which costs a second delivery. With more than some hundred
/// segments that something happened to, it takes longer: their files are synced one between two groups.
const OUTCOMES_UNSYNCED_MAX: Duration = Duration::from_secs(1);

/// How often what could not be removed is tried again, and what a person may have removed is looked at.
const TIDY_INTERVAL: Duration = Duration::from_secs(60);

/// The thread that writes.
pub struct Writer<D: Disk, T> {
    store: Store<D>,
    jobs: Jobs<T>,
    said: mpsc::UnboundedSender<Said<T>>,
    metrics: SpoolMetrics,
    /// When the first outcome was written that is not synced.
    unsynced_since: Option<Instant>,
    /// Whether outcomes are being synced, file by file.
    is_syncing: bool,
    tidied_at: Instant,
    /// Of the segment that is being compacted.
    copied: Copied,
    /// Portions of bulk work: one of each kind, as each waits for its answer.
    bulk: VecDeque<BulkAppend>,
    is_merging: bool,
    mails: Trouble,
    outcomes: Trouble,
}

/// What is written together.
#[derive(Debug)]
struct Group<T> {
    appends: Vec<Append<T>>,
    bytes: usize,
    stop: bool,
}

impl<D: Disk + Clone, T: Send + 'static> Writer<D, T> {
    /// Starts the thread, which ends when it is told to and everything is synced. `jobs` leads to `asked`.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn spawn(
        store: Store<D>,
        (jobs, asked): (Jobs<T>, Receiver<Job<T>>),
        said: mpsc::UnboundedSender<Said<T>>,
        metrics: SpoolMetrics,
    ) -> io::Result<JoinHandle<()>>
    where
        D::File: Send,
    {
        std::thread::Builder::new().name("spool".to_owned()).spawn(move || {
            let writer = Self {
                store,
                jobs,
                said,
                metrics,
                unsynced_since: None,
                is_syncing: false,
                tidied_at: Instant::now(),
                copied: Copied::default(),
                bulk: VecDeque::new(),
                is_merging: false,
                mails: Trouble::new("mail is refused for now, what waits is delivered"),
                outcomes: Trouble::new("what is delivered now is delivered again after a restart"),
            };
            writer.run(&asked);
        })
    }

    fn run(mut self, asked: &Receiver<Job<T>>) {
        loop {
            self.metrics.bytes(self.store.bytes());
            self.metrics.damaged_segments(self.store.segments_aside());
            let mut group = Group { appends: Vec::new(), bytes: 0, stop: false };
            match asked.recv_timeout(self.patience()) {
                Ok(job) => self.take(job, &mut group),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            while group.bytes < GROUP_BYTES_MAX
                && let Ok(job) = asked.try_recv()
            {
                self.take(job, &mut group);
            }
            let bulk = self.bulk.pop_front();
            self.append(group.appends, bulk);
            self.write_outcomes();
            self.housekeeping();
            if group.stop {
                break;
            }
        }
        // Of a compaction that has not come to its end.
        self.note_copied();
        self.sync_all();
    }

    /// How long nothing has to be done if nothing is asked for.
    fn patience(&self) -> Duration {
        if self.is_syncing || !self.bulk.is_empty() {
            return Duration::ZERO;
        }
        let unsynced = self.unsynced_since.map(|since| OUTCOMES_UNSYNCED_MAX.saturating_sub(since.elapsed()));
        unsynced.unwrap_or(TIDY_INTERVAL)
    }

    fn housekeeping(&mut self) {
        if self.unsynced_since.is_some_and(|since| since.elapsed() >= OUTCOMES_UNSYNCED_MAX) {
            self.unsynced_since = None;
            self.is_syncing = true;
        }
        if self.is_syncing {
            self.sync_next();
        }
        self.merge();
        if self.tidied_at.elapsed() >= TIDY_INTERVAL {
            self.tidied_at = Instant::now();
            self.store.look_aside();
            if let Err(error) = self.store.remove_again() {
                error!(target: LOG_TARGET, %error, "a segment cannot be removed; it is tried again");
            }
            if let Err(error) = self.store.write_corrections() {
                error!(target: LOG_TARGET, %error, "a correction of the clock cannot be written; it is tried again");
            }
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
            // A reader that has gone needs no answer.
            Job::Extent { segment, reply } => drop(reply.send(self.store.extent(segment))),
            Job::ExpectOutcomes(segment, pairs) => self.store.expect_outcomes(segment, pairs),
            Job::Retire { segment, end } => self.retire(segment, end),
            Job::SetAside(segment) => self.set_aside(segment),
            Job::Compact { segment, jobs } => self.compact(segment, jobs),
            Job::Bulk(bulk) => self.bulk.push_back(bulk),
            Job::EndCompaction { segment, all } => self.end_compaction(segment, all),
            Job::EndMerge(merge, merged) => self.end_merge(merge, merged.as_ref()),
            Job::CorrectClock(by_ms) => {
                if let Err(error) = self.store.correct_clock(by_ms) {
                    error!(target: LOG_TARGET, %error, "a correction of the clock cannot be written; it is tried again");
                }
            }
            Job::Stop => group.stop = true,
        }
    }

    fn say(&self, said: Said<T>) {
        // Who is not there to hear it is about to end, and finds it on disk when it starts again.
        let _ = self.said.send(said);
    }

    /// Writes new messages and a portion of bulk work, which are synced together.
    fn append(&mut self, appends: Vec<Append<T>>, bulk: Option<BulkAppend>) {
        if appends.is_empty() && bulk.is_none() {
            return;
        }
        let (mut entries, rest): (Vec<Entry>, Vec<_>) = appends
            .into_iter()
            .map(|append| (append.entry, (append.routes, append.rest, append.since_ms, append.reply)))
            .unzip();
        let mails = entries.len();
        let mut of_bulk = Vec::new();
        let bulk = bulk.map(|BulkAppend { origin, messages, reply }| {
            for message in messages {
                let BulkMessage { entry, head, replaces, replaces_bytes } = message;
                entries.push(entry);
                of_bulk.push((head, replaces, replaces_bytes));
            }
            (origin, reply)
        });
        let mut results = self.store.append(&entries);
        let failure = results.iter().find_map(|result| match result {
            Err(AppendError::Failed(why)) => Some(why.as_str()),
            Ok(_) | Err(AppendError::Full) => None,
        });
        self.mails.note(failure);
        let (bulk_entries, bulk_results) = (entries.split_off(mails), results.split_off(mails));
        let mut spooled = Vec::with_capacity(mails);
        for ((entry, (routes, rest, since_ms, reply)), result) in entries.into_iter().zip(rest).zip(results) {
            let told = result.map(|at| {
                let (end, share_bytes) =
                    (at.offset + entry.bytes(), share_bytes(entry.bytes(), routes.len()));
                let destinations = routes.into_iter().map(|route| (route, Progress::default())).collect();
                let mail = Some((entry.content, rest));
                let (id, replaces_bytes) = (None, 0);
                spooled.push(Spooled {
                    at,
                    id,
                    share_bytes,
                    end,
                    replaces_bytes,
                    since_ms,
                    destinations,
                    mail,
                });
            });
            // A session that has gone does not hear that its mail was taken; it is delivered all the same.
            let _ = reply.send(told);
        }
        if !spooled.is_empty() {
            self.say(Said::Spooled(spooled));
        }
        let Some((origin, reply)) = bulk else { return };
        let mut copies = Vec::with_capacity(bulk_entries.len());
        let messages =
            bulk_entries.into_iter().zip(of_bulk).map(|(entry, (head, replaces, replaces_bytes))| {
                BulkMessage { entry, head, replaces, replaces_bytes }
            });
        for (message, result) in messages.zip(&bulk_results) {
            if let Ok(at) = result {
                if origin == Origin::Compaction {
                    self.copied.from.extend(&message.replaces);
                    self.copied.mails += 1;
                }
                copies.push(Spooled::copy(*at, message));
            }
        }
        match origin {
            Origin::Compaction => self.say(Said::Copied(copies)),
            Origin::Replay => self.say(Said::Spooled(copies)),
        }
        // A reader that has gone ends without an answer, too.
        let _ = reply.send(bulk_results.into_iter().map(|result| result.map(drop)).collect());
    }

    fn adopt(&mut self, adoption: Adoption) {
        let Adoption { sealed, id, routes, since_ms, reply } = adoption;
        let adopted = self.store.adopt(&sealed, routes.len());
        self.mails.note(match &adopted {
            Err(AppendError::Failed(why)) => Some(why),
            Ok(_) | Err(AppendError::Full) => None,
        });
        let told = adopted.map(|at| {
            let (end, share_bytes) =
                (at.offset + sealed.entry_bytes, share_bytes(sealed.entry_bytes, routes.len()));
            let destinations = routes.into_iter().map(|route| (route, Progress::default())).collect();
            let (id, replaces_bytes, mail) = (Some(id), 0, None);
            let spooled = Spooled { at, id, share_bytes, end, replaces_bytes, since_ms, destinations, mail };
            self.say(Said::Spooled(vec![spooled]));
        });
        let _ = reply.send(told);
    }

    fn write_outcomes(&mut self) {
        let written = self.store.write_outcomes(false);
        self.note_outcomes(written);
    }

    /// Syncs one file with outcomes, or notes that all are synced.
    fn sync_next(&mut self) {
        match self.store.sync_next() {
            None => self.is_syncing = false,
            Some(Ok(())) => {}
            Some(Err(error)) => {
                // It goes on after a pause, with what was noted by then.
                self.is_syncing = false;
                self.note_outcomes(Err(error));
            }
        }
    }

    /// Syncs all outcomes, for as long as the disk allows it.
    fn sync_all(&mut self) {
        let written = self.store.write_outcomes(true);
        self.note_outcomes(written);
    }

    fn note_outcomes(&mut self, written: io::Result<()>) {
        let failure = written.err().map(|error| error.to_string());
        self.outcomes.note(failure.as_deref());
        if failure.is_some() {
            // What could not be written is written with the next, or after this time.
            self.unsynced_since = Some(Instant::now());
        }
    }

    /// Has the outcomes of a segment merged that have grown much, one segment at a time.
    fn merge(&mut self) {
        if self.is_merging {
            return;
        }
        let merge = match self.store.begin_merge() {
            Ok(None) => return,
            Ok(Some(merge)) => merge,
            Err(error) => return self.note_outcomes(Err(error)),
        };
        let (disk, jobs) = (self.store.disk().clone(), self.jobs.clone());
        let run = move || {
            // A panic, which is a defect, must not keep the writer from merging others.
            let merged = catch_unwind(AssertUnwindSafe(|| merge.run(&disk)))
                .unwrap_or_else(|_| Err(io::Error::other("it panicked")))
                .inspect_err(|error| {
                    warn!(target: LOG_TARGET, segment = merge.segment, %error, "outcomes cannot be merged; it is tried again");
                });
            // A writer that has gone needs no answer: the file is removed at the next start.
            let _ = jobs.send(Job::EndMerge(merge, merged.ok()));
        };
        self.is_merging = bulk::spawn("merge", run).is_ok();
        if !self.is_merging {
            self.end_merge(merge, None);
        }
    }

    fn end_merge(&mut self, merge: Merge, merged: Option<&Merged>) {
        self.is_merging = false;
        if let Err(error) = self.store.end_merge(merge, merged) {
            warn!(target: LOG_TARGET, segment = merge.segment, %error, "merged outcomes cannot take the place of others; it is tried again");
        }
    }

    fn retire(&mut self, segment: SegmentId, end: Option<u64>) {
        let as_known = end.is_none_or(|end| self.store.end(segment).is_ok_and(|now| now == end));
        let retired = as_known
            && self
                .store
                .retire(segment)
                .inspect_err(
                    |error| error!(target: LOG_TARGET, segment, %error, "a segment cannot be removed; it is tried again"),
                )
                .is_ok();
        self.say(Said::Retired(segment, retired));
    }

    fn set_aside(&mut self, segment: SegmentId) {
        match self.store.set_aside(segment) {
            Ok(()) => {
                error!(target: LOG_TARGET, segment, file = super::segment::damaged_file(segment), "a damaged segment was set aside: all of it that can be read was delivered");
            }
            Err(error) => {
                error!(target: LOG_TARGET, segment, %error, "a damaged segment cannot be set aside; it is found again at the next start");
            }
        }
    }

    fn compact(&mut self, segment: SegmentId, jobs: Jobs<T>) {
        self.write_outcomes();
        let extent = self.store.extent(segment);
        if let Err(error) = compaction::begin(self.store.disk().clone(), extent, jobs) {
            error!(target: LOG_TARGET, segment, %error, "a segment cannot be compacted");
        }
    }

    fn end_compaction(&mut self, segment: SegmentId, all: bool) {
        let mails = self.copied.mails;
        // Once all is copied the segment counts as gone; if it cannot be removed now, it is tried again, and what there
        // are two of is delivered from the new place.
        let gone = all && self.store.retire(segment).is_ok();
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
        self.sync_all();
    }
}

#[cfg(test)]
mod tests;
