//! Writes owned objects: the only place that changes anything but status.
//!
//! An absent object is created. One that is there is written only if [`diff`] finds a reason, by
//! server-side apply. One that is someone else's is never touched. A Service is never deleted, because its address
//! may be an MX record; a claim only when nothing is left in it.

pub mod diff;
pub(crate) mod managed_fields;
pub mod ownership;
pub(crate) mod replacement;
mod written;

use std::collections::BTreeSet;
use std::time::Instant;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{
    DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy,
};
use kube::{Api, Client, ResourceExt};
use mail_laser_crds::conditions::Reason;
use serde::Serialize;
use serde_json::{Value, json};

use self::ownership::{Ownership, ownership};
use self::replacement::replacement;
use self::written::Written;
use crate::caches::{Caches, Mark};
use crate::error::{RequestError, Verb, is_namespace_terminating};
use crate::kinds::Kind;
use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::resources::claim;
use crate::resources::labels::MANAGER;

/// How often a write that depends on the version of an object is tried: the cluster's own controllers write
/// to new objects all the time, a few times each.
const CONFLICT_TRIES: u32 = 4;

/// What came of an object.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It is as it should be.
    InPlace(Box<DynamicObject>),
    /// It is not, and another try would not help now.
    Problem(Problem),
}

/// Writes owned objects.
pub struct Applier {
    client: Client,
    metrics: Metrics,
    written: Written,
}

impl Applier {
    /// A writer that has written nothing yet.
    pub fn new(client: Client, metrics: Metrics) -> Self {
        Self { client, metrics, written: Written::default() }
    }

    /// The object as it is: what is cached, or what was written since.
    pub fn live(&self, caches: &Caches, kind: Kind, namespace: &str, name: &str) -> Option<DynamicObject> {
        let key = (kind, namespace.to_owned(), name.to_owned());
        let written = self.written.newer_than(&caches.mark(kind, namespace, name), &key, Instant::now());
        written.or_else(|| caches.owned(kind, namespace, name))
    }

    /// Remembers what was written when this was known of it.
    fn remember(&self, kind: Kind, before: Mark, live: &DynamicObject) {
        let key = (kind, live.namespace().unwrap_or_default(), live.name_any());
        self.written.remember(key, before, live, Instant::now());
    }

