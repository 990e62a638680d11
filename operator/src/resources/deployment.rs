//! The Deployment that runs the daemon.
//!
//! What the API server would fill in is sent, too: then a change of it by hand is mended as well, and a
//! created object has no field that the operator owns without sending it (see [`crate::managed_fields`]).

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, Lifecycle, LifecycleHandler, LocalObjectReference,
    PodSecurityContext, PodSpec, PodTemplateSpec, ResourceRequirements, SeccompProfile, SecurityContext,
    SleepAction, TopologySpreadConstraint, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sha2::{Digest, Sha256};

use super::{environment, labels, probes, volumes};
use crate::evaluate::Dereferenced;
use crate::validate::ValidatedMailLaser;

/// Name of the daemon's container.
pub const CONTAINER: &str = "mail-laser";
/// Name of the port that receives mails.
pub const SMTP_PORT_NAME: &str = "smtp";
/// Name of the port with TLS from the first byte.
pub const SMTPS_PORT_NAME: &str = "smtps";
/// Where the daemon listens for it, if it does.
pub const SMTPS_PORT: i32 = 4465;
/// Name of the port that is asked for health.
pub const HEALTH_PORT_NAME: &str = "health";

const SMTP_PORT: i32 = 2525;
const HEALTH_PORT: i32 = 8080;
const METRICS_PORT: i32 = 9090;
const USER: i64 = 65532;
/// The defaults of Kubernetes.
const PROGRESS_DEADLINE_SECONDS: i32 = 600;
const REVISION_HISTORY_LIMIT: i32 = 10;

/// How long a pod that is to stop still takes connections, in seconds: that long it may take until every
/// node has heard that it is no endpoint any more.
const PRE_STOP_SECONDS: i64 = 5;
/// Between the end of the daemon's own grace and the kill, in seconds.
const KILL_MARGIN_SECONDS: i64 = 5;

/// The Deployment of a resource.
pub fn build(resource: &ValidatedMailLaser, references: &Dereferenced, ipv6: bool) -> Deployment {
    let mut template = template(resource, references, ipv6);
    let hash = template_hash(&template);
    annotate(&mut template, labels::TEMPLATE_HASH, hash);
    Deployment {
        metadata: super::metadata(resource),
        spec: DeploymentSpec {
            replicas: Some(resource.spec.replicas),
            selector: LabelSelector {
                match_labels: Some(labels::selector(&resource.name)),
                ..LabelSelector::default()
            },
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_unavailable: Some(IntOrString::Int(0)),
                    max_surge: Some(IntOrString::Int(1)),
                }),
            }),
            template,
            progress_deadline_seconds: Some(PROGRESS_DEADLINE_SECONDS),
            revision_history_limit: Some(REVISION_HISTORY_LIMIT),
            ..DeploymentSpec::default()
        },
        ..Deployment::default()
    }
}

fn template(resource: &ValidatedMailLaser, references: &Dereferenced, ipv6: bool) -> PodTemplateSpec {
    let additions = resource.spec.pod_template.clone().unwrap_or_default();
    let mut labels = additions.labels;
    labels.extend(labels::owned(&resource.name));
    labels.extend(labels::selector(&resource.name));
    let (volumes, mounts) = volumes::build(resource).into_iter().unzip();
    let mut template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: some(additions.annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(resource.name.clone()),
            service_account: Some(resource.name.clone()),
            automount_service_account_token: Some(false),
            // A Service named `mail-laser` would otherwise set variables that look like the daemon's.
            enable_service_links: Some(false),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(USER),
                run_as_group: Some(USER),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".to_owned(),
                    ..SeccompProfile::default()
                }),
                ..PodSecurityContext::default()
            }),
            termination_grace_period_seconds: Some(
                PRE_STOP_SECONDS + environment::SHUTDOWN_GRACE_SECONDS + KILL_MARGIN_SECONDS,
            ),
            image_pull_secrets: some(
                resource
                    .spec
                    .image_pull_secrets
                    .iter()
                    .map(|secret| LocalObjectReference { name: secret.name.clone() })
                    .collect::<Vec<_>>(),
            ),
            containers: vec![container(resource, mounts, ipv6)],
            volumes: some(volumes),
            node_selector: some(additions.node_selector),
            tolerations: some(additions.tolerations),
            affinity: additions.affinity,
            topology_spread_constraints: some(
                additions
                    .topology_spread_constraints
                    .into_iter()
                    .map(|constraint| of_these_pods(constraint, &resource.name))
                    .collect::<Vec<_>>(),
            ),
            priority_class_name: additions.priority_class_name,
            restart_policy: Some("Always".to_owned()),
            dns_policy: Some("ClusterFirst".to_owned()),
            scheduler_name: Some("default-scheduler".to_owned()),
            ..PodSpec::default()
        }),
    };
    if let Some(hash) = &references.hash {
        annotate(&mut template, labels::REFERENCES_HASH, hash.clone());
    }
    template
}

