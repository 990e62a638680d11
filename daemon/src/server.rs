//! The daemon as a whole: its sockets, its tasks and its end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use mail_laser_routes::pattern::Pattern;
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::config::{Config, DeliveryConfig, variables};
use crate::delivery::Delivery;
use crate::delivery::confirm::Confirm;
use crate::delivery::forward::Forward;
use crate::delivery::intake::Intake;
use crate::delivery::spool::{self, Spool, Surroundings};
use crate::memory::MemoryBudget;
use crate::metrics::Metrics;
use crate::routes::follow::Follower;
use crate::routes::live::Routes;
use crate::routes::{DEFAULT_ROUTE, Route, RouteTable, Target};
use crate::smtp::connections::Connections;
use crate::smtp::listener::Listener;
use crate::smtp::protocol::{Settings, TlsPolicy};
use crate::smtp::session::Context;
use crate::smtp::transfers::Transfers;
use crate::supervise::supervise;
use crate::tls::{self, PairError, Tls};
use crate::webhook::connectors::Connectors;
use crate::webhook::destination::Destination;
use crate::{health, http};

/// Connections that the system holds until they are accepted: what the kernel allows by default
/// (`net.core.somaxconn`).
const BACKLOG: u32 = 4_096;

/// Time of the grace that is kept for writing the last records.
const GRACE_RESERVE: Duration = Duration::from_millis(500);

/// Time between answering the senders that are held and cutting sessions off. With the reserve
/// above, a sender has more than a second to read its answer.
const RELEASE_RESERVE: Duration = Duration::from_secs(1);

// Less would be taken for silence by those who are still reading.
const _: () = assert!(GRACE_RESERVE.as_millis() + RELEASE_RESERVE.as_millis() >= 1_000);

