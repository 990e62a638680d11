//! What `/metrics` shows. Labels come from bounded sets: no address, sender or peer is one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::webhook::breaker::CircuitState;
use crate::webhook::outcome::LABELS;

mod circuit;
mod spool;

use circuit::{Circuit, SharedCircuits};
pub use spool::SpoolMetrics;

/// Upper bounds in seconds: from a webhook on the same host to the longest time limits in use.
const SECONDS_BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// Codes of replies have three digits, the first of them at most 5 (RFC 5321 section 4.2).
const REPLY_CODES: usize = 600;

/// Destinations with series of their own: each has some fifty.
const ROUTES_MAX: usize = 1_000;

/// The label of all others together.
const OTHER_ROUTES: &str = "_other";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByRoute {
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    route: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByRouteResult {
    route: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCode {
    code: u16,
}

#[derive(Debug, Clone)]
struct Seconds;

impl MetricConstructor<Histogram> for Seconds {
    fn new_metric(&self) -> Histogram {
        Histogram::new(SECONDS_BUCKETS)
    }
}

/// Log records that were dropped, which the logging counts.
#[derive(Debug)]
struct LogRecordsDropped;

impl Collector for LogRecordsDropped {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counter = ConstCounter::new(mail_laser_logging::records_dropped());
        let encoder = encoder.encode_descriptor(
            "log_records_dropped",
            "Log records that standard error did not accept in time",
            None,
            counter.metric_type(),
        )?;
        counter.encode(encoder)
    }
}

/// Whether a route still has series of its own. Held while one of them is looked up: none may come back after all
/// were taken away.
type Own = Arc<RwLock<bool>>;

/// What became of a mail at one destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageOutcome {
    /// The webhook has it.
    Forwarded,
    /// All attempts failed.
    Failed,
    /// Given up without an attempt left: the circuit was open, or the process ended.
    Dropped,
    /// Refused for good (`5xx`) after its content had been received.
    Rejected,
    /// Refused for now (`4xx`) after its content had been received, or to be tried again.
    Deferred,
    /// Given up, and kept as a dead letter.
    DeadLettered,
}

impl MessageOutcome {
    const ALL: [Self; 6] =
        [Self::Forwarded, Self::Failed, Self::Dropped, Self::Rejected, Self::Deferred, Self::DeadLettered];

    fn label(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
            Self::Rejected => "rejected",
            Self::Deferred => "deferred",
            Self::DeadLettered => "dead_lettered",
        }
    }
}

/// What became of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionResult {
    /// It has a session.
    Accepted,
    /// There are too many sessions.
    TooMany,
    /// There are too many sessions of its address.
    TooManyFromAddress,
    /// There is no memory for a session.
    OutOfMemory,
}

impl ConnectionResult {
    fn label(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::TooMany => "too_many",
            Self::TooManyFromAddress => "too_many_from_address",
            Self::OutOfMemory => "out_of_memory",
        }
    }
}

/// Why a transfer of content was ended before it was complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferEnd {
    /// It came below the minimum rate.
    TooSlow,
    /// It was the slowest one when memory was short.
    Memory,
    /// It was the slowest one when room on disk was short.
    Disk,
}

impl TransferEnd {
    const ALL: [Self; 3] = [Self::TooSlow, Self::Memory, Self::Disk];

    fn label(self) -> &'static str {
        match self {
            Self::TooSlow => "too_slow",
            Self::Memory => "memory",
            Self::Disk => "disk",
        }
    }
}

