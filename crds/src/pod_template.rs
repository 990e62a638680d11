//! What of the pods is open to choice.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Toleration, TopologySpreadConstraint};
use kube::KubeSchema;
use kube::core::Rule;
use serde::{Deserialize, Serialize};

use crate::reserved;
use crate::security::PodSecurityContext;
use crate::sidecar::Sidecar;
use crate::volume::{Volume, VolumeMount};

/// Additions to the pods. Service account, host namespaces, directories of the node and privileges are not
/// open to choice: pods satisfy the Pod Security Standard `restricted`.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[x_kube(
    validation = Rule::new("!has(self.volumeMounts) || self.volumeMounts.all(m, has(self.volumes) && self.volumes.exists(v, v.name == m.name))")
        .message("podTemplate.volumeMounts must name volumes of podTemplate.volumes"),
    validation = Rule::new("!has(self.containers) || self.containers.all(c, !has(c.volumeMounts) || c.volumeMounts.all(m, has(self.volumes) && self.volumes.exists(v, v.name == m.name)))")
        .message("podTemplate.containers[].volumeMounts must name volumes of podTemplate.volumes")
)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// Labels of the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(
        validation = Rule::new("self.all(key, !key.startsWith('mail-laser.dev/') && !(key in ['app.kubernetes.io/name', 'app.kubernetes.io/instance', 'app.kubernetes.io/managed-by']))")
            .message("podTemplate.labels must not have the operator's own labels: mail-laser.dev/*, app.kubernetes.io/name, app.kubernetes.io/instance, app.kubernetes.io/managed-by")
    )]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(
        validation = Rule::new("self.all(key, !key.startsWith('mail-laser.dev/'))")
            .message("podTemplate.annotations must not have the operator's own annotations: mail-laser.dev/*"),
        validation = Rule::new("self.all(key, !key.startsWith('container.apparmor.security.beta.kubernetes.io/') && !key.startsWith('container.seccomp.security.alpha.kubernetes.io/') && key != 'seccomp.security.alpha.kubernetes.io/pod')")
            .message("podTemplate.annotations must not loosen the pods' confinement: no AppArmor and no seccomp annotations")
    )]
    pub annotations: BTreeMap<String, String>,
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that the pods tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub tolerations: Vec<Toleration>,
    /// Rules for the choice of nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// How the pods spread over nodes and zones; by default over nodes, and zones, as well as it can be done. A
    /// constraint without a `labelSelector` counts the pods of this resource.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Priority class of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// Runtime class of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub runtime_class_name: Option<String>,
    /// Who the containers are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<PodSecurityContext>,
    /// Further volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]), validation = volumes_rule())]
    pub volumes: Vec<Volume>,
    /// Which of these volumes the daemon's container sees, and where.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["mountPath".to_owned()]), validation = mounts_rule())]
    pub volume_mounts: Vec<VolumeMount>,
    /// Containers beside the daemon's. They are started before it and stopped after it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]), validation = containers_rule())]
    pub containers: Vec<Sidecar>,
}

fn volumes_rule() -> Rule {
    let names = reserved::VOLUMES;
    Rule::new(format!("!self.exists(v, {})", reserved::condition(names, "v.name"))).message(
        format!("podTemplate.volumes must not have names of the operator's: {}", names.join(", ")).as_str(),
    )
}

fn containers_rule() -> Rule {
    let names = reserved::CONTAINERS;
    Rule::new(format!("!self.exists(c, {})", reserved::condition(names, "c.name"))).message(
        format!("podTemplate.containers must not have names of the operator's: {}", names.join(", "))
            .as_str(),
    )
}

fn mounts_rule() -> Rule {
    let detours = "(m.mountPath + '/').contains('/../') || (m.mountPath + '/').contains('/./')";
    Rule::new(format!("!self.exists(m, {detours} || {})", reserved::hides_condition("m.mountPath"))).message(
        format!(
            "podTemplate.volumeMounts must have plain paths and leave alone what is the daemon's, and what is above: {}",
            reserved::PATHS.join(", ")
        )
        .as_str(),
    )
}

impl PodTemplate {
    /// The first name, port or path that is the operator's, and the field that it is in. The schema refuses the same;
    /// this is for resources that are older than it.
    pub fn clash(&self) -> Option<(&'static str, String)> {
        let is_known = |mount: &VolumeMount| self.volumes.iter().any(|volume| volume.name == mount.name);
        let volume = self.volumes.iter().find(|volume| reserved::contains(reserved::VOLUMES, &volume.name));
        let claims = self.volumes.iter().filter_map(|volume| volume.persistent_volume_claim.as_ref());
        let mut claims = claims.map(|claim| &claim.claim_name);
        let mount = |mount: &&VolumeMount| {
            let is_detour = mount.mount_path.split('/').any(|part| matches!(part, "." | ".."));
            is_detour || reserved::hides(&mount.mount_path)
        };
        let mounts = self.containers.iter().flat_map(|container| &container.volume_mounts);
        let container = self
            .containers
            .iter()
            .find(|container| reserved::contains(reserved::CONTAINERS, &container.name));
        let mut ports = self.containers.iter().flat_map(|container| &container.ports);
        let is_taken = |name: &String| reserved::contains(reserved::PORT_NAMES, name);
        [
            ("volumes", volume.map(|volume| volume.name.clone())),
            ("volumes", claims.find(|claim| reserved::contains(reserved::CLAIMS, claim)).cloned()),
            ("volumeMounts", self.volume_mounts.iter().find(mount).map(|mount| mount.mount_path.clone())),
            (
                "volumeMounts",
                self.volume_mounts.iter().chain(mounts).find(|it| !is_known(it)).map(|it| it.name.clone()),
            ),
            ("containers", container.map(|container| container.name.clone())),
            (
                "containers",
                ports
                    .find(|port| {
                        reserved::PORTS.contains(&port.container_port)
                            || port.name.as_ref().is_some_and(is_taken)
                    })
                    .map(|port| format!("port {}", port.container_port)),
            ),
        ]
        .into_iter()
        .find_map(|(field, found)| Some((field, found?)))
    }
}
