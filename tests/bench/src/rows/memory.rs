//! Resident memory: idle, for each idle connection, and after many mails.

use crate::load::{Client, Load};
use crate::mail;
use crate::peer::{Peer, Tools};
use crate::report::Row;
use crate::sink::Pace;

use super::{Bench, CONCURRENCY, settled};

/// Enough that pages shared with others do not matter, and below the daemon's bound and common
/// limits of open files.
const CONNECTIONS: u32 = 1_000;

const IDLE_KIB_MAX: f64 = 9.0 * 1024.0;
const CONNECTION_KIB_MAX: f64 = 6.0;

/// What the allocator keeps for itself varies by that, after however many mails. The smallest thing that it hands
/// out takes 32 bytes: one that each mail left behind would make 2,800 KiB.
const GROWTH_KIB_MAX: f64 = 512.0;

/// Resident memory in KiB.
struct Memory {
    idle: f64,
    per_connection: f64,
    after_first: f64,
    after_all: f64,
}

pub(super) async fn rows(tools: &Tools) -> anyhow::Result<Vec<Row>> {
    let daemon = measure(tools, Peer::Daemon, 100_000).await?;
    let forwarder = measure(tools, Peer::Forwarder, 100_000).await?;
    let name = Peer::Forwarder.name();
    Ok(vec![
        Row {
            what: "resident memory, idle".into(),
            target: "at most 9 MiB".into(),
            daemon: mib(daemon.idle),
            peer: format!("{}, {name}", mib(forwarder.idle)),
            ratio: Some(daemon.idle / forwarder.idle),
            met: Some(daemon.idle <= IDLE_KIB_MAX),
        },
        Row {
            what: "resident memory of each idle connection".into(),
            target: "at most 6 KiB".into(),
            daemon: format!("{:.1} KiB", daemon.per_connection),
            peer: format!("{:.1} KiB, {name}", forwarder.per_connection),
            ratio: Some(daemon.per_connection / forwarder.per_connection),
            met: Some(daemon.per_connection <= CONNECTION_KIB_MAX),
        },
        Row {
            what: "resident memory after 10,000 mails, after 100,000".into(),
            target: "at most 0.5 MiB more".into(),
            daemon: format!("{}, {}", mib(daemon.after_first), mib(daemon.after_all)),
            peer: format!("{}, {}, {name}", mib(forwarder.after_first), mib(forwarder.after_all)),
            ratio: Some(daemon.after_all / daemon.after_first),
            met: Some(daemon.after_all - daemon.after_first <= GROWTH_KIB_MAX),
        },
    ])
}

async fn measure(tools: &Tools, peer: Peer, mails: u64) -> anyhow::Result<Memory> {
    tools.forget_programs()?;
    let bench = Bench::start(tools, peer, Pace::AtOnce, CONCURRENCY).await?;
    let idle = settled(&bench).await?;
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(Client::greeted(bench.running.smtp).await?);
    }
    let per_connection = (settled(&bench).await? - idle) / f64::from(CONNECTIONS);
    drop(clients);
    bench.running.process.kill().await?;

    let bench = Bench::start(tools, peer, Pace::AtOnce, CONCURRENCY).await?;
    // Few on their way: how many wait at the most is chance, and memory that was once needed is not
    // given back at once.
    let content = mail::text(1024);
    let mut load =
        Load { connections: 32, stay: true, pipelining: true, mails: 10_000, under_way_max: 100, content };
    bench.carry(&load).await?;
    let after_first = settled(&bench).await?;
    load.mails = mails - load.mails;
    bench.carry(&load).await?;
    let after_all = settled(&bench).await?;
    bench.running.process.kill().await?;
    Ok(Memory { idle, per_connection, after_first, after_all })
}

fn mib(kib: f64) -> String {
    format!("{:.1} MiB", kib / 1024.0)
}
