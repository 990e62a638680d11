//! Connections that come to an end: what hangs on the other side's pace is given up.
//!
//! The client's library goes on in the background with what nobody waits for any more: it finishes a connection that
//! was begun, and writes what was to be sent. The other side could make either last for ever.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::time::Instant;
use tower::Service;

use super::allowance::{Allowance, Metered};

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long connecting may take, TLS included. The addresses of a name are tried one after the other, and share this
/// time: one that is dead leaves time for the next before the request's own is over, which is 30 s by default.
pub(super) const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// Makes connections as another one does, and ends those that take too long.
#[derive(Debug, Clone)]
pub(super) struct Timely<C> {
    connector: C,
    send_time_max: Duration,
    /// Number of requests that have begun on its connections.
    requests: Arc<AtomicUsize>,
}

impl<C> Timely<C> {
    /// What is to be sent by its connections has to be on its way within `send_time_max`: nobody waits for an answer
    /// any longer. `requests` counts the requests that begin.
    pub(super) fn new(connector: C, send_time_max: Duration, requests: Arc<AtomicUsize>) -> Self {
        Self { connector, send_time_max, requests }
    }
}

impl<C> Service<Uri> for Timely<C>
where
    C: Service<Uri, Error = BoxError>,
    C::Response: Connection + Metered,
    C::Future: Send + 'static,
{
    type Response = TimelyStream<C::Response>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = tokio::time::timeout(CONNECT_TIME_MAX, self.connector.call(uri));
        let (send_time_max, requests) = (self.send_time_max, Arc::clone(&self.requests));
        Box::pin(async move {
            let late = || io::Error::new(io::ErrorKind::TimedOut, format!("not within {CONNECT_TIME_MAX:?}"));
            let stream = connecting.await.map_err(|_elapsed| late())??;
            let allowance = Arc::clone(stream.allowance());
            let shared = stream.connected().is_negotiated_h2().then(|| {
                allowance.begin_shared();
                Requests { seen: requests.load(Ordering::Relaxed), all: requests }
            });
            Ok(TimelyStream { stream, send_time_max, unsent_since: None, allowance, shared })
        })
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct TimelyStream<S> {
    stream: S,
    send_time_max: Duration,
    /// Since when there has been something to send at any time.
    unsent_since: Option<Instant>,
    allowance: Arc<Allowance>,
    /// The requests that share it, if it is one of HTTP/2.
    shared: Option<Requests>,
}

/// Requests of a destination.
#[derive(Debug)]
struct Requests {
    /// Number of those that have begun.
    all: Arc<AtomicUsize>,
    /// Number of those that the connection has an allowance for.
    seen: usize,
}

impl<S: Unpin> TimelyStream<S> {
    /// The stream for a write, unless that comes too late.
    ///
    /// Nothing wakes the writer for it: the other side does, which takes a little now and then, or the system, which
    /// ends a connection on which it takes nothing.
    fn writing(self: Pin<&mut Self>) -> io::Result<Pin<&mut S>> {
        let this = self.get_mut();
        if this.unsent_since.is_none() && this.shared.is_none() {
            // HTTP/1 has nothing to write but requests.
            this.allowance.begin_request();
        }
        let since = *this.unsent_since.get_or_insert_with(Instant::now);
        if since.elapsed() > this.send_time_max {
            let why = format!("the other side has not taken the request within {:?}", this.send_time_max);
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        Ok(Pin::new(&mut this.stream))
    }
}

impl<S: Write + Unpin> Write for TimelyStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writing()?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writing()?.poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // It is called when all has been written.
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.unsent_since = None;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: Read + Unpin> Read for TimelyStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(Requests { all, seen }) = &mut this.shared {
            // HTTP/2 writes replies to frames, too: only requests that begin count.
            let begun = all.load(Ordering::Relaxed);
            this.allowance.add_requests(begun.wrapping_sub(*seen));
            *seen = begun;
        }
        Pin::new(&mut this.stream).poll_read(cx, buffer)
    }
}

impl<S: Connection> Connection for TimelyStream<S> {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// Takes an octet at a time.
    #[derive(Debug)]
    struct Slow;

    impl Connection for Slow {
        fn connected(&self) -> Connected {
            Connected::new()
        }
    }

    impl Metered for Slow {
        fn allowance(&self) -> &Arc<Allowance> {
            unreachable!("it does not connect")
        }
    }

    fn stream(send_time_max: Duration) -> TimelyStream<Slow> {
        let allowance = Arc::default();
        TimelyStream { stream: Slow, send_time_max, unsent_since: None, allowance, shared: None }
    }

    impl Write for Slow {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len().min(1)))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_taken_too_slowly_is_given_up() {
        let mut stream = stream(Duration::from_secs(2));
        let mut write = async || poll_fn(|cx| Pin::new(&mut stream).poll_write(cx, b"request")).await;
        for _ in 0..3 {
            assert_eq!(write().await.unwrap(), 1);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(write().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_begins_anew_with_what_is_sent_after_all_else_was() {
        let mut stream = stream(Duration::from_secs(2));
        for _ in 0..3 {
            poll_fn(|cx| Pin::new(&mut stream).poll_write(cx, b"request")).await.unwrap();
            poll_fn(|cx| Pin::new(&mut stream).poll_flush(cx)).await.unwrap();
            tokio::time::advance(Duration::from_secs(3)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_does_not_end_is_given_up() {
        let never = tower::service_fn(|_: Uri| std::future::pending::<Result<Slow, BoxError>>());
        let mut connector = Timely::new(never, Duration::from_secs(30), Arc::default());
        let begun = Instant::now();
        let error = connector.call(Uri::from_static("https://api.example.com/")).await.unwrap_err();
        assert!(error.to_string().contains("not within 10s"), "{error}");
        assert_eq!(begun.elapsed(), CONNECT_TIME_MAX);
    }
}
