//! Control characters that are meant to forge a record of the log, a field of the JSON, a reply, or to
//! speak to the terminal of whoever reads the log.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::{Behaviour, Client, Daemon, Webhook};

use super::settle;

/// What would be a record, if it stood at the start of a line.
const FORGED: &str = "2026-01-01T00:00:00.000000Z ERROR mail_laser::webhook: forged";

/// Line ends as they are, encoded, and what terminals obey.
fn poisons() -> Vec<String> {
    let raw = [
        "\r\n",
        "\n",
        "\r",
        "\u{85}",
        "\u{2028}",
        "\0",
        "\u{1b}[2J\u{1b}]0;x\u{7}",
        "\u{9b}2J",
        "\",\"id\":\"forged\",\"x\":\"",
    ];
    let encoded = [
        "=?utf-8?q?=0D=0A?=",
        "=?utf-8?b?DQo=?=",
        "=?utf-8?q?=1B[2J?=",
        "=?utf-8?q?=00?=",
        "%0D%0A",
        "\\r\\n",
        "&#13;&#10;",
    ];
    raw.into_iter().chain(encoded).map(|poison| format!("a{poison}{FORGED}")).collect()
}

/// Puts `poison` everywhere that a client has a say, and sends a mail.
fn inject(daemon: &Daemon, poison: &str) {
    let mut client = Client::connect(daemon.smtp);
    assert_eq!(client.reply().0, 220);
    for line in [
        format!("HELO {poison}"),
        format!("EHLO {poison}"),
        "EHLO client.example.com".into(),
        format!("MAIL FROM:<{poison}@example.org> SMTPUTF8"),
        format!("MAIL FROM:<\"{poison}\"@example.org> SMTPUTF8"),
        format!("RCPT TO:<{poison}@example.com>"),
        "RSET".into(),
        "MAIL FROM:<\"a<b\"@example.org> SMTPUTF8".into(),
        format!("RCPT TO:<\"{}\"@example.com>", poison.replace(FORGED, "forged")),
        format!("RCPT TO:<\"{poison}\"@example.com>"),
        poison.to_owned(),
    ] {
        // Of a line end that is one, the second half is a command; it has its reply as well.
        client.send(format!("{line}\r\n"));
        for _ in line.split("\r\n") {
            let (_, text) = client.reply();
            assert!(text.lines().all(|line| line.bytes().all(|c| matches!(c, b' '..=b'~'))), "{text:?}");
            assert!(!text.contains("forged"), "no reply repeats what it was told: {text:?}");
        }
    }
    let mut client = daemon.client();
    client.begin_mail("support@example.com");
    client.send(format!(
        "From: {poison} <a@example.org>\r\nSubject: {poison}\r\nMessage-ID: <{poison}@example.org>\r\n\
         X-Ticket: {poison}\r\nX-Ticket-{poison}: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\
         --b\r\nContent-Type: application/octet-stream; name=\"{poison}\"\r\nContent-ID: <{poison}>\r\n\
         Content-Disposition: attachment; filename*=utf-8''{poison}%0D%0A{poison}\r\n\r\nx\r\n--b\r\n\r\n{poison}\r\n--b--\r\n.\r\n"
    ));
    assert_eq!(client.reply().0, 250, "{poison:?}");
}

fn injected(format: &str) -> (Webhook, Daemon) {
    // Some mails fail at first, so that attempts are on record as well.
    let webhook = Webhook::behaving(|number| Behaviour::status(if number % 4 == 0 { 500 } else { 200 }));
    let daemon = Daemon::start(
        &webhook,
        &[
            ("LOG_FORMAT", format),
            ("RUST_LOG", "debug"),
            ("MAIL_LASER_HEADER_PREFIX", "x-ticket,received"),
            ("MAIL_LASER_MAX_UNKNOWN_RCPTS_PER_SESSION", "0"),
        ],
    );
    poisons().iter().for_each(|poison| inject(&daemon, poison));
    (webhook, daemon)
}

#[test]
fn each_record_of_a_log_in_json_is_one_line_of_json() {
    let (webhook, daemon) = injected("json");
    settle(&daemon, poisons().len());
    for line in daemon.log_lines() {
        let record = line.as_object().unwrap_or_else(|| panic!("no JSON: {line}"));
        assert!(record.contains_key("timestamp") && record.contains_key("level"), "{line}");
        assert_ne!(record.get("id"), Some(&"forged".into()), "{line}");
    }
    let ids: BTreeSet<String> =
        daemon.logged("mail accepted").iter().map(|record| record["id"].to_string()).collect();
    assert_eq!(ids.len(), poisons().len());
    no_field_is_forged(&webhook, &ids);
}

#[test]
fn each_record_of_a_log_in_text_is_one_line_without_control_characters() {
    let (_webhook, daemon) = injected("text");
    let records =
        || daemon.log_lines().iter().map(|line| line.as_str().expect("text").to_owned()).collect::<Vec<_>>();
    crate::harness::eventually("every mail is delivered", || {
        (records().iter().filter(|line| line.contains(" mail delivered ")).count() >= poisons().len())
            .then_some(())
    });
    for line in records() {
        assert!(!line.contains(|c: char| c.is_control()), "{line:?}");
        assert!(is_record(&line) && !line.starts_with(FORGED), "{line:?}");
    }
    assert!(records().iter().any(|line| line.contains("forged")), "what clients say is on record, escaped");
}

/// Whether a line starts as each record does: with its time and its level.
fn is_record(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let is_time =
        words.next().is_some_and(|time| time.len() == FORGED.find(' ').unwrap_or(0) && time.ends_with('Z'));
    is_time && words.next().is_some_and(|level| ["ERROR", "WARN", "INFO", "DEBUG"].contains(&level))
}

fn no_field_is_forged(webhook: &Webhook, ids: &BTreeSet<String>) {
    const FIELDS: [&str; 12] = [
        "attachments",
        "body",
        "headers",
        "html_body",
        "id",
        "message_id",
        "received_at",
        "recipient",
        "recipients",
        "sender",
        "sender_name",
        "subject",
    ];
    for request in webhook.received() {
        let fields = request.json.as_object().expect("an object");
        assert!(
            fields.keys().all(|field| field == "size_bytes" || FIELDS.contains(&field.as_str())),
            "{fields:?}"
        );
        assert!(ids.contains(&fields["id"].to_string()), "{}", fields["id"]);
        assert_eq!(
            (&fields["sender"], &fields["recipient"]),
            (&"sender@example.org".into(), &"support@example.com".into())
        );
        for attachment in fields.get("attachments").and_then(Value::as_array).into_iter().flatten() {
            let known =
                ["filename", "content_type", "size_bytes", "sha256", "content_id", "delivery", "data_base64"];
            assert!(
                attachment.as_object().expect("one").keys().all(|key| known.contains(&key.as_str())),
                "{attachment}"
            );
        }
        assert!(request.headers["idempotency-key"].bytes().all(|c| c.is_ascii_alphanumeric()));
    }
}
