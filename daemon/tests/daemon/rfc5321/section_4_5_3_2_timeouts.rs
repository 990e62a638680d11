//! Time-outs. How long each phase of a session may take is tested in virtual time
//! (`src/smtp/session/tests/time.rs`); here is the same over sockets, with a short one.

use mail_laser::config::variables::IDLE_TIMEOUT;

use crate::harness::{Client, Daemon, Webhook};

/// 4.5.3.2.7: "An SMTP server SHOULD have a timeout of at least 5 minutes while it is awaiting the next
/// command from the sender."
#[test]
fn a_server_waits_for_five_minutes() {
    assert_eq!(IDLE_TIMEOUT.default, "300");
}

#[test]
fn silence_ends_a_session_wherever_it_is() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_IDLE_TIMEOUT", "1"), ("MAIL_LASER_SMTPS_PORT", "0")]);
    let said = |bytes: &str, replies: usize| {
        let mut client = daemon.client();
        client.send(bytes);
        client.codes(replies);
        client
    };
    let envelope = "MAIL FROM:<a@example.org>\r\nRCPT TO:<support@example.com>\r\n";
    let mut secured = Client::connect(daemon.wait_for_port("smtps")).secured();
    assert_eq!(secured.reply().0, 220);
    let mut silent = [
        said("", 0),
        said("NOO", 0),
        said("NOOP\r", 0),
        said(envelope, 2),
        said(&format!("{envelope}DATA\r\n"), 3),
        said(&format!("{envelope}DATA\r\nSubject: x\r\n\r\n."), 3),
        said(&format!("{envelope}BDAT 10\r\n12345"), 2),
        said("BDAT 10\r\n12345", 0),
        secured,
    ];
    for client in &mut silent {
        let (code, text) = client.reply();
        assert_eq!((code, text.contains("4.4.2")), (421, true), "{text}");
        assert!(client.is_closed());
    }
    assert!(webhook.received().is_empty());
}
