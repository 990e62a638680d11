//! `/health`: `200` and nothing else, whatever the method.
//!
//! The answer says that the process runs and that the SMTP port is open, for that is bound first.
//! It says nothing about the webhook: restarting the daemon would not help there.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::any;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::config;

/// How long [`ask`] waits: less than the time-out that container runtimes give a health command.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Octets of the answer that are read; the line that counts has 15.
const STATUS_LINE_BYTES_MAX: u64 = 256;

/// The routes of the health server.
pub fn router() -> Router {
    Router::new()
        .route("/health", any(|| async { StatusCode::OK }))
        .fallback(|| async { (StatusCode::NOT_FOUND, "Not Found") })
}

/// Where a process of this host asks a health server that is configured by `variables`.
///
/// # Errors
/// A sentence that names the variable that is wrong.
pub fn address(variables: &BTreeMap<String, String>) -> Result<SocketAddr, String> {
    let listen = config::health_address(variables).map_err(|problems| problems.to_string())?;
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok(SocketAddr::new(ip, listen.port()))
}

/// Asks the health server at `address`.
///
/// # Errors
/// A sentence that says what it answered instead of `200`.
pub async fn ask(address: SocketAddr) -> Result<(), String> {
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, status_line(address)).await;
    match answer.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into())) {
        Ok(status) if status.starts_with("HTTP/1.1 200 ") => Ok(()),
        Ok(status) => Err(format!("http://{address}/health answers {status:?}")),
        Err(error) => Err(format!("http://{address}/health does not answer: {error}")),
    }
}

/// The first line of the answer. An HTTP client would want roots of trust even for this.
async fn status_line(address: SocketAddr) -> io::Result<String> {
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    let request = format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut line = String::new();
    stream.take(STATUS_LINE_BYTES_MAX).read_line(&mut line).await?;
    Ok(line.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_200_is_healthy() {
        for (answer, healthy) in [
            ("HTTP/1.1 200 OK\r\n\r\n", true),
            ("HTTP/1.1 404 Not Found\r\n\r\n", false),
            ("HTTP/1.1 503 Service Unavailable\r\n\r\n", false),
            ("220 mx.example.com ESMTP\r\n", false),
            ("", false),
        ] {
            let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = server.local_addr().unwrap();
            let (asked, ()) = tokio::join!(ask(address), async {
                let (mut stream, _) = server.accept().await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            });
            assert_eq!(asked.is_ok(), healthy, "{answer:?}: {asked:?}");
        }
    }

    #[test]
    fn the_address_to_ask_is_one_of_this_host() {
        for (bind, port, asked) in
            [("", "", "127.0.0.1:8080"), ("::", "81", "[::1]:81"), ("10.0.0.1", "8080", "10.0.0.1:8080")]
        {
            let variables = [("MAIL_LASER_HEALTH_BIND_ADDRESS", bind), ("MAIL_LASER_HEALTH_PORT", port)];
            let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
            assert_eq!(address(&BTreeMap::from(variables)).unwrap().to_string(), asked);
        }
    }
}
