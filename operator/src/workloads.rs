//! Takes the steps of [`crate::spool::plan`]: what runs the pods, the claims, and the Jobs that drain them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{DynamicObject, PropagationPolicy};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::apply::ownership::{Ownership, ownership};
use crate::apply::{Applier, Outcome, Removal, sent};
use crate::caches::Caches;
use crate::error::RequestError;
use crate::kinds::Kind;
use crate::problem::Problem;
use crate::references::evaluate::Dereferenced;
use crate::resources::claim::{self, Ordinal};
use crate::resources::environment::Disk;
use crate::resources::{deployment, drain, pod, stateful_set};
use crate::spool::plan::{self, Step, plan};
use crate::spool::report::{Notes, notes};
use crate::spool::world::{self, World};
use crate::status::workload::observe_drain;
use crate::validate::{Spool, ValidatedMailLaser};

/// The size of a claim that is never made: of a StatefulSet that is to have no pods, where nothing tells of what
/// size its claims were.
const NO_SIZE: &str = "1Gi";

/// What runs the pods of one resource.
pub(crate) struct Workloads<'a> {
    pub(crate) resource: &'a ValidatedMailLaser,
    pub(crate) references: &'a Dereferenced,
    pub(crate) ipv6: bool,
    pub(crate) caches: &'a Caches,
    pub(crate) applier: &'a Applier,
}

/// What came of the steps.
#[derive(Default)]
pub(crate) struct Taken {
    /// What is in the way.
    pub(crate) problems: Vec<Problem>,
    /// The request that failed, after which no more steps were taken.
    pub(crate) failure: Option<RequestError>,
    /// Whether what runs the pods is what the resource says now.
    pub(crate) is_current: bool,
    /// What is to be said of claims.
    pub(crate) notes: Notes,
}

