//! What makes connections, shared by destinations that trust and reach the same.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustls::pki_types::CertificateDer;

use crate::config::WebhookConfig;
use crate::turn::Turns;
use mail_laser_routes::reach::Reach;

use super::connector::{Connector, TlsError, connector};
use super::pool::{Kept, Pool};

/// What a connector does not share with others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    https: bool,
    roots: Vec<CertificateDer<'static>>,
    reach: Reach,
}

/// The connectors in use: thousands of routes would otherwise each have roots of trust and a resolver. One goes with the
/// last destination that has it. Connections are not shared: on one of HTTP/2 a destination that hangs takes the streams
/// of all others that have the same host.
#[derive(Debug)]
pub struct Connectors {
    kinds: Mutex<HashMap<Kind, Weak<Connector>>>,
    kept: Arc<Kept>,
    failing: Arc<Turns>,
}

/// Deliveries that are given up between two looks at all else: some 60 us each, so less than a millisecond.
const FAILING_AT_ONCE: usize = 8;

impl Default for Connectors {
    fn default() -> Self {
        Self { kinds: Mutex::default(), kept: Arc::default(), failing: Arc::new(Turns::new(FAILING_AT_ONCE)) }
    }
}

impl Connectors {
    /// The connections of a destination, of which there are none yet.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub(super) fn pool(&self, config: &WebhookConfig) -> Result<Pool, TlsError> {
        Ok(Pool::new(self.get(config)?, config.timeout, Arc::clone(&self.kept)))
    }

    /// Turns at giving up what has failed, which all destinations share.
    pub(super) fn failing(&self) -> Arc<Turns> {
        Arc::clone(&self.failing)
    }

    fn get(&self, config: &WebhookConfig) -> Result<Arc<Connector>, TlsError> {
        let kind = Kind { https: config.url.is_https(), roots: config.ca_roots.clone(), reach: config.reach };
        let mut connectors = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connector) = connectors.get(&kind).and_then(Weak::upgrade) {
            return Ok(connector);
        }
        let made = Arc::new(connector(kind.https, &kind.roots, kind.reach)?);
        connectors.insert(kind, Arc::downgrade(&made));
        Ok(made)
    }

    /// Forgets of which kind those were that have gone.
    pub fn sweep(&self) {
        let mut connectors = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        connectors.retain(|_, connector| connector.strong_count() > 0);
    }
}
