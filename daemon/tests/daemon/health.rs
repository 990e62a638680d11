//! `/health` and `/metrics`.

use std::process::Stdio;

use crate::harness::{Daemon, Webhook, command};

#[test]
fn health_answers_any_method_and_nothing_else() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    for method in ["GET", "POST", "HEAD", "DELETE", "OPTIONS", "BREW"] {
        let answer = Daemon::http(daemon.health, method, "/health");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{method}: {answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{method} has a body: {answer}");
    }
    for path in ["/", "/healthz", "/health/", "/metrics"] {
        let answer = Daemon::http(daemon.health, "GET", path);
        assert!(
            answer.starts_with("HTTP/1.1 404 ") && answer.ends_with("\r\n\r\nNot Found"),
            "{path}: {answer}"
        );
    }
}

#[test]
fn metrics_are_openmetrics_on_a_port_of_their_own() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let answer = Daemon::http(daemon.metrics, "GET", "/metrics");
    assert!(answer.contains("application/openmetrics-text"), "{answer}");
    assert!(answer.contains("mail_laser_build_info{") && answer.contains("# EOF"), "{answer}");
    assert!(Daemon::http(daemon.metrics, "GET", "/health").starts_with("HTTP/1.1 404 "));
}

#[test]
fn the_health_command_tells_whether_it_answers() {
    let webhook = Webhook::start();
    let mut daemon = Daemon::start(&webhook, &[]);
    let directory = tempfile::tempdir().unwrap();
    let port = daemon.health.port().to_string();
    let ask = || {
        let variables = [("MAIL_LASER_HEALTH_PORT", port.as_str())];
        let output =
            command(directory.path(), &variables).arg("healthcheck").stderr(Stdio::piped()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(ask(), (Some(0), String::new()));
    daemon.signal(rustix::process::Signal::KILL);
    daemon.wait_for_end();
    let (code, error) = ask();
    assert_eq!((code, error.contains("/health does not answer")), (Some(1), true), "{error}");
}
