//! Sizes and time-outs.

use crate::harness::{Daemon, Webhook};

#[test]
fn a_command_line_that_is_too_long_is_an_error_and_one_without_end_ends_the_session() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = daemon.client();
    let (code, text) = client.ask(&format!("NOOP {}", "x".repeat(3_000)));
    assert_eq!((code, text.contains("too long")), (500, true), "{text}");
    assert_eq!(client.ask("NOOP").0, 250);
    let _ = client.try_send(vec![b'x'; 200_000]);
    assert_eq!(client.reply().0, 421);
}

#[test]
fn a_mail_that_is_too_large_is_refused_at_its_end_and_the_session_goes_on() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_MAX_MESSAGE_SIZE", "10000")]);
    let mut client = daemon.client();
    let line = format!("{}\r\n", "x".repeat(98));
    let (code, text) = client.mail("support@example.com", &line.repeat(101));
    assert_eq!((code, text.contains("5.3.4")), (552, true), "{text}");
    assert_eq!(client.mail("support@example.com", &line.repeat(100)).0, 250);
    assert_eq!(webhook.wait_for(1)[0].json["size_bytes"], 10_000);
    assert_eq!(daemon.metric("mail_laser_messages_total{route=\"default\",outcome=\"rejected\"}"), Some(1.0));
}

#[test]
fn an_attachment_that_is_too_large_is_refused() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_MAX_ATTACHMENT_SIZE", "100")]);
    let mail =
        |bytes: usize| format!("Content-Type: application/octet-stream\r\n\r\n{}\r\n", "x".repeat(bytes));
    let mut client = daemon.client();
    assert_eq!(client.mail("support@example.com", &mail(200)).0, 552);
    assert_eq!(client.mail("support@example.com", &mail(90)).0, 250);
}

#[test]
fn a_silent_session_is_ended() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_IDLE_TIMEOUT", "1")]);
    let mut idle = daemon.client();
    let mut sending = daemon.client();
    sending.begin_mail("support@example.com");
    assert_eq!(idle.reply().0, 421);
    assert!(idle.is_closed());
    assert_eq!(sending.reply().0, 421);
    assert!(sending.is_closed());
}
