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

/// Elements that a page is laid out with, those included that a browser adds: each takes some 1.5 KiB
/// while it is. Large newsletters have some 10,000.
const LAYOUT_NODES_MAX: usize = 30_000;

/// Octets that the tables of a page take while it is laid out: as much as its other elements may. A newsletter of 900
/// rows with a table in each is thought to take 26 MB; 40 KiB of a page that is meant to be costly took 300.
const LAYOUT_TABLE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Octets that each row takes for each column of its table.
const COLUMN_BYTES: usize = size_of::<usize>();

/// Octets that a cell takes in each further row that it spans: some 200, and a vector that doubles.
const SPANNED_BYTES: usize = 512;

/// Attributes of one tag that is laid out: the parser compares each with all before it. Real tags
/// have up to some 30.
const ATTRIBUTES_MAX: usize = 500;

/// The text of an HTML page.
#[must_use]
pub fn to_text(html: &str) -> String {
    if is_laid_out(html) {
        let layout = html2text::config::plain_no_decorate().allow_width_overflow();
        if let Ok(text) = layout.string_from_read(html.as_bytes(), COLUMNS) {
            return text;
        }
    }
    without_tags(html)
}

/// Whether the layout of a page stays within bounds.
fn is_laid_out(html: &str) -> bool {
    if html.len() > LAYOUT_BYTES_MAX {
        return false;
    }
    let bound = bound(html);
    bound.depth <= LAYOUT_DEPTH_MAX
        && bound.indents * html.len() <= LAYOUT_INDENT_MAX
        && bound.nodes <= LAYOUT_NODES_MAX
        && table_bytes(html, &bound) <= LAYOUT_TABLE_BYTES_MAX
        && has_few_attributes(html)
}

/// An upper bound of what a page's layout takes: only the closing tag of the innermost open element
/// is taken to close anything.
fn bound(html: &str) -> Bound {
    let (mut open, mut indents, mut formatting) = (Vec::new(), 0, 0);
    let mut bound = Bound { depth: 0, indents: 0, nodes: 0, rows: 0, cells: 0 };
    let mut is_between_rows = true;
    for at in memchr::memchr_iter(b'<', html.as_bytes()) {
        // Open formatting may have to be begun anew for what follows.
        bound.nodes += 1 + formatting;
        let tag = &html.as_bytes()[at + 1..];
        let closing = tag.strip_prefix(b"/");
        let name = tag_name(closing.unwrap_or(tag));
        if is_one_of(&ROW_ENDS, name) {
            let is_row = closing.is_none() && name.eq_ignore_ascii_case(b"tr");
            bound.rows += usize::from(is_row);
            is_between_rows = !is_row;
        } else if closing.is_none() && is_one_of(&CELLS, name) {
            // One that is in no row begins one.
            bound.rows += usize::from(is_between_rows);
            bound.cells += 1;
            is_between_rows = false;
        }
        if closing.is_some() {
            let closes = open.last().is_some_and(|open: &&[u8]| open.eq_ignore_ascii_case(name));
            if let Some(name) = open.pop_if(|_| closes) {
                indents -= usize::from(is_one_of(&INDENTS, name));
                formatting -= usize::from(is_one_of(&FORMATTING, name));
            }
        } else if tag.first().is_some_and(u8::is_ascii_alphabetic) && !is_one_of(&VOID, name) {
            open.push(name);
            indents += usize::from(is_one_of(&INDENTS, name));
            formatting += usize::from(is_one_of(&FORMATTING, name));
            bound.depth = bound.depth.max(open.len());
            bound.indents = bound.indents.max(indents);
        }
    }
    bound
}

/// An upper bound of the octets that tables take. A cell that spans rows is in each of them, and those that hang out of
/// their table have rows of their own there. Cells that span columns, too, may begin anywhere else in each row.
fn table_bytes(html: &str, bound: &Bound) -> usize {
    let spans = occurrences(html, b"rowspan");
    let rows = bound.rows + spans;
    let spanned = spans.saturating_mul(rows);
    let columns = bound.cells + if occurrences(html, b"colspan") == 0 { 0 } else { spanned };
    let rows_bytes = rows.saturating_mul(columns).saturating_mul(COLUMN_BYTES);
    rows_bytes.saturating_add(spanned.saturating_mul(SPANNED_BYTES))
}

/// How often a name is in a page, wherever it is.
fn occurrences(html: &str, name: &[u8]) -> usize {
    html.as_bytes().windows(name.len()).filter(|text| text.eq_ignore_ascii_case(name)).count()
}

