//! Log records of the daemon and of the operator: what they look like and how much there is of them.

use std::io::{self, Write};

use tracing::error;
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

/// Sends log records to standard error from now on, and panics with them: what a panic says may hold
/// anything, line ends included.
pub fn init(format: LogFormat, filter: Targets) {
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer();
    match format {
        // Colours are for terminals; in a file or a log collector they are noise.
        LogFormat::Text => {
            registry.with(layer.with_ansi(false).with_writer(|| OneLine(io::stderr()))).init();
        }
        LogFormat::Json => registry.with(layer.with_writer(io::stderr).json().flatten_event(true)).init(),
    }
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        error!(reason = panic.payload_as_str(), location, "panic, which is a defect");
    }));
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
