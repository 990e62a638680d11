//! The server of metrics and health.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::health::Health;
use crate::metrics::text;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone)]
struct Shared {
    registry: Arc<Registry>,
    health: Health,
}

/// Serves `/metrics`, and what [`crate::health`] knows, until `shutdown`: `/healthz` (no loop is stuck) and
/// `/readyz` (this process can do its part).
///
/// # Errors
/// When the socket fails.
pub(crate) async fn serve(
    listener: TcpListener,
    registry: Arc<Registry>,
    health: Health,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    axum::serve(listener, router(Shared { registry, health }))
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(liveness))
        .route("/readyz", get(readiness))
        .with_state(shared)
}

async fn metrics(State(shared): State<Shared>) -> Response {
    match text(&shared.registry) {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn liveness(State(shared): State<Shared>) -> Response {
    let stuck = shared.health.stuck(clock::now());
    if let Some(why) = &stuck {
        tracing::error!(why, "operator is stuck, and has to be started anew");
    }
    answer(stuck, StatusCode::INTERNAL_SERVER_ERROR)
}

async fn readiness(State(shared): State<Shared>) -> Response {
    answer(shared.health.unready(clock::now()), StatusCode::SERVICE_UNAVAILABLE)
}

fn answer(trouble: Option<String>, code: StatusCode) -> Response {
    match trouble {
        None => StatusCode::OK.into_response(),
        Some(trouble) => (code, trouble + "\n").into_response(),
    }
}
