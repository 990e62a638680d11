//! The pods that run the daemon: one template for all workloads, which differ in where mail is kept.
//!
//! What the API server would fill in is sent, too: then a change of it by hand is mended as well, and a
//! created object has no field that the operator owns without sending it (see [`crate::apply::managed_fields`]).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, AppArmorProfile, Container, ContainerPort, Lifecycle, LifecycleHandler, LocalObjectReference,
    PodSecurityContext, PodSpec, PodTemplateSpec, ResourceRequirements, SELinuxOptions, SeccompProfile,
    SleepAction, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use mail_laser_crds::{ContainerSecurityContext, PodTemplate, Profile, Resources};
use sha2::{Digest, Sha256};

use super::environment::Disk;
use super::{environment, labels, opaque_ports, probes, sidecar, some, spread, volumes};
use crate::references::evaluate::Dereferenced;
use crate::validate::ValidatedMailLaser;

/// Where the image has the daemon.
pub const BINARY: &str = "/mail-laser";
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
/// Name of the port that shows metrics.
pub const METRICS_PORT_NAME: &str = "metrics";
/// Where the daemon listens for mail.
pub const SMTP_PORT: i32 = 2525;
/// Where it listens for questions about its health.
pub const HEALTH_PORT: i32 = 8080;
/// Where it shows its metrics.
pub const METRICS_PORT: i32 = 9090;

const USER: i64 = 65532;

/// How long a pod that is to stop still takes connections, in seconds: that long it may take until every
/// node has heard that it is no endpoint any more.
const PRE_STOP_SECONDS: i64 = 5;
/// Between the end of the daemon's own grace and the kill, in seconds.
const KILL_MARGIN_SECONDS: i64 = 5;

/// What a pod is there for.
#[derive(Clone, Copy, Debug)]
pub enum Role<'a> {
    /// It takes mail, and keeps it in memory.
    Memory,
    /// It takes mail, and keeps it on a disk of its own.
    Spool(&'a Disk),
    /// It takes no mail, and delivers what is in the claim of this name.
    Drain(&'a Disk, &'a str),
}

impl Role<'_> {
    fn disk(&self) -> Option<&Disk> {
        match self {
            Self::Memory => None,
            Self::Spool(disk) | Self::Drain(disk, _) => Some(disk),
        }
    }

    fn takes_mail(&self) -> bool {
        !matches!(self, Self::Drain(..))
    }
}

/// The template of a resource's pods. It holds its own hash as an annotation; see [`labels::TEMPLATE_HASH`].
pub fn template(
    resource: &ValidatedMailLaser,
    references: &Dereferenced,
    ipv6: bool,
    role: Role<'_>,
) -> PodTemplateSpec {
    let additions = resource.spec.pod_template.clone().unwrap_or_default();
    let mut labels = additions.labels.clone();
    labels.extend(labels::owned(&resource.name));
    labels.extend(match role {
        Role::Memory | Role::Spool(_) => labels::selector(&resource.name),
        Role::Drain(..) => labels::drain(&resource.name),
    });
    let mut template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: Some(match role {
                Role::Memory | Role::Spool(_) => {
                    opaque_ports::annotated(&additions.annotations, smtp_ports())
                }
                Role::Drain(..) => additions.annotations.clone(),
            }),
            ..ObjectMeta::default()
        }),
        spec: Some(spec(resource, additions, ipv6, role)),
    };
    if let Some(hash) = &references.hash {
        annotate(&mut template, labels::REFERENCES_HASH, hash.clone());
    }
    let hash = template_hash(&template);
    annotate(&mut template, labels::TEMPLATE_HASH, hash);
    template
}

fn spec(resource: &ValidatedMailLaser, additions: PodTemplate, ipv6: bool, role: Role<'_>) -> PodSpec {
    let (volumes, mut mounts): (Vec<_>, Vec<_>) = volumes::build(resource, role).into_iter().unzip();
    mounts.extend(additions.volume_mounts.iter().map(volumes::mounted));
    let volumes = volumes.into_iter().flatten().chain(additions.volumes.iter().map(volumes::further));
    // What a pod drains may be on one node alone, so it cannot keep a distance from others.
    let (affinity, constraints) = if role.takes_mail() {
        (spread::affinity(&additions, &resource.name), spread::constraints(&additions, &resource.name))
    } else {
        (of_nodes(additions.affinity), Vec::new())
    };
    PodSpec {
        service_account_name: Some(resource.name.clone()),
        service_account: Some(resource.name.clone()),
        automount_service_account_token: Some(false),
        // A Service named `mail-laser` would otherwise set variables that look like the daemon's.
        enable_service_links: Some(false),
        security_context: Some(security_context(&additions.security_context.unwrap_or_default(), role)),
        termination_grace_period_seconds: Some(
            if role.takes_mail() { PRE_STOP_SECONDS } else { 0 }
                + environment::SHUTDOWN_GRACE_SECONDS
                + KILL_MARGIN_SECONDS,
        ),
        image_pull_secrets: some(
            resource
                .spec
                .image_pull_secrets
                .iter()
                .map(|secret| LocalObjectReference { name: secret.name.clone() })
                .collect::<Vec<_>>(),
        ),
        containers: vec![container(resource, mounts, ipv6, role)],
        init_containers: some(additions.containers.iter().map(sidecar::build).collect::<Vec<_>>()),
        volumes: some(volumes.collect::<Vec<_>>()),
        node_selector: some(additions.node_selector),
        tolerations: some(additions.tolerations),
        affinity,
        topology_spread_constraints: some(constraints),
        priority_class_name: additions.priority_class_name,
        runtime_class_name: additions.runtime_class_name,
        // A Job counts pods that failed, and needs each to be one.
        restart_policy: Some(if role.takes_mail() { "Always" } else { "Never" }.to_owned()),
        dns_policy: Some("ClusterFirst".to_owned()),
        scheduler_name: Some("default-scheduler".to_owned()),
        ..PodSpec::default()
    }
}

