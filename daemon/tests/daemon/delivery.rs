//! The fast lane, concurrency, bounds and the request itself.

use std::time::Duration;

use crate::harness::{Behaviour, Daemon, Webhook, eventually};

#[test]
fn a_delivery_that_fails_is_retried_with_the_same_request() {
    let webhook = Webhook::behaving(|request| Behaviour::status(if request < 2 { 503 } else { 200 }));
    let daemon = Daemon::start(&webhook, &[]);
    assert_eq!(daemon.client().mail("support@example.com", "Subject: x\r\n\r\n").0, 250);
    let received = webhook.wait_for(3);
    daemon.wait_for_log("mail delivered", 1);
    assert_eq!(daemon.logged("delivery attempt failed").len(), 2);
    let delays: Vec<u64> = daemon
        .logged("retrying delivery")
        .iter()
        .map(|record| record["delay_ms"].as_u64().unwrap())
        .collect();
    assert_eq!(delays, [100, 200]);
    let waited: Vec<Duration> = received.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    assert!(waited[0] >= Duration::from_millis(100) && waited[1] >= Duration::from_millis(200), "{waited:?}");
    assert!(received.iter().all(|request| request.json == received[0].json));
    assert!(
        received
            .iter()
            .all(|request| { request.headers["idempotency-key"] == received[0].headers["idempotency-key"] })
    );
}

#[test]
fn retries_end_and_the_mail_counts_as_failed() {
    let webhook = Webhook::behaving(|_| Behaviour::status(400));
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_WEBHOOK_MAX_RETRIES", "2")]);
    assert_eq!(daemon.client().mail("support@example.com", "\r\n").0, 250);
    let exhausted = daemon.wait_for_log("delivery failed, retries exhausted", 1);
    assert_eq!(exhausted[0]["level"], "ERROR");
    assert_eq!(webhook.received().len(), 3);
    let failed = "mail_laser_messages_total{route=\"default\",outcome=\"failed\"}";
    eventually("it is counted", || (daemon.metric(failed) == Some(1.0)).then_some(()));
    assert_eq!(
        daemon.metric("mail_laser_webhook_attempts_total{route=\"default\",result=\"4xx\"}"),
        Some(3.0)
    );
}

#[test]
fn a_hanging_webhook_costs_one_time_limit_and_delays_nobody_else() {
    let webhook =
        Webhook::behaving(|request| if request == 0 { Behaviour::hang() } else { Behaviour::status(200) });
    let daemon = Daemon::start(
        &webhook,
        &[("MAIL_LASER_WEBHOOK_TIMEOUT", "2"), ("MAIL_LASER_WEBHOOK_MAX_RETRIES", "0")],
    );
    let mut client = daemon.client();
    assert_eq!(client.mail("support@example.com", "Subject: hangs\r\n\r\n").0, 250);
    webhook.wait_for(1);
    assert_eq!(client.mail("support@example.com", "Subject: passes\r\n\r\n").0, 250);
    daemon.wait_for_log("mail delivered", 1);
    assert!(daemon.logged("delivery attempt failed").is_empty(), "the first still hangs");
    let failed = daemon.wait_for_log("delivery attempt failed", 1);
    assert!(failed[0]["reason"].as_str().unwrap().contains("in time"));
}

#[test]
fn deliveries_run_in_parallel_up_to_the_concurrency_and_the_queue_is_bounded() {
    let webhook = Webhook::behaving(|_| Behaviour::hang());
    let daemon = Daemon::start(
        &webhook,
        &[("MAIL_LASER_WEBHOOK_CONCURRENCY", "3"), ("MAIL_LASER_QUEUE_MAX_MESSAGES", "2")],
    );
    let mut client = daemon.client();
    for sent in 1..=3 {
        assert_eq!(client.mail("support@example.com", "\r\n").0, 250);
        webhook.wait_for(sent);
    }
    for _ in 0..2 {
        assert_eq!(client.mail("support@example.com", "\r\n").0, 250, "two wait");
    }
    let (code, text) = client.mail("support@example.com", "\r\n");
    assert_eq!((code, text.contains("4.3.2")), (451, true), "{text}");
    assert_eq!(daemon.metric("mail_laser_queue_messages{route=\"default\"}"), Some(2.0));
    assert_eq!(daemon.metric("mail_laser_messages_total{route=\"default\",outcome=\"deferred\"}"), Some(1.0));
    assert_eq!(webhook.received().len(), 3);
}

