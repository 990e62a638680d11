//! Other people's clients, by STARTTLS and by TLS from the first byte: they check the certificate, and
//! leave where it is not of the authority that they trust.

use std::net::SocketAddr;
use std::process::{Command, Output};

use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{Message, SmtpTransport, Transport};

use crate::harness::{Daemon, Webhook, pair};

const HOST: &str = "mx.example.com";

/// A daemon with a certificate for [`HOST`], the certificate of its authority, and one of another.
struct Secured {
    webhook: Webhook,
    daemon: Daemon,
    directory: tempfile::TempDir,
    smtps: SocketAddr,
}

impl Secured {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let pair_in_force = pair(HOST);
        for (name, pem) in [
            ("tls.crt", pair_in_force.certificate),
            ("tls.key", pair_in_force.key),
            ("ca.crt", pair_in_force.authority),
            ("other-ca.crt", pair(HOST).authority),
        ] {
            std::fs::write(path(name), pem).unwrap();
        }
        let webhook = Webhook::start();
        let (certificate, key) = (path("tls.crt"), path("tls.key"));
        let daemon = Daemon::start(
            &webhook,
            &[
                ("MAIL_LASER_TLS", "require"),
                ("MAIL_LASER_SMTPS_PORT", "0"),
                ("MAIL_LASER_TLS_CERT_FILE", certificate.as_str()),
                ("MAIL_LASER_TLS_KEY_FILE", key.as_str()),
            ],
        );
        let smtps = daemon.wait_for_port("smtps");
        Self { webhook, daemon, directory, smtps }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    /// Both ports, and whether TLS comes first.
    fn ports(&self) -> [(SocketAddr, bool); 2] {
        [(self.daemon.smtp, false), (self.smtps, true)]
    }
}

/// Runs a client that the machine has to have, without its user's configuration.
fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).env("HOME", "/nonexistent").output();
    output.unwrap_or_else(|error| panic!("{program}: {error}; `make test` installs it"))
}

fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat()
}

#[test]
fn openssl_agrees() {
    let secured = Secured::start();
    let openssl = |address: SocketAddr, wrapped: bool, authority: &str, version: &str| {
        let starttls = if wrapped { "" } else { "-starttls smtp" };
        let script = format!(
            "printf 'QUIT\\r\\n' | openssl s_client {starttls} -connect {address} -{version} -ign_eof \
             -CAfile '{}' -verify_return_error -verify_hostname {HOST}",
            secured.path(authority)
        );
        text(&run("sh", &["-c", &script]))
    };
    // Where TLS comes first, it says QUIT before it is greeted, which may be noticed.
    let is_served = |said: &str| said.contains("221 2.0.0") || said.contains("554 5.5.1 You spoke");
    for (address, wrapped) in secured.ports() {
        for (version, name) in [("tls1_3", "TLSv1.3"), ("tls1_2", "TLSv1.2")] {
            let said = openssl(address, wrapped, "ca.crt", version);
            assert!(said.contains(name) && is_served(&said), "{said}");
            assert!(said.contains("Verification: OK"), "{said}");
            let said = openssl(address, wrapped, "other-ca.crt", version);
            assert!(said.contains("verify error") && !is_served(&said), "{said}");
        }
        let said = openssl(address, wrapped, "ca.crt", "tls1_1");
        assert!(!is_served(&said), "an old version: {said}");
    }
}

#[test]
fn swaks_agrees() {
    let secured = Secured::start();
    let swaks = |(address, wrapped): (SocketAddr, bool), authority: &str| {
        let (port, authority) = (address.port().to_string(), secured.path(authority));
        let how = if wrapped { "--tls-on-connect" } else { "--tls" };
        let arguments = [
            "--server",
            "127.0.0.1",
            "--port",
            &port,
            "--from",
            "ann@example.org",
            "--to",
            "support@example.com",
            "--header",
            "Subject: by swaks",
            how,
            "--tls-verify",
            "--tls-ca-path",
            &authority,
        ];
        run("swaks", &arguments)
    };
    for (sent, port) in secured.ports().into_iter().enumerate() {
        let output = swaks(port, "ca.crt");
        assert!(output.status.success(), "{}", text(&output));
        assert!(text(&output).contains("accepted as"), "{}", text(&output));
        assert_eq!(secured.webhook.wait_for(sent + 1)[sent].json["subject"], "by swaks");
        let output = swaks(port, "other-ca.crt");
        assert!(!output.status.success(), "{}", text(&output));
    }
    assert_eq!(secured.daemon.wait_for_log("mail accepted", 2).len(), 2);
}

#[test]
fn lettre_agrees() {
    let secured = Secured::start();
    let send = |(address, wrapped): (SocketAddr, bool), authority: &str, host: &str| {
        let root = Certificate::from_pem(&std::fs::read(secured.path(authority)).unwrap()).unwrap();
        let parameters = TlsParameters::builder(host.to_owned())
            .certificate_store(CertificateStore::None)
            .add_root_certificate(root)
            .build_rustls()
            .unwrap();
        let tls = if wrapped { Tls::Wrapper(parameters) } else { Tls::Required(parameters) };
        let mail = Message::builder()
            .from("ann@example.org".parse().unwrap())
            .to("support@example.com".parse().unwrap())
            .subject("by lettre")
            .body(String::from("text"))
            .unwrap();
        SmtpTransport::builder_dangerous("127.0.0.1").port(address.port()).tls(tls).build().send(&mail)
    };
    for (sent, port) in secured.ports().into_iter().enumerate() {
        assert!(send(port, "ca.crt", HOST).unwrap().is_positive());
        assert_eq!(secured.webhook.wait_for(sent + 1)[sent].json["subject"], "by lettre");
        assert!(send(port, "other-ca.crt", HOST).is_err(), "another authority");
        assert!(send(port, "ca.crt", "mx.example.net").is_err(), "another name");
    }
    assert_eq!(secured.daemon.wait_for_log("mail accepted", 2).len(), 2);
}
