//! Display names in address headers: RFC 5322 section 3.4. Pure.

use super::{quoted_string, words};

/// The display name of the first mailbox of an unfolded header, or the name of the first group.
///
/// Comments are left out. Lenient: a quote or a comment that does not end is none, a name may
/// hold commas and dots, and encoded words may stand in quotes.
#[must_use]
pub fn display_name(header: &str) -> Option<String> {
    let mut name = String::new();
    let mut rest = header;
    let (mut quotes_end, mut comments_end) = (true, true);
    while let Some(c) = rest.chars().next() {
        if let Some(word) = words::leading_word(rest) {
            name.push_str(word);
            rest = &rest[word.len()..];
            continue;
        }
        let from_here = rest;
        rest = &rest[c.len_utf8()..];
        match c {
            '"' if quotes_end => match quoted_string::leading(from_here) {
                Some((content, Some(after))) => {
                    name.push_str(&content);
                    rest = after;
                }
                _ => quotes_end = false,
            },
            '(' if comments_end => match after_comment(rest) {
                // It separates words, as a space does.
                Some(after) => {
                    name.push_str(if name.ends_with(' ') { "" } else { " " });
                    rest = after.trim_start();
                }
                None => comments_end = false,
            },
            '"' | '(' => {}
            '<' | ':' => break,
            // An address without a name ends here; before it, RFC 5322 section 4.4 lets commas in.
            ',' | ';' if name.contains('@') => return None,
            ',' | ';' if name.trim().is_empty() => {}
            other => name.push(other),
        }
    }
    let ended = header.len() > rest.len() && header[..header.len() - rest.len()].ends_with(['<', ':']);
    Some(words::decoded(name.trim()).trim().to_owned()).filter(|name| ended && !name.is_empty())
}

/// What follows a comment, which may hold others.
fn after_comment(text: &str) -> Option<&str> {
    let mut depth = 1_usize;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            '\\' => {
                let _ = chars.next();
            }
            _ => {}
        }
        if depth == 0 {
            return Some(chars.as_str());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_mailboxes_and_groups() {
        for (header, expected) in [
            ("Ann <ann@example.com>", Some("Ann")),
            ("ann@example.com", None),
            ("<ann@example.com>", None),
            ("ann@example.com, Bob <bob@example.com>", None),
            ("\"Doe, Ann \\\"A\\\"\" <ann@example.com>", Some("Doe, Ann \"A\"")),
            ("Doe, Ann <ann@example.com>", Some("Doe, Ann")),
            ("Ann (in \\) the (far) south) B. Doe <ann@example.com>", Some("Ann B. Doe")),
            ("(a comment) ann@example.com", None),
            ("=?utf-8?q?J=C3=BCrgen?= =?utf-8?q?_B,_C?= <j@example.com>", Some("J\u{fc}rgen B, C")),
            ("\"=?utf-8?q?J=C3=BCrgen?=\" <j@example.com>", Some("J\u{fc}rgen")),
            ("Team: Ann <ann@example.com>;", Some("Team")),
            (", Ann <ann@example.com>", Some("Ann")),
            ("\"Ann <ann@example.com>", Some("Ann")),
            ("Ann (open <ann@example.com>", Some("Ann open")),
            ("Ann", None),
            ("", None),
        ] {
            assert_eq!(display_name(header).as_deref(), expected, "{header}");
        }
    }

    #[test]
    fn what_does_not_end_is_looked_for_once() {
        for piece in ["\\\"", "(", "\"(", "=?utf-8?q?"] {
            assert_eq!(display_name(&piece.repeat(500_000)), None);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(<|>|:|;|,|@|\"|\\\\|\\(|\\)|=\\?utf-8\\?q\\?|\\?=|a| |\\PC){0,40}") {
            let _ = display_name(&text);
        }
    }
}
