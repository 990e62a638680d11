//! An object of the same name that is somebody else's stays as it is.

use anyhow::ensure;
use mail_laser_e2e::{in_namespace, mail_laser};

#[tokio::test]
async fn an_object_of_somebody_else_is_left_alone_until_it_goes() -> anyhow::Result<()> {
    in_namespace("name-conflict", |env| async move {
        env.apply(
            "apiVersion: v1
kind: Service
metadata: {name: inbox}
spec:
  selector: {app: something-else}
  ports: [{port: 80}]
",
        )
        .await?;
        let before = env.get("Service", "inbox").await?;
        env.deploy_webhook("webhook").await?;
        env.apply(&mail_laser("inbox", "webhook")).await?;
        let stalled = env.wait_condition("inbox", "Stalled", "True", Some("NameConflict")).await?;
        ensure!(
            stalled.message.contains("Service") && stalled.message.contains("inbox"),
            "{}",
            stalled.message
        );
        ensure!(
            env.condition("inbox", "Ready").await?.status == "False",
            "ready with somebody else's Service"
        );
        let after = env.get("Service", "inbox").await?;
        ensure!(
            before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"],
            "it was written: {after}"
        );

        env.delete("Service", "inbox").await?;
        env.wait_ready("inbox").await?;
        ensure!(env.get("Service", "inbox").await?["spec"]["ports"][0]["port"] == 25, "not our Service");
        Ok(())
    })
    .await
}

/// What is bound to somebody's ServiceAccount is not for whoever may write a `MailLaser` of its name.
#[tokio::test]
async fn no_pod_runs_as_a_service_account_of_somebody_else() -> anyhow::Result<()> {
    in_namespace("foreign-identity", |env| async move {
        env.apply("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: inbox}\n").await?;
        env.deploy_webhook("webhook").await?;
        env.apply(&mail_laser("inbox", "webhook")).await?;
        let stalled = env.wait_condition("inbox", "Stalled", "True", Some("NameConflict")).await?;
        ensure!(stalled.message.contains("ServiceAccount inbox"), "{}", stalled.message);
        ensure!(env.get("Deployment", "inbox").await.is_err(), "pods run under somebody else's identity");
        Ok(())
    })
    .await
}
