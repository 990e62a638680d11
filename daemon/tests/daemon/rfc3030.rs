//! CHUNKING and BINARYMIME: RFC 3030, over a socket.

use std::cell::RefCell;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

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
    let refused = "mail_laser_messages_total{route=\"default\",outcome=\"rejected\"}";
    assert_eq!(daemon.metric(refused), Some(1.0));
    daemon.wait_for_log("mail refused", 1);
    client.envelope("support@example.com");
    client.send("BDAT 2 LAST\r\n\r\n");
    assert_eq!(client.reply().0, 250);
    assert_eq!(webhook.wait_for(1)[0].json["size_bytes"], 2);
}

/// RFC 3030 section 4.2: a client need not wait for the reply to a chunk.
#[test]
fn pipelined_chunks_are_answered_in_their_order() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = daemon.client();
    // The chunks are cut within line ends.
    client.send(
        "MAIL FROM:<a@example.org>\r\nRCPT TO:<support@example.com>\r\nBDAT 13\r\nSubject: one\rBDAT 4\r\n\n\r\n\r\
         BDAT 1\r\n\nBDAT 0\r\nBDAT 2 LAST\r\nx\nMAIL FROM:<b@example.org>\r\nRCPT TO:<support@example.com>\r\n\
         BDAT 2 LAST\r\n\r\nQUIT\r\n",
    );
    let replies: Vec<(u16, String)> = (0..11).map(|_| client.reply()).collect();
    let codes: Vec<u16> = replies.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [250, 250, 250, 250, 250, 250, 250, 250, 250, 250, 221]);
    for (reply, octets) in [(2, "13 octets"), (3, "4 octets"), (4, "1 octets"), (5, "0 octets")] {
        assert!(replies[reply].1.contains(octets), "{:?}", replies[reply]);
    }
    let received = webhook.wait_for(2);
    let first = received.iter().find(|request| request.json["sender"] == "a@example.org").unwrap();
    assert_eq!((&first.json["subject"], &first.json["size_bytes"]), (&"one".into(), &20.into()));
}

/// Section 2: each chunk has its reply, also a last one of nothing.
#[test]
fn the_last_chunk_may_be_empty() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = daemon.client();
    client.envelope("support@example.com");
    client.send("BDAT 15\r\nSubject: x\r\n\r\nyBDAT 0 LAST\r\n");
    assert_eq!(client.reply().0, 250);
    let (code, text) = client.reply();
    assert_eq!((code, text.contains("accepted")), (250, true), "{text}");
    client.envelope("support@example.com");
    assert_eq!(client.ask("BDAT 0 LAST").0, 250, "and all of the mail may be");
    let sizes: Vec<_> =
        webhook.wait_for(2).iter().map(|request| request.json["size_bytes"].clone()).collect();
    assert!(sizes.contains(&15.into()) && sizes.contains(&0.into()), "{sizes:?}");
}

/// Section 2: "DATA and BDAT commands cannot be used in the same transaction."
#[test]
fn data_and_bdat_do_not_mix() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = daemon.client();
    client.envelope("support@example.com");
    client.send("BDAT 2\r\nx\nDATA\r\n");
    assert_eq!(client.codes(2), [250, 503]);
    client.send("BDAT 1 LAST\r\ny");
    assert_eq!(client.reply().0, 250, "the chunks go on");
    // After DATA, BDAT is text.
    client.begin_mail("support@example.com");
    client.send("\r\nBDAT 1 LAST\r\n.\r\n");
    assert_eq!(client.reply().0, 250);
    let bodies: Vec<_> = webhook.wait_for(2).iter().map(|request| request.json["body"].clone()).collect();
    assert!(bodies.contains(&"BDAT 1 LAST\r\n".into()), "{bodies:?}");
    // BINARYMIME is for BDAT alone: section 3.
    assert_eq!(client.ask("MAIL FROM:<a@example.org> BODY=BINARYMIME").0, 250);
    assert_eq!(client.ask("RCPT TO:<support@example.com>").0, 250);
    assert_eq!(client.ask("DATA").0, 503);
}

