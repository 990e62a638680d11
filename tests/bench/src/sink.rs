//! The webhook of all measurements: a bare HTTP/1.1 responder that costs far less than what it
//! measures, and knows when each mail was there whole.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";

/// Bytes of one read: the JSON of a small mail fits, and a large one needs few.
const READ_BYTES: usize = 64 * 1024;

/// Octets of a request's head; those of all peers are below 1 KiB.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// How often a wait looks.
const PAUSE: Duration = Duration::from_millis(1);

/// When requests are answered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// As soon as they are there whole.
    AtOnce,
    /// So much later.
    After(Duration),
    /// As long as the measurement lasts, not.
    Never,
}

/// A webhook on a free port of the loopback address, until it is dropped.
pub(crate) struct Sink {
    address: SocketAddr,
    shared: Arc<Shared>,
    // Dropping it ends its tasks.
    _tasks: JoinSet<()>,
}

struct Shared {
    pace: Pace,
    away: AtomicBool,
    delays: mpsc::Sender<Delay>,
    arrived: AtomicU64,
    broken: AtomicU64,
    arrivals: Mutex<Vec<Instant>>,
}

/// An answer that is due.
struct Delay {
    at: Instant,
    due: oneshot::Sender<()>,
}

impl Sink {
    /// Begins to serve.
    pub(crate) async fn start(pace: Pace) -> anyhow::Result<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), pace).await
    }

    /// Begins to serve at an address of this machine.
    pub(crate) async fn start_at(ip: IpAddr, pace: Pace) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((ip, 0)).await.context("no free port for the webhook")?;
        let address = listener.local_addr()?;
        let (delays, due) = mpsc::channel();
        // All delays are the same, so the first that came is the first that is due. A thread that
        // sleeps is exact to some 60 us, where a timer of tokio is to a millisecond: 2 % of a
        // webhook's 50 ms.
        std::thread::spawn(move || answer_in_turn(&due));
        let shared = Arc::new(Shared {
            pace,
            away: AtomicBool::new(false),
            delays,
            arrived: AtomicU64::new(0),
            broken: AtomicU64::new(0),
            arrivals: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, _tasks: tasks })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Refuses all mails from now on, or takes them again. Those that were refused have not arrived.
    pub(crate) fn set_away(&self, away: bool) {
        self.shared.away.store(away, Ordering::Relaxed);
    }

    /// How many mails there were.
    pub(crate) fn arrived(&self) -> u64 {
        self.shared.arrived.load(Ordering::Relaxed)
    }

    /// When the mail of this number, from 1 on, was there whole.
    pub(crate) fn arrival(&self, number: u64) -> anyhow::Result<Instant> {
        let index = usize::try_from(number)?.checked_sub(1).context("mails are numbered from 1 on")?;
        self.shared.arrivals().get(index).copied().with_context(|| format!("mail {number} has not arrived"))
    }

    /// Waits until the first mail has arrived.
    pub(crate) async fn wait_for_first(&self, limit: Duration) -> anyhow::Result<()> {
        self.wait_for_at_least(1, limit).await
    }

    async fn wait_for_at_least(&self, mails: u64, limit: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        while self.arrived() < mails {
            ensure!(
                Instant::now() < deadline,
                "{} of {mails} mails arrived within {limit:?}",
                self.arrived()
            );
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Waits until `mails` have arrived, and no more than those.
    pub(crate) async fn wait_for(&self, mails: u64, limit: Duration) -> anyhow::Result<()> {
        self.wait_for_at_least(mails, limit).await?;
        let broken = self.shared.broken.load(Ordering::Relaxed);
        ensure!(broken == 0, "{broken} connections to the webhook broke, or carried what is no JSON");
        ensure!(self.arrived() == mails, "{} mails arrived instead of {mails}", self.arrived());
        Ok(())
    }
}

impl Shared {
    fn arrivals(&self) -> MutexGuard<'_, Vec<Instant>> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self) {
        let mut arrivals = self.arrivals();
        arrivals.push(Instant::now());
        self.arrived.store(arrivals.len() as u64, Ordering::Relaxed);
    }
}

