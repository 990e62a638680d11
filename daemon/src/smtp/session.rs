//! One connection: moves bytes between its stream and the protocol machine.

mod deliver;
mod receive;
mod stream;
mod transfer;

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures::FutureExt;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tracing::{debug, info};

use self::receive::{Received, Until};
use self::stream::read;
use self::transfer::{Transfer, cancelled};
use super::connections::network;
use super::limits::{DRAIN_PATIENCE, HANDSHAKE_TIME_MAX, MAIL_TIME_MAX, READ_BYTES};
use super::line::{LineReader, Next};
use super::protocol::{Action, Protocol, Settings};
use super::reply::Reply;
use super::transfers::Transfers;
use crate::delivery::Delivery;
use crate::memory::MemoryBudget;
use crate::metrics::Metrics;
use crate::quota::ClientUsage;
use crate::routes::live::Routes;
use crate::routes::{Lookup, Route};
use crate::tls;

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
    pub routes: Arc<Routes>,
    /// Takes the mail.
    pub delivery: Arc<Delivery>,
    /// What sessions and mail may hold.
    pub memory: Arc<MemoryBudget>,
    /// The mail that is coming in, of all sessions.
    pub transfers: Arc<Transfers>,
    /// The series.
    pub metrics: Arc<Metrics>,
    /// What TLS handshakes offer; `None` where there is no TLS.
    pub tls: Option<Arc<ServerConfig>>,
    /// Cancelled when sessions have to come to an end.
    pub draining: CancellationToken,
}

/// The client of a session.
#[derive(Debug, Clone)]
pub struct Client {
    /// Where it comes from.
    pub peer: SocketAddr,
    /// What counts as one client.
    pub network: IpAddr,
    /// What it holds in all of its sessions.
    pub usage: ClientUsage,
}

impl Client {
    /// A client that comes from `peer` and holds `usage`.
    #[must_use]
    pub fn new(peer: SocketAddr, usage: ClientUsage) -> Self {
        Self { peer, network: network(peer.ip()), usage }
    }
}

impl From<SocketAddr> for Client {
    fn from(peer: SocketAddr) -> Self {
        Self::new(peer, ClientUsage::default())
    }
}

/// Why a session waits for nothing more.
enum Wait {
    Bytes,
    Closed,
    TimedOut,
    Ended(Reply),
    Draining,
}

/// Serves one connection until one side closes it. With `tls_first`, the handshake comes before
/// everything else.
///
/// # Errors
/// What the stream says; by then the connection is of no use.
pub async fn run<S>(
    stream: S,
    client: impl Into<Client>,
    tls_first: bool,
    context: &Context,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let client = client.into();
    let protocol = Protocol::new(context.settings.clone());
    if tls_first {
        return Box::pin(run_secured(stream, client, protocol.secured(), true, context)).await;
    }
    let mut session = Session::new(stream, client, protocol, context);
    if !session.greet().await? {
        return session.close().await;
    }
    match session.converse().await? {
        End::Closed => Ok(()),
        End::Close => session.close().await,
        End::StartTls => {
            let Session { stream, client, protocol, .. } = session;
            // Boxed, so that a session without TLS does not hold the room for it.
            Box::pin(run_secured(stream, client, protocol.secured(), false, context)).await
        }
    }
}

async fn run_secured<S>(
    stream: S,
    client: Client,
    protocol: Protocol<Arc<Route>>,
    greet: bool,
    context: &Context,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = context.tls.clone().ok_or(io::ErrorKind::Unsupported)?;
    let stream = timeout(HANDSHAKE_TIME_MAX, TlsAcceptor::from(config).accept(stream)).await??;
    let cipher = tls::describe(stream.get_ref().1);
    info!(tls = cipher, "session secured");
    let mut session = Session::new(stream, client, protocol, context);
    session.cipher = Some(cipher);
    if greet && !session.greet().await? {
        return session.close().await;
    }
    match session.converse().await? {
        End::Closed => Ok(()),
        // A secured session is not offered STARTTLS.
        End::Close | End::StartTls => session.close().await,
    }
}

/// How a conversation ends.
enum End {
    /// The client has closed.
    Closed,
    /// We close.
    Close,
    /// The client wants TLS.
    StartTls,
}

struct Session<'c, S> {
    stream: S,
    client: Client,
    context: &'c Context,
    protocol: Protocol<Arc<Route>>,
    /// Version and cipher of TLS.
    cipher: Option<String>,
    lines: LineReader,
    /// What the client sent and nobody has looked at.
    input: BytesMut,
    /// Replies that are not sent yet: those to pipelined commands go out together (RFC 2920).
    output: Vec<u8>,
    /// The mail that is coming in.
    content: Option<Transfer>,
    /// When the session has to have brought a mail.
    deadline: Instant,
}