/// Why the daemon did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A port could not be bound.
    #[error(
        "cannot listen on {address}, which {address_variable} and {port_variable} say; free the port or choose another"
    )]
    Bind {
        /// The address and port.
        address: SocketAddr,
        /// Where the address comes from.
        address_variable: &'static str,
        /// Where the port comes from.
        port_variable: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// The client for the webhook could not be made.
    #[error(
        "cannot set up TLS for the webhook; check the system's CA certificates and MAIL_LASER_WEBHOOK_CA_FILE"
    )]
    Webhook(#[source] crate::webhook::TlsError),
    /// The pair for the SMTP side cannot be used.
    #[error("cannot set up TLS for SMTP")]
    Tls(#[source] PairError),
    /// The TLS library does not know its own versions.
    #[error("cannot set up TLS for SMTP")]
    TlsVersions(#[source] rustls::Error),
    /// There is no spool.
    #[error("cannot keep mail on disk")]
    Spool(#[source] spool::Error),
    /// There is nothing to drain.
    #[error("there is no spool: MAIL_LASER_DELIVERY is not spool")]
    NoSpool,
    /// It is not known whether dead letters are left.
    #[error("the dead letters cannot be read")]
    DeadLetters(#[source] io::Error),
    /// A task kept failing.
    #[error(transparent)]
    GaveUp(#[from] crate::supervise::GaveUp),
    /// Mail is taken and not delivered any more.
    #[error("mail is not delivered any more because of a defect; it stays in the spool")]
    Broken,
}

/// A daemon whose ports are bound.
#[derive(Debug)]
pub struct Daemon {
    config: Config,
    smtp: Arc<TcpListener>,
    smtps: Option<Arc<TcpListener>>,
    health: Arc<TcpListener>,
    metrics: Arc<TcpListener>,
}

impl Daemon {
    /// Binds the ports, SMTP first.
    ///
    /// # Errors
    /// The first port that cannot be bound.
    pub fn bind(config: Config) -> Result<Self, Error> {
        use variables as v;
        let smtp = bind(config.smtp.listen, &v::BIND_ADDRESS, &v::PORT)?;
        let smtps = config.tls.as_ref().and_then(|tls| tls.smtps);
        let smtps = smtps.map(|address| bind(address, &v::BIND_ADDRESS, &v::SMTPS_PORT)).transpose()?;
        let health = bind(config.health, &v::HEALTH_BIND_ADDRESS, &v::HEALTH_PORT)?;
        let metrics = bind(config.metrics, &v::METRICS_BIND_ADDRESS, &v::METRICS_PORT)?;
        let sockets = [
            ("smtp", Some(&smtp)),
            ("smtps", smtps.as_ref()),
            ("health", Some(&health)),
            ("metrics", Some(&metrics)),
        ];
        for (service, socket) in sockets {
            if let Some(Ok(address)) = socket.map(|socket| socket.local_addr()) {
                info!(service, %address, "listening");
            }
        }
        Ok(Self { config, smtp, smtps, health, metrics })
    }

    /// Serves until `shutdown` is cancelled, then brings what is under way to its end within the
    /// grace.
    ///
    /// # Errors
    /// When a task keeps failing, or the webhook's client cannot be made.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let metrics = Arc::new(Metrics::default());
        let (routes, follower) = routes(&self.config, &metrics)?;
        let memory = MemoryBudget::new(self.config.memory_bytes_max);
        let delivery = Arc::new(self.delivery(&routes, &memory, &metrics)?);
        let smtp = &self.config.smtp;
        let tls = tls(&self.config)?;
        let listener = Arc::new(Listener {
            socket: Arc::clone(&self.smtp),
            tls_socket: self.smtps.clone(),
            proxies: smtp.proxies.clone(),
            context: Arc::new(Context {
                settings: Settings {
                    hostname: smtp.hostname.clone(),
                    message_bytes_max: smtp.message_bytes_max,
                    unknown_recipients_max: smtp.unknown_recipients_max,
                    tls: policy(&self.config),
                },
                tls: tls.as_ref().map(|tls| tls.server_config()).transpose().map_err(Error::TlsVersions)?,
                idle_timeout: smtp.idle_timeout,
                routes,
                delivery: Arc::clone(&delivery),
                transfers: Transfers::new(&memory, Arc::clone(&metrics)),
                memory,
                metrics: Arc::clone(&metrics),
                draining: shutdown.clone(),
            }),
            connections: Connections::new(smtp.connections_max, smtp.connections_per_ip_max),
            sessions: TaskTracker::new(),
            stop: CancellationToken::new(),
        });

        // Health and metrics answer until the very end: a pod that drains is not a dead one.
        let stop_http = CancellationToken::new();
        let health = supervise("health", || {
            let (socket, places) = (Arc::clone(&self.health), http::HEALTH_CONNECTIONS_MAX);
            http::serve(socket, health::router(), places, stop_http.clone())
        });
        let metrics = supervise("metrics", || {
            let (socket, places) = (Arc::clone(&self.metrics), http::METRICS_CONNECTIONS_MAX);
            http::serve(socket, metrics_router(Arc::clone(&metrics)), places, stop_http.clone())
        });
        let renewal = async {
            match &tls {
                Some(tls) => supervise("tls", || Arc::clone(tls).renew(stop_http.clone())).await,
                None => Ok(()),
            }
        };
        let following = async {
            if let Some(follower) = follower {
                follower.follow(stop_http.clone()).await;
            }
            Ok(())
        };
        let mut services = std::pin::pin!(async { tokio::try_join!(health, metrics, renewal, following) });
        let result = tokio::select! {
            result = supervise("smtp", || Arc::clone(&listener).serve()) => result.map_err(Error::GaveUp),
            result = &mut services => result.map(drop).map_err(Error::GaveUp),
            () = delivery.broken() => Err(Error::Broken),
        };
        // Whatever the reason, mail that was accepted is brought to its end.
        shutdown.cancel();
        let drain = drain(&listener, &delivery, self.config.shutdown_grace);
        if result.is_ok() {
            tokio::select! {
                () = drain => {}
                // Their end would not be a reason to drop mail.
                () = async { _ = (&mut services).await; std::future::pending().await } => {}
            }
        } else {
            drain.await;
        }
        stop_http.cancel();
        result
    }
}

/// How a spool stands that was drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Nothing is left in it.
    Empty,
    /// This is left in it, for a person to look at.
    Left {
        /// Dead letters.
        dead_letters: u64,
        /// Segments that were set aside because some of them is damaged.
        damaged_segments: u64,
    },
    /// It was told to stop before everything was delivered.
    Stopped,
}

/// Delivers what waits in the spool, and takes no mail, until nothing waits or `shutdown` is cancelled.
///
/// # Errors
/// When there is no spool, or the webhook's client cannot be made.
pub async fn drain_spool(config: &Config, shutdown: CancellationToken) -> Result<Drained, Error> {
    let DeliveryConfig::Spool(spool) = &config.delivery else { return Err(Error::NoSpool) };
    let metrics = Arc::new(Metrics::default());
    let (routes, follower) = routes(config, &metrics)?;
    // What has no destination here may have one where the routes are.
    let _following = follower.map(|follower| tokio::spawn(follower.follow(shutdown.clone())));
    let around = Surroundings {
        routes: routes.subscribe(),
        memory: MemoryBudget::new(config.memory_bytes_max),
        metrics,
        attachment_bytes_max: config.attachment_bytes_max,
        message_bytes_max: config.smtp.message_bytes_max,
        is_shared: config.routes.is_some(),
    };
    let spool = Spool::open(spool, around).map_err(Error::Spool)?;
    let stopped = tokio::select! {
        () = spool.empty() => false,
        () = spool.broken() => return Err(Error::Broken),
        () = shutdown.cancelled() => true,
    };
    let deadline = Instant::now() + config.shutdown_grace.saturating_sub(GRACE_RESERVE);
    spool.finish(sleep_until(deadline)).await;
    spool.totals().log();
    let dead_letters = spool.dead_letters().map_err(Error::DeadLetters)?;
    let damaged_segments = spool.damaged_segments().map_err(Error::DeadLetters)?;
    info!(dead_letters, damaged_segments, stopped, "the spool was drained");
    Ok(match (dead_letters, damaged_segments) {
        _ if stopped => Drained::Stopped,
        (0, 0) => Drained::Empty,
        _ => Drained::Left { dead_letters, damaged_segments },
    })
}

/// The routes to begin with, and what follows the directory of others.
fn routes(config: &Config, metrics: &Arc<Metrics>) -> Result<(Arc<Routes>, Option<Follower>), Error> {
    let connectors = Arc::new(Connectors::default());
    let mut own = Vec::new();
    if let Some(webhook) = &config.webhook {
        let destination = Destination::new(DEFAULT_ROUTE, webhook, &connectors, metrics.route(DEFAULT_ROUTE))
            .map_err(Error::Webhook)?;
        let route = Arc::new(Route { destination, header_prefixes: config.header_prefixes.clone() });
        own.extend(
            config.recipients.iter().map(|it| (Pattern::exact(it), Target::Route(Arc::clone(&route)))),
        );
    }
    Ok(match &config.routes {
        None => (Arc::new(Routes::new(RouteTable::new(own, [], false))), None),
        Some(directory) => {
            let follower = Follower::start(directory.clone(), own, connectors, Arc::clone(metrics));
            (Arc::clone(follower.routes()), Some(follower))
        }
    })
}

impl Daemon {
    fn delivery(
        &self,
        routes: &Routes,
        memory: &Arc<MemoryBudget>,
        metrics: &Arc<Metrics>,
    ) -> Result<Delivery, Error> {
        let attachment_bytes_max = self.config.attachment_bytes_max;
        let intake = || {
            Intake::new(self.config.queue_messages_max, attachment_bytes_max, self.config.routes.is_some())
        };
        Ok(match &self.config.delivery {
            DeliveryConfig::Forward => Delivery::Forward(Forward::new(intake())),
            DeliveryConfig::Confirm(timeout) => Delivery::Confirm(Confirm::new(intake(), *timeout)),
            DeliveryConfig::Spool(config) => {
                let around = Surroundings {
                    routes: routes.subscribe(),
                    memory: Arc::clone(memory),
                    metrics: Arc::clone(metrics),
                    attachment_bytes_max,
                    message_bytes_max: self.config.smtp.message_bytes_max,
                    is_shared: self.config.routes.is_some(),
                };
                Delivery::Spool(Box::new(Spool::open(config, around).map_err(Error::Spool)?))
            }
        })
    }
}

fn tls(config: &Config) -> Result<Option<Arc<Tls>>, Error> {
    let Some(tls) = &config.tls else { return Ok(None) };
    let tls = match tls.pair.clone() {
        Some((files, pem)) => Tls::from_files(files, pem),
        None => {
            info!("the certificate for SMTP is self-signed; MAIL_LASER_TLS_CERT_FILE names a better one");
            tls::self_signed(&config.smtp.hostname).map(Tls::fixed)
        }
    };
    tls.map(|tls| Some(Arc::new(tls))).map_err(Error::Tls)
}

fn policy(config: &Config) -> TlsPolicy {
    match &config.tls {
        None => TlsPolicy::Off,
        Some(tls) if tls.required => TlsPolicy::Require,
        Some(_) => TlsPolicy::Opportunistic,
    }
}

/// Ends sessions and deliveries, all within `grace`.
async fn drain(listener: &Listener, delivery: &Delivery, grace: Duration) {
    let now = Instant::now();
    let deadline = now + grace.saturating_sub(GRACE_RESERVE);
    let release = now + grace.saturating_sub(GRACE_RESERVE + RELEASE_RESERVE);
    info!(sessions = listener.sessions.len(), ?grace, "shutting down: no new connections");
    listener.sessions.close();
    let ended = async {
        tokio::select! {
            () = listener.sessions.wait() => return,
            () = sleep_until(release) => delivery.release(),
        }
        listener.sessions.wait().await;
    };
    if tokio::time::timeout_at(deadline, ended).await.is_err() {
        warn!(sessions = listener.sessions.len(), "sessions cut off at the end of the grace");
        listener.stop.cancel();
        listener.sessions.wait().await;
    }
    delivery.finish(sleep_until(deadline)).await;
}

fn bind(
    address: SocketAddr,
    address_variable: &variables::Variable,
    port_variable: &variables::Variable,
) -> Result<Arc<TcpListener>, Error> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A port whose last connections are still being closed is free for us.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG).map(Arc::new)
    };
    listen().map_err(|source| Error::Bind {
        address,
        address_variable: address_variable.name,
        port_variable: port_variable.name,
        source,
    })
}

fn metrics_router(metrics: Arc<Metrics>) -> Router {
    const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let encode = move || async move {
        match metrics.encode() {
            Ok(text) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    };
    Router::new().route("/metrics", get(encode))
}
