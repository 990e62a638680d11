//! The header of a load balancer, versions 1 and 2 of the PROXY protocol.
//!
//! - A header ends where it says: what follows it is left for SMTP, and does not change what it says.
//! - Less than a header is none, and no header is longer than its bound.
//! - The addresses of a header that is written by the book are those that are read.
#![no_main]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use futures::FutureExt;
use libfuzzer_sys::fuzz_target;
use mail_laser::smtp::proxy::{
    V1_BYTES_MAX, V2_BYTES_FIXED, V2_BYTES_VARIABLE_MAX, V2_SIGNATURE, read_header,
};

/// What is read, `Err` for no header, and how many octets of the input it took.
fn read(input: &[u8]) -> (Result<Option<SocketAddr>, ()>, usize) {
    let mut rest = input;
    // Bytes in memory are never waited for.
    let header = read_header(&mut rest).now_or_never().expect("an answer at once");
    (header.map_err(|_| ()), input.len() - rest.len())
}

fuzz_target!(|data: &[u8]| {
    let signed = [&V2_SIGNATURE[..], data].concat();
    let in_words = [b"PROXY ", data].concat();
    for input in [data, &signed, &in_words] {
        check(input);
    }
    if let Some((source, _)) = data.split_first_chunk() {
        check_written(source);
    }
});

fn check(input: &[u8]) {
    let (header, taken) = read(input);
    let bound =
        if input.starts_with(V2_SIGNATURE) { V2_BYTES_FIXED + V2_BYTES_VARIABLE_MAX } else { V1_BYTES_MAX };
    assert!(taken <= bound, "{taken} octets were taken");
    if header.is_err() {
        return;
    }
    let whole = &input[..taken];
    assert_eq!(read(whole), (header, taken), "the header depends on what follows it");
    assert_eq!(read(&[whole, b"\r\nEHLO c\r\n"].concat()), (header, taken), "it takes what follows it");
    for length in 0..taken {
        assert_eq!(read(&whole[..length]).0, Err(()), "{length} of {taken} octets are a header");
    }
    assert_eq!(whole.starts_with(b"PROXY "), !whole.starts_with(V2_SIGNATURE));
}

/// A header by the book for a client at this address and port.
fn check_written(client: &[u8; 18]) {
    let (ip, port) = client.split_at(16);
    let v6 = Ipv6Addr::from(<[u8; 16]>::try_from(ip).unwrap());
    let v4 = Ipv4Addr::new(ip[0], ip[1], ip[2], ip[3]);
    let port = u16::from_be_bytes([port[0], port[1]]);

    let words = format!("PROXY TCP4 {v4} 192.0.2.1 {port} 25\r\n");
    assert_eq!(read(words.as_bytes()), (Ok(Some((v4, port).into())), words.len()));
    let words = format!("PROXY TCP6 {v6} 2001:db8::1 {port} 25\r\n");
    assert_eq!(read(words.as_bytes()), (Ok(Some((v6, port).into())), words.len()));

    let binary = |family: u8, source: &[u8], target: &[u8]| {
        let addresses = [source, target, &port.to_be_bytes(), &25_u16.to_be_bytes()].concat();
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [&V2_SIGNATURE[..], &[0x21, family], &length, &addresses].concat()
    };
    let header = binary(0x11, &v4.octets(), &[192, 0, 2, 1]);
    assert_eq!(read(&header), (Ok(Some((v4, port).into())), header.len()));
    let header = binary(0x21, &v6.octets(), &[0; 16]);
    assert_eq!(read(&header), (Ok(Some((v6, port).into())), header.len()));
}
