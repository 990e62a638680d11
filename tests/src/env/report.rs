//! What somebody needs who finds a failed test in the log of a run.

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::{Env, tail};

const LOG_LINES: i64 = 40;

/// The resources' status, the events and the last lines of each pod.
pub(super) async fn of(env: &Env) -> String {
    let mut text = format!("=== what happened in {}\n", env.namespace());
    for kind in
        ["MailLaser", "MailRoute", "Deployment", "StatefulSet", "PersistentVolumeClaim", "Job", "Event"]
    {
        let Ok(api) = env.objects(kind) else { continue };
        for object in api.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default() {
            let shown = match kind {
                "Event" => format!(
                    "{} {}: {} {}",
                    object.data["involvedObject"]["kind"],
                    object.data["involvedObject"]["name"],
                    object.data["reason"],
                    object.data["message"]
                ),
                _ => format!("{}: {}", object.name_any(), object.data["status"]),
            };
            text += &format!("{kind} {shown}\n");
        }
    }
    let pods: Api<Pod> = Api::namespaced(env.cluster().client(), env.namespace());
    for pod in pods.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default() {
        let phase = pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
        let (name, annotations) = (pod.name_any(), pod.annotations());
        text += &format!("Pod {name}: {phase}, {annotations:?}\n{}", tail(&pods, &name, LOG_LINES).await);
    }
    text + "=== the operator\n" + &env.cluster().operator_log(LOG_LINES).await
}
