//! 1,000 deliveries to webhooks that hang, which reach their time-out together, in `forward` and in `spool`.
//!
//! Each of 1,000 routes has one message under way, so that all attempts end within the time in which the messages were
//! sent. Sessions may not wait while the daemon deals with those.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::routes::{Route, own_address};
use crate::sink::{Pace, Sink};

use super::daemon::Daemon;
use super::figure::{Figure, Latencies};
use super::place::Place;
use super::probe::{Sender, Sent, send_to_all};

const ROUTES: usize = 1_000;

/// Addresses of the webhooks. A system finds a free port for a connection by trying one after the other, which takes
/// milliseconds where thousands of connections to one address were closed within a minute.
const ADDRESSES: usize = 10;

const TIMEOUT_SECONDS: u32 = 2;

/// Deliveries to each route, one after the other: fewer failures than open a circuit.
const ROUNDS: usize = 4;

/// Attempts that hang, at least: of four in each delivery, which is the default, three. On a machine that does other
/// things some end before they have reached the webhook.
const ATTEMPTS_MIN: u64 = (ROUNDS * ROUTES * 3) as u64;

/// Longer than a time-out and the longest pause before the next attempt, 400 ms.
const QUIET: Duration = Duration::from_secs(3);

/// Bound on a round, which takes the time-outs of all attempts and the pauses between them.
const ROUND_MAX: Duration = Duration::from_secs(25);

/// A hundred messages a second are measured: some ten around each end.
const PERIOD: Duration = Duration::from_millis(10);

/// What is sent together takes the machine's time, too, and so long after it is of no interest.
const BURST: Duration = Duration::from_millis(500);

const LATENCY_MAX: Duration = Duration::from_millis(20);

pub(super) async fn figures(place: Place, mut figures: Vec<Figure>) -> anyhow::Result<Vec<Figure>> {
    for mode in ["forward", "spool"] {
        let sent = measured(&place, mode).await?;
        for (code, latencies) in [("220", Latencies::of_220(&sent)), ("250", Latencies::of_250(&sent))] {
            let what = format!("{code} in `{mode}` while 1,000 deliveries end");
            figures.push(latencies.figure(&what, 999, LATENCY_MAX));
        }
    }
    Ok(figures)
}

async fn measured(place: &Place, mode: &str) -> anyhow::Result<Vec<Sent>> {
    let host = own_address()?;
    let alive = Sink::start_at(host, Pace::AtOnce).await?;
    let mut hanging = Vec::new();
    for _ in 0..ADDRESSES {
        hanging.push(Sink::start_at(host, Pace::Never).await?);
    }
    let recipient = |number: usize| format!("route-{number}@example.com");
    // One more, which is alive.
    let routes: Vec<Route> = (0..=ROUTES)
        .map(|number| {
            let webhook = if number == ROUTES { &alive } else { &hanging[number % ADDRESSES] };
            let name = format!("team-{}/route-{number}", number % 50);
            Route {
                name,
                recipient: recipient(number),
                url: format!("http://{}/{number}", webhook.address()),
            }
        })
        .collect();
    let folder = place.routes()?;
    place.put_routes(&folder, &routes, Some(TIMEOUT_SECONDS)).await?;
    let variables = [
        ("MAIL_LASER_ROUTES", folder.display().to_string()),
        ("MAIL_LASER_MAX_CONCURRENT_PER_IP", "0".to_owned()),
        ("MAIL_LASER_DELIVERY", mode.to_owned()),
        ("MAIL_LASER_SPOOL_DIR", place.spool()?.display().to_string()),
    ];
    let daemon = Daemon::start(place, &variables).await?;
    let hung: Vec<String> = (0..ROUTES).map(recipient).collect();
    let (mut bursts, mut result) = (Vec::new(), Ok(()));
    let sender = Sender::new(daemon.smtp, vec![recipient(ROUTES)]);
    let sent = sender
        .at_a_pace(PERIOD, async {
            for _ in 0..ROUNDS {
                let began = Instant::now();
                result = send_to_all(daemon.smtp, &hung).await;
                bursts.push(began..Instant::now() + BURST);
                if result.is_err() {
                    return;
                }
                all_end(&hanging).await;
            }
        })
        .await;
    result?;
    let attempts = arrived(&hanging);
    ensure!(attempts >= ATTEMPTS_MIN, "{attempts} attempts hung, at least {ATTEMPTS_MIN} were to");
    daemon.process.kill().await?;
    Ok(sent.into_iter().filter(|sent| !bursts.iter().any(|burst| burst.contains(&sent.began))).collect())
}

/// Waits until no further attempt has begun for longer than a time-out and the pause after it.
async fn all_end(hanging: &[Sink]) {
    let deadline = Instant::now() + ROUND_MAX;
    let (mut attempts, mut since) = (arrived(hanging), Instant::now());
    while since.elapsed() < QUIET && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let now = arrived(hanging);
        if now > attempts {
            (attempts, since) = (now, Instant::now());
        }
    }
}

fn arrived(sinks: &[Sink]) -> u64 {
    sinks.iter().map(Sink::arrived).sum()
}
