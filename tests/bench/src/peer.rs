//! What is measured: the daemon, and what it is measured against.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::process::Command;

use crate::load::RECIPIENT;
use crate::process::{Process, free_port, wait_for_greeting};

/// A program that takes mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// The daemon.
    Daemon,
    /// The forwarder on top of go-smtp that answers when a mail waits, as the daemon does.
    Forwarder,
    /// The same, answering when the webhook has the mail.
    WaitingForwarder,
    /// A forwarder on top of aiosmtpd, which waits for the webhook, too.
    Aiosmtpd,
    /// Postfix's smtp-sink, which throws mail away.
    SmtpSink,
}

/// Where the programs are.
pub(crate) struct Tools {
    mail_laser: PathBuf,
    forwarder: PathBuf,
    /// The root below which Postfix is unpacked or installed, and where its libraries are.
    postfix: PathBuf,
    libraries: String,
    aiosmtpd: Option<(PathBuf, PathBuf)>,
    /// Where they run and their output goes.
    folder: PathBuf,
}

/// A peer that answers.
pub(crate) struct Running {
    pub(crate) process: Process,
    pub(crate) smtp: SocketAddr,
    /// From its start to its greeting.
    pub(crate) start: Duration,
}

impl Peer {
    /// What it is called in results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Daemon => "daemon",
            Self::Forwarder => "go-smtp forwarder",
            Self::WaitingForwarder => "go-smtp forwarder that waits",
            Self::Aiosmtpd => "aiosmtpd forwarder",
            Self::SmtpSink => "smtp-sink",
        }
    }
}

impl Tools {
    /// As `tests/bench/run` says.
    pub(crate) fn from_environment() -> anyhow::Result<Self> {
        let path = |name: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .with_context(|| format!("{name} is not set: use `make bench`"))
        };
        Ok(Self {
            mail_laser: path("BENCH_MAIL_LASER")?,
            forwarder: path("BENCH_FORWARDER")?,
            postfix: Path::new("/").join(path("BENCH_POSTFIX")?),
            libraries: std::env::var("BENCH_LIBRARIES").unwrap_or_default(),
            aiosmtpd: path("BENCH_PYTHON").ok().zip(path("BENCH_AIOSMTPD").ok()),
            folder: path("BENCH_FOLDER")?,
        })
    }

    /// Whether aiosmtpd could be installed.
    pub(crate) fn has_aiosmtpd(&self) -> bool {
        self.aiosmtpd.is_some()
    }

    /// Starts `peer`, which posts to `webhook`, `concurrency` mails at the same time, and waits for
    /// its greeting.
    pub(crate) async fn start(
        &self,
        peer: Peer,
        webhook: SocketAddr,
        concurrency: u32,
    ) -> anyhow::Result<Running> {
        let smtp = free_port()?;
        let mut command = self.command(peer, smtp, webhook, concurrency)?;
        command.current_dir(&self.folder);
        let log = self.folder.join(format!("{}.log", peer.name().replace(' ', "-")));
        let started = Instant::now();
        let process = Process::start(&mut command, &log)?;
        let greeted = tokio::task::spawn_blocking(move || wait_for_greeting(smtp)).await?;
        let greeted =
            greeted.with_context(|| format!("{} does not start: see {}", peer.name(), log.display()))?;
        Ok(Running { process, smtp, start: greeted - started })
    }

    fn command(
        &self,
        peer: Peer,
        smtp: SocketAddr,
        webhook: SocketAddr,
        concurrency: u32,
    ) -> anyhow::Result<Command> {
        let url = format!("http://{webhook}/inbound");
        let concurrency = concurrency.to_string();
        let mut command = match peer {
            Peer::Daemon => Command::new(&self.mail_laser),
            Peer::Forwarder | Peer::WaitingForwarder => Command::new(&self.forwarder),
            Peer::Aiosmtpd => {
                let (python, script) = self.aiosmtpd.as_ref().context("aiosmtpd is not installed")?;
                let mut command = Command::new(python);
                command.arg(script);
                command
            }
            Peer::SmtpSink => self.of_postfix("smtp-sink"),
        };
        match peer {
            Peer::Daemon => {
                // All load comes from one address; everything else is as it is by default.
                command.env("MAIL_LASER_MAX_CONCURRENT_PER_IP", "0");
                command.env("MAIL_LASER_TARGET_EMAILS", RECIPIENT).env("MAIL_LASER_WEBHOOK_URL", url);
                command.env("MAIL_LASER_WEBHOOK_CONCURRENCY", concurrency);
                command.env("MAIL_LASER_BIND_ADDRESS", smtp.ip().to_string());
                command.env("MAIL_LASER_PORT", smtp.port().to_string());
                for service in ["HEALTH", "METRICS"] {
                    command.env(format!("MAIL_LASER_{service}_BIND_ADDRESS"), "127.0.0.1");
                    command.env(format!("MAIL_LASER_{service}_PORT"), "0");
                }
            }
            Peer::Forwarder | Peer::WaitingForwarder => {
                // The daemon's default bound on what waits.
                let queue = if peer == Peer::Forwarder { "10000" } else { "0" };
                command.args(["-listen", &smtp.to_string(), "-url", &url, "-recipient", RECIPIENT]);
                command.args(["-concurrency", &concurrency, "-queue", queue]);
            }
            Peer::Aiosmtpd => {
                command.args([&smtp.to_string(), &url, RECIPIENT, &concurrency]);
            }
            Peer::SmtpSink => {
                if rustix::process::geteuid().is_root() {
                    command.args(["-u", "nobody"]);
                }
                command.args([&smtp.to_string(), "1000"]);
            }
        }
        Ok(command)
    }

    /// Runs smtp-source to its end: `mails` of 1 KiB over 20 connections.
    pub(crate) async fn smtp_source(&self, server: SocketAddr, mails: u64) -> anyhow::Result<Duration> {
        let mut command = self.of_postfix("smtp-source");
        command.args(["-d", "-s", "20", "-l", "1024", "-f", "ann@example.org", "-t", RECIPIENT]);
        command.args(["-m", &mails.to_string(), &server.to_string()]);
        let log = self.folder.join("smtp-source.log");
        let started = Instant::now();
        let process = Process::start(&mut command, &log)?;
        process
            .ended(Duration::from_secs(60))
            .await
            .with_context(|| format!("smtp-source: see {}", log.display()))?;
        Ok(started.elapsed())
    }

    /// A program of Postfix.
    fn of_postfix(&self, name: &str) -> Command {
        let mut command = Command::new(self.postfix.join("usr/sbin").join(name));
        command.env("LD_LIBRARY_PATH", &self.libraries);
        command
    }
}
