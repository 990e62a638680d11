//! Hoarding: clients that send a lot of a message fast, then a byte now and then, to hold what others need.
//!
//! `HOARDING=full` runs it at full size: a memory of 256 MiB, 17 MiB on each of 10 connections, from 2 and from 20
//! addresses, with a limit on the time of each message of a normal client.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{Client, Daemon, Webhook, eventually};

use super::{MEBIBYTE, SECOND};

/// Connections that an address may have.
const CONNECTIONS: usize = 10;

/// Pause between two bytes of a connection.
const TRICKLE: Duration = Duration::from_millis(200);

/// How long the attackers may take to send what they hold.
const BEGINNING_MAX: Duration = Duration::from_secs(300);

/// A message of a normal client.
const NORMAL_BYTES: usize = 100 * 1024;

struct Attack {
    addresses: u8,
    first_bytes: usize,
}

fn content(bytes: usize) -> String {
    let line = format!("{}\r\n", "x".repeat(76));
    format!("Subject: x\r\n\r\n{}", line.repeat(bytes / line.len()))
}

/// Sends a message over a connection of its own; returns the last reply, and how long all of it took.
fn send(daemon: &Daemon, content: &str) -> (u16, String, Duration) {
    let begun = Instant::now();
    let mut client = Client::connect(daemon.smtp);
    let mut reply = client.reply();
    if reply.0 == 220 {
        assert_eq!(client.ask("EHLO client.example.com").0, 250);
        reply = client.mail("support@example.com", content);
    }
    (reply.0, reply.1, begun.elapsed())
}

impl Attack {
    /// Has `check` run while all connections of all addresses hold what they can.
    fn during(&self, daemon: &Daemon, check: impl FnOnce()) {
        let (ready, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
        let first = "x".repeat(self.first_bytes);
        std::thread::scope(|scope| {
            for number in 0..self.addresses {
                let (first, ready, is_over) = (&first, &ready, &is_over);
                scope.spawn(move || {
                    let source = Ipv4Addr::new(127, 0, 1, 1 + number);
                    let open = || {
                        // One address takes most, the others what is left.
                        let bytes = if number == 0 { first.len() } else { first.len() / 2 };
                        let mut client = Client::try_begin(daemon.smtp, source)?;
                        client.try_send(&first[..bytes]).ok().map(|()| client)
                    };
                    let mut clients: Vec<Option<Client>> = (0..CONNECTIONS).map(|_| open()).collect();
                    ready.fetch_add(1, Ordering::Relaxed);
                    while !is_over.load(Ordering::Relaxed) {
                        for client in &mut clients {
                            if client.as_mut().is_none_or(|client| client.try_send("x").is_err()) {
                                // One that was sent away comes again.
                                *client = open();
                            }
                        }
                        std::thread::sleep(TRICKLE);
                    }
                });
            }
            // Over in any case, so that a check that fails ends the test.
            let over = at_the_end(|| is_over.store(true, Ordering::Relaxed));
            // Gigabytes take longer than other things that tests wait for.
            let begun = Instant::now();
            while ready.load(Ordering::Relaxed) < usize::from(self.addresses) {
                assert!(begun.elapsed() < BEGINNING_MAX, "the attack is not under way");
                std::thread::sleep(TRICKLE);
            }
            eventually("the attackers have their sessions, and what they sent was read", || {
                let sessions = daemon.metric("mail_laser_smtp_sessions")?;
                let are_there = sessions >= (usize::from(self.addresses) * CONNECTIONS / 2) as f64;
                (are_there && unread_bytes(daemon.smtp.port()) < self.first_bytes / 8).then_some(())
            });
            check();
            drop(over);
        });
    }
}

/// Bytes that are on their way to this port of the loopback network, and those that nobody has read there.
fn unread_bytes(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = format!(":{port:04X}");
    let queues = table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (sent, received) = fields.get(4)?.split_once(':')?;
        let queue = if fields[1].ends_with(&port) {
            received
        } else if fields[2].ends_with(&port) {
            sent
        } else {
            return None;
        };
        // A socket that listens counts connections.
        (fields[3] != "0A").then(|| usize::from_str_radix(queue, 16).ok()).flatten()
    });
    queues.sum()
}

/// Runs `end` when it is dropped.
fn at_the_end(end: impl Fn()) -> impl Drop {
    struct Guard<F: Fn()>(F);
    impl<F: Fn()> Drop for Guard<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    Guard(end)
}

