//! The webhook's address, of which only scheme, host and port are ever shown.

use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};

/// An address that mail may be posted to.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl(Url);

/// Why an address is not a [`WebhookUrl`]; finishes a sentence that begins with the variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WebhookUrlError {
    /// It does not parse, or has no host.
    #[error("is not a URL with a host")]
    NotAUrl,
    /// Neither http nor https.
    #[error("has a scheme that is neither https nor http")]
    Scheme,
    /// http to somewhere else.
    #[error("is plain http to a host that is not loopback")]
    PlainHttp,
}

impl WebhookUrl {
    /// Parses an address. Plain http is for loopback, unless `allow_http`.
    ///
    /// # Errors
    /// [`WebhookUrlError`] says what is wrong, without the address: it may hold credentials.
    pub fn parse(text: &str, allow_http: bool) -> Result<Self, WebhookUrlError> {
        let url = Url::parse(text).map_err(|_| WebhookUrlError::NotAUrl)?;
        let host = url.host().ok_or(WebhookUrlError::NotAUrl)?;
        match url.scheme() {
            "https" => Ok(Self(url)),
            "http" if allow_http || is_loopback(&host) => Ok(Self(url)),
            "http" => Err(WebhookUrlError::PlainHttp),
            _ => Err(WebhookUrlError::Scheme),
        }
    }

    /// The whole address, for the request alone.
    #[must_use]
    pub fn expose(&self) -> &Url {
        &self.0
    }

    /// Whether the address itself holds credentials.
    #[must_use]
    pub fn has_credentials(&self) -> bool {
        !self.0.username().is_empty() || self.0.password().is_some()
    }
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => name.eq_ignore_ascii_case("localhost"),
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => IpAddr::V6(*ip).to_canonical().is_loopback(),
    }
}

impl fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.origin().ascii_serialization())
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_stays_on_the_host_unless_it_is_allowed() {
        for (text, allowed) in [
            ("https://api.example.com/inbound", Ok(())),
            ("http://localhost:3000/", Ok(())),
            ("http://127.8.8.8/", Ok(())),
            ("http://[::1]:1/", Ok(())),
            ("http://[::ffff:127.0.0.1]:1/", Ok(())),
            ("http://api.example.com/", Err(WebhookUrlError::PlainHttp)),
            ("http://localhost.example.com/", Err(WebhookUrlError::PlainHttp)),
            ("http://10.0.0.1/", Err(WebhookUrlError::PlainHttp)),
            ("ftp://example.com/", Err(WebhookUrlError::Scheme)),
            ("api.example.com", Err(WebhookUrlError::NotAUrl)),
            ("mailto:a@example.com", Err(WebhookUrlError::NotAUrl)),
        ] {
            assert_eq!(WebhookUrl::parse(text, false).map(|_| ()), allowed, "{text}");
        }
        assert!(WebhookUrl::parse("http://webhook.helpdesk.svc:8080/", true).is_ok());
    }

    #[test]
    fn user_path_and_query_are_never_shown() {
        let url = WebhookUrl::parse("https://user:secret@api.example.com:8443/token?key=1", false).unwrap();
        assert_eq!(url.to_string(), "https://api.example.com:8443");
        assert_eq!(format!("{url:?}"), "WebhookUrl(https://api.example.com:8443)");
        assert!(url.has_credentials());
    }
}
