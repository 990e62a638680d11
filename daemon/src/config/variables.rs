//! Every environment variable of the daemon: its name, its default and what is valid.

use std::collections::BTreeMap;

/// One variable that the daemon reads.
#[derive(Debug)]
pub struct Variable {
    /// Its name in the environment.
    pub name: &'static str,
    /// What holds when it is unset or empty; the empty string when there is no default.
    pub default: &'static str,
    /// What is valid, in words that finish the sentence "valid is ...".
    pub valid: &'static str,
}

impl Variable {
    /// What holds in an environment: the value without blanks around it, or the default; empty counts as unset.
    #[must_use]
    pub fn value<'e>(&self, environment: &'e BTreeMap<String, String>) -> &'e str {
        let value = environment.get(self.name).map(|value| value.trim());
        value.filter(|value| !value.is_empty()).unwrap_or(self.default)
    }
}

macro_rules! variables {
    ($($(#[$doc:meta])* $constant:ident = $name:literal, $default:literal, $valid:literal;)*) => {
        $($(#[$doc])* pub const $constant: Variable =
            Variable { name: $name, default: $default, valid: $valid };)*
        /// All of them, in the order in which they are documented.
        pub const ALL: &[&Variable] = &[$(&$constant),*];
    };
}

variables! {
    /// Who mail is taken for.
    TARGET_EMAILS = "MAIL_LASER_TARGET_EMAILS", "", "a comma-separated list of mail addresses";
    /// Where mail goes.
    WEBHOOK_URL = "MAIL_LASER_WEBHOOK_URL", "",
        "an https URL; http only to loopback, or with MAIL_LASER_WEBHOOK_ALLOW_HTTP=true";
    /// Whether plain HTTP may leave the host.
    WEBHOOK_ALLOW_HTTP = "MAIL_LASER_WEBHOOK_ALLOW_HTTP", "false", "true or false";
    /// Credential for the webhook.
    WEBHOOK_BEARER_TOKEN = "MAIL_LASER_WEBHOOK_BEARER_TOKEN", "",
        "a token of visible ASCII characters, without a user in the webhook's URL beside it";
    /// Roots of trust beside the system's.
    WEBHOOK_CA_FILE = "MAIL_LASER_WEBHOOK_CA_FILE", "", "the path of a readable PEM file with certificates";
    /// Address of the SMTP port.
    BIND_ADDRESS = "MAIL_LASER_BIND_ADDRESS", "0.0.0.0", "an IP address";
    /// The SMTP port.
    PORT = "MAIL_LASER_PORT", "2525", "a port from 0 to 65535, 0 taking a free one";
    /// Address of the health port.
    HEALTH_BIND_ADDRESS = "MAIL_LASER_HEALTH_BIND_ADDRESS", "0.0.0.0", "an IP address";
    /// The health port.
    HEALTH_PORT = "MAIL_LASER_HEALTH_PORT", "8080", "a port from 0 to 65535, 0 taking a free one";
    /// Address of the metrics port.
    METRICS_BIND_ADDRESS = "MAIL_LASER_METRICS_BIND_ADDRESS", "0.0.0.0", "an IP address";
    /// The metrics port.
    METRICS_PORT = "MAIL_LASER_METRICS_PORT", "9090", "a port from 0 to 65535, 0 taking a free one";
    /// Name in the SMTP greeting.
    HOSTNAME = "MAIL_LASER_HOSTNAME", "", "a host name or an address literal";
    /// TLS on the SMTP port.
    TLS = "MAIL_LASER_TLS", "opportunistic", "off, opportunistic or require";
    /// The certificate chain.
    TLS_CERT_FILE = "MAIL_LASER_TLS_CERT_FILE", "",
        "the path of a readable PEM file with a certificate, together with MAIL_LASER_TLS_KEY_FILE";
    /// The key of the certificate.
    TLS_KEY_FILE = "MAIL_LASER_TLS_KEY_FILE", "",
        "the path of a readable PEM file with a private key, together with MAIL_LASER_TLS_CERT_FILE";
    /// The port with TLS from the first byte.
    SMTPS_PORT = "MAIL_LASER_SMTPS_PORT", "", "a port from 0 to 65535, unless MAIL_LASER_TLS is off";
    /// Load balancers that send the PROXY protocol.
    PROXY_PROTOCOL_FROM = "MAIL_LASER_PROXY_PROTOCOL_FROM", "",
        "a comma-separated list of networks such as 10.0.0.0/8, or addresses";
    /// Headers that go into the payload.
    HEADER_PREFIX = "MAIL_LASER_HEADER_PREFIX", "", "a comma-separated list of header name prefixes";
    /// Limit of one delivery attempt.
    WEBHOOK_TIMEOUT = "MAIL_LASER_WEBHOOK_TIMEOUT", "30", "seconds, at least 1";
    /// Retries after the first attempt.
    WEBHOOK_MAX_RETRIES = "MAIL_LASER_WEBHOOK_MAX_RETRIES", "3", "a number from 0 to 10";
    /// Failed deliveries that open the circuit.
    CIRCUIT_BREAKER_THRESHOLD = "MAIL_LASER_CIRCUIT_BREAKER_THRESHOLD", "5", "a number, at least 1";
    /// How long the circuit stays open.
    CIRCUIT_BREAKER_RESET = "MAIL_LASER_CIRCUIT_BREAKER_RESET", "60", "seconds, at least 1";
    /// Deliveries at the same time.
    WEBHOOK_CONCURRENCY = "MAIL_LASER_WEBHOOK_CONCURRENCY", "64", "a number, at least 1";
    /// When the sender is answered.
    DELIVERY = "MAIL_LASER_DELIVERY", "forward", "forward, confirm or spool";
    /// How long a sender is held in `confirm`.
    CONFIRM_TIMEOUT = "MAIL_LASER_CONFIRM_TIMEOUT", "45", "seconds, at least 1";
    /// Where mail is kept in `spool`.
    SPOOL_DIR = "MAIL_LASER_SPOOL_DIR", "/var/spool/mail-laser", "a directory that this user may write to";
    /// How much mail is kept there.
    SPOOL_MAX_BYTES = "MAIL_LASER_SPOOL_MAX_BYTES", "1073741824",
        "bytes, at least 1048576 more than MAIL_LASER_MAX_MESSAGE_SIZE";
    /// For how long a mail is tried.
    SPOOL_LIFETIME = "MAIL_LASER_SPOOL_LIFETIME", "432000", "seconds, at least 1";
    /// How many mails that were given up are kept.
    DEAD_LETTER_MAX_BYTES = "MAIL_LASER_DEAD_LETTER_MAX_BYTES", "",
        "bytes, at least 1048576 more than MAIL_LASER_MAX_MESSAGE_SIZE; that or, if it is more, a quarter of the spool if it \
         is not set";
    /// For how long they are kept.
    DEAD_LETTER_LIFETIME = "MAIL_LASER_DEAD_LETTER_LIFETIME", "2592000", "seconds, at least 1";
    /// Routes of others.
    ROUTES = "MAIL_LASER_ROUTES", "", "the path of the directory that routes are put into";
    /// Size of a mail.
    MAX_MESSAGE_SIZE = "MAIL_LASER_MAX_MESSAGE_SIZE", "26214400",
        "bytes, at least 1 and at most a fifth of MAIL_LASER_MEMORY_MAX_BYTES";
    /// Size of one attachment, decoded.
    MAX_ATTACHMENT_SIZE = "MAIL_LASER_MAX_ATTACHMENT_SIZE", "10485760", "bytes";
    /// Mails that wait for delivery.
    QUEUE_MAX_MESSAGES = "MAIL_LASER_QUEUE_MAX_MESSAGES", "10000", "a number, at least 1";
    /// Memory of sessions, queue and deliveries together.
    MEMORY_MAX_BYTES = "MAIL_LASER_MEMORY_MAX_BYTES", "268435456", "bytes, at least 1048576";
    /// Sessions at the same time.
    MAX_CONNECTIONS = "MAIL_LASER_MAX_CONNECTIONS", "10000", "a number, at least 1";
    /// Sessions of one client address at the same time.
    MAX_CONCURRENT_PER_IP = "MAIL_LASER_MAX_CONCURRENT_PER_IP", "10", "a number, 0 for no limit";
    /// Unknown recipients that end a session.
    MAX_UNKNOWN_RCPTS_PER_SESSION = "MAIL_LASER_MAX_UNKNOWN_RCPTS_PER_SESSION", "3",
        "a number, 0 for no limit";
    /// Silence that ends a session.
    IDLE_TIMEOUT = "MAIL_LASER_IDLE_TIMEOUT", "300", "seconds, at least 1";
    /// Time for what is under way at shutdown.
    SHUTDOWN_GRACE = "MAIL_LASER_SHUTDOWN_GRACE", "25", "seconds, at least 1";
}

/// Settings of the original, or of this project's contract, that this version does not carry out:
/// a name, or a prefix that ends in `_`.
pub const NOT_IN_THIS_VERSION: &[&str] = &[
    "MAIL_LASER_DMARC_",
    "MAIL_LASER_CEDAR_",
    "MAIL_LASER_DNS_",
    "MAIL_LASER_ATTACHMENT_DELIVERY",
    "MAIL_LASER_S3_",
    "MAIL_LASER_WEBHOOK_SIGNING_SECRET",
];

/// Values that ask for nothing, with which such a setting is harmless.
pub const OFF: &[&str] = &["", "off", "false", "no", "none", "0", "disabled", "inline"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_ours() {
        let names: std::collections::BTreeSet<_> = ALL.iter().map(|variable| variable.name).collect();
        assert_eq!(names.len(), ALL.len());
        assert!(names.iter().all(|name| name.starts_with("MAIL_LASER_")));
    }
}
