//! Connections from the test to pods and Services.

use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;

use anyhow::{Context, ensure};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// An address at which something in the cluster answers, for as long as this lives.
pub struct Reach {
    address: SocketAddr,
    _forward: Option<Child>,
}

impl Reach {
    /// Where to connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The host routes to the test cluster's own addresses.
    pub(crate) fn direct(ip: &str, port: u16) -> anyhow::Result<Self> {
        let ip: IpAddr = ip.parse().with_context(|| format!("{ip:?} is no address"))?;
        Ok(Self { address: SocketAddr::new(ip, port), _forward: None })
    }

    /// Any other cluster is reached through its API server; a forward ends with its pod.
    pub(crate) async fn forward(namespace: &str, target: &str, port: u16) -> anyhow::Result<Self> {
        let mut child = Command::new("kubectl")
            .args(["port-forward", "--namespace", namespace, target, &format!(":{port}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("kubectl does not start")?;
        let stdout = child.stdout.take().context("kubectl has no output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).await?;
        // Forwarding from 127.0.0.1:41234 -> 2525
        let local = line.split_whitespace().find(|word| word.starts_with("127.0.0.1:"));
        ensure!(local.is_some(), "kubectl port-forward {target} said {line:?}");
        let address = local.unwrap_or_default().parse()?;
        Ok(Self { address, _forward: Some(child) })
    }
}
