//! Header values with parameters: RFC 2045 section 5.1, continued and encoded as RFC 2231 says.
//! Pure.

use super::{body, quoted, quoted_string, words};

/// A value such as `text/plain; charset=utf-8`.
#[derive(Debug)]
pub struct Parameters<'a> {
    /// What stands before the parameters, without comments.
    pub value: &'a str,
    /// Names in lower case, values as they were written.
    list: Vec<(String, &'a str)>,
}

impl<'a> Parameters<'a> {
    /// Reads an unfolded header value. Never fails: what is no parameter is passed over.
    #[must_use]
    pub fn read(header: &'a str) -> Self {
        let header = header.trim();
        let value_end =
            header.find(|c: char| matches!(c, ';' | '(') || c.is_whitespace()).unwrap_or(header.len());
        let (value, mut rest) = header.split_at(value_end);
        let mut list = Vec::new();
        while let Some(found) = rest.find(['=', ';']) {
            let (name, after) = (&rest[..found], &rest[found + 1..]);
            if rest.as_bytes()[found] == b';' {
                rest = after;
                continue;
            }
            let after = after.trim_start();
            let quoted = quoted_length(after);
            let length = after[quoted..].find(';').map_or(after.len(), |end| quoted + end);
            // After a comment, or where a semicolon is missing, the name is the last word.
            if let Some(name) = name.split_whitespace().next_back() {
                list.push((name.to_ascii_lowercase(), after[..length].trim_end()));
            }
            rest = &after[length..];
        }
        Self { value, list }
    }

    /// A parameter that is a token, such as a charset: without comments.
    #[must_use]
    pub fn token(&self, name: &str) -> Option<String> {
        let text = |raw: &str| {
            let raw = if raw.starts_with('"') { raw } else { raw.split(" (").next().unwrap_or(raw) };
            unquoted(raw).trim_end().to_owned()
        };
        self.plain(name).map(text).or_else(|| self.extended(name))
    }

    /// A parameter that is text, such as a file name. Of a plain and an encoded one, the encoded.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        self.extended(name).or_else(|| self.plain(name).map(|raw| words::decoded(&unquoted(raw))))
    }

    fn plain(&self, name: &str) -> Option<&'a str> {
        self.list.iter().find(|(key, _)| key == name).map(|(_, raw)| *raw)
    }

    /// `name*`, or `name*0`, `name*1` and so on, each with another `*` where it is encoded.
    fn extended(&self, name: &str) -> Option<String> {
        let segment = |(key, raw): &(String, &'a str)| {
            let suffix = key.strip_prefix(name)?.strip_prefix('*')?;
            let number = suffix.strip_suffix('*').unwrap_or(suffix);
            let index: u32 = if suffix.is_empty() { 0 } else { number.parse().ok()? };
            Some((index, suffix.is_empty() || suffix.ends_with('*'), unquoted(raw)))
        };
        let mut segments: Vec<_> = self.list.iter().filter_map(segment).collect();
        segments.sort_by_key(|(index, ..)| *index);
        segments.dedup_by_key(|(index, ..)| *index);
        (!segments.is_empty()).then(|| joined(&segments))
    }
}

/// RFC 2231 sections 3 and 4.1. A character may be split between two encoded segments.
fn joined(segments: &[(u32, bool, String)]) -> String {
    if segments.iter().all(|(_, encoded, _)| !encoded) {
        return words::decoded(&segments.iter().map(|(.., text)| text.as_str()).collect::<String>());
    }
    let (mut charset, mut text, mut bytes) = ("", String::new(), Vec::new());
    for (index, (_, encoded, segment)) in segments.iter().enumerate() {
        if !encoded {
            text.push_str(&body::text(&bytes, Some(charset)));
            bytes.clear();
            text.push_str(segment);
            continue;
        }
        let mut rest = segment.as_str();
        if let (0, Some((name, (_, value)))) =
            (index, segment.split_once('\'').and_then(|(name, rest)| Some((name, rest.split_once('\'')?))))
        {
            (charset, rest) = (name, value);
        }
        quoted::hex_unescape_into(&mut bytes, rest.as_bytes(), b'%');
    }
    text.push_str(&body::text(&bytes, Some(charset)));
    text
}

/// Octets of the quoted string that `text` starts with, or 0.
fn quoted_length(text: &str) -> usize {
    quoted_string::leading(text).map_or(0, |(_, rest)| text.len() - rest.map_or(0, str::len))
}

/// The content of a quoted string, or what is none as it is.
fn unquoted(raw: &str) -> String {
    quoted_string::leading(raw).map_or_else(|| raw.to_owned(), |(content, _)| content)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_and_tokens() {
        for header in [
            "text/plain; charset=us-ascii; format=flowed",
            "text/plain; charset=us-ascii (Plain text)",
            "text/plain (a comment); CHARSET=\"us-ascii\"",
            "text/plain;; x; charset = \"us-asc\\ii\" ;",
            "text/plain charset=us-ascii",
        ] {
            let parameters = Parameters::read(header);
            assert_eq!(parameters.value, "text/plain", "{header}");
            assert_eq!(parameters.token("charset").as_deref(), Some("us-ascii"), "{header}");
        }
        assert_eq!(Parameters::read("").value, "");
        assert_eq!(
            Parameters::read("a/b; boundary=\"a;b (c) \"").token("boundary").as_deref(),
            Some("a;b (c)")
        );
    }

    #[test]
    fn file_names() {
        for (header, expected) in [
            ("a; name=a (1).txt; x=y", "a (1).txt"),
            ("a; name=\"a\\\"b;c.txt\"; x=y", "a\"b;c.txt"),
            ("a; name=\"a.txt", "a.txt"),
            ("a; name*=utf-8'en'a%20%C3%BC.txt", "a \u{fc}.txt"),
            ("a; name*=iso-8859-1''%FC; name=u", "\u{fc}"),
            ("a; name*=''a%20b", "a b"),
            ("a; name*=no quotes", "no quotes"),
            ("a; name*0=\"one \"; name*1=two", "one two"),
            ("a; name*1=two; name*0=\"one \"", "one two"),
            ("a; name*0*=utf-8''%E2%82; name*1*=%AC; name*2=\"%41.txt\"", "\u{20ac}%41.txt"),
            ("a; name=\"=?utf-8?q?=C3=BC=22=3B.txt?=\"", "\u{fc}\";.txt"),
            ("a; name*0=\"=?utf-8?b?w7\"; name*1=\"w=?=\"", "\u{fc}"),
        ] {
            assert_eq!(Parameters::read(header).text("name").as_deref(), Some(expected), "{header}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(a/b|;|=|\"|\\\\|name|\\*|0|1|'|%|%C3|utf-8''| |\\PC){0,40}") {
            let parameters = Parameters::read(&text);
            let _ = (parameters.text("name"), parameters.token("name"));
        }
    }
}
