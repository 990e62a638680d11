//! The process of the operator that is measured.

use std::fs::File;
use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context, ensure};
use mail_laser_e2e::{Metrics, memory_mib, wait_for};
use tokio::process::Child;

use crate::folder;
use crate::subject::Subject;

/// Where it serves its metrics.
const ADDRESS: &str = "127.0.0.1:26080";
/// How long it may take to answer, and to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process, ended when this is dropped.
pub(crate) struct Operator {
    child: Child,
    pid: u32,
    reconciliations: &'static str,
}

impl Operator {
    pub(crate) async fn start(subject: &Subject) -> anyhow::Result<Self> {
        // Or what is measured would be another one, which an interrupted run has left.
        TcpListener::bind(ADDRESS).with_context(|| format!("{ADDRESS} is not free"))?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(folder()?.join(format!("{}.log", subject.name())))?;
        let child =
            subject.command(ADDRESS)?.stdout(log.try_clone()?).stderr(log).kill_on_drop(true).spawn()?;
        let pid = child.id().context("it ended at once")?;
        let operator = Self { child, pid, reconciliations: subject.reconciliations };
        operator.has_reconciled(0, PATIENCE).await.with_context(|| {
            format!(
                "{0} does not serve its metrics; {0}.log in SCALE_FOLDER has what it said",
                subject.name()
            )
        })?;
        Ok(operator)
    }

    /// Asks it to end, as the kubelet would.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let status = tokio::process::Command::new("kill").arg(self.pid.to_string()).status().await?;
        ensure!(status.success(), "it could not be told to stop");
        tokio::time::timeout(PATIENCE, self.child.wait()).await.context("it does not end")??;
        Ok(())
    }

    /// Waits until it has reconciled that many times since it began.
    pub(crate) async fn has_reconciled(&self, times: usize, limit: Duration) -> anyhow::Result<()> {
        wait_for("reconciliations", limit, || async {
            let text = reqwest::get(format!("http://{ADDRESS}/metrics")).await?.text().await?;
            let count = Metrics::parse(&text).count(self.reconciliations, &[]);
            ensure!(count >= times as f64, "there were {count} of {times}");
            Ok(())
        })
        .await
    }

    /// Resident memory.
    pub(crate) fn resident_mib(&self) -> anyhow::Result<f64> {
        memory_mib(&self.pid.to_string(), "VmRSS")
    }

    /// The most that was ever resident.
    pub(crate) fn peak_mib(&self) -> anyhow::Result<f64> {
        memory_mib(&self.pid.to_string(), "VmHWM")
    }
}
