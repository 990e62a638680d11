//! Clients that send 17 MiB fast and then a byte now and then, from 2 and from 20 addresses, in `forward` and in
//! `spool`.
//!
//! Each address has as many connections as it may have. Together they want more memory than the daemon may take, and the
//! connections of the last address send less and less: they take what the large ones have left. Whoever is disconnected
//! comes back. A client of another address sends messages meanwhile.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::load::RECIPIENT;
use crate::mail;
use crate::sink::{Pace, Sink};

use super::daemon::Daemon;
use super::figure::Figure;
use super::place::Place;
use super::probe::{Connection, Sender};

/// Connections of each address: the default bound.
const CONNECTIONS: usize = 10;

/// What is sent fast: enough to be above the minimum rate for two hours, as an average, and to take the memory of a
/// message of the largest size.
const FAST_BYTES: usize = 17 << 20;

/// The same for the first connection of the last address. Each further one sends half of what the one before it sends.
const LAST_FAST_BYTES: usize = 4 << 20;

/// Between two bytes after that, and before a client that was disconnected comes back.
const SLOW: Duration = Duration::from_secs(5);

/// All of them send through one line of a gigabit, one after the other: 256 KiB take two milliseconds.
const CHUNK_BYTES: usize = 256 << 10;
const CHUNK_TIME: Duration = Duration::from_millis(2);

/// Bound on the time that one client has the line.
const UPLOAD_MAX: Duration = Duration::from_secs(2);

/// Bound on the time until all have sent what is sent fast, or were refused.
const ATTACK_MAX: Duration = Duration::from_secs(40);

const TRIES: usize = 30;

/// A message of a normal client, and one that `spool` keeps on disk while it comes in.
const TRY_BYTES: usize = 100 << 10;
const LARGE_TRY_BYTES: usize = 2 << 20;
const PAUSE: Duration = Duration::from_millis(300);

/// A message of a normal client takes no longer, from its connection on.
const TRY_MAX: Duration = Duration::from_secs(1);

/// Bound on one that does.
const TRY_PATIENCE: Duration = Duration::from_secs(2);

pub(super) async fn figures(place: Place, mut figures: Vec<Figure>) -> anyhow::Result<Vec<Figure>> {
    for (mode, bytes) in [("forward", TRY_BYTES), ("spool", TRY_BYTES), ("spool", LARGE_TRY_BYTES)] {
        for addresses in [2, 20] {
            figures.push(measured(&place, mode, bytes, addresses).await?);
        }
    }
    Ok(figures)
}

async fn measured(place: &Place, mode: &str, bytes: usize, addresses: usize) -> anyhow::Result<Figure> {
    let sink = Sink::start(Pace::AtOnce).await?;
    let variables = [
        ("MAIL_LASER_TARGET_EMAILS", RECIPIENT.to_owned()),
        ("MAIL_LASER_WEBHOOK_URL", format!("http://{}/", sink.address())),
        ("MAIL_LASER_DELIVERY", mode.to_owned()),
        ("MAIL_LASER_SPOOL_DIR", place.spool()?.display().to_string()),
    ];
    let daemon = Daemon::start(place, &variables).await?;
    let attack = Attack::begin(daemon.smtp, addresses).await;

    let sender = Sender {
        source: Some(Ipv4Addr::new(127, 0, 1, 1)),
        content: mail::text(bytes),
        patience: TRY_PATIENCE,
        ..Sender::new(daemon.smtp, vec![RECIPIENT.to_owned()])
    };
    let (mut slowest, mut in_time, mut problem) = (Duration::ZERO, 0, None);
    for number in 0..TRIES {
        let sent = sender.send(number).await;
        in_time += usize::from(sent.whole.is_some_and(|time| time <= TRY_MAX));
        slowest = slowest.max(sent.whole.unwrap_or_default());
        problem = problem.or(sent.problem);
        tokio::time::sleep(PAUSE).await;
    }
    let resident = daemon.process.peak_kib()? / 1024;
    let held = attack.shared.whole.load(Ordering::Relaxed);
    let clients = attack.clients.len();
    drop(attack);
    daemon.process.kill().await?;
    let measured = format!(
        "{in_time} of {TRIES}, the slowest {:.0} ms, {held} of {clients} slow clients connected, peak {resident} MiB{}",
        slowest.as_secs_f64() * 1e3,
        problem.map_or_else(String::new, |problem| format!(", the first failure: {problem}")),
    );
    let what =
        format!("250 within 1 s in `{mode}`, {} KiB, slow clients of {addresses} addresses", bytes >> 10);
    Ok(Figure::new(what, format!("{TRIES} of {TRIES}"), measured, in_time == TRIES))
}

