//! `confirm`: the sender hears what the webhook says, and nothing is delivered twice for it.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{Behaviour, Client, Daemon, Webhook, eventually};
use crate::routes;

const TO: &str = "support@example.com";

fn start(webhook: &Webhook, variables: &[(&str, &str)]) -> Daemon {
    let base = [
        ("MAIL_LASER_DELIVERY", "confirm"),
        ("MAIL_LASER_WEBHOOK_MAX_RETRIES", "0"),
        ("MAIL_LASER_TLS", "off"),
    ];
    Daemon::start(webhook, &[&base[..], variables].concat())
}

/// The reply to a mail whose subject makes it another than all others.
fn send(daemon: &Daemon, subject: &str) -> (u16, String) {
    daemon.client().mail(TO, &format!("Subject: {subject}\r\n\r\n"))
}

#[test]
fn the_reply_is_what_the_webhook_says() {
    let rows = [
        (200, "250 2.0.0"),
        (204, "250 2.0.0"),
        (302, "451 4.3.0"),
        (400, "554 5.3.0"),
        (401, "451 4.3.0"),
        (403, "451 4.3.0"),
        (404, "451 4.3.0"),
        (406, "554 5.3.0"),
        (408, "451 4.3.0"),
        (409, "451 4.3.0"),
        (410, "554 5.3.0"),
        (413, "554 5.3.0"),
        (415, "554 5.3.0"),
        (422, "554 5.3.0"),
        (429, "451 4.3.0"),
        (500, "451 4.3.0"),
        (503, "451 4.3.0"),
    ];
    let webhook = Webhook::behaving(move |request| Behaviour::status(rows[request].0));
    let daemon = start(&webhook, &[("MAIL_LASER_CIRCUIT_BREAKER_THRESHOLD", "100")]);
    for (status, expected) in rows {
        let (_, text) = send(&daemon, &status.to_string());
        assert!(text.starts_with(expected), "{status}: {text}");
        let named = status < 300 || text.contains(&format!("the webhook answered {status}"));
        assert!(named, "{status}: {text}");
    }
    for (outcome, count) in [("forwarded", 2.0), ("rejected", 6.0), ("deferred", 9.0), ("dropped", 0.0)] {
        let series = format!("mail_laser_messages_total{{route=\"default\",outcome=\"{outcome}\"}}");
        assert_eq!(daemon.metric(&series), Some(count), "{outcome}");
    }
}

#[test]
fn temporary_failures_are_retried_and_permanent_ones_are_not() {
    let webhook = Webhook::behaving(|request| Behaviour::status([503, 503, 200, 422][request]));
    let daemon = start(&webhook, &[("MAIL_LASER_WEBHOOK_MAX_RETRIES", "3")]);
    assert_eq!(send(&daemon, "late").0, 250);
    assert_eq!(webhook.received().len(), 3);
    assert_eq!(send(&daemon, "never").0, 554);
    assert_eq!(webhook.received().len(), 4);
    assert_eq!(daemon.wait_for_log("mail refused by the webhook for good", 1).len(), 1);
}

#[test]
fn no_answer_is_a_temporary_failure() {
    let hangs = Webhook::behaving(|_| Behaviour::hang());
    let daemon = start(&hangs, &[("MAIL_LASER_WEBHOOK_TIMEOUT", "1")]);
    let (code, text) = send(&daemon, "time-out");
    assert!(code == 451 && text.contains("did not answer in time"), "{text}");

    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}/");
    let daemon = start(&hangs, &[("MAIL_LASER_WEBHOOK_URL", &url)]);
    let (code, text) = send(&daemon, "refused connection");
    assert!(code == 451 && text.contains("could not be reached"), "{text}");
}

#[test]
fn an_answer_that_breaks_off_is_a_temporary_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4_096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Le");
        }
    });
    let unused = Webhook::start();
    let daemon = start(&unused, &[("MAIL_LASER_WEBHOOK_URL", &url)]);
    assert_eq!(send(&daemon, "reset").0, 451);
}

