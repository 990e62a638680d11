//! Content comes in: up to its end, its bound, or the end of patience.

use std::io;

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};

use super::Session;
use super::transfer::{Ended, Transfer, cancelled};
use crate::smtp::data::{ChunkDecoder, DataDecoder, Progress};
use crate::smtp::limits::CONTENT_READ_BYTES;
use crate::smtp::reply::Reply;

/// Where content ends.
pub(super) enum Until {
    Dot,
    Octets(u64),
}

/// What became of content.
pub(super) enum Received {
    All,
    /// It came too slowly, and the client is sent away with this reply.
    Ended(Reply),
}

/// What finds the end of content.
enum Decoder {
    Data(DataDecoder),
    Chunk(ChunkDecoder),
}

impl Decoder {
    fn push(&mut self, input: &[u8], emit: impl FnMut(&[u8])) -> Progress {
        match self {
            Self::Data(decoder) => decoder.push(input, emit),
            Self::Chunk(decoder) => decoder.push(input, emit),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<'_, S> {
    /// Reads content of the mail that is coming in.
    pub(super) async fn receive(&mut self, until: Until) -> io::Result<Received> {
        let decoder = match until {
            Until::Dot => Decoder::Data(DataDecoder::default()),
            Until::Octets(octets) => Decoder::Chunk(ChunkDecoder::new(octets)),
        };
        let end = self.content.as_ref().and_then(Transfer::end);
        self.flush_during(end.as_ref()).await?;
        let mut transfer = match self.content.take() {
            Some(transfer) => transfer,
            None => Transfer::new(self.context, &self.client)?,
        };
        Ok(match self.take(&mut transfer, decoder).await? {
            Ok(()) => {
                self.content = Some(transfer);
                Received::All
            }
            Err(Ended) => Received::Ended(transfer.give_up()),
        })
    }

    /// Reads past content that nobody wants.
    pub(super) async fn discard(&mut self, octets: u64) -> io::Result<Received> {
        self.flush().await?;
        let mut transfer = Transfer::unwanted(self.context, &self.client);
        Ok(match self.take(&mut transfer, Decoder::Chunk(ChunkDecoder::new(octets))).await? {
            Ok(()) => Received::All,
            Err(Ended) => Received::Ended(transfer.give_up()),
        })
    }

    /// Reads until `decoder` has all that it wants, or the transfer has to end.
    async fn take(&mut self, transfer: &mut Transfer, mut decoder: Decoder) -> io::Result<Result<(), Ended>> {
        loop {
            if transfer.reserve(self.input.len()).await.is_err() {
                return Ok(Err(Ended));
            }
            match decoder.push(&self.input, |part| transfer.push(part)) {
                Progress::End(end) => {
                    self.input.advance(end);
                    return Ok(Ok(()));
                }
                Progress::NeedMore => self.input.clear(),
            }
            let (waiting, end) = (Instant::now(), transfer.end());
            // What is there to be read is read without a look at the clock.
            if transfer.is_overdue(waiting) {
                return Ok(Err(Ended));
            }
            let read = tokio::select! {
                biased;
                () = cancelled(end.as_ref()) => return Ok(Err(Ended)),
                read = timeout(transfer.patience(waiting), self.read::<CONTENT_READ_BYTES>()) => read,
            };
            match read {
                Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(Ok(read)) => transfer.record(waiting.elapsed(), read),
                Ok(Err(error)) => return Err(error),
                Err(_elapsed) => return Ok(Err(Ended)),
            }
        }
    }
}
