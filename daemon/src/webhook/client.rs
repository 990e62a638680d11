//! One HTTP attempt.

use std::error::Error;
use std::fmt::Write;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use secrecy::ExposeSecret;

use crate::config::WebhookConfig;
use crate::config::url::WebhookUrl;

use super::outcome::{Outcome, Refusal};
use super::problem;

/// Octets of an answer's body that are read, so that its connection can be used again. A longer
/// answer costs its connection.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// How long an answer's body is waited for: its delivery slot is not free before.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(500);

/// How long an unused connection is kept: shorter than the idle time of common load balancers
/// (60 s), so that a request seldom meets one that is just being closed.
const IDLE_CONNECTION_TIME: Duration = Duration::from_secs(45);

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Posts to one webhook.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    url: WebhookUrl,
    authorization: Option<HeaderValue>,
    timeout: Duration,
}

/// What one attempt sends.
#[derive(Debug, Clone)]
pub struct Request {
    /// What the receiver recognises a repeated request by; visible ASCII.
    pub idempotency_key: String,
    /// The JSON.
    pub body: Bytes,
}

impl Client {
    /// A client for the webhook of `config`.
    ///
    /// # Errors
    /// When TLS cannot be set up: no roots of trust, or roots that are none.
    pub fn new(config: &WebhookConfig) -> Result<Self, reqwest::Error> {
        crate::crypto::init();
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("MailLaser/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            // A proxy of the environment would see mail that was meant for loopback.
            .no_proxy()
            .hickory_dns(true)
            .tcp_nodelay(true)
            .pool_max_idle_per_host(usize::try_from(config.concurrency.get()).unwrap_or(usize::MAX))
            .pool_idle_timeout(IDLE_CONNECTION_TIME);
        if let Some(pem) = &config.ca_roots {
            http = http.tls_certs_merge(reqwest::Certificate::from_pem_bundle(pem)?);
        }
        let authorization = config.bearer_token.as_ref().and_then(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret())).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        Ok(Self { http: http.build()?, url: config.url.clone(), authorization, timeout: config.timeout })
    }

    /// Where it posts to, for logs: without user, path and query.
    #[must_use]
    pub fn url(&self) -> &WebhookUrl {
        &self.url
    }

    /// Makes one attempt. Its answer begins within the timeout.
    pub async fn attempt(&self, request: &Request) -> Outcome {
        let answer = match tokio::time::timeout(self.timeout, self.post(request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Outcome::Unreachable(describe(error)),
            Err(_elapsed) => return Outcome::TimedOut,
        };
        let status = answer.status().as_u16();
        let retry_after = header(&answer, &RETRY_AFTER).and_then(|text| retry_after(text, SystemTime::now()));
        let explains = header(&answer, &CONTENT_TYPE).is_some_and(problem::is_problem);
        let body = read(answer).await;
        let problem = if explains { problem::text(&body) } else { None };
        Outcome::of(Refusal { status, retry_after, problem })
    }

    async fn post(&self, request: &Request) -> reqwest::Result<reqwest::Response> {
        let mut post = self
            .http
            .post(self.url.expose().clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(IDEMPOTENCY_KEY, request.idempotency_key.as_str())
            .body(request.body.clone());
        if let Some(authorization) = &self.authorization {
            post = post.header(AUTHORIZATION, authorization.clone());
        }
        post.send().await
    }
}

/// Reads an answer's body, for what it explains and for its connection's sake. The status has
/// decided: neither the size of the body nor its time can take the mail's delivery back.
async fn read(mut answer: reqwest::Response) -> Vec<u8> {
    let mut body = Vec::new();
    let read = async {
        while let Ok(Some(chunk)) = answer.chunk().await {
            body.extend_from_slice(&chunk[..chunk.len().min(ANSWER_BYTES_MAX - body.len())]);
            if body.len() == ANSWER_BYTES_MAX {
                break;
            }
        }
    };
    // Either way the status stands.
    let _ = tokio::time::timeout(ANSWER_TIME_MAX, read).await;
    body
}

fn header<'a>(answer: &'a reqwest::Response, name: &HeaderName) -> Option<&'a str> {
    answer.headers().get(name)?.to_str().ok()
}

/// The wait that `Retry-After` asks for: seconds, or until a date.
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp();
    Some(SystemTime::from(date).duration_since(now).unwrap_or_default())
}

/// The whole chain of an error in one line, without the address.
fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn a_wait_is_seconds_or_until_a_date() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_717);
        for (text, seconds) in [
            ("120", Some(120)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:48:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            assert_eq!(retry_after(text, now), seconds.map(Duration::from_secs), "{text}");
        }
    }
}
