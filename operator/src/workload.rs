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
mod tests {
    #![allow(clippy::needless_pass_by_value, clippy::panic)] // JSON literals read better by value.

    use std::sync::Arc;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn deployment(generation: i64, observed: i64, counts: [i32; 4], reason: &str) -> Deployment {
        let [wanted, total, updated, ready] = counts;
        serde_json::from_value(serde_json::json!({
            "metadata": {"generation": generation},
            "spec": {"replicas": wanted, "selector": {}, "template": {
                "metadata": {"annotations": {TEMPLATE_HASH: "new"}},
                "spec": {"containers": [{"name": CONTAINER, "image": "daemon:1"}]},
            }},
            "status": {
                "observedGeneration": observed, "replicas": total, "updatedReplicas": updated,
                "readyReplicas": ready,
                "conditions": [{"type": "Progressing", "status": "True", "reason": reason}],
            },
        }))
        .unwrap()
    }

    fn pod(name: &str, hash: &str, ready: bool, state: serde_json::Value) -> Arc<Pod> {
        let mut status = serde_json::json!({
            "name": CONTAINER, "ready": ready, "image": "", "imageID": "", "restartCount": 0,
        });
        for (key, value) in state.as_object().unwrap() {
            status[key] = value.clone();
        }
        Arc::new(
            serde_json::from_value(serde_json::json!({
                "metadata": {"name": name, "annotations": {TEMPLATE_HASH: hash}},
                "status": {"containerStatuses": [status]},
            }))
            .unwrap(),
        )
    }

    fn terminated(code: i32, message: &str) -> serde_json::Value {
        serde_json::json!({"terminated": {"exitCode": code, "message": message}})
    }

