//! Mails of 1 KiB accepted while the webhook does not answer, until the queue is full, against a
//! server that only throws mail away.

use crate::peer::{Peer, Tools};
use crate::report::{Row, median, thousands};
use crate::sink::Pace;

use super::{Bench, CONCURRENCY, per_second};

/// The bound on what waits by default, which those that are being delivered do not count for.
const MAILS: u64 = 10_000;

pub(super) async fn row(tools: &Tools, rounds: usize) -> anyhow::Result<Row> {
    let (mut daemon, mut smtp_sink) = (Vec::new(), Vec::new());
    // It is over in half a second: more rounds cost little.
    for _ in 0..rounds * 3 {
        daemon.push(round(tools, Peer::Daemon).await?);
        smtp_sink.push(round(tools, Peer::SmtpSink).await?);
    }
    let (daemon, smtp_sink) = (median(&daemon), median(&smtp_sink));
    Ok(Row {
        what: "accepted per second while the webhook does not answer, until the queue is full".into(),
        target: "at least 0.6 x".into(),
        daemon: thousands(daemon),
        peer: format!("{}, {}", thousands(smtp_sink), Peer::SmtpSink.name()),
        ratio: Some(daemon / smtp_sink),
        met: Some(daemon >= 0.6 * smtp_sink),
    })
}

async fn round(tools: &Tools, peer: Peer) -> anyhow::Result<f64> {
    let bench = Bench::start(tools, peer, Pace::Never, CONCURRENCY).await?;
    let time = tools.smtp_source(bench.running.smtp, MAILS).await?;
    bench.running.process.kill().await?;
    Ok(per_second(MAILS, time))
}
