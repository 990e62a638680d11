//! One HTTP attempt.

use std::error::Error;
use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use secrecy::ExposeSecret;

use crate::config::WebhookConfig;
use crate::config::url::WebhookUrl;

use super::outcome::Outcome;

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
        let outcome = Outcome::of_status(answer.status().as_u16());
        drain(answer).await;
        outcome
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

/// Reads an answer's body for its connection's sake. The status has decided: neither the size of
/// the body nor its time can take the mail's delivery back.
async fn drain(mut answer: reqwest::Response) {
    let read = async {
        let mut bytes = 0;
        while let Ok(Some(chunk)) = answer.chunk().await {
            bytes += chunk.len();
            if bytes > ANSWER_BYTES_MAX {
                break;
            }
        }
    };
    // Either way the status stands.
    let _ = tokio::time::timeout(ANSWER_TIME_MAX, read).await;
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
