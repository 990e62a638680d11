//! The content of a mail as it follows DATA or BDAT: dot-unstuffing and the end. Pure.
//!
//! After DATA the end is CRLF `.` CRLF and nothing else (RFC 5321 section 4.1.1.4). Bare CR and LF are
//! content; they end neither a line nor the mail, wherever the bytes are split. A chunk ends after as
//! many octets as BDAT says, whatever they are (RFC 3030 section 2).

/// How far one call of [`DataDecoder::push`] or [`ChunkDecoder::push`] came.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// All of the input was content; there is more to come.
    NeedMore,
    /// The content ended; this many bytes of the input belong to it, its end included.
    End(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    LineStart,
    /// A dot at the start of a line, not yet known to be the end.
    Dot,
    /// The same, and a CR.
    DotCr,
    Text,
    /// A CR within a line.
    Cr,
}

/// Takes the dots out that the client put in (RFC 5321 section 4.5.2) and finds the end.
#[derive(Debug)]
pub struct DataDecoder {
    state: State,
}

impl Default for DataDecoder {
    fn default() -> Self {
        Self { state: State::LineStart }
    }
}

impl DataDecoder {
    /// Decodes `input` and hands the content to `emit`, in order, in one or more pieces.
    pub fn push(&mut self, input: &[u8], mut emit: impl FnMut(&[u8])) -> Progress {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            at += 1;
            self.state = match (self.state, byte) {
                (State::LineStart, b'.') => State::Dot,
                (State::Dot, b'\r') => State::DotCr,
                (State::DotCr, b'\n') => {
                    self.state = State::LineStart;
                    return Progress::End(at);
                }
                (State::Cr, b'\n') => {
                    emit(b"\n");
                    State::LineStart
                }
                (state, _) => {
                    if state == State::DotCr {
                        emit(b"\r");
                    }
                    // From here to the next line that starts with a dot everything is content.
                    let rest = &input[at - 1..];
                    let length = memchr::memmem::find(rest, b"\r\n.").map_or(rest.len(), |found| found + 2);
                    let content = &rest[..length];
                    emit(content);
                    at += length - 1;
                    match content {
                        [.., b'\r', b'\n'] => State::LineStart,
                        [.., b'\r'] => State::Cr,
                        _ => State::Text,
                    }
                }
            };
        }
        Progress::NeedMore
    }
}

/// Counts the octets of a chunk.
#[derive(Debug)]
pub struct ChunkDecoder {
    left: u64,
}

impl ChunkDecoder {
    /// A chunk of so many octets.
    #[must_use]
    pub fn new(octets: u64) -> Self {
        Self { left: octets }
    }

    /// Hands what of `input` belongs to the chunk to `emit`.
    pub fn push(&mut self, input: &[u8], mut emit: impl FnMut(&[u8])) -> Progress {
        let part = usize::try_from(self.left).map_or(input, |left| &input[..left.min(input.len())]);
        emit(part);
        self.left -= part.len() as u64;
        if self.left == 0 { Progress::End(part.len()) } else { Progress::NeedMore }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The content and, once the mail ended, what is left of the input.
    fn decode(chunks: &[&[u8]]) -> (String, Option<String>) {
        let (mut decoder, mut content) = (DataDecoder::default(), Vec::new());
        let mut rest: Option<Vec<u8>> = None;
        for chunk in chunks {
            match &mut rest {
                Some(rest) => rest.extend_from_slice(chunk),
                None => {
                    if let Progress::End(end) = decoder.push(chunk, |part| content.extend_from_slice(part)) {
                        rest = Some(chunk[end..].to_vec());
                    }
                }
            }
        }
        (String::from_utf8(content).unwrap(), rest.map(|rest| String::from_utf8(rest).unwrap()))
    }

    #[test]
    fn the_end_is_crlf_dot_crlf() {
        assert_eq!(decode(&[b"a\r\n.\r\nQUIT"]), ("a\r\n".into(), Some("QUIT".into())));
        assert_eq!(decode(&[b".\r\n"]), (String::new(), Some(String::new())));
        assert_eq!(decode(&[b"a\r\n\r\n.\r\n"]), ("a\r\n\r\n".into(), Some(String::new())));
    }

    #[test]
    fn stuffed_dots_are_taken_out() {
        assert_eq!(decode(&[b"..\r\n...\r\n.a\r\nb.\r\n.\r\n"]).0, ".\r\n..\r\na\r\nb.\r\n");
    }

    /// Wherever the network cuts them.
    #[test]
    fn no_other_line_end_ends_a_mail() {
        for smuggled in [
            "\n.\n",
            "\n.\r\n",
            "\r\n.\n",
            "\r.\r",
            "\r\n.\r",
            "\r.\r\n",
            "\n.\r",
            "\r\n\0.\r\n",
            "\r\n.\0\r\n",
            "\r\n.\r\0\n",
            "\r\0\n.\r\n",
            "\n\r.\r\n",
            "\r\n.\r\r\n",
            "\r\r.\r\n",
            "\r\n .\r\n",
            "\r\n. \r\n",
        ] {
            let input = format!("a{smuggled}b");
            let cuts = 0..=input.len();
            for (first, second) in cuts.clone().flat_map(|a| cuts.clone().map(move |b| (a, b.max(a)))) {
                let input = input.as_bytes();
                let (content, rest) = decode(&[&input[..first], &input[first..second], &input[second..]]);
                assert_eq!(rest, None, "{smuggled:?} ended a mail, cut at {first} and {second}");
                assert!(content.starts_with('a') && content.ends_with('b'), "{smuggled:?}: {content:?}");
            }
        }
    }

    #[test]
    fn a_dot_and_a_bare_cr_are_content() {
        assert_eq!(decode(&[b".\rx\r\n.\r\n"]).0, "\rx\r\n");
        assert_eq!(decode(&[b".\r\r\n.\r\n"]).0, "\r\r\n");
    }

    #[test]
    fn a_chunk_is_so_many_octets_and_not_one_more() {
        let (mut decoder, mut content) = (ChunkDecoder::new(5), Vec::new());
        let mut emit = |part: &[u8]| content.extend_from_slice(part);
        assert_eq!(decoder.push(b"\r\n.", &mut emit), Progress::NeedMore);
        assert_eq!(decoder.push(b"", &mut emit), Progress::NeedMore);
        assert_eq!(decoder.push(b"\r\nQUIT\r\n", &mut emit), Progress::End(2));
        assert_eq!(content, b"\r\n.\r\n");
        assert_eq!(ChunkDecoder::new(0).push(b"QUIT", |_| {}), Progress::End(0));
        assert_eq!(ChunkDecoder::new(u64::MAX).push(b"QUIT", |_| {}), Progress::NeedMore);
    }

    proptest! {
        #[test]
        fn splits_do_not_matter(
            input in proptest::collection::vec(
                prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(b'a')], 0..100),
            cuts in proptest::collection::vec(0usize..100, 0..10),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut <= input.len()).collect();
            cuts.extend([0, input.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &input[pair[0]..pair[1]]).collect();
            prop_assert_eq!(decode(&chunks), decode(&[&input]));
        }

        #[test]
        fn stuffed_content_comes_back_as_it_was(lines in proptest::collection::vec("[.a\n]{0,5}", 0..20)) {
            let content: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let stuffed: String = lines
                .iter()
                .map(|line| if line.starts_with('.') { format!(".{line}\r\n") } else { format!("{line}\r\n") })
                .collect();
            prop_assert_eq!(decode(&[stuffed.as_bytes(), b".\r\n"]), (content, Some(String::new())));
        }
    }
}
