//! Which resources a change of an object concerns.

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};
use mail_laser_crds::{DRAIN_LABEL, FromNamespaces, NAME_LABEL};

use super::Guarded;
use super::index::Term;
use super::intake::Filled;
use crate::references;
use crate::resources::labels::INSTANCE;
use crate::routes::caches::{GuardedRoute, gateways};

/// Who may refer to an object that something happened to.
#[derive(Clone)]
pub(super) struct Referrers {
    pub(super) resources: Filled<Guarded>,
    pub(super) routes: Filled<GuardedRoute>,
}

/// What an object is found by: those labels of these that it has.
pub(super) fn labels(object: &impl ResourceExt, labels: &[&'static str]) -> Vec<Term> {
    let namespace = object.meta().namespace.as_deref().unwrap_or_default();
    let values = labels.iter().filter_map(|label| Some((*label, object.labels().get(*label)?)));
    values.map(|(label, value)| Term::new(namespace, label, value)).collect()
}

/// What a resource is found by: what it refers to. One that cannot be read is not looked after.
pub(super) fn referred_to(resource: &Guarded) -> Vec<Term> {
    let namespace = resource.meta().namespace.as_deref().unwrap_or_default();
    let objects = resource.0.as_ref().map(|resource| references::objects(&resource.spec)).unwrap_or_default();
    objects.iter().map(|(kind, name)| Term::new(namespace, kind, name)).collect()
}

/// The `MailLaser` that controls an object, or the one in whose way it is: one without a controller has the
/// label of the resource that once had it.
pub(super) fn owner(meta: &ObjectMeta) -> Option<ObjectRef<Guarded>> {
    let namespace = meta.namespace.as_deref();
    match meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true)) {
        Some(owner) => ObjectRef::from_owner_ref(namespace, owner, ()),
        None => Some(ObjectRef::new(meta.labels.as_ref()?.get(INSTANCE)?).within(namespace?)),
    }
}

pub(super) fn resource_of(pod: &Pod) -> Option<ObjectRef<Guarded>> {
    let name = pod.labels().get(NAME_LABEL).or_else(|| pod.labels().get(DRAIN_LABEL))?;
    Some(ObjectRef::new(name).within(pod.metadata.namespace.as_deref()?))
}

/// Resources that refer to this object, and the gateways of routes that do.
pub(super) fn referring(
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
pub(super) fn choosing_by_labels(referrers: &Referrers) -> Vec<ObjectRef<Guarded>> {
    let chooses = |resource: &Guarded| {
        let allowed = resource.0.as_ref().map(|resource| resource.spec.allowed_routes.as_slice());
        allowed.unwrap_or_default().iter().any(|it| it.namespaces.from == FromNamespaces::Selector)
    };
    let gateways = referrers.resources.store.state_filter(chooses);
    gateways.iter().map(|gateway| ObjectRef::from_obj(gateway.as_ref())).collect()
}

/// Resources with a webhook that is this Service, and the one whose own Service it is or stands in the way of.
pub(super) fn concerned_by_service(
    service: &PartialObjectMeta<Service>,
    referrers: &Referrers,
) -> Vec<ObjectRef<Guarded>> {
    let mut concerned = referring(referrers, references::SERVICE, service);
    let namespace = service.namespace().unwrap_or_default();
    let of_its_name = referrers.resources.get(&namespace, &service.name_any()).filter(|it| it.0.is_ok());
    concerned.extend(of_its_name.map(|resource| ObjectRef::from_obj(resource.as_ref())));
    concerned
}
