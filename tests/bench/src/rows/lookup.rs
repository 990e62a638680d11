//! Looking an address up among 100,000 patterns, in a process that does nothing else.

use anyhow::{Context, ensure};
use tokio::process::Command;

use crate::peer::Tools;
use crate::report::Row;

const NANOSECONDS_MAX: u64 = 1_000;

pub(super) async fn row(tools: &Tools) -> anyhow::Result<Row> {
    let output = Command::new(&tools.routes.1).output().await.context("the lookup cannot be started")?;
    ensure!(output.status.success(), "the lookup: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let nanoseconds = |what: &str| -> anyhow::Result<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(what)).context("a line is missing")?;
        Ok(line.trim().parse()?)
    };
    let (hit, miss) = (nanoseconds("hit")?, nanoseconds("miss")?);
    Ok(Row {
        what: "100,000 routes, looking an address up: one that is taken, one that is not".into(),
        target: "at most 1,000 ns".into(),
        daemon: format!("{hit} ns, {miss} ns"),
        peer: String::new(),
        ratio: None,
        met: Some(hit.max(miss) <= NANOSECONDS_MAX),
    })
}
