//! Quoted strings: RFC 5322 section 3.2.4. Pure.

/// The content of the quoted string that `text` starts with, and what follows it; `None` in place of
/// that when the string does not end, and `None` for all when `text` starts with none.
#[must_use]
pub fn leading(text: &str) -> Option<(String, Option<&str>)> {
    let quoted = text.strip_prefix('"')?;
    let mut content = String::new();
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return Some((content, Some(chars.as_str()))),
            '\\' => content.extend(chars.next()),
            other => content.push(other),
        }
    }
    Some((content, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_and_what_follows() {
        let leading = |text| leading(text).map(|(content, rest)| (content, rest.map(str::to_owned)));
        let found = |content: &str, rest: Option<&str>| Some((content.to_owned(), rest.map(str::to_owned)));
        assert_eq!(leading(r#""a\"b;c" d"#), found("a\"b;c", Some(" d")));
        assert_eq!(leading(r#""""#), found("", Some("")));
        assert_eq!(leading(r#""a"#), found("a", None));
        assert_eq!(leading(r#""a\"#), found("a", None));
        assert_eq!(leading("a"), None);
    }
}
