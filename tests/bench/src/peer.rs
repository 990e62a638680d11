//! What is measured: the daemon, and what it is measured against.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::process::Command;

use crate::load::RECIPIENT;
use crate::postfix::Postfix;
use crate::process::{Process, free_port, wait_for_greeting};

/// Octets of mail that may wait in the daemon's spool: more than any measurement needs.
const SPOOL_BYTES_MAX: &str = "4294967296";

/// A program that takes mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// The daemon, answering when a mail waits.
    Daemon,
    /// The daemon, answering when the webhook has the mail.
    Confirm,
    /// The daemon, answering when the mail is on disk. Without routes its circuit is probed every second, and its
    /// spool may be as large as a measurement needs; it begins with what is there.
    Spool,
    /// The forwarder on top of go-smtp that answers when a mail waits, as the daemon does.
    Forwarder,
    /// The same, answering when the webhook has the mail.
    WaitingForwarder,
    /// A forwarder on top of aiosmtpd, which waits for the webhook, too.
    Aiosmtpd,
    /// Postfix's smtp-sink, which throws mail away.
    SmtpSink,
    /// Postfix, answering when the mail is in its queue, and holding it there.
    Postfix,
}

/// Where the programs are.
#[derive(Clone)]
pub(crate) struct Tools {
    mail_laser: PathBuf,
    forwarder: PathBuf,
    /// The root below which Postfix is unpacked or installed, and where its libraries are.
    postfix: PathBuf,
    libraries: String,
    aiosmtpd: Option<(PathBuf, PathBuf)>,
    /// What writes routes, and what looks them up.
    pub(crate) routes: (PathBuf, PathBuf),
    queue: Option<Postfix>,
    /// Where they run and their output goes.
    folder: PathBuf,
}

/// A peer that answers.
pub(crate) struct Running {
    pub(crate) process: Process,
    pub(crate) smtp: SocketAddr,
    /// Where the daemon shows its metrics.
    pub(crate) metrics: SocketAddr,
    /// From its start to its greeting.
    pub(crate) start: Duration,
}

