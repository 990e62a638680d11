//! Lines that are too long, or do not end.

use crate::harness::{Client, Daemon, Webhook, eventually};

use super::MEBIBYTE;

const CHUNK: usize = 1024 * 1024;

/// 50 MB without a line end as a command: the session ends with `421` after a fraction of them.
#[test]
fn a_command_without_end_is_given_up() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let before = daemon.peak_bytes();
    let chunk = vec![b'x'; CHUNK];
    for first in ["", "MAIL FROM:<", "RCPT TO:<a@", "EHLO ", "BDAT 1", "\n", "\r"] {
        let mut client = daemon.client();
        client.send(first);
        let sent = (0..50).take_while(|_| client.try_send(&chunk).is_ok()).count();
        assert!(sent < 50, "{first:?}: the server goes on reading");
        // The reply may be lost: what was not read resets the connection.
    }
    let mut client = daemon.client();
    client.send(vec![b'x'; 100_000]);
    let (code, text) = client.reply();
    assert_eq!((code, text.contains("4.7.0")), (421, true), "{text}");
    assert!(client.is_closed());
    assert!(daemon.peak_bytes() < before + 10 * MEBIBYTE, "{} bytes", daemon.peak_bytes());
}

/// 50 MB without a line end as content: read to its end, not kept, and refused.
#[test]
fn content_without_a_line_end_is_bounded_by_the_size_limit() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_MAX_MESSAGE_SIZE", "1000000")]);
    let before = daemon.peak_bytes();
    let chunk = vec![b'x'; CHUNK];
    for first in ["", "Subject: ", "\r\n", "Subject: x\r\n ", "\r\n.", "\r\n\n.\n"] {
        let mut client = daemon.client();
        client.begin_mail("support@example.com");
        client.send(first);
        for _ in 0..50 {
            client.send(&chunk);
        }
        client.send("\r\n.\r\n");
        assert_eq!(client.reply().0, 552, "{first:?}");
        assert_eq!(client.ask("NOOP").0, 250);
    }
    let mut client = daemon.client();
    client.envelope("support@example.com");
    client.send(format!("BDAT {}\r\n", 50 * CHUNK));
    for _ in 0..50 {
        client.send(&chunk);
    }
    assert_eq!(client.reply().0, 552);
    assert!(daemon.peak_bytes() < before + 10 * MEBIBYTE, "{} bytes", daemon.peak_bytes());
    assert!(webhook.received().is_empty());
}

/// A line of content may be as long as the mail: RFC 5321 section 4.5.3.1.6 asks for 1000 octets, and
/// senders that do not wrap are many.
#[test]
fn a_long_line_of_content_arrives_whole() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let line = "x".repeat(5_000_000);
    assert_eq!(daemon.client().mail("support@example.com", &format!("\r\n{line}\r\n")).0, 250);
    assert_eq!(webhook.wait_for(1)[0].json["body"].as_str().map(str::len), Some(line.len() + 2));
}

/// Octets that are no mail at all, such as a TLS handshake or a file.
#[test]
fn binary_input_is_sent_away() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = Client::connect(daemon.smtp);
    assert_eq!(client.reply().0, 220);
    let _ = client.try_send((0..=255u8).cycle().take(500_000).collect::<Vec<u8>>());
    eventually("it is sent away", || client.try_send("x").is_err().then_some(()));
    assert_eq!(daemon.client().mail("support@example.com", "\r\n").0, 250);
    assert!(daemon.logged("session ended by a panic").is_empty());
}
