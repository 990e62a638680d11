//! What is measured: MailLaser's operator, and one that is widely used.

use anyhow::bail;
use http::Request;
use kube::Client;
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::variable;

/// Namespaces that the resources are spread over.
const NAMESPACES: usize = 10;
/// Where the simulated nodes let pods in.
const NODES: &str = "scale";

/// An operator, and what its resources are like.
pub(crate) struct Subject {
    name: &'static str,
    collection: &'static str,
    owned: &'static [Owned],
    resource: fn(&str) -> Value,
    change: fn() -> Value,
    /// The sum of these counts reconciliations.
    pub(crate) reconciliations: &'static str,
}

/// A kind that there is an object of for each resource.
pub(crate) struct Owned {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    /// What its name has around that of the resource.
    around: [&'static str; 2],
}

impl Owned {
    pub(crate) fn resource(&self) -> ApiResource {
        ApiResource::from_gvk(&GroupVersionKind::gvk(self.group, self.version, self.kind))
    }

    /// The name of the object of a resource.
    pub(crate) fn name(&self, resource: &str) -> String {
        let [before, after] = self.around;
        format!("{before}{resource}{after}")
    }

    /// The number of the resource that an object is of.
    pub(crate) fn index(&self, name: &str) -> Option<usize> {
        let [before, after] = self.around;
        name.strip_prefix(before)?.strip_suffix(after)?.strip_prefix('r')?.parse().ok()
    }
}

const fn owned(group: &'static str, kind: &'static str, around: [&'static str; 2]) -> Owned {
    Owned { group, version: "v1", kind, around }
}

const MAIL_LASER: Subject = Subject {
    name: "mail-laser",
    collection: "/apis/mail-laser.dev/v1alpha1/namespaces/{}/maillasers",
    // The last is what a change is seen by.
    owned: &[
        owned("", "ServiceAccount", ["", ""]),
        owned("", "Service", ["", ""]),
        owned("apps", "Deployment", ["", ""]),
    ],
    resource: mail_laser,
    change: || json!({"spec": {"webhook": {"timeoutSeconds": 31}}}),
    reconciliations: "mail_laser_operator_reconciliations_total",
};

const PROMETHEUS: Subject = Subject {
    name: "prometheus",
    collection: "/apis/monitoring.coreos.com/v1/namespaces/{}/alertmanagers",
    owned: &[
        owned("", "Secret", ["alertmanager-", "-generated"]),
        owned("apps", "StatefulSet", ["alertmanager-", ""]),
    ],
    resource: alertmanager,
    change: || json!({"spec": {"retention": "121h"}}),
    reconciliations: "prometheus_operator_reconcile_operations_total",
};

fn mail_laser(name: &str) -> Value {
    json!({
        "apiVersion": "mail-laser.dev/v1alpha1",
        "kind": "MailLaser",
        "metadata": {"name": name},
        "spec": {
            "targetEmails": [format!("{name}@example.com")],
            "webhook": {"url": "https://api.example.com/inbound"},
            "podTemplate": {"nodeSelector": {"mail-laser.dev/bench": NODES}},
        },
    })
}

fn alertmanager(name: &str) -> Value {
    json!({
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "Alertmanager",
        "metadata": {"name": name},
        "spec": {"replicas": 1, "retention": "120h", "nodeSelector": {"mail-laser.dev/bench": NODES}},
    })
}

/// The name of a resource.
pub(crate) fn name(index: usize) -> String {
    format!("r{index}")
}

/// The namespace of a resource.
pub(crate) fn namespace(index: usize) -> String {
    format!("scale-{}", index % NAMESPACES)
}

impl Subject {
    pub(crate) fn named(name: &str) -> anyhow::Result<Self> {
        match name {
            "mail-laser" => Ok(MAIL_LASER),
            "prometheus" => Ok(PROMETHEUS),
            other => bail!("nothing is called {other}: there are mail-laser and prometheus"),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn owned(&self) -> &'static [Owned] {
        self.owned
    }

    pub(crate) async fn create(&self, client: &Client, namespace: &str, name: &str) -> anyhow::Result<()> {
        let path = self.collection.replace("{}", namespace);
        let request = Request::post(path).header("content-type", "application/json");
        client.request_text(request.body(serde_json::to_vec(&(self.resource)(name))?)?).await?;
        Ok(())
    }

    pub(crate) async fn change(&self, client: &Client, index: usize) -> anyhow::Result<()> {
        let path = format!("{}/{}", self.collection.replace("{}", &namespace(index)), name(index));
        let request = Request::patch(path).header("content-type", "application/merge-patch+json");
        client.request_text(request.body(serde_json::to_vec(&(self.change)())?)?).await?;
        Ok(())
    }

    /// How it is started; it serves its metrics at `address`.
    pub(crate) fn command(&self, address: &str) -> anyhow::Result<Command> {
        let mut command = Command::new(variable("SCALE_OPERATOR")?);
        command.env("KUBECONFIG", variable("SCALE_OPERATOR_KUBECONFIG")?);
        if self.name == MAIL_LASER.name {
            command.args(["--bind-address", address, "--lease-namespace", "mail-laser-system"]);
        } else {
            command.arg(format!("--web.listen-address={address}"));
        }
        Ok(command)
    }
}
