//! Asks for the Lease and keeps it, as [`super::lease`] says, in a task of its own: what the controllers are up to
//! does not delay a renewal.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::fence::Fence;
use super::lease::{Candidate, Draft, REQUEST_TIMEOUT, Record, Step, Stored};
use crate::clock;
use crate::error::chain;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::resources::labels::MANAGER;

/// The name of the Lease, in the operator's own namespace.
pub const LEASE_NAME: &str = "mail-laser-operator";

/// The term that lasts, if this process leads.
pub(crate) type Terms = watch::Receiver<Option<Fence>>;

/// One process's part in the election.
pub(crate) struct Election {
    api: Api<Lease>,
    candidate: Candidate,
    identity: String,
    terms: watch::Sender<Option<Fence>>,
    health: Health,
    metrics: Metrics,
    /// The failure that was logged last, so that a cluster in trouble does not fill the log.
    complaint: Option<String>,
}

impl Election {
    pub(crate) fn new(client: Client, namespace: &str, health: Health, metrics: Metrics) -> (Self, Terms) {
        let (sender, terms) = watch::channel(None);
        let identity = identity();
        let election = Self {
            api: Api::namespaced(client, namespace),
            candidate: Candidate::new(identity.clone()),
            identity,
            terms: sender,
            health,
            metrics,
            complaint: None,
        };
        (election, terms)
    }

    /// Takes part until `resign`, and gives the Lease back then.
    pub(crate) async fn run(mut self, resign: CancellationToken) {
        while !resign.is_cancelled() {
            let now = clock::now();
            self.health.election_goes_on(now);
            self.announce();
            match self.candidate.next(now) {
                Step::Wait(duration) => {
                    tokio::select! {
                        () = tokio::time::sleep(duration) => {}
                        () = resign.cancelled() => {}
                    }
                }
                Step::Read => self.read().await,
                Step::Write(draft) => self.write(&draft).await,
            }
        }
        self.resign().await;
    }

    /// Tells of a term that begins, goes on, or is over.
    fn announce(&self) {
        let until = self.candidate.held_until().filter(|until| clock::now() < *until);
        let term = self.terms.borrow().clone();
        match (term, until) {
            (Some(fence), Some(until)) => fence.extend(until),
            (None, Some(until)) => {
                tracing::info!(identity = self.identity, "this operator leads");
                self.metrics.leads(true);
                self.terms.send_replace(Some(Fence::until(until)));
            }
            (Some(fence), None) => {
                let holder = self.candidate.holder();
                tracing::warn!(holder, "this operator leads no more: it could not renew the Lease in time");
                self.end(&fence);
            }
            (None, None) => {}
        }
    }

    fn end(&self, fence: &Fence) {
        fence.close();
        self.metrics.leads(false);
        self.terms.send_replace(None);
    }

    async fn read(&mut self) {
        let answer = tokio::time::timeout(REQUEST_TIMEOUT, self.api.get_opt(LEASE_NAME)).await;
        match answer {
            Ok(Ok(lease)) => {
                let before = self.candidate.holder().map(str::to_owned);
                self.candidate.read(lease.as_ref().map(stored), clock::now());
                let holder = self.candidate.holder();
                if holder != before.as_deref() && holder != Some(self.identity.as_str()) {
                    tracing::info!(identity = self.identity, holder, "this operator stands by");
                }
                self.answered();
            }
            Ok(Err(error)) => self.failed("read", &chain(&error)),
            Err(_elapsed) => self.failed("read", NO_ANSWER),
        }
    }

