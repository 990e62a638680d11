//! What a file says of a route, as what a destination is made from. Pure.

use std::num::NonZeroU32;
use std::time::Duration;

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TE, TRANSFER_ENCODING, UPGRADE, USER_AGENT,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use mail_laser_routes::files::Webhook;
use secrecy::SecretString;

use crate::config::WebhookConfig;
use crate::config::url::{WebhookUrl, WebhookUrlError};
use mail_laser_routes::reach::Reach;
use mail_laser_routes::roots::certificates;

/// Headers that are the daemon's, or the connection's.
const RESERVED: [HeaderName; 8] =
    [CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TE, TRANSFER_ENCODING, UPGRADE, USER_AGENT];

/// What the names of headers begin with that say who made a request.
const RESERVED_PREFIXES: [&str; 3] = ["x-maillaser-", "webhook-", "idempotency-"];

/// Why a route cannot be used. It shows nothing that may be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum EntryError {
    /// Its address is none that mail may be posted to.
    #[error("its address {0}")]
    Url(#[from] WebhookUrlError),
    /// Its address is one of a network that it may not reach.
    #[error("its address is not a public one, and the gateway permits no others")]
    NotPublic,
    /// Its address is one that no route may reach.
    #[error(
        "its address is the host's own, link-local, multicast or a cloud's metadata, which no route may reach"
    )]
    NotInner,
    /// Its token cannot be sent.
    #[error("its bearer token is no token of visible ASCII")]
    Token,
    /// A request has one `Authorization`, and it has several.
    #[error(
        "it has more than one of a bearer token, a user in its address and a header Authorization, and a request has one \
         Authorization"
    )]
    Authorization,
    /// Its roots cannot be used.
    #[error("its CA bundle holds no certificate in PEM that can be used")]
    Roots,
    /// A header cannot be sent.
    #[error("the header {0} cannot be set, or has no value of visible ASCII")]
    Header(String),
    /// A number is out of its range.
    #[error("its {0} is out of range")]
    Number(&'static str),
}

/// The configuration of a route's destination.
pub(super) fn config(webhook: &Webhook) -> Result<WebhookConfig, EntryError> {
    let url = WebhookUrl::parse(&webhook.url, webhook.allow_http)?;
    let (reach, beyond) = match webhook.allow_private {
        true => (Reach::Inner, EntryError::NotInner),
        false => (Reach::Public, EntryError::NotPublic),
    };
    if url.ip().is_some_and(|ip| !reach.permits(ip)) {
        return Err(beyond);
    }
    let token = webhook.bearer_token.as_deref();
    if token.is_some_and(|token| token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic())) {
        return Err(EntryError::Token);
    }
    let headers = headers(webhook)?;
    let authorizations = [token.is_some(), url.has_credentials(), headers.contains_key(AUTHORIZATION)];
    if authorizations.into_iter().filter(|is_there| *is_there).count() > 1 {
        return Err(EntryError::Authorization);
    }
    let ca_roots = match &webhook.ca_bundle {
        None => Vec::new(),
        Some(pem) => certificates(pem.as_bytes()).ok_or(EntryError::Roots)?,
    };
    let number = |number, what| NonZeroU32::new(number).ok_or(EntryError::Number(what));
    Ok(WebhookConfig {
        url,
        bearer_token: token.map(SecretString::from),
        ca_roots,
        timeout: Duration::from_secs(number(webhook.timeout_seconds, "time-out")?.get().into()),
        retries_max: webhook.max_retries,
        breaker_threshold: number(webhook.circuit_breaker_threshold, "circuit breaker's threshold")?,
        breaker_reset: Duration::from_secs(
            number(webhook.circuit_breaker_reset_seconds, "circuit breaker's reset")?.get().into(),
        ),
        concurrency: number(webhook.concurrency, "concurrency")?,
        headers,
        signing_secrets: webhook
            .signing_secrets
            .iter()
            .map(|text| SecretString::from(text.as_str()))
            .collect(),
        reach,
    })
}

