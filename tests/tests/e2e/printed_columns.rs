//! What `kubectl get` shows.

use anyhow::ensure;
use mail_laser_e2e::{Env, in_namespace};
use serde_json::Value;

use crate::inbox;

#[tokio::test]
async fn kubectl_get_shows_readiness_replicas_delivery_and_routes() -> anyhow::Result<()> {
    in_namespace("columns", |env| async move {
        inbox(&env, "").await?;
        let table = table(&env, "maillasers").await?;
        let expected = ["NAME", "READY", "REPLICAS", "DELIVERY", "ROUTES", "AGE"];
        ensure!(names(&table, true) == expected, "{:?}", names(&table, true));
        ensure!(names(&table, false).len() == 8, "{:?}", names(&table, false));
        let cells = &table["rows"][0]["cells"];
        ensure!(
            cells[0] == "inbox"
                && cells[1] == "True"
                && cells[2] == 1
                && cells[3] == "Forward"
                && cells[4] == 0,
            "{cells}"
        );
        let routes = names(&self::table(&env, "mailroutes").await?, true);
        ensure!(routes == ["NAME", "PARENT", "ACCEPTED", "RECIPIENTS", "DESTINATION", "AGE"], "{routes:?}");
        Ok(())
    })
    .await
}

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// What the API server gives `kubectl` to print.
async fn table(env: &Env, plural: &str) -> anyhow::Result<Value> {
    let path = format!("/apis/mail-laser.dev/v1alpha1/namespaces/{}/{plural}", env.namespace());
    let request = http::Request::get(path).header("accept", TABLE).body(Vec::new())?;
    Ok(env.cluster().client().request(request).await?)
}

/// The names of columns, of all or of those that are printed without `--output wide`.
fn names(table: &Value, narrow: bool) -> Vec<String> {
    let columns = table["columnDefinitions"].as_array().into_iter().flatten();
    let shown = columns.filter(|column| !narrow || column["priority"] == 0);
    shown.map(|column| column["name"].as_str().unwrap_or_default().to_uppercase()).collect()
}
