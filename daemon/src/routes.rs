//! Which recipient belongs to which destination.

use std::collections::HashMap;
use std::sync::Arc;

use crate::address::Address;
use crate::webhook::destination::Destination;

/// The name of the environment's own route in logs and metrics.
pub const DEFAULT_ROUTE: &str = "default";

/// A destination, and what of a mail it gets to see.
#[derive(Debug)]
pub struct Route {
    /// Where the mail goes.
    pub destination: Destination,
    /// Prefixes, in lower case, of the headers that go into its payload.
    pub header_prefixes: Vec<String>,
}

/// All recipients that mail is taken for. What the environment says is a table with one route.
#[derive(Debug, Default)]
pub struct RouteTable {
    exact: HashMap<String, Arc<Route>>,
}

impl RouteTable {
    /// A table in which all `recipients` belong to `route`.
    #[must_use]
    pub fn of_one(recipients: &[Address], route: &Arc<Route>) -> Self {
        let exact = recipients.iter().map(|address| (address.key().to_owned(), Arc::clone(route)));
        Self { exact: exact.collect() }
    }

    /// The route of a recipient, without regard to case; `None` when mail for it is not taken.
    #[must_use]
    pub fn lookup(&self, recipient: &Address) -> Option<Arc<Route>> {
        self.exact.get(recipient.key()).cloned()
    }
}