impl<'c, S: AsyncRead + AsyncWrite + Unpin> Session<'c, S> {
    fn new(
        stream: S,
        client: impl Into<Client>,
        protocol: Protocol<Arc<Route>>,
        context: &'c Context,
    ) -> Self {
        Self {
            stream,
            client: client.into(),
            context,
            protocol,
            cipher: None,
            lines: LineReader::default(),
            input: BytesMut::new(),
            output: Vec::new(),
            content: None,
            deadline: Instant::now() + MAIL_TIME_MAX,
        }
    }

    /// Says who we are. A client that talks before it was greeted does not listen: it is no mail
    /// server (RFC 5321 section 3.1).
    async fn greet(&mut self) -> io::Result<bool> {
        let talks = matches!(self.read::<READ_BYTES>().now_or_never(), Some(Ok(1..)));
        let reply = if talks {
            Reply::new(554, "5.5.1", "You spoke before you were greeted")
        } else {
            self.protocol.greeting()
        };
        self.queue(&reply);
        Ok(!talks)
    }

    async fn converse(&mut self) -> io::Result<End> {
        // Made once: each registers with something that all sessions share, and commands are many.
        let context = self.context;
        let mut draining = pin!(context.draining.cancelled());
        let mut alarm = pin!(sleep_until(self.deadline));
        loop {
            let action = match self.lines.next(&mut self.input) {
                Next::Line(line) => self.protocol.on_line(&line),
                Next::TooLong => self.protocol.on_long_line(),
                Next::Endless => Action::Close(Protocol::<Arc<Route>>::endless_line()),
                Next::NeedMore => match self.wait(draining.as_mut(), alarm.as_mut()).await? {
                    Wait::Bytes => continue,
                    Wait::Closed => return Ok(End::Closed),
                    Wait::TimedOut => Action::Close(Protocol::<Arc<Route>>::timed_out()),
                    Wait::Ended(reply) => Action::Close(reply),
                    Wait::Draining => Action::Close(Protocol::<Arc<Route>>::shutting_down()),
                },
            };
            if let Some(end) = self.obey(action).await? {
                return Ok(end);
            }
        }
    }

    /// Does what the protocol machine says; returns how the conversation ends, once it does.
    async fn obey(&mut self, mut action: Action<Arc<Route>>) -> io::Result<Option<End>> {
        loop {
            // What was given up, refused or delivered is no part of the next mail.
            if !self.protocol.in_transaction() {
                self.content = None;
            }
            action = match action {
                Action::Reply(reply) => {
                    self.queue(&reply);
                    return Ok(None);
                }
                Action::Close(reply) => {
                    self.queue(&reply);
                    return Ok(Some(End::Close));
                }
                Action::StartTls(reply) => {
                    if !self.input.is_empty() {
                        info!(bytes = self.input.len(), "ignored what was sent behind STARTTLS");
                        self.input.clear();
                    }
                    self.queue(&reply);
                    self.flush().await?;
                    return Ok(Some(End::StartTls));
                }
                Action::LookUp(address) => match self.context.routes.lookup(&address) {
                    Lookup::Route(route) if !self.goes_with_others(&route) => {
                        self.protocol.on_destination_for_itself()
                    }
                    Lookup::Route(route) if self.has_room_for(&route) => {
                        self.protocol.on_recipient(address, Some(route))
                    }
                    Lookup::Route(_) => self.protocol.on_too_many_destinations(),
                    Lookup::Unknown => {
                        debug!(recipient = ?address.as_str(), "unknown recipient");
                        self.protocol.on_recipient(address, None)
                    }
                    Lookup::NotYet => self.protocol.on_recipient_not_yet_known(),
                },
                Action::Receive(reply) => {
                    self.queue(&reply);
                    match self.receive(Until::Dot).await? {
                        Received::All => self.protocol.on_content_end(),
                        Received::Ended(reply) => Action::Close(reply),
                    }
                }
                Action::ReceiveChunk(octets) => match self.receive(Until::Octets(octets)).await? {
                    Received::All => {
                        let is_taken = self.content.as_ref().is_some_and(Transfer::is_kept);
                        self.protocol.on_chunk_end(is_taken)
                    }
                    Received::Ended(reply) => Action::Close(reply),
                },
                Action::Discard(octets, reply) => match self.discard(octets).await? {
                    Received::All => Action::Reply(reply),
                    Received::Ended(reply) => Action::Close(reply),
                },
                Action::Deliver(transaction) => {
                    // Boxed, so that an idle session does not hold the room of a delivery.
                    let reply = Box::pin(self.deliver(transaction)).await;
                    if !reply.is_error() {
                        self.deadline = Instant::now() + MAIL_TIME_MAX;
                    }
                    self.protocol.on_message(reply)
                }
            };
        }
    }

    /// Whether the mail may have this destination beside those that it has: one that does not take mail now goes alone.
    fn goes_with_others(&self, route: &Route) -> bool {
        // Of several, each took mail when it was added.
        let first = self.protocol.transaction().and_then(|transaction| transaction.recipients.first());
        let Some((_, first)) =
            first.filter(|(_, first)| first.destination.route() != route.destination.route())
        else {
            return true;
        };
        let Context { delivery, memory, .. } = self.context;
        [first, route].iter().all(|route| delivery.is_likely_to_take(&route.destination, memory))
    }

