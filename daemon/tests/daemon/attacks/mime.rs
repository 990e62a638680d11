//! Mails that are cheap to write and meant to be costly to read.

use crate::harness::{Daemon, Webhook, eventually};

use super::{MEBIBYTE, settle, survive, survive_beside};

/// What the daemon may take at its peak: the budget of these tests, and what the process needs besides.
const PEAK_MAX: u64 = 160 * MEBIBYTE;

/// A daemon with room for mails of some 25 MB, that is to say a budget of five times that much, which
/// puts every header into the payload.
fn daemon(webhook: &Webhook) -> Daemon {
    let variables = [
        ("MAIL_LASER_HEADER_PREFIX", "x-,references,received"),
        ("MAIL_LASER_MAX_MESSAGE_SIZE", "25000000"),
        ("MAIL_LASER_MEMORY_MAX_BYTES", "134217728"),
        // The mails of others are many.
        ("RUST_LOG", "info"),
    ];
    Daemon::start(webhook, &variables)
}

/// Sends each mail; all of them are delivered, or refused for good.
fn all_survive(mails: impl IntoIterator<Item = (&'static str, String)>) -> Vec<(&'static str, u16)> {
    let webhook = Webhook::start();
    let daemon = daemon(&webhook);
    let mut answers = Vec::new();
    for (name, content) in mails {
        let (code, text) = survive(&daemon, name, content.as_bytes());
        assert!(code == 250 || (500..600).contains(&code), "{name}: {text}");
        answers.push((name, code));
    }
    let accepted = answers.iter().filter(|(_, code)| *code == 250).count();
    settle(&daemon, accepted);
    assert!(daemon.logged("panic").is_empty(), "{}", daemon.log_text());
    assert!(daemon.peak_bytes() < PEAK_MAX, "{} bytes at the peak", daemon.peak_bytes());
    let hostile = webhook.received().iter().filter(|request| request.json["subject"] != "other").count();
    assert_eq!(hostile, accepted, "each is delivered once");
    answers
}

fn multipart(boundary: &str, body: &str) -> String {
    format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\r\n\r\n{body}")
}

#[test]
fn header_floods() {
    let many = |header: &str, count| header.repeat(count) + "Subject: flood\r\n\r\n";
    let answers = all_survive([
        ("100,000 headers", many("X-Flood: yes\r\n", 100_000)),
        ("a header of 10 MB", format!("X-Long: {}\r\n\r\n", "x".repeat(10_000_000))),
        ("a folded header of 10 MB", format!("X-Long: x\r\n{}\r\n", " x\r\n".repeat(2_500_000))),
        ("a header of empty lines that are none", format!("X-Long: x\r\n{}\r\n", " \r\n".repeat(1_000_000))),
        ("a name of 1 MB", format!("X-{}: x\r\n\r\n", "x".repeat(1_000_000))),
        ("References of 1 MB", format!("References: {}\r\n\r\n", "<1@example.org> ".repeat(65_000))),
        ("a Message-ID of 1 MB", format!("Message-ID: <{}>\r\n\r\n", "x".repeat(1_000_000))),
        ("lines without a colon", "no header\r\n".repeat(100_000)),
        ("colons without a name", format!("Subject: x\r\n{}\r\n", ": x\r\n".repeat(100_000))),
        ("100,000 Received headers", many("Received: from a by b; now\r\n", 100_000)),
    ]);
    let refused: Vec<_> = answers.iter().filter(|(_, code)| *code != 250).collect();
    assert_eq!(refused, [&("100,000 Received headers", 554)]);
}

/// Where decoders go back to the start: each of these took other parsers time that grows with the square
/// of its length.
#[test]
fn quadratic_headers() {
    let answers = all_survive([
        ("encoded words that do not end", format!("Subject: {}\r\n\r\n", "=?".repeat(500_000))),
        ("encoded words that nearly do", format!("Subject: {}\r\n\r\n", "=?utf-8?q?".repeat(100_000))),
        ("100,000 encoded words", format!("Subject: x {}\r\n\r\n", "=?utf-8?q?a?=\r\n ".repeat(100_000))),
        ("nested comments", format!("From: {}a@example.org\r\n\r\n", "(".repeat(1_000_000))),
        (
            "closed nested comments",
            format!("From: {}{}<a@b.example>\r\n\r\n", "(".repeat(500_000), ")".repeat(500_000)),
        ),
        ("quotes", format!("From: {}<a@b.example>\r\n\r\n", "\"\\\"".repeat(300_000))),
        ("100,000 groups", format!("From: {}\r\n\r\n", "a:b@c.example;,".repeat(100_000))),
        ("a million continuations", {
            let parameters: String = (0..1_000_000).map(|number| format!(";a*{number}=x")).collect();
            format!("Content-Type: text/x{parameters}\r\n\r\n")
        }),
        ("continuations of a file name", {
            let parameters: String =
                (0..100_000).map(|number| format!(";\r\n filename*{number}*=%41")).collect();
            format!("Content-Disposition: attachment{parameters}\r\n\r\n")
        }),
        ("semicolons", format!("Content-Type: text/plain{}\r\n\r\n", ";".repeat(1_000_000))),
    ]);
    assert!(answers.iter().all(|(_, code)| *code == 250), "{answers:?}");
}

#[test]
fn multiparts_without_end() {
    let nested = {
        let open: String = (0..1_000)
            .map(|level| format!("Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n"))
            .collect();
        format!("{open}\r\ndeep\r\n")
    };
    let same = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n".repeat(10_000);
    let long = "b".repeat(1_000_000);
    let answers = all_survive([
        ("1,000 levels", nested),
        ("10,000 levels of one boundary", same),
        ("levels of digests", "Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\n".repeat(1_000)),
        ("100,000 parts", multipart("b", &"--b\r\n\r\nx\r\n".repeat(100_000))),
        ("100,000 empty parts", multipart("b", &"--b\r\n".repeat(100_000))),
        ("a boundary of 1 MB", multipart(&long, &format!("--{long}\r\n\r\nx\r\n--{long}--\r\n"))),
        (
            "lookalike boundaries",
            multipart("aaaaaaaaaaaaaaaa", &"--aaaaaaaaaaaaaaab\r\n--aaaaaaaaaaaaaaaaa\r\n".repeat(200_000)),
        ),
        ("boundaries within lines", multipart("b", &"x--b--b--b".repeat(500_000))),
        ("a boundary that is empty", multipart("", &"--\r\n".repeat(500_000))),
        ("nested lookalikes", {
            let levels: String = (1..50)
                .map(|level| {
                    let boundary = "a".repeat(level);
                    format!("Content-Type: multipart/mixed; boundary={boundary}\r\n\r\n--{boundary}\r\n")
                })
                .collect();
            levels + &"--aaa\r\n\r\n--aa\r\n\r\n".repeat(50_000)
        }),
    ]);
    assert!(answers.iter().all(|(_, code)| *code == 250), "{answers:?}");
}

/// Nothing in a mail is unpacked, but its text may become larger: up to six times in JSON, and three
/// times where it is no UTF-8.
#[test]
fn expansions_stay_within_the_budget() {
    const BYTES: usize = 1_000_000;
    let text = |encoding: &str| {
        format!("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n")
    };
    let file = "Content-Type: application/zip\r\nContent-Transfer-Encoding: base64\r\n\r\n";
    for (memory, name, header, body, code) in [
        ("8388608", "control characters", text("binary"), vec![1; BYTES], 250),
        ("7000000", "control characters beyond the memory", text("binary"), vec![1; BYTES], 552),
        ("8388608", "octets that are no UTF-8", text("binary"), vec![0xff; BYTES / 5], 250),
        (
            "8388608",
            "control characters in base64",
            text("base64"),
            "AQEB".repeat(BYTES / 4).into_bytes(),
            250,
        ),
        (
            "8388608",
            "a file that is too large unpacked",
            file.to_owned(),
            "UEsD".repeat(BYTES / 4).into_bytes(),
            552,
        ),
    ] {
        let webhook = Webhook::start();
        let daemon = Daemon::start(
            &webhook,
            &[
                ("MAIL_LASER_MAX_MESSAGE_SIZE", "1300000"),
                ("MAIL_LASER_MAX_ATTACHMENT_SIZE", "500000"),
                ("MAIL_LASER_MEMORY_MAX_BYTES", memory),
            ],
        );
        let before = daemon.peak_bytes();
        // While there is no memory left, others are told to come again.
        let content = [header.as_bytes(), &body].concat();
        let (answer, text) = survive_beside(&[250, 451], &daemon, name, &content);
        assert_eq!(answer, code, "{name}: {text}");
        assert!(code == 250 || text.contains("5.3.4"), "{name}: {text}");
        eventually("the memory is free again", || {
            (daemon.client().mail("support@example.com", "\r\n").0 == 250).then_some(())
        });
        let grown = daemon.peak_bytes() - before;
        assert!(grown < 25 * MEBIBYTE, "{name}: {grown} bytes");
    }
}
