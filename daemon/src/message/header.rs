//! Header sections, of a mail and of its parts, within bounds. Pure.

use std::cell::Cell;

use mailparse::MailHeader;

/// Octets of one header that are decoded; of a longer one this much is kept as it is. No real
/// header but a list of recipients comes near.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// What decoding all headers of a mail may cost, in octets times encoded words of each header.
///
/// The decoder looks through the rest of a header for each `=?` in it; this much takes it some
/// 60 ms. The largest header that is decoded, full of encoded words, costs a tenth of it.
const DECODING_COST_MAX: usize = 40_000_000;

/// What is left of the time for decoding the headers of one mail, in all of its parts.
#[derive(Debug)]
pub struct DecodingBudget(Cell<usize>);

impl Default for DecodingBudget {
    fn default() -> Self {
        Self(Cell::new(DECODING_COST_MAX))
    }
}

impl DecodingBudget {
    /// Takes the cost of decoding `raw`; `false`, and nothing taken, when it is too high.
    fn allows(&self, raw: &[u8]) -> bool {
        let cost = encoded_words(raw).saturating_mul(raw.len());
        let left = self.0.get().checked_sub(cost).filter(|_| raw.len() <= HEADER_BYTES_MAX);
        self.0.set(left.unwrap_or(self.0.get()));
        left.is_some()
    }
}

/// What could be the start of an encoded word: RFC 2047.
#[must_use]
pub fn encoded_words(raw: &[u8]) -> usize {
    memchr::memmem::find_iter(raw, b"=?").count()
}

/// Octets of a header section that are looked at; what follows counts as header all the same.
///
/// Sixteen headers of the largest size; widely used servers stop at 100 to 256 KiB.
const SECTION_BYTES_MAX: usize = 256 * 1024;

/// The header section of a mail or of a part.
#[derive(Debug)]
pub struct Headers<'a> {
    headers: Vec<MailHeader<'a>>,
    budget: &'a DecodingBudget,
}

impl<'a> Headers<'a> {
    /// Splits `content` into its header section and its body.
    ///
    /// The section ends at the first empty line. What is no header is passed over, so that one
    /// broken line costs that line alone.
    #[must_use]
    pub fn split(content: &'a [u8], budget: &'a DecodingBudget) -> (Self, &'a [u8]) {
        let (section, body) = split_section(content);
        let section = &section[..section.len().min(SECTION_BYTES_MAX)];
        let headers = unfolded(section).filter_map(|header| {
            let (header, _) = mailparse::parse_header(header).ok()?;
            is_field_name(header.get_key_raw()).then_some(header)
        });
        (Self { headers: headers.collect(), budget }, body)
    }

    /// The decoded value of the first header of that name, without regard to case.
    #[must_use]
    pub fn first(&self, name: &str) -> Option<String> {
        self.first_header(name).map(|header| self.value(header))
    }

    /// The first header of that name, for the parsers of structured headers, which decode it;
    /// `None` also for one that is too costly.
    #[must_use]
    pub fn first_parsable(&self, name: &str) -> Option<&MailHeader<'a>> {
        self.first_header(name).filter(|header| self.budget.allows(header.get_value_raw()))
    }

    /// All names with their decoded values, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (String, &MailHeader<'a>)> {
        self.headers.iter().map(|header| (header.get_key(), header))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty()
    }

    fn first_header(&self, name: &str) -> Option<&MailHeader<'a>> {
        self.headers.iter().find(|header| header.get_key_raw().eq_ignore_ascii_case(name.as_bytes()))
    }

    /// The decoded value of a header: RFC 2047, unfolded, valid UTF-8 whatever it declares. One that
    /// is too costly stays as it is.
    #[must_use]
    pub fn value(&self, header: &MailHeader<'_>) -> String {
        let raw = header.get_value_raw();
        if self.budget.allows(raw) {
            header.get_value()
        } else {
            String::from_utf8_lossy(&raw[..raw.len().min(HEADER_BYTES_MAX)]).into_owned()
        }
    }
}

