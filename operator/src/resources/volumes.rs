//! What is mounted into the daemon's container: certificates, and the disk for mails.

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, KeyToPath, PersistentVolumeClaimVolumeSource, SecretVolumeSource, Volume,
    VolumeMount,
};
use mail_laser_crds::CaBundleSource;

use super::pod::Role;
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

/// Name of the volume with the mails, and of the template of its claims.
pub const SPOOL_VOLUME: &str = "spool";
/// Where it is mounted.
pub const SPOOL_DIRECTORY: &str = "/var/spool/mail-laser";

const CA_VOLUME: &str = "webhook-ca";
/// The default of Kubernetes.
const CA_MODE: i32 = 0o644;
const TLS_VOLUME: &str = "tls";
/// The files are root's, and the daemon is neither root nor of its group; nobody else is in the container.
const TLS_MODE: i32 = 0o444;

/// What is mounted into a pod, each with its volume. A StatefulSet adds the volumes of its claims by itself.
pub fn build(resource: &ValidatedMailLaser, role: Role<'_>) -> Vec<(Option<Volume>, VolumeMount)> {
    let ca_bundle = resource.spec.webhook.as_ref().and_then(|webhook| webhook.ca_bundle_from.as_ref());
    let certificate = resource.spec.tls.secret();
    let spool = match role {
        Role::Memory => None,
        Role::Spool(_) => Some(None),
        Role::Drain(_, claim) => Some(Some(spool_volume(claim))),
    };
    [
        ca_bundle.map(|source| (Some(ca_volume(source)), mount(CA_VOLUME, CA_DIRECTORY))),
        certificate.map(|name| (Some(tls_volume(name)), mount(TLS_VOLUME, TLS_DIRECTORY))),
        spool.map(|volume| (volume, spool_mount())),
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

fn spool_volume(claim: &str) -> Volume {
    Volume {
        name: SPOOL_VOLUME.to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim.to_owned(),
            ..PersistentVolumeClaimVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn spool_mount() -> VolumeMount {
    VolumeMount { read_only: None, ..mount(SPOOL_VOLUME, SPOOL_DIRECTORY) }
}

fn mount(volume: &str, directory: &str) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: directory.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    }
}
