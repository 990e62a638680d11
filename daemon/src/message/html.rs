//! HTML to text, for mails that bring no text of their own. Pure.

/// Columns at which text is wrapped: RFC 5322 section 2.1.1 recommends 78.
const COLUMNS: usize = 78;

/// Octets of HTML that are laid out properly; beyond, tags are merely taken out.
///
/// Layout holds some 30 times its input in memory and is not linear in every input; a page of
/// 512 KiB is more than a person reads.
const LAYOUT_BYTES_MAX: usize = 512 * 1024;

/// Depth of open tags that is laid out.
///
/// The time of the layout is quadratic in it: 2,000 levels take under 0.1 s, 80,000 take minutes.
/// Real mails nest tables in tables to some 60 levels.
const LAYOUT_DEPTH_MAX: usize = 2_000;

/// The text of an HTML page.
#[must_use]
pub fn to_text(html: &str) -> String {
    if html.len() <= LAYOUT_BYTES_MAX && depth_bound(html) <= LAYOUT_DEPTH_MAX {
        let layout = html2text::config::plain_no_decorate().allow_width_overflow();
        if let Ok(text) = layout.string_from_read(html.as_bytes(), COLUMNS) {
            return text;
        }
    }
    without_tags(html)
}

/// An upper bound of how deep elements nest: only the closing tag of the innermost open element
/// is taken to close anything.
fn depth_bound(html: &str) -> usize {
    let (mut open, mut deepest) = (Vec::new(), 0);
    for at in memchr::memchr_iter(b'<', html.as_bytes()) {
        let tag = &html.as_bytes()[at + 1..];
        if let Some(closing) = tag.strip_prefix(b"/") {
            let closes = open.last().is_some_and(|name: &&[u8]| name.eq_ignore_ascii_case(tag_name(closing)));
            open.truncate(open.len() - usize::from(closes));
        } else if tag.first().is_some_and(u8::is_ascii_alphabetic) && !is_void(tag_name(tag)) {
            open.push(tag_name(tag));
            deepest = deepest.max(open.len());
        }
    }
    deepest
}

fn tag_name(tag: &[u8]) -> &[u8] {
    &tag[..tag.iter().position(|c| !c.is_ascii_alphanumeric()).unwrap_or(tag.len())]
}

/// Elements that never have a closing tag: they do not nest.
fn is_void(name: &[u8]) -> bool {
    const VOID: [&[u8]; 9] = [b"br", b"img", b"hr", b"meta", b"link", b"input", b"col", b"wbr", b"base"];
    VOID.iter().any(|void| name.eq_ignore_ascii_case(void))
}

fn without_tags(html: &str) -> String {
    let mut text = String::with_capacity(html.len() / 2);
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        text.push_str(&rest[..start]);
        match rest[start..].find('>') {
            Some(end) => rest = &rest[start + end + 1..],
            None => {
                rest = "";
                break;
            }
        }
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_becomes_readable_text() {
        let text = to_text(
            "<html><head><style>p{}</style></head><body><p>Hello <b>you</b>,</p><ul><li>one</li></ul>&lt;3</body>",
        );
        assert!(text.contains("Hello you,"), "{text:?}");
        assert!(text.contains("* one"), "{text:?}");
        assert!(text.contains("<3"), "{text:?}");
        assert!(!text.contains("p{}"), "{text:?}");
    }

    #[test]
    fn hostile_pages_cost_little_and_lose_no_text() {
        let nested = format!("{}deep{}", "<div>".repeat(100_000), "</div>".repeat(100_000));
        assert!(to_text(&nested).contains("deep"));
        let unclosed = format!("{}deep", "<table><tr><td>".repeat(30_000));
        assert!(to_text(&unclosed).contains("deep"));
        let narrow = format!("{}deep", "<table><tr><td>a</td><td>".repeat(30));
        assert!(to_text(&narrow).contains("deep"));
        assert_eq!(to_text("a < b"), "a < b\n".to_owned(), "a tag that does not end");
        assert!(to_text(&"word ".repeat(200_000)).contains("word"));
    }

    #[test]
    fn closing_tags_that_close_nothing_do_not_hide_the_depth() {
        assert_eq!(depth_bound("<div></p><div></p>"), 2);
        assert_eq!(depth_bound("<div></DIV><div></div>"), 1);
        assert_eq!(depth_bound("<br><br><img src=x><p>"), 1);
    }
}