    /// Whether the mail may have this destination, too. Of one that may be small it is seen when it is there: what says
    /// nothing of the size is a simple program, which would not come again for recipients that it was refused.
    fn has_room_for(&self, route: &Route) -> bool {
        let Some(transaction) = self.protocol.transaction() else { return true };
        let Some(declared) = transaction.parameters.size else { return true };
        let bytes = usize::try_from(declared).unwrap_or(usize::MAX);
        let most = self.context.delivery.destinations_max(bytes, &self.context.memory);
        if transaction.recipients.len() < most {
            // They have no more destinations than they are, and most mails are so small that this is all.
            return true;
        }
        let known: HashSet<&str> =
            transaction.recipients.iter().map(|(_, route)| route.destination.route()).collect();
        known.len() < most || known.contains(route.destination.route())
    }

    /// Sends what is queued, then waits for the client.
    async fn wait(
        &mut self,
        draining: Pin<&mut WaitForCancellationFuture<'c>>,
        alarm: Pin<&mut Sleep>,
    ) -> io::Result<Wait> {
        // A mail that comes in chunks holds what it has between them, too.
        let begun = Instant::now();
        let end = self.content.as_ref().and_then(Transfer::end);
        self.flush_during(end.as_ref()).await?;
        // One small allocation for each command is cheaper than a timer that frees what an idle session holds.
        self.output = Vec::new();
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        let in_transaction = self.protocol.in_transaction();
        let draining = async {
            draining.await;
            if in_transaction {
                // A client that has begun a mail brings it at once, or it does not bring it at all.
                sleep(DRAIN_PATIENCE).await;
            }
        };
        let now = Instant::now();
        // What is there to be read is read without a look at the clock: a client that never pauses
        // would go on for ever.
        let until = match &self.content {
            // Content that comes in chunks has bounds of its own, as content in one piece has.
            Some(transfer) => now + transfer.patience(now),
            None if now >= self.deadline => return Ok(Wait::TimedOut),
            None => self.deadline.min(now + self.context.idle_timeout),
        };
        let read = tokio::select! {
            biased;
            () = draining => return Ok(Wait::Draining),
            read = read::<READ_BYTES>(&mut self.stream, &mut self.input) => Some(read),
            () = reached(until, alarm) => None,
            () = cancelled(end.as_ref()) => None,
        };
        match (read, &mut self.content) {
            (Some(Ok(0)), _) => Ok(Wait::Closed),
            (Some(Ok(_)), content) => {
                if let Some(transfer) = content {
                    transfer.record(begun.elapsed(), 0);
                }
                Ok(Wait::Bytes)
            }
            (Some(Err(error)), _) => Err(error),
            (None, content) => {
                Ok(content.take().map_or(Wait::TimedOut, |transfer| Wait::Ended(transfer.give_up())))
            }
        }
    }

    async fn read<const ROOM: usize>(&mut self) -> io::Result<usize> {
        read::<ROOM>(&mut self.stream, &mut self.input).await
    }

    fn queue(&mut self, reply: &Reply) {
        self.context.metrics.reply(reply.code());
        reply.write_to(&mut self.output);
    }

    /// A client that does not read its replies is as idle as one that says nothing.
    async fn flush(&mut self) -> io::Result<()> {
        if !self.output.is_empty() {
            let mut written = pin!(async {
                self.stream.write_all(&self.output).await?;
                // TLS may hold back what the socket had no room for.
                self.stream.flush().await
            });
            // Nearly always there is room, and no need for a timer.
            match written.as_mut().now_or_never() {
                Some(written) => written?,
                None => timeout(self.context.idle_timeout, written).await??,
            }
            self.output.clear();
        }
        Ok(())
    }

    /// The same for a transfer that may have to end for others meanwhile: a client that does not read cannot be told.
    async fn flush_during(&mut self, end: Option<&CancellationToken>) -> io::Result<()> {
        tokio::select! {
            biased;
            flushed = self.flush() => flushed,
            () = cancelled(end) => {
                self.content.take().map(Transfer::give_up);
                Err(io::ErrorKind::TimedOut.into())
            }
        }
    }

    async fn close(mut self) -> io::Result<()> {
        self.flush().await?;
        timeout(LINGER_TIME, async {
            self.stream.shutdown().await?;
            let mut lingering = 0;
            while lingering < LINGER_BYTES_MAX {
                self.input.clear();
                match self.read::<READ_BYTES>().await? {
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

/// Waits until `time`. The alarm may be set to an earlier time, as that of an earlier wait is: it is set anew only when
/// that has come, so that commands that follow each other closely set none.
async fn reached(time: Instant, mut alarm: Pin<&mut Sleep>) {
    if alarm.deadline() > time {
        alarm.as_mut().reset(time);
    }
    loop {
        alarm.as_mut().await;
        if Instant::now() >= time {
            return;
        }
        alarm.as_mut().reset(time);
    }
}

#[cfg(test)]
mod tests;
