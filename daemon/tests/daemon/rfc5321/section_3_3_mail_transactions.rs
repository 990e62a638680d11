//! MAIL, RCPT, DATA.

use lettre::message::{Attachment, MultiPart, SinglePart, header::ContentType};
use lettre::{Message, SmtpTransport, Transport};

use crate::harness::{Daemon, Webhook};

/// A client that is not ours sends a mail with text, HTML and an attachment.
#[test]
fn a_mail_of_lettre_arrives_whole() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_HEADER_PREFIX", "X-Mailer,subj")]);
    let attachment = Attachment::new("gr\u{fc}\u{df}e.bin".to_owned())
        .body(vec![0u8, 255, 10, 13, 46], ContentType::parse("application/octet-stream").unwrap());
    let mail = Message::builder()
        .from("J\u{fc}rgen <juergen@example.org>".parse().unwrap())
        .to("support@example.com".parse().unwrap())
        .subject("Gr\u{fc}\u{df}e aus K\u{f6}ln")
        .multipart(
            MultiPart::mixed()
                .multipart(MultiPart::alternative_plain_html(
                    String::from("plain\n.\ndot"),
                    String::from("<p>html</p>"),
                ))
                .singlepart(attachment)
                .singlepart(SinglePart::plain(String::from("second text"))),
        )
        .unwrap();
    let transport = SmtpTransport::builder_dangerous("127.0.0.1").port(daemon.smtp.port()).build();
    let reply = transport.send(&mail).unwrap();

    let received = &webhook.wait_for(1)[0];
    let json = &received.json;
    assert_eq!(json["sender"], "juergen@example.org");
    assert_eq!(json["sender_name"], "J\u{fc}rgen");
    assert_eq!(json["recipient"], "support@example.com");
    assert_eq!(json["recipients"], serde_json::json!(["support@example.com"]));
    assert_eq!(json["subject"], "Gr\u{fc}\u{df}e aus K\u{f6}ln");
    assert_eq!(json["body"], "plain\r\n.\r\ndot");
    assert_eq!(json["html_body"], "<p>html</p>");
    assert_eq!(json["headers"], serde_json::json!({"Subject": "Gr\u{fc}\u{df}e aus K\u{f6}ln"}));
    assert_eq!(
        json["attachments"],
        serde_json::json!([
            {"filename": "gr\u{fc}\u{df}e.bin", "content_type": "application/octet-stream", "size_bytes": 5,
             "sha256": "7f13b4fe7785715641229dbffddc6a2156ca521253e64e23a4107e09e58259e6",
             "delivery": "inline", "data_base64": "AP8KDS4="},
            {"content_type": "text/plain", "size_bytes": 11,
             "sha256": "633ecdd67db64b19c91a36ea6fda2f1f7db0be1887f2ca697b25cf7982896167",
             "delivery": "inline", "data_base64": "c2Vjb25kIHRleHQ="},
        ])
    );
    let id = json["id"].as_str().unwrap();
    assert_eq!(received.headers["idempotency-key"], id);
    assert!(reply.message().any(|line| line.contains(id)), "the reply names the mail");
    assert_eq!(received.headers["content-type"], "application/json");
    assert_eq!(received.headers["user-agent"], concat!("MailLaser/", env!("CARGO_PKG_VERSION")));
    let about_it = |message| daemon.wait_for_log(message, 1)[0]["id"] == id;
    assert!(about_it("mail accepted") && about_it("mail delivered"));
}

#[test]
fn recipients_are_compared_without_regard_to_case_and_kept_in_order() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_TARGET_EMAILS", "a@example.com,b@example.com")]);
    let mut client = daemon.client();
    assert_eq!(client.ask("MAIL FROM:<>").0, 250);
    for recipient in ["B@example.com", "a@EXAMPLE.COM", "b@example.com"] {
        assert_eq!(client.ask(&format!("RCPT TO:<{recipient}>")).0, 250);
    }
    assert_eq!(client.ask("DATA").0, 354);
    client.send("\r\n.\r\n");
    assert_eq!(client.reply().0, 250);
    let json = &webhook.wait_for(1)[0].json;
    assert_eq!(json["recipients"], serde_json::json!(["B@example.com", "a@EXAMPLE.COM"]));
    assert_eq!((&json["recipient"], &json["sender"]), (&"B@example.com".into(), &"".into()));
}

#[test]
fn one_session_carries_many_mails() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = daemon.client();
    for number in 0..50 {
        assert_eq!(client.mail("support@example.com", &format!("Subject: {number}\r\n\r\n")).0, 250);
    }
    let ids: std::collections::BTreeSet<String> =
        webhook.wait_for(50).iter().map(|request| request.json["id"].to_string()).collect();
    assert_eq!(ids.len(), 50, "each has an id of its own");
}

#[test]
fn a_mail_that_is_broken_off_is_not_delivered() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = daemon.client();
    client.begin_mail("support@example.com");
    client.send("Subject: half\r\n\r\nand then");
    drop(client);
    assert_eq!(daemon.client().mail("support@example.com", "Subject: whole\r\n\r\n").0, 250);
    assert_eq!(webhook.wait_for(1)[0].json["subject"], "whole");
}
