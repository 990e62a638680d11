//! Ten thousand connections that do nothing.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::harness::{Client, Daemon, PATIENCE, Webhook};

const CONNECTIONS: usize = 10_000;

/// Open files of this process, and of the daemon that inherits the limit: a socket for each
/// connection, and some for everything else.
const FILES: u64 = 12_000;

/// Mails that are timed, and what the one in the middle may take: a walk over all connections for each mail would take
/// seconds, and a machine that is busy with other tests takes some hundredths of one.
const MAILS: usize = 50;
const MEDIAN_MAX: Duration = Duration::from_secs(1);

fn allow_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    assert!(
        limit.maximum.is_none_or(|maximum| maximum >= FILES),
        "the hard limit of open files is {:?}, and this test needs {FILES}: raise it (ulimit -Hn)",
        limit.maximum
    );
    if limit.current.is_some_and(|current| current < FILES) {
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit).expect("more open files");
    }
}

/// A connection that was greeted. Each of a thousand goes to an address of its own, so that their ports
/// do not run out.
fn idle(number: usize, port: u16) -> TcpStream {
    let address = Ipv4Addr::new(127, 0, 1, u8::try_from(number / 1_000).expect("a small number"));
    let mut stream = TcpStream::connect(SocketAddr::new(IpAddr::V4(address), port)).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("set a time limit");
    let mut greeting = [0; 4];
    stream.read_exact(&mut greeting).expect("a greeting");
    assert_eq!(&greeting, b"220 ");
    stream
}

#[test]
fn ten_thousand_idle_connections_do_not_slow_mail_down() {
    allow_open_files();
    let webhook = Webhook::start();
    let daemon = Daemon::start(
        &webhook,
        &[("MAIL_LASER_BIND_ADDRESS", "0.0.0.0"), ("MAIL_LASER_MAX_CONNECTIONS", "10100")],
    );
    let port = daemon.smtp.port();
    let before = daemon.resident_bytes();
    let half = |range: std::ops::Range<usize>| range.map(|number| idle(number, port)).collect::<Vec<_>>();
    let connections = std::thread::scope(|scope| {
        let first = scope.spawn(|| half(0..CONNECTIONS / 2));
        let second = half(CONNECTIONS / 2..CONNECTIONS);
        first.join().expect("connections").into_iter().chain(second).collect::<Vec<_>>()
    });
    assert_eq!(daemon.metric("mail_laser_smtp_sessions"), Some(10_000.0));
    let each = (daemon.resident_bytes() - before) / 10_000;
    println!("{each} bytes for each idle connection");
    assert!(each < 16 * 1024, "{each} bytes are more than the budget counts for a session");

    let mut times: Vec<Duration> = (0..MAILS)
        .map(|_| {
            let begun = Instant::now();
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            assert_eq!(Client::greeted(address).mail("support@example.com", "Subject: x\r\n\r\n").0, 250);
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    let median = times[MAILS / 2];
    println!("{median:?} for the mail in the middle of {MAILS}");
    assert!(median < MEDIAN_MAX, "{median:?}");
    assert_eq!(webhook.wait_for(MAILS).len(), MAILS);
    assert!(daemon.is_healthy());
    drop(connections);
}
