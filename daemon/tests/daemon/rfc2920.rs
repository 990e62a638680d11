//! PIPELINING: RFC 2920, over a socket.

use crate::harness::{Client, Daemon, Webhook};

const ENVELOPE: &str = "MAIL FROM:<a@example.org>\r\nRCPT TO:<support@example.com>\r\n";

/// Section 3.2: replies come in the order of the commands, each for its own.
#[test]
fn pipelined_commands_are_answered_in_their_order() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = daemon.client();
    client.send("NOOP\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<x@example.com>\r\nRCPT TO:<support@example.com>\r\nDATA\r\n");
    assert_eq!(client.codes(5), [250, 250, 550, 250, 354]);
    client.send("x\r\n.\r\nRSET\r\nVRFY x\r\nNONSENSE\r\nHELP\r\nQUIT\r\n");
    assert_eq!(client.codes(6), [250, 250, 252, 500, 214, 221]);
}

/// Section 3.2: what is behind a command is not lost, whatever the command was answered; a reply to DATA
/// says how what follows is meant.
#[test]
fn a_failed_command_in_a_group_fails_alone() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = daemon.client();
    client.send("MAIL FROM:<a@example.org> X=1\r\nRCPT TO:<support@example.com>\r\nDATA\r\nNOOP\r\n");
    assert_eq!(client.codes(4), [555, 503, 503, 250]);
    client.send(format!("{ENVELOPE}RCPT TO:<nobody@example.com>\r\nDATA\r\n"));
    assert_eq!(client.codes(4), [250, 250, 550, 354], "one recipient is enough");
    client.send("\r\n.\r\n");
    assert_eq!(client.reply().0, 250);
    webhook.wait_for(1);
}

/// Section 3.1: EHLO, DATA, VRFY, EXPN, TURN, QUIT and NOOP end a group: a client waits behind them, so
/// their replies, and all before them, are sent at once.
#[test]
fn the_replies_to_a_group_do_not_wait_for_the_next() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    for (last, code) in [
        ("EHLO client.example.com", 250),
        ("DATA", 354),
        ("VRFY x", 252),
        ("EXPN x", 502),
        ("TURN", 502),
        ("NOOP", 250),
        ("STARTTLS", 220),
        ("QUIT", 221),
    ] {
        let mut client = daemon.client();
        client.send(format!("{ENVELOPE}{last}\r\n"));
        assert_eq!(client.codes(3), [250, 250, code], "{last}");
    }
}

/// Whoever goes on behind one of these all the same: EHLO forgets the mail, DATA makes it content, QUIT
/// ends it, and STARTTLS throws it away.
#[test]
fn what_is_behind_the_end_of_a_group_means_what_the_command_makes_of_it() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = daemon.client();
    client.send(format!("{ENVELOPE}EHLO client.example.com\r\nDATA\r\n{ENVELOPE}"));
    assert_eq!(client.codes(6), [250, 250, 250, 503, 250, 250]);
    client.send("DATA\r\nQUIT\r\nSTARTTLS\r\n.\r\nQUIT\r\nNOOP\r\n");
    assert_eq!(client.codes(3), [354, 250, 221]);
    assert!(client.is_closed(), "nothing is answered behind QUIT");
    assert_eq!(webhook.wait_for(1)[0].json["body"], "QUIT\r\nSTARTTLS\r\n");
}

/// Many mails in one go, as a client does that trusts its envelopes.
#[test]
fn whole_mails_can_be_pipelined() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = Client::connect(daemon.smtp);
    assert_eq!(client.reply().0, 220);
    let mail = |number: usize| format!("{ENVELOPE}DATA\r\nSubject: {number}\r\n\r\n.\r\n");
    let mails: String = (0..30).map(mail).collect();
    client.send(format!("EHLO c\r\n{mails}QUIT\r\n"));
    assert_eq!(client.reply().0, 250);
    for _ in 0..30 {
        assert_eq!(client.codes(4), [250, 250, 354, 250]);
    }
    assert_eq!(client.reply().0, 221);
    assert_eq!(webhook.wait_for(30).len(), 30);
}
