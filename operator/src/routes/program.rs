//! Gives a gateway's pods the table of its routes.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams, PropagationPolicy};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, ResourceExt};
use mail_laser_crds::MailRoute;
use serde_json::json;
use tokio::sync::mpsc;

use super::attach::Gateway;
use super::caches::{GuardedRoute, RouteCaches, namespace_of};
use super::files::{Files, files};
use super::maps::Maps;
use super::status::{is_told, programmed_generation};
use super::table::{Evaluation, Programming, evaluate};
use super::tables::Tables;
use super::tell::Seen;
use super::webhook::{Known, MapFound, SecretFound, ServiceFound};
use crate::apply::{Applier, Outcome, Removal, sent};
use crate::caches::Caches;
use crate::error::{RequestError, chain};
use crate::key::{Key, key};
use crate::kinds::Kind;
use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::references::Holder;
use crate::resources::labels::{MANAGER, ROUTES_GENERATION};
use crate::resources::routes;
use crate::validate::ValidatedMailLaser;

/// How many pods are told of a table at once: half of what the operator asks the API server at a time.
const TOLD_AT_ONCE: usize = 4;

/// What gives pods their tables.
pub(crate) struct Programmer {
    client: Client,
    metrics: Metrics,
    tables: Tables,
    maps: Maps,
    wake_ups: mpsc::Sender<ObjectRef<GuardedRoute>>,
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Programmed {
    /// How many routes have a recipient, if that is known.
    pub(crate) routes: Option<usize>,
    /// What is in the way.
    pub(crate) problems: Vec<Problem>,
    /// A request that failed.
    pub(crate) failure: Option<RequestError>,
    /// When there is more to write, or to tell.
    pub(crate) again: Option<Duration>,
}

impl Programmer {
    /// One that knows nothing yet; `wake_ups` takes the routes that are to be told something.
    pub(crate) fn new(
        client: Client,
        metrics: Metrics,
        wake_ups: mpsc::Sender<ObjectRef<GuardedRoute>>,
    ) -> Self {
        Self { client, metrics, tables: Tables::default(), maps: Maps::default(), wake_ups }
    }

    /// What gateways have said.
    pub(crate) fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Gives the pods of a gateway the table of its routes as they are now.
    pub(crate) async fn program(
        &self,
        resource: &ValidatedMailLaser,
        caches: &Caches,
        applier: &Applier,
        now: Instant,
    ) -> Programmed {
        let known = caches.routes();
        let gateway = (resource.namespace.clone(), resource.name.clone());
        let of = Gateway::new(&gateway.0, &gateway.1, &resource.spec);
        // Recipients of a route that is not known yet would be refused, or be another's.
        if !caches.are_complete_for(&of) {
            return Programmed::default();
        }
        if let Some(wait) = self.tables.wait(&gateway, now) {
            // Its status says what it said, and is not written back and forth.
            let problems = self.tables.problem(&gateway).into_iter().collect();
            return Programmed { problems, again: Some(wait), ..Programmed::default() };
        }
        let named = known.of(&gateway.0, &gateway.1);
        let attached: Vec<&MailRoute> = named.iter().filter_map(|route| attached(route, &gateway)).collect();
        let maps = match self.maps(&attached, caches).await {
            Ok(maps) => maps,
            // What is not known takes nothing from the pods that they have.
            Err(error) => return Programmed { failure: Some(error), ..Programmed::default() },
        };
        let view = View { caches, routes: known, maps };
        let begin = Instant::now();
        let mut evaluation = evaluate(&of, &attached, |namespace| known.labels(namespace), &view);
        self.tables.evaluated(&gateway, begin.elapsed(), Instant::now());
        let routes = Some(evaluation.accepted());
        let written = Writer { programmer: self, resource, caches, applier, gateway: &gateway, now };
        let (programming, programmed) = match written.write(&evaluation).await {
            Written::Table(left_out) => {
                let again =
                    self.tables.telling(&gateway, |telling| telling.more_in(Instant::now())).flatten();
                (Programming::Done(left_out), Programmed { routes, again, ..Programmed::default() })
            }
            Written::Problem(problem) => {
                let programming = Programming::Failed(problem.message.clone());
                (programming, Programmed { routes, problems: vec![problem], ..Programmed::default() })
            }
            Written::Failed(error) => {
                let programming = Programming::Failed(error.problem().message);
                (programming, Programmed { routes, failure: Some(error), ..Programmed::default() })
            }
        };
        let failed = programmed.failure.as_ref().map(RequestError::problem);
        self.tables.tried(&gateway, programmed.problems.first().cloned().or(failed));
        let had: HashMap<Key, i64> = match programming {
            Programming::Done(_) => HashMap::new(),
            Programming::Failed(_) => attached
                .iter()
                .filter_map(|route| Some((key(*route), programmed_generation(route, &gateway)?)))
                .collect(),
        };
        let before = |route: &Key| self.tables.verdict(&gateway, route);
        evaluation.program(&programming, before, |route| had.get(route).copied());
        self.publish(&gateway, evaluation, &named).await;
        programmed
    }

