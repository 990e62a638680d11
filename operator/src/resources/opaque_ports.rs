//! What Linkerd has to be told: on other ports its proxies wait for the client's first bytes, ten seconds long, to find
//! out what it speaks, while a client of SMTP waits for the greeting.

use std::collections::BTreeMap;

/// The annotation, on the pods with their own ports, on the Service with those that clients use.
const OPAQUE_PORTS: &str = "config.linkerd.io/opaque-ports";

/// Annotations of a user, with that of Linkerd; what the user says of it wins.
pub(super) fn annotated(
    annotations: &BTreeMap<String, String>,
    ports: impl Iterator<Item = i32>,
) -> BTreeMap<String, String> {
    let mut annotations = annotations.clone();
    let ports: Vec<_> = ports.map(|port| port.to_string()).collect();
    annotations.entry(OPAQUE_PORTS.to_owned()).or_insert_with(|| ports.join(","));
    annotations
}
