//! Sessions when memory is short: the slowest transfer ends, and others go on.

use std::net::Ipv4Addr;

use super::*;
use crate::quota::Shortage;
use crate::smtp::transfers::Resource;

const MEBIBYTE: usize = 1024 * 1024;

/// Sessions with messages of up to `message_bytes_max` in `memory` bytes.
fn narrow(memory: usize, message_bytes_max: usize) -> Context {
    let context = context();
    let memory = MemoryBudget::new(memory);
    let settings = Settings { message_bytes_max, ..context.settings.clone() };
    let transfers = Transfers::new(&memory, Arc::clone(&context.metrics));
    let idle_timeout = Duration::from_secs(300);
    Context { settings, memory, transfers, idle_timeout, ..context }
}

fn client(number: u8, usage: ClientUsage) -> Client {
    Client::new(SocketAddr::from((Ipv4Addr::new(192, 0, 2, number), 25)), usage)
}

/// A conversation with a session that runs beside it.
async fn beside<T>(context: &Context, client: Client, talk: impl AsyncFnOnce(&mut DuplexStream) -> T) -> T {
    let (mut stream, server) = tokio::io::duplex(MEBIBYTE);
    let session = run(server, client, false, context);
    let talk = async {
        let told = talk(&mut stream).await;
        drop(stream);
        told
    };
    let (_, told) = tokio::join!(session, talk);
    told
}

async fn reply(stream: &mut DuplexStream) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(line).unwrap()
}

/// Gives an envelope, and `bytes` of content that does not end.
async fn begin(stream: &mut DuplexStream, how: &str, bytes: usize) {
    let envelope = format!("EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@known.example>\r\n{how}\r\n");
    stream.write_all(envelope.as_bytes()).await.unwrap();
    stream.write_all(&vec![b'x'; bytes]).await.unwrap();
}

/// Reads up to the first reply with this code.
async fn wait_for(stream: &mut DuplexStream, code: &str) -> String {
    loop {
        let line = reply(stream).await;
        if line.starts_with(code) {
            return line;
        }
    }
}

