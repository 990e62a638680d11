//! The circuit breaker of a destination. Pure: the time is passed in.
//!
//! The words are the electrical ones: a *closed* circuit lets deliveries through, an *open* one
//! does not.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// Counts failed deliveries in a row, and stops deliveries for a while once there are too many.
#[derive(Debug)]
pub struct Breaker {
    threshold: NonZeroU32,
    reset: Duration,
    circuit: Circuit,
    /// Changes with every transition, so that a delivery admitted before one is known as a
    /// straggler after it.
    epoch: u64,
}

#[derive(Debug, Clone, Copy)]
enum Circuit {
    Closed { failures: u32 },
    Open { probe_at: Instant },
    HalfOpen,
}

/// What a breaker shows of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitState {
    /// Deliveries are made.
    Closed,
    /// One delivery, the probe, is under way; others are not made.
    HalfOpen,
    /// Deliveries are not made.
    Open,
}

impl CircuitState {
    /// The state as `mail_laser_circuit_breaker_state` shows it.
    #[must_use]
    pub fn as_number(self) -> i64 {
        match self {
            Self::Closed => 0,
            Self::HalfOpen => 1,
            Self::Open => 2,
        }
    }
}

/// Leave to make one delivery; hand it back with [`Breaker::record`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    epoch: u64,
}

/// A change of the circuit that a person should hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// Too many deliveries failed in a row, or the probe did.
    Opened,
    /// The probe succeeded.
    Closed,
}

impl Breaker {
    /// A closed circuit that opens after `threshold` failed deliveries in a row, for `reset`.
    #[must_use]
    pub fn new(threshold: NonZeroU32, reset: Duration) -> Self {
        Self { threshold, reset, circuit: Circuit::Closed { failures: 0 }, epoch: 0 }
    }

    /// Asks for leave to make a delivery: `None` while the circuit is open, and while it is
    /// half-open and the probe is under way.
    pub fn admit(&mut self, now: Instant) -> Option<Admission> {
        let admitted = self.would_admit(now);
        if admitted && matches!(self.circuit, Circuit::Open { .. }) {
            self.switch(Circuit::HalfOpen);
        }
        admitted.then_some(Admission { epoch: self.epoch })
    }

    /// Whether [`Self::admit`] would give leave now.
    #[must_use]
    pub fn would_admit(&self, now: Instant) -> bool {
        match self.circuit {
            Circuit::Closed { .. } => true,
            Circuit::Open { probe_at } => now >= probe_at,
            Circuit::HalfOpen => false,
        }
    }

    /// Takes the result of an admitted delivery.
    ///
    /// The result of a delivery that was admitted before the last transition changes nothing: it
    /// neither closes the circuit nor moves its reset.
    pub fn record(&mut self, admission: Admission, delivered: bool, now: Instant) -> Option<Transition> {
        if admission.epoch != self.epoch {
            return None;
        }
        match (self.circuit, delivered) {
            (Circuit::Closed { .. }, true) => {
                self.circuit = Circuit::Closed { failures: 0 };
                None
            }
            (Circuit::Closed { failures }, false) if failures + 1 < self.threshold.get() => {
                self.circuit = Circuit::Closed { failures: failures + 1 };
                None
            }
            (Circuit::HalfOpen, true) => {
                self.switch(Circuit::Closed { failures: 0 });
                Some(Transition::Closed)
            }
            (Circuit::Closed { .. } | Circuit::HalfOpen, false) => {
                self.switch(Circuit::Open { probe_at: now + self.reset });
                Some(Transition::Opened)
            }
            (Circuit::Open { .. }, _) => None,
        }
    }

    /// Takes back an admission whose delivery has no result. A probe that is given up leaves the
    /// circuit open, and the next mail is the probe.
    pub fn abandon(&mut self, admission: Admission, now: Instant) {
        if admission.epoch == self.epoch && matches!(self.circuit, Circuit::HalfOpen) {
            self.switch(Circuit::Open { probe_at: now });
        }
    }

    /// Where the circuit stands.
    #[must_use]
    pub fn state(&self) -> CircuitState {
        match self.circuit {
            Circuit::Closed { .. } => CircuitState::Closed,
            Circuit::HalfOpen => CircuitState::HalfOpen,
            Circuit::Open { .. } => CircuitState::Open,
        }
    }