#[test]
fn problem_details_reach_the_reply_and_the_log_as_one_line() {
    let webhook = Webhook::behaving(|_| Behaviour {
        headers: vec![("Content-Type", "application/problem+json".to_owned())],
        text: Some(
            r#"{"title": "No such ticket", "detail": "Ticket 7\r\n250 2.0.0 Ok\u001b[2J"}"#.to_owned(),
        ),
        ..Behaviour::status(422)
    });
    let daemon = start(&webhook, &[]);
    let (code, text) = send(&daemon, "problem");
    assert_eq!(code, 554);
    assert!(text.contains("the webhook answered 422: No such ticket: Ticket 7 250 2.0.0 Ok [2J"), "{text}");
    assert_eq!(text.lines().count(), 1);
    let logged = daemon.wait_for_log("delivery attempt failed", 1);
    assert!(logged[0]["reason"].as_str().unwrap().ends_with("Ticket 7 250 2.0.0 Ok [2J"), "{logged:?}");
}

#[test]
fn retry_after_is_waited_for_if_there_is_time() {
    let webhook = Webhook::behaving(|request| Behaviour {
        headers: vec![("Retry-After", ["1", "", "3600"][request].to_owned())],
        ..Behaviour::status([503, 200, 503][request])
    });
    let daemon = start(&webhook, &[("MAIL_LASER_WEBHOOK_MAX_RETRIES", "1")]);
    assert_eq!(send(&daemon, "soon").0, 250);
    let received = webhook.received();
    assert!(received[1].at - received[0].at >= Duration::from_secs(1));
    assert_eq!(send(&daemon, "in an hour").0, 451);
    assert_eq!(webhook.received().len(), 3);
}

#[test]
fn an_open_circuit_defers_at_once_and_refusals_for_good_do_not_open_it() {
    let status = Arc::new(AtomicU16::new(422));
    let answer = Arc::clone(&status);
    let webhook = Webhook::behaving(move |_| Behaviour::status(answer.load(Ordering::Relaxed)));
    let daemon = start(
        &webhook,
        &[("MAIL_LASER_CIRCUIT_BREAKER_THRESHOLD", "2"), ("MAIL_LASER_CIRCUIT_BREAKER_RESET", "2")],
    );
    for mail in 0..3 {
        assert_eq!(send(&daemon, &format!("refused {mail}")).0, 554);
    }
    status.store(500, Ordering::Relaxed);
    for mail in 0..2 {
        assert_eq!(send(&daemon, &format!("failed {mail}")).0, 451);
    }
    assert_eq!(
        send(&daemon, "open"),
        (451, "451 4.3.0 The webhook has failed too often lately, try again later\r\n".to_owned())
    );
    assert_eq!(webhook.received().len(), 5, "without an attempt");
    assert_eq!(daemon.wait_for_log("mail deferred: the circuit is open", 1)[0]["level"], "WARN");
    status.store(200, Ordering::Relaxed);
    eventually("the circuit closes", || (send(&daemon, "probe").0 == 250).then_some(()));
}

#[test]
fn who_was_not_told_in_time_is_told_at_the_retry_and_nothing_is_delivered_twice() {
    let webhook = Webhook::behaving(|request| Behaviour {
        delay: Duration::from_secs(if request == 0 { 2 } else { 0 }),
        ..Behaviour::status(200)
    });
    let daemon = start(&webhook, &[("MAIL_LASER_CONFIRM_TIMEOUT", "1")]);
    let (code, text) = send(&daemon, "slow");
    assert!(code == 451 && text.contains("not confirmed the mail in time"), "{text}");
    daemon.wait_for_log("mail delivered", 1);
    let (code, text) = send(&daemon, "slow");
    assert_eq!(code, 250, "{text}");
    assert_eq!(webhook.received().len(), 1, "the retry is told what became of the first");

    assert_eq!(send(&daemon, "slow").0, 250);
    let received = webhook.received();
    assert_eq!(received.len(), 2, "who was told and sends again wants another");
    assert_eq!(received[0].headers["idempotency-key"], received[1].headers["idempotency-key"]);
    assert!(text.contains(&received[0].headers["idempotency-key"]));
}

