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

/// Section 4.1.1.1 to 4.1.1.10, and 2.4: verbs and keywords in any case, white space at the end.
#[test]
fn commands_are_taken_in_any_case() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = Client::connect(daemon.smtp);
    assert_eq!(client.reply().0, 220);
    for (command, code) in [
        ("eHlO client.example.com", 250),
        ("mail from:<a@example.org> body=8bitmime", 250),
        ("rcpt TO:<support@example.com>  ", 250),
        ("dAtA ", 354),
        ("x\r\n.", 250),
        ("noop", 250),
        ("rset", 250),
        ("vrfy x", 252),
        ("help", 214),
        ("quit", 221),
    ] {
        assert_eq!(client.ask(command).0, code, "{command}");
    }
    webhook.wait_for(1);
}

/// Section 4.1.4: HELO and EHLO may come at any time, and end the mail that has been begun; NOOP, HELP
/// and VRFY do not.
#[test]
fn a_hello_ends_a_mail_and_other_commands_do_not() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = daemon.client();
    client.envelope("support@example.com");
    for command in ["NOOP", "HELP", "VRFY x", "EXPN x", "NONSENSE"] {
        client.ask(command);
    }
    assert_eq!(client.ask("DATA").0, 354);
    assert_eq!(client.ask(".").0, 250);
    for hello in ["HELO client.example.com", "EHLO client.example.com", "RSET"] {
        client.envelope("support@example.com");
        assert_eq!(client.ask(hello).0, 250);
        assert_eq!(client.ask("DATA").0, 503, "{hello}");
    }
    assert_eq!(webhook.wait_for(1).len(), 1);
}

/// Section 4.1.1.2 and 4.1.2: what a path may look like, source routes included (appendix C).
#[test]
fn paths_of_every_form_are_read() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = daemon.client();
    for (path, code) in [
        ("<a@example.org>", 250),
        ("<>", 250),
        ("<@relay.example.org,@b.example:a@example.org>", 250),
        ("<\"a b\"@example.org>", 250),
        ("<\"a>b\"@example.org>", 250),
        ("<a@[192.0.2.1]>", 250),
        ("<a@[IPv6:2001:db8::1]>", 250),
        ("a@example.org", 501),
        ("<a@example.org", 501),
        ("<a@example.org>>", 501),
        ("<a@>", 501),
        ("<@example.org>", 501),
        ("<a b@example.org>", 501),
        ("<a@-example.org>", 501),
    ] {
        let (actual, text) = client.ask(&format!("MAIL FROM:{path}"));
        assert_eq!(actual, code, "{path}: {text}");
        assert_eq!(client.ask("RSET").0, 250);
    }
}
