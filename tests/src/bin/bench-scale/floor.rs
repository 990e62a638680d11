//! What no operator can be faster than: the same resources and objects, written by a client that has them ready.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::IPAddress;
use kube::api::{DeleteParams, DynamicObject, ListParams, ObjectMeta, PostParams};
use kube::{Api, Client};
use mail_laser_e2e::wait_for;
use serde_json::Value;

use crate::REQUESTS;
use crate::subject::{Owned, Subject, name, namespace};

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
                // Not that of one that is measured.
                let own = format!("f{number}");
                subject.create(client, NAMESPACE, &own).await?;
                for (owned, object) in objects {
                    let object = serde_json::from_value(renamed(object, &own))?;
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
    // The API server takes addresses back as slowly as it gives them out, and one from the other's share.
    let addresses: Api<IPAddress> = Api::all(client.clone());
    wait_for("the end of what the client wrote", limit, || async {
        ensure!(namespaces.get_opt(NAMESPACE).await?.is_none(), "it is being deleted");
        let left = addresses.list(&ListParams::default()).await?.items;
        ensure!(!left.iter().any(is_of_client), "its Services have addresses");
        Ok(())
    })
    .await?;
    Ok(took)
}

fn is_of_client(address: &IPAddress) -> bool {
    address.spec.parent_ref.namespace.as_deref() == Some(NAMESPACE)
}

/// What an object of the first resource was made from. Without its labels it is nobody's.
async fn copy(client: &Client, owned: &Owned) -> anyhow::Result<Value> {
    let name = owned.name(&name(0));
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
    object.metadata.name = Some(name);
    Ok(serde_json::to_value(object)?)
}

/// As it would be for a resource of another name: selectors and references follow.
fn renamed(object: &Value, to: &str) -> Value {
    match object {
        Value::Object(fields) => {
            fields.iter().map(|(field, value)| (field.clone(), renamed(value, to))).collect()
        }
        Value::Array(items) => items.iter().map(|item| renamed(item, to)).collect(),
        Value::String(text) => text.replace(&name(0), to).into(),
        other => other.clone(),
    }
}

fn api(client: &Client, owned: &Owned, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &owned.resource())
}
