//! `/health`: `200` and nothing else, whatever the method.
//!
//! The answer says that the process runs and that the SMTP port is open, for that is bound first.
//! It says nothing about the webhook: restarting the daemon would not help there.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::any;

use crate::config;

/// How long [`ask`] waits: less than the time-out that container runtimes give a health command.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

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
    crate::crypto::init();
    let describe =
        |error: reqwest::Error| format!("http://{address}/health does not answer: {}", error.without_url());
    let client = reqwest::Client::builder().no_proxy().timeout(ANSWER_TIMEOUT).build().map_err(describe)?;
    let answer = client.get(format!("http://{address}/health")).send().await.map_err(describe)?;
    match answer.status() {
        StatusCode::OK => Ok(()),
        status => Err(format!("http://{address}/health answers {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
