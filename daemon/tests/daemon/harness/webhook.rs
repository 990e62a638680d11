use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::{Extension, Router};
use serde_json::Value;

use super::eventually;

/// How the webhook answers one request.
#[derive(Debug, Clone)]
pub(crate) struct Behaviour {
    pub(crate) status: u16,
    pub(crate) delay: Duration,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body_bytes: usize,
    /// A body that says something, in place of one of `body_bytes`.
    pub(crate) text: Option<String>,
    /// Whether the body never comes to its end.
    pub(crate) body_stalls: bool,
}

impl Behaviour {
    pub(crate) fn status(status: u16) -> Self {
        Self {
            status,
            delay: Duration::ZERO,
            headers: Vec::new(),
            body_bytes: 0,
            text: None,
            body_stalls: false,
        }
    }

    pub(crate) fn hang() -> Self {
        Self { delay: Duration::from_secs(3_600), ..Self::status(200) }
    }
}

/// One request that the webhook got.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) json: Value,
    pub(crate) bytes: usize,
    pub(crate) at: Instant,
    /// Where its connection came from; not known of one with TLS.
    pub(crate) from: Option<SocketAddr>,
}

struct Shared {
    behave: Box<dyn Fn(usize) -> Behaviour + Send + Sync>,
    received: Mutex<Vec<Received>>,
}

/// An HTTP server that notes what it gets.
pub(crate) struct Webhook {
    scheme: &'static str,
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Webhook {
    /// One that answers `200`.
    pub(crate) fn start() -> Self {
        Self::behaving(|_| Behaviour::status(200))
    }

    /// One whose answer depends on the number of the request, from 0.
    pub(crate) fn behaving(behave: impl Fn(usize) -> Behaviour + Send + Sync + 'static) -> Self {
        Self::at(Ipv4Addr::LOCALHOST.into(), behave)
    }

    /// One that answers `200`, at an address that routes of others may reach.
    pub(crate) fn of_others() -> Self {
        Self::of_others_behaving(|_| Behaviour::status(200))
    }

    /// The same with answers of its own.
    pub(crate) fn of_others_behaving(behave: impl Fn(usize) -> Behaviour + Send + Sync + 'static) -> Self {
        Self::at(own_address(), behave)
    }

    fn at(ip: IpAddr, behave: impl Fn(usize) -> Behaviour + Send + Sync + 'static) -> Self {
        Self::serving("http", ip, behave, |listener, router| async {
            let router = router.into_make_service_with_connect_info::<SocketAddr>();
            axum::serve(listener, router).await.expect("serve");
        })
    }

    /// One that speaks HTTPS with a certificate of its own, which comes back in PEM.
    pub(crate) fn with_tls() -> (Self, String) {
        let (listener, pem) = super::tls::acceptor();
        let webhook = Self::serving(
            "https",
            Ipv4Addr::LOCALHOST.into(),
            |_| Behaviour::status(200),
            |tcp, router| async {
                axum::serve(listener.on(tcp), router).await.expect("serve");
            },
        );
        (webhook, pem)
    }

    fn serving<F: Future<Output = ()>>(
        scheme: &'static str,
        ip: IpAddr,
        behave: impl Fn(usize) -> Behaviour + Send + Sync + 'static,
        serve: impl FnOnce(tokio::net::TcpListener, Router) -> F + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind((ip, 0)).expect("bind");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared { behave: Box::new(behave), received: Mutex::default() });
        let router = Router::new()
            .fallback(answer)
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(Arc::clone(&shared));
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                listener.set_nonblocking(true).expect("non-blocking");
                serve(tokio::net::TcpListener::from_std(listener).expect("a listener"), router).await;
            });
        });
        Self { scheme, address, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}/secret-path?key=secret-key", self.scheme, self.address)
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.shared.received.lock().expect("requests").clone()
    }

    pub(crate) fn wait_for(&self, count: usize) -> Vec<Received> {
        eventually(&format!("{count} requests"), || Some(self.received()).filter(|all| all.len() >= count))
    }
}

/// The address of this machine from which others are reached, and not the loopback one, which no route of others may
/// reach. Nothing is sent to find it.
fn own_address() -> IpAddr {
    let probe = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
    // An address for documentation: RFC 5737.
    probe
        .connect((Ipv4Addr::new(192, 0, 2, 1), 9))
        .expect("an address besides the loopback one: give this machine a network");
    probe.local_addr().expect("an address").ip()
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    from: Option<Extension<ConnectInfo<SocketAddr>>>,
    uri: axum::http::Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let headers = headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    let behaviour = {
        let mut received = shared.received.lock().expect("requests");
        received.push(Received {
            path: uri.to_string(),
            headers: headers.collect(),
            json: serde_json::from_slice(&body).expect("JSON"),
            bytes: body.len(),
            at: Instant::now(),
            from: from.map(|Extension(ConnectInfo(from))| from),
        });
        (shared.behave)(received.len() - 1)
    };
    tokio::time::sleep(behaviour.delay).await;
    let mut response = Response::builder().status(StatusCode::from_u16(behaviour.status).expect("a status"));
    for (name, value) in behaviour.headers {
        response = response.header(name, value);
    }
    if behaviour.body_stalls {
        let never = futures::stream::pending::<Result<Bytes, std::io::Error>>();
        return response.body(Body::from_stream(never)).expect("a response");
    }
    let body = behaviour.text.map_or_else(|| vec![b'x'; behaviour.body_bytes], String::into_bytes);
    response.body(Body::from(body)).expect("a response")
}
