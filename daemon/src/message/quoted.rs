//! Quoted-printable to bytes: RFC 2045 section 6.7. Pure.

/// The bytes of a quoted-printable body.
///
/// Spaces and tabs at the end of a line were added on the way (rule 3) and go; line ends and
/// bytes outside of ASCII stay as they are, and so does a `=` that starts nothing.
#[must_use]
pub fn decoded(body: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(body.len());
    for line in body.split_inclusive(|c| *c == b'\n') {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let line_end = &line[text.len()..];
        let text = trimmed_end(text);
        match text.strip_suffix(b"=") {
            Some(text) => unescape_into(&mut decoded, text),
            None => {
                unescape_into(&mut decoded, text);
                decoded.extend_from_slice(line_end);
            }
        }
    }
    decoded
}

fn trimmed_end(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|c| !matches!(c, b' ' | b'\t')).map_or(0, |last| last + 1);
    &text[..end]
}

/// Appends `text` with each `=` and two hexadecimal digits as the byte that they name.
pub fn unescape_into(output: &mut Vec<u8>, text: &[u8]) {
    hex_unescape_into(output, text, b'=');
}

/// Appends `text` with each `escape` and two hexadecimal digits as the byte that they name.
pub fn hex_unescape_into(output: &mut Vec<u8>, text: &[u8], escape: u8) {
    let mut rest = text;
    while let Some(found) = memchr::memchr(escape, rest) {
        output.extend_from_slice(&rest[..found]);
        match (rest.get(found + 1).and_then(hex), rest.get(found + 2).and_then(hex)) {
            (Some(high), Some(low)) => {
                output.push(high << 4 | low);
                rest = &rest[found + 3..];
            }
            _ => {
                output.push(escape);
                rest = &rest[found + 1..];
            }
        }
    }
    output.extend_from_slice(rest);
}

fn hex(digit: &u8) -> Option<u8> {
    char::from(*digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soft_line_breaks_join_and_padding_goes() {
        assert_eq!(decoded(b"a=\r\nb= \t\r\nc \t\r\nd=20\r\n"), b"abc\r\nd \r\n");
        assert_eq!(decoded(b"a=\nb\n"), b"ab\n", "line ends stay as they are");
        assert_eq!(decoded(b"a ="), b"a ", "a break at the end");
    }

    #[test]
    fn what_is_broken_stays() {
        assert_eq!(decoded(b"100=% =3d =4 =zz\r\n"), b"100=% = =4 =zz\r\n");
        assert_eq!(decoded(b"gr\xfc\xdfe \x00="), b"gr\xfc\xdfe \x00");
    }
}
