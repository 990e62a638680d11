//! From just before MAIL to the webhook having the whole request, at 20 mails a second to each peer in turn.

use std::time::{Duration, Instant};

use crate::load::Client;
use crate::mail;
use crate::peer::{Peer, Tools};
use crate::report::{Row, percentile};
use crate::sink::Pace;

use super::{ARRIVAL_MAX, Bench, CONCURRENCY};

const MAILS: u64 = 300;
const PERIOD: Duration = Duration::from_millis(50);

/// Three messages of the 300 may take longer than this: a tenth of what people still take for at once (100 ms).
const LATENCY_MS_MAX: f64 = 10.0;

pub(super) async fn rows(tools: &Tools) -> anyhow::Result<Vec<Row>> {
    let mut daemon = Line::start(tools, Peer::Daemon).await?;
    let mut forwarder = Line::start(tools, Peer::Forwarder).await?;
    for _ in 0..MAILS {
        daemon.mail().await?;
        tokio::time::sleep(PERIOD / 2).await;
        forwarder.mail().await?;
        tokio::time::sleep(PERIOD / 2).await;
    }
    let (daemon, forwarder) = (daemon.end().await?, forwarder.end().await?);
    let row = |name, percent, target: &str, is_met: fn(f64, f64) -> bool| {
        let (daemon, forwarder) = (percentile(&daemon, percent), percentile(&forwarder, percent));
        Row {
            what: format!("from before MAIL to the webhook having it, 20 mails/s, {name}"),
            target: target.into(),
            daemon: format!("{daemon:.2} ms"),
            peer: format!("{forwarder:.2} ms, {}", Peer::Forwarder.name()),
            ratio: Some(daemon / forwarder),
            met: Some(is_met(daemon, forwarder)),
        }
    };
    Ok(vec![
        row("median", 50, "at most 1 x", |daemon, forwarder| daemon <= forwarder),
        row("99th percentile", 99, &format!("at most {LATENCY_MS_MAX} ms"), |daemon, _| {
            daemon <= LATENCY_MS_MAX
        }),
    ])
}

/// A peer with one connection to it.
struct Line {
    bench: Bench,
    client: Client,
    milliseconds: Vec<f64>,
}

impl Line {
    async fn start(tools: &Tools, peer: Peer) -> anyhow::Result<Self> {
        let bench = Bench::start(tools, peer, Pace::AtOnce, CONCURRENCY).await?;
        let client = Client::greeted(bench.running.smtp).await?;
        Ok(Self { bench, client, milliseconds: Vec::new() })
    }

    async fn mail(&mut self) -> anyhow::Result<()> {
        let sink = &self.bench.sink;
        let number = sink.arrived() + 1;
        let started = Instant::now();
        self.client.mail(&mail::text(1024)).await?;
        sink.wait_for(number, ARRIVAL_MAX).await?;
        self.milliseconds.push((sink.arrival(number)? - started).as_secs_f64() * 1e3);
        Ok(())
    }

    async fn end(self) -> anyhow::Result<Vec<f64>> {
        self.bench.running.process.kill().await?;
        Ok(self.milliseconds)
    }
}
