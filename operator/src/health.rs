//! Whether the operator can do its work, and whether it is stuck.
//!
//! Ready: this process could do its part now. Who stands by must hear from the API server about the Lease, and must have
//! been able to read what a leader does; who leads must know what there is in the cluster. Alive: every loop goes on. A cluster in trouble makes an operator unready,
//! and a restart would not help it; a loop that stands still is a defect, and only a restart helps.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::caches::lists::Lists;
use crate::clock::SinceBoot;

/// A turn of the election takes some seconds at most: a request and a wait, each bounded.
const ELECTION_TURN_MAX: Duration = Duration::from_secs(30);
/// How long one who stands by may hear nothing of the Lease: several tries.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// The loop of a controller looks at its queue every [`QUEUE_LOOK`].
const QUEUE_TURN_MAX: Duration = Duration::from_secs(60);
/// How often the loop of a controller wakes up to look at its queue, whatever happens.
pub(crate) const QUEUE_LOOK: Duration = Duration::from_secs(5);
/// A reconciliation ends itself after 25 s, unless it does not come to it.
const RECONCILIATION_MAX: Duration = Duration::from_secs(60);

/// What is known of the loops. Clones share it.
#[derive(Clone)]
pub struct Health(Arc<Mutex<State>>);

struct State {
    election: SinceBoot,
    /// The last answer about the Lease.
    answer: Option<SinceBoot>,
    /// Why it could not lead.
    hindrance: Option<String>,
    /// The controllers of the term that lasts.
    controllers: Vec<Controller>,
}

/// A controller, as far as its health goes. Clones share it.
#[derive(Clone)]
pub struct Controller(Arc<Mutex<Work>>);

struct Work {
    lists: Lists,
    queue: SinceBoot,
    /// When each reconciliation that is under way began.
    under_way: BTreeMap<u64, SinceBoot>,
    next: u64,
}

/// A reconciliation, which is under way until this is dropped.
pub(crate) struct UnderWay {
    controller: Controller,
    number: u64,
}