/// Splits at the first empty line; without one, everything is header when it starts like one.
fn split_section(content: &[u8]) -> (&[u8], &[u8]) {
    let mut start = 0;
    while start < content.len() {
        let end = memchr::memchr(b'\n', &content[start..]).map_or(content.len(), |found| start + found + 1);
        let line = &content[start..end];
        if line == b"\r\n" || line == b"\n" {
            return (&content[..start], &content[end..]);
        }
        if start == 0 && !starts_like_header(line) {
            return (&[], content);
        }
        start = end;
    }
    (content, &[])
}

/// Mail without any header section starts with its text.
fn starts_like_header(line: &[u8]) -> bool {
    line.starts_with(b"From ")
        || memchr::memchr(b':', line).is_some_and(|colon| is_field_name(&line[..colon]))
}

/// RFC 5322 section 3.6.8, and the spaces before the colon that its section 4.5 lets in.
fn is_field_name(name: &[u8]) -> bool {
    let name = name.trim_ascii_end();
    !name.is_empty() && name.iter().all(u8::is_ascii_graphic)
}

/// The headers of a section, each with its continuation lines.
fn unfolded(section: &[u8]) -> impl Iterator<Item = &[u8]> {
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

    /// Splits with a budget that lives as long as the test.
    fn split(content: &[u8]) -> (Headers<'_>, &[u8]) {
        Headers::split(content, Box::leak(Box::default()))
    }

    #[test]
    fn a_section_ends_at_the_first_empty_line() {
        for content in ["Subject: a\r\n b\r\nTo: c\r\n\r\nbody", "Subject: a\n b\nTo: c\n\nbody"] {
            let (headers, body) = split(content.as_bytes());
            assert_eq!(headers.first("subject").as_deref(), Some("a b"));
            assert_eq!(headers.first("TO").as_deref(), Some("c"));
            assert_eq!(body, b"body");
        }
    }

    #[test]
    fn a_broken_line_costs_itself_alone() {
        let (headers, body) = split(b"Subject: a\r\nthis is no header\r\nTo: c\r\n\r\nbody");
        assert_eq!(headers.first("To").as_deref(), Some("c"));
        assert_eq!(body, b"body");
    }

    #[test]
    fn content_without_headers_is_all_body() {
        let (headers, body) = split(b"just text\r\n\r\nmore");
        assert!(headers.is_empty());
        assert_eq!(body, b"just text\r\n\r\nmore");
        assert_eq!(split(b"\r\nbody").1, b"body");
        assert_eq!(split(b"Subject: no body").1, b"");
    }

    #[test]
    fn values_are_decoded_within_bounds() {
        let (headers, _) = split(b"Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?= =?x-none?q?a?=\r\n\r\n");
        assert_eq!(headers.first("Subject").as_deref(), Some("gr\u{fc}\u{df}e =?x-none?q?a?="));

        let bomb = format!("Subject: {}\r\nTo: c\r\n\r\n", "=? ".repeat(60_000));
        let (headers, _) = split(bomb.as_bytes());
        assert_eq!(headers.first("Subject").map(|text| text.len()), Some(HEADER_BYTES_MAX));
        assert!(headers.first_parsable("Subject").is_none());
        assert_eq!(headers.first("To").as_deref(), Some("c"));
    }

    #[test]
    fn decoding_all_headers_of_a_mail_has_a_bound() {
        let words = format!("=?utf-8?q?{}?= ", "a".repeat(60)).repeat(200);
        let mail = format!("Subject: {words}\r\n\r\n");
        let (headers, _) = split(mail.as_bytes());
        let decoded =
            (0..100).filter(|_| headers.first("Subject").is_some_and(|text| text.starts_with("aaa")));
        let decoded = decoded.count();
        assert!((5..50).contains(&decoded), "{decoded} times");
    }
}
