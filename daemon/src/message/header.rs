//! Header sections, of a mail and of its parts, within bounds. Pure.

use std::borrow::Cow;

use mailparse::MailHeader;

use super::body::windows_1252;
use super::words;

/// Octets of one header that are decoded; of a longer one this much is kept as it is. No real
/// header but a list of recipients comes near.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// Octets of a header section that are looked at; what follows counts as header all the same.
///
/// Sixteen headers of the largest size; widely used servers stop at 100 to 256 KiB.
const SECTION_BYTES_MAX: usize = 256 * 1024;

/// One header.
#[derive(Debug)]
pub struct Header<'a>(MailHeader<'a>);

impl<'a> Header<'a> {
    /// Reads a header with its continuation lines; `None` for what is none.
    fn read(lines: &'a [u8]) -> Option<Self> {
        let (field, _) = mailparse::parse_header(lines).ok()?;
        // The parser takes a line without a colon for a name.
        starts_like_header(lines).then_some(Self(field))
    }

    /// Its name, as it was written.
    #[must_use]
    pub fn name(&self) -> String {
        self.0.get_key().trim_end().to_owned()
    }

    fn is_named(&self, name: &str) -> bool {
        self.0.get_key_raw().trim_ascii_end().eq_ignore_ascii_case(name.as_bytes())
    }

    fn raw(&self) -> &[u8] {
        self.0.get_value_raw().trim_ascii_start()
    }

    /// The value with its encoded words decoded. One that is too long stays as it is.
    #[must_use]
    pub fn decoded(&self) -> String {
        let unfolded = self.unfolded();
        if self.raw().len() > HEADER_BYTES_MAX {
            return unfolded.into_owned();
        }
        words::decoded(&unfolded)
    }

    /// The value without its line ends (RFC 5322 section 2.2.3), its encoded words as they are.
    ///
    /// UTF-8 (RFC 6532), else windows-1252, in which every byte is a character.
    #[must_use]
    pub fn unfolded(&self) -> Cow<'_, str> {
        let whole = self.raw();
        let value = &whole[..whole.len().min(HEADER_BYTES_MAX)];
        let cut = value.len() < whole.len();
        let text = match std::str::from_utf8(value) {
            Ok(text) => Cow::Borrowed(text),
            // A character that was cut off makes no other charset of the rest.
            Err(error) if cut && error.error_len().is_none() => String::from_utf8_lossy(value),
            Err(_) => windows_1252(value),
        };
        if !text.contains('\n') {
            return text;
        }
        text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).collect::<String>().into()
    }
}

/// The header section of a mail or of a part.
#[derive(Debug)]
pub struct Headers<'a>(Vec<Header<'a>>);

impl<'a> Headers<'a> {
    /// Splits `content` into its header section and its body.
    ///
    /// The section ends at the first empty line. What is no header is passed over, so that one
    /// broken line costs that line alone.
    #[must_use]
    pub fn split(content: &'a [u8]) -> (Self, &'a [u8]) {
        let (section, body) = split_section(content);
        let section = &section[..section.len().min(SECTION_BYTES_MAX)];
        (Self(folded_lines(section).filter_map(Header::read).collect()), body)
    }

    /// The decoded value of the first header of that name, without regard to case.
    #[must_use]
    pub fn decoded(&self, name: &str) -> Option<String> {
        self.first(name).map(Header::decoded)
    }

    /// The value of the first header of that name, for the readers of structured headers.
    #[must_use]
    pub fn unfolded(&self, name: &str) -> Option<Cow<'_, str>> {
        self.first(name).map(Header::unfolded)
    }

    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Header<'a>> {
        self.0.iter()
    }

    fn first(&self, name: &str) -> Option<&Header<'a>> {
        self.0.iter().find(|header| header.is_named(name))
    }
}

/// Splits at the first empty line, or where it is missing.
///
/// Lines that are no header and have none after them are text: their empty line was forgotten.
fn split_section(content: &[u8]) -> (&[u8], &[u8]) {
    let (mut start, mut text) = (0, None);
    while start < content.len() {
        let end = memchr::memchr(b'\n', &content[start..]).map_or(content.len(), |found| start + found + 1);
        let line = &content[start..end];
        if line == b"\r\n" || line == b"\n" {
            let (header_end, body) = text.map_or((start, end), |text| (text, text));
            return (&content[..header_end], &content[body..]);
        }
        if starts_like_header(line) || start == 0 && line.starts_with(b"From ") {
            text = None;
        } else if start == 0 || !line.starts_with(b" ") && !line.starts_with(b"\t") {
            text = text.or(Some(start));
        }
        if start == 0 && text.is_some() {
            return (&[], content);
        }
        start = end;
    }
    content.split_at(text.unwrap_or(content.len()))
}

