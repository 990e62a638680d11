//! The election among machines whose clocks differ, that stand still, and whose requests get lost: there are never
//! two that may write at the same instant, and when the trouble is over one leads soon.

use std::collections::VecDeque;
use std::time::Duration;

use mail_laser_operator::leader::lease::{Candidate, Draft, REQUEST_TIMEOUT, Record, Step, Stored};
use proptest::prelude::*;

/// All times of the simulation are milliseconds; this is how finely it looks.
const TICK: u64 = 20;
/// How long there is trouble.
const TROUBLE: u64 = 90_000;
/// How long there is none after that: the longest wait for a Lease on the slowest clock, requests, and some rest.
const QUIET: u64 = 40_000;
/// The part of it in which one leads, and goes on to.
const SETTLED: u64 = 10_000;
const MACHINES: usize = 3;

#[derive(Clone, Debug)]
enum Trouble {
    /// The machine stands still, as one does that gets SIGSTOP.
    Pause(u64),
    /// Requests get lost on the way to the API server, for this long.
    LoseRequests(u64),
    /// Answers do: what was asked for happens all the same.
    LoseAnswers(u64),
    /// Each request takes this long to arrive, for as long.
    Delay { each: u64, lasts: u64 },
    /// The process dies and starts anew.
    Crash,
    /// It is told to stop: it releases the Lease, and starts anew.
    Resign,
    /// A person deletes the Lease.
    Delete,
    /// A person changes something else in it.
    Annotate,
    /// A person writes another holder into it, or none.
    Give(Option<&'static str>),
}

fn trouble() -> impl Strategy<Value = Trouble> {
    prop_oneof![
        3 => (1_000..30_000_u64).prop_map(Trouble::Pause),
        2 => (1_000..20_000_u64).prop_map(Trouble::LoseRequests),
        3 => (1_000..20_000_u64).prop_map(Trouble::LoseAnswers),
        3 => (100..9_000_u64, 1_000..20_000_u64).prop_map(|(each, lasts)| Trouble::Delay { each, lasts }),
        1 => Just(Trouble::Crash),
        2 => Just(Trouble::Resign),
        1 => Just(Trouble::Delete),
        1 => Just(Trouble::Annotate),
    ]
}

/// How a machine's clock differs: by how much it is ahead, and how fast it is, in thousandths.
fn clock() -> impl Strategy<Value = (u64, u64)> {
    (0..1_000_000_u64, 820..=1_180_u64)
}

#[derive(Clone, Debug)]
enum Asked {
    Read,
    Write(Draft),
    Release(Draft),
}

/// A request on its way.
#[derive(Clone, Debug)]
struct Request {
    machine: usize,
    number: u64,
    asked: Asked,
    arrives: u64,
    answer_is_lost: bool,
}

/// What a machine waits for.
#[derive(Clone, Debug)]
struct Waiting {
    number: u64,
    asked: Asked,
    since: Duration,
    answer: Option<Result<Option<Stored>, ()>>,
}

struct Machine {
    candidate: Candidate,
    lives: u64,
    clock: (u64, u64),
    waiting: Option<Waiting>,
    resigning: bool,
    paused_until: u64,
    requests_lost_until: u64,
    answers_lost_until: u64,
    delay: u64,
    delayed_until: u64,
}

impl Machine {
    /// What its clock says; it goes on while the machine stands still.
    fn clock(&self, now: u64) -> Duration {
        Duration::from_millis(self.clock.0 + now * self.clock.1 / 1000)
    }

    fn may_write(&self, now: u64) -> bool {
        self.candidate.held_until().is_some_and(|until| self.clock(now) < until)
    }
}

struct World {
    now: u64,
    machines: Vec<Machine>,
    requests: VecDeque<Request>,
    lease: Option<Stored>,
    version: u64,
    numbers: u64,
}

impl World {
    fn new(clocks: &[(u64, u64)]) -> Self {
        let mut world = Self {
            now: 0,
            machines: Vec::new(),
            requests: VecDeque::new(),
            lease: None,
            version: 0,
            numbers: 0,
        };
        for clock in clocks {
            world.machines.push(Machine {
                candidate: Candidate::new(String::new()),
                lives: 0,
                clock: *clock,
                waiting: None,
                resigning: false,
                paused_until: 0,
                requests_lost_until: 0,
                answers_lost_until: 0,
                delay: 0,
                delayed_until: 0,
            });
        }
        (0..clocks.len()).for_each(|machine| world.start(machine));
        world
    }

    fn start(&mut self, machine: usize) {
        let it = &mut self.machines[machine];
        it.lives += 1;
        it.candidate = Candidate::new(format!("{machine}_{}", it.lives));
        it.waiting = None;
        it.resigning = false;
    }