impl Workloads<'_> {
    /// Takes the steps from what there is towards what should be.
    pub(crate) async fn bring_about(&self) -> Taken {
        let mut taken = Taken::default();
        let world = self.world();
        for step in plan(&world) {
            match self.take(&step, &world).await {
                Ok(None) if self.is_main(&step) => taken.is_current = true,
                Ok(problem) => taken.problems.extend(problem),
                Err(error) => {
                    taken.failure = Some(error);
                    break;
                }
            }
        }
        taken.notes = self.notes();
        taken
    }

    /// Whether the step is about the workload of the mode that is wanted.
    fn is_main(&self, step: &Step) -> bool {
        match step {
            Step::PutDeployment => self.resource.spool.is_none(),
            Step::PutSet(_) => self.resource.spool.is_some(),
            _ => false,
        }
    }

    fn world(&self) -> World {
        let set = self.own::<StatefulSet>(Kind::StatefulSet);
        let claims = self.claims();
        let mut world = World {
            replicas: Ordinal::try_from(self.resource.spec.replicas).unwrap_or(0),
            claim_bytes: self.resource.spool.as_ref().map(|spool| spool.bytes),
            is_complete: self.references.complete(),
            deployment: self.own::<Deployment>(Kind::Deployment).map(|deployment| world::crew(&deployment)),
            set: None,
            pods: self.pods(),
            claims: claims.iter().map(|(ordinal, claim)| (*ordinal, world::claim(claim))).collect(),
            drains: BTreeMap::new(),
        };
        world.set = set.map(|live| world::set(&live, self.fits(&live, &world)));
        world.drains = self.drains(&world);
        world
    }

    /// Whether a StatefulSet can become the one that is wanted. Without a spool it is only to have no pods.
    fn fits(&self, live: &StatefulSet, world: &World) -> bool {
        let owners = live.metadata.owner_references.as_deref().unwrap_or_default();
        let is_of_before =
            !owners.is_empty() && owners.iter().all(|owner| owner.uid != self.resource.owner.uid);
        is_of_before
            || self.resource.spool.as_ref().is_none_or(|spool| {
                let wanted = self.set(world, &claims_of(spool), 0);
                let [live, wanted] = [live, &wanted].map(|set| sent(Kind::StatefulSet, set));
                stateful_set::can_become(&live, &wanted)
            })
    }

    fn pods(&self) -> BTreeSet<Ordinal> {
        let Self { resource: ValidatedMailLaser { name, namespace, .. }, caches, .. } = self;
        set_pods(&caches.pods(namespace, name), name).collect()
    }

    fn claims(&self) -> BTreeMap<Ordinal, PersistentVolumeClaim> {
        let name = &self.resource.name;
        self.labelled(Kind::Claim)
            .filter_map(|object| Some((claim::ordinal(name, &object.name_any())?, object.try_parse().ok()?)))
            .collect()
    }

    fn drains(&self, world: &World) -> BTreeMap<Ordinal, world::Drain> {
        let name = &self.resource.name;
        let of = |object: DynamicObject| {
            let ordinal = drain::ordinal(name, &object.name_any())?;
            let ownership = ownership(&object.metadata, &self.resource.owner);
            let job: Job = object.try_parse().ok()?;
            let wanted = world.is_complete.then(|| self.job(world, ordinal, ""));
            let hash = wanted.as_ref().and_then(|wanted| pod::hash(&wanted.spec.as_ref()?.template));
            let mut drain = world::drain(&job, hash);
            match ownership {
                Ownership::Ours => {}
                // It lost its resource, and would not go with it.
                Ownership::Orphan => drain.fits = false,
                Ownership::Leaving => drain.is_leaving = true,
                Ownership::Foreign(_) => return None,
            }
            Some((ordinal, drain))
        };
        self.labelled(Kind::Job).filter_map(of).collect()
    }

    fn labelled(&self, kind: Kind) -> impl Iterator<Item = DynamicObject> {
        let ValidatedMailLaser { name, namespace, .. } = self.resource;
        self.applier.labelled(self.caches, kind, namespace, name).into_iter()
    }

    /// The object of the resource's name, unless it is someone else's.
    fn own<T: DeserializeOwned>(&self, kind: Kind) -> Option<T> {
        let ValidatedMailLaser { name, namespace, owner, .. } = self.resource;
        let mut live = self.applier.live(self.caches, kind, namespace, name)?;
        match ownership(&live.metadata, owner) {
            Ownership::Foreign(_) => return None,
            // One that will be deleted with an earlier resource of this name is as good as being deleted.
            Ownership::Leaving => {
                let now = live.metadata.creation_timestamp.clone();
                live.metadata.deletion_timestamp = live.metadata.deletion_timestamp.or(now);
            }
            Ownership::Ours | Ownership::Orphan => {}
        }
        serde_json::from_value(serde_json::to_value(live).ok()?).ok()
    }

    async fn take(&self, step: &Step, world: &World) -> Result<Option<Problem>, RequestError> {
        let Self { resource, references, ipv6, caches, applier } = self;
        let ValidatedMailLaser { name, namespace, .. } = resource;
        match step {
            Step::PutDeployment => {
                let deployment = deployment::build(resource, references, *ipv6);
                self.put(Kind::Deployment, sent(Kind::Deployment, &deployment)).await
            }
            Step::PutSet(replicas) => {
                let set = self.set(world, &self.claims_in_force(world), *replicas);
                self.put(Kind::StatefulSet, sent(Kind::StatefulSet, &set)).await
            }
            Step::Drain(ordinal, uid) => {
                tracing::info!(namespace, name, ordinal, "a claim has no pod any more and is drained");
                let job = self.job(world, *ordinal, uid);
                self.put(Kind::Job, sent(Kind::Job, &job)).await
            }
            Step::Grow(ordinal) => {
                let size = resource.spool.as_ref().map(|spool| spool.size.as_str()).unwrap_or_default();
                applier.grow(caches, namespace, &claim::name(name, *ordinal), size).await
            }
            Step::RemoveDeployment => {
                self.remove(Kind::Deployment, name, None, PropagationPolicy::Background).await
            }
            Step::ReleaseSet => {
                tracing::info!(namespace, name, "the StatefulSet is made anew around its pods");
                self.remove(Kind::StatefulSet, name, None, PropagationPolicy::Orphan).await
            }
            Step::RemoveSet => {
                self.remove(Kind::StatefulSet, name, None, PropagationPolicy::Background).await
            }
            // It goes after its pods: the next Job of that name must not meet them.
            Step::EndDrain(ordinal) => {
                let job = drain::name(name, *ordinal);
                self.remove(Kind::Job, &job, None, PropagationPolicy::Foreground).await
            }
            Step::RemoveClaim(ordinal, uid) => {
                tracing::info!(namespace, name, ordinal, uid, "a claim is drained and goes");
                let claim = claim::name(name, *ordinal);
                self.remove(Kind::Claim, &claim, Some(uid), PropagationPolicy::Background).await
            }
        }
    }

    async fn put(&self, kind: Kind, object: Value) -> Result<Option<Problem>, RequestError> {
        let ValidatedMailLaser { namespace, owner, .. } = self.resource;
        match self.applier.apply(self.caches, kind, owner, namespace, &object).await? {
            Outcome::InPlace(_) => Ok(None),
            Outcome::Problem(problem) => Ok(Some(problem)),
        }
    }

    async fn remove(
        &self,
        kind: Kind,
        name: &str,
        uid: Option<&str>,
        propagation: PropagationPolicy,
    ) -> Result<Option<Problem>, RequestError> {
        let ValidatedMailLaser { namespace, owner, .. } = self.resource;
        let removal = Removal { kind, name, uid, propagation };
        self.applier.delete(self.caches, &removal, owner, namespace).await.map(|()| None)
    }

    fn set(&self, world: &World, template: &claim::Template, replicas: Ordinal) -> StatefulSet {
        let disk = self.disk(plan::disk_bytes(world).unwrap_or(0));
        stateful_set::build(self.resource, self.references, self.ipv6, &disk, template, replicas)
    }

    fn job(&self, world: &World, ordinal: Ordinal, uid: &str) -> Job {
        let disk = self.disk(world.claims.get(&ordinal).map_or(0, world::Claim::bytes));
        drain::build(self.resource, self.references, self.ipv6, &disk, ordinal, uid)
    }

    fn disk(&self, bytes: u64) -> Disk {
        // What a resource without a spool says nothing of any more still holds for mails that it has.
        let of_set = || stateful_set::lifetime_seconds(&self.own::<StatefulSet>(Kind::StatefulSet)?);
        let lifetime_seconds =
            self.resource.spool.as_ref().map(|spool| spool.lifetime_seconds).or_else(of_set);
        Disk { bytes, lifetime_seconds }
    }

    /// What claims are made like: as the resource says, or while the StatefulSet cannot become that, as it has it.
    fn claims_in_force(&self, world: &World) -> claim::Template {
        let fits = world.set.as_ref().is_none_or(|set| set.fits);
        if let Some(spool) = self.resource.spool.as_ref().filter(|_| fits) {
            return claims_of(spool);
        }
        let live = self.own::<StatefulSet>(Kind::StatefulSet);
        live.as_ref()
            .and_then(stateful_set::claims)
            .unwrap_or_else(|| claim::Template { size: NO_SIZE.to_owned(), class: None })
    }

    fn notes(&self) -> Notes {
        let ValidatedMailLaser { name, namespace, .. } = self.resource;
        let pods = self.caches.drain_pods(namespace, name);
        let observed: Vec<_> = pods
            .iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .map(|pod| observe_drain(pod))
            .collect();
        let hint = observed.iter().find_map(|(_, hint)| hint.as_deref());
        let mut notes = notes(name, &self.world(), hint);
        notes.problems.extend(observed.iter().find_map(|(problem, _)| problem.clone()));
        notes
    }
}

fn claims_of(spool: &Spool) -> claim::Template {
    claim::Template { size: spool.size.clone(), class: spool.class.clone() }
}

/// The numbers of those pods that are a StatefulSet's.
pub(crate) fn set_pods(pods: &[impl AsRef<Pod>], name: &str) -> impl Iterator<Item = Ordinal> {
    pods.iter().filter_map(move |pod| claim::number(&pod.as_ref().name_any(), name))
}
