//! Names of webhooks to addresses.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::vec;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use hyper_util::client::legacy::connect::dns::Name;
use tokio::sync::OnceCell;
use tower::Service;

use mail_laser_routes::reach::Reach;

/// What is said of a name that leads to addresses which are out of reach alone.
fn out_of(reach: Reach) -> &'static str {
    match reach {
        Reach::Anywhere => "its name leads to no address",
        Reach::Inner => {
            "its name leads to no address but the host's own, link-local ones, multicast and a cloud's metadata, which no route may reach"
        }
        Reach::Public => "its name leads to no public address, and the gateway permits no others",
    }
}

/// Asks the name servers of `/etc/resolv.conf`, and `/etc/hosts` before them. Unlike the C library's
/// resolver it takes no thread for a lookup.
///
/// What is connected to are the addresses that are checked here: a name that leads elsewhere the next
/// time gains nothing.
#[derive(Debug, Clone)]
pub(super) struct Resolver {
    /// Made with the first lookup, which is in the runtime.
    inner: Arc<OnceCell<TokioResolver>>,
    reach: Reach,
}

impl Resolver {
    /// A resolver that finds only permitted addresses.
    pub(super) fn new(reach: Reach) -> Self {
        Self { inner: Arc::default(), reach }
    }
}

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (inner, reach) = (Arc::clone(&self.inner), self.reach);
        Box::pin(async move {
            let resolver = inner.get_or_try_init(|| async { make() }).await?;
            let found = resolver.lookup_ip(name.as_str()).await.map_err(io::Error::other)?;
            // The port is that of the URL.
            let permitted = found.iter().filter(|ip| reach.permits(*ip));
            let addresses: Vec<SocketAddr> = permitted.map(|ip| SocketAddr::new(ip, 0)).collect();
            if addresses.is_empty() {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, out_of(reach)));
            }
            Ok(addresses.into_iter())
        })
    }
}

fn make() -> io::Result<TokioResolver> {
    let mut builder = TokioResolver::builder_tokio().map_err(io::Error::other)?;
    // Both, so that the other is tried where one does not answer.
    builder.options_mut().ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
    builder.build().map_err(io::Error::other)
}