#[test]
fn the_memory_of_waiting_mails_is_bounded() {
    let webhook = Webhook::behaving(|_| Behaviour::hang());
    let daemon = Daemon::start(
        &webhook,
        &[("MAIL_LASER_MEMORY_MAX_BYTES", "3000000"), ("MAIL_LASER_MAX_MESSAGE_SIZE", "600000")],
    );
    let mut client = daemon.client();
    let mail = format!("\r\n{}\r\n", "x".repeat(500_000));
    let codes: Vec<u16> = (0..6).map(|_| client.mail("support@example.com", &mail).0).collect();
    assert_eq!(codes.first(), Some(&250));
    assert_eq!(codes.last(), Some(&451));
    assert!(daemon.metric("mail_laser_queue_bytes").unwrap() <= 3_000_000.0);
}

/// The status decides, however long the rest of the answer takes.
#[test]
fn an_answer_whose_body_stalls_has_delivered_the_mail() {
    let webhook = Webhook::behaving(|_| Behaviour { body_stalls: true, ..Behaviour::status(200) });
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_WEBHOOK_TIMEOUT", "1")]);
    assert_eq!(daemon.client().mail("support@example.com", "\r\n").0, 250);
    daemon.wait_for_log("mail delivered", 1);
    assert!(daemon.logged("delivery attempt failed").is_empty());
    assert_eq!(webhook.received().len(), 1);
}

/// Text that grows when it becomes JSON is bounded by the same memory as everything else.
#[test]
fn a_request_that_outgrows_the_memory_is_refused() {
    let webhook = Webhook::start();
    let limits = [("MAIL_LASER_MEMORY_MAX_BYTES", "4000000"), ("MAIL_LASER_MAX_MESSAGE_SIZE", "700000")];
    let daemon = Daemon::start(&webhook, &limits);
    let mut client = daemon.client();
    let control_characters = format!("\r\n{}\r\n", "\u{1}".repeat(690_000));
    let (code, text) = client.mail("support@example.com", &control_characters);
    assert_eq!((code, text.contains("5.3.4")), (552, true), "{text}");
    assert_eq!(client.mail("support@example.com", &format!("\r\n{}\r\n", "x".repeat(600_000))).0, 250);
    webhook.wait_for(1);
}

/// Pages that are costly to lay out, and headers that are costly to decode, delay nobody else.
#[test]
fn costly_mails_do_not_hold_the_others() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let page =
        format!("Content-Type: text/html\r\n\r\n{}{}\r\n", "<blockquote>".repeat(1_900), "x ".repeat(50_000));
    let header = format!("Subject: {}\r\n\r\n", "=? ".repeat(5_300));
    for mail in [&page, &header] {
        let mut costly: Vec<_> = (0..10).map(|_| daemon.client()).collect();
        for client in &mut costly {
            client.begin_mail("support@example.com");
            client.send(format!("{mail}.\r\n"));
        }
        assert!(Daemon::http(daemon.health, "GET", "/health").starts_with("HTTP/1.1 200 "));
        for client in &mut costly {
            assert_eq!(client.reply().0, 250);
        }
    }
    let largest = webhook.wait_for(20).iter().map(|request| request.bytes).max();
    assert!(largest < Some(1_000_000), "{largest:?} bytes for a mail of {}", page.len());
}

#[test]
fn redirects_are_not_followed() {
    let target = Webhook::start();
    let location = target.url();
    let webhook = Webhook::behaving(move |_| Behaviour {
        headers: vec![("location", location.clone())],
        ..Behaviour::status(307)
    });
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_WEBHOOK_MAX_RETRIES", "0")]);
    assert_eq!(daemon.client().mail("support@example.com", "\r\n").0, 250);
    daemon.wait_for_log("delivery failed", 1);
    assert!(target.received().is_empty());
}

#[test]
fn a_huge_answer_is_not_read() {
    let webhook =
        Webhook::behaving(|_| Behaviour { body_bytes: 100 * 1024 * 1024, ..Behaviour::status(200) });
    let daemon = Daemon::start(&webhook, &[]);
    let before = daemon.resident_bytes();
    assert_eq!(daemon.client().mail("support@example.com", "\r\n").0, 250);
    daemon.wait_for_log("mail delivered", 1);
    assert!(daemon.resident_bytes() < before + 20 * 1024 * 1024);
}