    fn befall(&mut self, machine: usize, trouble: &Trouble) {
        let now = self.now;
        let it = &mut self.machines[machine];
        match *trouble {
            Trouble::Pause(lasts) => it.paused_until = now + lasts,
            Trouble::LoseRequests(lasts) => it.requests_lost_until = now + lasts,
            Trouble::LoseAnswers(lasts) => it.answers_lost_until = now + lasts,
            Trouble::Delay { each, lasts } => (it.delay, it.delayed_until) = (each, now + lasts),
            Trouble::Crash => self.start(machine),
            Trouble::Resign => it.resigning = true,
            Trouble::Delete => self.lease = None,
            Trouble::Annotate => self.edit(|_| {}),
            Trouble::Give(holder) => self.edit(|record| record.holder = holder.map(str::to_owned)),
        }
    }

    fn edit(&mut self, change: impl FnOnce(&mut Record)) {
        self.version += 1;
        if let Some(lease) = &mut self.lease {
            lease.version = self.version.to_string();
            change(&mut lease.record);
        }
    }

    fn tick(&mut self) {
        self.now += TICK;
        self.serve();
        for machine in 0..self.machines.len() {
            if self.now >= self.machines[machine].paused_until {
                self.turn(machine);
            }
        }
    }

    /// What arrives at the API server.
    fn serve(&mut self) {
        let (here, later): (VecDeque<_>, _) =
            self.requests.drain(..).partition(|request| request.arrives <= self.now);
        self.requests = later;
        for request in here {
            let answer = match &request.asked {
                Asked::Read => Ok(self.lease.clone()),
                Asked::Write(draft) | Asked::Release(draft) => self.write(draft).map(Some),
            };
            let waiting = self.machines[request.machine].waiting.as_mut();
            if let Some(waiting) = waiting.filter(|it| it.number == request.number && !request.answer_is_lost)
            {
                waiting.answer = Some(answer);
            }
        }
    }

    fn write(&mut self, draft: &Draft) -> Result<Stored, ()> {
        if self.lease.as_ref().map(|lease| &lease.version) != draft.replaces.as_ref() {
            return Err(());
        }
        self.version += 1;
        let stored = Stored { record: draft.record.clone(), version: self.version.to_string() };
        self.lease = Some(stored.clone());
        Ok(stored)
    }

    /// What the loop of the operator does.
    fn turn(&mut self, machine: usize) {
        let it = &mut self.machines[machine];
        let clock = it.clock(self.now);
        if let Some(Waiting { asked, since, answer, .. }) = it.waiting.clone() {
            let candidate = &mut it.candidate;
            match (asked, answer) {
                (_, None) if clock < since + REQUEST_TIMEOUT => return,
                (Asked::Release(_), _) => return self.start(machine),
                (_, None) => candidate.failed(clock),
                (Asked::Read, Some(Ok(lease))) => candidate.read(lease, clock),
                (Asked::Write(_), Some(Ok(Some(lease)))) => candidate.written(lease, since, clock),
                (_, Some(_)) => candidate.outdated(clock),
            }
            it.waiting = None;
        }
        if it.resigning {
            match it.candidate.release() {
                Some(draft) => self.ask(machine, Asked::Release(draft)),
                None => self.start(machine),
            }
            return;
        }
        match it.candidate.next(clock) {
            Step::Wait(_) => {}
            Step::Read => self.ask(machine, Asked::Read),
            Step::Write(draft) => self.ask(machine, Asked::Write(draft)),
        }
    }

    fn ask(&mut self, machine: usize, asked: Asked) {
        self.numbers += 1;
        let it = &mut self.machines[machine];
        let since = it.clock(self.now);
        it.waiting = Some(Waiting { number: self.numbers, asked: asked.clone(), since, answer: None });
        if self.now < it.requests_lost_until {
            return;
        }
        let delay = if self.now < it.delayed_until { it.delay } else { TICK };
        self.requests.push_back(Request {
            machine,
            number: self.numbers,
            asked,
            arrives: self.now + delay,
            answer_is_lost: self.now < it.answers_lost_until,
        });
    }

    /// Those that may write although the Lease, when they saw it last, was somebody else's.
    fn deluded(&self) -> Vec<usize> {
        let is_deluded = |machine: &usize| {
            let it = &self.machines[*machine];
            it.may_write(self.now) && it.candidate.holder() != Some(&format!("{machine}_{}", it.lives))
        };
        (0..self.machines.len()).filter(is_deluded).collect()
    }

