//! The operator's installation, as a test changes it for a while.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::cluster::OPERATOR_NAMESPACE;
use crate::manifests::from_registry;
use crate::{Cluster, wait_for};

const MANAGER: &str = "mail-laser-e2e";
const OPERATOR: &str = "mail-laser-operator";

/// A pod of the operator stops within its grace of 40 s, and starts within seconds.
const SCALED_LIMIT: Duration = Duration::from_secs(90);

impl Cluster {
    /// Applies objects where they say that they are, server-side.
    ///
    /// # Errors
    /// When the API server refuses one.
    pub async fn apply(&self, objects: &[Value]) -> anyhow::Result<()> {
        for object in objects {
            let object = serde_json::from_str(&from_registry(&object.to_string()))?;
            let (api, name) = self.place_of(&object)?;
            let parameters = PatchParams::apply(MANAGER).force();
            api.patch(&name, &parameters, &Patch::Apply(&object))
                .await
                .with_context(|| format!("{name} was not applied"))?;
        }
        Ok(())
    }

    /// Deletes objects; those that are gone already are no error.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn delete(&self, objects: &[Value]) -> anyhow::Result<()> {
        for object in objects {
            let (api, name) = self.place_of(&serde_json::from_value(object.clone())?)?;
            match api.delete(&name, &DeleteParams::background()).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                result => drop(result.with_context(|| format!("{name} was not deleted"))?),
            }
        }
        Ok(())
    }

    /// Waits until a namespace is gone.
    ///
    /// # Errors
    /// When it stays.
    pub async fn wait_without_namespace(&self, name: &str) -> anyhow::Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client());
        wait_for(&format!("the end of the namespace {name}"), SCALED_LIMIT, || async {
            ensure!(namespaces.get_opt(name).await?.is_none(), "it is there");
            Ok(())
        })
        .await
    }

    fn place_of(&self, object: &DynamicObject) -> anyhow::Result<(Api<DynamicObject>, String)> {
        let types = object.types.clone().context("a manifest without kind")?;
        let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(&types)?);
        let api = match object.namespace() {
            Some(namespace) => Api::namespaced_with(self.client(), &namespace, &resource),
            None => Api::all_with(self.client(), &resource),
        };
        Ok((api, object.name_any()))
    }

    /// Does something while no operator of the installation runs. Only for a test that is alone.
    ///
    /// # Errors
    /// What the task ends with, or when the operator does not come back.
    pub async fn without_operator<T>(
        &self,
        task: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let deployments: Api<Deployment> = Api::namespaced(self.client(), OPERATOR_NAMESPACE);
        let before = deployments.get_scale(OPERATOR).await?.spec.and_then(|spec| spec.replicas);
        let before = before.filter(|replicas| *replicas > 0).context("the operator is away already")?;
        scale(&deployments, 0).await?;
        let gone = wait_for("the end of the operator", SCALED_LIMIT, || async {
            let replicas = deployments.get_status(OPERATOR).await?.status.and_then(|status| status.replicas);
            ensure!(replicas.is_none_or(|replicas| replicas == 0), "{replicas:?} run");
            Ok(())
        })
        .await;
        let outcome = match gone {
            Ok(()) => task.await,
            Err(error) => Err(error),
        };
        scale(&deployments, before).await?;
        self.operator_is_ready().await?;
        outcome
    }
}

async fn scale(deployments: &Api<Deployment>, replicas: i32) -> anyhow::Result<()> {
    let change = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    deployments.patch_scale(OPERATOR, &PatchParams::default(), &change).await?;
    Ok(())
}
