//! What waited in `spool` while the webhook refused, delivered when it answers at once again: against
//! Postfix, which held the same mails and relays them to `smtp-sink`.
//!
//! The daemon's time begins when the webhook would take mail: the wait for the probe of its circuit,
//! which comes every second, is a part of it, and so is the time in which it finds out how many at once
//! are not too many. Mails that had been tried before are due a minute later and left out. Postfix's
//! time begins when it greets after a start; all of its mails are due then.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::load::Load;
use crate::mail;
use crate::metrics;
use crate::peer::{Peer, Tools};
use crate::process::free_port;
use crate::report::{Row, median, thousands};
use crate::sink::{Pace, Sink};

use super::{ARRIVAL_MAX, Bench, CONCURRENCY, per_second};

const MAILS: u64 = 20_000;

/// Fewer of them have been tried than this when the webhook is back.
const TRIED_MAX: u64 = 100;

const DEFERRED: &str = "mail_laser_messages_total{route=\"default\",outcome=\"deferred\"}";

pub(super) async fn rows(tools: &Tools, rounds: usize) -> anyhow::Result<Vec<Row>> {
    let (mut daemon, mut postfix) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        daemon.push(of_daemon(tools).await?);
        if tools.postfix().is_some() {
            postfix.push(of_postfix(tools).await?);
        }
    }
    let (daemon, postfix) = (median(&daemon), median(&postfix));
    if tools.postfix().is_none() {
        return Ok(Vec::new());
    }
    Ok(vec![Row {
        what: "delivered per second after an outage, webhook at 0 ms, 20,000 mails in the spool".into(),
        target: "at least 3 x".into(),
        daemon: thousands(daemon),
        peer: format!("{}, {} to smtp-sink", thousands(postfix), Peer::Postfix.name()),
        ratio: Some(daemon / postfix),
        met: Some(daemon >= 3.0 * postfix),
    }])
}

fn load() -> Load {
    Load {
        connections: 50,
        stay: true,
        pipelining: true,
        mails: MAILS,
        under_way_max: MAILS,
        content: mail::text(1024),
    }
}

async fn of_daemon(tools: &Tools) -> anyhow::Result<f64> {
    tools.clear_disk().await?;
    let bench = Bench::start(tools, Peer::Spool, Pace::AtOnce, CONCURRENCY).await?;
    bench.sink.set_away(true);
    load().run(bench.running.smtp, &bench.sink).await?;
    bench.wait_for_open_circuit().await?;
    bench.sink.set_away(false);
    let started = Instant::now();
    bench.sink.wait_for_first(ARRIVAL_MAX).await?;
    // None fails any more.
    let tried = metrics::value(bench.running.metrics, DEFERRED).await?;
    ensure!(tried <= TRIED_MAX, "{tried} mails were tried before the webhook was back");
    let mails = MAILS - tried;
    bench.sink.wait_for(mails, ARRIVAL_MAX).await?;
    let rate = per_second(mails, bench.sink.arrival(mails)? - started);
    bench.end(Peer::Spool).await?;
    Ok(rate)
}

async fn of_postfix(tools: &Tools) -> anyhow::Result<f64> {
    tools.clear_disk().await?;
    let postfix = tools.postfix().context("Postfix cannot be run")?;
    let next_hop = free_port()?;
    let running = tools.start(Peer::Postfix, next_hop, CONCURRENCY).await?;
    // Nothing arrives there.
    let sink = std::sync::Arc::new(Sink::start(Pace::AtOnce).await?);
    load().run(running.smtp, &sink).await?;
    running.process.terminate().await?;
    postfix.release().await?;
    let smtp_sink = tools.smtp_sink(next_hop, MAILS)?;
    let process = tools.restart_postfix(running.smtp).await?;
    let started = Instant::now();
    smtp_sink.ended(ARRIVAL_MAX).await.context("smtp-sink")?;
    let rate = per_second(MAILS, started.elapsed());
    process.terminate().await?;
    // It may still be noting that its last mails were taken.
    tokio::time::sleep(Duration::from_millis(100)).await;
    Ok(rate)
}
