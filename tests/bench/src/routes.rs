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
    put_lines(&tools.routes.0, folder, &lines).await
}

/// Puts a generation of routes, as lines for `program`, into a directory.
pub(crate) async fn put_lines(program: &Path, folder: &Path, lines: &str) -> anyhow::Result<()> {
    let mut command = Command::new(program);
    command.arg(folder).arg(PARTS.to_string());
    feed(&mut command, lines).await.context("routes cannot be written")
}

/// Runs a program to its end with `lines` as its input.
pub(crate) async fn feed(command: &mut Command, lines: &str) -> anyhow::Result<()> {
    let mut child = command.stdin(Stdio::piped()).kill_on_drop(true).spawn()?;
    child.stdin.take().context("no input")?.write_all(lines.as_bytes()).await?;
    let status = child.wait().await?;
    ensure!(status.success(), "it ended with {status}");
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