/// The series of the whole process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    sessions: Gauge,
    connections: Family<ByResult, Counter>,
    replies: Family<ByCode, Counter>,
    /// The series of `replies` that were used: there are some for each message, and looking one up is a lock and a hash.
    reply: [OnceLock<Counter>; REPLY_CODES],
    transfers_ended: Family<ByReason, Counter>,
    messages: Family<ByOutcome, Counter>,
    attempts: Family<ByRouteResult, Counter>,
    attempt_seconds: Family<ByRoute, Histogram, Seconds>,
    delivery_seconds: Family<ByRoute, Histogram, Seconds>,
    circuit_state: Family<ByRoute, Gauge>,
    /// The circuits of destinations without series of their own.
    other_circuits: Arc<SharedCircuits>,
    queue_messages: Family<ByRoute, Gauge>,
    queue_bytes: Gauge,
    spool: SpoolMetrics,
    routes: Gauge,
    routes_stale: Gauge,
    /// Routes that have series of their own.
    named: Mutex<BTreeMap<String, Own>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let spool = SpoolMetrics::default();
        let mut metrics = Self {
            registry: Registry::with_prefix("mail_laser"),
            sessions: Gauge::default(),
            connections: Family::default(),
            replies: Family::default(),
            reply: [const { OnceLock::new() }; REPLY_CODES],
            transfers_ended: Family::default(),
            messages: spool.outcomes().clone(),
            attempts: Family::default(),
            attempt_seconds: Family::new_with_constructor(Seconds),
            delivery_seconds: Family::new_with_constructor(Seconds),
            circuit_state: Family::default(),
            other_circuits: Arc::default(),
            queue_messages: Family::default(),
            queue_bytes: Gauge::default(),
            spool,
            routes: Gauge::default(),
            routes_stale: Gauge::default(),
            named: Mutex::default(),
        };
        metrics.register();
        // A series that exists from the start shows the first event as an increase: what alerts are about.
        for result in [ConnectionResult::TooMany, ConnectionResult::OutOfMemory] {
            metrics.connections.get_or_create(&ByResult { result: result.label() }).inc_by(0);
        }
        for why in TransferEnd::ALL {
            metrics.transfers_ended.get_or_create(&ByReason { reason: why.label() }).inc_by(0);
        }
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("smtp_sessions", "SMTP sessions under way", self.sessions.clone());
        registry.register("smtp_connections", "Connections to the SMTP port", self.connections.clone());
        registry.register("smtp_replies", "Replies to SMTP clients", self.replies.clone());
        registry.register(
            "smtp_transfers_ended",
            "Transfers of content that were ended before they were complete",
            self.transfers_ended.clone(),
        );
        registry.register("messages", "What became of mails, at each destination", self.messages.clone());
        registry.register("webhook_attempts", "Attempts to post a mail", self.attempts.clone());
        registry.register("webhook_attempt_seconds", "Time of one attempt", self.attempt_seconds.clone());
        registry.register(
            "delivery_seconds",
            "Time from accepting a mail to the webhook having it",
            self.delivery_seconds.clone(),
        );
        registry.register(
            "circuit_breaker_state",
            "0 closed, 1 half-open, 2 open; of routes that share a series the worst",
            self.circuit_state.clone(),
        );
        registry.register(
            "queue_messages",
            "Mails that wait for a delivery slot",
            self.queue_messages.clone(),
        );
        registry.register(
            "queue_bytes",
            "Bytes of mails that wait or are being delivered",
            self.queue_bytes.clone(),
        );
        self.spool.register(registry);
        registry.register("routes", "Routes of others that are in force", self.routes.clone());
        registry.register(
            "routes_stale",
            "1 while the routes that are there cannot be taken over, and those before are in force",
            self.routes_stale.clone(),
        );
        registry.register_collector(Box::new(LogRecordsDropped));
        registry.register(
            "build",
            "The running version",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
    }

    /// Everything, in the text format of OpenMetrics.
    ///
    /// # Errors
    /// None is known: it writes to a string.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// The series of one destination: its own, or, once many have some, those that others share.
    #[must_use]
    pub fn route(&self, name: &str) -> RouteMetrics {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if named.len() < ROUTES_MAX && !named.contains_key(name) {
            named.insert(name.to_owned(), Arc::new(RwLock::new(true)));
        }
        let own = named.get(name).map(Arc::clone);
        drop(named);
        let is_own = own.is_some();
        let label = ByRoute { route: if own.is_some() { name } else { OTHER_ROUTES }.to_owned() };
        let gauge = self.circuit_state.get_or_create(&label).clone();
        let route = RouteMetrics {
            messages: self.messages.clone(),
            attempts: self.attempts.clone(),
            attempt_seconds: self.attempt_seconds.get_or_create(&label).clone(),
            delivery_seconds: self.delivery_seconds.get_or_create(&label).clone(),
            circuit: Arc::new(match is_own {
                true => Circuit::own(gauge),
                false => Circuit::shared(gauge, Arc::clone(&self.other_circuits)),
            }),
            queue_messages: self.queue_messages.get_or_create(&label).clone(),
            queue_bytes: self.queue_bytes.clone(),
            label,
            own,
        };
        // A series that exists from the start shows the first event as an increase.
        for outcome in [MessageOutcome::Forwarded, MessageOutcome::Failed, MessageOutcome::Dropped] {
            route.count(outcome, 0);
        }
        route
    }

    /// Takes the series of a destination away that is no more: others may have some then. What becomes of its last
    /// mails is shown with those that share theirs.
    pub fn forget(&self, name: &str) {
        let own = self.named.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        if let Some(own) = own {
            let mut own = own.write().unwrap_or_else(PoisonError::into_inner);
            *own = false;
            let label = ByRoute { route: name.to_owned() };
            self.attempt_seconds.remove(&label);
            self.delivery_seconds.remove(&label);
            self.circuit_state.remove(&label);
            self.queue_messages.remove(&label);
            for outcome in MessageOutcome::ALL {
                self.messages.remove(&ByOutcome { route: name.to_owned(), outcome: outcome.label() });
            }
            for result in LABELS {
                self.attempts.remove(&ByRouteResult { route: name.to_owned(), result });
            }
        }
    }

    /// Shows how many routes of others are in force, and whether newer ones cannot be taken over.
    pub fn routes(&self, count: usize, stale: bool) {
        self.routes.set(i64::try_from(count).unwrap_or(i64::MAX));
        self.routes_stale.set(stale.into());
    }

    /// The series of the spool.
    #[must_use]
    pub fn spool(&self) -> &SpoolMetrics {
        &self.spool
    }

    /// Sessions under way.
    #[must_use]
    pub fn sessions(&self) -> &Gauge {
        &self.sessions
    }

    /// Counts a connection.
    pub fn connection(&self, result: ConnectionResult) {
        self.connections.get_or_create(&ByResult { result: result.label() }).inc();
    }

    /// Counts a transfer that was ended.
    pub fn transfer_ended(&self, why: TransferEnd) {
        self.transfers_ended.get_or_create(&ByReason { reason: why.label() }).inc();
    }

    /// Counts a reply.
    pub fn reply(&self, code: u16) {
        let series = || self.replies.get_or_create(&ByCode { code }).clone();
        match self.reply.get(usize::from(code)) {
            Some(reply) => reply.get_or_init(series).inc(),
            None => series().inc(),
        };
    }
}

