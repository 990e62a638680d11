//! Has segments looked through for mails that a lane has room for, or that a command is about.

use std::collections::HashSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::error;

use crate::spool::LOG_TARGET as SPOOL_LOG;
use crate::spool::backlog::{Found, Scanned};
use crate::spool::lane::{Gate, LaneId, Pair, Waiting};
use crate::spool::segment::{Damage, SegmentId, is_gone, is_unwritten};
use crate::spool::writer::Job;

use super::lanes::Gates;
use super::look::Look;
use super::{Dispatcher, Held, Own};

impl Dispatcher {
    pub(super) fn look(&mut self) {
        self.looked_at = Instant::now();
        // Copies are looked for once they are all there: each look goes through all of a segment.
        if self.backlog.scanning().is_some() || self.compacting.is_some() {
            return;
        }
        let now_ms = self.clock.now_ms();
        // A command and deliveries take turns.
        let commands_turn = !self.scans_for_command;
        let mut of_command = if commands_turn { self.next_of_command() } else { None };
        let due = if of_command.is_some() || self.stopping { None } else { self.next_wanted(now_ms) };
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
            self.scan(segment);
        }
    }

    fn next_wanted(&mut self, now_ms: u64) -> Option<SegmentId> {
        let may_expire = self.dead_letters.has_room();
        // The gates are asked while the backlog decides.
        let gates = Gates { lanes: &self.lanes, table: &self.table };
        self.backlog.wants(now_ms, may_expire, |lane| gates.gate(lane) == Gate::Shut)
    }

    /// Reads a segment on a thread for that.
    fn scan(&self, segment: SegmentId) {
        let (disk, own, jobs) = (self.disk.clone(), self.own.clone(), self.jobs.clone());
        let (now_ms, clock_corrections) = (self.clock.now_ms(), self.clock_corrections);
        let command = self.commands.front().filter(|_| self.scans_for_command);
        let selector = command.map(|it| it.command.selector.clone());
        tokio::task::spawn_blocking(move || {
            let (reply, extent) = oneshot::channel();
            let _ = jobs.send(Job::Extent { segment, reply });
            let closed = |_| io::Error::other("the spool is being closed");
            let extent = extent.blocking_recv().map_err(closed);
            let look = |extent| Look::at(&disk, &extent, selector.as_ref(), now_ms);
            // A panic, which is a defect, must not keep other segments from being read.
            let result = extent.and_then(|extent| {
                catch_unwind(AssertUnwindSafe(|| look(extent)))
                    .unwrap_or_else(|_| Err(io::Error::other("it panicked")))
            });
            let _ = own.send(Own::Scanned { segment, clock_corrections, result });
        });
    }

    pub(super) fn scanned(&mut self, segment: SegmentId, clock_corrections: u64, result: io::Result<Look>) {
        let now_ms = self.clock.now_ms();
        let look = match result {
            // Its times are by a clock that was set since.
            _ if clock_corrections != self.clock_corrections => {
                self.backlog.scan_failed(now_ms);
                return;
            }
            Ok(look) => look,
            // Made in the moment of a crash: nothing in it was acknowledged.
            Err(_) if is_unwritten(&self.disk, segment) => Look::nothing(),
            // Its removal had failed, and was tried again meanwhile.
            Err(_) if is_gone(&self.disk, segment) => Look::nothing(),
            Err(error) => {
                error!(target: SPOOL_LOG, segment, %error, "a segment cannot be read; its mails stay where they are");
                self.backlog.scan_failed(now_ms);
                return;
            }
        };
        if look.damage != Damage::default() {
            let Damage { mail_bytes, outcome_bytes } = look.damage;
            error!(target: SPOOL_LOG, segment, mail_bytes, outcome_bytes, "a segment is damaged; what can be read of it is delivered");
        }
        self.ask(Job::ExpectOutcomes(segment, look.pairs));
        let lanes: Vec<LaneId> = look.names.iter().map(|name| self.lane(name)).collect();
        let of_lane = |waiting: Waiting<Held>| {
            let lane = lanes.get(waiting.lane as usize).copied().unwrap_or(LaneId::MAX);
            Waiting { lane, due_ms: self.due_ms(lane, waiting.due_ms), ..waiting }
        };
        let waiting = look.waiting.into_iter().map(of_lane).collect();
        let chosen: Vec<_> = look.chosen.into_iter().map(|(waiting, id)| (of_lane(waiting), id)).collect();
        let is_damaged = look.damage.mail_bytes > 0;
        let scanned = Scanned { waiting, bytes: look.bytes, is_damaged };
        let Found { unchanged, expired } =
            self.backlog.scanned(scanned, now_ms, self.dead_letters.has_room());
        for waiting in expired {
            self.give_up(waiting);
        }
        self.touched.extend(lanes.iter().copied());
        if self.scans_for_command {
            let unchanged: HashSet<Pair> = unchanged.into_iter().collect();
            for (chosen, id) in chosen {
                if unchanged.contains(&chosen.pair) {
                    self.grant(chosen, &id);
                }
            }
        }
        if self.backlog.is_finished(segment).is_some()
            && self.newest.is_none_or(|(newest, _)| segment < newest)
        {
            self.retire(segment);
        }
    }

    /// How many messages wait in segments that were not read yet: as many as in others of their size.
    pub(super) fn unread_messages(&self) -> u64 {
        let bytes_of = |segment: SegmentId| self.segment_bytes.get(&segment).copied().unwrap_or(0);
        let unread_bytes: u64 = self.backlog.unknown().map(bytes_of).sum();
        let (messages, bytes) = self.backlog.density();
        match unread_bytes {
            0 => 0,
            _ => (unread_bytes.saturating_mul(messages) / bytes.max(1)).max(1),
        }
    }
}
