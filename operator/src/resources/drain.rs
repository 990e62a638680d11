//! The Jobs that deliver what removed pods left on their disks.
//!
//! The daemon is told to `spool drain`: it delivers what waits, takes no mail, and says by its exit code how it
//! ended. 0: the spool is empty. [`EXIT_DEAD_LETTERS`]: nothing waits, but dead letters are left, and another
//! try would not change that. Anything else is tried again.

use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement,
    PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::claim::{self, Ordinal};
use super::environment::Disk;
use super::labels;
use super::pod::{self, CONTAINER, Role};
use crate::references::evaluate::Dereferenced;
use crate::validate::ValidatedMailLaser;

/// How the daemon ends when nothing but dead letters is left.
pub const EXIT_DEAD_LETTERS: i32 = 3;

/// Failed pods stay until their Job goes, so their number is bounded: at most this many more are tried. That
/// takes two and a half hours, because each waits longer, up to ten minutes. Then the operator begins anew.
const BACKOFF_LIMIT: i32 = 20;

/// The Job that drains claim `ordinal` of the resource `name`.
pub fn name(name: &str, ordinal: Ordinal) -> String {
    format!("{name}-drain-{ordinal}")
}

/// Which claim a Job drains, if it is one of the resource `name`.
pub fn ordinal(name: &str, job: &str) -> Option<Ordinal> {
    claim::number(job, &format!("{name}-drain"))
}

/// The Job that drains a claim, which is this very one by its uid.
pub fn build(
    resource: &ValidatedMailLaser,
    references: &Dereferenced,
    ipv6: bool,
    disk: &Disk,
    ordinal: Ordinal,
    claim_uid: &str,
) -> Job {
    let claim = claim::name(&resource.name, ordinal);
    let template = pod::template(resource, references, ipv6, Role::Drain(disk, &claim));
    let hash = pod::hash(&template).unwrap_or_default().to_owned();
    let annotations = [(labels::TEMPLATE_HASH, hash), (labels::CLAIM_UID, claim_uid.to_owned())]
        .map(|(key, value)| (key.to_owned(), value));
    let mut labels = labels::owned(&resource.name);
    labels.extend(labels::drain(&resource.name));
    Job {
        metadata: ObjectMeta {
            name: Some(name(&resource.name, ordinal)),
            labels: Some(labels),
            annotations: Some(annotations.into()),
            ..super::metadata(resource)
        },
        spec: Some(JobSpec {
            backoff_limit: Some(BACKOFF_LIMIT),
            completions: Some(1),
            parallelism: Some(1),
            // Two pods must never have one claim, so the next one comes when the one before has ended.
            pod_replacement_policy: Some("Failed".to_owned()),
            pod_failure_policy: Some(PodFailurePolicy {
                rules: vec![
                    PodFailurePolicyRule {
                        action: "FailJob".to_owned(),
                        on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
                            container_name: Some(CONTAINER.to_owned()),
                            operator: "In".to_owned(),
                            values: vec![EXIT_DEAD_LETTERS],
                        }),
                        ..PodFailurePolicyRule::default()
                    },
                    // A node that is drained is no failure of the daemon.
                    PodFailurePolicyRule {
                        action: "Ignore".to_owned(),
                        on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
                            type_: "DisruptionTarget".to_owned(),
                            status: Some("True".to_owned()),
                        }]),
                        ..PodFailurePolicyRule::default()
                    },
                ],
            }),
            template,
            ..JobSpec::default()
        }),
        ..Job::default()
    }
}
