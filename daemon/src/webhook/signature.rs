//! Signatures of requests, by which a receiver knows that the daemon made them. Pure.
//!
//! Two schemes at once: `X-MailLaser-Timestamp` with `X-MailLaser-Signature-256`, and the headers of Standard
//! Webhooks (<https://www.standardwebhooks.com>), which carry a signature by each secret while they rotate.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};
use ring::hmac::{Context, HMAC_SHA256, Key};
use secrecy::{ExposeSecret, SecretString};

/// What secrets of Standard Webhooks begin with; Base64 follows.
const PREFIX: &str = "whsec_";

/// Secrets that requests are signed with.
#[derive(Clone)]
pub(super) struct Signer {
    /// That of our own scheme: the newest secret, as it is written.
    own: Key,
    /// Those of Standard Webhooks, the newest first.
    standard: Vec<Key>,
}

impl Signer {
    /// Signs with these secrets, the newest first; `None` without any.
    #[must_use]
    pub(super) fn new(secrets: &[SecretString]) -> Option<Self> {
        let own = key(secrets.first()?.expose_secret().as_bytes());
        let standard = secrets.iter().map(|secret| standard_key(secret.expose_secret())).collect();
        Some(Self { own, standard })
    }

    /// The headers that sign a request with this key and body at this time, in seconds since 1970.
    #[must_use]
    pub(super) fn headers(&self, id: &str, seconds: u64, body: &[u8]) -> Vec<(HeaderName, HeaderValue)> {
        let own = signed(&self.own, &[seconds.to_string().as_bytes(), b".", body]);
        let own = own.iter().fold("sha256=".to_owned(), |mut text, byte| {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        });
        let standard = self.standard.iter().map(|key| {
            let tag = signed(key, &[id.as_bytes(), b".", seconds.to_string().as_bytes(), b".", body]);
            format!("v1,{}", STANDARD.encode(tag))
        });
        let standard = standard.collect::<Vec<_>>().join(" ");
        let headers = [
            ("x-maillaser-timestamp", seconds.to_string()),
            ("x-maillaser-signature-256", own),
            ("webhook-id", id.to_owned()),
            ("webhook-timestamp", seconds.to_string()),
            ("webhook-signature", standard),
        ];
        let headers = headers
            .into_iter()
            .map(|(name, value)| Some((HeaderName::from_static(name), HeaderValue::try_from(value).ok()?)));
        headers.flatten().collect()
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("secrets", &self.standard.len()).finish_non_exhaustive()
    }
}

fn key(secret: &[u8]) -> Key {
    Key::new(HMAC_SHA256, secret)
}

/// The octets that a secret of Standard Webhooks stands for; any other text stands for itself.
fn standard_key(secret: &str) -> Key {
    let decoded = secret.strip_prefix(PREFIX).and_then(|text| STANDARD.decode(text).ok());
    key(decoded.as_deref().unwrap_or(secret.as_bytes()))
}

fn signed(key: &Key, parts: &[&[u8]]) -> Vec<u8> {
    let mut context = Context::with_key(key);
    parts.iter().for_each(|part| context.update(part));
    context.sign().as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(headers: &[(HeaderName, HeaderValue)], name: &str) -> String {
        let found = headers.iter().find(|(known, _)| known == name).unwrap();
        found.1.to_str().unwrap().to_owned()
    }

    /// The example of the specification of Standard Webhooks.
    #[test]
    fn the_example_of_standard_webhooks_comes_out() {
        let secret = SecretString::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let signer = Signer::new(&[secret]).unwrap();
        let body = br#"{"test": 2432232314}"#;
        let headers = signer.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(header(&headers, "webhook-signature"), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(header(&headers, "webhook-id"), "msg_p5jXN8AQM9LWM0D4loKWxJek");
        assert_eq!(header(&headers, "webhook-timestamp"), "1614265330");
    }

    /// Against `printf '%s' '1700000000.{"a":1}' | openssl dgst -sha256 -hmac secret`.
    #[test]
    fn our_own_scheme_signs_time_and_body() {
        let secrets = ["secret", "older"].map(SecretString::from);
        let headers = Signer::new(&secrets).unwrap().headers("id", 1_700_000_000, br#"{"a":1}"#);
        assert_eq!(header(&headers, "x-maillaser-timestamp"), "1700000000");
        assert_eq!(
            header(&headers, "x-maillaser-signature-256"),
            "sha256=49f24e537407743fa4a0242bb63b94b9a47ee99cbbe071ccd8a22550ae411686"
        );
        assert_eq!(header(&headers, "webhook-signature").split(' ').count(), 2);
        assert!(Signer::new(&[]).is_none());
    }
}
