//! A mail's content to what the webhook wants to know. Pure.
//!
//! Lenient at every layer: whatever a mail is, something of it is delivered. A part that cannot
//! be taken apart becomes an attachment with its bytes as they are.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::header::Headers;
use super::parameters::Parameters;
use super::{body, html, mailbox, multipart};

/// Levels of multipart that are taken apart. Real mails have up to about ten; each level scans
/// its body once more.
const DEPTH_MAX: usize = 50;

/// Parts that are taken apart in one mail, at all levels together. Real mails have up to a few
/// hundred; each costs some 200 bytes of JSON, however empty it is.
const PARTS_MAX: usize = 1_000;

/// Characters of a display name, a file name, a content type or a content id.
const LABEL_CHARS_MAX: usize = 1_000;

/// What was read out of a mail.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// Display name of the first mailbox of `From`.
    pub sender_name: Option<String>,
    /// `Subject`, empty when absent.
    pub subject: String,
    /// `Message-ID` without its angle brackets.
    pub message_id: Option<String>,
    /// The first `text/plain` part that is not marked as an attachment.
    pub text: Option<String>,
    /// The first `text/html` part that is not marked as an attachment.
    pub html: Option<String>,
    /// All other leaf parts.
    pub attachments: Vec<Attachment>,
    /// All headers of the mail, decoded, in their order.
    pub headers: Vec<(String, String)>,
    /// Octets of the mail itself.
    pub size_bytes: usize,
}

/// A leaf part that is neither the text nor the HTML of the mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// File name, of `Content-Disposition` or `Content-Type`.
    pub filename: Option<String>,
    /// Type and subtype in lower case, without parameters.
    pub content_type: String,
    /// `Content-ID` without its angle brackets.
    pub content_id: Option<String>,
    /// The decoded bytes.
    pub bytes: Vec<u8>,
    /// What [`Self::sha256`] has come to.
    sha256: OnceCell<String>,
}

impl Attachment {
    /// SHA-256 of the decoded bytes in hexadecimal digits. Computed once, when it is first wanted: it takes longer than
    /// all else that is done with an attachment.
    pub fn sha256(&self) -> &str {
        self.sha256.get_or_init(|| {
            let digest = Sha256::digest(&self.bytes);
            digest.iter().fold(String::with_capacity(2 * digest.len()), |mut text, byte| {
                // Writing to a string does not fail.
                let _ = write!(text, "{byte:02x}");
                text
            })
        })
    }
}

impl Parsed {
    /// Reads a mail. Never fails: what cannot be read is left out or kept as bytes.
    ///
    /// Headers are decoded only where their name starts with one of `prefixes`, which are in
    /// lower case.
    #[must_use]
    pub fn read(content: &[u8], prefixes: &[String]) -> Self {
        let (headers, content_body) = Headers::split(content);
        let mut parsed = Self {
            sender_name: sender_name(&headers),
            subject: headers.decoded("Subject").unwrap_or_default(),
            message_id: headers.unfolded("Message-ID").and_then(|id| bare_id(&id)),
            headers: matching(&headers, prefixes),
            size_bytes: content.len(),
            ..Self::default()
        };
        Walk { parsed: &mut parsed, parts_left: PARTS_MAX }.part(headers, content_body, 0, "text/plain");
        parsed
    }

    /// The plain text: the mail's own, or made from its HTML, which can be costly.
    #[must_use]
    pub fn body(&self) -> Cow<'_, str> {
        match (&self.text, &self.html) {
            (Some(text), _) => text.into(),
            (None, Some(page)) => html::to_text(page).into(),
            (None, None) => "".into(),
        }
    }

    /// The plain text where [`Self::body`] fails: of HTML, what stands between its tags.
    #[must_use]
    pub fn body_without_layout(&self) -> Cow<'_, str> {
        match (&self.text, &self.html) {
            (None, Some(page)) => html::without_tags(page).into(),
            (text, _) => text.as_deref().unwrap_or_default().into(),
        }
    }

    /// Whether [`Self::body`] has to be made from HTML.
    #[must_use]
    pub fn needs_layout(&self) -> bool {
        self.text.is_none() && self.html.is_some()
    }

    /// Octets that it takes, headers and labels aside.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let texts = [&self.text, &self.html].into_iter().flatten().map(String::capacity);
        let attachments = self.attachments.iter().map(|attachment| attachment.bytes.capacity());
        texts.chain(attachments).sum()
    }
}

struct Walk<'p> {
    parsed: &'p mut Parsed,
    parts_left: usize,
}