    /// Drops what is remembered of the objects of a resource that is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.written.forget(namespace, name);
    }

    /// Makes the object be what `sent` says.
    ///
    /// # Errors
    /// When a request fails in a way that another try may mend.
    pub async fn apply(
        &self,
        caches: &Caches,
        kind: Kind,
        owner: &OwnerReference,
        namespace: &str,
        sent: &Value,
    ) -> Result<Outcome, RequestError> {
        let name = sent["metadata"]["name"].as_str().unwrap_or_default();
        let target = Target { api: self.api(kind, namespace), kind, namespace, name };
        let before = caches.mark(kind, namespace, name);
        let live = match self.live(caches, kind, namespace, name) {
            Some(live) => live,
            None => match self.create(&target, sent).await? {
                Creation::Created(live) => {
                    self.remember(kind, before, &live);
                    return Ok(Outcome::InPlace(live));
                }
                Creation::Refused(problem) => return Ok(Outcome::Problem(problem)),
                Creation::Exists => target.get().await?,
            },
        };
        let update = match ownership(&live.metadata, owner) {
            Ownership::Foreign(whose) => {
                return Ok(Outcome::Problem(conflict(kind, namespace, name, &whose)));
            }
            Ownership::Leaving => {
                return Ok(Outcome::Problem(Problem::new(
                    Reason::WaitingForDeletion,
                    format!("{} {name} of an earlier MailLaser of this name is being deleted", kind.as_str()),
                )));
            }
            Ownership::Orphan => Some("it has no controller".to_owned()),
            // The pods of a Job are as they were made: it ends, and another one begins.
            Ownership::Ours if kind == Kind::Job => None,
            Ownership::Ours => reason_to_write(kind, sent, &live),
        };
        let Some(why) = update else { return Ok(Outcome::InPlace(Box::new(live))) };
        tracing::info!(kind = kind.as_str(), namespace, name, why, "object differs");
        let outcome = self.update(&target, owner, sent, &live).await?;
        if let Outcome::InPlace(live) = &outcome {
            self.remember(kind, before, live);
        }
        Ok(outcome)
    }

    async fn create(&self, target: &Target<'_>, sent: &Value) -> Result<Creation, RequestError> {
        let body: DynamicObject = match serde_json::from_value(sent.clone()) {
            Ok(body) => body,
            Err(error) => return Err(target.failed(Verb::Create, kube::Error::SerdeError(error))),
        };
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        match target.api.create(&params, &body).await {
            Ok(live) => {
                self.metrics.wrote(target.kind, Verb::Create);
                Ok(Creation::Created(Box::new(live)))
            }
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(Creation::Exists),
            Err(kube::Error::Api(status)) if is_refusal(&status) => {
                Ok(Creation::Refused(refused(target, &status.message)))
            }
            Err(error) if is_namespace_terminating(&error) => {
                Ok(Creation::Refused(being_deleted(target.namespace)))
            }
            Err(error) => Err(target.failed(Verb::Create, error)),
        }
    }

    async fn update(
        &self,
        target: &Target<'_>,
        owner: &OwnerReference,
        sent: &Value,
        live: &DynamicObject,
    ) -> Result<Outcome, RequestError> {
        if is_left_behind(&to_value(live), sent)
            && let Some(problem) = self.migrate(target, live).await?
        {
            return Ok(Outcome::Problem(problem));
        }
        // With the uid the write is of this very object, not of one that took its name meanwhile.
        let mut body = sent.clone();
        body["metadata"]["uid"] = json!(live.uid());
        let params = PatchParams::apply(MANAGER).force();
        match target.api.patch(target.name, &params, &Patch::Apply(body)).await {
            Ok(live) => {
                self.metrics.wrote(target.kind, Verb::Apply);
                Ok(Outcome::InPlace(Box::new(live)))
            }
            Err(kube::Error::Api(status)) if is_refusal(&status) => {
                if target.kind.has_fields_that_exclude_others() {
                    self.replace(target, owner, sent).await
                } else {
                    Ok(Outcome::Problem(refused(target, &status.message)))
                }
            }
            Err(error) => Err(target.failed(Verb::Apply, error)),
        }
    }

    /// See [`managed_fields`]. What is cached has the operator's sets alone, so the object is read.
    async fn migrate(
        &self,
        target: &Target<'_>,
        of: &DynamicObject,
    ) -> Result<Option<Problem>, RequestError> {
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let mut remaining = CONFLICT_TRIES;
        loop {
            remaining -= 1;
            let live = target.get().await?;
            let is_another = live.uid() != of.uid();
            let live = to_value(&live);
            // Another object of that name is not ours to change; the write that follows finds out.
            if is_another || managed_fields::of_updates(&live).next().is_none() {
                return Ok(None);
            }
            let patch = Patch::Merge(managed_fields::migration(&live));
            match target.api.patch(target.name, &params, &patch).await {
                Ok(_) => {
                    self.metrics.wrote(target.kind, Verb::Patch);
                    return Ok(None);
                }
                // A policy may take any change for invalid.
                Err(kube::Error::Api(status)) if is_refusal(&status) => {
                    return Ok(Some(refused(target, &status.message)));
                }
                Err(kube::Error::Api(status)) if status.is_conflict() && remaining > 0 => {}
                Err(error) => return Err(target.failed(Verb::Patch, error)),
            }
        }
    }

    /// See [`replacement()`].
    async fn replace(
        &self,
        target: &Target<'_>,
        owner: &OwnerReference,
        sent: &Value,
    ) -> Result<Outcome, RequestError> {
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let mut remaining = CONFLICT_TRIES;
        loop {
            remaining -= 1;
            let live = target.get().await?;
            if let Some(problem) = not_ours(target, &live, owner) {
                return Ok(Outcome::Problem(problem));
            }
            let live = to_value(&live);
            let body: DynamicObject = serde_json::from_value(replacement(target.kind, sent, &live))
                .map_err(|error| target.failed(Verb::Update, kube::Error::SerdeError(error)))?;
            match target.api.replace(target.name, &params, &body).await {
                Ok(live) => {
                    self.metrics.wrote(target.kind, Verb::Update);
                    return Ok(Outcome::InPlace(Box::new(live)));
                }
                Err(kube::Error::Api(status)) if is_refusal(&status) => {
                    return Ok(Outcome::Problem(refused(target, &status.message)));
                }
                Err(kube::Error::Api(status)) if status.is_conflict() && remaining > 0 => {}
                Err(error) => return Err(target.failed(Verb::Update, error)),
            }
        }
    }

    /// Has a claim ask for a size.
    ///
    /// # Errors
    /// When the request fails in a way that another try may mend.
    pub async fn grow(
        &self,
        caches: &Caches,
        namespace: &str,
        name: &str,
        size: &str,
    ) -> Result<Option<Problem>, RequestError> {
        let kind = Kind::Claim;
        let Some(live) = self.live(caches, kind, namespace, name) else { return Ok(None) };
        let before = caches.mark(kind, namespace, name);
        let target = Target { api: self.api(kind, namespace), kind, namespace, name };
        let mut body = claim::growth(size);
        kind.name(&mut body);
        // With the uid no claim is made where none is.
        body["metadata"] = json!({"name": name, "namespace": namespace, "uid": live.uid()});
        let params = PatchParams::apply(MANAGER).force();
        match target.api.patch(name, &params, &Patch::Apply(body)).await {
            Ok(live) => {
                self.metrics.wrote(kind, Verb::Apply);
                tracing::info!(namespace, name, size, "claim is to grow");
                self.remember(kind, before, &live);
                Ok(None)
            }
            Err(error) if is_namespace_terminating(&error) => Ok(Some(being_deleted(namespace))),
            Err(kube::Error::Api(status)) if is_refusal(&status) || status.is_forbidden() => {
                Ok(Some(cannot_grow(name, size, &status.message)))
            }
            Err(error) => Err(target.failed(Verb::Apply, error)),
        }
    }

    /// Deletes an object if it is there and the resource's.
    ///
    /// # Errors
    /// When the request fails.
    pub async fn delete(
        &self,
        caches: &Caches,
        removal: &Removal<'_>,
        owner: &OwnerReference,
        namespace: &str,
    ) -> Result<(), RequestError> {
        let Removal { kind, name, uid, propagation } = removal.clone();
        let Some(live) = self.live(caches, kind, namespace, name) else { return Ok(()) };
        let is_another = uid.is_some_and(|uid| live.uid().as_deref() != Some(uid));
        if is_another || !matches!(ownership(&live.metadata, owner), Ownership::Ours | Ownership::Orphan) {
            return Ok(());
        }
        let before = caches.mark(kind, namespace, name);
        let target = Target { api: self.api(kind, namespace), kind, namespace, name };
        let params = DeleteParams {
            preconditions: Some(preconditions(kind, &live)),
            propagation_policy: Some(propagation),
            ..DeleteParams::default()
        };
        match target.api.delete(name, &params).await {
            Ok(answer) => {
                self.metrics.wrote(kind, Verb::Delete);
                let key = (kind, namespace.to_owned(), name.to_owned());
                self.written.remove(&key);
                // It stays until what it waits for is gone, and is known to be on its way.
                if let Some(leaving) = answer.left().filter(|it| it.metadata.deletion_timestamp.is_some()) {
                    self.remember(kind, before, &leaving);
                }
                Ok(())
            }
            // Someone was faster; what counts is that it is gone.
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
            Err(error) => Err(target.failed(Verb::Delete, error)),
        }
    }

    /// The objects of a kind that have the label of a resource, as they are.
    pub fn labelled(
        &self,
        caches: &Caches,
        kind: Kind,
        namespace: &str,
        instance: &str,
    ) -> Vec<DynamicObject> {
        let mut names: BTreeSet<_> = caches.labelled(kind, namespace, instance).into_iter().collect();
        names.extend(self.written.labelled(kind, namespace, instance));
        names.iter().filter_map(|name| self.live(caches, kind, namespace, name)).collect()
    }

    fn api(&self, kind: Kind, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &kind.api_resource())
    }
}

