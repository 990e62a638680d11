//! Bound on the bytes that a webhook may send beside its answers.
//!
//! The HTTP library reads whatever comes: interim responses (`1xx`) without end, and on HTTP/2 frames that belong to no
//! request. It discards them, but reading them takes a processor. So a connection has an allowance of bytes, below TLS,
//! and is closed when that is used up. Each request gives it a new one.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use http::Uri;
use hyper_rustls::MaybeHttpsStream;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tower::Service;

use super::timely::BoxError;

/// Bytes for one request: three times the 16 KiB of a head and the 64 KiB of a body that are read of an answer. The rest
/// is for interim responses, chunk sizes, records of TLS, and what was sent before the body was read no further.
pub(super) const REQUEST_BYTES: usize = 256 * 1024;

/// Bytes that a connection of HTTP/2 begins with, and that are unused at most: those of 64 requests at the same time, the
/// default concurrency, all of which may have waited for it. Otherwise a webhook that has answered for days could send
/// for hours.
const SHARED_BYTES_MAX: usize = 64 * REQUEST_BYTES;

/// Bytes that a connection may still read.
#[derive(Debug)]
pub(super) struct Allowance(AtomicUsize);

impl Default for Allowance {
    /// For the handshake of TLS and the first requests.
    fn default() -> Self {
        Self(AtomicUsize::new(REQUEST_BYTES))
    }
}

impl Allowance {
    /// A connection that is shared by requests has begun.
    pub(super) fn begin_shared(&self) {
        self.0.store(SHARED_BYTES_MAX, Ordering::Relaxed);
    }

    /// A request begins on a connection that it has for itself.
    pub(super) fn begin_request(&self) {
        self.0.store(REQUEST_BYTES, Ordering::Relaxed);
    }

    /// So many requests begin on connections that are shared.
    pub(super) fn add_requests(&self, count: usize) {
        // One task reads and writes a connection: nothing else changes it meanwhile.
        let left = self.0.load(Ordering::Relaxed).saturating_add(count.saturating_mul(REQUEST_BYTES));
        self.0.store(left.min(SHARED_BYTES_MAX), Ordering::Relaxed);
    }

    /// Takes `bytes` that were read.
    fn take(&self, bytes: usize) -> io::Result<()> {
        match self.0.load(Ordering::Relaxed).checked_sub(bytes) {
            Some(left) => {
                self.0.store(left, Ordering::Relaxed);
                Ok(())
            }
            None => Err(io::Error::other("the webhook sends more than its answer, such as 1xx without end")),
        }
    }
}

/// A connection with an allowance.
pub(super) trait Metered {
    /// Its allowance.
    fn allowance(&self) -> &Arc<Allowance>;
}

impl<S> Metered for MaybeHttpsStream<TokioIo<MeteredStream<S>>> {
    fn allowance(&self) -> &Arc<Allowance> {
        let stream = match self {
            Self::Http(stream) => stream,
            Self::Https(stream) => stream.inner().get_ref().0.inner(),
        };
        &stream.inner().allowance
    }
}

/// Makes connections as another connector does, each with an allowance.
#[derive(Debug, Clone)]
pub(super) struct MeteredConnector<C>(pub(super) C);

impl<C, S> Service<Uri> for MeteredConnector<C>
where
    C: Service<Uri, Response = TokioIo<S>>,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    type Response = TokioIo<MeteredStream<S>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async move {
            let stream = connecting.await.map_err(Into::into)?.into_inner();
            Ok(TokioIo::new(MeteredStream { stream, allowance: Arc::default() }))
        })
    }
}

/// A connection that reads no more than its allowance.
#[derive(Debug)]
pub(super) struct MeteredStream<S> {
    stream: S,
    allowance: Arc<Allowance>,
}

impl<S: AsyncRead + Unpin> AsyncRead for MeteredStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        Poll::Ready(self.allowance.take(buffer.filled().len() - before))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MeteredStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: Connection> Connection for MeteredStream<S> {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::time::Duration;

    use bytes::Bytes;
    use http::Request;
    use http_body_util::Full;
    use mail_laser_routes::reach::Reach;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{ServerConfig, ServerConnection, StreamOwned};

    use super::super::connector::connector;
    use super::super::pool::{Kept, Pool};
    use super::*;

    /// Longer than anything that is waited for takes on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// Bytes that a server may have written before it notices the end of its connection: what the sockets of both
    /// sides hold, which Linux bounds by 4 MiB and 6 MiB, and the allowance.
    const WRITTEN_MAX: usize = 11 * 1024 * 1024 + SHARED_BYTES_MAX;

    const EARLY_HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";

