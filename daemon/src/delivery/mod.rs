//! The seam between SMTP and the webhook: a mail goes in, an [`Answer`] comes out.
//!
//! When the answer exists is the mode's business: [`forward`] gives it once the mail waits in
//! memory, [`confirm`] once the webhook has answered, [`spool`] once it is on disk. SMTP knows no mode, and no mode knows SMTP.

pub mod confirm;
pub mod forward;
pub mod intake;
mod journey;
mod recent;
mod request;
pub mod spool;
mod totals;
mod verdict;

use std::sync::Arc;

use crate::address::Address;
use crate::config::MEMORY_PER_MAIL;
use crate::memory::{MemoryBudget, Reservation};
use crate::message::Mail;
use crate::message::id::MailId;
use crate::metrics::MessageOutcome;
use crate::routes::Route;
use crate::webhook::destination::Destination;
use confirm::Confirm;
use forward::Forward;
use spool::{Spill, Spilled, Spool};

/// A mail that SMTP has received whole.
#[derive(Debug)]
pub struct Incoming {
    /// The mail.
    pub mail: Mail,
    /// Its destinations, each with the recipients that belong to it, in the order of `RCPT`.
    pub destinations: Vec<(Arc<Route>, Vec<Address>)>,
    /// The memory that the mail's content takes.
    pub memory: Reservation,
    /// The content, where it is on disk already and not in the mail.
    pub spilled: Option<Spilled>,
}

/// What the sender is told about a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The mail is ours.
    Accepted(MailId),
    /// Too many mails wait already.
    QueueFull,
    /// There is no memory for it now.
    OutOfMemory,
    /// What it would be as a request is larger than all the memory there is.
    RequestTooLarge,
    /// One of its attachments is larger than this many bytes.
    AttachmentTooLarge(usize),
    /// The spool is full.
    SpoolFull,
    /// The spool cannot be written. Why.
    SpoolFailed(String),
    /// The circuit of one of its destinations is open.
    CircuitOpen,
    /// One of its destinations did not take it, and may later. Why.
    Deferred(String),
    /// One of its destinations will never take it. Why.
    Refused(String),
}

impl Answer {
    /// Counts a message at destinations that were not asked.
    fn count(&self, routes: &[Arc<Route>]) {
        let outcome = match self {
            Self::Accepted(_) | Self::Deferred(_) | Self::Refused(_) => return,
            Self::QueueFull
            | Self::OutOfMemory
            | Self::SpoolFull
            | Self::SpoolFailed(_)
            | Self::CircuitOpen => MessageOutcome::Deferred,
            Self::RequestTooLarge | Self::AttachmentTooLarge(_) => MessageOutcome::Rejected,
        };
        routes.iter().for_each(|route| route.destination.metrics().message(outcome));
    }
}

/// How mail is delivered.
#[derive(Debug)]
pub enum Delivery {
    /// From memory, after the sender was answered.
    Forward(Forward),
    /// While the sender waits.
    Confirm(Confirm),
    /// From disk, after the sender was answered.
    Spool(Box<Spool>),
}

impl Delivery {
    /// Takes a mail over, or says why not.
    ///
    /// Dropping the future means that the sender has gone.
    pub async fn accept(&self, incoming: Incoming) -> Answer {
        let routes: Vec<Arc<Route>> =
            incoming.destinations.iter().map(|(route, _)| Arc::clone(route)).collect();
        let answer = match self {
            // Some of its destinations may have been asked before: it counts by itself.
            Self::Confirm(confirm) => return confirm.accept(incoming).await,
            Self::Forward(forward) => forward.accept(incoming).await,
            Self::Spool(spool) => spool.accept(incoming).await,
        };
        answer.count(&routes);
        answer
    }

    /// Whether senders wait for the webhook, and a mail that is sent again has to have the id that
    /// it had.
    #[must_use]
    pub fn holds_senders(&self) -> bool {
        matches!(self, Self::Confirm(_))
    }

    /// Whether a mail may be delivered by another process than this one, which may show more of it.
    #[must_use]
    pub fn outlives_process(&self) -> bool {
        matches!(self, Self::Spool(_))
    }

    /// Whether a destination is likely to take another mail now; one that does not must not have a mail in common with
    /// others, who would go without it.
    #[must_use]
    pub fn is_likely_to_take(&self, destination: &Destination, memory: &MemoryBudget) -> bool {
        match self {
            Self::Forward(forward) => {
                forward.intake().has_share_for(destination, memory.free_for_deliveries())
            }
            Self::Confirm(confirm) => {
                confirm.intake().has_share_for(destination, memory.free_for_deliveries())
                    && !destination.is_open()
            }
            // What waits on disk waits there for an open circuit, too.
            Self::Spool(spool) => spool.has_share_for(destination),
        }
    }

    /// How many destinations a mail of up to `bytes` octets may have, with so much `memory` for all: the sender brings it
    /// to the others in another transaction.
    #[must_use]
    pub fn destinations_max(&self, bytes: usize, memory: &MemoryBudget) -> usize {
        match self {
            Self::Forward(_) | Self::Confirm(_) => request::destinations_max(bytes, memory.limit_bytes()),
            // On disk it is there once.
            Self::Spool(_) => usize::MAX,
        }
    }

    /// Memory that reading a mail of so many octets takes before it is answered, beside its content.
    #[must_use]
    pub fn reading_bytes(&self, bytes: usize) -> usize {
        match self {
            Self::Forward(_) | Self::Confirm(_) => bytes.saturating_mul(MEMORY_PER_MAIL - 1),
            // It is read when it is delivered, unless an attachment may be too large.
            Self::Spool(_) => 0,
        }
    }

    /// Where large mails go while they come in, if not into memory.
    #[must_use]
    pub fn spill(&self) -> Option<Arc<Spill>> {
        match self {
            Self::Forward(_) | Self::Confirm(_) => None,
            Self::Spool(spool) => Some(spool.spill()),
        }
    }

    /// Answers all senders that are held, now.
    pub fn release(&self) {
        match self {
            Self::Forward(_) | Self::Spool(_) => {}
            Self::Confirm(confirm) => confirm.release(),
        }
    }

    /// Comes when mail is not delivered any more, though nobody asked for that.
    pub async fn broken(&self) {
        match self {
            Self::Forward(_) | Self::Confirm(_) => std::future::pending().await,
            Self::Spool(spool) => spool.broken().await,
        }
    }

    /// Brings what is under way to its end until `grace` is over, gives up what is left, and logs
    /// what became of all mails.
    pub async fn finish(&self, grace: impl Future<Output = ()>) {
        let totals = match self {
            Self::Forward(forward) => {
                forward.finish(grace).await;
                forward.totals()
            }
            Self::Confirm(confirm) => {
                confirm.finish(grace).await;
                confirm.totals()
            }
            Self::Spool(spool) => {
                spool.finish(grace).await;
                spool.totals()
            }
        };
        totals.log();
    }
}
