//! Has segments looked through for mails that a lane has room for, or that a command is about.

use std::collections::HashSet;
use std::io;

use tokio::time::Instant;
use tracing::error;

use crate::spool::LOG_TARGET as SPOOL_LOG;
use crate::spool::backlog::{Found, Scanned};
use crate::spool::lane::{Gate, LaneId, Pair, Waiting};
use crate::spool::segment::{Extent, is_unwritten};
use crate::spool::writer::Job;

use super::ends::LATE;
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

    pub(super) fn scan(&self, extent: Extent) {
        let (disk, own, now_ms) = (self.disk.clone(), self.own.clone(), self.clock.now_ms());
        let command = self.commands.front().filter(|_| self.scans_for_command);
        let selector = command.map(|it| it.command.selector.clone());
        tokio::task::spawn_blocking(move || {
            let result = Look::at(&disk, &extent, selector.as_ref(), now_ms);
            let _ = own.send(Own::Scanned { extent, result });
        });
    }

    pub(super) fn scanned(&mut self, extent: &Extent, result: io::Result<Look>) {
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
        let chosen: Vec<_> = look.chosen.into_iter().map(|(waiting, id)| (of_lane(waiting), id)).collect();
        let Found { unchanged, expired } =
            self.backlog.scanned(Scanned { waiting, bytes: look.bytes }, now_ms);
        for waiting in expired {
            self.bury(waiting, LATE.to_owned(), None);
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
        if self.backlog.is_finished(segment) && self.newest.is_none_or(|(newest, _)| segment < newest) {
            self.retire(segment);
        }
    }
}
