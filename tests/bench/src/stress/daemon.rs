//! The daemon of a scenario: its start, its metrics, its end.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::process::Command;

use crate::metrics;
use crate::process::{Process, free_port};

use super::figure::Figure;
use super::place::Place;
use super::probe::{Connection, PATIENCE, PERIOD, Sender};

/// The default of `MAIL_LASER_SHUTDOWN_GRACE`.
pub(super) const GRACE: Duration = Duration::from_secs(25);

/// The time beyond the grace after which a process is killed: it is measured how late it is, within a bound.
const LATE_MAX: Duration = Duration::from_secs(15);

/// Bound on the start, until the greeting. A spool with a million messages may take a part of it.
const START_MAX: Duration = Duration::from_secs(60);

/// The time in which messages come in before SIGTERM. Their clients wait longer than the grace lasts.
const IN_USE: Duration = Duration::from_secs(2);

/// Between two looks at the metrics: seldom, as an answer costs the daemon something.
const PAUSE: Duration = Duration::from_millis(100);

/// A daemon that runs.
pub(super) struct Daemon {
    pub(super) process: Process,
    pub(super) smtp: SocketAddr,
    pub(super) health: SocketAddr,
    metrics: SocketAddr,
}

/// The last known value of a series that was waited for.
pub(super) struct Waited {
    pub(super) value: Option<u64>,
    pub(super) is_wanted: bool,
}

impl fmt::Display for Waited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value {
            Some(value) => value.fmt(f),
            None => f.write_str("an unknown number"),
        }
    }
}

impl Daemon {
    /// Starts it with these variables, all others as they are by default, and waits for its greeting.
    pub(super) async fn start(place: &Place, variables: &[(&str, String)]) -> anyhow::Result<Self> {
        Self::greeted(place, variables, |command| Process::start(command, &place.folder.join("daemon.log")))
            .await
    }

    /// The same with its log in a pipe that is not read.
    pub(super) async fn start_unread(place: &Place, variables: &[(&str, String)]) -> anyhow::Result<Self> {
        Self::greeted(place, variables, Process::start_unread).await
    }

    async fn greeted(
        place: &Place,
        variables: &[(&str, String)],
        start: impl FnOnce(&mut Command) -> anyhow::Result<Process>,
    ) -> anyhow::Result<Self> {
        let (smtp, health, metrics) = (free_port()?, free_port()?, free_port()?);
        let mut command = Command::new(&place.mail_laser);
        command.current_dir(&place.folder).env("MAIL_LASER_BIND_ADDRESS", smtp.ip().to_string());
        command.env("MAIL_LASER_PORT", smtp.port().to_string());
        for (service, address) in [("HEALTH", health), ("METRICS", metrics)] {
            command.env(format!("MAIL_LASER_{service}_BIND_ADDRESS"), address.ip().to_string());
            command.env(format!("MAIL_LASER_{service}_PORT"), address.port().to_string());
        }
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        let daemon = Self { process: start(&mut command)?, smtp, health, metrics };
        let deadline = Instant::now() + START_MAX;
        while let Err(error) = daemon.greeting().await {
            if Instant::now() > deadline {
                bail!("the daemon does not start: {error:#}");
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(daemon)
    }

    async fn greeting(&self) -> anyhow::Result<()> {
        let greeting = async { Connection::open(self.smtp, None).await?.expect("220").await };
        tokio::time::timeout(PATIENCE, greeting).await.context("no greeting")?
    }

    /// The value of a series; `None` where the daemon has none, or does not answer.
    pub(super) async fn metric(&self, series: &str) -> Option<u64> {
        metrics::value(self.metrics, series).await.ok()
    }

    /// Waits until a series has a value that is wanted, for `limit` at most.
    pub(super) async fn wait_for(
        &self,
        series: &str,
        is_wanted: impl Fn(u64) -> bool,
        limit: Duration,
    ) -> Waited {
        let deadline = Instant::now() + limit;
        let mut last = None;
        loop {
            last = self.metric(series).await.or(last);
            let is_wanted = last.is_some_and(&is_wanted);
            if is_wanted || Instant::now() > deadline {
                return Waited { value: last, is_wanted };
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Asks it to end while messages come in, a part of which is in transfer then, and measures whether it does so within
    /// the grace.
    pub(super) async fn shut_down_in_use(self, what: &str, recipient: &str) -> anyhow::Result<Figure> {
        let sender = Sender::new(self.smtp, vec![recipient.to_owned()]);
        let mut figure = None;
        sender
            .at_a_pace(PERIOD, async {
                tokio::time::sleep(IN_USE).await;
                figure = Some(self.shut_down(what).await);
            })
            .await;
        figure.context("it was not asked to end")?
    }

    /// Asks it to end, and measures whether it does so within the grace.
    pub(super) async fn shut_down(self, what: &str) -> anyhow::Result<Figure> {
        let ended = self.process.terminate_within(GRACE + LATE_MAX).await?;
        Ok(Figure::shutdown(what, ended, GRACE))
    }
}
