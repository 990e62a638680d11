//! A daemon that refuses its configuration says so in the resource's status.

use anyhow::ensure;
use mail_laser_e2e::{in_namespace, mail_laser};

#[tokio::test]
async fn what_a_daemon_refuses_is_in_the_condition() -> anyhow::Result<()> {
    in_namespace("refused", |env| async move {
        env.deploy_webhook("webhook").await?;
        let spec = "  env:\n  - {name: MAIL_LASER_MAX_MESSAGE_SIZE, value: plenty}\n";
        env.apply(&format!("{}{spec}", mail_laser("inbox", "webhook"))).await?;
        let stalled = env.wait_condition("inbox", "Stalled", "True", None).await?;
        for part in ["MAIL_LASER_MAX_MESSAGE_SIZE", "plenty"] {
            ensure!(stalled.message.contains(part), "{part} is not in {:?}", stalled.message);
        }
        ensure!(env.condition("inbox", "Ready").await?.status == "False", "ready without a pod that runs");
        env.apply(&mail_laser("inbox", "webhook")).await?;
        env.wait_ready("inbox").await?;
        ensure!(
            env.condition("inbox", "Stalled").await.is_ok_and(|stalled| stalled.status == "False"),
            "still stalled"
        );
        Ok(())
    })
    .await
}
