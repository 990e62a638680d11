//! Trace information: RFC 5321 section 4.4. Pure.

use std::net::IpAddr;
use std::time::SystemTime;

/// What the `Received` header of a mail says.
#[derive(Debug)]
pub struct Received<'r> {
    /// What the client called itself.
    pub client: &'r str,
    /// Where it is.
    pub peer: IpAddr,
    /// Who we are.
    pub hostname: &'r str,
    /// The protocol: RFC 3848.
    pub with: &'r str,
    /// Version and cipher of TLS.
    pub cipher: Option<&'r str>,
    /// The mail's id.
    pub id: &'r str,
    /// When its content had been received.
    pub at: SystemTime,
}

/// The value of the `Received` header.
#[must_use]
pub fn received(received: &Received<'_>) -> String {
    let Received { client, peer, hostname, with, cipher, id, at } = received;
    let peer = match peer.to_canonical() {
        IpAddr::V4(ip) => format!("[{ip}]"),
        IpAddr::V6(ip) => format!("[IPv6:{ip}]"),
    };
    let tls = cipher.map_or_else(String::new, |cipher| format!(" ({cipher})"));
    let at = jiff::Timestamp::try_from(*at).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let at = at.strftime("%a, %d %b %Y %H:%M:%S +0000");
    format!("from {client} ({peer}) by {hostname} with {with}{tls} id {id}; {at}")
}

/// How many servers the mail has passed: its `Received` headers (RFC 5321 section 6.3).
#[must_use]
pub fn hops(content: &[u8]) -> usize {
    const NAME: &[u8] = b"received:";
    let (mut rest, mut count) = (content, 0);
    while !rest.is_empty() && !rest.starts_with(b"\r\n") && !rest.starts_with(b"\n") {
        count += usize::from(rest.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)));
        rest = memchr::memchr(b'\n', rest).map_or(&[], |end| &rest[end + 1..]);
    }
    count
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn the_header_names_both_sides_the_protocol_and_the_time() {
        let mut header = Received {
            client: "client.example.org",
            peer: "::ffff:192.0.2.1".parse().unwrap(),
            hostname: "mx.example.com",
            with: "ESMTPS",
            cipher: Some("TLSv1.3 TLS13_AES_256_GCM_SHA384"),
            id: "01hf",
            at: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        };
        assert_eq!(
            received(&header),
            "from client.example.org ([192.0.2.1]) by mx.example.com with ESMTPS \
             (TLSv1.3 TLS13_AES_256_GCM_SHA384) id 01hf; Tue, 14 Nov 2023 22:13:20 +0000"
        );
        header.peer = "2001:db8::1".parse().unwrap();
        header.cipher = None;
        assert!(received(&header).contains("([IPv6:2001:db8::1]) by mx.example.com with ESMTPS id"));
    }

    #[test]
    fn hops_are_the_received_headers_of_the_mail_itself() {
        assert_eq!(hops(b"Received: a\r\n b\r\nRECEIVED: c\r\nX-Received: d\r\n\r\nReceived: e\r\n"), 2);
        assert_eq!(hops(b"\r\nReceived: e\r\n"), 0);
        assert_eq!(hops(b"Received: a"), 1);
    }
}
