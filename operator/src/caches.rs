//! What the operator knows of the cluster, and what wakes it.
//!
//! Each watch is a task of its own that keeps a store up to date and names the resources that a change
//! concerns. Reconciliations read the stores, so that an unchanged resource costs no request.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, PodStatus, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::DynamicObject;
use kube::core::{ApiResource, DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use mail_laser_crds::{DRAIN_LABEL, FromNamespaces, MailLaser, MailRoute, NAME_LABEL, WEBHOOK_SECRET_TYPE};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::backoff;
use crate::error::chain;
use crate::index::Term;
use crate::intake::{Filled, Intake, Shared};
use crate::kinds::Kind;
use crate::lists::Lists;
use crate::optional::{Keeper, Shelf};
use crate::packed::Packed;
use crate::references::{self, Holder};
use crate::resources::labels::{INSTANCE, MANAGED_BY, MANAGER, TEMPLATE_HASH};
use crate::routes::caches::{
    GuardedRoute, RouteCaches, gateways, terms, trim_namespace, trim_route, trim_secret,
};
use crate::scope::{Place, Scope};

/// A `MailLaser` that may be unreadable: one bad object must not stop the watch of the others.
pub type Guarded = DeserializeGuard<MailLaser>;

/// How many wake-ups may wait. A full queue only makes the watches wait.
const WAKE_UPS_MAX: usize = 1024;

/// Objects in one answer to a list. All kinds are listed at the same time, and an answer is in memory twice while it is
/// read, as text and as objects: with 500, which the library asks for, a start with 5,000 resources took some 70 MiB more.
const PAGE_SIZE: u32 = 50;

/// What is known of the cluster.
pub struct Caches {
    resources: Filled<Guarded>,
    owned: HashMap<Kind, Filled<Packed>>,
    /// Of kinds that the cluster may not have, in each place.
    optional: HashMap<Kind, Vec<(Place, Shelf)>>,
    pods: Filled<Pod>,
    secrets: Filled<PartialObjectMeta<Secret>>,
    config_maps: Filled<PartialObjectMeta<ConfigMap>>,
    services: Filled<PartialObjectMeta<Service>>,
    lists: Lists,
    routes: RouteCaches,
}

/// What is known of an object at some time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Mark {
    /// It was there, in a version.
    At(Option<String>),
    /// It was not there, after so many deletions of its kind: it may have come and gone since.
    Absent {
        /// Of any object.
        deletions: u64,
    },
}

/// The watches, running.
pub struct Watches {
    /// What is known of the resources.
    pub resources: Store<Guarded>,
    /// What is known of routes.
    pub routes: Store<GuardedRoute>,
    /// The tasks. None ends by itself.
    pub tasks: JoinSet<()>,
    /// Resources that something happened to.
    pub wake_ups: mpsc::Receiver<ObjectRef<Guarded>>,
}

