//! Disks for pods. The test cluster makes none by itself, so a test brings its own: folders of this machine, as
//! volumes of type `local`, in a storage class of the test's own. Unlike `hostPath`, these heed `fsGroup`.
//!
//! Nothing in the test cluster can make a volume grow. Where a test needs that, it does what a resizer would do:
//! see [`Env::resize`].

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::Env;
use crate::cluster::state;

/// The label of what a test made; its value is the test's namespace.
const LABEL: &str = "mail-laser.dev/e2e";

/// The size of each volume, and of what claims ask for. The folders themselves have no bound.
pub const VOLUME_SIZE: &str = "256Mi";

impl Env {
    /// Makes so many volumes, and returns `spec.delivery` of a `MailLaser` that uses them, to be appended to
    /// [`crate::mail_laser`]. In a cluster that is not ours its own storage class makes them.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn spool(&self, volumes: usize) -> anyhow::Result<String> {
        if !self.cluster().is_ours() {
            return Ok(format!("  delivery: {{mode: Spool, spool: {{size: {VOLUME_SIZE}}}}}\n"));
        }
        let class = self.storage_class("disks", true).await?;
        for number in 0..volumes {
            self.volume(&class, number).await?;
        }
        Ok(format!(
            "  delivery: {{mode: Spool, spool: {{size: {VOLUME_SIZE}, storageClassName: {class}}}}}\n"
        ))
    }

    /// Makes a storage class that makes no volumes by itself.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn storage_class(&self, name: &str, can_grow: bool) -> anyhow::Result<String> {
        let name = format!("{}-{name}", self.namespace());
        let class = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {LABEL: self.namespace()}},
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
            "allowVolumeExpansion": can_grow,
        }))?;
        let classes: Api<StorageClass> = Api::all(self.cluster().client());
        classes.create(&PostParams::default(), &class).await.context("no storage class")?;
        Ok(name)
    }

    /// Makes a volume of a storage class.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn volume(&self, class: &str, number: usize) -> anyhow::Result<()> {
        let name = format!("{class}-{number}");
        let folder = self.folder()?.join(&name);
        fs::create_dir_all(&folder)?;
        let nodes: Api<Node> = Api::all(self.cluster().client());
        let node = nodes.list(&ListParams::default().limit(1)).await?.items.pop().context("no node")?;
        let volume = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {LABEL: self.namespace()}},
            "spec": {
                "capacity": {"storage": VOLUME_SIZE},
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": class,
                "local": {"path": folder},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "kubernetes.io/hostname", "operator": "In", "values": [node.name_any()]},
                ]}]}},
            },
        }))?;
        let volumes: Api<PersistentVolume> = Api::all(self.cluster().client());
        volumes.create(&PostParams::default(), &volume).await.context("no volume")?;
        Ok(())
    }

    /// Has a claim be of a size, as a resizer says it of one whose volume has grown. The volume is what it was.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn resize(&self, claim: &str, size: &str) -> anyhow::Result<()> {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.cluster().client(), self.namespace());
        let change = json!({"status": {"capacity": {"storage": size}}});
        claims.patch_status(claim, &PatchParams::default(), &Patch::Merge(change)).await?;
        Ok(())
    }

    /// Where the volumes are.
    fn folder(&self) -> anyhow::Result<PathBuf> {
        Ok(state()?.join("volumes").join(self.namespace()))
    }

    /// Removes what the test made. The folders go while pods end that have them mounted, which does no harm.
    pub(crate) async fn remove_volumes(&self) -> anyhow::Result<()> {
        let ours = ListParams::default().labels(&format!("{LABEL}={}", self.namespace()));
        let client = self.cluster().client();
        let volumes: Api<PersistentVolume> = Api::all(client.clone());
        let classes: Api<StorageClass> = Api::all(client);
        volumes.delete_collection(&DeleteParams::background(), &ours).await?;
        classes.delete_collection(&DeleteParams::background(), &ours).await?;
        match fs::remove_dir_all(self.folder()?) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}
