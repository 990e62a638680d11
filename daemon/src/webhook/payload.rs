//! The JSON that a webhook gets for a mail. Pure.

use std::collections::BTreeMap;
use std::io;

use base64_simd::Out;
use serde::{Serialize, Serializer};

use crate::address::Address;
use crate::message::Mail;
use crate::message::parse::{Attachment, Parsed};

/// What the webhook gets for one mail. Fields without a value are absent, never `null`.
///
/// Fields may be added; none that is here changes its meaning. A receiver ignores what it does not
/// know.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Payload"))]
pub struct Payload<'m> {
    /// Names the mail: 26 characters that sort by the time of arrival, the same in every attempt.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[0-9a-hjkmnp-tv-z]{26}$")))]
    id: &'m str,
    /// The reverse-path (`MAIL FROM`): who is told when the mail cannot be delivered. Empty for the
    /// null one, which notifications have.
    sender: &'m str,
    /// Display name of the first mailbox of `From`, decoded, of up to 1,000 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "&str", length(min = 1, max = 1_000)))]
    sender_name: Option<&'m str>,
    /// The first of `recipients`.
    recipient: &'m str,
    /// The recipients (`RCPT TO`) of this destination as they were written, in their order, each
    /// once. Nobody else's: neither another destination's nor what the headers say.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 1_000)))]
    recipients: Vec<&'m str>,
    /// `Subject`, decoded and unfolded. Empty when absent.
    subject: &'m str,
    /// The first `text/plain` part that is not marked as an attachment; made from `html_body` when
    /// there is none. Line ends are as they were sent, which is mostly CRLF.
    body: &'m str,
    /// The first `text/html` part that is not marked as an attachment, as it was sent: not made safe
    /// to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "&str"))]
    html_body: Option<&'m str>,
    /// Headers whose names start with one of the prefixes that are set, decoded, under their names as
    /// written. Of several of one name, without regard to case, the last.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schemars(extend("minProperties" = 1)))]
    headers: BTreeMap<&'m str, &'m str>,
    /// All other parts, in the order of the mail, empty ones included. An attached mail
    /// (`message/rfc822`) is one of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 1_000)))]
    attachments: Vec<AttachmentPayload<'m>>,
    /// When the mail had been received: RFC 3339, in UTC, to the millisecond.
    #[cfg_attr(feature = "schema", schemars(extend("format" = "date-time")))]
    received_at: String,
    /// `Message-ID` without its angle brackets, of up to 1,000 characters. The sender makes it up: it
    /// need not be unique.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "&str", length(min = 1, max = 1_000)))]
    message_id: Option<&'m str>,
    /// Bytes of the mail as it was received, headers and encodings included.
    #[cfg_attr(feature = "schema", schemars(with = "u64"))]
    size_bytes: usize,
}

/// One attachment, its bytes included.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Attachment"))]
struct AttachmentPayload<'m> {
    /// File name, decoded, of up to 1,000 characters. The sender chose it: it may hold path
    /// separators and line ends, and is no name to write a file under.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "&str", length(min = 1, max = 1_000)))]
    filename: Option<&'m str>,
    /// Declared type and subtype in lower case, without parameters, of up to 1,000 characters;
    /// `text/plain` when none or a malformed one is declared.
    #[cfg_attr(feature = "schema", schemars(length(min = 3, max = 1_000)))]
    content_type: &'m str,
    /// Bytes of the attachment, decoded.
    #[cfg_attr(feature = "schema", schemars(with = "u64"))]
    size_bytes: usize,
    /// SHA-256 of the bytes of the attachment, decoded, in hexadecimal digits.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[0-9a-f]{64}$")))]
    sha256: &'m str,
    /// `Content-ID` without its angle brackets, of up to 1,000 characters: what `cid:` links of
    /// `html_body` name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "&str", length(min = 1, max = 1_000)))]
    content_id: Option<&'m str>,
    /// Where the bytes are: `inline` is in `data_base64`. Another value comes only with a setting
    /// that asks for it.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["inline"])))]
    delivery: &'static str,
    /// The bytes in base64 (RFC 4648 section 4), padded, without line breaks.
    #[serde(serialize_with = "as_bytes")]
    #[cfg_attr(feature = "schema", schemars(with = "&str", extend("contentEncoding" = "base64")))]
    data_base64: &'m [u8],
}

/// The JSON Schema of what [`Payload::write_json`] writes.
#[cfg(feature = "schema")]
#[must_use]
pub fn schema() -> schemars::Schema {
    schemars::generate::SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<Payload<'_>>()
}

fn as_bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

