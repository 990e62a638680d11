//! Names that are the operator's: of variables, labels, volumes, containers and ports. The rules of the schema are made from
//! these lists, and the operator checks by them, too.

/// Variables: what they say must agree with ports, probes, volumes and fields of the resource.
pub(crate) const VARIABLES: &[&str] = &[
    "MAIL_LASER_BIND_ADDRESS",
    "MAIL_LASER_DELIVERY",
    "MAIL_LASER_HEALTH_*",
    "MAIL_LASER_METRICS_*",
    "MAIL_LASER_PORT",
    "MAIL_LASER_ROUTES",
    "MAIL_LASER_SHUTDOWN_GRACE",
    "MAIL_LASER_SMTPS_PORT",
    "MAIL_LASER_SPOOL_*",
    "MAIL_LASER_TLS_CERT_FILE",
    "MAIL_LASER_TLS_KEY_FILE",
    "MAIL_LASER_WEBHOOK_CA_FILE",
];

/// Labels of what the operator owns, and of pods.
pub(crate) const LABELS: &[&str] = &[
    "mail-laser.dev/*",
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
];

/// Volumes of the pods.
pub(crate) const VOLUMES: &[&str] = &["webhook-ca", "tls", "spool", "routes*", "mail-laser*"];

/// Containers of the pods.
pub(crate) const CONTAINERS: &[&str] = &["mail-laser*"];

/// Names of the pods' ports, which the Service and probes find the daemon by.
pub(crate) const PORT_NAMES: &[&str] = &["smtp", "smtps", "health", "metrics"];

/// Numbers of the pods' ports: all containers of a pod share them.
pub(crate) const PORTS: &[i32] = &[2525, 4465, 8080, 9090];

/// What the daemon's container has of its own, and the file that could set its variables. Nothing may be mounted there,
/// below, or above.
pub(crate) const PATHS: &[&str] =
    &["/.env", "/dev/termination-log", "/etc/mail-laser", "/mail-laser", "/var/spool/mail-laser"];

/// Claims of spools: each has one writer.
pub(crate) const CLAIMS: &[&str] = &["spool-*"];

/// Whether a name is in a list, where a trailing `*` stands for any ending.
pub(crate) fn contains(list: &[&str], name: &str) -> bool {
    list.iter().any(|reserved| match reserved.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == *reserved,
    })
}

/// [`contains`] as an expression of CEL.
pub(crate) fn condition(list: &[&str], name: &str) -> String {
    let conditions: Vec<String> = list
        .iter()
        .map(|reserved| match reserved.strip_suffix('*') {
            Some(prefix) => format!("{name}.startsWith('{prefix}')"),
            None => format!("{name} == '{reserved}'"),
        })
        .collect();
    format!("({})", conditions.join(" || "))
}

/// Whether a mount at `path` would be in the way of the daemon's own.
pub(crate) fn hides(path: &str) -> bool {
    PATHS.iter().any(|own| {
        path == *own || path.starts_with(&format!("{own}/")) || own.starts_with(&format!("{path}/"))
    })
}

/// [`hides`] as an expression of CEL.
pub(crate) fn hides_condition(path: &str) -> String {
    let conditions: Vec<String> = PATHS
        .iter()
        .map(|own| {
            format!("{path} == '{own}' || {path}.startsWith('{own}/') || '{own}'.startsWith({path} + '/')")
        })
        .collect();
    format!("({})", conditions.join(" || "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_ending() {
        assert!(contains(VARIABLES, "MAIL_LASER_SPOOL_DIR"));
        assert!(contains(VOLUMES, "tls"));
        assert!(!contains(VOLUMES, "tls2"));
        assert_eq!(condition(&["a", "b*"], "x"), "(x == 'a' || x.startsWith('b'))");
    }

    #[test]
    fn nothing_is_mounted_above_or_below_what_is_the_daemons() {
        for path in ["/etc", "/etc/mail-laser", "/etc/mail-laser/tls", "/var", "/mail-laser", "/dev"] {
            assert!(hides(path), "{path}");
        }
        for path in ["/etc/ssl/certs", "/etc/mail-laser-more", "/tmp", "/var/spool/other"] {
            assert!(!hides(path), "{path}");
        }
    }
}
