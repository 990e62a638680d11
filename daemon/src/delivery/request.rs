//! A mail to one request for each of its destinations, within the memory budget and off the
//! threads that serve sessions where it takes long.

use std::borrow::Cow;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tracing::error;

use crate::address::Address;
use crate::config::MEMORY_PER_MAIL;
use crate::memory::{Buffer, Reservation};
use crate::message::Mail;
use crate::message::parse::Parsed;
use crate::routes::Route;
use crate::webhook::client::Request;
use crate::webhook::payload::Payload;

use super::{Answer, Incoming};

/// Octets of a mail that is read on the thread that received it: handing it to another thread and
/// back costs more than reading it.
const INLINE_BYTES_MAX: usize = 16 * 1024;

/// How many destinations a mail of up to so many octets may have at the same time: each has a request of its own, half as
/// large again by base64, and all are in memory together, of which a mail leaves half to others.
#[must_use]
pub(super) fn destinations_max(mail_bytes: usize, memory_bytes_max: usize) -> usize {
    let request_bytes = mail_bytes.saturating_add(mail_bytes / 2).max(1);
    (memory_bytes_max / 2 / request_bytes).max(1)
}

/// Leave to read and write mails, as many at the same time as the host has processors: more would only
/// take each other's memory.
#[must_use]
pub(super) fn workers() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from)))
}

/// A request, where it goes, and the memory that it takes.
pub(super) struct Prepared {
    pub(super) route: Arc<Route>,
    pub(super) request: Request,
    pub(super) memory: Reservation,
}

/// The requests of a mail, one for each destination, in their order. `workers` bounds how many
/// mails are worked on at once.
///
/// # Errors
/// The answer to a mail that must not, or cannot now, be delivered.
pub(super) async fn prepare(
    incoming: Incoming,
    attachment_bytes_max: usize,
    workers: &Arc<Semaphore>,
) -> Result<Vec<Prepared>, Answer> {
    if incoming.mail.content.len() > INLINE_BYTES_MAX {
        return work(workers, move || Reading::of(incoming, attachment_bytes_max)?.render()).await;
    }
    let reading = Reading::of(incoming, attachment_bytes_max)?;
    if reading.parsed.needs_layout() {
        return work(workers, move || reading.render()).await;
    }
    reading.render()
}

/// Whether an attachment of a mail with this content is larger than `bytes_max`.
pub(super) fn has_attachment_beyond(bytes_max: usize, mail: &Mail, content: &[u8]) -> bool {
    let parsed = without_panic(mail, || Parsed::read(content, &[]));
    parsed.is_some_and(|parsed| parsed.attachments.iter().any(|part| part.bytes.len() > bytes_max))
}

/// Runs `job` on a thread for blocking work, once one of `workers` is free.
pub(super) async fn work<T: Send + 'static>(
    workers: &Arc<Semaphore>,
    job: impl FnOnce() -> Result<T, Answer> + Send + 'static,
) -> Result<T, Answer> {
    let Ok(worker) = Arc::clone(workers).acquire_owned().await else {
        return Err(Answer::OutOfMemory);
    };
    // The job goes on when nobody waits for it any more, as when a sender has hung up.
    let job = move || {
        let _worker = worker;
        job()
    };
    tokio::task::spawn_blocking(job).await.unwrap_or_else(|error| {
        error!(%error, "mail was not turned into a request");
        Err(Answer::OutOfMemory)
    })
}

/// A mail that was read and not yet written.
struct Reading {
    mail: Mail,
    destinations: Vec<(Arc<Route>, Vec<Address>)>,
    parsed: Parsed,
    memory: Reservation,
}