/// What a page is made of, at most.
#[derive(Debug, PartialEq, Eq)]
struct Bound {
    /// Elements within each other.
    depth: usize,
    /// Of those, quotes and lists, which indent their text.
    indents: usize,
    /// Elements in all.
    nodes: usize,
    /// Of those, rows of tables.
    rows: usize,
    /// And cells.
    cells: usize,
}

/// Elements that indent every line of their text.
const INDENTS: [&[u8]; 7] = [b"blockquote", b"ul", b"ol", b"li", b"dl", b"dd", b"pre"];

/// Elements that go on behind the end of the paragraph that they are in, until they are closed: the
/// "formatting" category of the HTML standard.
const FORMATTING: [&[u8]; 14] = [
    b"a", b"b", b"big", b"code", b"em", b"font", b"i", b"nobr", b"s", b"small", b"strike", b"strong", b"tt",
    b"u",
];

/// Elements that never have a closing tag: they do not nest.
const VOID: [&[u8]; 9] = [b"br", b"img", b"hr", b"meta", b"link", b"input", b"col", b"wbr", b"base"];

/// Cells of tables.
const CELLS: [&[u8]; 2] = [b"td", b"th"];

/// Elements whose tags, closing ones included, end a row of a table: sections 13.2.6.4.9 to 13.2.6.4.14 of the HTML
/// standard.
const ROW_ENDS: [&[u8]; 8] = [b"table", b"caption", b"colgroup", b"col", b"tbody", b"thead", b"tfoot", b"tr"];

fn is_one_of(names: &[&[u8]], name: &[u8]) -> bool {
    names.iter().any(|known| name.eq_ignore_ascii_case(known))
}

fn tag_name(tag: &[u8]) -> &[u8] {
    &tag[..tag.iter().position(|c| !c.is_ascii_alphanumeric()).unwrap_or(tag.len())]
}

/// Whether no tag has more than [`ATTRIBUTES_MAX`], wherever it may turn out that one starts: within
/// a comment, a script or a value, too. A page that takes long to look at has not.
fn has_few_attributes(html: &str) -> bool {
    // Of a real page nearly every byte is looked at once.
    let mut bytes_left = html.len().saturating_mul(4);
    memchr::memchr_iter(b'<', html.as_bytes()).all(|at| {
        let tag = Tag::read(&html.as_bytes()[at + 1..]);
        bytes_left = bytes_left.saturating_sub(tag.bytes);
        tag.attributes <= ATTRIBUTES_MAX && bytes_left > 0
    })
}

/// The extent of a tag: section 13.2.5 of the HTML standard, from "tag name state" on.
struct Tag {
    attributes: usize,
    bytes: usize,
}

impl Tag {
    /// Reads the tag behind a `<`, up to one attribute more than are allowed.
    fn read(tag: &[u8]) -> Self {
        let skip = |at: usize, is: fn(u8) -> bool| {
            at + tag[at..].iter().position(|c| !is(*c)).unwrap_or(tag.len() - at)
        };
        let (mut attributes, mut at) = (0, skip(0, |c| !c.is_ascii_whitespace() && c != b'/' && c != b'>'));
        while attributes <= ATTRIBUTES_MAX {
            at = skip(at, |c| c.is_ascii_whitespace() || c == b'/');
            if at == tag.len() || tag[at] == b'>' {
                break;
            }
            attributes += 1;
            // A name may begin with an equals sign.
            at = skip(at + 1, |c| !c.is_ascii_whitespace() && !matches!(c, b'/' | b'>' | b'='));
            let after = skip(at, |c| c.is_ascii_whitespace());
            if tag.get(after) != Some(&b'=') {
                continue;
            }
            at = skip(after + 1, |c| c.is_ascii_whitespace());
            at = match tag.get(at) {
                Some(quote @ (b'"' | b'\'')) => {
                    memchr::memchr(*quote, &tag[at + 1..]).map_or(tag.len(), |end| at + 1 + end + 1)
                }
                _ => skip(at, |c| !c.is_ascii_whitespace() && c != b'>'),
            };
        }
        Self { attributes, bytes: at }
    }
}

