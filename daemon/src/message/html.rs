//! HTML to text, for mails that bring no text of their own. Pure.

/// Columns at which text is wrapped: RFC 5322 section 2.1.1 recommends 78.
const COLUMNS: usize = 78;

/// Octets of HTML that are laid out properly; beyond, tags are merely taken out. A page of 512 KiB
/// is more than a person reads.
const LAYOUT_BYTES_MAX: usize = 512 * 1024;

/// Depth of open tags that is laid out: real mails nest tables in tables to some 60 levels, and the
/// time of the layout is quadratic in it.
const LAYOUT_DEPTH_MAX: usize = 100;

/// Octets of HTML times the depth of quotes and lists in it that is laid out.
///
/// Each line of text is indented once for each level, so this is about what the text can grow to:
/// 1 MiB, which takes a quarter of a second.
const LAYOUT_INDENT_MAX: usize = 1024 * 1024;

/// The text of an HTML page.
#[must_use]
pub fn to_text(html: &str) -> String {
    let depth = depth_bound(html);
    let fits = html.len() <= LAYOUT_BYTES_MAX
        && depth.all <= LAYOUT_DEPTH_MAX
        && depth.indents * html.len() <= LAYOUT_INDENT_MAX;
    if fits {
        let layout = html2text::config::plain_no_decorate().allow_width_overflow();
        if let Ok(text) = layout.string_from_read(html.as_bytes(), COLUMNS) {
            return text;
        }
    }
    without_tags(html)
}

/// An upper bound of how deep elements nest: only the closing tag of the innermost open element
/// is taken to close anything.
fn depth_bound(html: &str) -> Depth {
    let (mut open, mut indents, mut deepest) = (Vec::new(), 0, Depth { all: 0, indents: 0 });
    for at in memchr::memchr_iter(b'<', html.as_bytes()) {
        let tag = &html.as_bytes()[at + 1..];
        if let Some(closing) = tag.strip_prefix(b"/") {
            let closes = open.last().is_some_and(|name: &&[u8]| name.eq_ignore_ascii_case(tag_name(closing)));
            if let Some(name) = open.pop_if(|_| closes) {
                indents -= usize::from(is_indent(name));
            }
        } else if tag.first().is_some_and(u8::is_ascii_alphabetic) && !is_void(tag_name(tag)) {
            open.push(tag_name(tag));
            indents += usize::from(is_indent(tag_name(tag)));
            deepest = Depth { all: deepest.all.max(open.len()), indents: deepest.indents.max(indents) };
        }
    }
    deepest
}

/// How deep elements nest.
#[derive(Debug, PartialEq, Eq)]
struct Depth {
    all: usize,
    /// Of those, quotes and lists, which indent their text.
    indents: usize,
}

/// Elements that indent every line of their text.
fn is_indent(name: &[u8]) -> bool {
    const INDENT: [&[u8]; 7] = [b"blockquote", b"ul", b"ol", b"li", b"dl", b"dd", b"pre"];
    INDENT.iter().any(|indent| name.eq_ignore_ascii_case(indent))
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
        let depth = |html| depth_bound(html).all;
        assert_eq!(depth("<div></p><div></p>"), 2);
        assert_eq!(depth("<div></DIV><div></div>"), 1);
        assert_eq!(depth("<br><br><img src=x><p>"), 1);
        assert_eq!(depth_bound("<ul><li>a</li><li><b>c</b><ul>"), Depth { all: 3, indents: 3 });
    }

    #[test]
    fn text_does_not_grow_out_of_proportion() {
        for (element, depth) in
            [("<blockquote>", 1_900), ("<blockquote>", 90), ("<ul><li>", 45), ("<blockquote>", 5)]
        {
            let page = format!("{}{}", element.repeat(depth), "x ".repeat(50_000));
            let text = to_text(&page);
            assert!(text.len() <= 3 * LAYOUT_INDENT_MAX, "{element} {depth}: {} bytes", text.len());
            assert!(text.contains('x'));
        }
    }
}
