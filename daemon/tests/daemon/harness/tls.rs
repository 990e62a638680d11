use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

/// Speaks TLS for 127.0.0.1 with a certificate of an authority of its own.
pub(crate) struct Acceptor(TlsAcceptor);

/// A certificate and its key, and the certificate of the authority that issued it; in PEM.
pub(crate) struct Pair {
    pub(crate) authority: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// A pair for a host, of an authority of its own.
pub(crate) fn pair(host: &str) -> Pair {
    let authority_key = rcgen::KeyPair::generate().expect("a key");
    let mut authority = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    authority.distinguished_name.push(rcgen::DnType::CommonName, "an authority of the tests");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = authority.self_signed(&authority_key).expect("a root");
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().expect("a key");
    let leaf = rcgen::CertificateParams::new(vec![host.to_owned()])
        .expect("parameters")
        .signed_by(&key, &issuer)
        .expect("a certificate");
    Pair { authority: root.pem(), certificate: leaf.pem(), key: key.serialize_pem() }
}

/// An acceptor, and the certificate of its authority in PEM.
pub(crate) fn acceptor() -> (Acceptor, String) {
    mail_laser::crypto::init();
    let pair = pair("127.0.0.1");
    let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key");
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a TLS configuration");
    (Acceptor(TlsAcceptor::from(Arc::new(config))), pair.authority)
}

impl Acceptor {
    pub(crate) fn on(self, tcp: TcpListener) -> TlsListener {
        TlsListener { tcp, acceptor: self.0 }
    }
}

pub(crate) struct TlsListener {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, peer) = self.tcp.accept().await.expect("accept");
            // A client that does not trust us breaks the handshake off.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}
