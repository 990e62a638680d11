//! The circuit breaker, seen from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::harness::{Behaviour, Daemon, Webhook, eventually};

const STATE: &str = "mail_laser_circuit_breaker_state{route=\"default\"}";

#[test]
fn a_failing_webhook_opens_the_circuit_and_one_probe_closes_it() {
    let status = Arc::new(AtomicU16::new(500));
    let answer = Arc::clone(&status);
    let webhook = Webhook::behaving(move |_| Behaviour::status(answer.load(Ordering::Relaxed)));
    let daemon = Daemon::start(
        &webhook,
        &[
            ("MAIL_LASER_WEBHOOK_MAX_RETRIES", "0"),
            ("MAIL_LASER_CIRCUIT_BREAKER_THRESHOLD", "5"),
            ("MAIL_LASER_CIRCUIT_BREAKER_RESET", "2"),
        ],
    );
    let mut client = daemon.client();
    let mut send = |subject: &str| client.mail("support@example.com", &format!("Subject: {subject}\r\n\r\n"));
    for _ in 0..5 {
        assert_eq!(send("fails").0, 250);
    }
    let opened = daemon.wait_for_log("circuit opened", 1);
    assert_eq!((&opened[0]["level"], &opened[0]["target"]), (&"ERROR".into(), &"mail_laser::webhook".into()));
    assert_eq!(daemon.metric(STATE), Some(2.0));

    for _ in 0..3 {
        assert_eq!(send("dropped").0, 250, "forward answers from memory");
    }
    let dropped = daemon.wait_for_log("mail dropped: the circuit is open", 3);
    assert_eq!(dropped[0]["level"], "WARN");
    assert_eq!(daemon.metric("mail_laser_messages_total{route=\"default\",outcome=\"dropped\"}"), Some(3.0));
    assert_eq!(webhook.received().len(), 5, "nothing is attempted while it is open");

    status.store(200, Ordering::Relaxed);
    eventually("a probe gets through", || {
        assert_eq!(send("probe").0, 250);
        std::thread::sleep(std::time::Duration::from_millis(100));
        (webhook.received().len() > 5).then_some(())
    });
    daemon.wait_for_log("circuit closed", 1);
    assert_eq!(send("after").0, 250);
    eventually("the next mail is delivered", || {
        webhook.received().iter().any(|request| request.json["subject"] == "after").then_some(())
    });
    assert_eq!(daemon.metric(STATE), Some(0.0));
}

#[test]
fn a_failed_probe_opens_the_circuit_again() {
    let webhook = Webhook::behaving(|_| Behaviour::status(503));
    let daemon = Daemon::start(
        &webhook,
        &[
            ("MAIL_LASER_WEBHOOK_MAX_RETRIES", "0"),
            ("MAIL_LASER_CIRCUIT_BREAKER_THRESHOLD", "1"),
            ("MAIL_LASER_CIRCUIT_BREAKER_RESET", "1"),
        ],
    );
    let mut client = daemon.client();
    eventually("it opens three times", || {
        assert_eq!(client.mail("support@example.com", "\r\n").0, 250);
        std::thread::sleep(std::time::Duration::from_millis(100));
        (daemon.logged("circuit opened").len() >= 3).then_some(())
    });
    assert!(webhook.received().len() <= 3 + 1, "one attempt for each time that it was not open");
}
