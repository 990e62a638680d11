//! The PROXY protocol: who is behind a load balancer.

use rustix::process::Signal;

use crate::harness::{Client, Daemon, Webhook};

const FROM_HERE: (&str, &str) = ("MAIL_LASER_PROXY_PROTOCOL_FROM", "10.0.0.0/8,127.0.0.0/8");

fn behind(daemon: &Daemon, header: &[u8]) -> Client {
    let mut client = Client::connect(daemon.smtp);
    client.send(header);
    client
}

fn v1(address: &str) -> Vec<u8> {
    format!("PROXY TCP4 {address} 10.0.0.1 40000 25\r\n").into_bytes()
}

#[test]
fn limits_and_traces_see_the_client_and_not_the_load_balancer() {
    let webhook = Webhook::start();
    let variables =
        [FROM_HERE, ("MAIL_LASER_MAX_CONCURRENT_PER_IP", "1"), ("MAIL_LASER_HEADER_PREFIX", "received")];
    let daemon = Daemon::start(&webhook, &variables);
    let mut first = behind(&daemon, &v1("192.0.2.1"));
    assert_eq!(first.reply().0, 220);
    let (code, text) = behind(&daemon, &v1("192.0.2.1")).reply();
    assert_eq!((code, text.contains("4.7.0")), (421, true), "{text}");
    assert_eq!(behind(&daemon, &v1("192.0.2.2")).reply().0, 220);

    assert_eq!(first.ask("EHLO client.example.com").0, 250);
    assert_eq!(first.mail("support@example.com", "\r\n").0, 250);
    let received = webhook.wait_for(1)[0].json["headers"]["Received"].to_string();
    assert!(received.contains("([192.0.2.1])"), "{received}");
}

#[test]
fn a_binary_header_and_a_health_check_are_understood() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[FROM_HERE]);
    let signature = b"\r\n\r\n\0\r\nQUIT\n";
    let addresses = [192, 0, 2, 7, 10, 0, 0, 1, 0x30, 0x39, 0, 25];
    let header = [&signature[..], &[0x21, 0x11, 0, 12], &addresses].concat();
    assert_eq!(behind(&daemon, &header).reply().0, 220);
    let local = [&signature[..], &[0x20, 0, 0, 0]].concat();
    assert_eq!(behind(&daemon, &local).reply().0, 220);
}

#[test]
fn who_has_to_send_a_header_is_not_served_without_one() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[FROM_HERE]);
    let mut client = behind(&daemon, b"EHLO client.example.com\r\n");
    assert!(client.is_closed(), "without a word");
    daemon.wait_for_log("connection closed: MAIL_LASER_PROXY_PROTOCOL_FROM", 1);
}

#[test]
fn nobody_else_may_send_one() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_PROXY_PROTOCOL_FROM", "10.0.0.0/8")]);
    let mut client = Client::connect(daemon.smtp);
    assert_eq!(client.reply().0, 220);
    assert_eq!(client.ask("PROXY TCP4 192.0.2.1 10.0.0.1 40000 25").0, 500);
}

/// A load balancer that keeps connections in store has nobody to be told, and does not hold up the end.
#[test]
fn who_has_sent_no_header_yet_is_not_waited_for_at_the_end() {
    let webhook = Webhook::start();
    let mut daemon = Daemon::start(&webhook, &[FROM_HERE]);
    let mut served = behind(&daemon, &v1("192.0.2.1"));
    let mut silent = Client::connect(daemon.smtp);
    // Connections are taken in their order.
    assert_eq!(behind(&daemon, &v1("192.0.2.2")).reply().0, 220);
    assert_eq!(served.reply().0, 220);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_for_end().code(), Some(0));
    assert!(silent.is_closed());
    assert!(!daemon.log_text().contains("no PROXY header in time"), "{}", daemon.log_text());
}
