//! SMTPUTF8: RFC 6531, over a socket.

use crate::harness::{Daemon, Webhook};

#[test]
fn internationalised_addresses_are_taken_with_smtputf8_alone() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_TARGET_EMAILS", "b\u{fc}ro@b\u{fc}cher.example")]);
    let mut client = daemon.client();
    assert_eq!(client.ask("MAIL FROM:<\u{fc}@example.org>").0, 553);
    assert_eq!(client.ask("MAIL FROM:<\u{fc}@example.org> SMTPUTF8").0, 250);
    assert_eq!(client.ask("RCPT TO:<B\u{dc}RO@xn--bcher-kva.example>").0, 250);
    assert_eq!(client.ask("DATA").0, 354);
    client.send("Subject: Gr\u{fc}\u{df}e\r\n\r\n.\r\n");
    assert_eq!(client.reply().0, 250);
    let json = &webhook.wait_for(1)[0].json;
    assert_eq!(json["sender"], "\u{fc}@example.org");
    assert_eq!(json["recipient"], "B\u{dc}RO@xn--bcher-kva.example");
    assert_eq!(json["subject"], "Gr\u{fc}\u{df}e");
}

/// Section 3.5: without the parameter, addresses are of ASCII.
#[test]
fn recipients_outside_ascii_need_it_as_well() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_TARGET_EMAILS", "b\u{fc}ro@b\u{fc}cher.example")]);
    let mut client = daemon.client();
    assert_eq!(client.ask("MAIL FROM:<a@example.org>").0, 250);
    let (code, text) = client.ask("RCPT TO:<b\u{fc}ro@b\u{fc}cher.example>");
    assert_eq!((code, text.contains("5.6.7")), (553, true), "{text}");
    client.send(b"RCPT TO:<b\xfcro@xn--bcher-kva.example>\r\n".as_slice());
    assert_eq!(client.reply().0, 553, "nor is another charset one");
}

/// Section 3.4: the parameter has no value, and comes with EHLO alone.
#[test]
fn the_parameter_has_no_value() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = daemon.client();
    assert!(client.ask("EHLO client.example.com").1.contains("-SMTPUTF8\r\n"));
    assert_eq!(client.ask("MAIL FROM:<a@example.org> SMTPUTF8=1").0, 501);
    assert_eq!(client.ask("MAIL FROM:<a@example.org> SMTPUTF8 SMTPUTF8").0, 501);
    assert_eq!(client.ask("HELO client.example.com").0, 250);
    assert_eq!(client.ask("MAIL FROM:<a@example.org> SMTPUTF8").0, 555);
}

/// Section 4.3 (RFC 6531) names what a `Received` header says of such a mail.
#[test]
fn the_trace_says_so() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_HEADER_PREFIX", "received")]);
    let mut client = daemon.client();
    assert_eq!(client.ask("MAIL FROM:<a@example.org> SMTPUTF8").0, 250);
    assert_eq!(client.ask("RCPT TO:<support@example.com>").0, 250);
    client.send("BDAT 2 LAST\r\n\r\n");
    assert_eq!(client.reply().0, 250);
    let received = webhook.wait_for(1)[0].json["headers"]["Received"].to_string();
    assert!(received.contains(" with UTF8SMTP id "), "{received}");
}
