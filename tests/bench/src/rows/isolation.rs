//! 1,000 routes, 100 of them dead: what the others notice of it, in `forward` and in `spool`.
//!
//! A third of the dead hang, a third refuse connections, a third answer after five seconds. One mail of ten is for
//! them, as many as for any other route, and what they hold of queue and disk they hold before anything is measured; what
//! the slow are to get they have by then. The same mails are sent to the same routes while none is dead; both take turns.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::task::JoinSet;

use crate::load::Client;
use crate::mail::{self, Numbered};
use crate::metrics;
use crate::peer::{Peer, Running, Tools};
use crate::process::free_port;
use crate::report::{Row, median, percentile, thousands};
use crate::routes::{Route, own_address, put};
use crate::sink::{Pace, Sink};

use super::{ARRIVAL_MAX, OPEN_MAX, SETTLE, per_second};

const ROUTES: u64 = 1_000;

/// One of so many is dead.
const DEAD_EVERY: u64 = 10;

/// The routes to which mails are timed: the first ones that are not dead.
const WATCHED: u64 = 9;

const SLOW: Duration = Duration::from_secs(5);

/// Mails to each dead route before anything is measured: more than it has delivery slots.
const MAILS_TO_DEAD: u64 = 100;

/// Mails of which throughput is taken: a second or two of a turn.
const MAILS: u64 = 20_000;
const CONNECTIONS: usize = 32;

/// How often both take turns in a round, for each figure.
const TURNS: usize = 6;

/// Mails to those that are not dead that may be on their way.
const UNDER_WAY_MAX: u64 = 500;

/// Mails a second while latency is measured, to all routes but those that are watched; and between two that are timed.
const BACKGROUND: Duration = Duration::from_millis(4);
const PERIOD: Duration = Duration::from_millis(3);

/// Mails that are timed in a row, some second of them, before it is the other daemon's turn: what a machine does beside
/// seldom lasts for so short.
const TIMED: u64 = 200;

/// How often both do so in a turn, for which a percentile is taken: 30 of its mails are above the 99th, which in `spool`
/// is a wait for the disk.
const SLICES: usize = 15;

/// How much the others may notice: a tenth.
const DELIVERED_MIN: f64 = 0.9;
const LATENCY_MAX: f64 = 1.1;

/// What a turn of the daemon with dead routes came to, and one of that without, one after the other.
struct Pair<T> {
    dead: T,
    fine: T,
}

#[derive(Default)]
struct Pairs {
    milliseconds: Vec<Pair<Vec<f64>>>,
    per_second: Vec<Pair<f64>>,
}

pub(super) async fn rows(tools: &Tools, rounds: usize) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (peer, mode) in [(Peer::Daemon, "forward"), (Peer::Spool, "spool")] {
        let mut pairs = Pairs::default();
        for _ in 0..rounds {
            round(tools, peer, &mut pairs).await?;
        }
        let what = |what: &str| format!("`{mode}`, 1,000 routes, 100 dead, the others: {what}");
        let delivered = Compared::new(&pairs.per_second, |per_second| *per_second);
        rows.push(Row {
            what: what("delivered per second"),
            target: format!("at least {DELIVERED_MIN} x"),
            daemon: thousands(delivered.dead),
            peer: format!("{}, none dead", thousands(delivered.fine)),
            ratio: Some(delivered.ratio),
            met: Some(delivered.ratio >= DELIVERED_MIN),
        });
        for (percent, name) in [(50, "median"), (99, "99th percentile")] {
            let latency =
                Compared::new(&pairs.milliseconds, |milliseconds| percentile(milliseconds, percent));
            rows.push(Row {
                what: what(&format!("from before MAIL to the webhook having it, {name}")),
                target: format!("at most {LATENCY_MAX} x"),
                daemon: format!("{:.2} ms", latency.dead),
                peer: format!("{:.2} ms, none dead", latency.fine),
                ratio: Some(latency.ratio),
                met: Some(latency.ratio <= LATENCY_MAX),
            });
        }
    }
    Ok(rows)
}

/// Medians of the turns, and of the pairs' ratios: how fast a machine is changes from minute to minute, and within a pair
/// least.
struct Compared {
    dead: f64,
    fine: f64,
    ratio: f64,
}

impl Compared {
    fn new<T>(pairs: &[Pair<T>], value: impl Fn(&T) -> f64) -> Self {
        let all = |of: &dyn Fn(&Pair<T>) -> f64| median(&pairs.iter().map(of).collect::<Vec<f64>>());
        Self {
            dead: all(&|pair| value(&pair.dead)),
            fine: all(&|pair| value(&pair.fine)),
            ratio: all(&|pair| value(&pair.dead) / value(&pair.fine)),
        }
    }
}

