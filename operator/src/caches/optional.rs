//! Kinds that a cluster may not have: those of the Prometheus Operator.
//!
//! A kind that is not there is not watched. Whether it is there is asked at the begin of a term, and then once a minute
//! for as long as it is not there and a resource wants an object of it: an operator whose resources want none asks
//! nothing. What the API server says of its kinds may be read by everybody, unlike definitions.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::StreamExt;
use kube::core::Status;
use kube::runtime::reflector::{ObjectRef, Store, store::Writer};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use tokio::sync::mpsc;

use super::Guarded;
use super::concerned::owner;
use super::forwarder::waiting_for;
use super::lists::Lists;
use super::packed::Packed;
use crate::backoff;
use crate::error::chain;
use crate::kinds::Kind;
use crate::scope::Place;

/// How long a definition that was installed may go unnoticed. A list of kinds costs an API server next to nothing.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// The objects of such a kind, while the cluster has it. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Shelf(Arc<RwLock<Option<Store<Packed>>>>);

impl Shelf {
    /// The objects, if the cluster has the kind and has told of them.
    pub(crate) fn store(&self) -> Option<Store<Packed>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn put(&self, store: Option<Store<Packed>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = store;
    }
}

/// Keeps a shelf filled.
pub(crate) struct Keeper {
    pub(crate) kind: Kind,
    pub(crate) place: Place,
    pub(crate) client: Client,
    pub(crate) api: Api<Packed>,
    pub(crate) config: watcher::Config,
    pub(crate) shelf: Shelf,
    pub(crate) resources: Store<Guarded>,
    pub(crate) sender: mpsc::Sender<ObjectRef<Guarded>>,
    /// Reconciliations wait until what is there is known, or that nothing can be.
    pub(crate) lists: Lists,
}

impl Keeper {
    /// Never ends, unless nobody listens any more.
    pub(crate) async fn run(self) {
        let mut failures = 0;
        let mut is_first = true;
        loop {
            match self.is_served().await {
                Ok(true) => {
                    tracing::info!(kind = self.kind.as_str(), "the cluster has this kind, which is watched");
                    self.watch(&mut is_first).await;
                    self.shelf.put(None);
                    tracing::info!(kind = self.kind.as_str(), "the cluster does not have this kind any more");
                }
                Ok(false) => failures = 0,
                Err(error) => {
                    failures += 1;
                    let wait = backoff::after_interruption(failures, backoff::random());
                    let (kind, error) = (self.kind.as_str(), chain(&error));
                    tracing::warn!(kind, error, ?wait, "it is not known whether the cluster has this kind");
                    self.is_known(&mut is_first).await;
                    tokio::time::sleep(wait).await;
                    continue;
                }
            }
            self.is_known(&mut is_first).await;
            self.until_wanted().await;
        }
    }

    async fn is_known(&self, is_first: &mut bool) {
        if !std::mem::take(is_first) || !self.lists.one_more_is_there(&self.place) {
            return;
        }
        for reference in waiting_for(&self.place, &self.resources) {
            // Who does not listen any more needs nothing.
            let _ = self.sender.send(reference).await;
        }
    }

    async fn is_served(&self) -> Result<bool, kube::Error> {
        let resource = self.kind.api_resource();
        match self.client.list_api_group_resources(&resource.api_version).await {
            Ok(list) => Ok(list.resources.iter().any(|served| served.kind == resource.kind)),
            Err(kube::Error::Api(status)) if is_unknown(&status) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn until_wanted(&self) {
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            if !self.wanting().is_empty() {
                return;
            }
        }
    }

    /// The resources that want an object of this kind.
    fn wanting(&self) -> Vec<ObjectRef<Guarded>> {
        let wants = |resource: &Guarded| {
            let monitoring = resource.0.as_ref().ok().and_then(|resource| resource.spec.monitoring.as_ref());
            monitoring.is_some_and(|monitoring| match self.kind {
                Kind::PodMonitor => monitoring.pod_monitor.as_ref().is_some_and(|it| it.enabled),
                Kind::PrometheusRule => monitoring.prometheus_rule.as_ref().is_some_and(|it| it.enabled),
                _ => false,
            })
        };
        self.resources.state_filter(wants).iter().map(|it| ObjectRef::from_obj(it.as_ref())).collect()
    }

    /// Watches until the kind is gone.
    async fn watch(&self, is_first: &mut bool) {
        let writer = Writer::new(self.kind);
        let store = writer.as_reader();
        let events = watcher(self.api.clone(), self.config.clone()).reflect(writer);
        let mut events = std::pin::pin!(events);
        let mut failures = 0;
        while let Some(event) = events.next().await {
            let concerned = match event {
                Ok(Event::Apply(object) | Event::InitApply(object) | Event::Delete(object)) => {
                    owner(object.meta()).into_iter().collect()
                }
                Ok(Event::InitDone) => {
                    failures = 0;
                    self.shelf.put(Some(store.clone()));
                    self.is_known(is_first).await;
                    self.wanting()
                }
                Ok(Event::Init) => Vec::new(),
                Err(error) if is_gone(&error) => return,
                Err(error) => {
                    // No right to a kind that is seldom there must not keep all else from being done.
                    self.is_known(is_first).await;
                    failures += 1;
                    let wait = backoff::after_interruption(failures, backoff::random());
                    let (kind, error) = (self.kind.as_str(), chain(&error));
                    tracing::warn!(kind, error, ?wait, "watch interrupted");
                    tokio::time::sleep(wait).await;
                    Vec::new()
                }
            };
            for reference in concerned {
                if self.sender.send(reference).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Whether the API server knows no such kind.
fn is_gone(error: &watcher::Error) -> bool {
    matches!(
        error,
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) if is_unknown(status)
    )
}

/// What the API server says of a kind that it does not know is no status of its own, so it has no reason.
fn is_unknown(status: &Status) -> bool {
    status.code == 404
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_that_is_gone_is_told_from_a_missing_right() {
        let failed = |code| {
            let status = Status::failure("404 page not found", "Failed to parse error data").with_code(code);
            kube::Error::Api(status.boxed())
        };
        assert!(is_gone(&watcher::Error::InitialListFailed(failed(404))));
        assert!(is_gone(&watcher::Error::WatchStartFailed(failed(404))));
        assert!(!is_gone(&watcher::Error::InitialListFailed(failed(403))));
        assert!(!is_gone(&watcher::Error::NoResourceVersion));
    }
}
