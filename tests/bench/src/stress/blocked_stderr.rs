//! 1,000 messages while the log goes to a pipe that is not read.
//!
//! A pipe takes 64 KiB, which is the log of some 180 messages. Mail, `/health` and SIGTERM may not depend on it.

use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::load::RECIPIENT;
use crate::metrics;
use crate::sink::{Pace, Sink};

use super::daemon::Daemon;
use super::figure::Figure;
use super::place::Place;
use super::probe::Sender;

const MESSAGES: usize = 1_000;

/// Bound on one message, and on the answer of `/health`: many times what they take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of log by which the pipe is known to be full: it has 16 pages, and what is written at once may leave the rest of a
/// page unused.
const PIPE_BYTES_MIN: usize = 48 * 1024;

pub(super) async fn figures(place: Place, mut figures: Vec<Figure>) -> anyhow::Result<Vec<Figure>> {
    let sink = Sink::start(Pace::AtOnce).await?;
    let variables = [
        ("MAIL_LASER_TARGET_EMAILS", RECIPIENT.to_owned()),
        ("MAIL_LASER_WEBHOOK_URL", format!("http://{}/", sink.address())),
    ];
    let mut daemon = Daemon::start_unread(&place, &variables).await?;
    let mut errors = daemon.process.take_errors().context("no pipe")?;
    let sender = Sender { patience: PATIENCE, ..Sender::new(daemon.smtp, vec![RECIPIENT.to_owned()]) };
    let (mut accepted, mut problem) = (0, None);
    while accepted < MESSAGES && problem.is_none() {
        problem = sender.send(accepted).await.problem;
        accepted += usize::from(problem.is_none());
    }
    let problem = problem.map_or_else(String::new, |problem| format!(", then: {problem}"));
    let measured = format!("{accepted} of {MESSAGES}{problem}");
    figures.push(Figure::new("250 with a blocked stderr", "all", measured, accepted == MESSAGES));

    let answer = timeout(PATIENCE, metrics::get(daemon.health, "/health")).await;
    let status = match &answer {
        Ok(Ok(answer)) => answer.lines().next().unwrap_or_default().to_owned(),
        Ok(Err(error)) => format!("{error:#}"),
        Err(_) => format!("no answer within {PATIENCE:?}"),
    };
    let is_healthy = status.starts_with("HTTP/1.1 200");
    figures.push(Figure::new("/health with a blocked stderr", "200", status, is_healthy));
    figures.push(daemon.shut_down("SIGTERM with a blocked stderr").await?);

    let mut log = Vec::new();
    errors.read_to_end(&mut log).await?;
    ensure!(log.len() >= PIPE_BYTES_MIN, "{} bytes of log do not block a pipe", log.len());
    Ok(figures)
}
