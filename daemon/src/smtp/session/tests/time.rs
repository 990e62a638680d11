//! How long a session may last: RFC 5321 section 4.5.3.2, in a time that passes by itself.

use tokio::io::{ReadHalf, WriteHalf};

use super::*;
use crate::smtp::limits::{CONTENT_TIME_MAX, CONTENT_WAIT_MAX, IDLE_COMMANDS_MAX};

/// What RFC 5321 section 4.5.3.2.7 asks a server for.
const FIVE_MINUTES: Duration = Duration::from_secs(5 * 60);

const ENVELOPE: &str = "EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@known.example>\r\n";

/// Serves a client that says what `speak` does; returns after how long it was sent away, and with
/// which words.
async fn sent_away<F: Future<Output = ()>>(
    speak: impl FnOnce(WriteHalf<DuplexStream>) -> F,
) -> (Duration, String) {
    let mut context = Context { idle_timeout: FIVE_MINUTES, ..context() };
    context.settings.message_bytes_max = 700_000;
    let (client, server) = tokio::io::duplex(64 * 1024);
    let (mut reader, writer) = tokio::io::split(client);
    let started = Instant::now();
    let session = run(server, SocketAddr::from(([192, 0, 2, 1], 25)), false, &context);
    let talk = async {
        let mut replies = Vec::new();
        while !replies.ends_with(b"\r\n") {
            replies.push(reader.read_u8().await.unwrap());
        }
        tokio::select! {
            () = async { speak(writer).await; std::future::pending().await } => {}
            read = reader.read_to_end(&mut replies) => { read.unwrap(); }
        }
        let replies = String::from_utf8(replies).unwrap();
        (started.elapsed(), replies.lines().last().unwrap().to_owned())
    };
    let (_, told) = tokio::join!(session, talk);
    told
}

/// Says `first`, and then `piece` again and again, each time after `pause`.
async fn trickle(first: &str, piece: &[u8], pause: Duration) -> (Duration, String) {
    sent_away(|mut writer| async move {
        writer.write_all(first.as_bytes()).await.unwrap();
        loop {
            sleep(pause).await;
            if writer.write_all(piece).await.is_err() {
                return;
            }
        }
    })
    .await
}

