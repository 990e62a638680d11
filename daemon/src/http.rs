//! Serves an axum router on a socket that is bound already, within bounds.

mod connection;
mod places;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use connection::{AnswerBody, Stream};
use places::{Place, Places};

/// Connections to the health port at the same time. Probes need a handful; beyond the bound one of them is closed, so that
/// they cannot use up what SMTP needs.
pub(crate) const HEALTH_CONNECTIONS_MAX: usize = 256;

/// The same for the metrics port. Each may have a whole answer in memory, which takes 4 MB with a thousand routes.
pub(crate) const METRICS_CONNECTIONS_MAX: usize = 16;

/// Octets of a request's head: no probe and no scraper sends a tenth of it, and 400 KiB are what hyper would keep.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// How long a request's head may take, and how long a connection may wait for one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection lives: longer than a scrape takes, and short enough that clients that
/// only hold connections cannot keep others out.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(30);

/// Pause between two records that say that connections were closed.
const RECORD_PAUSE: Duration = Duration::from_secs(60);

/// Pause after the system could not give a connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` until `stop` is cancelled, to so many connections at the same time. Beyond them, the connection that
/// has waited longest for a request is closed; a new one is when all have requests.
///
/// # Errors
/// None at present; a socket that fails is tried again.
pub(crate) async fn serve(
    socket: Arc<TcpListener>,
    router: Router,
    connections_max: usize,
    stop: CancellationToken,
) -> io::Result<()> {
    let places = Places::new(connections_max);
    let mut recorded: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            accepted = socket.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "connection not accepted");
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
                continue;
            }
        };
        let taken = places.take();
        if !matches!(taken, Some((_, false))) && recorded.is_none_or(|at| at.elapsed() >= RECORD_PAUSE) {
            recorded = Some(Instant::now());
            warn!(
                "{connections_max} connections at once; for each further one, the longest idle one is closed"
            );
        }
        if let Some((place, _)) = taken {
            tokio::spawn(serve_one(stream, router.clone(), place));
        }
    }
}

/// Serves one connection until it ends, takes too long, or has to make room.
async fn serve_one(stream: TcpStream, router: Router, place: Place) {
    let place = Arc::new(place);
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request: hyper::Request<Incoming>| {
        place.begin_request();
        let (answer, place) = (router.call(request), Arc::clone(&place));
        async move { answer.await.map(|answer| answer.map(|body| AnswerBody { body, place })) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(Stream { stream: TokioIo::new(stream), place: Arc::clone(&place) }, service);
    tokio::select! {
        ended = tokio::time::timeout(CONNECTION_TIME_MAX, connection) => match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%error, "connection broke off"),
            Err(_elapsed) => debug!("connection cut off after {CONNECTION_TIME_MAX:?}"),
        },
        () = place.evicted() => debug!("idle connection closed to make room"),
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Notify;

    use super::*;

    const CONNECTIONS_MAX: usize = 4;

    /// Longer than anything that is waited for takes on a busy machine, and than a head may take.
    const PATIENCE: Duration = Duration::from_secs(8);

    async fn read_to_end(stream: &mut TcpStream) -> String {
        let mut text = String::new();
        // A connection that is closed with bytes unread is reset.
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut text)).await.expect("the end");
        text
    }

    #[tokio::test]
    async fn silent_connections_make_room_and_requests_do_not() {
        let socket = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let address = socket.local_addr().unwrap();
        let (begun, proceed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let slow = {
            let (begun, proceed) = (Arc::clone(&begun), Arc::clone(&proceed));
            move || async move {
                begun.notify_one();
                proceed.notified().await;
                "done"
            }
        };
        let router = Router::new().route("/", get(|| async { "fast" })).route("/slow", get(slow));
        tokio::spawn(serve(socket, router, CONNECTIONS_MAX, CancellationToken::new()));
        let request = |path: &'static str| async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            stream
        };
        let mut slow = request("/slow").await;
        begun.notified().await;
        let mut silent = Vec::new();
        for _ in 1..CONNECTIONS_MAX {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        // One that has sent half a head is idle, too.
        silent[0].write_all(b"GET / HTTP/1.1\r\nHost").await.unwrap();
        let answer = read_to_end(&mut request("/").await).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("fast"), "{answer}");
        assert_eq!(read_to_end(&mut silent[0]).await, "");
        // The others are still there.
        silent[1].write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        assert!(read_to_end(&mut silent[1]).await.ends_with("fast"));

        // With requests alone, it is the new one that is closed.
        let mut others = Vec::new();
        for _ in 1..CONNECTIONS_MAX {
            others.push(request("/slow").await);
            begun.notified().await;
        }
        assert_eq!(read_to_end(&mut request("/").await).await, "");
        proceed.notify_waiters();
        assert!(read_to_end(&mut slow).await.ends_with("done"));
    }
}