impl Reading {
    fn of(incoming: Incoming, attachment_bytes_max: usize) -> Result<Self, Answer> {
        let Incoming { mut mail, destinations, mut memory, .. } = incoming;
        let size = mail.content.len();
        // A message from the spool has that much already.
        let missing = size.saturating_mul(MEMORY_PER_MAIL).saturating_sub(memory.bytes());
        if !memory.try_grow(missing) {
            return Err(Answer::OutOfMemory);
        }
        let prefixes: Vec<String> =
            destinations.iter().flat_map(|(route, _)| route.header_prefixes.iter().cloned()).collect();
        let mut parsed =
            without_panic(&mail, || Parsed::read(&mail.content, &prefixes)).unwrap_or_else(|| Parsed {
                text: Some(String::from_utf8_lossy(&mail.content).into_owned()),
                size_bytes: size,
                ..Parsed::default()
            });
        // All that was wanted of it has been read.
        mail.content = Vec::new();
        if let Some(trace) = mail.trace.take() {
            // The newest trace stands first: RFC 5321 section 4.4.
            parsed.headers.insert(0, ("Received".to_owned(), trace));
        }
        if parsed.attachments.iter().any(|attachment| attachment.bytes.len() > attachment_bytes_max) {
            return Err(Answer::AttachmentTooLarge(attachment_bytes_max));
        }
        if !parsed.needs_layout() {
            memory.shrink_to(parsed.bytes());
        }
        Ok(Self { mail, destinations, parsed, memory })
    }

    fn render(self) -> Result<Vec<Prepared>, Answer> {
        let Self { mail, destinations, parsed, mut memory } = self;
        let body = without_panic(&mail, || parsed.body()).unwrap_or_else(|| parsed.body_without_layout());
        let made = if let Cow::Owned(text) = &body { text.capacity() } else { 0 };
        if !memory.try_resize(parsed.bytes() + made) {
            return Err(Answer::OutOfMemory);
        }
        let mut prepared = Vec::with_capacity(destinations.len());
        for (route, recipients) in destinations {
            let payload = Payload::new(&mail, &parsed, &body, &recipients, &route.header_prefixes);
            let mut json = Json { buffer: Buffer::new(memory.split(0), usize::MAX) };
            let bytes = payload.json_bytes_max();
            if !json.buffer.try_reserve(bytes) {
                let others: usize = prepared.iter().map(|it: &Prepared| it.memory.bytes()).sum();
                let fits = memory.could_ever_be(memory.bytes().saturating_add(others).saturating_add(bytes));
                return Err(if fits { Answer::OutOfMemory } else { Answer::RequestTooLarge });
            }
            if let Err(error) = payload.write_json(&mut json) {
                error!(id = %mail.id, %error, bytes, "mail was not turned into a request");
                return Err(Answer::OutOfMemory);
            }
            let (body, memory) = json.buffer.into_parts();
            let request =
                Request { idempotency_key: route.idempotency_key(mail.id), body: Bytes::from(body) };
            prepared.push(Prepared { route, request, memory });
        }
        Ok(prepared)
    }
}

/// A defect of a parser must not cost a mail: what can be had without it is delivered.
fn without_panic<T>(mail: &Mail, read: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(read))
        .map_err(|_| error!(id = %mail.id, "mail was not read because of a defect; it is delivered as far as it was"))
        .ok()
}

/// JSON that takes its memory from the budget while it is written.
struct Json {
    buffer: Buffer,
}

impl io::Write for Json {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        match self.buffer.push(part) {
            Ok(()) => Ok(part.len()),
            Err(_full) => Err(io::ErrorKind::OutOfMemory.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// A sender that hangs up gives nobody leave to begin another job.
    #[tokio::test]
    async fn a_job_that_nobody_waits_for_is_still_one_of_those_at_the_same_time() {
        let workers = Arc::new(Semaphore::new(1));
        let (end, is_ended) = mpsc::channel::<()>();
        let job = work(&workers, move || {
            let _ = is_ended.recv();
            Ok(())
        });
        assert!(tokio::time::timeout(Duration::from_millis(10), job).await.is_err());
        assert_eq!(workers.available_permits(), 0);
        end.send(()).unwrap();
        let _free = workers.acquire().await.unwrap();
    }
}
