//! What the pods of a resource are up to: pure facts from a Deployment or a StatefulSet and its pods.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, StatefulSet};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod, PodTemplateSpec};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use mail_laser_crds::conditions::Reason;

use crate::problem::Problem;
use crate::resources::deployment::PROGRESS_DEADLINE_SECONDS;
use crate::resources::drain::EXIT_DEAD_LETTERS;
use crate::resources::labels::TEMPLATE_HASH;
use crate::resources::pod::{self, CONTAINER};

/// The exit code of a daemon that refuses its configuration.
const EXIT_INVALID_CONFIGURATION: i32 = 78;
/// Longest part of a message that is what a pod or the kubelet said, in characters. A termination message
/// has at most 2048 bytes.
const QUOTE_LENGTH_MAX: usize = 2048;
/// The Deployment controller's word for a rollout that is over.
const ROLLED_OUT: &str = "NewReplicaSetAvailable";
const DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";

/// How far the pods are.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Workload {
    /// There is neither Deployment nor StatefulSet yet.
    #[default]
    Absent,
    /// Pods of an older template are there, or those of the newest were never all ready yet.
    RollingOut(Counts),
    /// All pods are of the newest template, which was once rolled out to its end.
    RolledOut(Counts),
}

/// Numbers of pods.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// How many there should be.
    pub wanted: i32,
    /// How many there are.
    pub total: i32,
    /// How many of those are of the newest template.
    pub updated: i32,
    /// How many are ready, of any template.
    pub ready: i32,
}

/// What is to be known of pods and what runs them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// How far the pods are.
    pub workload: Workload,
    /// What keeps the pods of the newest template from running.
    pub problem: Option<Problem>,
    /// Why pods of the newest template are not ready yet, in a few words; nothing that a person has to act
    /// on so far.
    pub hint: Option<String>,
    /// The image of the newest template.
    pub image: Option<String>,
    /// Pods of the mode of delivery before, which still take mail.
    pub others: i32,
}

/// The pods of one workload that are not on their way out.
struct Pods<'a> {
    all: usize,
    /// Those of the newest template, by name.
    newest: Vec<&'a Pod>,
}

impl<'a> Pods<'a> {
    fn new(template: &PodTemplateSpec, pods: &'a [impl AsRef<Pod>]) -> Self {
        let mut pods: Vec<&Pod> =
            pods.iter().map(AsRef::as_ref).filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect();
        pods.sort_by_key(|pod| pod.name_any());
        let all = pods.len();
        let hash = pod::hash(template);
        pods.retain(|pod| pod.annotations().get(TEMPLATE_HASH).map(String::as_str) == hash);
        Self { all, newest: pods }
    }

    fn count(&self) -> i32 {
        i32::try_from(self.all).unwrap_or(i32::MAX)
    }

    fn hint(&self) -> Option<String> {
        self.newest.iter().find_map(|pod| hint(pod))
    }

    fn problem(&self) -> Option<Problem> {
        self.newest.iter().find_map(|pod| refused_configuration(pod))
    }

    /// Whether one of the newest template has not been ready for as long as a Deployment would wait for it.
    fn is_overdue(&self, now: Timestamp) -> bool {
        let deadline = SignedDuration::from_secs(PROGRESS_DEADLINE_SECONDS.into());
        self.newest
            .iter()
            .filter_map(|pod| not_ready_since(pod))
            .any(|since| now.duration_since(since) >= deadline)
    }
}

/// Looks at a Deployment, as it is in the cluster, and all its pods.
pub fn observe(deployment: Option<&Deployment>, pods: &[impl AsRef<Pod>], now: Timestamp) -> Observation {
    let Some(deployment) = deployment else { return Observation::default() };
    let template = &deployment.spec.template;
    let pods = Pods::new(template, pods);
    let hint = pods.hint().or_else(|| no_pod(deployment));
    let workload = progress(deployment, pods.all, pods.newest.len());
    // Of a rollout that is over the Deployment's own deadline knows nothing any more.
    let is_down = matches!(workload, Workload::RolledOut(counts) if counts.ready == 0);
    let is_late = has_exceeded_deadline(deployment) || is_down && pods.is_overdue(now);
    Observation {
        problem: pods.problem().or_else(|| is_late.then(|| deadline_exceeded(hint.as_deref()))),
        workload,
        hint,
        image: pod::image(template).map(str::to_owned),
        others: 0,
    }
}