impl Peer {
    /// What it is called in results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Daemon => "daemon",
            Self::Confirm => "daemon in confirm",
            Self::Spool => "daemon in spool",
            Self::Forwarder => "go-smtp forwarder",
            Self::WaitingForwarder => "go-smtp forwarder that waits",
            Self::Aiosmtpd => "aiosmtpd forwarder",
            Self::SmtpSink => "smtp-sink",
            Self::Postfix => "Postfix",
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
        let postfix = Path::new("/").join(path("BENCH_POSTFIX")?);
        let libraries = std::env::var("BENCH_LIBRARIES").unwrap_or_default();
        let folder = path("BENCH_FOLDER")?;
        Ok(Self {
            mail_laser: path("BENCH_MAIL_LASER")?,
            forwarder: path("BENCH_FORWARDER")?,
            queue: Postfix::find(&postfix, &libraries, &folder),
            postfix,
            libraries,
            routes: (path("BENCH_GENERATION")?, path("BENCH_LOOKUP")?),
            aiosmtpd: path("BENCH_PYTHON").ok().zip(path("BENCH_AIOSMTPD").ok()),
            folder,
        })
    }

    /// The same for a daemon with a directory and a spool of its own, which runs beside another one.
    pub(crate) fn beside(&self, name: &str) -> anyhow::Result<Self> {
        let folder = self.folder.join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(Self { folder, ..self.clone() })
    }

    /// Whether aiosmtpd could be installed.
    pub(crate) fn has_aiosmtpd(&self) -> bool {
        self.aiosmtpd.is_some()
    }

    /// Postfix with a queue, where it can be run.
    pub(crate) fn postfix(&self) -> Option<&Postfix> {
        self.queue.as_ref()
    }

    /// Empties the daemon's spool, and waits until the disk has nothing to do for what was before.
    pub(crate) async fn clear_disk(&self) -> anyhow::Result<()> {
        let spool = self.spool();
        if spool.exists() {
            std::fs::remove_dir_all(&spool)?;
        }
        std::fs::create_dir(&spool)?;
        tokio::task::spawn_blocking(rustix::fs::sync).await?;
        Ok(())
    }

    /// Makes both be read from disk when they start next: how much of a file one page fault brings into memory depends
    /// on how the file came into the page cache.
    pub(crate) fn forget_programs(&self) -> anyhow::Result<()> {
        rustix::fs::sync();
        for program in [&self.mail_laser, &self.forwarder] {
            rustix::fs::fadvise(File::open(program)?, 0, None, rustix::fs::Advice::DontNeed)?;
        }
        Ok(())
    }

    fn spool(&self) -> PathBuf {
        self.folder.join("spool")
    }

    /// Starts `peer`, which posts to `webhook`, `concurrency` mails at the same time, and waits for
    /// its greeting.
    pub(crate) async fn start(
        &self,
        peer: Peer,
        webhook: SocketAddr,
        concurrency: u32,
    ) -> anyhow::Result<Running> {
        let (smtp, metrics) = (free_port()?, free_port()?);
        let mut command = self.command(peer, smtp, metrics, webhook, concurrency)?;
        command.current_dir(&self.folder);
        let (process, start) = self.greeted(&mut command, peer, smtp).await?;
        Ok(Running { process, smtp, metrics, start })
    }

    /// Starts the daemon with the routes of a directory, and nothing else that it takes mail for.
    pub(crate) async fn start_with_routes(&self, peer: Peer, routes: &Path) -> anyhow::Result<Running> {
        let (smtp, metrics) = (free_port()?, free_port()?);
        let mut command = self.command(peer, smtp, metrics, metrics, 1)?;
        command.env_remove("MAIL_LASER_TARGET_EMAILS").env_remove("MAIL_LASER_WEBHOOK_URL");
        // What is measured with routes is no wait for a probe, so they are as rare as by default.
        command.env_remove("MAIL_LASER_CIRCUIT_BREAKER_RESET");
        command.env("MAIL_LASER_ROUTES", routes).env("MAIL_LASER_MAX_UNKNOWN_RCPTS_PER_SESSION", "0");
        command.current_dir(&self.folder);
        let (process, start) = self.greeted(&mut command, peer, smtp).await?;
        Ok(Running { process, smtp, metrics, start })
    }

    /// An empty directory for routes.
    pub(crate) fn routes_folder(&self) -> anyhow::Result<PathBuf> {
        let folder = self.folder.join("routes");
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir(&folder)?;
        Ok(folder)
    }

    /// Starts Postfix again, with the queue that it has.
    pub(crate) async fn restart_postfix(&self, smtp: SocketAddr) -> anyhow::Result<Process> {
        let mut command = self.postfix().context("Postfix cannot be run")?.master();
        Ok(self.greeted(&mut command, Peer::Postfix, smtp).await?.0)
    }

    /// Starts `command` and waits for its greeting; returns how long that took, too.
    async fn greeted(
        &self,
        command: &mut Command,
        peer: Peer,
        smtp: SocketAddr,
    ) -> anyhow::Result<(Process, Duration)> {
        let log = self.folder.join(format!("{}.log", peer.name().replace(' ', "-")));
        let started = Instant::now();
        let process = Process::start(command, &log)?;
        let greeted = tokio::task::spawn_blocking(move || wait_for_greeting(smtp)).await?;
        let greeted =
            greeted.with_context(|| format!("{} does not start: see {}", peer.name(), log.display()))?;
        Ok((process, greeted - started))
    }

    fn command(
        &self,
        peer: Peer,
        smtp: SocketAddr,
        metrics: SocketAddr,
        webhook: SocketAddr,
        concurrency: u32,
    ) -> anyhow::Result<Command> {
        let url = format!("http://{webhook}/inbound");
        let concurrency = concurrency.to_string();
        let mut command = match peer {
            Peer::Daemon | Peer::Confirm | Peer::Spool => Command::new(&self.mail_laser),
            Peer::Forwarder | Peer::WaitingForwarder => Command::new(&self.forwarder),
            Peer::Aiosmtpd => {
                let (python, script) = self.aiosmtpd.as_ref().context("aiosmtpd is not installed")?;
                let mut command = Command::new(python);
                command.arg(script);
                command
            }
            Peer::SmtpSink => self.of_postfix("smtp-sink"),
            Peer::Postfix => {
                let postfix = self.postfix().context("Postfix cannot be run")?;
                postfix.lay_out(smtp, webhook)?;
                postfix.master()
            }
        };
        match peer {
            Peer::Daemon | Peer::Confirm | Peer::Spool => {
                // All load comes from one address; everything else is as it is by default.
                command.env("MAIL_LASER_MAX_CONCURRENT_PER_IP", "0");
                command.env("MAIL_LASER_TARGET_EMAILS", RECIPIENT).env("MAIL_LASER_WEBHOOK_URL", url);
                command.env("MAIL_LASER_WEBHOOK_CONCURRENCY", concurrency);
                command.env("MAIL_LASER_BIND_ADDRESS", smtp.ip().to_string());
                command.env("MAIL_LASER_PORT", smtp.port().to_string());
                for (service, port) in [("HEALTH", 0), ("METRICS", metrics.port())] {
                    command.env(format!("MAIL_LASER_{service}_BIND_ADDRESS"), "127.0.0.1");
                    command.env(format!("MAIL_LASER_{service}_PORT"), port.to_string());
                }
                match peer {
                    Peer::Confirm => {
                        command.env("MAIL_LASER_DELIVERY", "confirm");
                    }
                    Peer::Spool => {
                        command.env("MAIL_LASER_DELIVERY", "spool");
                        command.env("MAIL_LASER_SPOOL_DIR", self.spool());
                        command.env("MAIL_LASER_SPOOL_MAX_BYTES", SPOOL_BYTES_MAX);
                        command.env("MAIL_LASER_CIRCUIT_BREAKER_RESET", "1");
                    }
                    _ => {}
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
                without_root(&mut command).args([&smtp.to_string(), "1000"]);
            }
            Peer::Postfix => {}
        }
        Ok(command)
    }

    /// Starts an smtp-sink at `smtp` that ends when it has got so many mails.
    pub(crate) fn smtp_sink(&self, smtp: SocketAddr, mails: u64) -> anyhow::Result<Process> {
        let mut command = self.of_postfix("smtp-sink");
        without_root(&mut command).args(["-M", &mails.to_string(), &smtp.to_string(), "1000"]);
        Process::start(&mut command, &self.folder.join("smtp-sink.log"))
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

/// smtp-sink refuses to run as root.
fn without_root(command: &mut Command) -> &mut Command {
    if rustix::process::geteuid().is_root() {
        command.args(["-u", "nobody"]);
    }
    command
}
