//! What is mounted into the containers: certificates, the disk for mails, and further volumes that a resource names.

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, EmptyDirVolumeSource, KeyToPath, PersistentVolumeClaimVolumeSource,
    SecretVolumeSource, Volume, VolumeMount,
};
use mail_laser_crds::{CaBundleSource, EmptyDirMedium, VolumeItem};

use super::pod::Role;
use super::{routes, some};
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
        routes::volume(resource).map(|(volume, mount)| (Some(volume), mount)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A volume that the resource names.
pub fn further(volume: &mail_laser_crds::Volume) -> Volume {
    Volume {
        name: volume.name.clone(),
        config_map: volume.config_map.as_ref().map(|map| ConfigMapVolumeSource {
            name: map.name.clone(),
            items: files(&map.items),
            default_mode: Some(map.default_mode),
            optional: map.optional.then_some(true),
            ..ConfigMapVolumeSource::default()
        }),
        secret: volume.secret.as_ref().map(|secret| SecretVolumeSource {
            secret_name: Some(secret.secret_name.clone()),
            items: files(&secret.items),
            default_mode: Some(secret.default_mode),
            optional: secret.optional.then_some(true),
            ..SecretVolumeSource::default()
        }),
        empty_dir: volume.empty_dir.as_ref().map(|directory| EmptyDirVolumeSource {
            medium: directory.medium.map(|EmptyDirMedium::Memory| "Memory".to_owned()),
            size_limit: directory.size_limit.clone(),
            ..EmptyDirVolumeSource::default()
        }),
        persistent_volume_claim: volume.persistent_volume_claim.as_ref().map(|claim| {
            PersistentVolumeClaimVolumeSource {
                claim_name: claim.claim_name.clone(),
                read_only: claim.read_only.then_some(true),
            }
        }),
        ..Volume::default()
    }
}

fn files(items: &[VolumeItem]) -> Option<Vec<KeyToPath>> {
    let file = |item: &VolumeItem| KeyToPath {
        key: item.key.clone(),
        path: item.path.clone(),
        ..KeyToPath::default()
    };
    some(items.iter().map(file).collect::<Vec<_>>())
}

/// Where a container sees it.
pub fn mounted(mount: &mail_laser_crds::VolumeMount) -> VolumeMount {
    VolumeMount {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        sub_path: mount.sub_path.clone(),
        read_only: mount.read_only.then_some(true),
        ..VolumeMount::default()
    }
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
