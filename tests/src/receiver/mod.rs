//! A webhook that remembers what it got and fails when it is told to.
//!
//! Any `POST` is a mail. The rest is for whoever runs the test or the demo:
//!
//! | request | |
//! | --- | --- |
//! | `PUT /_control` | `{"status": 500, "times": 5, "delay_ms": 0}`: how the next `times` mails are answered; without `times`, all |
//! | `GET /_received?since=<number>` | the mails after that number, oldest first |
//! | `DELETE /_received` | forgets them |
//! | `GET /_count` | how many there were, and how many of them were answered 2xx |
//! | `GET /_healthz` | `200` |

mod store;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::header::{HeaderValue, LOCATION};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use store::{Behaviour, Counts, Received};
use store::{Request, Store};

/// The largest mail of the daemon's default, 25 MiB, grows by a third in base64.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Longer than any time-out of the daemon.
const DELAY_MAX: Duration = Duration::from_secs(600);

/// What all requests share.
#[derive(Clone, Default)]
pub struct Receiver {
    store: Arc<Mutex<Store>>,
    echo: bool,
}

/// A receiver that serves in this process until it is dropped.
pub struct Running {
    receiver: Receiver,
    address: SocketAddr,
    stop: CancellationToken,
}

impl Receiver {
    /// A receiver that prints each mail's JSON to stdout, one line each.
    #[must_use]
    pub fn printing() -> Self {
        Self { echo: true, ..Self::default() }
    }

    /// Serves in the background on a free port of the loopback address.
    ///
    /// # Errors
    /// When there is no port to bind.
    pub async fn start() -> io::Result<Running> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let (receiver, address, stop) = (Self::default(), listener.local_addr()?, CancellationToken::new());
        tokio::spawn(receiver.clone().serve(listener, stop.clone().cancelled_owned()));
        Ok(Running { receiver, address, stop })
    }

    /// Serves until `shutdown` is done, then finishes what is under way.
    ///
    /// # Errors
    /// When the listener breaks.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        axum::serve(listener, self.router()).with_graceful_shutdown(shutdown).await
    }

    fn router(self) -> Router {
        Router::new()
            .route("/_control", put(control))
            .route("/_received", get(received).delete(forget))
            .route("/_count", get(count))
            .route("/_healthz", get(|| async {}))
            .fallback(post(receive))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(self)
    }

    /// Sets how the next mails are answered.
    pub fn behave(&self, behaviour: Behaviour) {
        self.store().behave(behaviour);
    }

    /// The mails after the one of this number, oldest first.
    #[must_use]
    pub fn received(&self, since: u64) -> Vec<Received> {
        self.store().received(since)
    }

    /// How many mails there were.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.store().counts()
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        // Nothing panics while it is held; if it did, what is in there is still true.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl std::ops::Deref for Running {
    type Target = Receiver;

    fn deref(&self) -> &Receiver {
        &self.receiver
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn receive(
    State(receiver): State<Receiver>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, HeaderMap) {
    let request = Request::new(uri.path(), &headers, &body);
    if receiver.echo {
        println!("{}", request.body);
    }
    let answer = receiver.store().receive(request);
    if !answer.delay.is_zero() {
        tokio::time::sleep(answer.delay.min(DELAY_MAX)).await;
    }
    let location = answer.location.and_then(|location| HeaderValue::try_from(location).ok());
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, location.map(|location| (LOCATION, location)).into_iter().collect())
}

async fn control(State(receiver): State<Receiver>, Json(behaviour): Json<Behaviour>) {
    receiver.behave(behaviour);
}

#[derive(Deserialize)]
struct Since {
    #[serde(default)]
    since: u64,
}

async fn received(State(receiver): State<Receiver>, Query(query): Query<Since>) -> Json<Vec<Received>> {
    Json(receiver.received(query.since))
}

async fn forget(State(receiver): State<Receiver>) {
    receiver.store().forget();
}

async fn count(State(receiver): State<Receiver>) -> Json<Counts> {
    Json(receiver.counts())
}