/// The series of one destination.
#[derive(Debug, Clone)]
pub struct RouteMetrics {
    label: ByRoute,
    /// `None` where it shares the series of others.
    own: Option<Own>,
    messages: Family<ByOutcome, Counter>,
    attempts: Family<ByRouteResult, Counter>,
    attempt_seconds: Histogram,
    delivery_seconds: Histogram,
    circuit: Arc<Circuit>,
    queue_messages: Gauge,
    queue_bytes: Gauge,
}

impl RouteMetrics {
    /// Counts a mail that has met its end at this destination.
    pub fn message(&self, outcome: MessageOutcome) {
        self.count(outcome, 1);
    }

    fn count(&self, outcome: MessageOutcome, mails: u64) {
        self.with_label(|route| {
            self.messages.get_or_create(&ByOutcome { route, outcome: outcome.label() }).inc_by(mails);
        });
    }

    /// Counts an attempt by the label of its result.
    pub fn attempt(&self, result: &'static str, seconds: f64) {
        self.with_label(|route| {
            self.attempts.get_or_create(&ByRouteResult { route, result }).inc();
        });
        self.attempt_seconds.observe(seconds);
    }

    /// Gives `show` the label in force, which does not change before it is done.
    fn with_label(&self, show: impl FnOnce(String)) {
        let own = self.own.as_ref().map(|own| own.read().unwrap_or_else(PoisonError::into_inner));
        let is_gone = own.as_ref().is_some_and(|own| !**own);
        show(if is_gone { OTHER_ROUTES } else { &self.label.route }.to_owned());
    }

    /// Notes how long a mail took from being accepted to being delivered.
    pub fn delivered_after(&self, seconds: f64) {
        self.delivery_seconds.observe(seconds);
    }

    /// Shows the state of the circuit.
    pub fn circuit_state(&self, state: CircuitState) {
        self.circuit.show(state);
    }

    /// Takes the state of the circuit away: another destination of this name shows its own.
    pub fn hide_circuit(&self) {
        self.circuit.hide();
    }