fn container(resource: &ValidatedMailLaser, mounts: Vec<VolumeMount>, ipv6: bool) -> Container {
    let spec = &resource.spec;
    Container {
        name: CONTAINER.to_owned(),
        image: Some(resource.image.clone()),
        image_pull_policy: Some(spec.image_pull_policy.as_str().to_owned()),
        env: Some(environment::build(resource, ipv6)),
        ports: Some(ports(resource)),
        liveness_probe: Some(probes::build((&spec.probes.liveness).into())),
        readiness_probe: Some(probes::build((&spec.probes.readiness).into())),
        resources: Some(ResourceRequirements {
            limits: some(spec.resources.limits.clone()),
            requests: some(spec.resources.requests.clone()),
            ..ResourceRequirements::default()
        }),
        volume_mounts: some(mounts),
        lifecycle: Some(Lifecycle {
            pre_stop: Some(LifecycleHandler {
                sleep: Some(SleepAction { seconds: PRE_STOP_SECONDS }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        // What the daemon says before it exits becomes the message of a condition.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        termination_message_path: Some("/dev/termination-log".to_owned()),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                ..Capabilities::default()
            }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

fn ports(resource: &ValidatedMailLaser) -> Vec<ContainerPort> {
    let smtps = resource.spec.tls.smtps_port.map(|_| (SMTPS_PORT_NAME, SMTPS_PORT));
    [(SMTP_PORT_NAME, SMTP_PORT), (HEALTH_PORT_NAME, HEALTH_PORT), ("metrics", METRICS_PORT)]
        .into_iter()
        .chain(smtps)
        .map(|(name, port)| ContainerPort {
            name: Some(name.to_owned()),
            container_port: port,
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        })
        .collect()
}

/// A constraint without a selector would count no pods at all.
fn of_these_pods(constraint: TopologySpreadConstraint, name: &str) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        label_selector: constraint.label_selector.or_else(|| {
            Some(LabelSelector { match_labels: Some(labels::selector(name)), ..LabelSelector::default() })
        }),
        ..constraint
    }
}

fn annotate(template: &mut PodTemplateSpec, key: &str, value: String) {
    template
        .metadata
        .get_or_insert_default()
        .annotations
        .get_or_insert_default()
        .insert(key.to_owned(), value);
}

/// 16 hexadecimal digits: enough to tell the few templates of one resource apart.
fn template_hash(template: &PodTemplateSpec) -> String {
    // All maps of the API types are sorted, so equal templates have equal text.
    let text = serde_json::to_vec(template).unwrap_or_default();
    Sha256::digest(&text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Absent rather than empty, as the API server keeps it.
fn some<T: Default + PartialEq>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}

/// The image in a Deployment's template.
pub fn image(deployment: &Deployment) -> Option<&str> {
    let containers = &deployment.spec.template.spec.as_ref()?.containers;
    containers.iter().find(|container| container.name == CONTAINER)?.image.as_deref()
}

/// The hash of a Deployment's template; see [`labels::TEMPLATE_HASH`].
pub fn hash(deployment: &Deployment) -> Option<&str> {
    let annotations: &BTreeMap<_, _> = deployment.spec.template.metadata.as_ref()?.annotations.as_ref()?;
    annotations.get(labels::TEMPLATE_HASH).map(String::as_str)
}
