//! What a `MailLaser` consists of in the cluster. Everything here is pure: API types in, API types out.

pub mod autoscaler;
pub mod claim;
pub mod dashboard;
pub mod deployment;
pub mod drain;
pub mod environment;
pub mod labels;
pub mod monitoring;
pub mod network_policy;
mod opaque_ports;
pub mod pod;
pub mod pod_disruption_budget;
pub mod probes;
pub mod routes;
pub mod service;
pub mod service_account;
mod sidecar;
mod spread;
pub mod stateful_set;
pub mod volumes;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::validate::ValidatedMailLaser;

/// How many earlier templates a workload keeps; the default of Kubernetes.
const REVISION_HISTORY_LIMIT: i32 = 10;

/// The metadata that every owned object has.
fn metadata(resource: &ValidatedMailLaser) -> ObjectMeta {
    ObjectMeta {
        name: Some(resource.name.clone()),
        namespace: Some(resource.namespace.clone()),
        labels: Some(labels::owned(&resource.name)),
        owner_references: Some(vec![resource.owner.clone()]),
        ..ObjectMeta::default()
    }
}

/// [`metadata`] with labels of a user's, of which none stands in place of the operator's.
fn labelled(resource: &ValidatedMailLaser, labels: &BTreeMap<String, String>) -> ObjectMeta {
    let own = labels::owned(&resource.name);
    ObjectMeta { labels: Some(labels.clone().into_iter().chain(own).collect()), ..metadata(resource) }
}

/// Absent rather than empty, as the API server keeps it.
fn some<T: Default + PartialEq>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}
