//! A webhook that means ill, or is somebody else's: its answers cost bounded time and memory.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use crate::harness::{Daemon, RawWebhook, Webhook, eventually};

use super::{MEBIBYTE, SECOND, settle};

type Answer = Box<dyn Fn(&mut TcpStream) -> std::io::Result<()> + Send + Sync>;

fn says(bytes: impl Into<Vec<u8>>) -> Answer {
    let bytes = bytes.into();
    Box::new(move |stream| stream.write_all(&bytes))
}

/// Says `head`, and then `piece` until nobody listens any more.
fn goes_on(head: &'static str, piece: impl Into<Vec<u8>>) -> Answer {
    let piece = piece.into();
    Box::new(move |stream| {
        stream.write_all(head.as_bytes())?;
        loop {
            stream.write_all(&piece)?;
        }
    })
}

/// Says `text` a byte a second.
fn trickles(text: &'static str) -> Answer {
    Box::new(move |stream| {
        for byte in text.bytes() {
            stream.write_all(&[byte])?;
            std::thread::sleep(SECOND);
        }
        Ok(())
    })
}

/// 100 MB of zeros, as `gzip` packs them, are 100 KB; here is the start of that.
fn gzip_bomb() -> Vec<u8> {
    let mut answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1000010\r\n\r\n\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec();
    answer.resize(answer.len() + 1_000_000, 0);
    answer
}

#[test]
fn hostile_answers_cost_bounded_time_and_memory() {
    let answers: Vec<(&str, bool, Answer)> = vec![
        // The status has decided: it is an answer of 2xx, whatever follows it.
        (
            "a body of 100 MB",
            true,
            goes_on("HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n", vec![b'x'; 65_536]),
        ),
        ("a body without end", true, goes_on("HTTP/1.1 200 OK\r\n\r\n", vec![b'x'; 65_536])),
        (
            "a chunk without end",
            true,
            goes_on("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\n", vec![b'x'; 65_536]),
        ),
        (
            "chunks of nothing but extensions",
            true,
            goes_on("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", "x".repeat(1_000)),
        ),
        ("a body that is cut off", true, says("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx")),
        ("a gzip bomb", true, says(gzip_bomb())),
        (
            "an answer before it",
            true,
            says("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ),
        ("a failure with a body of 100 MB", false, goes_on("HTTP/1.1 500 Oops\r\n\r\n", vec![b'x'; 65_536])),
        ("a head that trickles", false, trickles("HTTP/1.1 200 OK\r\n\r\n")),
        ("silence", false, Box::new(|stream| stream.read(&mut [0]).map(drop))),
        ("no answer", false, says("")),
        ("a head that is cut off", false, says("HTTP/1.1 200 OK\r\nContent-Le")),
        ("garbage", false, says((0..=255u8).cycle().take(100_000).collect::<Vec<u8>>())),
        ("another protocol", false, says("220 mx.example.com ESMTP\r\n")),
        ("a flood of 1xx", false, goes_on("", "HTTP/1.1 100 Continue\r\n\r\n".repeat(100))),
        (
            "a flood of early hints",
            false,
            goes_on("", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(100)),
        ),
        ("a header without end", false, goes_on("HTTP/1.1 200 OK\r\nX-Long: ", "x".repeat(65_536))),
        ("headers without end", false, goes_on("HTTP/1.1 200 OK\r\n", "X-More: x\r\n".repeat(1_000))),
        ("a status without end", false, goes_on("HTTP/1.1 200 ", "x".repeat(65_536))),
        ("a status that is none", false, says("HTTP/1.1 99999 What\r\n\r\n")),
        ("two lengths", false, says("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx")),
        (
            "a switch of protocols",
            false,
            says("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        ),
    ];
    let answers = Arc::new(answers);
    let script = Arc::clone(&answers);
    let webhook = RawWebhook::answering(move |number, mut stream| {
        if let Some((.., answer)) = script.get(number) {
            // It ends when the daemon hangs up, which is what is expected of it.
            let _ = answer(&mut stream);
        }
    });
    let daemon = Daemon::posting_to(
        &webhook.url(),
        &[
            ("MAIL_LASER_WEBHOOK_TIMEOUT", "1"),
            ("MAIL_LASER_WEBHOOK_MAX_RETRIES", "0"),
            ("MAIL_LASER_CIRCUIT_BREAKER_THRESHOLD", "1000"),
        ],
    );
    let before = daemon.peak_bytes();
    let mut client = daemon.client();
    for (number, (name, delivered, _)) in answers.iter().enumerate() {
        let begun = Instant::now();
        assert_eq!(client.mail("support@example.com", "\r\n").0, 250);
        settle(&daemon, number + 1);
        assert!(begun.elapsed() < 5 * SECOND, "{name}: {:?}", begun.elapsed());
        let accepted = &daemon.logged("mail accepted")[number]["id"];
        let was_delivered = daemon.logged("mail delivered").iter().any(|record| record["id"] == *accepted);
        assert_eq!(was_delivered, *delivered, "{name}: {}", daemon.log_text());
        assert!(daemon.is_healthy(), "{name}");
    }
    assert_eq!(webhook.connections(), answers.len(), "one attempt each, and no connection is used again");
    let grown = daemon.peak_bytes() - before;
    assert!(grown < 20 * MEBIBYTE, "{grown} bytes");
}

/// Server-side request forgery: a redirect would take the mail, and the token, to wherever the webhook
/// says, such as the metadata service of a cloud.
#[test]
fn redirects_are_not_followed() {
    let trap = Webhook::start();
    for (status, location) in [
        (301, trap.url()),
        (302, trap.url()),
        (303, trap.url()),
        (307, trap.url()),
        (308, trap.url()),
        (307, "http://169.254.169.254/latest/meta-data/".to_owned()),
        (308, "file:///etc/passwd".to_owned()),
        (307, "/elsewhere".to_owned()),
    ] {
        let head =
            format!("HTTP/1.1 {status} Elsewhere\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        let webhook = RawWebhook::answering(move |_, mut stream| {
            let _ = stream.write_all(head.as_bytes());
        });
        let variables =
            [("MAIL_LASER_WEBHOOK_MAX_RETRIES", "0"), ("MAIL_LASER_WEBHOOK_BEARER_TOKEN", "token")];
        let daemon = Daemon::posting_to(&webhook.url(), &variables);
        assert_eq!(daemon.client().mail("support@example.com", "\r\n").0, 250);
        settle(&daemon, 1);
        let failed = daemon.wait_for_log("delivery attempt failed", 1);
        assert!(failed[0]["reason"].to_string().contains(&status.to_string()), "{status}: {failed:?}");
        assert_eq!(webhook.connections(), 1);
        let series = "mail_laser_webhook_attempts_total{route=\"default\",result=\"3xx\"}";
        eventually("it is counted", || (daemon.metric(series) == Some(1.0)).then_some(()));
    }
    assert!(trap.received().is_empty());
}