/// Looks at a StatefulSet, as it is in the cluster, and all its pods. There should be `wanted` of them, which may
/// be more than the StatefulSet says so far.
pub fn observe_set(
    set: Option<&StatefulSet>,
    wanted: i32,
    pods: &[impl AsRef<Pod>],
    now: Timestamp,
) -> Observation {
    let Some(set) = set else { return Observation::default() };
    let template = &set.spec.template;
    let pods = Pods::new(template, pods);
    let status = set.status.clone().unwrap_or_default();
    let counts = Counts {
        wanted,
        // One that was just made around pods that are there does not know of them yet.
        total: status.observed_generation.map_or_else(|| pods.count(), |_| status.replicas),
        updated: status.updated_replicas.unwrap_or(0),
        ready: status.ready_replicas.unwrap_or(0),
    };
    let all_newest = if status.observed_generation >= set.metadata.generation {
        // Pods that are on their way out are counted as those of no revision.
        status.current_revision == status.update_revision
    } else {
        pods.newest.len() == pods.all
    };
    // Unlike a Deployment it does not remember whether its pods were ever ready.
    let were_up = counts.ready > 0 || pods.newest.iter().any(|pod| was_restarted(pod));
    let is_rolled_out = all_newest && were_up;
    // A StatefulSet has no deadline of its own.
    let is_late = (!is_rolled_out || counts.ready == 0) && pods.is_overdue(now);
    let hint = pods.hint();
    Observation {
        workload: if is_rolled_out { Workload::RolledOut(counts) } else { Workload::RollingOut(counts) },
        problem: pods.problem().or_else(|| is_late.then(|| deadline_exceeded(hint.as_deref()))),
        hint,
        image: pod::image(template).map(str::to_owned),
        others: 0,
    }
}

fn was_restarted(pod: &Pod) -> bool {
    container(pod).is_some_and(|container| container.restart_count > 0)
}

/// Why a pod that drains a claim gets nowhere: a problem that a person has to act on, or a hint.
pub fn observe_drain(pod: &Pod) -> (Option<Problem>, Option<String>) {
    let end = container(pod).and_then(|container| container.state.as_ref()?.terminated.as_ref());
    match end {
        // It has done what there was to do, and its Job knows.
        Some(end) if [0, EXIT_DEAD_LETTERS].contains(&end.exit_code) => (None, None),
        _ => (refused_configuration(pod), hint(pod)),
    }
}

/// The Deployment controller's word counts once it has seen the newest version. Until then, which is a moment,
/// the pods tell a change of the template from one of the number alone.
fn progress(deployment: &Deployment, pods: usize, newest: usize) -> Workload {
    let status = deployment.status.clone().unwrap_or_default();
    let counts = Counts {
        wanted: deployment.spec.replicas.unwrap_or(1),
        total: status.replicas.unwrap_or(0),
        updated: status.updated_replicas.unwrap_or(0),
        ready: status.ready_replicas.unwrap_or(0),
    };
    let was_rolled_out = progressing(deployment).is_some_and(|it| it.reason.as_deref() == Some(ROLLED_OUT));
    let all_newest = if is_observed(deployment) { counts.updated == counts.total } else { newest == pods };
    if was_rolled_out && all_newest { Workload::RolledOut(counts) } else { Workload::RollingOut(counts) }
}

fn is_observed(deployment: &Deployment) -> bool {
    let observed = deployment.status.as_ref().and_then(|status| status.observed_generation);
    observed >= deployment.metadata.generation
}

fn progressing(deployment: &Deployment) -> Option<&DeploymentCondition> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_.as_deref() == Some("Progressing"))
}

/// Why no pod could be made at all: a quota, a priority class that is missing, a policy.
fn no_pod(deployment: &Deployment) -> Option<String> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    let failure = conditions.iter().find(|condition| {
        condition.type_.as_deref() == Some("ReplicaFailure") && condition.status.as_deref() == Some("True")
    })?;
    Some(format!("no pod can be made: {}", quote(failure.message.as_deref()?)))
}

