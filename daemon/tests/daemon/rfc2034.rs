//! Enhanced status codes on every reply that has one: RFC 2034, with the meanings of RFC 3463.

use crate::harness::{Client, Daemon, Webhook};

/// Section 4: the first digit is that of the reply, on each of its lines.
fn check(line: &str, (code, text): (u16, String), expected: (u16, &str)) {
    assert_eq!(code, expected.0, "{line}: {text}");
    for reply_line in text.lines() {
        let enhanced = reply_line[4..].split(' ').next().unwrap();
        if expected.1.is_empty() {
            let digits = enhanced.split('.').filter(|part| part.parse::<u16>().is_ok()).count();
            assert_ne!(digits, 3, "{line}: {text}");
        } else {
            assert_eq!(enhanced, expected.1, "{line}: {text}");
            assert_eq!(enhanced.as_bytes()[0], reply_line.as_bytes()[0], "{line}: {text}");
        }
    }
}

#[test]
fn every_reply_has_the_code_that_says_why() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_MAX_MESSAGE_SIZE", "1000")]);
    let mut client = Client::connect(daemon.smtp);
    // Section 4: neither the greeting, nor replies to HELO and EHLO, nor 3xx have one.
    check("", client.reply(), (220, ""));
    let long = format!("NOOP {}", "x".repeat(3_000));
    let local_part = format!("RCPT TO:<{}@example.com>", "x".repeat(65));
    for (line, code, enhanced) in [
        ("MAIL FROM:<a@example.org>", 503, "5.5.1"),
        ("MAIL FROM:<> SIZE=1", 503, "5.5.1"),
        ("EHLO", 501, "5.5.4"),
        ("HELO client.example.com", 250, ""),
        ("MAIL FROM:<> SIZE=1", 555, "5.5.4"),
        ("EHLO client.example.com", 250, ""),
        ("NOOP", 250, "2.0.0"),
        ("RSET", 250, "2.0.0"),
        ("HELP", 214, "2.0.0"),
        ("VRFY a", 252, "2.5.0"),
        ("EXPN a", 502, "5.5.1"),
        ("AUTH PLAIN", 502, "5.5.1"),
        ("NONSENSE", 500, "5.5.1"),
        ("NOOP\u{1}", 500, "5.5.2"),
        (&long, 500, "5.5.6"),
        ("MAIL FROM:<a@example.org> SIZE=1001", 552, "5.3.4"),
        ("MAIL FROM:<\u{fc}@example.org>", 553, "5.6.7"),
        ("MAIL FROM:<a>", 501, "5.1.7"),
        ("MAIL FROM:<a@example.org> RET=FULL", 555, "5.5.4"),
    ] {
        check(line, client.ask(line), (code, enhanced));
    }
    let mut client = daemon.client();
    for (line, code, enhanced) in [
        ("MAIL FROM:<a@example.org>", 250, "2.1.0"),
        ("MAIL FROM:<a@example.org>", 503, "5.5.1"),
        ("RCPT TO:<nobody@example.com>", 550, "5.1.1"),
        ("RCPT TO:<a..b@example.com>", 501, "5.1.3"),
        (&local_part, 501, "5.1.3"),
        ("RCPT TO:<support@example.com> NOTIFY=NEVER", 555, "5.5.4"),
        ("DATA", 554, "5.5.1"),
        ("BDAT 0", 554, "5.5.1"),
        ("RCPT TO:<support@example.com>", 250, "2.1.5"),
        ("DATA", 354, ""),
        ("x\r\n.", 250, "2.0.0"),
        ("STARTTLS", 220, "2.0.0"),
    ] {
        check(line, client.ask(line), (code, enhanced));
    }
    let mut client = daemon.client();
    client.begin_mail("support@example.com");
    check("too large", client.ask(&format!("{}\r\n.", "x".repeat(1_000))), (552, "5.3.4"));
    client.begin_mail("support@example.com");
    check("a loop", client.ask(&format!("{}\r\n.", "Received:\r\n".repeat(101))), (552, "5.3.4"));
    client.envelope("support@example.com");
    client.send("BDAT 1\r\nx");
    check("BDAT 1", client.reply(), (250, "2.0.0"));
    check("QUIT", client.ask("QUIT"), (221, "2.0.0"));
    check("BDAT x", daemon.client().ask("BDAT x"), (501, "5.5.4"));
    check("GET / HTTP/1.1", daemon.client().ask("GET / HTTP/1.1"), (554, "5.5.1"));
    check("floods", daemon.client().flood(|_| "NOOP".into()), (421, "4.7.0"));
    check("errors", daemon.client().flood(|_| "NONSENSE".into()), (421, "4.7.0"));
}

/// Those that need a daemon of their own.
#[test]
fn replies_of_limits_have_theirs() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_TLS", "require"), ("MAIL_LASER_IDLE_TIMEOUT", "1")]);
    let mut client = daemon.client();
    check("MAIL", client.ask("MAIL FROM:<>"), (530, "5.7.0"));
    check("silence", client.reply(), (421, "4.4.2"));
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_MAX_CONNECTIONS", "1")]);
    let mut client = daemon.client();
    check("", Client::connect(daemon.smtp).reply(), (421, "4.3.2"));
    client.begin_mail("support@example.com");
    check("a loop", client.ask(&format!("{}\r\n.", "Received:\r\n".repeat(101))), (554, "5.4.6"));
    daemon.signal(rustix::process::Signal::TERM);
    check("shutdown", client.reply(), (421, "4.3.2"));
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_MAX_CONCURRENT_PER_IP", "1")]);
    let _client = daemon.client();
    check("", Client::connect(daemon.smtp).reply(), (421, "4.7.0"));
}
