//! Log records of the daemon and of the operator: what they look like and how much there is of them.

mod buffer;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use buffer::{Buffer, Dropped};
use tracing::{error, warn};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The variable that says which records are logged, for [`parse_filter`].
pub const FILTER: &str = "RUST_LOG";

/// The variable that says how records are written, for [`LogFormat::parse`].
pub const FORMAT: &str = "LOG_FORMAT";

/// How log records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text each.
    Text,
    /// One line of JSON each.
    Json,
}

impl LogFormat {
    /// Reads [`FORMAT`].
    ///
    /// # Errors
    /// A sentence that says what is valid.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "" | "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("{FORMAT}={text:?} is not valid; valid is text or json")),
        }
    }
}

/// Reads [`FILTER`]; one that says nothing is the `default`.
///
/// # Errors
/// A sentence that says what is valid.
pub fn parse_filter(text: &str, default: &str) -> Result<Targets, String> {
    // An empty directive would be the target of everything.
    let directives: Vec<_> =
        text.split(',').map(str::trim).filter(|directive| !directive.is_empty()).collect();
    let directives = if directives.is_empty() { default.to_owned() } else { directives.join(",") };
    directives.parse().map_err(|_| {
        format!(
            "{FILTER}={text:?} is not valid; valid is a level, or target=level pairs, as in info,mail_laser=debug"
        )
    })
}

/// How long the end of a process waits for standard error to accept what is left. A reader that lives takes the whole
/// buffer in less; a pod has 5 s for it beside the grace.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(1);

/// The same for a panic, which may hold up a thread that serves others. Without it the record of a panic that ends the
/// process at once would be lost.
const PANIC_FLUSH_TIME_MAX: Duration = Duration::from_millis(100);

/// The records of this process that wait for standard error.
static BUFFER: OnceLock<Arc<Buffer>> = OnceLock::new();

/// Writes what waits when it is dropped, for a second at most. Hold it until the process ends.
#[derive(Debug)]
#[must_use = "records are lost at the end of a process that does not hold it"]
pub struct Flush(());

impl Drop for Flush {
    fn drop(&mut self) {
        if let Some(buffer) = BUFFER.get() {
            buffer.flush(FLUSH_TIME_MAX);
        }
    }
}

/// Sends log records to standard error from now on, and panics with them: what a panic says may hold
/// anything, line ends included. A thread of its own writes them, so that logging never waits.
///
/// # Errors
/// When the system has no thread or no file descriptor left.
pub fn init(format: LogFormat, filter: Targets) -> io::Result<Flush> {
    let buffer = buffer()?;
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer();
    match format {
        // Colours are for terminals; in a file or a log collector they are noise.
        LogFormat::Text => {
            registry.with(layer.with_ansi(false).with_writer(move || OneLine(Record(buffer)))).init();
        }
        LogFormat::Json => {
            registry.with(layer.with_writer(move || Record(buffer)).json().flatten_event(true)).init();
        }
    }
    std::panic::set_hook(Box::new(move |panic| {
        let location = panic.location().map(ToString::to_string);
        error!(reason = panic.payload_as_str(), location, "panic, which is a defect");
        buffer.flush(PANIC_FLUSH_TIME_MAX);
    }));
    Ok(Flush(()))
}

/// Writes a message for a person to standard error: behind all records so far and without waiting, once records are
/// logged.
pub fn print_error(message: &str) {
    match BUFFER.get() {
        Some(buffer) => buffer.push(format!("{message}\n").as_bytes()),
        None => eprintln!("{message}"),
    }
}

/// Number of records that were dropped since the start because standard error did not accept them.
#[must_use]
pub fn records_dropped() -> u64 {
    BUFFER.get().map_or(0, |buffer| buffer.dropped())
}

/// The buffer, whose writer runs.
fn buffer() -> io::Result<&'static Arc<Buffer>> {
    if let Some(buffer) = BUFFER.get() {
        return Ok(buffer);
    }
    // Not `io::Stderr`: a write that blocks would hold its lock.
    let output = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let buffer = Arc::new(Buffer::default());
    let writer = Arc::clone(&buffer);
    thread::Builder::new().name("log".to_owned()).spawn(move || writer.write_to(output, report))?;
    Ok(BUFFER.get_or_init(|| buffer))
}

fn report(dropped: Dropped) {
    let seconds = dropped.since.elapsed().unwrap_or_default().as_secs();
    warn!(
        records = dropped.records,
        seconds, "log records were dropped: standard error did not accept them in time"
    );
}

