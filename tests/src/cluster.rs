//! The cluster under test, and what disturbs it as a whole.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{Metrics, Reach, wait_for};

/// Where the operator is.
pub const OPERATOR_NAMESPACE: &str = "mail-laser-system";
/// Where a test may install an operator of its own. The audit log has its requests, too.
pub const SECOND_OPERATOR_NAMESPACE: &str = "mail-laser-second";
const LEASE: &str = "mail-laser-operator";

/// A write of an operator that reached the API server, whatever it answered.
#[derive(Clone, Debug)]
pub struct OperatorWrite {
    /// The pod of the operator.
    pub pod: String,
    /// When it reached the API server, by its clock.
    pub at: Timestamp,
    /// Its verb and path.
    pub what: String,
}

/// A connection to the cluster.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    is_ours: bool,
}

/// The root of the repository.
#[must_use]
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"))
}

impl Cluster {
    /// Connects to the test cluster, or with `CLUSTER=current` to that of kubectl's current context.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn connect() -> anyhow::Result<Self> {
        crate::init_crypto();
        let is_ours = env::var("CLUSTER").is_err();
        let config = if is_ours { ours().await? } else { current().await? };
        let client = Client::try_from(config)?;
        client
            .apiserver_version()
            .await
            .context("the cluster does not answer: start it with `make cluster-up`")?;
        Ok(Self { client, is_ours })
    }

    /// The client.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Whether it is the cluster of `tests/cluster`, whose processes a test may stop and kill.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.is_ours
    }

    /// Runs a command of `tests/cluster/cluster`, and returns what it printed.
    ///
    /// # Errors
    /// When it fails, or the cluster is not ours.
    pub async fn script(&self, arguments: &[&str]) -> anyhow::Result<String> {
        ensure!(self.is_ours, "this needs the test cluster: its processes are the test's to touch");
        let script = repository().join("tests/cluster/cluster");
        let output = Command::new(&script)
            .args(arguments)
            .output()
            .await
            .context("the cluster script does not start")?;
        if !output.status.success() {
            bail!("cluster {} failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// Sends a signal to the main process of a pod's first container, past the kubelet.
    ///
    /// # Errors
    /// When there is no such process.
    pub async fn signal(&self, namespace: &str, pod: &str, signal: &str) -> anyhow::Result<()> {
        let process = self.script(&["pid", namespace, pod]).await?;
        let status = Command::new("kill").args(["-s", signal, &process]).status().await?;
        ensure!(status.success(), "kill -s {signal} {process} failed");
        Ok(())
    }

    /// Sends a signal to a process of the node, such as `apiserver`.
    ///
    /// # Errors
    /// When there is no such process, or the cluster is not ours.
    pub async fn signal_component(&self, name: &str, signal: &str) -> anyhow::Result<()> {
        ensure!(self.is_ours, "this needs the test cluster: its processes are the test's to touch");
        let file = tokio::fs::read_to_string(state()?.join("run").join(format!("{name}.pid"))).await?;
        let process = file.split_whitespace().next().context("an empty file")?;
        let status = Command::new("kill").args(["-s", signal, process]).status().await?;
        ensure!(status.success(), "kill -s {signal} {process} failed");
        Ok(())
    }

    /// What the API server counts of itself.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn api_server_metrics(&self) -> anyhow::Result<Metrics> {
        let request = http::Request::get("/metrics").body(Vec::new())?;
        Ok(Metrics::parse(&self.client.request_text(request).await?))
    }

    /// The pods of the operator that are to stay.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn operator_pods(&self) -> anyhow::Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::namespaced(self.client(), OPERATOR_NAMESPACE);
        let pods = pods.list(&ListParams::default()).await?;
        Ok(pods.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect())
    }

    /// The name of the operator's pod that has the Lease; empty when none has.
    ///
    /// # Errors
    /// When there is no Lease.
    pub async fn leader(&self) -> anyhow::Result<String> {
        let leases: Api<Lease> = Api::namespaced(self.client(), OPERATOR_NAMESPACE);
        let holder = leases.get(LEASE).await?.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
        Ok(holder.rsplit_once('_').map(|(name, _)| name.to_owned()).unwrap_or_default())
    }

    /// The pod of the operator that leads.
    ///
    /// # Errors
    /// When none leads that is ready.
    pub async fn operator_pod(&self) -> anyhow::Result<Pod> {
        let holder = self.leader().await?;
        let leads = |pod: &Pod| pod.name_any() == holder && crate::env::is_ready(pod);
        let pods = self.operator_pods().await?;
        pods.into_iter()
            .find(leads)
            .with_context(|| format!("the Lease is of {holder:?}, which is not ready"))
    }

    /// The operator's last lines.
    pub async fn operator_log(&self, lines: i64) -> String {
        let pods: Api<Pod> = Api::namespaced(self.client(), OPERATOR_NAMESPACE);
        let mut text = String::new();
        for pod in pods.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default() {
            text += &crate::env::tail(&pods, pod.metadata.name.as_deref().unwrap_or_default(), lines).await;
        }
        text
    }

    /// What a pod of the operator counts of itself.
    ///
    /// # Errors
    /// When it has no port `admin`, or does not answer.
    pub async fn operator_metrics(&self, pod: &Pod) -> anyhow::Result<Metrics> {
        scrape(&self.reach_operator(pod).await?).await
    }

    /// Asks a pod of the operator what its kubelet asks to know whether it is stuck.
    ///
    /// # Errors
    /// When it is, or does not answer.
    pub async fn operator_is_live(&self, pod: &Pod) -> anyhow::Result<()> {
        get(&self.reach_operator(pod).await?, "/healthz").await?;
        Ok(())
    }

    async fn reach_operator(&self, pod: &Pod) -> anyhow::Result<Reach> {
        let spec = pod.spec.as_ref().context("a pod without spec")?;
        let ports = spec.containers.iter().filter_map(|container| container.ports.as_ref()).flatten();
        let port = ports.into_iter().find(|port| port.name.as_deref() == Some("admin"));
        let port = port.context("the operator's pod has no port named admin")?.container_port;
        self.reach_pod(pod, u16::try_from(port)?).await
    }

    /// Kills the pod of the operator that leads, and waits until another leads.
    ///
    /// # Errors
    /// When none does in time.
    pub async fn restart_operator(&self) -> anyhow::Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.client(), OPERATOR_NAMESPACE);
        let old = self.operator_pod().await?.metadata.name.context("a pod without name")?;
        pods.delete(&old, &DeleteParams::default().grace_period(0)).await?;
        self.operator_is_ready().await
    }

    /// Kills the process of the operator that leads, as a lack of memory would. Its pod is replaced, lest the kubelet
    /// waits longer each time before it starts it again. With `release` the Lease is given back, which is safe when
    /// its holder is dead; without it, the others wait until it ends.
    ///
    /// # Errors
    /// When none leads, or the cluster is not ours.
    pub async fn kill_operator(&self, release: bool) -> anyhow::Result<()> {
        let pod = self.operator_pod().await?.name_any();
        self.signal(OPERATOR_NAMESPACE, &pod, "KILL").await?;
        let pods: Api<Pod> = Api::namespaced(self.client(), OPERATOR_NAMESPACE);
        pods.delete(&pod, &DeleteParams::default().grace_period(0)).await?;
        let leases: Api<Lease> = Api::namespaced(self.client(), OPERATOR_NAMESPACE);
        let lease = leases.get(LEASE).await?;
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
        if release && holder.is_some_and(|holder| holder.starts_with(&format!("{pod}_"))) {
            let nobody = json!({
                "metadata": {"resourceVersion": lease.metadata.resource_version},
                "spec": {"holderIdentity": "", "leaseDurationSeconds": 1},
            });
            leases.patch(LEASE, &PatchParams::default(), &Patch::Merge(nobody)).await?;
        }
        Ok(())
    }

    /// Deletes a pod of the operator, which is told to stop, and does not wait for its end.
    ///
    /// # Errors
    /// When there is no such pod.
    pub async fn delete_operator(&self, pod: &Pod) -> anyhow::Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.client(), OPERATOR_NAMESPACE);
        pods.delete(&pod.name_any(), &DeleteParams::default()).await?;
        Ok(())
    }

    /// Deletes what says which operator leads.
    ///
    /// # Errors
    /// When it cannot be deleted.
    pub async fn delete_lease(&self) -> anyhow::Result<()> {
        let leases: Api<Lease> = Api::namespaced(self.client(), OPERATOR_NAMESPACE);
        leases.delete(LEASE, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Waits until an operator leads and is ready.
    ///
    /// # Errors
    /// When it does not.
    pub async fn operator_is_ready(&self) -> anyhow::Result<()> {
        wait_for("the operator", Duration::from_secs(90), || self.operator_pod()).await?;
        Ok(())
    }

    /// Every request of the operator but those about its Lease and the watches, as the audit log has them.
    ///
    /// # Errors
    /// When the log cannot be read. A cluster that is not ours has none: empty.
    pub async fn operator_requests(&self) -> anyhow::Result<Vec<String>> {
        let requests = self.audit().await?.into_iter().filter(|request| request["verb"] != "watch");
        Ok(requests.map(|request| format!("{} {}", request["verb"], request["requestURI"])).collect())
    }

    /// Every write of the operators but those of their Lease, as the audit log has them.
    ///
    /// # Errors
    /// When the log cannot be read. A cluster that is not ours has none: empty.
    pub async fn operator_writes(&self) -> anyhow::Result<Vec<OperatorWrite>> {
        const WRITES: [&str; 5] = ["create", "update", "patch", "delete", "deletecollection"];
        let audit = self.audit().await?;
        let writes = audit
            .iter()
            .filter(|request| request["verb"].as_str().is_some_and(|verb| WRITES.contains(&verb)));
        writes
            .map(|request| {
                let pod = &request["user"]["extra"]["authentication.kubernetes.io/pod-name"][0];
                Ok(OperatorWrite {
                    pod: pod.as_str().context("a write of no pod")?.to_owned(),
                    at: request["requestReceivedTimestamp"]
                        .as_str()
                        .context("a write at no time")?
                        .parse()?,
                    what: format!("{} {}", request["verb"], request["requestURI"]),
                })
            })
            .collect()
    }

    /// The operators' requests, those about their Lease left out.
    async fn audit(&self) -> anyhow::Result<Vec<Value>> {
        let requests = self.requests_from(OPERATOR_NAMESPACE).await?.into_iter();
        Ok(requests.filter(|request| request["objectRef"]["resource"] != "leases").collect())
    }

    /// Every request from the pods of a namespace, as the audit log has them; it has those of operators alone.
    ///
    /// # Errors
    /// When the log cannot be read. A cluster that is not ours has none: empty.
    pub async fn requests_from(&self, namespace: &str) -> anyhow::Result<Vec<Value>> {
        if !self.is_ours {
            return Ok(Vec::new());
        }
        let log = tokio::fs::read_to_string(state()?.join("log/audit.log")).await.context("no audit log")?;
        let requests = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let account = format!("system:serviceaccount:{namespace}:mail-laser-operator");
        Ok(requests.filter(|request| request["user"]["username"] == account.as_str()).collect())
    }

    /// The namespaces of tests, those that are being deleted among them.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn test_namespaces(&self) -> anyhow::Result<Vec<String>> {
        let namespaces: Api<Namespace> = Api::all(self.client());
        let list = namespaces.list(&ListParams::default().labels("mail-laser.dev/e2e")).await?;
        Ok(list.items.into_iter().filter_map(|namespace| namespace.metadata.name).collect())
    }

    /// A way to a port of a pod.
    ///
    /// # Errors
    /// When the pod has no address yet.
    pub async fn reach_pod(&self, pod: &Pod, port: u16) -> anyhow::Result<Reach> {
        if self.is_ours {
            let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
            return Reach::direct(ip.context("the pod has no address yet")?, port);
        }
        let (namespace, name) = (pod.metadata.namespace.as_deref(), pod.metadata.name.as_deref());
        Reach::forward(namespace.unwrap_or_default(), &format!("pod/{}", name.unwrap_or_default()), port)
            .await
    }
}