    fn switch(&mut self, circuit: Circuit) {
        self.circuit = circuit;
        self.epoch += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RESET: Duration = Duration::from_secs(60);

    fn breaker(threshold: u32) -> Breaker {
        Breaker::new(NonZeroU32::new(threshold).unwrap(), RESET)
    }

    fn deliver(breaker: &mut Breaker, delivered: bool, now: Instant) -> Option<Transition> {
        let admission = breaker.admit(now).expect("not admitted");
        breaker.record(admission, delivered, now)
    }

    #[test]
    fn failures_in_a_row_open_the_circuit_and_one_probe_closes_it() {
        let (mut breaker, start) = (breaker(3), Instant::now());
        for delivered in [false, false, true, false, false] {
            assert_eq!(deliver(&mut breaker, delivered, start), None);
        }
        assert_eq!(deliver(&mut breaker, false, start), Some(Transition::Opened));
        assert_eq!(breaker.state(), CircuitState::Open);
        assert_eq!(breaker.admit(start + RESET - Duration::from_nanos(1)), None);

        let probe = breaker.admit(start + RESET).unwrap();
        assert_eq!(breaker.state(), CircuitState::HalfOpen);
        assert_eq!(breaker.admit(start + RESET * 2), None, "only one probe");
        assert_eq!(breaker.record(probe, true, start + RESET), Some(Transition::Closed));
        assert_eq!(breaker.state(), CircuitState::Closed);
        for _ in 0..2 {
            assert_eq!(deliver(&mut breaker, false, start + RESET), None, "the counter starts anew");
        }
    }

    #[test]
    fn a_failed_probe_opens_for_another_reset() {
        let (mut breaker, start) = (breaker(1), Instant::now());
        deliver(&mut breaker, false, start);
        let later = start + RESET * 3;
        assert_eq!(deliver(&mut breaker, false, later), Some(Transition::Opened));
        assert_eq!(breaker.admit(later + RESET - Duration::from_millis(1)), None);
        assert!(breaker.admit(later + RESET).is_some());
    }

    #[test]
    fn stragglers_neither_close_the_circuit_nor_move_its_reset() {
        let (mut breaker, start) = (breaker(1), Instant::now());
        let stragglers: Vec<_> = (0..4).map(|_| breaker.admit(start).unwrap()).collect();
        deliver(&mut breaker, false, start);

        let later = start + Duration::from_secs(30);
        assert_eq!(breaker.record(stragglers[0], true, later), None);
        assert_eq!(breaker.record(stragglers[1], false, later), None);
        assert_eq!(breaker.state(), CircuitState::Open);

        let probe = breaker.admit(start + RESET).expect("the reset did not move");
        assert_eq!(breaker.record(stragglers[2], true, later), None);
        assert_eq!(breaker.state(), CircuitState::HalfOpen);
        breaker.record(probe, true, later);
        assert_eq!(breaker.record(stragglers[3], false, later), None);
        assert_eq!(breaker.state(), CircuitState::Closed);
    }

    #[test]
    fn an_abandoned_probe_is_followed_by_another_and_any_other_changes_nothing() {
        let (mut breaker, start) = (breaker(1), Instant::now());
        let given_up = breaker.admit(start).unwrap();
        breaker.abandon(given_up, start);
        assert_eq!(breaker.state(), CircuitState::Closed);
        let straggler = breaker.admit(start).unwrap();
        deliver(&mut breaker, false, start);
        breaker.abandon(straggler, start);
        assert_eq!(breaker.admit(start), None, "the reset did not move");

        let probe = breaker.admit(start + RESET).unwrap();
        breaker.abandon(probe, start + RESET);
        assert_eq!(breaker.state(), CircuitState::Open);
        assert!(breaker.admit(start + RESET).is_some());
    }

    /// The contract in the fewest words, for deliveries that do not overlap.
    fn oracle(threshold: u32, events: &[(bool, u64)]) -> Vec<bool> {
        let (mut failures, mut open_until, mut now, mut admitted) = (0, None, 0, Vec::new());
        for (delivered, wait) in events {
            now += wait;
            let admit = open_until.is_none_or(|until| now >= until);
            admitted.push(admit);
            if !admit {
                continue;
            }
            let probing = open_until.take().is_some();
            failures = if *delivered { 0 } else { failures + 1 };
            if !delivered && (probing || failures >= threshold) {
                open_until = Some(now + RESET.as_secs());
                failures = 0;
            }
        }
        admitted
    }

    proptest! {
        #[test]
        fn it_does_what_the_contract_says(
            threshold in 1u32..5,
            events in proptest::collection::vec((any::<bool>(), 0u64..50), 0..60),
        ) {
            let (mut breaker, start, mut now) = (breaker(threshold), Instant::now(), 0);
            let admitted: Vec<bool> = events
                .iter()
                .map(|(delivered, wait)| {
                    now += wait;
                    let at = start + Duration::from_secs(now);
                    let admission = breaker.admit(at);
                    if let Some(admission) = admission {
                        breaker.record(admission, *delivered, at);
                    }
                    admission.is_some()
                })
                .collect();
            prop_assert_eq!(admitted, oracle(threshold, &events));
        }
    }
}
