//! The receiver that a test deployed.

use std::time::Duration;

use anyhow::Context;
use reqwest::{Client, Response};

use crate::receiver::{Behaviour, Counts, Received};
use crate::{Reach, wait_for};

/// From the `250` to the webhook: the fast lane with all its retries, on a busy machine.
const DELIVERY_LIMIT: Duration = Duration::from_secs(60);

/// A receiver in the cluster.
pub struct Webhook {
    reach: Reach,
    client: Client,
}

impl Webhook {
    pub(crate) fn new(reach: Reach) -> anyhow::Result<Self> {
        crate::init_crypto();
        // No pool: the pod behind the address may be another one the next time.
        let client = Client::builder().timeout(Duration::from_secs(10)).pool_max_idle_per_host(0).build()?;
        Ok(Self { reach, client })
    }

    /// Sets how the next mails are answered.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn behave(&self, behaviour: Behaviour) -> anyhow::Result<()> {
        self.send(self.client.put(self.url("_control")).json(&behaviour)).await?;
        Ok(())
    }

    /// All that it received.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn received(&self) -> anyhow::Result<Vec<Received>> {
        Ok(self.send(self.client.get(self.url("_received"))).await?.json().await?)
    }

    /// The subjects of the mails that it answered with 2xx.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn accepted_subjects(&self) -> anyhow::Result<Vec<String>> {
        let accepted =
            self.received().await?.into_iter().filter(|received| (200..300).contains(&received.status));
        Ok(accepted.filter_map(|received| received.body["subject"].as_str().map(str::to_owned)).collect())
    }

    /// How much it received.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn counts(&self) -> anyhow::Result<Counts> {
        Ok(self.send(self.client.get(self.url("_count"))).await?.json().await?)
    }

    /// The first mail of this subject that it answered with 2xx.
    ///
    /// # Errors
    /// When none comes in time.
    pub async fn wait_for_mail(&self, subject: &str) -> anyhow::Result<Received> {
        wait_for(&format!("the mail {subject:?} at the webhook"), DELIVERY_LIMIT, || async {
            let received = self.received().await?;
            let count = received.len();
            received
                .into_iter()
                .find(|received| received.body["subject"] == subject && (200..300).contains(&received.status))
                .with_context(|| format!("{count} other requests"))
        })
        .await
    }

    /// Waits for whatever mail comes first.
    ///
    /// # Errors
    /// When none comes in time.
    pub async fn wait_for_any_mail(&self) -> anyhow::Result<()> {
        wait_for("any mail at the webhook", DELIVERY_LIMIT, || async {
            let counts = self.counts().await?;
            anyhow::ensure!(counts.accepted > 0, "{counts:?}");
            Ok(())
        })
        .await
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.reach.address())
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Response> {
        Ok(request.send().await.context("the webhook receiver does not answer")?.error_for_status()?)
    }
}
