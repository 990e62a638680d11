//! What one mail takes of the heap, from its first byte to its delivery, against what
//! ARCHITECTURE.md says.
//!
//! Everything runs in this process. Every reallocation counts as a copy, old and new at once, which
//! is the worst that an allocator does. A binary and a test of its own: nobody else allocates.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::fmt::Write;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use mail_laser::address::Address;
use mail_laser::config::url::WebhookUrl;
use mail_laser::config::{MEMORY_PER_MAIL, WebhookConfig};
use mail_laser::delivery::Delivery;
use mail_laser::delivery::forward::Forward;
use mail_laser::delivery::intake::Intake;
use mail_laser::memory::MemoryBudget;
use mail_laser::metrics::Metrics;
use mail_laser::routes::live::Routes;
use mail_laser::routes::{Route, RouteTable};
use mail_laser::smtp::protocol::{Settings, TlsPolicy};
use mail_laser::smtp::session::{self, Context};
use mail_laser::smtp::transfers::Transfers;
use mail_laser::webhook::connectors::Connectors;
use mail_laser::webhook::destination::Destination;
use mail_laser_routes::reach::Reach;
use peak_alloc::PeakAlloc;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const MIB: usize = 1024 * 1024;
/// The default of `MAIL_LASER_MAX_MESSAGE_SIZE`.
const MESSAGE_BYTES_MAX: usize = 25 * MIB;
const MEMORY_BYTES_MAX: usize = 256 * MIB;

/// A kind of mail, and what it takes in multiples of its size.
struct Kind {
    name: &'static str,
    content: fn(usize) -> String,
    /// At its peak, right behind a doubling of the buffer for content, which is mostly empty then.
    peak: f64,
    /// The same for the largest mail, whose buffer is full.
    peak_of_largest: Option<f64>,
    /// While it waits and is delivered.
    waiting: f64,
    /// What its headers take besides, whatever its size.
    headers_bytes: usize,
}

const ATTACHMENT: Kind = Kind {
    name: "attachment in base64",
    content: attachment,
    peak: 3.0,
    peak_of_largest: Some(1.8),
    waiting: 1.0,
    headers_bytes: 0,
};

#[rustfmt::skip]
const KINDS: [Kind; 8] = [
    ATTACHMENT,
    Kind { name: "text in quoted-printable", content: quoted_printable, waiting: 1.1, peak_of_largest: None, ..ATTACHMENT },
    Kind { name: "text in UTF-8", content: utf8, waiting: 1.1, peak_of_largest: None, ..ATTACHMENT },
    Kind { name: "text in another charset", content: latin1, peak: 5.0, peak_of_largest: Some(4.4), waiting: 1.4, ..ATTACHMENT },
    Kind { name: "HTML alone", content: html, peak: 4.0, peak_of_largest: None, waiting: 2.0, ..ATTACHMENT },
    Kind { name: "a thousand parts", content: parts, waiting: 1.6, peak_of_largest: None, ..ATTACHMENT },
    Kind { name: "headers at every level", content: headers, peak_of_largest: None, headers_bytes: HEADERS_BYTES_MAX, ..ATTACHMENT },
    Kind { name: "headers for the webhook", content: wanted_headers, waiting: 1.5, peak_of_largest: None, headers_bytes: HEADERS_BYTES_MAX, ..ATTACHMENT },
];

/// Session, connection and buffers.
const FIXED_BYTES: usize = 256 * 1024;
/// A header section of the 256 KiB that are looked at, in its shortest headers.
const HEADERS_BYTES_MAX: usize = 8 * MIB;

