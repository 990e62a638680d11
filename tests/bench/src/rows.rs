//! What is measured, one file each. Peers take turns, round by round, so that whatever else the
//! machine does meets them all; a result is the median of its rounds.

mod acceptance;
mod attachment;
mod backlog;
mod confirm;
mod drain;
mod isolation;
mod latency;
mod lookup;
mod memory;
mod sessions;
mod slow_webhook;
mod spool;
mod start;
mod swap;
mod throughput;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::load::Load;
use crate::metrics;
use crate::peer::{Peer, Running, Tools};
use crate::report::Row;
use crate::sink::{Pace, Sink};

/// The daemon's default.
const CONCURRENCY: u32 = 64;

/// How long the mails of one measurement may take to arrive.
const ARRIVAL_MAX: Duration = Duration::from_secs(120);

/// How long it may take until a webhook that refuses is left alone: some deliveries with all of their
/// retries.
const OPEN_MAX: Duration = Duration::from_secs(30);

/// How long a process may settle before its memory is read.
const SETTLE: Duration = Duration::from_secs(1);

/// The rows of all measurements whose name contains `only`, in the order of the table.
pub(crate) async fn measure(tools: &Tools, rounds: usize, only: &str) -> anyhow::Result<Vec<Row>> {
    let asked = |name: &str| {
        let asked = name.contains(only);
        if asked {
            eprintln!("bench: {name}");
        }
        asked
    };
    let mut rows = Vec::new();
    if asked("throughput") {
        rows.extend(throughput::rows(tools, rounds).await?);
    }
    if asked("without-pipelining") {
        rows.extend(throughput::rows_without_pipelining(tools, rounds).await?);
    }
    if asked("acceptance") {
        rows.push(acceptance::row(tools, rounds).await?);
    }
    if asked("slow-webhook") {
        rows.push(slow_webhook::row(tools, rounds).await?);
    }
    if asked("attachment") {
        rows.extend(attachment::rows(tools, rounds).await?);
    }
    if asked("sessions") {
        rows.extend(sessions::rows(tools, rounds).await?);
    }
    if asked("confirm") {
        rows.push(confirm::row(tools, rounds).await?);
    }
    if asked("spool") {
        rows.extend(spool::rows(tools, rounds).await?);
    }
    if asked("drain") {
        rows.extend(drain::rows(tools, rounds).await?);
    }
    if asked("backlog") {
        rows.extend(backlog::rows(tools).await?);
    }
    if asked("latency") {
        rows.extend(latency::rows(tools).await?);
    }
    if asked("isolation") {
        rows.extend(isolation::rows(tools, rounds).await?);
    }
    if asked("lookup") {
        rows.push(lookup::row(tools).await?);
    }
    if asked("swap") {
        rows.push(swap::row(tools, rounds).await?);
    }
    if asked("memory") {
        rows.extend(memory::rows(tools).await?);
    }
    if asked("start") {
        rows.push(start::row(tools).await?);
    }
    Ok(rows)
}

/// A peer and the webhook that it posts to.
struct Bench {
    sink: Arc<Sink>,
    running: Running,
}

impl Bench {
    async fn start(tools: &Tools, peer: Peer, pace: Pace, concurrency: u32) -> anyhow::Result<Self> {
        let sink = Arc::new(Sink::start(pace).await?);
        let running = tools.start(peer, sink.address(), concurrency).await?;
        Ok(Self { sink, running })
    }

    /// Sends `load`, waits until all of it has arrived, and returns when the first mail was begun.
    async fn carry(&self, load: &Load) -> anyhow::Result<Instant> {
        let target = self.sink.arrived() + load.mails;
        let started = load.run(self.running.smtp, &self.sink).await?;
        self.sink.wait_for(target, ARRIVAL_MAX).await?;
        Ok(started)
    }

    /// Waits until the circuit of the daemon's webhook is open.
    async fn wait_for_open_circuit(&self) -> anyhow::Result<()> {
        const SERIES: &str = "mail_laser_circuit_breaker_state{route=\"default\"}";
        const OPEN: u64 = 2;
        metrics::wait_for(self.running.metrics, SERIES, OPEN, OPEN_MAX).await
    }

    /// Ends the peer: Postfix is many processes, which end together when the first is asked to.
    async fn end(self, peer: Peer) -> anyhow::Result<()> {
        match peer {
            Peer::Postfix => self.running.process.terminate().await,
            _ => self.running.process.kill().await,
        }
    }

    /// Sends `load`; mails a second, until the last has arrived.
    async fn rate(&self, load: &Load) -> anyhow::Result<f64> {
        let started = self.carry(load).await?;
        Ok(per_second(load.mails, self.sink.arrival(self.sink.arrived())? - started))
    }
}

/// Resident memory in KiB, once nothing happens any more.
async fn settled(bench: &Bench) -> anyhow::Result<f64> {
    tokio::time::sleep(SETTLE).await;
    Ok(bench.running.process.resident_kib()? as f64)
}

fn per_second(mails: u64, time: Duration) -> f64 {
    mails as f64 / time.as_secs_f64()
}
