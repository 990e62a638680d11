//! The programs that a scenario runs, and the directory that it has for itself.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::process::Command;

use crate::routes::{Route, feed, put_lines};

/// The daemon and what prepares its files, as `tests/bench/stress` built them.
pub(super) struct Programs {
    mail_laser: PathBuf,
    fill_spool: PathBuf,
    generation: PathBuf,
    folder: PathBuf,
}

/// The directory of one scenario.
pub(super) struct Place {
    pub(super) mail_laser: PathBuf,
    fill_spool: PathBuf,
    generation: PathBuf,
    pub(super) folder: PathBuf,
}

/// Messages that wait in a spool.
pub(super) struct Filling<'a> {
    pub(super) messages: usize,
    pub(super) content_bytes: usize,
    /// Failed deliveries of each message.
    pub(super) failures: u32,
    pub(super) age_seconds: u64,
    /// Name and recipient of each route; the messages go to them in turn.
    pub(super) routes: &'a [(String, String)],
}

impl Programs {
    pub(super) fn from_environment() -> anyhow::Result<Self> {
        let path = |name: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .with_context(|| format!("{name} is not set: use `tests/bench/stress`"))
        };
        Ok(Self {
            mail_laser: path("BENCH_MAIL_LASER")?,
            fill_spool: path("BENCH_FILL_SPOOL")?,
            generation: path("BENCH_GENERATION")?,
            folder: path("BENCH_FOLDER")?,
        })
    }

    /// An empty directory for a scenario.
    pub(super) fn place(&self, name: &str) -> anyhow::Result<Place> {
        self.clear(name)?;
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder)?;
        Ok(Place {
            mail_laser: self.mail_laser.clone(),
            fill_spool: self.fill_spool.clone(),
            generation: self.generation.clone(),
            folder,
        })
    }

    /// Removes the directory of a scenario: a spool takes gigabytes.
    pub(super) fn clear(&self, name: &str) -> anyhow::Result<()> {
        remove(&self.folder.join(name))
    }
}

impl Place {
    /// An empty directory for a spool.
    pub(super) fn spool(&self) -> anyhow::Result<PathBuf> {
        self.emptied("spool")
    }

    /// An empty directory for routes.
    pub(super) fn routes(&self) -> anyhow::Result<PathBuf> {
        self.emptied("routes")
    }

    fn emptied(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.folder.join(name);
        remove(&folder)?;
        fs::create_dir(&folder)?;
        Ok(folder)
    }

    /// Makes a spool with messages in it.
    pub(super) async fn filled_spool(&self, filling: &Filling<'_>) -> anyhow::Result<PathBuf> {
        let spool = self.spool()?;
        let mut command = Command::new(&self.fill_spool);
        command.arg(&spool).args([filling.messages, filling.content_bytes].map(|number| number.to_string()));
        command.args([filling.failures.to_string(), filling.age_seconds.to_string()]);
        let mut lines = String::new();
        for (name, recipient) in filling.routes {
            // Writing to a string does not fail.
            let _ = writeln!(lines, "{name} {recipient}");
        }
        feed(&mut command, &lines).await.context("the spool cannot be filled")?;
        // The disk should have nothing to do for what was before.
        tokio::task::spawn_blocking(rustix::fs::sync).await?;
        Ok(spool)
    }

    /// Puts a generation of routes into a directory. Attempts take as long as `timeout_seconds` allows, where that
    /// is not the default.
    pub(super) async fn put_routes(
        &self,
        folder: &Path,
        routes: &[Route],
        timeout_seconds: Option<u32>,
    ) -> anyhow::Result<()> {
        let timeout = timeout_seconds.map_or_else(String::new, |seconds| format!(" {seconds}"));
        let mut lines = String::new();
        for Route { name, recipient, url } in routes {
            // Writing to a string does not fail.
            let _ = writeln!(lines, "{name} {recipient} {url}{timeout}");
        }
        put_lines(&self.generation, folder, &lines).await
    }
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