    fn leaders(&self) -> Vec<usize> {
        (0..self.machines.len()).filter(|machine| self.machines[*machine].may_write(self.now)).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn never_do_two_lead_and_soon_one_does(
        clocks in proptest::collection::vec(clock(), MACHINES),
        mut troubles in proptest::collection::vec((0..TROUBLE, 0..MACHINES, trouble()), 0..24),
    ) {
        troubles.sort_by_key(|(at, ..)| *at);
        let mut troubles = VecDeque::from(troubles);
        let mut world = World::new(&clocks);
        let mut settled = None;
        // No trouble begins after TROUBLE, and none lasts longer than 30 s.
        let end = TROUBLE + 30_000 + QUIET;
        while world.now < end {
            while let Some((_, machine, trouble)) = troubles.pop_front_if(|(at, ..)| *at <= world.now) {
                world.befall(machine, &trouble);
            }
            world.tick();
            let leaders = world.leaders();
            prop_assert!(leaders.len() <= 1, "{leaders:?} lead at {} ms", world.now);
            if world.now + SETTLED >= end {
                prop_assert!(leaders.len() == 1, "nobody leads at {} ms", world.now);
                prop_assert!(*settled.get_or_insert(leaders[0]) == leaders[0], "another leads at {} ms", world.now);
            }
        }
    }

    /// Who takes the Lease away from its holder has two lead until that one looks. Then it gives way.
    #[test]
    fn who_saw_that_another_one_holds_the_lease_does_not_write(
        clocks in proptest::collection::vec(clock(), MACHINES),
        mut troubles in proptest::collection::vec(
            (0..TROUBLE, 0..MACHINES, prop_oneof![trouble(), given().prop_map(Trouble::Give)]),
            0..24,
        ),
    ) {
        troubles.sort_by_key(|(at, ..)| *at);
        let mut troubles = VecDeque::from(troubles);
        let mut world = World::new(&clocks);
        let end = TROUBLE + 30_000 + QUIET;
        while world.now < end {
            while let Some((_, machine, trouble)) = troubles.pop_front_if(|(at, ..)| *at <= world.now) {
                world.befall(machine, &trouble);
            }
            world.tick();
            let deluded = world.deluded();
            prop_assert!(deluded.is_empty(), "{deluded:?} lead at {} ms", world.now);
        }
        prop_assert_eq!(world.leaders().len(), 1);
    }
}

fn given() -> impl Strategy<Value = Option<&'static str>> {
    prop_oneof![Just(None), Just(Some("a person"))]
}

/// Machines whose clocks are right, until one leads.
fn calm() -> (World, usize) {
    let mut world = World::new(&[(0, 1000), (500_000, 1000)]);
    while world.leaders().is_empty() {
        world.tick();
        assert!(world.now < 20_000, "nobody leads");
    }
    let leader = world.leaders()[0];
    (world, leader)
}

#[test]
fn a_release_hands_over_within_three_seconds() {
    let (mut world, first) = calm();
    world.befall(first, &Trouble::Resign);
    let told = world.now;
    while world.leaders() != [1 - first] {
        world.tick();
        if world.machines[first].lives > 1 {
            // It has released the Lease, and its process has ended.
            world.befall(first, &Trouble::Pause(u64::MAX / 2));
        }
        assert!(world.now < told + 3_000, "nobody took over");
    }
}

#[test]
fn a_leader_that_dies_is_replaced_within_twenty_seconds() {
    let (mut world, first) = calm();
    world.befall(first, &Trouble::Pause(u64::MAX / 2));
    let died = world.now;
    while world.leaders() != [1 - first] {
        world.tick();
        assert!(world.now < died + 20_000, "nobody took over");
    }
}

#[test]
fn a_leader_whose_lease_is_given_away_stops_at_its_next_look() {
    for holder in [None, Some("a person")] {
        let (mut world, first) = calm();
        world.befall(first, &Trouble::Give(holder));
        let given = world.now;
        // It would have been able to write for 10 s.
        while world.now < given + 4_000 {
            world.tick();
        }
        assert!(!world.leaders().contains(&first), "{holder:?}: it still leads");
    }
}

#[test]
fn a_leader_that_was_paused_may_not_write_from_the_first_moment() {
    let (mut world, first) = calm();
    world.befall(first, &Trouble::Pause(20_000));
    let end = world.now + 20_000;
    while world.now < end {
        world.tick();
    }
    assert_eq!(world.leaders(), [1 - first]);
}

#[test]
fn one_lost_renewal_costs_nothing() {
    let (mut world, first) = calm();
    world.befall(first, &Trouble::LoseAnswers(4_000));
    for _ in 0..30_000 / TICK {
        world.tick();
        assert_eq!(world.leaders(), [first], "at {} ms", world.now);
    }
}

#[test]
fn who_leads_goes_on_leading() {
    let (mut world, first) = calm();
    for _ in 0..120_000 / TICK {
        world.tick();
        assert_eq!(world.leaders(), [first], "at {} ms", world.now);
    }
}
