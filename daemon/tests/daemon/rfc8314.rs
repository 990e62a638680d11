//! TLS from the first byte: RFC 8314 section 3, over a socket.

use crate::harness::{Client, Daemon, Webhook};

#[test]
fn a_port_speaks_tls_from_the_first_byte() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_SMTPS_PORT", "0"), ("MAIL_LASER_TLS", "require")]);
    let smtps = daemon.wait_for_port("smtps");
    let mut client = Client::connect(smtps).secured();
    assert_eq!(client.reply().0, 220);
    assert_eq!(client.ask("EHLO client.example.com").0, 250);
    assert_eq!(client.mail("support@example.com", "\r\n").0, 250);
    webhook.wait_for(1);
}

/// Section 3: what speaks in clear text there is no client, and gets no answer in clear text.
#[test]
fn clear_text_is_not_answered_there() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_SMTPS_PORT", "0")]);
    let mut client = Client::connect(daemon.wait_for_port("smtps"));
    client.send("EHLO client.example.com\r\nMAIL FROM:<>\r\n");
    let answer = client.read_to_end();
    assert!(!answer.contains("220") && !answer.contains("250"), "{answer:?}");
    assert!(daemon.logged("session secured").is_empty());
}

/// STARTTLS has no place in a session that is secured already: section 3.3.
#[test]
fn starttls_is_not_offered_there() {
    let webhook = Webhook::start();
    let daemon =
        Daemon::start(&webhook, &[("MAIL_LASER_SMTPS_PORT", "0"), ("MAIL_LASER_HEADER_PREFIX", "received")]);
    let mut client = Client::connect(daemon.wait_for_port("smtps")).secured();
    assert_eq!(client.reply().0, 220);
    let (code, text) = client.ask("EHLO client.example.com");
    assert_eq!((code, text.contains("STARTTLS")), (250, false), "{text}");
    assert_eq!(client.ask("STARTTLS").0, 503);
    assert_eq!(client.mail("support@example.com", "\r\n").0, 250);
    let received = webhook.wait_for(1)[0].json["headers"]["Received"].to_string();
    assert!(received.contains(" with ESMTPS ("), "{received}");
}