async fn silence_after(first: &str) -> (Duration, String) {
    trickle(first, b"", Duration::from_secs(3_600)).await
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_session_after_five_minutes_wherever_it_is() {
    for first in [
        String::new(),
        "EHL".into(),
        ENVELOPE.into(),
        format!("{ENVELOPE}DATA\r\n"),
        format!("{ENVELOPE}DATA\r\nhalf a line"),
        format!("{ENVELOPE}BDAT 10\r\n12345"),
        format!("{ENVELOPE}BDAT 10\r\n1234567890"),
        "BDAT 10\r\n12345".into(),
    ] {
        let (after, words) = silence_after(&first).await;
        assert_eq!((after.as_secs(), &words[..9]), (300, "421 4.4.2"), "{first:?}: {words}");
    }
}

#[tokio::test(start_paused = true)]
async fn silence_counts_from_the_last_command() {
    for commands in 1..4 {
        let (after, words) = sent_away(|mut writer| async move {
            for _ in 0..commands {
                sleep(Duration::from_secs(200)).await;
                writer.write_all(b"NOOP\r\n").await.unwrap();
            }
        })
        .await;
        assert_eq!((after.as_secs(), &words[..9]), (commands * 200 + 300, "421 4.4.2"), "{words}");
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_that_trickle_end_with_the_time_for_a_mail() {
    for (first, piece) in [("", &b"x"[..]), ("EHLO c\r\n", b"NOOP\r\n"), (ENVELOPE, b"R")] {
        let (after, words) = trickle(first, piece, Duration::from_secs(100)).await;
        assert_eq!((after, &words[..9]), (MAIL_TIME_MAX, "421 4.4.2"), "{piece:?}: {words}");
    }
    assert!(MAIL_TIME_MAX.as_secs() / 100 < u64::from(IDLE_COMMANDS_MAX), "it is the time that ended them");
}

#[tokio::test(start_paused = true)]
async fn content_that_trickles_ends_after_three_minutes() {
    for first in
        [format!("{ENVELOPE}DATA\r\n"), format!("{ENVELOPE}BDAT 100000\r\n"), "BDAT 100000\r\n".into()]
    {
        let (after, words) = trickle(&first, b"x", Duration::from_secs(1)).await;
        assert_eq!((after.as_secs(), &words[..9]), (182, "421 4.4.2"), "{first:?}: {words}");
    }
}

/// What scans the mail between the sender and us, or a network that loses packets, may keep it for minutes.
#[tokio::test(start_paused = true)]
async fn content_may_begin_late() {
    for octets in [0, 100_000] {
        let (after, words) = sent_away(|mut writer| async move {
            writer.write_all(format!("{ENVELOPE}DATA\r\n").as_bytes()).await.unwrap();
            sleep(FIVE_MINUTES - Duration::from_secs(1)).await;
            let content = "x\r\n".repeat(octets / 3);
            writer.write_all(format!("\r\n{content}.\r\nQUIT\r\n").as_bytes()).await.unwrap();
        })
        .await;
        assert_eq!((after.as_secs(), &words[..3]), (299, "221"), "{octets}: {words}");
    }
}

#[tokio::test(start_paused = true)]
async fn content_without_end_ends_however_fast_it_comes() {
    let first = format!("{ENVELOPE}DATA\r\n");
    let (after, words) = trickle(&first, &[b'x'; 10_000], Duration::from_secs(10)).await;
    assert!(after > CONTENT_WAIT_MAX && after < CONTENT_WAIT_MAX + Duration::from_secs(20), "{after:?}");
    assert!(words.starts_with("421 4.4.2"), "{words}");
}

/// A client that has sent a lot holds a lot, and has to go on at a rate that fits.
#[tokio::test(start_paused = true)]
async fn content_that_trickles_after_a_fast_start_ends_within_minutes() {
    for first in [
        format!("{ENVELOPE}DATA\r\n{}", "x".repeat(1_000_000)),
        format!("{ENVELOPE}BDAT 2000000\r\n{}", "x".repeat(1_000_000)),
    ] {
        let (after, words) = trickle(&first, b"x", Duration::from_secs(1)).await;
        assert_eq!((after.as_secs(), &words[..9]), (182, "421 4.4.2"), "{words}");
    }
}

/// What chunks have brought is held while the next one is waited for.
#[tokio::test(start_paused = true)]
async fn silence_between_chunks_counts() {
    let first = format!("{ENVELOPE}BDAT 900\r\n{}", "x".repeat(900));
    let (after, words) = trickle(&first, b"BDAT 1\r\nx", Duration::from_secs(100)).await;
    assert_eq!((after.as_secs(), &words[..9]), (100 + 180, "421 4.4.2"), "{words}");
}

/// Content in chunks may take as long as content in one piece.
#[tokio::test(start_paused = true)]
async fn content_in_chunks_outlives_the_time_between_messages() {
    let (after, words) = sent_away(|mut writer| async move {
        writer.write_all(ENVELOPE.as_bytes()).await.unwrap();
        for _ in 0..60 {
            sleep(Duration::from_secs(60)).await;
            let chunk = format!("BDAT 10000\r\n{}", "x".repeat(10_000));
            writer.write_all(chunk.as_bytes()).await.unwrap();
        }
        writer.write_all(b"BDAT 0 LAST\r\nQUIT\r\n").await.unwrap();
    })
    .await;
    assert!(words.contains("221 ") && after > MAIL_TIME_MAX, "{words} after {after:?}");
}

/// What is there to be read is read without a wait that could count.
#[tokio::test(start_paused = true)]
async fn content_that_never_pauses_ends_all_the_same() {
    let (context, (mut client, server)) = (context(), tokio::io::duplex(10_000));
    let protocol = Protocol::new(context.settings.clone());
    let mut session = Session::new(server, SocketAddr::from(([192, 0, 2, 1], 25)), protocol, &context);
    let transfer = Transfer::new(&context, &session.client).unwrap();
    session.content = Some(transfer);
    tokio::time::advance(CONTENT_TIME_MAX).await;
    client.write_all(&[b'x'; 5_000]).await.unwrap();
    let received = session.receive(Until::Dot).await.unwrap();
    assert!(matches!(received, Received::Ended(reply) if reply.code() == 421));
    assert!(session.content.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_mail_gives_a_session_its_time_anew() {
    let (after, words) = sent_away(|mut writer| async move {
        writer.write_all(b"EHLO c\r\n").await.unwrap();
        for _ in 0..10 {
            // Five minutes at once would be silence.
            for _ in 0..6 {
                writer.write_all(b"NOOP\r\n").await.unwrap();
                sleep(Duration::from_secs(200)).await;
            }
            writer
                .write_all(b"MAIL FROM:<>\r\nRCPT TO:<x@known.example>\r\nBDAT 2 LAST\r\n\r\n")
                .await
                .unwrap();
        }
        sleep(Duration::from_secs(1)).await;
        writer.write_all(b"QUIT\r\n").await.unwrap();
    })
    .await;
    assert_eq!((after.as_secs(), &words[..3]), (10 * 6 * 200 + 1, "221"), "{words}");
}

/// What is there to be read is read without a look at the clock.
#[tokio::test(start_paused = true)]
async fn a_client_that_never_pauses_is_not_served_for_ever() {
    let (context, (mut client, server)) = (context(), tokio::io::duplex(1_000));
    let protocol = Protocol::new(context.settings.clone());
    let mut session = Session::new(server, SocketAddr::from(([192, 0, 2, 1], 25)), protocol, &context);
    session.deadline = Instant::now();
    client.write_all(b"NOOP\r\nNOOP\r\n").await.unwrap();
    assert!(matches!(session.converse().await, Ok(End::Close)));
    assert_eq!(session.output, b"421 4.4.2 Idle for too long\r\n");
}

/// A client that asks without reading the answers would otherwise hold its session.
#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_cut_off() {
    let context = Context { idle_timeout: FIVE_MINUTES, ..context() };
    let (client, server) = tokio::io::duplex(100);
    let (reader, mut writer): (ReadHalf<_>, _) = tokio::io::split(client);
    let started = Instant::now();
    let session = run(server, SocketAddr::from(([192, 0, 2, 1], 25)), false, &context);
    let talk = async {
        // It stops once nobody takes any more.
        let _ = timeout(FIVE_MINUTES * 10, async { while writer.write_all(b"EHLO c\r\n").await.is_ok() {} })
            .await;
    };
    let (ended, ()) = tokio::join!(async { (session.await, started.elapsed()) }, talk);
    drop(reader);
    assert_eq!(ended.0.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(ended.1, FIVE_MINUTES);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_has_half_a_minute() {
    let (context, (client, server)) = (context(), tokio::io::duplex(1_000));
    let started = Instant::now();
    let ended = run(server, SocketAddr::from(([192, 0, 2, 1], 25)), true, &context).await;
    assert_eq!((ended.unwrap_err().kind(), started.elapsed()), (io::ErrorKind::TimedOut, HANDSHAKE_TIME_MAX));
    drop(client);
}
