//! Transfer encodings and charsets, leniently: what is broken costs itself alone. Pure.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use charset::Charset;

use super::quoted;

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Undoes a `Content-Transfer-Encoding` (RFC 2045 section 6).
///
/// An unknown encoding leaves the bytes as they are. Broken base64 gives what can be read;
/// broken quoted-printable keeps the broken sequences.
#[must_use]
pub fn transfer_decoded<'b>(body: &'b [u8], encoding: &str) -> Cow<'b, [u8]> {
    let encoding = encoding.trim();
    if encoding.eq_ignore_ascii_case("base64") {
        base64_decoded(body).into()
    } else if encoding.eq_ignore_ascii_case("quoted-printable") {
        quoted::decoded(body).into()
    } else {
        body.into()
    }
}

/// Digits that are decoded at a time: whole groups of four.
const DIGITS_AT_ONCE: usize = 4 * 1024;

/// RFC 2045 section 6.8: what is not of the alphabet is ignored. Padding within the body, as
/// where two encoded files were joined, begins anew.
///
/// Lines of nothing but whole groups, as nearly all are, are decoded where they stand. All else is gathered first.
#[must_use]
pub fn base64_decoded(body: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(body.len() / 4 * 3 + 6);
    let mut digits = Vec::with_capacity(2 * DIGITS_AT_ONCE.min(body.len()));
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', body).chain([body.len()]) {
        let line = &body[start..end];
        for part in line.strip_suffix(b"\r").unwrap_or(line).chunks(DIGITS_AT_ONCE) {
            if digits.is_empty() && decode_clean(part, &mut decoded) {
                continue;
            }
            digits.extend_from_slice(part);
            if digits.len() >= DIGITS_AT_ONCE {
                decode_groups(&mut digits, &mut decoded);
            }
        }
        start = end + 1;
    }
    decode_groups(&mut digits, &mut decoded);
    decode_noisy(&mut digits, &mut decoded);
    decode_run(&digits, &mut decoded);
    decoded
}

/// Appends the bytes of whole groups of four digits without padding; otherwise `false`, and nothing is appended.
fn decode_clean(digits: &[u8], decoded: &mut Vec<u8>) -> bool {
    digits.len().is_multiple_of(4) && base64_simd::STANDARD_NO_PAD.decode_append(digits, decoded).is_ok()
}

/// Takes all groups of four digits. That there is nothing else among them, as in nearly every mail,
/// the decoder finds out by itself: looking at each byte before would take several times as long.
fn decode_groups(digits: &mut Vec<u8>, decoded: &mut Vec<u8>) {
    let (groups, length) = (digits.len() / 4 * 4, decoded.len());
    if decode_clean(&digits[..groups], decoded) || LENIENT.decode_vec(&digits[..groups], decoded).is_ok() {
        digits.drain(..groups);
    } else {
        decoded.truncate(length);
        decode_noisy(digits, decoded);
    }
}

/// Takes all runs that padding ends, and all groups of the last one. Noise goes.
fn decode_noisy(digits: &mut Vec<u8>, decoded: &mut Vec<u8>) {
    digits.retain(|c| matches!(c, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' | b'='));
    let last = digits.iter().rposition(|c| *c == b'=').map_or(0, |padding| padding + 1);
    digits[..last].split(|c| *c == b'=').for_each(|run| decode_run(run, decoded));
    let groups = last + (digits.len() - last) / 4 * 4;
    decode_run(&digits[last..groups], decoded);
    digits.drain(..groups);
}

/// Takes digits alone.
fn decode_run(digits: &[u8], decoded: &mut Vec<u8>) {
    // One digit alone holds 6 bits, which are no byte.
    let whole = digits.len() - usize::from(digits.len() % 4 == 1);
    // Cannot fail: all are digits, and there are enough.
    let _ = LENIENT.decode_vec(&digits[..whole], decoded);
}

/// Text of a declared charset as UTF-8, with replacement characters for what cannot be decoded.
///
/// Where no charset or an unknown one is declared, or plain ASCII for what is none: UTF-8 if it
/// is valid, else windows-1252, in which every byte is a character. UTF-16 without a byte order
/// mark is big-endian: RFC 2781 section 4.3.
#[must_use]
pub fn text<'b>(bytes: impl Into<Cow<'b, [u8]>>, charset: Option<&str>) -> String {
    let bytes = bytes.into();
    let quotes = |c: char| c.is_whitespace() || matches!(c, '"' | '\'');
    let declared = charset.map(|label| label.trim_matches(quotes)).filter(|label| !is_ascii_label(label));
    if let Some(charset) = declared.and_then(charset_of) {
        match charset.decode(&bytes).0 {
            Cow::Owned(decoded) => return decoded,
            Cow::Borrowed(decoded) if decoded.len() < bytes.len() => return decoded.to_owned(),
            // The bytes are the text.
            Cow::Borrowed(_) => {}
        }
    }
    let Ok(text) = std::str::from_utf8(&bytes) else {
        return windows_1252(&bytes).into_owned();
    };
    let unmarked = text.trim_start_matches('\u{feff}');
    if unmarked.len() < text.len() || matches!(bytes, Cow::Borrowed(_)) {
        return unmarked.to_owned();
    }
    // What was decoded is not copied once more: a mail can be large.
    String::from_utf8(bytes.into_owned()).unwrap_or_default()
}

/// Text in windows-1252, in which every byte is a character.
pub(super) fn windows_1252(bytes: &[u8]) -> Cow<'_, str> {
    let charset = Charset::for_label(b"windows-1252");
    charset.map_or_else(
        || String::from_utf8_lossy(bytes),
        |charset| charset.decode_without_bom_handling(bytes).0,
    )
}

