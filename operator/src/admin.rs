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

use crate::caches::Lists;
use crate::metrics::text;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone)]
struct Shared {
    registry: Arc<Registry>,
    lists: Lists,
}

/// Serves `/metrics`, `/healthz` (the process answers) and `/readyz` (all there is in the cluster is known)
/// until `shutdown`.
///
/// # Errors
/// When the socket fails.
pub(crate) async fn serve(
    listener: TcpListener,
    registry: Arc<Registry>,
    lists: Lists,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    axum::serve(listener, router(Shared { registry, lists }))
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async {}))
        .route("/readyz", get(readiness))
        .with_state(shared)
}

async fn metrics(State(shared): State<Shared>) -> Response {
    match text(&shared.registry) {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn readiness(State(shared): State<Shared>) -> Response {
    if shared.lists.are_complete() {
        StatusCode::OK.into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the caches are not filled yet\n").into_response()
    }
}