/// What is said of nodes, without what is said of other pods: see the spread constraints.
fn of_nodes(affinity: Option<Affinity>) -> Option<Affinity> {
    let node_affinity = affinity?.node_affinity?;
    Some(Affinity { node_affinity: Some(node_affinity), ..Affinity::default() })
}

fn container(
    resource: &ValidatedMailLaser,
    mounts: Vec<VolumeMount>,
    ipv6: bool,
    role: Role<'_>,
) -> Container {
    let spec = &resource.spec;
    let takes_mail = role.takes_mail();
    Container {
        name: CONTAINER.to_owned(),
        image: Some(resource.image.clone()),
        image_pull_policy: Some(spec.image_pull_policy.as_str().to_owned()),
        args: (!takes_mail).then(|| ["spool", "drain"].map(str::to_owned).to_vec()),
        env: Some(environment::build(resource, ipv6, role.disk())),
        ports: takes_mail.then(|| ports(resource)),
        liveness_probe: takes_mail.then(|| probes::build((&spec.probes.liveness).into())),
        readiness_probe: takes_mail.then(|| probes::build((&spec.probes.readiness).into())),
        resources: Some(resources(&spec.resources)),
        volume_mounts: some(mounts),
        lifecycle: takes_mail.then(|| Lifecycle {
            pre_stop: Some(LifecycleHandler {
                sleep: Some(SleepAction { seconds: PRE_STOP_SECONDS }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        // What the daemon says before it exits becomes the message of a condition.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        termination_message_path: Some("/dev/termination-log".to_owned()),
        security_context: Some(sidecar::confined(&ContainerSecurityContext::default())),
        ..Container::default()
    }
}

/// CPU and memory of a container.
pub fn resources(resources: &Resources) -> ResourceRequirements {
    ResourceRequirements {
        limits: some(resources.limits.clone()),
        requests: some(resources.requests.clone()),
        ..ResourceRequirements::default()
    }
}

/// Who the containers are. What `restricted` demands is not open to choice.
fn security_context(chosen: &mail_laser_crds::PodSecurityContext, role: Role<'_>) -> PodSecurityContext {
    let profile = |profile: &Profile| (profile.type_.as_str().to_owned(), profile.localhost_profile.clone());
    let (seccomp, seccomp_localhost) =
        chosen.seccomp_profile.as_ref().map_or_else(|| ("RuntimeDefault".to_owned(), None), profile);
    let fs_group = chosen.fs_group.or(role.disk().map(|_| USER));
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(chosen.run_as_user.unwrap_or(USER)),
        run_as_group: Some(chosen.run_as_group.unwrap_or(USER)),
        supplemental_groups: some(chosen.supplemental_groups.clone()),
        fs_group,
        // A new volume is root's. Files are looked at every time, so that after a change of the user he may read what
        // the one before wrote; a spool has few.
        fs_group_change_policy: fs_group.map(|_| "Always".to_owned()),
        seccomp_profile: Some(SeccompProfile { type_: seccomp, localhost_profile: seccomp_localhost }),
        app_armor_profile: chosen.app_armor_profile.as_ref().map(|chosen| {
            let (type_, localhost_profile) = profile(chosen);
            AppArmorProfile { type_, localhost_profile }
        }),
        se_linux_options: chosen
            .se_linux_options
            .as_ref()
            .map(|options| SELinuxOptions { level: options.level.clone(), ..SELinuxOptions::default() }),
        ..PodSecurityContext::default()
    }
}

/// The ports that speak SMTP, used or not: pods need not be rolled to have Linkerd know them.
fn smtp_ports() -> impl Iterator<Item = i32> {
    [SMTP_PORT, SMTPS_PORT].into_iter()
}

fn ports(resource: &ValidatedMailLaser) -> Vec<ContainerPort> {
    let smtps = resource.spec.tls.smtps_port.map(|_| (SMTPS_PORT_NAME, SMTPS_PORT));
    [(SMTP_PORT_NAME, SMTP_PORT), (HEALTH_PORT_NAME, HEALTH_PORT), (METRICS_PORT_NAME, METRICS_PORT)]
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

/// The image in a template.
pub fn image(template: &PodTemplateSpec) -> Option<&str> {
    let containers = &template.spec.as_ref()?.containers;
    containers.iter().find(|container| container.name == CONTAINER)?.image.as_deref()
}

/// The hash of a template; see [`labels::TEMPLATE_HASH`].
pub fn hash(template: &PodTemplateSpec) -> Option<&str> {
    let annotations: &BTreeMap<_, _> = template.metadata.as_ref()?.annotations.as_ref()?;
    annotations.get(labels::TEMPLATE_HASH).map(String::as_str)
}
