//! The parts of a [`Config`], each from the variables that it is about; what is wrong with them is left in the reader.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;
use mail_laser_routes::reach::Reach;
use mail_laser_routes::roots::certificates;
use rustls::pki_types::CertificateDer;
use secrecy::{ExposeSecret, SecretString};

use crate::address::{self, Address};
use crate::tls::{PairFiles, Pem};

use super::problem::Problem;
use super::reader::Reader;
use super::url::WebhookUrl;
use super::{Config, DeliveryConfig, SpoolConfig, TlsConfig, WebhookConfig, variables};

/// Octets that a spool needs besides its largest mail: what is known of the mail, what becomes of it,
/// and a segment that is not full.
const SPOOL_BYTES_BESIDES_MAIL: u64 = 1024 * 1024;

pub(super) fn recipients(reader: &mut Reader<'_>, has_routes: bool) -> Vec<Address> {
    let (mut recipients, mut keys) = (Vec::new(), BTreeSet::new());
    for text in reader.list(&variables::TARGET_EMAILS) {
        match Address::parse(text) {
            Ok(address) if keys.insert(address.key().to_owned()) => recipients.push(address),
            Ok(_) => {}
            Err(error) => reader.problems.push(Problem::other(format!(
                "{}: {text:?} {error}; valid is {}",
                variables::TARGET_EMAILS.name,
                variables::TARGET_EMAILS.valid
            ))),
        }
    }
    // What would be needed if the mailboxes are there, is needed if the webhook is.
    let is_wanted = !has_routes || !reader.text(&variables::WEBHOOK_URL).is_empty();
    if is_wanted && reader.list(&variables::TARGET_EMAILS).next().is_none() {
        reader.problems.push(Problem::missing(&variables::TARGET_EMAILS));
    }
    recipients
}

pub(super) fn delivery(reader: &mut Reader<'_>, largest_mail: usize) -> DeliveryConfig {
    let timeout = reader.seconds(&variables::CONFIRM_TIMEOUT);
    let spool = spool(reader, largest_mail);
    match reader.text(&variables::DELIVERY).to_ascii_lowercase().as_str() {
        "forward" => DeliveryConfig::Forward,
        "confirm" => DeliveryConfig::Confirm(timeout),
        "spool" => DeliveryConfig::Spool(spool),
        other => {
            reader.problems.push(Problem::invalid(&variables::DELIVERY, other));
            DeliveryConfig::Forward
        }
    }
}

fn spool(reader: &mut Reader<'_>, largest_mail: usize) -> SpoolConfig {
    use variables as v;
    let bytes_min = (largest_mail as u64).saturating_add(SPOOL_BYTES_BESIDES_MAIL);
    let bytes_max = reader.number(&v::SPOOL_MAX_BYTES, bytes_min..);
    let dead_bytes_max = match reader.text(&v::DEAD_LETTER_MAX_BYTES) {
        "" => (bytes_max / 4).max(bytes_min),
        _ => reader.number(&v::DEAD_LETTER_MAX_BYTES, bytes_min..),
    };
    SpoolConfig {
        directory: PathBuf::from(reader.text(&v::SPOOL_DIR)),
        bytes_max,
        lifetime: reader.seconds(&v::SPOOL_LIFETIME),
        dead_bytes_max,
        dead_lifetime: reader.seconds(&v::DEAD_LETTER_LIFETIME),
    }
}

pub(super) fn proxies(reader: &mut Reader<'_>) -> Vec<IpNet> {
    let variable = &variables::PROXY_PROTOCOL_FROM;
    let network = |text: &str| text.parse().ok().or_else(|| Some(text.parse::<IpAddr>().ok()?.into()));
    let networks: Option<Vec<IpNet>> = reader.list(variable).map(network).collect();
    networks.unwrap_or_else(|| {
        let text = reader.text(variable);
        reader.problems.push(Problem::invalid(variable, text));
        Vec::new()
    })
}

