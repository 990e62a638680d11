//! Single situations, and a small cluster in which anything happens in any order.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::*;
use crate::spool::world::Crew;

fn claim(uid: &str, bytes: u64) -> Claim {
    let (uid, capacity) = (uid.to_owned(), Some(bytes));
    Claim { uid, is_bound: true, requested: bytes, capacity, ..Claim::default() }
}

fn drain(claim: &str, state: DrainState) -> Drain {
    Drain { is_leaving: false, claim: Some(claim.to_owned()), fits: true, state }
}

fn ready_set(replicas: Ordinal) -> Option<Set> {
    Some(Set { is_leaving: false, replicas, is_settled: true, is_ready: true, fits: true })
}

/// `count` pods with claims a, b, c and so on, of size 10.
fn spool(replicas: Ordinal, count: u8) -> World {
    World {
        replicas,
        claim_bytes: Some(10),
        is_complete: true,
        set: ready_set(count.into()),
        pods: (0..count.into()).collect(),
        claims: (0..count).map(|n| (n.into(), claim(&char::from(b'a' + n).to_string(), 10))).collect(),
        ..World::default()
    }
}

#[test]
fn at_rest_there_is_nothing_but_what_is_there() {
    assert_eq!(plan(&spool(3, 3)), [Step::PutSet(3)]);
    let memory = World {
        replicas: 2,
        is_complete: true,
        deployment: Some(Crew { is_leaving: false, is_ready: true }),
        ..World::default()
    };
    assert_eq!(plan(&memory), [Step::PutDeployment]);
}

#[test]
fn claims_are_drained_when_their_pods_are_gone() {
    let mut world = spool(1, 3);
    assert_eq!(plan(&world), [Step::PutSet(1)]);
    world.pods = [0, 2].into();
    world.set = Some(Set { is_settled: false, ..ready_set(1).unwrap() });
    assert_eq!(plan(&world), [Step::PutSet(1)], "its controller may still make a pod");
    world.set = ready_set(1);
    assert_eq!(plan(&world), [Step::PutSet(1), Step::Drain(1, "b".to_owned())]);
    world.is_complete = false;
    assert_eq!(plan(&world), [], "a Secret is missing, without which no pod would start");
}

#[test]
fn a_claim_goes_when_it_is_empty_and_its_job_after_it() {
    let mut world = spool(1, 2);
    (world.set, world.pods) = (ready_set(1), [0].into());
    world.drains = [(1, drain("b", DrainState::UnderWay))].into();
    assert_eq!(plan(&world), [Step::PutSet(1)]);
    world.drains = [(1, drain("b", DrainState::Empty))].into();
    assert_eq!(plan(&world), [Step::RemoveClaim(1, "b".to_owned()), Step::PutSet(1)]);
    world.claims.get_mut(&1).unwrap().is_leaving = true;
    assert_eq!(plan(&world), [Step::EndDrain(1), Step::PutSet(1)]);
    world.claims.remove(&1);
    assert_eq!(plan(&world), [Step::EndDrain(1), Step::PutSet(1)]);
}

#[test]
fn a_claim_that_never_had_a_volume_needs_no_job() {
    let mut world = spool(1, 2);
    (world.set, world.pods) = (ready_set(1), [0].into());
    let blank = Claim { is_bound: false, is_blank: true, capacity: None, ..claim("b", 10) };
    world.claims.insert(1, blank);
    assert_eq!(plan(&world), [Step::PutSet(1), Step::RemoveClaim(1, "b".to_owned())]);
}

#[test]
fn what_a_job_says_of_another_claim_or_of_earlier_is_not_believed() {
    let mut world = spool(1, 2);
    (world.set, world.pods) = (ready_set(1), [0].into());
    world.drains = [(1, drain("of before", DrainState::Empty))].into();
    assert_eq!(plan(&world), [Step::EndDrain(1), Step::PutSet(1)]);
    world.drains = [(1, drain("b", DrainState::Empty))].into();
    world.pods = [0, 1].into();
    assert_eq!(plan(&world), [Step::EndDrain(1), Step::PutSet(1)], "there is a pod");
    (world.set, world.pods) = (ready_set(2), [0].into());
    assert_eq!(plan(&world), [Step::EndDrain(1), Step::PutSet(1)], "there will be a pod");
}

