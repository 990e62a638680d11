//! Content comes in: up to its end, its bound, or the end of patience.

use std::io;
use std::time::Duration;

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};

use super::Session;
use crate::smtp::content::Content;
use crate::smtp::data::{ChunkDecoder, DataDecoder, Progress};
use crate::smtp::limits::{CONTENT_READ_BYTES, is_too_slow};

/// Where content ends.
pub(super) enum Until {
    Dot,
    Octets(u64),
}

/// What became of content.
pub(super) enum Received {
    All,
    TooSlow,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<'_, S> {
    /// Reads content of the mail that is coming in.
    pub(super) async fn receive(&mut self, until: Until) -> io::Result<Received> {
        let mut content = match self.content.take() {
            Some(content) => content,
            None => {
                // A reservation of nothing always succeeds; the content grows it.
                let memory = self.context.memory.try_reserve(0).ok_or(io::ErrorKind::OutOfMemory)?;
                Content::new(
                    memory,
                    self.context.settings.message_bytes_max,
                    self.context.delivery.holds_senders(),
                    self.context.delivery.spill(),
                )
            }
        };
        let received = match until {
            Until::Dot => {
                let mut decoder = DataDecoder::default();
                self.take(|input| decoder.push(input, |part| content.push(part))).await?
            }
            Until::Octets(octets) => {
                let mut decoder = ChunkDecoder::new(octets);
                self.take(|input| decoder.push(input, |part| content.push(part))).await?
            }
        };
        self.content = Some(content);
        Ok(received)
    }

    /// Reads past content that nobody wants.
    pub(super) async fn discard(&mut self, octets: u64) -> io::Result<Received> {
        let mut decoder = ChunkDecoder::new(octets);
        self.take(|input| decoder.push(input, |_| {})).await
    }

    /// Reads until `take` has all that it wants, or the client is too slow.
    async fn take(&mut self, mut take: impl FnMut(&[u8]) -> Progress) -> io::Result<Received> {
        self.flush().await?;
        let (started, mut bytes, mut longest_wait) = (Instant::now(), 0, Duration::ZERO);
        loop {
            match take(&self.input) {
                Progress::End(end) => {
                    self.input.advance(end);
                    return Ok(Received::All);
                }
                Progress::NeedMore => self.input.clear(),
            }
            if is_too_slow(bytes, started.elapsed(), longest_wait) {
                return Ok(Received::TooSlow);
            }
            let waiting = Instant::now();
            match timeout(self.context.idle_timeout, self.read::<CONTENT_READ_BYTES>()).await {
                Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(Ok(read)) => bytes += read as u64,
                Ok(Err(error)) => return Err(error),
                Err(_elapsed) => return Ok(Received::TooSlow),
            }
            longest_wait = longest_wait.max(waiting.elapsed());
        }
    }
}
