//! A whole session: lines, commands, content and replies, without a socket.
//!
//! - Where the network cuts the bytes does not matter: the same replies, the same mails.
//! - What is written is whole replies; nothing is written behind the one that closes.
//! - A mail has recipients, all known, each once, and is within the size limit.
//! - A session ends: errors, idle commands and unknown recipients are counted.
#![no_main]

use std::num::NonZeroU32;

use bytes::{Buf, BytesMut};
use libfuzzer_sys::fuzz_target;
use mail_laser::address::Address;
use mail_laser::smtp::data::{ChunkDecoder, DataDecoder, Progress};
use mail_laser::smtp::limits::{COMMANDS_MAX, ERRORS_MAX, RECIPIENTS_MAX};
use mail_laser::smtp::line::{LineReader, Next};
use mail_laser::smtp::protocol::{Action, Protocol, Settings, TlsPolicy, Transaction};
use mail_laser::smtp::reply::Reply;
use mail_laser_fuzz::{cuts_and_input, pieces, replies};

const MESSAGE_BYTES_MAX: usize = 1_000;

fuzz_target!(|data: &[u8]| {
    let Some((cuts, input)) = cuts_and_input(data) else { return };
    let secured = input.len() % 2 == 0;
    let whole = Session::play(&[input], secured);
    assert_eq!(Session::play(&pieces(input, cuts), secured), whole, "it matters where the bytes are cut");
    whole.check();
});

/// What a session does, as `smtp::session` does it, but for sockets and time.
#[derive(Debug, PartialEq)]
struct Session {
    output: Vec<u8>,
    mails: Vec<(Transaction<()>, Vec<u8>)>,
    closed: bool,
}

/// Content that is coming in.
enum Receiving {
    Data(DataDecoder),
    Chunk(ChunkDecoder),
    /// Octets that nobody wants, and the reply to them.
    Discard(ChunkDecoder, Reply),
}

impl Session {
    fn play(pieces: &[&[u8]], secured: bool) -> Self {
        let protocol = Protocol::new(Settings {
            hostname: "mx.example.com".into(),
            message_bytes_max: MESSAGE_BYTES_MAX,
            unknown_recipients_max: NonZeroU32::new(3),
            tls: if secured { TlsPolicy::Off } else { TlsPolicy::Opportunistic },
        });
        let session = Self { output: Vec::new(), mails: Vec::new(), closed: false };
        let mut player =
            Player { session, protocol, lines: LineReader::default(), content: Vec::new(), receiving: None };
        let mut input = BytesMut::new();
        for piece in pieces {
            input.extend_from_slice(piece);
            while !player.session.closed && player.step(&mut input) {}
        }
        player.session
    }

    fn check(&self) {
        let codes = replies(&self.output);
        let closing: Vec<_> =
            codes.iter().enumerate().filter(|(_, code)| matches!(code, 221 | 421)).collect();
        assert!(closing.iter().all(|(at, _)| at + 1 == codes.len()), "{codes:?} goes on behind its end");
        for (transaction, content) in &self.mails {
            assert!(!transaction.recipients.is_empty(), "a mail to nobody");
            assert!(transaction.recipients.len() <= RECIPIENTS_MAX);
            assert!(content.len() <= MESSAGE_BYTES_MAX);
            let mut keys: Vec<_> = transaction.recipients.iter().map(|(address, ())| address.key()).collect();
            assert!(transaction.recipients.iter().all(|(address, ())| is_known(address)), "{keys:?}");
            keys.sort_unstable();
            assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "{keys:?} has one twice");
            let is_ascii = transaction.recipients.iter().all(|(address, ())| address.is_ascii());
            assert!(is_ascii || transaction.parameters.smtputf8);
        }
        // The reply that closes is not followed by another error.
        let counted = codes.len() - usize::from(self.closed);
        let errors =
            codes[..counted].iter().filter(|code| **code >= 400 && ![452, 550].contains(*code)).count();
        let per_mail = usize::try_from(ERRORS_MAX).unwrap() - 1;
        assert!(errors <= per_mail * (self.mails.len() + 1) + self.mails.len(), "{errors} errors");
        assert!(codes.iter().filter(|code| **code == 550).count() < 3, "unknown recipients are not counted");
        let commands = usize::try_from(COMMANDS_MAX).unwrap();
        // Chunks are bounded by the size limit instead.
        assert!(codes.len() <= (commands + MESSAGE_BYTES_MAX + 1) * (self.mails.len() + 1));
    }
}

