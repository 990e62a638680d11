//! The table in force, which is swapped whole while sessions go on.

use std::sync::Arc;

use tokio::sync::watch;

use crate::address::Address;

use super::{Lookup, RouteTable};

/// The routes of the process. What a session has looked up stays as it was, whatever is swapped in later.
#[derive(Debug)]
pub struct Routes(watch::Sender<Arc<RouteTable>>);

impl Routes {
    /// Routes that begin with this table.
    #[must_use]
    pub fn new(table: RouteTable) -> Self {
        Self(watch::Sender::new(Arc::new(table)))
    }

    /// What is known of a recipient now.
    #[must_use]
    pub fn lookup(&self, recipient: &Address) -> Lookup {
        self.0.borrow().lookup(recipient)
    }

    /// The table, and each one that takes its place.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<RouteTable>> {
        self.0.subscribe()
    }

    /// Puts another table in force.
    pub(super) fn swap(&self, table: RouteTable) {
        self.0.send_replace(Arc::new(table));
    }
}
