//! What is mounted into the daemon's container: certificates.

use k8s_openapi::api::core::v1::{ConfigMapVolumeSource, KeyToPath, SecretVolumeSource, Volume, VolumeMount};
use mail_laser_crds::CaBundleSource;

use crate::validate::ValidatedMailLaser;

/// Where the certificates for the webhook are mounted.
pub const CA_DIRECTORY: &str = "/etc/mail-laser/webhook-ca";
/// Name of the file with them.
pub const CA_FILE_NAME: &str = "ca.crt";
/// Where the certificate that senders see is mounted.
pub const TLS_DIRECTORY: &str = "/etc/mail-laser/tls";
/// The key of its Secret, and the file, with the chain: what `kubernetes.io/tls` prescribes.
pub const TLS_CERTIFICATE: &str = "tls.crt";
/// The key of its Secret, and the file, with the private key.
pub const TLS_KEY: &str = "tls.key";

const CA_VOLUME: &str = "webhook-ca";
/// The default of Kubernetes.
const CA_MODE: i32 = 0o644;
const TLS_VOLUME: &str = "tls";
/// The files are root's, and the daemon is neither root nor of its group; nobody else is in the container.
const TLS_MODE: i32 = 0o444;

/// The volumes of a pod, each with its mount.
pub fn build(resource: &ValidatedMailLaser) -> Vec<(Volume, VolumeMount)> {
    let ca_bundle = resource.spec.webhook.as_ref().and_then(|webhook| webhook.ca_bundle_from.as_ref());
    let certificate = resource.spec.tls.secret();
    [
        ca_bundle.map(|source| (ca_volume(source), mount(CA_VOLUME, CA_DIRECTORY))),
        certificate.map(|name| (tls_volume(name), mount(TLS_VOLUME, TLS_DIRECTORY))),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn ca_volume(source: &CaBundleSource) -> Volume {
    let item = |key: &str| {
        Some(vec![KeyToPath { key: key.to_owned(), path: CA_FILE_NAME.to_owned(), ..KeyToPath::default() }])
    };
    Volume {
        name: CA_VOLUME.to_owned(),
        secret: source.secret_key_ref.as_ref().map(|key| SecretVolumeSource {
            secret_name: Some(key.name.clone()),
            items: item(&key.key),
            default_mode: Some(CA_MODE),
            ..SecretVolumeSource::default()
        }),
        config_map: source.config_map_key_ref.as_ref().map(|key| ConfigMapVolumeSource {
            name: key.name.clone(),
            items: item(&key.key),
            default_mode: Some(CA_MODE),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// The whole Secret, without `subPath`, which would keep renewed files out. It is not optional: the kubelet
/// empties an optional volume when its Secret is deleted, and leaves this one as it is.
fn tls_volume(secret: &str) -> Volume {
    Volume {
        name: TLS_VOLUME.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            default_mode: Some(TLS_MODE),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn mount(volume: &str, directory: &str) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: directory.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    }
}