#[test]
fn scaling_up_waits_for_the_drain() {
    let mut world = spool(4, 3);
    (world.set, world.pods) = (ready_set(1), [0].into());
    assert_eq!(plan(&world), [Step::PutSet(4)], "claims without a Job are taken up again");
    world.drains = [(2, drain("c", DrainState::UnderWay))].into();
    assert_eq!(plan(&world), [Step::PutSet(2)]);
    world.drains = [(1, Drain { is_leaving: true, ..drain("b", DrainState::GivenUp) })].into();
    assert_eq!(plan(&world), [Step::PutSet(1)]);
    world.drains.clear();
    world.claims.get_mut(&1).unwrap().is_leaving = true;
    assert_eq!(plan(&world), [Step::PutSet(1)]);
}

#[test]
fn dead_letters_stay_until_there_is_a_pod_for_them() {
    let mut world = spool(1, 2);
    (world.set, world.pods) = (ready_set(1), [0].into());
    world.drains = [(1, drain("b", DrainState::DeadLetters))].into();
    assert_eq!(plan(&world), [Step::PutSet(1)]);
    world.replicas = 2;
    assert_eq!(plan(&world), [Step::EndDrain(1), Step::PutSet(1)]);
    world.drains.clear();
    assert_eq!(plan(&world), [Step::PutSet(2)]);
}

#[test]
fn a_job_that_was_given_up_or_is_outdated_begins_anew() {
    let mut world = spool(0, 1);
    (world.set, world.pods) = (ready_set(0), [].into());
    for outdated in
        [drain("a", DrainState::GivenUp), Drain { fits: false, ..drain("a", DrainState::UnderWay) }]
    {
        world.drains = [(0, outdated)].into();
        assert_eq!(plan(&world), [Step::EndDrain(0), Step::PutSet(0)]);
    }
    world.drains = [(0, Drain { fits: false, ..drain("a", DrainState::DeadLetters) })].into();
    assert_eq!(plan(&world), [Step::PutSet(0)]);
}

#[test]
fn only_so_many_are_drained_at_once() {
    let mut world = spool(0, 20);
    (world.set, world.pods) = (ready_set(0), [].into());
    world.drains = [(3, drain("d", DrainState::UnderWay)), (5, drain("f", DrainState::DeadLetters))].into();
    let begun = plan(&world).iter().filter(|step| matches!(step, Step::Drain(..))).count();
    assert_eq!(begun, DRAINS_MAX - 1);
}

#[test]
fn claims_grow_before_pods_are_told_and_the_set_is_made_anew() {
    let mut world = spool(2, 3);
    world.claim_bytes = Some(20);
    world.set.as_mut().unwrap().fits = false;
    world.claims.get_mut(&1).unwrap().is_bound = false;
    assert_eq!(plan(&world), [Step::Grow(0), Step::Grow(2), Step::PutSet(2)]);
    world.claims.get_mut(&0).unwrap().requested = 20;
    assert_eq!(disk_bytes(&world), Some(10));
    (world.set, world.pods) = (Some(Set { fits: false, ..ready_set(2).unwrap() }), [0, 1].into());
    for claim in world.claims.values_mut() {
        *claim = Claim { capacity: Some(20), ..claim.clone() };
    }
    assert_eq!(plan(&world), [Step::ReleaseSet, Step::Drain(2, "c".to_owned())]);
    assert_eq!(disk_bytes(&world), Some(20));
    world.set.as_mut().unwrap().is_leaving = true;
    assert_eq!(plan(&world), [], "the next one is made when this one is gone");
}

