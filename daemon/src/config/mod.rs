//! The environment, parsed once into types that cannot be wrong.

pub mod dotenv;
mod parse;
pub mod problem;
mod reader;
mod unknown;
pub mod url;
pub mod variables;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderMap;
use ipnet::IpNet;
use rustls::pki_types::CertificateDer;
use secrecy::SecretString;
use tracing::warn;

use crate::address::Address;
use crate::http::{HEALTH_CONNECTIONS_MAX, METRICS_CONNECTIONS_MAX};
use crate::tls::{PairFiles, Pem};
use mail_laser_routes::reach::Reach;
use problem::Problems;
use reader::Reader;
use url::WebhookUrl;

/// What a mail takes of the memory while it is read, at most, in multiples of its size: its content,
/// a part of it without its transfer encoding, and its text, which triples when every octet of
/// another charset becomes three of UTF-8. `tests/memory.rs` measures it.
pub const MEMORY_PER_MAIL: usize = 5;

/// Open files besides sessions and deliveries: connections to the health and the metrics port, and some 64 for sockets,
/// name resolution, the log and files that are read.
const OTHER_OPEN_FILES: u64 = (HEALTH_CONNECTIONS_MAX + METRICS_CONNECTIONS_MAX + 64) as u64;

/// The part of all open files that is left to the deliveries to routes of others: how many there will be is not known,
/// and more files are for sessions than for deliveries.
const ROUTES_OPEN_FILES_PART: u64 = 4;

/// Less memory than this serves nobody.
const MEMORY_BYTES_MIN: usize = 1024 * 1024;

/// Everything that the daemon is told.
#[derive(Debug)]
pub struct Config {
    /// The mailboxes that mail is taken for whatever routes there are, each once; empty without a webhook.
    pub recipients: Vec<Address>,
    /// Where their mail goes; absent only where there is a directory with routes.
    pub webhook: Option<WebhookConfig>,
    /// The directory that routes of others are put into.
    pub routes: Option<PathBuf>,
    /// When their senders are answered.
    pub delivery: DeliveryConfig,
    /// The SMTP listener.
    pub smtp: SmtpConfig,
    /// TLS on the SMTP side; `None` for none.
    pub tls: Option<TlsConfig>,
    /// Where `/health` answers.
    pub health: SocketAddr,
    /// Where `/metrics` answers.
    pub metrics: SocketAddr,
    /// Prefixes, in lower case, of the headers that go into the payload.
    pub header_prefixes: Vec<String>,
    /// Octets of one decoded attachment.
    pub attachment_bytes_max: usize,
    /// Mails that wait for delivery.
    pub queue_messages_max: u32,
    /// Bytes of sessions, queue and deliveries together.
    pub memory_bytes_max: usize,
    /// Time from the request to stop until what is left is dropped.
    pub shutdown_grace: Duration,
}

/// One destination of mail.
#[derive(Debug, Clone)]
pub struct WebhookConfig {
    /// Its address.
    pub url: WebhookUrl,
    /// What `Authorization` says, if anything.
    pub bearer_token: Option<SecretString>,
    /// Roots that are trusted beside the system's.
    pub ca_roots: Vec<CertificateDer<'static>>,
    /// Limit of one attempt.
    pub timeout: Duration,
    /// Retries after the first attempt, 0 to 10.
    pub retries_max: u32,
    /// Failed deliveries in a row that open the circuit.
    pub breaker_threshold: NonZeroU32,
    /// How long it stays open.
    pub breaker_reset: Duration,
    /// Deliveries at the same time.
    pub concurrency: NonZeroU32,
    /// Headers of each request, beside those that all requests have.
    pub headers: HeaderMap,
    /// What requests are signed with, the newest first.
    pub signing_secrets: Vec<SecretString>,
    /// Which addresses it may have.
    pub reach: Reach,
}

/// When a sender is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryConfig {
    /// Once the mail waits in memory.
    Forward,
    /// Once the webhook has answered, and no later than after this time.
    Confirm(Duration),
    /// Once the mail is on disk.
    Spool(SpoolConfig),
}

