//! Logs: what they look like and how much there is of them.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How log records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text each.
    Text,
    /// One line of JSON each.
    Json,
}

impl LogFormat {
    /// Reads `LOG_FORMAT`.
    ///
    /// # Errors
    /// A sentence that says what is valid.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "" | "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("LOG_FORMAT={text:?} is not valid; valid is text or json")),
        }
    }
}

/// Reads `RUST_LOG`; empty is `info`.
///
/// # Errors
/// A sentence that says what is valid.
pub fn parse_filter(text: &str) -> Result<EnvFilter, String> {
    let directives = if text.trim().is_empty() { "info" } else { text };
    EnvFilter::try_new(directives).map_err(|_| {
        format!("RUST_LOG={text:?} is not valid; valid is a level, or target=level pairs as in mail_laser::webhook=debug")
    })
}

/// Sends log records to standard error from now on.
pub fn init(format: LogFormat, filter: EnvFilter) {
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        // Colours are for terminals; in a file or a log collector they are noise.
        LogFormat::Text => registry.with(layer.with_ansi(false)).init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).init(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_or_named() {
        assert_eq!(LogFormat::parse(""), Ok(LogFormat::Text));
        assert_eq!(LogFormat::parse("JSON"), Ok(LogFormat::Json));
        assert!(LogFormat::parse("xml").unwrap_err().contains("text or json"));
        assert!(parse_filter("mail_laser::webhook=debug,info").is_ok());
        assert!(parse_filter("a=b=c").unwrap_err().starts_with("RUST_LOG"));
    }
}