#[test]
fn a_volume_that_is_larger_needs_not_grow() {
    let mut world = spool(1, 1);
    world.claims.get_mut(&0).unwrap().capacity = Some(100);
    world.claim_bytes = Some(50);
    assert_eq!(plan(&world), [Step::PutSet(1)]);
    assert_eq!(disk_bytes(&world), Some(50));
}

#[test]
fn the_new_mode_is_ready_before_the_old_one_goes() {
    let deployment = |is_ready| Some(Crew { is_leaving: false, is_ready });
    let mut to_disk = World { deployment: deployment(true), ..spool(2, 2) };
    to_disk.set.as_mut().unwrap().is_ready = false;
    assert_eq!(plan(&to_disk), [Step::PutSet(2)]);
    to_disk.set = ready_set(2);
    assert_eq!(plan(&to_disk), [Step::PutSet(2), Step::RemoveDeployment]);
    to_disk.set = ready_set(1);
    assert_eq!(plan(&to_disk), [Step::PutSet(2)], "one is ready, but two are wanted");

    let mut to_memory = World { claim_bytes: None, deployment: deployment(false), ..spool(2, 2) };
    assert_eq!(plan(&to_memory), [Step::PutDeployment]);
    to_memory.deployment = deployment(true);
    assert_eq!(plan(&to_memory), [Step::PutDeployment, Step::PutSet(0)]);
    to_memory.set = ready_set(0);
    assert_eq!(plan(&to_memory), [Step::PutDeployment], "its pods are still there");
    to_memory.pods.clear();
    let drains = [Step::Drain(0, "a".to_owned()), Step::Drain(1, "b".to_owned())];
    assert_eq!(plan(&to_memory), [&[Step::PutDeployment][..], &drains].concat());
    to_memory.claims.remove(&0);
    to_memory.drains = [(1, drain("b", DrainState::UnderWay))].into();
    assert_eq!(plan(&to_memory), [Step::PutDeployment]);
    to_memory.drains = [(1, drain("b", DrainState::DeadLetters))].into();
    assert_eq!(plan(&to_memory), [Step::PutDeployment, Step::RemoveSet]);
    to_memory.set = None;
    assert_eq!(plan(&to_memory), [Step::PutDeployment]);
}

/// A cluster with its own controllers, webhook and storage, each of which acts when it is told to.
#[derive(Clone, Debug, Default)]
struct Cluster {
    world: World,
    /// What the controller of the StatefulSet has seen of its replicas.
    seen: Ordinal,
    /// The size in the StatefulSet's template for claims.
    template: u64,
    ready: BTreeSet<Ordinal>,
    /// By uid: mails that wait, and whether there are dead letters.
    mails: BTreeMap<String, (u32, bool)>,
    uids: u32,
    /// Whether somebody has scaled the StatefulSet by hand.
    meddled: bool,
}

/// What happens.
#[derive(Clone, Debug)]
enum Event {
    Want {
        replicas: Ordinal,
        on_disk: bool,
    },
    GrowTo(u64),
    Complete(bool),
    /// The operator takes this many of its steps, and is then killed.
    Operate(usize),
    /// Somebody scales the StatefulSet up by hand.
    Meddle(Ordinal),
    /// Somebody deletes a Job.
    Cancel(Ordinal),
    SetSees,
    SetActs,
    Ready,
    DeploymentReady,
    Bind,
    Resize,
    Mail {
        ordinal: Ordinal,
        refused: bool,
    },
    Work {
        ordinal: Ordinal,
        gives_up: bool,
    },
    Collect,
}

impl Cluster {
    fn new() -> Self {
        let world = World { replicas: 1, claim_bytes: Some(1), is_complete: true, ..World::default() };
        Self { world, ..Self::default() }
    }