/// Mail on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolConfig {
    /// Where.
    pub directory: PathBuf,
    /// Octets of what waits.
    pub bytes_max: u64,
    /// For how long a mail is tried.
    pub lifetime: Duration,
    /// Octets of dead letters.
    pub dead_bytes_max: u64,
    /// For how long a dead letter is kept.
    pub dead_lifetime: Duration,
}

/// TLS on the SMTP side.
#[derive(Debug, Clone)]
pub struct TlsConfig {
    /// Whether mail is taken over TLS alone.
    pub required: bool,
    /// The pair, and what its files hold; `None` for one that is self-signed.
    pub pair: Option<(PairFiles, Pem)>,
    /// Where sessions begin with the handshake.
    pub smtps: Option<SocketAddr>,
}

/// The SMTP listener.
#[derive(Debug, Clone)]
pub struct SmtpConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Name in the greeting and in the reply to EHLO.
    pub hostname: String,
    /// Octets of a mail.
    pub message_bytes_max: usize,
    /// Sessions at the same time.
    pub connections_max: NonZeroU32,
    /// Sessions of one client address at the same time; `None` for no limit.
    pub connections_per_ip_max: Option<NonZeroU32>,
    /// The unknown recipient that ends a session; `None` never does.
    pub unknown_recipients_max: Option<NonZeroU32>,
    /// Silence that ends a session.
    pub idle_timeout: Duration,
    /// Load balancers that have to, and alone may, say by a PROXY header who the client is.
    pub proxies: Vec<IpNet>,
}

/// What the configuration is made from.
pub struct Sources<'s> {
    /// The environment, with `.env` filled in: see [`merged`].
    pub variables: BTreeMap<String, String>,
    /// The name of this host.
    pub hostname: String,
    /// Reads a file that a variable names.
    pub read_file: &'s dyn Fn(&Path) -> std::io::Result<Vec<u8>>,
}

/// A configuration that can be used, and what a person should still know about it.
#[derive(Debug)]
pub struct Checked {
    /// The configuration.
    pub config: Config,
    /// Sentences about variables that have no effect.
    pub warnings: Vec<String>,
    /// Every variable with the value in force, secrets redacted, in the documented order.
    pub effective: Vec<(&'static str, String)>,
}

/// The environment, with what it leaves unset filled in from `.env`, and without the variables
/// that Kubernetes sets for a Service of our name.
#[must_use]
pub fn merged(
    environment: impl IntoIterator<Item = (String, String)>,
    dotenv: impl IntoIterator<Item = (String, String)>,
) -> BTreeMap<String, String> {
    let is_ours = |(name, value): &(String, String)| !unknown::is_service_link(name, value);
    let mut variables: BTreeMap<_, _> = dotenv.into_iter().filter(is_ours).collect();
    variables.extend(environment.into_iter().filter(is_ours));
    variables
}

/// Where the health server listens: all that a health check needs to know.
///
/// # Errors
/// What is wrong with its two variables.
pub fn health_address(variables: &BTreeMap<String, String>) -> Result<SocketAddr, Problems> {
    let mut reader = Reader::new(variables);
    let address = reader.socket(&variables::HEALTH_BIND_ADDRESS, &variables::HEALTH_PORT);
    if reader.problems.is_empty() { Ok(address) } else { Err(Problems(reader.problems)) }
}

impl Config {
    /// Takes fewer connections where `open_files` would not be enough for them and for the rest;
    /// `None` is no limit. Otherwise clients could leave nothing for the webhook, and mail that was
    /// accepted could not be delivered.
    pub fn fit_open_files(&mut self, open_files: Option<u64>) {
        let Some(open_files) = open_files else { return };
        let of_webhook = u64::from(self.webhook.as_ref().map_or(0, |webhook| webhook.concurrency.get()));
        let of_routes = self.routes.as_ref().map_or(0, |_| open_files / ROUTES_OPEN_FILES_PART);
        let others = OTHER_OPEN_FILES + of_webhook + of_routes;
        let fitting = u32::try_from(open_files.saturating_sub(others)).unwrap_or(u32::MAX);
        let fitting = NonZeroU32::new(fitting).unwrap_or(NonZeroU32::MIN);
        if fitting < self.smtp.connections_max {
            warn!(
                open_files,
                connections = fitting,
                "MAIL_LASER_MAX_CONNECTIONS is lowered to what the limit of open files allows"
            );
            self.smtp.connections_max = fitting;
        }
    }

