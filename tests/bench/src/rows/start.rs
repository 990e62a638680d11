//! From exec to the first `220`.

use std::time::Duration;

use crate::peer::{Peer, Tools};
use crate::report::{Row, median};
use crate::sink::Pace;

use super::{Bench, CONCURRENCY};

/// Many and apart, as one is over in a few milliseconds: whatever else the machine does then would decide.
const STARTS: usize = 41;
const PAUSE: Duration = Duration::from_millis(50);

const MILLISECONDS_MAX: f64 = 12.0;

pub(super) async fn row(tools: &Tools) -> anyhow::Result<Row> {
    let (mut daemon, mut forwarder) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        tokio::time::sleep(PAUSE).await;
        daemon.push(start(tools, Peer::Daemon).await?);
        forwarder.push(start(tools, Peer::Forwarder).await?);
    }
    let (daemon, forwarder) = (median(&daemon), median(&forwarder));
    Ok(Row {
        what: "from exec to the first 220".into(),
        target: "at most 12 ms".into(),
        daemon: format!("{daemon:.1} ms"),
        peer: format!("{forwarder:.1} ms, {}", Peer::Forwarder.name()),
        ratio: Some(daemon / forwarder),
        met: Some(daemon <= MILLISECONDS_MAX),
    })
}

async fn start(tools: &Tools, peer: Peer) -> anyhow::Result<f64> {
    let bench = Bench::start(tools, peer, Pace::AtOnce, CONCURRENCY).await?;
    bench.running.process.kill().await?;
    Ok(bench.running.start.as_secs_f64() * 1e3)
}
