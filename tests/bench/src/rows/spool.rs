//! Mails accepted in `spool`, each synced to disk before its `250`, while the webhook refuses and the
//! circuit is open: against Postfix, which syncs each, too, and holds what it takes, and against our own
//! `forward`, which syncs nothing, while its webhook does not answer. Spool and queue are on the same
//! file system, and empty at first; what was written before is on disk by then.

use crate::load::Load;
use crate::mail;
use crate::peer::{Peer, Tools};
use crate::report::{Row, median, thousands};
use crate::sink::Pace;

use super::{Bench, CONCURRENCY, per_second};

const CONNECTIONS: usize = 50;

/// Some two seconds of each.
const MAILS: u64 = 40_000;
const MAILS_OF_POSTFIX: u64 = 4_000;

/// Below what may wait in memory, those included that were sent before.
const MAILS_OF_FORWARD: u64 = 9_000;

/// Connections are made and processes started with these.
const WARM_UP: u64 = 500;

/// A size, and how often the daemon has to be as fast as Postfix.
const SIZES: [(usize, f64); 2] = [(1024, 8.0), (10 * 1024, 6.0)];

/// What is as good as any number of times Postfix, for mails of the first size.
const OF_FORWARD: f64 = 0.5;

pub(super) async fn rows(tools: &Tools, rounds: usize) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (index, (bytes, times)) in SIZES.into_iter().enumerate() {
        let (mut spool, mut postfix, mut forward) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            spool.push(round(tools, Peer::Spool, bytes, MAILS).await?);
            if tools.postfix().is_some() {
                postfix.push(round(tools, Peer::Postfix, bytes, MAILS_OF_POSTFIX).await?);
            }
            forward.push(round(tools, Peer::Daemon, bytes, MAILS_OF_FORWARD).await?);
        }
        let (spool, postfix, forward) = (median(&spool), median(&postfix), median(&forward));
        let what = format!("`spool`, accepted per second, {} KiB, 50 connections", bytes / 1024);
        let (target, wanted) = match index {
            0 => (
                format!("at least {times} x, or {OF_FORWARD} x `forward`"),
                (times * postfix).min(OF_FORWARD * forward),
            ),
            _ => (format!("at least {times} x"), times * postfix),
        };
        if tools.postfix().is_some() {
            rows.push(Row {
                what: what.clone(),
                target,
                daemon: thousands(spool),
                peer: format!("{}, {}", thousands(postfix), Peer::Postfix.name()),
                ratio: Some(spool / postfix),
                met: Some(spool >= wanted),
            });
        }
        rows.push(Row {
            what,
            target: String::new(),
            daemon: thousands(spool),
            peer: format!("{}, daemon in `forward`", thousands(forward)),
            ratio: Some(spool / forward),
            met: None,
        });
    }
    Ok(rows)
}

async fn round(tools: &Tools, peer: Peer, bytes: usize, mails: u64) -> anyhow::Result<f64> {
    tools.clear_disk().await?;
    let pace = if peer == Peer::Daemon { Pace::Never } else { Pace::AtOnce };
    let bench = Bench::start(tools, peer, pace, CONCURRENCY).await?;
    bench.sink.set_away(peer == Peer::Spool);
    let content = mail::text(bytes);
    let mut load = Load {
        connections: CONNECTIONS,
        stay: true,
        pipelining: true,
        mails: WARM_UP,
        under_way_max: mails,
        content,
    };
    load.run(bench.running.smtp, &bench.sink).await?;
    if peer == Peer::Spool {
        bench.wait_for_open_circuit().await?;
    }
    load.mails = mails;
    let started = load.run(bench.running.smtp, &bench.sink).await?;
    let rate = per_second(mails, started.elapsed());
    bench.end(peer).await?;
    Ok(rate)
}
