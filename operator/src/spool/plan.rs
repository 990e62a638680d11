//! What to do next: from the world to steps, which are taken in their order.

use std::collections::BTreeSet;

use super::world::{Claim, Drain, DrainState, Set, World};
use crate::resources::claim::Ordinal;

/// How many claims are drained at the same time. Each takes a pod and its share of the webhook, of which a scale
/// from a thousand pods to none must not take all.
const DRAINS_MAX: usize = 16;

/// Something to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Have the Deployment be what the resource says.
    PutDeployment,
    /// Delete the Deployment.
    RemoveDeployment,
    /// Have the StatefulSet be what the resource says, with so many replicas.
    PutSet(Ordinal),
    /// Delete the StatefulSet, and leave its pods as they are for the one that comes next.
    ReleaseSet,
    /// Delete the StatefulSet, which has no pods.
    RemoveSet,
    /// Have a claim grow.
    Grow(Ordinal),
    /// Begin to drain the claim with this uid.
    Drain(Ordinal, String),
    /// Delete the Job of a claim, and its pods with it.
    EndDrain(Ordinal),
    /// Delete the claim with this uid, in which nothing is left.
    RemoveClaim(Ordinal, String),
}

/// The steps from what there is towards what should be.
///
/// Jobs end first: one that says of a claim that it is empty must not outlive the pod that was given the claim
/// since.
pub fn plan(world: &World) -> Vec<Step> {
    let ends = world.drains.iter().filter_map(|(ordinal, drain)| end(world, *ordinal, drain));
    let mut steps: Vec<_> = ends.collect();
    steps.extend(growth(world));
    steps.extend(workloads(world));
    steps.extend(beginnings(world));
    steps
}

/// How many claims are to have pods: the others are drained.
fn kept(world: &World) -> Ordinal {
    if world.claim_bytes.is_some() { world.replicas } else { 0 }
}

fn running(world: &World) -> Ordinal {
    world.set.as_ref().map_or(0, |set| set.replicas)
}

/// The first number whose claim has no pod and is to get none.
pub fn in_use_until(world: &World) -> Ordinal {
    kept(world).max(running(world))
}

/// The claims that have pods, or are to get them, with their numbers.
pub fn in_use(world: &World) -> impl Iterator<Item = (Ordinal, &Claim)> {
    world
        .claims
        .range(..in_use_until(world))
        .map(|(ordinal, claim)| (*ordinal, claim))
        .filter(|(_, claim)| !claim.is_leaving)
}

/// Claims with pods that are smaller than they should be.
pub fn short(world: &World) -> impl Iterator<Item = (Ordinal, &Claim)> {
    let wanted = world.claim_bytes.unwrap_or(0);
    in_use(world).filter(move |(_, claim)| claim.bytes() < wanted)
}

/// The size of disk that all pods can be told, in bytes: that of the smallest claim.
pub fn disk_bytes(world: &World) -> Option<u64> {
    in_use(world).map(|(_, claim)| claim.bytes()).chain(world.claim_bytes).min()
}

/// A claim without a volume gets one of the size that it was made with, and can grow then.
fn growth(world: &World) -> Vec<Step> {
    let wanted = world.claim_bytes.unwrap_or(0);
    short(world)
        .filter(|(_, claim)| claim.is_bound && claim.requested < wanted)
        .map(|(ordinal, _)| Step::Grow(ordinal))
        .collect()
}

fn workloads(world: &World) -> Vec<Step> {
    if world.claim_bytes.is_some() { on_disk(world) } else { in_memory(world) }
}

/// Whether the pods of a workload would start, or there shall be none.
fn is_writable(world: &World) -> bool {
    world.is_complete || world.replicas == 0
}

fn on_disk(world: &World) -> Vec<Step> {
    let mut steps = Vec::new();
    if is_writable(world) {
        let must_be_made_anew = |set: &Set| !set.fits && short(world).next().is_none();
        match &world.set {
            Some(set) if must_be_made_anew(set) && set.is_leaving => {}
            Some(set) if must_be_made_anew(set) => steps.push(Step::ReleaseSet),
            _ => steps.push(Step::PutSet(replicas(world))),
        }
    }
    let is_in_place = |set: &Set| !set.is_leaving && set.replicas == world.replicas && set.is_ready;
    if world.deployment.as_ref().is_some_and(|deployment| !deployment.is_leaving)
        && (world.replicas == 0 || world.set.as_ref().is_some_and(is_in_place))
    {
        steps.push(Step::RemoveDeployment);
    }
    steps
}

