//! A mail to one request for each of its destinations.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use tracing::error;

use crate::address::Address;
use crate::message::Mail;
use crate::message::parse::Parsed;
use crate::routes::Route;
use crate::webhook::client::Request;
use crate::webhook::payload::Payload;

use super::Answer;

/// Octets of a mail that is parsed on the thread that received it.
///
/// The worst that 16 KiB can hold, one header of that size, costs some 13 ms; handing a mail to
/// another thread and back costs more than parsing a usual one.
const INLINE_BYTES_MAX: usize = 16 * 1024;

/// The requests for `destinations`, in their order.
///
/// # Errors
/// The answer to a mail that must not be delivered.
pub(super) async fn requests(
    mail: Mail,
    destinations: Vec<(Arc<Route>, Vec<Address>)>,
    attachment_bytes_max: usize,
) -> Result<Vec<(Arc<Route>, Request)>, Answer> {
    let (id, is_small) = (mail.id, mail.content.len() <= INLINE_BYTES_MAX);
    let work = move || build(&mail, &destinations, attachment_bytes_max);
    if is_small {
        return work();
    }
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        error!(%id, %error, "mail was not turned into a request");
        Err(Answer::OutOfMemory)
    })
}

fn build(
    mail: &Mail,
    destinations: &[(Arc<Route>, Vec<Address>)],
    attachment_bytes_max: usize,
) -> Result<Vec<(Arc<Route>, Request)>, Answer> {
    let prefixes: Vec<String> =
        destinations.iter().flat_map(|(route, _)| route.header_prefixes.iter().cloned()).collect();
    let parsed = read(mail, &prefixes);
    if parsed.attachments.iter().any(|attachment| attachment.bytes.len() > attachment_bytes_max) {
        return Err(Answer::AttachmentTooLarge(attachment_bytes_max));
    }
    let body = parsed.body();
    let request = |(route, recipients): &(Arc<Route>, Vec<Address>)| {
        let payload = Payload::new(mail, &parsed, &body, recipients, &route.header_prefixes);
        let json = payload.to_json().map_err(|error| {
            error!(id = %mail.id, %error, "mail was not turned into a request");
            Answer::OutOfMemory
        })?;
        let idempotency_key = mail.id.to_string();
        Ok((Arc::clone(route), Request { idempotency_key, body: Bytes::from(json) }))
    };
    destinations.iter().map(request).collect()
}

/// A mail that makes a parser panic is delivered as its own source: a defect of ours must not
/// cost a mail.
fn read(mail: &Mail, prefixes: &[String]) -> Parsed {
    catch_unwind(AssertUnwindSafe(|| Parsed::read(&mail.content, prefixes))).unwrap_or_else(|_| {
        error!(id = %mail.id, "mail was not parsed because of a defect; its source is delivered as its text");
        Parsed { text: Some(String::from_utf8_lossy(&mail.content).into_owned()), ..Parsed::default() }
    })
}
