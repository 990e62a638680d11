//! Messages of 1 KiB to a webhook that answers at once: processor time and deliveries a second, load,
//! peer and webhook sharing the machine.

use crate::load::Load;
use crate::mail;
use crate::peer::{Peer, Tools};
use crate::report::{Row, median, thousands};
use crate::sink::Pace;

use super::{Bench, CONCURRENCY};

/// One kind of client, with its targets against the forwarder that answers when a message waits.
struct Clients {
    pipelining: bool,
    /// Names of the two figures.
    cpu: &'static str,
    delivered: &'static str,
    cpu_ratio_max: f64,
    delivered_ratio_min: f64,
}

const WITH_PIPELINING: Clients = Clients {
    pipelining: true,
    cpu: "CPU time per mail, webhook at 0 ms",
    delivered: "delivered per second, webhook at 0 ms",
    cpu_ratio_max: 0.55,
    delivered_ratio_min: 1.4,
};

const WITHOUT_PIPELINING: Clients = Clients {
    pipelining: false,
    cpu: "CPU time per message, without PIPELINING",
    delivered: "delivered per second, without PIPELINING",
    cpu_ratio_max: 0.45,
    delivered_ratio_min: 1.6,
};

/// Median figures of one peer.
struct Figures {
    peer: Peer,
    cpu_us: f64,
    per_second: f64,
}

/// What one round came to.
struct Round {
    cpu_us: f64,
    per_second: f64,
}

/// Rows for mail servers, which use PIPELINING.
pub(super) async fn rows(tools: &Tools, rounds: usize) -> anyhow::Result<Vec<Row>> {
    let mut peers = vec![(Peer::Forwarder, 20_000), (Peer::WaitingForwarder, 20_000)];
    if tools.has_aiosmtpd() {
        peers.push((Peer::Aiosmtpd, 2_000));
    }
    WITH_PIPELINING.rows(tools, rounds, &peers).await
}

/// Rows for programs that wait for the reply to each command, as most libraries do.
pub(super) async fn rows_without_pipelining(tools: &Tools, rounds: usize) -> anyhow::Result<Vec<Row>> {
    WITHOUT_PIPELINING.rows(tools, rounds, &[(Peer::Forwarder, 20_000)]).await
}

impl Clients {
    /// Measures the daemon and `peers`, each with its number of messages, in turns.
    async fn rows(&self, tools: &Tools, rounds: usize, peers: &[(Peer, u64)]) -> anyhow::Result<Vec<Row>> {
        let peers: Vec<_> = [(Peer::Daemon, 30_000)].into_iter().chain(peers.iter().copied()).collect();
        let mut results: Vec<Vec<Round>> = peers.iter().map(|_| Vec::new()).collect();
        for _ in 0..rounds {
            for ((peer, mails), rounds) in peers.iter().zip(&mut results) {
                rounds.push(self.round(tools, *peer, *mails).await?);
            }
        }
        let medians = peers.iter().zip(&results).map(|((peer, _), rounds)| {
            let median = |of: fn(&Round) -> f64| median(&rounds.iter().map(of).collect::<Vec<_>>());
            Figures {
                peer: *peer,
                cpu_us: median(|round| round.cpu_us),
                per_second: median(|round| round.per_second),
            }
        });
        let mut medians = medians.collect::<Vec<_>>().into_iter();
        let Some(daemon) = medians.next() else { return Ok(Vec::new()) };
        let peers: Vec<_> = medians.collect();
        let cpu = peers.iter().map(|peer| self.cpu(&daemon, peer));
        Ok(cpu.chain(peers.iter().map(|peer| self.delivered(&daemon, peer))).collect())
    }

    fn cpu(&self, daemon: &Figures, peer: &Figures) -> Row {
        let is_target = peer.peer == Peer::Forwarder;
        let ratio = daemon.cpu_us / peer.cpu_us;
        Row {
            what: self.cpu.into(),
            target: if is_target { format!("at most {} x", self.cpu_ratio_max) } else { String::new() },
            daemon: format!("{:.0} us", daemon.cpu_us),
            peer: format!("{:.0} us, {}", peer.cpu_us, peer.peer.name()),
            ratio: Some(ratio),
            met: is_target.then_some(ratio <= self.cpu_ratio_max),
        }
    }

    fn delivered(&self, daemon: &Figures, peer: &Figures) -> Row {
        let is_target = peer.peer == Peer::Forwarder;
        let ratio = daemon.per_second / peer.per_second;
        Row {
            what: self.delivered.into(),
            target: if is_target {
                format!("at least {} x", self.delivered_ratio_min)
            } else {
                String::new()
            },
            daemon: thousands(daemon.per_second),
            peer: format!("{}, {}", thousands(peer.per_second), peer.peer.name()),
            ratio: Some(ratio),
            met: is_target.then_some(ratio >= self.delivered_ratio_min),
        }
    }

    async fn round(&self, tools: &Tools, peer: Peer, mails: u64) -> anyhow::Result<Round> {
        let bench = Bench::start(tools, peer, Pace::AtOnce, CONCURRENCY).await?;
        let mut load = Load {
            connections: 32,
            stay: true,
            pipelining: self.pipelining,
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
}