/// What is to be deleted, and how.
#[derive(Clone, Debug)]
pub struct Removal<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: &'a str,
    /// Its uid, where only that very object may go.
    pub uid: Option<&'a str>,
    /// What becomes of what it owns.
    pub propagation: PropagationPolicy,
}

/// An object as it is sent: with its type, without what has no value.
pub fn sent(kind: Kind, object: &impl Serialize) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_else(|_| json!({}));
    kind.name(&mut value);
    value
}

enum Creation {
    Created(Box<DynamicObject>),
    Exists,
    Refused(Problem),
}

/// The object that requests are about.
struct Target<'a> {
    api: Api<DynamicObject>,
    kind: Kind,
    namespace: &'a str,
    name: &'a str,
}

impl Target<'_> {
    async fn get(&self) -> Result<DynamicObject, RequestError> {
        self.api.get(self.name).await.map_err(|error| self.failed(Verb::Get, error))
    }

    fn failed(&self, verb: Verb, error: kube::Error) -> RequestError {
        RequestError::new(verb, self.kind.as_str(), self.namespace, self.name, error)
    }
}

/// What has to hold for an object to be deleted: it is the very one that was looked at. A claim has to be as it was, too:
/// one that had no volume then may have one by now, with mail on it.
fn preconditions(kind: Kind, live: &DynamicObject) -> Preconditions {
    let resource_version = live.resource_version().filter(|_| kind == Kind::Claim);
    Preconditions { uid: live.uid(), resource_version }
}