    /// Parses the environment.
    ///
    /// # Errors
    /// All problems at once, each naming the variable, its value unless that is secret, and what
    /// would be valid.
    pub fn from_sources(sources: &Sources<'_>) -> Result<Checked, Problems> {
        use variables as v;
        let mut reader = Reader::new(&sources.variables);
        let (warnings, unimplemented) = unknown::check(&sources.variables);
        reader.problems.extend(unimplemented);

        let memory_bytes_max = reader.number(&v::MEMORY_MAX_BYTES, MEMORY_BYTES_MIN..);
        // A limit that is wrong itself says nothing about the size of a mail.
        let message_bytes_max =
            if memory_bytes_max < MEMORY_BYTES_MIN { usize::MAX } else { memory_bytes_max / MEMORY_PER_MAIL };
        let largest_mail = reader.number(&v::MAX_MESSAGE_SIZE, 1..=message_bytes_max);
        let routes = Some(reader.text(&v::ROUTES)).filter(|path| !path.is_empty()).map(PathBuf::from);
        let config = Self {
            recipients: parse::recipients(&mut reader, routes.is_some()),
            delivery: parse::delivery(&mut reader, largest_mail),
            header_prefixes: parse::header_prefixes(&mut reader),
            smtp: SmtpConfig {
                listen: reader.socket(&v::BIND_ADDRESS, &v::PORT),
                hostname: parse::hostname(&mut reader, &sources.hostname),
                message_bytes_max: largest_mail,
                connections_max: parse::at_least_one(&mut reader, &v::MAX_CONNECTIONS),
                connections_per_ip_max: reader.limit(&v::MAX_CONCURRENT_PER_IP),
                unknown_recipients_max: reader.limit(&v::MAX_UNKNOWN_RCPTS_PER_SESSION),
                idle_timeout: reader.seconds(&v::IDLE_TIMEOUT),
                proxies: parse::proxies(&mut reader),
            },
            tls: parse::tls(&mut reader, sources.read_file),
            health: reader.socket(&v::HEALTH_BIND_ADDRESS, &v::HEALTH_PORT),
            metrics: reader.socket(&v::METRICS_BIND_ADDRESS, &v::METRICS_PORT),
            attachment_bytes_max: reader.number(&v::MAX_ATTACHMENT_SIZE, ..),
            queue_messages_max: reader.number(&v::QUEUE_MAX_MESSAGES, 1..),
            memory_bytes_max,
            shutdown_grace: reader.seconds(&v::SHUTDOWN_GRACE),
            webhook: parse::webhook(&mut reader, sources.read_file, routes.is_some()),
            routes,
        };
        if !reader.problems.is_empty() {
            return Err(Problems(reader.problems));
        }
        let effective = parse::effective(&config, &reader);
        Ok(Checked { config, warnings, effective })
    }
}

#[cfg(test)]
mod tests {
    use super::problem::Problem;
    use super::*;

    const MINIMAL: [(&str, &str); 2] = [
        ("MAIL_LASER_TARGET_EMAILS", "a@example.com"),
        ("MAIL_LASER_WEBHOOK_URL", "https://api.example.com/inbound/secret-path"),
    ];

    fn parse(more: &[(&str, &str)]) -> Result<Checked, Problems> {
        let variables =
            MINIMAL.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::from_sources(&Sources {
            variables: merged(variables, []),
            hostname: "host.example.com".to_owned(),
            read_file: &|_| Err(std::io::Error::from(std::io::ErrorKind::NotFound)),
        })
    }

