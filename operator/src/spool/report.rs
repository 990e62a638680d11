//! What is to be said of claims: what is being drained, what is kept, what grows, what has no volume.

use mail_laser_crds::conditions::Reason;

use super::plan;
use super::world::{Claim, DrainState, World};
use crate::problem::Problem;
use crate::resources::claim::{self, Ordinal};
use crate::resources::pod::BINARY;

/// How many claims are named in one sentence; the others are counted.
const NAMED_MAX: usize = 5;

/// What is to be said of claims, beside what is said of pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Notes {
    /// What keeps the resource from being in force.
    pub problems: Vec<Problem>,
    /// Why pods may not be there yet.
    pub hint: Option<String>,
    /// What removed replicas left is being delivered.
    pub draining: Option<String>,
    /// It was delivered, but for dead letters.
    pub dead_letters: Option<String>,
}

/// What becomes of a claim.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Lot {
    /// It has a pod, or is to get one.
    InUse,
    /// It is drained, and goes.
    Drained,
    /// It is kept for a person to look at.
    Kept,
}

/// What is to be said of the claims of the resource `name`. `hint` is why a Job's pod gets nowhere.
pub fn notes(name: &str, world: &World, hint: Option<&str>) -> Notes {
    let pending = pending(name, world);
    let serves = world.set.as_ref().is_some_and(|set| set.is_ready);
    let mut problems = Vec::new();
    problems.extend(growing(name, world));
    problems.extend(pending.clone().filter(|_| !serves).map(|text| Problem::new(Reason::ClaimPending, text)));
    Notes {
        problems,
        hint: pending,
        draining: draining(name, world, hint),
        dead_letters: dead_letters(name, world),
    }
}

fn lot(world: &World, ordinal: Ordinal, claim: &Claim) -> Lot {
    let drain = world.drains.get(&ordinal).filter(|drain| drain.claim.as_ref() == Some(&claim.uid));
    match drain.map(|drain| drain.state) {
        Some(DrainState::DeadLetters) => Lot::Kept,
        Some(_) => Lot::Drained,
        None if ordinal >= plan::in_use_until(world) => Lot::Drained,
        None => Lot::InUse,
    }
}

fn of_lot(world: &World, wanted: Lot) -> impl Iterator<Item = Ordinal> {
    world
        .claims
        .iter()
        .filter(move |(ordinal, claim)| lot(world, **ordinal, claim) == wanted)
        .map(|(ordinal, _)| *ordinal)
}

/// Claims of pods that are to be there, without a volume.
fn pending(name: &str, world: &World) -> Option<String> {
    let wanted = world.claim_bytes.map_or(0, |_| world.replicas);
    let pending = plan::in_use(world).filter(|(ordinal, claim)| *ordinal < wanted && !claim.is_bound);
    let names = named(name, pending.map(|(ordinal, _)| ordinal))?;
    Some(format!("no volume yet for {names}: `kubectl describe pvc` says why"))
}

fn growing(name: &str, world: &World) -> Option<Problem> {
    let text = claims_grow(name, world).or_else(|| is_made_anew(world))?;
    Some(Problem::new(Reason::Growing, text))
}

/// New claims get the new size once the StatefulSet is another one.
fn is_made_anew(world: &World) -> Option<String> {
    let is_missing = !world.pods.is_empty() && world.set.as_ref().is_none_or(|set| !set.fits);
    (world.claim_bytes.is_some() && is_missing)
        .then(|| "the StatefulSet is made anew around its pods, which go on".to_owned())
}

fn claims_grow(name: &str, world: &World) -> Option<String> {
    let growing = plan::short(world).filter(|(_, claim)| claim.is_bound);
    let names = named(name, growing.map(|(ordinal, _)| ordinal))?;
    Some(format!("growing to spec.delivery.spool.size: {names}; mail is accepted meanwhile"))
}

fn draining(name: &str, world: &World, hint: Option<&str>) -> Option<String> {
    let names = named(name, of_lot(world, Lot::Drained))?;
    let is_awaited = world.claim_bytes.is_some() && plan::in_use_until(world) > plan::replicas(world);
    let more = if is_awaited { "; more replicas come after it" } else { "" };
    let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
    Some(format!("draining {names}: the mail in it is delivered, then the claim goes{more}{hint}"))
}

fn dead_letters(name: &str, world: &World) -> Option<String> {
    let names = named(name, of_lot(world, Lot::Kept))?;
    let last = of_lot(world, Lot::Kept).last()?;
    let replicas = last + 1;
    let how = if world.claim_bytes.is_some() {
        format!("set spec.replicas to {replicas}")
    } else {
        format!("set spec.delivery.mode to Spool and spec.replicas to {replicas}")
    };
    Some(format!(
        "dead letters are left, and nothing else, in {names}: to look at them, {how} and run \
         `kubectl exec {name}-{last} -- {BINARY} spool list`; to give them up, delete the claim"
    ))
}