    /// What the operator sees.
    fn seen(&self) -> World {
        let mut world = self.world.clone();
        let pods = u32::try_from(world.pods.len()).unwrap();
        if let Some(set) = &mut world.set {
            set.is_settled = self.seen == set.replicas && pods <= set.replicas;
            set.is_ready = set.is_settled && self.ready.len() == set.replicas as usize;
            set.fits = world.claim_bytes.is_none_or(|wanted| wanted == self.template);
        }
        world
    }

    fn happens(&mut self, event: &Event) -> TestCaseResult {
        match *event {
            Event::Want { replicas, on_disk } => {
                self.world.replicas = replicas;
                self.world.claim_bytes = on_disk.then(|| self.world.claim_bytes.unwrap_or(1));
            }
            Event::GrowTo(size) => {
                self.world.claim_bytes = self.world.claim_bytes.map(|bytes| bytes.max(size));
            }
            Event::Complete(is_complete) => self.world.is_complete = is_complete,
            Event::Operate(count) => {
                let seen = self.seen();
                for step in plan(&seen).into_iter().take(count) {
                    self.take(&step)?;
                }
            }
            Event::Meddle(replicas) => {
                self.meddled = true;
                if let Some(set) = &mut self.world.set {
                    set.replicas = set.replicas.max(replicas);
                }
            }
            Event::Cancel(ordinal) => {
                self.world.drains.entry(ordinal).and_modify(|drain| drain.is_leaving = true);
            }
            Event::SetSees => {
                if let Some(set) = self.world.set.as_ref().filter(|set| !set.is_leaving) {
                    self.seen = set.replicas;
                }
            }
            Event::SetActs => self.set_acts()?,
            Event::Ready => {
                let world = &self.world;
                let able = |ordinal: &&Ordinal| world.claims.get(ordinal).is_some_and(|claim| claim.is_bound);
                self.ready.extend(world.pods.iter().filter(able));
            }
            Event::DeploymentReady => {
                if let Some(deployment) = &mut self.world.deployment {
                    deployment.is_ready = true;
                }
            }
            Event::Bind => {
                for claim in self.world.claims.values_mut().filter(|claim| !claim.is_bound) {
                    (claim.is_bound, claim.is_blank) = (true, false);
                    claim.capacity = Some(claim.requested);
                }
            }
            Event::Resize => {
                for claim in self.world.claims.values_mut().filter(|claim| claim.is_bound) {
                    claim.capacity = Some(claim.requested);
                }
            }
            Event::Mail { ordinal, refused } => {
                if self.ready.contains(&ordinal) {
                    let uid = &self.world.claims[&ordinal].uid;
                    let mails = self.mails.get_mut(uid).unwrap();
                    if refused { mails.1 = true } else { mails.0 += 1 }
                }
            }
            Event::Work { ordinal, gives_up } => self.work(ordinal, gives_up),
            Event::Collect => self.collect(),
        }
        Ok(())
    }

    /// The controller goes by what it has seen, which may not be what is there by now.
    fn set_acts(&mut self) -> TestCaseResult {
        if self.world.set.as_ref().is_none_or(|set| set.is_leaving) {
            return Ok(());
        }
        for ordinal in 0..self.seen {
            let requested = self.template;
            let next = (self.uids + 1).to_string();
            let claim = self.world.claims.entry(ordinal).or_insert_with(|| {
                self.uids += 1;
                self.mails.insert(next.clone(), (0, false));
                Claim { uid: next, is_blank: true, requested, ..Claim::default() }
            });
            if !claim.is_leaving && self.world.pods.insert(ordinal) {
                let is_drained = self.world.drains.contains_key(&ordinal);
                prop_assert!(self.meddled || !is_drained, "claim {ordinal} gets a pod while it is drained");
            }
        }
        self.world.pods.retain(|ordinal| *ordinal < self.seen);
        self.ready.retain(|ordinal| *ordinal < self.seen);
        Ok(())
    }