/// Both daemons run at the same time, and take turns: what dead routes cost while nothing is sent to them, the other one
/// bears, too.
async fn round(tools: &Tools, peer: Peer, pairs: &mut Pairs) -> anyhow::Result<()> {
    let [of_fine, of_dead] = [tools.beside("fine")?, tools.beside("dead")?];
    of_fine.clear_disk().await?;
    of_dead.clear_disk().await?;
    let fine = World::start(&of_fine, peer, false).await?;
    let dead = World::start(&of_dead, peer, true).await?;
    fine.fill().await?;
    dead.fill().await?;
    dead.settle().await?;
    let slices = take_turns(&fine, &dead, World::latency, TURNS * SLICES).await?;
    pairs.milliseconds.extend(slices.chunks(SLICES).map(|turn| Pair {
        dead: turn.iter().flat_map(|slice| &slice.dead).copied().collect(),
        fine: turn.iter().flat_map(|slice| &slice.fine).copied().collect(),
    }));
    pairs.per_second.extend(take_turns(&fine, &dead, World::throughput, TURNS).await?);
    fine.running.process.kill().await?;
    dead.running.process.kill().await
}

async fn take_turns<T>(
    fine: &World,
    dead: &World,
    measure: impl AsyncFn(&World) -> anyhow::Result<T>,
    turns: usize,
) -> anyhow::Result<Vec<Pair<T>>> {
    let mut pairs = Vec::with_capacity(turns);
    for turn in 0..turns {
        // Neither is always the first.
        pairs.push(if turn.is_multiple_of(2) {
            let fine = measure(fine).await?;
            Pair { dead: measure(dead).await?, fine }
        } else {
            Pair { dead: measure(dead).await?, fine: measure(fine).await? }
        });
    }
    Ok(pairs)
}

/// The daemon with all routes, and their webhooks.
struct World {
    running: Running,
    /// That of the routes that are watched.
    watched: Sink,
    /// That of all others that are not dead.
    others: Arc<Sink>,
    /// That of the dead that answer late.
    slow: Sink,
    // Dropping it ends it.
    _hanging: Sink,
    /// Mails that were sent while others were timed.
    background: Arc<AtomicU64>,
}

impl World {
    async fn start(tools: &Tools, peer: Peer, is_dead: bool) -> anyhow::Result<Self> {
        let host = own_address()?;
        let watched = Sink::start_at(host, Pace::AtOnce).await?;
        let others = Arc::new(Sink::start_at(host, Pace::AtOnce).await?);
        let [never, late] = if is_dead { [Pace::Never, Pace::After(SLOW)] } else { [Pace::AtOnce; 2] };
        let (hanging, slow) = (Sink::start_at(host, never).await?, Sink::start_at(host, late).await?);
        let refusing = if is_dead { nobody(host)? } else { hanging.address() };
        let webhook = |n: u64| match (n.is_multiple_of(DEAD_EVERY), n / DEAD_EVERY % 3) {
            (true, 0) => hanging.address(),
            (true, 1) => slow.address(),
            (true, _) => refusing,
            _ if n <= WATCHED => watched.address(),
            _ => others.address(),
        };
        let route = |n: u64| Route {
            name: name(n),
            recipient: recipient(n),
            url: format!("http://{}/{n}", webhook(n)),
        };
        let folder = tools.routes_folder()?;
        put(tools, &folder, &(0..ROUTES).map(route).collect::<Vec<Route>>()).await?;
        let running = tools.start_with_routes(peer, &folder).await?;
        Ok(Self { running, watched, others, slow, _hanging: hanging, background: Arc::default() })
    }

    /// Lets the dead take what they take.
    async fn fill(&self) -> anyhow::Result<()> {
        let mut client = Client::greeted(self.running.smtp).await?;
        let content = mail::text(1024);
        for n in 0..MAILS_TO_DEAD * ROUTES / DEAD_EVERY {
            // Whether it is taken is the daemon's business.
            client.offer(&recipient(n * DEAD_EVERY % ROUTES), &content).await?;
        }
        Ok(())
    }

    /// Waits until the circuits of those that refuse are open, and the slow have what they were filled with: all of it at
    /// once, they take it in waves, and what is measured is what goes on for as long as they are dead.
    async fn settle(&self) -> anyhow::Result<()> {
        const OPEN: u64 = 2;
        let mut refusing = (0..ROUTES).filter(|n| n.is_multiple_of(DEAD_EVERY) && n / DEAD_EVERY % 3 == 2);
        let last = refusing.next_back().context("none refuses")?;
        let series = format!("mail_laser_circuit_breaker_state{{route=\"{}\"}}", name(last));
        metrics::wait_for(self.running.metrics, &series, OPEN, OPEN_MAX).await?;
        self.slow_have_theirs().await;
        Ok(())
    }

