//! A test's namespace, and what tests do in one.

mod report;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use kube::api::{
    DeleteParams, DynamicObject, EvictParams, ListParams, LogParams, Patch, PatchParams, PostParams, TypeMeta,
};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Resource, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::RwLock;

use crate::manifests::from_registry;
use crate::{Cluster, Metrics, Reach, Webhook, documents, receiver_manifest, wait_for};

/// A few tests disturb all others, by restarting the API server for instance: they hold it alone.
static CLUSTER: RwLock<()> = RwLock::const_new(());

/// No test takes so long; one that hangs is ended, reported and cleaned up after.
const TEST_LIMIT: Duration = Duration::from_secs(600);

/// Pulling nothing, a pod is up within seconds; the machine may be busy.
const READY_LIMIT: Duration = Duration::from_secs(120);

const MANAGER: &str = "mail-laser-e2e";

/// A namespace of the test's own. Clones are the same namespace.
#[derive(Clone)]
pub struct Env {
    cluster: Cluster,
    namespace: Arc<str>,
}

/// One condition of a status.
#[derive(Clone, Debug)]
pub struct Condition {
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, in one word.
    pub reason: String,
    /// Why, in words.
    pub message: String,
}

/// Runs a test in a namespace of its own, beside others.
///
/// # Errors
/// What the test ends with.
pub async fn in_namespace<F, T>(name: &str, test: T) -> anyhow::Result<()>
where
    T: FnOnce(Env) -> F,
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let _shared = CLUSTER.read().await;
    run(name, TEST_LIMIT, test).await
}

/// Runs a test that disturbs others, while no other runs.
///
/// # Errors
/// What the test ends with.
pub async fn alone_in_namespace<F, T>(name: &str, test: T) -> anyhow::Result<()>
where
    T: FnOnce(Env) -> F,
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    alone_for_longer(name, Duration::ZERO, test).await
}

/// The same, for a test that takes this much longer than others may.
///
/// # Errors
/// What the test ends with.
pub async fn alone_for_longer<F, T>(name: &str, longer: Duration, test: T) -> anyhow::Result<()>
where
    T: FnOnce(Env) -> F,
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let _exclusive = CLUSTER.write().await;
    run(name, TEST_LIMIT + longer, test).await
}

/// Runs a part of a test in a further namespace.
///
/// # Errors
/// What the part ends with.
pub async fn in_another_namespace<F, T>(name: &str, part: T) -> anyhow::Result<()>
where
    T: FnOnce(Env) -> F,
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    run(name, TEST_LIMIT, part).await
}

async fn run<F, T>(name: &str, limit: Duration, test: T) -> anyhow::Result<()>
where
    T: FnOnce(Env) -> F,
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let start = Instant::now();
    let env = Env::create(name).await?;
    // A task of its own: after a panic, too, there is a report and a cleanup.
    let mut task = tokio::spawn(test(env.clone()));
    let outcome = match tokio::time::timeout(limit, &mut task).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panic)) => Err(anyhow!("{panic}")),
        Err(_) => {
            // What it would go on doing is in the way of the tests that come next.
            task.abort();
            Err(anyhow!("it did not end within {limit:?}"))
        }
    };
    let verdict = if outcome.is_ok() { "passed" } else { "FAILED" };
    println!("{name}: {verdict} in {:.1} s", start.elapsed().as_secs_f32());
    if outcome.is_err() {
        println!("{}", report::of(&env).await);
    }
    if outcome.is_err() && std::env::var_os("KEEP").is_some() {
        println!("kept for a look: the namespace {}", env.namespace);
    } else {
        env.remove().await?;
    }
    outcome.with_context(|| format!("in the namespace {}", env.namespace))
}