    /// A Job gets done what it is there for, unless a pod holds the lock of the spool.
    fn work(&mut self, ordinal: Ordinal, gives_up: bool) {
        if self.world.pods.contains(&ordinal) {
            return;
        }
        let Some(claim) = self.world.claims.get(&ordinal) else { return };
        let Some(drain) = self.world.drains.get_mut(&ordinal) else { return };
        if drain.is_leaving || drain.state != DrainState::UnderWay {
            return;
        }
        let (waiting, dead) = self.mails.get_mut(&claim.uid).unwrap();
        drain.state = match (gives_up, *dead) {
            (true, _) => DrainState::GivenUp,
            (false, true) => DrainState::DeadLetters,
            (false, false) => DrainState::Empty,
        };
        if !gives_up {
            *waiting = 0;
        }
    }

    /// What is on its way out goes.
    fn collect(&mut self) {
        self.world.drains.retain(|_, drain| !drain.is_leaving);
        let World { pods, drains, claims, .. } = &mut self.world;
        let is_named = |ordinal: &Ordinal| pods.contains(ordinal) || drains.contains_key(ordinal);
        claims.retain(|ordinal, claim| !claim.is_leaving || is_named(ordinal));
        self.world.set = self.world.set.take().filter(|set| !set.is_leaving);
        self.world.deployment = self.world.deployment.take().filter(|deployment| !deployment.is_leaving);
        if self.world.set.is_none() {
            self.seen = 0;
        }
    }

    /// Takes a step, and checks what must hold of it, whatever the world is like.
    fn take(&mut self, step: &Step) -> TestCaseResult {
        let world = &mut self.world;
        match step {
            Step::PutDeployment => {
                world.deployment.get_or_insert_default();
            }
            Step::RemoveDeployment => {
                prop_assert!(world.replicas == 0 || !self.ready.is_empty(), "nobody takes mail");
                world.deployment.as_mut().unwrap().is_leaving = true;
            }
            Step::PutSet(replicas) => {
                let running = running(world);
                for ordinal in running..*replicas {
                    prop_assert!(!world.drains.contains_key(&ordinal), "{ordinal} is being drained");
                    let leaves = world.claims.get(&ordinal).is_some_and(|claim| claim.is_leaving);
                    prop_assert!(!leaves, "claim {ordinal} is on its way out");
                }
                if world.claim_bytes.is_none() && world.replicas > 0 {
                    let deployment = world.deployment.as_ref();
                    prop_assert!(deployment.is_some_and(|it| it.is_ready), "nobody takes mail");
                }
                match &mut world.set {
                    Some(set) if set.is_leaving => {}
                    Some(set) => set.replicas = *replicas,
                    None => {
                        world.set = Some(Set { replicas: *replicas, ..Set::default() });
                        self.template = world.claim_bytes.unwrap_or(1);
                    }
                }
            }
            Step::ReleaseSet => world.set.as_mut().unwrap().is_leaving = true,
            Step::RemoveSet => {
                prop_assert!(world.pods.is_empty(), "there are pods");
                world.set.as_mut().unwrap().is_leaving = true;
            }
            Step::Grow(ordinal) => {
                world.claims.get_mut(ordinal).unwrap().requested = world.claim_bytes.unwrap();
            }
            Step::Drain(ordinal, uid) => {
                prop_assert!(!world.pods.contains(ordinal), "claim {ordinal} has a pod");
                let begun = Drain { claim: Some(uid.clone()), fits: true, ..Drain::default() };
                prop_assert!(world.drains.insert(*ordinal, begun).is_none(), "{ordinal} has a Job");
            }
            Step::EndDrain(ordinal) => world.drains.get_mut(ordinal).unwrap().is_leaving = true,
            Step::RemoveClaim(ordinal, uid) => {
                let claim = world.claims.get_mut(ordinal).unwrap();
                prop_assert_eq!(&claim.uid, uid);
                prop_assert_eq!(self.mails[uid], (0, false), "claim {} is not empty", ordinal);
                prop_assert!(!world.pods.contains(ordinal), "claim {ordinal} has a pod");
                claim.is_leaving = true;
            }
        }
        Ok(())
    }

