//! Commands that come where nobody should obey them.

use crate::harness::{Client, Daemon, Webhook};

const SECOND_MAIL: &str =
    "MAIL FROM:<evil@example.org>\r\nRCPT TO:<support@example.com>\r\nDATA\r\nx\r\n.\r\n";

/// DATA that is refused has no content: what a client sends behind it unasked are commands, and those
/// of a text are none.
#[test]
fn content_behind_a_refused_data_is_no_mail() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = daemon.client();
    client.send("MAIL FROM:<a@example.org>\r\nRCPT TO:<nobody@example.com>\r\nDATA\r\nSubject: x\r\n\r\ntext\r\n.\r\nDATA\r\n");
    assert_eq!(client.codes(8), [250, 550, 554, 500, 500, 500, 500, 554]);
    assert_eq!(client.ask("RSET").0, 250);
    assert_eq!(client.mail("support@example.com", "\r\n").0, 250);
    super::settle(&daemon, 1);
    assert_eq!(webhook.received().len(), 1);
}

/// The same for DATA without MAIL, with an argument, and where the mail needs BDAT.
#[test]
fn a_data_command_that_is_none_begins_no_content() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    for (before, data, code) in [
        (&[][..], "DATA", 503),
        (&["MAIL FROM:<a@example.org>", "RCPT TO:<support@example.com>"], "DATA now", 501),
        (&["MAIL FROM:<a@example.org>", "RCPT TO:<support@example.com>"], "DATA\n", 500),
        (&["MAIL FROM:<a@example.org> BODY=BINARYMIME", "RCPT TO:<support@example.com>"], "DATA", 503),
    ] {
        let mut client = daemon.client();
        for line in before {
            assert_eq!(client.ask(line).0, 250);
        }
        client.send(format!("{data}\r\nfrom here on\r\n.\r\nQUIT\r\n"));
        assert_eq!(client.codes(4), [code, 500, 500, 221], "{data}");
    }
    assert!(webhook.received().is_empty() && daemon.logged("mail accepted").is_empty());
}

/// Octets behind a BDAT that is refused are the chunk's all the same.
#[test]
fn a_refused_chunk_is_thrown_away() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    for before in
        ["", "MAIL FROM:<a@example.org>\r\n", "MAIL FROM:<a@example.org>\r\nRCPT TO:<nobody@example.com>\r\n"]
    {
        let mut client = daemon.client();
        client.send(before);
        before.lines().for_each(|_| drop(client.reply()));
        client.send(format!("BDAT {} LAST\r\n{SECOND_MAIL}NOOP\r\n", SECOND_MAIL.len()));
        let codes = client.codes(2);
        assert!(matches!(codes[..], [503 | 554, 250]), "{before:?}: {codes:?}");
        assert_eq!(client.ask("QUIT").0, 221);
    }
    assert!(daemon.logged("mail accepted").is_empty());
}

/// CVE-2011-0411: what was sent in clear text behind STARTTLS must not be taken for something that was
/// said under TLS.
#[test]
fn nothing_that_was_sent_before_the_handshake_survives_it() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = daemon.client();
    client.send("STARTTLS\r\nEHLO injected.example\r\nMAIL FROM:<injected@example.org>\r\nRCPT TO:<support@example.com>\r\n");
    assert_eq!(client.reply().0, 220);
    let mut client = client.secured();
    assert_eq!(client.ask("DATA").0, 503);
    assert_eq!(client.ask("MAIL FROM:<a@example.org>").0, 503, "not even the EHLO");
    assert_eq!(client.ask("EHLO client.example.com").0, 250);
    assert_eq!(client.mail("support@example.com", "\r\n").0, 250);
    assert_eq!(webhook.wait_for(1)[0].json["sender"], "sender@example.org");
    daemon.wait_for_log("ignored what was sent behind STARTTLS", 1);
}

