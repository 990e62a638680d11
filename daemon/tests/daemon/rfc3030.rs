//! CHUNKING and BINARYMIME: RFC 3030, over a socket.

use crate::harness::{Daemon, Webhook};

#[test]
fn chunks_are_joined_whatever_they_hold() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = daemon.client();
    assert_eq!(client.ask("MAIL FROM:<a@example.org> BODY=BINARYMIME").0, 250);
    assert_eq!(client.ask("RCPT TO:<support@example.com>").0, 250);
    let header = "Content-Type: application/octet-stream\r\n";
    client.send(format!("BDAT {}\r\n{header}BDAT 4\r\n\r\n\0\r", header.len()));
    assert_eq!(client.reply().0, 250);
    assert_eq!(client.reply().0, 250);
    client.send(b"BDAT 6 LAST\r\n\n.\r\n\xff\n".as_slice());
    let (code, text) = client.reply();
    assert_eq!((code, text.contains("accepted")), (250, true), "{text}");
    let attachments = &webhook.wait_for(1)[0].json["attachments"];
    assert_eq!(attachments[0]["data_base64"], "AA0KLg0K/wo=", "{attachments}");
}

#[test]
fn what_looks_like_commands_or_an_end_in_a_chunk_is_content() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = daemon.client();
    client.envelope("support@example.com");
    let inner =
        "\r\nx\r\n.\r\nMAIL FROM:<evil@example.org>\r\nRCPT TO:<support@example.com>\r\nDATA\r\nx\r\n.\r\n";
    client.send(format!("BDAT {} LAST\r\n{inner}QUIT\r\n", inner.len()));
    assert_eq!(client.reply().0, 250);
    assert_eq!(client.reply().0, 221);
    let received = webhook.wait_for(1);
    assert_eq!(received[0].json["body"], inner[2..]);
    assert_eq!(received.len(), 1);
}

#[test]
fn octets_of_a_refused_chunk_are_not_taken_for_commands() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = daemon.client();
    client.send("BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n");
    assert_eq!(client.reply().0, 503);
    assert_eq!(client.reply().0, 250);
    client.send("BDAT nonsense\r\nMAIL FROM:<a@example.org>\r\n");
    assert_eq!(client.reply().0, 501);
    assert!(client.is_closed());
}

#[test]
fn the_size_limit_holds_over_all_chunks() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_MAX_MESSAGE_SIZE", "1000")]);
    let mut client = daemon.client();
    client.envelope("support@example.com");
    let chunk = "x".repeat(600);
    client.send(format!("BDAT 600\r\n{chunk}"));
    assert_eq!(client.reply().0, 250);
    client.send(format!("BDAT 600\r\n{chunk}BDAT 600 LAST\r\n{chunk}"));
    assert_eq!(client.reply().0, 552);
    assert_eq!(client.reply().0, 503);
    client.envelope("support@example.com");
    client.send("BDAT 2 LAST\r\n\r\n");
    assert_eq!(client.reply().0, 250);
    assert_eq!(webhook.wait_for(1)[0].json["size_bytes"], 2);
}
