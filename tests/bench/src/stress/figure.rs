//! Figures: a measured value against its target.

use std::fmt;
use std::time::Duration;

use super::probe::Sent;

/// A measured value against its target.
pub(super) struct Figure {
    what: String,
    target: String,
    measured: String,
    pub(super) met: bool,
}

impl Figure {
    /// A figure that is met or not.
    pub(super) fn new(
        what: impl Into<String>,
        target: impl Into<String>,
        measured: String,
        met: bool,
    ) -> Self {
        Self { what: what.into(), target: target.into(), measured, met }
    }

    /// The figure of a scenario that came to no end.
    pub(super) fn failed(reason: String) -> Self {
        Self::new("the scenario", "runs to its end", reason, false)
    }

    /// The time to the end of the process after SIGTERM; `None` where it had to be killed.
    pub(super) fn shutdown(what: &str, ended: Option<Duration>, grace: Duration) -> Self {
        let measured =
            ended.map_or_else(|| "killed later".to_owned(), |time| format!("{:.1} s", time.as_secs_f64()));
        let met = ended.is_some_and(|time| time <= grace);
        Self::new(what, format!("within {} s", grace.as_secs()), measured, met)
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, target, measured, met } = self;
        write!(f, "{what}: {measured}; target: {target}: {}", if *met { "met" } else { "MISSED" })
    }
}

/// Times of one kind of reply, in milliseconds and in ascending order. A reply that did not come, or refused, took
/// forever.
pub(super) struct Latencies(Vec<f64>);

impl Latencies {
    /// From the connection to the greeting.
    pub(super) fn of_220<'s>(sent: impl IntoIterator<Item = &'s Sent>) -> Self {
        Self::new(sent.into_iter().map(|sent| sent.greeted))
    }

    /// From the end of the content to its reply.
    pub(super) fn of_250<'s>(sent: impl IntoIterator<Item = &'s Sent>) -> Self {
        Self::new(sent.into_iter().map(|sent| sent.accepted))
    }

    fn new(times: impl Iterator<Item = Option<Duration>>) -> Self {
        let in_millis = |time: Option<Duration>| time.map_or(f64::INFINITY, |time| time.as_secs_f64() * 1e3);
        let mut times: Vec<f64> = times.map(in_millis).collect();
        times.sort_by(f64::total_cmp);
        Self(times)
    }

    /// The time that so many of a thousand do not exceed.
    fn per_mille(&self, part: usize) -> f64 {
        let rank = (self.0.len() * part).div_ceil(1_000).saturating_sub(1);
        self.0.get(rank).copied().unwrap_or(f64::INFINITY)
    }

    /// The figure of a quantile, in so many of a thousand, that stays under `limit`.
    pub(super) fn figure(&self, what: &str, part: usize, limit: Duration) -> Figure {
        let quantile = |part| milliseconds(self.per_mille(part));
        let name = format!("p{}", part as f64 / 10.0);
        let measured = format!(
            "{name} {}, p50 {}, max {}, {} of {} not answered",
            quantile(part),
            quantile(500),
            quantile(1_000),
            self.0.iter().filter(|time| time.is_infinite()).count(),
            self.0.len(),
        );
        let met = self.per_mille(part) < limit.as_secs_f64() * 1e3;
        Figure::new(what, format!("{name} under {} ms", limit.as_millis()), measured, met)
    }
}

fn milliseconds(value: f64) -> String {
    if value.is_finite() { format!("{value:.1} ms") } else { "none".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_that_did_not_come_count_as_the_slowest() {
        let times = (1..=999).map(|number| Some(Duration::from_millis(number))).chain([None]);
        let latencies = Latencies::new(times);
        let limit = Duration::from_millis(999);
        assert!(latencies.figure("250", 990, limit).met);
        assert!(!latencies.figure("250", 999, limit).met, "a time under the limit is wanted, not the limit");
        assert!(!latencies.figure("250", 1_000, Duration::MAX).met);
        assert!(
            !Latencies::new(std::iter::empty()).figure("250", 500, limit).met,
            "no value meets no target"
        );
    }

    #[test]
    fn a_missed_figure_is_shouted() {
        let grace = Duration::from_secs(25);
        let figure = Figure::shutdown("SIGTERM", Some(Duration::from_millis(25_100)), grace);
        assert_eq!(figure.to_string(), "SIGTERM: 25.1 s; target: within 25 s: MISSED");
        assert!(!Figure::shutdown("SIGTERM", None, grace).met);
        assert!(Figure::shutdown("SIGTERM", Some(grace), grace).met);
    }
}