fn charset_of(label: &str) -> Option<Charset> {
    let label = if label.eq_ignore_ascii_case("utf-16") { "utf-16be" } else { label };
    Charset::for_label_no_replacement(label.as_bytes())
}

fn is_ascii_label(label: &str) -> bool {
    ["us-ascii", "ascii", "ansi_x3.4-1968"].iter().any(|ascii| label.eq_ignore_ascii_case(ascii))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn base64_is_read_as_far_as_it_goes() {
        let decode = |body: &str| {
            String::from_utf8(transfer_decoded(body.as_bytes(), "Base64 ").into_owned()).unwrap()
        };
        assert_eq!(decode("aGVs\r\nbG8="), "hello");
        assert_eq!(decode("aGVsbG8"), "hello", "without padding");
        assert_eq!(decode("aGV*s b\u{0}G8="), "hello", "with noise");
        assert_eq!(decode("aGVsbG8=aGVsbG8="), "hellohello", "joined");
        assert_eq!(decode("aGVsb"), "hel", "cut off");
        assert_eq!(decode(""), "");
    }

    #[test]
    fn quoted_printable_keeps_what_is_broken() {
        let decode = |body: &str| transfer_decoded(body.as_bytes(), "QUOTED-PRINTABLE").into_owned();
        assert_eq!(decode("gr=C3=BC=\r\n=C3=9Fe"), "gr\u{fc}\u{df}e".as_bytes());
        assert_eq!(decode("100=% sure"), b"100=% sure");
    }

    #[test]
    fn text_is_utf8_whatever_the_mail_declares() {
        assert_eq!(text(b"gr\xfc\xdfe", Some("iso-8859-1")), "gr\u{fc}\u{df}e");
        assert_eq!(text(b"gr\xfc\xdfe", Some("no-such-charset")), "gr\u{fc}\u{df}e");
        assert_eq!(text(b"It\x92s 5\x80, \x93ok\x94", None), "It\u{2019}s 5\u{20ac}, \u{201c}ok\u{201d}");
        assert_eq!(text(b"gr\xfc\xdfe", None), "gr\u{fc}\u{df}e");
        assert_eq!(text("gr\u{fc}\u{df}e".as_bytes(), Some("us-ascii")), "gr\u{fc}\u{df}e");
        assert_eq!(text(b"a\xff\xfe", Some("utf-8")), "a\u{fffd}\u{fffd}");
        assert_eq!(text("\u{442}".as_bytes(), Some("utf-8")), "\u{442}");
        assert_eq!(text(b"\x93\xfa\x96\x7b", Some("shift_jis")), "\u{65e5}\u{672c}");
    }

    /// The rule, without a thought for speed: noise goes, and each run up to a padding is decoded alone.
    fn run_by_run(body: &[u8]) -> Vec<u8> {
        let is_kept = |c: &u8| c.is_ascii_alphanumeric() || b"+/=".contains(c);
        let digits: Vec<u8> = body.iter().copied().filter(is_kept).collect();
        digits
            .split(|c| *c == b'=')
            .map(|run| if run.len() % 4 == 1 { &run[..run.len() - 1] } else { run })
            .flat_map(|run| LENIENT.decode(run).unwrap())
            .collect()
    }

    proptest! {
        #[test]
        fn what_was_encoded_comes_back(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let encoded = base64::engine::general_purpose::STANDARD.encode(&bytes);
            prop_assert_eq!(transfer_decoded(encoded.as_bytes(), "base64"), &bytes[..]);
            let encoded = quoted_printable::encode(&bytes);
            prop_assert_eq!(transfer_decoded(&encoded, "quoted-printable"), &bytes[..]);
        }

        #[test]
        fn damaged_lines_of_base64_decode_like_all_others(
            bytes in proptest::collection::vec(any::<u8>(), 0..9_000),
            width in proptest::sample::select(&[4usize, 60, 64, 75, 76, 4_096, 4_100, 20_000][..]),
            line_end in proptest::sample::select(&["\r\n", "\n", " \r\n"][..]),
            damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..3),
        ) {
            let encoded = base64::engine::general_purpose::STANDARD.encode(&bytes);
            let lines = encoded.as_bytes().chunks(width);
            let mut body: Vec<u8> = lines.flat_map(|line| [line, line_end.as_bytes()].concat()).collect();
            for (place, byte) in damage {
                if !body.is_empty() {
                    let place = place.index(body.len());
                    body[place] = byte;
                }
            }
            prop_assert_eq!(base64_decoded(&body), run_by_run(&body));
        }

        #[test]
        fn base64_is_decoded_run_by_run(
            pieces in proptest::collection::vec(
                prop_oneof![
                    2 => "[A-Za-z0-9+/]{4}", 1 => "[A-Za-z0-9+/]{1,9}", 1 => "\r?\n", 1 => "={1,3}", 1 => "[ *!-]",
                    1 => proptest::sample::select(&[1_000usize, 4_094, 4_096, 9_001][..]).prop_map(|n| "Ab+/".repeat(n)[..n].to_owned()),
                ],
                0..20,
            )
        ) {
            let body = pieces.concat();
            prop_assert_eq!(base64_decoded(body.as_bytes()), run_by_run(body.as_bytes()));
        }

        #[test]
        fn any_bytes_decode(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for encoding in ["base64", "quoted-printable", "x-none"] {
                let _ = text(transfer_decoded(&bytes, encoding), Some("utf-16"));
            }
        }
    }
}