/// Mail without any header section starts with its text.
fn starts_like_header(line: &[u8]) -> bool {
    memchr::memchr(b':', line).is_some_and(|colon| is_field_name(line[..colon].trim_ascii_end()))
}

/// RFC 5322 section 3.6.8; its section 4.5 lets spaces come before the colon.
fn is_field_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(u8::is_ascii_graphic)
}

/// The headers of a section, each with its continuation lines.
fn folded_lines(section: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = section;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = memchr::memchr_iter(b'\n', rest)
            .map(|newline| newline + 1)
            .find(|next| !matches!(rest.get(*next), Some(b' ' | b'\t')))
            .unwrap_or(rest.len());
        let (header, after) = rest.split_at(end);
        rest = after;
        Some(header)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_ends_at_the_first_empty_line() {
        for content in ["Subject: a\r\n b\r\nTo: c\r\n\r\nbody", "Subject: a\n b\nTo: c\n\nbody"] {
            let (headers, body) = Headers::split(content.as_bytes());
            assert_eq!(headers.decoded("subject").as_deref(), Some("a b"));
            assert_eq!(headers.decoded("TO").as_deref(), Some("c"));
            assert_eq!(body, b"body");
        }
    }

    #[test]
    fn a_broken_line_costs_itself_alone() {
        let (headers, body) = Headers::split(b"Subject: a\r\nthis is no header\r\nTo: c\r\n\r\nbody");
        assert_eq!(headers.decoded("To").as_deref(), Some("c"));
        assert_eq!(body, b"body");
    }

    #[test]
    fn text_without_an_empty_line_before_it_is_body() {
        let (headers, body) = Headers::split(b"Subject: a\r\n b\r\ntext\r\n more\r\n\r\nbody");
        assert_eq!(headers.decoded("Subject").as_deref(), Some("a b"));
        assert_eq!(body, b"text\r\n more\r\n\r\nbody");
        assert_eq!(Headers::split(b"Subject: a\ntext").1, b"text");
        let (headers, body) = Headers::split(b"From ann@example.org Mon\nSubject: a\nFrom here: b\n\n");
        assert_eq!(headers.iter().count(), 1, "the line that starts a mail in a file");
        assert_eq!(body, b"From here: b\n\n");
    }

    #[test]
    fn content_without_headers_is_all_body() {
        let (headers, body) = Headers::split(b"just text\r\n\r\nmore");
        assert_eq!(headers.iter().count(), 0);
        assert_eq!(body, b"just text\r\n\r\nmore");
        assert_eq!(Headers::split(b"\r\nbody").1, b"body");
        assert_eq!(Headers::split(b"Subject: no body").1, b"");
    }

    #[test]
    fn values_are_decoded_within_bounds() {
        let (headers, _) = Headers::split(b"Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?= =?x-none?q?a?=\r\n\r\n");
        assert_eq!(headers.decoded("Subject").as_deref(), Some("gr\u{fc}\u{df}e =?x-none?q?a?="));

        let bomb = format!("Subject: {}\r\nTo: c\r\n\r\n", "=? ".repeat(60_000));
        let (headers, _) = Headers::split(bomb.as_bytes());
        assert_eq!(headers.decoded("Subject").map(|text| text.len()), Some(HEADER_BYTES_MAX));
        assert_eq!(headers.decoded("To").as_deref(), Some("c"));
    }

    #[test]
    fn names_may_have_spaces_before_the_colon_and_values_tabs_after_it() {
        let (headers, _) = Headers::split(b"Subject \t:\ta\r\n\tb\r\nX\r\nTo:\r\n c\r\n\r\n");
        assert_eq!(headers.decoded("Subject").as_deref(), Some("a\tb"));
        assert_eq!(headers.decoded("To").as_deref(), Some("c"));
        assert_eq!(headers.iter().count(), 2);
    }

    #[test]
    fn bytes_outside_of_ascii_are_utf8_or_else_windows_1252() {
        let (headers, _) =
            Headers::split(b"A: 5\xe2\x82\xac gr\xc3\xbc\xc3\x9fe\r\nB: 5\x80 gr\xfc\xdfe\r\n\r\n");
        assert_eq!(headers.decoded("A"), headers.decoded("B"));
        assert_eq!(headers.decoded("A").as_deref(), Some("5\u{20ac} gr\u{fc}\u{df}e"));
    }
}