/// Claims by name, as far as a sentence can hold them; none when there is none.
fn named(name: &str, ordinals: impl Iterator<Item = Ordinal>) -> Option<String> {
    list(&ordinals.map(|ordinal| claim::name(name, ordinal)).collect::<Vec<_>>(), NAMED_MAX)
}

/// The first `max` names, and how many more there are; none when there is none.
pub fn list(names: &[String], max: usize) -> Option<String> {
    let more = names.len().saturating_sub(max);
    let first = names.get(..names.len() - more)?.join(", ");
    match (names.len(), more) {
        (0, _) => None,
        (_, 0) => Some(first),
        (_, more) => Some(format!("{first} and {more} more")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::world::{Drain, Set};

    /// Two pods of three; the claim of the third has a Job.
    fn world(state: DrainState) -> World {
        let claim = |uid: &str| Claim {
            uid: uid.to_owned(),
            is_bound: true,
            requested: 10,
            capacity: Some(10),
            ..Claim::default()
        };
        World {
            replicas: 2,
            claim_bytes: Some(10),
            is_complete: true,
            set: Some(Set { replicas: 2, is_settled: true, is_ready: true, fits: true, ..Set::default() }),
            pods: [0, 1].into(),
            claims: [(0, claim("a")), (1, claim("b")), (2, claim("c"))].into(),
            drains: [(2, Drain { claim: Some("c".to_owned()), fits: true, state, ..Drain::default() })]
                .into(),
            ..World::default()
        }
    }

    #[test]
    fn a_drain_is_told_by_name_and_with_what_waits_for_it() {
        let mut world = world(DrainState::UnderWay);
        let text = notes("alarms", &world, Some("pod x has no node")).draining.unwrap();
        assert!(
            text.starts_with("draining spool-alarms-2: ") && text.ends_with("; pod x has no node"),
            "{text}"
        );
        assert!(!text.contains("more replicas"), "{text}");
        world.replicas = 3;
        let text = notes("alarms", &world, None).draining.unwrap();
        assert!(text.contains("spool-alarms-2") && text.ends_with("more replicas come after it"), "{text}");
        world.replicas = 1;
        world.set.as_mut().unwrap().replicas = 1;
        let text = notes("alarms", &world, None).draining.unwrap();
        assert!(text.contains("spool-alarms-1, spool-alarms-2"), "{text}");
    }

    #[test]
    fn dead_letters_are_told_with_the_way_to_them() {
        let mut world = world(DrainState::DeadLetters);
        let found = notes("alarms", &world, None);
        assert_eq!(found.draining, None);
        let text = found.dead_letters.unwrap();
        for part in ["spool-alarms-2", "spec.replicas to 3", "exec alarms-2 -- /mail-laser spool list"] {
            assert!(text.contains(part), "{text}");
        }
        world.claim_bytes = None;
        let text = notes("alarms", &world, None).dead_letters.unwrap();
        assert!(text.contains("spec.delivery.mode to Spool"), "{text}");
    }

    #[test]
    fn a_claim_without_a_volume_is_a_problem_when_no_pod_serves() {
        let mut world = world(DrainState::UnderWay);
        let pending = Claim { is_bound: false, capacity: None, ..world.claims[&1].clone() };
        world.claims.insert(1, pending);
        let found = notes("alarms", &world, None);
        assert_eq!(found.problems, []);
        assert!(found.hint.is_some_and(|hint| hint.contains("spool-alarms-1")));
        world.set.as_mut().unwrap().is_ready = false;
        assert_eq!(notes("alarms", &world, None).problems[0].reason, Reason::ClaimPending);
    }

    #[test]
    fn growth_is_told_until_the_last_claim_has_grown() {
        let mut world = world(DrainState::UnderWay);
        world.claim_bytes = Some(20);
        world.claims.get_mut(&0).unwrap().capacity = Some(20);
        let problem = notes("alarms", &world, None).problems.remove(0);
        assert_eq!(problem.reason, Reason::Growing);
        assert!(problem.message.contains("spool.size: spool-alarms-1;"), "{}", problem.message);
        world.claims.get_mut(&1).unwrap().capacity = Some(20);
        assert_eq!(notes("alarms", &world, None).problems, []);
        world.set.as_mut().unwrap().fits = false;
        assert_eq!(notes("alarms", &world, None).problems[0].reason, Reason::Growing);
        world.set = None;
        assert_eq!(notes("alarms", &world, None).problems[0].reason, Reason::Growing);
    }

    #[test]
    fn a_sentence_holds_few_names() {
        let names: Vec<_> = (0..7).map(|n| n.to_string()).collect();
        assert_eq!(list(&names, 5).as_deref(), Some("0, 1, 2, 3, 4 and 2 more"));
        assert_eq!(list(&names[..2], 5).as_deref(), Some("0, 1"));
        assert_eq!(list(&[], 5), None);
    }
}
