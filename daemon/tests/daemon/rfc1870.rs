//! SIZE: RFC 1870, over a socket.

use crate::harness::{Daemon, Webhook};

const LIMIT: (&str, &str) = ("MAIL_LASER_MAX_MESSAGE_SIZE", "1000");

/// Section 4: the limit is announced; section 6.1: what is declared to be larger is refused at once.
#[test]
fn a_mail_that_is_declared_too_large_is_refused_before_it_is_sent() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[LIMIT]);
    let mut client = daemon.client();
    assert!(client.ask("EHLO client.example.com").1.contains("SIZE 1000\r\n"));
    for (size, code) in
        [("1001", 552), ("4294967296", 552), ("18446744073709551616", 552), ("99999999999999999999", 552)]
    {
        let (answer, text) = client.ask(&format!("MAIL FROM:<a@example.org> SIZE={size}"));
        assert_eq!((answer, text.contains("5.3.4")), (code, true), "{text}");
    }
    for size in ["1000", "0"] {
        assert_eq!(client.ask(&format!("MAIL FROM:<a@example.org> size={size}")).0, 250);
        assert_eq!(client.ask("RSET").0, 250);
    }
}

/// Section 4: up to 20 digits and nothing else.
#[test]
fn what_is_no_size_is_an_error() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[LIMIT]);
    let mut client = daemon.client();
    for size in
        ["SIZE=", "SIZE", "SIZE=-1", "SIZE=1k", "SIZE=0x10", "SIZE=000000000000000000001", "SIZE=1 SIZE=1"]
    {
        let (code, text) = client.ask(&format!("MAIL FROM:<a@example.org> {size}"));
        assert_eq!((code, text.contains("5.5.4")), (501, true), "{size}: {text}");
    }
    assert_eq!(client.ask("MAIL FROM:<a@example.org>").0, 250, "none of them began a mail");
}

/// Section 5: the declaration is an estimate; what counts is what comes.
#[test]
fn a_declaration_that_is_wrong_does_not_matter() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[LIMIT]);
    let mut client = daemon.client();
    for (declared, bytes, code) in [(1, 998, 250), (1_000, 2, 250), (1, 1_001, 552)] {
        assert_eq!(client.ask(&format!("MAIL FROM:<a@example.org> SIZE={declared}")).0, 250);
        assert_eq!(client.ask("RCPT TO:<support@example.com>").0, 250);
        assert_eq!(client.ask("DATA").0, 354);
        client.send("x".repeat(bytes - 2) + "\r\n.\r\n");
        let (answer, text) = client.reply();
        assert_eq!(answer, code, "{text}");
        assert!(code == 250 || text.contains("5.3.4"), "{text}");
    }
    assert_eq!(webhook.wait_for(2).len(), 2);
}
