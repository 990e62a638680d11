//! A whole mail goes to delivery, and the client is told what came of it.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::io::{AsyncRead, AsyncWrite};
use tracing::info;

use super::Session;
use super::stream::hangs_up;
use super::transfer::Transfer;
use crate::address::Address;
use crate::delivery::{Answer, Incoming};
use crate::message::Mail;
use crate::message::id::MailId;
use crate::metrics::MessageOutcome;
use crate::routes::Route;
use crate::smtp::content::{Collected, Overflow, Whole};
use crate::smtp::limits::RECEIVED_MAX;
use crate::smtp::protocol::Transaction;
use crate::smtp::reply::Reply;
use crate::smtp::trace;

impl<S: AsyncRead + AsyncWrite + Unpin> Session<'_, S> {
    /// Has the mail that came in delivered, unless it is one to refuse.
    pub(super) async fn deliver(&mut self, transaction: Transaction<Arc<Route>>) -> Reply {
        let received_at = SystemTime::now();
        let content = self.content.take().map_or(Err(Overflow::Memory), Transfer::finish);
        let id = match &content {
            Ok(Collected { digest: Some(digest), .. }) => transaction.derived_id(digest),
            _ => MailId::generate(received_at),
        };
        let destinations = by_destination(transaction.recipients);
        // Seldom shown, and it takes time in which the mail is not on its way.
        let is_shown = self.context.delivery.outlives_process()
            || destinations.iter().any(|(route, _)| route.shows("received"));
        let trace = is_shown.then(|| {
            trace::received(&trace::Received {
                client: self.protocol.client(),
                peer: self.client.peer.ip(),
                hostname: &self.context.settings.hostname,
                with: self.protocol.with(transaction.parameters.smtputf8),
                cipher: self.cipher.as_deref(),
                id: id.as_str(),
                at: received_at,
            })
        });
        let recipients: usize = destinations.iter().map(|(_, recipients)| recipients.len()).sum();
        let size = content.as_ref().ok().map(|collected| collected.content.len());
        // What its client may hold counts it until it is answered.
        let mut permit = None;
        let content = match content {
            Err(overflow) => Err(self.refusal(&overflow)),
            Ok(Collected { hops, .. }) if hops > RECEIVED_MAX => {
                Err(Reply::new(554, "5.4.6", "Mail loop: too many Received headers"))
            }
            Ok(collected) => {
                permit = Some(collected.permit);
                Ok(collected.content)
            }
        };
        let reply = match content {
            Ok(content) => {
                let (content, memory, spilled) = match content {
                    Whole::InMemory(content, memory) => (content, memory, None),
                    Whole::OnDisk(spilled, memory) => (Vec::new(), memory, Some(spilled)),
                };
                let to_read = self.context.delivery.reading_bytes(content.len());
                self.context.transfers.make_room_to_read(&self.context.memory, to_read).await;
                let reverse_path = transaction.reverse_path;
                let mail = Mail { id, received_at, reverse_path, trace, content };
                self.hand_over(Incoming { mail, destinations, memory, spilled }).await
            }
            Err(reply) => {
                let outcome =
                    if reply.code() < 500 { MessageOutcome::Deferred } else { MessageOutcome::Rejected };
                destinations.iter().for_each(|(route, _)| route.destination.metrics().message(outcome));
                reply
            }
        };
        drop(permit);
        if reply.is_error() {
            info!(%id, size, recipients, code = reply.code(), "mail refused");
        } else {
            info!(%id, size, recipients, tls = self.cipher, "mail accepted");
        }
        reply
    }

    /// Gives a mail to delivery. A client that is held and hangs up meanwhile has not heard the
    /// answer, whatever it is.
    async fn hand_over(&mut self, incoming: Incoming) -> Reply {
        let delivery = Arc::clone(&self.context.delivery);
        let accept = delivery.accept(incoming);
        if !delivery.holds_senders() {
            let answer = accept.await;
            return self.told(&answer);
        }
        let gone = hangs_up(&mut self.stream, &mut self.input);
        tokio::select! {
            biased;
            answer = accept => self.told(&answer),
            () = gone => Reply::new(451, "4.4.2", "You hung up before the mail was confirmed"),
        }
    }

    /// What is said of an answer.
    fn told(&self, answer: &Answer) -> Reply {
        if *answer == Answer::SpoolFull {
            self.context.metrics.spool().refused();
        }
        reply_to(answer)
    }

    fn refusal(&self, overflow: &Overflow) -> Reply {
        match overflow {
            Overflow::TooLarge => self.protocol.too_large(),
            Overflow::Quota => {
                Reply::new(451, "4.3.2", "Your address sends too much at the same time, try again later")
            }
            Overflow::Memory | Overflow::Unwanted => self.told(&Answer::OutOfMemory),
            Overflow::Disk(error) => self.told(&Answer::from(error.clone())),
        }
    }
}

/// Recipients by where their mail goes, both in the order of `RCPT`. A route that was changed in between is one
/// destination all the same, as it is now: its requests have one name.
pub(super) fn by_destination(recipients: Vec<(Address, Arc<Route>)>) -> Vec<(Arc<Route>, Vec<Address>)> {
    let mut destinations: Vec<(Arc<Route>, Vec<Address>)> = Vec::new();
    for (address, route) in recipients {
        let name = route.destination.route();
        match destinations.iter_mut().find(|(known, _)| known.destination.route() == name) {
            Some((known, addresses)) => {
                *known = route;
                addresses.push(address);
            }
            None => destinations.push((route, vec![address])),
        }
    }
    destinations
}

fn reply_to(answer: &Answer) -> Reply {
    match answer {
        Answer::Accepted(id) => Reply::new(250, "2.0.0", format!("Ok, accepted as {id}")),
        Answer::QueueFull => Reply::new(451, "4.3.2", "Too many mails wait, try again later"),
        Answer::SpoolFull => Reply::new(452, "4.3.1", "The spool is full, try again later"),
        Answer::SpoolFailed(_) => {
            Reply::new(451, "4.3.0", "The mail could not be written to disk, try again later")
        }
        Answer::OutOfMemory => Reply::new(451, "4.3.2", "No memory for this mail now, try again later"),
        Answer::RequestTooLarge => Reply::new(552, "5.3.4", "Mail is too large for the webhook's request"),
        Answer::CircuitOpen => {
            Reply::new(451, "4.3.0", "The webhook has failed too often lately, try again later")
        }
        Answer::Deferred(why) => Reply::new(451, "4.3.0", format!("Not delivered now: {why}")),
        Answer::Refused(why) => Reply::new(554, "5.3.0", format!("Not delivered: {why}")),
        Answer::AttachmentTooLarge(limit) => {
            Reply::new(552, "5.3.4", format!("An attachment is larger than the limit of {limit} bytes"))
        }
    }
}