    /// A server that accepts one connection after the other, each on a thread; `serve` returns the bytes it has written.
    fn server(
        serve: impl Fn(TcpStream) -> usize + Send + Sync + 'static,
    ) -> (SocketAddr, std::sync::mpsc::Receiver<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, written) = std::sync::mpsc::channel();
        let serve = Arc::new(serve);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (serve, sender) = (Arc::clone(&serve), sender.clone());
                std::thread::spawn(move || sender.send(serve(stream)));
            }
        });
        (address, written)
    }

    /// Writes `piece` again and again until the other side is gone; returns how many bytes it took.
    fn flood(stream: &mut impl Write, piece: &[u8]) -> usize {
        let mut written = 0;
        while let Ok(bytes) = stream.write(piece) {
            written += bytes;
        }
        written
    }

    fn pool(https: bool, roots: &[CertificateDer<'static>]) -> Pool {
        let connector = Arc::new(connector(https, roots, Reach::Anywhere).unwrap());
        Pool::new(connector, PATIENCE, Arc::new(Kept::default()))
    }

    fn post(url: &str) -> Request<Full<Bytes>> {
        Request::post(url).body(Full::from("{}")).unwrap()
    }

    /// Sends one request to `url`, whose server floods, and requests to another destination meanwhile; returns the
    /// error of the first.
    async fn fails(pool: Pool, url: String) -> String {
        let (other, _) = server(|mut stream| {
            let mut request = [0; 1024];
            while stream.read(&mut request).is_ok_and(|bytes| bytes > 0) {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            }
            0
        });
        let (other, other_pool) = (format!("http://{other}/"), self::pool(false, &[]));
        let mut flooded = tokio::spawn(async move { pool.request(post(&url)).await });
        let ended = async {
            loop {
                tokio::select! {
                    biased;
                    ended = &mut flooded => break ended.unwrap(),
                    answer = other_pool.request(post(&other)) => assert_eq!(answer.unwrap().status(), 200),
                }
            }
        };
        let error = tokio::time::timeout(PATIENCE, ended).await.expect("the request ends").unwrap_err();
        let mut text = String::new();
        let mut source: Option<&dyn std::error::Error> = Some(&error);
        while let Some(error) = source {
            text += &format!("{error}: ");
            source = error.source();
        }
        text
    }

    #[tokio::test]
    async fn endless_interim_responses_end_their_connection() {
        let (address, written) = server(|mut stream| {
            // What comes before the request would be an error of its own.
            let mut request = [0; 4096];
            let mut read = stream.read(&mut request).unwrap();
            while !request[..read].ends_with(b"{}") {
                read += stream.read(&mut request[read..]).unwrap();
            }
            flood(&mut stream, EARLY_HINTS.repeat(100).as_bytes())
        });
        let error = fails(pool(false, &[]), format!("http://{address}/")).await;
        assert!(error.contains("more than its answer"), "{error}");
        let written = written.recv_timeout(PATIENCE).expect("the end of the connection");
        assert!((REQUEST_BYTES..WRITTEN_MAX).contains(&written), "{written} bytes");
    }

    #[tokio::test]
    async fn endless_frames_end_their_connection() {
        crate::crypto::init();
        let signed = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let root = signed.cert.der().clone();
        let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
        let mut config =
            ServerConfig::builder().with_no_client_auth().with_single_cert(vec![root.clone()], key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let config = Arc::new(config);
        // A SETTINGS frame without settings, as each connection begins.
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        // HEADERS of stream 1 with END_HEADERS, whose block is `:status: 103` as a literal: RFC 9113 section 6.2, RFC
        // 7541 section 6.2.2.
        let early_hints: &[u8] = &[0, 0, 5, 1, 4, 0, 0, 0, 1, 0x08, 3, b'1', b'0', b'3'];
        // PING with ACK, to which there is no answer.
        let ping: &[u8] = &[0, 0, 8, 6, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        for frame in [early_hints, ping] {
            let config = Arc::clone(&config);
            let (address, written) = server(move |stream| {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = StreamOwned::new(connection, stream);
                // The preface, SETTINGS and the request begin the connection; what else comes stays unread.
                let mut request = [0; 4096];
                let mut read = stream.read(&mut request).unwrap();
                stream.write_all(&settings).unwrap();
                while !request[..read].windows(2).any(|bytes| bytes == b"{}") {
                    read += stream.read(&mut request[read..]).unwrap();
                }
                flood(&mut stream, &frame.repeat(500))
            });
            let url = format!("https://{address}/");
            let error = fails(pool(true, std::slice::from_ref(&root)), url).await;
            assert!(error.contains("more than its answer"), "{error}");
            let written = written.recv_timeout(PATIENCE).expect("the end of the connection");
            assert!((REQUEST_BYTES..WRITTEN_MAX).contains(&written), "{written} bytes");
        }
    }

    #[test]
    fn each_request_renews_the_allowance() {
        let allowance = Allowance::default();
        for _ in 0..3 {
            assert!(allowance.take(REQUEST_BYTES).is_ok());
            assert!(allowance.take(1).is_err());
            allowance.begin_request();
        }
    }

    #[test]
    fn unused_allowance_is_bounded() {
        let allowance = Allowance::default();
        allowance.begin_shared();
        assert!(allowance.take(SHARED_BYTES_MAX).is_ok());
        assert!(allowance.take(1).is_err());
        allowance.add_requests(1);
        assert!(allowance.take(REQUEST_BYTES).is_ok());
        assert!(allowance.take(1).is_err());
        allowance.add_requests(usize::MAX);
        assert!(allowance.take(SHARED_BYTES_MAX + 1).is_err());
        assert!(allowance.take(SHARED_BYTES_MAX).is_ok());
    }
}
