//! What keeps one who no longer leads from writing.
//!
//! A leader that was paused does not know it: every decision that it was in the middle of goes on. So each term has
//! a client of its own, whose sockets take not one byte more when the term is over. The check is the last thing
//! before the system call: behind it there are no retries, no handshakes and no queues any more.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt};
use kube::{Client, Config};
use tower::{BoxError, Service, ServiceBuilder};

use crate::clock::{self, SinceBoot};

/// Until when a term lasts. Clones are of the same term.
#[derive(Clone, Debug)]
pub struct Fence(Arc<AtomicU64>);

impl Fence {
    /// A term until this moment.
    pub fn until(moment: SinceBoot) -> Self {
        Self(Arc::new(AtomicU64::new(nanoseconds(moment))))
    }

    /// Moves the end.
    pub fn extend(&self, until: SinceBoot) {
        self.0.store(nanoseconds(until), Ordering::SeqCst);
    }

    /// Ends the term.
    pub fn close(&self) {
        self.0.store(0, Ordering::SeqCst);
    }

    /// Whether both are of the same term.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether the term lasts.
    pub fn is_open(&self, now: SinceBoot) -> bool {
        now < Duration::from_nanos(self.0.load(Ordering::SeqCst))
    }
}

/// 584 years of them fit.
fn nanoseconds(moment: SinceBoot) -> u64 {
    u64::try_from(moment.as_nanos()).unwrap_or(u64::MAX)
}

/// A client that sends nothing once the term is over. It is as [`Client::try_from`] makes them, but for what is
/// between it and its sockets, and without tries of its own: who asks decides what to try again.
///
/// # Errors
/// When the configuration names credentials or roots that cannot be read.
pub fn client(config: &Config, fence: Fence) -> Result<Client, kube::Error> {
    let mut connector = HttpConnector::new();
    // The scheme is the TLS connector's concern.
    connector.enforce_http(false);
    let connector = FencedConnector { connector, fence };
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(connector)?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    let client: HttpClient<_, Body> = HttpClient::builder(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(client);
    Ok(Client::new(service, config.default_namespace.clone()))
}

#[derive(Clone)]
struct FencedConnector {
    connector: HttpConnector,
    fence: Fence,
}

type Connecting<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl Service<Uri> for FencedConnector {
    type Response = Fenced<<HttpConnector as Service<Uri>>::Response>;
    type Error = <HttpConnector as Service<Uri>>::Error;
    type Future = Connecting<Self::Response, Self::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        let (connecting, fence) = (self.connector.call(address), self.fence.clone());
        Box::pin(async move { Ok(Fenced { stream: connecting.await?, fence }) })
    }
}

/// A stream that takes nothing once the term is over.
struct Fenced<S> {
    stream: S,
    fence: Fence,
}

impl<S> Fenced<S> {
    fn check(&self) -> io::Result<()> {
        if self.fence.is_open(clock::now()) {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "this operator does not hold the Lease any more"))
    }
}

impl<S: Read + Unpin> Read for Fenced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: Write + Unpin> Write for Fenced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: Connection> Connection for Fenced<S> {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::error::chain;

    /// An API server that answers everything with `ok`, and counts what it gets.
    async fn server() -> (Config, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&received);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                        count.fetch_add(length, Ordering::SeqCst);
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                    }
                });
            }
        });
        (Config::new(format!("http://{address}").parse().unwrap()), received)
    }

    async fn write(client: &Client) -> Result<String, kube::Error> {
        client.request_text(http::Request::post("/apis").body(b"{}".to_vec()).unwrap()).await
    }

    #[tokio::test]
    async fn when_the_term_is_over_not_a_byte_leaves_even_by_an_open_connection() {
        let (config, received) = server().await;
        let fence = Fence::until(clock::now() + Duration::from_secs(60));
        let client = client(&config, fence.clone()).unwrap();
        assert_eq!(write(&client).await.unwrap(), "ok");
        let before = received.load(Ordering::SeqCst);
        assert!(before > 0);

        fence.extend(clock::now());
        for _ in 0..3 {
            let error = write(&client).await.unwrap_err();
            assert!(chain(&error).contains("does not hold the Lease"), "{}", chain(&error));
        }
        assert_eq!(received.load(Ordering::SeqCst), before);

        fence.extend(clock::now() + Duration::from_secs(60));
        assert_eq!(write(&client).await.unwrap(), "ok");
    }

    #[tokio::test]
    async fn a_term_that_ends_between_two_writes_cuts_the_request_in_two() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let fence = Fence::until(clock::now() + Duration::from_secs(60));
        let mut stream = Fenced { stream: hyper_util::rt::TokioIo::new(ours), fence: fence.clone() };
        let mut send = async |bytes: &[u8]| {
            std::future::poll_fn(|context| Pin::new(&mut stream).poll_write(context, bytes)).await
        };
        assert_eq!(send(b"first").await.unwrap(), 5);
        fence.close();
        assert_eq!(send(b"second").await.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        drop(stream);
        let mut got = String::new();
        theirs.read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "first");
    }

    #[test]
    fn a_term_ends_at_its_moment() {
        let fence = Fence::until(Duration::from_secs(10));
        assert!(fence.is_open(Duration::from_nanos(9_999_999_999)));
        assert!(!fence.is_open(Duration::from_secs(10)));
        fence.extend(Duration::from_secs(11));
        assert!(fence.is_open(Duration::from_secs(10)));
        fence.close();
        assert!(!fence.is_open(Duration::ZERO));
    }
}
