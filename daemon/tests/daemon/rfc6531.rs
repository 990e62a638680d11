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
