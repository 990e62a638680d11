//! The environment, `.env` and what is said about them.

use std::path::Path;
use std::process::Output;

use crate::harness::{Daemon, Webhook, command};

const VALID: [(&str, &str); 2] = [
    ("MAIL_LASER_TARGET_EMAILS", "support@example.com"),
    ("MAIL_LASER_WEBHOOK_URL", "https://user:secret-password@api.example.com/secret-path"),
];

fn run(directory: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command(directory, variables).args(arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn an_invalid_environment_gets_all_problems_at_once_and_exit_code_78() {
    let directory = tempfile::tempdir().unwrap();
    let variables = [
        ("MAIL_LASER_WEBHOOK_URL", "http://api.example.com/secret-path"),
        ("MAIL_LASER_PORT", "smtp"),
        ("MAIL_LASER_S3_BUCKET", "mails"),
        ("LOG_FORMAT", "xml"),
        ("RUST_LOG", "a=b=c"),
    ];
    for arguments in [&[][..], &["run"], &["check"]] {
        let (code, stdout, stderr) = run(directory.path(), arguments, &variables);
        assert_eq!(code, Some(78));
        assert_eq!(stdout, "");
        assert!(stderr.starts_with("mail-laser: the configuration has 6 problems\n"), "{stderr}");
        for name in [
            "MAIL_LASER_TARGET_EMAILS is not set",
            "MAIL_LASER_WEBHOOK_URL (not shown) is plain http",
            "MAIL_LASER_PORT=\"smtp\" is not valid; valid is a port",
            "MAIL_LASER_S3_BUCKET is set, but this version does not implement it",
            "LOG_FORMAT=\"xml\"",
            "RUST_LOG=\"a=b=c\"",
        ] {
            assert!(stderr.contains(name), "{name} is missing in {stderr}");
        }
        assert!(!stderr.contains("secret-path"));
    }
}

#[test]
fn check_prints_what_is_in_force_without_secrets() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join(".env"),
        "MAIL_LASER_PORT=2526\nMAIL_LASER_WEBHOOK_TIMEOUT=7 # quick\nMAIL_LASER_HEADR_PREFIX=X-\n",
    )
    .unwrap();
    let (code, stdout, stderr) =
        run(directory.path(), &["check"], &[&VALID[..], &[("MAIL_LASER_PORT", "2527")]].concat());
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("MAIL_LASER_PORT=2527\n"), "the environment wins: {stdout}");
    assert!(stdout.contains("MAIL_LASER_WEBHOOK_TIMEOUT=7\n"), "the file fills in: {stdout}");
    assert!(stdout.contains("MAIL_LASER_WEBHOOK_URL=https://api.example.com/"), "{stdout}");
    assert!(stdout.contains("MAIL_LASER_WEBHOOK_CONCURRENCY=64\n"), "{stdout}");
    assert!(stderr.contains("did you mean MAIL_LASER_HEADER_PREFIX?"), "{stderr}");
    assert!(!format!("{stdout}{stderr}").contains("secret"), "{stdout}");
}

#[test]
fn a_port_in_use_is_named_with_its_variable() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let directory = tempfile::tempdir().unwrap();
    let variables = [("MAIL_LASER_BIND_ADDRESS", "127.0.0.1"), ("MAIL_LASER_PORT", port.as_str())];
    let (code, _, stderr) = run(directory.path(), &[], &[&VALID[..], &variables].concat());
    assert_eq!(code, Some(1));
    for part in [&port, "MAIL_LASER_PORT", "in use"] {
        assert!(stderr.contains(part), "{part} is missing in {stderr}");
    }
}

#[test]
fn a_service_of_the_name_mail_laser_breaks_nothing() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(
        &webhook,
        &[
            ("MAIL_LASER_SERVICE_HOST", "10.0.0.1"),
            ("MAIL_LASER_SERVICE_PORT_SMTP", "25"),
            ("MAIL_LASER_PORT_25_TCP_ADDR", "10.0.0.1"),
            ("MAIL_LASER_METRICS_PORT", "0"),
        ],
    );
    assert!(daemon.logged("MAIL_LASER_").is_empty(), "no warning about them");
    let directory = tempfile::tempdir().unwrap();
    let link = [("MAIL_LASER_PORT", "tcp://10.0.0.1:25")];
    let (code, stdout, _) = run(directory.path(), &["check"], &[&VALID[..], &link].concat());
    assert_eq!(code, Some(0));
    assert!(stdout.contains("MAIL_LASER_PORT=2525\n"), "{stdout}");
}

#[test]
fn a_broken_env_file_and_a_broken_ca_file_are_configuration_problems() {
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, "no certificate").unwrap();
    let variables = [("MAIL_LASER_WEBHOOK_CA_FILE", ca.to_str().unwrap())];
    let (code, _, stderr) = run(directory.path(), &["check"], &[&VALID[..], &variables].concat());
    assert_eq!((code, stderr.contains("holds no certificate")), (Some(78), true), "{stderr}");

    std::fs::write(&ca, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let (code, _, stderr) = run(directory.path(), &["check"], &[&VALID[..], &variables].concat());
    assert_eq!((code, stderr.contains("holds no certificate")), (Some(78), true), "{stderr}");

    std::fs::write(directory.path().join(".env"), "GOOD=1\nnonsense\n").unwrap();
    let wrong = [&VALID[..], &[("MAIL_LASER_PORT", "x")]].concat();
    let (code, _, stderr) = run(directory.path(), &["check"], &wrong);
    assert_eq!((code, stderr.contains(".env line 2")), (Some(78), true), "{stderr}");
    assert!(stderr.contains("MAIL_LASER_PORT"), "the others are told as well: {stderr}");
    let (code, _, stderr) = run(directory.path(), &["healthcheck"], &[("MAIL_LASER_HEALTH_PORT", "1")]);
    assert_eq!((code, stderr.contains("does not answer")), (Some(1), true), "{stderr}");
}

#[test]
fn all_commands_read_the_env_file_and_empty_is_unset() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, routes) = (directory.path().join("spool"), directory.path().join("routes"));
    std::fs::create_dir_all(&spool).unwrap();
    std::fs::create_dir_all(&routes).unwrap();
    let file = format!("MAIL_LASER_SPOOL_DIR={}\nMAIL_LASER_ROUTES={}\n", spool.display(), routes.display());
    std::fs::write(directory.path().join(".env"), file).unwrap();
    for empty in [&[][..], &[("MAIL_LASER_SPOOL_DIR", ""), ("MAIL_LASER_ROUTES", "")]] {
        let (code, _, stderr) = run(directory.path(), &["spool", "retry", "--all"], empty);
        let is_told = stderr.contains(&format!("the spool in {}", spool.display()));
        // What is empty in the environment is not filled in by the file.
        assert_eq!((code, is_told), (Some(1), empty.is_empty()), "{stderr}");
        let (code, stdout, stderr) = run(directory.path(), &["route", "explain", "a@example.com"], empty);
        assert_eq!((code, stdout.contains("451")), (Some(3), empty.is_empty()), "{stdout}{stderr}");
    }
}

#[test]
fn the_help_names_the_commands() {
    let directory = tempfile::tempdir().unwrap();
    let (code, stdout, _) = run(directory.path(), &["--help"], &[]);
    assert_eq!(code, Some(0));
    for word in ["check", "healthcheck", "MAIL_LASER_TARGET_EMAILS"] {
        assert!(stdout.contains(word), "{word} is missing in {stdout}");
    }
}
