//! 1,000 routes, 100 of them dead: what the others notice of it, in `forward` and in `spool`.
//!
//! A third of the dead hang, a third refuse connections, a third answer after five seconds. One mail of ten is for
//! them, as many as for any other route, and what they hold of queue and disk they hold before anything is measured. The
//! same mails are sent to the same routes while none is dead; both take turns.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::task::JoinSet;

use crate::load::Client;
use crate::mail::{self, Numbered};
use crate::metrics;
use crate::peer::{Peer, Running, Tools};
use crate::process::free_port;
use crate::report::{Row, percentile, thousands};
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

/// Mails of which throughput is taken.
const MAILS: u64 = 20_000;
const CONNECTIONS: usize = 32;

/// Mails to those that are not dead that may be on their way.
const UNDER_WAY_MAX: u64 = 500;

/// Mails a second while latency is measured, to all routes but those that are watched; and between two that are timed.
const BACKGROUND: Duration = Duration::from_millis(4);
const PERIOD: Duration = Duration::from_millis(5);
const TIMED: u64 = 1_500;

/// How much the others may notice: a tenth.
const DELIVERED_MIN: f64 = 0.9;
const LATENCY_MAX: f64 = 1.1;

/// What one kind of rounds came to.
#[derive(Default)]
struct Results {
    per_second: Vec<f64>,
    milliseconds: Vec<Vec<f64>>,
}

impl Results {
    /// The median of the rounds' percentiles: what else the machine does for a second spoils one round, not all.
    fn latency(&self, percent: usize) -> f64 {
        let of_rounds: Vec<f64> = self.milliseconds.iter().map(|round| percentile(round, percent)).collect();
        percentile(&of_rounds, 50)
    }
}

pub(super) async fn rows(tools: &Tools, rounds: usize) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (peer, mode) in [(Peer::Daemon, "forward"), (Peer::Spool, "spool")] {
        let (mut fine, mut dead) = (Results::default(), Results::default());
        // Short and many, as what else the machine does should meet both alike.
        for _ in 0..rounds * 2 {
            round(tools, peer, false, &mut fine).await?;
            round(tools, peer, true, &mut dead).await?;
        }
        let what = |what: &str| format!("`{mode}`, 1,000 routes, 100 dead, the others: {what}");
        let [of_dead, of_fine] = [&dead, &fine].map(|it| percentile(&it.per_second, 50));
        rows.push(Row {
            what: what("delivered per second"),
            target: format!("at least {DELIVERED_MIN} x"),
            daemon: thousands(of_dead),
            peer: format!("{}, none dead", thousands(of_fine)),
            ratio: Some(of_dead / of_fine),
            met: Some(of_dead >= DELIVERED_MIN * of_fine),
        });
        for (percent, name) in [(50, "median"), (99, "99th percentile")] {
            let [of_dead, of_fine] = [&dead, &fine].map(|it| it.latency(percent));
            rows.push(Row {
                what: what(&format!("from before MAIL to the webhook having it, {name}")),
                target: format!("at most {LATENCY_MAX} x"),
                daemon: format!("{of_dead:.2} ms"),
                peer: format!("{of_fine:.2} ms, none dead"),
                ratio: Some(of_dead / of_fine),
                met: Some(of_dead <= LATENCY_MAX * of_fine),
            });
        }
    }
    Ok(rows)
}

async fn round(tools: &Tools, peer: Peer, is_dead: bool, results: &mut Results) -> anyhow::Result<()> {
    tools.clear_disk().await?;
    let world = World::start(tools, peer, is_dead).await?;
    world.fill().await?;
    if is_dead {
        world.settle().await?;
    }
    results.per_second.push(world.throughput().await?);
    results.milliseconds.push(world.latency().await?);
    world.running.process.kill().await
}

/// The daemon with all routes, and their webhooks.
struct World {
    running: Running,
    /// That of the routes that are watched.
    watched: Sink,
    /// That of all others that are not dead.
    others: Arc<Sink>,
    // Dropping them ends them.
    _dead: Vec<Sink>,
}

impl World {
    async fn start(tools: &Tools, peer: Peer, is_dead: bool) -> anyhow::Result<Self> {
        let host = own_address()?;
        let watched = Sink::start_at(host, Pace::AtOnce).await?;
        let others = Arc::new(Sink::start_at(host, Pace::AtOnce).await?);
        let mut dead = Vec::new();
        for pace in if is_dead { [Pace::Never, Pace::After(SLOW)] } else { [Pace::AtOnce; 2] } {
            dead.push(Sink::start_at(host, pace).await?);
        }
        let refusing = if is_dead { nobody(host)? } else { dead[0].address() };
        let webhook = |n: u64| match (n.is_multiple_of(DEAD_EVERY), n / DEAD_EVERY % 3) {
            (true, 0) => dead[0].address(),
            (true, 1) => dead[1].address(),
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
        Ok(Self { running, watched, others, _dead: dead })
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

    /// Waits until the circuits of those that refuse are open, and what led to it is over: that takes a second or two
    /// once, and what is measured is what goes on for as long as they are dead.
    async fn settle(&self) -> anyhow::Result<()> {
        const OPEN: u64 = 2;
        let mut refusing = (0..ROUTES).filter(|n| n.is_multiple_of(DEAD_EVERY) && n / DEAD_EVERY % 3 == 2);
        let last = refusing.next_back().context("none refuses")?;
        let series = format!("mail_laser_circuit_breaker_state{{route=\"{}\"}}", name(last));
        metrics::wait_for(self.running.metrics, &series, OPEN, OPEN_MAX).await?;
        tokio::time::sleep(SETTLE).await;
        Ok(())
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
        Ok(per_second(mails, self.others.arrival(before + mails)? - started))
    }

    /// Times mails to the routes that are watched, while others come in.
    async fn latency(&self) -> anyhow::Result<Vec<f64>> {
        let mut milliseconds = Vec::new();
        let mut background = JoinSet::new();
        let mut client = Client::greeted(self.running.smtp).await?;
        background.spawn(async move {
            let mut mail = Numbered::new(&mail::text(1024))?;
            for number in MAILS.. {
                client.offer(&recipient(beyond_watched(number)), mail.with(number)).await?;
                tokio::time::sleep(BACKGROUND).await;
            }
            anyhow::Ok(())
        });
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
        if let Some(ended) = background.try_join_next() {
            ended??;
        }
        Ok(milliseconds)
    }
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
fn nobody(host: IpAddr) -> anyhow::Result<std::net::SocketAddr> {
    Ok((host, free_port()?.port()).into())
}