impl Caches {
    /// Starts all watches, in each place of a scope.
    pub fn start(client: &Client, scope: &Scope) -> (Self, Watches) {
        let (sender, wake_ups) = mpsc::channel(WAKE_UPS_MAX);
        let resources = Shared::new((), referred_to);
        let routes = Shared::new((), terms);
        let mut starter = Starter {
            places: scope.places(),
            referrers: Referrers { resources: resources.filled(), routes: routes.filled() },
            sender,
            lists: Lists::default(),
            tasks: Vec::new(),
        };
        let everything = everything();
        let selected = match scope.selector() {
            Some(selector) => everything.clone().labels(selector),
            None => everything.clone(),
        };
        let managed = everything.clone().labels(&format!("{MANAGED_BY}={MANAGER}"));

        starter.start(
            |place| api(client, place),
            &selected,
            &resources,
            trim_resource,
            |resource, _| vec![ObjectRef::from_obj(resource)],
        );
        let owned = Kind::ALL
            .into_iter()
            .map(|kind| {
                let api = |place: &Place| dynamic_api(client, place, kind);
                let by_label = |object: &Packed| labels(object, &[INSTANCE]);
                let shared = Shared::new(kind, if kind.has_several() { by_label } else { |_| Vec::new() });
                let filled = starter.start(
                    api,
                    &managed,
                    &shared,
                    |_| {},
                    |object, _| owner(object.meta()).into_iter().collect(),
                );
                (kind, filled)
            })
            .collect();
        let optional =
            Kind::OPTIONAL.into_iter().map(|kind| (kind, starter.keep(client, kind, &managed))).collect();
        let pods = starter.start(
            |place| api(client, place),
            &managed,
            &Shared::new((), |pod| labels(pod, &[NAME_LABEL, DRAIN_LABEL])),
            trim_pod,
            |pod: &Pod, _| resource_of(pod).into_iter().collect(),
        );
        let secrets = starter.start(
            |place| api(client, place),
            &everything,
            &Shared::new((), |_| Vec::new()),
            trim_metadata,
            |secret: &PartialObjectMeta<Secret>, resources| {
                referring(resources, Holder::Secret.kind(), secret)
            },
        );
        let config_maps = starter.start(
            |place| api(client, place),
            &everything,
            &Shared::new((), |_| Vec::new()),
            trim_metadata,
            |map: &PartialObjectMeta<ConfigMap>, resources| {
                referring(resources, Holder::ConfigMap.kind(), map)
            },
        );
        let services = starter.start(
            |place| api(client, place),
            &everything,
            &Shared::new((), |_| Vec::new()),
            trim_metadata,
            concerned_by_service,
        );
        let lists = std::mem::take(&mut starter.lists);
        let routes = starter.start_routes(client, scope, &routes);
        let Starter { tasks, referrers: Referrers { resources, .. }, .. } = starter;
        let watches = Watches {
            resources: resources.store.clone(),
            routes: routes.routes.store.clone(),
            tasks: tasks.into_iter().collect(),
            wake_ups,
        };
        let caches = Self { resources, owned, optional, pods, secrets, config_maps, services, lists, routes };
        (caches, watches)
    }

    /// Which of the watches have told what there is.
    pub fn lists(&self) -> &Lists {
        &self.lists
    }

    /// What is known of routes. It may be incomplete where all else is known: the cluster may not have the kind yet.
    pub fn routes(&self) -> &RouteCaches {
        &self.routes
    }

    /// A resource, if it is one that is looked after.
    pub fn resource(&self, namespace: &str, name: &str) -> Option<Arc<Guarded>> {
        self.resources.get(namespace, name)
    }

    /// An object of a kind that the operator owns, if it has the operator's label.
    pub fn owned(&self, kind: Kind, namespace: &str, name: &str) -> Option<DynamicObject> {
        self.packed(kind, namespace, name)?.unpack()
    }

    fn packed(&self, kind: Kind, namespace: &str, name: &str) -> Option<Arc<Packed>> {
        let reference = ObjectRef::new_with(name, kind).within(namespace);
        self.store(kind, namespace)?.get(&reference)
    }

    /// What can be told from later, when something has become of an object that is owned.
    pub fn mark(&self, kind: Kind, namespace: &str, name: &str) -> Mark {
        match self.packed(kind, namespace, name) {
            Some(object) => Mark::At(object.resource_version()),
            None => Mark::Absent { deletions: self.owned.get(&kind).map_or(0, Filled::deletions) },
        }
    }

    /// The names of the objects that have the label of a resource, of a kind that it may have several of.
    pub fn labelled(&self, kind: Kind, namespace: &str, name: &str) -> Vec<String> {
        debug_assert!(kind.has_several(), "{kind:?} is not found by its label");
        let its = Term::new(namespace, INSTANCE, name);
        let found = self.owned.get(&kind).map(|filled| filled.having(&its)).unwrap_or_default();
        found.iter().map(|object| object.name_any()).collect()
    }

