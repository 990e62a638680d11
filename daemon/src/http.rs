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

/// Connections at the same time. Probes and scrapers need a handful; more are closed, so that
/// they cannot use up what SMTP needs.
const CONNECTIONS_MAX: usize = 256;

/// How long a request's head may take, and how long a connection may wait for one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection lives: longer than a scrape takes, and short enough that clients that
/// only hold connections cannot keep others out.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(30);

/// Pause after the system could not give a connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` until `stop` is cancelled.
///
/// # Errors
/// None at present; a socket that fails is tried again.
pub(crate) async fn serve(
    socket: Arc<TcpListener>,
    router: Router,
    stop: CancellationToken,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
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
            warn!("more than {CONNECTIONS_MAX} connections; one was closed");
            continue;
        };
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let _place = place;
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            match tokio::time::timeout(CONNECTION_TIME_MAX, connection).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(%error, "connection broke off"),
                Err(_elapsed) => debug!("connection cut off after {CONNECTION_TIME_MAX:?}"),
            }
        });
    }
}