impl Walk<'_> {
    fn part(&mut self, headers: Headers<'_>, content: &[u8], depth: usize, default_type: &str) {
        if let Some((kind, parts)) = self.parts(&headers, content, depth, default_type) {
            // One level may have 80,000: they are gone before the next level is read.
            drop(headers);
            // RFC 2046 section 5.1.5: parts of a digest are messages unless they say otherwise.
            let default_type = if kind == "multipart/digest" { "message/rfc822" } else { "text/plain" };
            for part in parts {
                // A part need not have headers; then an empty line comes first.
                let (headers, content) = Headers::split(part);
                self.part(headers, content, depth + 1, default_type);
            }
        } else {
            self.leaf(&headers, content, default_type);
        }
    }

    /// The type and the parts of a multipart that is taken apart.
    fn parts<'c>(
        &mut self,
        headers: &Headers<'_>,
        content: &'c [u8],
        depth: usize,
        default_type: &str,
    ) -> Option<(String, Vec<&'c [u8]>)> {
        let declared = headers.unfolded("Content-Type");
        let parameters = Parameters::read(declared.as_deref().unwrap_or(default_type));
        let mimetype = mimetype(&parameters);
        if !mimetype.starts_with("multipart/") || depth >= DEPTH_MAX || self.parts_left == 0 {
            return None;
        }
        let boundary = parameters.token("boundary").unwrap_or_default();
        let parts = multipart::parts(content, &boundary, self.parts_left);
        self.parts_left -= parts.len();
        (!parts.is_empty()).then_some((mimetype, parts))
    }

    fn leaf(&mut self, headers: &Headers<'_>, content: &[u8], default_type: &str) {
        let declared = headers.unfolded("Content-Type");
        let content_type = Parameters::read(declared.as_deref().unwrap_or(default_type));
        let mimetype = mimetype(&content_type);
        let disposition = headers.unfolded("Content-Disposition").unwrap_or_default();
        let disposition = Parameters::read(&disposition);
        let marked = disposition.value.eq_ignore_ascii_case("attachment");
        let encoding = headers.unfolded("Content-Transfer-Encoding").unwrap_or_default();
        let bytes = body::transfer_decoded(content, Parameters::read(&encoding).value);
        let charset = content_type.token("charset");
        match mimetype.as_str() {
            "text/plain" if !marked && self.parsed.text.is_none() => {
                self.parsed.text = Some(body::text(bytes, charset.as_deref()));
            }
            "text/html" if !marked && self.parsed.html.is_none() => {
                self.parsed.html = Some(body::text(bytes, charset.as_deref()));
            }
            other => {
                let filename = disposition.text("filename").or_else(|| content_type.text("name"));
                self.parsed.attachments.push(Attachment {
                    filename: filename.map(|name| shortened(&name)).filter(|name| !name.is_empty()),
                    content_type: shortened(other),
                    content_id: headers.unfolded("Content-ID").and_then(|id| bare_id(&id)),
                    bytes: bytes.into_owned(),
                    sha256: OnceCell::new(),
                });
            }
        }
    }
}

/// The declared type in lower case; for a malformed one, what RFC 2045 section 5.2 says.
fn mimetype(content_type: &Parameters<'_>) -> String {
    let declared = content_type.value;
    let is_type = declared.split_once('/').is_some_and(|(kind, subtype)| {
        !kind.is_empty() && !subtype.is_empty() && declared.bytes().all(|c| c.is_ascii_graphic())
    });
    if is_type { declared.to_ascii_lowercase() } else { "text/plain".to_owned() }
}

fn sender_name(headers: &Headers<'_>) -> Option<String> {
    headers.unfolded("From").and_then(|from| mailbox::display_name(&from)).map(|name| shortened(&name))
}

fn matching(headers: &Headers<'_>, prefixes: &[String]) -> Vec<(String, String)> {
    let is_wanted = |name: &str| {
        let name = name.to_ascii_lowercase();
        prefixes.iter().any(|prefix| name.starts_with(prefix))
    };
    let wanted = headers.iter().filter(|header| is_wanted(&header.name()));
    wanted.map(|header| (header.name(), header.decoded())).collect()
}

/// An id without its angle brackets and without what stands around them.
fn bare_id(value: &str) -> Option<String> {
    let inner = match (value.find('<'), value.rfind('>')) {
        (Some(start), Some(end)) if start < end => &value[start + 1..end],
        _ => value,
    };
    Some(shortened(inner.trim())).filter(|id| !id.is_empty())
}

