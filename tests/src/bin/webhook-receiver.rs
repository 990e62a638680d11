//! The webhook of the demo and of the end-to-end tests: prints each mail's JSON, and fails when told to.
//!
//! Listens on `LISTEN` (default `[::]:8080`, or `0.0.0.0:8080` where there is no IPv6). Ends on SIGTERM.

use std::env;

use anyhow::Context;
use mail_laser_e2e::receiver::Receiver;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let listener = match env::var("LISTEN") {
        Ok(address) => {
            TcpListener::bind(&address).await.with_context(|| format!("cannot listen on {address}"))?
        }
        Err(_) => match TcpListener::bind("[::]:8080").await {
            Ok(listener) => listener,
            Err(_) => TcpListener::bind("0.0.0.0:8080").await.context("cannot listen on port 8080")?,
        },
    };
    eprintln!("listening on {}", listener.local_addr()?);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    Receiver::printing().serve(listener, shutdown).await.context("the listener broke")
}
