//! The certificate that is shown, and its renewal.

use std::path::Path;

use crate::harness::{Daemon, Webhook};

fn write_pair(directory: &Path) -> Vec<u8> {
    let made = rcgen::generate_simple_self_signed(vec!["mx.example.com".to_owned()]).unwrap();
    std::fs::write(directory.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(directory.join("tls.crt"), made.cert.pem()).unwrap();
    made.cert.der().to_vec()
}

#[test]
fn a_renewed_pair_is_taken_up_without_dropping_a_session() {
    let directory = tempfile::tempdir().unwrap();
    let first = write_pair(directory.path());
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let webhook = Webhook::start();
    let daemon = Daemon::start(
        &webhook,
        &[
            ("MAIL_LASER_TLS_CERT_FILE", path("tls.crt").as_str()),
            ("MAIL_LASER_TLS_KEY_FILE", path("tls.key").as_str()),
        ],
    );
    let mut before = daemon.client().upgraded();
    assert_eq!(before.certificate(), first);

    // Half of a pair, and then nonsense, leave the old one in force.
    std::fs::write(directory.path().join("tls.key"), "nonsense").unwrap();
    daemon.wait_for_log("the renewed pair cannot be used", 1);
    assert_eq!(daemon.client().upgraded().certificate(), first);

    let second = write_pair(directory.path());
    daemon.wait_for_log("certificate renewed", 1);
    assert_eq!(daemon.client().upgraded().certificate(), second);
    assert_eq!(before.mail("support@example.com", "\r\n").0, 250);
}
