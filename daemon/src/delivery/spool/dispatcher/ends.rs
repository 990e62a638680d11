//! What deliveries have come to, and what becomes of their mails then.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, warn};

use crate::message::id::MailId;
use crate::metrics::MessageOutcome;
use crate::spool::LOG_TARGET as SPOOL_LOG;
use crate::spool::clock::in_millis;
use crate::spool::entry::{Outcome, Progress};
use crate::spool::lane::Waiting;
use crate::spool::pace::wait_after;
use crate::spool::writer::Job;
use crate::webhook::LOG_TARGET;
use crate::webhook::destination::Delivery;

use super::{Dispatcher, End, Held};

/// How long a mail waits that could not be read, or not be made a dead letter: a person has to see to
/// the disk.
pub(super) const BAD_DISK_WAIT: Duration = Duration::from_secs(600);

/// Why a mail that has waited for as long as it may is a dead letter.
pub(super) const LATE: &str = "it could not be delivered in time";

impl Dispatcher {
    pub(super) fn ended(&mut self, waiting: Waiting<Held>, id: Option<MailId>, end: End) {
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
        let since_ms = self.backlog.back(lane, pair, succeeded).unwrap_or(waiting.since_ms);
        let waiting = Waiting { since_ms, ..waiting };
        if !matches!(end, End::NoMemory) {
            self.memory_waits.end(pair);
        }
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
                self.dead_letter(waiting, reason, Some(last));
            }
            End::Of(Delivery::Failed { reason, retry_after }) => {
                self.failed(waiting, id, reason, retry_after);
            }
            End::Defect => {
                self.failed(waiting, id, "its delivery panicked, which is a defect".to_owned(), None);
            }
            End::Of(Delivery::CircuitOpen) | End::Stopped => self.backlog.wait(waiting),
            End::NoMemory => {
                let (wait, is_logged) = self.memory_waits.note(pair, Instant::now());
                if is_logged {
                    let (waiting, bytes) = (self.memory_waits.len(), waiting.bytes);
                    warn!(target: SPOOL_LOG, waiting, bytes, "messages wait for memory; raise MAIL_LASER_MEMORY_MAX_BYTES or lower MAIL_LASER_MAX_CONNECTIONS");
                }
                self.backlog.wait(Waiting { due_ms: now_ms + in_millis(wait), ..waiting });
            }
            End::TooLarge => {
                self.dead_letter(waiting, "as a request it is larger than all memory".to_owned(), None);
            }
            End::Unreadable(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.dead_letter(waiting, error.to_string(), None);
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
        if self.backlog.is_expired(waiting.since_ms, waiting.due_ms) {
            let why = format!("{LATE}; at last: {}", progress.reason);
            self.dead_letter(waiting, why, Some(progress));
            return;
        }
        let (route, id) = (self.name(lane), id.as_ref().map_or("", MailId::as_str));
        warn!(target: LOG_TARGET, id, route, failures, wait_seconds = wait.as_secs(), "mail deferred: it is tried again later");
        self.count(lane, MessageOutcome::Deferred);
        self.ask(Job::Note(waiting.pair, Outcome::Deferred(progress)));
        self.backlog.wait(waiting);
    }

    pub(super) fn meets_its_end(&mut self, waiting: &Waiting<Held>, outcome: Outcome) {
        self.ask(Job::Note(waiting.pair, outcome));
        self.end(waiting);
    }

    pub(super) fn end(&mut self, waiting: &Waiting<Held>) {
        self.memory_waits.end(waiting.pair);
        // What the lane holds of the disk has become less, and nothing else may happen to it for long.
        self.touched.insert(waiting.lane);
        let segment = waiting.pair.mail.segment;
        if self.backlog.end(waiting) && self.newest.is_none_or(|(newest, _)| segment < newest) {
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
