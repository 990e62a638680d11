//! The operator's metrics.

use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::error::Verb;
use crate::kinds::Kind;

type Pair = [(&'static str, &'static str); 2];
type Single = [(&'static str, &'static str); 1];

/// How a reconciliation ended; the label `result`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// All was done that could be.
    Ok,
    /// A request failed; it is tried again.
    Error,
    /// The resource could not be read.
    Unreadable,
}

impl Ending {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Unreadable => "unreadable",
        }
    }
}

/// The operator's metrics. Clones share their values.
#[derive(Clone)]
pub struct Metrics {
    reconciliations: Family<Pair, Counter>,
    seconds: Family<Single, Histogram>,
    writes: Family<Pair, Counter>,
    leading: Gauge,
}

/// What writes to statuses and to pods are counted as.
const STATUS: &str = "MailLaser/status";
const ROUTE_STATUS: &str = "MailRoute/status";
const POD: &str = "Pod";

impl Metrics {
    /// Metrics that are part of `registry`.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            reconciliations: Family::default(),
            // From a millisecond (nothing to do) to 16 s (an API server in trouble).
            seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 4.0, 8))),
            writes: Family::default(),
            leading: Gauge::default(),
        };
        let registry = registry.sub_registry_with_prefix("mail_laser_operator");
        registry.register("reconciliations", "Reconciliations", metrics.reconciliations.clone());
        registry.register_with_unit(
            "reconcile",
            "Duration of reconciliations",
            Unit::Seconds,
            metrics.seconds.clone(),
        );
        registry.register("writes", "Writes to the API server that succeeded", metrics.writes.clone());
        registry.register("leading", "Whether this operator holds the Lease", metrics.leading.clone());
        metrics
    }

    /// Notes whether this operator holds the Lease.
    pub fn leads(&self, leads: bool) {
        self.leading.set(i64::from(leads));
    }

    /// Counts a reconciliation.
    pub fn reconciled(&self, kind: &'static str, ending: Ending, duration: Duration) {
        self.reconciliations.get_or_create(&[("kind", kind), ("result", ending.as_str())]).inc();
        self.seconds.get_or_create(&[("kind", kind)]).observe(duration.as_secs_f64());
    }

    /// Counts a write of an owned object.
    pub fn wrote(&self, kind: Kind, verb: Verb) {
        self.writes.get_or_create(&[("kind", kind.as_str()), ("verb", verb.as_str())]).inc();
    }

    /// Counts a write of the status of a route.
    pub fn wrote_route_status(&self) {
        self.writes.get_or_create(&[("kind", ROUTE_STATUS), ("verb", Verb::Patch.as_str())]).inc();
    }

    /// Counts a pod that was told to look at its routes.
    pub fn annotated_pod(&self) {
        self.writes.get_or_create(&[("kind", POD), ("verb", Verb::Patch.as_str())]).inc();
    }

    /// Counts a write of a status.
    pub fn wrote_status(&self) {
        self.writes.get_or_create(&[("kind", STATUS), ("verb", Verb::Apply.as_str())]).inc();
    }
}

/// The registry as OpenMetrics text.
///
/// # Errors
/// When the text cannot be made, which no metric of ours makes happen.
pub(crate) fn text(registry: &Registry) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    encode(&mut text, registry)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_that_dashboards_know() {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        metrics.reconciled("MailLaser", Ending::Ok, Duration::from_millis(2));
        metrics.wrote(Kind::Service, Verb::Apply);
        metrics.wrote_status();
        metrics.leads(true);
        let text = text(&registry).unwrap();
        for line in [
            r#"mail_laser_operator_reconciliations_total{kind="MailLaser",result="ok"} 1"#,
            r#"mail_laser_operator_reconcile_seconds_count{kind="MailLaser"} 1"#,
            r#"mail_laser_operator_writes_total{kind="Service",verb="apply"} 1"#,
            r#"mail_laser_operator_writes_total{kind="MailLaser/status",verb="apply"} 1"#,
            "mail_laser_operator_leading 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
