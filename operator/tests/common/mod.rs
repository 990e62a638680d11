//! From YAML to what the operator would send.

use std::path::Path;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{EnvVar, PodTemplateSpec};
use mail_laser_crds::MailLaser;
use mail_laser_operator::references::evaluate::Dereferenced;
use mail_laser_operator::resources::claim;
use mail_laser_operator::resources::environment::Disk;
use mail_laser_operator::resources::{deployment, drain, stateful_set};
use mail_laser_operator::validate::{ValidatedMailLaser, validate};

/// The image where a resource names none.
pub(crate) const IMAGE: &str = "registry.example.com/default:1";

/// A file of the repository, below `operator/`.
pub(crate) fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A resource through the real validation.
pub(crate) fn validated(resource: &MailLaser) -> ValidatedMailLaser {
    validate(resource, IMAGE).unwrap()
}

/// The Deployment of a resource all of whose references are there.
pub(crate) fn rendered(resource: &MailLaser, ipv6: bool) -> Deployment {
    let references = Dereferenced { hash: Some("0f".repeat(32)), ..Dereferenced::default() };
    deployment::build(&validated(resource), &references, ipv6)
}

/// The StatefulSet of a resource, and the Job that drains one of its claims, with disks as the resource says.
pub(crate) fn rendered_spool(resource: &MailLaser) -> (StatefulSet, Job) {
    let resource = validated(resource);
    let references = Dereferenced { hash: Some("0f".repeat(32)), ..Dereferenced::default() };
    let spool = resource.spool.clone().unwrap();
    let disk = Disk { bytes: spool.bytes, lifetime_seconds: Some(spool.lifetime_seconds) };
    let claims = claim::Template { size: spool.size, class: spool.class };
    let set = stateful_set::build(&resource, &references, true, &disk, &claims, 2);
    (set, drain::build(&resource, &references, true, &disk, 2, "uid-of-the-claim"))
}

/// The environment of the daemon in a template.
pub(crate) fn environment(template: &PodTemplateSpec) -> Vec<EnvVar> {
    template.spec.clone().unwrap().containers.remove(0).env.unwrap()
}