fn has_exceeded_deadline(deployment: &Deployment) -> bool {
    is_observed(deployment)
        && progressing(deployment).is_some_and(|it| it.reason.as_deref() == Some(DEADLINE_EXCEEDED))
}

fn deadline_exceeded(hint: Option<&str>) -> Problem {
    let why = hint.unwrap_or("look at `kubectl describe` of the pods for the reason");
    Problem::new(Reason::ProgressDeadlineExceeded, format!("the pods did not become ready in time: {why}"))
}

/// When a pod stopped being ready, or was made, if it is not.
fn not_ready_since(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().find(|condition| condition.type_ == "Ready");
    match ready {
        Some(ready) if ready.status == "True" => None,
        Some(ready) => ready.last_transition_time.as_ref().map(|time| time.0),
        None => pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
    }
}

/// A daemon that exits with 78 says why, and will say so again until somebody changes something. Between two
/// tries its container runs for a moment, so the last end counts as long as the container is not ready.
fn refused_configuration(pod: &Pod) -> Option<Problem> {
    let container = container(pod).filter(|container| !container.ready)?;
    let end = [&container.state, &container.last_state]
        .into_iter()
        .flatten()
        .find_map(|state| state.terminated.as_ref())
        .filter(|end| end.exit_code == EXIT_INVALID_CONFIGURATION)?;
    let said = end.message.as_deref().map(quote).filter(|said| !said.is_empty());
    Some(Problem::new(
        Reason::InvalidConfiguration,
        format!(
            "the daemon refuses its configuration; correct the field that it names. Pod {} said: {}",
            pod.name_any(),
            said.as_deref().unwrap_or("nothing; look at its log")
        ),
    ))
}

fn container(pod: &Pod) -> Option<&ContainerStatus> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == CONTAINER)
}

/// Why a pod is not ready: it has no node, its image does not come, its container ends.
fn hint(pod: &Pod) -> Option<String> {
    let name = pod.name_any();
    let unscheduled = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref())
        .and_then(|conditions| {
            conditions.iter().find(|it| it.type_ == "PodScheduled" && it.status == "False")
        })
        .and_then(|condition| condition.message.as_deref());
    if let Some(message) = unscheduled {
        return Some(format!("pod {name} has no node: {}", quote(message)));
    }
    let before_the_daemon = pod.status.as_ref().and_then(|status| status.init_container_statuses.as_ref());
    let mut containers = before_the_daemon.into_iter().flatten().chain(container(pod));
    containers.find_map(|container| trouble(&name, container))
}

/// Why a container is not ready, if that says more than that it is not yet.
fn trouble(pod: &str, container: &ContainerStatus) -> Option<String> {
    if container.ready {
        return None;
    }
    let who = match container.name.as_str() {
        CONTAINER => format!("pod {pod}"),
        other => format!("container {other} of pod {pod}"),
    };
    if let Some(end) = ended(container.state.as_ref()).or(ended(container.last_state.as_ref())) {
        return Some(format!("{who} ended with exit code {end}"));
    }
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let says_nothing = |reason: &&str| matches!(*reason, "ContainerCreating" | "PodInitializing");
    let reason = waiting.reason.as_deref().filter(|reason| !says_nothing(reason))?;
    Some(match waiting.message.as_deref() {
        Some(message) => format!("{who}: {reason}: {}", quote(message)),
        None => format!("{who}: {reason}"),
    })
}

fn ended(state: Option<&ContainerState>) -> Option<String> {
    let end = state?.terminated.as_ref()?;
    Some(match end.message.as_deref().map(quote).filter(|said| !said.is_empty()) {
        Some(said) => format!("{}: {said}", end.exit_code),
        None => end.exit_code.to_string(),
    })
}

/// Text of others as part of a sentence: one line, without control characters, of bounded length.
fn quote(text: &str) -> String {
    let lines: Vec<String> = text
        .lines()
        .map(|line| line.chars().filter(|c| !c.is_control()).collect::<String>().trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect();
    lines.join("; ").chars().take(QUOTE_LENGTH_MAX).collect()
}

#[cfg(test)]
mod tests;
