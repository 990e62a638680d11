//! What the operator knows of the cluster, and what wakes it.
//!
//! Each watch is a task of its own that keeps a store up to date and names the resources that a change
//! concerns. Reconciliations read the stores, so that an unchanged resource costs no request.

mod concerned;
mod forwarder;
pub(crate) mod index;
pub(crate) mod intake;
pub mod lists;
mod optional;
pub mod packed;
mod starter;
mod trim;

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use kube::ResourceExt;
use kube::api::DynamicObject;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{ObjectRef, Store};
use mail_laser_crds::{DRAIN_LABEL, MailLaser, NAME_LABEL};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub(crate) use self::forwarder::{NO_ADVICE, advice};
use self::index::Term;
use self::intake::Filled;
use self::lists::Lists;
use self::optional::Shelf;
use self::packed::Packed;
pub(crate) use self::starter::watched;
pub(crate) use self::trim::keep_version;
use crate::kinds::Kind;
use crate::references::Holder;
use crate::resources::labels::INSTANCE;
use crate::routes::attach::Gateway;
use crate::routes::caches::{GuardedRoute, RouteCaches};
use crate::scope::Place;

/// A `MailLaser` that may be unreadable: one bad object must not stop the watch of the others.
pub type Guarded = DeserializeGuard<MailLaser>;

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
    /// Which of the watches have told what there is.
    pub fn lists(&self) -> &Lists {
        &self.lists
    }

    /// What is known of routes. It may be incomplete where all else is known: the cluster may not have the kind yet.
    pub fn routes(&self) -> &RouteCaches {
        &self.routes
    }

    /// Whether all is known of the routes that a gateway may have, and of what they refer to. The last list of each place
    /// wakes the gateways that wait for it.
    pub(crate) fn are_complete_for(&self, gateway: &Gateway) -> bool {
        let may_have_routes_of = |place: &Place| match place {
            Place::Cluster => true,
            Place::Namespace(name) => gateway.takes_routes_of(name, &self.routes.labels(name)),
        };
        let incomplete = [&self.lists, &self.routes.lists].map(Lists::incomplete);
        !incomplete.iter().flatten().any(may_have_routes_of)
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