    /// Everybody gets his turn, again and again, and nobody wants anything new.
    fn settle(&mut self) -> TestCaseResult {
        self.happens(&Event::Complete(true))?;
        for _ in 0..40 {
            let work = (0..6).map(|ordinal| Event::Work { ordinal, gives_up: false });
            let turns = [
                Event::SetSees,
                Event::SetActs,
                Event::Bind,
                Event::Resize,
                Event::Ready,
                Event::DeploymentReady,
                Event::Collect,
            ];
            for event in turns.into_iter().chain(work).chain([Event::Operate(usize::MAX)]) {
                self.happens(&event)?;
            }
        }
        Ok(())
    }

    fn is_at_its_goal(&self) -> TestCaseResult {
        let World { replicas, claim_bytes, deployment, set, pods, claims, drains, .. } = &self.world;
        let kept = if claim_bytes.is_some() { *replicas } else { 0 };
        prop_assert_eq!(deployment.is_some(), claim_bytes.is_none());
        prop_assert_eq!(set.as_ref().map(|set| set.replicas), claim_bytes.map(|_| kept));
        prop_assert!(pods.iter().copied().eq(0..kept) && self.ready == *pods, "{:?}", pods);
        for (ordinal, claim) in claims {
            let state = drains.get(ordinal).map(|drain| drain.state);
            let expected = (*ordinal >= kept).then_some(DrainState::DeadLetters);
            prop_assert_eq!(state, expected, "claim {}", ordinal);
            if *ordinal < kept {
                prop_assert!(Some(claim.bytes()) >= *claim_bytes, "claim {ordinal} did not grow");
            } else {
                prop_assert!(self.mails[&claim.uid].1, "claim {ordinal} was kept for nothing");
            }
        }
        prop_assert!(drains.keys().all(|ordinal| claims.contains_key(ordinal)), "{:?}", drains);
        if let Some(wanted) = claim_bytes {
            prop_assert_eq!(self.template, *wanted, "new claims would be too small");
        }
        Ok(())
    }
}

fn event() -> impl Strategy<Value = Event> {
    let ordinal = 0..5_u32;
    prop_oneof![
        2 => (0..5_u32, prop::bool::weighted(0.7)).prop_map(|(replicas, on_disk)| Event::Want { replicas, on_disk }),
        1 => (1..5_u64).prop_map(Event::GrowTo),
        1 => any::<bool>().prop_map(Event::Complete),
        8 => prop_oneof![1 => 0..4_usize, 3 => Just(usize::MAX)].prop_map(Event::Operate),
        1 => (3..5_u32).prop_map(Event::Meddle),
        1 => ordinal.clone().prop_map(Event::Cancel),
        4 => Just(Event::SetSees),
        4 => Just(Event::SetActs),
        4 => Just(Event::Ready),
        3 => Just(Event::DeploymentReady),
        3 => Just(Event::Bind),
        2 => Just(Event::Resize),
        4 => (ordinal.clone(), prop::bool::weighted(0.1))
            .prop_map(|(ordinal, refused)| Event::Mail { ordinal, refused }),
        4 => (ordinal, prop::bool::weighted(0.1))
            .prop_map(|(ordinal, gives_up)| Event::Work { ordinal, gives_up }),
        4 => Just(Event::Collect),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// No order of events makes the operator delete a claim with mails in it, drain one that has a pod, or leave
    /// nobody to take mail; and when they are over it gets to what is wanted.
    #[test]
    fn nothing_that_happens_costs_a_mail(events in prop::collection::vec(event(), 1..80)) {
        let mut cluster = Cluster::new();
        for event in &events {
            cluster.happens(event)?;
        }
        cluster.settle()?;
        cluster.is_at_its_goal()?;
    }
}
