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
    let waiting =
        serde_json::json!({"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}});
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

fn set(generation: i64, [replicas, total, updated, ready]: [i32; 4], revisions: [&str; 2]) -> StatefulSet {
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