    /// Has all routes of a gateway that is gone, or was never there, be told so.
    pub(crate) async fn take_leave(&self, caches: &Caches, gateway: &Key) {
        self.tables.forget(gateway);
        for route in caches.routes().of(&gateway.0, &gateway.1) {
            self.wake(&route).await;
        }
    }

    async fn publish(&self, gateway: &Key, evaluation: Evaluation, named: &[Arc<GuardedRoute>]) {
        let is_outdated = |route: &Arc<GuardedRoute>| {
            let Ok(readable) = &route.0 else { return false };
            !is_told(readable, gateway, evaluation.verdicts.get(&key(readable)))
        };
        let outdated: Vec<_> = named.iter().filter(|route| is_outdated(route)).cloned().collect();
        self.tables.publish(gateway, evaluation.verdicts);
        for route in outdated {
            self.wake(&route).await;
        }
    }

    async fn wake(&self, route: &Arc<GuardedRoute>) {
        // Without a listener the term is over.
        let _ = self.wake_ups.send(ObjectRef::from_obj(route.as_ref())).await;
    }

    /// The ConfigMaps that routes refer to.
    async fn maps(
        &self,
        routes: &[&MailRoute],
        caches: &Caches,
    ) -> Result<HashMap<Key, MapFound>, RequestError> {
        let mut maps = HashMap::new();
        for route in routes {
            let source = route.spec.webhook.ca_bundle_from.as_ref();
            let Some(map) = source.and_then(|source| source.config_map_key_ref.as_ref()) else { continue };
            let key = (route.namespace().unwrap_or_default(), map.name.clone());
            if let Entry::Vacant(entry) = maps.entry(key) {
                let found = self.maps.find(&self.client, caches, entry.key()).await?;
                entry.insert(found);
            }
        }
        Ok(maps)
    }

    /// Has the kubelet look at once at what a pod mounts, by another annotation than before. The version that the pod has
    /// since, if it could be told.
    async fn tell(&self, namespace: &str, name: &str, annotation: &str) -> Option<String> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let patch = Patch::Merge(json!({"metadata": {"annotations": {ROUTES_GENERATION: annotation}}}));
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        match api.patch_metadata(name, &params, &patch).await {
            Ok(pod) => {
                self.metrics.annotated_pod();
                pod.resource_version()
            }
            Err(kube::Error::Api(status)) if status.is_not_found() => None,
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(
                    namespace,
                    name,
                    error,
                    "pod takes its routes over within a minute, not at once"
                );
                None
            }
        }
    }
}

/// The route, if it is one of the gateway and can be read.
fn attached<'r>(route: &'r Arc<GuardedRoute>, gateway: &Key) -> Option<&'r MailRoute> {
    let route = route.0.as_ref().ok().filter(|route| route.metadata.deletion_timestamp.is_none())?;
    let mut parents = route.spec.parent_refs.iter();
    parents.any(|it| (namespace_of(it, route), &*it.name) == (&gateway.0, &gateway.1)).then_some(route)
}

fn seen(pod: &Pod) -> Option<Seen<'_>> {
    let (name, version) = (pod.metadata.name.as_deref()?, pod.metadata.resource_version.as_deref()?);
    let annotation = pod.annotations().get(ROUTES_GENERATION).map(String::as_str);
    Some(Seen { name, version, annotation })
}

/// What is known of the objects that routes refer to.
struct View<'c> {
    caches: &'c Caches,
    routes: &'c RouteCaches,
    maps: HashMap<Key, MapFound>,
}

impl Known for View<'_> {
    fn secret(&self, namespace: &str, name: &str) -> SecretFound {
        let exists = self.caches.version(Holder::Secret, namespace, name).is_some();
        self.routes.secret(namespace, name, exists)
    }

    fn config_map(&self, namespace: &str, name: &str) -> MapFound {
        self.maps.get(&(namespace.to_owned(), name.to_owned())).cloned().unwrap_or(MapFound::Missing)
    }

    fn service(&self, namespace: &str, name: &str) -> ServiceFound {
        self.routes.service(namespace, name, self.caches.service_exists(namespace, name))
    }
}

