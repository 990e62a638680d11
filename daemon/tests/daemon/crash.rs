//! `kill -9` under load, again and again: what was answered with 250 reaches the webhook.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{Behaviour, Daemon, PATIENCE, Received, Webhook, command, eventually};

/// Kills, unless `CRASH_ROUNDS` says otherwise.
const ROUNDS: usize = 10;

/// Clients at the same time.
const CLIENTS: usize = 16;

/// Mails over one connection until it breaks; those that were answered with 250.
fn load(address: SocketAddr, name: &str, acknowledged: &Mutex<BTreeSet<String>>) -> io::Result<()> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let (mut writer, mut reader) = (stream.try_clone()?, BufReader::new(stream));
    let mut reply = || -> io::Result<String> {
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if line.as_bytes().get(3) == Some(&b' ') {
                return Ok(line);
            }
        }
    };
    reply()?;
    writer.write_all(b"EHLO client.example.com\r\n")?;
    reply()?;
    for n in 0.. {
        let size = [100, 3_000, 20_000][n % 3];
        writer.write_all(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<support@example.com>\r\nDATA\r\n")?;
        for _ in 0..3 {
            reply()?;
        }
        write!(writer, "Subject: {name} {n}\r\n\r\n{}\r\n.\r\n", "x".repeat(size))?;
        let answer = reply()?;
        let id = answer.strip_prefix("250 2.0.0 Ok, accepted as ").map(|id| id.trim().to_owned());
        acknowledged.lock().unwrap().insert(id.unwrap_or_else(|| panic!("{answer}")));
    }
    Ok(())
}

/// A number below `bound` that differs from run to run.
fn random(bound: u64) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) % bound
}

/// Of ten requests two are refused, so that mails of all kinds are there when the process dies.
fn is_refused(request: usize) -> bool {
    [3, 4].contains(&(request % 10))
}

/// A webhook that wants what it refuses again after so many seconds.
fn webhook(retry_after: u32) -> Webhook {
    Webhook::behaving(move |request| match request % 10 {
        _ if is_refused(request) => {
            Behaviour { headers: vec![("retry-after", retry_after.to_string())], ..Behaviour::status(503) }
        }
        7 => Behaviour { delay: Duration::from_millis(20), ..Behaviour::status(200) },
        _ => Behaviour::status(200),
    })
}

/// Has a daemon killed under load again and again, each time once `wait` returns; then all that was answered with 250
/// has to arrive.
fn kill_under_load(webhook: &Webhook, variables: &[(&str, &str)], mut wait: impl FnMut(&Daemon)) {
    let rounds = std::env::var("CRASH_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let spool = [
        ("MAIL_LASER_DELIVERY", "spool"),
        ("MAIL_LASER_SPOOL_DIR", directory.path().to_str().unwrap()),
        ("MAIL_LASER_TLS", "off"),
        ("MAIL_LASER_WEBHOOK_MAX_RETRIES", "0"),
        ("MAIL_LASER_CIRCUIT_BREAKER_RESET", "1"),
    ];
    let variables = [&spool[..], variables].concat();
    let acknowledged = Mutex::new(BTreeSet::new());
    for round in 0..rounds {
        let mut daemon = Daemon::start(webhook, &variables);
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (acknowledged, smtp) = (&acknowledged, daemon.smtp);
                scope.spawn(move || {
                    let broken = load(smtp, &format!("{round}.{client}"), acknowledged).unwrap_err();
                    assert_ne!(broken.kind(), io::ErrorKind::WouldBlock, "no answer");
                });
            }
            wait(&daemon);
            daemon.signal(Signal::KILL);
            daemon.wait_for_end();
        });
    }
    let acknowledged = acknowledged.into_inner().unwrap();
    let _daemon = Daemon::start(webhook, &variables);
    // The webhook took a request unless it said otherwise.
    let taken =
        || webhook.received().into_iter().zip(0..).filter(|(_, n)| !is_refused(*n)).map(|(taken, _)| taken);
    let id = |taken: &Received| taken.json["id"].as_str().unwrap().to_owned();
    eventually("nothing waits", || {
        // A delivery that failed for another reason than the webhook's is not due for a minute.
        let mut retry = command(directory.path(), &variables[..2]);
        let output = retry.args(["spool", "retry", "--all"]).output().unwrap();
        (output.stdout.starts_with(b"0 mails are on their way") && output.stdout.ends_with(b"again\n"))
            .then_some(())
    });
    let mut seen = BTreeMap::new();
    let mut duplicates = 0;
    for taken in taken() {
        assert_eq!(taken.headers["idempotency-key"], id(&taken));
        if let Some(before) = seen.insert(id(&taken), taken.json.clone()) {
            assert_eq!(before, taken.json, "the same id with another payload");
            duplicates += 1;
        }
    }
    let lost = acknowledged.iter().filter(|id| !seen.contains_key(*id)).count();
    let unacknowledged = seen.len() + lost - acknowledged.len();
    println!(
        "{rounds} kills: {} acknowledged, {} arrived, {lost} lost, {duplicates} duplicates with the same id, {unacknowledged} arrived whose senders had no answer",
        acknowledged.len(),
        seen.len(),
    );
    assert_eq!(lost, 0);
    assert!(acknowledged.len() > 10 * rounds, "there was no load");
}

#[test]
fn what_was_acknowledged_survives_kills_under_load() {
    let webhook = webhook(1);
    kill_under_load(&webhook, &[("RUST_LOG", "error,mail_laser::server=info")], |_| {
        std::thread::sleep(Duration::from_millis(100 + random(400)));
    });
}

#[test]
fn what_is_being_copied_survives_kills() {
    // What is refused waits while all around it is delivered, in segments that are soon full.
    let webhook = webhook(5);
    let variables = [
        ("MAIL_LASER_MAX_MESSAGE_SIZE", "1000000"),
        ("MAIL_LASER_SPOOL_MAX_BYTES", "64000000"),
        ("RUST_LOG", "error,mail_laser::server=info,mail_laser::spool=debug"),
    ];
    let mut interrupted = 0;
    kill_under_load(&webhook, &variables, |daemon| {
        daemon.wait_for_log("a segment is being compacted", 1);
        std::thread::sleep(Duration::from_millis(random(20)));
        interrupted += usize::from(daemon.logged("a segment was compacted").is_empty());
    });
    println!("{interrupted} of them before a compaction had come to its end");
}
