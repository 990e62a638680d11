//! The requests of the operator that is measured, as the API server's audit log has them.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use tokio::time::Instant;

/// The log. It has the requests of operators, and no others.
pub(crate) struct Audit(PathBuf);

/// Numbers of requests since the control plane was started, those about Leases in `requests` alone.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Requests {
    pub(crate) requests: usize,
    pub(crate) writes: usize,
}

impl Audit {
    pub(crate) fn of(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub(crate) fn read(&self) -> anyhow::Result<Requests> {
        let mut requests = Requests::default();
        for line in BufReader::new(File::open(&self.0).context("there is no audit log")?).lines() {
            // The last line may be half written.
            let Ok(record) = serde_json::from_str::<Value>(&line?) else { continue };
            requests.requests += 1;
            let is_read = ["get", "list", "watch"].iter().any(|verb| record["verb"] == *verb);
            requests.writes += usize::from(!is_read && record["objectRef"]["resource"] != "leases");
        }
        Ok(requests)
    }

    /// Waits until for so long nothing was written.
    pub(crate) async fn wait_for_silence(&self, silence: Duration, limit: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        let mut before = self.read()?;
        loop {
            tokio::time::sleep(silence).await;
            let now = self.read()?;
            if now.writes == before.writes {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "it still writes after {limit:?}");
            before = now;
        }
    }
}