/// Has a normal client send so many messages, all of which have to be taken; returns their times, in order.
fn normal_client(daemon: &Daemon, messages: usize, bytes: usize) -> Vec<Duration> {
    let content = content(bytes);
    let mut times: Vec<Duration> = (0..messages)
        .map(|_| {
            let (code, text, time) = send(daemon, &content);
            assert_eq!(code, 250, "a message of {bytes} bytes got {text}");
            time
        })
        .collect();
    times.sort_unstable();
    times
}

fn median(times: &[Duration]) -> Duration {
    times[times.len() / 2]
}

/// Whether it runs at full size.
fn is_full() -> bool {
    std::env::var("HOARDING").is_ok_and(|size| size == "full")
}

fn attack(mode: &str, name: &str) {
    let webhook = Webhook::start();
    let spool = tempfile::tempdir().unwrap();
    let mut variables = vec![
        ("MAIL_LASER_DELIVERY", mode),
        ("MAIL_LASER_SPOOL_DIR", spool.path().to_str().unwrap()),
        ("MAIL_LASER_MAX_CONCURRENT_PER_IP", "10"),
    ];
    let attacks: &[Attack] = if is_full() {
        &[
            Attack { addresses: 2, first_bytes: 17 * 1024 * 1024 },
            Attack { addresses: 20, first_bytes: 17 * 1024 * 1024 },
        ]
    } else {
        variables.extend([
            // Without quotas, two addresses would hold all but 200 KiB: 10 buffers of 1 MiB, and 10 of half as much.
            ("MAIL_LASER_MEMORY_MAX_BYTES", "16252928"),
            ("MAIL_LASER_MAX_MESSAGE_SIZE", "3000000"),
            // An eighth of it is for large messages that come in: just what one address sends.
            ("MAIL_LASER_SPOOL_MAX_BYTES", "164000000"),
        ]);
        let first_bytes = if mode == "spool" { 2_000_000 } else { 1_000_000 };
        &[Attack { addresses: 2, first_bytes }, Attack { addresses: 6, first_bytes }]
    };
    for attack in attacks {
        let daemon = Daemon::start(&webhook, &variables);
        attack.during(&daemon, || {
            let times = normal_client(&daemon, 30, NORMAL_BYTES);
            println!(
                "{name} from {} addresses: a message of 100 KiB takes {:?}, {:?} at most",
                attack.addresses,
                median(&times),
                times[times.len() - 1]
            );
            // On a machine that runs other tests, too, time says little.
            assert!(!is_full() || times[times.len() - 1] < SECOND, "{times:?}");
            // What goes to disk while it comes in has its share there, too.
            if mode == "spool" && attack.addresses == 2 {
                normal_client(&daemon, 3, 3 * NORMAL_BYTES * 5);
            }
            daemon.wait_for_log("clients were sent away", 1);
            assert!(daemon.is_healthy());
        });
        let peak = daemon.peak_bytes() / MEBIBYTE;
        println!("{name} from {} addresses: {peak} MiB at most", attack.addresses);
        assert!(peak < 320, "{peak} MiB");
    }
}

#[test]
fn messages_that_stop_halfway_leave_memory_to_others() {
    attack("forward", "hoarding of memory");
}

#[test]
fn messages_that_stop_halfway_leave_room_on_disk_to_others() {
    attack("spool", "hoarding of room on disk");
}

/// Behind a load balancer all clients have one address, and no quota.
#[test]
fn the_slowest_transfers_end_where_addresses_tell_nothing() {
    let webhook = Webhook::start();
    let variables = [
        ("MAIL_LASER_MAX_CONCURRENT_PER_IP", "0"),
        ("MAIL_LASER_MEMORY_MAX_BYTES", "16777216"),
        ("MAIL_LASER_MAX_MESSAGE_SIZE", "3000000"),
    ];
    let daemon = Daemon::start(&webhook, &variables);
    // All of them fit, and leave too little to read a large message.
    Attack { addresses: 1, first_bytes: 1_000_000 }.during(&daemon, || {
        normal_client(&daemon, 5, NORMAL_BYTES);
        let large = content(1_500_000);
        eventually("a large message gets its memory", || (send(&daemon, &large).0 == 250).then_some(()));
        let ended = "mail_laser_smtp_transfers_ended_total{reason=\"memory\"}";
        assert!(daemon.metric(ended) >= Some(1.0));
        let told = daemon.wait_for_log("clients were sent away", 1);
        assert_eq!(told[0]["level"], "WARN", "{told:?}");
        assert!(told[0]["networks"].as_str().unwrap().contains("127.0.1."), "{told:?}");
    });
}
