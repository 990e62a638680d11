//! What became of all mails; one mail counts once for each of its destinations.

use std::sync::atomic::{AtomicU64, Ordering};

use tracing::info;

use crate::webhook::LOG_TARGET;

/// Counts since the start.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    /// The webhook has them.
    pub(crate) forwarded: AtomicU64,
    /// Their attempts all failed, or the webhook refused them for good.
    pub(crate) failed: AtomicU64,
    /// They were given up without an attempt left.
    pub(crate) dropped: AtomicU64,
}

impl Totals {
    /// Logs them, once all deliveries have ended.
    pub(crate) fn log(&self) {
        let [forwarded, failed, dropped] =
            [&self.forwarded, &self.failed, &self.dropped].map(|counter| counter.load(Ordering::Relaxed));
        info!(target: LOG_TARGET, forwarded, failed, dropped, "deliveries ended");
    }
}