fn answer_in_turn(delays: &mpsc::Receiver<Delay>) {
    while let Ok(delay) = delays.recv() {
        std::thread::sleep(delay.at.saturating_duration_since(Instant::now()));
        // An error means that the connection is gone.
        let _ = delay.due.send(());
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            if converse(stream, &shared).await.is_err() {
                shared.broken.fetch_add(1, Ordering::Relaxed);
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(mut stream: TcpStream, shared: &Shared) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = vec![0; READ_BYTES];
    let mut filled = 0;
    loop {
        let (head, body) = match request(&input[..filled])? {
            Some(lengths) => lengths,
            None => {
                ensure!(filled < HEAD_BYTES_MAX, "a head that does not end");
                match read(&mut stream, &mut input[filled..]).await? {
                    0 => return Ok(()),
                    read => filled += read,
                }
                continue;
            }
        };
        let here = body.min(filled - head);
        let mut last = here.checked_sub(1).map(|end| input[head + end]);
        input.copy_within(head + here..filled, 0);
        filled -= head + here;
        let mut missing = body - here;
        while missing > 0 {
            let room = missing.min(READ_BYTES);
            let read = read(&mut stream, &mut input[..room]).await?;
            ensure!(read > 0, "a body that ends early");
            last = Some(input[read - 1]);
            missing -= read;
        }
        ensure!(last == Some(b'}'), "a body that is no JSON object");
        if shared.away.load(Ordering::Relaxed) {
            stream.write_all(REFUSAL).await?;
            continue;
        }
        shared.record();
        match shared.pace {
            Pace::AtOnce => {}
            Pace::After(delay) => {
                let (due, wait) = oneshot::channel();
                shared.delays.send(Delay { at: Instant::now() + delay, due })?;
                wait.await?;
            }
            Pace::Never => {
                // Until the other side gives up: connections of thousands of time-outs would be too many to keep.
                while read(&mut stream, &mut input).await? > 0 {}
                return Ok(());
            }
        }
        stream.write_all(ANSWER).await?;
    }
}

/// A peer that was ended closes hard, which is no defect of what it had sent.
async fn read(stream: &mut TcpStream, room: &mut [u8]) -> std::io::Result<usize> {
    match stream.read(room).await {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(0),
        read => read,
    }
}

/// The lengths of a request's head and body, once the head is whole.
fn request(input: &[u8]) -> anyhow::Result<Option<(usize, usize)>> {
    const NAME: &[u8] = b"content-length:";
    let Some(end) = memchr::memmem::find(input, b"\r\n\r\n") else { return Ok(None) };
    let mut rest = &input[..end];
    while let Some(next) = memchr::memchr(b'\n', rest) {
        rest = &rest[next + 1..];
        if rest.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)) {
            let value = rest[NAME.len()..].split(|byte| *byte == b'\r').next().unwrap_or_default();
            let length = std::str::from_utf8(value)?.trim().parse().context("a length that is none")?;
            return Ok(Some((end + 4, length)));
        }
    }
    bail!("a request without a length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_its_head_and_its_length() {
        let head = b"POST / HTTP/1.1\r\nHost: h\r\ncontent-length: 12\r\nA: b\r\n\r\n";
        assert_eq!(request(head).unwrap(), Some((head.len(), 12)));
        assert_eq!(request(&head[..head.len() - 1]).unwrap(), None);
        assert!(request(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }

    #[tokio::test]
    async fn what_is_refused_has_not_arrived() {
        let sink = Sink::start(Pace::AtOnce).await.unwrap();
        let mut client = TcpStream::connect(sink.address()).await.unwrap();
        for (away, answer) in [(true, REFUSAL), (false, ANSWER)] {
            sink.set_away(away);
            client.write_all(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
            let mut answered = vec![0; answer.len()];
            client.read_exact(&mut answered).await.unwrap();
            assert_eq!(answered, answer);
        }
        assert_eq!(sink.arrived(), 1);
    }

    #[tokio::test]
    async fn requests_arrive_whole_however_they_are_cut() {
        let sink = Sink::start(Pace::AtOnce).await.unwrap();
        let mut client = TcpStream::connect(sink.address()).await.unwrap();
        let request = b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n{12}".repeat(3);
        for part in request.chunks(7) {
            client.write_all(part).await.unwrap();
            tokio::task::yield_now().await;
        }
        sink.wait_for(3, Duration::from_secs(10)).await.unwrap();
        let mut answers = vec![0; ANSWER.len() * 3];
        client.read_exact(&mut answers).await.unwrap();
        assert!(sink.arrival(1).unwrap() <= sink.arrival(3).unwrap());
        assert!(sink.arrival(4).is_err());
    }
}
