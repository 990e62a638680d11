//! How `mail-laser spool` speaks to the daemon that writes: one line of JSON each way over a socket in
//! the spool's directory, which only the user may open that the daemon runs as.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::dead::keeper::Wish;
use super::selector::Selector;

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
    /// Dead letters that were left alone because the disk has damaged their content.
    #[serde(default)]
    pub damaged: u64,
}

/// Makes the socket in a spool's directory; one that a process before has left goes.
///
/// # Errors
/// What the system says.
pub fn listen(directory: &Path) -> io::Result<UnixListener> {
    let place = Place::of(directory)?;
    let path = place.path();
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
    let place = Place::of(directory)?;
    let mut stream = UnixStream::connect(place.path()).await?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).await?;
    Ok(serde_json::from_str(&answer)?)
}

/// Bytes of a socket's path, the end that C wants aside (`unix(7)`).
const PATH_BYTES_MAX: usize = 107;

/// Where the socket is.
enum Place {
    Path(PathBuf),
    /// In a directory whose path is too long for a socket: by way of the open directory it is short.
    Open(File),
}

impl Place {
    fn of(directory: &Path) -> io::Result<Self> {
        let path = directory.join(SOCKET);
        if path.as_os_str().len() <= PATH_BYTES_MAX {
            return Ok(Self::Path(path));
        }
        File::open(directory).map(Self::Open)
    }

    fn path(&self) -> PathBuf {
        match self {
            Self::Path(path) => path.clone(),
            Self::Open(directory) => {
                PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(SOCKET)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::dead::keeper::Wish;

    #[tokio::test]
    async fn socket_works_in_a_directory_whose_path_is_too_long_for_one() {
        let parent = tempfile::tempdir().unwrap();
        for length in [10, 90, 200] {
            let directory = parent.path().join("d".repeat(length));
            std::fs::create_dir(&directory).unwrap();
            let listener = listen(&directory).unwrap();
            let mode = std::fs::metadata(directory.join(SOCKET)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            let request = Request { selector: Selector::default(), wish: Wish::Retry };
            let done = Done { done: 3, ..Done::default() };
            let (asked, served) = tokio::join!(ask(&directory, &request), async {
                let (stream, _) = listener.accept().await.unwrap();
                serve(stream, async |_| Ok(done)).await
            });
            served.unwrap();
            assert_eq!(asked.unwrap(), Ok(done), "{length} bytes");
        }
    }
}