/// What came of a table.
enum Written {
    /// It is what the pods have, or will have in a moment, but for the routes of these names.
    Table(BTreeSet<String>),
    Problem(Problem),
    Failed(RequestError),
}

/// Writes the table of one gateway.
struct Writer<'a> {
    programmer: &'a Programmer,
    resource: &'a ValidatedMailLaser,
    caches: &'a Caches,
    applier: &'a Applier,
    gateway: &'a Key,
    now: Instant,
}

impl Writer<'_> {
    async fn write(&self, evaluation: &Evaluation) -> Written {
        let tables = &self.programmer.tables;
        let parts_max = routes::parts_max(&self.resource.spec);
        if parts_max == 0 {
            tables.took_away(self.gateway);
            let removed = self.remove_from(0).await;
            return removed.map_or_else(Written::Failed, |()| Written::Table(BTreeSet::new()));
        }
        let Files { index, parts, left_out } = files(&evaluation.entries, parts_max);
        let (number, mut secrets) = (parts.len(), 0);
        for secret in routes::build(self.resource, &index, parts) {
            let there = self.version(secret.metadata.name.as_deref().unwrap_or_default());
            match self.apply(&sent(Kind::Secret, &secret)).await {
                Ok(version) => secrets += u32::from(version != there),
                Err(failed) => return failed,
            }
        }
        tables.wrote(self.gateway, &index.generation, secrets, self.now);
        self.tell(&index.generation).await;
        self.remove_from(number).await.map_or_else(Written::Failed, |()| Written::Table(left_out))
    }

    /// Tells the pods of the gateway of a generation, as far as they have not been told.
    async fn tell(&self, generation: &str) {
        let Self { programmer, gateway, .. } = self;
        let (namespace, name) = gateway;
        let mut pods = self.caches.pods(namespace, name);
        pods.extend(self.caches.drain_pods(namespace, name));
        let pods: Vec<Seen<'_>> = pods.iter().filter_map(|pod| seen(pod)).collect();
        let due = programmer.tables.telling(gateway, |telling| telling.to_tell(&pods, generation, self.now));
        let tried = |name: &str, outcome| {
            let name = name.to_owned();
            programmer.tables.telling(gateway, |telling| telling.tried(name, outcome, Instant::now()));
        };
        let told = due.unwrap_or_default().into_iter().map(|(name, told)| async move {
            // Should the reconciliation be cut off here, the next one has other things to do.
            tried(&name, None);
            let (annotation, told) = told.next(generation);
            if let Some(version) = programmer.tell(namespace, &name, &annotation).await {
                tried(&name, Some((told, version)));
            }
        });
        stream::iter(told).buffer_unordered(TOLD_AT_ONCE).collect::<()>().await;
        programmer.tables.telling(gateway, |telling| {
            telling.settle(&pods, generation, self.now, Instant::now());
        });
    }

    /// The version of the object that is there then.
    async fn apply(&self, object: &serde_json::Value) -> Result<Option<String>, Written> {
        let ValidatedMailLaser { owner, namespace, .. } = self.resource;
        match self.applier.apply(self.caches, Kind::Secret, owner, namespace, object).await {
            Ok(Outcome::InPlace(live)) => Ok(live.resource_version()),
            Ok(Outcome::Problem(problem)) => Err(Written::Problem(problem)),
            Err(error) => Err(Written::Failed(error)),
        }
    }

    /// The version of a Secret.
    fn version(&self, name: &str) -> Option<String> {
        self.applier.live(self.caches, Kind::Secret, &self.gateway.0, name)?.resource_version()
    }

    /// Deletes the parts from this number on, which belong to no generation any more.
    async fn remove_from(&self, number: usize) -> Result<(), RequestError> {
        let (namespace, name) = self.gateway;
        let labelled = self.caches.labelled(Kind::Secret, namespace, name);
        for secret in
            labelled.iter().filter(|secret| routes::number(name, secret).is_some_and(|it| it >= number))
        {
            let removal = Removal {
                kind: Kind::Secret,
                name: secret,
                uid: None,
                propagation: PropagationPolicy::Background,
            };
            self.applier.delete(self.caches, &removal, &self.resource.owner, namespace).await?;
        }
        Ok(())
    }
}