/// Whether the API server refuses the object itself, so that another try would not help: 422 for one that is
/// invalid, 400 for one that it cannot even read.
fn is_refusal(status: &kube::core::Status) -> bool {
    status.is_invalid() || status.code == 400
}

/// What is in the way when an object is not the resource's.
fn not_ours(target: &Target<'_>, live: &DynamicObject, owner: &OwnerReference) -> Option<Problem> {
    let (kind, name) = (target.kind, target.name);
    match ownership(&live.metadata, owner) {
        Ownership::Foreign(whose) => Some(conflict(kind, target.namespace, name, &whose)),
        Ownership::Leaving => Some(Problem::new(
            Reason::WaitingForDeletion,
            format!("{} {name} is being deleted, and is made anew when it is gone", kind.as_str()),
        )),
        Ownership::Orphan | Ownership::Ours => None,
    }
}

fn to_value(object: &DynamicObject) -> Value {
    serde_json::to_value(object).unwrap_or_else(|_| json!({}))
}

fn reason_to_write(kind: Kind, sent: &Value, live: &DynamicObject) -> Option<String> {
    let mut live = to_value(live);
    // The objects of a list do not say of which kind they are.
    kind.name(&mut live);
    if let Some(path) = diff::changed(sent, &live) {
        return Some(format!("{path} is not as it should be"));
    }
    managed_fields::ours(&live)
        .find_map(|owned| diff::dropped(owned, sent))
        .map(|path| format!("{path} is no longer wanted"))
}

/// Whether the object has fields that an apply of `sent` would not remove, although the operator set them.
fn is_left_behind(live: &Value, sent: &Value) -> bool {
    managed_fields::of_updates(live).any(|owned| diff::dropped(owned, sent).is_some())
}

fn being_deleted(namespace: &str) -> Problem {
    Problem::new(Reason::WaitingForDeletion, format!("namespace {namespace} is being deleted"))
}

fn cannot_grow(name: &str, size: &str, message: &str) -> Problem {
    Problem::new(
        Reason::ClaimCannotGrow,
        format!(
            "claim {name} cannot grow to {size}: {message}. Set allowVolumeExpansion in its storage class if that \
             can; else set spec.delivery.mode to Confirm, wait until the spool is drained, and set Spool again \
             with this size. Mail is accepted as before"
        ),
    )
}

fn conflict(kind: Kind, namespace: &str, name: &str, whose: &str) -> Problem {
    let kind = kind.as_str();
    Problem::new(
        Reason::NameConflict,
        format!(
            "{kind} {name} in namespace {namespace} belongs to {whose} and is left untouched: delete or rename it, \
             or give this MailLaser another name"
        ),
    )
}

fn refused(target: &Target<'_>, message: &str) -> Problem {
    let (kind, name) = (target.kind.as_str(), target.name);
    Problem::new(
        Reason::Refused,
        format!(
            "the API server refuses the {kind} {name}: {message}. Correct the field of this MailLaser that it comes \
             from; if it names a field that cannot change, delete the {kind} when its absence can be afforded, and \
             it is made anew"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_deleted_as_it_was_looked_at() {
        let metadata = json!({"uid": "u", "resourceVersion": "7"});
        let live: DynamicObject = serde_json::from_value(json!({"metadata": metadata})).unwrap();
        let of = |kind| {
            let Preconditions { uid, resource_version } = preconditions(kind, &live);
            (uid.unwrap(), resource_version)
        };
        assert_eq!(of(Kind::Claim), ("u".to_owned(), Some("7".to_owned())));
        assert_eq!(of(Kind::Service), ("u".to_owned(), None));
    }
}
