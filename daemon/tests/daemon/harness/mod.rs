//! The real binary, a webhook for it, and a client that says exactly what it is told to.

mod client;
mod daemon;
mod raw;
mod tls;
mod webhook;

use std::time::{Duration, Instant};

pub(crate) use client::Client;
pub(crate) use daemon::{Daemon, command};
pub(crate) use raw::RawWebhook;
pub(crate) use tls::pair;
pub(crate) use webhook::{Behaviour, Received, Webhook};

/// Longer than anything that is waited for takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `find` finds something.
pub(crate) fn eventually<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
