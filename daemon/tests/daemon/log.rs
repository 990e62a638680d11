//! A standard error that accepts nothing: the daemon goes on without its log.

use std::io::Write;
use std::net::TcpListener;

use rustix::process::Signal;

use crate::harness::{Client, Daemon, Webhook, command, eventually};

const RECIPIENT: &str = "support@example.com";

const DROPPED: &str = "mail_laser_log_records_dropped_total";

/// Messages that a daemon has to take while its log is not read: a pipe holds the records of some 180.
const MESSAGES_MIN: usize = 400;

/// Sends messages until the buffer for log records is full, and some more.
fn overflow(daemon: &Daemon, client: &mut Client) {
    let mut messages = 0;
    while messages < MESSAGES_MIN || daemon.metric(DROPPED) == Some(0.0) {
        for _ in 0..20 {
            assert_eq!(client.mail(RECIPIENT, "Subject: x\r\n\r\ntext\r\n").0, 250, "message {messages}");
            messages += 1;
        }
    }
}

#[test]
fn a_blocked_log_stops_neither_mail_nor_health_nor_the_end() {
    let webhook = Webhook::start();
    let mut daemon = Daemon::start(&webhook, &[("RUST_LOG", "trace")]);
    let mut client = daemon.client();
    let gate = daemon.log_gate();
    let blocked = gate.lock().unwrap();
    overflow(&daemon, &mut client);
    assert!(daemon.is_healthy());
    assert!(daemon.metric(DROPPED).unwrap() > 0.0);
    daemon.signal(Signal::TERM);
    assert_eq!(client.reply().0, 421);
    assert_eq!(daemon.wait_for_end().code(), Some(0));
    drop(blocked);
}

#[test]
fn dropped_records_are_reported_when_the_log_is_read_again() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("RUST_LOG", "trace")]);
    let mut client = daemon.client();
    let gate = daemon.log_gate();
    let blocked = gate.lock().unwrap();
    overflow(&daemon, &mut client);
    drop(blocked);
    let report = &daemon.wait_for_log("log records were dropped", 1)[0];
    assert!(report["records"].as_u64().unwrap() > 0 && report["seconds"].is_u64(), "{report}");
    assert_eq!(report["level"], "WARN");
    // Records are logged again, each in a line of its own.
    let accepted = daemon.logged("mail accepted").len();
    assert_eq!(client.mail(RECIPIENT, "\r\n").0, 250);
    daemon.wait_for_log("mail accepted", accepted + 1);
    assert!(daemon.log_lines().iter().all(serde_json::Value::is_object));
}

#[test]
fn an_error_at_the_start_ends_the_process_though_standard_error_is_blocked() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (_reader, mut writer) = std::io::pipe().unwrap();
    // What a pipe holds.
    writer.write_all(&[b'x'; 64 * 1024]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let variables = [
        ("MAIL_LASER_TARGET_EMAILS", RECIPIENT),
        ("MAIL_LASER_WEBHOOK_URL", "http://127.0.0.1/"),
        ("MAIL_LASER_BIND_ADDRESS", "127.0.0.1"),
        ("MAIL_LASER_PORT", &port),
    ];
    let mut daemon = command(directory.path(), &variables).stderr(writer).spawn().unwrap();
    let status = eventually("the daemon ends", || daemon.try_wait().unwrap());
    assert_eq!(status.code(), Some(1));
}
