//! 20,000 routes that are all changed at once: how long a session waits meanwhile at most, and how long it takes until
//! they are in force.
//!
//! A client asks for a recipient of the new routes, over and over, until it is known. For as long it asks afterwards,
//! while nothing changes: the longest that it waits then is what the machine does by itself.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::load::Client;
use crate::peer::{Peer, Tools};
use crate::report::{Row, median};
use crate::routes::{Route, own_address, put};

const ROUTES: usize = 20_000;

/// What the scheduler of a busy machine takes, twice over.
const MILLISECONDS_MAX: f64 = 20.0;

/// Questions that a connection is used for: the daemon ends those that bring no mail after a hundred commands.
const QUESTIONS: usize = 20;

/// How long a swap may take.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn row(tools: &Tools, rounds: usize) -> anyhow::Result<Row> {
    let folder = tools.routes_folder()?;
    let host = own_address()?;
    let routes = |generation: usize| -> Vec<Route> {
        let route = |n: usize| Route {
            name: format!("team-{}/route-{n}", n % 50),
            recipient: if n == 0 { recipient(generation) } else { format!("{n}@example.com") },
            url: format!("http://{host}:9/{generation}"),
        };
        (0..ROUTES).map(route).collect()
    };
    put(tools, &folder, &routes(0)).await?;
    let running = tools.start_with_routes(Peer::Daemon, &folder).await?;
    let mut client = Questions::begin(running.smtp).await?;
    let (mut stalls, mut noise, mut swaps) = (Vec::new(), Vec::new(), Vec::new());
    for generation in 1..=rounds {
        // What writes the routes is not to be measured.
        put(tools, &folder, &routes(generation)).await?;
        let started = Instant::now();
        while !client.ask(&recipient(generation)).await? {
            ensure!(started.elapsed() < PATIENCE, "the routes are not in force after {PATIENCE:?}");
        }
        let swap = started.elapsed();
        swaps.push(swap.as_secs_f64() * 1e3);
        stalls.push(client.take_longest().as_secs_f64() * 1e3);
        // What is left of those before goes meanwhile.
        tokio::time::sleep(swap).await;
        let idle = Instant::now();
        while idle.elapsed() < swap {
            client.ask(&recipient(generation)).await?;
        }
        noise.push(client.take_longest().as_secs_f64() * 1e3);
    }
    running.process.kill().await?;
    let (stall, noise, swap) = (median(&stalls), median(&noise), median(&swaps));
    Ok(Row {
        what: "20,000 routes changed at once: the longest that a session waits, until all are in force"
            .into(),
        target: format!("at most {MILLISECONDS_MAX} ms"),
        daemon: format!("{stall:.1} ms, {swap:.0} ms"),
        peer: format!("{noise:.1} ms, without a change"),
        ratio: None,
        met: Some(stall <= MILLISECONDS_MAX),
    })
}

fn recipient(generation: usize) -> String {
    format!("generation-{generation}@example.com")
}

/// Questions to the daemon, one after the other, and the longest that one took; a new connection counts, too.
struct Questions {
    server: SocketAddr,
    client: Client,
    asked: usize,
    longest: Duration,
}

impl Questions {
    async fn begin(server: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self { server, client: Client::greeted(server).await?, asked: 0, longest: Duration::ZERO })
    }

    async fn ask(&mut self, recipient: &str) -> anyhow::Result<bool> {
        let started = Instant::now();
        if self.asked == QUESTIONS {
            (self.client, self.asked) = (Client::greeted(self.server).await?, 0);
        }
        self.asked += 1;
        let is_known = self.client.is_known(recipient).await?;
        self.longest = self.longest.max(started.elapsed());
        Ok(is_known)
    }

    fn take_longest(&mut self) -> Duration {
        std::mem::take(&mut self.longest)
    }
}