#[tokio::test]
async fn a_mail_takes_no_more_of_the_heap_than_is_documented() {
    let mut table = String::new();
    let mut wrong = Vec::new();
    for kind in &KINDS {
        let sizes = [(MIB + 100_000, Some(kind.peak)), (MESSAGE_BYTES_MAX - 100_000, kind.peak_of_largest)];
        for (size, peak_max) in sizes {
            let Some(peak_max) = peak_max else { continue };
            let (peak, waiting, budget) = take(&(kind.content)(size)).await;
            let times = |bytes: usize| bytes as f64 / size as f64;
            let line = format!(
                "{:<24} {:>8} bytes: peak {:.2}, waiting {:.2} times its size, {:.2} of the budget",
                kind.name,
                size,
                times(peak),
                times(waiting),
                times(budget)
            );
            let within =
                |bytes: usize, factor: f64, fixed: usize| bytes as f64 <= factor * size as f64 + fixed as f64;
            if !within(peak, peak_max, FIXED_BYTES + kind.headers_bytes)
                || !within(waiting, kind.waiting, FIXED_BYTES)
                || waiting > budget + FIXED_BYTES
            {
                wrong.push(line.clone());
            }
            writeln!(table, "{line}").unwrap();
        }
    }
    println!("{table}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(KINDS.iter().all(|kind| kind.peak <= MEMORY_PER_MAIL as f64), "the budget covers all of them");
}

/// Receives a mail of this content and delivers it. Returns the heap at its peak and while the
/// webhook has the request and has not answered, and what is taken from the budget then.
async fn take(content: &str) -> (usize, usize, usize) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (received, answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let webhook = tokio::spawn(webhook(listener, Arc::clone(&received), Arc::clone(&answer)));
    let context = context(address);

    HEAP.reset_peak_usage();
    let before = HEAP.current_usage();
    converse(&context, content).await;
    received.notified().await;
    let peak = HEAP.peak_usage().saturating_sub(before);
    let waiting = HEAP.current_usage().saturating_sub(before);
    let budget = context.memory.used_bytes();

    answer.notify_one();
    context.delivery.finish(std::future::pending()).await;
    let metrics = context.metrics.encode().expect("metrics");
    assert!(metrics.contains("mail_laser_messages_total{route=\"default\",outcome=\"forwarded\"} 1"));
    assert_eq!(context.memory.used_bytes(), 0, "all of the budget is given back");
    webhook.abort();
    (peak, waiting, budget)
}

/// Reads one request without keeping it, and answers once it is told to.
async fn webhook(listener: TcpListener, received: Arc<Notify>, answer: Arc<Notify>) {
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).await.unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = stream.take(length);
    tokio::io::copy(&mut body, &mut tokio::io::sink()).await.unwrap();
    received.notify_one();
    answer.notified().await;
    let mut stream = body.into_inner();
    stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await.unwrap();
}

async fn converse(context: &Context, content: &str) {
    let (client, server) = tokio::io::duplex(64 * 1024);
    let client = async {
        let (reader, mut writer) = tokio::io::split(client);
        let mut reader = BufReader::new(reader);
        let mut reply = String::new();
        reader.read_line(&mut reply).await.unwrap();
        let envelope = "HELO c\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<x@known.example>\r\nDATA\r\n";
        writer.write_all(envelope.as_bytes()).await.unwrap();
        for code in ["250", "250", "250", "354"] {
            reply.clear();
            reader.read_line(&mut reply).await.unwrap();
            assert!(reply.starts_with(code), "{reply}");
        }
        writer.write_all(content.as_bytes()).await.unwrap();
        writer.write_all(b"\r\n.\r\n").await.unwrap();
        reply.clear();
        reader.read_line(&mut reply).await.unwrap();
        assert!(reply.starts_with("250"), "{reply}");
        writer.shutdown().await.unwrap();
    };
    let peer = SocketAddr::from(([192, 0, 2, 1], 25));
    let (_ended, ()) = tokio::join!(session::run(server, peer, false, context), client);
}