pub(super) fn header_prefixes(reader: &mut Reader<'_>) -> Vec<String> {
    let prefixes: Vec<String> = reader.list(&variables::HEADER_PREFIX).map(str::to_ascii_lowercase).collect();
    let is_name = |prefix: &String| prefix.bytes().all(|c| c.is_ascii_graphic() && c != b':');
    if !prefixes.iter().all(is_name) {
        let text = reader.text(&variables::HEADER_PREFIX);
        reader.problems.push(Problem::invalid(&variables::HEADER_PREFIX, text));
    }
    prefixes
}

pub(super) fn hostname(reader: &mut Reader<'_>, system: &str) -> String {
    let text = reader.text(&variables::HOSTNAME);
    let is_name = |name: &str| address::is_domain(name) || address::is_address_literal(name);
    match text {
        "" if is_name(system) => system.to_owned(),
        // A host may have a name that SMTP does not know; mail is taken all the same.
        "" => "localhost".to_owned(),
        name => {
            if !is_name(name) {
                reader.problems.push(Problem::invalid(&variables::HOSTNAME, name));
            }
            name.to_owned()
        }
    }
}

pub(super) fn at_least_one(reader: &mut Reader<'_>, variable: &variables::Variable) -> NonZeroU32 {
    NonZeroU32::new(reader.number(variable, 1..)).unwrap_or(NonZeroU32::MIN)
}

pub(super) fn webhook(
    reader: &mut Reader<'_>,
    read_file: &dyn Fn(&Path) -> std::io::Result<Vec<u8>>,
    has_routes: bool,
) -> Option<WebhookConfig> {
    use variables as v;
    let is_wanted = !has_routes || reader.list(&v::TARGET_EMAILS).next().is_some();
    let allow_http = reader.switch(&v::WEBHOOK_ALLOW_HTTP);
    let url = match reader.text(&v::WEBHOOK_URL) {
        "" => {
            reader.problems.extend(is_wanted.then(|| Problem::missing(&v::WEBHOOK_URL)));
            None
        }
        text => WebhookUrl::parse(text, allow_http)
            .map_err(|error| reader.problems.push(Problem::invalid_secret(&v::WEBHOOK_URL, error)))
            .ok(),
    };
    let token = reader.text(&v::WEBHOOK_BEARER_TOKEN);
    let in_conflict = url.as_ref().is_some_and(WebhookUrl::has_credentials);
    if !token.is_empty() && (in_conflict || HeaderValue::from_str(token).is_err() || !token.is_ascii()) {
        let why = if in_conflict { "stands beside a user in the webhook's URL" } else { "is no token" };
        reader.problems.push(Problem::invalid_secret(&v::WEBHOOK_BEARER_TOKEN, why));
    }
    Some(WebhookConfig {
        bearer_token: (!token.is_empty()).then(|| SecretString::from(token)),
        ca_roots: ca_roots(reader, read_file),
        timeout: reader.seconds(&v::WEBHOOK_TIMEOUT),
        retries_max: reader.number(&v::WEBHOOK_MAX_RETRIES, 0..=10),
        breaker_threshold: at_least_one(reader, &v::CIRCUIT_BREAKER_THRESHOLD),
        breaker_reset: reader.seconds(&v::CIRCUIT_BREAKER_RESET),
        concurrency: at_least_one(reader, &v::WEBHOOK_CONCURRENCY),
        headers: HeaderMap::new(),
        signing_secrets: Vec::new(),
        reach: Reach::Anywhere,
        // Last, so that the problems of all others are found as well.
        url: url?,
    })
}

pub(super) fn tls(
    reader: &mut Reader<'_>,
    read_file: &dyn Fn(&Path) -> std::io::Result<Vec<u8>>,
) -> Option<TlsConfig> {
    use variables as v;
    let policy = reader.text(&v::TLS).to_ascii_lowercase();
    let smtps = match reader.text(&v::SMTPS_PORT) {
        "" => None,
        _ => Some(reader.socket(&v::BIND_ADDRESS, &v::SMTPS_PORT)),
    };
    let required = match policy.as_str() {
        "off" => {
            if smtps.is_some() {
                let text = reader.text(&v::SMTPS_PORT);
                reader.problems.push(Problem::invalid(&v::SMTPS_PORT, text));
            }
            return None;
        }
        "opportunistic" => false,
        "require" => true,
        _ => {
            reader.problems.push(Problem::invalid(&v::TLS, &policy));
            false
        }
    };
    Some(TlsConfig { required, pair: tls_pair(reader, read_file), smtps })
}

