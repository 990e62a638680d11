//! What there is of a resource's pods, claims and Jobs: facts, as the plan needs them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;

use crate::quantity;
use crate::resources::claim::Ordinal;
use crate::resources::labels::{CLAIM_UID, TEMPLATE_HASH};

/// All that the plan depends on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    /// How many pods there should be.
    pub replicas: Ordinal,
    /// The size that claims should have, in bytes; none when mail is to be kept in memory.
    pub claim_bytes: Option<u64>,
    /// Whether all is there that pods need to start.
    pub is_complete: bool,
    /// What runs pods that keep mail in memory.
    pub deployment: Option<Crew>,
    /// What runs pods that keep it on disk.
    pub set: Option<Set>,
    /// The pods of the StatefulSet, those that are on their way out among them.
    pub pods: BTreeSet<Ordinal>,
    /// The claims.
    pub claims: BTreeMap<Ordinal, Claim>,
    /// The Jobs that drain claims.
    pub drains: BTreeMap<Ordinal, Drain>,
}

/// A Deployment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Crew {
    /// Whether it is on its way out.
    pub is_leaving: bool,
    /// Whether all of its pods are there, are of its newest template, and are ready.
    pub is_ready: bool,
}

/// A StatefulSet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Set {
    /// Whether it is on its way out.
    pub is_leaving: bool,
    /// How many pods it is told to have.
    pub replicas: Ordinal,
    /// Whether it has seen that number, and has no more pods.
    pub is_settled: bool,
    /// Whether all of its pods are there, are of its newest template, and are ready.
    pub is_ready: bool,
    /// Whether it can become what is wanted without being made anew, or is one of an earlier resource, whose end is
    /// waited for.
    pub fits: bool,
}

/// A claim.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claim {
    /// Which one of that name it is.
    pub uid: String,
    /// Whether it is on its way out.
    pub is_leaving: bool,
    /// Whether it has a volume.
    pub is_bound: bool,
    /// Whether it never had one: nothing was ever written to it.
    pub is_blank: bool,
    /// The size that was asked for, in bytes.
    pub requested: u64,
    /// The size of the volume, in bytes, once there is one.
    pub capacity: Option<u64>,
}

impl Claim {
    /// Its size in bytes: that of its volume, or what that will have at least.
    pub fn bytes(&self) -> u64 {
        self.capacity.unwrap_or(self.requested)
    }
}

/// A Job that drains a claim.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drain {
    /// Whether it is on its way out.
    pub is_leaving: bool,
    /// The uid of the claim.
    pub claim: Option<String>,
    /// Whether its pods are as they would be made now.
    pub fits: bool,
    /// How far it is.
    pub state: DrainState,
}

/// How far a Job is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum DrainState {
    /// It delivers what waits, or tries to.
    #[default]
    UnderWay,
    /// Nothing is left in the claim.
    Empty,
    /// Nothing waits, but dead letters are left.
    DeadLetters,
    /// It was given up.
    GivenUp,
}

/// The facts about a Deployment.
pub fn crew(deployment: &Deployment) -> Crew {
    let status = deployment.status.clone().unwrap_or_default();
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let is_observed = status.observed_generation >= deployment.metadata.generation;
    let counts = [status.replicas, status.updated_replicas, status.ready_replicas];
    Crew {
        is_leaving: deployment.metadata.deletion_timestamp.is_some(),
        is_ready: is_observed && counts.iter().all(|count| count.unwrap_or(0) == wanted),
    }
}

/// The facts about a StatefulSet.
pub fn set(set: &StatefulSet, fits: bool) -> Set {
    let status = set.status.clone().unwrap_or_default();
    let wanted = set.spec.replicas.unwrap_or(1);
    let is_observed = status.observed_generation >= set.metadata.generation;
    let counts = [status.replicas, status.updated_replicas.unwrap_or(0), status.ready_replicas.unwrap_or(0)];
    Set {
        is_leaving: set.metadata.deletion_timestamp.is_some(),
        replicas: Ordinal::try_from(wanted).unwrap_or(0),
        is_settled: is_observed && status.replicas <= wanted,
        is_ready: is_observed && counts.iter().all(|count| *count == wanted),
        fits,
    }
}

/// The facts about a claim.
pub fn claim(claim: &PersistentVolumeClaim) -> Claim {
    let status = claim.status.clone().unwrap_or_default();
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let requests = resources.and_then(|resources| resources.requests.as_ref());
    let is_bound = status.phase.as_deref() == Some("Bound");
    let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_ref());
    let size = |sizes: &BTreeMap<_, _>| storage(sizes);
    Claim {
        uid: claim.uid().unwrap_or_default(),
        is_leaving: claim.metadata.deletion_timestamp.is_some(),
        is_bound,
        // One that has lost its volume is another matter: a person may bring that back.
        is_blank: status.phase.as_deref() == Some("Pending") && volume.is_none_or(String::is_empty),
        requested: requests.and_then(size).unwrap_or(0),
        capacity: status.capacity.as_ref().and_then(size).filter(|_| is_bound),
    }
}

