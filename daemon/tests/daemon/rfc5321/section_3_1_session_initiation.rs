//! Greeting and EHLO.

use crate::harness::{Client, Daemon, Webhook, eventually};

#[test]
fn the_greeting_and_ehlo_name_the_host_and_the_extensions() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_MAX_MESSAGE_SIZE", "5000")]);
    let mut client = Client::connect(daemon.smtp);
    assert_eq!(client.reply(), (220, "220 mx.example.com ESMTP MailLaser\r\n".to_owned()));
    let (code, text) = client.ask("EHLO client.example.com");
    assert_eq!(code, 250);
    let extensions: Vec<&str> = text.lines().map(|line| &line[4..]).collect();
    assert_eq!(
        extensions,
        [
            "mx.example.com",
            "PIPELINING",
            "8BITMIME",
            "BINARYMIME",
            "CHUNKING",
            "SMTPUTF8",
            "ENHANCEDSTATUSCODES",
            "SIZE 5000",
            "STARTTLS",
        ]
    );
    assert_eq!(client.ask("HELO client.example.com"), (250, "250 mx.example.com\r\n".to_owned()));
    assert_eq!(client.ask("QUIT").0, 221);
    assert!(client.is_closed());
}

#[test]
fn a_client_that_speaks_before_the_greeting_is_sent_away() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    // Whether its bytes come before the server looks is a matter of luck: it looks once.
    eventually("one is caught", || {
        let mut client = Client::connect(daemon.smtp);
        client.send("EHLO client.example.com\r\n");
        let (code, _) = client.reply();
        assert!(code == 554 || code == 220);
        (code == 554 && client.is_closed()).then_some(())
    });
}
