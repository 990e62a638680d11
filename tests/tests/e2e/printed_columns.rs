//! What `kubectl get ml` shows.

use anyhow::ensure;
use mail_laser_e2e::in_namespace;

use crate::inbox;

#[tokio::test]
async fn kubectl_get_shows_readiness_replicas_and_delivery() -> anyhow::Result<()> {
    in_namespace("columns", |env| async move {
        inbox(&env, "").await?;
        let request = |path: String| http::Request::get(path).header("accept", TABLE).body(Vec::new());
        let path = format!("/apis/mail-laser.dev/v1alpha1/namespaces/{}/maillasers", env.namespace());
        let table: serde_json::Value = env.cluster().client().request(request(path)?).await?;
        let columns = table["columnDefinitions"].as_array().cloned().unwrap_or_default();
        let names = |narrow: bool| -> Vec<String> {
            let shown = columns.iter().filter(|column| !narrow || column["priority"] == 0);
            shown.map(|column| column["name"].as_str().unwrap_or_default().to_uppercase()).collect()
        };
        ensure!(names(true) == ["NAME", "READY", "REPLICAS", "DELIVERY", "AGE"], "{:?}", names(true));
        ensure!(names(false).len() == 7, "{:?}", names(false));
        let cells = &table["rows"][0]["cells"];
        ensure!(
            cells[0] == "inbox" && cells[1] == "True" && cells[2] == 1 && cells[3] == "Forward",
            "{cells}"
        );
        Ok(())
    })
    .await
}

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
