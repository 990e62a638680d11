//! Serves an axum router on a socket that is bound already, within bounds.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Connections to the health port at the same time. Probes need a handful; more are closed, so that they cannot use up
/// what SMTP needs.
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

/// Pause after the system could not give a connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` until `stop` is cancelled, to so many connections at the same time.
///
/// # Errors
/// None at present; a socket that fails is tried again.
pub(crate) async fn serve(
    socket: Arc<TcpListener>,
    router: Router,
    connections_max: usize,
    stop: CancellationToken,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(connections_max));
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
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            warn!("more than {connections_max} connections; one was closed");
            continue;
        };
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let _place = place;
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(HEAD_BYTES_MAX)
                .serve_connection(TokioIo::new(stream), service);
            match tokio::time::timeout(CONNECTION_TIME_MAX, connection).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(%error, "connection broke off"),
                Err(_elapsed) => debug!("connection cut off after {CONNECTION_TIME_MAX:?}"),
            }
        });
    }
}
