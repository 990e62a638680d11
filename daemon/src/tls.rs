//! TLS on the SMTP side: the certificate in force, and its renewal without a restart.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often the files are looked at. Kubernetes itself takes up to a minute to bring a renewed
/// Secret into a pod.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Where a certificate chain and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairFiles {
    /// The chain, in PEM.
    pub certificate: PathBuf,
    /// The key, in PEM.
    pub key: PathBuf,
}

/// Why a certificate cannot be used; finishes a sentence that begins with the pair.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// A file cannot be read.
    #[error("cannot be read")]
    Read(#[source] io::Error),
    /// The certificate file holds no certificate.
    #[error("has no certificate in PEM")]
    NoCertificate,
    /// The key file holds no private key.
    #[error("has no private key in PEM")]
    NoKey,
    /// They do not belong together, or are of a kind that is not supported.
    #[error("is not a certificate and its key")]
    Mismatch(#[source] rustls::Error),
    /// A self-signed certificate could not be made.
    #[error("could not be made")]
    SelfSigned(#[source] rcgen::Error),
}

/// A certificate chain and its key, as bytes of PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pem {
    /// The chain.
    pub certificate: Vec<u8>,
    /// The key.
    pub key: Vec<u8>,
}

impl PairFiles {
    /// Reads both files.
    ///
    /// # Errors
    /// [`PairError::Read`].
    pub fn read(&self) -> Result<Pem, PairError> {
        let read = |path| fs::read(path).map_err(PairError::Read);
        Ok(Pem { certificate: read(&self.certificate)?, key: read(&self.key)? })
    }
}

impl Pem {
    /// The pair, if it is one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn pair(&self) -> Result<CertifiedKey, PairError> {
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(&self.certificate).filter_map(Result::ok).collect();
        if chain.is_empty() {
            return Err(PairError::NoCertificate);
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| PairError::NoKey)?;
        CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(PairError::Mismatch)
    }
}

/// A pair for `hostname` that nobody else vouches for: it keeps a mail from being read on its
/// way, and says nothing about who received it.
///
/// # Errors
/// When no key can be made.
pub fn self_signed(hostname: &str) -> Result<CertifiedKey, PairError> {
    let made = rcgen::generate_simple_self_signed(vec![hostname.trim_matches(['[', ']']).to_owned()])
        .map_err(PairError::SelfSigned)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    CertifiedKey::from_der(vec![made.cert.der().clone()], key, &ring::default_provider())
        .map_err(PairError::Mismatch)
}

/// The pair in force, which handshakes under way keep even when it is renewed.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// TLS for incoming sessions.
#[derive(Debug)]
pub struct Tls {
    current: Arc<Current>,
    files: Option<(PairFiles, Pem)>,
}

impl Tls {
    /// TLS with a pair that does not change.
    #[must_use]
    pub fn fixed(pair: CertifiedKey) -> Self {
        Self { current: Arc::new(Current(RwLock::new(Arc::new(pair)))), files: None }
    }

    /// TLS with the pair of `files`, which hold `pem` now.
    ///
    /// # Errors
    /// What is wrong with the pair.
    pub fn from_files(files: PairFiles, pem: Pem) -> Result<Self, PairError> {
        let fixed = Self::fixed(pem.pair()?);
        Ok(Self { files: Some((files, pem)), ..fixed })
    }

    /// What handshakes offer: TLS 1.2 and 1.3.
    ///
    /// # Errors
    /// None is known: the versions are the provider's own.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, rustls::Error> {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&self.current) as Arc<dyn ResolvesServerCert>);
        Ok(Arc::new(config))
    }

    /// Takes up renewed files until `stop` is cancelled. Sessions under way keep what they have;
    /// a pair that cannot be used leaves the old one in force.
    ///
    /// # Errors
    /// None.
    pub async fn renew(self: Arc<Self>, stop: CancellationToken) -> io::Result<()> {
        let Some((files, mut seen)) = self.files.clone() else {
            stop.cancelled().await;
            return Ok(());
        };
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
            let reader = files.clone();
            let Ok(read) = tokio::task::spawn_blocking(move || reader.read()).await else {
                continue;
            };
            let certificate = files.certificate.display();
            match read {
                Ok(pem) if pem == seen => {}
                Ok(pem) => {
                    match pem.pair() {
                        Ok(pair) => {
                            *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pair);
                            info!(%certificate, "certificate renewed");
                        }
                        Err(error) => {
                            warn!(%certificate, %error, "the renewed pair cannot be used; the old one stays in force");
                        }
                    }
                    seen = pem;
                }
                Err(error) => warn!(%certificate, %error, "the pair stays as it is"),
            }
        }
    }
}

/// Version and cipher, for logs and `Received` headers.
#[must_use]
pub fn describe(connection: &rustls::ServerConnection) -> String {
    let version = connection.protocol_version().and_then(|version| version.as_str()).unwrap_or("TLS");
    let cipher = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
    format!("{version} {}", cipher.unwrap_or_default())
}
