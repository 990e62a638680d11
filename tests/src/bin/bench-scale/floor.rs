//! What no operator can be faster than: the same objects, written by a client that has them ready.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, DynamicObject, ObjectMeta, PostParams};
use kube::{Api, Client};
use mail_laser_e2e::wait_for;
use serde_json::Value;

use crate::REQUESTS;
use crate::subject::{Owned, Subject, namespace};

/// A namespace of their own, which goes afterwards.
const NAMESPACE: &str = "scale-floor";

/// Writes what there is for the first resource as many times, and takes it away again; returns how long the writing took.
pub(crate) async fn measure(
    client: &Client,
    subject: &Subject,
    times: usize,
    limit: Duration,
) -> anyhow::Result<Duration> {
    let mut objects = Vec::new();
    for owned in subject.owned() {
        objects.push((owned, copy(client, owned).await?));
    }
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let own = Namespace {
        metadata: ObjectMeta { name: Some(NAMESPACE.to_owned()), ..ObjectMeta::default() },
        ..Namespace::default()
    };
    namespaces.create(&PostParams::default(), &own).await?;
    let began = Instant::now();
    stream::iter(0..times)
        .map(|number| {
            let objects = &objects;
            async move {
                for (owned, object) in objects {
                    let mut object = object.clone();
                    object.metadata.name = Some(format!("f{number}"));
                    api(client, owned, NAMESPACE).create(&PostParams::default(), &object).await?;
                }
                anyhow::Ok(())
            }
        })
        .buffer_unordered(REQUESTS)
        .try_collect::<()>()
        .await?;
    let took = began.elapsed();
    namespaces.delete(NAMESPACE, &DeleteParams::default()).await?;
    wait_for("the end of what the client wrote", limit, || async {
        ensure!(namespaces.get_opt(NAMESPACE).await?.is_none(), "it is being deleted");
        Ok(())
    })
    .await?;
    Ok(took)
}

/// What an object of the first resource was made from. Without its labels it is nobody's.
async fn copy(client: &Client, owned: &Owned) -> anyhow::Result<DynamicObject> {
    let name = owned.name(0);
    let mut object =
        api(client, owned, &namespace(0)).get(&name).await.with_context(|| format!("no {name}"))?;
    object.metadata = ObjectMeta::default();
    if let Some(fields) = object.data.as_object_mut() {
        fields.remove("status");
    }
    // What the cluster gave it.
    if let Some(spec) = object.data.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("clusterIP");
        spec.remove("clusterIPs");
    }
    Ok(object)
}

fn api(client: &Client, owned: &Owned, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &owned.resource())
}
