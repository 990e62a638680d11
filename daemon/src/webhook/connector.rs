//! Connections to webhooks.

use std::time::Duration;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

use mail_laser_routes::reach::Reach;

use super::allowance::MeteredConnector;
use super::resolver::Resolver;
use super::timely::CONNECT_TIME_MAX;

/// What makes connections: TCP, and TLS on top of it for https.
pub(super) type Connector = HttpsConnector<MeteredConnector<HttpConnector<Resolver>>>;

/// How long a connection on which an answer is waited for is silent before TCP asks whether the other
/// side is there; routers on the way forget silent connections after some minutes.
const KEEPALIVE_TIME: Duration = Duration::from_secs(15);

/// How long the other side may leave what was sent unconfirmed. The requests of a destination share a connection
/// of HTTP/2: one that is dead must not take each of them to its time-out.
const UNCONFIRMED_TIME_MAX: Duration = Duration::from_secs(30);

/// Why there can be no connections.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Nobody to trust.
    #[error("there are no root certificates: neither the system's nor others{}", reason.as_ref().map(|it| format!(" ({it})")).unwrap_or_default())]
    NoRoots {
        /// What the system's could not be read for.
        reason: Option<String>,
    },
    /// The roots are none.
    #[error("a root certificate cannot be used")]
    Root(#[source] rustls::Error),
}

/// A connector for an address with this scheme, which trusts the system's roots and these.
///
/// # Errors
/// When https is wanted and nobody is trusted.
pub(super) fn connector(
    https: bool,
    roots: &[CertificateDer<'static>],
    reach: Reach,
) -> Result<Connector, TlsError> {
    crate::crypto::init();
    let trusted = if https { trusted(roots)? } else { RootCertStore::empty() };
    let tls = ClientConfig::builder().with_root_certificates(trusted).with_no_client_auth();
    let mut tcp = HttpConnector::new_with_resolver(Resolver::new(reach));
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIME_MAX));
    tcp.set_keepalive(Some(KEEPALIVE_TIME));
    tcp.set_tcp_user_timeout(Some(UNCONFIRMED_TIME_MAX));
    let builder = HttpsConnectorBuilder::new().with_tls_config(tls);
    Ok(builder.https_or_http().enable_all_versions().wrap_connector(MeteredConnector(tcp)))
}

fn trusted(roots: &[CertificateDer<'static>]) -> Result<RootCertStore, TlsError> {
    let system = rustls_native_certs::load_native_certs();
    let mut trusted = RootCertStore::empty();
    // Systems have roots that no library takes any more.
    trusted.add_parsable_certificates(system.certs);
    for root in roots {
        trusted.add(root.clone()).map_err(TlsError::Root)?;
    }
    if trusted.is_empty() {
        return Err(TlsError::NoRoots { reason: system.errors.first().map(ToString::to_string) });
    }
    Ok(trusted)
}
