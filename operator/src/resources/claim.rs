//! The claims for the disks of pods that keep mail on disk. A StatefulSet makes them, by a template, and names
//! them after the template, itself, and the number of the pod.

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::{labels, volumes};

/// The number of a pod of a StatefulSet, and of its claim.
pub type Ordinal = u32;

/// What claims are made like.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// Their size, as a quantity.
    pub size: String,
    /// Their storage class; the cluster's default when absent.
    pub class: Option<String>,
}

/// The claim of pod `ordinal` of the resource `name`.
pub fn name(name: &str, ordinal: Ordinal) -> String {
    format!("{}-{name}-{ordinal}", volumes::SPOOL_VOLUME)
}

/// Which pod's claim it is, if it is one of the resource `name`.
pub fn ordinal(name: &str, claim: &str) -> Option<Ordinal> {
    number(claim.strip_prefix(volumes::SPOOL_VOLUME)?.strip_prefix('-')?, name)
}

/// The number of `<name>-<number>`, as a StatefulSet writes it: without leading zeros.
pub fn number(text: &str, name: &str) -> Option<Ordinal> {
    let digits = text.strip_prefix(name)?.strip_prefix('-')?;
    let number: Ordinal = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number)
}

/// The template from which the StatefulSet of the resource `name` makes claims.
pub fn template(name: &str, template: &Template) -> PersistentVolumeClaim {
    let mut labels = labels::owned(name);
    labels.extend(labels::selector(name));
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(volumes::SPOOL_VOLUME.to_owned()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), Quantity(template.size.clone()))].into()),
                ..VolumeResourceRequirements::default()
            }),
            storage_class_name: template.class.clone(),
            volume_mode: Some("Filesystem".to_owned()),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}

/// What is sent to have a claim grow, and nothing else of it.
pub fn growth(size: &str) -> Value {
    json!({"spec": {"resources": {"requests": {"storage": size}}}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_known_by_its_name() {
        assert_eq!(name("support", 3), "spool-support-3");
        for (claim, expected) in [
            ("spool-support-0", Some(0)),
            ("spool-support-12", Some(12)),
            ("spool-support-01", None),
            ("spool-support-", None),
            ("spool-support-+1", None),
            ("spool-support-b-1", None),
            ("spool-other-1", None),
            ("data-support-1", None),
            ("support-1", None),
        ] {
            assert_eq!(ordinal("support", claim), expected, "{claim}");
        }
        assert_eq!(ordinal("support-1", "spool-support-1-0"), Some(0));
        assert_eq!(number("support-7", "support"), Some(7));
    }
}
