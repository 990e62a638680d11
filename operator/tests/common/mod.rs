//! From YAML to what the operator would send.

use std::path::Path;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::EnvVar;
use mail_laser_crds::MailLaser;
use mail_laser_operator::evaluate::Dereferenced;
use mail_laser_operator::resources::deployment;
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

/// The environment of the daemon in a Deployment.
pub(crate) fn environment(deployment: &Deployment) -> Vec<EnvVar> {
    deployment.spec.template.spec.clone().unwrap().containers.remove(0).env.unwrap()
}
