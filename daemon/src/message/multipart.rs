//! Multipart bodies to parts: RFC 2046 section 5.1. Pure.

/// Octets of a boundary: RFC 2046 section 5.1.1 allows 70; some senders use more.
const BOUNDARY_BYTES_MAX: usize = 256;

/// The parts of a multipart body, without preamble and epilogue.
///
/// Without a closing delimiter the last part goes on to the end of the body. At most `parts_max`
/// parts are split off; what comes after them stays in the last. Empty when the boundary does not
/// occur.
#[must_use]
pub fn parts<'a>(body: &'a [u8], boundary: &str, parts_max: usize) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    // The line of a delimiter may end in white space, a boundary may not.
    let boundary = boundary.trim_end();
    if boundary.is_empty() || boundary.len() > BOUNDARY_BYTES_MAX {
        return parts;
    }
    let delimiter = format!("--{boundary}");
    let mut start = None;
    for found in memchr::memmem::find_iter(body, delimiter.as_bytes()) {
        let Some(line) = delimiter_line(body, found, delimiter.len()) else {
            continue;
        };
        if let Some(start) = start {
            if parts.len() + 1 == parts_max && !line.closes {
                break;
            }
            parts.push(&body[start..line.start.max(start)]);
        }
        start = (!line.closes).then_some(line.end);
        if line.closes {
            break;
        }
    }
    if let Some(start) = start {
        parts.push(&body[start..]);
    }
    parts
}

struct DelimiterLine {
    /// Where the line end before the delimiter starts: it belongs to the delimiter.
    start: usize,
    /// Where the part after it starts.
    end: usize,
    closes: bool,
}

/// The line of a delimiter found at `found`, if that is a line of its own.
fn delimiter_line(body: &[u8], found: usize, length: usize) -> Option<DelimiterLine> {
    let before = &body[..found];
    let start = match before {
        [] => 0,
        [.., b'\r', b'\n'] => found - 2,
        [.., b'\n'] => found - 1,
        _ => return None,
    };
    let after = &body[found + length..];
    let end = memchr::memchr(b'\n', after).map_or(after.len(), |newline| newline + 1);
    let rest = after[..end].trim_ascii();
    let closes = rest == b"--";
    (closes || rest.is_empty()).then_some(DelimiterLine { start, end: found + length + end, closes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(body: &str) -> Vec<&str> {
        parts(body.as_bytes(), "b", 10).into_iter().map(|part| std::str::from_utf8(part).unwrap()).collect()
    }

    #[test]
    fn delimiters_are_lines_of_their_own() {
        assert_eq!(split("pre\r\n--b\r\none\r\n--b  \r\ntwo\r\n\r\n--b--\r\nepilogue"), ["one", "two\r\n"]);
        assert_eq!(split("--b\none\n--b\ntwo\n--b--"), ["one", "two"]);
        assert_eq!(split("--b\r\na --b\r\n--bc\r\nx\r\n--b--"), ["a --b\r\n--bc\r\nx"]);
        assert_eq!(split("--b\r\n--b\r\n\r\n--b--"), ["", ""]);
    }

    #[test]
    fn a_body_that_does_not_close_keeps_its_last_part() {
        assert_eq!(split("--b\r\none\r\n--b\r\ntwo"), ["one", "two"]);
        assert_eq!(split("no delimiter"), [""; 0]);
        assert_eq!(split("--b"), [""]);
    }

    #[test]
    fn the_last_part_that_is_allowed_keeps_the_rest() {
        assert_eq!(parts(b"--b\n1\n--b\n2\n--b\n3\n--b--", "b", 2), [&b"1"[..], b"2\n--b\n3\n--b--"]);
    }
}
