//! A spool with 1,000,000 mails of 300 octets, the webhook refusing: what they take of the memory, and
//! how soon the daemon takes mail after it was killed and started again.
//!
//! Memory is what the other rows of memory show (`VmRSS`: anonymous pages and those of files), less what
//! it was before the first mail: after the last mail was accepted, and after a restart once the daemon
//! has looked through all of the spool.

use std::time::Duration;

use crate::load::Load;
use crate::mail;
use crate::metrics;
use crate::peer::{Peer, Tools};
use crate::report::{Row, thousands};
use crate::sink::Pace;

use super::{Bench, CONCURRENCY, settled};

const MAILS: u64 = 1_000_000;
const MAIL_BYTES: usize = 300;

const MIB_MAX: f64 = 64.0;
const SECONDS_MAX: f64 = 1.0;

/// How long looking through all of the spool may take.
const LOOK_MAX: Duration = Duration::from_secs(300);

const WAITING: &str = "mail_laser_spool_messages";

pub(super) async fn rows(tools: &Tools) -> anyhow::Result<Vec<Row>> {
    tools.clear_disk().await?;
    let bench = start(tools).await?;
    let idle = settled(&bench).await?;
    let load = Load {
        connections: 50,
        stay: true,
        pipelining: true,
        mails: MAILS,
        under_way_max: MAILS,
        content: mail::text(MAIL_BYTES),
    };
    load.run(bench.running.smtp, &bench.sink).await?;
    metrics::wait_for(bench.running.metrics, WAITING, MAILS, LOOK_MAX).await?;
    let filled = settled(&bench).await? - idle;
    bench.end(Peer::Spool).await?;

    let bench = start(tools).await?;
    let first = bench.running.start.as_secs_f64();
    metrics::wait_for(bench.running.metrics, WAITING, MAILS, LOOK_MAX).await?;
    let restarted = settled(&bench).await? - idle;
    bench.end(Peer::Spool).await?;
    tools.clear_disk().await?;
    let mails = thousands(MAILS as f64);
    Ok(vec![
        Row {
            what: format!("resident memory over idle with {mails} mails in the spool: filled, restarted"),
            target: format!("at most {MIB_MAX} MiB"),
            daemon: format!("{:.1} MiB, {:.1} MiB", filled / 1024.0, restarted / 1024.0),
            peer: String::new(),
            ratio: None,
            met: Some(filled.max(restarted) <= MIB_MAX * 1024.0),
        },
        Row {
            what: format!("from exec to the first 220 with {mails} mails in the spool"),
            target: format!("at most {SECONDS_MAX} s"),
            daemon: format!("{:.1} ms", first * 1e3),
            peer: String::new(),
            ratio: None,
            met: Some(first <= SECONDS_MAX),
        },
    ])
}

async fn start(tools: &Tools) -> anyhow::Result<Bench> {
    let bench = Bench::start(tools, Peer::Spool, Pace::AtOnce, CONCURRENCY).await?;
    bench.sink.set_away(true);
    Ok(bench)
}
