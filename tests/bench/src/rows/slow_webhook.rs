//! Mails of 1 KiB to a webhook that takes 50 ms, over 200 connections: the slots for deliveries
//! should be busy all the time.

use std::time::Duration;

use crate::load::Load;
use crate::mail;
use crate::peer::{Peer, Tools};
use crate::report::{Row, median, thousands};
use crate::sink::Pace;

use super::{Bench, per_second};

const DELAY: Duration = Duration::from_millis(50);
const CONCURRENCY: u32 = 256;
const MAILS: u64 = 20_000;

pub(super) async fn row(tools: &Tools, rounds: usize) -> anyhow::Result<Row> {
    let (mut daemon, mut waiting) = (Vec::new(), Vec::new());
    let mut fastest = Vec::new();
    for _ in 0..rounds {
        daemon.push(round(tools, Peer::Daemon, Pace::After(DELAY)).await?);
        // What the processors allow, where that is less than what the slots do.
        fastest.push(round(tools, Peer::Daemon, Pace::AtOnce).await?);
        waiting.push(round(tools, Peer::WaitingForwarder, Pace::After(DELAY)).await?);
    }
    let (daemon, waiting) = (median(&daemon), median(&waiting));
    let limit = (f64::from(CONCURRENCY) / DELAY.as_secs_f64()).min(median(&fastest));
    Ok(Row {
        what: "delivered per second, webhook at 50 ms, 200 connections, concurrency 256".into(),
        target: format!("at least 0.95 x {}", thousands(limit)),
        daemon: thousands(daemon),
        peer: format!("{}, {}", thousands(waiting), Peer::WaitingForwarder.name()),
        ratio: Some(daemon / limit),
        met: Some(daemon >= 0.95 * limit),
    })
}

async fn round(tools: &Tools, peer: Peer, pace: Pace) -> anyhow::Result<f64> {
    let bench = Bench::start(tools, peer, pace, CONCURRENCY).await?;
    let load = Load {
        connections: 200,
        stay: true,
        pipelining: true,
        mails: MAILS,
        under_way_max: 5_000,
        content: mail::text(1024),
    };
    bench.carry(&load).await?;
    // Neither the beginning, when connections to the webhook are made, nor the end, when slots get free.
    let (first, last) = (MAILS / 10, MAILS / 10 * 9);
    let time = bench.sink.arrival(last)? - bench.sink.arrival(first)?;
    bench.running.process.kill().await?;
    Ok(per_second(last - first, time))
}
