//! The state of circuits. Destinations that share a series show the worst of their states.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::gauge::Gauge;

use crate::webhook::breaker::CircuitState;

/// Circuits that share a series.
#[derive(Debug, Default)]
pub(super) struct SharedCircuits {
    /// Number of circuits in each state; a higher state is a worse one.
    by_state: Mutex<BTreeMap<i64, usize>>,
}

/// The circuit of one destination, as the metrics show it.
#[derive(Debug)]
pub(super) struct Circuit {
    gauge: Gauge,
    shared: Option<Shared>,
}

#[derive(Debug)]
struct Shared {
    all: Arc<SharedCircuits>,
    /// The state that counts for this one; `None` while it shows none.
    shown: Mutex<Option<i64>>,
}

impl Circuit {
    /// One that has `gauge` for itself.
    pub(super) fn own(gauge: Gauge) -> Self {
        Self { gauge, shared: None }
    }

    /// One that has `gauge` in common with `all`.
    pub(super) fn shared(gauge: Gauge, all: Arc<SharedCircuits>) -> Self {
        Self { gauge, shared: Some(Shared { all, shown: Mutex::new(None) }) }
    }

    /// Shows a state instead of the one before.
    pub(super) fn show(&self, state: CircuitState) {
        match &self.shared {
            None => drop(self.gauge.set(state.as_number())),
            Some(shared) => shared.replace(Some(state.as_number()), &self.gauge),
        }
    }

    /// Takes the state out of a series that others have, too. One of its own keeps the last.
    pub(super) fn hide(&self) {
        if let Some(shared) = &self.shared {
            shared.replace(None, &self.gauge);
        }
    }
}

impl Shared {
    fn replace(&self, state: Option<i64>, gauge: &Gauge) {
        let mut shown = lock(&self.shown);
        if *shown == state {
            return;
        }
        let mut by_state = lock(&self.all.by_state);
        if let Some(before) = *shown
            && let Some(count) = by_state.get_mut(&before)
        {
            *count -= 1;
            if *count == 0 {
                by_state.remove(&before);
            }
        }
        if let Some(state) = state {
            *by_state.entry(state).or_default() += 1;
        }
        *shown = state;
        // Set under the lock: an older value never overwrites a newer one.
        gauge.set(by_state.last_key_value().map_or(CircuitState::Closed.as_number(), |(worst, _)| *worst));
    }
}

impl Drop for Circuit {
    fn drop(&mut self) {
        self.hide();
    }
}

/// A panic elsewhere cannot leave it half-changed: none happens under a lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_series_shows_the_worst_state_of_those_that_are_there() {
        use CircuitState::{Closed, HalfOpen, Open};
        let (gauge, all) = (Gauge::default(), Arc::default());
        let circuit = || Circuit::shared(gauge.clone(), Arc::clone(&all));
        let (first, second) = (circuit(), circuit());
        first.show(Open);
        second.show(Closed);
        assert_eq!(gauge.get(), 2, "the last writer does not win");
        first.show(HalfOpen);
        assert_eq!(gauge.get(), 1);
        let third = circuit();
        third.show(Open);
        third.show(Open);
        assert_eq!(gauge.get(), 2);
        drop(third);
        assert_eq!(gauge.get(), 1);
        first.hide();
        first.hide();
        assert_eq!(gauge.get(), 0);
        assert_eq!(lock(&all.by_state).values().sum::<usize>(), 1, "the second is closed");
    }
}
