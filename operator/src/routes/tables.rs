//! What gateways have said of their routes, and which generation their pods have been given.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::table::Verdict;
use super::tell::Telling;
use crate::key::Key;
use crate::problem::Problem;

/// Between two generations of a table. Changes that come meanwhile are gathered in the next, so that a thousand routes
/// cost a few writes; one that comes alone waits for nothing.
const PACE_MIN: Duration = Duration::from_millis(500);
/// For each Secret that a generation wrote the next waits this much longer: many changes at once touch all 32 parts, and
/// have 4 s between them, while one touches one.
const PACE_PER_SECRET: Duration = Duration::from_millis(125);

/// Between two evaluations: what a route is told changes the route, which may be all that there is to look at.
const EVALUATION_PACE_MIN: Duration = Duration::from_millis(250);
/// An evaluation is followed by a pause of so many times what it took, so that no table keeps a processor busy.
const EVALUATION_PAUSE: u32 = 4;

/// What is known of the gateways.
#[derive(Default)]
pub(crate) struct Tables(Mutex<HashMap<Key, Table>>);

#[derive(Default)]
struct Table {
    verdicts: BTreeMap<Key, Verdict>,
    /// Until when the next evaluation has to wait.
    next_evaluation: Option<Instant>,
    written: Option<Written>,
    /// What was in the way of the last write.
    problem: Option<Problem>,
}

/// The generation that was written last.
struct Written {
    generation: String,
    next: Instant,
    telling: Telling,
}

impl Tables {
    fn tables(&self) -> MutexGuard<'_, HashMap<Key, Table>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long a look at the routes of a gateway has to wait, if it has to.
    pub(crate) fn wait(&self, gateway: &Key, now: Instant) -> Option<Duration> {
        let tables = self.tables();
        let table = tables.get(gateway)?;
        let next = table.next_evaluation.max(table.written.as_ref().map(|written| written.next))?;
        Some(next.saturating_duration_since(now)).filter(|wait| !wait.is_zero())
    }

    /// The routes of a gateway were evaluated, which took so long.
    pub(crate) fn evaluated(&self, gateway: &Key, took: Duration, now: Instant) {
        let pause = (took * EVALUATION_PAUSE).max(EVALUATION_PACE_MIN);
        self.tables().entry(gateway.clone()).or_default().next_evaluation = Some(now + pause);
    }

    /// What is in the way of the table, as far as the last try found something.
    pub(crate) fn problem(&self, gateway: &Key) -> Option<Problem> {
        self.tables().get(gateway)?.problem.clone()
    }

    /// A try to write the table found this in the way.
    pub(crate) fn tried(&self, gateway: &Key, problem: Option<Problem>) {
        self.tables().entry(gateway.clone()).or_default().problem = problem;
    }

    /// A generation was written in so many Secrets, or found to be there.
    pub(crate) fn wrote(&self, gateway: &Key, generation: &str, secrets: u32, now: Instant) {
        let mut tables = self.tables();
        let written = &mut tables.entry(gateway.clone()).or_default().written;
        if written.as_ref().is_none_or(|last| last.generation != generation) {
            let next = now + (PACE_PER_SECRET * secrets).max(PACE_MIN);
            *written = Some(Written { generation: generation.to_owned(), next, telling: Telling::default() });
        }
    }

    /// Works with what pods are told of the generation that was written last.
    pub(crate) fn telling<T>(&self, gateway: &Key, work: impl FnOnce(&mut Telling) -> T) -> Option<T> {
        self.tables().get_mut(gateway)?.written.as_mut().map(|written| work(&mut written.telling))
    }

    /// The gateway has no table any more.
    pub(crate) fn took_away(&self, gateway: &Key) {
        if let Some(table) = self.tables().get_mut(gateway) {
            table.written = None;
        }
    }

    /// Takes over what a gateway says to its routes.
    pub(crate) fn publish(&self, gateway: &Key, verdicts: BTreeMap<Key, Verdict>) {
        self.tables().entry(gateway.clone()).or_default().verdicts = verdicts;
    }