/// Bytes that become base64 at a time: a whole number of groups of three, and few enough for the stack.
const ENCODED_AT_ONCE: usize = 3 * 1024;

/// Compact JSON in which bytes are base64. As a string they would be looked through for what has to be escaped, which
/// takes several times as long as encoding them.
struct CompactWithBase64;

impl serde_json::ser::Formatter for CompactWithBase64 {
    fn write_byte_array<W>(&mut self, writer: &mut W, bytes: &[u8]) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        let mut text = [0; ENCODED_AT_ONCE / 3 * 4];
        writer.write_all(b"\"")?;
        for part in bytes.chunks(ENCODED_AT_ONCE) {
            writer.write_all(base64_simd::STANDARD.encode(part, Out::from_slice(&mut text)))?;
        }
        writer.write_all(b"\"")
    }
}

impl<'m> Payload<'m> {
    /// The payload of `mail` for a destination that takes it for `recipients`, with the headers
    /// whose lower-case name starts with one of `prefixes`.
    ///
    /// `body` is the plain text of `parsed`: making it can be costly, so it is made once for all
    /// destinations.
    #[must_use]
    pub fn new(
        mail: &'m Mail,
        parsed: &'m Parsed,
        body: &'m str,
        recipients: &'m [Address],
        prefixes: &[String],
    ) -> Self {
        // Of names that differ in case alone the last is kept, under its own spelling.
        let last: BTreeMap<String, (&str, &str)> = parsed
            .headers
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), (name.as_str(), value.as_str())))
            .filter(|(key, _)| prefixes.iter().any(|prefix| key.starts_with(prefix)))
            .collect();
        Self {
            id: mail.id.as_str(),
            sender: mail.reverse_path.as_str(),
            sender_name: parsed.sender_name.as_deref(),
            recipient: recipients.first().map_or("", Address::as_str),
            recipients: recipients.iter().map(Address::as_str).collect(),
            subject: &parsed.subject,
            body,
            html_body: parsed.html.as_deref(),
            headers: last.into_values().collect(),
            attachments: parsed.attachments.iter().map(AttachmentPayload::new).collect(),
            received_at: rfc3339(mail.received_at),
            message_id: parsed.message_id.as_deref(),
            size_bytes: parsed.size_bytes,
        }
    }

    /// How many octets [`Self::write_json`] writes, so that they need not be moved while they grow: at
    /// least as many, and little more.
    #[must_use]
    pub fn json_bytes_max(&self) -> usize {
        let texts = [self.id, self.sender, self.recipient, self.subject, self.body, &self.received_at];
        let optional = [self.sender_name, self.html_body, self.message_id];
        let headers = self.headers.iter().flat_map(|(name, value)| [*name, *value]);
        let all =
            texts.into_iter().chain(optional.into_iter().flatten()).chain(self.recipients.iter().copied());
        let attachments = self.attachments.iter().map(AttachmentPayload::json_bytes_max);
        FIELDS_BYTES_MAX + all.chain(headers).map(string_bytes).sum::<usize>() + attachments.sum::<usize>()
    }

    /// Writes the request's body.
    ///
    /// # Errors
    /// What the writer says: all keys are strings and all values can be written.
    pub fn write_json(&self, output: impl io::Write) -> serde_json::Result<()> {
        self.serialize(&mut serde_json::Serializer::with_formatter(output, CompactWithBase64))
    }
}

/// Octets of the names of all fields of one object, its punctuation and its numbers.
const FIELDS_BYTES_MAX: usize = 256;

/// Octets of a string in JSON, its quotes and the punctuation around it included.
fn string_bytes(text: &str) -> usize {
    const PUNCTUATION: usize = "\"\":".len();
    PUNCTUATION + text.len() + text.as_bytes().chunks(COUNTED_AT_ONCE).map(escape_bytes).sum::<usize>()
}

/// Bytes whose escapes are counted in one byte each, which takes a tenth of the time.
const COUNTED_AT_ONCE: usize = u8::MAX as usize;

/// Octets that escapes add to up to [`COUNTED_AT_ONCE`] bytes of a string.
fn escape_bytes(part: &[u8]) -> usize {
    let (mut short, mut long) = (0_u8, 0_u8);
    // No branches: the compiler makes it a loop over 16 bytes at a time.
    for c in part {
        let is_short = matches!(c, b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c);
        short += u8::from(is_short);
        long += u8::from(*c < 0x20) & u8::from(!is_short);
    }
    usize::from(short) * "\\".len() + usize::from(long) * "\\u000".len()
}