#[test]
fn no_attempt_begins_once_the_sender_was_answered() {
    let webhook = Webhook::behaving(|request| Behaviour {
        // Longer than both are held, though the second begins late.
        delay: Duration::from_secs(if request == 0 { 3 } else { 0 }),
        ..Behaviour::status(503)
    });
    let daemon = start(
        &webhook,
        &[
            ("MAIL_LASER_CONFIRM_TIMEOUT", "1"),
            ("MAIL_LASER_WEBHOOK_MAX_RETRIES", "10"),
            ("MAIL_LASER_WEBHOOK_CONCURRENCY", "1"),
        ],
    );
    let mut waiting = daemon.client();
    let mut first = daemon.client();
    first.begin_mail(TO);
    first.send("Subject: first\r\n\r\n.\r\n");
    webhook.wait_for(1);
    assert_eq!(waiting.mail(TO, "Subject: has no slot\r\n\r\n").0, 451);
    assert_eq!(first.reply().0, 451);
    daemon.wait_for_log("delivery failed, retries exhausted", 1);
    assert_eq!(webhook.received().len(), 1);
    let series = "mail_laser_messages_total{route=\"default\",outcome=\"deferred\"}";
    eventually("both count as deferred", || (daemon.metric(series) == Some(2.0)).then_some(()));
    assert_eq!(daemon.metric("mail_laser_queue_messages{route=\"default\"}"), Some(0.0));
}

#[test]
fn a_sender_that_hangs_up_finds_its_mail_delivered_when_it_comes_back() {
    let webhook = Webhook::behaving(|request| Behaviour {
        delay: Duration::from_secs(if request == 0 { 1 } else { 0 }),
        ..Behaviour::status(200)
    });
    let daemon = start(&webhook, &[]);
    let mut client = daemon.client();
    client.begin_mail(TO);
    client.send("Subject: gone\r\n\r\n.\r\n");
    webhook.wait_for(1);
    drop(client);
    daemon.wait_for_log("mail refused", 1);
    assert_eq!(send(&daemon, "gone").0, 250, "while the first is under way, or after it");
    daemon.wait_for_log("mail delivered", 1);
    assert_eq!(webhook.received().len(), 1);
}

#[test]
fn a_sender_that_said_quit_and_closed_its_side_is_still_answered() {
    let webhook =
        Webhook::behaving(|_| Behaviour { delay: Duration::from_millis(300), ..Behaviour::status(200) });
    let daemon = start(&webhook, &[]);
    let mut stream = std::net::TcpStream::connect(daemon.smtp).unwrap();
    let mut greeting = [0; 512];
    assert_ne!(stream.read(&mut greeting).unwrap(), 0);
    stream
        .write_all(b"EHLO c\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<support@example.com>\r\nDATA\r\n\r\n.\r\nQUIT\r\n")
        .unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut replies = String::new();
    stream.read_to_string(&mut replies).unwrap();
    assert!(replies.contains("250 2.0.0 Ok, accepted as"), "{replies}");
    assert!(replies.ends_with("221 2.0.0 Bye\r\n"), "{replies}");
}

