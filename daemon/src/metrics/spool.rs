//! The series of the spool.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{ByOutcome, ByRoute, MessageOutcome, OTHER_ROUTES, ROUTES_MAX};

/// The series of the spool.
#[derive(Debug, Clone, Default)]
pub struct SpoolMetrics {
    messages: Gauge,
    bytes: Gauge,
    oldest_seconds: Gauge,
    refused: Counter,
    damaged_segments: Gauge,
    waiting_for_memory: Gauge,
    dead_letters: Family<ByRoute, Gauge>,
    dead_letters_dropped: Counter,
    /// What became of mails, which all destinations share.
    outcomes: Family<ByOutcome, Counter>,
    /// Routes that have dead letters, which may be no more.
    dead: Arc<Mutex<BTreeMap<String, Dead>>>,
}

/// The dead letters of a route.
#[derive(Debug)]
struct Dead {
    count: i64,
    /// Whether they are shown by themselves.
    is_named: bool,
}

impl SpoolMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "spool_messages",
            "Mails in the spool that wait, at each destination",
            self.messages.clone(),
        );
        registry.register("spool_bytes", "Bytes of the spool's files", self.bytes.clone());
        registry.register(
            "spool_oldest_seconds",
            "Age of the oldest mail that waits; 0 when none does",
            self.oldest_seconds.clone(),
        );
        registry.register("spool_refused", "Mails for which there was no room on disk", self.refused.clone());
        registry.register(
            "spool_damaged_segments",
            "Segments of the spool that were set aside because some of them is damaged",
            self.damaged_segments.clone(),
        );
        registry.register(
            "spool_waiting_for_memory",
            "Messages that are due and wait for memory",
            self.waiting_for_memory.clone(),
        );
        registry.register("dead_letters", "Mails that were given up and are kept", self.dead_letters.clone());
        registry.register(
            "dead_letters_dropped",
            "Dead letters that were too old, or too many",
            self.dead_letters_dropped.clone(),
        );
    }

    pub(super) fn outcomes(&self) -> &Family<ByOutcome, Counter> {
        &self.outcomes
    }

    /// Shows how many messages wait.
    pub fn messages(&self, messages: u64) {
        self.messages.set(as_i64(messages));
    }

    /// Shows for how long the oldest of them has waited.
    pub fn oldest_seconds(&self, seconds: u64) {
        self.oldest_seconds.set(as_i64(seconds));
    }

    /// Counts a mail for which there was no room.
    pub fn refused(&self) {
        self.refused.inc();
    }

    /// Shows how many segments are set aside.
    pub fn damaged_segments(&self, segments: usize) {
        self.damaged_segments.set(i64::try_from(segments).unwrap_or(i64::MAX));
    }

    /// Messages that are due and wait for memory.
    #[must_use]
    pub fn waiting_for_memory(&self) -> &Gauge {
        &self.waiting_for_memory
    }

    /// Shows what the files take.
    pub fn bytes(&self, bytes: u64) {
        self.bytes.set(as_i64(bytes));
    }

    /// Counts a mail that has met its end when its route was no more.
    pub fn message_of_none(&self, outcome: MessageOutcome) {
        let route = OTHER_ROUTES.to_owned();
        self.outcomes.get_or_create(&ByOutcome { route, outcome: outcome.label() }).inc();
    }

    /// Shows so many dead letters of a route more. One without any has no series, so that routes which come and go
    /// leave none behind.
    pub fn dead_letters(&self, route: &str, more: i64) {
        let mut dead = self.dead.lock().unwrap_or_else(PoisonError::into_inner);
        if !dead.contains_key(route) {
            let is_named = dead.values().filter(|dead| dead.is_named).count() < ROUTES_MAX;
            dead.insert(route.to_owned(), Dead { count: 0, is_named });
        }
        let Some(of_route) = dead.get_mut(route) else { return };
        of_route.count += more;
        let label = ByRoute { route: if of_route.is_named { route } else { OTHER_ROUTES }.to_owned() };
        if of_route.count != 0 {
            self.dead_letters.get_or_create(&label).inc_by(more);
            return;
        }
        let was_named = of_route.is_named;
        dead.remove(route);
        if was_named {
            self.dead_letters.remove(&label);
        } else {
            self.dead_letters.get_or_create(&label).inc_by(more);
        }
    }

    /// Counts a dead letter that is kept no longer.
    pub fn dead_letter_dropped(&self) {
        self.dead_letters_dropped.inc();
    }
}

fn as_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_with_dead_letters_have_series_within_a_bound_and_the_others_none() {
        let metrics = SpoolMetrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let shown = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            let series = text.lines().filter(|line| line.starts_with("dead_letters{")).map(str::to_owned);
            series.collect::<Vec<String>>()
        };
        let name = |n: usize| format!("team/{n}");
        (0..ROUTES_MAX + 2).for_each(|n| metrics.dead_letters(&name(n), 2));
        assert_eq!(shown().len(), ROUTES_MAX + 1);
        assert!(shown().contains(&"dead_letters{route=\"_other\"} 4".to_owned()));
        (0..ROUTES_MAX).for_each(|n| metrics.dead_letters(&name(n), -2));
        assert_eq!(shown(), ["dead_letters{route=\"_other\"} 4"]);
        // What was shown with others stays with them until it has gone.
        (0..2).for_each(|n| metrics.dead_letters(&name(ROUTES_MAX + n), -1));
        assert_eq!(shown(), ["dead_letters{route=\"_other\"} 2"]);
        (0..2).for_each(|n| metrics.dead_letters(&name(ROUTES_MAX + n), -1));
        assert_eq!((shown().len(), metrics.dead.lock().unwrap().len()), (1, 0));
    }
}
