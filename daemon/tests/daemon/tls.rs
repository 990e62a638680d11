//! STARTTLS (RFC 3207), TLS from the first byte (RFC 8314), and the pair that is shown.

use std::path::Path;
use std::process::Command;

use crate::harness::{Client, Daemon, Webhook};

fn upgraded(daemon: &Daemon) -> Client {
    let mut client = daemon.client();
    assert_eq!(client.ask("STARTTLS").0, 220);
    let mut client = client.secured();
    assert_eq!(client.ask("MAIL FROM:<>").0, 503, "the session begins anew");
    assert_eq!(client.ask("EHLO client.example.com").0, 250);
    client
}

fn write_pair(directory: &Path) -> Vec<u8> {
    let made = rcgen::generate_simple_self_signed(vec!["mx.example.com".to_owned()]).unwrap();
    std::fs::write(directory.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(directory.join("tls.crt"), made.cert.pem()).unwrap();
    made.cert.der().to_vec()
}

#[test]
fn a_session_is_secured_and_the_mail_says_so() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_HEADER_PREFIX", "received")]);
    let (_, ehlo) = daemon.client().ask("EHLO client.example.com");
    assert!(ehlo.contains("STARTTLS"), "{ehlo}");

    let mut client = upgraded(&daemon);
    let (_, ehlo) = client.ask("EHLO client.example.com");
    assert!(!ehlo.contains("STARTTLS"), "{ehlo}");
    assert_eq!(client.ask("STARTTLS").0, 503);
    assert_eq!(client.mail("support@example.com", "Subject: secured\r\n\r\n").0, 250);
    let received = webhook.wait_for(1)[0].json["headers"]["Received"].as_str().unwrap().to_owned();
    assert!(
        received.starts_with(
            "from client.example.com ([127.0.0.1]) by mx.example.com with ESMTPS (TLSv1_3 TLS13_"
        ),
        "{received}"
    );
    assert!(daemon.wait_for_log("mail accepted", 1)[0]["tls"].as_str().unwrap().starts_with("TLSv1_3"));

    assert_eq!(daemon.client().mail("support@example.com", "Subject: plain\r\n\r\n").0, 250);
    let received = webhook.wait_for(2)[1].json["headers"]["Received"].as_str().unwrap().to_owned();
    assert!(received.contains("with ESMTP id"), "{received}");
}

/// CVE-2011-0411: what was sent in clear text behind STARTTLS must not be taken for something that
/// was said under TLS.
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

#[test]
fn mail_waits_for_tls_where_it_is_required() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_TLS", "require")]);
    let mut client = daemon.client();
    let (code, text) = client.ask("MAIL FROM:<a@example.org>");
    assert_eq!((code, text.contains("5.7.0")), (530, true), "{text}");
    assert_eq!(upgraded(&daemon).mail("support@example.com", "\r\n").0, 250);
}

#[test]
fn tls_that_is_off_is_not_offered() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_TLS", "off")]);
    let mut client = daemon.client();
    assert!(!client.ask("EHLO client.example.com").1.contains("STARTTLS"));
    assert_eq!(client.ask("STARTTLS").0, 502);
}

#[test]
fn a_port_speaks_tls_from_the_first_byte() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_SMTPS_PORT", "0"), ("MAIL_LASER_TLS", "require")]);
    let smtps = daemon.wait_for_port("smtps");
    let mut client = Client::connect(smtps).secured();
    assert_eq!(client.reply().0, 220);
    assert_eq!(client.ask("EHLO client.example.com").0, 250);
    assert_eq!(client.mail("support@example.com", "\r\n").0, 250);
    webhook.wait_for(1);
}

#[test]
fn a_renewed_pair_is_taken_up_without_dropping_a_session() {
    let directory = tempfile::tempdir().unwrap();
    let first = write_pair(directory.path());
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let webhook = Webhook::start();
    let daemon = Daemon::start(
        &webhook,
        &[
            ("MAIL_LASER_TLS_CERT_FILE", path("tls.crt").as_str()),
            ("MAIL_LASER_TLS_KEY_FILE", path("tls.key").as_str()),
        ],
    );
    let mut before = upgraded(&daemon);
    assert_eq!(before.certificate(), first);

    // Half of a pair, and then nonsense, leave the old one in force.
    std::fs::write(directory.path().join("tls.key"), "nonsense").unwrap();
    daemon.wait_for_log("the renewed pair cannot be used", 1);
    assert_eq!(upgraded(&daemon).certificate(), first);

    let second = write_pair(directory.path());
    daemon.wait_for_log("certificate renewed", 1);
    assert_eq!(upgraded(&daemon).certificate(), second);
    assert_eq!(before.mail("support@example.com", "\r\n").0, 250);
}

#[test]
fn other_clients_agree() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let openssl = |version: &str| {
        let script = format!(
            "printf 'QUIT\\r\\n' | openssl s_client -starttls smtp -connect {} -{version} -ign_eof 2>&1",
            daemon.smtp
        );
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let modern = openssl("tls1_3");
    assert!(modern.contains("TLSv1.3") && modern.contains("221 2.0.0"), "{modern}");
    let older = openssl("tls1_2");
    assert!(older.contains("TLSv1.2") && older.contains("221 2.0.0"), "{older}");
    let oldest = openssl("tls1_1");
    assert!(!oldest.contains("221 2.0.0"), "{oldest}");
}

#[test]
fn a_client_that_never_finishes_the_handshake_harms_nobody() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut broken = daemon.client();
    assert_eq!(broken.ask("STARTTLS").0, 220);
    broken.send("this is no handshake\r\n\r\n");
    broken.read_to_end();
    assert_eq!(upgraded(&daemon).mail("support@example.com", "\r\n").0, 250);
}