/// Slow clients, until it is dropped.
struct Attack {
    shared: Arc<Shared>,
    // Dropping it ends them.
    clients: JoinSet<()>,
}

struct Shared {
    server: SocketAddr,
    content: Arc<[u8]>,
    /// The line, which is taken for as long as a client sends fast: in turn.
    line: Mutex<()>,
    /// Clients that have sent all that is sent fast, or were disconnected, once.
    tried: AtomicUsize,
    /// Clients that have sent all that is sent fast and are connected.
    whole: AtomicUsize,
}

impl Attack {
    /// Returns when each client had its first try.
    async fn begin(server: SocketAddr, addresses: usize) -> Self {
        let content = mail::text(FAST_BYTES);
        let shared = Arc::new(Shared {
            server,
            // Without its end.
            content: content[..FAST_BYTES].into(),
            line: Mutex::new(()),
            tried: AtomicUsize::new(0),
            whole: AtomicUsize::new(0),
        });
        let mut clients = JoinSet::new();
        for number in 0..CONNECTIONS * addresses {
            let (address, connection) = (number / CONNECTIONS, number % CONNECTIONS);
            let bytes = if address + 1 == addresses { LAST_FAST_BYTES >> connection } else { FAST_BYTES };
            let source = Ipv4Addr::new(127, 0, 0, u8::try_from(address + 2).unwrap_or(u8::MAX));
            let shared = Arc::clone(&shared);
            clients.spawn(async move {
                let mut is_first = true;
                loop {
                    let mut is_whole = false;
                    // It ends when it is disconnected, whatever for.
                    let _ = shared.client(source, bytes, &mut is_whole, is_first).await;
                    if is_whole {
                        shared.whole.fetch_sub(1, Ordering::Relaxed);
                    } else if is_first {
                        shared.tried.fetch_add(1, Ordering::Relaxed);
                    }
                    is_first = false;
                    tokio::time::sleep(SLOW).await;
                }
            });
        }
        let deadline = Instant::now() + ATTACK_MAX;
        while shared.tried.load(Ordering::Relaxed) < clients.len() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Self { shared, clients }
    }
}

impl Shared {
    async fn client(
        &self,
        source: Ipv4Addr,
        bytes: usize,
        is_whole: &mut bool,
        is_first: bool,
    ) -> anyhow::Result<()> {
        let line = self.line.lock().await;
        let mut connection = Connection::open(self.server, Some(source)).await?;
        timeout(UPLOAD_MAX, self.send_fast(&mut connection, bytes)).await??;
        drop(line);
        *is_whole = true;
        self.whole.fetch_add(1, Ordering::Relaxed);
        if is_first {
            self.tried.fetch_add(1, Ordering::Relaxed);
        }
        loop {
            tokio::select! {
                reply = connection.expect("250") => {
                    reply?;
                    ensure!(false, "a reply before the end of the content");
                }
                () = tokio::time::sleep(SLOW) => connection.send(b"x").await?,
            }
        }
    }

    async fn send_fast(&self, connection: &mut Connection, bytes: usize) -> anyhow::Result<()> {
        connection.begin_content(RECIPIENT).await?;
        for chunk in self.content[..bytes].chunks(CHUNK_BYTES) {
            connection.send(chunk).await?;
            tokio::time::sleep(CHUNK_TIME).await;
        }
        Ok(())
    }
}
