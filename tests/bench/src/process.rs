//! A process that is measured: what it has used of processor and memory, and its end.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStderr, Command};

/// How long a process may take until it answers, and until it ends.
const PATIENCE: Duration = Duration::from_secs(15);

/// Between two attempts to connect to a process that starts: a fraction of what starting takes.
const CONNECT_PAUSE: Duration = Duration::from_micros(100);

/// A process, ended when it is dropped.
pub(crate) struct Process {
    child: Child,
    pid: u32,
}

impl Process {
    /// Starts it with its output in `log`, where a container's would be: in no terminal.
    pub(crate) fn start(command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdout(output.try_clone()?).stderr(output);
        Self::spawn(command)
    }

    /// Starts it with its errors in a pipe that is not read, as long as the process is there.
    pub(crate) fn start_unread(command: &mut Command) -> anyhow::Result<Self> {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        Self::spawn(command)
    }

    fn spawn(command: &mut Command) -> anyhow::Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {:?}", command.as_std().get_program()))?;
        let pid = child.id().context("it ended at once")?;
        Ok(Self { child, pid })
    }

    /// Processor time so far, of all its threads, to a tick of 10 ms: measure a second at least.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        // Behind the name, which stands in parentheses and may hold anything, utime and stime are
        // 12th and 13th.
        let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
        let times = fields.split_whitespace().skip(11).take(2);
        let ticks = times.map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        Ok(Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second()))
    }

    /// Resident memory, in KiB.
    pub(crate) fn resident_kib(&self) -> anyhow::Result<u64> {
        self.status("VmRSS:")
    }

    /// The most that was ever resident, in KiB.
    pub(crate) fn peak_kib(&self) -> anyhow::Result<u64> {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let value = line.and_then(|line| line.trim().strip_suffix(" kB")).context("no such line")?;
        Ok(value.trim().parse()?)
    }

    /// Waits for the end of a process that ends by itself.
    pub(crate) async fn ended(mut self, limit: Duration) -> anyhow::Result<()> {
        let status = tokio::time::timeout(limit, self.child.wait()).await;
        let status = status.with_context(|| format!("it still runs after {limit:?}"))??;
        ensure!(status.success(), "it ended with {status}");
        Ok(())
    }

    /// Takes the end of the pipe that its errors go to: see [`Self::start_unread`].
    pub(crate) fn take_errors(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// Asks it to end. Returns the time that it took, or `None` for a process that still ran after `limit` and was
    /// killed.
    pub(crate) async fn terminate_within(mut self, limit: Duration) -> anyhow::Result<Option<Duration>> {
        let asked = Instant::now();
        self.signal(Signal::TERM)?;
        let Ok(status) = tokio::time::timeout(limit, self.child.wait()).await else {
            self.kill().await?;
            return Ok(None);
        };
        let status = status?;
        ensure!(status.success(), "it ended with {status}");
        Ok(Some(asked.elapsed()))
    }

    /// Ends it; what it still holds is of no interest.
    pub(crate) async fn kill(self) -> anyhow::Result<()> {
        self.end_by(Signal::KILL).await
    }

    /// Asks it to end, and what it has started with it.
    pub(crate) async fn terminate(self) -> anyhow::Result<()> {
        self.end_by(Signal::TERM).await
    }

    async fn end_by(mut self, signal: Signal) -> anyhow::Result<()> {
        self.signal(signal)?;
        tokio::time::timeout(PATIENCE, self.child.wait()).await.context("it does not end")??;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            kill_process(pid, signal)?;
        }
        Ok(())
    }
}

/// Connects as soon as somebody listens, and returns when the greeting was there.
///
/// Blocks: a timer of the runtime would be as coarse as what is measured.
pub(crate) fn wait_for_greeting(server: SocketAddr) -> anyhow::Result<Instant> {
    let deadline = Instant::now() + PATIENCE;
    let stream = loop {
        match TcpStream::connect(server) {
            Ok(stream) => break stream,
            Err(_) if Instant::now() < deadline => std::thread::sleep(CONNECT_PAUSE),
            Err(error) => bail!("nobody listens on {server} after {PATIENCE:?}: {error}"),
        }
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut greeting = String::new();
    BufReader::new(stream).read_line(&mut greeting).context("no greeting")?;
    ensure!(greeting.starts_with("220"), "the greeting is {greeting:?}");
    Ok(Instant::now())
}

/// A port of the loopback address that is free now.
pub(crate) fn free_port() -> anyhow::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).context("no free port")
}