/// How many pods the StatefulSet is told to have. It never grows past a claim with a Job, or one that goes, but
/// pods that are there stay.
pub fn replicas(world: &World) -> Ordinal {
    let running = running(world);
    if world.replicas <= running { world.replicas } else { running.max(world.replicas.min(barrier(world))) }
}

/// The first claim that has to be waited for before there can be a pod for it.
fn barrier(world: &World) -> Ordinal {
    let running = running(world);
    let leaving = world.claims.iter().filter(|(_, claim)| claim.is_leaving).map(|(ordinal, _)| *ordinal);
    let drained = world.drains.keys().copied();
    leaving.chain(drained).filter(|ordinal| *ordinal >= running).min().unwrap_or(Ordinal::MAX)
}

fn in_memory(world: &World) -> Vec<Step> {
    let mut steps = Vec::new();
    if is_writable(world) {
        steps.push(Step::PutDeployment);
    }
    let takes_over = world.replicas == 0
        || world.deployment.as_ref().is_some_and(|deployment| !deployment.is_leaving && deployment.is_ready);
    match &world.set {
        Some(set) if set.is_leaving => {}
        Some(set) if set.replicas > 0 && takes_over => steps.push(Step::PutSet(0)),
        Some(set) if set.replicas == 0 && set.is_settled && world.pods.is_empty() && is_drained(world) => {
            steps.push(Step::RemoveSet);
        }
        // Pods that lost their StatefulSet while it was made anew have none to end them.
        None if !world.pods.is_empty() && takes_over => steps.push(Step::PutSet(0)),
        _ => {}
    }
    steps
}

/// Whether nothing is left to be done about any claim.
fn is_drained(world: &World) -> bool {
    world.claims.iter().all(|(ordinal, claim)| {
        world
            .drains
            .get(ordinal)
            .is_some_and(|drain| is_of(drain, claim) && drain.state == DrainState::DeadLetters)
    })
}

fn is_of(drain: &Drain, claim: &Claim) -> bool {
    drain.claim.as_ref() == Some(&claim.uid)
}

/// What a Job comes to.
fn end(world: &World, ordinal: Ordinal, drain: &Drain) -> Option<Step> {
    if drain.is_leaving {
        return None;
    }
    // A pod could have written to the claim since: what the Job says is not true any more.
    let has_pod = world.pods.contains(&ordinal) || ordinal < running(world);
    let claim = world.claims.get(&ordinal).filter(|claim| is_of(drain, claim));
    let Some(claim) = claim.filter(|_| !has_pod) else { return Some(Step::EndDrain(ordinal)) };
    if claim.is_leaving {
        // A claim stays as long as a pod names it, one that has ended, too.
        return Some(Step::EndDrain(ordinal));
    }
    match drain.state {
        DrainState::Empty => Some(Step::RemoveClaim(ordinal, claim.uid.clone())),
        DrainState::GivenUp => Some(Step::EndDrain(ordinal)),
        DrainState::DeadLetters if ordinal < kept(world) => Some(Step::EndDrain(ordinal)),
        DrainState::UnderWay if !drain.fits => Some(Step::EndDrain(ordinal)),
        DrainState::DeadLetters | DrainState::UnderWay => None,
    }
}

/// The Jobs to begin: of claims that have no pod and are to get none, the first ones first. One that never had a
/// volume goes without: its Job might wait for one for ever.
fn beginnings(world: &World) -> Vec<Step> {
    let is_settled = world.set.as_ref().is_none_or(|set| set.is_settled && !set.is_leaving);
    if !world.is_complete || !is_settled {
        return Vec::new();
    }
    let busy: BTreeSet<_> = world.pods.iter().chain(world.drains.keys()).copied().collect();
    let under_way = world.drains.values().filter(|drain| drain.state == DrainState::UnderWay).count();
    world
        .claims
        .range(in_use_until(world)..)
        .filter(|(ordinal, claim)| !claim.is_leaving && !busy.contains(ordinal))
        .map(|(ordinal, claim)| {
            let begin = if claim.is_blank { Step::RemoveClaim } else { Step::Drain };
            begin(*ordinal, claim.uid.clone())
        })
        .take(DRAINS_MAX.saturating_sub(under_way))
        .collect()
}

#[cfg(test)]
mod tests;
