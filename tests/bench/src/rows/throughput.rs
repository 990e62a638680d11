//! Mails of 1 KiB to a webhook that answers at once: processor time and deliveries a second, load,
//! peer and webhook sharing the machine.

use crate::load::Load;
use crate::mail;
use crate::peer::{Peer, Tools};
use crate::report::{Row, median, thousands};
use crate::sink::Pace;

use super::{Bench, CONCURRENCY};

/// What one round came to.
struct Round {
    cpu_us: f64,
    per_second: f64,
}

pub(super) async fn rows(tools: &Tools, rounds: usize) -> anyhow::Result<Vec<Row>> {
    let mut peers = vec![(Peer::Daemon, 30_000), (Peer::Forwarder, 20_000), (Peer::WaitingForwarder, 20_000)];
    if tools.has_aiosmtpd() {
        peers.push((Peer::Aiosmtpd, 2_000));
    }
    let mut results: Vec<Vec<Round>> = peers.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for ((peer, mails), rounds) in peers.iter().zip(&mut results) {
            rounds.push(round(tools, *peer, *mails).await?);
        }
    }
    let cpu: Vec<f64> =
        results.iter().map(|r| median(&r.iter().map(|r| r.cpu_us).collect::<Vec<_>>())).collect();
    let rate: Vec<f64> =
        results.iter().map(|r| median(&r.iter().map(|r| r.per_second).collect::<Vec<_>>())).collect();
    let mut cpu_rows = Vec::new();
    let mut rate_rows = Vec::new();
    for (index, (peer, _)) in peers.iter().enumerate().skip(1) {
        let is_target = *peer == Peer::Forwarder;
        cpu_rows.push(Row {
            what: "CPU time per mail, webhook at 0 ms".into(),
            target: if is_target { "at most 0.55 x".into() } else { String::new() },
            daemon: format!("{:.0} us", cpu[0]),
            peer: format!("{:.0} us, {}", cpu[index], peer.name()),
            ratio: Some(cpu[0] / cpu[index]),
            met: is_target.then_some(cpu[0] <= 0.55 * cpu[index]),
        });
        rate_rows.push(Row {
            what: "delivered per second, webhook at 0 ms".into(),
            target: if is_target { "at least 1.4 x".into() } else { String::new() },
            daemon: thousands(rate[0]),
            peer: format!("{}, {}", thousands(rate[index]), peer.name()),
            ratio: Some(rate[0] / rate[index]),
            met: is_target.then_some(rate[0] >= 1.4 * rate[index]),
        });
    }
    cpu_rows.extend(rate_rows);
    Ok(cpu_rows)
}

async fn round(tools: &Tools, peer: Peer, mails: u64) -> anyhow::Result<Round> {
    let bench = Bench::start(tools, peer, Pace::AtOnce, CONCURRENCY).await?;
    let mut load = Load {
        connections: 32,
        stay: true,
        mails: mails / 10,
        under_way_max: 5_000,
        content: mail::text(1024),
    };
    // Connections, pages and caches: what the first mails pay for is not what mails cost.
    bench.carry(&load).await?;
    load.mails = mails;
    let before = bench.running.process.cpu()?;
    let per_second = bench.rate(&load).await?;
    let cpu = bench.running.process.cpu()? - before;
    bench.running.process.kill().await?;
    Ok(Round { cpu_us: cpu.as_secs_f64() * 1e6 / mails as f64, per_second })
}