    /// Whether the cluster has a kind, and its objects in a namespace are known.
    pub fn has(&self, kind: Kind, namespace: &str) -> bool {
        self.store(kind, namespace).is_some()
    }

    fn store(&self, kind: Kind, namespace: &str) -> Option<Store<Packed>> {
        self.owned.get(&kind).map(|filled| filled.store.clone()).or_else(|| {
            let (_, shelf) =
                self.optional.get(&kind)?.iter().find(|(place, _)| place.covers(Some(namespace)))?;
            shelf.store()
        })
    }

    /// The pods of a resource that take mail.
    pub fn pods(&self, namespace: &str, name: &str) -> Vec<Arc<Pod>> {
        self.pods.having(&Term::new(namespace, NAME_LABEL, name))
    }

    /// The pods that drain what a resource left.
    pub fn drain_pods(&self, namespace: &str, name: &str) -> Vec<Arc<Pod>> {
        self.pods.having(&Term::new(namespace, DRAIN_LABEL, name))
    }

    /// The version of a Secret or ConfigMap, if it exists.
    pub fn version(&self, holder: Holder, namespace: &str, name: &str) -> Option<String> {
        match holder {
            Holder::Secret => self.secrets.get(namespace, name)?.resource_version(),
            Holder::ConfigMap => self.config_maps.get(namespace, name)?.resource_version(),
        }
    }

    /// Whether a Service exists, whoever's it is.
    pub fn service_exists(&self, namespace: &str, name: &str) -> bool {
        self.services.get(namespace, name).is_some()
    }
}