#[test]
fn a_chunk_without_a_recipient_is_swallowed() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = daemon.client();
    client
        .send("MAIL FROM:<a@example.org>\r\nRCPT TO:<nobody@example.com>\r\nBDAT 6 LAST\r\nNOOP\r\nNOOP\r\n");
    assert_eq!(client.codes(4), [250, 550, 554, 250]);
    assert_eq!(client.ask("RCPT TO:<support@example.com>").0, 250, "the mail has been begun all the same");
    client.send("BDAT 2 LAST\r\n\r\n");
    assert_eq!(client.reply().0, 250);
    assert_eq!(webhook.wait_for(1)[0].json["size_bytes"], 2);
}

/// Section 2: RSET clears all chunks, as EHLO does.
#[test]
fn a_mail_of_chunks_can_be_given_up() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = daemon.client();
    for give_up in ["RSET", "EHLO client.example.com"] {
        client.envelope("support@example.com");
        client.send("BDAT 8\r\nSubject:");
        assert_eq!(client.reply().0, 250);
        assert_eq!(client.ask(give_up).0, 250);
        client.send("BDAT 2 LAST\r\nx\n");
        assert_eq!(client.reply().0, 503);
    }
    client.envelope("support@example.com");
    client.send("BDAT 3 LAST\r\n\r\nz");
    assert_eq!(client.reply().0, 250);
    assert_eq!(webhook.wait_for(1)[0].json["body"], "z");
}

/// The next mail is another one, whoever it is for and however it comes.
#[test]
fn nothing_of_a_mail_that_was_given_up_gets_into_the_next() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = daemon.client();
    let give_ups = ["RSET", "EHLO client.example.com", "HELO client.example.com"];
    for give_up in give_ups {
        client.envelope("support@example.com");
        client.send("BDAT 19\r\nSubject: other\r\n\r\nx");
        assert_eq!(client.reply().0, 250);
        assert_eq!(client.ask(give_up).0, 250);
        assert_eq!(client.mail("support@example.com", "\r\nz\r\n").0, 250);
    }
    for request in webhook.wait_for(give_ups.len()) {
        assert_eq!((&request.json["subject"], &request.json["body"]), (&"".into(), &"z\r\n".into()));
    }
}

#[derive(Debug, Clone)]
enum Step {
    GiveUp(&'static str),
    Chunk(String),
    Last(String),
    Data(String),
}

fn step() -> impl Strategy<Value = Step> {
    let text = || "\r\n[a-z]{1,8}\r\n";
    prop_oneof![
        prop::sample::select(vec!["RSET", "EHLO client.example.com"]).prop_map(Step::GiveUp),
        text().prop_map(Step::Chunk),
        text().prop_map(Step::Last),
        text().prop_map(Step::Data),
    ]
}

/// Whatever a client does, a mail is what came since its MAIL.
#[test]
fn a_mail_is_what_came_since_it_began() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let expected = RefCell::new(Vec::new());
    let mut runner = TestRunner::new(Config::with_cases(100));
    let cases = prop::collection::vec(step(), 1..12);
    let outcome = runner.run(&cases, |steps| {
        let mut client = daemon.client();
        let mut begun: Option<String> = None;
        for step in steps {
            if begun.is_none() && !matches!(step, Step::GiveUp(_)) {
                client.envelope("support@example.com");
            }
            match step {
                Step::GiveUp(command) => {
                    prop_assert_eq!(client.ask(command).0, 250);
                    begun = None;
                }
                Step::Chunk(text) => {
                    client.send(format!("BDAT {}\r\n{text}", text.len()));
                    prop_assert_eq!(client.reply().0, 250);
                    begun.get_or_insert_default().push_str(&text);
                }
                Step::Last(text) => {
                    client.send(format!("BDAT {} LAST\r\n{text}", text.len()));
                    prop_assert_eq!(client.reply().0, 250);
                    expected.borrow_mut().push(begun.take().unwrap_or_default() + &text);
                }
                Step::Data(_) if begun.is_some() => prop_assert_eq!(client.ask("DATA").0, 503),
                Step::Data(text) => {
                    prop_assert_eq!(client.ask("DATA").0, 354);
                    client.send(format!("{text}.\r\n"));
                    prop_assert_eq!(client.reply().0, 250);
                    expected.borrow_mut().push(text);
                }
            }
        }
        Ok(())
    });
    outcome.unwrap();
    let expected = expected.into_inner();
    let received = webhook.wait_for(expected.len());
    assert_eq!(received.len(), expected.len());
    for request in received {
        let content = format!("\r\n{}", request.json["body"].as_str().unwrap());
        assert!(expected.contains(&content), "nobody sent {content:?}");
    }
}
