//! STARTTLS: RFC 3207, over a socket. What is sent behind the command is in `attacks/commands.rs`.

use crate::harness::{Daemon, Webhook};

#[test]
fn a_session_is_secured_and_the_mail_says_so() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_HEADER_PREFIX", "received")]);
    let (_, ehlo) = daemon.client().ask("EHLO client.example.com");
    assert!(ehlo.contains("STARTTLS"), "{ehlo}");

    let mut client = daemon.client().upgraded();
    let (_, ehlo) = client.ask("EHLO client.example.com");
    assert!(!ehlo.contains("STARTTLS"), "{ehlo}");
    assert_eq!(client.ask("STARTTLS").0, 503);
    assert_eq!(client.mail("support@example.com", "Subject: secured\r\n\r\n").0, 250);
    let received = webhook.wait_for(1)[0].json["headers"]["Received"].as_str().unwrap().to_owned();
    assert!(
        received.starts_with(
            "from client.example.com ([127.0.0.1]) by mx.example.com with ESMTPS (TLSv1_3 TLS13_"
        ),
        "{received}"
    );
    assert!(daemon.wait_for_log("mail accepted", 1)[0]["tls"].as_str().unwrap().starts_with("TLSv1_3"));

    assert_eq!(daemon.client().mail("support@example.com", "Subject: plain\r\n\r\n").0, 250);
    let received = webhook.wait_for(2)[1].json["headers"]["Received"].as_str().unwrap().to_owned();
    assert!(received.contains("with ESMTP id"), "{received}");
}

#[test]
fn mail_waits_for_tls_where_it_is_required() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_TLS", "require")]);
    let mut client = daemon.client();
    let (code, text) = client.ask("MAIL FROM:<a@example.org>");
    assert_eq!((code, text.contains("5.7.0")), (530, true), "{text}");
    assert_eq!(daemon.client().upgraded().mail("support@example.com", "\r\n").0, 250);
}

#[test]
fn tls_that_is_off_is_not_offered() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_TLS", "off")]);
    let mut client = daemon.client();
    assert!(!client.ask("EHLO client.example.com").1.contains("STARTTLS"));
    assert_eq!(client.ask("STARTTLS").0, 502);
}

#[test]
fn a_client_that_never_finishes_the_handshake_harms_nobody() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut broken = daemon.client();
    assert_eq!(broken.ask("STARTTLS").0, 220);
    broken.send("this is no handshake\r\n\r\n");
    broken.read_to_end();
    assert_eq!(daemon.client().upgraded().mail("support@example.com", "\r\n").0, 250);
}

/// Section 4: the command has no parameters; section 4.2: the session begins anew.
#[test]
fn the_command_has_no_argument_and_a_session_begins_anew() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = daemon.client();
    let (code, text) = client.ask("STARTTLS now");
    assert_eq!((code, text.contains("5.5.4")), (501, true), "{text}");
    client.envelope("support@example.com");
    let mut client = client.upgraded();
    assert_eq!(client.ask("RCPT TO:<support@example.com>").0, 503, "the mail that was begun is forgotten");
    assert_eq!(client.ask("HELO client.example.com").0, 250);
    assert_eq!(client.ask("STARTTLS").0, 503);
}

/// Section 4: where TLS is required, everything but NOOP, EHLO, STARTTLS and QUIT waits for it.
#[test]
fn without_tls_where_it_is_required_nothing_of_a_mail_is_taken() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_TLS", "require")]);
    let mut client = daemon.client();
    for (line, code) in [
        ("MAIL FROM:<>", 530),
        ("MAIL FROM:<> SIZE=1", 530),
        ("RCPT TO:<support@example.com>", 503),
        ("DATA", 503),
        ("NOOP", 250),
        ("HELO client.example.com", 250),
        ("MAIL FROM:<>", 530),
        ("STARTTLS", 503),
        ("EHLO client.example.com", 250),
        ("STARTTLS", 220),
    ] {
        assert_eq!(client.ask(line).0, code, "{line}");
    }
}
