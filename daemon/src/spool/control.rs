//! How `mail-laser spool` speaks to the daemon that writes: one line of JSON each way over a socket in
//! the spool's directory, which only the user may open that the daemon runs as.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::selector::Selector;
use super::writer::Wish;

/// The socket.
const SOCKET: &str = "control.sock";

/// Octets of a request: more ids than fit on a command line.
const REQUEST_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How long a client may take to say what it wants.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What a person wants.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// Of which mails.
    pub selector: Selector,
    /// What.
    pub wish: Wish,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Mails, at each destination, that it was done to.
    pub done: u64,
    /// Mails that were just being delivered, and were left alone.
    pub busy: u64,
}

/// Makes the socket in a spool's directory; one that a process before has left goes.
///
/// # Errors
/// What the system says.
pub fn listen(directory: &Path) -> io::Result<UnixListener> {
    let path = path(directory);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Reads a request and answers it with what `act` says.
///
/// # Errors
/// When the client says nothing that is understood, or has gone.
pub async fn serve<F>(stream: UnixStream, act: impl FnOnce(Request) -> F) -> io::Result<()>
where
    F: Future<Output = Result<Done, String>>,
{
    let (reading, mut writing) = stream.into_split();
    let mut line = String::new();
    let mut reading = BufReader::new(reading.take(REQUEST_BYTES_MAX));
    timeout(REQUEST_TIMEOUT, reading.read_line(&mut line)).await??;
    let answer = act(serde_json::from_str(&line)?).await;
    let mut answer = serde_json::to_vec(&answer)?;
    answer.push(b'\n');
    writing.write_all(&answer).await
}

/// Asks the daemon that writes to the spool in `directory`.
///
/// # Errors
/// When there is none, it does not answer, or it could not do all of it.
pub async fn ask(directory: &Path, request: &Request) -> io::Result<Result<Done, String>> {
    let mut stream = UnixStream::connect(path(directory)).await?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).await?;
    Ok(serde_json::from_str(&answer)?)
}

fn path(directory: &Path) -> PathBuf {
    directory.join(SOCKET)
}
