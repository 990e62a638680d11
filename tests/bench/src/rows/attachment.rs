//! Messages with an attachment of 1 MiB: processor time, deliveries a second, and the most memory that it took.

use crate::load::Load;
use crate::mail;
use crate::peer::{Peer, Tools};
use crate::report::{Row, median, thousands};
use crate::sink::Pace;

use super::{Bench, CONCURRENCY};

const MAILS: u64 = 200;

/// Messages before processor time is read: connections, and memory that is new to the process.
const WARM_UP: u64 = 20;

/// Processor time of one message, of which its SHA-256 is the largest part.
const CPU_MS_MAX: f64 = 2.0;

/// What one round came to.
struct Round {
    cpu_ms: f64,
    per_second: f64,
    peak_mib: f64,
}

pub(super) async fn rows(tools: &Tools, rounds: usize) -> anyhow::Result<Vec<Row>> {
    let peers = [Peer::Daemon, Peer::Forwarder, Peer::WaitingForwarder];
    let mut results = peers.map(|_| Vec::new());
    for _ in 0..rounds {
        for (peer, rounds) in peers.iter().zip(&mut results) {
            rounds.push(round(tools, *peer).await?);
        }
    }
    let [daemon, rest @ ..] = results.map(|rounds| {
        let median = |of: fn(&Round) -> f64| median(&rounds.iter().map(of).collect::<Vec<_>>());
        Round {
            cpu_ms: median(|round| round.cpu_ms),
            per_second: median(|round| round.per_second),
            peak_mib: median(|round| round.peak_mib),
        }
    });
    let mut rows = Vec::new();
    for (peer, theirs) in peers.iter().skip(1).zip(rest) {
        let is_target = *peer == Peer::Forwarder;
        rows.push(Row {
            what: "attachment of 1 MiB, CPU time per message".into(),
            target: if is_target { format!("at most {CPU_MS_MAX} ms") } else { String::new() },
            daemon: format!("{:.1} ms", daemon.cpu_ms),
            peer: format!("{:.1} ms, {}", theirs.cpu_ms, peer.name()),
            ratio: Some(daemon.cpu_ms / theirs.cpu_ms),
            met: is_target.then_some(daemon.cpu_ms <= CPU_MS_MAX),
        });
        rows.push(Row {
            what: "attachment of 1 MiB, delivered per second".into(),
            target: if is_target { "at least 3 x".into() } else { String::new() },
            daemon: thousands(daemon.per_second),
            peer: format!("{}, {}", thousands(theirs.per_second), peer.name()),
            ratio: Some(daemon.per_second / theirs.per_second),
            met: is_target.then_some(daemon.per_second >= 3.0 * theirs.per_second),
        });
        rows.push(Row {
            what: "attachment of 1 MiB, peak memory".into(),
            target: if is_target { "at most 1 x".into() } else { String::new() },
            daemon: format!("{:.1} MiB", daemon.peak_mib),
            peer: format!("{:.1} MiB, {}", theirs.peak_mib, peer.name()),
            ratio: Some(daemon.peak_mib / theirs.peak_mib),
            met: is_target.then_some(daemon.peak_mib <= theirs.peak_mib),
        });
    }
    Ok(rows)
}

async fn round(tools: &Tools, peer: Peer) -> anyhow::Result<Round> {
    let bench = Bench::start(tools, peer, Pace::AtOnce, CONCURRENCY).await?;
    let mut load = Load {
        connections: 8,
        stay: true,
        pipelining: true,
        mails: WARM_UP,
        under_way_max: 16,
        content: mail::with_attachment(1 << 20),
    };
    bench.carry(&load).await?;
    load.mails = MAILS;
    let before = bench.running.process.cpu()?;
    let per_second = bench.rate(&load).await?;
    let cpu = bench.running.process.cpu()? - before;
    let peak_mib = bench.running.process.peak_kib()? as f64 / 1024.0;
    bench.running.process.kill().await?;
    Ok(Round { cpu_ms: cpu.as_secs_f64() * 1e3 / MAILS as f64, per_second, peak_mib })
}
