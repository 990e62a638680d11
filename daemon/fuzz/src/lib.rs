//! What the fuzz targets share. Each target says in its first lines what has to hold of any input.

/// Cuts `input` into pieces, wherever `cuts` says: as different networks would bring the same bytes.
pub fn pieces<'i>(input: &'i [u8], cuts: &[u8]) -> Vec<&'i [u8]> {
    let mut pieces = Vec::new();
    let mut rest = input;
    for cut in cuts {
        let (piece, after) = rest.split_at(usize::from(*cut).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces
}

/// What an input begins with says where the rest of it is cut: one byte how many cuts, then the cuts.
pub fn cuts_and_input(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (count, rest) = data.split_first()?;
    rest.split_at_checked(usize::from(count % 8))
}

/// The replies in what a server wrote, each with its code: RFC 5321 section 4.2.
///
/// # Panics
/// When it is anything but whole replies, each line within 512 octets and printable.
pub fn replies(output: &[u8]) -> Vec<u16> {
    let text = std::str::from_utf8(output).expect("replies are ASCII");
    assert!(text.is_empty() || text.ends_with("\r\n"), "a reply is cut off: {text:?}");
    let (mut codes, mut open) = (Vec::new(), None);
    for line in text.split_terminator("\r\n") {
        assert!(line.len() <= 510, "a reply's line is too long");
        assert!(line.bytes().all(|c| matches!(c, b' '..=b'~')), "a reply is not printable: {line:?}");
        let code: u16 =
            line.get(..3).and_then(|code| code.parse().ok()).expect("a reply starts with its code");
        assert!((200..600).contains(&code), "{line}");
        assert!(open.is_none_or(|before| before == code), "the code changes within a reply: {text:?}");
        open = match line.as_bytes().get(3) {
            Some(b'-') => Some(code),
            Some(b' ') => None,
            _ => panic!("neither the last line of a reply nor one of several: {line:?}"),
        };
        if open.is_none() {
            codes.push(code);
        }
    }
    assert_eq!(open, None, "a reply of several lines does not end");
    codes
}