#[test]
fn the_same_mail_at_the_same_time_is_one_delivery() {
    let webhook =
        Webhook::behaving(|_| Behaviour { delay: Duration::from_secs(2), ..Behaviour::status(200) });
    let daemon = start(&webhook, &[]);
    let mut clients: Vec<_> = (0..3).map(|_| daemon.client()).collect();
    for client in &mut clients {
        client.begin_mail(TO);
        client.send("Subject: thrice\r\n\r\n.\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.reply().0, 250);
    }
    assert_eq!(webhook.received().len(), 1);
}

#[test]
fn a_retry_has_the_same_key_at_every_replica() {
    let webhook = Webhook::behaving(|request| Behaviour::status(if request == 0 { 503 } else { 200 }));
    let (one, other) = (start(&webhook, &[]), start(&webhook, &[]));
    assert_eq!(send(&one, "retry").0, 451);
    assert_eq!(send(&other, "retry").0, 250);
    assert_eq!(send(&other, "another").0, 250);
    let keys: Vec<_> = webhook.received().iter().map(|r| r.headers["idempotency-key"].clone()).collect();
    assert_eq!(keys[0], keys[1]);
    assert_ne!(keys[1], keys[2]);
    assert_eq!(webhook.received()[0].json["id"], keys[0].as_str());
}

#[test]
fn at_shutdown_a_held_sender_is_told_to_come_back() {
    let webhook = Webhook::behaving(|_| Behaviour::hang());
    let mut daemon = start(&webhook, &[("MAIL_LASER_SHUTDOWN_GRACE", "3")]);
    let mut client = daemon.client();
    client.begin_mail(TO);
    client.send("Subject: held\r\n\r\n.\r\n");
    webhook.wait_for(1);
    daemon.signal(Signal::TERM);
    let (code, text) = client.reply();
    assert!(code == 451 && text.contains("shuts down"), "{text}");
    assert_eq!(daemon.wait_for_end().code(), Some(0));
    let totals = &daemon.wait_for_log("deliveries ended", 1)[0];
    assert_eq!((&totals["forwarded"], &totals["dropped"]), (&0.into(), &0.into()));
}

/// The number of messages that ended like this at a route.
fn counted(daemon: &Daemon, route: &str, outcome: &str) -> f64 {
    let series = format!("mail_laser_messages_total{{route=\"{route}\",outcome=\"{outcome}\"}}");
    daemon.metric(&series).unwrap_or_default()
}

#[test]
fn copies_that_end_at_the_same_time_are_posted_once() {
    let webhook = Webhook::start();
    let daemon = start(&webhook, &[]);
    // Large, so that the sessions overlap while it is read.
    let content = format!("Subject: large\r\n\r\n{}", format!("{}\r\n", "x".repeat(70)).repeat(15_000));
    let mut clients: Vec<Client> = (0..6).map(|_| daemon.client()).collect();
    for client in &mut clients {
        client.begin_mail(TO);
        client.send(&content);
    }
    clients.iter_mut().for_each(|client| client.send(".\r\n"));
    for client in &mut clients {
        let (code, text) = client.reply();
        assert_eq!(code, 250, "{text}");
    }
    assert_eq!(webhook.received().len(), 1);
    assert_eq!(counted(&daemon, "default", "forwarded"), 1.0);
}

#[test]
fn a_copy_of_a_message_that_cannot_be_delivered_is_deferred_with_it() {
    let webhook = Webhook::behaving(|_| Behaviour::status(503));
    let daemon = start(&webhook, &[("MAIL_LASER_CIRCUIT_BREAKER_THRESHOLD", "100")]);
    let mut clients: Vec<Client> = (0..2).map(|_| daemon.client()).collect();
    clients.iter_mut().for_each(|client| client.begin_mail(TO));
    for client in &mut clients {
        client.send("Subject: twice\r\n\r\n.\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.reply().0, 451);
    }
    // Nothing of it is left that would keep the retry from the webhook.
    let before = webhook.received().len();
    assert_eq!(send(&daemon, "twice").0, 451);
    assert_eq!(webhook.received().len(), before + 1);
}

#[test]
fn a_destination_that_has_the_message_is_not_counted_again() {
    let directory = tempfile::tempdir().unwrap();
    let (broken, fine) = (Webhook::of_others_behaving(|_| Behaviour::status(503)), Webhook::of_others());
    let table = [
        routes::route("a/broken", "a@example.com", &broken),
        routes::route("b/fine", "b@example.com", &fine),
    ];
    routes::put(directory.path(), &table);
    let daemon = routes::start(directory.path(), &[("MAIL_LASER_DELIVERY", "confirm")]);
    let mut clients: Vec<Client> = (0..3).map(|_| daemon.client()).collect();
    for client in &mut clients {
        client.ask("MAIL FROM:<ann@example.org>");
        for address in ["a@example.com", "b@example.com"] {
            assert_eq!(client.ask(&format!("RCPT TO:<{address}>")).0, 250);
        }
        assert_eq!(client.ask("DATA").0, 354);
    }
    // From now on the circuit is open.
    assert_eq!(daemon.client().mail("a@example.com", "\r\n").0, 451);
    assert_eq!(counted(&daemon, "a/broken", "deferred"), 1.0);
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.ask("Subject: both\r\n\r\n.").0, 451);
        assert_eq!(fine.received().len(), 1);
        let at_fine = ["forwarded", "deferred"].map(|outcome| counted(&daemon, "b/fine", outcome));
        assert_eq!(at_fine, [1.0, 0.0], "copy {number}");
        // The sender has it for this one after each copy.
        assert_eq!(counted(&daemon, "a/broken", "deferred"), 2.0 + number as f64);
    }
    assert_eq!(broken.received().len(), 1);
}
