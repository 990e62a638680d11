//! More of the same than anybody needs.

use crate::harness::{Client, Daemon, Webhook};

use super::MEBIBYTE;

const MAIL: &str = "MAIL FROM:<a@example.org>";
const RECIPIENT: &str = "RCPT TO:<support@example.com>";

/// Sends the lines of `before`, then what `next` says until the session ends; returns how often.
fn flood(daemon: &Daemon, before: &[&str], next: impl Fn(usize) -> String) -> usize {
    let mut client = daemon.client();
    for line in before {
        assert_eq!(client.ask(line).0, 250, "{line}");
    }
    let mut count = 0;
    let (code, text) = client.flood(|number| {
        count = number + 1;
        assert!(count < 10_000, "{} goes on for ever", next(number));
        next(number)
    });
    assert_eq!((code, text.contains("4.7.0")), (421, true), "{text}");
    assert!(client.is_closed());
    count
}

#[test]
fn the_third_unknown_recipient_ends_the_session() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    assert_eq!(flood(&daemon, &[MAIL], |number| format!("RCPT TO:<u{number}@example.com>")), 3);
    let mut client = daemon.client();
    for _ in 0..2 {
        assert_eq!(client.ask(MAIL).0, 250);
        assert_eq!(client.ask("RCPT TO:<nobody@example.com>").0, 550);
        assert_eq!(client.ask("RSET").0, 250);
    }
    assert_eq!(client.ask(MAIL).0, 250);
    assert_eq!(client.ask("RCPT TO:<nobody@example.com>").0, 421, "another mail is no new beginning");
}

/// Harvesting of addresses where their limit is switched off.
#[test]
fn unknown_recipients_without_a_limit_of_their_own_end_with_the_commands() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_MAX_UNKNOWN_RCPTS_PER_SESSION", "0")]);
    assert!(flood(&daemon, &[MAIL], |number| format!("RCPT TO:<u{number}@example.com>")) <= 2_000);
}

#[test]
fn a_known_recipient_again_and_again_ends_the_session() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    assert!(flood(&daemon, &[MAIL], |_| RECIPIENT.to_owned()) <= 2_000);
}

#[test]
fn commands_that_carry_no_mail_on_end_the_session() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    for (command, most) in [
        ("NOOP", 100),
        ("RSET", 100),
        ("VRFY support@example.com", 100),
        ("HELP", 100),
        ("EHLO again.example.com", 100),
        ("HELO again.example.com", 100),
    ] {
        assert_eq!(flood(&daemon, &[], |_| command.to_owned()), most, "{command}: EHLO was the first");
    }
    assert_eq!(flood(&daemon, &[MAIL, RECIPIENT], |_| "BDAT 0".to_owned()), 100);
    let rounds = flood(&daemon, &[], |number| if number % 2 == 0 { MAIL } else { "RSET" }.to_owned());
    assert_eq!(rounds, 200, "each mail that is begun and given up");
}

#[test]
fn errors_end_the_session() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    for command in [
        "NONSENSE",
        "",
        "AUTH PLAIN AGEAYg==",
        "AUTH LOGIN",
        "EXPN staff",
        "RCPT TO:<support@example.com>",
        "DATA",
        "MAIL FROM:<a@example.org> X=1",
        "MAIL FROM:<not an address>",
        "BDAT 0 LAST",
    ] {
        assert_eq!(flood(&daemon, &[], |_| command.to_owned()), 20, "{command}");
    }
}

/// Ten megabytes of commands in one go are neither kept nor answered one by one.
#[test]
fn pipelined_floods_cost_no_memory() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let before = daemon.peak_bytes();
    for command in ["NOOP\r\n", "X\r\n", "\r\n", "MAIL FROM:<>\r\nRSET\r\n"] {
        let mut client = daemon.client();
        let many = command.repeat(10 * 1024 * 1024 / command.len());
        let _ = client.try_send(many);
        let replies = client.read_to_end();
        let answered = replies.lines().count();
        assert!(answered <= 201, "{command:?}: {answered} replies");
    }
    assert!(daemon.peak_bytes() < before + 10 * MEBIBYTE);
    assert_eq!(Client::greeted(daemon.smtp).mail("support@example.com", "\r\n").0, 250);
}