#[test]
fn the_token_is_sent_and_no_secret_is_logged() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(
        &webhook,
        &[
            ("MAIL_LASER_WEBHOOK_BEARER_TOKEN", "secret-token"),
            ("RUST_LOG", "trace,hyper_util=debug,hickory_resolver=debug"),
        ],
    );
    assert_eq!(
        daemon.client().mail("support@example.com", "Subject: secret-subject\r\n\r\nsecret-body\r\n").0,
        250
    );
    let received = webhook.wait_for(1);
    assert_eq!(received[0].headers["authorization"], "Bearer secret-token");
    assert_eq!(received[0].path, "/secret-path?key=secret-key");
    daemon.wait_for_log("mail delivered", 1);
    let ours: String =
        daemon.log_text().lines().filter(|line| line.contains("\"target\":\"mail_laser")).collect();
    assert!(ours.contains("mail delivered"));
    assert!(!ours.contains("secret"), "{ours}");
}

#[test]
fn credentials_of_the_address_are_sent_as_a_header_to_a_host_by_name() {
    let webhook = Webhook::start();
    let url = webhook.url().replace("://127.0.0.1", "://user:secret%20password@localhost");
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_WEBHOOK_URL", url.as_str())]);
    assert_eq!(daemon.client().mail("support@example.com", "\r\n").0, 250);
    assert_eq!(webhook.wait_for(1)[0].headers["authorization"], "Basic dXNlcjpzZWNyZXQgcGFzc3dvcmQ=");
    daemon.wait_for_log("mail delivered", 1);
    assert!(!daemon.log_text().contains("secret"));
}

#[test]
fn an_unreachable_webhook_is_named_without_its_path() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let webhook = Webhook::start();
    let url = format!("http://user:secret-password@{closed}/secret-path");
    let daemon = Daemon::start(
        &webhook,
        &[("MAIL_LASER_WEBHOOK_URL", url.as_str()), ("MAIL_LASER_WEBHOOK_MAX_RETRIES", "0")],
    );
    assert_eq!(daemon.client().mail("support@example.com", "\r\n").0, 250);
    let failed = daemon.wait_for_log("delivery attempt failed", 1);
    assert_eq!(failed[0]["webhook"], format!("http://{closed}"));
    assert!(failed[0]["reason"].as_str().unwrap().contains("refused"), "{failed:?}");
    assert!(!daemon.log_text().contains("secret"));
}

/// Mail flows while one delivery after another is slow.
#[test]
fn a_slow_webhook_does_not_hold_senders() {
    let webhook =
        Webhook::behaving(|_| Behaviour { delay: Duration::from_millis(500), ..Behaviour::status(200) });
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_WEBHOOK_CONCURRENCY", "100")]);
    let mut client = daemon.client();
    let started = std::time::Instant::now();
    for _ in 0..50 {
        assert_eq!(client.mail("support@example.com", "\r\n").0, 250);
    }
    let took = started.elapsed();
    assert!(took < Duration::from_secs(20), "50 senders waited {took:?}; one after the other is 25 s");
    webhook.wait_for(50);
}

#[test]
fn a_private_authority_is_trusted_when_it_is_named_and_only_then() {
    let (webhook, pem) = Webhook::with_tls();
    let directory = tempfile::tempdir().unwrap();
    let roots = directory.path().join("ca.pem");
    std::fs::write(&roots, pem).unwrap();

    let stranger = Daemon::start(&webhook, &[("MAIL_LASER_WEBHOOK_MAX_RETRIES", "0")]);
    assert_eq!(stranger.client().mail("support@example.com", "\r\n").0, 250);
    let failed = stranger.wait_for_log("delivery attempt failed", 1);
    assert!(failed[0]["reason"].as_str().unwrap().contains("certificate"), "{failed:?}");
    assert!(webhook.received().is_empty());

    let friend = Daemon::start(&webhook, &[("MAIL_LASER_WEBHOOK_CA_FILE", roots.to_str().unwrap())]);
    assert_eq!(friend.client().mail("support@example.com", "Subject: private\r\n\r\n").0, 250);
    assert_eq!(webhook.wait_for(1)[0].json["subject"], "private");
}
