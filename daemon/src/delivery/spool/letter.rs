//! A mail as it is written to the spool, and back. Pure.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use crate::address::{Address, ReversePath};
use crate::delivery::Incoming;
use crate::message::Mail;
use crate::message::id::MailId;
use crate::routes::Route;
use crate::spool::clock::millis;
use crate::spool::entry::{Head, Progress, Target};

/// By how much the spool's clock may differ from the one by which a mail was received before that is written down.
const CLOCKS_DIFFER_MS: u64 = 1_000;

/// What is written of a mail beside its content, whose lifetime begins at `since_ms` by the spool's clock.
#[must_use]
pub(super) fn head_of(incoming: &Incoming, since_ms: u64) -> Head {
    let received_at_ms = millis(incoming.mail.received_at);
    let target = |(route, recipients): &(Arc<Route>, Vec<Address>)| Target {
        route: route.destination.route().to_owned(),
        recipients: recipients.iter().map(|recipient| recipient.as_str().to_owned()).collect(),
        progress: Progress::default(),
        history: Vec::new(),
    };
    Head {
        id: incoming.mail.id.to_string(),
        received_at_ms,
        reverse_path: incoming.mail.reverse_path.as_str().to_owned(),
        trace: incoming.mail.trace.clone().unwrap_or_default(),
        destinations: incoming.destinations.iter().map(target).collect(),
        replayed_at_ms: None,
        lifetime_began_ms: (received_at_ms.abs_diff(since_ms) > CLOCKS_DIFFER_MS).then_some(since_ms),
        death: None,
    }
}

/// The mail that was written like that, and its recipients at one of its destinations; `None` for
/// what this program does not write.
#[must_use]
pub(super) fn mail_of(head: Head, content: Vec<u8>, destination: u16) -> Option<(Mail, Vec<Address>)> {
    let target = head.destinations.get(usize::from(destination))?;
    let recipients = target.recipients.iter().map(|recipient| Address::parse_recipient(recipient).ok());
    let recipients = recipients.collect::<Option<Vec<Address>>>()?;
    let mail = Mail {
        id: MailId::parse(&head.id)?,
        received_at: UNIX_EPOCH + Duration::from_millis(head.received_at_ms),
        reverse_path: ReversePath::parse(&head.reverse_path).ok()?,
        trace: Some(head.trace),
        content,
    };
    Some((mail, recipients))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mail to two destinations, the second with these recipients.
    fn head(reverse_path: &str, recipients: &[&str]) -> Head {
        let mut head = Head::example(MailId::new(UNIX_EPOCH, [7; 10]).as_str());
        head.reverse_path = reverse_path.to_owned();
        let mut second = head.destinations[0].clone();
        second.recipients = recipients.iter().map(|&recipient| recipient.to_owned()).collect();
        head.destinations.push(second);
        head
    }

    #[test]
    fn what_was_written_comes_back() {
        let long = format!("SRS0={}@example.org", "a".repeat(200));
        for reverse_path in ["", "a@example.org", "\"a b\"@example.org", "d\u{f6}rte@example.org", &long] {
            let recipients = ["x@example.com", "postmaster", "\"y z\"@example.com"];
            let (mail, parsed) = mail_of(head(reverse_path, &recipients), b"content".to_vec(), 1).unwrap();
            assert_eq!(mail.id, MailId::new(UNIX_EPOCH, [7; 10]));
            assert_eq!(mail.reverse_path.as_str(), reverse_path);
            assert_eq!((millis(mail.received_at), mail.trace.as_deref()), (1_000_000, Some("from c")));
            assert_eq!(parsed.iter().map(Address::as_str).collect::<Vec<_>>(), recipients);
            assert_eq!(mail.content, b"content");
        }
    }

    #[test]
    fn what_is_not_ours_is_none() {
        assert!(mail_of(head("", &["x@example.com"]), Vec::new(), 2).is_none(), "no such destination");
        assert!(mail_of(head("no mailbox", &["x@example.com"]), Vec::new(), 1).is_none());
        assert!(mail_of(head("", &["no mailbox"]), Vec::new(), 1).is_none());
        let mut other = head("", &["x@example.com"]);
        other.id.push('!');
        assert!(mail_of(other, Vec::new(), 1).is_none());
    }
}