/// The same with a mail that was begun before: it is not that of the secured session.
#[test]
fn a_mail_that_was_begun_in_clear_text_is_forgotten() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = daemon.client();
    client.envelope("support@example.com");
    client.send("BDAT 9\r\nSubject: STARTTLS\r\n");
    assert_eq!(client.codes(2), [250, 220]);
    let mut client = client.secured();
    for line in ["DATA", "RCPT TO:<support@example.com>"] {
        assert_eq!(client.ask(line).0, 503);
    }
    assert_eq!(client.ask("EHLO client.example.com").0, 250);
    assert_eq!(client.ask("RCPT TO:<support@example.com>").0, 503);
    client.send("BDAT 0 LAST\r\n");
    assert_eq!(client.reply().0, 503);
    assert!(webhook.received().is_empty());
}

/// Cross-protocol requests: a browser or a server is made to send a mail by a form whose fields are
/// commands.
#[test]
fn a_request_of_http_is_sent_away_before_its_body() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    for method in ["POST", "GET", "PUT", "CONNECT"] {
        let mut client = Client::connect(daemon.smtp);
        assert_eq!(client.reply().0, 220);
        client.send(format!("{method} / HTTP/1.1\r\nHost: mx.example.com:25\r\n\r\nEHLO c\r\n{SECOND_MAIL}"));
        let (code, text) = client.reply();
        assert_eq!((code, text.contains("5.5.1")), (554, true), "{text}");
        assert_eq!(client.read_to_end(), "", "{method}: and nothing else was answered");
    }
    assert!(daemon.logged("mail accepted").is_empty());
}

/// A PROXY header of somebody who is no load balancer is a command that does not exist, whichever
/// version it is of: he stays who he is.
#[test]
fn who_is_no_load_balancer_can_not_say_who_he_is() {
    let webhook = Webhook::start();
    for networks in ["", "10.0.0.0/8,192.0.2.0/24"] {
        let daemon = Daemon::start(
            &webhook,
            &[
                ("MAIL_LASER_PROXY_PROTOCOL_FROM", networks),
                ("MAIL_LASER_HEADER_PREFIX", "received"),
                ("MAIL_LASER_MAX_CONCURRENT_PER_IP", "1"),
            ],
        );
        let mut client = Client::connect(daemon.smtp);
        assert_eq!(client.reply().0, 220);
        assert_eq!(client.ask("PROXY TCP4 192.0.2.1 10.0.0.1 40000 25").0, 500);
        // Of the binary form every line is no command either; QUIT is not one for the LF behind it.
        client.send(
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\x0a\0\0\x01\x30\x39\0\x19\r\n".as_slice(),
        );
        assert_eq!(client.codes(4), [500, 500, 500, 500]);
        assert_eq!(Client::connect(daemon.smtp).reply().0, 421, "he is counted as who he is");
        let sent = webhook.received().len();
        assert_eq!(client.ask("EHLO client.example.com").0, 250);
        assert_eq!(client.mail("support@example.com", "\r\n").0, 250);
        let received = webhook.wait_for(sent + 1)[sent].json["headers"]["Received"].to_string();
        assert!(received.contains("([127.0.0.1])"), "{received}");
    }
}

/// Who may send a PROXY header may send one: a client behind a load balancer sends the second.
#[test]
fn a_second_proxy_header_is_a_command() {
    let webhook = Webhook::start();
    let variables =
        [("MAIL_LASER_PROXY_PROTOCOL_FROM", "127.0.0.1"), ("MAIL_LASER_HEADER_PREFIX", "received")];
    let daemon = Daemon::start(&webhook, &variables);
    let mut client = Client::connect(daemon.smtp);
    client.send("PROXY TCP4 192.0.2.1 10.0.0.1 40000 25\r\n");
    assert_eq!(client.reply().0, 220);
    assert_eq!(client.ask("PROXY TCP4 198.51.100.1 10.0.0.1 40000 25").0, 500);
    assert_eq!(client.ask("EHLO client.example.com").0, 250);
    assert_eq!(client.mail("support@example.com", "\r\n").0, 250);
    assert!(webhook.wait_for(1)[0].json["headers"]["Received"].to_string().contains("([192.0.2.1])"));
}
