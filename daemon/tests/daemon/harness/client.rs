use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;

/// A connection to the SMTP port that sends bytes as they are given.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects, and does not wait for the greeting.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("set a time limit");
        stream.set_nodelay(true).expect("set nodelay");
        Self { stream: BufReader::new(stream) }
    }

    /// Connects, and has said EHLO.
    pub(crate) fn greeted(address: SocketAddr) -> Self {
        let mut client = Self::connect(address);
        assert_eq!(client.reply().0, 220);
        assert_eq!(client.ask("EHLO client.example.com").0, 250);
        client
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
        assert_eq!(self.ask("MAIL FROM:<sender@example.org>").0, 250);
        assert_eq!(self.ask(&format!("RCPT TO:<{recipient}>")).0, 250);
        assert_eq!(self.ask("DATA").0, 354);
    }

    /// Sends a whole mail, whose content ends with CRLF; returns the last reply.
    pub(crate) fn mail(&mut self, recipient: &str, content: &str) -> (u16, String) {
        self.begin_mail(recipient);
        self.send(content);
        self.send(".\r\n");
        self.reply()
    }

    /// Whether the server has closed the connection and said nothing more.
    pub(crate) fn is_closed(&mut self) -> bool {
        matches!(self.stream.fill_buf(), Ok([]) | Err(_))
    }
}
