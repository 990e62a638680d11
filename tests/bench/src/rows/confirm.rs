//! Mails of 1 KiB in `confirm`, each answered when the webhook, which answers at once, has it: against
//! the forwarder that waits for the webhook, too. The mails differ, as the same mail of the same sender
//! would be delivered once.

use crate::load::Load;
use crate::mail;
use crate::peer::{Peer, Tools};
use crate::report::{Row, median, thousands};
use crate::sink::Pace;

use super::{Bench, CONCURRENCY};

const CONNECTIONS: usize = 50;
const MAILS: u64 = 20_000;

pub(super) async fn row(tools: &Tools, rounds: usize) -> anyhow::Result<Row> {
    let (mut daemon, mut waiting) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        daemon.push(round(tools, Peer::Confirm).await?);
        waiting.push(round(tools, Peer::WaitingForwarder).await?);
    }
    let (daemon, waiting) = (median(&daemon), median(&waiting));
    Ok(Row {
        what: "`confirm`, delivered per second, webhook at 0 ms, 50 connections".into(),
        target: "at least 1.3 x".into(),
        daemon: thousands(daemon),
        peer: format!("{}, {}", thousands(waiting), Peer::WaitingForwarder.name()),
        ratio: Some(daemon / waiting),
        met: Some(daemon >= 1.3 * waiting),
    })
}

async fn round(tools: &Tools, peer: Peer) -> anyhow::Result<f64> {
    let bench = Bench::start(tools, peer, Pace::AtOnce, CONCURRENCY).await?;
    let content = mail::text(1024);
    let mut load = Load {
        connections: CONNECTIONS,
        stay: true,
        pipelining: true,
        mails: MAILS / 10,
        under_way_max: MAILS,
        content,
    };
    bench.carry(&load).await?;
    load.mails = MAILS;
    let rate = bench.rate(&load).await?;
    bench.running.process.kill().await?;
    Ok(rate)
}
