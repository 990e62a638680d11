//! An SMTP client that says what it is told to, right or wrong: what a proper client cannot test.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::Authority;

const TIMEOUT: Duration = Duration::from_secs(30);

/// What SMTP is spoken over, with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection to a server.
pub struct SmtpClient {
    stream: BufReader<Box<dyn Stream>>,
    certificate: Option<CertificateDer<'static>>,
}

/// One answer, with all its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The three digits.
    pub code: u16,
    /// What follows them, line by line.
    pub lines: Vec<String>,
}

impl std::fmt::Display for Reply {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {}", self.code, self.lines.join(" / "))
    }
}

impl SmtpClient {
    /// Connects, and leaves the greeting to be read.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn connect(server: SocketAddr) -> anyhow::Result<Self> {
        let stream = timeout(TIMEOUT, TcpStream::connect(server))
            .await
            .with_context(|| format!("no connection to {server} within {TIMEOUT:?}"))?
            .with_context(|| format!("no connection to {server}"))?;
        Ok(Self { stream: BufReader::new(Box::new(stream)), certificate: None })
    }

    /// Goes on in TLS: after the answer to STARTTLS, or at once where a port begins with it. Takes certificates
    /// of the authority alone.
    ///
    /// # Errors
    /// When there is no TLS, or with another certificate.
    pub async fn secured(self, authority: &Authority) -> anyhow::Result<Self> {
        ensure!(self.stream.buffer().is_empty(), "the server said something before the handshake");
        let handshake = authority.connect(self.stream.into_inner());
        let (stream, certificate) = timeout(TIMEOUT, handshake).await.context("no handshake in time")??;
        Ok(Self { stream: BufReader::new(Box::new(stream)), certificate: Some(certificate) })
    }

    /// Connects, says EHLO, and again after STARTTLS.
    ///
    /// # Errors
    /// As [`Self::greeted`] and [`Self::secured`].
    pub async fn starttls(server: SocketAddr, authority: &Authority) -> anyhow::Result<Self> {
        let mut client = Self::greeted(server).await?;
        client.command("STARTTLS").await?.must_be(220)?;
        let mut client = client.secured(authority).await?;
        client.command("EHLO client.example.org").await?.must_be(250)?;
        Ok(client)
    }

    /// Connects to a port that begins with TLS, reads the greeting and says EHLO.
    ///
    /// # Errors
    /// As [`Self::greeted`] and [`Self::secured`].
    pub async fn smtps(server: SocketAddr, authority: &Authority) -> anyhow::Result<Self> {
        let mut client = Self::connect(server).await?.secured(authority).await?;
        client.expect(220).await.context("the greeting")?;
        client.command("EHLO client.example.org").await?.must_be(250)?;
        Ok(client)
    }

    /// The certificate that the server has shown.
    ///
    /// # Errors
    /// When there is no TLS.
    pub fn certificate(&self) -> anyhow::Result<&[u8]> {
        self.certificate.as_deref().context("this connection has no TLS")
    }

    /// Connects, reads the greeting and says EHLO.
    ///
    /// # Errors
    /// When either is not answered as it should be.
    pub async fn greeted(server: SocketAddr) -> anyhow::Result<Self> {
        let mut client = Self::connect(server).await?;
        client.expect(220).await.context("the greeting")?;
        client.command("EHLO client.example.org").await?.must_be(250)?;
        Ok(client)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        timeout(TIMEOUT, self.write(bytes)).await.context("the server does not read")??;
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await?;
        // TLS keeps what is written until then.
        self.stream.flush().await
    }

    /// Sends a line and reads its answer.
    ///
    /// # Errors
    /// When the connection is gone, or the answer is none.
    pub async fn command(&mut self, line: &str) -> anyhow::Result<Reply> {
        self.send(format!("{line}\r\n").as_bytes()).await?;
        self.reply().await.with_context(|| format!("the answer to {line:?}"))
    }

    /// Sends one mail from MAIL to the final dot; `data` is sent as it is.
    ///
    /// # Errors
    /// When any step is not answered positively; the answer to the data is returned whatever it is.
    pub async fn mail(&mut self, recipient: &str, data: &str) -> anyhow::Result<Reply> {
        self.mail_to(&[recipient], data).await
    }

    /// The same, to several recipients.
    ///
    /// # Errors
    /// As [`Self::mail`].
    pub async fn mail_to(&mut self, recipients: &[&str], data: &str) -> anyhow::Result<Reply> {
        self.command("MAIL FROM:<ada@example.org>").await?.must_be(250)?;
        for recipient in recipients {
            self.command(&format!("RCPT TO:<{recipient}>")).await?.must_be(250)?;
        }
        self.command("DATA").await?.must_be(354)?;
        self.command(&format!("{data}\r\n.")).await
    }

    /// Reads an answer of this code.
    ///
    /// # Errors
    /// When it is another.
    pub async fn expect(&mut self, code: u16) -> anyhow::Result<Reply> {
        self.reply().await?.must_be(code)
    }

    /// Reads one answer.
    ///
    /// # Errors
    /// When the connection ends first, or what comes is no SMTP.
    pub async fn reply(&mut self) -> anyhow::Result<Reply> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let read =
                timeout(TIMEOUT, self.stream.read_line(&mut line)).await.context("no answer in time")??;
            ensure!(read > 0, "the server closed the connection after {lines:?}");
            let line =
                line.strip_suffix("\r\n").with_context(|| format!("{line:?} does not end with CRLF"))?;
            let code = line
                .get(..3)
                .and_then(|code| code.parse().ok())
                .with_context(|| format!("no code in {line:?}"))?;
            lines.push(line.get(4..).unwrap_or_default().to_owned());
            match line.as_bytes().get(3) {
                Some(b'-') => {}
                Some(b' ') | None => return Ok(Reply { code, lines }),
                Some(_) => bail!("{line:?} is no reply line"),
            }
        }
    }

    /// Waits until the server closes.
    ///
    /// # Errors
    /// When it says something instead, or nothing.
    pub async fn closed(&mut self) -> anyhow::Result<()> {
        let mut line = String::new();
        match timeout(TIMEOUT, self.stream.read_line(&mut line)).await.context("the server does not close")? {
            Ok(0) | Err(_) => Ok(()),
            Ok(_) => bail!("instead of closing the server said {line:?}"),
        }
    }
}

impl Reply {
    /// This reply, if it has that code.
    ///
    /// # Errors
    /// When it has another.
    pub fn must_be(self, code: u16) -> anyhow::Result<Self> {
        ensure!(self.code == code, "expected {code}, got: {self}");
        Ok(self)
    }
}
