//! 1,000,000 messages for 20,000 routes whose webhooks refuse connections.
//!
//! Every segment of the spool has messages for every route. Sessions may not wait while it is read, nor while the
//! messages are tried again and again, and what is known of them has to fit into the memory that the daemon may take.

use std::time::{Duration, Instant};

use crate::routes::{Route, own_address};
use crate::sink::{Pace, Sink};

use super::daemon::Daemon;
use super::figure::{Figure, Latencies};
use super::place::{Filling, Place};
use super::probe::{PERIOD, Sender, refusing};

const MESSAGES: usize = 1_000_000;
const ROUTES: usize = 20_000;
const FAILURES: u32 = 1;
const CONTENT_BYTES: usize = 300;
const AGE_SECONDS: u64 = 600;

/// The time in which messages are sent while the spool is read, and afterwards.
const SCAN_MIN: Duration = Duration::from_secs(30);
const SCAN_MAX: Duration = Duration::from_secs(90);
const MEASURED: Duration = Duration::from_secs(60);

const LATENCY_MAX: Duration = Duration::from_millis(50);

/// The default of `MAIL_LASER_MEMORY_MAX_BYTES`, and what the process may take beside it.
const RESIDENT_MIB_MAX: u64 = 256 + 64;

const WAITING: &str = "mail_laser_spool_messages";

pub(super) async fn figures(place: Place, mut figures: Vec<Figure>) -> anyhow::Result<Vec<Figure>> {
    let host = own_address()?;
    let sink = Sink::start_at(host, Pace::AtOnce).await?;
    let dead = refusing(host)?;
    let name = |number: usize| format!("team-{}/route-{number}", number % 50);
    let recipient = |number: usize| format!("route-{number}@example.com");
    let named: Vec<_> = (0..ROUTES).map(|number| (name(number), recipient(number))).collect();
    // One more, which is alive.
    let routes: Vec<Route> = (0..=ROUTES)
        .map(|number| {
            let webhook = if number == ROUTES { sink.address() } else { dead };
            Route {
                name: name(number),
                recipient: recipient(number),
                url: format!("http://{webhook}/{number}"),
            }
        })
        .collect();
    let folder = place.routes()?;
    place.put_routes(&folder, &routes, None).await?;
    let filling = Filling {
        messages: MESSAGES,
        content_bytes: CONTENT_BYTES,
        failures: FAILURES,
        age_seconds: AGE_SECONDS,
        routes: &named,
    };
    let spool = place.filled_spool(&filling).await?;
    let variables = [
        ("MAIL_LASER_ROUTES", folder.display().to_string()),
        ("MAIL_LASER_MAX_CONCURRENT_PER_IP", "0".to_owned()),
        ("MAIL_LASER_DELIVERY", "spool".to_owned()),
        ("MAIL_LASER_SPOOL_DIR", spool.display().to_string()),
        ("MAIL_LASER_SPOOL_MAX_BYTES", (4_u64 << 30).to_string()),
    ];
    let daemon = Daemon::start(&place, &variables).await?;
    let sender = || Sender::new(daemon.smtp, vec![recipient(ROUTES)]);

    let started = Instant::now();
    let sent = sender()
        .at_a_pace(PERIOD, async {
            let waiting = daemon.wait_for(WAITING, |waiting| waiting >= MESSAGES as u64, SCAN_MAX).await;
            println!("  {waiting} of {MESSAGES} messages known after {} s", started.elapsed().as_secs());
            // Without a daemon that says how many it has read, this is the time that reading takes.
            tokio::time::sleep(SCAN_MIN.saturating_sub(started.elapsed())).await;
        })
        .await;
    figures.push(Latencies::of_220(&sent).figure("220 while the spool is read", 990, LATENCY_MAX));
    figures.push(Latencies::of_250(&sent).figure("250 while the spool is read", 990, LATENCY_MAX));

    let sent = sender().at_a_pace(PERIOD, tokio::time::sleep(MEASURED)).await;
    figures.push(Latencies::of_220(&sent).figure("220 with 20,000 dead routes", 990, LATENCY_MAX));
    figures.push(Latencies::of_250(&sent).figure("250 with 20,000 dead routes", 990, LATENCY_MAX));

    let peak = daemon.process.peak_kib()? / 1024;
    let target = format!("at most {RESIDENT_MIB_MAX} MiB");
    figures.push(Figure::new(
        "resident memory, peak",
        target,
        format!("{peak} MiB"),
        peak <= RESIDENT_MIB_MAX,
    ));
    daemon.process.kill().await?;
    Ok(figures)
}
