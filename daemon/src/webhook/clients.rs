//! Clients of HTTP, shared by destinations that trust and reach the same.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;

use crate::config::WebhookConfig;
use mail_laser_routes::reach::Reach;

use super::connector::{Connector, TlsError, connector};

/// How long an unused connection is kept: shorter than the idle time of common load balancers
/// (60 s), so that a request seldom meets one that is just being closed.
const IDLE_CONNECTION_TIME: std::time::Duration = std::time::Duration::from_secs(45);

/// Connections and what makes them. A clone shares them.
pub(super) type Http = legacy::Client<Connector, Full<Bytes>>;

/// What a client does not share with others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    https: bool,
    roots: Vec<CertificateDer<'static>>,
    reach: Reach,
}

/// The clients in use: thousands of routes would otherwise each have roots of trust and a resolver. One goes with the
/// last destination that has it.
#[derive(Debug, Default)]
pub struct Clients(Mutex<HashMap<Kind, Weak<Http>>>);

impl Clients {
    /// The client for a destination.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub(super) fn get(&self, config: &WebhookConfig) -> Result<Arc<Http>, TlsError> {
        let kind = Kind { https: config.url.is_https(), roots: config.ca_roots.clone(), reach: config.reach };
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&kind).and_then(Weak::upgrade) {
            return Ok(client);
        }
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_CONNECTION_TIME);
        let client = Arc::new(builder.build(connector(kind.https, &kind.roots, kind.reach)?));
        clients.insert(kind, Arc::downgrade(&client));
        Ok(client)
    }

    /// Forgets of which kind those were that have gone.
    pub fn sweep(&self) {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        clients.retain(|_, client| client.strong_count() > 0);
    }
}
