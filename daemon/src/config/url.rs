//! The webhook's address, of which only scheme, host and port are ever shown.

use std::fmt;
use std::net::IpAddr;

use http::Uri;
use percent_encoding::percent_decode_str;
use url::{Host, Position, Url};

/// An address that mail may be posted to.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl {
    url: Url,
    /// What of it a request is made with.
    request: Uri,
}

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
            "https" => {}
            "http" if allow_http || is_loopback(&host) => {}
            "http" => return Err(WebhookUrlError::PlainHttp),
            _ => return Err(WebhookUrlError::Scheme),
        }
        // As its parts are written one after the other: no user, no fragment.
        let request = format!(
            "{}{}",
            url.origin().ascii_serialization(),
            &url[Position::BeforePath..Position::AfterQuery]
        );
        let request = request.parse().map_err(|_| WebhookUrlError::NotAUrl)?;
        Ok(Self { url, request })
    }

    /// What a request asks for: without user, password and fragment.
    #[must_use]
    pub fn request_uri(&self) -> &Uri {
        &self.request
    }

    /// The host, if it is an address.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self.url.host()? {
            Host::Domain(_) => None,
            Host::Ipv4(ip) => Some(ip.into()),
            Host::Ipv6(ip) => Some(ip.into()),
        }
    }

    /// Whether connections use TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Whether the address itself holds credentials.
    #[must_use]
    pub fn has_credentials(&self) -> bool {
        !self.url.username().is_empty() || self.url.password().is_some()
    }

    /// The user, a colon and the password, if the address holds them: RFC 7617 section 2.
    #[must_use]
    pub fn credentials(&self) -> Option<Vec<u8>> {
        let user = percent_decode_str(self.url.username());
        let password = percent_decode_str(self.url.password().unwrap_or_default());
        self.has_credentials().then(|| user.chain(*b":").chain(password).collect())
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
        f.write_str(&self.url.origin().ascii_serialization())
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
        assert_eq!(url.credentials().unwrap(), b"user:secret");
    }

    #[test]
    fn a_request_has_neither_user_nor_fragment() {
        for (text, request) in [
            ("https://a%20b:c%3A@api.example.com/in?key=1#top", "https://api.example.com/in?key=1"),
            ("https://api.example.com:443", "https://api.example.com/"),
            ("https://b\u{fc}cher.example/a b|c", "https://xn--bcher-kva.example/a%20b|c"),
            ("http://[::1]:8080/?q=\u{fc}", "http://[::1]:8080/?q=%C3%BC"),
        ] {
            let url = WebhookUrl::parse(text, false).unwrap();
            assert_eq!(url.request_uri().to_string(), request, "{text}");
        }
        let url = WebhookUrl::parse("https://a%20b:c%3A@api.example.com/", false).unwrap();
        assert_eq!(url.credentials().unwrap(), b"a b:c:");
        assert_eq!(WebhookUrl::parse("https://api.example.com/", false).unwrap().credentials(), None);
    }
}
