//! One watch: what it tells is kept, and wakes the resources that it concerns.

use std::hash::Hash;

use futures::{Stream, StreamExt};
use kube::Resource;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use tokio::sync::mpsc;

use super::Guarded;
use super::concerned::Referrers;
use super::intake::Intake;
use super::lists::Lists;
use crate::backoff;
use crate::error::chain;
use crate::resources::routes::takes_routes_of_others;
use crate::scope::Place;

/// Keeps a store up to date with what one watch tells, and sends the resources that it concerns.
pub(super) struct Forwarder<K>
where
    K: reflector::Lookup + Clone + 'static,
    K::DynamicType: Clone + Eq + Hash,
{
    pub(super) url: String,
    pub(super) place: Place,
    pub(super) intake: Intake<K>,
    pub(super) concerned: fn(&K, &Referrers) -> Vec<ObjectRef<Guarded>>,
    pub(super) referrers: Referrers,
    pub(super) sender: mpsc::Sender<ObjectRef<Guarded>>,
    pub(super) lists: Lists,
}

impl<K> Forwarder<K>
where
    K: reflector::Lookup + Clone + 'static,
    K::DynamicType: Clone + Eq + Hash,
{
    pub(super) async fn run(mut self, events: impl Stream<Item = watcher::Result<Event<K>>>) {
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
                    references.extend(waiting_for(&self.place, &self.referrers.resources.store));
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

/// Those that wait for the caches of a place: its own, and gateways that may have routes of others.
pub(super) fn waiting_for(place: &Place, resources: &Store<Guarded>) -> Vec<ObjectRef<Guarded>> {
    let is_wide = |resource: &Guarded| resource.0.as_ref().is_ok_and(|it| takes_routes_of_others(&it.spec));
    let waits = |resource: &Guarded| place.covers(resource.meta().namespace.as_deref()) || is_wide(resource);
    resources.state_filter(waits).iter().map(|resource| ObjectRef::from_obj(resource.as_ref())).collect()
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
