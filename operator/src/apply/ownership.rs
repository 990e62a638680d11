//! Whose an object is.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use mail_laser_crds::MailLaser;

use crate::resources::labels::{INSTANCE, MANAGED_BY, MANAGER};

/// Whose an object of a resource's name is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ownership {
    /// The resource's.
    Ours,
    /// It has the resource's labels and no controller: what is left of it after a deletion that spared what
    /// it owned. It is taken up again.
    Orphan,
    /// It is on its way out: it is being deleted, or will be because it is of an earlier resource of this
    /// name.
    Leaving,
    /// Someone else's, in words.
    Foreign(String),
}

/// Whose the object with `meta` is, seen from the resource that `owner` refers to.
pub fn ownership(meta: &ObjectMeta, owner: &OwnerReference) -> Ownership {
    let controller =
        meta.owner_references.iter().flatten().find(|reference| reference.controller == Some(true));
    match controller {
        Some(controller) if controller.uid == owner.uid => match meta.deletion_timestamp {
            None => Ownership::Ours,
            Some(_) => Ownership::Leaving,
        },
        Some(controller)
            if controller.kind == owner.kind && controller.name == owner.name && is_our_group(controller) =>
        {
            Ownership::Leaving
        }
        Some(controller) => Ownership::Foreign(format!("{} {}", controller.kind, controller.name)),
        None if has_our_labels(meta, &owner.name) => match meta.deletion_timestamp {
            None => Ownership::Orphan,
            Some(_) => Ownership::Leaving,
        },
        None => Ownership::Foreign("someone else".to_owned()),
    }
}

fn is_our_group(reference: &OwnerReference) -> bool {
    let group = reference.api_version.split('/').next();
    group == Some(MailLaser::group(&()).as_ref())
}

fn has_our_labels(meta: &ObjectMeta, name: &str) -> bool {
    let label = |key| meta.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    label(MANAGED_BY) == Some(MANAGER) && label(INSTANCE) == Some(name)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::resources::labels;

    fn owner(uid: &str) -> OwnerReference {
        OwnerReference {
            api_version: "mail-laser.dev/v1alpha1".to_owned(),
            kind: "MailLaser".to_owned(),
            name: "alarms".to_owned(),
            uid: uid.to_owned(),
            controller: Some(true),
            ..OwnerReference::default()
        }
    }

    fn owned_by(reference: OwnerReference) -> ObjectMeta {
        ObjectMeta { owner_references: Some(vec![reference]), ..ObjectMeta::default() }
    }

    fn labelled(name: &str) -> ObjectMeta {
        ObjectMeta { labels: Some(labels::owned(name)), ..ObjectMeta::default() }
    }

    fn deleted(meta: ObjectMeta) -> ObjectMeta {
        ObjectMeta { deletion_timestamp: Some(Time(Timestamp::UNIX_EPOCH)), ..meta }
    }

    #[test]
    fn every_situation_has_an_answer() {
        let replica_set =
            OwnerReference { kind: "ReplicaSet".to_owned(), name: "web".to_owned(), ..owner("9") };
        let not_controller = OwnerReference { controller: None, ..owner("1") };
        let other_group = OwnerReference { api_version: "example.com/v1".to_owned(), ..owner("2") };
        let foreign = |who: &str| Ownership::Foreign(who.to_owned());
        for (meta, expected) in [
            (owned_by(owner("1")), Ownership::Ours),
            (deleted(owned_by(owner("1"))), Ownership::Leaving),
            (owned_by(owner("2")), Ownership::Leaving),
            (owned_by(other_group), foreign("MailLaser alarms")),
            (owned_by(replica_set), foreign("ReplicaSet web")),
            (owned_by(not_controller), foreign("someone else")),
            (labelled("alarms"), Ownership::Orphan),
            (deleted(labelled("alarms")), Ownership::Leaving),
            (labelled("other"), foreign("someone else")),
            (ObjectMeta::default(), foreign("someone else")),
        ] {
            assert_eq!(ownership(&meta, &owner("1")), expected, "{meta:?}");
        }
    }
}
