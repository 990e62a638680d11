//! One connection: moves bytes between its stream and the protocol machine.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::address::Address;
use crate::delivery::{Answer, Delivery, Incoming};
use crate::memory::MemoryBudget;
use crate::message::Mail;
use crate::message::id::MailId;
use crate::metrics::{MessageOutcome, Metrics};
use crate::routes::{Route, RouteTable};

use super::content::{Content, Overflow};
use super::data::{DataDecoder, Progress};
use super::limits::{CONTENT_READ_BYTES, READ_BYTES};
use super::line::{LineReader, Next};
use super::protocol::{Action, Protocol, Settings, Transaction};
use super::reply::Reply;

/// How long, and how many bytes, a client that is sent away may still talk. Closing at once would
/// reset the connection, and the client would not read why.
const LINGER_TIME: Duration = Duration::from_millis(500);
const LINGER_BYTES_MAX: usize = 64 * 1024;

/// What all sessions share.
#[derive(Debug)]
pub struct Context {
    /// What the protocol machine is told.
    pub settings: Settings,
    /// Silence that ends a session.
    pub idle_timeout: Duration,
    /// Who mail is taken for.
    pub routes: Arc<RouteTable>,
    /// Takes the mail.
    pub delivery: Arc<Delivery>,
    /// What sessions and mail may hold.
    pub memory: Arc<MemoryBudget>,
    /// The series.
    pub metrics: Arc<Metrics>,
    /// Cancelled when sessions have to come to an end.
    pub draining: CancellationToken,
}

/// Why a session waits for nothing more.
enum Wait {
    Bytes,
    Closed,
    TimedOut,
    Draining,
}

/// Serves one connection until one side closes it.
///
/// # Errors
/// What the stream says; by then the connection is of no use.
pub async fn run<S: AsyncRead + AsyncWrite + Unpin>(stream: S, context: &Context) -> io::Result<()> {
    let mut session = Session {
        protocol: Protocol::new(context.settings.clone()),
        stream,
        context,
        lines: LineReader::default(),
        input: BytesMut::new(),
        output: Vec::new(),
    };
    session.queue(&session.protocol.greeting());
    session.converse().await?;
    session.close().await
}

