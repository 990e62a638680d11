//! Certificates of a test's own, and clients that take no others.

use std::sync::Arc;

use anyhow::Context;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

/// The name that is in every certificate, and that every client asks for, whatever the address is.
pub(crate) const HOST: &str = "mx.example.com";

/// An authority that only the test itself trusts.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    connector: TlsConnector,
}

/// A certificate and its key.
pub struct Pair {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new() -> anyhow::Result<Self> {
        crate::init_crypto();
        let key = KeyPair::generate()?;
        let mut parameters = CertificateParams::new(Vec::new())?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let mut roots = RootCertStore::empty();
        roots.add(parameters.self_signed(&key)?.der().clone())?;
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        // A resumed session has the certificate of the first one, whatever the server would show.
        config.resumption = Resumption::disabled();
        Ok(Self { issuer: Issuer::new(parameters, key), connector: TlsConnector::from(Arc::new(config)) })
    }

    /// Issues a certificate for `mx.example.com`.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn issue(&self) -> anyhow::Result<Pair> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec![HOST.to_owned()])?.signed_by(&key, &self.issuer)?;
        Ok(Pair { certificate, key })
    }

    /// Speaks TLS over a connection; tells the server's certificate.
    pub(crate) async fn connect<S>(
        &self,
        stream: S,
    ) -> anyhow::Result<(tokio_rustls::client::TlsStream<S>, CertificateDer<'static>)>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(HOST)?;
        let stream =
            self.connector.connect(name, stream).await.context("no TLS with a certificate of ours")?;
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let shown = shown.context("the server shows no certificate")?.clone().into_owned();
        Ok((stream, shown))
    }
}

impl Pair {
    /// A Secret of type `kubernetes.io/tls` that holds it.
    #[must_use]
    pub fn secret(&self, name: &str) -> String {
        let indented = |pem: &str| pem.lines().map(|line| format!("    {line}\n")).collect::<String>();
        format!(
            "apiVersion: v1
kind: Secret
metadata: {{name: {name}}}
type: kubernetes.io/tls
stringData:
  tls.crt: |
{}  tls.key: |
{}",
            indented(&self.certificate.pem()),
            indented(&self.key.serialize_pem())
        )
    }

    /// The certificate in PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// The certificate, as a server shows it.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        self.certificate.der()
    }
}
