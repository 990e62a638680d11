//! Places for connections. When all are taken, the connection that has waited longest for a request makes room for the
//! next: silent connections cannot keep a probe out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// A bounded number of places.
#[derive(Debug)]
pub(super) struct Places {
    max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    /// Connections without a request, by the turn in which each began to wait.
    idle: BTreeMap<u64, CancellationToken>,
    turn: u64,
}

/// The place of one connection; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    phase: Mutex<Phase>,
    evicted: CancellationToken,
}

/// Progress of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It waits for a request, since this turn.
    Idle(u64),
    /// It has a request, or some of the answer is not written yet.
    Busy,
    /// The answer is complete, and may still be in a buffer.
    Answered,
}

impl Places {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, state: Mutex::default() })
    }

    /// A place for a new connection, and whether another connection was evicted for it. `None` when all connections have
    /// requests.
    pub(super) fn take(self: &Arc<Self>) -> Option<(Place, bool)> {
        let mut state = self.state();
        let evicts = state.taken >= self.max;
        if evicts {
            let (_, evicted) = state.idle.pop_first()?;
            evicted.cancel();
        } else {
            state.taken += 1;
        }
        let evicted = CancellationToken::new();
        let phase = Mutex::new(state.wait(&evicted));
        drop(state);
        Some((Place { places: Arc::clone(self), phase, evicted }, evicts))
    }

    /// A panic elsewhere cannot leave it half-changed: none happens under the lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wait(&mut self, evicted: &CancellationToken) -> Phase {
        self.turn += 1;
        self.idle.insert(self.turn, evicted.clone());
        Phase::Idle(self.turn)
    }
}

impl Place {
    /// Comes when the connection has to make room.
    pub(super) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }

    /// A request has arrived: it is not cut off.
    pub(super) fn begin_request(&self) {
        let mut phase = self.phase();
        if let Phase::Idle(turn) = *phase {
            self.places.state().idle.remove(&turn);
        }
        *phase = Phase::Busy;
    }

    /// The answer is complete.
    pub(super) fn end_answer(&self) {
        *self.phase() = Phase::Answered;
    }

    /// Everything is written so far.
    pub(super) fn flushed(&self) {
        let mut phase = self.phase();
        if *phase == Phase::Answered {
            *phase = self.places.state().wait(&self.evicted);
        }
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let phase = *self.phase();
        let mut state = self.places.state();
        if let Phase::Idle(turn) = phase {
            state.idle.remove(&turn);
        }
        // The place of an evicted connection is another's by now.
        if !self.evicted.is_cancelled() {
            state.taken -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(places: &Arc<Places>) -> (Place, bool) {
        places.take().expect("a place")
    }

    #[test]
    fn the_connection_that_waited_longest_makes_room() {
        let places = Places::new(3);
        let [first, second, third] = std::array::from_fn(|_| take(&places).0);
        // The first has a request, and waits again after the others.
        first.begin_request();
        first.end_answer();
        first.flushed();
        let (fourth, evicts) = take(&places);
        assert!(evicts);
        let evicted =
            |places: &[&Place]| places.iter().map(|it| it.evicted.is_cancelled()).collect::<Vec<_>>();
        assert_eq!(evicted(&[&first, &second, &third, &fourth]), [false, true, false, false]);
        let (_fifth, _) = take(&places);
        assert_eq!(evicted(&[&first, &third, &fourth]), [false, true, false]);
    }

    #[test]
    fn a_request_is_not_cut_off_until_its_answer_is_written() {
        let places = Places::new(1);
        let (busy, _) = take(&places);
        busy.begin_request();
        busy.flushed();
        assert!(places.take().is_none());
        busy.end_answer();
        assert!(places.take().is_none());
        busy.flushed();
        assert!(take(&places).1);
    }

    #[test]
    fn places_are_given_back_once() {
        let places = Places::new(2);
        for _ in 0..10 {
            let (first, _) = take(&places);
            let (second, evicts) = take(&places);
            assert!(!evicts);
            let (third, evicts) = take(&places);
            assert!(evicts && first.evicted.is_cancelled());
            second.begin_request();
            drop((first, second, third));
            let state = places.state();
            assert_eq!((state.taken, state.idle.len()), (0, 0));
        }
    }
}
