//! Bytes to command lines. Pure.
//!
//! A line ends with CRLF and nothing else: RFC 5321 section 2.3.8. A bare LF or CR is part of the
//! line, which the command parser then refuses.

use bytes::{Buf, BytesMut};

use super::limits::{COMMAND_LINE_BYTES_MAX, DISCARDED_BYTES_MAX};

/// What [`LineReader::next`] found in its input.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A line, without its CRLF.
    Line(BytesMut),
    /// A line of more than [`COMMAND_LINE_BYTES_MAX`] octets has ended and was thrown away.
    TooLong,
    /// No line ends in the input yet.
    NeedMore,
    /// A line that is too long does not end at all.
    Endless,
}

/// Takes lines out of the bytes that a client sent, and remembers where it stopped looking.
#[derive(Debug, Default)]
pub struct LineReader {
    scanned: usize,
    discarded: usize,
}

impl LineReader {
    /// Takes the next line out of `input`.
    pub fn next(&mut self, input: &mut BytesMut) -> Next {
        match self.line_end(input) {
            Some(end) if self.discarded > 0 || end + 2 > COMMAND_LINE_BYTES_MAX => {
                input.advance(end + 2);
                *self = Self::default();
                Next::TooLong
            }
            Some(end) => {
                let line = input.split_to(end);
                input.advance(2);
                self.scanned = 0;
                Next::Line(line)
            }
            None if self.discarded > 0 || input.len() > COMMAND_LINE_BYTES_MAX => {
                // A CR at the very end may be the first half of the CRLF.
                let kept = usize::from(input.last() == Some(&b'\r'));
                self.discarded += input.len() - kept;
                input.advance(input.len() - kept);
                self.scanned = 0;
                if self.discarded > DISCARDED_BYTES_MAX { Next::Endless } else { Next::NeedMore }
            }
            None => {
                self.scanned = input.len().saturating_sub(1);
                Next::NeedMore
            }
        }
    }

    fn line_end(&self, input: &[u8]) -> Option<usize> {
        let unseen = &input[self.scanned..];
        // Lines are short: preparing a search for both takes longer than the search.
        let mut ends = memchr::memchr_iter(b'\n', unseen);
        let found = ends.find(|end| *end > 0 && unseen[end - 1] == b'\r')?;
        Some(self.scanned + found - 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn feed(chunks: &[&[u8]]) -> Vec<Next> {
        let (mut reader, mut input, mut found) = (LineReader::default(), BytesMut::new(), Vec::new());
        for chunk in chunks {
            input.extend_from_slice(chunk);
            loop {
                match reader.next(&mut input) {
                    Next::NeedMore => break,
                    Next::Endless => return found.into_iter().chain([Next::Endless]).collect(),
                    next => found.push(next),
                }
            }
        }
        found
    }

    fn line(text: &str) -> Next {
        Next::Line(BytesMut::from(text))
    }

    #[test]
    fn only_crlf_ends_a_line() {
        assert_eq!(feed(&[b"NOOP\r\nQUIT\r\n"]), [line("NOOP"), line("QUIT")]);
        assert_eq!(feed(&[b"NOOP\nQUIT\rRSET\n\rHELP\r\n"]), [line("NOOP\nQUIT\rRSET\n\rHELP")]);
        assert_eq!(feed(&[b"NOOP\r", b"\n"]), [line("NOOP")]);
        assert_eq!(feed(&[b"NOOP\r\r\n"]), [line("NOOP\r")]);
        assert_eq!(feed(&[b"NOOP\n"]), []);
    }

    #[test]
    fn a_line_that_is_too_long_is_one_error_and_the_next_is_read() {
        let longest = "x".repeat(COMMAND_LINE_BYTES_MAX - 2);
        assert_eq!(feed(&[longest.as_bytes(), b"\r\n"]), [line(&longest)]);
        let too_long = "x".repeat(COMMAND_LINE_BYTES_MAX - 1);
        assert_eq!(feed(&[too_long.as_bytes(), b"\r\nQUIT\r\n"]), [Next::TooLong, line("QUIT")]);
        let long = "x".repeat(30_000);
        assert_eq!(feed(&[long.as_bytes(), b"\r", b"\nQUIT\r\n"]), [Next::TooLong, line("QUIT")]);
    }

    #[test]
    fn a_line_without_end_is_given_up() {
        let chunk = vec![b'x'; 8 * 1024];
        let chunks = vec![chunk.as_slice(); 10];
        assert_eq!(feed(&chunks), [Next::Endless]);
    }

    proptest! {
        #[test]
        fn splits_do_not_matter(
            input in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'a')], 0..200),
            cuts in proptest::collection::vec(0usize..200, 0..10),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut <= input.len()).collect();
            cuts.extend([0, input.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &input[pair[0]..pair[1]]).collect();
            prop_assert_eq!(feed(&chunks), feed(&[&input]));
        }
    }
}
