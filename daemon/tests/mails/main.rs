//! What the webhook gets of a mail, whatever the mail is.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod corpus;
mod differential;
mod documentation;
mod properties;
mod schema;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mail_laser::address::{Address, ReversePath};
use mail_laser::message::Mail;
use mail_laser::message::id::MailId;
use mail_laser::message::parse::Parsed;
use mail_laser::webhook::payload::Payload;

/// What SMTP knows of a mail.
struct Envelope<'e> {
    /// Empty for the null reverse-path.
    sender: &'e str,
    recipients: &'e [&'e str],
    received_at: SystemTime,
}

/// The request's body for a mail of this content, at a fixed time and in a fixed envelope.
fn payload(content: &[u8]) -> Vec<u8> {
    let received_at = UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
    payload_of(content, &Envelope { sender: "", recipients: &["inbox@example.com"], received_at })
}

fn payload_of(content: &[u8], envelope: &Envelope<'_>) -> Vec<u8> {
    let Envelope { sender, recipients, received_at } = *envelope;
    let reverse_path = ReversePath::parse(sender).unwrap();
    let id = MailId::new(received_at, [7; 10]);
    let mail = Mail { id, received_at, reverse_path, trace: None, content: content.to_vec() };
    let prefixes = ["x-".to_owned()];
    let parsed = Parsed::read(&mail.content, &prefixes);
    let recipients: Vec<_> = recipients.iter().map(|text| Address::parse(text).unwrap()).collect();
    let body = parsed.body();
    let payload = Payload::new(&mail, &parsed, &body, &recipients, &prefixes);
    let mut json = Vec::new();
    payload.write_json(&mut json).unwrap();
    let fields = 256 * (parsed.attachments.len() + 1) + 5 * parsed.headers.len();
    let bytes_max = payload.json_bytes_max();
    assert!((json.len()..json.len() + fields).contains(&bytes_max), "{bytes_max} bytes for {}", json.len());
    json
}

/// A path next to this file.
fn beside(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mails").join(name)
}