    #[test]
    fn the_defaults_are_those_of_the_original() {
        let config = parse(&[]).unwrap().config;
        assert_eq!(config.smtp.listen.to_string(), "0.0.0.0:2525");
        assert_eq!(config.health.to_string(), "0.0.0.0:8080");
        assert_eq!(config.metrics.to_string(), "0.0.0.0:9090");
        assert_eq!(config.smtp.hostname, "host.example.com");
        assert_eq!(config.smtp.message_bytes_max, 26_214_400);
        assert_eq!(config.attachment_bytes_max, 10_485_760);
        let webhook = config.webhook.unwrap();
        assert_eq!(webhook.timeout, Duration::from_secs(30));
        assert_eq!(webhook.retries_max, 3);
        assert_eq!(webhook.breaker_threshold.get(), 5);
        assert_eq!(webhook.breaker_reset, Duration::from_secs(60));
        assert_eq!(webhook.concurrency.get(), 64);
        assert_eq!(config.smtp.unknown_recipients_max.map(NonZeroU32::get), Some(3));
        assert_eq!(config.smtp.connections_per_ip_max.map(NonZeroU32::get), Some(10));
        assert_eq!(config.shutdown_grace, Duration::from_secs(25));
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let problems = parse(&[
            ("MAIL_LASER_TARGET_EMAILS", "a@example.com, nobody"),
            ("MAIL_LASER_WEBHOOK_URL", "http://api.example.com/secret-path"),
            ("MAIL_LASER_PORT", "65536"),
            ("MAIL_LASER_BIND_ADDRESS", "everywhere"),
            ("MAIL_LASER_WEBHOOK_TIMEOUT", "0"),
            ("MAIL_LASER_WEBHOOK_MAX_RETRIES", "11"),
            ("MAIL_LASER_CIRCUIT_BREAKER_THRESHOLD", "-1"),
            ("MAIL_LASER_WEBHOOK_ALLOW_HTTP", "maybe"),
            ("MAIL_LASER_WEBHOOK_CA_FILE", "/no/such/file"),
            ("MAIL_LASER_WEBHOOK_BEARER_TOKEN", "to\nken"),
            ("MAIL_LASER_TLS", "sometimes"),
            ("MAIL_LASER_TLS_CERT_FILE", "/no/such/file"),
            ("MAIL_LASER_DELIVERY", "pigeon"),
            ("MAIL_LASER_MAX_MESSAGE_SIZE", "268435456"),
            ("MAIL_LASER_HOSTNAME", "not a name"),
            ("MAIL_LASER_DMARC_MODE", "enforce"),
        ])
        .unwrap_err();
        let text = problems.to_string();
        for name in [
            "TARGET_EMAILS",
            "WEBHOOK_URL",
            "PORT",
            "BIND_ADDRESS",
            "WEBHOOK_TIMEOUT",
            "WEBHOOK_MAX_RETRIES",
            "CIRCUIT_BREAKER_THRESHOLD",
            "WEBHOOK_ALLOW_HTTP",
            "WEBHOOK_CA_FILE",
            "WEBHOOK_BEARER_TOKEN",
            "TLS",
            "DELIVERY",
            "MAX_MESSAGE_SIZE",
            "HOSTNAME",
            "DMARC_MODE",
        ] {
            assert!(text.contains(&format!("MAIL_LASER_{name}")), "{name} is missing in:\n{text}");
        }
        assert!(text.contains("valid is a port from 0 to 65535"), "{text}");
        assert!(!text.contains("secret-path") && !text.contains("to\nken"), "{text}");
    }

