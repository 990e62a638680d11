//! Which recipient belongs to which destination.

use std::sync::Arc;

use mail_laser_routes::pattern::Pattern;
use mail_laser_routes::table::Table;
use sha2::{Digest, Sha256};

use crate::address::Address;
use crate::message::id::MailId;
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

impl Route {
    /// Whether a header goes into its payload; `name` is in lower case.
    #[must_use]
    pub fn shows(&self, name: &str) -> bool {
        self.header_prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()))
    }

    /// What names the pair of a mail and this route to the receiver: visible ASCII.
    ///
    /// The id alone for the environment's own route; others add a hash of their name.
    #[must_use]
    pub fn idempotency_key(&self, id: MailId) -> String {
        match self.destination.route() {
            DEFAULT_ROUTE => id.to_string(),
            name => {
                let hash: [u8; 32] = Sha256::digest(name).into();
                hash[..8].iter().fold(format!("{id}."), |key, byte| format!("{key}{byte:02x}"))
            }
        }
    }
}

/// All recipients that mail is taken for. What the environment says is a table with one route.
#[derive(Debug, Default)]
pub struct RouteTable {
    table: Table<Arc<Route>>,
}

impl RouteTable {
    /// A table in which all `recipients` belong to `route`, and so does the postmaster of each of
    /// their domains, with and without the domain: RFC 5321 section 4.5.1.
    #[must_use]
    pub fn of_one(recipients: &[Address], route: &Arc<Route>) -> Self {
        let patterns = recipients.iter().map(|recipient| (Pattern::exact(recipient), Arc::clone(route)));
        Self { table: Table::new(patterns) }
    }

    /// The route of a recipient, without regard to case; `None` when mail for it is not taken.
    #[must_use]
    pub fn lookup(&self, recipient: &Address) -> Option<Arc<Route>> {
        self.table.lookup(recipient).map(|(_, route)| Arc::clone(route))
    }
}
