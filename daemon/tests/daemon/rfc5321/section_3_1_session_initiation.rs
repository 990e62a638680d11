//! Greeting and EHLO.

use crate::harness::{Client, Daemon, Webhook};

#[test]
fn the_greeting_and_ehlo_name_the_host_and_the_extensions() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_MAX_MESSAGE_SIZE", "5000")]);
    let mut client = Client::connect(daemon.smtp);
    assert_eq!(client.reply(), (220, "220 mx.example.com ESMTP MailLaser\r\n".to_owned()));
    let (code, text) = client.ask("EHLO client.example.com");
    assert_eq!(code, 250);
    let extensions: Vec<&str> = text.lines().map(|line| &line[4..]).collect();
    assert_eq!(extensions, ["mx.example.com", "PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", "SIZE 5000"]);
    assert_eq!(client.ask("HELO client.example.com"), (250, "250 mx.example.com\r\n".to_owned()));
    assert_eq!(client.ask("QUIT").0, 221);
    assert!(client.is_closed());
}
