//! What comes from a stream, into no more room than there are bytes.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};

use crate::smtp::limits::READ_BYTES;

/// Reads up to `ROOM` bytes. The room for them is there only while there are any: sessions that
/// wait are many, and what each of them holds adds up.
pub(super) async fn read<const ROOM: usize>(
    stream: &mut (impl AsyncRead + Unpin),
    input: &mut BytesMut,
) -> io::Result<usize> {
    poll_fn(|task| {
        let mut room = [MaybeUninit::uninit(); ROOM];
        let mut room = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut *stream).poll_read(task, &mut room))?;
        input.extend_from_slice(room.filled());
        Poll::Ready(Ok(room.filled().len()))
    })
    .await
}

/// Waits until a client that has said nothing more closes its side.
///
/// One that did say more, such as QUIT, may have closed its side and listen all the same.
pub(super) async fn hangs_up(stream: &mut (impl AsyncRead + Unpin), input: &mut BytesMut) {
    while input.is_empty() {
        match read::<READ_BYTES>(stream, input).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
    }
    std::future::pending::<()>().await;
}