/// `GET /metrics`.
pub(crate) async fn scrape(reach: &Reach) -> anyhow::Result<Metrics> {
    Ok(Metrics::parse(&get(reach, "/metrics").await?))
}

async fn get(reach: &Reach, path: &str) -> anyhow::Result<String> {
    crate::init_crypto();
    let url = format!("http://{}{path}", reach.address());
    let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
    Ok(client.get(url).send().await?.error_for_status()?.text().await?)
}

async fn ours() -> anyhow::Result<Config> {
    let path = state()?.join("admin.kubeconfig");
    let file = Kubeconfig::read_from(&path)
        .context("the test cluster does not run: start it with `make cluster-up`")?;
    Ok(Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?)
}

/// Where `tests/cluster/cluster` keeps the running node.
pub(crate) fn state() -> anyhow::Result<PathBuf> {
    let folder = match env::var_os("CLUSTER_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => cache_directory()?.join("mail-laser-cluster"),
    };
    Ok(folder.join("state"))
}

fn cache_directory() -> anyhow::Result<PathBuf> {
    match env::var_os("XDG_CACHE_HOME") {
        Some(cache) => Ok(PathBuf::from(cache)),
        None => Ok(PathBuf::from(env::var_os("HOME").context("HOME is not set")?).join(".cache")),
    }
}

/// Tests delete namespaces and restart things: only with the context's name as a yes.
async fn current() -> anyhow::Result<Config> {
    let file = Kubeconfig::read()?;
    let context = file.current_context.clone().context("kubectl has no current context")?;
    ensure!(
        env::var("CLUSTER_CONFIRM").is_ok_and(|confirmed| confirmed == context),
        "CLUSTER=current: set CLUSTER_CONFIRM={context} to let the tests change that cluster"
    );
    Ok(Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?)
}