    async fn write(&mut self, draft: &Draft) {
        let asked = clock::now();
        match tokio::time::timeout(REQUEST_TIMEOUT, self.send(draft)).await {
            Ok(Ok(lease)) => {
                self.candidate.written(stored(&lease), asked, clock::now());
                self.answered();
            }
            // 409: another version, or it was created meanwhile. 404: it was deleted.
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
                self.candidate.outdated(clock::now());
                self.answered();
            }
            Ok(Err(error)) => self.failed("write", &chain(&error)),
            Err(_elapsed) => self.failed("write", NO_ANSWER),
        }
    }

    async fn send(&self, draft: &Draft) -> Result<Lease, kube::Error> {
        let begins = self.candidate.holder() != draft.record.holder.as_deref();
        let body = body(draft, begins, Timestamp::now());
        if draft.replaces.is_none() {
            let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
            let lease = serde_json::from_value(body).map_err(kube::Error::SerdeError)?;
            return self.api.create(&params, &lease).await;
        }
        // A merge leaves the labels of the Lease alone.
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        self.api.patch(LEASE_NAME, &params, &Patch::Merge(body)).await
    }

    /// Nothing is written any more, and whoever stands by need not wait.
    async fn resign(&mut self) {
        let term = self.terms.borrow().clone();
        if let Some(fence) = term {
            self.end(&fence);
        }
        // The second try is for a renewal whose answer was lost.
        for _ in 0..2 {
            let Some(draft) = self.candidate.release() else { return };
            match tokio::time::timeout(REQUEST_TIMEOUT, self.send(&draft)).await {
                Ok(Ok(_)) => {
                    tracing::info!("Lease released");
                    return;
                }
                Ok(Err(error)) => self.failed("release", &chain(&error)),
                Err(_elapsed) => self.failed("release", NO_ANSWER),
            }
            self.read().await;
        }
    }

    fn answered(&mut self) {
        self.health.lease_answered(clock::now());
        if self.complaint.take().is_some() {
            tracing::info!("Lease can be read and written again");
        }
    }

    fn failed(&mut self, verb: &str, error: &str) {
        self.candidate.failed(clock::now());
        if self.complaint.as_deref() != Some(error) {
            tracing::warn!(verb, error, "request for the Lease failed, and is tried again");
            self.complaint = Some(error.to_owned());
        }
    }
}

const NO_ANSWER: &str = "there was no answer in time";

/// The host's name, which for a pod is its own, and a part that a restart in the same pod changes: what an earlier
/// process began must not be taken for this one's.
fn identity() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host}_{:08x}", getrandom::u32().unwrap_or_else(|_| std::process::id()))
}

fn stored(lease: &Lease) -> Stored {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or_default()).unwrap_or_default();
    Stored {
        record: Record {
            holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
            duration: Duration::from_secs(seconds),
            transitions: u32::try_from(spec.lease_transitions.unwrap_or_default()).unwrap_or_default(),
        },
        version: lease.resource_version().unwrap_or_default(),
    }
}

/// The Lease to send. Its times are for people: nobody decides by them.
fn body(draft: &Draft, begins: bool, now: Timestamp) -> Value {
    let Record { holder, duration, transitions } = &draft.record;
    let mut spec = json!({
        "holderIdentity": holder.as_deref().unwrap_or_default(),
        "leaseDurationSeconds": duration.as_secs(),
        "leaseTransitions": transitions,
        "renewTime": MicroTime(now),
    });
    if begins {
        spec["acquireTime"] = json!(MicroTime(now));
    }
    let mut metadata = json!({"name": LEASE_NAME});
    if let Some(version) = &draft.replaces {
        metadata["resourceVersion"] = json!(version);
    }
    json!({"metadata": metadata, "spec": spec})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_read_as_it_is_written() {
        let record =
            Record { holder: Some("a_1".to_owned()), duration: Duration::from_secs(15), transitions: 3 };
        for record in [record.clone(), Record { holder: None, ..record }] {
            let draft = Draft { record, replaces: Some("7".to_owned()) };
            let lease: Lease = serde_json::from_value(body(&draft, true, Timestamp::UNIX_EPOCH)).unwrap();
            assert_eq!(stored(&lease), Stored { record: draft.record, version: "7".to_owned() });
        }
    }

    #[test]
    fn a_lease_that_says_nothing_is_nobodys() {
        let stored = stored(&Lease::default());
        assert_eq!(stored.record.holder, None);
        assert_eq!(stored.record.transitions, 0);
    }

    #[test]
    fn a_lease_is_created_without_a_version_and_renewed_without_a_beginning() {
        let record =
            Record { holder: Some("a".to_owned()), duration: Duration::from_secs(15), transitions: 0 };
        let body = body(&Draft { record, replaces: None }, false, Timestamp::UNIX_EPOCH);
        assert_eq!(body["metadata"], json!({"name": LEASE_NAME}));
        assert_eq!(body["spec"].get("acquireTime"), None);
        assert_eq!(body["spec"]["renewTime"], "1970-01-01T00:00:00.000000Z");
    }

    #[test]
    fn no_two_processes_have_the_same_name() {
        assert_ne!(identity(), identity());
    }
}