    /// While a sidecar does not start, the daemon has not begun, which says nothing.
    #[test]
    fn a_sidecar_that_keeps_the_daemon_waiting_is_named() {
        let waiting =
            |reason: &str| serde_json::json!({"waiting": {"reason": reason, "message": "no such image"}});
        let mut pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "a"},
            "status": {
                "containerStatuses": [{
                    "name": CONTAINER, "ready": false, "restartCount": 0, "image": "", "imageID": "",
                    "state": {"waiting": {"reason": "PodInitializing"}},
                }],
                "initContainerStatuses": [{
                    "name": "proxy", "ready": false, "restartCount": 0, "image": "", "imageID": "",
                    "state": waiting("ImagePullBackOff"),
                }],
            },
        }))
        .unwrap();
        assert_eq!(hint(&pod).as_deref(), Some("container proxy of pod a: ImagePullBackOff: no such image"));
        pod.status.as_mut().unwrap().init_container_statuses.as_mut().unwrap()[0].ready = true;
        assert_eq!(hint(&pod), None);
    }

    #[test]
    fn a_rollout_is_over_when_the_controller_says_so() {
        for (deployment, rolled_out) in [
            (deployment(2, 2, [3, 3, 3, 3], ROLLED_OUT), true),
            (deployment(2, 2, [3, 3, 3, 1], ROLLED_OUT), true),
            (deployment(2, 2, [3, 4, 1, 3], ROLLED_OUT), false),
            (deployment(2, 2, [3, 3, 3, 2], "ReplicaSetUpdated"), false),
        ] {
            let observed = observe(Some(&deployment), &[] as &[Arc<Pod>], NOW);
            assert_eq!(matches!(observed.workload, Workload::RolledOut(_)), rolled_out, "{deployment:?}");
        }
    }

    #[test]
    fn until_the_controller_has_seen_a_change_the_pods_decide() {
        let changed = deployment(3, 2, [3, 1, 1, 1], ROLLED_OUT);
        let up = serde_json::json!({});
        let of_new = [pod("a", "new", true, up.clone())];
        let of_old = [pod("a", "old", true, up)];
        assert!(matches!(observe(Some(&changed), &of_new, NOW).workload, Workload::RolledOut(_)));
        assert!(matches!(observe(Some(&changed), &of_old, NOW).workload, Workload::RollingOut(_)));
    }

    #[test]
    fn what_a_daemon_says_that_refuses_its_configuration_is_the_message() {
        let deployment = deployment(2, 2, [1, 1, 1, 0], "ReplicaSetUpdated");
        let said = "first problem\n\u{1b}second problem\n";
        let waiting = serde_json::json!({"waiting": {"reason": "CrashLoopBackOff"}});
        for state in [
            serde_json::json!({"state": terminated(78, said)}),
            serde_json::json!({"state": waiting, "lastState": terminated(78, said)}),
            serde_json::json!({"state": {"running": {}}, "lastState": terminated(78, said)}),
        ] {
            let problem = observe(Some(&deployment), &[pod("a", "new", false, state)], NOW).problem.unwrap();
            assert_eq!(problem.reason, Reason::InvalidConfiguration);
            assert!(
                problem.message.ends_with("Pod a said: first problem; second problem"),
                "{}",
                problem.message
            );
        }
    }

    #[test]
    fn an_old_pod_a_ready_one_and_another_exit_code_are_no_such_problem() {
        let deployment = deployment(2, 2, [1, 1, 1, 0], "ReplicaSetUpdated");
        let end = |code| serde_json::json!({"lastState": terminated(code, "x")});
        for pod in
            [pod("a", "old", false, end(78)), pod("a", "new", true, end(78)), pod("a", "new", false, end(1))]
        {
            assert_eq!(observe(Some(&deployment), &[pod], NOW).problem, None);
        }
    }

    #[test]
    fn a_missed_deadline_names_the_cause() {
        let deployment = deployment(2, 2, [1, 1, 1, 0], DEADLINE_EXCEEDED);
        let waiting = serde_json::json!({"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}});
        let problem = observe(Some(&deployment), &[pod("a", "new", false, waiting)], NOW).problem.unwrap();
        assert_eq!(problem.reason, Reason::ProgressDeadlineExceeded);
        assert!(problem.message.contains("pod a: ImagePullBackOff: no such image"), "{}", problem.message);
    }

    #[test]
    fn what_keeps_pods_from_being_made_is_told() {
        let mut deployment = deployment(1, 1, [0, 0, 0, 0], "x");
        let failure = serde_json::from_value(serde_json::json!({
            "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: small",
        }));
        deployment.status.as_mut().unwrap().conditions.get_or_insert_default().push(failure.unwrap());
        let pods: [Arc<Pod>; 0] = [];
        let observed = observe(Some(&deployment), &pods, NOW);
        assert_eq!(observed.hint.as_deref(), Some("no pod can be made: exceeded quota: small"));
    }

    fn set(
        generation: i64,
        [replicas, total, updated, ready]: [i32; 4],
        revisions: [&str; 2],
    ) -> StatefulSet {
        serde_json::from_value(serde_json::json!({
            "metadata": {"generation": generation},
            "spec": {"replicas": replicas, "selector": {}, "template": {
                "metadata": {"annotations": {TEMPLATE_HASH: "new"}},
                "spec": {"containers": [{"name": CONTAINER, "image": "daemon:1"}]},
            }},
            "status": {
                "observedGeneration": 2, "replicas": total, "updatedReplicas": updated, "readyReplicas": ready,
                "currentRevision": revisions[0], "updateRevision": revisions[1],
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_set_has_rolled_out_when_its_revisions_are_one() {
        let up = serde_json::json!({});
        let restarted = serde_json::json!({"restartCount": 1});
        for (generation, counts, revisions, pod_is, rolled_out) in [
            (2, [2, 2, 2, 2], ["b", "b"], ("new", &up), true),
            (2, [2, 2, 2, 1], ["b", "b"], ("new", &up), true),
            (2, [2, 2, 1, 2], ["a", "b"], ("new", &up), false),
            (2, [1, 3, 1, 3], ["b", "b"], ("new", &up), true),
            (2, [1, 1, 1, 0], ["b", "b"], ("new", &up), false),
            (2, [1, 1, 1, 0], ["b", "b"], ("new", &restarted), true),
            (3, [1, 1, 1, 1], ["b", "b"], ("old", &up), false),
            (3, [1, 1, 1, 1], ["b", "b"], ("new", &up), true),
        ] {
            let set = set(generation, counts, revisions);
            let observed =
                observe_set(Some(&set), counts[0], &[pod("a-0", pod_is.0, false, pod_is.1.clone())], NOW);
            assert_eq!(matches!(observed.workload, Workload::RolledOut(_)), rolled_out, "{set:?}");
            assert_eq!(observed.image.as_deref(), Some("daemon:1"));
        }
    }

    #[test]
    fn a_set_that_waits_for_a_drain_is_short_of_pods() {
        let observed = observe_set(Some(&set(2, [1, 1, 1, 1], ["b", "b"])), 3, &[] as &[Arc<Pod>], NOW);
        let Workload::RolledOut(counts) = observed.workload else { panic!("{observed:?}") };
        assert_eq!((counts.wanted, counts.ready), (3, 1));
    }

    /// One that stopped being ready so many seconds before `NOW`, or was made then.
    fn down_for(seconds: i64, was_ready: bool) -> Arc<Pod> {
        let since = (NOW - SignedDuration::from_secs(seconds)).to_string();
        let conditions = if was_ready {
            serde_json::json!([{"type": "Ready", "status": "False", "lastTransitionTime": since}])
        } else {
            serde_json::json!([])
        };
        Arc::new(
            serde_json::from_value(serde_json::json!({
                "metadata": {"name": "a-0", "annotations": {TEMPLATE_HASH: "new"}, "creationTimestamp": since},
                "status": {"conditions": conditions},
            }))
            .unwrap(),
        )
    }

    #[test]
    fn pods_have_a_deadline_where_kubernetes_has_none() {
        let deadline = i64::from(PROGRESS_DEADLINE_SECONDS);
        for was_ready in [true, false] {
            for (seconds, counts, revisions, is_late) in [
                (deadline, [1, 1, 1, 0], ["b", "b"], true),
                (deadline - 1, [1, 1, 1, 0], ["b", "b"], false),
                (deadline, [2, 2, 1, 1], ["a", "b"], true),
                // It serves, in part.
                (deadline, [2, 2, 2, 1], ["b", "b"], false),
            ] {
                let pods = [down_for(seconds, was_ready)];
                let observed = observe_set(Some(&set(2, counts, revisions)), counts[0], &pods, NOW);
                let reason = observed.problem.map(|problem| problem.reason);
                assert_eq!(reason, is_late.then_some(Reason::ProgressDeadlineExceeded), "{counts:?}");
            }
            for (ready, reason, is_late) in [(0, ROLLED_OUT, true), (1, ROLLED_OUT, false), (0, "x", false)] {
                let deployment = deployment(1, 1, [2, 2, 2, ready], reason);
                let observed = observe(Some(&deployment), &[down_for(deadline, was_ready)], NOW);
                assert_eq!(observed.problem.is_some(), is_late, "{ready} {reason}");
            }
        }
    }

    #[test]
    fn a_pod_that_drained_its_claim_has_no_problem() {
        let ended = |code| pod("a", "new", false, serde_json::json!({"state": terminated(code, "x")}));
        assert_eq!(observe_drain(&ended(0)), (None, None));
        assert_eq!(observe_drain(&ended(EXIT_DEAD_LETTERS)), (None, None));
        assert_eq!(observe_drain(&ended(1)).1.as_deref(), Some("pod a ended with exit code 1: x"));
        assert_eq!(observe_drain(&ended(78)).0.unwrap().reason, Reason::InvalidConfiguration);
    }

    #[test]
    fn a_pod_without_a_node_says_so() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "a", "annotations": {TEMPLATE_HASH: "new"}},
            "status": {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]},
        }))
        .unwrap();
        let observed = observe(Some(&deployment(1, 1, [1, 1, 1, 0], "x")), &[Arc::new(pod)], NOW);
        assert_eq!(observed.hint.as_deref(), Some("pod a has no node: 0/1 nodes"));
    }
}