impl<'m> AttachmentPayload<'m> {
    fn new(attachment: &'m Attachment) -> Self {
        Self {
            filename: attachment.filename.as_deref(),
            content_type: &attachment.content_type,
            size_bytes: attachment.bytes.len(),
            sha256: attachment.sha256(),
            content_id: attachment.content_id.as_deref(),
            delivery: "inline",
            data_base64: &attachment.bytes,
        }
    }

    fn json_bytes_max(&self) -> usize {
        let texts =
            [self.filename, Some(self.content_type), Some(self.sha256), self.content_id, Some(self.delivery)];
        let base64 = self.data_base64.len().div_ceil(3) * 4;
        FIELDS_BYTES_MAX + texts.into_iter().flatten().map(string_bytes).sum::<usize>() + base64
    }
}

/// To the millisecond, in UTC.
fn rfc3339(time: std::time::SystemTime) -> String {
    let timestamp = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{timestamp:.3}")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::address::ReversePath;
    use crate::message::id::MailId;

    fn json(content: &str) -> serde_json::Value {
        let received_at = UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
        let mail = Mail {
            id: MailId::new(received_at, [7; 10]),
            received_at,
            reverse_path: ReversePath::Null,
            trace: None,
            content: content.replace('\n', "\r\n").into_bytes(),
        };
        let parsed = Parsed::read(&mail.content, &["x-".to_owned()]);
        let recipients = ["b@example.com", "a@example.com"].map(|text| Address::parse(text).unwrap());
        let body = parsed.body();
        let mut payload = Vec::new();
        let prefixes = ["x-".to_owned()];
        Payload::new(&mail, &parsed, &body, &recipients, &prefixes).write_json(&mut payload).unwrap();
        serde_json::from_slice(&payload).unwrap()
    }

    #[test]
    fn fields_without_a_value_are_absent() {
        let expected = serde_json::json!({
            "id": "01hf7yat3te1r70w3g70w3g70w",
            "sender": "",
            "recipient": "b@example.com",
            "recipients": ["b@example.com", "a@example.com"],
            "subject": "",
            "body": "text",
            "received_at": "2023-11-14T22:13:20.250Z",
            "size_bytes": 6,
        });
        let mut actual = json("\ntext");
        let id = actual["id"].take();
        assert_eq!(id.as_str().map(str::len), Some(26));
        actual["id"] = expected["id"].clone();
        assert_eq!(actual, expected);
    }

    #[test]
    fn the_length_of_a_string_is_known_beforehand() {
        let all: String = (0..0x800_u32).filter_map(char::from_u32).collect();
        for text in ["", "a", "\"", "\r\n", "\u{1}", &all, &"\u{1f}".repeat(1_000), &"\n\0".repeat(300)] {
            let written = serde_json::to_string(text).unwrap().len();
            assert_eq!(string_bytes(text), written + ":".len(), "{text:?}");
        }
    }

    #[test]
    fn bytes_are_encoded_whole_however_many_they_are() {
        use base64::Engine;
        for length in [0, 1, 2, 3, ENCODED_AT_ONCE - 1, ENCODED_AT_ONCE, ENCODED_AT_ONCE + 1, 10_000] {
            let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(length).collect();
            let mut written = Vec::new();
            let mut json = serde_json::Serializer::with_formatter(&mut written, CompactWithBase64);
            as_bytes(&bytes, &mut json).unwrap();
            let expected = base64::engine::general_purpose::STANDARD.encode(&bytes);
            assert_eq!(String::from_utf8(written).unwrap(), format!("\"{expected}\""));
        }
    }

    #[test]
    fn a_full_mail_has_all_fields() {
        let actual = json(
            "From: Ann <ann@example.com>\nSubject: S\nMessage-ID: <m@example.com>\nX-A: 1\nx-a: 2\n\
             Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/html\n\n<p>hi</p>\n--b\n\
             Content-Type: application/pdf; name=a.pdf\nContent-ID: <c>\nContent-Transfer-Encoding: base64\n\n\
             AAEC\n--b--\n",
        );
        assert_eq!(actual["sender_name"], "Ann");
        assert_eq!(actual["message_id"], "m@example.com");
        assert_eq!(actual["html_body"], "<p>hi</p>");
        assert_eq!(actual["body"].as_str().map(str::trim), Some("hi"));
        assert_eq!(actual["headers"], serde_json::json!({"x-a": "2"}));
        assert_eq!(
            actual["attachments"],
            serde_json::json!([{
                "filename": "a.pdf", "content_type": "application/pdf", "size_bytes": 3,
                "sha256": "ae4b3280e56e2faf83f414a6e3dabe9d5fbe18976544c05fed121accb85b53fc",
                "content_id": "c", "delivery": "inline", "data_base64": "AAEC",
            }])
        );
    }
}
