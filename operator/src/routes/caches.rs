//! What the operator knows of routes and what they refer to.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};
use mail_laser_crds::{CONTROLLER_NAME, MailRoute, MailRouteSpec, ParentRef};

use super::attach::Labels;
use super::webhook::{SECRET_BYTES_MAX, SecretFound, ServiceFound};
use crate::caches::index::Term;
use crate::caches::intake::Filled;
use crate::caches::lists::Lists;
use crate::caches::{Guarded, keep_version};
use crate::references::{Holder, SERVICE};

/// A `MailRoute` that may be unreadable: one bad object must not stop the watch of the others.
pub type GuardedRoute = DeserializeGuard<MailRoute>;

/// What routes are found by that name a gateway.
const PARENT: &str = "parent";

/// The label of a namespace that is its name, which nobody can change.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// What is known of routes and what they refer to.
pub struct RouteCaches {
    pub(crate) routes: Filled<GuardedRoute>,
    /// Absent where the operator looks after a list of namespaces: their labels may not be read then.
    pub(crate) namespaces: Option<Filled<PartialObjectMeta<Namespace>>>,
    /// Those of the type that routes may refer to, alone.
    pub(crate) secrets: Filled<Secret>,
    /// Those of type `ExternalName`, alone.
    pub(crate) external_services: Filled<PartialObjectMeta<Service>>,
    pub(crate) lists: Lists,
}

impl RouteCaches {
    /// Whether all is known that there is in a namespace.
    pub fn are_complete(&self, namespace: &str) -> bool {
        self.lists.are_complete(Some(namespace))
    }

    /// The routes that name a gateway, and those whose status still does.
    pub fn of(&self, namespace: &str, gateway: &str) -> Vec<Arc<GuardedRoute>> {
        self.routes.having(&Term::new(namespace, PARENT, gateway))
    }

    /// Whether routes of its own namespace name a gateway, or are still told of it.
    pub fn has_own(&self, namespace: &str, gateway: &str) -> bool {
        let is_own = |route: &Arc<GuardedRoute>| route.meta().namespace.as_deref() == Some(namespace);
        self.of(namespace, gateway).iter().any(is_own)
    }

    /// The labels of a namespace.
    pub fn labels(&self, namespace: &str) -> Labels {
        match &self.namespaces {
            Some(namespaces) => {
                let found = namespaces.store.get(&ObjectRef::new(namespace));
                found.map(|it| it.labels().clone()).unwrap_or_default()
            }
            None => [(NAME_LABEL.to_owned(), namespace.to_owned())].into(),
        }
    }

    /// A Secret that a route may refer to; `exists` says whether there is any of the name.
    pub fn secret(&self, namespace: &str, name: &str, exists: bool) -> SecretFound {
        match self.secrets.get(namespace, name) {
            Some(secret) if secret.data.is_none() => SecretFound::TooLarge,
            Some(secret) => {
                let data = secret.data.iter().flatten();
                let values: BTreeMap<_, _> =
                    data.map(|(key, value)| (key.clone(), value.0.clone())).collect();
                SecretFound::Values(Arc::new(values))
            }
            None if exists => SecretFound::WrongType,
            None => SecretFound::Missing,
        }
    }

    /// A Service; `exists` says whether there is any of the name.
    pub fn service(&self, namespace: &str, name: &str, exists: bool) -> ServiceFound {
        match self.external_services.get(namespace, name) {
            Some(_) => ServiceFound::ExternalName,
            None if exists => ServiceFound::InCluster,
            None => ServiceFound::Missing,
        }
    }
}

/// What a route is found by: the gateways that it names or is told of, and what it refers to.
pub(crate) fn terms(route: &GuardedRoute) -> Vec<Term> {
    let namespace = route.meta().namespace.as_deref().unwrap_or_default();
    let Ok(route) = &route.0 else { return Vec::new() };
    let mut terms: Vec<_> =
        parents(route).map(|(namespace, name)| Term::new(namespace, PARENT, name)).collect();
    terms.extend(references(&route.spec).map(|(kind, name)| Term::new(namespace, kind, name)));
    terms
}

/// The gateways that a route names, and those that its status tells of, by namespace and name.
fn parents(route: &MailRoute) -> impl Iterator<Item = (&str, &str)> {
    let told = route.status.iter().flat_map(|status| &status.parents);
    let told = told.filter(|parent| parent.controller_name == CONTROLLER_NAME).map(|it| &it.parent_ref);
    route.spec.parent_refs.iter().chain(told).map(|parent| (namespace_of(parent, route), &*parent.name))
}

/// The namespace of a gateway that a route names.
pub(crate) fn namespace_of<'r>(parent: &'r ParentRef, route: &'r MailRoute) -> &'r str {
    parent.namespace.as_deref().or(route.metadata.namespace.as_deref()).unwrap_or_default()
}

