//! One mail of 1 KiB per connection; what smtp-sink takes shows how much of it is the connections' share.

use crate::load::Load;
use crate::mail;
use crate::peer::{Peer, Tools};
use crate::report::{Row, median, thousands};
use crate::sink::Pace;

use super::{Bench, CONCURRENCY, per_second};

const MAILS: u64 = 8_000;

pub(super) async fn rows(tools: &Tools, rounds: usize) -> anyhow::Result<Vec<Row>> {
    let peers = [Peer::Daemon, Peer::Forwarder, Peer::WaitingForwarder, Peer::SmtpSink];
    let mut results = peers.map(|_| Vec::new());
    for _ in 0..rounds {
        for (peer, rates) in peers.iter().zip(&mut results) {
            rates.push(round(tools, *peer).await?);
        }
    }
    let [daemon, rest @ ..] = results.map(|rates| median(&rates));
    let row = |(peer, rate): (&Peer, f64)| {
        let is_target = *peer == Peer::Forwarder;
        Row {
            what: "delivered per second, one mail per connection".into(),
            target: if is_target { "at least 1.4 x".into() } else { String::new() },
            daemon: thousands(daemon),
            peer: format!("{}, {}", thousands(rate), peer.name()),
            ratio: Some(daemon / rate),
            met: is_target.then_some(daemon >= 1.4 * rate),
        }
    };
    Ok(peers.iter().skip(1).zip(rest).map(row).collect())
}

async fn round(tools: &Tools, peer: Peer) -> anyhow::Result<f64> {
    let bench = Bench::start(tools, peer, Pace::AtOnce, CONCURRENCY).await?;
    // All of them may wait: they are fewer than every queue's bound.
    let content = mail::text(1024);
    let load =
        Load { connections: 32, stay: false, pipelining: true, mails: MAILS, under_way_max: MAILS, content };
    let rate = if peer == Peer::SmtpSink {
        let started = load.run(bench.running.smtp, &bench.sink).await?;
        per_second(MAILS, started.elapsed())
    } else {
        bench.rate(&load).await?
    };
    bench.running.process.kill().await?;
    Ok(rate)
}
