//! Messages that are given up, on their way to the thread that keeps dead letters.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

use crate::metrics::MessageOutcome;
use crate::spool::clock::in_millis;
use crate::spool::dead::keeper::{DeadJob, DeadLetterRequest};
use crate::spool::entry::{Death, Outcome, Progress};
use crate::spool::lane::{Pair, Waiting};
use crate::spool::segment::SegmentId;
use crate::spool::writer::DeadLettered;

use super::ends::{BAD_DISK_WAIT, LATE};
use super::{Dispatcher, Held};

/// Messages that are being made dead letters, beyond which no segment is read for more of them: some 2 MB, and a second's
/// work.
const QUEUED_MAX: usize = 8_192;

/// Messages that are given up and are no dead letters yet.
pub(super) struct DeadLetterQueue {
    jobs: Sender<DeadJob>,
    /// Those that were not sent yet: each segment is read once for all of them.
    unsent: BTreeMap<SegmentId, Vec<DeadLetterRequest>>,
    /// All of them.
    waiting: HashMap<Pair, Waiting<Held>>,
    /// How many were sent and not answered.
    sent: usize,
}

impl DeadLetterQueue {
    pub(super) fn new(jobs: Sender<DeadJob>) -> Self {
        Self { jobs, unsent: BTreeMap::new(), waiting: HashMap::new(), sent: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether there is room for those of another segment.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < QUEUED_MAX
    }

    fn push(&mut self, waiting: Waiting<Held>, request: DeadLetterRequest) {
        self.waiting.insert(waiting.pair, waiting);
        self.unsent.entry(request.pair.mail.segment).or_default().push(request);
    }

    /// Sends those of the next segment, once those before are answered.
    pub(super) fn send(&mut self) {
        if self.sent > 0 {
            return;
        }
        if let Some((segment, requests)) = self.unsent.pop_first() {
            self.sent = requests.len();
            self.ask(DeadJob::Keep(segment, requests));
        }
    }

    pub(super) fn ask(&self, job: DeadJob) {
        // The thread ends after the scheduler.
        let _ = self.jobs.send(job);
    }

    pub(super) fn correct_clock(&mut self, by_ms: i64) {
        for waiting in self.waiting.values_mut() {
            waiting.since_ms = waiting.since_ms.saturating_add_signed(by_ms);
        }
        self.ask(DeadJob::CorrectClock(by_ms));
    }

    /// Takes out those that were not sent.
    pub(super) fn take_unsent(&mut self) -> Vec<Waiting<Held>> {
        let unsent = std::mem::take(&mut self.unsent).into_values().flatten();
        unsent.filter_map(|request| self.waiting.remove(&request.pair)).collect()
    }

    fn take_answered(&mut self, pair: Pair) -> Option<Waiting<Held>> {
        let waiting = self.waiting.remove(&pair)?;
        self.sent = self.sent.saturating_sub(1);
        Some(waiting)
    }
}

impl Dispatcher {
    /// Gives a message up that has waited for as long as it may, or has nowhere to go.
    pub(super) fn give_up(&mut self, waiting: Waiting<Held>) {
        let is_expired = self.backlog.is_expired(waiting.since_ms, self.clock.now_ms());
        let reason = if is_expired {
            LATE.to_owned()
        } else {
            format!("there is no destination {} any more", self.name(waiting.lane))
        };
        self.dead_letter(waiting, reason, None);
    }

    /// Has a message made a dead letter.
    pub(super) fn dead_letter(&mut self, waiting: Waiting<Held>, reason: String, last: Option<Progress>) {
        if self.stopping {
            // It is given up after the next start.
            self.backlog.wait(waiting);
            return;
        }
        let (pair, at_ms) = (waiting.pair, self.clock.now_ms());
        self.memory_waits.end(pair);
        self.backlog.set_aside(&waiting);
        let death = Death { at_ms, reason, is_damaged: false };
        // What is held of it would be memory for nothing.
        let waiting = Waiting { held: None, ..waiting };
        self.dead_letters.push(waiting, DeadLetterRequest { pair, death, last });
    }

    pub(super) fn dead_lettered(&mut self, results: Vec<(Pair, DeadLettered)>) {
        for (pair, result) in results {
            let Some(waiting) = self.dead_letters.take_answered(pair) else { continue };
            match result {
                DeadLettered::Kept => {
                    self.count(waiting.lane, MessageOutcome::DeadLettered);
                    self.totals.failed.fetch_add(1, Ordering::Relaxed);
                    self.end(&waiting);
                }
                DeadLettered::Failed => {
                    let due_ms = self.clock.now_ms() + in_millis(BAD_DISK_WAIT);
                    self.backlog.wait(Waiting { due_ms, ..waiting });
                }
                DeadLettered::Postponed => self.backlog.wait(waiting),
                DeadLettered::Unreadable => {
                    self.backlog.note_damage(pair.mail.segment);
                    self.count(waiting.lane, MessageOutcome::DeadLettered);
                    self.totals.failed.fetch_add(1, Ordering::Relaxed);
                    self.meets_its_end(&waiting, Outcome::Unreadable);
                }
            }
        }
    }
}
