//! Starts the watches of every place.

use std::fmt::Debug;
use std::hash::Hash;
use std::pin::Pin;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, Service};
use kube::core::{ApiResource, PartialObjectMeta};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use mail_laser_crds::{DRAIN_LABEL, MailLaser, MailRoute, NAME_LABEL, WEBHOOK_SECRET_TYPE};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::concerned::{
    Referrers, choosing_by_labels, concerned_by_service, labels, owner, referred_to, referring, resource_of,
};
use super::forwarder::Forwarder;
use super::intake::{Filled, Shared};
use super::lists::Lists;
use super::optional::{Keeper, Shelf};
use super::packed::Packed;
use super::trim::{trim_metadata, trim_pod, trim_resource};
use super::{Caches, Guarded, Watches};
use crate::kinds::Kind;
use crate::references::{self, Holder};
use crate::resources::labels::{INSTANCE, MANAGED_BY, MANAGER};
use crate::routes::caches::{GuardedRoute, RouteCaches, gateways, terms, trim_namespace, trim_secret};
use crate::scope::{Place, Scope};

/// How many wake-ups may wait. A full queue only makes the watches wait.
const WAKE_UPS_MAX: usize = 1024;

/// Objects in one answer to a list. All kinds are listed at the same time, and an answer is in memory twice while it is
/// read, as text and as objects: with 500, which the library asks for, a start with 5,000 resources took some 70 MiB more.
const PAGE_SIZE: u32 = 50;

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
            trim_resource,
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
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
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
