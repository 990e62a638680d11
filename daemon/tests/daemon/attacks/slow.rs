//! Slowloris: clients that hold their sessions by saying next to nothing. What each phase of a session
//! may take is tested in virtual time (`src/smtp/session/tests/time.rs`) and over sockets with a short
//! one (`rfc5321/section_4_5_3_2_timeouts.rs`).

use crate::harness::{Client, Daemon, Webhook};

/// Hundreds of mails that do not end hold neither threads nor delivery slots.
#[test]
fn mails_that_trickle_hold_up_nobody() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_WEBHOOK_CONCURRENCY", "1")]);
    let mut slow: Vec<Client> = (0..300).map(|_| daemon.client()).collect();
    for (number, client) in slow.iter_mut().enumerate() {
        client.envelope("support@example.com");
        client.send(if number % 2 == 0 { "DATA\r\n" } else { "BDAT 1000 LAST\r\n" });
    }
    let mut other = daemon.client();
    for sent in 1..=20 {
        slow.iter_mut().for_each(|client| client.send("x"));
        assert_eq!(other.mail("support@example.com", "\r\n").0, 250);
        webhook.wait_for(sent);
        assert!(daemon.is_healthy());
    }
}