    /// Waits until the slow have answered all that they were sent.
    async fn slow_have_theirs(&self) {
        let mut taken = None;
        while taken != Some(self.slow.arrived()) {
            taken = Some(self.slow.arrived());
            tokio::time::sleep(SLOW + SETTLE).await;
        }
    }

    /// Mails a second to those that are not dead, one mail of ten being for one that may be.
    async fn throughput(&self) -> anyhow::Result<f64> {
        let before = self.others.arrived();
        let (sent, to_others) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let started = Instant::now();
        let mut connections = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let mut client = Client::greeted(self.running.smtp).await?;
            let (sent, to_others, others) =
                (Arc::clone(&sent), Arc::clone(&to_others), Arc::clone(&self.others));
            connections.spawn(async move {
                let mut mail = Numbered::new(&mail::text(1024))?;
                loop {
                    let number = sent.fetch_add(1, Ordering::Relaxed);
                    if number >= MAILS {
                        return anyhow::Ok(());
                    }
                    let route = beyond_watched(number);
                    let may_be_dead = route.is_multiple_of(DEAD_EVERY);
                    if !may_be_dead {
                        let number = to_others.fetch_add(1, Ordering::Relaxed);
                        while number >= others.arrived() - before + UNDER_WAY_MAX {
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                    }
                    let taken = client.offer(&recipient(route), mail.with(number)).await?;
                    ensure!(taken || may_be_dead, "a mail to a route that is not dead was put off");
                }
            });
        }
        while let Some(connection) = connections.join_next().await {
            connection??;
        }
        let mails = to_others.load(Ordering::Relaxed);
        self.others.wait_for(before + mails, ARRIVAL_MAX).await?;
        let per_second = per_second(mails, self.others.arrival(before + mails)? - started);
        // That is work for seconds, which the other daemon has done by now, and is not counted to what comes next.
        self.slow_have_theirs().await;
        Ok(per_second)
    }

    /// Times mails to the routes that are watched, while others come in.
    async fn latency(&self) -> anyhow::Result<Vec<f64>> {
        let before = self.others.arrived();
        let is_over = Arc::new(AtomicBool::new(false));
        let numbers = Arc::clone(&self.background);
        let background = tokio::spawn(background(self.running.smtp, numbers, Arc::clone(&is_over)));
        let mut milliseconds = Vec::new();
        let mut client = Client::greeted(self.running.smtp).await?;
        let mut mail = Numbered::new(&mail::text(1024))?;
        for number in 0..TIMED {
            let arrival = self.watched.arrived() + 1;
            let started = Instant::now();
            let taken = client.offer(&recipient(1 + number % WATCHED), mail.with(number)).await?;
            ensure!(taken, "a mail to a route that is watched was put off");
            self.watched.wait_for(arrival, ARRIVAL_MAX).await?;
            milliseconds.push((self.watched.arrival(arrival)? - started).as_secs_f64() * 1e3);
            tokio::time::sleep(PERIOD).await;
        }
        is_over.store(true, Ordering::Relaxed);
        // None may come in when something else is measured.
        self.others.wait_for(before + background.await??, ARRIVAL_MAX).await?;
        Ok(milliseconds)
    }
}

/// Sends mails to all routes but those that are watched, each in its turn, until that is over; returns how many are to
/// be delivered.
async fn background(
    smtp: SocketAddr,
    numbers: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
) -> anyhow::Result<u64> {
    let mut client = Client::greeted(smtp).await?;
    let mut mail = Numbered::new(&mail::text(1024))?;
    let mut to_others = 0;
    while !is_over.load(Ordering::Relaxed) {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let route = beyond_watched(number);
        let taken = client.offer(&recipient(route), mail.with(number)).await?;
        to_others += u64::from(taken && !route.is_multiple_of(DEAD_EVERY));
        tokio::time::sleep(BACKGROUND).await;
    }
    Ok(to_others)
}

fn name(route: u64) -> String {
    format!("team-{}/route-{route}", route % 50)
}

fn recipient(route: u64) -> String {
    format!("route-{route}@example.com")
}

/// The route of a mail: each in its turn, but for those that are watched.
fn beyond_watched(number: u64) -> u64 {
    match number % ROUTES {
        route @ 1..=WATCHED => route + DEAD_EVERY,
        route => route,
    }
}

/// Where nobody listens.
fn nobody(host: IpAddr) -> anyhow::Result<SocketAddr> {
    Ok((host, free_port()?.port()).into())
}
