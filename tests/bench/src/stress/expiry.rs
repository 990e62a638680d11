//! 300,000 messages with ten failed deliveries each that reach the end of their lifetime together.
//!
//! They become dead letters, which is bulk work on old messages. New messages may not wait for it, and neither may the
//! end of the process.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::load::RECIPIENT;

use super::daemon::Daemon;
use super::figure::{Figure, Latencies};
use super::place::{Filling, Place};
use super::probe::{PERIOD, Sender, refusing};

const MESSAGES: usize = 300_000;
const FAILURES: u32 = 10;
const CONTENT_BYTES: usize = 300;
const AGE_SECONDS: u64 = 3_600;

/// From the start of the daemon to the end of the messages' lifetime.
const REMAINING: Duration = Duration::from_secs(5);

/// The time in which new messages are sent: at least so long, and while messages expire no longer than that.
const MEASURED_MIN: Duration = Duration::from_secs(30);
const MEASURED_MAX: Duration = Duration::from_secs(90);

/// Many times the p99 of a message that nothing delays, which is 1.5 ms in BENCHMARKS.md, its sync included.
pub(super) const LATENCY_MAX: Duration = Duration::from_millis(20);

const DEAD_LETTERS: &str = "mail_laser_dead_letters{route=\"default\"}";

pub(super) async fn figures(place: Place, mut figures: Vec<Figure>) -> anyhow::Result<Vec<Figure>> {
    let daemon = start(&place).await?;
    let started = Instant::now();
    let sender = Sender::new(daemon.smtp, vec![RECIPIENT.to_owned()]);
    let sent = sender
        .at_a_pace(PERIOD, async {
            let all = |letters| letters >= MESSAGES as u64;
            let letters = daemon.wait_for(DEAD_LETTERS, all, MEASURED_MAX).await;
            println!(
                "  {letters} of {MESSAGES} messages are dead letters after {} s",
                started.elapsed().as_secs()
            );
            tokio::time::sleep(MEASURED_MIN.saturating_sub(started.elapsed())).await;
        })
        .await;
    figures.push(Latencies::of_250(&sent).figure("250 while messages expire", 990, LATENCY_MAX));
    daemon.process.kill().await?;

    // Once more: now it is asked to end in the middle of that, and of the messages that come in.
    let daemon = start(&place).await?;
    let letters = daemon.wait_for(DEAD_LETTERS, |letters| letters > 0, MEASURED_MIN).await;
    // A daemon that answers nothing expires messages, too.
    ensure!(letters.value != Some(0), "no message has expired");
    figures.push(daemon.shut_down_in_use("SIGTERM while messages expire", RECIPIENT).await?);
    Ok(figures)
}

async fn start(place: &Place) -> anyhow::Result<Daemon> {
    let began = Instant::now();
    let route = ("default".to_owned(), RECIPIENT.to_owned());
    let filling = Filling {
        messages: MESSAGES,
        content_bytes: CONTENT_BYTES,
        failures: FAILURES,
        age_seconds: AGE_SECONDS,
        routes: &[route],
    };
    let spool = place.filled_spool(&filling).await?;
    let lifetime = began.elapsed() + Duration::from_secs(AGE_SECONDS) + REMAINING;
    let webhook = refusing([127, 0, 0, 1].into())?;
    let variables = [
        ("MAIL_LASER_TARGET_EMAILS", RECIPIENT.to_owned()),
        ("MAIL_LASER_WEBHOOK_URL", format!("http://{webhook}/")),
        ("MAIL_LASER_MAX_CONCURRENT_PER_IP", "0".to_owned()),
        ("MAIL_LASER_DELIVERY", "spool".to_owned()),
        ("MAIL_LASER_SPOOL_DIR", spool.display().to_string()),
        // The dead letters' bound is a quarter of it, and all of them fit.
        ("MAIL_LASER_SPOOL_MAX_BYTES", (4_u64 << 30).to_string()),
        ("MAIL_LASER_SPOOL_LIFETIME", lifetime.as_secs().to_string()),
    ];
    Daemon::start(place, &variables).await
}
