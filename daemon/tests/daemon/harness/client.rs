use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned,
};

use super::PATIENCE;

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// A connection to the SMTP port that sends bytes as they are given.
pub(crate) struct Client {
    tcp: TcpStream,
    stream: BufReader<Box<dyn Stream>>,
    certificate: Option<Vec<u8>>,
}

impl Client {
    /// Connects, and does not wait for the greeting.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).expect("connect"))
    }

    /// Connects from this address, and begins with the content of a mail; `None` where it is sent away.
    pub(crate) fn try_begin(address: SocketAddr, source: Ipv4Addr) -> Option<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
        let tcp = runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
            socket.bind((source, 0).into()).expect("an address of the loopback network");
            socket.connect(address).await.and_then(tokio::net::TcpStream::into_std).ok()
        })?;
        tcp.set_nonblocking(false).expect("a blocking socket");
        let mut client = Self::over(tcp);
        let envelope = "EHLO c\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<support@example.com>\r\nDATA\r\n";
        for (code, then) in [("220", envelope), ("354", "")] {
            let mut line = String::new();
            while !line.starts_with(code) {
                line.clear();
                if client.stream.read_line(&mut line).ok()? == 0 {
                    return None;
                }
            }
            client.try_send(then).ok()?;
        }
        Some(client)
    }

    fn over(tcp: TcpStream) -> Self {
        tcp.set_read_timeout(Some(PATIENCE)).expect("set a time limit");
        tcp.set_nodelay(true).expect("set nodelay");
        let stream: Box<dyn Stream> = Box::new(tcp.try_clone().expect("a second handle"));
        Self { tcp, stream: BufReader::new(stream), certificate: None }
    }

    /// Connects, and has said EHLO.
    pub(crate) fn greeted(address: SocketAddr) -> Self {
        let mut client = Self::connect(address);
        assert_eq!(client.reply().0, 220);
        assert_eq!(client.ask("EHLO client.example.com").0, 250);
        client
    }

    /// Does a TLS handshake on the connection, whoever answers.
    pub(crate) fn secured(self) -> Self {
        let seen = Arc::new(Seen(Mutex::default()));
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&seen) as Arc<dyn ServerCertVerifier>)
            .with_no_client_auth();
        let name = ServerName::try_from("mx.example.com").expect("a name");
        let mut connection = ClientConnection::new(Arc::new(config), name).expect("a TLS client");
        let mut tcp = self.tcp.try_clone().expect("a second handle");
        while connection.is_handshaking() {
            connection.complete_io(&mut tcp).expect("a handshake");
        }
        let stream: Box<dyn Stream> = Box::new(StreamOwned::new(connection, tcp));
        let certificate = seen.0.lock().expect("the certificate").take();
        Self { tcp: self.tcp, stream: BufReader::new(stream), certificate }
    }

    /// Says STARTTLS, does the handshake, and says EHLO again, without which there is no mail.
    pub(crate) fn upgraded(mut self) -> Self {
        assert_eq!(self.ask("STARTTLS").0, 220);
        let mut client = self.secured();
        assert_eq!(client.ask("MAIL FROM:<>").0, 503, "the session begins anew");
        assert_eq!(client.ask("EHLO client.example.com").0, 250);
        client
    }

    /// The certificate that the server showed.
    pub(crate) fn certificate(&self) -> &[u8] {
        self.certificate.as_deref().expect("a handshake before")
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).expect("send");
    }

    /// Sends what the server may no longer want to read.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())
    }

    /// The next reply: its code and all of its lines.
    pub(crate) fn reply(&mut self) -> (u16, String) {
        let mut text = String::new();
        loop {
            let start = text.len();
            assert_ne!(self.stream.read_line(&mut text).expect("read a reply"), 0, "closed after {text:?}");
            let line = &text[start..];
            assert!(line.ends_with("\r\n"), "{line:?}");
            if line.as_bytes()[3] == b' ' {
                return (line[..3].parse().expect("a code"), text);
            }
        }
    }

    /// Sends one command line and reads its reply.
    pub(crate) fn ask(&mut self, line: &str) -> (u16, String) {
        self.send(format!("{line}\r\n"));
        self.reply()
    }

    /// Gives an envelope and DATA, and reads up to the 354.
    pub(crate) fn begin_mail(&mut self, recipient: &str) {
        self.envelope(recipient);
        assert_eq!(self.ask("DATA").0, 354);
    }

    /// Gives an envelope.
    pub(crate) fn envelope(&mut self, recipient: &str) {
        assert_eq!(self.ask("MAIL FROM:<sender@example.org>").0, 250);
        assert_eq!(self.ask(&format!("RCPT TO:<{recipient}>")).0, 250);
    }

    /// Sends a whole mail, whose content ends with CRLF; returns the last reply.
    pub(crate) fn mail(&mut self, recipient: &str, content: &str) -> (u16, String) {
        self.begin_mail(recipient);
        self.send(content);
        self.send(".\r\n");
        self.reply()
    }

    /// The codes of the next replies.
    pub(crate) fn codes(&mut self, count: usize) -> Vec<u16> {
        (0..count).map(|_| self.reply().0).collect()
    }

    /// Reads until the server closes; returns what it said.
    pub(crate) fn read_to_end(&mut self) -> String {
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest);
        String::from_utf8_lossy(&rest).into_owned()
    }

    /// Sends again and again what `next` says until the server takes no more; returns its last reply.
    pub(crate) fn flood(&mut self, mut next: impl FnMut(usize) -> String) -> (u16, String) {
        for number in 0.. {
            let line = next(number);
            self.send(format!("{line}\r\n"));
            let reply = self.reply();
            if self.is_last(&reply) {
                return reply;
            }
        }
        unreachable!("a flood goes on until it is ended")
    }

    fn is_last(&self, reply: &(u16, String)) -> bool {
        matches!(reply.0, 421 | 221)
    }

    /// Whether the server has closed the connection and said nothing more.
    pub(crate) fn is_closed(&mut self) -> bool {
        matches!(self.stream.fill_buf(), Ok([]) | Err(_))
    }
}

/// Takes every certificate and remembers it.
#[derive(Debug)]
struct Seen(Mutex<Option<Vec<u8>>>);

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.0.lock().expect("the certificate") = Some(certificate.to_vec());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