fn tls_pair(
    reader: &mut Reader<'_>,
    read_file: &dyn Fn(&Path) -> std::io::Result<Vec<u8>>,
) -> Option<(PairFiles, Pem)> {
    use variables as v;
    let (certificate, key) = match (reader.text(&v::TLS_CERT_FILE), reader.text(&v::TLS_KEY_FILE)) {
        ("", "") => return None,
        ("", _) => {
            reader.problems.push(Problem::missing(&v::TLS_CERT_FILE));
            return None;
        }
        (_, "") => {
            reader.problems.push(Problem::missing(&v::TLS_KEY_FILE));
            return None;
        }
        pair => pair,
    };
    let mut read = |variable: &v::Variable, path: &str| {
        let content = read_file(Path::new(path));
        let problem = |error| Problem::file(variable, path, format_args!("cannot be read: {error}"));
        content.map_err(|error| reader.problems.push(problem(error))).ok()
    };
    // Both are read, so that both may be told of.
    let pem = (read(&v::TLS_CERT_FILE, certificate), read(&v::TLS_KEY_FILE, key));
    let (Some(chain), Some(private)) = pem else { return None };
    let pem = Pem { certificate: chain, key: private };
    if let Err(error) = pem.pair() {
        reader.problems.push(Problem::other(format!(
            "{}={certificate:?} with {}={key:?} {error}",
            v::TLS_CERT_FILE.name,
            v::TLS_KEY_FILE.name
        )));
    }
    Some((PairFiles { certificate: certificate.into(), key: key.into() }, pem))
}

fn ca_roots(
    reader: &mut Reader<'_>,
    read_file: &dyn Fn(&Path) -> std::io::Result<Vec<u8>>,
) -> Vec<CertificateDer<'static>> {
    let path = reader.text(&variables::WEBHOOK_CA_FILE);
    if path.is_empty() {
        return Vec::new();
    }
    let mut problem = |why: String| {
        reader.problems.push(Problem::file(&variables::WEBHOOK_CA_FILE, path, why));
        Vec::new()
    };
    match read_file(Path::new(path)).map(|pem| certificates(&pem)) {
        Ok(Some(roots)) => roots,
        Ok(None) => problem("holds no certificate in PEM that can be used".to_owned()),
        Err(error) => problem(format!("cannot be read: {error}")),
    }
}

pub(super) fn effective(config: &Config, reader: &Reader<'_>) -> Vec<(&'static str, String)> {
    use variables as v;
    let shown = |variable: &v::Variable| match variable.name {
        name if name == v::WEBHOOK_URL.name => {
            let url = config.webhook.as_ref().map(|webhook| &webhook.url);
            url.map_or_else(String::new, |url| format!("{url}/... (path and query not shown)"))
        }
        name if name == v::WEBHOOK_BEARER_TOKEN.name => {
            let token = config.webhook.as_ref().and_then(|webhook| webhook.bearer_token.as_ref());
            token.map_or_else(String::new, |token| {
                format!("({} characters, not shown)", token.expose_secret().len())
            })
        }
        name if name == v::HOSTNAME.name => config.smtp.hostname.clone(),
        name if name == v::DEAD_LETTER_MAX_BYTES.name => match &config.delivery {
            DeliveryConfig::Spool(spool) => spool.dead_bytes_max.to_string(),
            DeliveryConfig::Forward | DeliveryConfig::Confirm(_) => reader.text(variable).to_owned(),
        },
        _ => reader.text(variable).to_owned(),
    };
    v::ALL.iter().map(|variable| (variable.name, shown(variable))).collect()
}
