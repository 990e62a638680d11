//! The PROXY protocol, versions 1 and 2: who is behind a load balancer.

use std::io;
use std::net::SocketAddr;

use ppp::{HeaderResult, v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Octets of a version 1 header, its CRLF included: section 2.1 of the protocol.
pub const V1_BYTES_MAX: usize = 107;

/// Octets of a version 2 header that say how long it is: section 2.2.
pub const V2_BYTES_FIXED: usize = 16;

/// Octets of a version 2 header behind these: addresses and what a load balancer adds. The protocol
/// would allow 64 KiB; real ones stay below 500.
pub const V2_BYTES_VARIABLE_MAX: usize = 4 * 1024;

/// What begins a version 2 header, and is as long as the shortest beginning of a version 1 header.
pub const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Reads a header, and not one octet more. `None` is a connection of the load balancer's own, such as
/// a health check.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] when there is no header, or one that cannot be read.
pub async fn read_header(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut header = vec![0; V2_SIGNATURE.len()];
    stream.read_exact(&mut header).await?;
    if header == V2_SIGNATURE {
        header.resize(V2_BYTES_FIXED, 0);
        stream.read_exact(&mut header[V2_SIGNATURE.len()..]).await?;
        let variable = usize::from(u16::from_be_bytes([header[14], header[15]]));
        if variable > V2_BYTES_VARIABLE_MAX {
            return Err(invalid());
        }
        header.resize(V2_BYTES_FIXED + variable, 0);
        stream.read_exact(&mut header[V2_BYTES_FIXED..]).await?;
    } else {
        while !header.ends_with(b"\r\n") {
            if header.len() == V1_BYTES_MAX {
                return Err(invalid());
            }
            header.push(stream.read_u8().await?);
        }
    }
    source(&header)
}

/// The client's address in a whole header.
fn source(header: &[u8]) -> io::Result<Option<SocketAddr>> {
    match HeaderResult::parse(header) {
        HeaderResult::V1(Ok(header)) => Ok(match header.addresses {
            v1::Addresses::Tcp4(ip) => Some((ip.source_address, ip.source_port).into()),
            v1::Addresses::Tcp6(ip) => Some((ip.source_address, ip.source_port).into()),
            v1::Addresses::Unknown => None,
        }),
        HeaderResult::V2(Ok(header)) if header.command == v2::Command::Local => Ok(None),
        HeaderResult::V2(Ok(header)) => Ok(match header.addresses {
            v2::Addresses::IPv4(ip) => Some((ip.source_address, ip.source_port).into()),
            v2::Addresses::IPv6(ip) => Some((ip.source_address, ip.source_port).into()),
            v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
        }),
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => Err(invalid()),
    }
}

fn invalid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no PROXY header")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The address, or `local` or `invalid`, and what is left of the input.
    fn read(input: &[u8]) -> (String, &[u8]) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut rest = input;
        let peer = match runtime.block_on(read_header(&mut rest)) {
            Ok(Some(peer)) => peer.to_string(),
            Ok(None) => "local".to_owned(),
            Err(_) => "invalid".to_owned(),
        };
        (peer, rest)
    }

    fn v2(command_and_family: [u8; 2], body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&V2_SIGNATURE[..], &command_and_family, &length, body, b"EHLO c\r\n"].concat()
    }

    #[test]
    fn headers_of_both_versions_are_read_to_their_end() {
        let ipv4 = [192, 0, 2, 7, 10, 0, 0, 1, 0x30, 0x39, 0, 25];
        let mut ipv6 = [0u8; 36];
        ipv6[..2].copy_from_slice(&[0x20, 1]);
        ipv6[15] = 9;
        ipv6[33] = 25;
        let with_tlv = [&ipv4[..], &[4, 0, 1, 0]].concat();
        for (input, peer) in [
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 25\r\nEHLO c\r\n".to_vec(), "192.0.2.7:12345"),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 12345 25\r\nEHLO c\r\n".to_vec(), "[2001:db8::7]:12345"),
            (b"PROXY UNKNOWN\r\nEHLO c\r\n".to_vec(), "local"),
            (v2([0x21, 0x11], &ipv4), "192.0.2.7:12345"),
            (v2([0x21, 0x11], &with_tlv), "192.0.2.7:12345"),
            (v2([0x21, 0x21], &ipv6), "[2001::9]:25"),
            (v2([0x20, 0x00], &[]), "local"),
        ] {
            let (found, rest) = read(&input);
            assert_eq!((found.as_str(), rest), (peer, &b"EHLO c\r\n"[..]), "{input:?}");
        }
    }

    #[test]
    fn anything_else_is_no_header() {
        let endless = format!("PROXY TCP4 {}", "1".repeat(200));
        for input in [
            &b"EHLO client.example.com\r\n"[..],
            b"PROXY TCP4 192.0.2.7 10.0.0.1 12345\r\n",
            b"PROXY TCP4 300.0.2.7 10.0.0.1 12345 25\r\n",
            b"PROXY TCP4 192",
            b"",
            endless.as_bytes(),
            &v2([0x21, 0x11], &[1, 2, 3]),
            &v2([0x21, 0x11], &[0; 5_000]),
            &v2([0x31, 0x11], &[0; 12]),
        ] {
            assert_eq!(read(input).0, "invalid", "{input:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_header_or_none(input in proptest::collection::vec(any::<u8>(), 0..200), is_v2: bool) {
            let input = if is_v2 { [&V2_SIGNATURE[..], &input].concat() } else { input };
            let _ = read(&input);
        }
    }
}
