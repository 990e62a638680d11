//! Encoded words in headers to text: RFC 2047, and section 5 of RFC 2231. Pure.
//!
//! Lenient: words need no space around them, may hold spaces, and may stand where RFC 2047
//! section 5 does not allow them. A word of an unknown charset or encoding stays as it is. The time
//! is linear in the text.

use charset::Charset;

use super::{body, quoted};

/// Octets of a charset's name and language: the longest registered name has 45.
const CHARSET_BYTES_MAX: usize = 100;

/// The escape sequence to ASCII: RFC 1468.
const TO_ASCII: &[u8] = b"\x1b(B";

/// A header's text with its encoded words decoded.
///
/// White space between two words is none of the text (RFC 2047 section 6.2). Neighbours of one
/// charset are decoded as one, because senders split characters between them, against section 5.
#[must_use]
pub fn decoded(text: &str) -> String {
    let mut output = Output { text: String::with_capacity(text.len()), charset: "", bytes: Vec::new() };
    let mut rest = text;
    while let Some(start) = rest.find("=?") {
        let (before, candidate) = rest.split_at(start);
        let word = Word::read(candidate);
        if let Some((word, bytes)) = word.as_ref().and_then(|word| Some((word, word.bytes()?))) {
            output.push_word(before, word.charset, &bytes);
        } else {
            output.push_text(before);
            output.push_text(word.as_ref().map_or("=?", |word| word.whole));
        }
        rest = &candidate[word.map_or(2, |word| word.whole.len())..];
    }
    output.push_text(rest);
    output.text
}

/// The encoded word that `text` starts with, decodable or not.
#[must_use]
pub fn leading_word(text: &str) -> Option<&str> {
    Word::read(text).map(|word| word.whole)
}

struct Word<'a> {
    whole: &'a str,
    charset: &'a str,
    encoding: &'a str,
    encoded: &'a str,
}

impl<'a> Word<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let after = text.strip_prefix("=?")?;
        let charset_end = memchr::memchr(b'?', &after.as_bytes()[..after.len().min(CHARSET_BYTES_MAX)])?;
        let charset = &after[..charset_end];
        let (encoding, after) = after[charset_end + 1..].split_at_checked(1)?;
        let after = after.strip_prefix('?')?;
        if charset.is_empty() || !charset.bytes().all(|c| c.is_ascii_graphic()) {
            return None;
        }
        let end = end_of_encoded(after.as_bytes())?;
        let whole = &text[..text.len() - after.len() + end + 2];
        // RFC 2231 section 5: a language may follow the charset.
        let charset = charset.split_once('*').map_or(charset, |(charset, _)| charset);
        Some(Self { whole, charset, encoding, encoded: &after[..end] })
    }

    /// `None` when its charset or its encoding is unknown.
    fn bytes(&self) -> Option<Vec<u8>> {
        Charset::for_label_no_replacement(self.charset.as_bytes())?;
        match self.encoding {
            "B" | "b" => Some(body::base64_decoded(self.encoded.as_bytes())),
            "Q" | "q" => {
                let mut bytes = Vec::with_capacity(self.encoded.len());
                quoted::unescape_into(&mut bytes, self.encoded.replace('_', " ").as_bytes());
                Some(bytes)
            }
            _ => None,
        }
    }
}

/// Where the `?=` of a word is, if no other word starts before it.
fn end_of_encoded(text: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'?', text)
        .map(|at| (at, text.get(at + 1) == Some(&b'='), at > 0 && text[at - 1] == b'='))
        .find(|(_, ends, starts)| *ends || *starts)
        .and_then(|(at, ends, _)| ends.then_some(at))
}

/// Charsets of which each word starts anew, with a byte order mark or in ASCII.
fn starts_anew(charset: &str) -> bool {
    ["utf-7", "utf-16"].iter().any(|stateful| charset.eq_ignore_ascii_case(stateful))
}

/// What has been decoded, and the bytes of words of one charset that are still to be.
struct Output<'a> {
    text: String,
    charset: &'a str,
    bytes: Vec<u8>,
}

impl<'a> Output<'a> {
    fn push_text(&mut self, text: &str) {
        self.flush();
        self.text.push_str(text);
    }

    fn push_word(&mut self, before: &str, charset: &'a str, bytes: &[u8]) {
        let follows_word = !self.charset.is_empty() && before.trim_ascii().is_empty();
        if !follows_word {
            self.push_text(before);
        } else if !self.charset.eq_ignore_ascii_case(charset) || starts_anew(charset) {
            self.flush();
        }
        // ISO-2022-JP: back to ASCII and at once out of it again would count as an error.
        if self.bytes.ends_with(TO_ASCII) && bytes.starts_with(b"\x1b") {
            self.bytes.truncate(self.bytes.len() - TO_ASCII.len());
        }
        self.charset = charset;
        self.bytes.extend_from_slice(bytes);
    }

    fn flush(&mut self) {
        if !self.charset.is_empty() {
            self.text.push_str(&body::text(&self.bytes, Some(self.charset)));
            self.charset = "";
            self.bytes.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_decoded_and_text_stays() {
        for (text, expected) in [
            ("plain text", "plain text"),
            ("=?utf-8?q?gr=C3=BC=C3=9Fe?=", "gr\u{fc}\u{df}e"),
            ("Re: =?ISO-8859-1?B?Z3L832U=?= you", "Re: gr\u{fc}\u{df}e you"),
            ("=?utf-8?q?a?= \t =?utf-8?q?b?= c", "ab c"),
            ("=?utf-8?q?a?==?iso-8859-1?q?b?=", "ab"),
            ("=?utf-8?q?a_b?=", "a b"),
            ("=?utf-8*de?q?a?=", "a"),
            ("=?utf-8?q?a?= =?x-none?q?b?= =?utf-8?q?c?=", "a =?x-none?q?b?= c"),
            ("=?utf-8?x?a?=", "=?utf-8?x?a?="),
            ("=?utf-8?q?open", "=?utf-8?q?open"),
            ("=?utf-8?q?open =?utf-8?q?a?=", "=?utf-8?q?open a"),
            ("=?iso-2022-jp?b?GyRCRnxLXBsoQg==?= =?iso-2022-jp?b?GyRCOGwbKEI=?=", "\u{65e5}\u{672c}\u{8a9e}"),
            ("=?utf-16?b?/v8AYQ==?= =?utf-16?b?/v8AYg==?=", "ab"),
            ("a =? b ?= c", "a =? b ?= c"),
            ("=?utf-8?q??=", ""),
        ] {
            assert_eq!(decoded(text), expected, "{text}");
        }
    }

    #[test]
    fn a_character_split_over_two_words_comes_out_whole() {
        assert_eq!(decoded("=?utf-8?b?4oI=?= =?UTF-8?b?rA==?="), "\u{20ac}");
        assert_eq!(decoded("=?utf-8?q?=E2=82?= =?utf-8?b?rA==?="), "\u{20ac}");
    }

    #[test]
    fn the_time_is_linear() {
        for piece in ["=?", "=?utf-8?q?", "=?utf-8?q?a?= ", "=?x-none?q?a?="] {
            let text = piece.repeat(1_000_000 / piece.len());
            assert!(decoded(&text).len() <= text.len());
            assert!(decoded(&format!("{text}?=")).len() <= text.len() + 2);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_decoded(text in "(=\\?|\\?=|utf-8|utf-16|\\?q\\?|\\?b\\?|=E2|\\*| |\\PC){0,40}") {
            let _ = decoded(&text);
        }
    }
}