struct Player {
    session: Session,
    protocol: Protocol<()>,
    lines: LineReader,
    content: Vec<u8>,
    receiving: Option<Receiving>,
}

impl Player {
    /// Takes the next line or the next content; `false` when there is not enough of it.
    fn step(&mut self, input: &mut BytesMut) -> bool {
        let action = match self.receiving.take() {
            Some(receiving) => match self.receive(receiving, input) {
                Some(action) => action,
                None => return false,
            },
            None => match self.lines.next(input) {
                Next::Line(line) => self.protocol.on_line(&line),
                Next::TooLong => self.protocol.on_long_line(),
                Next::Endless => Action::Close(Protocol::<()>::endless_line()),
                Next::NeedMore => return false,
            },
        };
        self.obey(action, input);
        true
    }

    fn receive(&mut self, mut receiving: Receiving, input: &mut BytesMut) -> Option<Action<()>> {
        let content = &mut self.content;
        let progress = match &mut receiving {
            Receiving::Data(decoder) => decoder.push(input, |part| content.extend_from_slice(part)),
            Receiving::Chunk(decoder) => decoder.push(input, |part| content.extend_from_slice(part)),
            Receiving::Discard(decoder, _) => decoder.push(input, |_| {}),
        };
        let Progress::End(end) = progress else {
            input.clear();
            self.receiving = Some(receiving);
            return None;
        };
        input.advance(end);
        Some(match receiving {
            Receiving::Data(_) => self.protocol.on_content_end(),
            Receiving::Chunk(_) => self.protocol.on_chunk_end(self.content.len() <= MESSAGE_BYTES_MAX),
            Receiving::Discard(_, reply) => Action::Reply(reply),
        })
    }

    fn obey(&mut self, mut action: Action<()>, input: &mut BytesMut) {
        loop {
            if !self.protocol.in_transaction() {
                self.content.clear();
            }
            action = match action {
                Action::Reply(reply) => {
                    reply.write_to(&mut self.session.output);
                    return;
                }
                Action::Close(reply) => {
                    reply.write_to(&mut self.session.output);
                    self.session.closed = true;
                    return;
                }
                Action::StartTls(reply) => {
                    // The handshake would follow; what came in the clear is forgotten.
                    reply.write_to(&mut self.session.output);
                    self.session.closed = true;
                    input.clear();
                    return;
                }
                Action::LookUp(address) => {
                    let known = is_known(&address).then_some(());
                    self.protocol.on_recipient(address, known)
                }
                Action::Receive(reply) => {
                    reply.write_to(&mut self.session.output);
                    self.receiving = Some(Receiving::Data(DataDecoder::default()));
                    return;
                }
                Action::ReceiveChunk(octets) => {
                    self.receiving = Some(Receiving::Chunk(ChunkDecoder::new(octets)));
                    return;
                }
                Action::Discard(octets, reply) => {
                    self.receiving = Some(Receiving::Discard(ChunkDecoder::new(octets), reply));
                    return;
                }
                Action::Deliver(transaction) => {
                    let content = std::mem::take(&mut self.content);
                    let reply = if content.len() > MESSAGE_BYTES_MAX {
                        self.protocol.too_large()
                    } else {
                        self.session.mails.push((transaction, content));
                        Reply::new(250, "2.0.0", "Ok")
                    };
                    self.protocol.on_message(reply)
                }
            };
        }
    }
}

fn is_known(address: &Address) -> bool {
    address.domain() == "known.example" || address.key() == "postmaster"
}