/// The text between the tags.
#[must_use]
pub fn without_tags(html: &str) -> String {
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
        let depth = |html| bound(html).depth;
        assert_eq!(depth("<div></p><div></p>"), 2);
        assert_eq!(depth("<div></DIV><div></div>"), 1);
        assert_eq!(depth("<br><br><img src=x><p>"), 1);
        let expected = Bound { depth: 3, indents: 3, nodes: 8, rows: 0, cells: 0 };
        assert_eq!(bound("<ul><li>a</li><li><b>c</b><ul>"), expected);
    }

    /// Unclosed formatting is begun anew in every later paragraph: 32 KiB of this took 500 MiB.
    #[test]
    fn formatting_that_multiplies_is_not_laid_out() {
        let open: String = (0..90).map(|n| format!("<b a={n}>")).collect();
        let page = format!("<p>{open}</p>{}", "<p>x</p>".repeat(4_000));
        assert!(!is_laid_out(&page));
        assert_eq!(to_text(&page).matches('x').count(), 4_000);
        assert!(!is_laid_out(&"<br>".repeat(LAYOUT_NODES_MAX + 1)));
        assert!(is_laid_out(&"<p>Dear <b>all</b>,</p>".repeat(2_000)), "a long letter is");
    }

    #[test]
    fn rows_and_cells_are_counted_however_they_are_written() {
        for (html, rows, cells) in [
            ("<table><tr><td>a</td><th>b</th></tr><tr><td>c</td></tr></table>", 2, 3),
            ("<table><td>a<td>b<tr><td>c<tr></table>", 3, 3),
            ("<table><td>a</tr><td>b</tbody><td>c<caption>d</caption><td>e<table><td>f", 5, 5),
            ("<TABLE><TR><TD>a</TD></TR><!-- <tr> --><Td>b", 2, 2),
            ("<table><tr></tr><!-- <td> --><td>b", 2, 2),
            ("<p>a</td></p>", 0, 0),
        ] {
            let bound = bound(html);
            assert_eq!((bound.rows, bound.cells), (rows, cells), "{html}");
        }
    }

    /// A cell that spans rows is in each of them, and each row knows the width of each column.
    #[test]
    fn tables_of_many_rows_and_columns_are_not_laid_out() {
        let wide = |cell: &str, cells: usize, row: &str, rows: usize| {
            format!("<table><tr>{}</tr>{}</table>", cell.repeat(cells), row.repeat(rows))
        };
        let hanging = |n: usize| format!("<td rowspan={}></td>", n + 2);
        let triangle: String = (0..300).map(hanging).collect();
        for page in [
            wide("<td rowspan=9999></td>", 7_400, "<tr></tr>", 7_400),
            wide("<td rowspan=9999></td>", 250, "<tr></tr>", 250),
            wide("<td></td>", 2_100, "<tr></tr>", 2_100),
            wide("<td></td>", 2_100, "<tbody></tbody><td></td>", 2_100),
            format!("<table><tr>{triangle}</tr></table>"),
            wide("<td rowspan=9999></td>", 100, "<tr><td colspan=7></td></tr>", 300),
        ] {
            assert!(bound(&page).depth < LAYOUT_DEPTH_MAX, "it is not refused for anything else");
            assert!(!is_laid_out(&page), "{}", &page[..40]);
        }
        let newsletter = wide("<td>a</td>", 2, "<tr><td><table><tr><td>a</td></tr></table></td></tr>", 900);
        assert!(is_laid_out(&newsletter));
        let invoice = wide("<td rowspan=3>a</td>", 10, "<tr><td rowspan=2 colspan=2>a<td>b</tr>", 20);
        assert!(is_laid_out(&invoice));
    }

    /// The parser compares every attribute of a tag with all before it: 512 KiB of this took minutes.
    #[test]
    fn a_tag_of_countless_attributes_is_not_laid_out() {
        let attributes: String = (0..20_000).map(|n| format!(" a{n:x}")).collect();
        for page in [
            format!("<p{attributes}>x"),
            format!("<p{}>x", attributes.replace(' ', "/")),
            format!("<p{}>x", attributes.replace(' ', " <")),
            format!("<p x{}>x", attributes.replace(' ', "=\">\" ")),
            format!("<!-- <p a=\" --><p{attributes} b=\">x"),
        ] {
            assert!(!is_laid_out(&page), "{}", &page[..40]);
        }
        assert!(!is_laid_out(&"<p a='<p a=\"".repeat(20_000)), "nor one that takes long to look at");
        let image = format!("<img alt=x src='data:image/png;base64,{}'>", "ab/+ = ".repeat(30_000));
        assert!(is_laid_out(&image), "what is quoted is one attribute");
    }

    #[test]
    fn attributes_are_counted_as_a_browser_does() {
        for (tag, attributes) in [
            ("p>a b", 0),
            ("p a b=c d = \"e f\" g='>'h>i j", 5),
            ("br/>", 0),
            ("p/a/b>", 2),
            ("p =a =b>", 1),
            ("p a=>b", 1),
            ("p a=\"", 1),
            ("p a", 1),
        ] {
            assert_eq!(Tag::read(tag.as_bytes()).attributes, attributes, "{tag}");
        }
        assert_eq!(Tag::read(b"p a='>' b>c").bytes, 9);
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
