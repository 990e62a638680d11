//! Mails, sent by a client that is not ours.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment, Mailbox, MultiPart, SinglePart};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

/// More than the daemon ever holds a sender.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A mail to be sent.
#[derive(Clone, Debug)]
pub struct Letter {
    from: String,
    to: Vec<String>,
    subject: String,
    text: String,
    html: Option<String>,
    headers: Vec<(String, String)>,
    attachments: Vec<(String, String, Vec<u8>)>,
}

impl Letter {
    /// A short text to this address, from Ada at example.org.
    #[must_use]
    pub fn to(recipient: &str) -> Self {
        Self {
            from: "Ada <ada@example.org>".to_owned(),
            to: vec![recipient.to_owned()],
            subject: "A test".to_owned(),
            text: "Hello.".to_owned(),
            html: None,
            headers: Vec::new(),
            attachments: Vec::new(),
        }
    }

    /// One more recipient.
    #[must_use]
    pub fn and(mut self, recipient: &str) -> Self {
        self.to.push(recipient.to_owned());
        self
    }

    /// The subject, by which tests find a mail again.
    #[must_use]
    pub fn subject(mut self, subject: &str) -> Self {
        subject.clone_into(&mut self.subject);
        self
    }

    /// The text.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        text.clone_into(&mut self.text);
        self
    }

    /// The same again as HTML.
    #[must_use]
    pub fn html(mut self, html: &str) -> Self {
        self.html = Some(html.to_owned());
        self
    }

    /// One header more.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// One attachment more.
    #[must_use]
    pub fn attachment(mut self, name: &str, content_type: &str, content: &[u8]) -> Self {
        self.attachments.push((name.to_owned(), content_type.to_owned(), content.to_owned()));
        self
    }

    /// Sends it; the answer to the mail is what the server said at the end of the data.
    ///
    /// # Errors
    /// When the server cannot be reached, or refuses.
    pub async fn send(&self, server: SocketAddr) -> anyhow::Result<String> {
        let message = self.message().context("the letter makes no valid mail")?;
        let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(server.ip().to_string())
            .port(server.port())
            .timeout(Some(TIMEOUT))
            .build();
        let response = transport
            .send(message)
            .await
            .with_context(|| format!("{server} did not take {:?}", self.subject))?;
        let lines: Vec<&str> = response.message().collect();
        Ok(format!("{} {}", response.code(), lines.join(" ")))
    }

    fn message(&self) -> anyhow::Result<Message> {
        let mut builder =
            Message::builder().from(self.from.parse::<Mailbox>()?).subject(&self.subject).message_id(None);
        for recipient in &self.to {
            builder = builder.to(recipient.parse()?);
        }
        for (name, value) in &self.headers {
            builder = builder
                .raw_header(HeaderValue::new(HeaderName::new_from_ascii(name.clone())?, value.clone()));
        }
        let text = SinglePart::plain(self.text.clone());
        if self.html.is_none() && self.attachments.is_empty() {
            return Ok(builder.singlepart(text)?);
        }
        let mut parts = MultiPart::mixed().multipart(match &self.html {
            Some(html) => {
                MultiPart::alternative().singlepart(text).singlepart(SinglePart::html(html.clone()))
            }
            None => MultiPart::alternative().singlepart(text),
        });
        for (name, content_type, content) in &self.attachments {
            let part =
                Attachment::new(name.clone()).body(content.clone(), content_type.parse::<ContentType>()?);
            parts = parts.singlepart(part);
        }
        Ok(builder.multipart(parts)?)
    }
}
