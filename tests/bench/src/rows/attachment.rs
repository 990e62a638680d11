//! Mails with an attachment of 1 MiB: deliveries a second, and the most memory that it took.

use crate::load::Load;
use crate::mail;
use crate::peer::{Peer, Tools};
use crate::report::{Row, median, thousands};
use crate::sink::Pace;

use super::{Bench, CONCURRENCY};

const MAILS: u64 = 200;

pub(super) async fn rows(tools: &Tools, rounds: usize) -> anyhow::Result<Vec<Row>> {
    let peers = [Peer::Daemon, Peer::Forwarder, Peer::WaitingForwarder];
    let mut results = peers.map(|_| (Vec::new(), Vec::new()));
    for _ in 0..rounds {
        for (peer, (rates, peaks)) in peers.iter().zip(&mut results) {
            let (rate, peak) = round(tools, *peer).await?;
            rates.push(rate);
            peaks.push(peak);
        }
    }
    let [daemon, rest @ ..] = results.map(|(rates, peaks)| (median(&rates), median(&peaks)));
    let mut rows = Vec::new();
    for (peer, (rate, peak)) in peers.iter().skip(1).zip(rest) {
        let is_target = *peer == Peer::Forwarder;
        rows.push(Row {
            what: "attachment of 1 MiB, delivered per second".into(),
            target: if is_target { "at least 3 x".into() } else { String::new() },
            daemon: thousands(daemon.0),
            peer: format!("{}, {}", thousands(rate), peer.name()),
            ratio: Some(daemon.0 / rate),
            met: is_target.then_some(daemon.0 >= 3.0 * rate),
        });
        rows.push(Row {
            what: "attachment of 1 MiB, peak memory".into(),
            target: if is_target { "at most 1 x".into() } else { String::new() },
            daemon: format!("{:.1} MiB", daemon.1),
            peer: format!("{peak:.1} MiB, {}", peer.name()),
            ratio: Some(daemon.1 / peak),
            met: is_target.then_some(daemon.1 <= peak),
        });
    }
    Ok(rows)
}

async fn round(tools: &Tools, peer: Peer) -> anyhow::Result<(f64, f64)> {
    let bench = Bench::start(tools, peer, Pace::AtOnce, CONCURRENCY).await?;
    let load = Load {
        connections: 8,
        stay: true,
        mails: MAILS,
        under_way_max: 16,
        content: mail::with_attachment(1 << 20),
    };
    let rate = bench.rate(&load).await?;
    let peak = bench.running.process.peak_kib()? as f64 / 1024.0;
    bench.running.process.kill().await?;
    Ok((rate, peak))
}
