//! Bounds on what clients may take.

use crate::harness::{Client, Daemon, Webhook, eventually};

#[test]
fn the_third_unknown_recipient_ends_the_session() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = daemon.client();
    assert_eq!(client.ask("MAIL FROM:<a@example.org>").0, 250);
    assert_eq!(client.ask("RCPT TO:<one@example.com>").0, 550);
    assert_eq!(client.ask("RCPT TO:<two@example.com>").0, 550);
    let (code, text) = client.ask("RCPT TO:<three@example.com>");
    assert_eq!((code, text.contains("4.7.0")), (421, true), "{text}");
    assert!(client.is_closed());
}

#[test]
fn connections_of_one_address_and_in_all_are_limited_and_told_why() {
    let webhook = Webhook::start();
    for (variables, enhanced, result) in [
        (
            [("MAIL_LASER_MAX_CONCURRENT_PER_IP", "2"), ("MAIL_LASER_MAX_CONNECTIONS", "100")],
            "4.7.0",
            "too_many_from_address",
        ),
        (
            [("MAIL_LASER_MAX_CONCURRENT_PER_IP", "0"), ("MAIL_LASER_MAX_CONNECTIONS", "2")],
            "4.3.2",
            "too_many",
        ),
    ] {
        let daemon = Daemon::start(&webhook, &variables);
        let first = daemon.client();
        let _second = daemon.client();
        let mut refused = Client::connect(daemon.smtp);
        let (code, text) = refused.reply();
        assert_eq!((code, text.contains(enhanced)), (421, true), "{text}");
        assert!(refused.is_closed());
        let series = format!("mail_laser_smtp_connections_total{{result=\"{result}\"}}");
        assert_eq!(daemon.metric(&series), Some(1.0));
        drop(first);
        eventually("there is room again", || (Client::connect(daemon.smtp).reply().0 == 220).then_some(()));
    }
}

#[test]
fn connections_beyond_the_memory_are_told_so() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(
        &webhook,
        &[("MAIL_LASER_MEMORY_MAX_BYTES", "1048576"), ("MAIL_LASER_MAX_MESSAGE_SIZE", "100000")],
    );
    let clients: Vec<Client> = (0..64).map(|_| daemon.client()).collect();
    let (code, text) = Client::connect(daemon.smtp).reply();
    assert_eq!((code, text.contains("4.3.2")), (421, true), "{text}");
    drop(clients);
}

#[test]
fn recipients_errors_and_idle_commands_are_limited() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = daemon.client();
    let last = (0..20).map(|_| client.ask("NONSENSE").0).last();
    assert_eq!(last, Some(421));
    assert!(client.is_closed());

    let mut client = daemon.client();
    let last = (0..100).map(|_| client.ask("NOOP").0).last();
    assert_eq!(last, Some(421));
    assert!(client.is_closed());
}

/// What is sent without end is neither kept nor answered without end.
#[test]
fn hostile_input_costs_no_memory() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_MAX_MESSAGE_SIZE", "1000000")]);
    let before = daemon.resident_bytes();
    let chunk = vec![b'x'; 1_000_000];

    let mut endless_line = Client::connect(daemon.smtp);
    while endless_line.try_send(&chunk).is_ok() {}

    let mut endless_mail = daemon.client();
    endless_mail.begin_mail("support@example.com");
    for _ in 0..50 {
        endless_mail.send(&chunk);
    }
    endless_mail.send("\r\n.\r\n");
    assert_eq!(endless_mail.reply().0, 552);

    let mut binary = Client::connect(daemon.smtp);
    assert_eq!(binary.reply().0, 220);
    let _ = binary.try_send((0..=255u8).cycle().take(500_000).collect::<Vec<u8>>());
    eventually("it is sent away", || binary.try_send("x").is_err().then_some(()));

    assert!(daemon.resident_bytes() < before + 10 * 1024 * 1024);
    assert_eq!(daemon.client().mail("support@example.com", "\r\n").0, 250);
    assert!(daemon.logged("session ended by a panic").is_empty());
}