impl Health {
    pub(crate) fn new(now: SinceBoot) -> Self {
        let hindrance = Some("it was not tried yet what a leader has to read".to_owned());
        Self(Arc::new(Mutex::new(State { election: now, answer: None, hindrance, controllers: Vec::new() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The election takes another turn.
    pub(crate) fn election_goes_on(&self, now: SinceBoot) {
        self.state().election = now;
    }

    /// The API server answered about the Lease.
    pub(crate) fn lease_answered(&self, now: SinceBoot) {
        self.state().answer = Some(now);
    }

    /// It was tried whether this operator could lead: why it could not.
    pub(crate) fn could_lead(&self, hindrance: Option<String>) {
        self.state().hindrance = hindrance;
    }

    /// A term has begun with these controllers, or with none is over.
    pub(crate) fn lead(&self, controllers: Vec<Controller>) {
        self.state().controllers = controllers;
    }

    /// Why the operator could not do its part now.
    pub(crate) fn unready(&self, now: SinceBoot) -> Option<String> {
        let state = self.state();
        let silence = match state.answer {
            None => return Some("the Lease was not read yet".to_owned()),
            Some(answer) => now.saturating_sub(answer),
        };
        if state.controllers.is_empty() {
            let is_silent = silence > SILENCE_MAX;
            let silence =
                is_silent.then(|| format!("nothing was heard of the Lease for {} s", silence.as_secs()));
            return silence.or_else(|| state.hindrance.clone());
        }
        let incomplete = state.controllers.iter().find_map(|it| it.work().lists.incomplete().pop())?;
        Some(format!("the caches of {incomplete} are not filled yet"))
    }

    /// Why the operator has to be started anew.
    pub(crate) fn stuck(&self, now: SinceBoot) -> Option<String> {
        let state = self.state();
        let election = now.saturating_sub(state.election);
        if election > ELECTION_TURN_MAX {
            return Some(format!("the loop that renews the Lease stands still for {} s", election.as_secs()));
        }
        state.controllers.iter().find_map(|controller| controller.stuck(now))
    }
}

impl Controller {
    pub(crate) fn new(lists: Lists, now: SinceBoot) -> Self {
        Self(Arc::new(Mutex::new(Work { lists, queue: now, under_way: BTreeMap::new(), next: 0 })))
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The loop looks at its queue.
    pub(crate) fn goes_on(&self, now: SinceBoot) {
        self.work().queue = now;
    }

    /// A reconciliation begins.
    pub(crate) fn begin(&self, now: SinceBoot) -> UnderWay {
        let mut work = self.work();
        let number = work.next;
        work.next += 1;
        work.under_way.insert(number, now);
        UnderWay { controller: self.clone(), number }
    }

    fn stuck(&self, now: SinceBoot) -> Option<String> {
        let work = self.work();
        let queue = now.saturating_sub(work.queue);
        if queue > QUEUE_TURN_MAX {
            return Some(format!("the loop of a controller stands still for {} s", queue.as_secs()));
        }
        // The oldest has the lowest number.
        let longest = work.under_way.values().next().map(|begin| now.saturating_sub(*begin))?;
        (longest > RECONCILIATION_MAX)
            .then(|| format!("a reconciliation is under way for {} s", longest.as_secs()))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.controller.work().under_way.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scope::Place;

    const fn at(seconds: u64) -> SinceBoot {
        Duration::from_secs(seconds)
    }

    #[test]
    fn who_stands_by_is_ready_while_the_lease_answers() {
        let health = Health::new(at(100));
        assert!(health.unready(at(100)).is_some());
        health.lease_answered(at(101));
        health.could_lead(None);
        assert_eq!(health.unready(at(110)), None);
        assert!(health.unready(at(117)).unwrap().contains("16 s"));
        health.lease_answered(at(118));
        assert_eq!(health.unready(at(119)), None);
    }

    #[test]
    fn who_stands_by_is_ready_when_it_could_lead() {
        let health = Health::new(at(100));
        health.lease_answered(at(101));
        assert!(health.unready(at(102)).unwrap().contains("not tried"));
        health.could_lead(Some("no Secrets".to_owned()));
        assert_eq!(health.unready(at(102)).unwrap(), "no Secrets");
        health.could_lead(None);
        assert_eq!(health.unready(at(102)), None);
    }

    #[test]
    fn who_leads_is_ready_when_all_is_known() {
        let health = Health::new(at(0));
        health.lease_answered(at(0));
        let (lists, place) = (Lists::default(), Place::Namespace("a".to_owned()));
        lists.expect_one_more(&place);
        let others = Controller::new(Lists::default(), at(0));
        health.lead(vec![others, Controller::new(lists.clone(), at(0))]);
        assert!(health.unready(at(1)).unwrap().contains("namespace a"));
        lists.one_more_is_there(&place);
        assert_eq!(health.unready(at(1)), None);
    }

    #[test]
    fn an_election_that_stands_still_is_stuck() {
        let health = Health::new(at(0));
        assert_eq!(health.stuck(at(30)), None);
        assert!(health.stuck(at(31)).unwrap().contains("Lease"));
        health.election_goes_on(at(31));
        assert_eq!(health.stuck(at(61)), None);
    }

    #[test]
    fn a_controller_that_stands_still_is_stuck_until_the_term_is_over() {
        let health = Health::new(at(0));
        let controller = Controller::new(Lists::default(), at(0));
        health.lead(vec![controller.clone()]);
        health.election_goes_on(at(61));
        assert!(health.stuck(at(61)).unwrap().contains("controller"));
        controller.goes_on(at(61));
        assert_eq!(health.stuck(at(61)), None);
        health.election_goes_on(at(200));
        assert!(health.stuck(at(200)).is_some());
        health.lead(Vec::new());
        assert_eq!(health.stuck(at(200)), None);
    }

    #[test]
    fn a_reconciliation_that_does_not_end_is_stuck() {
        let health = Health::new(at(0));
        let controller = Controller::new(Lists::default(), at(0));
        health.lead(vec![controller.clone()]);
        let first = controller.begin(at(0));
        let _second = controller.begin(at(50));
        health.election_goes_on(at(61));
        controller.goes_on(at(61));
        assert!(health.stuck(at(61)).unwrap().contains("61 s"));
        drop(first);
        assert_eq!(health.stuck(at(61)), None);
    }
}
