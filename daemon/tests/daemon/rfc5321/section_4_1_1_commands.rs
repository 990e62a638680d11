//! The commands, one by one, and their order (section 4.1.4).

use crate::harness::{Client, Daemon, Webhook};

#[test]
fn every_command_has_its_reply() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = Client::connect(daemon.smtp);
    assert_eq!(client.reply().0, 220);
    for (command, code, enhanced) in [
        ("MAIL FROM:<a@example.org>", 503, "5.5.1"),
        ("EHLO client.example.com", 250, ""),
        ("RCPT TO:<support@example.com>", 503, "5.5.1"),
        ("MAIL FROM:<a@example.org> SIZE=100 BODY=8BITMIME", 250, "2.1.0"),
        ("RCPT TO:<nobody@example.com>", 550, "5.1.1"),
        ("DATA", 554, "5.5.1"),
        ("RCPT TO:<Support@Example.com>", 250, "2.1.5"),
        ("RSET", 250, "2.0.0"),
        ("DATA", 503, "5.5.1"),
        ("NOOP", 250, "2.0.0"),
        ("HELP", 214, "2.0.0"),
        ("VRFY support@example.com", 252, "2.5.0"),
        ("EXPN list", 502, "5.5.1"),
        ("ETRN example.com", 502, "5.5.1"),
        ("NONSENSE", 500, "5.5.1"),
        ("MAIL FROM:<a@example.org> SIZE=99999999999", 552, "5.3.4"),
        ("MAIL FROM:a@example.org", 501, "5.5.4"),
        ("MAIL FROM:<no mailbox>", 501, "5.1.7"),
        ("QUIT", 221, "2.0.0"),
    ] {
        let (actual, text) = client.ask(command);
        assert!(actual == code && text[4..].starts_with(enhanced), "{command}: {text}");
    }
    assert!(client.is_closed());
}

#[test]
fn pipelined_commands_are_answered_in_their_order() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = daemon.client();
    client.send("NOOP\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<x@example.com>\r\nRCPT TO:<support@example.com>\r\nDATA\r\n");
    let codes: Vec<u16> = (0..5).map(|_| client.reply().0).collect();
    assert_eq!(codes, [250, 250, 550, 250, 354]);
}
