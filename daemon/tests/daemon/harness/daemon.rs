use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Client, Webhook, eventually};

pub(crate) const RECIPIENT: &str = "support@example.com";

/// How long `/health` may take: far less than a thread that is blocked by a mail, and more than a machine
/// that is busy with other things.
const HEALTH_PATIENCE: Duration = Duration::from_secs(5);

/// The binary, started with ports of its own, and its log.
pub(crate) struct Daemon {
    child: Child,
    log: Arc<Mutex<Vec<Value>>>,
    /// Locked for a moment before each line of the log.
    log_gate: Arc<Mutex<()>>,
    pub(crate) smtp: SocketAddr,
    pub(crate) health: SocketAddr,
    pub(crate) metrics: SocketAddr,
    _directory: tempfile::TempDir,
}

/// The binary with nothing in its environment but `variables`.
pub(crate) fn command(directory: &Path, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mail-laser"));
    command.env_clear().envs(variables.iter().copied()).current_dir(directory);
    command
}

impl Daemon {
    /// Starts it with mail for [`RECIPIENT`] going to `webhook`; `variables` win.
    pub(crate) fn start(webhook: &Webhook, variables: &[(&str, &str)]) -> Self {
        Self::posting_to(&webhook.url(), variables)
    }

    /// The same with mail going to `url`.
    pub(crate) fn posting_to(url: &str, variables: &[(&str, &str)]) -> Self {
        Self::under(&[], url, variables)
    }

    /// The same, started by a command that is given the binary as its last argument.
    pub(crate) fn under(wrapper: &[&str], url: &str, variables: &[(&str, &str)]) -> Self {
        let base = [
            ("MAIL_LASER_TARGET_EMAILS", RECIPIENT),
            ("MAIL_LASER_WEBHOOK_URL", url),
            ("MAIL_LASER_BIND_ADDRESS", "127.0.0.1"),
            ("MAIL_LASER_PORT", "0"),
            ("MAIL_LASER_HEALTH_BIND_ADDRESS", "127.0.0.1"),
            ("MAIL_LASER_HEALTH_PORT", "0"),
            ("MAIL_LASER_METRICS_BIND_ADDRESS", "127.0.0.1"),
            ("MAIL_LASER_METRICS_PORT", "0"),
            ("MAIL_LASER_HOSTNAME", "mx.example.com"),
            ("MAIL_LASER_MAX_CONCURRENT_PER_IP", "0"),
            ("LOG_FORMAT", "json"),
        ];
        let directory = tempfile::tempdir().expect("a directory");
        let mut command = command(directory.path(), &[&base[..], variables].concat());
        if let Some((program, arguments)) = wrapper.split_first() {
            let path = ("PATH", std::env::var("PATH").expect("a path"));
            let binary = command.get_program().to_owned();
            let wrapped = Command::new(program);
            let variables: Vec<_> = [&base[..], variables].concat();
            command = wrapped;
            command.args(arguments).arg(binary).env_clear().envs(variables).envs([path]);
            command.current_dir(directory.path());
        }
        let mut child = command.stderr(Stdio::piped()).spawn().expect("start the daemon");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, sink) = (BufReader::new(child.stderr.take().expect("its log")), Arc::clone(&log));
        let log_gate = Arc::new(Mutex::new(()));
        let gate = Arc::clone(&log_gate);
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                drop(gate.lock());
                let record = serde_json::from_str(&line).unwrap_or(Value::String(line));
                sink.lock().expect("the log").push(record);
            }
        });
        let address = |service| port(&log, service);
        let (smtp, health, metrics) = (address("smtp"), address("health"), address("metrics"));
        Self { child, log, log_gate, smtp, health, metrics, _directory: directory }
    }

    /// Where another of its ports is.
    pub(crate) fn wait_for_port(&self, service: &str) -> SocketAddr {
        port(&self.log, service)
    }

    /// Stops reading the log for as long as it is locked. The daemon can write what fits into the pipe.
    pub(crate) fn log_gate(&self) -> Arc<Mutex<()>> {
        Arc::clone(&self.log_gate)
    }

    pub(crate) fn client(&self) -> Client {
        Client::greeted(self.smtp)
    }

    /// The records of the log with that message.
    pub(crate) fn logged(&self, message: &str) -> Vec<Value> {
        let log = self.log.lock().expect("the log");
        log.iter()
            .filter(|r| r["message"].as_str().is_some_and(|m| m.starts_with(message)))
            .cloned()
            .collect()
    }

    /// Waits for so many records with that message.
    pub(crate) fn wait_for_log(&self, message: &str, count: usize) -> Vec<Value> {
        eventually(&format!("{count} log records {message:?}"), || {
            Some(self.logged(message)).filter(|records| records.len() >= count)
        })
    }

    /// Every line of the log: an object, or of a log in text a string.
    pub(crate) fn log_lines(&self) -> Vec<Value> {
        self.log.lock().expect("the log").clone()
    }

    /// The whole log as text.
    pub(crate) fn log_text(&self) -> String {
        self.log.lock().expect("the log").iter().map(|record| format!("{record}\n")).collect()
    }

    /// A path of its file system, which may have mounts that others do not see.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        let relative = path.strip_prefix("/").expect("an absolute path");
        Path::new("/proc").join(self.child.id().to_string()).join("root").join(relative)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")).expect("a pid");
        kill_process(pid, signal).expect("signal");
    }

    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("wait")
    }

    pub(crate) fn wait_for_end(&mut self) -> ExitStatus {
        eventually("the daemon ends", || self.has_ended())
    }

    /// One HTTP request, answered in full.
    pub(crate) fn http(address: SocketAddr, method: &str, path: &str) -> String {
        use std::io::Write;
        let mut stream = std::net::TcpStream::connect(address).expect("connect");
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("ask");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    /// The value of one series.
    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let text = Self::http(self.metrics, "GET", "/metrics");
        text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }

    /// Whether `/health` answers, which has to be within [`HEALTH_PATIENCE`] whatever else goes on.
    pub(crate) fn is_healthy(&self) -> bool {
        let asked = Instant::now();
        let answer = Self::http(self.health, "GET", "/health");
        answer.starts_with("HTTP/1.1 200 ") && asked.elapsed() < HEALTH_PATIENCE
    }

    pub(crate) fn resident_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most that it ever held.
    pub(crate) fn peak_bytes(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, which: &str) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix(which)).expect("its memory");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }
}

/// Where a service listens, as its record says; of a log in text, the record is a line.
fn port(log: &Mutex<Vec<Value>>, service: &str) -> SocketAddr {
    eventually(&format!("the {service} port"), || {
        let log = log.lock().expect("the log");
        let in_text = format!("listening service=\"{service}\" address=");
        log.iter().find_map(|record| match record {
            Value::String(line) => line.split_once(&in_text)?.1.parse().ok(),
            record if record["message"] == "listening" && record["service"] == service => {
                record["address"].as_str()?.parse().ok()
            }
            _ => None,
        })
    })
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
