//! What is said of a disk that fails.

use tracing::{error, info};

use crate::spool::LOG_TARGET;

/// Whether something could not be written the last time.
#[derive(Debug)]
pub(super) struct Trouble {
    /// What it is, and what that means.
    what: &'static str,
    failing: bool,
}

impl Trouble {
    pub(super) fn new(what: &'static str) -> Self {
        Self { what, failing: false }
    }

    /// Says once that the disk fails, and once that it does no longer.
    pub(super) fn note(&mut self, failure: Option<&str>) {
        match (failure, self.failing) {
            (Some(why), false) => {
                error!(target: LOG_TARGET, why, "the spool cannot be written: {}", self.what);
            }
            (None, true) => info!(target: LOG_TARGET, "the spool can be written again"),
            _ => {}
        }
        self.failing = failure.is_some();
    }
}