/// Waits until the memory that is in use fulfils `is_enough`.
async fn until_used(context: &Context, is_enough: impl Fn(usize) -> bool) {
    while !is_enough(context.memory.used_bytes()) {
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_slowest_transfer_ends_when_memory_is_short() {
    for how in ["DATA", "BDAT 3000000", "BDAT 1000000"] {
        let context = narrow(4 * MEBIBYTE, 3 * MEBIBYTE);
        let slow = beside(&context, client(1, ClientUsage::default()), async |stream| {
            begin(stream, how, 1_000_000).await;
            until_used(&context, |used| used >= MEBIBYTE).await;
            // Of the bytes that came fast, nothing is left to be seen.
            sleep(Duration::from_secs(20)).await;
            wait_for(stream, "421").await
        });
        let other = beside(&context, client(2, ClientUsage::default()), async |stream| {
            until_used(&context, |used| used >= MEBIBYTE).await;
            sleep(Duration::from_secs(25)).await;
            // Its content has room, and reading it has not.
            begin(stream, "DATA", 700_000).await;
            let begun = Instant::now();
            stream.write_all(b"\r\n.\r\n").await.unwrap();
            let reply = wait_for(stream, "250 2.0.0 Ok, accepted").await;
            assert!(begun.elapsed() < Duration::from_secs(1), "{how}: {:?}", begun.elapsed());
            reply
        });
        let (slow, _) = tokio::join!(slow, other);
        assert!(slow.starts_with("421 4.3.2"), "{how}: {slow}");
        let metrics = context.metrics.encode().unwrap();
        assert!(metrics.contains("transfers_ended_total{reason=\"memory\"} 1\n"), "{how}: {metrics}");
    }
}

#[tokio::test(start_paused = true)]
async fn content_waits_for_the_memory_of_the_slowest_transfer() {
    let context = narrow(4 * MEBIBYTE, 3 * MEBIBYTE);
    let slow = beside(&context, client(1, ClientUsage::default()), async |stream| {
        begin(stream, "DATA", 1_000_000).await;
        wait_for(stream, "421").await
    });
    let other = beside(&context, client(2, ClientUsage::default()), async |stream| {
        until_used(&context, |used| used >= MEBIBYTE).await;
        sleep(Duration::from_secs(25)).await;
        begin(stream, "DATA", 2_700_000).await;
        until_used(&context, |used| used >= 2_700_000).await;
        stream.write_all(b"\r\n.\r\n").await.unwrap();
        wait_for(stream, "451").await
    });
    let (slow, other) = tokio::join!(slow, other);
    assert!(slow.starts_with("421 4.3.2"), "{slow}");
    assert!(
        other.contains("No memory"),
        "its content came in, and reading takes more than there is: {other}"
    );
    assert_eq!(context.memory.used_bytes(), 0);
}

/// A client that does not read its replies is not told why.
#[tokio::test(start_paused = true)]
async fn a_transfer_whose_client_reads_nothing_ends_too() {
    let context = narrow(4 * MEBIBYTE, 3 * MEBIBYTE);
    let (mut stream, server) = tokio::io::duplex(128);
    let session = run(server, client(1, ClientUsage::default()), false, &context);
    let talk = async {
        stream.write_all(b"EHLO c\r\n").await.unwrap();
        wait_for(&mut stream, "250 ").await;
        stream.write_all(b"MAIL FROM:<>\r\nRCPT TO:<x@known.example>\r\n").await.unwrap();
        stream.write_all(b"BDAT 100000\r\n").await.unwrap();
        stream.write_all(&[b'x'; 100_000]).await.unwrap();
        // Until replies that are not read keep the session from reading.
        while let Ok(written) = timeout(Duration::from_secs(1), stream.write_all(b"MAIL FROM:<>\r\n")).await {
            written.unwrap();
        }
        sleep(Duration::from_secs(20)).await;
        assert!(context.memory.used_bytes() >= 100_000);
        assert!(context.transfers.make_room(Resource::Memory, Shortage::Free(1)));
    };
    let (ended, ()) = tokio::join!(session, talk);
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(context.memory.used_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_makes_progress_does_not_end_for_others() {
    let context = narrow(4 * MEBIBYTE, 3 * MEBIBYTE);
    let fast = beside(&context, client(1, ClientUsage::default()), async |stream| {
        begin(stream, "DATA", 1_000_000).await;
        for _ in 0..60 {
            stream.write_all(&[b'x'; 30_000]).await.unwrap();
            sleep(Duration::from_secs(1)).await;
        }
        stream.write_all(b"\r\n.\r\n").await.unwrap();
        wait_for(stream, "451").await
    });
    let other = beside(&context, client(2, ClientUsage::default()), async |stream| {
        until_used(&context, |used| used >= 2 * MEBIBYTE).await;
        begin(stream, "DATA", 2_500_000).await;
        stream.write_all(b"\r\n.\r\n").await.unwrap();
        wait_for(stream, "451").await
    });
    let (fast, other) = tokio::join!(fast, other);
    assert!(fast.contains("No memory") && other.contains("No memory"), "{fast}, {other}");
    assert!(context.metrics.encode().unwrap().contains("transfers_ended_total{reason=\"memory\"} 0\n"));
}

#[tokio::test(start_paused = true)]
async fn a_client_beyond_its_quota_is_told_so_and_others_go_on() {
    let context = narrow(8 * MEBIBYTE, 3 * MEBIBYTE);
    let usage = ClientUsage::limited();
    let hold = |bytes| {
        beside(&context, client(1, usage.clone()), async move |stream: &mut DuplexStream| {
            begin(stream, "DATA", bytes).await;
            for _ in 0..20 {
                stream.write_all(&[b'x'; 20_000]).await.unwrap();
                sleep(Duration::from_secs(1)).await;
            }
            stream.write_all(b"\r\n.\r\n").await.unwrap();
            wait_for(stream, "451").await
        })
    };
    let over = async {
        until_used(&context, |used| used >= 3 * MEBIBYTE).await;
        hold(1_500_000).await
    };
    let other = async {
        until_used(&context, |used| used >= 3 * MEBIBYTE).await;
        sleep(Duration::from_secs(5)).await;
        beside(&context, client(2, ClientUsage::limited()), async |stream| {
            begin(stream, "DATA", 100_000).await;
            stream.write_all(b"\r\n.\r\n").await.unwrap();
            wait_for(stream, "250 2.0.0 Ok, accepted").await
        })
        .await
    };
    let (_, over, _) = tokio::join!(hold(2_500_000), over, other);
    assert!(over.contains("Your address sends too much"), "{over}");
    assert_eq!(usage.memory.bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_new_connection_gets_the_memory_of_the_slowest_transfer() {
    let context = narrow(MEBIBYTE, 200_000);
    let slow = beside(&context, client(1, ClientUsage::default()), async |stream| {
        begin(stream, "DATA", 150_000).await;
        wait_for(stream, "421").await
    });
    let session = async {
        until_used(&context, |used| used >= 150_000).await;
        let _others = context.memory.try_reserve(context.memory.free_bytes()).unwrap();
        sleep(Duration::from_secs(20)).await;
        let begun = Instant::now();
        let memory = context.transfers.memory_for_session(&context.memory, 16_000).await;
        assert!(memory.is_some() && begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
        let _rest = context.memory.try_reserve(context.memory.free_bytes()).unwrap();
        assert!(context.transfers.memory_for_session(&context.memory, 16_000).await.is_none());
    };
    let (slow, ()) = tokio::join!(slow, session);
    assert!(slow.contains("Too little memory"), "{slow}");
}
