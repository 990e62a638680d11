//! Replies: a code, an enhanced code and text. Pure.

use std::borrow::Cow;

/// Octets of one reply line, CRLF included: RFC 5321 section 4.5.3.1.5.
const REPLY_LINE_BYTES_MAX: usize = 512;

/// One reply of the server (RFC 5321 section 4.2) with its enhanced status code (RFC 3463).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    enhanced: Option<&'static str>,
    /// All lines but the last: nearly every reply has only one.
    before: Vec<Cow<'static, str>>,
    last: Cow<'static, str>,
}

impl Reply {
    /// A reply of one line with an enhanced status code.
    pub fn new(code: u16, enhanced: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, enhanced: Some(enhanced), before: Vec::new(), last: text.into() }
    }

    /// A reply without an enhanced status code: RFC 2034 section 4 leaves it out of the greeting
    /// and of the replies to HELO and EHLO, and it has none for `3xx`.
    pub fn plain(code: u16, lines: Vec<Cow<'static, str>>) -> Self {
        let mut before = lines;
        let last = before.pop().unwrap_or_default();
        Self { code, enhanced: None, before, last }
    }

    /// The three digits.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.code
    }

    /// Whether it says that something was not done.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.code >= 400
    }

    /// Appends the reply as it goes over the wire.
    ///
    /// Whatever its text holds, it is one reply: control characters and what is not ASCII become
    /// `?`, and a line that is too long is cut.
    pub fn write_to(&self, output: &mut Vec<u8>) {
        self.before.iter().for_each(|line| self.write_line_to(output, line, b'-'));
        self.write_line_to(output, &self.last, b' ');
    }

    fn write_line_to(&self, output: &mut Vec<u8>, line: &str, separator: u8) {
        const LABEL_BYTES: usize = "250 5.1.1 \r\n".len();
        output.reserve(LABEL_BYTES + line.len().min(REPLY_LINE_BYTES_MAX));
        let start = output.len();
        output.extend([self.code / 100, self.code / 10 % 10, self.code % 10].map(|digit| b'0' + digit as u8));
        output.push(separator);
        if let Some(enhanced) = self.enhanced {
            output.extend_from_slice(enhanced.as_bytes());
            output.push(b' ');
        }
        if line.bytes().all(|c| matches!(c, b' '..=b'~')) {
            output.extend_from_slice(line.as_bytes());
        } else {
            output.extend(line.chars().map(|c| if matches!(c, ' '..='~') { c as u8 } else { b'?' }));
        }
        output.truncate(start + REPLY_LINE_BYTES_MAX - 2);
        output.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(reply: &Reply) -> String {
        let mut output = Vec::new();
        reply.write_to(&mut output);
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn lines_of_one_reply_are_joined_by_hyphens() {
        let reply = Reply::plain(250, vec!["mx.example.com".into(), "SIZE 10".into(), "8BITMIME".into()]);
        assert_eq!(wire(&reply), "250-mx.example.com\r\n250-SIZE 10\r\n250 8BITMIME\r\n");
    }

    #[test]
    fn text_can_not_make_a_second_reply() {
        let reply = Reply::new(550, "5.1.1", "no\r\n250 2.0.0 yes \u{fc}");
        assert_eq!(wire(&reply), "550 5.1.1 no??250 2.0.0 yes ?\r\n");
    }

    #[test]
    fn a_long_line_is_cut_to_what_the_rfc_allows() {
        let reply = Reply::new(550, "5.1.1", "x".repeat(2_000));
        assert_eq!(wire(&reply).len(), REPLY_LINE_BYTES_MAX);
    }
}
