use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What listens where a webhook should, and answers with whatever bytes it likes.
pub(crate) struct RawWebhook {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

impl RawWebhook {
    /// Reads one request of each connection, then lets `answer` do what it wants; the connection ends
    /// with it.
    pub(crate) fn answering(answer: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
        let address = listener.local_addr().expect("an address");
        let requests = Arc::new(AtomicUsize::new(0));
        let (answer, count) = (Arc::new(answer), Arc::clone(&requests));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (answer, number) = (Arc::clone(&answer), count.fetch_add(1, Ordering::Relaxed));
                std::thread::spawn(move || {
                    read_request(&stream);
                    answer(number, stream);
                });
            }
        });
        Self { address, requests }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

fn read_request(stream: &TcpStream) {
    let (mut reader, mut line, mut length) = (BufReader::new(stream), String::new(), 0);
    while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 2) {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        line.clear();
    }
    let mut body = vec![0; length];
    let _ = reader.read_exact(&mut body);
}
