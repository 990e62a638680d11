//! A route with 60,000 messages, with ten failed deliveries each, is removed while messages for other routes come in.
//!
//! Messages without a route become dead letters. Other tenants may not notice it, and neither may the end of the
//! process.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::routes::{Route, own_address};
use crate::sink::{Pace, Sink};

use super::daemon::Daemon;
use super::expiry::LATENCY_MAX;
use super::figure::{Figure, Latencies};
use super::place::{Filling, Place};
use super::probe::{PERIOD, Sender, refusing};

const MESSAGES: usize = 60_000;
const FAILURES: u32 = 10;
const CONTENT_BYTES: usize = 300;
const AGE_SECONDS: u64 = 3_600;

/// Routes that stay.
const OTHERS: usize = 10;

/// Bound on reading the spool after the start.
const SCAN_MAX: Duration = Duration::from_secs(60);

/// The time in which messages for other routes are sent, from the removal on.
const MEASURED_MIN: Duration = Duration::from_secs(30);
const MEASURED_MAX: Duration = Duration::from_secs(90);

const WAITING: &str = "mail_laser_spool_messages";

pub(super) async fn figures(place: Place, mut figures: Vec<Figure>) -> anyhow::Result<Vec<Figure>> {
    let host = own_address()?;
    let sink = Sink::start_at(host, Pace::AtOnce).await?;
    let route = |name: &str, webhook| Route {
        name: format!("team-{name}/route"),
        recipient: format!("{name}@example.com"),
        url: format!("http://{webhook}/{name}"),
    };
    let removed = route("removed", refusing(host)?);
    let named = (removed.name.clone(), removed.recipient.clone());
    let mut routes: Vec<Route> =
        (0..OTHERS).map(|number| route(&number.to_string(), sink.address())).collect();
    let recipients: Vec<_> = routes.iter().map(|route| route.recipient.clone()).collect();
    let first = recipients[0].clone();
    routes.push(removed);
    let folder = place.routes()?;
    place.put_routes(&folder, &routes, None).await?;
    let filling = Filling {
        messages: MESSAGES,
        content_bytes: CONTENT_BYTES,
        failures: FAILURES,
        age_seconds: AGE_SECONDS,
        routes: &[named],
    };
    let spool = place.filled_spool(&filling).await?;
    let variables = [
        ("MAIL_LASER_ROUTES", folder.display().to_string()),
        ("MAIL_LASER_MAX_CONCURRENT_PER_IP", "0".to_owned()),
        ("MAIL_LASER_DELIVERY", "spool".to_owned()),
        ("MAIL_LASER_SPOOL_DIR", spool.display().to_string()),
    ];
    let daemon = Daemon::start(&place, &variables).await?;
    let waiting = daemon.wait_for(WAITING, |waiting| waiting >= MESSAGES as u64, SCAN_MAX).await;
    ensure!(waiting.is_wanted, "{waiting} of {MESSAGES} messages wait");

    routes.pop().context("no route to remove")?;
    place.put_routes(&folder, &routes, None).await?;
    let removed = Instant::now();
    let sent = Sender::new(daemon.smtp, recipients)
        .at_a_pace(PERIOD, async {
            let few = |waiting| waiting < MESSAGES as u64 / 100;
            let waiting = daemon.wait_for(WAITING, few, MEASURED_MAX).await;
            println!(
                "  {waiting} of {MESSAGES} messages wait {} s after the removal",
                removed.elapsed().as_secs()
            );
            tokio::time::sleep(MEASURED_MIN.saturating_sub(removed.elapsed())).await;
        })
        .await;
    figures.push(Latencies::of_250(&sent).figure("250 for other routes, one is removed", 990, LATENCY_MAX));
    figures.push(daemon.shut_down_in_use("SIGTERM after a route was removed", &first).await?);
    Ok(figures)
}
