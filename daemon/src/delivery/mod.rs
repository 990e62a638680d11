//! The seam between SMTP and the webhook: a mail goes in, an [`Answer`] comes out.
//!
//! When the answer exists is the mode's business: [`forward`] gives it once the mail waits in
//! memory. SMTP knows no mode, and no mode knows SMTP.

pub mod forward;
mod request;

use std::sync::Arc;

use crate::address::Address;
use crate::memory::Reservation;
use crate::message::Mail;
use crate::message::id::MailId;
use crate::routes::Route;
use forward::Forward;

/// A mail that SMTP has received whole.
#[derive(Debug)]
pub struct Incoming {
    /// The mail.
    pub mail: Mail,
    /// Its destinations, each with the recipients that belong to it, in the order of `RCPT`.
    pub destinations: Vec<(Arc<Route>, Vec<Address>)>,
    /// The memory that the mail's content takes.
    pub memory: Reservation,
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
}

/// How mail is delivered.
#[derive(Debug)]
pub enum Delivery {
    /// From memory, after the sender was answered.
    Forward(Forward),
}

impl Delivery {
    /// Takes a mail over, or says why not.
    pub async fn accept(&self, incoming: Incoming) -> Answer {
        match self {
            Self::Forward(forward) => forward.accept(incoming).await,
        }
    }
}