/// What an object is found by: those labels of these that it has.
fn labels(object: &impl ResourceExt, labels: &[&'static str]) -> Vec<Term> {
    let namespace = object.meta().namespace.as_deref().unwrap_or_default();
    let values = labels.iter().filter_map(|label| Some((*label, object.labels().get(*label)?)));
    values.map(|(label, value)| Term::new(namespace, label, value)).collect()
}

/// What a resource is found by: what it refers to. One that cannot be read is not looked after.
fn referred_to(resource: &Guarded) -> Vec<Term> {
    let namespace = resource.meta().namespace.as_deref().unwrap_or_default();
    let objects = resource.0.as_ref().map(|resource| references::objects(&resource.spec)).unwrap_or_default();
    objects.iter().map(|(kind, name)| Term::new(namespace, kind, name)).collect()
}

/// Who may refer to an object that something happened to.
#[derive(Clone)]
struct Referrers {
    resources: Filled<Guarded>,
    routes: Filled<GuardedRoute>,
}

struct Starter {
    places: Vec<Place>,
    referrers: Referrers,
    sender: mpsc::Sender<ObjectRef<Guarded>>,
    lists: Lists,
    /// They begin when all are expected, lest a place is taken for complete before.
    tasks: Vec<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Starter {
    fn start<K>(
        &mut self,
        api: impl Fn(&Place) -> Api<K>,
        config: &watcher::Config,
        shared: &Shared<K>,
        trim: fn(&mut K),
        concerned: fn(&K, &Referrers) -> Vec<ObjectRef<Guarded>>,
    ) -> Filled<K>
    where
        K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
        K::DynamicType: Clone + Debug + Eq + Hash + Send + Sync + Unpin,
    {
        for place in &self.places {
            let api = api(place);
            self.lists.expect_one_more(place);
            let forwarder = Forwarder {
                url: api.resource_url().to_owned(),
                place: place.clone(),
                intake: shared.intake(place.clone()),
                concerned,
                referrers: self.referrers.clone(),
                sender: self.sender.clone(),
                lists: self.lists.clone(),
            };
            self.tasks.push(Box::pin(forwarder.run(watcher(api, config.clone()).modify(trim))));
        }
        shared.filled()
    }

    /// The watches of routes and what only they refer to.
    fn start_routes(&mut self, client: &Client, scope: &Scope, routes: &Shared<GuardedRoute>) -> RouteCaches {
        let everything = everything();
        let routes = self.start(
            |place| api(client, place),
            &everything,
            routes,
            trim_route,
            |route, _| gateways(route),
        );
        let secrets = self.start(
            |place| api(client, place),
            &everything.clone().fields(&format!("type={WEBHOOK_SECRET_TYPE}")),
            &Shared::new((), |_| Vec::new()),
            trim_secret,
            |secret: &Secret, referrers| referring(referrers, Holder::Secret.kind(), secret),
        );
        let external_services = self.start(
            |place| api(client, place),
            &everything.clone().fields("spec.type=ExternalName"),
            &Shared::new((), |_| Vec::new()),
            trim_metadata,
            |service: &PartialObjectMeta<Service>, referrers| {
                referring(referrers, references::SERVICE, service)
            },
        );
        let namespaces = scope.is_cluster().then(|| {
            self.start(
                |_| Api::all(client.clone()),
                &everything,
                &Shared::new((), |_| Vec::new()),
                trim_namespace,
                |_: &PartialObjectMeta<Namespace>, referrers| choosing_by_labels(referrers),
            )
        });
        let lists = std::mem::take(&mut self.lists);
        RouteCaches { routes, namespaces, secrets, external_services, lists }
    }

    /// Watches a kind while the cluster has it.
    fn keep(&mut self, client: &Client, kind: Kind, config: &watcher::Config) -> Vec<(Place, Shelf)> {
        let mut shelves = Vec::new();
        for place in &self.places {
            let shelf = Shelf::default();
            self.lists.expect_one_more(place);
            let keeper = Keeper {
                kind,
                place: place.clone(),
                client: client.clone(),
                api: dynamic_api(client, place, kind),
                config: config.clone(),
                shelf: shelf.clone(),
                resources: self.referrers.resources.store.clone(),
                sender: self.sender.clone(),
                lists: self.lists.clone(),
            };
            self.tasks.push(Box::pin(keeper.run()));
            shelves.push((place.clone(), shelf));
        }
        shelves
    }
}

/// What a watch asks for that has no reason to ask for less.
fn everything() -> watcher::Config {
    watcher::Config::default().page_size(PAGE_SIZE)
}

/// Keeps a store up to date with what one watch tells, and sends the resources that it concerns.
struct Forwarder<K>
where
    K: reflector::Lookup + Clone + 'static,
    K::DynamicType: Clone + Eq + Hash,
{
    url: String,
    place: Place,
    intake: Intake<K>,
    concerned: fn(&K, &Referrers) -> Vec<ObjectRef<Guarded>>,
    referrers: Referrers,
    sender: mpsc::Sender<ObjectRef<Guarded>>,
    lists: Lists,
}

impl<K> Forwarder<K>
where
    K: reflector::Lookup + Clone + 'static,
    K::DynamicType: Clone + Eq + Hash,
{
    async fn run(mut self, events: impl Stream<Item = watcher::Result<Event<K>>>) {
        let mut events = std::pin::pin!(events);
        let (mut listed, mut failures) = (false, 0);
        while let Some(event) = events.next().await {
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    failures += 1;
                    let wait = backoff::after_interruption(failures, backoff::random());
                    let advice = match &error {
                        watcher::Error::InitialListFailed(error) => advice(error),
                        _ => NO_ADVICE,
                    };
                    let error = chain(&error);
                    tracing::warn!(url = self.url, error, ?wait, advice, "watch interrupted");
                    tokio::time::sleep(wait).await;
                    continue;
                }
            };
            // The start of a list is no success: it comes before the request.
            if !matches!(event, Event::Init) {
                failures = 0;
            }
            let is_first_list = matches!(event, Event::InitDone) && !listed;
            let mut references: Vec<_> = self
                .intake
                .take(event)
                .iter()
                .flat_map(|object| (self.concerned)(object, &self.referrers))
                .collect();
            if is_first_list {
                listed = true;
                if self.lists.one_more_is_there(&self.place) {
                    tracing::info!(place = %self.place, "caches are filled");
                    references.extend(resources_in(&self.place, &self.referrers.resources.store));
                }
            }
            for reference in references {
                if self.sender.send(reference).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Those that wait for the caches of their place.
pub(crate) fn resources_in(place: &Place, resources: &Store<Guarded>) -> Vec<ObjectRef<Guarded>> {
    resources
        .state_filter(|resource| place.covers(resource.meta().namespace.as_deref()))
        .iter()
        .map(|resource| ObjectRef::from_obj(resource.as_ref()))
        .collect()
}

/// What a person can do about a list that failed, with which a watch would have begun.
pub(crate) fn advice(error: &kube::Error) -> &'static str {
    match error {
        kube::Error::Api(status) if status.code == 404 => {
            "install the CustomResourceDefinition: it is in deploy/crd"
        }
        kube::Error::Api(status) if status.is_forbidden() => {
            "grant the right to list and watch: it is in deploy/rbac.yaml, and for a list of namespaces in \
             deploy/namespaced"
        }
        kube::Error::Api(status) if status.code == 400 => "correct the label selector (--selector)",
        _ => NO_ADVICE,
    }
}

/// Where a person can do nothing.
pub(crate) const NO_ADVICE: &str = "none: it is tried again";

/// What is watched in a place, apart from kinds that a cluster may not have.
pub(crate) fn watched(place: &Place) -> Vec<ApiResource> {
    let others = [
        ApiResource::erase::<MailLaser>(&()),
        ApiResource::erase::<MailRoute>(&()),
        ApiResource::erase::<Pod>(&()),
    ];
    let of_cluster = (*place == Place::Cluster).then(|| ApiResource::erase::<Namespace>(&()));
    Kind::ALL.into_iter().map(Kind::api_resource).chain(others).chain(of_cluster).collect()
}

fn api<K>(client: &Client, place: &Place) -> Api<K>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
{
    match place {
        Place::Cluster => Api::all(client.clone()),
        Place::Namespace(name) => Api::namespaced(client.clone(), name),
    }
}

fn dynamic_api(client: &Client, place: &Place, kind: Kind) -> Api<Packed> {
    match place {
        Place::Cluster => Api::all_with(client.clone(), &kind),
        Place::Namespace(name) => Api::namespaced_with(client.clone(), name, &kind),
    }
}

/// The `MailLaser` that controls an object, or the one in whose way it is: one without a controller has the
/// label of the resource that once had it.
pub(crate) fn owner(meta: &ObjectMeta) -> Option<ObjectRef<Guarded>> {
    let namespace = meta.namespace.as_deref();
    match meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true)) {
        Some(owner) => ObjectRef::from_owner_ref(namespace, owner, ()),
        None => Some(ObjectRef::new(meta.labels.as_ref()?.get(INSTANCE)?).within(namespace?)),
    }
}

fn resource_of(pod: &Pod) -> Option<ObjectRef<Guarded>> {
    let name = pod.labels().get(NAME_LABEL).or_else(|| pod.labels().get(DRAIN_LABEL))?;
    Some(ObjectRef::new(name).within(pod.metadata.namespace.as_deref()?))
}

/// Resources that refer to this object, and the gateways of routes that do.
fn referring(
    referrers: &Referrers,
    kind: &'static str,
    object: &impl ResourceExt,
) -> Vec<ObjectRef<Guarded>> {
    let namespace = object.namespace().unwrap_or_default();
    let term = Term::new(&namespace, kind, &object.name_any());
    let resources = referrers.resources.having(&term);
    let routes = referrers.routes.having(&term);
    let resources = resources.iter().map(|resource| ObjectRef::from_obj(resource.as_ref()));
    resources.chain(routes.iter().flat_map(|route| gateways(route))).collect()
}

/// Gateways whose routes may come from namespaces with some labels.
fn choosing_by_labels(referrers: &Referrers) -> Vec<ObjectRef<Guarded>> {
    let chooses = |resource: &Guarded| {
        let allowed = resource.0.as_ref().map(|resource| resource.spec.allowed_routes.as_slice());
        allowed.unwrap_or_default().iter().any(|it| it.namespaces.from == FromNamespaces::Selector)
    };
    let gateways = referrers.resources.store.state_filter(chooses);
    gateways.iter().map(|gateway| ObjectRef::from_obj(gateway.as_ref())).collect()
}

/// Resources with a webhook that is this Service, and the one whose own Service it is or stands in the way of.
fn concerned_by_service(
    service: &PartialObjectMeta<Service>,
    referrers: &Referrers,
) -> Vec<ObjectRef<Guarded>> {
    let mut concerned = referring(referrers, references::SERVICE, service);
    let namespace = service.namespace().unwrap_or_default();
    let of_its_name = referrers.resources.get(&namespace, &service.name_any()).filter(|it| it.0.is_ok());
    concerned.extend(of_its_name.map(|resource| ObjectRef::from_obj(resource.as_ref())));
    concerned
}

/// Field sets are never looked at, and `kubectl apply` keeps a copy of all in an annotation.
fn trim_resource(resource: &mut Guarded) {
    let meta = resource.meta_mut();
    meta.managed_fields = None;
    meta.annotations = None;
}

/// What [`crate::workload`] looks at.
fn trim_pod(pod: &mut Pod) {
    pod.metadata = ObjectMeta {
        name: pod.metadata.name.take(),
        namespace: pod.metadata.namespace.take(),
        labels: only(pod.metadata.labels.take(), &[NAME_LABEL, DRAIN_LABEL]),
        annotations: only(pod.metadata.annotations.take(), &[TEMPLATE_HASH]),
        resource_version: pod.metadata.resource_version.take(),
        creation_timestamp: pod.metadata.creation_timestamp.take(),
        deletion_timestamp: pod.metadata.deletion_timestamp.take(),
        ..ObjectMeta::default()
    };
    pod.spec = None;
    if let Some(status) = pod.status.take() {
        pod.status = Some(PodStatus {
            conditions: status.conditions,
            container_statuses: status.container_statuses,
            init_container_statuses: status.init_container_statuses,
            ..PodStatus::default()
        });
    }
}

fn only(map: Option<BTreeMap<String, String>>, keys: &[&str]) -> Option<BTreeMap<String, String>> {
    map.map(|mut map| {
        map.retain(|key, _| keys.contains(&key.as_str()));
        map
    })
}

/// What is asked of these is whether they exist, and in which version.
fn trim_metadata<K>(object: &mut PartialObjectMeta<K>) {
    object.metadata = ObjectMeta {
        name: object.metadata.name.take(),
        namespace: object.metadata.namespace.take(),
        resource_version: object.metadata.resource_version.take(),
        ..ObjectMeta::default()
    };
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::StatefulSet;
    use k8s_openapi::jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::workload::observe_set;

    /// No kubelet has said anything of it.
    #[test]
    fn a_trimmed_pod_without_a_node_has_its_deadline() {
        let annotations = json!({ TEMPLATE_HASH: "new" });
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "a-0", "annotations": annotations, "creationTimestamp": "1970-01-01T00:00:00Z"},
            "status": {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]},
        }))
        .unwrap();
        trim_pod(&mut pod);
        let set: StatefulSet = serde_json::from_value(json!({
            "metadata": {},
            "spec": {"serviceName": "", "selector": {}, "template": {"metadata": {"annotations": annotations}}},
        }))
        .unwrap();
        let problem = observe_set(Some(&set), 1, &[Arc::new(pod)], Timestamp::now()).problem.unwrap();
        assert!(problem.message.contains("0/1 nodes"), "{}", problem.message);
    }
}
