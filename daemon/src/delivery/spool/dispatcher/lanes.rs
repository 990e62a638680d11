//! Where mails go: a lane for each destination, and the route that it leads to.

use std::collections::BTreeSet;
use std::sync::Arc;

use tracing::debug;

use crate::metrics::MessageOutcome;
use crate::routes::{Route, RouteTable};
use crate::spool::LOG_TARGET as SPOOL_LOG;
use crate::spool::lane::{Gate, LaneId};
use crate::webhook::breaker::CircuitState;

use super::Dispatcher;

/// What a lane leads to.
pub(super) struct Destined {
    name: String,
    route: Option<Arc<Route>>,
}

impl Dispatcher {
    pub(super) fn lane(&mut self, name: &str) -> LaneId {
        if let Some(lane) = self.by_name.get(name) {
            return *lane;
        }
        let route = self.table.named(name).cloned();
        let concurrency = route.as_ref().map_or(1, |route| route.destination.concurrency());
        let lane = self.backlog.add_lane(concurrency);
        let destined = Some(Destined { name: name.to_owned(), route });
        match self.lanes.get_mut(lane as usize) {
            Some(place) => *place = destined,
            None => self.lanes.push(destined),
        }
        self.by_name.insert(name.to_owned(), lane);
        let is_gone = self.table.named(name).is_none() && !self.table.awaits(name);
        self.backlog.give_up(lane, is_gone);
        lane
    }

    /// Takes over where each lane leads now, before any mail is thought to have nowhere to go: one may be for a
    /// route that has just come.
    pub(super) fn find_routes(&mut self) {
        // One table for all decisions until the next look: with a newer one for some of them, a lane of the old one would
        // seem to lead nowhere.
        let table = Arc::clone(&self.routes.borrow_and_update());
        self.table = Arc::clone(&table);
        for (number, lane) in (0..).zip(&mut self.lanes) {
            let Some(lane) = lane else { continue };
            lane.route = table.named(&lane.name).cloned();
            let concurrency = lane.route.as_ref().map_or(1, |route| route.destination.concurrency());
            self.backlog.set_concurrency(number, concurrency);
            let is_gone = lane.route.is_none() && !table.awaits(&lane.name);
            self.backlog.give_up(number, is_gone);
            self.touched.insert(number);
        }
    }

    /// Removes the lanes of routes that are no more, once nothing waits in them: routes come and go for as long as
    /// the process runs.
    pub(super) fn remove_lanes(&mut self) {
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

    pub(super) fn route(&self, lane: LaneId) -> Option<&Arc<Route>> {
        self.destined(lane).and_then(|lane| lane.route.as_ref())
    }

    pub(super) fn name(&self, lane: LaneId) -> &str {
        self.destined(lane).map_or("", |lane| lane.name.as_str())
    }

    /// When a mail of a lane is due of which the disk says `due_ms`: at once where it has nowhere to go.
    pub(super) fn due_ms(&self, lane: LaneId, due_ms: u64) -> u64 {
        let is_gone = self.route(lane).is_none() && !self.table.awaits(self.name(lane));
        if is_gone { 0 } else { due_ms }
    }

    /// Counts what a mail has come to, wherever it was to go.
    pub(super) fn count(&self, lane: LaneId, outcome: MessageOutcome) {
        match self.route(lane) {
            Some(route) => route.destination.metrics().message(outcome),
            None => self.metrics.message_of_none(outcome),
        }
    }

    pub(super) fn gate(&self, lane: LaneId) -> Gate {
        Gates { lanes: &self.lanes, table: &self.table }.gate(lane)
    }
}

/// The gates of all lanes.
pub(super) struct Gates<'d> {
    pub(super) lanes: &'d [Option<Destined>],
    pub(super) table: &'d RouteTable,
}

impl Gates<'_> {
    pub(super) fn gate(&self, lane: LaneId) -> Gate {
        let destined = self.lanes.get(lane as usize).and_then(Option::as_ref);
        let route = destined.and_then(|destined| destined.route.as_ref());
        match route.map(|route| route.destination.circuit()) {
            None if destined.is_some_and(|destined| self.table.awaits(&destined.name)) => Gate::Shut,
            // What has nowhere to go becomes a dead letter at once.
            None | Some(CircuitState::Closed) => Gate::Open,
            Some(CircuitState::HalfOpen) => Gate::Probe,
            Some(CircuitState::Open) => Gate::Shut,
        }
    }
}
