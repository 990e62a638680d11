//! One HTTP attempt.

use std::error::Error;
use std::fmt::Write;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Error as SendError;
use secrecy::ExposeSecret;
use tokio::time::{Instant, sleep_until};

use crate::config::WebhookConfig;
use crate::config::url::WebhookUrl;
use crate::turn::{Turns, after_others};

use super::connector::TlsError;
use super::connectors::Connectors;
use super::outcome::{Outcome, Refusal};
use super::pool::Pool;
use super::problem;
use super::signature::Signer;

/// Octets of an answer's body that are read, so that its connection can be used again. A longer
/// answer costs its connection.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// How long an answer's body is waited for: its delivery slot is not free before.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(500);

/// Characters of an error that are told: twice what explanations of webhooks may have.
const ERROR_CHARACTERS_MAX: usize = 400;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Posts to one webhook.
///
/// It follows no redirect: who answers one would choose where mail goes. It knows no proxy: one of the
/// environment would see mail that was meant for loopback.
#[derive(Debug, Clone)]
pub struct Client {
    /// The connections, which are this one's alone.
    pool: Pool,
    url: WebhookUrl,
    /// The headers that all requests have.
    headers: HeaderMap,
    signer: Option<Signer>,
    timeout: Duration,
    /// Turns at giving up what has failed.
    failing: Arc<Turns>,
}

/// What one attempt sends.
#[derive(Debug, Clone)]
pub struct Request {
    /// What the receiver recognises a repeated request by; visible ASCII.
    pub idempotency_key: String,
    /// The JSON.
    pub body: Bytes,
}

impl Request {
    /// Has something last as long as the body is anywhere in memory: what sends it may go on with it when nobody waits for
    /// an answer any more.
    pub fn hold(&mut self, what: impl Send + Sync + 'static) {
        self.body = Bytes::from_owner(Holding { body: std::mem::take(&mut self.body), _what: what });
    }
}

struct Holding<T> {
    body: Bytes,
    _what: T,
}

impl<T> AsRef<[u8]> for Holding<T> {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl Client {
    /// A client for the webhook of `config`.
    ///
    /// # Errors
    /// When TLS cannot be set up: no roots of trust, or roots that are none.
    pub fn new(config: &WebhookConfig, connectors: &Connectors) -> Result<Self, TlsError> {
        Ok(Self {
            pool: connectors.pool(config)?,
            url: config.url.clone(),
            headers: headers(config),
            signer: Signer::new(&config.signing_secrets),
            timeout: config.timeout,
            failing: connectors.failing(),
        })
    }

    /// Where it posts to, for logs: without user, path and query.
    #[must_use]
    pub fn url(&self) -> &WebhookUrl {
        &self.url
    }

    /// Makes one attempt. Its answer begins within the timeout.
    pub async fn attempt(&self, request: &Request) -> Outcome {
        let time_out = Instant::now() + self.timeout;
        let late = async {
            // Setting a clock is a system call: the request is on its way before it.
            after_others().await;
            sleep_until(time_out).await;
        };
        let answer = {
            let post = pin!(self.post(request));
            let answer = tokio::select! {
                biased;
                answer = post => Ok(answer),
                () = late => Err(self.failing.begin().await),
            };
            // A request that is given up takes its connection with it, in its own turn.
            answer
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(turn) => {
                turn.end().await;
                return Outcome::TimedOut;
            }
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let turn = self.failing.begin().await;
                let outcome = Outcome::Unreachable(describe(&error));
                turn.end().await;
                return outcome;
            }
        };
        let status = answer.status().as_u16();
        let retry_after = header(&answer, &RETRY_AFTER).and_then(|text| retry_after(text, SystemTime::now()));
        let explains = header(&answer, &CONTENT_TYPE).is_some_and(problem::is_problem);
        let body = read(answer).await;
        let problem = if explains { problem::text(&body) } else { None };
        Outcome::of(Refusal { status, retry_after, problem })
    }

