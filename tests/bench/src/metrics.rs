//! What the daemon says of itself on its port for metrics.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(10);

/// How often a wait looks: seldom, as an answer costs the daemon something.
const PAUSE: Duration = Duration::from_millis(50);

/// The value of `series`, its labels included, as it is now.
pub(crate) async fn value(server: SocketAddr, series: &str) -> anyhow::Result<u64> {
    let page = timeout(PATIENCE, get(server, "/metrics")).await.context("no answer from /metrics")??;
    value_in(&page, series).with_context(|| format!("no {series} in /metrics"))
}

/// Waits until `series` has this value.
pub(crate) async fn wait_for(
    server: SocketAddr,
    series: &str,
    wanted: u64,
    limit: Duration,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let now = value(server, series).await?;
        if now == wanted {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{series} is {now} after {limit:?}, not {wanted}");
        sleep(PAUSE).await;
    }
}

/// The whole answer to a request for `path`.
pub(crate) async fn get(server: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(server).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut page = String::new();
    stream.read_to_string(&mut page).await?;
    Ok(page)
}

fn value_in(page: &str, series: &str) -> Option<u64> {
    let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    value.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_found_by_its_whole_name() {
        let page = "HTTP/1.1 200 OK\r\n\r\n# TYPE a gauge\na_b 1\na{c=\"d\"} 2\na 3\n# EOF\n";
        assert_eq!(value_in(page, "a"), Some(3));
        assert_eq!(value_in(page, "a{c=\"d\"}"), Some(2));
        assert_eq!(value_in(page, "c"), None);
    }
}
