//! Connections beyond their limits: SMTP answers `421`, health and metrics close the one that was idle longest.

use std::net::TcpStream;

use crate::harness::{Client, Daemon, Webhook, eventually};

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

/// One subscriber has all of an IPv6 network of 64 bits, and could take an address for each connection.
#[test]
fn an_ipv6_network_of_64_bits_counts_as_one_address() {
    let webhook = Webhook::start();
    let variables =
        [("MAIL_LASER_PROXY_PROTOCOL_FROM", "127.0.0.1"), ("MAIL_LASER_MAX_CONCURRENT_PER_IP", "2")];
    let daemon = Daemon::start(&webhook, &variables);
    let connect = |address: &str| {
        let mut client = Client::connect(daemon.smtp);
        client.send(format!("PROXY TCP6 {address} 2001:db8::25 40000 25\r\n"));
        let reply = client.reply();
        (client, reply)
    };
    let first = connect("2001:db8:1:2::1");
    let second = connect("2001:db8:1:2:ffff:ffff:ffff:ffff");
    assert_eq!((first.1.0, second.1.0), (220, 220));
    let (mut refused, (code, text)) = connect("2001:db8:1:2:8000::7");
    assert_eq!((code, text.contains("4.7.0")), (421, true), "{text}");
    assert!(refused.is_closed());
    assert_eq!(connect("2001:db8:1:3::1").1.0, 220, "the network beside it");
    drop(second);
    eventually("there is room again", || (connect("2001:db8:1:2::9").1.0 == 220).then_some(()));
}

/// An IPv4 address is the same one in the form that IPv6 has for it.
#[test]
fn a_mapped_ipv4_address_is_no_other() {
    let webhook = Webhook::start();
    let variables =
        [("MAIL_LASER_PROXY_PROTOCOL_FROM", "127.0.0.1"), ("MAIL_LASER_MAX_CONCURRENT_PER_IP", "1")];
    let daemon = Daemon::start(&webhook, &variables);
    let mut first = Client::connect(daemon.smtp);
    first.send("PROXY TCP4 192.0.2.1 192.0.2.2 40000 25\r\n");
    assert_eq!(first.reply().0, 220);
    let mut mapped = Client::connect(daemon.smtp);
    mapped.send("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 40000 25\r\n");
    assert_eq!(mapped.reply().0, 421);
}

#[test]
fn silent_connections_keep_neither_a_probe_nor_a_scraper_out() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let hold = |address, count| -> Vec<TcpStream> {
        (0..count).map(|_| TcpStream::connect(address).expect("connect")).collect()
    };
    // More than there are places.
    let _silent = (hold(daemon.health, 300), hold(daemon.metrics, 20));
    for _ in 0..10 {
        assert!(daemon.is_healthy());
        assert_eq!(daemon.metric("mail_laser_smtp_sessions"), Some(0.0));
    }
}