    /// What a gateway says to a route.
    pub(crate) fn verdict(&self, gateway: &Key, route: &Key) -> Option<Verdict> {
        self.tables().get(gateway)?.verdicts.get(route).cloned()
    }

    /// Drops what is known of a gateway that is gone.
    pub(crate) fn forget(&self, gateway: &Key) {
        self.tables().remove(gateway);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tell::Seen;
    use super::*;

    struct Clock(Tables, Key, Instant);

    impl Clock {
        fn new() -> Self {
            Self(Tables::default(), ("mail".to_owned(), "edge".to_owned()), Instant::now())
        }

        fn wrote(&self, generation: &str, secrets: u32, at_ms: u64) {
            self.0.wrote(&self.1, generation, secrets, self.2 + Duration::from_millis(at_ms));
        }

        fn wait_ms(&self, at_ms: u64) -> Option<u128> {
            self.0.wait(&self.1, self.2 + Duration::from_millis(at_ms)).map(|wait| wait.as_millis())
        }
    }

    #[test]
    fn what_comes_soon_after_a_generation_is_gathered_the_longer_the_more_was_written() {
        let clock = Clock::new();
        assert_eq!(clock.wait_ms(0), None);
        clock.wrote("one", 1, 0);
        assert_eq!(clock.wait_ms(400), Some(100));
        // To find what is there begins nothing anew.
        clock.wrote("one", 0, 450);
        assert_eq!(clock.wait_ms(500), None);
        clock.wrote("many", 32, 1_000);
        assert_eq!(clock.wait_ms(1_000), Some(4_000));
        clock.wrote("few", 2, 5_000);
        assert_eq!(clock.wait_ms(5_000), Some(500));
    }

    #[test]
    fn what_is_in_the_way_of_a_table_is_known_between_two_tries() {
        let Clock(tables, gateway, _) = Clock::new();
        let problem = Problem::new(mail_laser_crds::conditions::Reason::NameConflict, "it is another's");
        tables.tried(&gateway, Some(problem.clone()));
        assert_eq!(tables.problem(&gateway), Some(problem));
        tables.tried(&gateway, None);
        assert_eq!(tables.problem(&gateway), None);
    }

    #[test]
    fn what_pods_are_told_begins_anew_with_each_generation() {
        let clock = Clock::new();
        let at = |ms| clock.2 + Duration::from_millis(ms);
        let pods = [Seen { name: "edge-0", version: "1", annotation: Some("one") }];
        let more_in = |ms| clock.0.telling(&clock.1, |telling| telling.more_in(at(ms))).flatten();
        clock.wrote("one", 1, 0);
        clock.0.telling(&clock.1, |telling| telling.settle(&pods, "one", at(0), at(0)));
        assert_eq!(more_in(1_000), Some(Duration::from_secs(4)));
        // To find what is there takes nothing back.
        clock.wrote("one", 0, 2_000);
        assert_eq!(more_in(2_000), Some(Duration::from_secs(3)));
        clock.wrote("two", 1, 3_000);
        assert_eq!(more_in(3_000), None);
        clock.0.telling(&clock.1, |telling| telling.settle(&pods, "one", at(3_000), at(3_000)));
        clock.0.took_away(&clock.1);
        assert_eq!(more_in(9_000), None, "without a table nobody is to be told");
        assert_eq!(clock.wait_ms(9_000), None);
    }

    #[test]
    fn evaluations_leave_the_processor_to_others() {
        let Clock(tables, gateway, begin) = Clock::new();
        tables.evaluated(&gateway, Duration::from_millis(1), begin);
        assert_eq!(tables.wait(&gateway, begin), Some(EVALUATION_PACE_MIN));
        tables.evaluated(&gateway, Duration::from_millis(200), begin);
        assert_eq!(tables.wait(&gateway, begin), Some(Duration::from_millis(800)));
        tables.forget(&gateway);
        assert_eq!(tables.wait(&gateway, begin), None);
    }
}