/// Hands one record over.
struct Record(&'static Arc<Buffer>);

impl Write for Record {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        self.0.push(record);
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes each record as one line, whatever it holds: control characters, which could begin another
/// record or speak to a terminal, are escaped. JSON needs none of this.
struct OneLine<W>(W);

impl<W: Write> Write for OneLine<W> {
    /// Takes one whole record: the subscriber writes it at once.
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        if is_one_line(record) {
            self.0.write_all(record)?;
            return Ok(record.len());
        }
        let text = String::from_utf8_lossy(record);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let mut escaped = String::with_capacity(line.len() + 1);
        for c in line.chars() {
            if c.is_control() { escaped.extend(c.escape_default()) } else { escaped.push(c) }
        }
        escaped.push('\n');
        self.0.write_all(escaped.as_bytes())?;
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Whether a record surely holds no control character but the line end behind it: neither those of
/// ASCII nor what begins those above it (U+0080 to U+009F). Nearly every record is known by that.
fn is_one_line(record: &[u8]) -> bool {
    let is_plain = |byte: &u8| *byte >= b' ' && !matches!(*byte, 0x7f | 0xc2);
    record.strip_suffix(b"\n").is_some_and(|line| line.iter().all(is_plain))
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn a_record_is_one_line_whatever_it_holds() {
        use std::sync::{Arc, Mutex};

        #[derive(Clone, Default)]
        struct Sink(Arc<Mutex<Vec<u8>>>);
        impl Write for Sink {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let sink = Sink::default();
        let writer = sink.clone();
        let layer =
            tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || OneLine(writer.clone()));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let hostile = "a\r\n2026-01-01 INFO forged \u{1b}[2J\u{9b}2J\0 gr\u{fc}n";
            tracing::info!(display = %hostile, debug = ?hostile, text = hostile, "{hostile}");
        });
        let log = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert_eq!(log.matches('\n').count(), 1, "{log:?}");
        assert!(log.ends_with('\n') && !log.trim_end_matches('\n').contains(char::is_control), "{log:?}");
        assert!(log.contains("a\\r\\n2026-01-01 INFO forged") && log.contains("gr\u{fc}n"), "{log:?}");
    }

    #[test]
    fn a_panic_is_logged_before_the_process_ends() {
        /// Has this test be the process that panics.
        const PANICS: &str = "MAIL_LASER_LOGGING_PANICS";
        if std::env::var_os(PANICS).is_some() {
            let flush = init(LogFormat::Text, parse_filter("", "info").unwrap()).unwrap();
            let _ = thread::spawn(|| panic!("a defect\r\n2026-01-01 INFO forged")).join();
            // As after a panic that cannot unwind: nothing is dropped.
            std::mem::forget(flush);
            std::process::abort();
        }
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::a_panic_is_logged_before_the_process_ends", "--nocapture"])
            .env(PANICS, "1")
            .output()
            .unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        let records: Vec<_> = log.lines().filter(|line| line.contains("panic, which is a defect")).collect();
        assert_eq!(records.len(), 1, "{log}");
        assert!(records[0].contains("a defect\\r\\n2026-01-01 INFO forged"), "{log}");
    }

    #[test]
    fn settings_are_read_or_named() {
        assert_eq!(LogFormat::parse(""), Ok(LogFormat::Text));
        assert_eq!(LogFormat::parse("JSON"), Ok(LogFormat::Json));
        assert!(LogFormat::parse("xml").unwrap_err().contains("text or json"));
        assert!(parse_filter("a=b=c", "info").unwrap_err().starts_with("RUST_LOG"));
        let shows = |text: &str, target, level| {
            parse_filter(text, "info,kube_client=off").unwrap().would_enable(target, &level)
        };
        for text in ["", " ", ",", "info", "info,", "INFO"] {
            assert!(shows(text, "mail_laser::smtp", Level::INFO), "{text:?}");
            assert!(!shows(text, "mail_laser::smtp", Level::DEBUG), "{text:?}");
        }
        for (text, is_shown) in
            [("", false), (" ,", false), ("info", true), ("info,kube_client=error,", true)]
        {
            assert_eq!(shows(text, "kube_client", Level::ERROR), is_shown, "{text:?}");
        }
        let text = "mail_laser::webhook=debug, info,hyper=off";
        assert!(shows(text, "mail_laser::webhook::client", Level::DEBUG));
        assert!(!shows(text, "mail_laser::smtp", Level::DEBUG));
        assert!(!shows(text, "hyper", Level::ERROR));
    }
}