    /// Shows a mail of so many bytes as one that waits for a delivery slot.
    #[must_use]
    pub fn queued(&self, bytes: usize) -> Queued {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.queue_messages.inc();
        self.queue_bytes.inc_by(bytes);
        Queued { waiting: Some(self.queue_messages.clone()), queue_bytes: self.queue_bytes.clone(), bytes }
    }
}

/// A mail that waits or is being delivered, for as long as this exists.
#[derive(Debug)]
pub struct Queued {
    waiting: Option<Gauge>,
    queue_bytes: Gauge,
    bytes: i64,
}

impl Queued {
    /// It waits for a delivery slot no longer.
    pub fn leaves_the_queue(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            waiting.dec();
        }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.leaves_the_queue();
        self.queue_bytes.dec_by(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_that_come_and_go_leave_no_series_behind() {
        let metrics = Metrics::default();
        let use_and_forget = |name: String| {
            let route = metrics.route(&name);
            route.attempt("2xx", 0.01);
            route.message(MessageOutcome::Forwarded);
            metrics.forget(&name);
            // What was under way ends.
            route.attempt("5xx", 0.01);
            route.message(MessageOutcome::Deferred);
        };
        use_and_forget("team/first".to_owned());
        let series = || metrics.encode().unwrap().lines().count();
        let before = series();
        (0..3_000).for_each(|n| use_and_forget(format!("team/{n}")));
        assert_eq!(series(), before);
        let text = metrics.encode().unwrap();
        assert!(!text.contains("team/"), "{text}");
        assert!(text.contains("mail_laser_messages_total{route=\"_other\",outcome=\"deferred\"} 3001"));
        // There is room for as many again, and one that comes back begins anew.
        metrics.route("team/first").message(MessageOutcome::Forwarded);
        let text = metrics.encode().unwrap();
        assert!(text.contains("mail_laser_messages_total{route=\"team/first\",outcome=\"forwarded\"} 1"));
    }

    #[test]
    fn routes_beyond_the_bound_show_the_worst_circuit_together() {
        let metrics = Metrics::default();
        let named: Vec<_> = (0..ROUTES_MAX).map(|n| metrics.route(&format!("team/{n}"))).collect();
        let (first, second) = (metrics.route("team/open"), metrics.route("team/closed"));
        let state = |route: &str| {
            let series = format!("mail_laser_circuit_breaker_state{{route=\"{route}\"}} ");
            let text = metrics.encode().unwrap();
            text.lines().find_map(|line| Some(line.strip_prefix(&series)?.to_owned())).unwrap()
        };
        first.circuit_state(CircuitState::Open);
        second.circuit_state(CircuitState::Closed);
        named[0].circuit_state(CircuitState::HalfOpen);
        assert_eq!((state("_other"), state("team/0")), ("2".to_owned(), "1".to_owned()));
        // A clone is the same destination.
        drop(first.clone());
        assert_eq!(state("_other"), "2");
        drop(first);
        assert_eq!(state("_other"), "0");
    }

    #[test]
    fn the_names_are_those_of_the_contract() {
        let metrics = Metrics::default();
        let route = metrics.route("default");
        metrics.connection(ConnectionResult::Accepted);
        metrics.reply(250);
        route.attempt("2xx", 0.01);
        let text = metrics.encode().unwrap();
        for line in [
            "mail_laser_smtp_sessions 0",
            "mail_laser_smtp_connections_total{result=\"accepted\"} 1",
            "mail_laser_smtp_replies_total{code=\"250\"} 1",
            "mail_laser_smtp_transfers_ended_total{reason=\"too_slow\"} 0",
            "mail_laser_messages_total{route=\"default\",outcome=\"dropped\"} 0",
            "mail_laser_webhook_attempts_total{route=\"default\",result=\"2xx\"} 1",
            "mail_laser_webhook_attempt_seconds_count{route=\"default\"} 1",
            "mail_laser_delivery_seconds_count{route=\"default\"} 0",
            "mail_laser_circuit_breaker_state{route=\"default\"} 0",
            "mail_laser_queue_messages{route=\"default\"} 0",
            "mail_laser_queue_bytes 0",
            "mail_laser_log_records_dropped_total 0",
            "mail_laser_build_info{version=",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
