//! The mails that are sent.

use std::sync::Arc;

use anyhow::Context;

const LINE_BYTES: usize = 76;

/// What stands in a mail's Message-ID for its number.
const NUMBER: &str = "0000000000";

const HEADER: &str = "From: Ann Example <ann@example.org>\r\n\
    To: support@example.com\r\n\
    Subject: The printer on floor 3 is on fire\r\n\
    Date: Fri, 20 Nov 2026 10:00:00 +0000\r\n\
    Message-ID: <20261120100000.0000000000@example.org>\r\n\
    MIME-Version: 1.0\r\n";

/// Plain text of `bytes` octets, header included, as it follows DATA.
pub(crate) fn text(bytes: usize) -> Arc<[u8]> {
    let mut mail = format!("{HEADER}Content-Type: text/plain; charset=utf-8\r\n\r\n").into_bytes();
    lines(&mut mail, bytes, b'x');
    mail.extend_from_slice(b".\r\n");
    mail.into()
}

/// A text and an attachment of `bytes` octets in base64, as it follows DATA.
pub(crate) fn with_attachment(bytes: usize) -> Arc<[u8]> {
    let mut mail = format!(
        "{HEADER}Content-Type: multipart/mixed; boundary=\"part\"\r\n\r\n\
         --part\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nPlease send water.\r\n\
         --part\r\nContent-Type: application/octet-stream; name=\"smoke.bin\"\r\n\
         Content-Disposition: attachment; filename=\"smoke.bin\"\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    )
    .into_bytes();
    // Four characters of base64 are three octets; their line ends come on top.
    let characters = bytes.div_ceil(3) * 4;
    let until = mail.len() + characters + characters.div_ceil(LINE_BYTES) * 2;
    lines(&mut mail, until, b'Q');
    mail.extend_from_slice(b"--part--\r\n.\r\n");
    mail.into()
}

/// A mail with a number, so that no two that are sent are the same: in `confirm` the same mail from
/// the same sender is delivered once.
pub(crate) struct Numbered {
    content: Vec<u8>,
    at: usize,
}

impl Numbered {
    /// Numbers `content`, which is one of this module's.
    pub(crate) fn new(content: &[u8]) -> anyhow::Result<Self> {
        let at = memchr::memmem::find(content, NUMBER.as_bytes()).context("a mail without a number")?;
        Ok(Self { content: content.to_vec(), at })
    }

    /// The mail with this number.
    pub(crate) fn with(&mut self, number: u64) -> &[u8] {
        let mut rest = number;
        for digit in self.content[self.at..][..NUMBER.len()].iter_mut().rev() {
            // A remainder by ten is a digit.
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        &self.content
    }
}

/// Fills up to `until` with lines.
fn lines(mail: &mut Vec<u8>, until: usize, character: u8) {
    while mail.len() + 2 < until {
        let length = LINE_BYTES.min(until - mail.len() - 2);
        mail.resize(mail.len() + length, character);
        mail.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbered_mails_differ_by_their_number_alone() {
        let content = text(1024);
        let mut mail = Numbered::new(&content).unwrap();
        assert_eq!(mail.with(0), &content[..]);
        let text = String::from_utf8(mail.with(1_234_567_890).to_vec()).unwrap();
        assert!(text.contains("Message-ID: <20261120100000.1234567890@example.org>\r\n"), "{text}");
        assert_eq!(text.len(), content.len());
        assert!(Numbered::new(b"none").is_err());
    }

    #[test]
    fn mails_have_the_size_that_they_should() {
        for bytes in [300, 1024] {
            assert_eq!(text(bytes).len(), bytes + b".\r\n".len());
        }
        let mail = String::from_utf8(with_attachment(1 << 20).to_vec()).unwrap();
        let encoded = mail.split("base64\r\n\r\n").nth(1).unwrap().split("--part").next().unwrap();
        let characters = encoded.bytes().filter(|byte| *byte == b'Q').count();
        assert_eq!(characters / 4 * 3, (1usize << 20).div_ceil(3) * 3);
        assert!(encoded.lines().all(|line| line.len() % 4 == 0 && line.len() <= LINE_BYTES));
    }
}
