//! Connections to sessions: limits, one task each, and the end of them all.

use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, error, info_span, warn};

use crate::memory::Reservation;
use crate::metrics::ConnectionResult;

use super::connections::{Connections, Place, Refusal, network};
use super::limits::{PROXY_HEADER_TIME_MAX, SESSION_BYTES};
use super::proxy;
use super::reply::Reply;
use super::session::{self, Client, Context};
use super::transfers::report::Event;

/// Pause after the system could not give a connection, for want of file descriptors or memory:
/// trying at once would only spin.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections on one socket, which outlives it.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Where sessions begin in clear text.
    pub socket: Arc<TcpListener>,
    /// Where sessions begin with a TLS handshake: RFC 8314.
    pub tls_socket: Option<Arc<TcpListener>>,
    /// What sessions share.
    pub context: Arc<Context>,
    /// Load balancers, which alone say by a PROXY header who the client is, and have to.
    pub proxies: Vec<IpNet>,
    /// The limits.
    pub connections: Arc<Connections>,
    /// The sessions under way.
    pub sessions: TaskTracker,
    /// Cancelled when sessions have to end wherever they are.
    pub stop: CancellationToken,
}

/// Numbers sessions in the log, for the life of the process.
static SESSION: AtomicU64 = AtomicU64::new(1);

