//! Content as it follows DATA and BDAT.
//!
//! - A mail ends at the first CRLF `.` CRLF and at nothing else, which is compared with a model that
//!   is a direct reading of RFC 5321 section 4.5.2; the first line counts as if CRLF were before it.
//! - A chunk is the octets that were announced, whatever they are.
//! - Where the network cuts the bytes does not matter.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mail_laser::smtp::data::{ChunkDecoder, DataDecoder, Progress};
use mail_laser_fuzz::{cuts_and_input, pieces};

/// Content, and what followed it once it had ended.
#[derive(Debug, PartialEq)]
struct Decoded {
    content: Vec<u8>,
    rest: Option<Vec<u8>>,
}

fuzz_target!(|data: &[u8]| {
    let Some((cuts, input)) = cuts_and_input(data) else { return };
    let whole = [input];
    let pieces = pieces(input, cuts);

    let expected = model(input);
    for pieces in [&whole[..], &pieces] {
        let mut decoder = DataDecoder::default();
        assert_eq!(
            decode(pieces, |piece, content| decoder.push(piece, |part| content.extend(part))),
            expected
        );
    }

    let octets = cuts.iter().map(|cut| u64::from(*cut)).sum::<u64>();
    let at = usize::try_from(octets).unwrap();
    let (content, rest) = input.split_at(at.min(input.len()));
    let rest = (at <= input.len()).then(|| rest.to_vec());
    for pieces in [&whole[..], &pieces] {
        let mut decoder = ChunkDecoder::new(octets);
        let decoded = decode(pieces, |piece, content| decoder.push(piece, |part| content.extend(part)));
        assert_eq!(decoded, Decoded { content: content.to_vec(), rest: rest.clone() });
    }
});

fn decode(pieces: &[&[u8]], mut push: impl FnMut(&[u8], &mut Vec<u8>) -> Progress) -> Decoded {
    let mut decoded = Decoded { content: Vec::new(), rest: None };
    for piece in pieces {
        if let Some(rest) = &mut decoded.rest {
            rest.extend_from_slice(piece);
        } else if let Progress::End(end) = push(piece, &mut decoded.content) {
            assert!(end <= piece.len());
            decoded.rest = Some(piece[end..].to_vec());
        }
    }
    decoded
}

/// Lines end with CRLF; a line of one dot ends the mail; of any other, a leading dot is taken away.
///
/// Of a mail that goes on, what the decoder still holds back is left out: a dot that may be the end,
/// and a CR behind it.
fn model(input: &[u8]) -> Decoded {
    let mut content = Vec::new();
    let mut rest = input;
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let line = &rest[..end];
        rest = &rest[end + 2..];
        if line == b"." {
            return Decoded { content, rest: Some(rest.to_vec()) };
        }
        content.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        content.extend_from_slice(b"\r\n");
    }
    if rest != b".\r" {
        content.extend_from_slice(rest.strip_prefix(b".").unwrap_or(rest));
    }
    Decoded { content, rest: None }
}
