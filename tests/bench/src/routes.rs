//! Routes for the daemon, and where their webhooks are.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, ensure};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::peer::Tools;

/// Parts of a generation, as the operator makes them: enough for all routes that are measured.
const PARTS: usize = 32;

/// A route.
pub(crate) struct Route {
    pub(crate) name: String,
    pub(crate) recipient: String,
    pub(crate) url: String,
}

/// Puts a generation of routes into a directory.
pub(crate) async fn put(tools: &Tools, folder: &Path, routes: &[Route]) -> anyhow::Result<()> {
    let mut lines = String::new();
    for Route { name, recipient, url } in routes {
        // Writing to a string does not fail.
        let _ = writeln!(lines, "{name} {recipient} {url}");
    }
    let mut writer = Command::new(&tools.routes.0)
        .arg(folder)
        .arg(PARTS.to_string())
        .stdin(Stdio::piped())
        .spawn()
        .context("routes cannot be written")?;
    writer.stdin.take().context("no input")?.write_all(lines.as_bytes()).await?;
    ensure!(writer.wait().await?.success(), "routes cannot be written");
    Ok(())
}

/// The address of this machine from which others are reached: no route may reach the loopback one. Nothing is sent to
/// find it, and what is sent to it does not leave the machine.
pub(crate) fn own_address() -> anyhow::Result<IpAddr> {
    let probe = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // An address for documentation: RFC 5737.
    probe.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).context("this machine has no network")?;
    Ok(probe.local_addr()?.ip())
}
