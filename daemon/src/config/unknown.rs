//! Variables of our prefix that mean nothing here: typing errors, service links, and settings
//! of other versions. Pure.

use std::collections::BTreeMap;

use super::problem::Problem;
use super::variables::{ALL, NOT_IN_THIS_VERSION, OFF};

/// What all of our variables begin with.
const PREFIX: &str = "MAIL_LASER_";

/// Two thirds of the letters are right: a typing error, not another word.
const SIMILARITY_MIN: f64 = 0.67;

/// What to make of a variable that starts with `MAIL_LASER_`.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Known,
    /// Kubernetes describes a Service of the name `mail-laser` by such variables.
    ServiceLink,
    /// It asks for something that this version does not do.
    Unimplemented,
    /// Nobody knows it.
    Unknown,
}

/// Sorts out the variables that no reader reads: warnings for unknown names, problems for
/// settings that would be ignored silently.
pub(super) fn check(variables: &BTreeMap<String, String>) -> (Vec<String>, Vec<Problem>) {
    let (mut warnings, mut problems) = (Vec::new(), Vec::new());
    for (name, value) in variables.iter().filter(|(name, _)| name.starts_with(PREFIX)) {
        match verdict(name, value) {
            Verdict::Known | Verdict::ServiceLink => {}
            Verdict::Unimplemented => problems.push(Problem::other(format!(
                "{name} is set, but this version does not implement it; unset it, or set it to \"off\""
            ))),
            Verdict::Unknown => warnings.push(match nearest(name) {
                Some(known) => format!("{name} is not a variable of mail-laser; did you mean {known}?"),
                None => format!("{name} is not a variable of mail-laser and has no effect"),
            }),
        }
    }
    (warnings, problems)
}

/// Whether a variable is one that Kubernetes sets for a Service whose name begins with ours:
/// `MAIL_LASER_PORT=tcp://...`, `MAIL_LASER_METRICS_SERVICE_HOST`, `MAIL_LASER_PORT_25_TCP_ADDR`.
pub(super) fn is_service_link(name: &str, value: &str) -> bool {
    let is_address = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    name.starts_with(PREFIX)
        && ((name.ends_with("_PORT") && is_address)
            || name.ends_with("_SERVICE_HOST")
            || name.contains("_SERVICE_PORT")
            || is_port_link(name))
}

/// `..._PORT_25_TCP`, `..._PORT_25_TCP_ADDR` and so on.
fn is_port_link(name: &str) -> bool {
    name.split("_PORT_").skip(1).any(|rest| {
        let mut parts = rest.split('_');
        parts.next().is_some_and(|port| port.parse::<u16>().is_ok())
            && parts.next().is_some_and(|protocol| ["TCP", "UDP", "SCTP"].contains(&protocol))
    })
}

fn verdict(name: &str, value: &str) -> Verdict {
    if is_service_link(name, value) {
        return Verdict::ServiceLink;
    }
    if ALL.iter().any(|variable| variable.name == name) {
        return Verdict::Known;
    }
    let matches = |pattern: &&str| {
        if pattern.ends_with('_') { name.starts_with(*pattern) } else { name == *pattern }
    };
    if NOT_IN_THIS_VERSION.iter().any(matches) {
        let off = OFF.iter().any(|off| value.trim().eq_ignore_ascii_case(off));
        return if off { Verdict::Known } else { Verdict::Unimplemented };
    }
    Verdict::Unknown
}

/// The known name that a typing error most likely meant. The prefix that all share says nothing.
fn nearest(name: &str) -> Option<&'static str> {
    let bare = |name: &'static str| name.trim_start_matches(PREFIX);
    let typed = name.trim_start_matches(PREFIX);
    let similarity = |known| strsim::normalized_damerau_levenshtein(typed, bare(known));
    ALL.iter()
        .map(|variable| (variable.name, similarity(variable.name)))
        .filter(|(_, similarity)| *similarity >= SIMILARITY_MIN)
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(known, _)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_one(name: &str, value: &str) -> (Vec<String>, usize) {
        let (warnings, problems) = check(&BTreeMap::from([(name.to_owned(), value.to_owned())]));
        (warnings, problems.len())
    }

    #[test]
    fn a_typing_error_gets_the_nearest_name() {
        let (warnings, _) = check_one("MAIL_LASER_WEBHOK_URL", "x");
        assert_eq!(
            warnings,
            ["MAIL_LASER_WEBHOK_URL is not a variable of mail-laser; did you mean MAIL_LASER_WEBHOOK_URL?"]
        );
        for unlike in ["MAIL_LASER_COMPLETELY_DIFFERENT_THING", "MAIL_LASER_FOO"] {
            assert!(check_one(unlike, "x").0[0].ends_with("has no effect"), "{unlike}");
        }
        assert_eq!(check_one("OTHER", "x"), (vec![], 0));
    }

    #[test]
    fn service_links_are_ignored() {
        for (name, value) in [
            ("MAIL_LASER_PORT", "tcp://10.0.0.1:25"),
            ("MAIL_LASER_SERVICE_HOST", "10.0.0.1"),
            ("MAIL_LASER_SERVICE_PORT", "25"),
            ("MAIL_LASER_SERVICE_PORT_SMTP", "25"),
            ("MAIL_LASER_PORT_25_TCP", "tcp://10.0.0.1:25"),
            ("MAIL_LASER_PORT_25_TCP_ADDR", "10.0.0.1"),
            ("MAIL_LASER_PORT", "udp://10.0.0.1:25"),
            ("MAIL_LASER_METRICS_PORT", "tcp://10.0.0.1:9090"),
            ("MAIL_LASER_DNS_SERVICE_HOST", "10.0.0.1"),
            ("MAIL_LASER_DNS_PORT_53_UDP_PROTO", "udp"),
        ] {
            assert_eq!(check_one(name, value), (vec![], 0), "{name}");
            assert!(is_service_link(name, value));
        }
        assert!(!is_service_link("MAIL_LASER_PORT", "2525"));
    }

    #[test]
    fn security_of_the_original_is_never_ignored_silently() {
        for name in [
            "MAIL_LASER_DMARC_MODE",
            "MAIL_LASER_CEDAR_POLICIES",
            "MAIL_LASER_DNS_SERVERS",
            "MAIL_LASER_ATTACHMENT_DELIVERY",
            "MAIL_LASER_S3_BUCKET",
            "MAIL_LASER_WEBHOOK_SIGNING_SECRET",
        ] {
            assert_eq!(check_one(name, "enforce").1, 1, "{name}");
            for off in ["", "off", "Inline", "false"] {
                assert_eq!(check_one(name, off), (vec![], 0), "{name}={off}");
            }
        }
    }
}
