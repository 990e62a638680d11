//! Which pods there are, and what becomes of mail on disks when they go.
//!
//! Pods that keep mail in memory are a Deployment's, those that keep it on disk a StatefulSet's. Each pod of the
//! latter has a claim, which outlives it, the StatefulSet and the resource: a claim goes when it was drained, and
//! at no other time. [`world`] is what there is, [`plan`] what to do about it, one step after another, each of
//! which may be the last that this process takes: the next reconciliation goes on from what there is then.
//!
//! - A claim is drained by a Job once it has no pod and is to get none. The Job names the claim's uid, and only
//!   the claim with that uid goes after it.
//! - The StatefulSet does not grow past a claim that is being drained, or is on its way out.
//! - With a change of the mode the new pods are ready before the old ones go; the StatefulSet goes last, when
//!   its claims are drained.
//! - Claims grow before the pods are told of more room. The StatefulSet is then made anew around its pods, because
//!   its template for claims cannot change.
//! - Dead letters are nobody's to throw away: a claim that holds nothing else stays, and its Job with it.

pub mod plan;
pub mod report;
pub mod world;