fn context(webhook: SocketAddr) -> Context {
    let metrics = Arc::new(Metrics::default());
    let webhook = WebhookConfig {
        url: WebhookUrl::parse(&format!("http://{webhook}/"), false).unwrap(),
        bearer_token: None,
        ca_roots: Vec::new(),
        timeout: Duration::from_secs(600),
        retries_max: 0,
        breaker_threshold: NonZeroU32::MIN,
        breaker_reset: Duration::from_secs(60),
        concurrency: NonZeroU32::MIN,
        headers: HeaderMap::new(),
        signing_secrets: Vec::new(),
        reach: Reach::Anywhere,
    };
    let destination =
        Destination::new("default", &webhook, &Connectors::default(), metrics.route("default")).unwrap();
    let route = Arc::new(Route { destination, header_prefixes: vec!["x-".to_owned()] });
    let known = [Address::parse("x@known.example").unwrap()];
    let memory = MemoryBudget::new(MEMORY_BYTES_MAX);
    Context {
        transfers: Transfers::new(&memory, Arc::clone(&metrics)),
        settings: Settings {
            hostname: "mx.example.com".into(),
            message_bytes_max: MESSAGE_BYTES_MAX,
            unknown_recipients_max: None,
            tls: TlsPolicy::Off,
        },
        idle_timeout: Duration::from_secs(600),
        routes: Arc::new(Routes::new(RouteTable::of_one(&known, &route))),
        delivery: Arc::new(Delivery::Forward(Forward::new(Intake::new(1_000, MESSAGE_BYTES_MAX, false)))),
        memory,
        metrics,
        tls: None,
        draining: CancellationToken::new(),
    }
}

/// `head` and as many of `line` as make `size` octets.
fn filled(head: &str, line: &str, size: usize) -> String {
    let mut content = String::with_capacity(size);
    content.push_str(head);
    while content.len() + line.len() <= size {
        content.push_str(line);
    }
    content
}

fn attachment(size: usize) -> String {
    let head = "Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n";
    filled(head, &format!("{}\r\n", "QUJD".repeat(19)), size)
}

fn quoted_printable(size: usize) -> String {
    let head =
        "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n";
    filled(head, &format!("{}\r\n", "words gr=C3=BC=C3=9Fe ".repeat(3)), size)
}

fn utf8(size: usize) -> String {
    filled(
        "Content-Type: text/plain; charset=utf-8\r\n\r\n",
        &format!("{}\r\n", "gr\u{fc}\u{df}e ".repeat(9)),
        size,
    )
}

/// Each octet outside of ASCII becomes one character of two octets.
fn latin1(size: usize) -> String {
    filled(
        "Content-Type: text/plain; charset=iso-8859-1\r\n\r\n",
        &format!("{}\r\n", "gr\u{fc}e ".repeat(9)),
        size,
    )
}

fn html(size: usize) -> String {
    filled(
        "Content-Type: text/html; charset=utf-8\r\n\r\n",
        "<p>Dear all, there is a lot to read.</p>\r\n",
        size,
    )
}

fn parts(size: usize) -> String {
    let part = format!("--b\r\nContent-Type: image/png\r\n\r\n{}\r\n", "x".repeat(size / 1_000 - 40));
    filled("Content-Type: multipart/mixed; boundary=b\r\n\r\n", &part, size)
}

/// As many headers as are looked at, all of them wanted.
fn wanted_headers(size: usize) -> String {
    let headers: String = (0..28_000).map(|number| format!("x-{number:x}:\n")).collect();
    filled(&format!("{headers}\r\n"), "text\r\n", size)
}

/// Parts in parts, each with as many headers as are looked at.
fn headers(size: usize) -> String {
    let mut content = String::with_capacity(size);
    let mut level = 0;
    let short = "x:\n".repeat(80_000);
    while level < 50 && content.len() + short.len() + 200 < size {
        write!(content, "Content-Type: multipart/mixed; boundary=l{level}l\r\n{short}\r\n--l{level}l\r\n")
            .unwrap();
        level += 1;
    }
    filled(&content, "text\r\n", size)
}
