//! Which recipient belongs to which destination: what the environment says, and routes of others that come and
//! go while mail flows.

mod entry;
pub mod follow;
pub mod live;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use mail_laser_routes::files::Webhook;
use mail_laser_routes::pattern::Pattern;
use mail_laser_routes::table::Table;
use sha2::{Digest, Sha256};

use crate::address::Address;
use crate::message::id::MailId;
use crate::webhook::destination::Destination;

/// The name of the environment's own route in logs and metrics.
pub const DEFAULT_ROUTE: &str = "default";

/// Why a route to this webhook cannot be used, if so. It shows nothing that may be secret.
#[must_use]
pub fn unusable(webhook: &Webhook) -> Option<String> {
    entry::config(webhook).err().map(|error| error.to_string())
}

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

/// All recipients that mail is taken for, and where it goes.
#[derive(Debug, Default)]
pub struct RouteTable {
    table: Table<Target>,
    by_name: HashMap<String, Arc<Route>>,
    /// Routes whose destination is not known for now.
    deferred: HashSet<String>,
    /// Whether routes are still to come: then a recipient that is not known may be known soon.
    is_awaited: bool,
}

/// Where a pattern leads.
#[derive(Debug, Clone)]
pub enum Target {
    /// To a route.
    Route(Arc<Route>),
    /// To the route of this name, whose destination is not known for now.
    Deferred(Arc<str>),
}

/// What is known of a recipient.
#[derive(Debug)]
pub enum Lookup {
    /// Where its mail goes.
    Route(Arc<Route>),
    /// Mail for it is not taken.
    Unknown,
    /// It is not known yet: its sender has to ask again.
    NotYet,
}

/// Which routes a table has.
#[derive(Default)]
struct Names {
    by_name: HashMap<String, Arc<Route>>,
    deferred: HashSet<String>,
}

impl Names {
    fn note(&mut self, target: &Target) {
        match target {
            Target::Route(route) => {
                let name = route.destination.route().to_owned();
                self.by_name.entry(name).or_insert_with(|| Arc::clone(route));
            }
            Target::Deferred(name) => {
                self.deferred.insert(name.to_string());
            }
        }
    }
}

impl RouteTable {
    /// A table in which all `recipients` belong to `route`, and so does the postmaster of each of
    /// their domains, with and without the domain: RFC 5321 section 4.5.1.
    #[must_use]
    pub fn of_one(recipients: &[Address], route: &Arc<Route>) -> Self {
        let patterns =
            recipients.iter().map(|recipient| (Pattern::exact(recipient), Target::Route(Arc::clone(route))));
        Self::new(patterns, [], false)
    }

    /// A table of the environment's own patterns, and those of others; see [`Table::new`].
    #[must_use]
    pub fn new(
        own: impl IntoIterator<Item = (Pattern, Target)>,
        others: impl IntoIterator<Item = (Pattern, Target)>,
        is_awaited: bool,
    ) -> Self {
        let mut names = Names::default();
        let own: Vec<_> = own.into_iter().inspect(|(_, target)| names.note(target)).collect();
        let others = others.into_iter().inspect(|(_, target)| names.note(target));
        let table = Table::new(own, others);
        let Names { by_name, deferred } = names;
        Self { table, by_name, deferred, is_awaited }
    }

    /// The route of a recipient, without regard to case.
    #[must_use]
    pub fn lookup(&self, recipient: &Address) -> Lookup {
        match self.table.lookup(recipient) {
            Some((_, Target::Route(route))) => Lookup::Route(Arc::clone(route)),
            Some((_, Target::Deferred(_))) => Lookup::NotYet,
            None if self.is_awaited => Lookup::NotYet,
            None => Lookup::Unknown,
        }
    }

    /// The route of this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Arc<Route>> {
        self.by_name.get(name)
    }

    /// Whether what is for the route of this name has to wait for its destination to become known, which may be
    /// because no routes are known yet.
    #[must_use]
    pub fn awaits(&self, name: &str) -> bool {
        !self.by_name.contains_key(name) && (self.is_awaited || self.deferred.contains(name))
    }
}
