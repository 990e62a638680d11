//! The routes of a gateway as its pods get them: Secrets, of which each holds a part of the table, and the first the
//! index that makes a generation of them.
//!
//! Pods mount all Secrets that there may be, whether they exist or not, so that no route restarts a pod.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    ProjectedVolumeSource, Secret, SecretProjection, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use mail_laser_crds::{FromNamespaces, MailLaserSpec};
use mail_laser_routes::files::{INDEX, Index, part_file};

use super::claim;
use crate::validate::ValidatedMailLaser;

/// Where the table is mounted.
pub const ROUTES_DIRECTORY: &str = "/etc/mail-laser/routes";

const VOLUME: &str = "routes";
/// The daemon is neither root nor of root's group; nobody else is in the container.
const MODE: i32 = 0o444;

/// Parts of the table of a gateway for many namespaces: 20,000 routes fit, and each kubelet with a pod watches so many
/// Secrets. One that is for its own namespace alone has one.
const PARTS_MAX: usize = 32;

/// Whether routes of other namespaces than its own may have recipients at a gateway.
pub fn takes_routes_of_others(spec: &MailLaserSpec) -> bool {
    spec.allowed_routes.iter().any(|allowed| allowed.namespaces.from != FromNamespaces::Same)
}

/// How many parts the table of a gateway may have; none, when it has no table.
pub fn parts_max(spec: &MailLaserSpec) -> usize {
    match (spec.allowed_routes.is_empty(), takes_routes_of_others(spec)) {
        (true, _) => 0,
        (_, false) => 1,
        (_, true) => PARTS_MAX,
    }
}

/// The name of the Secret with a part.
pub fn name(name: &str, part: usize) -> String {
    match part {
        0 => format!("{name}-routes"),
        part => format!("{name}-routes-{part}"),
    }
}

/// The part that a Secret of the resource `name` holds.
pub fn number(name: &str, secret: &str) -> Option<usize> {
    let first = self::name(name, 0);
    if secret == first {
        return Some(0);
    }
    let part = claim::number(secret, &first).filter(|part| *part > 0)?;
    usize::try_from(part).ok()
}

/// The Secrets with a generation, the one with the index last: until it is written, the generation before is in force.
pub fn build(resource: &ValidatedMailLaser, index: &Index, parts: Vec<Vec<u8>>) -> Vec<Secret> {
    let secret = |(number, part): (usize, Vec<u8>)| {
        let mut data = BTreeMap::from([(part_file(number), ByteString(part))]);
        if number == 0 {
            // There is JSON for whatever stands in an index.
            data.insert(INDEX.to_owned(), ByteString(serde_json::to_vec(index).unwrap_or_default()));
        }
        Secret {
            metadata: ObjectMeta { name: Some(name(&resource.name, number)), ..super::metadata(resource) },
            data: Some(data),
            type_: Some("Opaque".to_owned()),
            ..Secret::default()
        }
    };
    let mut secrets: Vec<_> = parts.into_iter().enumerate().map(secret).collect();
    secrets.reverse();
    secrets
}

/// What the pods of a gateway mount.
pub fn volume(resource: &ValidatedMailLaser) -> Option<(Volume, VolumeMount)> {
    let parts = parts_max(&resource.spec);
    let source = |part| VolumeProjection {
        secret: Some(SecretProjection {
            name: name(&resource.name, part),
            optional: Some(true),
            ..SecretProjection::default()
        }),
        ..VolumeProjection::default()
    };
    let volume = Volume {
        name: VOLUME.to_owned(),
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(MODE),
            sources: Some((0..parts).map(source).collect()),
            ..ProjectedVolumeSource::default()
        }),
        ..Volume::default()
    };
    let mount = VolumeMount {
        name: VOLUME.to_owned(),
        mount_path: ROUTES_DIRECTORY.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    (parts > 0).then_some((volume, mount))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_known_by_its_only_name() {
        for part in [0, 1, 31] {
            assert_eq!(number("edge", &name("edge", part)), Some(part));
        }
        for other in
            ["edge", "edge-routes-0", "edge-routes-01", "edge-routes-x", "edge-routes-1-2", "ledge-routes"]
        {
            assert_eq!(number("edge", other), None, "{other}");
        }
    }
}
