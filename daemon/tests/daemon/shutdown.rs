//! SIGTERM: nothing new, what is under way to its end, exit 0.

use rustix::process::Signal;

use crate::harness::{Behaviour, Client, Daemon, Webhook, eventually};

#[test]
fn idle_sessions_are_told_and_a_mail_in_flight_is_finished() {
    let webhook = Webhook::start();
    let mut daemon = Daemon::start(&webhook, &[]);
    let mut idle = daemon.client();
    let mut sending = daemon.client();
    sending.begin_mail("support@example.com");
    sending.send("Subject: in flight\r\n\r\n");
    daemon.signal(Signal::TERM);

    let (code, text) = idle.reply();
    assert_eq!((code, text.contains("4.3.2")), (421, true), "{text}");
    assert!(idle.is_closed());
    assert!(
        Daemon::http(daemon.health, "GET", "/health").starts_with("HTTP/1.1 200 "),
        "draining is healthy"
    );
    assert!(daemon.has_ended().is_none(), "it waits for the mail");

    sending.send("text\r\n.\r\n");
    assert_eq!(sending.reply().0, 250);
    assert_eq!(sending.reply().0, 421);
    assert_eq!(daemon.wait_for_end().code(), Some(0));
    assert_eq!(webhook.received()[0].json["subject"], "in flight");
    let totals = &daemon.wait_for_log("deliveries ended", 1)[0];
    assert_eq!(
        (&totals["forwarded"], &totals["failed"], &totals["dropped"]),
        (&1.into(), &0.into(), &0.into())
    );
    assert_eq!(totals["level"], "INFO");
}

#[test]
fn queued_mails_are_delivered_before_the_end() {
    let webhook = Webhook::behaving(|_| Behaviour {
        delay: std::time::Duration::from_millis(50),
        ..Behaviour::status(200)
    });
    let mut daemon = Daemon::start(&webhook, &[("MAIL_LASER_WEBHOOK_CONCURRENCY", "1")]);
    let mut client = daemon.client();
    for _ in 0..20 {
        assert_eq!(client.mail("support@example.com", "\r\n").0, 250);
    }
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_for_end().code(), Some(0));
    assert_eq!(webhook.received().len(), 20);
}

#[test]
fn what_is_left_at_the_end_of_the_grace_is_dropped_with_a_warning_each() {
    let webhook = Webhook::behaving(|_| Behaviour::hang());
    let mut daemon = Daemon::start(
        &webhook,
        &[("MAIL_LASER_SHUTDOWN_GRACE", "1"), ("MAIL_LASER_WEBHOOK_CONCURRENCY", "2")],
    );
    let mut client = daemon.client();
    for _ in 0..5 {
        assert_eq!(client.mail("support@example.com", "\r\n").0, 250);
    }
    let mut stuck = Client::greeted(daemon.smtp);
    stuck.begin_mail("support@example.com");
    webhook.wait_for(2);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_for_end().code(), Some(0));
    let ids = |message| -> std::collections::BTreeSet<String> {
        daemon.logged(message).iter().map(|record| record["id"].to_string()).collect()
    };
    eventually("the log is complete", || daemon.logged("deliveries ended").first().cloned());
    assert_eq!(ids("mail dropped"), ids("mail accepted"));
    assert_eq!(ids("mail dropped").len(), 5);
    assert_eq!(daemon.logged("deliveries ended")[0]["dropped"], 5);
}

#[test]
fn no_connection_is_accepted_any_more() {
    let webhook = Webhook::start();
    let mut daemon = Daemon::start(&webhook, &[]);
    let mut sending = daemon.client();
    sending.begin_mail("support@example.com");
    daemon.signal(Signal::TERM);
    daemon.wait_for_log("shutting down", 1);
    let mut late = Client::connect(daemon.smtp);
    sending.send(".\r\n");
    assert_eq!(sending.reply().0, 250);
    assert_eq!(daemon.wait_for_end().code(), Some(0));
    assert!(late.is_closed(), "it was never greeted");
}

/// A session that has begun a mail and says nothing more is no mail in flight.
#[test]
fn a_client_that_only_began_a_mail_does_not_hold_the_shutdown() {
    let webhook = Webhook::start();
    let mut daemon = Daemon::start(&webhook, &[("MAIL_LASER_SHUTDOWN_GRACE", "600")]);
    let mut begun = daemon.client();
    assert_eq!(begun.ask("MAIL FROM:<a@example.org>").0, 250);
    let mut half = daemon.client();
    half.send("NOO");
    daemon.signal(Signal::TERM);
    assert_eq!(half.reply().0, 421);
    assert_eq!(begun.reply().0, 421);
    assert_eq!(daemon.wait_for_end().code(), Some(0));
}

#[test]
fn an_interrupt_ends_it_as_well() {
    let webhook = Webhook::start();
    let mut daemon = Daemon::start(&webhook, &[]);
    daemon.signal(Signal::INT);
    assert_eq!(daemon.wait_for_end().code(), Some(0));
    daemon.wait_for_log("SIGINT received", 1);
}