/// What a route refers to, by kind and name.
fn references(spec: &MailRouteSpec) -> impl Iterator<Item = (&'static str, &str)> {
    let webhook = &spec.webhook;
    let sources = [&webhook.url_from, &webhook.bearer_token_from].into_iter().flatten();
    let signing = webhook.signing.iter().flat_map(|signing| &signing.secret_refs);
    let roots = webhook.ca_bundle_from.iter().filter_map(|source| source.secret_key_ref.as_ref());
    let secrets = sources.map(|source| &source.secret_key_ref).chain(signing).chain(roots);
    let map = webhook.ca_bundle_from.iter().filter_map(|source| source.config_map_key_ref.as_ref());
    let service = webhook.service_ref.iter().map(|service| (SERVICE, &*service.name));
    secrets
        .map(|key| (Holder::Secret.kind(), &*key.name))
        .chain(map.map(|key| (Holder::ConfigMap.kind(), &*key.name)))
        .chain(service)
}

/// The gateways that a route concerns.
pub(crate) fn gateways(route: &GuardedRoute) -> Vec<ObjectRef<Guarded>> {
    let Ok(route) = &route.0 else { return Vec::new() };
    parents(route).map(|(namespace, name)| ObjectRef::new(name).within(namespace)).collect()
}

/// What is asked of a namespace is which labels it has.
pub(crate) fn trim_namespace(namespace: &mut PartialObjectMeta<Namespace>) {
    namespace.metadata = ObjectMeta {
        name: namespace.metadata.name.take(),
        labels: namespace.metadata.labels.take(),
        resource_version: namespace.metadata.resource_version.take(),
        ..ObjectMeta::default()
    };
}

/// What is asked of a Secret is its values, unless there are too many: then it has none.
pub(crate) fn trim_secret(secret: &mut Secret) {
    let data = secret.data.take().unwrap_or_default();
    let bytes: usize = data.iter().map(|(key, value)| key.len() + value.0.len()).sum();
    secret.data = Some(data).filter(|_| bytes <= SECRET_BYTES_MAX);
    secret.string_data = None;
    keep_version(&mut secret.metadata);
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_route_is_found_by_its_gateways_and_by_what_it_refers_to() {
        let key = |name: &str| json!({"secretKeyRef": {"name": name, "key": "k"}});
        let route: GuardedRoute = serde_json::from_value(json!({
            "apiVersion": "mail-laser.dev/v1alpha1", "kind": "MailRoute",
            "metadata": {"name": "r", "namespace": "b"},
            "spec": {
                "parentRefs": [{"name": "edge", "namespace": "mail"}, {"name": "own"}],
                "recipients": ["a@b"],
                "webhook": {
                    "serviceRef": {"name": "api", "port": 80},
                    "bearerTokenFrom": key("token"),
                    "caBundleFrom": {"configMapKeyRef": {"name": "roots", "key": "k"}},
                    "signing": {"secretRefs": [{"name": "sign", "key": "k"}]},
                },
            },
            "status": {"parents": [
                {"parentRef": {"name": "former"}, "controllerName": CONTROLLER_NAME},
                {"parentRef": {"name": "other"}, "controllerName": "example.com/other"},
            ]},
        }))
        .unwrap();
        let expected = [
            ("mail", PARENT, "edge"),
            ("b", PARENT, "own"),
            ("b", PARENT, "former"),
            ("b", "Secret", "token"),
            ("b", "Secret", "sign"),
            ("b", "ConfigMap", "roots"),
            ("b", "Service", "api"),
        ];
        assert_eq!(terms(&route), expected.map(|(namespace, kind, name)| Term::new(namespace, kind, name)));
        let gateways: Vec<_> = gateways(&route).iter().map(ToString::to_string).collect();
        assert_eq!(gateways.len(), 3);
    }

    /// Anybody may make Secrets of the type, as many as a quota lets.
    #[test]
    fn a_secret_that_is_too_large_is_not_kept() {
        let trimmed = |value: Option<usize>| {
            let data =
                value.map(|bytes| [("key".to_owned(), ByteString(vec![7; bytes]))].into_iter().collect());
            let mut secret = Secret { data, ..Secret::default() };
            trim_secret(&mut secret);
            secret.data.map(|data| data.values().map(|value| value.0.len()).sum::<usize>())
        };
        assert_eq!(trimmed(None), Some(0));
        assert_eq!(trimmed(Some(60_000)), Some(60_000));
        assert_eq!(trimmed(Some(SECRET_BYTES_MAX)), None);
    }

    #[test]
    fn one_that_cannot_be_read_is_nobodys() {
        let route: GuardedRoute =
            serde_json::from_value(json!({"metadata": {"name": "r", "namespace": "b"}, "spec": 1})).unwrap();
        assert!(terms(&route).is_empty() && gateways(&route).is_empty());
    }
}