    #[test]
    fn bounds_hold_and_one_problem_makes_no_second() {
        for (name, value) in [
            ("MAIL_LASER_CIRCUIT_BREAKER_THRESHOLD", "0"),
            ("MAIL_LASER_WEBHOOK_CONCURRENCY", "0"),
            ("MAIL_LASER_MAX_CONNECTIONS", "0"),
            ("MAIL_LASER_QUEUE_MAX_MESSAGES", "0"),
            ("MAIL_LASER_MEMORY_MAX_BYTES", "1000"),
            ("MAIL_LASER_MEMORY_MAX_BYTES", "lots"),
            ("MAIL_LASER_HEADER_PREFIX", "X-Ticket:"),
            ("MAIL_LASER_HEADER_PREFIX", "X Ticket"),
            ("MAIL_LASER_SMTPS_PORT", "smtps"),
            ("MAIL_LASER_PROXY_PROTOCOL_FROM", "10.0.0.0/8, balancer"),
            ("MAIL_LASER_WEBHOOK_TIMEOUT", "0"),
            ("MAIL_LASER_SHUTDOWN_GRACE", "0"),
        ] {
            let problems = parse(&[(name, value)]).unwrap_err().0;
            assert_eq!(problems.len(), 1, "{name}={value}: {problems:?}");
            assert!(problems[0].to_string().starts_with(name), "{problems:?}");
        }
        let conflict = parse(&[
            ("MAIL_LASER_WEBHOOK_URL", "https://user:pass@api.example.com/"),
            ("MAIL_LASER_WEBHOOK_BEARER_TOKEN", "token"),
        ]);
        assert!(conflict.unwrap_err().to_string().contains("beside a user"));
        assert!(parse(&[("MAIL_LASER_PORT", " 25 ")]).is_ok(), "blanks around a value mean nothing");
    }

    #[test]
    fn connections_leave_files_for_deliveries() {
        let connections_with = |variables: &[(&str, &str)], open_files| {
            let mut config = parse(variables).unwrap().config;
            config.fit_open_files(open_files);
            config.smtp.connections_max.get()
        };
        let connections = |open_files| connections_with(&[], open_files);
        assert_eq!(connections(None), 10_000);
        assert_eq!(connections(Some(1_048_576)), 10_000);
        assert_eq!(connections(Some(1_024)), 1_024 - 336 - 64);
        assert_eq!(connections(Some(64)), 1);
        let routes = [("MAIL_LASER_ROUTES", "/etc/mail-laser/routes")];
        assert_eq!(connections_with(&routes, Some(1_048_576)), 10_000);
        assert_eq!(connections_with(&routes, Some(4_096)), 4_096 - 1_024 - 336 - 64);
    }