struct Session<'c, S> {
    stream: S,
    context: &'c Context,
    protocol: Protocol<Arc<Route>>,
    lines: LineReader,
    /// What the client sent and nobody has looked at.
    input: BytesMut,
    /// Replies that are not sent yet: those to pipelined commands go out together (RFC 2920).
    output: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<'_, S> {
    async fn converse(&mut self) -> io::Result<()> {
        loop {
            let action = match self.lines.next(&mut self.input) {
                Next::Line(line) => self.protocol.on_line(&line),
                Next::TooLong => self.protocol.on_long_line(),
                Next::Endless => Action::Close(Protocol::<Arc<Route>>::endless_line()),
                Next::NeedMore => match self.wait().await? {
                    Wait::Bytes => continue,
                    Wait::Closed => return Ok(()),
                    Wait::TimedOut => Action::Close(Protocol::<Arc<Route>>::timed_out()),
                    Wait::Draining => Action::Close(Protocol::<Arc<Route>>::shutting_down()),
                },
            };
            if !self.obey(action).await? {
                return Ok(());
            }
        }
    }

    /// Does what the protocol machine says; `false` when the session is over.
    async fn obey(&mut self, mut action: Action<Arc<Route>>) -> io::Result<bool> {
        loop {
            action = match action {
                Action::Reply(reply) => {
                    self.queue(&reply);
                    return Ok(true);
                }
                Action::Close(reply) => {
                    self.queue(&reply);
                    return Ok(false);
                }
                Action::LookUp(address) => {
                    let route = self.context.routes.lookup(&address);
                    if route.is_none() {
                        debug!(recipient = ?address.as_str(), "unknown recipient");
                    }
                    self.protocol.on_recipient(address, route)
                }
                Action::Receive(reply, transaction) => {
                    self.queue(&reply);
                    match self.receive().await? {
                        Some(content) => {
                            let reply = self.deliver(content, transaction).await;
                            self.protocol.on_message(reply)
                        }
                        None => Action::Close(Protocol::<Arc<Route>>::timed_out()),
                    }
                }
            };
        }
    }

    /// Reads the content of a mail; `None` when the client fell silent.
    async fn receive(&mut self) -> io::Result<Option<Content>> {
        // A reservation of nothing always succeeds; the content grows it.
        let memory = self.context.memory.try_reserve(0).ok_or(io::ErrorKind::OutOfMemory)?;
        let mut content = Content::new(memory, self.context.settings.message_bytes_max);
        let mut decoder = DataDecoder::default();
        self.flush().await?;
        loop {
            match decoder.push(&self.input, |part| content.push(part)) {
                Progress::End(end) => {
                    self.input.advance(end);
                    return Ok(Some(content));
                }
                Progress::NeedMore => self.input.clear(),
            }
            match timeout(self.context.idle_timeout, self.read(CONTENT_READ_BYTES)).await {
                Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error),
                Err(_elapsed) => return Ok(None),
            }
        }
    }

    async fn deliver(&mut self, content: Content, transaction: Transaction<Arc<Route>>) -> Reply {
        let received_at = SystemTime::now();
        let id = MailId::generate(received_at);
        let destinations = by_destination(transaction.recipients);
        let routes: Vec<Arc<Route>> = destinations.iter().map(|(route, _)| Arc::clone(route)).collect();
        let recipients: usize = destinations.iter().map(|(_, recipients)| recipients.len()).sum();
        let (reply, size) = match content.finish() {
            Err(Overflow::TooLarge) => (self.protocol.too_large(), None),
            Err(Overflow::OutOfMemory) => (reply_to(&Answer::OutOfMemory), None),
            Ok((content, memory)) => {
                let size = content.len();
                let reverse_path = transaction.reverse_path;
                let mail = Mail { id, received_at, reverse_path, content };
                let answer = self.context.delivery.accept(Incoming { mail, destinations, memory }).await;
                (reply_to(&answer), Some(size))
            }
        };
        if reply.is_error() {
            let outcome =
                if reply.code() < 500 { MessageOutcome::Deferred } else { MessageOutcome::Rejected };
            routes.iter().for_each(|route| route.destination.metrics().message(outcome));
            info!(%id, size, recipients, code = reply.code(), "mail refused");
        } else {
            info!(%id, size, recipients, "mail accepted");
        }
        reply
    }

    /// Sends what is queued, then waits for the client.
    async fn wait(&mut self) -> io::Result<Wait> {
        self.flush().await?;
        let may_leave = !self.protocol.in_transaction() && self.input.is_empty();
        let draining = self.context.draining.clone();
        tokio::select! {
            biased;
            () = draining.cancelled(), if may_leave => Ok(Wait::Draining),
            read = timeout(self.context.idle_timeout, self.read(READ_BYTES)) => match read {
                Ok(Ok(0)) => Ok(Wait::Closed),
                Ok(Ok(_)) => Ok(Wait::Bytes),
                Ok(Err(error)) => Err(error),
                Err(_elapsed) => Ok(Wait::TimedOut),
            },
        }
    }

    async fn read(&mut self, room: usize) -> io::Result<usize> {
        self.input.reserve(room);
        self.stream.read_buf(&mut self.input).await
    }

    fn queue(&mut self, reply: &Reply) {
        self.context.metrics.reply(reply.code());
        reply.write_to(&mut self.output);
    }

    /// A client that does not read its replies is as idle as one that says nothing.
    async fn flush(&mut self) -> io::Result<()> {
        if !self.output.is_empty() {
            timeout(self.context.idle_timeout, self.stream.write_all(&self.output)).await??;
            self.output.clear();
        }
        Ok(())
    }

    async fn close(mut self) -> io::Result<()> {
        self.flush().await?;
        timeout(LINGER_TIME, async {
            self.stream.shutdown().await?;
            let mut lingering = 0;
            while lingering < LINGER_BYTES_MAX {
                self.input.clear();
                match self.read(READ_BYTES).await? {
                    0 => break,
                    bytes => lingering += bytes,
                }
            }
            Ok(())
        })
        .await
        .unwrap_or(Ok(()))
    }
}

/// Recipients by where their mail goes, both in the order of `RCPT`.
fn by_destination(recipients: Vec<(Address, Arc<Route>)>) -> Vec<(Arc<Route>, Vec<Address>)> {
    let mut destinations: Vec<(Arc<Route>, Vec<Address>)> = Vec::new();
    for (address, route) in recipients {
        match destinations.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &route)) {
            Some((_, addresses)) => addresses.push(address),
            None => destinations.push((route, vec![address])),
        }
    }
    destinations
}

fn reply_to(answer: &Answer) -> Reply {
    match answer {
        Answer::Accepted(id) => Reply::new(250, "2.0.0", format!("Ok, accepted as {id}")),
        Answer::QueueFull => Reply::new(451, "4.3.2", "Too many mails wait, try again later"),
        Answer::OutOfMemory => Reply::new(451, "4.3.2", "No memory for this mail now, try again later"),
        Answer::AttachmentTooLarge(limit) => {
            Reply::new(552, "5.3.4", format!("An attachment is larger than the limit of {limit} bytes"))
        }
    }
}
