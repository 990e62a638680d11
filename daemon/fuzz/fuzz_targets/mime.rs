//! A mail to the JSON that the webhook gets.
//!
//! - Whatever the mail, there is a payload: valid JSON in valid UTF-8, without control characters, with
//!   every field that is always there and no field without a value.
//! - Its size is bounded by the mail's, and known beforehand.
//! - Attachments have the size and the digest that they say, and their number is bounded.
//! - The same mail has the same payload.
//! - Large mails that repeat themselves are read, too; libFuzzer's time-out ends what takes out of
//!   proportion to its size.
#![no_main]

use std::time::UNIX_EPOCH;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use mail_laser::address::{Address, ReversePath};
use mail_laser::message::Mail;
use mail_laser::message::id::MailId;
use mail_laser::message::parse::Parsed;
use mail_laser::webhook::payload::Payload;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// JSON escapes a byte with at most six, base64 writes three as four, and a byte of another charset is
/// up to three of UTF-8. Headers appear once more, as labels and under their names.
const GROWTH_MAX: usize = 40;
/// Names of fields, the envelope, and the label of one part.
const FIXED_BYTES_MAX: usize = 2_000;
/// Characters of a label; attachments of a mail.
const COUNT_MAX: usize = 1_000;

/// What no mail of the corpus begins with: what follows it is repeated.
const REPEATED: u8 = 0xff;
const REPEATED_BYTES: usize = 64 * 1024;

fuzz_target!(|data: &[u8]| match data {
    [REPEATED, once @ ..] if !once.is_empty() => check(&once.repeat(REPEATED_BYTES / once.len())),
    content => {
        check(content);
        assert_eq!(payload(content), payload(content), "the payload depends on more than the mail");
    }
});

fn check(content: &[u8]) {
    let json = payload(content);
    let text = std::str::from_utf8(&json).expect("the payload is UTF-8");
    assert!(!text.contains(|c| matches!(c, '\0'..' ')), "a control character as it is");
    let payload: Value = serde_json::from_str(text).expect("the payload is JSON");

    let attachments = payload["attachments"].as_array().map_or(&[][..], Vec::as_slice);
    assert!(json.len() <= GROWTH_MAX * content.len() + FIXED_BYTES_MAX * (attachments.len() + 1));
    assert_eq!(payload["size_bytes"], content.len());
    for field in ["id", "sender", "recipient", "subject", "body", "received_at"] {
        assert!(payload[field].is_string(), "{field} is missing");
    }
    for field in ["sender_name", "message_id"] {
        check_label(&payload[field]);
    }
    assert!(attachments.len() <= COUNT_MAX);
    attachments.iter().for_each(check_attachment);
    check_values(&payload);
}

fn payload(content: &[u8]) -> Vec<u8> {
    let mail = Mail {
        id: MailId::new(UNIX_EPOCH, [7; 10]),
        received_at: UNIX_EPOCH,
        reverse_path: ReversePath::Null,
        trace: None,
        content: Vec::new(),
    };
    let prefixes = ["x-".to_owned()];
    let parsed = Parsed::read(content, &prefixes);
    let recipients = [Address::parse("inbox@example.com").expect("an address")];
    let body = parsed.body();
    let payload = Payload::new(&mail, &parsed, &body, &recipients, &prefixes);
    let mut json = Vec::new();
    payload.write_json(&mut json).expect("memory takes whatever is written");
    assert!(json.len() <= payload.json_bytes_max(), "more is written than was announced");
    json
}

fn check_attachment(attachment: &Value) {
    for field in ["filename", "content_type", "content_id"] {
        check_label(&attachment[field]);
    }
    let content_type = attachment["content_type"].as_str().expect("a type");
    assert!(
        content_type.split_once('/').is_some_and(|(kind, subtype)| !kind.is_empty() && !subtype.is_empty())
    );
    assert_eq!(content_type, content_type.to_ascii_lowercase());
    let bytes = STANDARD.decode(attachment["data_base64"].as_str().expect("bytes")).expect("base64");
    assert_eq!(attachment["size_bytes"], bytes.len());
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(attachment["sha256"], digest);
}

/// Labels are short, and absent rather than empty.
fn check_label(label: &Value) {
    if let Some(text) = label.as_str() {
        assert!((1..=COUNT_MAX).contains(&text.chars().count()), "{text:?}");
    }
}

/// Nothing is `null`, and lists and objects are absent rather than empty.
fn check_values(value: &Value) {
    match value {
        Value::Null => panic!("a field is null"),
        Value::Array(items) => {
            assert!(!items.is_empty());
            items.iter().for_each(check_values);
        }
        Value::Object(fields) => {
            assert!(!fields.is_empty());
            fields.values().for_each(check_values);
        }
        _ => {}
    }
}