fn headers(webhook: &Webhook) -> Result<HeaderMap, EntryError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &webhook.headers {
        let refused = || EntryError::Header(name.clone());
        let parsed = HeaderName::try_from(name.as_str()).map_err(|_| refused())?;
        let is_reserved = RESERVED.contains(&parsed)
            || RESERVED_PREFIXES.iter().any(|prefix| parsed.as_str().starts_with(prefix));
        let mut value = HeaderValue::try_from(value.as_str()).map_err(|_| refused())?;
        if is_reserved || value.to_str().is_err() {
            return Err(refused());
        }
        value.set_sensitive(true);
        headers.insert(parsed, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webhook(change: impl FnOnce(&mut Webhook)) -> Webhook {
        let mut webhook = Webhook::at("https://api.example.com/in");
        change(&mut webhook);
        webhook
    }

    fn refusal(change: impl FnOnce(&mut Webhook)) -> Option<EntryError> {
        config(&webhook(change)).err()
    }

    #[test]
    fn addresses_of_inner_networks_are_refused_unless_they_are_allowed() {
        let allowed = |url: &str| {
            refusal(|it| {
                it.url = url.to_owned();
                it.allow_private = true;
            })
        };
        for url in ["https://10.0.0.1/", "https://[fd01::1]/", "https://[::ffff:10.0.0.1]/"] {
            assert_eq!(refusal(|it| it.url = url.to_owned()), Some(EntryError::NotPublic), "{url}");
            assert_eq!(allowed(url), None, "{url}");
        }
        for url in ["https://169.254.169.254/latest", "https://[::1]/", "https://[::ffff:127.0.0.1]/"] {
            assert_eq!(refusal(|it| it.url = url.to_owned()), Some(EntryError::NotPublic), "{url}");
            assert_eq!(allowed(url), Some(EntryError::NotInner), "{url}");
        }
        assert_eq!(refusal(|it| it.url = "https://8.8.8.8/".to_owned()), None);
        let plain = EntryError::Url(WebhookUrlError::PlainHttp);
        assert_eq!(refusal(|it| it.url = "http://api.example.com/".to_owned()), Some(plain));
    }

    #[test]
    fn headers_that_are_ours_cannot_be_set() {
        for (name, value) in [
            ("Host", "x"),
            ("content-type", "text/plain"),
            ("Idempotency-Key", "x"),
            ("X-MailLaser-Signature-256", "x"),
            ("Webhook-Id", "x"),
            ("X-Team", "line\r\nbreak"),
            ("X Team", "x"),
        ] {
            let refused = refusal(|it| drop(it.headers.insert(name.to_owned(), value.to_owned())));
            assert_eq!(refused, Some(EntryError::Header(name.to_owned())), "{name}");
        }
        let taken =
            config(&webhook(|it| drop(it.headers.insert("X-Team".to_owned(), "b".to_owned())))).unwrap();
        assert_eq!(taken.headers["x-team"], "b");
    }

    #[test]
    fn more_than_one_authorization_is_refused() {
        for token in [false, true] {
            for user in ["", "user@", "user:word@", ":word@"] {
                for header in [None, Some("Authorization"), Some("AUTHORIZATION")] {
                    let refused = refusal(|it| {
                        it.url = format!("https://{user}api.example.com/in");
                        it.bearer_token = token.then(|| "t0ken".to_owned());
                        it.headers.extend(header.map(|name| (name.to_owned(), "Basic eA==".to_owned())));
                    });
                    let count =
                        [token, !user.is_empty(), header.is_some()].into_iter().filter(|it| *it).count();
                    let expected = (count > 1).then_some(EntryError::Authorization);
                    assert_eq!(refused, expected, "{token} {user:?} {header:?}");
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_used_is_named_and_not_shown() {
        assert_eq!(refusal(|it| it.bearer_token = Some("a b".to_owned())), Some(EntryError::Token));
        assert_eq!(refusal(|it| it.ca_bundle = Some("no PEM".to_owned())), Some(EntryError::Roots));
        assert_eq!(refusal(|it| it.concurrency = 0), Some(EntryError::Number("concurrency")));
    }
}