fn shortened(text: &str) -> String {
    text.chars().take(LABEL_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(content: &str) -> Parsed {
        Parsed::read(content.replace('\n', "\r\n").as_bytes(), &["x-ticket".to_owned()])
    }

    #[test]
    fn a_plain_mail() {
        let parsed = read(
            "From: =?utf-8?q?J=C3=BCrgen?= <j@example.com>\nSubject: Hello\n there\nMessage-ID: <1@example.com>\n\
             X-Ticket-Id: 1\nX-TICKET-ID: 2\nX-Other: 3\n\nHi\n",
        );
        assert_eq!(parsed.sender_name.as_deref(), Some("J\u{fc}rgen"));
        assert_eq!(parsed.subject, "Hello there");
        assert_eq!(parsed.message_id.as_deref(), Some("1@example.com"));
        assert_eq!(parsed.body(), "Hi\r\n");
        let ticket = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(parsed.headers, [ticket("X-Ticket-Id", "1"), ticket("X-TICKET-ID", "2")]);
    }

    const NESTED: &str = "\
Content-Type: multipart/mixed; boundary=outer

--outer
Content-Type: multipart/alternative; boundary=\"inner\"

--inner
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

gr=FC=DFe
--inner
Content-Type: text/html

<p>gr&uuml;&szlig;e</p>
--inner--
--outer
Content-Type: text/plain; name=\"note.txt\"
Content-Disposition: attachment

a note
--outer
Content-Type: image/png
Content-ID: <logo@example.com>
Content-Disposition: inline; filename*=utf-8''%C3%BC.png
Content-Transfer-Encoding: base64

iVBORw==
--outer
Content-Type: message/rfc822

Subject: inner mail

text
--outer
Content-Type: application/x-empty

--outer--
";

    #[test]
    fn a_nested_mail_has_its_text_its_html_and_its_attachments() {
        let parsed = read(NESTED);
        assert_eq!(parsed.text.as_deref(), Some("gr\u{fc}\u{df}e"));
        assert_eq!(parsed.html.as_deref(), Some("<p>gr&uuml;&szlig;e</p>"));
        let summary: Vec<_> = parsed
            .attachments
            .iter()
            .map(|a| {
                (a.filename.as_deref(), a.content_type.as_str(), a.content_id.as_deref(), a.bytes.as_slice())
            })
            .collect();
        assert_eq!(
            summary,
            [
                (Some("note.txt"), "text/plain", None, &b"a note"[..]),
                (Some("\u{fc}.png"), "image/png", Some("logo@example.com"), &b"\x89PNG"[..]),
                (None, "message/rfc822", None, &b"Subject: inner mail\r\n\r\ntext"[..]),
                (None, "application/x-empty", None, &b""[..]),
            ]
        );
    }

    #[test]
    fn html_alone_gives_a_text_body() {
        let parsed = read("Content-Type: text/html\n\n<p>Hello <i>you</i></p>");
        assert_eq!(parsed.text, None);
        assert_eq!(parsed.body().trim(), "Hello you");
    }

    #[test]
    fn what_does_not_parse_is_delivered_all_the_same() {
        assert_eq!(read("no header at all").body(), "no header at all");
        assert_eq!(read("").body(), "");
        let unclosed = read("Content-Type: multipart/mixed; boundary=b\n\n--b\n\ntext that does not end");
        assert_eq!(unclosed.body(), "text that does not end");
        let no_boundary = read("Content-Type: multipart/mixed\n\nkept");
        assert_eq!(no_boundary.attachments[0].bytes, b"kept");
        let odd_type = read("Content-Type: nonsense\n\ntext");
        assert_eq!(odd_type.body(), "text");
    }

    #[test]
    fn depth_and_number_of_parts_are_bounded_and_nothing_is_lost() {
        let deep: String = (0..1_000)
            .map(|n| format!("Content-Type: multipart/mixed; boundary=b{n}x\n\n--b{n}x\n"))
            .chain(["\ninnermost".to_owned()])
            .collect();
        let parsed = read(&deep);
        assert_eq!(parsed.attachments.len(), 1);
        assert!(parsed.attachments[0].bytes.ends_with(b"innermost"));

        let many = format!("Content-Type: multipart/mixed; boundary=b\n\n{}", "--b\n\npart".repeat(100_000));
        let many = many.replace("part--b", "part\n--b");
        let parsed = read(&many);
        assert_eq!(parsed.attachments.len() + 1, PARTS_MAX);
        assert!(parsed.attachments.last().is_some_and(|rest| rest.bytes.len() > 1_000_000));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(content in proptest::collection::vec(any::<u8>(), 0..500)) {
            let _ = Parsed::read(&content, &[String::new()]).body();
        }

        #[test]
        fn any_structure_is_read(
            lines in proptest::collection::vec(
                prop_oneof![
                    Just("Content-Type: multipart/mixed; boundary=b"), Just("--b"), Just("--b--"), Just(""),
                    Just("Content-Type: text/html"), Just("Content-Transfer-Encoding: base64"), Just("text"),
                    Just("Subject: =?utf-8?b?gg?="), Just("From: \"a <b>, c:;"), Just("=?"), Just(" folded"),
                ],
                0..40,
            )
        ) {
            let _ = Parsed::read(lines.join("\r\n").as_bytes(), &["subj".to_owned()]).body();
        }
    }
}