    #[test]
    fn a_file_that_is_empty_is_no_file_that_is_not_named() {
        let sources = |certificate: &str| {
            let files = [("MAIL_LASER_TLS_CERT_FILE", certificate), ("MAIL_LASER_TLS_KEY_FILE", "/tls.key")];
            let variables = MINIMAL.iter().chain(&files);
            merged(variables.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())), [])
        };
        let problems = |certificate: &str, read_file: &dyn Fn(&Path) -> std::io::Result<Vec<u8>>| {
            let sources = Sources { variables: sources(certificate), hostname: String::new(), read_file };
            Config::from_sources(&sources).unwrap_err().0
        };
        let empty = problems("/tls.crt", &|_| Ok(Vec::new()));
        assert_eq!(empty.len(), 1, "{empty:?}");
        assert!(empty[0].to_string().contains("\"/tls.crt\" with MAIL_LASER_TLS_KEY_FILE"), "{empty:?}");
        let missing = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
        assert_eq!(problems("/tls.crt", &missing).len(), 2);
        for pasted in ["-----BEGIN CERTIFICATE-----MIIE", "MIIE\nAAAA"] {
            let text = problems(pasted, &missing)[0].to_string();
            assert!(
                text.contains("MAIL_LASER_TLS_CERT_FILE (not shown)") && !text.contains("MIIE"),
                "{text}"
            );
        }
    }

    #[test]
    fn what_dead_letters_may_take_is_shown() {
        let shown = |variables: &[(&str, &str)]| {
            let effective = parse(variables).unwrap().effective;
            let dead = effective.into_iter().find(|(name, _)| *name == "MAIL_LASER_DEAD_LETTER_MAX_BYTES");
            dead.unwrap().1
        };
        assert_eq!(shown(&[]), "");
        let spool = ("MAIL_LASER_DELIVERY", "spool");
        assert_eq!(shown(&[spool]), "268435456");
        assert_eq!(shown(&[spool, ("MAIL_LASER_SPOOL_MAX_BYTES", "30000000")]), "27262976");
    }

    #[test]
    fn what_is_required_is_named() {
        let sources =
            Sources { variables: BTreeMap::new(), hostname: String::new(), read_file: &|_| Ok(Vec::new()) };
        let problems = Config::from_sources(&sources).unwrap_err().0;
        let missing = [&variables::TARGET_EMAILS, &variables::WEBHOOK_URL].map(Problem::missing);
        assert_eq!(problems, missing);
    }

    #[test]
    fn the_environment_wins_over_the_file_and_service_links_are_nothing() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let variables = merged(
            [pair("MAIL_LASER_PORT", "tcp://10.0.0.1:25"), pair("A", "environment")],
            [pair("MAIL_LASER_PORT", "2526"), pair("A", "file"), pair("B", "file")],
        );
        assert_eq!(variables["MAIL_LASER_PORT"], "2526");
        assert_eq!((variables["A"].as_str(), variables["B"].as_str()), ("environment", "file"));
    }

    #[test]
    fn the_effective_configuration_shows_no_secret() {
        let checked =
            parse(&[("MAIL_LASER_WEBHOOK_BEARER_TOKEN", "hunter2"), ("MAIL_LASER_PORT", "25")]).unwrap();
        let text = format!("{:?} {:?}", checked.effective, checked.config);
        assert!(!text.contains("hunter2") && !text.contains("secret-path"), "{text}");
        assert!(checked.effective.contains(&("MAIL_LASER_PORT", "25".to_owned())));
        assert!(checked.effective.contains(&("MAIL_LASER_WEBHOOK_TIMEOUT", "30".to_owned())));
    }

    #[test]
    fn with_routes_neither_recipients_nor_a_webhook_are_needed_but_one_needs_the_other() {
        let check = |variables: &[(&str, &str)]| {
            let pairs = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let read_file: &dyn Fn(&Path) -> std::io::Result<Vec<u8>> = &|_| Ok(Vec::new());
            let sources = Sources { variables: pairs.collect(), hostname: String::new(), read_file };
            Config::from_sources(&sources).map(|checked| checked.config.webhook.is_some()).map_err(|it| it.0)
        };
        let routes = ("MAIL_LASER_ROUTES", "/etc/mail-laser/routes");
        assert_eq!(check(&[routes]), Ok(false));
        assert_eq!(check(&[routes, MINIMAL[0], MINIMAL[1]]), Ok(true));
        assert_eq!(check(&[routes, MINIMAL[0]]), Err(vec![Problem::missing(&variables::WEBHOOK_URL)]));
        assert_eq!(check(&[routes, MINIMAL[1]]), Err(vec![Problem::missing(&variables::TARGET_EMAILS)]));
    }

    #[test]
    fn recipients_are_compared_without_regard_to_case() {
        let config = parse(&[("MAIL_LASER_TARGET_EMAILS", "A@example.com,,a@EXAMPLE.com, b@example.com ,")]);
        assert_eq!(config.unwrap().config.recipients.len(), 2);
    }

    #[test]
    fn addresses_are_canonical() {
        let config = parse(&[
            ("MAIL_LASER_BIND_ADDRESS", "::ffff:127.0.0.1"),
            ("MAIL_LASER_HEALTH_BIND_ADDRESS", "::"),
        ]);
        let config = config.unwrap().config;
        assert_eq!(config.smtp.listen.to_string(), "127.0.0.1:2525");
        assert_eq!(config.health.to_string(), "[::]:8080");
    }
}