impl Env {
    async fn create(name: &str) -> anyhow::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let cluster = Cluster::connect().await?;
        // Unique beside what an earlier run left.
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("e2e-{name}-{}-{number}", std::process::id());
        let object = serde_json::from_value(json!({
            "metadata": {
                "name": namespace,
                "labels": {
                    "mail-laser.dev/e2e": "true",
                    "pod-security.kubernetes.io/enforce": "restricted",
                },
            },
        }))?;
        let namespaces: Api<Namespace> = Api::all(cluster.client());
        namespaces.create(&PostParams::default(), &object).await.context("no namespace for the test")?;
        Ok(Self { cluster, namespace: namespace.into() })
    }

    /// Does not wait for the end: the next test has another namespace.
    async fn remove(&self) -> anyhow::Result<()> {
        // The grace of a daemon's pod is half a minute, which nobody needs here.
        let pods: Api<Pod> = Api::namespaced(self.cluster.client(), &self.namespace);
        let namespaces: Api<Namespace> = Api::all(self.cluster.client());
        namespaces.delete(&self.namespace, &DeleteParams::background()).await?;
        pods.delete_collection(&DeleteParams::default().grace_period(0), &ListParams::default()).await?;
        if self.cluster.is_ours() {
            self.remove_volumes().await?;
        }
        Ok(())
    }

    /// The cluster that it is in.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Its name.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Applies YAML documents, server-side. Says what the API server says when it refuses one.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn apply(&self, yaml: &str) -> anyhow::Result<()> {
        for document in documents(&from_registry(yaml))? {
            let mut object: DynamicObject = serde_json::from_value(document)?;
            // A sample may name one; a test has its own.
            object.metadata.namespace = None;
            let types = object.types.clone().context("a manifest without kind")?;
            let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(&types)?);
            let name = object.name_any();
            let api: Api<DynamicObject> =
                Api::namespaced_with(self.cluster.client(), &self.namespace, &resource);
            let parameters = PatchParams::apply(MANAGER).force();
            api.patch(&name, &parameters, &Patch::Apply(&object))
                .await
                .with_context(|| format!("{} {name} was not applied", types.kind))?;
        }
        Ok(())
    }

    /// Has the API server look at a document, as `kubectl create --dry-run=server` does: it is strict about unknown
    /// fields, and nothing is kept.
    ///
    /// # Errors
    /// When it refuses: with what it says.
    pub async fn dry_run(&self, mut document: Value) -> anyhow::Result<()> {
        document["metadata"]["namespace"] = self.namespace().into();
        let types: TypeMeta = serde_json::from_value(document.clone())?;
        let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(&types)?);
        let collection = DynamicObject::url_path(&resource, Some(self.namespace()));
        let path = format!("{collection}?dryRun=All&fieldValidation=Strict");
        let request = http::Request::post(path)
            .header("content-type", "application/json")
            .body(serde_json::to_vec(&document)?)?;
        self.cluster.client().request_text(request).await?;
        Ok(())
    }

    /// The objects of a kind. Knows the kinds that tests look at.
    ///
    /// # Errors
    /// For a kind that it does not know.
    pub fn objects(&self, kind: &str) -> anyhow::Result<Api<DynamicObject>> {
        let (group, version) = match kind {
            "ConfigMap"
            | "Event"
            | "PersistentVolumeClaim"
            | "Pod"
            | "Secret"
            | "Service"
            | "ServiceAccount" => ("", "v1"),
            "Deployment" | "ReplicaSet" | "StatefulSet" => ("apps", "v1"),
            "HorizontalPodAutoscaler" => ("autoscaling", "v2"),
            "Job" => ("batch", "v1"),
            "MailLaser" | "MailRoute" => ("mail-laser.dev", "v1alpha1"),
            "PodMonitor" | "PrometheusRule" => ("monitoring.coreos.com", "v1"),
            "NetworkPolicy" => ("networking.k8s.io", "v1"),
            "PodDisruptionBudget" => ("policy", "v1"),
            _ => bail!("the harness knows no {kind}: add it here"),
        };
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Ok(Api::namespaced_with(self.cluster.client(), &self.namespace, &resource))
    }

    /// One object, as JSON.
    ///
    /// # Errors
    /// When there is none.
    pub async fn get(&self, kind: &str, name: &str) -> anyhow::Result<Value> {
        let object = self.objects(kind)?.get(name).await.with_context(|| format!("{kind} {name}"))?;
        Ok(serde_json::to_value(object)?)
    }

    /// Changes an object as `kubectl patch --type=merge` does.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn patch(&self, kind: &str, name: &str, change: Value) -> anyhow::Result<()> {
        let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        self.objects(kind)?
            .patch(name, &parameters, &Patch::Merge(change))
            .await
            .with_context(|| format!("{kind} {name} was not changed"))?;
        Ok(())
    }

    /// Changes the number of replicas as `kubectl scale` does.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn scale(&self, name: &str, replicas: u32) -> anyhow::Result<()> {
        let change = json!({"spec": {"replicas": replicas}});
        self.objects("MailLaser")?
            .patch_scale(name, &PatchParams::default(), &Patch::Merge(change))
            .await
            .context("the scale subresource was not changed")?;
        Ok(())
    }

    /// Deletes an object, and lets the garbage collector take what it owns.
    ///
    /// # Errors
    /// When there is none.
    pub async fn delete(&self, kind: &str, name: &str) -> anyhow::Result<()> {
        self.objects(kind)?.delete(name, &DeleteParams::background()).await?;
        Ok(())
    }

    /// A condition of a `MailLaser`, if it is about the resource as it is now.
    ///
    /// # Errors
    /// When there is none, or the operator has not seen the latest change.
    pub async fn condition(&self, name: &str, kind: &str) -> anyhow::Result<Condition> {
        let resource = self.get("MailLaser", name).await?;
        let (generation, observed) =
            (&resource["metadata"]["generation"], &resource["status"]["observedGeneration"]);
        ensure!(generation == observed, "observedGeneration is {observed}, generation {generation}");
        let conditions = resource["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let text = |condition: &Value, field: &str| condition[field].as_str().unwrap_or_default().to_owned();
        conditions
            .iter()
            .find(|condition| condition["type"] == kind)
            .map(|condition| Condition {
                status: text(condition, "status"),
                reason: text(condition, "reason"),
                message: text(condition, "message"),
            })
            .with_context(|| format!("no condition {kind} among {conditions:?}"))
    }

    /// Waits until a condition has a status, and with `reason` that reason.
    ///
    /// # Errors
    /// When it has not in time.
    pub async fn wait_condition(
        &self,
        name: &str,
        kind: &str,
        status: &str,
        reason: Option<&str>,
    ) -> anyhow::Result<Condition> {
        let what = format!("{kind}={status} {} of {name}", reason.unwrap_or_default());
        wait_for(&what, READY_LIMIT, || async {
            let condition = self.condition(name, kind).await?;
            let fits = condition.status == status && reason.is_none_or(|reason| condition.reason == reason);
            ensure!(fits, "{condition:?}");
            Ok(condition)
        })
        .await
    }

    /// Waits until the operator has seen a resource as it is now, whatever it makes of it.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn wait_observed(&self, name: &str) -> anyhow::Result<()> {
        wait_for(&format!("the operator to see {name}"), READY_LIMIT, || self.condition(name, "Ready"))
            .await?;
        Ok(())
    }

    /// Waits for `Ready=True` of the resource as it is now.
    ///
    /// # Errors
    /// When it does not become ready in time.
    pub async fn wait_ready(&self, name: &str) -> anyhow::Result<()> {
        self.wait_condition(name, "Ready", "True", None).await?;
        Ok(())
    }

    /// Waits until an object is gone.
    ///
    /// # Errors
    /// When it stays.
    pub async fn wait_gone(&self, kind: &str, name: &str) -> anyhow::Result<()> {
        wait_for(&format!("the end of {kind} {name}"), READY_LIMIT, || async {
            match self.objects(kind)?.get_opt(name).await? {
                None => Ok(()),
                Some(_) => bail!("it is there"),
            }
        })
        .await
    }

    /// The pods of a `MailLaser` that are not on their way out.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn pods(&self, name: &str) -> anyhow::Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::namespaced(self.cluster.client(), &self.namespace);
        let list = pods.list(&ListParams::default().labels(&format!("mail-laser.dev/name={name}"))).await?;
        Ok(list.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect())
    }

    /// Evicts a pod, as a drain of its node does.
    ///
    /// # Errors
    /// When its budget does not permit it now.
    pub async fn evict(&self, pod: &str) -> anyhow::Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.cluster.client(), &self.namespace);
        pods.evict(pod, &EvictParams::default()).await.with_context(|| format!("{pod} was not evicted"))?;
        Ok(())
    }

    /// The only pod of a `MailLaser`.
    ///
    /// # Errors
    /// When it has none, or several.
    pub async fn pod(&self, name: &str) -> anyhow::Result<Pod> {
        let mut pods = self.pods(name).await?;
        ensure!(pods.len() == 1, "{name} has {} pods instead of one", pods.len());
        pods.pop().context("no pod")
    }

    /// What a command in a pod prints, as `kubectl exec` runs it.
    ///
    /// # Errors
    /// When it fails, or the cluster is not ours.
    pub async fn exec(&self, pod: &str, command: &[&str]) -> anyhow::Result<String> {
        let exec = ["kubectl", "--namespace", self.namespace(), "exec", pod, "--"];
        self.cluster.script(&[&exec, command].concat()).await
    }

    /// What a pod has written so far.
    ///
    /// # Errors
    /// When it has not started.
    pub async fn log(&self, pod: &Pod) -> anyhow::Result<String> {
        let pods: Api<Pod> = Api::namespaced(self.cluster.client(), &self.namespace);
        Ok(pods.logs(&pod.name_any(), &LogParams::default()).await?)
    }

    /// Waits for a text in a pod's log.
    ///
    /// # Errors
    /// When it does not appear.
    pub async fn wait_log(&self, pod: &Pod, text: &str) -> anyhow::Result<()> {
        wait_for(&format!("{text:?} in the log"), READY_LIMIT, || async {
            let log = self.log(pod).await?;
            ensure!(log.contains(text), "the log is\n{log}");
            Ok(())
        })
        .await
    }

    /// What a daemon counts of itself.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self, pod: &Pod) -> anyhow::Result<Metrics> {
        crate::cluster::scrape(&self.cluster.reach_pod(pod, 9090).await?).await
    }

    /// A way to a port of a Service.
    ///
    /// # Errors
    /// When there is no such Service.
    pub async fn reach_service(&self, name: &str, port: u16) -> anyhow::Result<Reach> {
        if !self.cluster.is_ours() {
            return Reach::forward(&self.namespace, &format!("service/{name}"), port).await;
        }
        let services: Api<Service> = Api::namespaced(self.cluster.client(), &self.namespace);
        let service = services.get(name).await?;
        let ip = service.spec.and_then(|spec| spec.cluster_ip).context("a Service without address")?;
        let reach = Reach::direct(&ip, port)?;
        // A Service answers when kube-proxy has heard of it and of a ready pod.
        wait_for(&format!("the Service {name}"), READY_LIMIT, || async {
            tokio::net::TcpStream::connect(reach.address()).await?;
            Ok(())
        })
        .await?;
        Ok(reach)
    }

    /// A receiver as the Service `name`, port 8080.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn deploy_webhook(&self, name: &str) -> anyhow::Result<Webhook> {
        self.apply(&receiver_manifest(name)).await?;
        wait_for(&format!("the receiver {name}"), READY_LIMIT, || async {
            let status = &self.get("Deployment", name).await?["status"];
            ensure!(status["readyReplicas"] == 1, "{status}");
            Ok(())
        })
        .await?;
        if self.cluster.is_ours() {
            // After a restart of the API server the DNS hears of new Services late, and `forward` drops mail then.
            self.cluster
                .script(&["resolve", &format!("{name}.{}.svc.cluster.local", self.namespace)])
                .await?;
        }
        Webhook::new(self.reach_service(name, 8080).await?)
    }
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
}

pub(crate) async fn tail(pods: &Api<Pod>, name: &str, lines: i64) -> String {
    let parameters = LogParams { tail_lines: Some(lines), ..LogParams::default() };
    let log = pods.logs(name, &parameters).await.unwrap_or_else(|error| format!("no log: {error}"));
    format!("--- log of {name}\n{log}\n")
}