    async fn post(&self, request: &Request) -> Result<Response<Incoming>, SendError> {
        let mut post = http::Request::new(Full::new(request.body.clone()));
        *post.method_mut() = Method::POST;
        *post.uri_mut() = self.url.request_uri().clone();
        *post.headers_mut() = self.headers.clone();
        // Visible ASCII always is a value.
        let key = HeaderValue::from_str(&request.idempotency_key).ok();
        post.headers_mut().extend(key.map(|key| (IDEMPOTENCY_KEY, key)));
        if let Some(signer) = &self.signer {
            let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            post.headers_mut().extend(signer.headers(&request.idempotency_key, seconds, &request.body));
        }
        self.pool.request(post).await
    }
}

fn headers(config: &WebhookConfig) -> HeaderMap {
    let mut headers = config.headers.clone();
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("MailLaser/", env!("CARGO_PKG_VERSION"))));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let bearer = config.bearer_token.as_ref().map(|token| format!("Bearer {}", token.expose_secret()));
    let basic = || config.url.credentials().map(|it| format!("Basic {}", STANDARD.encode(it)));
    let authorization = bearer.or_else(basic).and_then(|text| HeaderValue::from_str(&text).ok());
    if let Some(mut authorization) = authorization {
        authorization.set_sensitive(true);
        headers.insert(AUTHORIZATION, authorization);
    }
    headers
}

/// Reads an answer's body, for what it explains and for its connection's sake. The status has
/// decided: neither the size of the body nor its time can take the mail's delivery back.
async fn read(mut answer: Response<Incoming>) -> Vec<u8> {
    let mut body = Vec::new();
    let read = async {
        while let Some(Ok(frame)) = answer.body_mut().frame().await {
            let Ok(chunk) = frame.into_data() else { continue };
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

fn header<'a>(answer: &'a Response<Incoming>, name: &HeaderName) -> Option<&'a str> {
    answer.headers().get(name)?.to_str().ok()
}

/// The wait that `Retry-After` asks for: seconds, or until a date in one of the three forms of RFC 9110 section 5.6.7. A
/// date with another time zone than GMT is none of them, and is understood all the same.
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Longer than a number can say is very long.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let mail_date = || Some(SystemTime::from(jiff::fmt::rfc2822::parse(text).ok()?.timestamp()));
    let date = httpdate::parse_http_date(text).ok().or_else(mail_date)?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// The whole chain of an error in one line, as far as it is for people: a certificate may have thousands of names, which
/// are all told. None of its links holds the address.
fn describe(error: &SendError) -> String {
    let mut text = if error.is_connect() { "cannot connect" } else { "the request failed" }.to_owned();
    let mut source = error.source();
    while let Some(error) = source {
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    match text.char_indices().nth(ERROR_CHARACTERS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_seconds_or_until_a_date() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_717);
        for (text, seconds) in [
            ("120", Some(120)),
            (" 120 ", Some(120)),
            ("0", Some(0)),
            ("99999999999999999999999", Some(u64::MAX)),
            // The three forms of RFC 9110, whose examples these are.
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(60)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(60)),
            ("Sun Nov  6 08:49:37 1994", Some(60)),
            // A day of two digits, and a century that two digits do not say.
            ("Wednesday, 16-Nov-94 08:48:37 GMT", Some(10 * 86_400)),
            ("Wed Nov 16 08:48:37 1994", Some(10 * 86_400)),
            ("Friday, 06-Nov-26 08:48:37 GMT", Some(11_688 * 86_400)),
            ("Sun, 06 Nov 1994 09:49:37 +0100", Some(60)),
            ("Sun, 06 Nov 1994 08:48:00 GMT", Some(0)),
            ("Sunday, 06-Nov-94 08:48:00 GMT", Some(0)),
            ("Sun Nov  6 08:48:00 1994", Some(0)),
            ("", None),
            (" ", None),
            ("soon", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("1 2", None),
            ("Sun Nov 31 08:49:37 1994", None),
            ("Sunday, 06-Nov-94 25:49:37 GMT", None),
            ("Sunday, 06-Nov-94", None),
            ("Sun Nov  6 08:49:37", None),
            ("Sun Nov  6 08:49:37 1994\u{e9}", None),
            ("\u{e9}\u{e9}\u{e9}, 06 Nov 1994 08:49:37 GMT", None),
        ] {
            assert_eq!(retry_after(text, now), seconds.map(Duration::from_secs), "{text}");
        }
    }
}