fn storage(sizes: &BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>) -> Option<u64> {
    quantity::bytes(&sizes.get("storage")?.0)
}

/// The facts about a Job; `hash` is that of the template that it would have now.
pub fn drain(job: &Job, hash: Option<&str>) -> Drain {
    let annotation = |key: &str| job.annotations().get(key);
    Drain {
        is_leaving: job.metadata.deletion_timestamp.is_some(),
        claim: annotation(CLAIM_UID).cloned(),
        // Where it cannot be known, for a missing Secret for instance, it is left as it is.
        fits: hash.is_none_or(|hash| annotation(TEMPLATE_HASH).is_some_and(|found| found == hash)),
        state: drain_state(job),
    }
}

fn drain_state(job: &Job) -> DrainState {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
    let holds = |type_: &str| {
        conditions
            .into_iter()
            .flatten()
            .find(|condition| condition.type_ == type_ && condition.status == "True")
    };
    match (holds("Complete"), holds("Failed")) {
        (Some(_), _) => DrainState::Empty,
        // The one rule that fails a Job is about the exit code that stands for dead letters.
        (None, Some(failed)) if failed.reason.as_deref() == Some("PodFailurePolicy") => {
            DrainState::DeadLetters
        }
        (None, Some(_)) => DrainState::GivenUp,
        (None, None) => DrainState::UnderWay,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[allow(clippy::needless_pass_by_value)] // JSON literals read better by value.
    fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    fn workload(generation: i64, observed: i64, [wanted, total, updated, ready]: [i32; 4]) -> Value {
        json!({
            "metadata": {"generation": generation},
            "spec": {"replicas": wanted, "selector": {}, "template": {}},
            "status": {"observedGeneration": observed, "replicas": total, "updatedReplicas": updated,
                "readyReplicas": ready},
        })
    }

    #[test]
    fn a_workload_is_ready_when_all_of_its_pods_are() {
        for (object, is_ready, is_settled) in [
            (workload(2, 2, [3, 3, 3, 3]), true, true),
            (workload(3, 2, [3, 3, 3, 3]), false, false),
            (workload(2, 2, [3, 3, 3, 2]), false, true),
            (workload(2, 2, [3, 3, 2, 3]), false, true),
            (workload(2, 2, [1, 3, 3, 3]), false, false),
            (workload(2, 2, [3, 1, 1, 1]), false, true),
            (workload(2, 2, [0, 0, 0, 0]), true, true),
        ] {
            assert_eq!(crew(&from(object.clone())).is_ready, is_ready, "{object}");
            let set = set(&from(object.clone()), true);
            assert_eq!((set.is_ready, set.is_settled), (is_ready, is_settled), "{object}");
        }
    }

    #[test]
    fn the_size_of_a_claim_is_that_of_its_volume() {
        let pending = json!({
            "metadata": {"uid": "1"}, "status": {"phase": "Pending"},
            "spec": {"resources": {"requests": {"storage": "2Gi"}}},
        });
        let mut bound = pending.clone();
        bound["status"] = json!({"phase": "Bound", "capacity": {"storage": "1Gi"}});
        bound["spec"]["volumeName"] = "disk".into();
        let mut lost = bound.clone();
        lost["status"] = json!({"phase": "Lost"});
        let [pending, bound, lost] = [pending, bound, lost].map(|it| claim(&from(it)));
        assert_eq!([&pending, &bound, &lost].map(|claim| claim.is_blank), [true, false, false]);
        assert_eq!((pending.bytes(), pending.is_bound), (2 << 30, false));
        assert_eq!((bound.bytes(), bound.is_bound), (1 << 30, true));
    }

    #[test]
    fn only_the_policy_stands_for_dead_letters() {
        for (type_, reason, status, expected) in [
            ("Complete", "CompletionsReached", "True", DrainState::Empty),
            ("Failed", "PodFailurePolicy", "True", DrainState::DeadLetters),
            ("Failed", "BackoffLimitExceeded", "True", DrainState::GivenUp),
            ("FailureTarget", "PodFailurePolicy", "True", DrainState::UnderWay),
            ("Complete", "x", "False", DrainState::UnderWay),
        ] {
            let job: Job = from(json!({
                "metadata": {"annotations": {CLAIM_UID: "7", TEMPLATE_HASH: "new"}},
                "status": {"conditions": [{"type": type_, "reason": reason, "status": status}]},
            }));
            let found = drain(&job, Some("new"));
            assert_eq!((found.state, found.fits), (expected, true), "{type_} {reason}");
            assert_eq!(found.claim.as_deref(), Some("7"));
            assert!(!drain(&job, Some("newer")).fits);
            assert!(drain(&job, None).fits);
        }
    }
}