impl Listener {
    /// Accepts connections until draining begins.
    ///
    /// # Errors
    /// When the socket itself fails.
    pub async fn serve(self: Arc<Self>) -> io::Result<()> {
        loop {
            let (accepted, tls_first) = tokio::select! {
                biased;
                () = self.context.draining.cancelled() => return Ok(()),
                accepted = self.socket.accept() => (accepted, false),
                accepted = accept(self.tls_socket.as_deref()) => (accepted, true),
            };
            match accepted {
                Ok((stream, peer)) => self.begin(stream, peer, tls_first),
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) if is_exhaustion(&error) => {
                    warn!(%error, "connection not accepted; raise the limit of open files or lower MAIL_LASER_MAX_CONNECTIONS");
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
                Err(error) if is_defect(&error) => return Err(error),
                Err(error) => {
                    warn!(%error, "connection not accepted");
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    }

    fn begin(&self, stream: TcpStream, peer: SocketAddr, tls_first: bool) {
        let mut place = match self.connections.enter() {
            Ok(place) => place,
            Err(refusal) => return self.refuse(&stream, peer, tls_first, refused(refusal)),
        };
        let proxy = peer.ip().to_canonical();
        if !self.proxies.iter().any(|network| network.contains(&proxy)) {
            if let Err(refusal) = place.identify(peer.ip()) {
                return self.refuse(&stream, peer, tls_first, refused(refusal));
            }
            return self.admit(stream, peer, tls_first, place);
        }
        let listener = self.clone();
        self.sessions.spawn(async move {
            let mut stream = stream;
            let header = tokio::select! {
                biased;
                header = timeout(PROXY_HEADER_TIME_MAX, proxy::read_header(&mut stream)) => header,
                // Nobody knows yet who would be told.
                () = listener.context.draining.cancelled() => return,
            };
            match header {
                Ok(Ok(source)) => {
                    let peer = source.unwrap_or(peer);
                    match place.identify(peer.ip()) {
                        Ok(()) => listener.admit(stream, peer, tls_first, place),
                        Err(refusal) => listener.refuse(&stream, peer, tls_first, refused(refusal)),
                    }
                }
                Ok(Err(error)) => warn!(%proxy, %error, "connection closed: MAIL_LASER_PROXY_PROTOCOL_FROM names its address, so it has to begin with a PROXY header"),
                Err(_elapsed) => warn!(%proxy, "connection closed: no PROXY header in time"),
            }
        });
    }

    /// Begins a session for which there is a place, if there is memory, too.
    fn admit(&self, stream: TcpStream, peer: SocketAddr, tls_first: bool, place: Place) {
        if let Some(memory) = self.context.memory.try_reserve(SESSION_BYTES) {
            return self.start(stream, peer, tls_first, (place, memory));
        }
        let listener = self.clone();
        self.sessions.spawn(async move {
            let context = &listener.context;
            let memory = tokio::select! {
                biased;
                memory = context.transfers.memory_for_session(&context.memory, SESSION_BYTES) => memory,
                () = context.draining.cancelled() => return,
            };
            if let Some(memory) = memory {
                return listener.start(stream, peer, tls_first, (place, memory));
            }
            let reply = Reply::new(421, "4.3.2", "Out of memory, try again later");
            listener.refuse(&stream, peer, tls_first, (ConnectionResult::OutOfMemory, reply));
            context.transfers.note(Event::Refused, network(peer.ip()));
        });
    }

    /// Begins a session that has its place and its memory.
    fn start(&self, stream: TcpStream, peer: SocketAddr, tls_first: bool, held: (Place, Reservation)) {
        self.context.metrics.connection(ConnectionResult::Accepted);
        // A reply is one write; waiting for more to send would only delay it.
        match stream.set_nodelay(true) {
            Ok(()) => {
                let client = Client::new(peer, held.0.usage().clone());
                self.serve_session(stream, client, tls_first, held);
            }
            Err(error) => debug!(%peer, %error, "connection lost"),
        }
    }

    /// Says why, without waiting: the send buffer of a new connection is empty, so the reply fits.
    fn refuse(&self, stream: &TcpStream, peer: SocketAddr, tls_first: bool, why: (ConnectionResult, Reply)) {
        let (result, reply) = why;
        self.context.metrics.connection(result);
        debug!(%peer, code = reply.code(), ?result, "connection refused");
        // Before a handshake a reply would only be taken for a broken one.
        if tls_first {
            return;
        }
        self.context.metrics.reply(reply.code());
        let mut output = Vec::new();
        reply.write_to(&mut output);
        if let Err(error) = stream.try_write(&output) {
            debug!(%peer, %error, "refusal not sent");
        }
    }

    /// Serves one session in a task of its own, which holds `held` until its end.
    fn serve_session<S, H>(&self, stream: S, client: Client, tls_first: bool, held: H)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        H: Send + 'static,
    {
        let (context, stop) = (Arc::clone(&self.context), self.stop.clone());
        let peer = client.peer;
        let span = info_span!("smtp", session = SESSION.fetch_add(1, Ordering::Relaxed), %peer);
        self.sessions.spawn(
            async move {
                let _held = held;
                context.metrics.sessions().inc();
                let session =
                    AssertUnwindSafe(session::run(stream, client, tls_first, &context)).catch_unwind();
                tokio::select! {
                    result = session => match result {
                        Ok(Ok(())) => debug!("session ended"),
                        Ok(Err(error)) => debug!(%error, "session broke off"),
                        Err(_panic) => error!("session ended by a panic, which is a defect; others go on"),
                    },
                    () = stop.cancelled() => debug!("session ended by the shutdown"),
                }
                context.metrics.sessions().dec();
            }
            .instrument(span),
        );
    }
}

fn refused(refusal: Refusal) -> (ConnectionResult, Reply) {
    match refusal {
        Refusal::TooMany => {
            (ConnectionResult::TooMany, Reply::new(421, "4.3.2", "Too many connections, try again later"))
        }
        Refusal::TooManyFromAddress => (
            ConnectionResult::TooManyFromAddress,
            Reply::new(421, "4.7.0", "Too many connections from your address, try again later"),
        ),
    }
}

async fn accept(socket: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match socket {
        Some(socket) => socket.accept().await,
        None => std::future::pending().await,
    }
}

fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// What says that the socket itself is of no use: anything else passes, as network trouble does.
fn is_defect(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let defects = [Errno::BADF, Errno::INVAL, Errno::NOTSOCK];
    defects.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    exhausted.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::pin::Pin;
    use std::task::{self, Poll};

    use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};

    use super::*;
    use crate::delivery::Delivery;
    use crate::delivery::forward::Forward;
    use crate::delivery::intake::Intake;
    use crate::memory::MemoryBudget;
    use crate::metrics::Metrics;
    use crate::routes::RouteTable;
    use crate::routes::live::Routes;
    use crate::smtp::protocol::{Settings, TlsPolicy};
    use crate::smtp::transfers::Transfers;

    /// A stream on which reading panics.
    struct Defect;

    impl AsyncRead for Defect {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut task::Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            panic!("a defect in a session")
        }
    }

    impl AsyncWrite for Defect {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut task::Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    async fn listener() -> Listener {
        let settings = Settings {
            hostname: "mx.example.com".into(),
            message_bytes_max: 1_000,
            unknown_recipients_max: None,
            tls: TlsPolicy::Off,
        };
        let (memory, metrics) = (MemoryBudget::new(1_000_000), Arc::<Metrics>::default());
        let context = Context {
            settings,
            idle_timeout: Duration::from_secs(10),
            routes: Arc::new(Routes::new(RouteTable::default())),
            delivery: Arc::new(Delivery::Forward(Forward::new(Intake::new(1, 1, false)))),
            transfers: Transfers::new(&memory, Arc::clone(&metrics)),
            memory,
            metrics,
            tls: None,
            draining: CancellationToken::new(),
        };
        Listener {
            socket: Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap()),
            tls_socket: None,
            context: Arc::new(context),
            proxies: Vec::new(),
            connections: Connections::new(NonZeroU32::MIN, None),
            sessions: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    #[tokio::test]
    async fn a_panic_ends_its_session_alone_and_leaves_nothing_behind() {
        let listener = listener().await;
        let peer = SocketAddr::from(([192, 0, 2, 1], 25));
        let (mut client, server) = tokio::io::duplex(1_000);
        listener.serve_session(server, peer.into(), false, ());
        listener.serve_session(Defect, peer.into(), false, listener.connections.enter().unwrap());
        let mut greeting = [0; 4];
        client.read_exact(&mut greeting).await.unwrap();
        client.write_all(b"QUIT\r\n").await.unwrap();
        let mut replies = String::new();
        client.read_to_string(&mut replies).await.unwrap();
        assert!(replies.contains("\r\n221 "), "{replies:?}");
        drop(client);
        listener.sessions.close();
        listener.sessions.wait().await;
        assert_eq!(listener.context.metrics.sessions().get(), 0);
        assert!(listener.connections.enter().is_ok(), "its place is free");
    }
}
