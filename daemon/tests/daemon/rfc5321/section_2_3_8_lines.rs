//! "SMTP client implementations MUST NOT transmit [bare CR or LF] except when they are intended
//! as line terminators": a receiver that takes them for line ends lets mail be smuggled, as
//! `attacks/smuggling.rs` tries.

use crate::harness::{Client, Daemon, Webhook, eventually};

#[test]
fn a_bare_line_feed_does_not_end_a_command() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = daemon.client();
    client.send("NOOP\nNOOP\n\r");
    client.send("\n");
    let (code, text) = client.reply();
    assert_eq!((code, text.contains("5.5.2")), (500, true), "{text}");
    assert_eq!(client.ask("NOOP").0, 250);
}

#[test]
fn commands_behind_the_data_command_are_content() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = Client::connect(daemon.smtp);
    assert_eq!(client.reply().0, 220);
    client.send(
        "EHLO c\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<support@example.com>\r\nDATA\r\nQUIT\r\nRSET\r\n.\r\nQUIT\r\n",
    );
    let codes: Vec<u16> = (0..6).map(|_| client.reply().0).collect();
    assert_eq!(codes, [250, 250, 250, 354, 250, 221]);
    let received = webhook.wait_for(1);
    assert_eq!(received[0].json["body"], "QUIT\r\nRSET\r\n");
    eventually("the connection is closed", || client.is_closed().then_some(()));
}
